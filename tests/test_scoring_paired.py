"""Differences on the same items, against plain loops and statsmodels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.paired import contrast, corrected, difference


def systems(items: int = 240, seed: int = 0):
    """Two systems on items of which three share a clip, and with it their luck."""
    rng = np.random.default_rng(seed)
    clusters = np.arange(items) // 3
    ease = rng.random(items // 3)[clusters]
    first, second = (ease + 0.3 * rng.random((2, items)) > [[0.75], [0.65]]).astype(float)
    return first.tolist(), second.tolist(), clusters.tolist()


def test_counts_means_and_agreement_are_those_of_a_loop():
    first, second, clusters = systems()
    found = difference(first, second, clusters)
    pairs = list(zip(first, second, strict=True))
    assert found.won == sum(b > a for a, b in pairs)
    assert found.lost == sum(b < a for a, b in pairs)
    # Sums of a few hundred zeros and ones are exact in float64; only the division rounds.
    assert found.difference == pytest.approx(sum(b - a for a, b in pairs) / 240, abs=1e-15)
    assert found.agreement == pytest.approx(sum(a == b for a, b in pairs) / 240, abs=1e-15)
    assert (found.items, found.clusters) == (240, 80)


def test_with_many_clips_the_interval_is_that_of_drawing_them_one_after_the_other():
    first, second, clusters = systems(6000)
    gain = np.subtract(second, first).reshape(2000, 3).sum(axis=1)
    rng = np.random.default_rng(1)
    means = [gain[rng.integers(0, 2000, 2000)].mean() / 3 for _ in range(4000)]
    found = difference(first, second, clusters)
    # 4,000 draws place a quantile of a normal value to 0.042 standard deviations; three of them, and 0.01 for
    # the two added items.
    near = 0.14 * np.std(means)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=near)


def test_items_that_share_a_clip_are_not_counted_as_independent():
    first, second, _ = systems(2400)
    once = difference(first, second, range(2400))
    repeated = difference(first * 4, second * 4, list(range(2400)) * 4)
    alone = difference(first * 4, second * 4, range(9600))

    def width(found):
        return found.high - found.low

    # Four answers on each clip that are one answer: all but the added items, two beside some 300 that
    # changed, weigh four times as much.
    assert width(repeated) == pytest.approx(width(once), rel=0.01)
    assert width(alone) == pytest.approx(width(once) / 2, rel=0.01)
    assert repeated.smallest == pytest.approx(once.smallest, rel=0.01)


def test_a_clip_with_most_of_the_items_makes_the_others_count_for_little():
    first, second = [0.0] * 40 + [0.0, 1.0] * 5, [1.0] * 40 + [0.0, 1.0] * 5
    clusters = [0] * 40 + list(range(1, 11))
    # 50 squared over 1,600 + 10: 1.55 clips of one size have one degree of freedom at most.
    found = difference(first, second, clusters)
    assert (found.difference, found.low, found.high) == (0.8, -1.0, 1.0)
    assert found.p > 0.05


SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 1.0]), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(SCORES)
def test_p_and_interval_agree(rows):
    found = difference(*([row[column] for row in rows] for column in range(3)))
    if found.clusters == 1:
        assert math.isnan(found.p)
    elif abs(found.p - 0.05) > 1e-9:  # at the bound itself, rounding decides
        assert (found.p > 0.05) == (found.low <= 0.0 <= found.high)


def test_p_by_hand():
    # With one item added each way the six gains are 0, -1, -1, 0, -1 and 1: mean -1/3, standard error 1/3.
    # F(1) of three degrees of freedom is
    # 1/2 + (pi/6 + sqrt(3)/4) / pi.
    found = difference([1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 2, 3])
    assert found.p == pytest.approx(2 / 3 - math.sqrt(3) / (2 * math.pi), abs=1e-12)  # rounding
    # Quantiles of 97.5 % and 80 %; four items were six with those added.
    assert found.smallest == pytest.approx((3.182446 + 0.978472) / 3 * 6 / 4, abs=1e-6)


def test_p_values_are_corrected_together_and_unknown_ones_left_out():
    whole = difference([1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 2, 3])
    given = (0.03, 0.01, math.nan, 0.04)
    found = [entry.p_corrected for entry in corrected([replace(whole, p=p) for p in given])]
    # Holm: the smallest of three times three, the next times two, the last no less than that.
    assert [*found[:2], found[3]] == pytest.approx([0.06, 0.03, 0.06], abs=1e-15)
    assert math.isnan(found[2])
    assert corrected([replace(whole, p=0.8), replace(whole, p=0.9)])[0].p_corrected == 1.0


def test_equal_systems_differ_by_nothing_and_one_clip_has_no_interval():
    same = difference([1.0, 0.0] * 50, [1.0, 0.0] * 50, range(100))
    assert (same.difference, same.p) == (0.0, 1.0)
    # t of 99 degrees of freedom at 97.5 %; the two added items alone differ: sum of squares 2, of 102 items.
    half = 1.984217 * math.sqrt(102 / 101 * 2) / 102
    assert (same.low, same.high) == pytest.approx((-half, half), abs=1e-7)
    alone = difference([1.0, 0.0], [1.0, 1.0], [5, 5])
    assert all(map(math.isnan, (alone.low, alone.high, alone.p, alone.smallest)))


@pytest.mark.parametrize(
    ("first", "second", "clusters", "message"),
    [
        ([], [], [], "cannot be compared"),
        ([1.0], [1.0, 0.0], [0, 1], "cannot be compared"),
        ([1.0], [1.0], [0, 1], "cannot be compared"),
        ([math.nan], [1.0], [0], "leave unscored items out"),
        ([2.0], [1.0], [0], "from 0 to 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, clusters, message):
    with pytest.raises(ScoringError, match=message):
        difference(first, second, clusters)


def test_contrast_by_hand():
    # 12 and 4 of 16 right, with one item added each way 13 and 5 of 18: nine gains of -1 and one of 1.
    found = contrast([1] * 12 + [0] * 4, [1] * 4 + [0] * 12, range(16))
    assert (found.difference, found.ratio) == (-0.5, pytest.approx(1 / 3))
    # Mean -4/9, sum of squares about it 10 - 18 x 16/81; t of 15 degrees of freedom at 97.5 % is 2.131450.
    half = 2.131450 * math.sqrt(18 / 17 * (10 - 18 * 16 / 81)) / 18
    # Digits of the quantile.
    assert (found.low, found.high) == pytest.approx((-4 / 9 - half, -4 / 9 + half), abs=1e-6)
    # Squares about the means 13 - 169/18 and 5 - 25/18, products 4 - 65/18; times 18/17 and the squared
    # quantile they are 17.3706, 17.3706 and 1.87068. The bounds solve
    # (169 - 17.3706) r^2 - 2 (65 - 1.87068) r + 25 - 17.3706 = 0.
    assert found.ratio_low == pytest.approx(0.065594, abs=1e-5)
    assert found.ratio_high == pytest.approx(0.767083, abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(SCORES)
def test_difference_and_ratio_agree_on_what_is_no_change(rows):
    found = contrast(*([row[column] for row in rows] for column in range(3)))
    if found.clusters == 1:
        assert math.isnan(found.low)
        assert math.isnan(found.ratio_low)
        return
    assert -1 <= found.low <= found.difference <= found.high <= 1
    # At a bound itself, rounding decides.
    close = min(abs(found.low), abs(found.high)) < 1e-9
    if not close and not math.isnan(found.ratio_low):
        assert (found.low < 0 < found.high) == (found.ratio_low < 1 < found.ratio_high)


def test_a_score_that_cannot_be_told_from_zero_has_a_ratio_without_bounds():
    found = contrast([0, 0, 0, 1], [1, 0, 0, 1], range(4))
    assert found.ratio == 2.0
    assert math.isnan(found.ratio_low)
    assert math.isnan(contrast([0, 0], [1, 0], [0, 1]).ratio)


def test_contrasts_need_shares_of_the_same_items():
    with pytest.raises(ScoringError, match="cannot be compared"):
        contrast([1, 0], [1], [0, 1])
    with pytest.raises(ScoringError, match="scores from 0 to 1"):
        contrast([1, math.nan], [1, 0], [0, 1])


@pytest.mark.parametrize(
    ("clips", "questions", "pair"),
    [
        (7, "1", (0.3, 0.25, 0.0)),
        (10, "1 to 8", (0.95, 0.8, 0.5)),
        (20, "20", (0.99, 0.97, 0.5)),
        (30, "1 to 8", None),
        (40, "1, and 6 to 8 about one in seven", (0.6, 0.35, 0.5)),
    ],
)
def test_intervals_of_pairs_hold_the_truth_as_often_as_they_say(clips, questions, pair):
    from interval_coverage import paired_coverage

    held = paired_coverage(clips, questions, pair, trials=400, seed=7)
    # 400 draws of a true 95 % stray by 1.1 points (standard error); three of them below are 91.7 %.
    assert held.difference >= 0.917
    assert held.ratio >= 0.917


def test_runs_that_do_not_differ_are_called_different_no_more_often_than_it_says():
    from interval_coverage import EQUAL, paired_coverage

    # Three standard errors above 5 % are 8.3 %.
    assert paired_coverage(12, "20", EQUAL, trials=400, seed=7).called <= 0.083
