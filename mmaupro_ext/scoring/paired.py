"""Is a difference real? Two systems on the same items, item by item: one rule for every pair.

The interval is Bonett and Price's ("Adjusted Wald confidence interval for a difference of binomial
proportions based on paired data", J. Educ. Behav. Stat. 37, 2012): two items are added that differ once each
way, so that there is a width where no item changed. Three changes make it one for items that share clips:

* the variance is that of sums within clips (Liang and Zeger, Biometrika 73, 1986);
* each added item weighs the square root of how many items a clip has on average, the geometric mean of an
  item and a clip: changes that are rare come clip by clip;
* the quantile is Student's, with the degrees of freedom of `intervals.cluster_freedom`: a clip that has
  most of the items makes the others count for little.

p is that of the same error and the same distribution: it is below 5 % exactly where the 95 % interval leaves
0 out. Over several categories it is corrected after Holm ("A simple sequentially rejective multiple test
procedure", Scand. J. Stat. 6, 1979). `tools/interval_coverage.py` simulates how often the intervals hold the
truth, and how often McNemar's test, which takes the questions about a clip for independent, is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import cluster_freedom, t_probability, t_quantile

CONFIDENCE, POWER = 0.95, 0.8


@dataclass(frozen=True)
class Difference:
    """What two systems score on the same items, second minus first.

    Attributes
    ----------
    items, clusters : int
        Items, and groups of items that share a clip.
    first, second : float
        Mean scores, 0 to 1.
    difference : float
        `second` - `first`.
    low, high : float
        Bounds of its 95 % interval; nan with fewer than two clusters.
    won, lost : int
        Items on which the second scores more, or less.
    agreement : float
        Share of items with the same score.
    p : float
        How likely so large a difference is where there is none; nan with fewer than two clusters.
    p_corrected : float
        After Holm, over the differences that were corrected together (`corrected`).
    smallest : float
        The smallest difference that this many items show with a power of 80 %, by the spread seen; nan with
        fewer than two clusters.
    """

    items: int
    clusters: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    won: int
    lost: int
    agreement: float
    p: float
    smallest: float
    p_corrected: float = math.nan


def difference(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[int],
) -> Difference:
    """Compare two systems item by item.

    Parameters
    ----------
    first, second : sequence of float
        Scores of the same items in the same order, 0 to 1.
    clusters : sequence of int
        The cluster of each item (`intervals.clip_clusters`).

    Returns
    -------
    Difference

    Raises
    ------
    ScoringError
        When the lengths differ, there are no items, or a score is not from 0 to 1.

    Examples
    --------
    >>> found = difference([0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 2, 3])
    >>> found.difference, found.won, found.lost, round(found.p, 2)
    (0.25, 1, 0, 0.63)
    """
    pair = _Pair.of(first, second, clusters)
    gain = pair.second - pair.first
    low, high = pair.bounds
    return Difference(
        items=gain.size,
        clusters=pair.clusters,
        first=float(pair.first.mean()),
        second=float(pair.second.mean()),
        difference=pair.difference,
        low=low,
        high=high,
        won=int((gain > 0).sum()),
        lost=int((gain < 0).sum()),
        agreement=float((gain == 0).mean()),
        p=pair.p,
        smallest=pair.smallest,
    )


@dataclass(frozen=True)
class Contrast:
    """Scores of the same items twice: second minus first, and second over first.

    Attributes
    ----------
    items, clusters : int
        Items, and groups of items that share a clip.
    first, second : float
        Mean scores, 0 to 1.
    difference : float
        `second` - `first`, with bounds `low` and `high`; nan with fewer than two clusters.
    ratio : float
        `second` / `first`, with bounds `ratio_low` and `ratio_high`; nan where `first` is 0, bounds nan
        where it cannot be told from 0.
    """

    items: int
    clusters: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


def contrast(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[int],
) -> Contrast:
    """Return a paired difference, as `difference` has it, and the ratio, with their intervals.

    The bounds of the ratio are Fieller's ("Some problems in interval estimation", JRSS B 16, 1954) from the
    same sums, so that they hold 1 exactly when those of the difference hold 0.

    Parameters
    ----------
    first, second : sequence of float
        Scores of the same items in the same order, 0 to 1.
    clusters : sequence of int
        The cluster of each item (`intervals.clip_clusters`).

    Returns
    -------
    Contrast

    Raises
    ------
    ScoringError
        When the lengths differ, there are no items, or a score is not from 0 to 1.

    Examples
    --------
    >>> found = contrast([1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 2, 3])
    >>> found.difference, round(found.ratio, 3)
    (-0.5, 0.333)
    """
    pair = _Pair.of(first, second, clusters)
    mean_one, mean_two = float(pair.first.mean()), float(pair.second.mean())
    ratio = mean_two / mean_one if mean_one else math.nan
    ratio_low = ratio_high = math.nan
    low, high = pair.bounds
    if pair.freedom and mean_one:
        bounds = _fieller(pair.ones, pair.twos, pair.sizes, _quantile(pair.freedom))
        if bounds is not None:  # what was seen is always within
            ratio_low, ratio_high = max(0.0, min(bounds[0], ratio)), max(bounds[1], ratio)
    return Contrast(
        items=pair.first.size,
        clusters=pair.clusters,
        first=mean_one,
        second=mean_two,
        difference=pair.difference,
        low=low,
        high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


@dataclass(frozen=True)
class _Pair:
    """Two scores an item, with sums within clusters that have the two added items."""

    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]
    clusters: int
    ones: npt.NDArray[np.float64]
    twos: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    freedom: int

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float], clusters: Sequence[int]) -> _Pair:
        one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        if not one.size or not one.shape == two.shape == np.shape(clusters):
            raise ScoringError(
                f"{one.size} and {two.size} scores with {len(clusters)} clusters cannot be compared: "
                "each item needs one of each"
            )
        if not all(((scores >= 0) & (scores <= 1)).all() for scores in (one, two)):
            raise ScoringError(
                "a difference needs scores from 0 to 1: leave unscored items out, and say so"
            )
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        sizes = np.bincount(index).astype(np.float64)
        weight = _weight(sizes)
        return cls(
            one,
            two,
            sizes.size,
            np.append(np.bincount(index, weights=one), [weight, 0.0]),
            np.append(np.bincount(index, weights=two), [0.0, weight]),
            np.append(sizes, [weight, weight]),
            cluster_freedom(sizes),
        )

    @property
    def difference(self) -> float:
        return float(self.second.mean() - self.first.mean())

    @property
    def centre(self) -> float:
        return float((self.twos - self.ones).sum() / self.sizes.sum())

    @property
    def error(self) -> float:
        """The standard error of the mean over items, by the sums within clusters."""
        count, gain = self.sizes.size, self.twos - self.ones
        residues = gain - self.sizes * self.centre
        return math.sqrt(count / (count - 1) * float(residues @ residues)) / float(self.sizes.sum())

    @property
    def bounds(self) -> tuple[float, float]:
        if not self.freedom:
            return math.nan, math.nan
        half = _quantile(self.freedom) * self.error
        # What was seen is always within.
        low = max(-1.0, min(self.centre - half, self.difference))
        return low, min(1.0, max(self.centre + half, self.difference))

    @property
    def p(self) -> float:
        if not self.freedom:
            return math.nan
        return 2.0 * (1.0 - t_probability(abs(self.centre) / self.error, self.freedom))

    @property
    def smallest(self) -> float:
        if not self.freedom:
            return math.nan
        # The two added items draw what was seen towards 0.
        drawn = float(self.sizes.sum()) / self.first.size
        return (_quantile(self.freedom) + t_quantile(POWER, self.freedom)) * self.error * drawn


def _quantile(freedom: int) -> float:
    return t_quantile(0.5 + CONFIDENCE / 2.0, freedom)


def _weight(sizes: npt.NDArray[np.float64]) -> float:
    """Return what each of the two added items weighs among clusters of these sizes."""
    return math.sqrt(float(sizes[sizes > 0].mean()))


def difference_of_means(
    first: Sequence[float | None],
    second: Sequence[float | None],
    clusters: Sequence[int],
    drawn: float = 0.0,
) -> tuple[float, float, float]:
    """Return the difference of two means over the same items, each over those that count in it.

    As `difference`, which it is where all items count in both: the errors of both means are summed within
    clusters, linearised as those of ratios.

    Parameters
    ----------
    first, second : sequence of float or None
        Scores of the same items in the same order, 0 to 1; None where an item does not count.
    clusters : sequence of int
        The cluster of each item.
    drawn : float
        As for `intervals.clustered_interval`, of the difference.

    Returns
    -------
    difference, low, high : float
        Second minus first; nan bounds with fewer than two clusters.

    Raises
    ------
    ScoringError
        When the lengths differ, or no item counts in one of them.

    Examples
    --------
    >>> difference_of_means([1.0, 0.0, None], [1.0, 1.0, 0.0], [0, 0, 0])[0]
    0.16666666666666663
    """
    if not len(first) == len(second) == len(clusters):
        raise ScoringError(f"{len(first)} and {len(second)} scores of {len(clusters)} items")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(index.max(initial=-1)) + 1
    sums, sizes = [], []
    for scores, added in ((first, [1.0, 0.0]), (second, [0.0, 1.0])):
        values = np.array([0.0 if score is None else score for score in scores])
        counted = np.array([score is not None for score in scores], dtype=np.float64)
        if not counted.any():
            raise ScoringError("no item counts in one of the two means: there is no difference")
        counts = np.bincount(index, weights=counted).astype(np.float64)
        weight = _weight(counts)
        sums.append(np.append(np.bincount(index, weights=values), np.multiply(weight, added)))
        sizes.append(np.append(counts, [weight, weight]))
    one, two = (float(s[:count].sum() / n[:count].sum()) for s, n in zip(sums, sizes, strict=True))
    shares = np.sum([n[:count] / n[:count].sum() for n in sizes], axis=0)
    if not (freedom := cluster_freedom(shares[shares > 0])):
        return two - one, math.nan, math.nan
    centres = [float(s.sum() / n.sum()) for s, n in zip(sums, sizes, strict=True)]
    residues = [
        (s - n * centre) / n.sum() for s, n, centre in zip(sums, sizes, centres, strict=True)
    ]
    gain = residues[1] - residues[0]
    error = math.sqrt(gain.size / (gain.size - 1) * float(gain @ gain) + drawn)
    half = _quantile(freedom) * error
    centre = centres[1] - centres[0]
    low, high = min(centre - half, two - one), max(centre + half, two - one)
    return two - one, max(-1.0, low), min(1.0, high)


def _fieller(
    ones: npt.NDArray[np.float64],
    twos: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    quantile: float,
) -> tuple[float, float] | None:
    """Return between which ratios r the sum of `twos` - r `ones` is within `quantile` errors of 0, if any."""
    total, count = float(sizes.sum()), sizes.size
    top, base = float(twos.sum()), float(ones.sum())
    residues = np.stack([ones - sizes * (base / total), twos - sizes * (top / total)])
    covariance = quantile**2 * count / (count - 1) * (residues @ residues.T)
    square = base * base - covariance[0, 0]
    if square <= 0.0:  # what is divided by may be 0
        return None
    middle = top * base - covariance[0, 1]
    root = math.sqrt(max(0.0, middle**2 - square * (top * top - covariance[1, 1])))
    return float((middle - root) / square), float((middle + root) / square)


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """Return differences with their p-values corrected together, after Holm; nan stays nan."""
    ranked = sorted(
        (place for place, entry in enumerate(found) if not math.isnan(entry.p)),
        key=lambda place: found[place].p,
    )
    least, values = 0.0, dict.fromkeys(range(len(found)), math.nan)
    for rank, place in enumerate(ranked):
        # One that would be rejected only after another has at least the p-value of that one.
        least = values[place] = max(least, min(1.0, (len(ranked) - rank) * found[place].p))
    return [replace(entry, p_corrected=values[place]) for place, entry in enumerate(found)]
