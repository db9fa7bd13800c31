"""Have a model read the multiple-choice replies that the strict reader leaves unparsed, and report it apart.

The strict numbers stay what they are. Beside them stands what they would be with the model's readings, and
what share of the replies it read. A reader is a `judging.Judge` with another question: same servers, same
local models, same store of answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.judging import Judge, Prompt, ask_all
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.scoring.model_reader import STATUSES, parse_reading, reader_messages
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import Verdict, choice_at, is_right


def require_strict(preset: Preset) -> None:
    """Refuse a reader under presets that leave no reply unread.

    Raises
    ------
    ConfigError
        When the preset gives every reply the nearest choice.
    """
    if preset.options.closed != "strict":
        raise ConfigError(
            f"--reader reads what strict reading leaves unparsed; under the preset {preset.name} every reply "
            "gets a choice. Use --preset strict, or leave --reader out"
        )


def read_unparsed(
    items: Sequence[Item], verdicts: Sequence[Verdict], reader: Judge
) -> list[Verdict]:
    """Ask a model which options the unparsed replies state.

    Parameters
    ----------
    items : sequence of Item
        The replies.
    verdicts : sequence of Verdict
        One an item, under a preset that `require_strict` lets pass.
    reader : Judge
        Asked greedily about each unparsed reply that has a final answer.

    Returns
    -------
    list of Verdict
        The same scores and statuses; those that were asked about have `details["reader"]`, with "status",
        "index" and "stated" (the choice's position and text, or None) and "text" (what the model wrote).

    Raises
    ------
    ConfigError
        When the reader cannot be used at all.
    """
    messages = {}
    for position, (item, verdict) in enumerate(zip(items, verdicts, strict=True)):
        if item.kind == "closed" and verdict.status == "unparsed":
            message = reader_messages(item.doc, item.reply, item.finish)
            if message is not None:
                messages[position] = Prompt(*message)
    answers = ask_all(reader, list(messages.values()))
    found = list(verdicts)
    for position, text in zip(messages, answers, strict=True):
        doc = items[position].doc
        reading = parse_reading(text, len(doc["choices"]))
        details = {
            "status": reading.status,
            "index": reading.index,
            "stated": choice_at(doc, reading.index),
            "text": text,
        }
        before = found[position]
        found[position] = replace(before, details={**before.details, "reader": details})
    return found


def with_reader(
    result: Mapping[str, Any],
    items: Sequence[Item],
    verdicts: Sequence[Verdict],
    reader: Mapping[str, Any],
    preset: Preset,
) -> dict[str, Any]:
    """Add to a result what it would be with a model's readings.

    Parameters
    ----------
    result : mapping
        What `summary.summarise` gave for `verdicts`; it is not changed.
    items, verdicts : sequence
        As `read_unparsed` gave the latter.
    reader : mapping
        What the result says of the model.
    preset : Preset
        Says when a choice is right.

    Returns
    -------
    dict
        With `reader`, and `read` in each multiple-choice category, for all of these together (in
        `reader`) and in `overall`. Scores are per cent of all items.
    """
    pairs = list(zip(items, verdicts, strict=True))
    categories = {name: dict(entry) for name, entry in result["categories"].items()}
    points: list[float] = []  # of the items that the overall mean is over
    for name, entry in categories.items():
        own = [pair for pair in pairs if pair[0].doc["category"] == name]
        if entry["kind"] == "closed":
            entry["read"] = _counts(own, preset)
        if entry["score"] is not None:
            points += [_points(item, verdict, preset) for item, verdict in own]
    closed = [pair for pair in pairs if pair[0].kind == "closed"]
    overall = {**result["overall"], "read_score": _percent(points)}
    return {
        **result,
        "categories": categories,
        "overall": overall,
        "reader": {**reader, "read": _counts(closed, preset)},
    }


def _counts(pairs: Sequence[tuple[Item, Verdict]], preset: Preset) -> dict[str, Any]:
    statuses = Counter(v.details["reader"]["status"] for _, v in pairs if "reader" in v.details)
    return {
        "items": len(pairs),
        "unparsed": sum(verdict.status == "unparsed" for _, verdict in pairs),
        "asked": sum(statuses.values()),
        **{status: statuses[status] for status in STATUSES},
        "share_read": _percent([float(_is_read(verdict)) for _, verdict in pairs]),
        "strict_score": _percent([verdict.score or 0.0 for _, verdict in pairs]),
        "score": _percent([_points(item, verdict, preset) for item, verdict in pairs]),
    }


def _is_read(verdict: Verdict) -> bool:
    return bool(verdict.details.get("reader", {}).get("status") == "read")


def _points(item: Item, verdict: Verdict, preset: Preset) -> float:
    if not _is_read(verdict):
        return verdict.score or 0.0
    return float(is_right(item.doc, verdict.details["reader"]["index"], preset.options.gold))


def _percent(values: Sequence[float]) -> float | None:
    return round(100.0 * math.fsum(values) / len(values), 4) if values else None
