"""Intervals, checked against scipy, against exact bounds, and by simulation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import (
    clip_clusters,
    clustered_interval,
    score_interval,
    stratified_interval,
    t_quantile,
)

ROOT = Path(__file__).parents[1]
Z = 1.959963984540054  # normal quantile of 0.975


@pytest.mark.parametrize(("right", "items"), [(0, 7), (7, 7), (3, 10), (40, 87), (2000, 5305)])
def test_the_score_interval_with_a_normal_quantile_is_wilsons(right, items):
    from scipy import stats

    expected = stats.binomtest(right, items).proportion_ci(0.95, method="wilson")
    # Two orders of the same few operations: some units in the last place.
    assert score_interval(right / items, items, Z) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 99, 200, 201, 1000, 100_000])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.995])
def test_the_t_quantile_is_scipys(probability, freedom):
    from scipy import stats

    # Below 201 the sum is exact; above, the first term left out is 3e-7 at 201 and falls with the cube.
    tolerance = 1e-11 if freedom <= 200 else 1e-6
    expected = stats.t.ppf(probability, freedom)
    assert t_quantile(probability, freedom) == pytest.approx(expected, rel=tolerance)


def by_definition(groups):
    """Return the bounds that the module defines, by numpy, scipy and the roots of a polynomial."""
    from scipy import stats

    mean, variances, freedoms = 0.0, [], []
    for scores, clusters in groups:
        scores = np.asarray(scores, dtype=np.float64)
        sums = [np.sum(scores[clusters == c] - scores.mean()) for c in np.unique(clusters)]
        count = len(sums)
        variance = count / (count - 1) * np.sum(np.square(sums)) / len(scores) ** 2
        drawn = (scores.mean() * count + 1) / (count + 2)
        variances.append(((count - 1) * variance + drawn * (1 - drawn) / count) / count)
        sizes = np.unique(clusters, return_counts=True)[1]
        freedoms.append(max(1, np.floor(sizes.sum() ** 2 / np.sum(sizes**2) - 1 + 1e-9)))
        mean += scores.mean() / len(groups)
    total = np.sum(variances)
    freedom = np.floor(total**2 / np.sum(np.square(variances) / np.array(freedoms)) + 1e-9)
    effective = mean * (1 - mean) / (total / len(groups) ** 2)
    ratio = stats.t.ppf(0.975, freedom) ** 2 / effective
    # (mean - p)^2 = ratio * p (1 - p), solved for p
    return np.sort(np.roots([1 + ratio, -2 * mean - ratio, mean**2]))


@pytest.mark.parametrize(
    "groups",
    [
        [([0.0, 0.25, 0.5, 0.75, 1.0], [0, 1, 2, 3, 4])],
        [([1.0, 0.75, 1.0, 1.0, 0.5, 0.0], [0, 0, 1, 1, 2, 3])],
        [([1.0, 0.0, 0.5], [0, 1, 2]), ([0.25, 0.75, 1.0, 1.0, 0.0], [0, 1, 1, 2, 3])],
    ],
)
def test_the_bounds_are_those_of_the_definition(groups):
    low, high = by_definition([(scores, np.array(clusters)) for scores, clusters in groups])
    interval = stratified_interval(groups)
    # The same numbers in another order of operations, and the root of a small difference.
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_independent_items_give_the_plain_standard_error():
    scores = np.random.default_rng(0).random(200)
    interval = clustered_interval(scores, range(200))
    error = scores.std(ddof=1) / math.sqrt(200)
    assert interval.standard_error == pytest.approx(error)
    # With 200 items the bounds are the plain ones but for the pseudo-cluster and the skew: a tenth.
    assert interval.high - interval.low == pytest.approx(2 * Z * error, rel=0.1)


def test_repeating_every_item_does_not_narrow_the_interval():
    scores = [1, 0, 1, 1, 0, 1, 0, 0, 1, 1]
    once = clustered_interval(scores, range(10))
    thrice = clustered_interval(scores * 3, list(range(10)) * 3)
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (thrice.items, thrice.clusters) == (30, 10)
    assert clustered_interval(scores * 3, range(30)).standard_error < once.standard_error


def test_all_right_has_the_exact_bound_of_its_clusters():
    from scipy import stats

    interval = clustered_interval([1] * 12, [0, 1, 2] * 4)
    expected = stats.binomtest(3, 3).proportion_ci(0.95, method="exact")
    # The same power by two routes.
    assert (interval.low, interval.high) == pytest.approx((expected.low, 1.0), abs=1e-9)
    wrong = clustered_interval([0] * 12, [0, 1, 2] * 4)
    assert (wrong.low, wrong.high) == pytest.approx((0.0, 1 - expected.low), abs=1e-9)


def test_equal_scores_in_the_middle_have_bounds_on_both_sides():
    interval = clustered_interval([0.75] * 5, range(5))
    assert 0.0 < interval.low < 0.75 < interval.high < 1.0


@pytest.mark.parametrize(("scores", "what"), [([1, 0, 1], "cluster"), ([0.5], "item")])
def test_one_cluster_has_no_bounds_and_says_why(scores, what):
    interval = clustered_interval(scores, ["same"] * len(scores))
    assert interval.mean == pytest.approx(sum(scores) / len(scores))
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.note == f"only one {what}: its spread is unknown"


def test_the_interval_of_a_macro_mean_weights_categories_alike():
    small, large = [1, 0, 1, 1], [1, 0] * 100
    interval = stratified_interval([(small, range(4)), (large, range(200))])
    assert interval.mean == pytest.approx((0.75 + 0.5) / 2)
    errors = [clustered_interval(s, range(len(s))).standard_error for s in (small, large)]
    assert interval.standard_error == pytest.approx(math.hypot(*errors) / 2)
    assert (interval.items, interval.clusters) == (204, 204)
    lone = stratified_interval([(small, range(4)), ([1], [0])])
    assert math.isnan(lone.low)
    assert lone.note == "only one item in a category: its spread is unknown"


def test_bad_intervals_are_refused():
    with pytest.raises(ScoringError, match="2 scores but 1 clusters"):
        clustered_interval([1, 0], [0])
    for nothing in (lambda: clustered_interval([], []), lambda: stratified_interval([])):
        with pytest.raises(ScoringError, match="at least one item"):
            nothing()
    with pytest.raises(ScoringError, match="finite scores"):
        clustered_interval([math.nan, 1], [0, 1])
    with pytest.raises(ScoringError, match="between 0 and 1"):
        clustered_interval([0, 9], [0, 1])
    with pytest.raises(ScoringError, match="confidence must lie between"):
        clustered_interval([0, 1], [0, 1], confidence=95)
    with pytest.raises(ScoringError, match="no score interval"):
        score_interval(1.5, 10, Z)


GRADES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans() | GRADES, st.integers(0, 5)), min_size=1, max_size=40))
def test_bounds_stay_within_zero_and_one(items):
    interval = clustered_interval([s for s, _ in items], [c for _, c in items])
    if interval.clusters == 1:
        assert math.isnan(interval.low)
    else:
        assert 0.0 <= interval.low <= interval.mean <= interval.high <= 1.0


@pytest.mark.parametrize(
    "case",
    [
        "5 judged items, nearly all fives",
        "7 judged items, mostly high",
        "20 judged items, mostly low",
        "30 clips with 1 to 8 questions, share 0.5, correlation 0.5",
        "10 clips with 1, and 6 to 8 about one in seven, share 0.5, correlation 0.5",
        "macro mean of 8 categories with 4 to 13 items",
    ],
)
def test_bounds_hold_the_truth_as_often_as_they_say(case):
    from interval_coverage import cases, coverage

    held, _ = coverage(cases()[case], trials=400, seed=7)
    # 400 draws of a true 95 % stray by 1.1 points (standard error); three of them below are 91.7 %.
    assert held >= 0.917


@pytest.mark.parametrize(
    ("page", "rows"),
    [("scoring.md", "cases"), ("anytime.md", "populations"), ("reports.md", "designs")],
)
def test_the_documentation_has_every_row_of_the_simulation(page, rows):
    import interval_coverage

    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    table = text[text.index(interval_coverage.BEGIN) : text.index(interval_coverage.END)]
    names = getattr(interval_coverage, rows)()
    assert [name for name in names if f"| {name} |" not in table] == []


@pytest.mark.parametrize(
    "case",
    ["the same, to 5 points", "the embedded sample's sizes, 80 % right, to 10 points"],
)
def test_runs_that_stop_hold_the_score_of_all_items(case):
    from interval_coverage import populations, stopped

    at_stop, always, drawn, fixed = stopped(*populations()[case], trials=60, seed=3)
    # 60 draws of a true 95 % stray by 2.8 points (standard error); three of them below are 86.6 %.
    assert min(at_stop, always) >= 0.866
    assert drawn > fixed  # else it would be no wider than an interval that must not be looked at


def test_items_that_share_a_clip_share_a_cluster():
    clusters = clip_clusters([["a"], ["b", "c"], ["a", "d"], ["c"], [None], [None], []])
    assert clusters[0] == clusters[2]
    assert clusters[1] == clusters[3]
    assert len(set(clusters)) == 5


def test_clips_tie_items_together_through_others():
    clusters = clip_clusters([["a"], ["b"], ["c"], ["a", "b"], ["b", "c"]])
    assert len(set(clusters)) == 1
