"""The bounds that may decide when to stop: every order of small populations, and an independent solver."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from mmaupro_ext.scoring import anytime
from mmaupro_ext.scoring.errors import ScoringError

# The released sizes of MMAU-Pro's scored categories, and what a model of the paper's table has there.
SIZES = {"sound": 1048, "music": 1418, "speech": 891, "sound_music": 50, "music_speech": 46}
SIZES |= {"sound_speech": 88, "sound_music_speech": 7, "spatial": 325, "voice": 290, "multi": 430}
SIZES |= {"instruction": 87}
RATES = (0.476, 0.615, 0.574, 0.4, 0.532, 0.602, 0.285, 0.412, 0.6, 0.243, 0.613)


def population(rng):
    """Return scores by category, in the order of drawing."""
    return {
        name: (rng.permutation(size) < rate * size).astype(float).tolist()
        for (name, size), rate in zip(SIZES.items(), RATES, strict=True)
    }


def mean(scores):
    return sum(map(sum, scores.values())) / sum(map(len, scores.values()))


def products(sizes, scores, half_width):
    """Return both products of the module's docstring after the last round, computed from its formula.

    The mean of what is left is taken from the scores themselves, and each bet from what a stratum of the
    module bets. Nothing of how the module sums up is used.
    """
    up = down = 0.0
    rest = {name: list(values) for name, values in scores.items()}
    strata = {name: anytime._Stratum(size) for name, size in sizes.items()}
    weight = 0.0
    for part in range(anytime.ROUNDS):
        drawn = sum(s.drawn for s in strata.values())
        variance = (1.0 + sum(s.squares for s in strata.values())) / (4.0 + drawn)
        if part < anytime.ROUNDS - 1:
            step = (part + 1) / (19 - part) - part / (20 - part)
            weight += half_width / (variance + half_width) * step
        for name, stratum in strata.items():
            for left in range(anytime.quotas(sizes[name])[part] - stratum.drawn, 0, -1):
                values = rest[name]
                bet = min(0.5, max(0.0, len(values) * (weight - stratum.weight) / left))
                guess = (0.5 + stratum.sum) / (1.0 + stratum.drawn)
                centre = sum(values) / len(values)
                score = values.pop(0)
                stratum.draw(score, weight, left)
                price = (-math.log(1.0 - bet) - bet) * (score - guess) ** 2
                up += bet * (score - centre) - price
                down += bet * (centre - score) - price
    return math.exp(up), math.exp(down)


@pytest.mark.parametrize("values", [(0, 0, 1, 1), (0, 1, 1, 1), (0.0, 0.25, 0.5, 1.0)])
def test_the_products_have_at_most_the_expectation_one_over_all_orders(values):
    sizes, others = {"a": 4, "b": 3}, (0.0, 1.0, 1.0)
    found = [
        products(sizes, {"a": first, "b": second}, 0.2)
        for first in itertools.permutations(values)
        for second in itertools.permutations(others)
    ]
    # An average of 144 products near 1: rounding is far below.
    assert (np.mean(found, axis=0) <= 1.0 + 1e-12).all()
    assert np.ptp(found) > 0.1  # they do bet


def test_the_bounds_are_where_the_products_reach_the_threshold():
    """Of one stratum, the bounds are the means at which the module's formula gives log(2 / 0.05)."""
    scores = [1.0, 0.0, 1.0, 1.0, 0.0] * 40
    found = anytime.confidence_sequence({"a": 400}, {"a": scores}, 0.1)[-1]
    assert found.drawn == 200
    for bound, sign in ((found.low, 1), (found.high, -1)):
        # What is left has the sum that makes `bound` the mean: only its sum matters.
        left = [(bound * 400 - sum(scores)) / 200] * 200
        assert math.log(partial(scores + left, 200, sign)) == pytest.approx(
            math.log(2 / 0.05),
            # sums of 200 float64 terms of size 1
            rel=1e-9,
        )


def partial(scores, draws, sign):
    """Return a product after so many draws of one stratum."""
    total, weight, stratum = 0.0, 0.0, anytime._Stratum(len(scores))
    for part in range(anytime.ROUNDS):
        variance = (1.0 + stratum.squares) / (4.0 + stratum.drawn)
        weight += 0.1 / (variance + 0.1) * ((part + 1) / (19 - part) - part / (20 - part))
        for left in range(anytime.quotas(len(scores))[part] - stratum.drawn, 0, -1):
            at = stratum.drawn
            bet = min(0.5, stratum.left * (weight - stratum.weight) / left)
            guess = (0.5 + stratum.sum) / (1.0 + at)
            centre = sum(scores[at:]) / (len(scores) - at)
            stratum.draw(scores[at], weight, left)
            price = (-math.log(1.0 - bet) - bet) * (scores[at] - guess) ** 2
            total += sign * bet * (scores[at] - centre) - price
            if at + 1 == draws:
                return math.exp(total)
    raise AssertionError("too few draws")


@pytest.mark.parametrize("largest", [True, False])
def test_the_worst_case_is_that_of_a_linear_programme(largest):
    rng = np.random.default_rng(5)
    for _ in range(50):
        strata = [anytime._Stratum(int(size)) for size in rng.integers(1, 40, 4)]
        weights = rng.random(4)
        for stratum, weight in zip(strata, weights, strict=True):
            stratum.weight = float(weight)
        bound = float(rng.random() * sum(w * s.left for w, s in zip(weights, strata, strict=True)))
        sign = 1.0 if largest else -1.0
        solved = linprog(
            [-sign] * 4,
            A_ub=[sign * weights],
            b_ub=[sign * bound],
            bounds=[(0, s.left) for s in strata],
        )
        # the solver's own tolerance is 1e-7
        assert anytime._extreme(strata, bound, largest) == pytest.approx(
            -sign * solved.fun, abs=1e-5
        )


def test_the_bounds_hold_the_mean_of_all_and_meet_at_the_end():
    rng = np.random.default_rng(0)
    scores = population(rng)
    found = anytime.confidence_sequence(SIZES, scores, 0.02)
    assert len(found) == anytime.ROUNDS
    assert all(one.low <= mean(scores) <= one.high for one in found)
    last = found[-1]
    # sums of whole numbers: exact but for the last division
    assert last.low == pytest.approx(mean(scores), abs=1e-12)
    assert last.high == pytest.approx(mean(scores), abs=1e-12)
    assert last.mean == pytest.approx(mean(scores), abs=1e-12)
    first = next(one for one in found if one.half_width <= 0.02)
    assert first.drawn < 0.65 * sum(SIZES.values())


def test_every_prefix_has_the_full_mix():
    for part in range(anytime.ROUNDS):
        for size in SIZES.values():
            drawn, share = anytime.quotas(size)[part], size * (part + 1) / anytime.ROUNDS
            assert abs(drawn - share) <= 0.5 or drawn == 1
    assert all(anytime.quotas(size)[-1] == size for size in (1, 2, 7, 19, 20, 21, 1418))


def test_the_order_is_the_seeds_alone():
    ids = [f"item-{n}" for n in range(200)]
    one, other = (sorted(ids, key=lambda name: anytime.place(name, seed)) for seed in (1, 2))
    assert one != other
    assert one != ids
    assert one == sorted(other, key=lambda name: anytime.place(name, "1"))


def test_a_category_without_an_item_may_be_anything():
    assert anytime.confidence_sequence({"a": 2, "b": 1}, {"a": [1.0, 1.0]}, 0.1) == []
    (lone,) = anytime.confidence_sequence({"a": 1000}, {"a": [1.0] * 50}, 0.1)
    assert lone.drawn == 50
    assert lone.high == 1.0
    assert 0.5 < lone.low < 1.0


@pytest.mark.parametrize(
    ("sizes", "scores", "half_width", "confidence"),
    [
        ({}, {}, 0.1, 0.95),
        ({"a": 0}, {}, 0.1, 0.95),
        ({"a": 20}, {}, 0.0, 0.95),
        ({"a": 20}, {}, float("nan"), 0.95),
        ({"a": 20}, {}, 0.1, 1.0),
        ({"a": 20}, {"a": [1.5]}, 0.1, 0.95),
        ({"a": 20}, {"a": [float("nan")]}, 0.1, 0.95),
    ],
)
def test_what_has_no_bounds_is_refused(sizes, scores, half_width, confidence):
    with pytest.raises(ScoringError):
        anytime.confidence_sequence(sizes, scores, half_width, confidence)
