"""Means over scored items, each with its interval: what the numbers of a result are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.scoring.intervals import Interval, clustered_interval
from mmaupro_ext.scoring.scorer import Verdict


@dataclass(frozen=True)
class Scored:
    """An item, its verdict and its cluster.

    Attributes
    ----------
    item : Item
        What was asked.
    verdict : Verdict
        What the reply scores.
    cluster : hashable
        Items with the same one share a clip.
    """

    item: Item
    verdict: Verdict
    cluster: Hashable

    @property
    def category(self) -> str:
        """Value of the item's category."""
        return str(self.item.doc["category"])

    @property
    def clips_known(self) -> bool:
        """Whether the digest of each of its clips is known, so that a shared clip would show."""
        return bool(self.item.clips) and None not in self.item.clips


def percent(share: float | None) -> float | None:
    """Return a share as per cent with four digits, None for none."""
    return None if share is None or math.isnan(share) else round(100.0 * share, 4)


def scores_of(members: Iterable[Scored]) -> list[float]:
    """Return the scores of the members that have one."""
    return [m.verdict.score for m in members if m.verdict.score is not None]


def mean_of(members: Iterable[Scored]) -> float | None:
    """Return the mean score of the members that have one, None where none has."""
    scores = scores_of(members)
    return math.fsum(scores) / len(scores) if scores else None


def percent_of(verdicts: Sequence[Verdict]) -> float | None:
    """Return the mean score of verdicts in per cent, None where none has a score."""
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    return percent(math.fsum(scores) / len(scores)) if scores else None


def kept(members: Iterable[Scored]) -> list[Scored]:
    """Return the members that a released rule does not drop."""
    return [m for m in members if not m.verdict.dropped]


def is_scored(members: Sequence[Scored]) -> bool:
    """Whether every item has a score, and at least one of them by more than a lost verdict."""
    if not members or any(m.verdict.score is None for m in members):
        return False
    served = [m for m in members if not m.verdict.errored]
    return not served or any(not m.verdict.lost for m in served)


def with_interval(members: Sequence[Scored]) -> dict[str, Any]:
    """Return the mean of members that all have a score, its interval, and what stands behind it."""
    interval = interval_of(
        members, lambda: clustered_interval(scores_of(members), [m.cluster for m in members])
    )
    return {"score": percent(mean_of(members)), **interval}


def interval_of(members: Sequence[Scored], compute: Callable[[], Interval]) -> dict[str, Any]:
    """Return an interval over members that all have a score, by what it is clustered, and what it lacks."""
    known = sum(m.clips_known for m in members)
    by = "clip" if known == len(members) else "item"
    if 0 < known < len(members):
        by = f"clip where its digest is known ({known:,} of {len(members):,} items)"
    found: dict[str, Any] = {
        "low": None,
        "high": None,
        "interval_note": "",
        "clustered_by": by,
        "clusters": len({m.cluster for m in members}),
    }
    if any(not 0.0 <= score <= 1.0 for score in scores_of(members)):
        found["interval_note"] = "a judge went beyond 1 to 5"
        return found
    interval = compute()
    note = interval.note.replace("cluster", "clip")
    found.update(low=percent(interval.low), high=percent(interval.high), interval_note=note)
    return found


def no_interval() -> dict[str, Any]:
    """Return what stands in the place of an interval where there is no score."""
    return {"low": None, "high": None, "interval_note": "", "clustered_by": "", "clusters": 0}
