"""The one scorer: what each preset makes of a document and a reply."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import open_ended, score
from mmaupro_ext.scoring.closed_official import match_official
from mmaupro_ext.scoring.scorer import (
    embedding_text,
    gold_indexes,
    judge_decoding,
    judge_messages,
)

PRESETS = ("strict", "official", "nemo-skills")
UNFINISHED = "<think>The answer is coffee, so (B). But"


def closed(answer: str = "Coffee", choices=("Tea", "Coffee", "Milk")) -> dict:
    return {"id": "i", "category": "sound", "answer": answer, "choices": list(choices)}


def instruction(identifier: str, kwargs: dict, **columns) -> dict:
    return {
        "id": "i",
        "category": "instruction following",
        "task_identifier": identifier,
        "kwargs": kwargs,
        "kwargs_null": [],
        "question": "Say why. ",
        "answer": None,
        **columns,
    }


def opened(**columns) -> dict:
    return {"id": "i", "category": "open", "question": "What is it?", "answer": "a cat", **columns}


class FirstLetterEmbedder:
    """Stands for an embedder: texts are near when they begin with the same character."""

    name, label = "first-letter", "not official"

    def encode(self, texts):
        import numpy as np

        rows = np.zeros((len(texts), 128), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[ord(text[0]) % 127 if text else 127] = 1.0
        return rows


def embedded(doc, reply, preset="official"):
    """Score with an embedder, as `offline.rescoring` does."""
    text = embedding_text(doc, reply, preset)
    nearest = None
    if text is not None:
        (nearest,) = match_official([text], [doc["choices"]], FirstLetterEmbedder())
    return score(doc, reply, preset, nearest=nearest)


# --- multiple choice -----------------------------------------------------------------------------


def test_gold_matching_exact_casefold_normalised():
    choices = ["Tea", "coffee ", "Half\u00a0 Milk.", "\uff23 major"]
    assert gold_indexes(choices, "Coffee", "exact") == frozenset()
    assert gold_indexes(choices, "Coffee", "casefold") == {1}
    assert gold_indexes(choices, "half milk", "casefold") == frozenset()
    assert gold_indexes(choices, "half milk", "normalised") == {2}
    assert gold_indexes(choices, "C Major", "normalised") == {3}
    assert gold_indexes(choices, None, "normalised") == frozenset()
    assert gold_indexes(["-5", "5"], "5", "normalised") == {1}


def test_normalised_gold_keeps_choices_apart_that_differ_by_case_alone():
    assert gold_indexes(["am", "AM"], "AM", "normalised") == {1}
    assert gold_indexes(["am", "AM"], "AM", "casefold") == {0, 1}


def test_a_stated_choice_is_right_wrong_or_none():
    for reply, points, parsed in (("B", 1.0, True), ("(A) Tea", 0.0, True), ("hm", 0.0, False)):
        verdict = score(closed(), reply)
        assert (verdict.score, verdict.parsed) == (points, parsed)
    assert score(closed(), "B").details == {
        "stated": "Coffee",
        "chosen": "Coffee",
        "answer": "Coffee",
        "evidence": "B",
    }


def test_option_gold_decides_whether_an_answer_counts():
    assert score(closed("coffee"), "B").score == 1.0
    assert score(closed("coffee"), "B", "strict+gold=exact").score == 0.0


def test_option_closed_embedding_gives_every_reply_a_choice_and_strict_does_not():
    for reply, strict in (("Certainly hard to say", 0.0), ("Coffee", 1.0)):
        assert score(closed(), reply).score == strict
        assert embedded(closed(), reply).score == 1.0


def test_option_letters_replaces_a_bare_letter_before_the_embedding():
    assert embedded(closed(), "B").score == 0.0
    assert embedded(closed(), "B", "official+letters=on").score == 1.0


def test_option_reply_decides_what_the_embedder_sees():
    empty = closed(" \nx", (" \nx", "Coffee"))
    assert embedded(empty, " \n").score == 1.0
    assert embedded(empty, " \n", "official+reply=stripped").score == 0.0
    assert embedded(closed(), "  Coffee").score == 0.0
    assert embedded(closed(), "  Coffee", "official+reply=stripped").score == 1.0
    thought = "<think>Tea?</think>Coffee"
    assert embedding_text(closed(), thought) == thought
    assert embedding_text(closed(), thought, "official+reply=final") == "Coffee"
    assert embedding_text(closed(), UNFINISHED, "official+reply=final") is None


def test_without_an_embedder_multiple_choice_is_unscored_never_wrong():
    assert score(closed(), "Coffee", "official").score is None
    assert score(closed(), error_reply("no clip"), "official").score == 0.0


def test_an_item_with_fewer_than_two_choices_is_errored_under_the_official_preset():
    verdict = embedded(closed(choices=("Coffee",)), "Coffee")
    assert (verdict.score, verdict.status, verdict.lost) == (0.0, "errored", True)


# --- what every kind has in common ---------------------------------------------------------------

ONE_OF_EACH = [closed(), instruction("No Commas", {}), opened()]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("doc", ONE_OF_EACH, ids=["closed", "instruction", "open"])
def test_an_item_that_was_not_served_is_errored_and_wrong(doc, preset):
    asked = {"nearest": None, "judge_text": "CORRECTNESS: 5\nOVERALL: 5"}
    for verdict in (
        score(doc, error_reply("Coffee"), preset, **asked),
        score({**doc, "problem": "row 3 is broken"}, "Coffee", preset, **asked),
        score(doc, "Coffee", preset, finish="error", **asked),
    ):
        assert (verdict.score, verdict.status, verdict.parsed) == (0.0, "errored", False)
        assert verdict.errored
        assert verdict.lost


@pytest.mark.parametrize("doc", ONE_OF_EACH, ids=["closed", "instruction", "open"])
def test_a_thought_that_never_ends_states_nothing(doc):
    verdict = score(doc, UNFINISHED, "strict", judge_text="")
    assert (verdict.score, verdict.status, verdict.parsed) == (0.0, "unparsed", False)
    assert not verdict.lost  # the model's own doing


def test_what_a_model_thought_counts_for_no_kind():
    thought = "<think>First, tea; then, milk.</think>"
    assert score(closed(), thought + "B").score == 1.0
    assert score(instruction("No Commas", {}), thought + "No comma").score == 1.0
    assert score(instruction("No Commas", {}), thought + "No comma", "official").score == 0.0
    messages = judge_messages(opened(), thought + "a cat")
    assert messages is not None
    assert "Model Response: a cat\n" in messages[1]


def test_why_a_reply_ended_reaches_the_reader():
    cut = "The answer is B"  # … or is it "Baritone"?
    assert score(closed(), cut).parsed
    assert not score(closed(), cut, finish="length").parsed


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError, match="preset='fair' is unknown"):
        score(closed(), "B", "fair")


def test_the_scorer_needs_no_torch_no_transformers_and_no_lm_eval():
    code = (
        "import sys; from mmaupro_ext.scoring import score;"
        "score({'id': 'i', 'category': 'sound', 'answer': 'x', 'choices': ['x', 'y']}, 'A');"
        "heavy = {'torch', 'transformers', 'lm_eval', 'nltk', 'scipy', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- instruction following -----------------------------------------------------------------------


def passed(doc, reply, preset) -> bool:
    return score(doc, reply, preset).score == 1.0


def test_option_instruction_decides_which_reading_counts():
    doc = instruction("Postscript", {"postscript_marker": "P.S."})
    assert passed(doc, "Some tips for you", "official")
    assert not passed(doc, "Some tips for you", "official+instruction=strict")


def test_nemo_splits_sentences_at_every_full_stop():
    doc = instruction("Number Sentences (at least)", {"N": 3})
    assert passed(doc, "It is 3.5 m. Good.", "nemo-skills")
    two = instruction("Number Sentences (at most)", {"N": 2})
    assert not passed(two, "It is 3.5 m. Good.", "nemo-skills")
    within = instruction("Number Sentences (range)", {"N1": 2, "N2": 3})
    assert passed(within, "One. Two!", "nemo-skills")


def test_nemo_has_no_prompt_to_repeat():
    doc = instruction("Repeat Prompt", {})
    assert passed(doc, "Say why. Because.", "official")
    assert not passed(doc, "Because.", "official")
    assert passed(doc, "Because.", "nemo-skills")


def test_an_empty_reply_passes_a_rule_in_the_official_reading_alone():
    doc = instruction("No Commas", {})
    assert passed(doc, "", "official")
    for preset in ("strict", "nemo-skills"):
        verdict = score(doc, " \n", preset)
        assert (verdict.score, verdict.status, verdict.parsed) == (0.0, "empty", False)


def test_white_space_counts_in_the_official_reading_alone():
    doc = instruction("End Checker", {"end_phrase": "the end"})
    assert not passed(doc, "It is the end. ", "official")
    assert passed(doc, "It is the end. ", "nemo-skills")
    assert passed(doc, "It is the end. ", "strict")


def test_a_rule_that_lacks_its_argument_is_errored_not_failed():
    doc = instruction("Number Placeholder", {}, kwargs_null=["N"])
    for preset in ("strict", "official"):
        verdict = score(doc, "[name]", preset)
        assert (verdict.score, verdict.status) == (0.0, "errored")
        assert "Number Placeholder" in verdict.details["error"]


# --- the judge -----------------------------------------------------------------------------------


def test_the_official_judge_is_asked_with_the_raw_reply():
    system, text = judge_messages(opened(), " a {dog} ", "official")
    assert system == open_ended.JUDGE_SYSTEM_PROMPT
    assert text == open_ended.judge_messages("What is it?", "a cat", " a {dog} ")[1]
    assert "Model Response:  a {dog} \n" in text


def test_nemo_asks_in_its_own_words_and_changes_nothing_in_question_and_reply():
    opening = f"You are an expert evaluator for {open_ended.JUDGE_CONTEXT} tasks. "
    doc = opened(question="{reference} [justification] \n")
    system, text = judge_messages(doc, opening + "as:\n\n", "nemo-skills")
    assert system is None
    assert text.startswith(
        "You are an expert evaluator for audio and speech-related questions. Please evaluate"
    )
    assert f"Model Response: {opening}as:\n" in text
    assert "Question: {reference} [justification] \n" in text
    assert "Format your response as:\nCORRECTNESS: [score] - [justification]\nRELEVANCE" in text
    assert "RELEVANCE: [score] - [justification]\nCOMPLETENESS" in text


def test_only_the_official_judge_is_sampled():
    assert [judge_decoding(name) for name in PRESETS] == ["greedy", "sampled", "greedy"]


def test_there_is_nothing_to_judge_where_nothing_was_answered():
    assert judge_messages(opened(), error_reply("no clip"), "official") is None
    assert judge_messages(opened(), " ", "strict") is None
    assert judge_messages(opened(), UNFINISHED, "strict") is None
    assert judge_messages(opened(), " ", "official") is not None
    verdict = score(opened(), " ", "strict", judge_text="")
    assert (verdict.score, verdict.status) == (0.0, "empty")


def test_without_a_judge_open_items_are_unscored_whatever_the_reply():
    for reply in ("a dog", "", error_reply("no clip"), UNFINISHED):
        assert score(opened(), reply).score is None


FOUR_ONES = "CORRECTNESS: 1\nRELEVANCE: 1\nCOMPLETENESS: 1\nCLARITY: 1\n"
MIXED = "CORRECTNESS: 1.5\nRELEVANCE: 5\nCOMPLETENESS: 5\nCLARITY: 5\nOVERALL: 4"


@pytest.mark.parametrize(
    ("text", "official", "strict", "nemo"),
    [
        (MIXED, 0.8, 0.75, 0.3),
        (FOUR_ONES + "OVERALL: 3", 0.2, 0.5, 0.2),
        (FOUR_ONES, 0.2, 0.0, 0.2),  # strict: no OVERALL
        ("I cannot.", 0.6, 0.0, 0.6),
        (FOUR_ONES + "OVERALL: 45", 9.0, 0.0, 0.2),
    ],
)
def test_what_a_verdict_is_worth(text, official, strict, nemo):
    for preset, worth in zip(PRESETS, (strict, official, nemo), strict=True):
        assert score(opened(), "a dog", preset, judge_text=text).score == pytest.approx(worth)


def test_a_verdict_that_cannot_be_read_is_lost_and_scores_nothing():
    verdict = score(opened(), "a dog", judge_text="I cannot.")
    assert (verdict.score, verdict.status, verdict.lost) == (0.0, "unreadable", True)
    assert not verdict.errored


@pytest.mark.parametrize("preset", PRESETS)
def test_a_failed_call_of_the_judge_is_lost_under_every_preset(preset):
    verdict = score(opened(), "a dog", preset, judge_text=error_reply("timeout"))
    assert (verdict.score, verdict.status, verdict.lost) == (0.0, "judge-errored", True)
