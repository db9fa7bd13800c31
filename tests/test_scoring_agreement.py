"""One scorer: the table of a real run, and `mmaupro score` on its samples, say the same of every category."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from logged_runs import result_of, score

import mmaupro_ext
from mmaupro_ext import data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Nano on the whole embedded sample, by the command; its folder, and the numbers of its table."""
    folder = tmp_path_factory.mktemp("run")
    command = (
        "-m mmaupro_ext run --model hf-audio --model_args pretrained=nano --tasks mmaupro-sample "
        f"--batch_size 8 --output_path {folder} --log_samples"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(mmaupro_ext.__file__).parents[1]),
        "HF_HUB_OFFLINE": "1",
    }
    subprocess.run([sys.executable, *command.split()], check=True, env=environment)
    (results,) = folder.glob("*/results_*.json")
    return results.parent, json.loads(results.read_text(encoding="utf-8"))["results"]


def test_every_category_and_the_overall_row_agree_with_the_table(run, capsys):
    folder, table = run
    assert score(folder) == 0
    result = result_of(folder)
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
