"""The table after a run: one row a category, the overall last, within 80 columns."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data import text
from mmaupro_ext.heard import record_of
from mmaupro_ext.recipes import RECIPE
from mmaupro_ext.scoring.intervals import clip_clusters, clustered_interval

Results = Mapping[str, Any]
Samples = Mapping[str, Sequence[Mapping[str, Any]]]

OVERALL = "overall"
_NONE = "-"
_HEADER = ["", "items", "acc %", "95 % interval", "parsed %", "errored"]


@dataclass(frozen=True)
class Row:
    """What a run says of a category, or of all.

    Attributes
    ----------
    name : str
        Slug of the category; "overall".
    items, unscored, errored : int
        All items; those that no run scores (open questions, withheld answers); those not served.
    acc, low, high, parsed : float or None
        Shares, 0 to 1, of the scored items; `low` and `high` are the bounds of the 95 % interval. None where
        it is not known.
    seconds_heard : float or None
        Of audio that the model was given; None where no sample says it.
    of : int or None
        How many items there are, where `--until-se` stopped before all were drawn. `acc` and the bounds of
        the overall are then those of all of them, not of `items`.
    """

    name: str
    items: int
    unscored: int
    acc: float | None
    low: float | None
    high: float | None
    parsed: float | None
    errored: int
    seconds_heard: float | None
    of: int | None = None


def split(results: Results) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Part the tasks of ours from the others in lm_eval's results.

    Parameters
    ----------
    results : mapping
        What lm_eval's `simple_evaluate` returns, or a results file.

    Returns
    -------
    ours : dict of str to list of str
        Title -> leaves in order, a title for each benchmark, variant and condition that was run.
    others : dict
        The results without them.
    """
    leaves = [task for task in results["results"] if task in results.get("configs", {})]
    ours: dict[str, list[str]] = {}
    for task in leaves:
        asked = benchmarks.parse_task(task)
        if asked is not None:
            title, condition = title_of(asked), condition_of(results, task)
            recipe = metadata_of(results, task).get(RECIPE)
            title += f" by the recipe {recipe}" if recipe else ""
            title += f" under the condition {condition}" if condition else ""
            ours.setdefault(title, []).append(task)
    names = {task for tasks in ours.values() for task in tasks}
    subtasks = results.get("group_subtasks") or {}
    groups = {
        name for name, below in subtasks.items() if below and _leaves(name, subtasks) <= names
    }
    others = copy.copy(dict(results))
    for key in ("results", "groups"):
        if key in others:
            kept = {n: v for n, v in others[key].items() if n not in names | groups}
            others[key] = kept
    return ours, others


def title_of(asked: benchmarks.TaskName) -> str:
    """Return the title of the table that a task stands in: its benchmark and variant."""
    title = asked.benchmark + ("-sample" if asked.sample else "")
    return f"{title}-{asked.variant}" if asked.variant else title


def _leaves(name: str, subtasks: Mapping[str, Sequence[str]]) -> set[str]:
    below = subtasks.get(name)
    return {name} if not below else set().union(*(_leaves(part, subtasks) for part in below))


def condition_of(results: Results, task: str) -> str:
    """Return the condition under which a task of ours was asked (`data.conditions`); "" for none."""
    return str(metadata_of(results, task).get("condition") or "")


def metadata_of(results: Results, task: str) -> dict[str, Any]:
    """Return what the results say of how a task was asked."""
    return dict((results.get("configs", {}).get(task) or {}).get("metadata") or {})


def render(results: Results, samples: Samples | None = None) -> str:
    """Return the tables of the tasks of ours.

    Parameters
    ----------
    results : mapping
        As for `split`.
    samples : mapping, optional
        Task -> its samples as lm_eval has them at the end of a run. Without them there are no intervals.

    Returns
    -------
    str
        A table a benchmark and variant; "" where no task is ours.
    """
    found = rows(results, samples or {})
    return "\n\n".join(_table(title, part) for title, part in found.items())


def rows(results: Results, samples: Samples) -> dict[str, list[Row]]:
    """Return what the tables say, as numbers.

    Parameters
    ----------
    results, samples : mapping
        As for `render`.

    Returns
    -------
    dict of str to list of Row
        Title -> its categories; with two or more the overall, over all scored items, comes last.
    """
    found = {}
    for title, tasks in split(results)[0].items():
        found[title] = [_row(task, results, samples) for task in tasks]
        asked = benchmarks.parse_task(tasks[0])
        drawn = (results.get("part") or {}).get("overall", {})
        whole = drawn.get(title_of(asked), {}) if asked is not None else {}
        is_part = whole.get("drawn", 0) < whole.get("items", 0)
        if len(tasks) > 1 or is_part:
            overall = _overall(tasks, found[title], samples)
            found[title].append(_estimated(overall, whole) if is_part else overall)
    return found


def _estimated(overall: Row, whole: Mapping[str, Any]) -> Row:
    """Return the row of all items, of which some were drawn."""
    acc, low, high = (whole[name] / 100.0 for name in ("mean", "low", "high"))
    of = overall.unscored + whole["items"]
    return replace(overall, acc=acc, low=low, high=high, of=of)


def _table(title: str, found: Sequence[Row]) -> str:
    lines = [
        [
            _name(row),
            _count(row),
            "unscored" if row.acc is None else _percent(row.acc),
            _NONE
            if row.low is None or row.high is None
            else f"{100 * row.low:.1f} to {100 * row.high:.1f}",
            _percent(row.parsed),
            row.errored,
        ]
        for row in found
    ]
    return f"{title}\n{text.table(_HEADER, lines)}"


def _name(row: Row) -> str:
    if row.name == OVERALL and row.of is not None:
        return "a part" + (f" ({row.unscored:,} unscored)" if row.unscored else "")
    without = row.name == OVERALL and row.unscored
    return f"{row.name} (without {row.unscored:,} unscored)" if without else row.name


def _count(row: Row) -> int | str:
    """Return how many items a row is about; of how many, where it is a part."""
    less = row.unscored if row.name == OVERALL else 0
    return row.items - less if row.of is None else f"{row.items - less}/{row.of - less}"


def _row(task: str, results: Results, samples: Samples) -> Row:
    values = results["results"][task]
    asked = benchmarks.parse_task(task)
    name = asked.part if asked is not None and asked.part else task
    items, acc = int(values.get("sample_len") or 0), _metric(values, "acc")
    part = (results.get("part") or {}).get("tasks", {}).get(task, {})
    return Row(
        name=name,
        items=items,
        unscored=items if acc is None else 0,
        acc=acc,
        **_from_samples([task], samples, acc),
        parsed=_metric(values, "parsed"),
        errored=round((_metric(values, "errored") or 0.0) * items),
        of=part["items"] if part and part["drawn"] < part["items"] else None,
    )


def _overall(tasks: Sequence[str], parts: Sequence[Row], samples: Samples) -> Row:
    """Return the row over all scored items, each with the same weight."""

    def mean(metric: str) -> float | None:
        known = [(row.items, getattr(row, metric)) for row in parts]
        known = [(items, value) for items, value in known if value is not None]
        count = sum(items for items, _ in known)
        return sum(items * value for items, value in known) / count if count else None

    acc = mean("acc")
    return Row(
        name=OVERALL,
        items=sum(row.items for row in parts),
        unscored=sum(row.unscored for row in parts),
        acc=acc,
        **_from_samples(tasks, samples, acc),
        parsed=mean("parsed"),
        errored=sum(row.errored for row in parts),
    )


def _from_samples(tasks: Sequence[str], samples: Samples, acc: float | None) -> dict[str, Any]:
    """Return what only the samples say: the interval, and the seconds heard."""
    low, high = (None, None) if acc is None else _interval(list(_scored(tasks, samples)))
    records = [
        record
        for task in tasks
        for sample in samples.get(task, ())
        if (record := record_of(sample.get("resps"))) is not None
    ]
    seconds = math.fsum(record["seconds_heard"] for record in records) if records else None
    return {"low": low, "high": high, "seconds_heard": seconds}


def _metric(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(f"{name},none")
    return float(value) if isinstance(value, (int, float)) else None


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.1f}"


def _scored(tasks: Sequence[str], samples: Samples) -> Iterator[tuple[float, list[str | None]]]:
    for task in tasks:
        for sample in samples.get(task, ()):
            if isinstance(sample.get("acc"), (int, float)):
                yield float(sample["acc"]), _clips(sample)


def _clips(sample: Mapping[str, Any]) -> list[str | None]:
    """Return the digests of a sample's clips, as they were heard or else as the dataset states them."""
    doc = sample.get("doc") or {}
    stated = doc.get("audio_sha256") or [None] * len(doc.get("audio_path") or ())
    arguments = sample.get("arguments") or ()
    if isinstance(arguments, Mapping):  # as lm_eval writes them, once it has
        arguments = [tuple((arguments.get("gen_args_0") or {}).values())]
    media = arguments[0][2] if arguments and len(arguments[0]) > 2 else {}
    heard = media.get("audio") if isinstance(media, Mapping) else None
    if not isinstance(heard, list) or len(heard) != len(stated):
        return list(stated)
    return [
        (clip.get("sha256") if isinstance(clip, Mapping) else None) or promised
        for clip, promised in zip(heard, stated, strict=True)
    ]


def _interval(
    scored: Sequence[tuple[float, list[str | None]]],
) -> tuple[float, float] | tuple[None, None]:
    if not scored or not all(0 <= score <= 1 for score, _ in scored):
        return None, None
    found = clustered_interval(
        [score for score, _ in scored], clip_clusters([clips for _, clips in scored])
    )
    return (None, None) if found.note else (found.low, found.high)
