"""Answers to the same items under several conditions, and which of them count.

One rule holds for every number that is made of them: an item counts only with all the answers that the number
needs, each served and scored. An error is not an answer. What is left out is counted beside the number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import clip_clusters

FULL, NONE, BACKBONE = "full", "none", "text-backbone"
FRAGMENTS, PERMUTE, REPEAT, ABSENT = "fragments", "permute", "repeat", "absent"
# Their answers are one number an item, however many there are.
_POOLED = (PERMUTE, REPEAT, "rephrase", "swap")


@dataclass(frozen=True)
class Answer:
    """One answer to one item under one condition.

    Attributes
    ----------
    item : str
        Id of the item, the same in all conditions.
    category : str
    clips : tuple of str
        Of the unablated item: items that share one form a cluster.
    condition : str
        "full", "none", "fragments", "permute", …
    variant : str
        "" or what tells answers of a condition apart: "2/5" (the second of five fragments), "2031" (an
        order), "0.01" (a noise level).
    correct : bool or None
        None: not scored.
    served : bool
        False: the item errored; nothing was answered.
    picked, gold : int or None
        Place, in the order shown, of the choice that the reply states, and of the right one. None: none.
    order : tuple of int
        Place shown -> index in the released order.
    lengths : tuple of int
        Characters of the choices as shown.

    Examples
    --------
    >>> turned = Answer("q1", "sound", ("a.wav",), "permute", "120", True, picked=2, gold=2, order=(1, 2, 0))
    >>> turned.chosen
    0
    """

    item: str
    category: str
    clips: tuple[str, ...]
    condition: str
    variant: str = ""
    correct: bool | None = None
    served: bool = True
    picked: int | None = None
    gold: int | None = None
    order: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether there is an answer, and a verdict on it."""
        return self.served and self.correct is not None

    @property
    def chosen(self) -> int | None:
        """Index in the released order of the choice that was picked; None where the reply states none."""
        return None if self.picked is None else self.order[self.picked]


@dataclass(frozen=True)
class LeftOut:
    """Why items with an answer in full do not count in a number.

    Attributes
    ----------
    errored : int
        An answer was not served, in the condition or in full.
    unscored : int
        All were served, one has no verdict.
    not_asked : int
        The condition, or one of its variants, was not asked of the item.
    """

    errored: int = 0
    unscored: int = 0
    not_asked: int = 0


class Table:
    """Answers by condition and item, with the clusters of the items in full."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        # By the name of the row, then by item.
        self.conditions: dict[str, dict[str, list[Answer]]] = {FULL: {}}
        # So many answers make a whole one: three for the thirds of a clip.
        self.whole: dict[str, int] = {}
        seen: set[tuple[str, str, str]] = set()
        for answer in answers:
            _check(answer)
            key = (answer.item, answer.condition, answer.variant)
            if key in seen:
                where = f"{answer.condition} {answer.variant}".rstrip()
                raise ScoringError(
                    f"item {answer.item} was answered twice under {where}: name each run once"
                )
            seen.add(key)
            name, parts = _row_name(answer)
            self.whole[name] = parts
            self.conditions.setdefault(name, {}).setdefault(answer.item, []).append(answer)
        self.items = {item: found[0] for item, found in self.conditions[FULL].items()}
        if not self.items:
            raise ScoringError(
                "a profile needs answers in full, with which the others are compared"
            )
        clusters = clip_clusters([answer.clips for answer in self.items.values()])
        self.clusters = dict(zip(self.items, clusters, strict=True))
        self.categories = tuple(dict.fromkeys(answer.category for answer in self.items.values()))
        asked = {item for found in self.conditions.values() for item in found}
        self.without_full = len(asked - set(self.items))
        # How many orders an item has by its number of choices: a run that was cut short asked fewer.
        self.most_orders: dict[int, int] = {}
        for found in self.conditions.get(PERMUTE, {}).values():
            choices = len(found[0].order)
            self.most_orders[choices] = max(self.most_orders.get(choices, 0), len(found))

    def _is_whole(self, name: str, found: Sequence[Answer]) -> bool:
        if not found:
            return False
        needed = self.most_orders[len(found[0].order)] if name == PERMUTE else self.whole[name]
        return len(found) >= needed

    def clusters_of(self, items: Iterable[str]) -> list[int]:
        """Return the cluster of each item."""
        return [self.clusters[item] for item in items]

    def of(self, name: str, item: str) -> list[Answer]:
        """Return an item's answers under a condition, by the name of its row."""
        return self.conditions[name].get(item, [])

    def counting(
        self,
        names: Sequence[str],
        items: Iterable[str],
        wanted: Callable[[Answer], bool] | None = None,
    ) -> tuple[list[str], LeftOut]:
        """Return the items whose answers under all these conditions count, and why others do not.

        `wanted` takes items out of the question altogether, by their answer in full.
        """
        kept, why = [], Counter[str]()
        for item in items:
            if wanted is not None and not wanted(self.items[item]):
                continue
            found = [self.of(name, item) for name in names]
            every = [answer for part in found for answer in part]
            if not all(map(self._is_whole, names, found)):
                why["not_asked"] += 1
            elif not all(answer.served for answer in every):
                why["errored"] += 1
            elif not all(answer.counts for answer in every):
                why["unscored"] += 1
            else:
                kept.append(item)
        return kept, LeftOut(**why)

    def shares(
        self, name: str, items: Sequence[str], value: Callable[[Answer], bool | None]
    ) -> list[float]:
        """Return for each item the mean of a value over its answers under a condition."""
        return [fmean(bool(value(answer)) for answer in self.of(name, item)) for item in items]


def _check(answer: Answer) -> None:
    shown = len(answer.order)
    for place in (answer.picked, answer.gold):
        if place is not None and not 0 <= place < shown:
            raise ScoringError(
                f"item {answer.item} under {answer.condition}: place {place} of {shown} choices"
            )


def _row_name(answer: Answer) -> tuple[str, int]:
    """Return the name of the row in which an answer counts, and how many answers make it whole."""
    if answer.condition == FRAGMENTS:
        parts = answer.variant.partition("/")[2]
        if not parts.isdecimal():
            raise ScoringError(
                f"item {answer.item}: fragments are named like 2/5, not {answer.variant!r}"
            )
        return f"{FRAGMENTS} 1/{parts}", int(parts)
    if answer.condition in _POOLED:
        return answer.condition, 1
    return f"{answer.condition}-{answer.variant}".rstrip("-"), 1


def is_choice(answer: Answer) -> bool:
    """Whether the item is of multiple choice."""
    return len(answer.order) > 1
