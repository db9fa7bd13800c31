"""The judge of open-ended answers: what it is asked, and what its verdict says and is worth.

Nothing here calls a model: `judge_messages` says what to ask, `parse_judgement` reads the answer, and
`judgement_score` turns it into a score. In three modes:

* ``official`` repeats the released evaluator: whole numbers after "CORRECTNESS:" and so on, any
  size; what is not found counts as 3; an OVERALL that is missing or exactly 3 is replaced by the
  mean of the four criteria. The score is OVERALL / 5, so its floor is 0.2.
* ``strict``: markdown and brackets around the numbers are tolerated, decimals kept, "4/5" is 4,
  anything outside 1 to 5 or contradicting itself is not a score. Without an OVERALL the verdict is
  unreadable, and OVERALL is never rewritten. The score runs from 0 (ones) to 1 (fives).
* ``nemo`` repeats NVIDIA NeMo-Skills, read in 2026: decimals as well; what is not found counts as 3,
  a missing OVERALL as the mean of the criteria. The score is CORRECTNESS / 5.

Source: ``evaluate_mmau_pro_comprehensive.py`` of the MMAU-Pro authors (2025-09-25).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import require_choice

MODES = ("official", "strict", "nemo")
CRITERIA = ("correctness", "relevance", "completeness", "clarity")

JUDGE_MODEL = "Qwen/Qwen2.5-7B-Instruct"
JUDGE_DTYPE = "bfloat16"
JUDGE_SYSTEM_PROMPT = "You are a helpful and objective evaluator."
JUDGE_GENERATION = MappingProxyType({"max_new_tokens": 512, "do_sample": True, "temperature": 0.1})
"""Official settings. No seed is set there; the model's own top_p, top_k, … apply as well."""


def is_official_judge(model: str) -> bool:
    """Tell whether a judge's name is that of the released evaluator's, with or without its owner."""
    return model in (JUDGE_MODEL, JUDGE_MODEL.split("/")[1])


JUDGE_CONTEXT = "general open-ended question answering"

# The space at the end of the RELEVANCE line is part of the official prompt.
JUDGE_PROMPT = (
    "You are an expert evaluator for {context} tasks. "
    "Please evaluate the quality of a model's response to a question.\n"
    "\n"
    "Question: {question}\n"
    "\n"
    "Reference Answer: {reference_answer}\n"
    "\n"
    "Model Response: {model_response}\n"
    "\n"
    "Please evaluate the model response on the following criteria "
    "and provide scores from 1-5 (where 5 is best):\n"
    "\n"
    "1. **Correctness**: How factually accurate is the response compared to the reference?\n"
    "2. **Relevance**: How well does the response address the specific question asked?\n"
    "3. **Completeness**: Does the response cover all important aspects mentioned in the "
    "reference?\n"
    "4. **Clarity**: How clear and well-structured is the response?\n"
    "\n"
    "For each criterion, provide:\n"
    "- A score from 1-5\n"
    "- A brief justification (1-2 sentences)\n"
    "\n"
    "Format your response as:\n"
    "\n"
    "CORRECTNESS: [score] - [justification]\n"
    "RELEVANCE: [score] - [justification] \n"
    "COMPLETENESS: [score] - [justification]\n"
    "CLARITY: [score] - [justification]\n"
    "OVERALL: [average score] - [overall assessment]"
)


@dataclass(frozen=True)
class Judgement:
    """A judge's verdict on one answer.

    Attributes
    ----------
    correctness, relevance, completeness, clarity, overall : float or None
        None where strict mode found no usable number.
    status : {"scored", "unscored", "errored"}
        "scored" when `overall` is a number; "errored" when the judge could not be asked.
    """

    correctness: float | None
    relevance: float | None
    completeness: float | None
    clarity: float | None
    overall: float | None
    status: str


def judge_messages(
    question: str, reference_answer: str, model_response: str, mode: str = "official"
) -> tuple[str | None, str]:
    """Return what the judge is asked about one answer.

    Parameters
    ----------
    question : str
        The item's question.
    reference_answer : str
        The item's answer.
    model_response : str
        What is to be judged.
    mode : {"official", "strict", "nemo"}
        "strict" asks as the released script does.

    Returns
    -------
    tuple of (str or None, str)
        System message, None for none, and user message.

    Raises
    ------
    ConfigError
        When `mode` does not exist.
    """
    require_choice("mode", mode, MODES)
    system: str | None = JUDGE_SYSTEM_PROMPT
    frame = JUDGE_PROMPT
    if mode == "nemo":
        system = None
        frame = frame.replace("{context} tasks", "audio and speech-related questions")
        frame = frame.replace("as:\n\n", "as:\n").replace("[justification] \n", "[justification]\n")
    return system, frame.format(
        context=JUDGE_CONTEXT,
        question=question,
        reference_answer=reference_answer,
        model_response=model_response,
    )


def parse_judgement(text: str, mode: str = "official") -> Judgement:
    r"""Read the scores out of a judge's answer.

    Parameters
    ----------
    text : str
        The judge's answer, raw.
    mode : {"official", "strict", "nemo"}
        See the module's docstring.

    Returns
    -------
    Judgement
        Always with numbers but in strict mode, unless `text` is an error reply.

    Raises
    ------
    ScoringError
        When `text` is not a string.
    ConfigError
        When `mode` does not exist.

    Examples
    --------
    >>> text = "CORRECTNESS: 4\nRELEVANCE: 5\nCOMPLETENESS: 3\nCLARITY: 5\nOVERALL: 4"
    >>> parse_judgement(text, "strict").overall
    4.0
    """
    if not isinstance(text, str):
        raise ScoringError(f"a judge's answer must be a string, not {type(text).__name__}")
    if parse_error(text) is not None:
        return Judgement(None, None, None, None, None, "errored")
    if mode == "strict":
        return _parse_strict(text)
    require_choice("mode", mode, MODES)
    whole, decimal = r"(\d+)", r"(\d+(?:\.\d+)?)"
    number = whole if mode == "official" else decimal
    values = {name: _first_number(name, number, text, 3.0) for name in CRITERIA}
    mean = sum(values.values()) / len(values)
    overall = _first_number("overall", decimal, text, mean)
    if mode == "official" and overall == 3.0:
        overall = mean
    return Judgement(**values, overall=overall, status="scored")


def _first_number(name: str, number: str, text: str, missing: float) -> float:
    found = re.search(rf"{name.upper()}:\s*{number}", text, re.IGNORECASE)
    return float(found.group(1)) if found else missing


def _parse_strict(text: str) -> Judgement:
    plain = re.sub(r"[*_`#]", "", text)
    values = {name: _strict_number(name, plain) for name in CRITERIA}
    overall = _strict_number("overall", plain)
    status = "unscored" if overall is None else "scored"
    return Judgement(**values, overall=overall, status=status)


def _strict_number(name: str, text: str) -> float | None:
    """Return the one score stated for a criterion, or None."""
    stated = re.findall(
        rf"(?<![^\W_]){name}(?:\s+score)?\s*[:=]\s*[\[(]?\s*"
        r"([-+]?\d+(?:\.\d+)?)(?![\d.]*\d)(?:\s*(?:/|out\s+of)\s*(\d+))?",
        text,
        re.IGNORECASE | re.ASCII,
    )
    values = {float(value) for value, _ in stated}
    if len(values) != 1 or any(scale not in ("", "5") for _, scale in stated):
        return None
    value = values.pop()
    return value if 1.0 <= value <= 5.0 else None


def judgement_score(judgement: Judgement, mode: str = "official") -> float | None:
    """Return what a verdict is worth.

    Parameters
    ----------
    judgement : Judgement
        Parsed in the same mode.
    mode : {"official", "strict", "nemo"}
        See the module's docstring.

    Returns
    -------
    float or None
        0 to 1 where the judge stayed within 1 to 5, more where it did not; None without a number.

    Raises
    ------
    ConfigError
        When `mode` does not exist.
    """
    if mode == "strict":
        return None if judgement.overall is None else (judgement.overall - 1.0) / 4.0
    require_choice("mode", mode, MODES)
    value = judgement.correctness if mode == "nemo" else judgement.overall
    return None if value is None else value / 5.0
