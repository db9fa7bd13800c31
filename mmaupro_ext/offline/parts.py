"""What `--until-se` drew of a run: a part, which is scored as what it is and never as the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.benchmarks import Benchmark
from mmaupro_ext.offline.logged_files import LoggedFile, read_results


@dataclass(frozen=True)
class Part:
    """What `--until-se` drew of a benchmark before it stopped.

    Attributes
    ----------
    points : float
        Half width of the interval at which it stopped, in per cent.
    seed : str
        Of the order of drawing.
    drawn, sizes : dict of str to int
        Value of a category -> how many of its items were drawn; how many it has.
    """

    points: float
    seed: str
    drawn: dict[str, int]
    sizes: dict[str, int]

    def __str__(self) -> str:
        drawn, items = sum(self.drawn.values()), sum(self.sizes.values())
        return f"a part: {drawn:,} of {items:,} items, drawn by --until-se {self.points:g}"


def part_of(files: Sequence[LoggedFile], benchmark: Benchmark) -> Part | None:
    """Return what the results say was drawn of the categories that are here.

    Parameters
    ----------
    files : sequence of LoggedFile
        Of one benchmark.
    benchmark : Benchmark
        Which one.

    Returns
    -------
    Part or None
        None where all of their items were drawn.

    Raises
    ------
    ScoringError
        When a results file cannot be read.
    """
    drawn: dict[str, int] = {}
    sizes: dict[str, int] = {}
    settings: dict[str, Any] = {}
    for file in files:
        part = read_results(file.results).get("part") or {}
        entry = part.get("tasks", {}).get(file.task)
        if entry is not None:
            value = benchmark.by_slug[file.asked.part].value
            drawn[value], sizes[value] = int(entry["drawn"]), int(entry["items"])
            settings = part
    if drawn == sizes:
        return None
    return Part(float(settings["points"]), str(settings["seed"]), drawn, sizes)
