"""What a model is asked that reads replies which `closed.match` leaves unparsed, and what its answers mean.

It is asked which option a reply states, never which is right: the question, the clips and the reference
answer are not shown, and the options stand in the order of the dataset. Its readings are reported apart
from the strict number (`offline.reader`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.categories import CHOICE_LETTERS
from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.final import final_answer

STATUSES = ("read", "none", "unreadable", "failed")

SYSTEM_PROMPT = "You report which option a reply states. You never judge which option is right."
PROMPT = """\
A multiple-choice question was put to someone. Here are its options, and the reply that was given.

Options:
{options}

Reply:
<reply>
{reply}
</reply>
{cut}
Which option does this reply state as its answer? Go by what it says, not by what is true or likely. If it \
states none of the options, weighs several without settling on one, or declines to answer, the answer is none.

Write the letter of the option, or the word none, and nothing else."""
_CUT = "The reply was cut off before its end: what it was only about to say does not count.\n"

_BEFORE = r"[\W_]*(?i:(?:the\s+)?(?:answer|option|letter)\s*(?:is\b)?[\W_]*)?"
_NONE = re.compile(rf"{_BEFORE}(?i:none)[\W_]*")
_LETTER = re.compile(rf"{_BEFORE}([A-Za-z])[\W_]*")


@dataclass(frozen=True)
class ModelReading:
    """What a model says that a reply states.

    Attributes
    ----------
    index : int or None
        Position of the option; None unless `status` is "read".
    status : {"read", "none", "unreadable", "failed"}
        "none": the model says that no option is stated. "unreadable": its answer is neither a letter of an
        option nor "none". "failed": no answer was to be had.
    """

    index: int | None
    status: str


def reader_messages(
    doc: Mapping[str, Any], reply: str, finish: str | None = None
) -> tuple[str, str] | None:
    """Return what a model is asked about a reply to a multiple-choice question.

    Parameters
    ----------
    doc : mapping
        With `choices`; nothing else of it is used.
    reply : str
        The reply, raw. Its final answer is shown.
    finish : {"stop", "length", "error"} or None
        Why the reply ended, where it is known.

    Returns
    -------
    tuple of (str, str), or None
        System message and user message. None where there is nothing to read: the reply has no final
        answer, or there are more options than letters.
    """
    answer = final_answer(reply, finish)
    if answer is None or not answer.strip() or len(doc["choices"]) > len(CHOICE_LETTERS):
        return None
    options = "\n".join(
        f"({letter}) {choice}"
        for letter, choice in zip(CHOICE_LETTERS, doc["choices"], strict=False)
    )
    cut = _CUT if finish == "length" else ""
    return SYSTEM_PROMPT, PROMPT.format(options=options, reply=answer.strip(), cut=cut)


def parse_reading(text: str, choices: int) -> ModelReading:
    """Read the answer of a model to `reader_messages`.

    Parameters
    ----------
    text : str
        Its answer, raw, or the mark of a failed call.
    choices : int
        Number of options.

    Returns
    -------
    ModelReading

    Examples
    --------
    >>> parse_reading("(B)", 4)
    ModelReading(index=1, status='read')
    >>> parse_reading("None.", 4)
    ModelReading(index=None, status='none')
    >>> parse_reading("B or C", 4)
    ModelReading(index=None, status='unreadable')
    """
    if parse_error(text) is not None:
        return ModelReading(None, "failed")
    answer = final_answer(text) or ""
    if _NONE.fullmatch(answer):
        return ModelReading(None, "none")
    found = _LETTER.fullmatch(answer)
    index = CHOICE_LETTERS.index(found[1].upper()) if found else choices
    return ModelReading(index, "read") if index < choices else ModelReading(None, "unreadable")
