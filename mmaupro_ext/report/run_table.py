"""The table after a run: one row a category, the overall last, within 80 columns."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data import text
from mmaupro_ext.scoring.intervals import clip_clusters, clustered_interval

Results = Mapping[str, Any]
Samples = Mapping[str, Sequence[Mapping[str, Any]]]

_NONE = "-"
_HEADER = ["", "items", "acc %", "95 % interval", "parsed %", "errored"]


def split(results: Results) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """Part the tasks of ours from the others in lm_eval's results.

    Parameters
    ----------
    results : mapping
        What lm_eval's `simple_evaluate` returns, or a results file.

    Returns
    -------
    ours : dict of str to list of str
        Title -> leaves in order, a title for each benchmark and variant that was run.
    others : dict
        The results without them.
    """
    leaves = [task for task in results["results"] if task in results.get("configs", {})]
    ours: dict[str, list[str]] = {}
    for task in leaves:
        asked = benchmarks.parse_task(task)
        if asked is not None:
            title = asked.benchmark + ("-sample" if asked.sample else "")
            title += f"-{asked.variant}" if asked.variant else ""
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


def _leaves(name: str, subtasks: Mapping[str, Sequence[str]]) -> set[str]:
    below = subtasks.get(name)
    return {name} if not below else set().union(*(_leaves(part, subtasks) for part in below))


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
    ours, _ = split(results)
    return "\n\n".join(
        _table(title, tasks, results, samples or {}) for title, tasks in ours.items()
    )


def _table(title: str, tasks: Sequence[str], results: Results, samples: Samples) -> str:
    rows: list[list[object]] = [_row(task, results, samples) for task in tasks]
    if len(tasks) > 1:
        rows.append(_overall(tasks, results, samples))
    return f"{title}\n{text.table(_HEADER, rows)}"


def _row(task: str, results: Results, samples: Samples) -> list[object]:
    values = results["results"][task]
    asked = benchmarks.parse_task(task)
    name = asked.part if asked is not None and asked.part else task
    mean = _metric(values, "acc")
    errored = _metric(values, "errored") or 0.0
    items = int(values.get("sample_len") or 0)
    return [
        name,
        items,
        "unscored" if mean is None else _percent(mean),
        _interval(list(_scored([task], samples))) if mean is not None else _NONE,
        _percent(_metric(values, "parsed")),
        round(errored * items),
    ]


def _overall(tasks: Sequence[str], results: Results, samples: Samples) -> list[object]:
    """Return the row over all scored items, each with the same weight."""
    named = {task: results["results"][task] for task in tasks}
    sizes = {task: int(values.get("sample_len") or 0) for task, values in named.items()}

    def mean(metric: str) -> tuple[float | None, int]:
        known = {task: _metric(values, metric) for task, values in named.items()}
        count = sum(sizes[task] for task, value in known.items() if value is not None)
        total = sum(sizes[task] * value for task, value in known.items() if value is not None)
        return (total / count if count else None), count

    score, scored = mean("acc")
    missing = sum(sizes.values()) - scored
    errored = sum(
        round((_metric(values, "errored") or 0.0) * sizes[t]) for t, values in named.items()
    )
    return [
        "overall" if not missing else f"overall (without {missing:,} unscored)",
        scored,
        "unscored" if score is None else _percent(score),
        _interval(list(_scored(tasks, samples))) if score is not None else _NONE,
        _percent(mean("parsed")[0]),
        errored,
    ]


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


def _interval(scored: Sequence[tuple[float, list[str | None]]]) -> str:
    if not scored or not all(0 <= score <= 1 for score, _ in scored):
        return _NONE
    found = clustered_interval(
        [score for score, _ in scored], clip_clusters([clips for _, clips in scored])
    )
    return _NONE if found.note else f"{100 * found.low:.1f} to {100 * found.high:.1f}"
