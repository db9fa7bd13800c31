"""The released evaluator's matching of multiple-choice replies: the choice with the nearest text.

The raw reply and each choice are embedded, and the choice with the highest cosine is taken, the
first of equals. Nothing is read or stripped: "" and a refusal get a choice as well, and a bare "B"
is compared with the *texts* of the choices, so that what it gets is close to chance. The question
plays no part. `closed` has the strict reading.

Whether the matched choice is right is for the caller to say, as there: `match.choice == answer`,
exactly, by case and spaces. Items with fewer than two choices take no part, as there, but are
named here.

One thing differs on purpose: an item that could not be served (`replies.error_reply`) is not
matched, where the released evaluator would embed the error message.

Source: ``evaluate_mmau_pro_comprehensive.py`` of the MMAU-Pro authors (2025-09-25).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.errors import ScoringError


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes
    ----------
    name : str
        Of the model.
    label : str
        What a result that rests on it must call it.
    """

    name: str
    label: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 (texts, dimensions) with rows of length 1; equal texts, equal rows."""
        ...


@dataclass(frozen=True)
class OfficialMatch:
    """The choice that a reply is nearest to.

    Attributes
    ----------
    index : int or None
        Position of the choice; None unless `status` is "matched".
    status : {"matched", "dropped", "errored"}
        "dropped": fewer than two choices; "errored": the item could not be served.
    choice : str or None
        Text of the choice, to be compared with the answer.
    scores : tuple of float
        100 x cosine of the reply and each choice, -100 to 100 but for rounding; empty unless
        `status` is "matched".
    cut_tokens : int
        How many tokens of the reply the model did not get to see; 0 where the embedder cannot say.
    margin : float or None
        Points between the matched choice and the next one with another text; None where there is
        none.
    """

    index: int | None
    status: str
    choice: str | None = None
    scores: tuple[float, ...] = ()
    cut_tokens: int = 0
    margin: float | None = None


def match_official(
    replies: Sequence[str | None], choices_per_item: Sequence[Sequence[str]], embedder: Embedder
) -> list[OfficialMatch]:
    """Match replies to choices as the released evaluator does.

    Parameters
    ----------
    replies : sequence of str or None
        Raw; None and NaN count as "", as they do there.
    choices_per_item : sequence of sequences of str
        The choices of each item, raw.
    embedder : Embedder
        `NVEmbedEmbedder` for the official result. Each text is embedded once.

    Returns
    -------
    list of OfficialMatch
        One an item, in order.

    Raises
    ------
    ScoringError
        When the lengths differ, or a reply or a choice is no string.
    """
    if len(replies) != len(choices_per_item):
        raise ScoringError(
            f"{len(replies)} replies but choices of {len(choices_per_item)} items. They must "
            "belong together, one for one"
        )
    texts = [_reply_text(i, reply) for i, reply in enumerate(replies)]
    options = [_choice_texts(i, choices) for i, choices in enumerate(choices_per_item)]
    statuses = [_status(text, own) for text, own in zip(texts, options, strict=True)]
    matched = [i for i, status in enumerate(statuses) if status == "matched"]
    wanted = dict.fromkeys(text for i in matched for text in (texts[i], *options[i]))
    row_of = {text: row for row, text in enumerate(wanted)}
    vectors = embedder.encode(list(wanted)) if wanted else np.zeros((0, 0), dtype=np.float32)
    cut = _cut_tokens(embedder, [texts[i] for i in matched])
    result = [OfficialMatch(None, status) for status in statuses]
    for i, lost in zip(matched, cut, strict=True):
        scores = _scores(vectors[row_of[texts[i]]], vectors[[row_of[text] for text in options[i]]])
        index = int(np.argmax(scores))  # the first of equals
        choice = options[i][index]
        others = [s for s, text in zip(scores, options[i], strict=True) if text != choice]
        margin = scores[index] - max(others) if others else None
        result[i] = OfficialMatch(index, "matched", choice, tuple(scores), lost, margin)
    return result


def _scores(reply: np.ndarray, choices: np.ndarray) -> list[float]:
    # Summed in double precision, so that the order of the sum cannot show; then single, as there.
    cosines = (choices.astype(np.float64) @ reply.astype(np.float64)).astype(np.float32)
    return [float(score) for score in cosines * np.float32(100)]


def _status(text: str, choices: list[str]) -> str:
    if len(choices) < 2:
        return "dropped"
    return "errored" if parse_error(text) is not None else "matched"


def _reply_text(position: int, reply: object) -> str:
    if reply is None or (isinstance(reply, float) and math.isnan(reply)):
        return ""
    if not isinstance(reply, str):
        raise ScoringError(
            f"reply {position} is {type(reply).__name__}, not a string. Give the raw replies"
        )
    return reply


def _choice_texts(position: int, choices: Sequence[str] | None) -> list[str]:
    if choices is None:
        return []
    texts = None if isinstance(choices, str) else list(choices)
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise ScoringError(f"the choices of item {position} are not a list of strings: {choices!r}")
    return texts


def _cut_tokens(embedder: Embedder, texts: list[str]) -> list[int]:
    count = getattr(embedder, "cut_tokens", None)
    return [0] * len(texts) if count is None else count(texts)
