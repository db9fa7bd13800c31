"""What a model chooses when the question stays the same: over orders, places, lengths and ablations.

Consistency and correctness rate are those of López et al. (arXiv 2510.04584, equations in v1); spread over
places, RSD and CKLD those of Lin et al. (arXiv 2510.00628); flips with a repeat as control, Facet-Probe
(arXiv 2606.26079).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, pstdev

from mmaupro_ext.scoring.answers import (
    ABSENT,
    FULL,
    PERMUTE,
    REPEAT,
    Answer,
    LeftOut,
    Table,
    is_choice,
)
from mmaupro_ext.scoring.intervals import Interval, clustered_interval
from mmaupro_ext.scoring.paired import Contrast, contrast


@dataclass(frozen=True)
class Orders:
    """How far answers hold when the choices change places.

    Attributes
    ----------
    consistency : Interval
        Consistency rate: over each item's pairs of orders, the share that choose the same; mean over items.
    correctness : Interval
        Correctness rate: over each item's orders, the share that are right; mean over items.
    always_right : Interval
        Share of items that are right in all orders.
    orders : tuple of int
        Fewest and most orders of an item.
    left_out : LeftOut
    """

    consistency: Interval
    correctness: Interval
    always_right: Interval
    orders: tuple[int, int]
    left_out: LeftOut


@dataclass(frozen=True)
class Places:
    """Accuracy by the place of the right choice, over items with the same number of choices.

    Attributes
    ----------
    choices, items : int
        Each item counts once a place, with the mean of its orders that have the right choice there.
    scores : tuple of float
        Accuracy (0 to 1) with the right choice in the first place, the second, …
    spread : float
        Best minus worst place.
    rsd : float
        Standard deviation over places (of the population) over their mean; nan where nothing was right.
    gold, picked : tuple of float
        Share of answers with the right, and with the stated, choice in each place; of those that state one.
    ckld : float
        Kullback-Leibler divergence of `picked` from `gold` in nats, sum of gold · ln(gold / picked); infinite
        where a place is never picked, nan where no answer states a choice.
    no_choice : int
        Answers that state no choice.
    left_out : int
        Items without an answer that counts for each place.
    """

    choices: int
    items: int
    scores: tuple[float, ...]
    spread: float
    rsd: float
    gold: tuple[float, ...]
    picked: tuple[float, ...]
    ckld: float
    no_choice: int
    left_out: int


@dataclass(frozen=True)
class Longest:
    """How often the longest choice is picked, on items that have a single longest one.

    Attributes
    ----------
    name : str
        Of the condition.
    picks : Contrast
        First the share of the items whose right choice is the longest, second the share of their picks that
        are; the difference is picks minus gold.
    no_longest, errored, no_choice : int
        Items left out: without a single longest choice (or a right one), not served, without a choice that
        the reply states.
    """

    name: str
    picks: Contrast
    no_longest: int
    errored: int
    no_choice: int


@dataclass(frozen=True)
class Flips:
    """Share of items that choose otherwise than in full, and what of it is more than noise.

    Attributes
    ----------
    name : str
        Of the condition.
    share : Interval
        Mean over items of the share of answers that choose otherwise. A reply that states no choice is an
        outcome of its own.
    above_floor : Contrast or None
        `share` minus that of `repeat` on the items that count in both; None without a repeat.
    left_out : LeftOut
    """

    name: str
    share: Interval
    above_floor: Contrast | None
    left_out: LeftOut


def _in_orders(table: Table, item: str) -> list[Answer]:
    """Return an item's answers over orders: of permute, and in full unless its order is among them."""
    found = table.of(PERMUTE, item)
    released = table.items[item]
    return found if any(a.order == released.order for a in found) else [released, *found]


def orders(table: Table) -> Orders | None:
    """Return how far answers hold over orders; None where no item counts."""
    kept, left_out = table.counting([FULL, PERMUTE], table.items, is_choice)
    answered = {item: found for item in kept if len(found := _in_orders(table, item)) > 1}
    left_out = replace(left_out, not_asked=left_out.not_asked + len(kept) - len(answered))
    if not answered:
        return None
    clusters = table.clusters_of(answered)
    agreeing = [
        fmean(one.chosen == two.chosen for one, two in combinations(found, 2))
        for found in answered.values()
    ]
    right = [fmean(bool(answer.correct) for answer in found) for found in answered.values()]
    counts = [len(found) for found in answered.values()]
    return Orders(
        clustered_interval(agreeing, clusters),
        clustered_interval(right, clusters),
        clustered_interval([share == 1.0 for share in right], clusters),
        (min(counts), max(counts)),
        left_out,
    )


def places(table: Table) -> Iterator[Places]:
    """Yield accuracy by place for each number of choices."""
    sizes = Counter(
        len(table.items[item].order)
        for item in table.conditions[PERMUTE]
        if is_choice(table.items[item])
    )
    for choices in sorted(sizes):
        items = [i for i in table.conditions[PERMUTE] if len(table.items[i].order) == choices]
        kept: list[list[Answer]] = []
        for item in items:
            found = _in_orders(table, item)
            covered = {answer.gold for answer in found if answer.counts}
            if all(answer.counts for answer in found) and covered == set(range(choices)):
                kept.append(found)
        if not kept:
            continue
        scores = [
            fmean(
                fmean(bool(answer.correct) for answer in found if answer.gold == place)
                for found in kept
            )
            for place in range(choices)
        ]
        stating = [answer for found in kept for answer in found if answer.picked is not None]
        gold = _distribution([answer.gold for answer in stating], choices)
        picked = _distribution([answer.picked for answer in stating], choices)
        yield Places(
            choices=choices,
            items=len(kept),
            scores=tuple(scores),
            spread=max(scores) - min(scores),
            rsd=pstdev(scores) / fmean(scores) if any(scores) else math.nan,
            gold=gold,
            picked=picked,
            ckld=divergence(gold, picked),
            no_choice=sum(map(len, kept)) - len(stating),
            left_out=len(items) - len(kept),
        )


def _distribution(places: Sequence[int | None], choices: int) -> tuple[float, ...]:
    counts = Counter(places)
    return tuple(counts[place] / len(places) if places else math.nan for place in range(choices))


def divergence(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the Kullback-Leibler divergence of `two` from `one`, in nats.

    Parameters
    ----------
    one, two : sequence of float
        Distributions over the same places, each with the sum 1.

    Returns
    -------
    float
        At least 0; infinite where `two` is 0 and `one` is not.
    """
    terms = [p * math.log(p / q) if q else math.inf for p, q in zip(one, two, strict=True) if p]
    # Rounding must not make two equal distributions diverge by less than nothing.
    return max(0.0, math.fsum(terms)) if terms and not any(map(math.isnan, terms)) else math.nan


def longest(table: Table, name: str) -> Longest | None:
    """Return how often the longest choice is picked; None where no item counts."""
    picks, golds, kept = [], [], []
    why = Counter[str]()
    for item, asked in table.items.items():
        if not is_choice(asked) or not (found := table.of(name, item)):
            continue
        (answer,) = found
        single = sorted(answer.lengths)[-2:]
        if answer.gold is None or len(set(single)) < 2:
            why["no_longest"] += 1
        elif not answer.served:
            why["errored"] += 1
        elif answer.picked is None:
            why["no_choice"] += 1
        else:
            longest = answer.lengths.index(single[-1])
            picks.append(float(answer.picked == longest))
            golds.append(float(answer.gold == longest))
            kept.append(item)
    if not kept:
        return None
    left_out = (why[key] for key in ("no_longest", "errored", "no_choice"))
    return Longest(name, contrast(golds, picks, table.clusters_of(kept)), *left_out)


def flips(table: Table) -> Iterator[Flips]:
    """Yield how often the choice changes under each condition, `repeat` first."""
    names = [name for name in table.conditions if name not in (FULL, ABSENT)]
    names.sort(key=lambda name: name != REPEAT)
    floor: Mapping[str, float] = {}
    for name in names:
        asked = [item for item in table.items if table.of(name, item)]
        kept, left_out = table.counting([FULL, name], asked, is_choice)
        if not kept:
            continue
        changed = dict(zip(kept, (_changed(table, name, item) for item in kept), strict=True))
        if name == REPEAT:
            floor = changed
        both = [item for item in kept if item in floor] if name != REPEAT else []
        yield Flips(
            name,
            clustered_interval(list(changed.values()), table.clusters_of(kept)),
            contrast(
                [floor[item] for item in both],
                [changed[item] for item in both],
                table.clusters_of(both),
            )
            if both
            else None,
            left_out,
        )


def _changed(table: Table, name: str, item: str) -> float:
    """Return the share of an item's answers under a condition that choose otherwise than in full."""
    before = table.items[item].chosen
    # Among the orders may be that of full: what differs there is noise, not order.
    return fmean(answer.chosen != before for answer in table.of(name, item))
