"""One scorer: the table of a real run, and `mmaupro score` on its samples, say the same of every category."""

from __future__ import annotations

import json
import shutil

import lm_eval_here
import pytest
from logged_runs import result_of, score

from mmaupro_ext import data


@pytest.fixture(scope="module")
def run(nano_run, tmp_path_factory):
    """Nano on the whole embedded sample, by the command; its folder, and the numbers of its table."""
    folder = shutil.copytree(nano_run / "nano", tmp_path_factory.mktemp("run") / "nano")
    (results,) = folder.glob("results_*.json")
    return folder, json.loads(results.read_text(encoding="utf-8"))["results"]


def test_every_category_and_the_overall_row_agree_with_the_table(run, capsys):
    folder, table = run
    assert score(folder) == 0
    (results,) = folder.glob("results_*.json")
    result = result_of(folder, time=results.stem.removeprefix("results_"))
    for category in data.CATEGORIES.values():
        theirs = table[f"mmaupro-sample_{category.slug}"]
        ours = result["categories"][category.value]
        if category.kind == "open":
            assert "acc,none" not in theirs
            assert ours["score"] is None
            continue
        # The file has four digits after the point, of per cent.
        assert ours["score"] == pytest.approx(100 * theirs["acc,none"], abs=1e-4)
        stated = ours["items"] - sum(ours["counts"].values())
        if category.kind == "closed":
            assert stated == round(theirs["parsed,none"] * ours["items"])
    group = table["mmaupro-sample"]
    assert result["overall"]["weighted"] == pytest.approx(100 * group["acc,none"], abs=1e-4)
    assert 0 < group["acc,none"] < 1  # or the test would say nothing
    assert "overall (partial)" in capsys.readouterr().out


def test_each_item_has_the_verdict_of_the_run(run, tmp_path):
    folder, _ = run
    assert score(folder, "--items", tmp_path / "items.jsonl") == 0
    ours = {
        item["id"]: item["score"]
        for item in map(json.loads, (tmp_path / "items.jsonl").read_text().splitlines())
    }
    compared = 0
    for file in folder.glob("samples_*.jsonl"):
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            assert line["finish"] in ("stop", "length")  # why it ended travels with the reply
            if "acc" in line:
                assert ours[line["doc"]["id"]] == line["acc"]
                compared += 1
    assert compared == 93


def test_another_process_answers_from_the_cache(run, nano_run, tmp_path, monkeypatch):
    """Whose answer it is must not depend on the process that asks."""
    folder, _ = run
    shutil.copytree(nano_run / "answers", tmp_path / "answers")
    lm_eval_here.run(
        monkeypatch,
        *("--model", "hf-audio", "--model_args", "pretrained=nano", "--batch_size", "8"),
        *("--tasks", "mmaupro-sample_multi", "--output_path", str(tmp_path), "--log_samples"),
        *("--use_cache", str(tmp_path / "answers")),
    )
    (results,) = tmp_path.glob("nano/results_*.json")
    config = json.loads(results.read_text(encoding="utf-8"))["config"]
    assert config["prefetch"]["prepared_s"] == 0.0
    (ours,), (theirs,) = (
        [
            [
                (line["doc_id"], line["resps"], line["heard"])
                for line in map(json.loads, file.open())
            ]
            for file in where.glob("samples_mmaupro-sample_multi_*.jsonl")
        ]
        for where in (tmp_path / "nano", folder)
    )
    assert ours == theirs
