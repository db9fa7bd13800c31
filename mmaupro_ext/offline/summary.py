"""From verdicts to the numbers of a result: plain JSON, the same bytes for the same replies.

All scores are per cent, rounded to 4 digits after the point, so that the last bits of a machine's
arithmetic do not show. The denominator is all items, always: errored, empty, unparsed and ambiguous
replies count as wrong, and so does an open item whose verdict could not be had or read. A released rule may
drop replies; their number is then given. A category is unscored until its items are scored, and a total that
lacks something is called partial and says what.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.benchmarks import MMAUPRO
from mmaupro_ext.data.conditions import FULL, warning
from mmaupro_ext.data.schema import length_type_of
from mmaupro_ext.offline.answer_key import faults_found, faults_of, gold_positions, readings
from mmaupro_ext.offline.comparable import differences, reply_shares
from mmaupro_ext.offline.kinds import instruction_readings, open_scales
from mmaupro_ext.offline.logged_items import Item, digest
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.offline.means import (
    Scored,
    interval_of,
    is_scored,
    kept,
    mean_of,
    no_interval,
    percent,
    percent_of,
    scores_of,
    with_interval,
)
from mmaupro_ext.offline.parts import Part
from mmaupro_ext.scoring import aggregate, anytime
from mmaupro_ext.scoring.intervals import (
    clip_clusters,
    stratified_interval,
)
from mmaupro_ext.scoring.open_ended import is_official_judge
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import Verdict, gold_indexes
from mmaupro_ext.util import visible_json

SCHEME = 5
"""Raised whenever the same replies give other numbers or another layout."""

LOST_LIMIT = 2.0
"""Per cent of a category's items that may be lost before its score is marked."""

GROUPINGS = (
    "perceptual_skills",
    "reasoning_skills",
    "sub-cat",
    "length_type",
    "measured_length",
    "clips",
    "choices",
)
"""Keys of the `groups` of an MMAU-Pro result; "measured_length" goes by the item's longest clip.

Those of other benchmarks are their attributes (`Benchmark.groups`) and the last three.
"""

_COUNTED = ("unparsed", "ambiguous", "empty", "errored")


def summarise(
    run: Run,
    verdicts: Sequence[Verdict],
    preset: Preset,
    seconds: Mapping[str, float] | None = None,
    embedder: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
    lost_limit: float = LOST_LIMIT,
) -> dict[str, Any]:
    """Aggregate the verdicts on a run.

    Parameters
    ----------
    run : Run
        The replies.
    verdicts : sequence of Verdict
        One an item, in the order of ``run.items``.
    preset : Preset
        Under which the verdicts were made.
    seconds : mapping of str to float, optional
        Measured duration of clips by relative path.
    embedder, judge : mapping, optional
        What a result says of them; None where there was none.
    lost_limit : float
        Per cent of a category's items; above it the score is marked.

    Returns
    -------
    dict
        Plain JSON.
    """
    clusters = clip_clusters([item.clips for item in run.items])
    members = [Scored(*three) for three in zip(run.items, verdicts, clusters, strict=True)]
    by_category = {
        value: [member for member in members if member.category == value]
        for value in run.benchmark.by_value
    }
    faulty = faults_of(run).codes
    categories = {
        value: _category(own, preset, lost_limit, faulty)
        for value, own in by_category.items()
        if own
    }
    missing = [value for value, own in by_category.items() if not own]
    official_judge = judge is None or is_official_judge(judge["model"])
    why = list(differences(run, preset, embedder, official_judge))
    result: dict[str, Any] = {
        "scorer": {"name": "mmaupro-ext", "version": __version__, "scheme": SCHEME},
        "unit": "per cent",
        "preset": preset.as_dict(),
        "embedder": None if embedder is None else dict(embedder),
        "judge": None if judge is None else dict(judge),
        "reader": None,
        "model": run.model,
        "run": {"times": list(run.times), "identity": run.identity},
        "benchmark": run.name,
        "asks_for": run.asks_for,
        "comparable": not why,
        "why": why,
        "dataset": {
            "name": run.dataset,
            "items": len(run.items),
            "sha256": digest(run.items, replies=False),
            "missing_categories": missing,
            "deviations": len(run.deviations),
            **({} if run.part is None else {"part": asdict(run.part)}),
        },
        "replies_sha256": digest(run.items, replies=True),
        "overall": _overall(categories, missing, run, members, preset, faulty),
        "categories": categories,
        "groups": _groups(members, seconds or {}, run),
        "gold_positions": gold_positions(run.items),
        "faults": faults_found(run),
        "readings": readings(run, percent_of),
        "unanswerable": sorted(m.item.id for m in members if not _answerable(m, preset)),
        "errored": sorted(m.item.id for m in members if m.verdict.errored),
        "lost_limit": lost_limit,
    }
    if run.condition != FULL:
        result["condition"] = run.condition
    if run.recipe:
        result["recipe"] = run.recipe
    closed = [(m.item, m.verdict) for m in members if m.item.kind == "closed"]
    if closed:
        result["closed"] = {"items": len(closed), "shares": reply_shares(closed)}
    instruction = [m for m in members if m.item.kind == "instruction"]
    if instruction:
        pairs = [(m.item, m.verdict) for m in instruction]
        result["instruction"] = instruction_readings(pairs, preset)
    judged = [m for m in members if m.item.kind == "open"]
    if judged:
        result["open"] = open_scales([m.verdict for m in judged], preset, judge is not None)
    return result


def to_json(result: Mapping[str, Any]) -> str:
    """Return the text of a scores file: sorted keys, two spaces, a final newline."""
    return json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def item_lines(run: Run, verdicts: Sequence[Verdict]) -> str:
    """Return one line of JSON an item: what was asked, the reply, its score and what explains it."""
    lines = []
    for item, verdict in zip(run.items, verdicts, strict=True):
        line = {
            "id": item.id,
            "benchmark": run.name,
            "category": item.doc["category"],
            "question": item.doc["question"],
            "choices": item.doc["choices"],
            "answer": item.doc["answer"],
            "clips": item.doc["audio_path"],
            **({"condition": item.doc["condition"]} if "condition" in item.doc else {}),
            "reply": item.reply,
            "finish": item.finish,
            "score": verdict.score,
            "status": verdict.status,
            "details": verdict.details,
        }
        # Lone surrogates and other hidden characters of a reply are escaped: no file holds the first.
        lines.append(visible_json(json.dumps(line, sort_keys=True, ensure_ascii=False)))
    return "".join(f"{line}\n" for line in lines)


# --- means ---------------------------------------------------------------------------------------


def _category(
    members: Sequence[Scored], preset: Preset, lost_limit: float, faulty: Container[str]
) -> dict[str, Any]:
    kind = members[0].item.kind
    lost = sum(m.verdict.lost for m in members)
    remaining = kept(members)
    found: dict[str, Any] = {
        "kind": kind,
        "items": len(members),
        "scored": len(scores_of(members)),
        "score": None,
        "served_score": None,
        "served": len(members) - lost,
        "dropped": len(members) - len(remaining),
        "faulty": sum(m.item.id in faulty for m in members),
        "marked": False,
        **no_interval(),
    }
    if is_scored(remaining):
        found.update(with_interval(remaining))
        found["served_score"] = percent(mean_of(m for m in remaining if not m.verdict.lost))
        found["audited"] = percent(mean_of(m for m in remaining if m.item.id not in faulty))
        found["marked"] = 100.0 * lost > lost_limit * len(members)
    counts = Counter(m.verdict.status for m in members)
    own = {"open": ("unscored", "unreadable", "judge-errored"), "instruction": ("substitute",)}
    counted = _COUNTED if kind in ("closed", "hidden") else ("empty", "unparsed", "errored")
    found["counts"] = {status: counts[status] for status in (*counted, *own.get(kind, ()))}
    if kind == "closed":
        answerable = [m for m in remaining if _answerable(m, preset)]
        found["unanswerable"] = sum(not _answerable(m, preset) for m in members)
        found["shares"] = reply_shares([(m.item, m.verdict) for m in members])
        if found["score"] is not None:
            found["without_unanswerable"] = percent(mean_of(answerable))
    return found


def _answerable(member: Scored, preset: Preset) -> bool:
    doc = member.item.doc
    if member.item.kind != "closed" or doc.get("problem"):
        return True
    return bool(gold_indexes(doc["choices"], doc["answer"], preset.options.gold))


def _overall(
    categories: Mapping[str, Mapping[str, Any]],
    missing: Sequence[str],
    run: Run,
    members: Sequence[Scored],
    preset: Preset,
    faulty: Container[str],
) -> dict[str, Any]:
    """Return the weighted and the macro mean over the categories that have a score."""
    own = {
        value: kept(m for m in members if m.category == value)
        for value, found in categories.items()
        if found["score"] is not None
    }
    unscored = {
        value: found["items"] - found["scored"] - found["dropped"] or found["items"]
        for value, found in categories.items()
        if found["score"] is None
    }
    complete = not (missing or unscored or run.deviations or run.part or run.condition != FULL)
    taking_part = [member for group in own.values() for member in group]
    found: dict[str, Any] = {
        "complete": complete,
        "label": "overall" if complete else _partial_label(missing, unscored, run, len(own)),
        "categories": len(own),
        "items": len(taking_part),
        "dropped": sum(found["dropped"] for found in categories.values()),
        "weighted": None,
        "served_score": None,
        "marked": any(entry["marked"] for entry in categories.values()),
        **no_interval(),
        "macro": None,
        "macro_interval": no_interval(),
    }
    if not own:
        return found
    means = {value: mean_of(group) or 0.0 for value, group in own.items()}
    sizes = {value: len(group) for value, group in own.items()}
    interval = with_interval(taking_part)
    if run.part is not None:
        sizes = {value: run.part.sizes.get(value, size) for value, size in sizes.items()}
        interval |= _anytime_interval(own, sizes, run.part)
    del interval["score"]
    found.update(interval)
    found["weighted"] = percent(aggregate.overall(means, sizes))
    found["served_score"] = percent(mean_of(m for m in taking_part if not m.verdict.lost))
    found["macro"] = percent(aggregate.macro_mean(means))
    groups = [(scores_of(group), [m.cluster for m in group]) for group in own.values()]
    found["macro_interval"] = interval_of(taking_part, lambda: stratified_interval(groups))
    found["without_unanswerable"] = percent(
        mean_of(m for m in taking_part if _answerable(m, preset))
    )
    found["audited"] = percent(mean_of(m for m in taking_part if m.item.id not in faulty))
    return found


def _anytime_interval(
    own: Mapping[str, Sequence[Scored]], sizes: Mapping[str, int], part: Part
) -> dict[str, Any]:
    """Return the bounds of the score of all items, of which some were drawn; stopping is allowed for."""
    nothing = {"low": None, "high": None, "method": anytime.METHOD}
    if any(
        m.verdict.score is None or not 0.0 <= m.verdict.score <= 1.0
        for g in own.values()
        for m in g
    ):
        return {**nothing, "interval_note": "a judge went beyond 1 to 5"}
    scores = {
        value: scores_of(sorted(group, key=lambda m: (anytime.place(m.item.id, part.seed), m.item.id)))
        for value, group in own.items()
    }  # fmt: skip
    found = anytime.confidence_sequence(sizes, scores, part.points / 100.0)
    if not found or found[-1].drawn < sum(map(len, scores.values())):
        return {**nothing, "interval_note": "not all that was drawn is scored"}
    return {**nothing, "low": percent(found[-1].low), "high": percent(found[-1].high)}


def _partial_label(
    missing: Sequence[str], unscored: Mapping[str, int], run: Run, scored: int
) -> str:
    parts = [f"partial: {scored} of {len(run.benchmark.categories)} categories"]
    if unscored:
        shown = ", ".join(f"{value} ({count:,})" for value, count in unscored.items())
        parts.append(f"unscored: {shown}")
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    if run.part is not None:
        parts.append(str(run.part))
    if run.deviations:
        parts.append(f"not the released items: {len(run.deviations):,} deviations accepted")
    if run.condition != FULL:
        parts.append(warning(run.condition))
    return "; ".join(parts)


# --- groups --------------------------------------------------------------------------------------


def _groups(
    members: Sequence[Scored], seconds: Mapping[str, float], run: Run
) -> dict[str, dict[str, Any]]:
    def measured(item: Item) -> list[str]:
        known = [seconds.get(path) for path in item.doc["audio_path"]]
        lengths = [value for value in known if value is not None]
        return [length_type_of(max(lengths))] if lengths and len(lengths) == len(known) else []

    def choices(item: Item) -> list[str]:
        return [f"{len(item.doc['choices']):02d}"] if item.kind == "closed" else []

    keys: dict[str, Callable[[Item], Sequence[str]]] = {
        "perceptual_skills": lambda item: item.doc.get("perceptual_skills") or [],
        "reasoning_skills": lambda item: item.doc.get("reasoning_skills") or [],
        "sub-cat": lambda item: [item.doc["sub-cat"]] if item.doc.get("sub-cat") else [],
        "length_type": lambda item: (
            [item.doc["length_type"]] if item.doc.get("length_type") else []
        ),
        "measured_length": measured,
        "clips": lambda item: [str(len(item.doc["audio_path"]))],
        "choices": choices,
    }
    if run.name == MMAUPRO:
        return {name: _grouped(members, keys[name]) for name in GROUPINGS}
    attributes = {name: _attribute(name) for name in run.benchmark.groups}
    shared = {name: keys[name] for name in GROUPINGS[-3:]}
    return {name: _grouped(members, of) for name, of in {**attributes, **shared}.items()}


def _attribute(name: str) -> Callable[[Item], Sequence[str]]:
    return lambda item: [item.doc["attributes"][name]] if item.doc["attributes"].get(name) else []


def _grouped(members: Sequence[Scored], keys_of: Callable[[Item], Sequence[str]]) -> dict[str, Any]:
    """Return the mean of each group over its items that have a score, whatever their category."""
    groups: dict[str, list[Scored]] = {}
    for member in members:
        for key in dict.fromkeys(keys_of(member.item)):
            groups.setdefault(key, []).append(member)
    found: dict[str, Any] = {}
    for key, group in groups.items():
        scored = [m for m in group if m.verdict.score is not None]
        numbers = with_interval(scored) if scored else {"score": None, **no_interval()}
        found[key] = {"items": len(group), "scored": len(scored), **numbers}
    return found
