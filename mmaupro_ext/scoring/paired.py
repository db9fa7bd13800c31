"""Is a difference real? Two systems on the same items, item by item.

Items that share a clip fall together, so that clips are drawn in the bootstrap, not items (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8). McNemar's exact test ("Note on the
sampling error of the difference between correlated proportions", Psychometrika 12, 1947) asks whether
one system wins more of the items on which the two differ; over several categories its p-values are
corrected after Holm ("A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979).

A bootstrap is too sure of few clips, and knows nothing where no item changed; `contrast` is for those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import t_quantile

DRAWS = 10_000
SEED = 20250818
POWER = 0.8


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
        Bounds of its interval; nan with fewer than two clusters.
    won, lost : int
        Items on which the second scores more, or less.
    agreement : float
        Share of items with the same score.
    p : float
        Of McNemar's exact test; nan where a score is neither 0 nor 1. 1 where the two never differ.
    p_corrected : float
        After Holm, over the differences that were corrected together (`corrected`).
    smallest : float
        The smallest difference that this many items show with a power of 80 % (two-sided, 5 %), by the
        spread seen; nan where there was none to see.
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
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Difference:
    """Compare two systems item by item.

    Parameters
    ----------
    first, second : sequence of float
        Scores of the same items in the same order, finite.
    clusters : sequence of int
        The cluster of each item (`intervals.clip_clusters`).
    confidence : float
        Of the interval.
    draws : int
        Bootstrap samples.
    seed : int
        The same numbers give the same interval.

    Returns
    -------
    Difference

    Raises
    ------
    ScoringError
        When the lengths differ, there are no items, or a score is not finite.

    Examples
    --------
    >>> found = difference([0, 1, 1, 0], [1, 1, 1, 0], [0, 1, 2, 3])
    >>> found.difference, found.won, found.lost, found.p
    (0.25, 1, 0, 1.0)
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not one.size or not one.shape == two.shape == np.shape(clusters):
        raise ScoringError(
            f"{one.size} and {two.size} scores with {len(clusters)} clusters cannot be compared: "
            "each item needs one of each"
        )
    if not np.isfinite(one).all() or not np.isfinite(two).all():
        raise ScoringError("unscored items cannot be compared: leave them out and say so")
    gain = two - one
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=gain).astype(np.float64)
    sizes = np.bincount(index).astype(np.float64)
    low, high = _bootstrap(sums, sizes, confidence, draws, seed)
    error = _standard_error(sums, sizes)
    quantiles = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(POWER)
    won, lost = int((gain > 0).sum()), int((gain < 0).sum())
    binary = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(two, (0.0, 1.0)).all())
    return Difference(
        items=one.size,
        clusters=sums.size,
        first=float(one.mean()),
        second=float(two.mean()),
        difference=float(gain.mean()),
        low=low,
        high=high,
        won=won,
        lost=lost,
        agreement=float((gain == 0).mean()),
        p=_mcnemar(won, lost) if binary else math.nan,
        smallest=quantiles * error if error > 0 else math.nan,
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
    confidence: float = 0.95,
) -> Contrast:
    """Return a paired difference and ratio with intervals that hold for few clips, too.

    Two items are added that differ once each way, as Bonett and Price do ("Adjusted Wald confidence
    interval for a difference of binomial proportions based on paired data", J. Educ. Behav. Stat. 37,
    2012), so that where no item changed the interval still has a width; the variance is that of sums within
    clusters, the quantile Student's with one degree of freedom less than there are clusters. The bounds of
    the ratio are Fieller's ("Some problems in interval estimation", JRSS B 16, 1954) from the same sums, so
    that they hold 1 exactly when those of the difference hold 0. `tools/interval_coverage.py` simulates how
    often both hold the truth.

    Parameters
    ----------
    first, second : sequence of float
        Scores of the same items in the same order, 0 to 1.
    clusters : sequence of int
        The cluster of each item (`intervals.clip_clusters`).
    confidence : float
        Of both intervals, each by itself.

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
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not one.size or not one.shape == two.shape == np.shape(clusters):
        raise ScoringError(
            f"{one.size} and {two.size} scores with {len(clusters)} clusters cannot be compared: "
            "each item needs one of each"
        )
    if not all(((scores >= 0) & (scores <= 1)).all() for scores in (one, two)):
        raise ScoringError("a contrast needs scores from 0 to 1")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(index.max()) + 1
    mean_one, mean_two = float(one.mean()), float(two.mean())
    ratio = mean_two / mean_one if mean_one else math.nan
    low = high = ratio_low = ratio_high = math.nan
    if count > 1:
        added = ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])
        ones, twos, sizes = (
            np.append(np.bincount(index, weights=weights), more)
            for weights, more in zip((one, two, None), added, strict=True)
        )
        quantile = t_quantile(0.5 + confidence / 2.0, count - 1)
        centre = float((twos - ones).sum() / sizes.sum())
        half = quantile * _standard_error(twos - ones, sizes)
        # What was seen is always within.
        low = max(-1.0, min(centre - half, mean_two - mean_one))
        high = min(1.0, max(centre + half, mean_two - mean_one))
        bounds = _fieller(ones, twos, sizes, quantile)
        if bounds is not None and mean_one:
            ratio_low, ratio_high = max(0.0, min(bounds[0], ratio)), max(bounds[1], ratio)
    return Contrast(
        items=one.size,
        clusters=count,
        first=mean_one,
        second=mean_two,
        difference=mean_two - mean_one,
        low=low,
        high=high,
        ratio=ratio,
        ratio_low=ratio_low,
        ratio_high=ratio_high,
    )


def difference_of_means(
    first: Sequence[float | None],
    second: Sequence[float | None],
    clusters: Sequence[int],
    drawn: float = 0.0,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Return the difference of two means over the same items, each over those that count in it.

    As `contrast`, whose difference it is where all items count in both: two items are added, and the errors
    of both means are summed within clusters, linearised as those of ratios.

    Parameters
    ----------
    first, second : sequence of float or None
        Scores of the same items in the same order, 0 to 1; None where an item does not count.
    clusters : sequence of int
        The cluster of each item.
    drawn : float
        As for `intervals.clustered_interval`, of the difference.
    confidence : float
        Of the interval.

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
        sums.append(np.append(np.bincount(index, weights=values), added))
        sizes.append(np.append(np.bincount(index, weights=counted), [1.0, 1.0]))
    one, two = (float(s[:count].sum() / n[:count].sum()) for s, n in zip(sums, sizes, strict=True))
    if count < 2:
        return two - one, math.nan, math.nan
    centres = [float(s.sum() / n.sum()) for s, n in zip(sums, sizes, strict=True)]
    residues = [
        (s - n * centre) / n.sum() for s, n, centre in zip(sums, sizes, centres, strict=True)
    ]
    gain = residues[1] - residues[0]
    error = math.sqrt(gain.size / (gain.size - 1) * float(gain @ gain) + drawn)
    half = t_quantile(0.5 + confidence / 2.0, count - 1) * error
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
    from statsmodels.stats.multitest import multipletests

    known = [entry.p for entry in found if not math.isnan(entry.p)]
    if not known:
        return list(found)
    values = iter(multipletests(known, method="holm")[1])
    return [
        entry if math.isnan(entry.p) else replace(entry, p_corrected=float(next(values)))
        for entry in found
    ]


def _bootstrap(
    sums: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    confidence: float,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    from scipy.stats import bootstrap

    if sums.size < 2:
        return math.nan, math.nan

    def mean(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64], axis: int = -1):
        return sums.sum(axis=axis) / sizes.sum(axis=axis)

    interval = bootstrap(
        (sums, sizes),
        mean,
        paired=True,
        vectorized=True,
        n_resamples=draws,
        batch=max(1, 4_000_000 // sums.size),  # 32 MB at a time
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _standard_error(sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> float:
    """Return the standard error of the mean over items, by the sums within clusters."""
    count = sums.size
    if count < 2:
        return math.nan
    residues = sums - sizes * (sums.sum() / sizes.sum())
    return math.sqrt(count / (count - 1) * float(residues @ residues)) / float(sizes.sum())


def _mcnemar(won: int, lost: int) -> float:
    from scipy.stats import binomtest

    return 1.0 if won + lost == 0 else float(binomtest(won, won + lost).pvalue)
