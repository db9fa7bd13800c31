"""MMAR: 1,000 questions on recordings from the web, many of them mixes of sound, music and speech."""

from __future__ import annotations

from collections.abc import Sequence

from mmaupro_ext.benchmarks.description import (
    Benchmark,
    Fields,
    File,
    Row,
    RowError,
    clip_of,
    first_of,
    require_category,
    text_of,
    texts_of,
)
from mmaupro_ext.categories import Category

CATEGORIES = (
    Category("sound", "sound", 165, "closed"),
    Category("music", "music", 206, "closed"),
    Category("speech", "speech", 294, "closed"),
    Category("mix_sound_music", "mix-sound-music", 11, "closed"),
    Category("mix_sound_speech", "mix-sound-speech", 218, "closed"),
    Category("mix_music_speech", "mix-music-speech", 82, "closed"),
    Category("mix_sound_music_speech", "mix-sound-music-speech", 24, "closed"),
)
_MODALITIES = {category.value: category for category in CATEGORIES}
_ATTRIBUTES = ("category", "sub-category", "language", "source")


def identify(row: Row) -> tuple[str, str]:
    """Return the id and the modality."""
    return text_of(row, "id"), require_category(row.get("modality"), "modality", _MODALITIES)


def read_row(row: Row) -> Fields:
    """Read a row of the metadata; the rubrics and thoughts in it are no part of the question."""
    choices, answer = texts_of(row, "choices"), text_of(row, "answer")
    if answer not in choices:
        raise RowError("answer", "must be one of the choices", answer)
    return {
        "question": text_of(row, "question"),
        "choices": choices,
        "answer": answer,
        "audio_path": [clip_of(row, "audio_path")],  # the id is another name in 42 rows
        "attributes": {name: first_of(row.get(name)) for name in _ATTRIBUTES},
    }


def prompt(question: str, choices: Sequence[str]) -> str:
    """Ask as the authors do."""
    lines = "\n".join(choices)
    return f"{question}\nSelect one option from the provided choices:\n{lines}"


_HUB = ("hub", "BoJack/MMAR", "3bd051123480e80d273ae9e8e9f1653f49010ac7")

BENCHMARK = Benchmark(
    name="mmar",
    title="MMAR",
    version="test, metadata of 2026-02-26 with repaired answers",
    homepage="https://huggingface.co/datasets/BoJack/MMAR",
    paper="https://arxiv.org/abs/2505.13032",
    licence="CC BY-NC 4.0",
    items=1000,
    categories=CATEGORIES,
    columns=("id", "audio_path", "question", "choices", "answer", "modality"),
    files=(
        File(
            "github",
            "ddlBoJack/MMAR",
            "3bce090a967db576c8ad433b290a8da582d6d2a0",
            "MMAR-meta.jsonl",
            "rows",
            2_700_936,
            "1c9a343e7bebf1037482b935c54eacd43cc63df7b2c668724b5560caf1f84fad",
        ),
        File(
            *_HUB,
            "mmar-audio.tar.gz",
            "clips",
            2_983_578_514,
            "a84cea951de2e4ef9fbf23a003a7f6a4e319df7d62bf3a36c4f09efc56612c12",
        ),
    ),
    clip_column="audio_path",
    identify=identify,
    read_row=read_row,
    prompt=prompt,
    rule="token-sets",
    groups=_ATTRIBUTES,
    counts={
        "choices": {"2": 171, "3": 10, "4": 815, "5": 3, "6": 1},
        "category": {
            "Signal Layer": 43,
            "Perception Layer": 404,
            "Semantic Layer": 412,
            "Cultural Layer": 141,
        },
        "source": {"youtube": 593, "bilibili": 407},
    },
    order=2,
)
