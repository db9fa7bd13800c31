"""The scores of a run as rows: those made now, those that `mmaupro score` left, those of other tasks."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.benchmarks import Benchmark
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import stat_regular

logger = logging.getLogger(__name__)


def read_json(file: Path) -> dict[str, Any]:
    """Return what a file of results or scores says, or raise `ScoringError`."""
    try:
        stat_regular(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScoringError(f"{file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ScoringError(f"{file}: not a results file of lm_eval")
    return content


_KEPT = ("items", "scored", "score", "low", "high", "served", "served_score", "marked", "counts")


def scores_of(result: Mapping[str, Any], benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    """Yield a row a group of what `mmaupro score` says of a run."""
    preset = result["label"]
    overall = result["overall"]
    yield {
        "preset": preset,
        "group": "overall",
        "name": "overall",
        "score": overall["weighted"],
        "complete": overall["complete"],
        "label": overall["label"],
        **{key: overall.get(key) for key in ("items", "low", "high", "served_score", "marked")},
    }
    for name in benchmark.by_value:
        if name in result["categories"]:
            entry = result["categories"][name]
            values = {key: entry.get(key) for key in _KEPT}
            yield {"preset": preset, "group": "category", "name": name, **values}
    for group, entries in result["groups"].items():
        for name, entry in sorted(entries.items()):
            values = {key: entry.get(key) for key in _KEPT}
            yield {"preset": preset, "group": group, "name": name, **values}


def scored_before(run: Run, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what `mmaupro score` left beside the run under other presets, of the same replies."""
    newest: dict[str, dict[str, Any]] = {}
    for file in sorted(run.files[0].parent.glob("scores_*.json"), key=lambda f: f.stat().st_mtime):
        try:
            other = read_json(file)
        except ScoringError as error:  # of no use here, and no reason to show nothing
            logger.warning("left out: %s", error)
            continue
        same = (other.get("scorer") or {}) == result["scorer"]
        if same and other.get("replies_sha256") == result["replies_sha256"]:
            newest[other["label"]] = other
    newest.pop(result["label"], None)
    yield from newest.values()


def other_tasks(results: Mapping[str, Any], run: Run | None) -> list[dict[str, Any]]:
    """Return the scores that lm_eval gave to other tasks than those of a run: text, pictures, others."""
    rows = []
    groups = results.get("groups") or {}
    whole = {_whole(asked) for asked in map(task_of, run.files) if asked} if run else set()
    in_groups = {asked for asked in map(benchmarks.parse_task, groups) if asked}
    for task, values in {**(results.get("results") or {}), **groups}.items():
        asked = benchmarks.parse_task(task)
        if asked is not None and (
            _whole(asked) in whole or (task not in groups and _whole(asked) in in_groups)
        ):
            continue  # shown in full, or a leaf of a benchmark whose row stands there
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "task": task,
                    "alias": str(values.get("alias", task)).strip(" -"),
                    "metric": metric if filtered == "none" else f"{metric} ({filtered})",
                    "value": float(value),
                    "stderr": float(error) if isinstance(error, (int, float)) else None,
                    "items": values.get("sample_len"),
                    "is_group": task in groups,
                }
            )
    return rows


def _whole(asked: benchmarks.TaskName) -> benchmarks.TaskName:
    return replace(asked, part="")


def task_of(samples: Path) -> benchmarks.TaskName | None:
    """Return what a samples file holds, by its name; None where it is of a task that is not ours."""
    return benchmarks.parse_task(samples.name.removeprefix("samples_").rpartition("_")[0])
