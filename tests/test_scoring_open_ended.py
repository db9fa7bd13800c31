"""Reading the judge: the official parser's quirks, and the strict one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.open_ended import (
    CRITERIA,
    JUDGE_GENERATION,
    JUDGE_PROMPT,
    judge_messages,
    judgement_score,
    parse_judgement,
)

CLEAN = (
    "CORRECTNESS: 4 - close\nRELEVANCE: 5 - on topic\nCOMPLETENESS: 2 - half\n"
    "CLARITY: 5 - clear\nOVERALL: 4.25 - fine"
)


def values(text, mode):
    judgement = parse_judgement(text, mode)
    return tuple(getattr(judgement, name) for name in (*CRITERIA, "overall"))


@pytest.mark.parametrize("mode", ["official", "strict"])
def test_clean_verdict_is_read_alike(mode):
    assert values(CLEAN, mode) == (4.0, 5.0, 2.0, 5.0, 4.25)
    assert parse_judgement(CLEAN, mode).status == "scored"


def test_prompt_keeps_the_space_after_the_relevance_line():
    assert "\nRELEVANCE: [score] - [justification] \nCOMPLETENESS" in JUDGE_PROMPT
    assert not JUDGE_PROMPT.endswith("\n")


def test_prompt_takes_texts_with_braces_as_they_are():
    _, prompt = judge_messages("Why {x}?", "{question}", "{}")
    assert "Question: Why {x}?\n\nReference Answer: {question}\n\nModel Response: {}\n" in prompt
    assert prompt.startswith("You are an expert evaluator for general open-ended question ")


def test_generation_settings_cannot_be_changed_by_accident():
    assert dict(JUDGE_GENERATION) == {"max_new_tokens": 512, "do_sample": True, "temperature": 0.1}
    with pytest.raises(TypeError):
        JUDGE_GENERATION["temperature"] = 0.0


# --- quirks of the official parser ---------------------------------------------------------------


def test_quirk_unreadable_verdict_counts_as_three():
    assert values("I would rather not say.", "official") == (3.0, 3.0, 3.0, 3.0, 3.0)
    assert judgement_score(parse_judgement("garbage")) == pytest.approx(0.6)
    assert values("I would rather not say.", "strict") == (None,) * 5


@pytest.mark.parametrize("line", ["**CORRECTNESS:** 2", "CORRECTNESS: [2]", "CORRECTNESS: **2**"])
def test_quirk_markdown_and_brackets_are_not_read(line):
    assert parse_judgement(line, "official").correctness == 3.0
    assert parse_judgement(line, "strict").correctness == 2.0


@pytest.mark.parametrize("overall", ["3", "3.0", "3.00"])
def test_quirk_overall_of_three_is_rewritten(overall):
    ones = "".join(f"{name.upper()}: 1 - bad\n" for name in CRITERIA)
    text = f"{ones}OVERALL: {overall} - odd"
    assert parse_judgement(text, "official").overall == 1.0
    assert parse_judgement(text, "strict").overall == 3.0


def test_quirk_missing_overall_is_the_mean_of_the_four():
    text = "CORRECTNESS: 5\nRELEVANCE: 5\nCLARITY: 1"
    assert parse_judgement(text, "official").overall == (5 + 5 + 3 + 1) / 4
    strict = parse_judgement(text, "strict")
    assert (strict.overall, strict.status) == (None, "unscored")


def test_quirk_criteria_lose_their_decimals():
    assert parse_judgement("CLARITY: 4.5", "official").clarity == 4.0
    assert parse_judgement("CLARITY: 4.5", "strict").clarity == 4.5


@pytest.mark.parametrize("number", ["45", "100", "0", "6", "5.1"])
def test_quirk_numbers_out_of_range_are_taken(number):
    assert parse_judgement(f"OVERALL: {number}", "official").overall == float(number)
    assert parse_judgement(f"OVERALL: {number}", "strict").overall is None


def test_quirk_first_of_several_verdicts_counts():
    text = "OVERALL: 2\nOVERALL: 5"
    assert parse_judgement(text, "official").overall == 2.0
    assert parse_judgement(text, "strict").overall is None
    assert parse_judgement("OVERALL: 2\nOVERALL: 2.0", "strict").overall == 2.0


@pytest.mark.parametrize(("stated", "value"), [("4/5", 4.0), ("4 out of 5", 4.0), ("8/10", None)])
def test_strict_reads_a_share_of_five_only(stated, value):
    assert parse_judgement(f"OVERALL: {stated}", "strict").overall == value


@pytest.mark.parametrize("text", ["OVERALL: -2", "OVERALL: 4.5.1", "OVERALL: five", "OVERALLS: 4"])
def test_strict_takes_no_half_read_number(text):
    assert parse_judgement(text, "strict").overall is None


# --- NeMo-Skills ---------------------------------------------------------------------------------


def test_nemo_keeps_decimals_and_never_rewrites():
    assert parse_judgement("CLARITY: 4.5", "nemo").clarity == 4.5
    ones = "".join(f"{name.upper()}: 1\n" for name in CRITERIA)
    assert parse_judgement(ones + "OVERALL: 3", "nemo").overall == 3.0
    assert parse_judgement(ones, "nemo").overall == 1.0
    assert values("garbage", "nemo") == (3.0,) * 5


# --- score ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "lowest", "highest"),
    [("official", 0.2, 1.0), ("strict", 0.0, 1.0), ("nemo", 0.2, 1.0)],
)
def test_a_score_has_a_floor_but_in_the_strict_mode(mode, lowest, highest):
    for value, expected in ((1, lowest), (5, highest)):
        judgement = parse_judgement(f"CORRECTNESS: {value}\nOVERALL: {value}", mode)
        assert judgement_score(judgement, mode) == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["official", "strict", "nemo"])
def test_error_reply_never_scores(mode):
    judgement = parse_judgement(error_reply("OVERALL: 5"), mode)
    assert (judgement.overall, judgement.status) == (None, "errored")
    assert judgement_score(judgement, mode) is None


def test_bad_arguments_are_refused():
    with pytest.raises(ScoringError, match="must be a string, not NoneType"):
        parse_judgement(None)
    for call in (parse_judgement, lambda text, mode: judge_messages(text, "", "", mode)):
        with pytest.raises(ConfigError, match="mode='fair' is unknown"):
            call("", "fair")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"(OVERALL: ?\[?-?[0-9.]{0,5}\]?(/5)?\n){1,3}"))
def test_strict_scores_lie_within_one_to_five(text):
    overall = parse_judgement(text, "strict").overall
    assert overall is None or 1.0 <= overall <= 5.0
