"""The benchmarks that this package runs, each described as data: one file a benchmark in `known`.

`BENCHMARKS` holds them by name, `of` gives the one that a document belongs to, and `parse_task` tells what a
task's name asks for. At the bottom of the package, since rows, scores and tasks share it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from mmaupro_ext.benchmarks import known
from mmaupro_ext.benchmarks.description import (
    VARIANTS,
    Benchmark,
    File,
    RowError,
    TaskName,
    matching_task,
)
from mmaupro_ext.categories import Kind

__all__ = [
    "BENCHMARKS",
    "MMAUPRO",
    "SUITE",
    "UNDER",
    "VARIANTS",
    "Benchmark",
    "File",
    "RowError",
    "TaskName",
    "asks_for_ours",
    "categories_of",
    "kind_of",
    "of",
    "parse_task",
]

MMAUPRO = "mmaupro"
"""Name of the benchmark whose documents do not name it."""

SUITE = "audio-suite"
"""Group of tasks that runs the benchmarks whose description says so; `audio-suite-sample` their samples."""


UNDER = "@"
"""Stands between the name of a task and the condition under which its items are asked."""


def _described() -> dict[str, Benchmark]:
    names = sorted(module.name for module in pkgutil.iter_modules(known.__path__))
    found = [importlib.import_module(f"{known.__name__}.{name}").BENCHMARK for name in names]
    return {benchmark.name: benchmark for benchmark in sorted(found, key=lambda one: one.order)}


BENCHMARKS: dict[str, Benchmark] = _described()


def of(doc: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark that a document belongs to.

    Parameters
    ----------
    doc : mapping
        Its key `benchmark` names it; documents of MMAU-Pro have none.

    Returns
    -------
    Benchmark

    Raises
    ------
    KeyError
        When there is no such benchmark.
    """
    return BENCHMARKS[doc.get("benchmark", MMAUPRO)]


@functools.cache
def kind_of(benchmark: str, category: str) -> Kind:
    """Return how the items of a category, by the value that documents carry, are answered and scored."""
    return BENCHMARKS[benchmark].by_value[category].kind


def parse_task(name: str) -> TaskName | None:
    """Tell what a task or group of ours asks, by its name.

    Parameters
    ----------
    name : str
        Such as "mmau-sample-ll_sound"; within `mmaupro ablate` also "mmau_sound@noise".

    Returns
    -------
    TaskName or None
        None for a name that is not of this form.

    Examples
    --------
    >>> parse_task("mmau-sample-ll_sound")
    TaskName(benchmark='mmau', sample=True, variant='ll', part='sound', condition='')
    >>> parse_task("mmlu") is None
    True
    """
    name, _, condition = name.partition(UNDER)
    for benchmark in BENCHMARKS.values():
        found = matching_task(benchmark, name)
        if found is not None:
            return dataclasses.replace(found, condition=condition)
    return None


def categories_of(asked: TaskName) -> tuple[str, ...]:
    """Return the slugs of the categories that a task asks for; variants ask multiple choice alone."""
    described = BENCHMARKS[asked.benchmark]
    if asked.part in described.by_slug:
        return (asked.part,)
    return described.parts.get(asked.part) or tuple(
        slug
        for slug, category in described.by_slug.items()
        if not asked.variant or category.kind in ("closed", "hidden")
    )


def asks_for_ours(tasks: object) -> bool:
    """Tell whether what a user gave as tasks (names, patterns, files) can mean one of our benchmarks."""
    return any(name in str(tasks) for name in (*BENCHMARKS, SUITE))
