"""The history of speed: a line a commit and machine, from the JSON of a run of the benchmarks."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def history(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("history")
    monkeypatch.setattr(module, "HISTORY", tmp_path / "history.csv")
    yield module
    for name in ("history", "write_targets", "documenting"):
        sys.modules.pop(name, None)


def run(path, *, ours, commit="a" * 40, dirty=False, day="2026-11-26"):
    times = {"mmaupro_ext": ours, "transformers": 0.006}
    made = {
        "datetime": f"{day}T10:00:00+00:00",
        "commit_info": {"id": commit, "dirty": dirty},
        "machine_info": {"machine": "x86_64", "cpu": {"brand_raw": "A processor"}},
        "benchmarks": [
            {
                "group": "log-mel, 128 mels, 30 s",
                "extra_info": {"candidate": name, "simd": "avx2"},
                "stats": {"median": seconds},
            }
            for name, seconds in times.items()
        ],
    }
    path.write_text(json.dumps(made), encoding="utf-8")
    return path


def test_a_second_run_of_a_commit_replaces_the_first_and_another_commit_does_not(history, tmp_path):
    for name, ours, commit in (("1", 0.003, "a"), ("2", 0.002, "a"), ("3", 0.001, "b")):
        lines = history.add(history.lines_of(run(tmp_path / name, ours=ours, commit=commit * 40)))
    ratios = {line["commit"]: line["log-mel, 128 mels, 30 s"] for line in lines}
    assert ratios == {"aaaaaaaa": "3.00", "bbbbbbbb": "6.00"}
    assert history.read() == lines


def test_what_was_not_committed_is_marked_and_what_was_not_measured_stays_empty(history, tmp_path):
    (line,) = history.lines_of(run(tmp_path / "run", ours=0.003, dirty=True))
    assert line["commit"] == "aaaaaaaa+"
    assert line["resample 48k → 16k, mono, 30 s"] == ""


def test_the_picture_has_a_panel_for_each_watched_ratio(history, tmp_path):
    pytest.importorskip("matplotlib")
    lines = history.add(history.lines_of(run(tmp_path / "run", ours=0.003)))
    history.draw(lines, tmp_path / "history.svg")
    drawn = (tmp_path / "history.svg").read_text(encoding="utf-8")
    assert [label for label in history.WATCHED if label not in drawn] == []


def test_every_watched_ratio_is_a_target(history):
    labels = {target.label for target in history.write_targets.targets()}
    assert set(history.WATCHED) <= labels
