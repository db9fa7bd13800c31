"""docs/benchmarks.md: its made-up benchmark works as it stands there, from its file to a score."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import types
from pathlib import Path

import pytest
from logged_runs import LATE, line_of, write_lines
from logged_runs import score as score_run

import suite_samples
import task_configs
from mmaupro_ext import data, plugin, scoring
from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.data.questions import prompt

REPO = Path(__file__).parents[1]
PAGE = (REPO / "docs" / "benchmarks.md").read_text(encoding="utf-8")
DESCRIPTION, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def birds(monkeypatch, tmp_path):
    """Add the page's benchmark, with a folder for its data, and return the page's test module."""
    known, page = types.ModuleType("birds"), types.ModuleType("birds_test")
    exec(compile(DESCRIPTION, "docs/benchmarks.md", "exec"), known.__dict__)
    exec(compile(TEST, "docs/benchmarks.md", "exec"), page.__dict__)
    monkeypatch.setitem(BENCHMARKS, "birds", known.BENCHMARK)
    monkeypatch.setenv("BIRDS_DATA", str(tmp_path / "birds"))
    return page


def load(name: str, rows: list[dict]) -> list[dict]:
    """Write rows as a fetched benchmark has them, and load them."""
    folder = Path(os.environ[f"{name.upper()}_DATA"])
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for row in rows:
        (folder / row["song"]).write_bytes(suite_samples.wav(suite_samples.beeps(1)))
    return data.load_items(name)


def points(doc: dict, reply: str, preset: str = "strict") -> float | None:
    return scoring.score(doc, reply, preset).score


def test_the_pages_own_test_passes(birds):
    birds.test_the_rows_of_birds(load, prompt, points)


def test_its_tasks_run_in_lm_eval_and_its_replies_are_scored(birds, tmp_path, capsys):
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    docs = load("birds", birds.ROWS)
    for folder in ("mmaupro", "mmaupro_ll"):  # the templates and their glue
        shutil.copytree(Path(plugin.tasks_dir()) / folder, tmp_path / "tasks" / folder)
    for path, text in task_configs.benchmark_files(BENCHMARKS["birds"]).items():
        (tmp_path / "tasks" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tasks" / path).write_text(text)
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    tasks = manager.load(["birds", "birds-ll_shore"])["tasks"]
    assert set(tasks) == {"birds_forest", "birds_shore", "birds-ll_shore"}
    forest = tasks["birds_forest"]
    assert forest.doc_to_text(docs[0]) == prompt(docs[0])
    assert forest.process_results(docs[0], ["Wren"])["acc"] == 1.0
    assert tasks["birds_shore"].process_results(docs[2], ["Gull"])["errored"] == 1.0

    run = tmp_path / "m"
    write_lines(run / f"samples_birds_forest_{LATE}.jsonl", [line_of(doc, "B") for doc in docs[:2]])
    write_lines(run / f"samples_birds_shore_{LATE}.jsonl", [line_of(docs[2], "A")])
    assert score_run(run) == 0
    assert "m on Birds, preset strict" in capsys.readouterr().out
    (file,) = run.glob("scores_birds_strict_*.json")
    result = json.loads(file.read_text(encoding="utf-8"))
    assert result["overall"]["weighted"] == pytest.approx(100 / 3, abs=1e-4)  # 4 digits
    assert result["groups"]["season"]["May"]["score"] == 100.0


def test_the_table_names_every_benchmark_with_its_items_and_licence():
    for name, benchmark in BENCHMARKS.items():
        if benchmark.in_suite:
            (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| [`{name}`]")]
            assert f"| {benchmark.items:,} |" in row
            assert f"| {benchmark.licence} |" in row
