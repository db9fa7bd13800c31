"""Features of a corpus: block by block, here or on Ray; what is written whole stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.corpus import on_ray
from mmaupro_ext.corpus.families import DEFAULT, family_of
from mmaupro_ext.corpus.shards import FOLDER, Outcome, write_shard
from mmaupro_ext.corpus.sources import Block, read_corpus
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import write_atomically, write_json

MANIFEST = "features.json"
DAMAGED = "damaged.jsonl"


@dataclass
class Report:
    """What became of a corpus.

    Attributes
    ----------
    outcome : mmaupro_ext.corpus.shards.Outcome
        Of all clips.
    shards : int
        How many there are.
    others : dict
        Suffix -> how many files of the folder are no clips by their names.
    manifest : dict
        What stands in features.json.
    """

    outcome: Outcome = field(default_factory=Outcome)
    shards: int = 0
    others: dict[str, int] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)


def extract(
    sources: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    family: str = DEFAULT,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Write the features of a corpus, or those that are missing.

    Parameters
    ----------
    sources : sequence of path
        As for `sources.read_corpus`.
    folder : path-like
        Where they go: `shards/`, with `features.json` and `damaged.jsonl` in the end.
    family : str
        As for `families.family_of`.
    workers : int
        Processes on Ray, each on a core; 1 is this process, without Ray. The bytes are the same.
    progress : callable
        Called with how many shards are done, and of how many.

    Returns
    -------
    Report
        Of all shards, also those of earlier starts.

    Raises
    ------
    ConfigError
        When a source, the family, the folder or Ray cannot be used, or the folder holds features of
        something else.

    Example
    -------
    >>> report = extract(["speech"], "features", family="whisper-80")  # doctest: +SKIP
    >>> numpy.load("features/shards/00000.npy", mmap_mode="r").shape  # doctest: +SKIP
    (187200, 80)
    """
    corpus = read_corpus(sources)
    made = family_of(family)
    to = Path(folder)
    manifest = {
        "version": __version__,
        "family": made.name,
        "settings": made.settings,
        "sampling_rate": made.sampling_rate,
        "bands": made.bands,
        "dtype": "float32",
        "sources": [os.path.basename(os.path.normpath(source)) for source in sources],
    }
    _check(to, manifest)
    try:
        write_json(to / MANIFEST, manifest | {"complete": False})
        _tidy(to, len(corpus.blocks))
    except OSError as error:
        raise ConfigError(
            f"{to}: cannot be written to ({error.strerror or error}). Name another folder."
        ) from error
    report = Report(shards=len(corpus.blocks), others=dict(corpus.others))
    for number, outcome in enumerate(_outcomes(corpus.blocks, to, family, workers), 1):
        report.outcome.add(outcome)
        progress(number, len(corpus.blocks))
    total = report.outcome
    total.damaged.sort(key=lambda one: one["path"])
    lines = "".join(json.dumps(one) + "\n" for one in total.damaged)
    report.manifest = manifest | {
        "complete": True,
        "shards": report.shards,
        "clips": total.clips,
        "damaged": len(total.damaged),
        "frames": total.frames,
        "hours": round(total.seconds / 3600, 6),
    }
    try:
        write_atomically(to / DAMAGED, lines)
        write_json(to / MANIFEST, report.manifest)
    except OSError as error:
        raise ConfigError(f"{to}: cannot be written to ({error.strerror or error}).") from error
    return report


def _outcomes(
    blocks: Sequence[Block], folder: Path, family: str, workers: int
) -> Iterator[Outcome]:
    if workers > 1:
        yield from on_ray.outcomes(blocks, folder.absolute(), family, workers)
        return
    made = family_of(family)
    for block in blocks:
        yield write_shard(block, folder, made)


def _tidy(folder: Path, shards: int) -> None:
    """Take away what a killed process was writing, and shards of a corpus that had more clips."""
    for place in (folder, folder / FOLDER):
        for left in place.glob(".*.part"):  # of `write_atomically`
            left.unlink()
    for left in (folder / FOLDER).glob("[0-9]*"):
        if left.suffix == ".part" or int(left.name.split(".")[0]) >= shards:
            left.unlink()


def _check(folder: Path, manifest: dict[str, Any]) -> None:
    """Raise ConfigError for a folder that holds other features."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                f"{folder}: is not empty, and holds no {MANIFEST}. Name another folder."
            ) from None
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Name another folder.") from error
    differing = [
        f"{name} ({found.get(name)!r} there)"
        for name in manifest
        if found.get(name) != manifest[name]
    ]
    if differing:
        raise ConfigError(
            f"{folder}: holds features of something else: {', '.join(differing)}. Name another folder, or "
            "delete that one."
        )
