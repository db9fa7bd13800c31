"""The rules of other harnesses, held to vectors that their own code gave (tools/released_vectors.py)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import released_vectors
from mmaupro_ext.scoring.published_rules import HOW, RULES, Outcome
from mmaupro_ext.scoring.voicebench_phrases import phrases

VECTORS = json.loads(released_vectors.TARGET.read_text(encoding="utf-8"))
PURE = [name for name, rule in RULES.items() if rule.apply is not None]
DRINKS = ["Tea", "Coffee", "Milk", "Water"]


def outcome(name: str, reply: str, choices: list[str] = DRINKS, answer: str = "Coffee") -> Outcome:
    apply = RULES[name].apply
    assert apply is not None
    return apply(choices, answer, reply)


def test_a_rule_without_vectors_from_the_code_that_it_repeats_is_noticed():
    assert list(VECTORS) == sorted(PURE)
    assert all(VECTORS[name]["source"] == RULES[name].source for name in PURE)
    # A vector says something only where the rule's ways are all among them.
    ways = {
        name: {outcome(name, *vector[:3]).how for vector in VECTORS[name]["vectors"]}
        for name in PURE
    }
    assert ways["lmms-mmau"] == {"letter", "guess"}
    assert ways["lmms-mmar"] == {"letter", "text", "guess"}
    assert ways["evalscope"] == {"letter", "default", "dropped"}
    assert ways["voicebench"] == {"letter", "guess"}
    assert ways["muchomusic"] == ways["letter-regex"] == {"letter", "text", "none"}
    assert ways["first-letter"] == {"letter", "none", "dropped"}
    assert ways["air-bench"] == {"letter", "dropped"}


@pytest.mark.parametrize("name", PURE)
def test_a_rule_that_differs_from_the_released_code(name):
    differing = [
        vector
        for vector in VECTORS[name]["vectors"]
        if outcome(name, *vector[:3]).score != vector[3]
    ]
    assert differing == []


@pytest.mark.parametrize(
    ("name", "reply", "how", "index"),
    [
        ("lmms-mmau", "(A) or (B)", "letter", 0),  # the last one counts, but these stand nowhere
        ("lmms-mmau", " A or B ", "letter", 1),
        ("lmms-mmau", "coffee", "guess", None),
        ("lmms-mmau", "<think>(A)</think>\nB", "letter", 1),
        ("lmms-mmau", "A</think> B", "letter", 1),  # a thought whose beginning was in the prompt
        ("lmms-mmau", "<think>(A) B", "letter", 0),  # a thought without an end is not taken out
        ("evalscope", "<think>(A)</think> B", "letter", 1),
        ("evalscope", "(A)</think> B", "letter", 0),
        ("voicebench", "<think>it is a.</think> B", "letter", 0),
        ("lmms-mmar", "USA today", "letter", 0),  # the end of a word
        ("lmms-mmar", "somebody pours himself a cup of coffee", "text", 1),
        ("lmms-mmar", "coffee", "guess", None),  # too short for texts to be looked for
        ("evalscope", "answer: because of the hiss", "letter", 1),
        ("evalscope", "coffee", "default", 0),
        ("first-letter", "Coffee", "letter", 2),  # the C of coffee is the letter of milk
        ("first-letter", "**B**", "dropped", None),
        ("air-bench", "", "dropped", None),
        ("first-letter", "", "none", None),
        ("voicebench", "it is a. no, b.", "letter", 0),
        ("voicebench", "The capital of D. is", "letter", 3),
        ("voicebench", "coffee", "guess", None),
        ("muchomusic", "A or B", "none", None),
        ("muchomusic", "Based on it: tea", "letter", 1),
        ("muchomusic", "the steam says coffee", "text", 0),  # "tea" is in steam
        ("letter-regex", "the answer is coffee", "letter", 2),
        ("letter-regex", "Coffee, of course", "text", 1),
    ],
)
def test_a_quirk_that_got_lost(name, reply, how, index):
    found = outcome(name, reply)
    assert (found.how, found.index) == (how, index)


def test_a_draw_that_is_drawn_instead_of_its_expected_value():
    state = random.getstate()
    first = outcome("lmms-mmau", "coffee")
    assert random.getstate() == state
    assert first == Outcome(0.25, "guess")
    assert first.variance == 0.25 * 0.75
    # Drawn from A to D whatever there is: with two choices half of the draws name none of them.
    assert outcome("lmms-mmau", "?", ["Yes", "No"], "No").score == 0.25
    assert outcome("voicebench", "?", ["Yes", "No"], "No").score == 0.25
    assert outcome("lmms-mmar", "?", ["Yes", "No"], "No").score == 0.5
    assert outcome("lmms-mmar", "?", ["Yes", "No"], "Maybe").score == 0.0
    assert outcome("lmms-mmau", "B").variance == 0.0


def test_five_choices_are_asked_where_a_harness_has_four_letters():
    five = [*DRINKS, "Cocoa"]
    assert outcome("evalscope", "E", five, "Cocoa") == Outcome(None, "dropped")
    assert outcome("lmms-mmau", "E", five, "Cocoa") == Outcome(0.0, "guess")
    assert outcome("lmms-mmar", "E", five, "Cocoa") == Outcome(1.0, "letter", 4)


def test_the_answer_of_a_choice_that_is_told_apart_by_its_first_letter_alone():
    keys = ["C major", "G major", "A minor"]
    assert outcome("letter-regex", "G major", keys, "G major").score == 0.0
    assert outcome("letter-regex", "C major", keys, "G major").score == 1.0


def test_a_choice_that_is_not_there_is_found_in_every_reply():
    padded = ["Tea", "", "Coffee", ""]
    reply = "I cannot say what it is at all"
    assert outcome("muchomusic", reply, padded).how == "none"
    assert outcome("lmms-mmar", reply, padded).how == "guess"


def test_a_phrase_that_can_never_be_the_first_is_kept():
    for position, (before, after) in enumerate(phrases()):
        whole = f"{before}\0{after}"
        assert not any(f"{b}\0{a}" in whole for b, a in phrases()[:position]), whole


def test_a_way_that_has_no_words():
    seen = {outcome(name, *vector[:3]).how for name in PURE for vector in VECTORS[name]["vectors"]}
    assert seen <= set(HOW)


def test_a_difference_from_the_released_code_ends_without_vectors(tmp_path, monkeypatch, capsys):
    script = tmp_path / "scoring.py"
    script.write_text(
        "def extract_responses(outputs, options):\n    return [0 for _ in outputs]\n\n\n"
        "def compare_answers(found, orders):\n"
        "    return {'accuracy': float(found[0] == orders[0].index(0))}\n"
    )
    target = tmp_path / "vectors.json"
    monkeypatch.setattr(released_vectors, "TARGET", target)
    command = ["released_vectors", "muchomusic", str(script), "--replies", "5", "--write", "3"]
    monkeypatch.setattr("sys.argv", command)
    assert released_vectors.main() == 1
    assert "differs:" in capsys.readouterr().out
    assert not target.exists()


def test_released_code_that_draws_is_run_once_only(tmp_path):
    script = tmp_path / "mcq.py"
    script.write_text(
        "import random\n\n\nclass MCQEvaluator(Evaluator):\n"
        "    def evaluate(self, data):\n"
        "        found = random.choice(['A', 'B', 'C', 'D'])\n"
        "        return {'acc': 100 * (found == data[0]['reference'])}\n"
    )
    draws = released_vectors.Draws()
    score = released_vectors.scores("voicebench", [Path(script)], draws)
    assert released_vectors.released_score(score, draws, (DRINKS, "Coffee", "?")) == 0.25
