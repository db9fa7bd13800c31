"""What a run will cost: parts that sum up, lengths that are reckoned back, bounds that are bounds."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmaupro_ext.benchmarks.known.mmaupro import BENCHMARK
from mmaupro_ext.models import pace
from mmaupro_ext.models.hf.model import HFAudioLM
from mmaupro_ext.models.pace import Pace


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield HFAudioLM("tiny-random", seed=1, device="cpu", batch_size=4)


def test_the_lengths_are_those_of_the_benchmark():
    assert np.mean(pace.LENGTHS) == pytest.approx(124, rel=0.02)  # notes of the benchmark's clips


def test_parts_sum_up_to_the_run_and_go_by_length(lm, monkeypatch):
    monkeypatch.setattr(pace, "BUDGET_S", 1.0)
    found = pace.measure(lm, "<audio>\nWhat?", sum(pace.LENGTHS) / 30 / 30)
    assert found.shorter == pytest.approx((sum(pace.LENGTHS) / 30) ** 2 / 30)
    assert found.items == len(pace.LENGTHS)
    assert found.errored == 0
    assert set(found.parts) == {"waiting", "encoder", "prefill", "decode", "rest"}
    assert all(found.parts[name] > 0 for name in ("encoder", "prefill", "decode"))
    # every clip was encoded: none was taken for another
    assert lm.passes.counts.encoded >= len(pace.LENGTHS)


def test_what_is_counted_is_of_these_items_alone(lm, monkeypatch):
    lm.passes.counts.steps += 5

    def answers(requests, **_):
        lm.passes.counts.steps += 7
        return ["A"] * len(requests)

    monkeypatch.setattr(lm, "generate_until", answers)
    _, numbers = pace.pace_of(lm, lambda question: f"<audio>\n{question}", 1.0)
    assert numbers["counts"]["steps"] == 7


def test_parts_that_go_by_length_are_reckoned_back(lm, monkeypatch):
    monkeypatch.setattr(lm, "generate_until", lambda requests, **_: ["A"] * len(requests))
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(pace.time, "perf_counter", lambda: next(clock))
    times = {"encoder": 1.0, "prefill": 2.0, "decode": 3.0}

    class Timed:
        def __enter__(self):
            return times

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(lm.passes, "timed", Timed)
    monkeypatch.setattr(pace, "BUDGET_S", sum(pace.LENGTHS) / 30 / 10)
    found = pace.measure(lm, "<audio>\nWhat?", 1.0)
    assert found.shorter == pytest.approx(10)
    expected = {"waiting": 0, "encoder": 10, "prefill": 20, "decode": 3, "rest": 4}
    assert found.parts == pytest.approx(expected)
    assert found.items_per_s == pytest.approx(8 / 37)


def test_nothing_is_timed_unless_asked_for(lm):
    with lm.passes.timed() as times:
        pass
    with lm.passes.part("decode"):
        pass
    assert times == {"encoder": 0, "prefill": 0, "decode": 0}


def test_what_is_said_has_pace_shares_and_the_whole_benchmark():
    parts = {"waiting": 1.0, "encoder": 2.0, "prefill": 3.0, "decode": 4.0, "rest": 0.0}
    said = Pace(20, 1, 4.0, parts, 100).describe()
    assert "2 items/s" in said
    assert "waiting 10%, encoder 20%, prefill 30%, decode 40%, rest 0%" in said
    assert f"44 minutes for the {BENCHMARK.items:,} items" in said
    assert "1/4 of their length" in said
    assert "1 of 20 items errored" in said


def test_a_cpu_has_no_bound(lm):
    assert pace.bound(lm, 100) == (None, "no bound is known for cpu")


def test_the_bound_is_arithmetic_and_memory():
    most, said = pace.bound_of(
        7 * 10**9, 32, 3000, name="NVIDIA H100 80GB HBM3", facts=pace.CARDS["H100"]
    )
    # by hand: 42 TFLOP a prompt at 989 TFLOP/s, and 24 steps of 14 GB at 3.35 TB/s shared by 32
    assert 1 / most == pytest.approx(42 / 989 + 24 * 14e9 / 3.35e12 / 32)
    assert "3.35 TB/s" in said


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
    ],
)
def test_each_card_has_its_own_facts(monkeypatch, name, card):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    weights = torch.nn.Linear(8, 8, bias=False)
    model = SimpleNamespace(dtype=torch.bfloat16, named_parameters=weights.named_parameters)
    lm = SimpleNamespace(device=torch.device("cuda"), model=model, media_batch_size=1)
    most, _ = pace.bound(lm, 10)
    assert most == pace.bound_of(64, 1, 10, name=name, facts=pace.CARDS[card])[0]


@pytest.mark.parametrize(
    ("name", "dtype", "part"),
    [
        ("Another card", torch.bfloat16, "layers"),
        ("NVIDIA H100 80GB HBM3", torch.float32, "layers"),
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, "experts"),
    ],
)
def test_where_nothing_is_known_there_is_no_bound(monkeypatch, name, dtype, part):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    weights = torch.nn.ModuleDict({part: torch.nn.Linear(8, 8)})
    model = SimpleNamespace(dtype=dtype, named_parameters=weights.named_parameters)
    lm = SimpleNamespace(device=torch.device("cuda"), model=model, media_batch_size=1)
    most, said = pace.bound(lm, 10)
    assert most is None
    assert said.startswith("no bound is known for")


def test_only_what_a_token_goes_through_counts(lm):
    parts = dict(lm.model.named_parameters())
    counted = pace.weights_of_text(lm.model)
    assert 0 < counted < sum(weight.numel() for weight in parts.values())
    layers = sum(w.numel() for name, w in parts.items() if "language_model.layers" in name)
    assert counted == pytest.approx(layers, rel=0.01)  # and the norm behind them


@pytest.mark.parametrize(
    ("seconds", "said"), [(59, "59 s"), (600, "10 minutes"), (9000, "2.5 hours")]
)
def test_times_are_said_as_people_say_them(seconds, said):
    assert pace.duration(seconds) == said
