"""Means over categories and intervals over items.

The paper's overall score weights each category by its number of items; `OFFICIAL_COUNTS` are those
of the released dataset (they reproduce the Avg column of the paper's Table 3).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

from mmaupro_ext.scoring.errors import ScoringError

OFFICIAL_COUNTS: Mapping[str, int] = MappingProxyType(
    {
        "sound": 1048,
        "music": 1418,
        "speech": 891,
        "sound_music": 50,
        "music_speech": 46,
        "sound_speech": 88,
        "sound_music_speech": 7,
        "spatial_audio": 325,
        "voice_chat": 290,
        "multi": 430,
        "open": 625,
        "instruction following": 87,
    }
)
"""Items in each category of MMAU-Pro; 5,305 in all. Keys as in the dataset's `category` column."""


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes
    ----------
    mean : float
        In the unit of the scores.
    low, high : float
        Bounds of the interval, same unit; nan where one cluster or item leaves them unknown.
    standard_error : float
        Same unit; nan where unknown.
    items, clusters : int
        How many went in.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    items: int
    clusters: int


def overall(scores: Mapping[str, float], counts: Mapping[str, int] | None = None) -> float:
    """Average category scores, each weighted by its number of items.

    Parameters
    ----------
    scores : mapping of str to float
        Score of each category that takes part; any unit, the same for all.
    counts : mapping of str to int, optional
        Items in each category; `OFFICIAL_COUNTS` when left out. Categories that are in `counts`
        only do not take part.

    Returns
    -------
    float
        In the unit of the scores.

    Raises
    ------
    ScoringError
        When there are no scores, a category has no count, or a score is missing or not finite.
    """
    weights = OFFICIAL_COUNTS if counts is None else counts
    _require_scores(scores)
    unknown = sorted(set(scores) - set(weights))
    if unknown:
        raise ScoringError(
            f"no item count for {', '.join(map(repr, unknown))}. "
            f"Known categories: {', '.join(sorted(weights))}"
        )
    if any(weights[category] < 0 for category in scores):
        raise ScoringError("item counts must not be negative")
    total = sum(weights[category] for category in scores)
    if total == 0:
        raise ScoringError("the categories that were scored hold no items")
    return math.fsum(scores[category] * weights[category] for category in scores) / total


def macro_mean(scores: Mapping[str, float]) -> float:
    """Average category scores, each with the same weight.

    Parameters
    ----------
    scores : mapping of str to float
        Score of each category.

    Returns
    -------
    float
        In the unit of the scores.

    Raises
    ------
    ScoringError
        When there are no scores, or a score is missing or not finite.
    """
    _require_scores(scores)
    return math.fsum(scores.values()) / len(scores)


def _require_scores(scores: Mapping[str, float]) -> None:
    if not scores:
        raise ScoringError("there are no category scores to average")
    for category, value in scores.items():
        if value is None or not math.isfinite(value):
            raise ScoringError(
                f"category {category!r} has no score ({value!r}). Leave it out to average the "
                "others"
            )


def wilson_interval(mean: float, items: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Parameters
    ----------
    mean : float
        The share, 0 to 1.
    items : float
        How many independent items it rests on, above 0; an effective number need not be whole.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    low, high : float
        Bounds within 0 to 1.

    Raises
    ------
    ScoringError
        When an argument is out of range.

    Notes
    -----
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    if not 0.0 <= mean <= 1.0 or items <= 0:
        raise ScoringError(f"no Wilson interval for a share of {mean!r} over {items!r} items")
    z = _quantile(confidence)
    shrink = 1.0 + z * z / items
    centre = (mean + z * z / (2.0 * items)) / shrink
    half = z / shrink * math.sqrt(mean * (1.0 - mean) / items + z * z / (4.0 * items * items))
    # Rounding must not push a bound past the share itself.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))


def _quantile(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ScoringError(f"confidence must lie between 0 and 1, not {confidence!r}")
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def clustered_interval(
    scores: Sequence[float], clusters: Sequence[Hashable], confidence: float = 0.95
) -> Interval:
    """Return the mean of item scores with an interval that allows for shared audio clips.

    Questions about the same clip are not independent. The standard error sums the deviations
    within each cluster before squaring, with the factor G / (G - 1) for G clusters. For scores
    that are all 0 or 1 the bounds are Wilson's at the effective number of items, otherwise the
    normal ones.

    Parameters
    ----------
    scores : sequence of float
        One score an item; booleans are fine.
    clusters : sequence of hashable
        The cluster of each item, for instance its clip's sha256 or `clip_clusters`.
    confidence : float
        Between 0 and 1.

    Returns
    -------
    Interval
        With nan bounds when there is only one cluster.

    Raises
    ------
    ScoringError
        When the lengths differ, there are no items, or a score is not finite.

    Notes
    -----
    Liang and Zeger, "Longitudinal data analysis using generalized linear models", Biometrika 73,
    1986, for the sum within clusters.
    """
    if len(scores) != len(clusters):
        raise ScoringError(f"{len(scores)} scores but {len(clusters)} clusters")
    values = [float(value) for value in scores]
    if not values or not all(map(math.isfinite, values)):
        raise ScoringError("an interval needs at least one item, and finite scores only")
    z = _quantile(confidence)
    items = len(values)
    mean = math.fsum(values) / items
    deviations: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        deviations[cluster] = deviations.get(cluster, 0.0) + value - mean
    groups = len(deviations)
    if groups == 1:
        return Interval(mean, math.nan, math.nan, math.nan, items, groups)
    spread = math.fsum(total * total for total in deviations.values())
    variance = groups / (groups - 1) * spread / (items * items)
    error = math.sqrt(variance)
    if set(values) <= {0.0, 1.0}:
        binomial = mean * (1.0 - mean)
        # All right or all wrong says nothing of the clustering: each clip then counts once.
        effective = binomial / variance if binomial and variance else float(groups)
        low, high = wilson_interval(mean, min(effective, items), confidence)
    else:
        low, high = mean - z * error, mean + z * error
    return Interval(mean, low, high, error, items, groups)


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
