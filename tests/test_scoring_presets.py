"""Presets: what they set, how they are overridden and named, and that each option does what it says."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import open_ended, presets, verdicts
from mmaupro_ext.scoring.presets import PRESETS, gold_indexes, resolve
from mmaupro_ext.scoring.verdicts import Item

DOCS = Path(__file__).parents[1] / "docs"
OFFICIAL, STRICT, NEMO = (PRESETS[name].options for name in ("official", "strict", "nemo-skills"))


def closed_item(reply: str, answer: str = "Coffee", choices=("Tea", "Coffee", "Milk")) -> Item:
    doc = {"id": "i", "category": "sound", "answer": answer, "choices": list(choices)}
    return Item(doc, reply)


def instruction_item(identifier: str, kwargs: dict, reply: str, **columns) -> Item:
    doc = {
        "id": "i",
        "category": "instruction following",
        "task_identifier": identifier,
        "kwargs": kwargs,
        "kwargs_null": [],
        "question": "Say why. ",
        **columns,
    }
    return Item(doc, reply)


def open_item(reply: str = "a dog", **columns) -> Item:
    doc = {"id": "i", "category": "open", "question": "What is it?", "answer": "a cat", **columns}
    return Item(doc, reply)


class FirstLetterEmbedder:
    """Stands for an embedder: texts are near when they begin with the same character."""

    name, label = "first-letter", "not official"

    def encode(self, texts):
        import numpy as np

        rows = np.zeros((len(texts), 128), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            row[ord(text[0]) % 127 if text else 127] = 1.0
        return rows


def scores(items, options, embedder=None):
    return [verdict.score for verdict in verdicts.closed_verdicts(items, options, embedder)]


# --- names and values ----------------------------------------------------------------------------


def test_every_preset_sets_every_option_to_a_value_that_exists():
    for preset in PRESETS.values():
        settings = asdict(preset.options)
        assert list(settings) == [option.name for option in presets.OPTIONS]
        for option in presets.OPTIONS:
            assert settings[option.name] in option.values


def test_overrides_are_named_in_a_fixed_order_and_idle_ones_are_not():
    preset = resolve("strict", ["open-score=overall", "gold=casefold", "empty=wrong"])
    assert preset.name == "strict+gold=casefold+open_score=overall"
    assert preset.options == replace(STRICT, gold="casefold", open_score="overall")
    assert resolve(preset.name) == preset
    assert resolve("official", ["gold=exact"]).name == "official"


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nemo", [], "no preset is called 'nemo'.*official, strict, nemo-skills"),
        ("strict", ["gold=fuzzy"], "gold cannot be 'fuzzy'. Values: exact, casefold, normalised"),
        ("strict", ["color=red"], "'color=red' sets no option.*closed"),
        ("strict", ["gold"], "'gold' sets no option"),
        ("strict+gold=exact", ["gold=casefold"], "gold is set twice"),
    ],
)
def test_a_wrong_preset_or_option_says_what_there_is(name, overrides, message):
    with pytest.raises(ConfigError, match=message):
        resolve(name, overrides)


def test_explain_marks_what_applies_and_what_was_overridden():
    text = presets.explain(resolve("official", ["gold=casefold"]))
    assert text.startswith("official+gold=casefold: ")
    assert "gold=casefold  (override)" in text
    assert "    > casefold: equal but for case and surrounding space" in text
    assert "\nclosed=embedding\n" in text
    for option in presets.OPTIONS:
        assert f"\n{option.name}=" in text


def test_the_documentation_has_the_table_of_options_as_it_is():
    assert presets.options_table() in (DOCS / "scoring.md").read_text(encoding="utf-8")


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


def test_option_gold_decides_whether_an_answer_counts():
    item = closed_item("B", answer="coffee")
    assert scores([item], replace(STRICT, gold="exact")) == [0.0]
    assert scores([item], replace(STRICT, gold="normalised")) == [1.0]
    (verdict,) = verdicts.closed_verdicts([item], replace(STRICT, gold="exact"))
    assert verdict.details["answerable"] is False


def test_option_closed_embedding_gives_every_reply_a_choice_and_strict_does_not():
    items = [closed_item("Certainly hard to say"), closed_item("Coffee")]
    assert scores(items, STRICT) == [0.0, 1.0]
    assert scores(items, OFFICIAL, FirstLetterEmbedder()) == [1.0, 1.0]


def test_option_letters_replaces_a_bare_letter_before_the_embedding():
    item = closed_item("B")
    assert scores([item], OFFICIAL, FirstLetterEmbedder()) == [0.0]
    assert scores([item], replace(OFFICIAL, letters="on"), FirstLetterEmbedder()) == [1.0]


def test_option_empty_decides_whether_an_empty_reply_gets_a_choice():
    item = closed_item(" \n", choices=(" \nx", "Coffee"), answer=" \nx")
    assert scores([item], OFFICIAL, FirstLetterEmbedder()) == [1.0]
    assert scores([item], replace(OFFICIAL, empty="wrong"), FirstLetterEmbedder()) == [0.0]


def test_option_strip_decides_what_the_embedder_sees():
    item = closed_item("  Coffee")
    assert scores([item], OFFICIAL, FirstLetterEmbedder()) == [0.0]
    assert scores([item], replace(OFFICIAL, strip="on"), FirstLetterEmbedder()) == [1.0]


def test_without_an_embedder_multiple_choice_is_unscored_never_wrong():
    items = [closed_item("Coffee"), closed_item(error_reply("no clip"))]
    assert scores(items, OFFICIAL) == [None, 0.0]


@pytest.mark.parametrize("options", [OFFICIAL, STRICT, NEMO])
def test_an_error_reply_is_errored_and_wrong_under_every_preset(options):
    reply = error_reply("Coffee")
    (verdict,) = verdicts.closed_verdicts([closed_item(reply)], options, FirstLetterEmbedder())
    assert (verdict.score, verdict.status, verdict.details["chosen"]) == (0.0, "errored", None)
    (verdict,) = verdicts.instruction_verdicts([instruction_item("No Commas", {}, reply)], options)
    assert (verdict.score, verdict.status) == (0.0, "errored")
    (verdict,) = verdicts.open_verdicts([open_item(reply)], options, {})
    assert (verdict.score, verdict.status) == (0.0, "errored")


# --- instruction following -----------------------------------------------------------------------


def passed(item, options):
    (verdict,) = verdicts.instruction_verdicts([item], options)
    return verdict.score == 1.0


def test_option_instruction_decides_which_reading_counts():
    item = instruction_item("Postscript", {"postscript_marker": "P.S."}, "Some tips for you")
    assert passed(item, OFFICIAL)
    assert not passed(item, replace(OFFICIAL, instruction="strict"))
    (verdict,) = verdicts.instruction_verdicts([item], OFFICIAL)
    assert (verdict.details["official"], verdict.details["strict"]) == (True, False)


def test_option_sentences_regex_splits_at_every_full_stop():
    item = instruction_item("Number Sentences (at least)", {"N": 3}, "It is 3.5 m. Good.")
    assert passed(item, replace(OFFICIAL, sentences="regex"))
    two = instruction_item("Number Sentences (at most)", {"N": 2}, "It is 3.5 m. Good.")
    assert not passed(two, replace(OFFICIAL, sentences="regex"))
    within = instruction_item("Number Sentences (range)", {"N1": 2, "N2": 3}, "One. Two!")
    assert passed(within, replace(OFFICIAL, sentences="regex"))


def test_option_repeat_prompt_decides_what_is_repeated():
    item = instruction_item("Repeat Prompt", {}, "Say why. Because.", transcription="Tell why.")
    assert passed(item, OFFICIAL)
    assert not passed(item, replace(OFFICIAL, repeat_prompt="transcription"))
    other = instruction_item("Repeat Prompt", {}, "Because.")
    assert not passed(other, OFFICIAL)
    assert not passed(other, replace(OFFICIAL, repeat_prompt="transcription"))
    assert passed(other, replace(OFFICIAL, repeat_prompt="nothing"))


def test_option_empty_decides_whether_an_empty_reply_passes_a_rule():
    item = instruction_item("No Commas", {}, "")
    assert passed(item, OFFICIAL)
    assert not passed(item, replace(OFFICIAL, empty="wrong"))


def test_option_strip_decides_whether_white_space_counts():
    item = instruction_item("End Checker", {"end_phrase": "the end"}, "It is the end. ")
    assert not passed(item, OFFICIAL)
    assert passed(item, replace(OFFICIAL, strip="on"))


# --- the judge -----------------------------------------------------------------------------------


def test_option_judge_prompt_script_is_the_official_prompt():
    system, text = verdicts.judge_messages(open_item(" a {dog} "), OFFICIAL)
    assert system == open_ended.JUDGE_SYSTEM_PROMPT
    assert text == open_ended.judge_prompt("What is it?", "a cat", " a {dog} ")


def test_option_judge_prompt_changes_nothing_in_question_and_reply():
    opening = f"You are an expert evaluator for {open_ended.JUDGE_CONTEXT} tasks. "
    item = open_item(opening + "as:\n\n", question="{reference} [justification] \n")
    for prompt, start in (
        ("paper", "You are an expert evaluator for audio-question answering tasks. You will"),
        ("nemo", "You are an expert evaluator for audio and speech-related questions. Please"),
    ):
        _, text = verdicts.judge_messages(item, replace(OFFICIAL, judge_prompt=prompt))
        assert text.startswith(start)
        assert f"Model Response: {opening}as:\n\n" in text
        assert "Question: {reference} [justification] \n" in text


def test_nemo_judge_prompt_has_no_system_message_and_its_own_layout():
    system, text = verdicts.judge_messages(open_item(), NEMO)
    assert system is None
    assert "Format your response as:\nCORRECTNESS: [score] - [justification]\nRELEVANCE" in text
    assert "RELEVANCE: [score] - [justification]\nCOMPLETENESS" in text


def random_judgement(rng: random.Random) -> str:
    lines = []
    for name in ("CORRECTNESS", "Relevance", "COMPLETENESS", "CLARITY", "OVERALL"):
        if rng.random() < 0.8:
            value = rng.choice(["1", "3", "3.0", "4.5", "5", "[2]", "**4**", "4/5", "45", "n/a"])
            mark = rng.choice(["", "**", "- "])
            lines.append(f"{mark}{name}:{mark} {value} - because")
    return "\n".join(lines)


def test_reading_equals_open_ended_official_and_strict_on_many_texts():
    rng = random.Random(4)
    texts = [random_judgement(rng) for _ in range(3000)] + ["", error_reply("no server")]
    for text in texts:
        for options, mode in ((OFFICIAL, "official"), (STRICT, "strict")):
            assert verdicts.read_judgement(text, options) == open_ended.parse_judgement(text, mode)


FOUR_ONES = "CORRECTNESS: 1\nRELEVANCE: 1\nCOMPLETENESS: 1\nCLARITY: 1\n"


def judged(text, **changes):
    options = replace(OFFICIAL, **changes)
    (verdict,) = verdicts.open_verdicts([open_item()], options, {"i": text})
    return verdict


def test_option_judge_rewrite_replaces_an_overall_of_three():
    assert judged(FOUR_ONES + "OVERALL: 3").score == pytest.approx(0.2)
    assert judged(FOUR_ONES + "OVERALL: 3", judge_rewrite="off").score == pytest.approx(0.6)
    # A missing overall is the mean of the four either way.
    assert judged(FOUR_ONES, judge_rewrite="off").score == pytest.approx(0.2)


def test_option_judge_failure_decides_what_garbage_scores():
    assert judged("I cannot.").score == pytest.approx(0.6)
    unscored = judged("I cannot.", judge_failure="unscored")
    assert (unscored.score, unscored.status) == (None, "unscored")
    assert judged("I cannot.", judge_failure="0").score == 0.0


def test_option_judge_parser_decimals_and_strict():
    text = "CORRECTNESS: 4.5\nRELEVANCE: 5\nCOMPLETENESS: 5\nCLARITY: 5\nOVERALL: 45"
    assert judged(text).details["correctness"] == 4.0
    assert judged(text, judge_parser="decimals").details["correctness"] == 4.5
    assert judged(text).score == 9.0
    strict = judged(text, judge_parser="strict", judge_failure="unscored")
    assert (strict.details["correctness"], strict.score) == (4.5, None)


def test_option_open_score_picks_the_number():
    text = "CORRECTNESS: 1\nRELEVANCE: 5\nCOMPLETENESS: 5\nCLARITY: 5\nOVERALL: 4"
    assert judged(text).score == pytest.approx(0.8)
    assert judged(text, open_score="correctness").score == pytest.approx(0.2)
    assert judged(text, open_score="floorless").score == pytest.approx(0.75)


def test_a_failed_call_of_the_judge_is_never_a_score():
    for failure in ("3", "unscored", "0"):
        verdict = judged(error_reply("timeout"), judge_failure=failure)
        assert (verdict.score, verdict.status) == (None, "judge-errored")
