"""Logged answers to the same items under several conditions, as `scoring.reliance` takes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmaupro_ext.data import conditions
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run, read_all
from mmaupro_ext.scoring import closed
from mmaupro_ext.scoring.answers import BACKBONE
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.reliance import Answer
from mmaupro_ext.scoring.scorer import error_of, gold_indexes, score

# In names of conditions, what `scoring.reliance` has as their variant.
_LEVEL = "noise-0.01"


def answers_of(paths: Sequence[str | Path], benchmark: str | None = None) -> list[Answer]:
    """Return the answers that runs under several conditions logged.

    Parameters
    ----------
    paths : sequence of path
        Folders that `mmaupro ablate` wrote, with a folder for each condition; or folders of runs, each under
        one. The newest run of each is meant.
    benchmark : str, optional
        Which one, where the runs have replies to several.

    Returns
    -------
    list of Answer
        Under the preset `strict`, by the one scorer. The clips are those of the item as it was released.

    Raises
    ------
    ScoringError
        When a folder holds no run, a condition is there twice, or nothing was asked in full.
    """
    runs: dict[str, Run] = {}
    for path in _folders(paths):
        found = read_all([path], accept_changed=True, only=benchmark)
        if len(found) > 1:
            names = ", ".join(run.name for run in found)
            raise ScoringError(f"{path}: replies to several benchmarks: {names}. Name one of them")
        earlier = runs.setdefault(found[0].condition, found[0])
        if earlier is not found[0]:
            raise ScoringError(
                f"{earlier.files[0].parent} and {found[0].files[0].parent}: two runs of "
                f"{found[0].condition}. Name one of them"
            )
    if conditions.FULL not in runs:
        raise ScoringError(
            f"{', '.join(map(str, paths))}: no run in which the items were asked as they are. Name its "
            "folder as well"
        )
    clips = {item.id: tuple(filter(None, item.clips)) for item in runs[conditions.FULL].items}
    return [
        _answer(item, clips.get(item.id, ()))
        for run in runs.values()
        for item in run.items
        if item.id in clips
    ]


def backbone_of(ablated: Path) -> str | None:
    """Return which text model a folder of `mmaupro ablate` has answers of; None where there is none."""
    files = sorted((ablated / BACKBONE).glob("results_*.json"))
    if not files:
        return None
    name = json.loads(files[-1].read_text(encoding="utf-8")).get("model_name")
    return None if name is None else str(name)


def full_of(path: Path) -> Path:
    """Return the folder of the run in full where `path` is one that `mmaupro ablate` wrote; else `path`."""
    full = path / conditions.FULL
    return full if any(full.glob("samples_*.jsonl")) else path


def _folders(paths: Iterable[str | Path]) -> Iterator[Path]:
    known = (conditions.FULL, *conditions.CONDITIONS)
    for path in map(Path, paths):
        below = [path / name for name in known if any((path / name).glob("samples_*.jsonl"))]
        yield from below or [path]


def _answer(item: Item, clips: tuple[str, ...]) -> Answer:
    doc, options = item.doc, "strict"
    verdict = score(doc, item.reply, options, finish=item.finish)
    chosen = item.kind in ("closed", "hidden") and not verdict.errored
    reading = (
        closed.match(item.reply, doc["choices"], mode=options, finish=item.finish)
        if chosen
        else None
    )
    gold = sorted(gold_indexes(doc["choices"], doc["answer"])) if item.kind == "closed" else []
    # MMSU leaves letters without a choice: they are no places, and no choices to guess among.
    shown = [index for index, choice in enumerate(doc["choices"]) if choice]
    place = {index: number for number, index in enumerate(shown)}
    order = conditions.order_of(doc)
    name, variant = conditions.name_of(doc), conditions.variant_of(doc)
    if name == _LEVEL:
        name, _, variant = name.partition("-")
    return Answer(
        item=item.id,
        category=doc["category"],
        clips=clips,
        condition=name,
        variant=variant,
        correct=None if verdict.score is None else verdict.score >= 1.0,
        served=error_of(doc, item.reply, item.finish) is None,
        picked=None if reading is None or reading.index is None else place.get(reading.index),
        gold=place[gold[0]] if gold else None,
        order=tuple(order[index] for index in shown),
        lengths=tuple(len(doc["choices"][index]) for index in shown),
    )
