"""Reading closed replies: hand labels, peers, statements over real choices, and every rule by name."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path

import pytest
import reading_ways
import scoring_confusion as confusion
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext import data
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.closed import MODES, STATUSES, Match, match
from mmaupro_ext.scoring.errors import ScoringError

HERE = Path(__file__).parent
DRINKS = ["Tea", "Coffee", "Milk", "Water"]
NOTES = ["C", "A", "G", "E"]
KEYS = ["A minor", "B flat major", "D minor", "C# minor"]
BANDS = ["The Who", "Queen", "The Band", "The Police"]
TREND = ["Increasing", "Decreasing", "Remains constant", "None of these options"]
ORCHESTRA = ["Violin", "Viola", "Cello", "Harp", "Flute", "Oboe", "Clarinet", "Bassoon", "Trumpet"]


def read(reply, choices=DRINKS, finish=None):
    return match(reply, choices, finish=finish).index


# --- hand labels ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_row():
    return [row for name in confusion.SETS for row in confusion.load(name)]


def test_labels_are_well_formed_and_varied(every_row):
    assert len(every_row) >= 1600
    for row in every_row:
        assert row["label"] is None or 0 <= row["label"] < len(row["choices"]), row
    kinds = {row["kind"] for row in every_row}
    assert kinds >= {"terse", "verbose", "reasoning", "refusal", "quoted", "negation", "several"}
    assert kinds >= {"language", "markdown", "json", "mismatch", "empty", "cut", "correction"}


def test_no_reply_is_read_as_an_option_that_it_does_not_state(every_row):
    found = [(row["reply"], confusion.strict(row), row["label"]) for row in every_row]
    assert [one for one in found if one[1] not in (None, one[2])] == []


def test_only_the_known_replies_are_missed(every_row):
    missed = [
        row["reply"]
        for row in every_row
        if row["label"] is not None and confusion.strict(row) is None
    ]
    known = {row["reply"]: row["reason"] for row in every_row if row.get("known")}
    assert len(known) <= 5
    assert sorted(missed) == sorted(known)


def test_beats_the_peers_in_agreement_and_in_wrong_guesses():
    ours, *peers = confusion.READERS.values()
    for name in confusion.SETS:
        rows = confusion.load(name)
        own = confusion.confusion(rows, ours)
        for peer in peers:
            theirs = confusion.confusion(rows, peer)
            assert sum(own[key] for key in confusion.AGREE) > sum(
                theirs[key] for key in confusion.AGREE
            )
            assert sum(own[key] for key in confusion.WRONG) < sum(
                theirs[key] for key in confusion.WRONG
            )


def test_the_published_table_is_the_computed_one():
    published = HERE.parent / "docs" / "scoring_closed.md"
    assert published.read_text(encoding="utf-8") == confusion.report()


def test_token_set_peer_has_the_faults_that_are_known_of_it():
    # Word order is lost, a bare letter and a letter beside the text are refused.
    directions = ["From near to far", "From far to near"]
    assert confusion.token_set("From near to far", directions) is None
    assert confusion.token_set("B", DRINKS) is None
    assert confusion.token_set("It is coffee, not tea.", DRINKS) is None
    assert confusion.token_set("Coffee", DRINKS) == 1


# --- statements over real choices, and cut replies -------------------------------------------------


def test_every_option_of_the_sample_reads_as_itself_however_it_is_stated():
    choices = {
        tuple(row["choices"])
        for value, category in data.CATEGORY_BY_VALUE.items()
        if category.kind == "closed"
        for row in data.load_category(value, sample=True)
    }
    assert len(choices) > 20
    found = list(reading_ways.readings(sorted(choices)))
    assert len(found) > 2000
    assert [one for one in found if one[2] != one[3]] == []


def test_chains_of_thought_that_are_cut_at_any_word_are_never_misread():
    chains = (HERE / "data" / "closed_chains.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(chains) == 10
    for row in map(json.loads, chains):
        reply, choices, label = row["reply"], row["choices"], row["label"]
        assert read(reply, choices) == label
        ends = [i for i, character in enumerate(reply) if character.isspace()]
        cut = {reply[:end]: read(reply[:end], choices, finish="length") for end in ends}
        assert {text: found for text, found in cut.items() if found not in (None, label)} == {}


@pytest.mark.parametrize(
    "reply", ["B", "Coffee", "The answer is B", "It may be coffee.", "A. Tea w"]
)
def test_reply_that_was_cut_states_only_what_was_stated_before(reply):
    assert match(reply, DRINKS, finish="length").status == "unparsed"
    assert read(f"The answer is C. {reply}", finish="length") in (2, None)


@pytest.mark.parametrize(
    "reply", ["The answer is (B). I can h", "B. Coffee. One can", "\\boxed{B} since the"]
)
def test_statement_that_was_over_before_the_cut_counts(reply):
    assert read(reply, finish="length") == read(reply, finish="stop") == 1


# --- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    ["B", "b", "(B)", "B.", "**B**", "Answer: B", "The answer is (B), as heard.", "\\boxed{B}"]
    + ["option B", "answer: b", '{"answer": "B"}', "<answer>B</answer>", "Ｂ", "答案是B", "B?"]
    + ["[Answer] B", "<B>", "<answer>B", "-> B", "Possibly B", "B 😊", "B</answer>", "model\nB"]
    + ['{"answer": "B", "reasoning": "I first thought the answer is A"}', "B it is", "B B B B"],
)
def test_letter_is_read(reply):
    assert match(reply, DRINKS).status == "letter"
    assert read(reply) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "Coffee",
        "coffee.",
        "**COFFEE**",
        "“Coffee”",
        "The answer is coffee.",
        "ｃｏｆｆｅｅ",
        "Coffee?",
    ],
)
def test_text_is_read(reply):
    assert match(reply, DRINKS) == Match(1, "text", match(reply, DRINKS).evidence)
    assert match(reply, DRINKS).status == "text"


@pytest.mark.parametrize(
    ("reply", "choices", "index"),
    [
        ("hip-hop", ["Jazz", "Hip hop"], 1),
        ("hiphop", ["Jazz", "Hip hop"], 1),
        ("120bpm", ["60 BPM", "120 BPM"], 1),
        ("120", ["60 BPM", "120 BPM"], 1),
        ("twenty-three", ["2", "3", "23"], 2),
        ("3", ["two", "three"], 1),
        ("2nd", ["First", "Second"], 1),
        ("1,000", ["100", "1000"], 1),
        (".5", ["5", "0.5"], 1),
        ("10 dollars", ["$5", "$10"], 1),
        ("20 percent", ["10%", "20%"], 1),
        ("C♯ minor", KEYS, 3),
        ("Bb major", KEYS, 1),
        ("It is in B♭ major.", KEYS, 1),
        ("None of these", TREND, 3),
        ("It decreases.", TREND, 1),
        ("constant", TREND, 2),
        ("Both", ["The man", "The woman", "Both the man and the woman"], 2),
        ("Beyonce", ["Beyoncé", "Adele"], 0),
        ("AT THE ANSWERS", ["At the answers", "At the questions"], 0),
        ("Only statement 1", ["Statement 1 only", "Statement 2 only"], 0),
        ("Yes", ["Yes, because it rains", "No, because it is dry"], 0),
    ],
)
def test_other_ways_to_write_an_option(reply, choices, index):
    assert read(reply, choices) == index


@pytest.mark.parametrize(
    "reply",
    [
        "The key is E minor.",
        "It is in a minor key.",
        "minor",
        "C minor",
        "A minor third",
        "A major",
    ],
)
def test_note_that_is_an_article_elsewhere_belongs_to_its_option(reply):
    assert read(reply, KEYS) is None
    assert read("It is in A minor.", KEYS) == read("a minor", KEYS) == 0
    assert read("D minor", KEYS) == 2


@pytest.mark.parametrize("reply", ["It is by a band.", "A police siren.", "Who knows?", "A band"])
def test_article_of_a_name_belongs_to_it(reply):
    assert read(reply, BANDS) is None
    assert read("This is The Who.", BANDS) == 0
    assert read("It's a band called Queen.", BANDS) == 1


@pytest.mark.parametrize("reply", ["A dog barks.", "A man speaks.", "The answer is a mystery."])
def test_article_is_not_the_letter_a(reply):
    assert match(reply, DRINKS).status == "unparsed"


@pytest.mark.parametrize("reply", ["I hear drums.", "I was right.", "I, as an AI, cannot hear."])
def test_pronoun_is_not_the_letter_i(reply):
    assert match(reply, ORCHESTRA).status == "unparsed"


def test_letter_i_is_read_where_it_stands_alone():
    assert read("I", ORCHESTRA) == read("The answer is I.", ORCHESTRA) == 8


@pytest.mark.parametrize("reply", ["B. Tea", "Coffee (A)", "The answer is B (Milk)", "**D. Tea**"])
def test_letter_and_text_that_disagree_are_ambiguous(reply):
    assert match(reply, DRINKS).status == "ambiguous"


@pytest.mark.parametrize("reply", ["A and C", "either A or B", "Tea or coffee", "A\nB", "A/B"])
def test_several_options_are_ambiguous(reply):
    assert match(reply, DRINKS).status == "ambiguous"


@pytest.mark.parametrize("reply", ["not B", "It isn't coffee.", "B is wrong.", "Neither A nor B."])
def test_negated_option_is_no_statement(reply):
    assert match(reply, DRINKS).status == "unparsed"


@pytest.mark.parametrize("reply", ["It isn't A but C.", "Nicht A, sondern C.", "不是A，而是C。"])
def test_correction_after_a_negation_counts(reply):
    assert read(reply) == 2


@pytest.mark.parametrize(
    "reply",
    ["The answer is A. Wait: the answer is C.", "Answer: A\nAnswer: C", "A, no wait, C."]
    + ["You might think the answer is A, but it's C.", "The answer is A? No, C."]
    + ["The answer is B... no, sorry, C.", "Answer: A. Actually C.", "B. Hmm no. C."]
    + ["Option A seems plausible. However, this matches option C."],
)
def test_last_explicit_statement_wins(reply):
    assert read(reply) == 2


@pytest.mark.parametrize("reply", ["B. Wait, let me listen again.", "B... or is it C?"])
def test_statement_that_is_taken_back_is_none(reply):
    assert match(reply, DRINKS).status == "unparsed"


def test_reasoning_is_not_read():
    assert read("<think>The answer is A.</think>C") == 2
    assert read("The answer is A.</think>C") == 2
    assert match("<think>The answer is A.", DRINKS).status == "unparsed"
    assert match("<think>The answer is A.</think>", DRINKS).status == "unparsed"
    assert read("C\n\nQuestion: and which is hot?\nAnswer: A") == 2


def test_mention_in_passing_counts_in_short_replies_only():
    assert read("I can hear someone making coffee.") == 1
    assert read("A machine hums. Then someone laughs. They are making coffee. It is late.") is None


def test_weak_copula_against_a_statement_is_ambiguous_not_guessed():
    assert match("C\n\nIt is tea that most would expect.", DRINKS).status == "ambiguous"


@pytest.mark.parametrize("reply", ["Is it coffee?", "Could it be (B)?", "Tea? Or coffee?"])
def test_question_is_no_statement(reply):
    assert read(reply) is None


@pytest.mark.parametrize("reply", ["I cannot tell if it is coffee.", "Sorry, no coffee audio."])
def test_refusal_that_mentions_an_option_is_unparsed(reply):
    assert match(reply, DRINKS).status == "unparsed"


@pytest.mark.parametrize("reply", ["", " \n", "...", "**", "<think></think>", "```\n```"])
def test_reply_without_words_is_empty(reply):
    assert match(reply, DRINKS).status == "empty"


def test_list_of_all_options_is_ignored_beside_a_statement():
    options = "A. Tea\nB. Coffee\nC. Milk\nD. Water"
    assert match(options, DRINKS).status == "ambiguous"
    assert read(f"{options}\n\nThe answer is C.") == read(f"The answer is C.\n\n{options}") == 2
    assert read(f"{options}\n\nB") == 1


@pytest.mark.parametrize(
    ("reply", "choices", "index"),
    [
        ("The key is C minor.", ["C major", "C minor"], 1),
        ("From near to far", ["Far", "From near to far", "Near"], 1),
        ("10", ["1", "10"], 1),
        ("A bass guitar is heard.", ["Bass", "Guitar", "Bass guitar"], 2),
        ("C#", ["C", "C#"], 1),
        ("It is −5 dB.", ["5 dB", "-5 dB"], 1),
        ("4/4", ["4", "3/4", "4/4"], 2),
        ("It's a piano, specifically a grand piano.", ["Piano", "Grand piano"], 1),
    ],
)
def test_longest_option_wins_where_one_contains_another(reply, choices, index):
    assert read(reply, choices) == index


@pytest.mark.parametrize("reply", ["1.5", "100", "11", "1/2", "-1", "1%", "1-2", "MP1", "1st"])
def test_number_inside_another_number_is_not_found(reply):
    assert read(reply, ["1", "2"]) is None


def test_duplicate_options_are_told_apart_by_letter_only():
    twins = ["Echo", "echo ", "Reverb"]
    assert match("Echo", twins).status == "ambiguous"
    assert read("B. echo", twins) == 1
    assert read("reverb", twins) == 2


def test_single_letter_options_are_weighed_both_ways():
    assert match("A", NOTES).status == "ambiguous"
    assert match("The answer is C.", NOTES).status == "ambiguous"
    assert read("G", NOTES) == 2
    assert read("B", NOTES) == read("(B)", NOTES) == read("Option B", NOTES) == 1
    assert read("C. G", NOTES) == 2
    assert read("B", ["A", "B", "C"]) == 1


def test_letters_that_the_choices_carry_are_taken_off():
    assert read("Coffee", ["A. Tea", "B. Coffee"]) == 1
    assert read("B. Coffee", ["(A) Tea", "(B) Coffee"]) == 1


def test_letter_beyond_the_choices_is_no_letter():
    assert match("E", DRINKS).status == "unparsed"
    assert match("E. Coffee", DRINKS).status == "ambiguous"


def test_more_than_26_choices_are_read_by_text_beyond_z():
    many = [f"item {i}" for i in range(30)]
    assert read("item 29", many) == 29
    assert read("Z", many) == 25


def test_common_words_count_as_statements_but_not_in_passing():
    assert read("No, it is louder.", ["Yes", "No"]) == 1
    assert match("There is no music.", ["Yes", "No"]).status == "unparsed"
    assert match("No, I cannot tell.", ["Yes", "No"]).status == "unparsed"


def test_no_choices_means_nothing_to_read():
    assert match("B", []).status == "unparsed"


def test_evidence_is_the_part_that_decided():
    assert match("Tea is quiet. The answer is (B) Coffee, as heard.", DRINKS).evidence == (
        "(B) Coffee"
    )


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reply", [None, 3, float("nan"), b"B"])
def test_reply_that_is_no_string_is_refused(reply):
    with pytest.raises(ScoringError, match="reply must be a string"):
        match(reply, DRINKS)


@pytest.mark.parametrize("choices", ["ABCD", [1, 2], [None]])
def test_choices_that_are_no_list_of_strings_are_refused(choices):
    with pytest.raises(ScoringError, match="choices must be a list of strings"):
        match("B", choices)


def test_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="mode='lenient' is unknown. Use one of: strict"):
        match("B", DRINKS, mode="lenient")
    assert MODES == ("strict",)


# --- properties ----------------------------------------------------------------------------------

CHOICES = st.lists(st.text(max_size=20), max_size=12)
WORDS = st.sampled_from(
    ["the", "answer", "is", "A", "B", "C", "I", "a", "not", "but", "or", "and", "(", ")", ".", ","]
    + [":", "?", "\n", "**", "Tea", "coffee", "milk", "<think>", "</think>", "\\boxed{", "}"]
    + ["because", "option", "it's", "so", "No", "wait", "would", "-", "{", '"answer":', "[", "]"]
)
PROSE = st.lists(WORDS, max_size=25).map(" ".join)
FINISHES = st.sampled_from([None, "stop", "length"])


@settings(max_examples=300, deadline=None)
@given(
    reply=st.one_of(st.text(max_size=60), PROSE),
    choices=CHOICES | st.just(DRINKS),
    finish=FINISHES,
)
def test_index_is_always_one_of_the_choices(reply, choices, finish):
    found = match(reply, choices, finish=finish)
    assert found.status in STATUSES
    if found.status in ("letter", "text"):
        assert found.index is not None
        assert 0 <= found.index < len(choices)
    else:
        assert found.index is None


@settings(max_examples=300, deadline=None)
@given(
    choices=st.lists(
        st.text(string.ascii_lowercase + " '-éß中0123456789", min_size=3, max_size=25).filter(
            lambda text: sum(c.isalnum() for c in text) >= 3 and text.strip()[0].isalnum()
        ),
        min_size=1,
        max_size=6,
        unique_by=lambda text: text.casefold().strip(),
    ),
    number=st.integers(0, 5),
)
def test_reply_that_is_an_options_text_never_returns_another_option(choices, number):
    k = number % len(choices)
    assert read(choices[k], choices) in (k, None)


TREES = ["oak", "elm", "ash", "fir", "yew", "pine", "cedar", "maple", "birch", "willow", "rowan"]


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from(TREES), min_size=2, max_size=6, unique=True),
    decorate=st.sampled_from(["{}", "{}.", "**{}**", " {}\n", '"{}"', "({})", "{}!", "`{}`"]),
    number=st.integers(0, 5),
)
def test_reply_that_is_exactly_an_options_text_returns_it(words, decorate, number):
    k = number % len(words)
    assert read(decorate.format(words[k].title()), words) == k
    letter = string.ascii_uppercase[k]
    assert read(f"{letter}. {words[k]}", words) == k
    other = words[(k + 1) % len(words)]
    assert match(f"{letter}. {other}", words).status == "ambiguous"


@settings(max_examples=100, deadline=None)
@given(problem=st.text(max_size=40), choices=CHOICES)
def test_error_reply_never_scores(problem, choices):
    found = match(error_reply(problem, file="B.wav", fix="Answer: B"), choices)
    assert (found.index, found.status) == (None, "errored")


# --- long replies --------------------------------------------------------------------------------


def test_long_reply_is_read_whole():
    filler = "The kettle hums and the room is (quiet), I think. " * 2000
    assert read(filler + "The answer is B.") == 1


@pytest.mark.parametrize("unit", ["tea or ", "answer tea ", "the answer is (B) ", "cannot "])
def test_endless_repetition_is_read_like_a_short_one(unit):
    short, long = match(unit * 40, DRINKS), match(unit * 2000, DRINKS)
    assert (long.index, long.status) == (short.index, short.status)


def _calls(reply):
    """Return how many functions, ours and built-in ones, are called to read a reply."""
    count = 0

    def profile(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        match(reply, DRINKS)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [
        "no wait, ",
        "the answer is B. ",
        "not A but ",
        "A. Tea\n",
        "tea, then ",
        "cannot tell if tea ",
    ]
    + ["I think ", "right now ", "<think>", "</think>", "B? ", "all right ", "\\boxed{B} ", "1, "],
)
def test_work_grows_in_proportion_to_the_length(unit):
    match(unit, DRINKS)  # prepares the choices once
    short, long = (_calls(unit * count) for count in (500, 1000))
    # Twice the work and a fixed part; a step for every pair of places would be four times.
    assert long < 2.2 * short + 200
