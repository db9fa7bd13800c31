"""What trackers of experiments are told of a run: numbers under names, and one row an item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.heard import finish_of
from mmaupro_ext.report import run_table
from mmaupro_ext.report.run_table import Results, Samples
from mmaupro_ext.scoring import scorer
from mmaupro_ext.util import writable

COLUMNS = (
    "id",
    "category",
    "question",
    "reply",
    "words that decided",
    "judgement",
    "score",
)


def numbers(results: Results, samples: Samples | None = None) -> dict[str, float]:
    """Return the numbers of the table after a run by name, without those that are not known.

    Parameters
    ----------
    results, samples : mapping
        As for `run_table.render`. Without samples there are no intervals and no seconds heard.

    Returns
    -------
    dict of str to float
        "<benchmark>/<category or overall>/<field of `run_table.Row`>"; shares, 0 to 1, as lm_eval's own.
    """
    return {
        f"{title}/{row.name}/{field}": value
        for title, rows in run_table.rows(results, samples or {}).items()
        for row in rows
        for field, value in asdict(row).items()
        if field != "name" and value is not None
    }


def items(results: Results, samples: Samples) -> Iterator[tuple[str, list[list[object]]]]:
    """Yield the items of each benchmark of ours, read as the run's own scorer reads them.

    Yields
    ------
    title : str
        As of its table.
    rows : list of list
        A row an item, with `COLUMNS`. `score` is None where a run has none (open questions). None for
        log-likelihoods, which are no replies.
    """
    for title, tasks in run_table.split(results)[0].items():
        rows = [
            _item(sample)
            for task in tasks
            if (asked := benchmarks.parse_task(task)) is not None and asked.variant != "ll"
            for sample in samples.get(task, ())
        ]
        if rows:
            yield title, rows


def _item(sample: Mapping[str, Any]) -> list[object]:
    doc, replies = sample["doc"], sample["resps"]
    verdict = scorer.score(doc, replies[0][0], finish=finish_of(replies))
    texts = (
        doc["id"],
        doc["category"],
        doc["question"],
        replies[0][0],
        verdict.details.get("evidence", ""),
        verdict.status,
    )
    return [*map(writable, texts), verdict.score]
