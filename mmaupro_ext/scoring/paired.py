"""Is a difference real? Two systems on the same items, item by item.

Items that share a clip fall together, so that clips are drawn in the bootstrap, not items (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 8). McNemar's exact test ("Note on the
sampling error of the difference between correlated proportions", Psychometrika 12, 1947) asks whether
one system wins more of the items on which the two differ; over several categories its p-values are
corrected after Holm ("A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mmaupro_ext.scoring.errors import ScoringError

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
