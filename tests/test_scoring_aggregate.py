"""Means and intervals, checked against the paper's table and against simulation."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmaupro_ext.scoring.aggregate import (
    OFFICIAL_COUNTS,
    clip_clusters,
    clustered_interval,
    macro_mean,
    overall,
    wilson_interval,
)
from mmaupro_ext.scoring.errors import ScoringError

TABLE_3 = Path(__file__).parent / "data" / "published_results.csv"
COLUMNS = {
    "Sound": "sound",
    "Music": "music",
    "Speech": "speech",
    "Sound-Music": "sound_music",
    "Speech-Music": "music_speech",
    "Speech-Sound": "sound_speech",
    "Sound-Music-Speech": "sound_music_speech",
    "Spatial": "spatial_audio",
    "Voice": "voice_chat",
    "Multi-Audio": "multi",
    "Open-ended": "open",
    "IF": "instruction following",
}


def published_systems():
    lines = TABLE_3.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    # Random counts open and IF as zero; no weights explain the human row's average.
    return [row for row in rows if row["Models"] not in ("Random Choice", "Human")]


def test_official_counts_make_up_the_whole_dataset():
    assert sum(OFFICIAL_COUNTS.values()) == 5305
    assert set(COLUMNS.values()) == set(OFFICIAL_COUNTS)


@pytest.mark.parametrize("row", published_systems(), ids=lambda row: row["Models"])
def test_the_papers_average_is_reproduced(row):
    scores = {category: float(row[column]) for column, category in COLUMNS.items()}
    # Printed figures are cut or rounded to 0.1; 1e-9 is for the binary form of the decimals.
    assert abs(overall(scores) - float(row["Avg."])) <= 0.1 + 1e-9


def test_all_25_systems_of_the_table_are_there():
    assert len(published_systems()) == 25


def test_overall_weights_by_the_counts_given():
    assert overall({"a": 1.0, "b": 0.0}, {"a": 1, "b": 3, "unused": 9}) == 0.25
    assert macro_mean({"a": 1.0, "b": 0.0}) == 0.5


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_missing_score_is_not_averaged_as_zero(bad):
    for mean in (overall, macro_mean):
        with pytest.raises(ScoringError, match="'open' has no score"):
            mean({"sound": 0.5, "open": bad})


def test_bad_categories_are_named():
    with pytest.raises(ScoringError, match="no item count for 'sounds'"):
        overall({"sounds": 0.5})
    with pytest.raises(ScoringError, match="no category scores"):
        overall({})
    with pytest.raises(ScoringError, match="no category scores"):
        macro_mean({})
    with pytest.raises(ScoringError, match="hold no items"):
        overall({"a": 0.5}, {"a": 0})
    with pytest.raises(ScoringError, match="must not be negative"):
        overall({"a": 0.5}, {"a": -1})


# --- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "items"), [(0, 7), (7, 7), (3, 10), (40, 87), (2000, 5305)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_interval_equals_scipys(right, items, confidence):
    expected = stats.binomtest(right, items).proportion_ci(confidence, method="wilson")
    assert wilson_interval(right / items, items, confidence) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_independent_items_give_the_plain_standard_error():
    scores = np.random.default_rng(0).random(200)
    interval = clustered_interval(scores, range(200))
    error = scores.std(ddof=1) / math.sqrt(200)
    assert interval.standard_error == pytest.approx(error)
    assert interval.low == pytest.approx(interval.mean - stats.norm.ppf(0.975) * error)


def test_repeating_every_item_does_not_narrow_the_interval():
    scores = [1, 0, 1, 1, 0, 1, 0, 0, 1, 1]
    once = clustered_interval(scores, range(10))
    thrice = clustered_interval(scores * 3, list(range(10)) * 3)
    assert thrice.standard_error == pytest.approx(once.standard_error)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (thrice.items, thrice.clusters) == (30, 10)
    assert clustered_interval(scores * 3, range(30)).standard_error < once.standard_error


def test_bounds_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(7)
    clusters = np.repeat(np.arange(60), 4)
    trials, clustered, naive = 1000, 0, 0
    for _ in range(trials):
        ability = rng.beta(1.5, 1.5, 60)
        scores = rng.random(240) < np.repeat(ability, 4)
        interval = clustered_interval(scores, clusters.tolist())
        clustered += interval.low <= 0.5 <= interval.high
        low, high = wilson_interval(scores.mean(), 240)
        naive += low <= 0.5 <= high
    assert 0.92 <= clustered / trials <= 0.975
    assert naive / trials < 0.92


def test_all_right_still_has_an_interval_by_clusters():
    interval = clustered_interval([1] * 12, [0, 1, 2] * 4)
    assert (interval.mean, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(wilson_interval(1.0, 3)[0])


def test_one_cluster_has_no_known_bounds():
    interval = clustered_interval([1, 0, 1], ["same"] * 3)
    assert interval.mean == pytest.approx(2 / 3)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_bad_intervals_are_refused():
    with pytest.raises(ScoringError, match="2 scores but 1 clusters"):
        clustered_interval([1, 0], [0])
    with pytest.raises(ScoringError, match="at least one item"):
        clustered_interval([], [])
    with pytest.raises(ScoringError, match="finite scores"):
        clustered_interval([math.nan, 1], [0, 1])
    with pytest.raises(ScoringError, match="confidence must lie between"):
        clustered_interval([0, 1], [0, 1], confidence=95)
    with pytest.raises(ScoringError, match="no Wilson interval"):
        wilson_interval(1.5, 10)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=40))
def test_binary_bounds_stay_within_zero_and_one(items):
    interval = clustered_interval([s for s, _ in items], [c for _, c in items])
    if interval.clusters == 1:
        assert math.isnan(interval.low)
    else:
        assert 0.0 <= interval.low <= interval.mean <= interval.high <= 1.0


def test_items_that_share_a_clip_share_a_cluster():
    clusters = clip_clusters([["a"], ["b", "c"], ["a", "d"], ["c"], [None], [None], []])
    assert clusters[0] == clusters[2]
    assert clusters[1] == clusters[3]
    assert len(set(clusters)) == 5


def test_clips_tie_items_together_through_others():
    clusters = clip_clusters([["a"], ["b"], ["c"], ["a", "b"], ["b", "c"]])
    assert len(set(clusters)) == 1
