"""MMAU-Pro. Its rows have a schema of their own, with open questions and instructions: `data.schema`."""

from __future__ import annotations

from mmaupro_ext.benchmarks.description import Benchmark, File
from mmaupro_ext.categories import CATEGORIES

_HUB = ("hub", "gamma-lab-umd/MMAU-Pro", "b8516c217464d53be36d6dc334fda3cd578ed103")

BENCHMARK = Benchmark(
    name="mmaupro",
    title="MMAU-Pro",
    version="test",
    homepage="https://huggingface.co/datasets/gamma-lab-umd/MMAU-Pro",
    paper="https://arxiv.org/abs/2508.13992",
    licence="CC BY-NC 4.0",
    items=5305,
    categories=tuple(CATEGORIES.values()),
    columns=("id", "audio_path", "question", "answer", "choices", "category"),
    files=(
        File(*_HUB, "test.parquet", "rows"),
        # Stated by programs of others that fetched it; not read from the host by us.
        File(
            *_HUB,
            "data.zip",
            "clips",
            47_506_239_410,
            "8fab3e820b27bf7f239ae74a45a1085f1364b6971a7b5ac53f220d091b9b111c",
        ),
    ),
    clip_column="audio_path",
    identify=None,
    read_row=None,
    prompt=None,
    rule="embedding",
    presets=("official", "strict", "nemo-skills"),
    asked_as=("", "text", "ll"),
    order=0,
)
