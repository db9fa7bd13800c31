"""The audio-reliance profile: hand-computed values, what must hold of any answers, and what never counts."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.scoring.answers import Answer, LeftOut
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.reliance import profile

FOUR = (0, 1, 2, 3)


def choice(item, condition="full", picked=0, variant="", order=FOUR, lengths=(4, 4, 4, 9)):
    """An answer to an item whose right choice is the first of the released order."""
    gold = order.index(0)
    return Answer(
        item=item,
        category="sound",
        clips=(f"{item}.wav",),
        condition=condition,
        variant=variant,
        correct=picked == gold,
        picked=picked,
        gold=gold,
        order=order,
        lengths=tuple(lengths[index] for index in order),
    )


def errored(answer):
    return replace(answer, served=False, correct=None, picked=None)


def unscored(answer):
    return replace(answer, correct=None)


def fragment(item, name, right):
    return choice(item, "fragments", 0 if right else 1, name)


# --- golden vectors, computed by hand ---------------------------------------------------------------


CLASSES = [
    # text solves
    choice("a"),
    choice("a", "none"),
    # the second half suffices
    choice("b"),
    choice("b", "none", 1),
    fragment("b", "1/2", False),
    fragment("b", "2/2", True),
    # several segments
    choice("c"),
    choice("c", "none", 1),
    fragment("c", "1/2", False),
    fragment("c", "2/2", False),
    # undecided: one half errored, the other is wrong
    choice("d"),
    choice("d", "none", 1),
    errored(fragment("d", "1/2", True)),
    fragment("d", "2/2", False),
    # audio hurts
    choice("e", picked=2),
    choice("e", "none"),
    # unsolved
    choice("f", picked=2),
    choice("f", "none", 2),
    # not counted: errored, not asked, without a verdict
    choice("g"),
    errored(choice("g", "none")),
    choice("h"),
    choice("i"),
    unscored(choice("i", "none")),
]


def test_item_classes():
    found = profile(CLASSES).classes
    assert found.text_solves.mean == pytest.approx(1 / 6)
    assert found.needs_audio.mean == pytest.approx(3 / 6)
    assert found.fragment_suffices.mean == pytest.approx(1 / 6)
    assert found.several_segments.mean == pytest.approx(1 / 6)
    assert found.audio_hurts.mean == pytest.approx(1 / 6)
    assert found.unsolved.mean == pytest.approx(1 / 6)
    assert found.unsolved.items == 6
    assert found.of_needed.mean == 0.5
    assert found.of_needed.items == 2
    # Two guesses among four choices are both wrong at (3/4)².
    assert found.by_chance == 0.5625
    assert found.left_out == LeftOut(errored=1, unscored=1, not_asked=1)


def test_an_errored_fragment_is_not_one_that_suffices():
    found = profile(CLASSES).classes
    assert found.undecided == 1
    assert found.released == (2, 1)  # what the released script makes of the same answers


def test_a_fragment_that_was_not_asked_is_not_one_that_was_wrong():
    asked = [answer for answer in CLASSES if (answer.item, answer.variant) != ("c", "2/2")]
    found = profile(asked).classes
    assert found.several_segments.mean == 0.0
    assert found.undecided == 2
    assert found.released == (2, 1)


def test_without_fragments_needing_audio_is_not_split():
    found = profile([a for a in CLASSES if a.condition != "fragments"]).classes
    assert found.needs_audio.mean == 0.5
    assert found.fragment_suffices is found.several_segments is found.of_needed is None


def test_rows_compare_the_same_items():
    found = profile(CLASSES)
    none = found.row("none")
    # a to f: full 4 of 6, none 2 of 6; full by itself has nine items, seven of them right.
    assert none.against_full.items == 6
    assert none.against_full.first == pytest.approx(4 / 6)
    assert none.against_full.second == pytest.approx(2 / 6)
    assert none.against_full.ratio == pytest.approx(0.5)
    assert found.row("full").score.mean == pytest.approx(7 / 9)
    halves = found.row("fragments 1/2")
    # b and c: a quarter of the halves is right.
    assert (halves.score.items, halves.score.mean) == (2, 0.25)
    assert halves.left_out == LeftOut(errored=1, not_asked=6)
    assert found.row("none", "sound").score == none.score


ORDERS = {"": (0, 1, 2), "120": (1, 2, 0), "201": (2, 0, 1)}


def over_orders(item, pick):
    """Answers in full and under permute; `pick` gives the place for the order."""
    return [
        choice(item, "permute" if variant else "full", pick(order), variant, order, (3, 5, 5))
        for variant, order in ORDERS.items()
    ]


def first_place(order):
    return 0


def right(order):
    return order.index(0)


def test_consistency_and_correctness_over_orders():
    found = profile([*over_orders("x", first_place), *over_orders("y", right)]).orders
    # x chooses another option in each order, y the same in all; x is right in one of three.
    assert found.consistency.mean == 0.5
    assert found.correctness.mean == pytest.approx(2 / 3)
    assert found.always_right.mean == 0.5
    assert found.orders == (3, 3)


def test_places():
    (found,) = profile([*over_orders("x", first_place), *over_orders("y", right)]).places
    assert (found.choices, found.items) == (3, 2)
    assert found.scores == (1.0, 0.5, 0.5)
    assert found.spread == 0.5
    # Variance (1/9 + 1/36 + 1/36) / 3 = 1/18 over the mean 2/3.
    assert found.rsd == pytest.approx(math.sqrt(1 / 18) / (2 / 3))
    assert found.picked == pytest.approx((4 / 6, 1 / 6, 1 / 6))
    # (-ln 2 + ln 2 + ln 2) / 3
    assert found.ckld == pytest.approx(math.log(2) / 3)


def test_a_place_that_is_never_picked_diverges_without_bound():
    (found,) = profile([*over_orders("x", first_place), *over_orders("y", first_place)]).places
    assert found.ckld == math.inf


def test_the_order_of_full_counts_once_and_an_order_that_was_not_asked_is_missed():
    again = choice("x", "permute", 0, "012", (0, 1, 2), (3, 5, 5))
    found = profile([*over_orders("x", right), *over_orders("y", right), again]).orders
    assert found.orders == (3, 3)
    assert (found.consistency.items, found.left_out.not_asked) == (1, 1)


def test_longest_choice():
    lengths = (4, 4, 4, 9)
    answers = [
        choice("picks the longest", picked=3, lengths=lengths),
        choice("picks another", picked=1, lengths=lengths),
        choice("gold is the longest", picked=0, lengths=(9, 4, 4, 4)),
        choice("gold is the longest, not picked", picked=1, lengths=(9, 4, 4, 4)),
        choice("two are longest", picked=1, lengths=(9, 9, 4, 4)),
        replace(choice("says nothing", lengths=lengths), picked=None, correct=False),
        errored(choice("errored", lengths=lengths)),
    ]
    (found,) = profile(answers).longest
    assert (found.picks.items, found.picks.first, found.picks.second) == (4, 0.5, 0.5)
    assert (found.no_longest, found.errored, found.no_choice) == (1, 1, 1)


def test_replies_that_state_no_choice_are_counted_beside_each_score():
    silent = [replace(choice(item, "none"), picked=None, correct=False) for item in "ab"]
    open_ended = replace(choice("open"), picked=None, gold=None, order=(), lengths=())
    found = profile([*map(choice, "abc"), open_ended, *silent, choice("c", "none")])
    assert found.row("none").no_choice == pytest.approx(2 / 3)
    assert found.row("full").no_choice == 0.0  # the open item has no choices to state
    assert math.isnan(profile([open_ended]).row("full").no_choice)


def test_flips_above_the_noise_floor():
    silent = {"picked": None, "correct": False}
    answers = [
        choice("a", picked=0),
        choice("b", picked=1),
        replace(choice("c"), **silent),
        choice("a", "repeat", 0, "2"),
        choice("b", "repeat", 2, "2"),
        replace(choice("c", "repeat", variant="2"), **silent),
        choice("a", "silence", 1),
        choice("b", "silence", 2),
        choice("c", "silence", 0),
    ]
    repeat, silence = profile(answers).flips
    assert (repeat.name, repeat.above_floor) == ("repeat", None)
    assert repeat.share.mean == pytest.approx(1 / 3)
    assert silence.share.mean == 1.0
    assert silence.above_floor.difference == pytest.approx(2 / 3)


def test_absent_is_neither_a_flip_nor_compared():
    absent = replace(choice("a", "absent", 3), gold=3, correct=True)
    found = profile([choice("a"), choice("b"), absent])
    assert found.row("absent").score.mean == 1.0
    assert found.row("absent").against_full is None
    assert found.flips == ()


# --- of any answers -----------------------------------------------------------------------------------


PICKS = st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=2, max_size=12)


def asked(picks, condition="full", variant=""):
    return [
        replace(choice(str(n), condition, pick or 0, variant), picked=pick, correct=pick == 0)
        for n, pick in enumerate(picks)
    ]


@settings(max_examples=60, deadline=None)
@given(PICKS)
def test_a_model_that_ignores_audio(picks):
    found = profile([*asked(picks), *asked(picks, "none"), *asked(picks, "silence")])
    for name in ("none", "silence"):
        against = found.row(name).against_full
        assert against.difference == 0.0
        assert against.low < 0.0 < against.high
        assert against.ratio == 1.0 or not any(pick == 0 for pick in picks)
    assert [flips.share.mean for flips in found.flips] == [0.0, 0.0]
    assert found.classes.needs_audio.mean == found.classes.audio_hurts.mean == 0.0


@settings(max_examples=60, deadline=None)
@given(PICKS, PICKS, st.randoms(use_true_random=False))
def test_the_order_of_answers_changes_nothing(full, none, rng):
    size = min(len(full), len(none))
    answers = [*asked(full[:size]), *asked(none[:size], "none")]
    shuffled = rng.sample(answers, len(answers))
    one, two = profile(answers), profile(shuffled)
    assert one.row("none").against_full.difference == pytest.approx(
        two.row("none").against_full.difference
    )
    assert one.classes.unsolved.mean == pytest.approx(two.classes.unsolved.mean)


@settings(max_examples=60, deadline=None)
@given(PICKS, st.data())
def test_an_error_counts_as_if_the_item_had_not_been_asked(picks, data):
    gone = data.draw(st.sets(st.integers(0, len(picks) - 1)))
    full, none = asked(picks), asked(picks[::-1], "none")
    with_errors = profile([*full, *(errored(a) if n in gone else a for n, a in enumerate(none))])
    without = profile([*full, *(a for n, a in enumerate(none) if n not in gone)])
    one, two = with_errors.row("none"), without.row("none")
    if two is None:
        assert one.score is None
    else:
        assert (one.score, one.against_full) == (two.score, two.against_full)
    assert one.left_out.errored == len(gone)


@settings(max_examples=60, deadline=None)
@given(PICKS, PICKS)
def test_classes_are_a_partition(full, none):
    size = min(len(full), len(none))
    found = profile([*asked(full[:size]), *asked(none[:size], "none")]).classes
    parts = (found.text_solves, found.needs_audio, found.audio_hurts, found.unsolved)
    assert math.fsum(part.mean for part in parts) == pytest.approx(1.0)


# --- what cannot be used ------------------------------------------------------------------------------


def test_answers_twice_are_refused():
    with pytest.raises(ScoringError, match="answered twice under none"):
        profile([choice("a"), choice("a", "none"), choice("a", "none", 1)])


def test_a_profile_without_full_is_refused():
    with pytest.raises(ScoringError, match="needs answers in full"):
        profile([choice("a", "none")])


def test_a_place_that_was_not_shown_is_refused():
    with pytest.raises(ScoringError, match="place 4 of 4 choices"):
        profile([choice("a", picked=4)])


def test_a_fragment_without_its_number_is_refused():
    with pytest.raises(ScoringError, match="named like 2/5"):
        profile([choice("a"), choice("a", "fragments", variant="second")])


def test_items_not_asked_in_full_are_counted_and_count_nowhere():
    found = profile([choice("a"), choice("a", "none"), choice("b", "none")])
    assert found.without_full == 1
    assert found.row("none").score.items == 1


def test_an_item_that_was_never_served_leaves_no_numbers_and_a_count():
    found = profile([errored(choice("a")), choice("a", "none")])
    assert found.row("full").score is None
    assert found.row("full").left_out == LeftOut(errored=1)
    assert found.classes is None
    assert found.flips == ()


def test_a_random_model_has_no_long_tail():
    """Retention near 1 is no proof of a text prior where both are at chance: the interval says so."""
    rng = random.Random(7)
    picks = [[rng.randrange(4) for _ in range(60)] for _ in range(2)]
    against = profile([*asked(picks[0]), *asked(picks[1], "none")]).row("none").against_full
    assert against.ratio_low < 1.0 < against.ratio_high
