"""`mmaupro reconcile`: the matrix of rules and denominators, and a sentence for each pair that differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mmaupro_ext import recipes
from mmaupro_ext.data import text
from mmaupro_ext.data.conditions import FULL, warning
from mmaupro_ext.data.items import dataset_title
from mmaupro_ext.offline.plain_replies import OWN
from mmaupro_ext.offline.reconciled import DENOMINATORS, Cell, Group, Pair, Reconciled
from mmaupro_ext.report import figures, notations
from mmaupro_ext.report.chart_parts import Chart, Spec
from mmaupro_ext.scoring.intervals import Interval
from mmaupro_ext.scoring.published_rules import HOW, MODEL_READ, RULES

NAMED = 3  # ids that a sentence names
TOLD = 3  # groups of items that it tells of
_WIDTH = 80


def render(found: Reconciled, pairs: Sequence[Pair]) -> str:
    """Return the matrix and the sentences as text for a terminal, 80 columns wide."""
    return "\n\n".join(
        [
            text.paragraph(_title(found), width=_WIDTH),
            *_tables(["rule", *found.denominators], _rows(found, _short)),
            *(text.paragraph(note, width=_WIDTH) for note in notes(found)),
            *(_paragraphs(sentences(pair)) for pair in pairs),
        ]
    )


def _tables(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield a table, or several with fewer columns where it is wider than a terminal."""
    start, end = 1, len(header)
    while start < len(header):
        kept = [[row[0], *row[start:end]] for row in (header, *rows)]
        shown = text.table([str(cell) for cell in kept[0]], kept[1:])
        if end > start + 1 and max(map(len, shown.splitlines())) > _WIDTH:
            end -= 1
            continue
        yield shown
        start, end = end, len(header)


def _paragraphs(lines: Sequence[str]) -> str:
    head, *rest = lines
    wrapped = [text.paragraph(head, width=_WIDTH)]
    return "\n".join([*wrapped, *(text.paragraph(line, "  ", _WIDTH) for line in rest)])


def markdown(found: Reconciled, pairs: Sequence[Pair], sources: bool = True) -> str:
    """Return the same as Markdown, with the number of items in each cell, and the source of each rule."""
    header = ["rule", *found.denominators, "reads"]
    rows = [
        [f"`{row[0]}`", *row[1:], text.percent(_read(found, str(row[0])))]
        for row in _rows(found, _long)
    ]
    parts = [
        _title(found),
        notations.markdown(header, rows),
        *notes(found),
        "\n".join("\n  - ".join([f"- {head}", *rest]) for head, *rest in map(sentences, pairs)),
        rules_table() if sources else "",
    ]
    return "\n\n".join(part for part in parts if part)


def rules_table() -> str:
    """Return the rules with their sources as a Markdown table."""
    rows = [[f"`{rule.name}`", rule.about, f"`{rule.source}`"] for rule in RULES.values()]
    return notations.markdown(["rule", "what it is", "source"], rows).replace("---:", "---")


def as_dict(found: Reconciled, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return everything as plain JSON: all ids behind each difference; what is not known is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    cells: dict[str, Any] = {}
    for name in found.outcomes:
        cells[name] = {}
        for denominator in found.denominators:
            interval = found.interval(Cell(name, denominator))
            cells[name][denominator] = asdict(interval) if interval else None
    return plain(
        {
            "model": found.run.model,
            "benchmark": found.run.name,
            "dataset": found.run.dataset,
            "official": found.official,
            "items": len(found.run.items),
            "other_items": found.elsewhere,
            "unanswerable": found.unanswerable,
            "denominators": {name: DENOMINATORS[name] for name in found.denominators},
            "not_computed": dict(found.missing),
            "models": dict(found.models),
            "rules": {
                name: {
                    "about": RULES[name].about,
                    "source": RULES[name].source,
                    "read_share": _read(found, name),
                    "cells": cells.get(name),
                }
                for name in found.rules
            },
            "pairs": [
                {
                    **asdict(pair),
                    "first": str(pair.first),
                    "second": str(pair.second),
                    "sentences": sentences(pair),
                }
                for pair in pairs
            ],
            "condition": found.run.condition,
            "recipe": found.run.recipe or None,
            "part": None if found.run.part is None else str(found.run.part),
            "deviations": list(found.run.deviations),
            "notes": list(found.run.notes),
        }
    )


def chart(found: Reconciled) -> Chart:
    """Return the matrix as a figure: a row a rule, a mark a denominator."""
    rows = []
    for name in found.outcomes:
        for denominator in found.denominators:
            interval = found.interval(Cell(name, denominator))
            if interval is not None:
                low, high = (
                    None if math.isnan(bound) else 100 * bound
                    for bound in (interval.low, interval.high)
                )
                rows.append(
                    {
                        "rule": name,
                        "over": denominator,
                        "score": 100 * interval.mean,
                        "low": low,
                        "high": high,
                        "items": interval.items,
                    }
                )
    colours = [figures.VERMILION, figures.BLUE, figures.GREEN, figures.ORANGE, figures.PURPLE]
    y = {"field": "rule", "type": "nominal", "sort": list(found.outcomes), "title": None}
    colour = {
        "field": "over",
        "type": "nominal",
        "scale": {"domain": found.denominators, "range": colours[: len(found.denominators)]},
        "legend": {"title": None, "orient": "top"},
    }
    score = {
        "field": "score",
        "type": "quantitative",
        "title": "score (%)",
        "scale": {"domain": [0, 100]},
    }
    tips = [{"field": name} for name in ("rule", "over", "score", "low", "high", "items")]
    spec: Spec = {
        "width": 460,
        "height": {"step": 9},
        "data": {"values": rows},
        "encoding": {
            "y": {**y, "axis": {"ticks": False, "domain": False}},
            "yOffset": {"field": "over", "sort": found.denominators},
            "color": colour,
        },
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
                "encoding": {"x": score, "tooltip": tips},
            },
        ],
    }
    about = "The same replies under each rule; line: 95 % interval, clustered by clip."
    return Chart("reconciled", f"{found.run.model}: one file of replies", about, spec, "compare")


def notes(found: Reconciled) -> Iterator[str]:
    """Yield what a reader of the matrix must know."""
    counts = [
        f"{name} {sum(found.counted(Cell('strict', name))):,}"
        for name in found.denominators
        if name != "released"
    ]
    kept = {name: sum(found.counted(Cell(name, "released"))) for name in found.outcomes}
    served = sum(found.counted(Cell("strict", "served")))
    few = [f"{name} {count:,}" for name, count in kept.items() if count != served]
    own = f"; but {', '.join(few)}" if few else ""
    yield (
        f"Items: {', '.join(counts)}; released: {served:,}, as served{own}. Intervals: 95 %, clustered by "
        "clip where clips are known, random draws of a rule included."
    )
    yield from (f"Note: {note}." for note in found.run.notes)
    if found.elsewhere:
        yield f"{found.elsewhere:,} items of other kinds take no part: these rules read multiple choice."
    if bad := found.unanswerable:
        yield (
            f"WARNING: {_items(len(bad))} whose answer is not among the choices ({_some(bad)}): reading by "
            "choices never finds it, so that they count as wrong."
        )
    reasons: dict[str, list[str]] = {}
    for name, why in found.missing.items():
        reasons.setdefault(why, []).append(name)
    yield from (f"{', '.join(names)}: not computed: {why}." for why, names in reasons.items())
    if embedder := found.models.get("embedder"):
        also = "" if embedder.get("official") else ": no number of a paper compares with them"
        yield f"official, nemo-skills: {embedder['label']}{also}."
    if reader := found.models.get("reader"):
        yield f"{MODEL_READ}: {reader['model']}."
    if found.run.condition != FULL:
        yield f"WARNING: {warning(found.run.condition)}."
    if found.run.recipe:
        reading = recipes.known(found.run.recipe).reading
        rule = "by a rule that no source states" if reading is None else f"by {reading.value}"
        yield f"Asked by the recipe {found.run.recipe}, whose authors read replies {rule}."
    if found.run.part is not None:
        yield f"Not all of it: {found.run.part}."
    if found.failed:
        yield (
            f"WARNING: the reader gave no answer on {found.failed:,} replies, which state nothing under "
            f"{MODEL_READ}: run the same command again, which asks for them alone."
        )
    yield from (f"Not all of it: {deviation}." for deviation in found.run.deviations[:3])


def sentences(pair: Pair) -> list[str]:
    """Return in words why two cells differ: what they give, then each part of that with its items."""
    first, second = str(pair.first), str(pair.second)
    (mean, other), (size, other_size) = pair.means, pair.items
    same = not pair.left and not pair.joined
    if same and not pair.groups:
        return [f"{second} is {first} on each of the {size:,} items: {100 * mean:.1f}."]
    over = f"the same {size:,} items" if same else f"{other_size:,} and {size:,} items"
    low, high = (f"{100 * bound:+.1f}" for bound in (pair.low, pair.high))
    interval = "" if math.isnan(pair.low) else f" ({low} to {high})"
    found = [
        f"{second} gives {100 * other:.1f}, {first} {100 * mean:.1f}, over {over}: "
        f"{_points(pair.difference)}{interval}."
    ]
    found += [_of_group(group, pair) for group in pair.groups[:TOLD]]
    rest = pair.groups[TOLD:]
    if rest:
        count = sum(len(group.higher) + len(group.lower) for group in rest)
        points = _points(math.fsum(group.points for group in rest))
        found.append(f"{points} from {_items(count)} in other ways.")
    if not same:
        changes = [
            f"{second} {verb} {_items(len(ids))} ({_some(ids)})"
            for verb, ids in (("leaves out", pair.left), ("adds", pair.joined))
            if ids
        ]
        found.append(f"{_points(pair.counting)} from what is counted: {'; '.join(changes)}.")
    return found


def _of_group(group: Group, pair: Pair) -> str:
    ids = (*group.higher, *group.lower)
    first, second = HOW[group.first], HOW[group.second]
    ways = (
        f"both {_plural(first)}"
        if group.first == group.second
        else f"{pair.second.rule} {second} and {pair.first.rule} {first}"
    )
    sides = (
        f": {len(group.higher):,} higher, {len(group.lower):,} lower"
        if group.higher and group.lower
        else ""
    )
    return f"{_points(group.points)} from {_items(len(ids))} where {ways}{sides} ({_some(ids)})."


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count:,} items"


def _plural(predicate: str) -> str:
    """Return a predicate of `HOW` for two rules: the verb without its s."""
    verb, _, rest = predicate.partition(" ")
    return {"goes": "go", "has": "have", "is": "are"}.get(verb, verb.removesuffix("s")) + f" {rest}"


def _some(ids: Sequence[str]) -> str:
    # Ids of 36 characters would fill the page; JSON has them whole.
    shown = [name if len(name) <= 16 else f"{name[:8]}…" for name in ids[:NAMED]]
    return ", ".join(shown) + (", …" if len(ids) > NAMED else "")


def _points(value: float) -> str:
    rounded = f"{100 * value:+.1f}"
    return f"{'0.0' if rounded in ('+0.0', '-0.0') else rounded} points"


def _title(found: Reconciled) -> str:
    if found.run.dataset == OWN:
        asked = "questions that came with the replies"
    else:
        sample = found.run.dataset == "sample"
        asked = ("the " if sample else "") + dataset_title(found.run.name, sample)
        asked += " (says nothing about the benchmark)" if sample else ""
    official = "" if found.official == "official" else f"; its official rule: {found.official}"
    under = "" if found.run.condition == FULL else f" [{found.run.condition}]"
    return (
        f"{found.run.model}{under} on {asked}: the same replies under each rule, per cent{official}"
    )


def _rows(found: Reconciled, cell: Any) -> list[list[object]]:
    rows: list[list[object]] = []
    for name in found.rules:
        if name in found.missing:
            rows.append([name, "not computed", *["-"] * (len(found.denominators) - 1)])
            continue
        cells = [cell(found.interval(Cell(name, over))) for over in found.denominators]
        rows.append([name, *cells])
    return rows


def _short(interval: Interval | None) -> str:
    if interval is None:
        return "no items"
    if math.isnan(interval.low):
        return f"{100 * interval.mean:.1f}"
    return f"{100 * interval.mean:.1f} {100 * interval.low:.0f}-{100 * interval.high:.0f}"


def _long(interval: Interval | None) -> str:
    if interval is None:
        return "no items"
    bounds = (
        f" ({interval.note})"
        if math.isnan(interval.low)
        else f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    )
    return f"{100 * interval.mean:.1f}{bounds}, n {interval.items:,}"


def _read(found: Reconciled, rule: str) -> float | None:
    return found.read_share(rule) if rule in found.outcomes else None
