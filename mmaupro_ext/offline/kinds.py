"""What a result says besides of instruction following and of open questions: their several readings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.scoring import instruction_following, open_ended
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import Verdict, score

SCALES = {
    "official": "mean OVERALL / 5 as the released script reads it: garbage is 3, the floor 20",
    "strict": "mean OVERALL / 5 of verdicts that can be read, never rewritten: floor 20",
    "floorless": "the same from 0 (all ones) to 100 (all fives)",
}


def instruction_readings(pairs: Sequence[tuple[Item, Verdict]], preset: Preset) -> dict[str, Any]:
    """Compare the official and the strict reading of the checks, item by item.

    Parameters
    ----------
    pairs : sequence of (Item, Verdict)
        Instruction items, with their verdicts under `preset`.
    preset : Preset
        Says which reading counts.

    Returns
    -------
    dict
        Plain JSON.
    """
    readings = {
        mode: [score(item.doc, item.reply, mode, finish=item.finish) for item, _ in pairs]
        for mode in ("official", "strict")
    }
    both = list(zip(pairs, readings["official"], readings["strict"], strict=True))
    differences = [
        {
            "id": item.id,
            "identifier": item.doc["task_identifier"],
            "official": _passed(official),
            "strict": _passed(strict),
        }
        for (item, _), official, strict in both
        if _passed(official) != _passed(strict)
    ]
    substitutes = [item.id for (item, _), official, _ in both if official.status == "substitute"]
    by_group: dict[str, list[Verdict]] = {}
    for item, verdict in pairs:
        by_group.setdefault(item.doc.get("task_classification") or "unnamed", []).append(verdict)
    found: dict[str, Any] = {
        "counted": preset.options.instruction,
        "official": _share(_passed(verdict) for verdict in readings["official"]),
        "strict": _share(_passed(verdict) for verdict in readings["strict"]),
        "differences": sorted(differences, key=lambda entry: str(entry["id"])),
        "groups": {
            name: {"items": len(group), "score": _share(bool(v.score) for v in group)}
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


def _passed(verdict: Verdict) -> bool | None:
    return None if verdict.errored else bool(verdict.score)


def _share(passed: Iterable[bool | None]) -> float | None:
    values = [bool(value) for value in passed]
    return round(100.0 * sum(values) / len(values), 4) if values else None


def open_scales(verdicts: Sequence[Verdict], preset: Preset, asked: bool) -> dict[str, Any]:
    """Give the judge's verdicts on all scales, over all items and over those with a verdict.

    Parameters
    ----------
    verdicts : sequence of Verdict
        Of all open items. Items that were errored, and verdicts that could not be had or read, count
        as 0 over all items; a reply without an answer counts as an OVERALL of 1.
    preset : Preset
        Says which reading counts.
    asked : bool
        Whether there was a judge.

    Returns
    -------
    dict
        Plain JSON.
    """
    texts = [v.details["judge_text"] for v in verdicts if "judge_text" in v.details]
    found: dict[str, Any] = {
        "counted": preset.options.judge,
        "items": len(verdicts),
        "errored": sum(verdict.errored for verdict in verdicts),
        "judged": len(texts),
        "note": "" if asked else "unscored: no judge was asked",
    }
    if not asked:
        return found
    unanswered = sum(not v.errored and "judge_text" not in v.details for v in verdicts)
    official = [open_ended.parse_judgement(text, mode="official") for text in texts]
    strict = [open_ended.parse_judgement(text, mode="strict") for text in texts]
    found["unanswered"] = unanswered
    found["judge_errors"] = sum(judgement.status == "errored" for judgement in official)
    found["unreadable"] = sum(judgement.status == "unscored" for judgement in strict)
    for name, judgements, scale in (
        ("official", official, lambda value: value / 5.0),
        ("strict", strict, lambda value: value / 5.0),
        ("floorless", strict, lambda value: (value - 1.0) / 4.0),
    ):
        values = _on_scale(judgements, unanswered, scale)
        found[name] = _mean_of(values, len(verdicts))
        found[f"{name}_served"] = _mean_of(values, len(values))
    found["scales"] = SCALES
    answered = [judgement for judgement in official if judgement.status == "scored"]
    if answered:
        found["official_criteria"] = {
            name: round(math.fsum(getattr(j, name) for j in answered) / len(answered), 4)
            for name in open_ended.CRITERIA
        }
        overalls = [judgement.overall for judgement in answered if judgement.overall is not None]
        found["official_good_rate"] = _share(value >= 4.0 for value in overalls)
        found["official_poor_rate"] = _share(value <= 2.0 for value in overalls)
    return found


def _on_scale(
    judgements: Sequence[open_ended.Judgement], unanswered: int, scale: Callable[[float], float]
) -> list[float]:
    overalls = [judgement.overall for judgement in judgements if judgement.overall is not None]
    return [scale(value) for value in [*overalls, *([1.0] * unanswered)]]


def _mean_of(values: Sequence[float], items: int) -> float | None:
    return round(100.0 * math.fsum(values) / items, 4) if values and items else None
