"""Means over categories.

The paper's overall score weights each category by its number of items; `OFFICIAL_COUNTS` are those
of the released dataset (they reproduce the Avg column of the paper's Table 3). `intervals` says how
sure a mean is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from mmaupro_ext.categories import CATEGORIES
from mmaupro_ext.scoring.errors import ScoringError

OFFICIAL_COUNTS: Mapping[str, int] = MappingProxyType(
    {category.value: category.expected_count for category in CATEGORIES.values()}
)
"""Items in each category of MMAU-Pro; 5,305 in all. Keys as in the dataset's `category` column."""


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

    Examples
    --------
    >>> overall({"sound": 50.0, "music": 80.0}, {"sound": 20, "music": 10})
    60.0
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

    Examples
    --------
    >>> macro_mean({"sound": 50.0, "music": 80.0})
    65.0
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
