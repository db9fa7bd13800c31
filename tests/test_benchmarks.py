"""Benchmarks as data: rows of each release with their odd cases, their tasks' names, their prompts."""

from __future__ import annotations

import json

import pytest

from mmaupro_ext import benchmarks, scoring
from mmaupro_ext.benchmarks import BENCHMARKS, RowError, parse_task
from mmaupro_ext.data.questions import prompt

DESCRIBED = [name for name, one in BENCHMARKS.items() if one.read_row is not None]


def mmau_row(**changes) -> dict:
    others = {"id": "i", "task": "music", "category": "Reasoning", "difficulty": "easy"}
    others |= changes.pop("others", {})
    row = {
        "context": "data/i.wav",
        "instruction": "Which one?",
        "choices": ["(A) Tea", "(B) Coffee"],
        "answer": "(B) Coffee",
        "other_attributes": json.dumps(others),
    }
    return row | changes


def mmsu_row(**changes) -> dict:
    row = {
        "id": "i", "audio": "data/i.wav", "question": "Which one?", "answer_gt": "Tea",
        "choice_a": None, "choice_b": "Tea", "choice_c": None, "choice_d": "Coffee",
        "category": "Reasoning", "sub-category": "Linguistics", "sub-sub-category": "Semantics",
    }  # fmt: skip
    return row | changes


def test_letters_are_taken_off_choices_and_answer_where_they_count_the_choices():
    read = BENCHMARKS["mmau"].read_row
    assert read(mmau_row())["choices"] == ["Tea", "Coffee"]
    assert read(mmau_row())["answer"] == "Coffee"
    # "(B)" before a first choice is part of its text.
    odd = read(mmau_row(choices=["(B) side", "(B) Coffee"]))
    assert odd["choices"] == ["(B) side", "Coffee"]
    assert read(mmau_row(choices=["Tea", "Coffee"], answer="Tea"))["answer"] == "Tea"


def test_a_choice_keeps_its_own_white_space():
    """Some released choices begin with a space; the letter and one space before it are no part of them."""
    row = mmau_row(choices=["(A)  Tea", "(B)  Coffee"], answer="(B)  Coffee")
    assert BENCHMARKS["mmau"].read_row(row)["choices"] == [" Tea", " Coffee"]
    assert BENCHMARKS["mmau"].read_row(row)["answer"] == " Coffee"


def test_a_list_where_a_text_is_expected_is_its_only_entry():
    row = mmau_row(others={"category": ["Reasoning"]})
    assert BENCHMARKS["mmau"].read_row(row)["attributes"]["category"] == "Reasoning"
    row = mmau_row(others={"category": ["Reasoning", "Other"]})
    assert BENCHMARKS["mmau"].read_row(row)["attributes"]["category"] is None


@pytest.mark.parametrize(
    "row",
    [
        mmau_row(choices=["(A) Tea"]),
        mmau_row(choices="(A) Tea"),
        mmau_row(answer="(B) Milk"),
        mmau_row(instruction=None),
        mmau_row(context=None),
    ],
)
def test_a_row_of_mmau_that_cannot_be_asked_says_so(row):
    with pytest.raises(RowError, match="column"):
        BENCHMARKS["mmau"].read_row(row)


@pytest.mark.parametrize("others", ["no JSON", "[]", json.dumps({"id": "i", "task": "dance"})])
def test_a_row_of_mmau_without_id_or_task_has_no_identity(others):
    with pytest.raises(RowError, match="other_attributes"):
        BENCHMARKS["mmau"].identify(mmau_row(other_attributes=others))


def test_choices_of_mmsu_keep_their_letters_where_others_are_null():
    assert BENCHMARKS["mmsu"].read_row(mmsu_row())["choices"] == ["", "Tea", "", "Coffee"]


def test_a_choice_named_none_is_a_choice():
    row = mmsu_row(choice_a="None", answer_gt="None")
    assert BENCHMARKS["mmsu"].read_row(row)["choices"][0] == "None"
    with pytest.raises(RowError, match="answer_gt"):  # a null is not the text "None"
        BENCHMARKS["mmsu"].read_row(mmsu_row(answer_gt="None"))


@pytest.mark.parametrize(
    ("levels", "leaf"),
    [
        (("Reasoning", "Linguistics", "Semantics"), "Reasoning: Semantics"),
        (("Perception", "Phonology", None), "Perception: Phonology"),
        (("perception", "paralinguistics", "speaking style"), "Perception: Paralinguistics"),
        (("Perception", "Speaker Traits", None), "Perception: Paralinguistics"),
    ],
)
def test_the_leaf_of_mmsu_whichever_level_names_it(levels, leaf):
    names = ("category", "sub-category", "sub-sub-category")
    row = mmsu_row(**dict(zip(names, levels, strict=True)))
    assert BENCHMARKS["mmsu"].identify(row) == ("i", leaf)


@pytest.mark.parametrize("level", ["Syntax", None])
def test_a_level_that_is_not_known_is_an_error_not_another_leaf(level):
    with pytest.raises(RowError, match="levels"):
        BENCHMARKS["mmsu"].identify(mmsu_row(**{"sub-category": level, "sub-sub-category": None}))


def test_the_clip_of_mmar_is_named_by_its_path_not_by_its_id():
    row = {"id": "other", "audio_path": "./data/x.wav", "question": "Q", "answer": "Tea"}
    row |= {"choices": ["Tea", "Milk"], "modality": "mix-sound-music"}
    assert BENCHMARKS["mmar"].read_row(row)["audio_path"] == ["data/x.wav"]
    with pytest.raises(RowError, match="answer"):
        BENCHMARKS["mmar"].read_row(row | {"answer": "tea"})


def ask(name: str, row: dict, how: str = "own") -> str:
    benchmark = BENCHMARKS[name]
    _, category = benchmark.identify(row)
    doc = {"benchmark": name, "category": category, "prompt": how, **benchmark.read_row(row)}
    if how != "own":
        doc["choices"] = [choice for choice in doc["choices"] if choice]
    return prompt(doc)


def test_prompts_of_the_authors_word_for_word():
    assert ask("mmau", mmau_row()) == (
        "<audio>\nWhich one?  Select one option from the provided choices.\n['Tea', 'Coffee']."
    )
    assert ask("mmsu", mmsu_row()) == (
        "<audio>\nChoose the most suitable answer from options A, B, C, and D. You must respond with only A, "
        "B, C, or D.\n\nQuestion: Which one?\n\nA. None\nB. Tea\nC. None\nD. Coffee"
    )
    row = {"id": "i", "audio_path": "x", "question": "Q", "answer": "Tea", "modality": "sound"}
    assert ask("mmar", row | {"choices": ["Tea", "Milk"]}) == (
        "<audio>\nQ\nSelect one option from the provided choices:\nTea\nMilk"
    )


def test_our_prompts_show_no_choice_that_is_not_there():
    assert "(A) Tea\n(B) Coffee\n" in ask("mmsu", mmsu_row(), "letter")
    assert "- Tea\n- Coffee\n" in ask("mmsu", mmsu_row(), "text")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mmau", ("mmau", False, "", "")),
        ("mmau-sample-ll_sound", ("mmau", True, "ll", "sound")),
        ("mmau-test_music", ("mmau-test", False, "", "music")),
        ("mmau-text_music", ("mmau", False, "text", "music")),
        ("mmaupro-sample-text_sound_music", ("mmaupro", True, "text", "sound_music")),
        ("mmsu_perception", ("mmsu", False, "", "perception")),
        ("mmsu-letter_reasoning_semantics", ("mmsu", False, "letter", "reasoning_semantics")),
        ("mmau_dance", None),
        ("mmaupro-letter_sound", None),
        ("mmau-test-ll", None),
        ("mmlu", None),
    ],
)
def test_what_the_name_of_a_task_asks(name, expected):
    found = parse_task(name)
    assert (found and (found.benchmark, found.sample, found.variant, found.part)) == expected


@pytest.mark.parametrize("name", DESCRIBED)
def test_no_new_task_matches_the_pattern_of_mmau_pro(name):
    assert not BENCHMARKS[name].task(part="x").startswith("mmaupro_")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_categories_are_told_apart_and_sum_to_the_release(name):
    benchmark = BENCHMARKS[name]
    assert len(benchmark.by_slug) == len(benchmark.by_value) == len(benchmark.categories)
    stated = [category.expected_count for category in benchmark.categories]
    assert sum(stated) == benchmark.items or not any(stated)


# --- scores --------------------------------------------------------------------------------------

DRINK = {
    "id": "i", "benchmark": "mmau", "category": "music", "audio_path": [], "attributes": {},
    "question": "Q", "choices": ["Tea", "Black coffee"], "answer": "Tea", "prompt": "own",
}  # fmt: skip


def test_strict_reads_a_letter_that_the_official_rule_does_not_know():
    assert scoring.score(DRINK, "(A)").score == 1.0
    assert scoring.score(DRINK, "(A)", "official").score == 0.0
    assert scoring.score(DRINK, "(A)", "official+letters=on").score == 1.0


def test_the_texts_of_the_parquet_make_the_letter_part_of_the_answer():
    lettered = "official+closed=lettered-token-sets"
    assert scoring.score(DRINK, "Tea", lettered).score == 0.0
    assert scoring.score(DRINK, "(A) Tea", lettered).score == 1.0


def test_a_reply_that_mmsu_drops_is_wrong_under_strict_and_has_no_official_score():
    doc = {**DRINK, "benchmark": "mmsu", "category": "Reasoning: Semantics"}
    official = scoring.score(doc, "The answer is B", "official")
    assert (official.score, official.dropped) == (None, True)
    assert "second-last" in official.details["why"]
    assert scoring.score(doc, "The answer is B").score == 0.0
    assert scoring.score(doc, "", "official").score == 0.0


def test_an_item_whose_answer_is_withheld_is_read_and_not_scored():
    doc = {**DRINK, "benchmark": "mmau-test", "answer": None}
    verdict = scoring.score(doc, "Tea", "official")
    assert (verdict.score, verdict.parsed, verdict.status) == (None, True, "text")
    assert scoring.score(doc, "Tea").score is None


def test_an_errored_item_is_wrong_under_every_preset():
    doc = {**DRINK, "problem": "row 3"}
    assert {scoring.score(doc, "Tea", name).score for name in BENCHMARKS["mmau"].presets} == {0.0}


def test_a_preset_of_another_benchmark_is_refused():
    with pytest.raises(Exception, match="nemo-skills is not defined for MMAU"):
        scoring.score(DRINK, "Tea", "nemo-skills")


def test_documents_without_a_benchmark_are_those_of_mmau_pro():
    assert benchmarks.of({}).name == "mmaupro"
