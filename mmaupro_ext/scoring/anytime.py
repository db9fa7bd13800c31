"""How sure a part of the items makes the score of all: an interval that holds however often one looks.

A run that stops when its interval is narrow enough stops when chance has made it so; the usual interval is
then too narrow. A *confidence sequence* holds the truth at all times at once, with one probability, so that
it may decide when to stop.

What is bounded is the mean score that this run would have over all items: a finite population, drawn from
without replacement. The scores are fixed, chance is in the order of drawing alone; nothing is assumed of
how scores are distributed, or whether items share clips.

Items are drawn category by category in fixed numbers (`quotas`), in a random order within each
(`place`). The next item of a category is then any of those left, with mean m. For a score x from 0 to 1, a
guess g and a bet 0 <= b < 1, all but x known before the draw,

    exp(b (x - m) - (-log(1 - b) - b) (x - g)^2)

has at most the expectation 1 (Fan, Grama and Liu, "Exponential inequalities for martingales with
applications", Electronic Journal of Probability 20, 2015, used so by Howard, Ramdas, McAuliffe and Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49, 2021, theorem 4,
and for draws without replacement by Waudby-Smith and Ramdas, "Confidence sequences for sampling without
replacement", NeurIPS 2020). The product over all draws stays below 2 / (1 - confidence) with Ville's
inequality, and so does that with the sign of x - m turned round: the *empirical-Bernstein* sequence.

m is what is left of a category's sum, divided by the number of items left. So the sequence bounds a weighted
sum of what is left in the categories, and the bets are chosen so that the weights are alike: then that is
the sum that is asked for. Where they differ, for want of an item to draw, the worst case counts (`_extreme`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import sha256_of_text

METHOD = (
    "stratified empirical-Bernstein confidence sequence for draws without replacement (Howard et al. 2021, "
    "theorem 4; Waudby-Smith and Ramdas 2020)"
)

ROUNDS = 20
"""Into how many parts the items are divided; the interval is looked at after each."""

# The price of a bet, -log(1 - b) - b, rises fast beyond it; late draws, of few that are left, ask for more.
_LARGEST_BET = 0.5
# Before any score is known, this many are taken to have had the largest variance that there can be.
_PRIOR = 4.0


@dataclass(frozen=True)
class Bounds:
    """What is known of the mean over all items after a round.

    Attributes
    ----------
    drawn : int
        Items so far.
    mean : float
        Estimate, 0 to 1: the means of the categories, weighted by their sizes; half of 0 and 1 stands for a
        category without an item.
    low, high : float
        Bounds, 0 to 1.
    """

    drawn: int
    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance of the bounds."""
        return (self.high - self.low) / 2.0


def place(name: str, seed: object) -> str:
    """Return what items of a category are sorted by: their order of drawing, as good as random.

    Parameters
    ----------
    name : str
        The item's id.
    seed : object
        Its text decides, with the id; scores must not.

    Returns
    -------
    str
        A SHA-256 in hexadecimal digits, the same on every machine.

    Examples
    --------
    >>> sorted(["a", "b", "c"], key=lambda name: place(name, 1))
    ['b', 'c', 'a']
    """
    return sha256_of_text(f"{seed}\n{name}")


def quotas(size: int) -> list[int]:
    """Return how many items of a category are drawn by the end of each round.

    Parameters
    ----------
    size : int
        How many the category has, at least one.

    Returns
    -------
    list of int
        `ROUNDS` numbers: the category's share of each round to half an item, but one from the first, so that
        no category is left out.

    Examples
    --------
    >>> quotas(7)[:8]
    [1, 1, 1, 1, 2, 2, 2, 3]
    """
    return [
        min(size, max(1, (2 * size * part + ROUNDS) // (2 * ROUNDS)))
        for part in range(1, ROUNDS + 1)
    ]


def confidence_sequence(
    sizes: Mapping[str, int],
    scores: Mapping[str, Sequence[float]],
    half_width: float,
    confidence: float = 0.95,
) -> list[Bounds]:
    """Return the bounds of the mean over all items after each round that is complete.

    Parameters
    ----------
    sizes : mapping of str to int
        Category -> how many items it has.
    scores : mapping of str to sequence of float
        Category -> scores from 0 to 1 of its items, in the order of `place`; as many as were drawn. What
        goes beyond the last round that all categories have completed is left out.
    half_width : float
        At which the bets aim, above 0: where the sequence is narrowest for its number of items. It holds
        whatever this is, provided that it was chosen beforehand.
    confidence : float
        Between 0 and 1: with this probability, *all* bounds hold the mean.

    Returns
    -------
    list of Bounds
        One a round; after the last, both bounds are the mean itself.

    Raises
    ------
    ScoringError
        When an argument is out of range.

    Examples
    --------
    >>> half = confidence_sequence({"a": 4000}, {"a": [1.0, 0.0] * 1000}, 0.05)[-1]
    >>> half.drawn, half.mean, round(half.low, 3), round(half.high, 3)
    (2000, 0.5, 0.469, 0.531)
    """
    if not 0.0 < confidence < 1.0:
        raise ScoringError(f"confidence must lie between 0 and 1, not {confidence!r}")
    if not half_width > 0.0 or not sizes or min(sizes.values()) < 1:
        raise ScoringError("a confidence sequence needs a half width above 0, and items to draw")
    plans = {name: quotas(size) for name, size in sizes.items()}
    strata = {name: _Stratum(size) for name, size in sizes.items()}
    threshold = math.log(2.0 / (1.0 - confidence))
    weight = price = 0.0
    found = []
    for part in range(ROUNDS):
        if any(len(scores.get(name, ())) < plan[part] for name, plan in plans.items()):
            break
        # With bets of h / (variance + h) the fewest draws bring the bounds to h.
        variance = (_PRIOR / 4.0 + sum(s.squares for s in strata.values())) / (
            _PRIOR + sum(s.drawn for s in strata.values())
        )
        if part < ROUNDS - 1:
            weight += half_width / (variance + half_width) * (_odds(part + 1) - _odds(part))
        for name, stratum in strata.items():
            for position in range(stratum.drawn, plans[name][part]):
                price += stratum.draw(
                    float(scores[name][position]), weight, plans[name][part] - position
                )
        found.append(_bounds(strata.values(), threshold + price))
    return found


def _odds(part: int) -> float:
    """Return how many items are drawn for each that is left after a round."""
    return part / (ROUNDS - part)


class _Stratum:
    """A category while it is drawn from.

    `weight` is that of what is left of its sum in the bounded one, `won` what the draws add to that sum
    whatever is left.
    """

    def __init__(self, size: int) -> None:
        self.size, self.drawn = size, 0
        self.sum = self.squares = self.weight = self.won = 0.0

    @property
    def left(self) -> int:
        return self.size - self.drawn

    def draw(self, score: float, weight: float, remaining: int) -> float:
        """Draw an item so that the weight comes near another with `remaining` draws; return the price."""
        if not 0.0 <= score <= 1.0:  # nan as well
            raise ScoringError(f"a score of {score!r} has no bounds: it must lie between 0 and 1")
        bet = min(_LARGEST_BET, max(0.0, self.left * (weight - self.weight) / remaining))
        guess = (0.5 + self.sum) / (1.0 + self.drawn)
        self.weight += bet / self.left
        # m is this score and what is left after it, divided by `left`: the score loses what weighs there.
        self.won += score * (bet - self.weight)
        self.drawn += 1
        self.sum += score
        self.squares += (score - guess) ** 2
        return (-math.log1p(-bet) - bet) * (score - guess) ** 2


def _bounds(strata: Iterable[_Stratum], allowed: float) -> Bounds:
    """Return the bounds where the weighted sum of what is left is known to `allowed`."""
    strata = list(strata)
    size, seen = sum(s.size for s in strata), math.fsum(s.sum for s in strata)
    centre = math.fsum(s.won for s in strata)
    most = _extreme(strata, centre + allowed, largest=True)
    least = _extreme(strata, centre - allowed, largest=False)
    mean = math.fsum(s.size * (s.sum / s.drawn if s.drawn else 0.5) for s in strata) / size
    return Bounds(
        sum(s.drawn for s in strata), mean, (seen + least) / size, min(1.0, (seen + most) / size)
    )


def _extreme(strata: Sequence[_Stratum], bound: float, largest: bool) -> float:
    """Return the largest sum of what is left whose weighted sum is at most `bound`; the least, at least.

    A fractional knapsack: what weighs least comes first for the largest sum, what weighs most for the least.
    """
    total = 0.0
    for stratum in sorted(strata, key=lambda s: s.weight, reverse=not largest):
        if stratum.weight == 0.0:
            total += stratum.left if largest else 0.0
            continue
        part = min(float(stratum.left), max(0.0, bound / stratum.weight))
        total += part
        bound -= part * stratum.weight
    return total
