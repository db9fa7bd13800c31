"""The released rules of MMAU, MMAR and MMSU, quirks included; tools/compare_released.py runs the scripts."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import compare_released
from mmaupro_ext.scoring.official_rules import (
    first_letter,
    lettered,
    lettered_token_sets,
    token_sets,
)

DRINKS = ["Tea", "Black coffee", "Hot black tea", "No drink at all"]


@pytest.mark.parametrize(
    ("answer", "reply", "right"),
    [
        ("Tea", "tea", True),
        ("Tea", "TEA!", True),
        ("Tea", "Somebody pours tea.", True),
        ("Tea", "B", False),  # a letter is no word of the answer
        ("Tea", "hot tea", False),  # "hot" is a word of another choice
        ("Tea", "(A) Tea", True),  # the letter is no word of any choice
        ("Tea", "(C) Hot black tea", False),
        ("Tea", "There is no tea", False),  # a word that it shares with a wrong choice by chance
        ("Hot black tea", "black tea, hot", True),  # the order of words does not matter
        ("Hot black tea", "Hot tea", False),
        ("Black coffee", "Black coffee", True),
        ("Tea", "", False),
        ("Tea", "?!", False),
    ],
)
def test_every_word_of_the_answer_and_none_of_the_others(answer, reply, right):
    assert token_sets(answer, reply, DRINKS).right is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Cat", False),  # the letter must be repeated
        ("B", False),
        ("(B) Cat", True),
        ("B. Cat", True),
        ("It is a cat (B)", False),  # "a" is the letter of the first choice
        ("It is the cat (B)", True),
    ],
)
def test_with_the_letters_of_the_parquet_the_letter_counts_as_a_word(reply, right):
    assert lettered_token_sets("Cat", reply, ["Dog", "Cat"]).right is right
    assert token_sets("(B) Cat", reply, lettered(["Dog", "Cat"])).right is right


def test_a_wrong_choice_with_the_words_of_the_answer_is_accepted():
    assert token_sets("one, two", "two one", ["one, two", "two, one"]).right is True


def test_an_answer_without_words_accepts_whatever_names_no_other_choice():
    assert token_sets("?", "anything", ["?", "Dog"]).right is True


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("C", True),
        ("C.", True),
        ("(C)", True),
        ("C) Hot black tea", True),
        ("The answer is C.", True),
        ("Clearly the last one", True),  # the first letter of a word
        ("Better not: C", False),
        ("Do I hear C.", False),
        ("  \n C", True),
        ("A\nC.", False),
        ("", False),
        ("None", False),
        (" \n", False),
        ("c", None),
        ("The answer is C", None),
        ("**C**", None),
        ("?C", None),
        ("?C?", True),
        ("Non\ne", False),  # line breaks go before the comparison with "None"
    ],
)
def test_the_first_or_the_second_last_character_or_dropped(reply, right):
    assert first_letter("Hot black tea", reply, DRINKS).right is right


def test_the_letter_of_a_missing_choice_is_wrong_and_names_none():
    ruling = first_letter("None", "B", ["None", "", "Dog", ""])
    assert (ruling.right, ruling.index) == (False, None)
    assert first_letter("None", "A", ["None", "", "Dog", ""]).right is True


@given(st.text(max_size=12))
def test_only_a_reply_with_words_has_no_verdict(reply):
    ruling = first_letter("Tea", reply, DRINKS)
    text = reply.strip().replace("\n", "")
    assert (ruling.right is None) == (
        text not in ("", "None") and text[0] not in "ABCD" and text[-2:-1] not in tuple("ABCD")
    )


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("coffee", "lacks words of the answer: tea; has words of wrong choices: coffee"),
        ("  ", "has no words"),
    ],
)
def test_a_ruling_says_why(reply, why):
    assert token_sets("Tea", reply, DRINKS).why == why


SCRIPT = """
import json, sys
from mmaupro_ext.scoring.official_rules import token_sets
def string_match(answer, prediction, choices):
    return token_sets(answer, prediction, choices).right{quirk}
if __name__ == "__main__":
    rows = json.load(open(sys.argv[2]))
    right = [string_match(row["answer"], row["model_output"], row["choices"]) for row in rows]
    print(f"Total Accuracy: {{100 * sum(right) / len(right):.2f}}% over {{len(right)}} samples")
"""


@pytest.mark.parametrize(("quirk", "status"), [("", 0), (" or prediction == 'B'", 1)])
def test_the_comparison_with_a_released_script_finds_a_quirk(
    tmp_path, monkeypatch, capsys, quirk, status
):
    script, rows = tmp_path / "evaluation.py", tmp_path / "rows.json"
    script.write_text(SCRIPT.format(quirk=quirk))
    rows.write_text(json.dumps([{"answer": "Tea", "choices": DRINKS}] * 20))
    monkeypatch.setattr(sys, "argv", ["compare_released", "mmau", str(script), str(rows)])
    assert compare_released.main() == status
    assert ("differs:" in capsys.readouterr().out) == bool(status)
