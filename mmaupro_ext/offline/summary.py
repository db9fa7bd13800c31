"""From verdicts to the numbers of a result: plain JSON, the same bytes for the same replies.

All scores are per cent, rounded to 4 digits after the point, so that the last bits of a machine's
arithmetic do not show. Denominators never shrink: errored, empty, unparsed and ambiguous replies
stay in. What has no score for want of a judge or an embedder is "unscored", and a total that lacks
something is called partial and says what it lacks.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.data import CATEGORIES, CATEGORY_BY_VALUE
from mmaupro_ext.data.schema import length_type_of
from mmaupro_ext.offline.logged_runs import Run, digest
from mmaupro_ext.scoring import aggregate, instruction_following, open_ended
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.verdicts import Item, Verdict

SCHEME = 1
"""Raised whenever the same replies give other numbers or another layout."""

GROUPINGS = (
    "perceptual_skills",
    "reasoning_skills",
    "sub-cat",
    "length_type",
    "measured_length",
    "clips",
    "choices",
)
"""Keys of a result's `groups`; "measured_length" goes by the item's longest clip."""

_COUNTED = ("unparsed", "ambiguous", "empty", "errored")


def summarise(
    run: Run,
    verdicts: Sequence[Verdict],
    preset: Preset,
    seconds: Mapping[str, float] | None = None,
    embedder: Mapping[str, Any] | None = None,
    judge: Mapping[str, Any] | None = None,
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

    Returns
    -------
    dict
        Plain JSON.
    """
    pairs = list(zip(run.items, verdicts, strict=True))
    clusters = dict(
        zip(
            (item.id for item in run.items),
            aggregate.clip_clusters([item.clips for item in run.items]),
            strict=True,
        )
    )
    by_category = {
        value: [pair for pair in pairs if pair[0].doc["category"] == value]
        for value in CATEGORY_BY_VALUE
    }
    exclude = preset.options.unanswerable == "exclude"
    categories = {
        value: _category(value, members, clusters, exclude)
        for value, members in by_category.items()
        if members
    }
    missing = [value for value, members in by_category.items() if not members]
    unanswerable = [
        item.id for item, verdict in pairs if verdict.details.get("answerable", True) is False
    ]
    result: dict[str, Any] = {
        "scorer": {"name": "mmaupro-ext", "version": __version__, "scheme": SCHEME},
        "unit": "per cent",
        "preset": preset.as_dict(),
        "embedder": None if embedder is None else dict(embedder),
        "judge": None if judge is None else dict(judge),
        "model": run.model,
        "dataset": {
            "name": run.dataset,
            "items": len(run.items),
            "sha256": digest(run.items, replies=False),
            "missing_categories": missing,
            "deviations": len(run.deviations),
        },
        "replies_sha256": digest(run.items, replies=True),
        "overall": _overall(categories, missing, run, pairs, clusters, exclude),
        "categories": categories,
        "groups": _groups(pairs, clusters, seconds or {}),
        "unanswerable": sorted(unanswerable),
        "errored": sorted(item.id for item, _ in pairs if item.error is not None),
    }
    for kind, block in (("instruction", _instruction), ("open", _open)):
        members = [pair for pair in pairs if _kind(pair[0]) == kind]
        if members:
            result[kind] = block(members, preset)
    return result


def to_json(result: Mapping[str, Any]) -> str:
    """Return the text of a scores file: sorted keys, two spaces, a final newline."""
    return json.dumps(result, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def item_lines(run: Run, verdicts: Sequence[Verdict]) -> str:
    """Return one line of JSON an item: reply, score and what explains it."""
    lines = []
    for item, verdict in zip(run.items, verdicts, strict=True):
        line = {
            "id": item.id,
            "category": verdict.category,
            "reply": item.reply,
            "score": verdict.score,
            "status": verdict.status,
            "details": verdict.details,
        }
        lines.append(json.dumps(line, sort_keys=True, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


# --- means ---------------------------------------------------------------------------------------

_Pair = tuple[Item, Verdict]


def _kind(item: Item) -> str:
    return CATEGORY_BY_VALUE[item.doc["category"]].kind


def _percent(share: float | None) -> float | None:
    return None if share is None or math.isnan(share) else round(100.0 * share, 4)


def _mean(members: Iterable[_Pair], clusters: Mapping[str, Hashable]) -> dict[str, Any]:
    """Return the mean of the scored members with its interval."""
    scored = [(item, verdict.score) for item, verdict in members if verdict.score is not None]
    if not scored:
        return {"score": None, "low": None, "high": None, "clips": 0}
    interval = aggregate.clustered_interval(
        [score for _, score in scored], [clusters[item.id] for item, _ in scored]
    )
    return {
        "score": _percent(interval.mean),
        "low": _percent(interval.low),
        "high": _percent(interval.high),
        "clips": interval.clusters,
    }


def _category(
    value: str, members: Sequence[_Pair], clusters: Mapping[str, Hashable], exclude: bool
) -> dict[str, Any]:
    category = CATEGORY_BY_VALUE[value]
    found: dict[str, Any] = {
        "kind": category.kind,
        "items": len(members),
        "scored": sum(verdict.score is not None for _, verdict in members),
        **_mean(members, clusters),
    }
    counts = Counter(verdict.status for _, verdict in members)
    if category.kind == "closed":
        found["counts"] = {status: counts[status] for status in _COUNTED}
        answerable = [pair for pair in members if pair[1].details["answerable"]]
        found["unanswerable"] = len(members) - len(answerable)
        if exclude:
            found["without_unanswerable"] = _mean(answerable, clusters)["score"]
        return found
    empty = sum(item.error is None and not item.reply.strip() for item, _ in members)
    found["counts"] = {"empty": empty, "errored": counts["errored"]}
    if category.kind == "open":
        found["counts"]["unscored"] = counts["unscored"]
        found["counts"]["judge-errored"] = counts["judge-errored"]
    else:
        found["counts"]["substitute"] = counts["substitute"]
    return found


def _overall(
    categories: Mapping[str, Mapping[str, Any]],
    missing: Sequence[str],
    run: Run,
    pairs: Sequence[_Pair],
    clusters: Mapping[str, Hashable],
    exclude: bool,
) -> dict[str, Any]:
    """Return the weighted and the macro mean over the categories that have a score."""
    scores = {value: _exact_mean(pairs, value) for value in categories}
    known = {value: score for value, score in scores.items() if score is not None}
    counts = {value: int(categories[value]["items"]) for value in categories}
    unscored = {
        value: found["items"] - found["scored"]
        for value, found in categories.items()
        if found["scored"] < found["items"]
    }
    complete = not (missing or unscored or run.deviations)
    items = sum(counts[value] for value in known)
    found: dict[str, Any] = {
        "complete": complete,
        "label": "overall" if complete else _partial_label(missing, unscored, run, len(known)),
        "categories": len(known),
        "items": items,
        "weighted": None,
        "macro": None,
        "low": None,
        "high": None,
    }
    if not known:
        return found
    found["weighted"] = _percent(aggregate.overall(known, counts))
    found["macro"] = _percent(aggregate.macro_mean(known))
    taking_part = [pair for pair in pairs if pair[0].doc["category"] in known]
    if all(verdict.score is not None for _, verdict in taking_part):
        interval = _mean(taking_part, clusters)
        found["low"], found["high"] = interval["low"], interval["high"]
    if exclude:
        kept = [pair for pair in taking_part if pair[1].details.get("answerable", True)]
        rest = {value: _exact_mean(kept, value) for value in known}
        sizes = Counter(item.doc["category"] for item, _ in kept)
        left = {value: score for value, score in rest.items() if score is not None}
        if left:
            found["without_unanswerable"] = _percent(aggregate.overall(left, sizes))
    return found


def _exact_mean(pairs: Sequence[_Pair], category: str) -> float | None:
    values = [
        verdict.score
        for item, verdict in pairs
        if item.doc["category"] == category and verdict.score is not None
    ]
    return math.fsum(values) / len(values) if values else None


def _partial_label(
    missing: Sequence[str], unscored: Mapping[str, int], run: Run, scored: int
) -> str:
    parts = [f"partial: {scored} of {len(CATEGORIES)} categories"]
    if unscored:
        shown = ", ".join(f"{value} ({count:,})" for value, count in unscored.items())
        parts.append(f"unscored: {shown}")
    if missing:
        parts.append(f"missing: {', '.join(missing)}")
    if run.deviations:
        parts.append(f"not the released items: {len(run.deviations):,} deviations accepted")
    return "; ".join(parts)


# --- groups --------------------------------------------------------------------------------------


def _groups(
    pairs: Sequence[_Pair], clusters: Mapping[str, Hashable], seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    def measured(item: Item) -> list[str]:
        known = [seconds.get(path) for path in item.doc["audio_path"]]
        lengths = [value for value in known if value is not None]
        return [length_type_of(max(lengths))] if lengths and len(lengths) == len(known) else []

    def choices(item: Item) -> list[str]:
        return [f"{len(item.doc['choices']):02d}"] if _kind(item) == "closed" else []

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
    return {name: _grouped(pairs, keys[name], clusters) for name in GROUPINGS}


def _grouped(
    pairs: Sequence[_Pair],
    keys_of: Callable[[Item], Sequence[str]],
    clusters: Mapping[str, Hashable],
) -> dict[str, Any]:
    members: dict[str, list[_Pair]] = {}
    for pair in pairs:
        for key in dict.fromkeys(keys_of(pair[0])):
            members.setdefault(key, []).append(pair)
    return {
        key: {
            "items": len(group),
            "scored": sum(verdict.score is not None for _, verdict in group),
            **_mean(group, clusters),
        }
        for key, group in members.items()
    }


# --- the two kinds with a story of their own -----------------------------------------------------


def _instruction(members: Sequence[_Pair], preset: Preset) -> dict[str, Any]:
    """Compare both readings of the checks, item by item."""
    differences = [
        {
            "id": item.id,
            "identifier": verdict.details["identifier"],
            "official": verdict.details["official"],
            "strict": verdict.details["strict"],
        }
        for item, verdict in members
        if verdict.details["official"] != verdict.details["strict"]
    ]
    substitutes = [
        item.id for item, verdict in members if verdict.details.get("official_is_substitute")
    ]
    by_group: dict[str, list[Verdict]] = {}
    for item, verdict in members:
        by_group.setdefault(item.doc.get("task_classification") or "unnamed", []).append(verdict)
    found: dict[str, Any] = {
        "counted": preset.options.instruction,
        "official": _share(verdict.details["official"] for _, verdict in members),
        "strict": _share(verdict.details["strict"] for _, verdict in members),
        "differences": sorted(differences, key=lambda entry: str(entry["id"])),
        "groups": {
            name: {
                "items": len(group),
                "score": _share(bool(verdict.score) for verdict in group),
            }
            for name, group in by_group.items()
        },
        "substitute": sorted(substitutes),
    }
    if substitutes:
        found["substitute_fix"] = (
            "their official verdicts are substitutes: NLTK's sentence data is missing. Get it with: "
            f"{instruction_following.NLTK_COMMAND}"
        )
    return found


def _share(passed: Iterable[bool | None]) -> float | None:
    values = [bool(value) for value in passed]
    return _percent(sum(values) / len(values)) if values else None


def _open(members: Sequence[_Pair], preset: Preset) -> dict[str, Any]:
    """Give the judge's verdicts on all scales; errored replies count as 0 on each."""
    texts = [
        verdict.details["judge_text"] for _, verdict in members if "judge_text" in verdict.details
    ]
    errored = sum(item.error is not None for item, _ in members)
    found: dict[str, Any] = {
        "counted": preset.options.open_score,
        "items": len(members),
        "errored": errored,
        "judged": len(texts),
        "note": "unscored: no judge was asked" if not texts else "",
    }
    if not texts:
        return found
    official = [open_ended.parse_judgement(text, mode="official") for text in texts]
    strict = [open_ended.parse_judgement(text, mode="strict") for text in texts]
    answered = [judgement for judgement in official if judgement.status == "scored"]
    readable = [judgement for judgement in strict if judgement.status == "scored"]
    found["judge_errors"] = sum(judgement.status == "errored" for judgement in official)
    found["unreadable"] = sum(judgement.status == "unscored" for judgement in strict)
    found["official"] = _open_scale(answered, errored, lambda value: value / 5.0)
    found["strict"] = _open_scale(readable, errored, lambda value: value / 5.0)
    found["floorless"] = _open_scale(readable, errored, lambda value: (value - 1.0) / 4.0)
    found["scales"] = {
        "official": "mean OVERALL / 5 as the released script reads it: garbage is 3, the floor 20",
        "strict": "mean OVERALL / 5 of the verdicts that can be read, never rewritten: floor 20",
        "floorless": "the same from 0 (all ones) to 100 (all fives)",
    }
    if answered:
        found["official_criteria"] = {
            name: round(math.fsum(getattr(j, name) for j in answered) / len(answered), 4)
            for name in open_ended.CRITERIA
        }
        overalls = [judgement.overall for judgement in answered if judgement.overall is not None]
        found["official_good_rate"] = _share(value >= 4.0 for value in overalls)
        found["official_poor_rate"] = _share(value <= 2.0 for value in overalls)
    return found


def _open_scale(
    judgements: Sequence[open_ended.Judgement], errored: int, scale: Callable[[float], float]
) -> float | None:
    values = [scale(judgement.overall) for judgement in judgements if judgement.overall is not None]
    if not values:
        return None
    return _percent(math.fsum(values) / (len(values) + errored))
