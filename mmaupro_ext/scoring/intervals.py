"""How sure a mean is: one interval for shares and for graded scores, with few items and shared clips.

Items that share a clip are not independent, so they form a cluster, and the standard error is made of
the deviations summed within each cluster (Liang and Zeger, "Longitudinal data analysis using
generalized linear models", Biometrika 73, 1986). The bounds are those of Wilson's score interval
("Probable inference, the law of succession, and statistical inference", JASA 22, 1927) for scores
from 0 to 1, with two changes for few clusters:

* the number of items is the one at which independent items would have this standard error;
* Student's t, with the degrees of freedom of `cluster_freedom`, stands in place of the normal quantile, and
  one pseudo-cluster with the variance of a share is added, since a variance that was estimated from few
  clusters is often far too small. All right and all wrong have exact bounds.

`tools/interval_coverage.py` simulates how often the bounds hold the truth; docs/scoring.md has the figures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from mmaupro_ext.scoring.errors import ScoringError


@dataclass(frozen=True)
class Interval:
    """A mean of scores from 0 to 1, with its confidence interval.

    Attributes
    ----------
    mean : float
        0 to 1.
    low, high : float
        Bounds, 0 to 1; nan where `note` says why there are none.
    standard_error : float
        Before anything is done for few clusters; nan where unknown.
    items, clusters : int
        How many went in.
    note : str
        Why there are no bounds; "" where there are.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    items: int
    clusters: int
    note: str = ""


def clustered_interval(
    scores: Sequence[float],
    clusters: Sequence[Hashable],
    confidence: float = 0.95,
    drawn: float = 0.0,
) -> Interval:
    """Return the mean of item scores with an interval that allows for shared clips and few items.

    Parameters
    ----------
    scores : sequence of float
        One score an item, 0 to 1; booleans are fine.
    clusters : sequence of hashable
        The cluster of each item, for instance of `clip_clusters`.
    confidence : float
        Between 0 and 1.
    drawn : float
        What is to be added to the variance of the mean: that of random draws whose expected values the scores
        are.

    Returns
    -------
    Interval
        Without bounds when there is only one cluster.

    Raises
    ------
    ScoringError
        When the lengths differ, there are no items, or a score is not from 0 to 1.
    """
    return stratified_interval([(scores, clusters)], confidence, drawn)


def stratified_interval(
    groups: Sequence[tuple[Sequence[float], Sequence[Hashable]]],
    confidence: float = 0.95,
    drawn: float = 0.0,
) -> Interval:
    """Return the mean of the groups' means, each with the same weight, with its interval.

    Parameters
    ----------
    groups : sequence of (scores, clusters)
        As for `clustered_interval`. Clusters count within their group: that two groups share a clip
        is left out of account.
    confidence, drawn : float
        As for `clustered_interval`.

    Returns
    -------
    Interval
        Without bounds when a group has only one cluster, since nothing is then known of its spread.

    Raises
    ------
    ScoringError
        As for `clustered_interval`.
    """
    if not 0.0 < confidence < 1.0:
        raise ScoringError(f"confidence must lie between 0 and 1, not {confidence!r}")
    if not groups:
        raise ScoringError("an interval needs at least one item, and finite scores only")
    strata = [_stratum(scores, clusters) for scores, clusters in groups]
    items, counted = sum(s.items for s in strata), sum(s.clusters for s in strata)
    mean = math.fsum(s.mean for s in strata) / len(strata)
    lone = [s for s in strata if s.clusters == 1]
    if lone:
        what = "item" if lone[0].items == 1 else "cluster"
        where = "" if len(strata) == 1 else " in a category"
        note = f"only one {what}{where}: its spread is unknown"
        return Interval(mean, math.nan, math.nan, math.nan, items, counted, note)
    error = math.sqrt(math.fsum(s.variance for s in strata) / len(strata) ** 2 + drawn)
    widened = math.fsum(s.widened for s in strata) / len(strata) ** 2 + drawn
    probability = 0.5 + confidence / 2.0
    if mean in (0.0, 1.0):
        # A system with mean p is all right on n independent clusters with a chance of at most p**n.
        low = (1.0 - probability) ** (1.0 / counted)
        low, high = (low, 1.0) if mean else (0.0, 1.0 - low)
        return Interval(mean, low, high, error, items, counted)
    # Where no spread was seen, none was estimated: each cluster counts as one item.
    effective = mean * (1.0 - mean) / widened if error else float(counted)
    if all(s.binary for s in strata):
        effective = min(effective, items)
    low, high = score_interval(mean, effective, t_quantile(probability, _freedom(strata)))
    return Interval(mean, low, high, error, items, counted)


@dataclass(frozen=True)
class _Stratum:
    """Mean of a group, the variance of that mean, and the same with a pseudo-cluster."""

    mean: float
    variance: float
    widened: float
    items: int
    clusters: int
    freedom: int
    binary: bool


def _stratum(scores: Sequence[float], clusters: Sequence[Hashable]) -> _Stratum:
    if len(scores) != len(clusters):
        raise ScoringError(f"{len(scores)} scores but {len(clusters)} clusters")
    values = [float(value) for value in scores]
    if not values or not all(map(math.isfinite, values)):
        raise ScoringError("an interval needs at least one item, and finite scores only")
    if min(values) < 0.0 or max(values) > 1.0:
        raise ScoringError(
            f"scores from {min(values):g} to {max(values):g} have no interval: they must lie "
            "between 0 and 1"
        )
    items = len(values)
    mean = math.fsum(values) / items
    deviations: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        deviations[cluster] = deviations.get(cluster, 0.0) + value - mean
    count = len(deviations)
    freedom, binary = cluster_freedom(Counter(clusters).values()), set(values) <= {0.0, 1.0}
    if count == 1:
        return _Stratum(mean, math.nan, math.nan, items, count, freedom, binary)
    spread = math.fsum(total * total for total in deviations.values())
    variance = count / (count - 1) * spread / (items * items)
    # Its mean is drawn a little towards one half, so that "all right" has a variance as well.
    drawn = (mean * count + 1.0) / (count + 2.0)
    widened = ((count - 1) * variance + drawn * (1.0 - drawn) / count) / count
    return _Stratum(mean, variance, widened, items, count, freedom, binary)


def _freedom(strata: Sequence[_Stratum]) -> int:
    """Return the degrees of freedom of the summed variances, after Satterthwaite (Biometrics 2, 1946)."""
    total = math.fsum(s.widened for s in strata)
    parts = math.fsum(s.widened * s.widened / s.freedom for s in strata)
    return max(1, math.floor(total * total / parts + 1e-9))  # whole in the case of one stratum


def cluster_freedom(sizes: Iterable[float]) -> int:
    """Return the degrees of freedom of a variance that was estimated from sums within clusters.

    They are Satterthwaite's for items that are independent: with clusters of one size one less than there are
    clusters, and fewer where a few clusters have most of the items.

    Parameters
    ----------
    sizes : iterable of float
        Items of each cluster, or their shares.

    Returns
    -------
    int
        At least 1; 0 where there are fewer than two clusters.

    Examples
    --------
    >>> cluster_freedom([1] * 10), cluster_freedom([40] + [1] * 9)
    (9, 1)
    """
    known = [float(size) for size in sizes]
    if len(known) < 2:
        return 0
    alike = math.fsum(known) ** 2 / math.fsum(size * size for size in known)
    # Rounding must not take one from as many clusters of one size.
    return max(1, math.floor(alike - 1.0 + 1e-9))


def score_interval(mean: float, items: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score interval.

    Parameters
    ----------
    mean : float
        The share, 0 to 1.
    items : float
        How many independent items it rests on, above 0; an effective number need not be whole.
    quantile : float
        Of the normal or Student's distribution, such as 1.96.

    Returns
    -------
    low, high : float
        Bounds within 0 to 1.

    Raises
    ------
    ScoringError
        When an argument is out of range.
    """
    if not 0.0 <= mean <= 1.0 or items <= 0:
        raise ScoringError(f"no score interval for a share of {mean!r} over {items!r} items")
    square = quantile * quantile
    shrink = 1.0 + square / items
    centre = (mean + square / (2.0 * items)) / shrink
    half = quantile / shrink * math.sqrt(mean * (1.0 - mean) / items + square / (4.0 * items**2))
    # Rounding must not push a bound past the share itself.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def t_quantile(probability: float, freedom: int) -> float:
    """Return a quantile of Student's t distribution.

    Parameters
    ----------
    probability : float
        Above one half, below 1.
    freedom : int
        Degrees of freedom, at least 1.
    """
    normal = NormalDist().inv_cdf(probability)
    if freedom > 200:
        # The first terms of the expansion in 1 / freedom (Abramowitz and Stegun, 26.7.5).
        cube = normal**3
        first = (cube + normal) / 4.0
        second = (5.0 * normal**5 + 16.0 * cube + 3.0 * normal) / 96.0
        return normal + first / freedom + second / freedom**2
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        high *= 2.0
    while high - low > 1e-13 * high:
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        low, high = (
            (middle, high) if t_probability(middle, freedom) < probability else (low, middle)
        )
    return (low + high) / 2.0


def t_probability(value: float, freedom: int) -> float:
    """Return the distribution function of Student's t (Abramowitz and Stegun, 26.7.3-4).

    Parameters
    ----------
    value : float
        Where.
    freedom : int
        Degrees of freedom, at least 1.
    """
    angle = math.atan(value / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2 == 1
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for step in range(3 if odd else 2, freedom + 1, 2):
        total += term
        term *= square * (step - 1) / step
    if odd:
        return 0.5 + (angle + math.sin(angle) * total) / math.pi
    return 0.5 + math.sin(angle) * total / 2.0


def clip_clusters(clips: Sequence[Sequence[str | None]]) -> list[int]:
    """Group items that share an audio clip, directly or through other items.

    Parameters
    ----------
    clips : sequence of sequences of str or None
        For each item, the sha256 of each of its clips. None (unknown) ties nothing together.

    Returns
    -------
    list of int
        A cluster number for each item; items with the same number belong together.
    """
    parent = list(range(len(clips)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    first_with: dict[str, int] = {}
    for item, names in enumerate(clips):
        for name in names:
            if name is not None:
                parent[root(item)] = root(first_with.setdefault(name, item))
    return [root(item) for item in range(len(clips))]
