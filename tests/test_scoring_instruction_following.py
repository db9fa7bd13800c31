"""The 27 instruction checks, in one file as they are: quirks of the official ones, and their repair."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import instruction_following
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.instruction_following import (
    GROUPS,
    IDENTIFIERS,
    CheckResult,
    SentenceDataError,
    check,
    evaluate,
    sentences,
    split_sentences,
)

SENTENCE_CHECKS = [name for name in IDENTIFIERS if name.startswith("Number Sentences")]


def official(identifier, response, question="What is heard?", **kwargs):
    return check(identifier, kwargs, response, question)


def strict(identifier, response, question="What is heard?", **kwargs):
    return check(identifier, kwargs, response, question, mode="strict")


@pytest.fixture
def without_nltk_data(monkeypatch):
    """No NLTK data is found, whatever this machine has."""
    import nltk.data

    monkeypatch.setattr(nltk.data, "path", [])
    _forget_tokenizers()
    yield
    _forget_tokenizers()


@pytest.fixture
def with_nltk_data(monkeypatch, tmp_path):
    """A small punkt_tab that knows one abbreviation, in NLTK's own format."""
    import nltk.data

    folder = tmp_path / "tokenizers" / "punkt_tab" / "english"
    folder.mkdir(parents=True)
    (folder / "abbrev_types.txt").write_text("dr\n")
    (folder / "sent_starters.txt").write_text("the\n")
    (folder / "collocations.tab").write_text("##number##\tnotable\n")
    (folder / "ortho_context.tab").write_text("the\t46\n")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    _forget_tokenizers()
    yield
    _forget_tokenizers()


def _forget_tokenizers():
    from nltk import tokenize

    cached = getattr(tokenize, "_get_punkt_tokenizer", None)
    if cached is not None:
        cached.cache_clear()


# One reply that follows each instruction and one that does not, in both modes.
PLAIN = {
    "Include Keywords": ({"keywords": "rain, Dog"}, "A dog in the rain", "A dog in the sun"),
    "Keyword Frequency": ({"keyword": "dog", "N": 2}, "Dog and dog", "dog"),
    "Forbidden Words": ({"forbidden_words": "rain, dog"}, "A cat", "A DOG"),
    "Number Paragraphs": ({"N": 2}, "One\n***\nTwo", "One"),
    "Number Words (at least)": ({"N": 3}, "one two three", "one two"),
    "Number Words (at most)": ({"N": 2}, "one two", "one two three"),
    "Number Words (range)": ({"N1": 2, "N2": 3}, "one two", "one"),
    "Number Sentences (at least)": ({"N": 2}, "It rains. The dog barks.", "It rains."),
    "Number Sentences (at most)": ({"N": 1}, "It rains.", "It rains. The dog barks."),
    "Number Sentences (range)": ({"N1": 2, "N2": 3}, "It rains. The dog barks.", "It rains."),
    "Postscript": ({"postscript_marker": "P.S."}, "Rain.\nP.S. And a dog.", "Rain."),
    "Number Placeholder": ({"N": 2}, "[name] lives in [town]", "[name]"),
    "Number Bullets": ({"N": 2}, "* one\n* two", "* one"),
    "Title": ({}, "<<Rain>>\nIt rains.", "Rain\nIt rains."),
    "Minimum Number Highlighted Section": ({"N": 2}, "*one* and *two*", "*one*"),
    "Multiple Sections": ({"N": 2, "section_splitter": "---"}, "One\n---\nTwo", "One"),
    "Repeat Prompt": ({}, "what is heard? Rain.", "Rain."),
    "Two Responses": ({}, "Rain ****** Hail", "Rain"),
    "All Uppercase": ({}, "IT RAINS.", "It rains."),
    "All Lowercase": ({}, "it rains.", "It rains."),
    "All-capital Words (at least)": ({"N": 2}, "LOUD RAIN falls", "LOUD rain falls"),
    "All-capital Words (at most)": ({"N": 1}, "LOUD rain falls", "LOUD RAIN falls"),
    "All-capital Words (range)": ({"N1": 1, "N2": 2}, "LOUD rain falls", "rain falls"),
    "Start Checker": ({"start_phrase": "I hear"}, "I hear rain.", "Rain I hear."),
    "End Checker": ({"end_phrase": "that is all."}, "Rain. That is all.", "That is all. Rain."),
    "Quotation": ({}, '"It rains."', "It rains."),
    "No Commas": ({}, "Rain and hail.", "Rain, hail."),
}


def test_there_are_27_identifiers_and_each_has_an_example():
    assert len(IDENTIFIERS) == len(set(IDENTIFIERS)) == 27
    assert set(PLAIN) == set(IDENTIFIERS)


def test_groups_hold_known_identifiers_once():
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    outside = set(IDENTIFIERS) - set(grouped)
    assert outside == {"Start Checker", "End Checker", "Quotation", "No Commas"}


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_plain_cases_pass_and_fail_in_both_modes(identifier, with_nltk_data):
    kwargs, good, bad = PLAIN[identifier]
    # A field of the struct that the row does not use comes back as None.
    every = dict.fromkeys(["N", "N1", "N2", "keyword", "keywords", "start_phrase", "end_phrase"])
    for mode in ("official", "strict"):
        assert check(identifier, kwargs, good, "What is heard?", mode) is True, mode
        assert check(identifier, kwargs, bad, "What is heard?", mode) is False, mode
        assert check(identifier, {**every, **kwargs}, good, "What is heard?", mode) is True, mode


# --- quirks of the official script, in its order of listing --------------------------------------


def test_quirk_missing_reply_is_the_text_nan_or_none():
    for missing in (float("nan"), None):
        assert official("No Commas", missing)
        with pytest.raises(ScoringError, match="reply must be a string"):
            strict("No Commas", missing)
    assert official("All Lowercase", float("nan"))
    assert not official("All Lowercase", None)


@pytest.mark.parametrize(
    ("identifier", "kwargs"),
    [
        ("Include Keywords", {"keywords": None}),
        ("Number Words (at least)", {"N": None}),
        ("Number Words (at least)", {"N": "3"}),
        ("Number Words (range)", {"N1": 1, "N2": None}),
        ("Start Checker", {"start_phrase": None}),
        ("Number Bullets", float("nan")),
        ("Number Bullets", '{"N": 3}'),
    ],
)
def test_quirk_crash_of_the_script_is_a_scoring_error(identifier, kwargs):
    with pytest.raises(ScoringError, match="official evaluator stops at kwargs"):
        check(identifier, kwargs, "some reply", "What is heard?")
    result = evaluate(identifier, kwargs, "some reply", "What is heard?")
    assert (result.passed, result.status) == (None, "errored")
    assert identifier in result.note


def test_quirk_number_as_text_never_equals_but_whole_floats_do():
    assert official("Number Bullets", "* one", N=1.0)
    assert not official("Number Bullets", "* one", N="1")
    assert strict("Number Bullets", "* one", N="1")
    assert strict("Number Words (at least)", "one two three", N="3.0")


def test_quirk_kwargs_as_json_text_work_in_strict_mode():
    assert check("Number Bullets", '{"N": 1}', "* one", "", mode="strict")
    with pytest.raises(ScoringError, match="not valid JSON"):
        check("Number Bullets", "{N: 1}", "* one", "", mode="strict")


@pytest.mark.parametrize("kwargs", [{}, None])
@pytest.mark.parametrize(
    ("identifier", "passes"),
    [
        ("Include Keywords", True),
        ("Forbidden Words", False),
        ("Postscript", True),
        ("Start Checker", True),
        ("Number Words (at least)", True),
        ("Keyword Frequency", False),
    ],
)
def test_quirk_missing_arguments_have_defaults_that_decide(identifier, passes, kwargs):
    assert check(identifier, kwargs, "some reply", "") is passes
    with pytest.raises(ScoringError, match="needs the"):
        check(identifier, kwargs, "some reply", "", mode="strict")


def test_quirk_empty_question_passes_repeat_prompt():
    assert official("Repeat Prompt", "anything", question="")
    with pytest.raises(ScoringError, match="has no question"):
        strict("Repeat Prompt", "anything", question="")


def test_quirk_empty_keyword_counts_word_boundaries():
    assert official("Keyword Frequency", "two words", keyword="", N=4)


def test_quirk_empty_splitter_splits_at_every_character():
    assert official("Multiple Sections", "abc", section_splitter="", N=3)


def test_quirk_spaced_divider_is_no_paragraph_break():
    assert not official("Number Paragraphs", "One\n* * *\nTwo", N=2)
    assert strict("Number Paragraphs", "One\n* * *\nTwo", N=2)
    assert official("Number Paragraphs", "***bold*** word", N=2)
    assert strict("Number Paragraphs", "***bold*** word", N=1)


def test_quirk_dashes_are_no_bullets():
    assert not official("Number Bullets", "- one\n- two", N=2)
    assert strict("Number Bullets", "- one\n• two", N=2)
    assert strict("Number Bullets", "* one\n* * *\n* two", N=2)


def test_quirk_highlights_are_counted_between_any_asterisks():
    assert official("Minimum Number Highlighted Section", "**one** and **two**", N=3)
    assert not strict("Minimum Number Highlighted Section", "**one** and **two**", N=3)
    assert strict("Minimum Number Highlighted Section", "**one** and *two*", N=2)
    bullets = "* one\n* two\n* three"
    assert official("Minimum Number Highlighted Section", bullets, N=1)
    assert not official("Minimum Number Highlighted Section", bullets, N=2)
    assert not strict("Minimum Number Highlighted Section", bullets, N=1)


def test_quirk_postscript_is_found_inside_words():
    assert official("Postscript", "Some tips.", postscript_marker="P.S.")
    assert not strict("Postscript", "Some tips.", postscript_marker="P.S.")
    assert strict("Postscript", "Bye. PS: rain", postscript_marker="P.S.")
    assert not strict("Postscript", "P.P.S. rain", postscript_marker="P.S.")


def test_quirk_start_depends_on_the_kind_of_white_space():
    assert not official("Start Checker", "\n Sure", start_phrase="Sure")
    assert official("Start Checker", "\nSure", start_phrase="Sure")
    assert strict("Start Checker", "\n Sure", start_phrase="Sure")
    assert official("Start Checker", "Surely", start_phrase="Sure")
    assert not strict("Start Checker", "Surely", start_phrase="Sure")


def test_quirk_end_depends_on_the_kind_of_white_space():
    assert not official("End Checker", "the end ", end_phrase="the end")
    assert official("End Checker", "the end\n", end_phrase="the end")
    assert strict("End Checker", "the end. ", end_phrase="the end")
    assert not strict("End Checker", "the weekend", end_phrase="end")


def test_quirk_phrase_in_another_script_always_passes():
    assert official("Start Checker", "anything", start_phrase="雨が降る")
    assert not strict("Start Checker", "anything", start_phrase="雨が降る")


def test_quirk_two_responses_counts_asterisks_loosely():
    assert official("Two Responses", "Rain*******Hail")
    assert not strict("Two Responses", "Rain*******Hail")
    assert not official("Two Responses", "Rain************Hail")
    assert official("Two Responses", "Rain******")
    assert not strict("Two Responses", "Rain******")


def test_quirk_text_before_the_first_heading_is_a_section():
    reply = "Intro\nSECTION 1 rain\nSECTION 2 hail"
    assert official("Multiple Sections", reply, section_splitter="SECTION", N=3)
    assert strict("Multiple Sections", reply, section_splitter="SECTION", N=2)


def test_quirk_single_letters_and_signs_are_capital_words():
    reply = "I said HELLO, A OK!"
    assert official("All-capital Words (at least)", reply, N=4)
    assert strict("All-capital Words (range)", reply, N1=2, N2=2)


def test_quirk_one_quotation_mark_is_a_quotation():
    assert official("Quotation", '"')
    assert not strict("Quotation", '"')
    assert not official("Quotation", "“Rain.”")
    assert strict("Quotation", "“Rain.”")


def test_quirk_keywords_are_found_inside_words():
    assert official("Include Keywords", "at the start", keywords="art")
    assert not strict("Include Keywords", "at the start", keywords="art")
    assert not official("Forbidden Words", "first class", forbidden_words="ass")
    assert strict("Forbidden Words", "first class", forbidden_words="ass")


def test_quirk_keyword_that_ends_with_a_sign_is_not_counted():
    assert official("Keyword Frequency", "I like C++ a lot", keyword="C++", N=0)
    assert strict("Keyword Frequency", "I like C++ a lot", keyword="C++", N=1)


def test_quirk_only_the_latin_comma_is_a_comma():
    assert official("No Commas", "雨、犬，音")
    assert not strict("No Commas", "雨、犬，音")


def test_quirk_unknown_identifier_fails():
    assert official("Rhyme", "some reply") is False
    with pytest.raises(ScoringError, match="no check is called 'Rhyme'"):
        strict("Rhyme", "some reply")


# --- sentences -----------------------------------------------------------------------------------


@pytest.mark.parametrize("identifier", SENTENCE_CHECKS)
def test_official_sentence_check_without_nltk_data_raises_with_the_command(
    identifier, without_nltk_data
):
    kwargs, good, _ = PLAIN[identifier]
    with pytest.raises(SentenceDataError, match="python -m nltk.downloader punkt_tab"):
        check(identifier, kwargs, good, "")
    assert check(identifier, kwargs, good, "", mode="strict") is True


@pytest.mark.parametrize("identifier", SENTENCE_CHECKS)
def test_sentence_check_without_nltk_data_is_labelled_a_substitute(identifier, without_nltk_data):
    kwargs, good, bad = PLAIN[identifier]
    for reply, passed in ((good, True), (bad, False)):
        result = evaluate(identifier, kwargs, reply, "")
        assert (result.passed, result.status) == (passed, "substitute")
        assert "nltk.downloader" in result.note
    assert evaluate(identifier, kwargs, good, "", mode="strict") == CheckResult(True, "scored")
    assert evaluate(identifier, {"N": None, "N2": None}, good, "").status == "errored"


def test_official_sentences_come_from_nltk(with_nltk_data):
    text = "Dr. Smith left. The rain fell."
    assert sentences(text) == ["Dr. Smith left.", "The rain fell."]
    result = evaluate("Number Sentences (at most)", {"N": 2}, text, "")
    assert result == CheckResult(True, "scored")


def test_importing_the_module_loads_no_nltk():
    code = (
        "import sys, mmaupro_ext.scoring.instruction_following as m;"
        "assert 'nltk' not in sys.modules, 'nltk was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("Rain", 1),
        ("It rains. The dog barks!  Why?", 3),
        ("Dr. Smith and J. R. Brown heard 3.5 seconds of rain, e.g. drizzle. Good.", 2),
        ('He said "It rains." Then he left.', 2),
        ("1. Rain falls.\n2. A dog barks.", 2),
        ("One line\n\nanother line", 2),
        ("雨が降る。犬が鳴く。", 2),
        ("Well... maybe. Yes", 3),
        ("So did I. Then it rained.", 2),
    ],
)
def test_own_splitter_counts_sentences(text, count):
    assert len(split_sentences(text)) == count


# --- general -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["official", "strict"])
def test_error_reply_never_scores(mode):
    reply = error_reply("file is missing", file="a.wav")
    for identifier, (kwargs, _, _) in PLAIN.items():
        result = evaluate(identifier, kwargs, reply, "What is heard?", mode)
        assert (result.passed, result.status) == (None, "errored"), identifier
        with pytest.raises(ScoringError, match="file is missing"):
            check(identifier, kwargs, reply, "What is heard?", mode)


@pytest.mark.parametrize("reply", ["", "  \n"])
def test_empty_reply_never_passes_strict(reply):
    for identifier, (kwargs, _, _) in PLAIN.items():
        assert check(identifier, kwargs, reply, "What is heard?", mode="strict") is False, (
            identifier
        )


@pytest.mark.parametrize("number", [None, "", "three", 2.5, math.nan, math.inf, True, [3]])
def test_strict_names_a_number_that_is_none(number):
    with pytest.raises(ScoringError, match="Number Bullets: needs the whole number 'N'"):
        strict("Number Bullets", "* one", N=number)


def test_unknown_mode_is_refused():
    for function in (check, evaluate):
        with pytest.raises(ConfigError, match="mode='loose' is unknown"):
            function("Title", {}, "x", "", mode="loose")


@settings(max_examples=300, deadline=None)
@given(
    identifier=st.sampled_from(IDENTIFIERS),
    kwargs=st.dictionaries(
        st.sampled_from(["N", "N1", "N2", "keyword", "keywords", "start_phrase", "end_phrase"]),
        st.none() | st.integers(-1, 30) | st.floats() | st.text(max_size=6),
    )
    | st.none()
    | st.text(max_size=5),
    reply=st.none() | st.floats() | st.text(max_size=50),
    mode=st.sampled_from(["official", "strict"]),
)
def test_evaluate_always_answers(identifier, kwargs, reply, mode):
    result = evaluate(identifier, kwargs, reply, "What is heard?", mode)
    assert (result.passed is None) == (result.status == "errored")
    assert (result.note == "") == (result.status == "scored")
    if mode == "strict":
        assert result.status != "substitute"


def test_module_docstring_lists_every_repaired_check():
    table = instruction_following.__doc__
    for name in IDENTIFIERS:
        assert name.split(" (")[0] in table
