"""benchmarks/gpu.py on a CPU with a tiny model: does it run at all, and say what it is to say?"""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def clips(gpu, tmp_path_factory):
    return gpu.make_clips(tmp_path_factory.mktemp("clips"), 6, 0.02)


def said(gpu, capsys, clips, way):
    gpu.measure(*way, clips, False, "cpu")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return {line["what"]: line for line in map(json.loads, lines)}


def test_slots_have_a_cold_and_a_warm_pass_and_their_parts(gpu, capsys, clips):
    lines = said(gpu, capsys, clips, ("slots", 8))
    assert list(lines) == ["first contact", "cold", "warm", "parts"]
    assert not any(lines[pass_]["errored"] for pass_ in ("first contact", "cold", "warm"))
    parts = lines["parts"]
    assert all(parts[f"{name}_s"] >= 0 for name in ("waited", "encoder", "prefill", "decode"))
    # four tokens each: the first comes with the prefill, and six clips go side by side
    assert parts["steps"] >= 3
    assert parts["prefills"] >= 1


def test_generate_has_the_plain_loop_beside_it(gpu, capsys, clips):
    lines = said(gpu, capsys, clips, ("generate", 8))
    assert list(lines) == ["first contact", "cold", "plain transformers loop"]
    assert lines["cold"]["errored"] == 0
    assert lines["plain transformers loop"]["items_per_s"] > 0


def test_every_way_is_one_that_a_model_takes(gpu):
    from mmaupro_ext.models.hf.loaded import DECODINGS

    for decoding, batch_size in gpu.WAYS:
        assert decoding in DECODINGS
        assert batch_size == "auto" or batch_size > 0
