"""The scripts in examples/ run on the sample, and say what their first lines promise."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import lm_eval_here
import pytest

from mmaupro_ext.data import CATEGORIES, SAMPLE_DIR, load_category

EXAMPLES = Path(__file__).parents[1] / "examples"


def script(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_evaluating_from_python(monkeypatch, capsys):
    with lm_eval_here.our_tasks_alone(monkeypatch):
        found = script("evaluate_from_python").main("nano", limit=3)
    assert set(found["results"]) == {"mmaupro-sample_sound", "mmaupro-sample_music"}
    assert "mmaupro-sample_sound: " in capsys.readouterr().out


def test_comparing_two_checkpoints(monkeypatch, tmp_path, capsys):
    def run_here(words):
        lm_eval_here.run(monkeypatch, *words[1:], "--limit", "3")

    example = script("compare_two_checkpoints")
    example.cli = SimpleNamespace(main=run_here)
    comparison = example.main("tiny-random", "nano", tmp_path)
    assert comparison.rows["overall"].items == 6
    assert comparison.rows["overall"].difference > 0
    assert "points from tiny-random, on 6 items" in capsys.readouterr().out


def test_scoring_replies_made_elsewhere(tmp_path, capsys):
    docs = [doc for slug in CATEGORIES for doc in load_category(slug, sample=True)]
    sound = [doc for doc in docs if doc["category"] == "sound"]
    lines = [json.dumps({"id": doc["id"], "reply": f"It is {doc['answer']}."}) for doc in sound[1:]]
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    scores = script("score_replies_made_elsewhere").main(path)
    assert sum(scores["sound"]) == len(sound) - 1  # one has no reply
    assert sum(map(sum, scores.values())) == len(sound) - 1
    path.write_text('{"id": "nobody", "reply": "A"}')
    with pytest.raises(SystemExit, match="not in the sample: nobody"):
        script("score_replies_made_elsewhere").main(path)


def test_training_with_the_frontend(tmp_path, capsys):
    for clip in sorted((SAMPLE_DIR / "data").iterdir())[:12]:
        (tmp_path / clip.name).write_bytes(clip.read_bytes())
    (tmp_path / "no sound.wav").write_bytes(b"no sound")
    losses = script("train_with_the_frontend").main(tmp_path, epochs=4, workers=0)
    assert len(losses) == 4 * 2
    assert losses[-1] < losses[0]
    assert "no sound.wav: " in capsys.readouterr().out
