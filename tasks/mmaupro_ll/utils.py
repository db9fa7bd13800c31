"""Multiple choice by log-likelihood: the letter that the model finds likeliest.

The documents, prompts and clips are those of `mmaupro` (its `_template_yaml` is included), and so is
the rule by which a choice is right; only the continuations are here.
"""

from __future__ import annotations

import math
from typing import Any

from mmaupro_ext import data
from mmaupro_ext.scoring.scorer import gold_indexes, is_right

LETTERS = data.CHOICE_LETTERS


def doc_to_choice(doc: dict[str, Any]) -> list[str]:
    """Return the letters that the prompt shows.

    A row without choices breaks the schema and is errored whatever is likely; it keeps one letter,
    since lm_eval drops an item without requests from the denominator.
    """
    return list(LETTERS[: len(doc["choices"])]) or ["A"]


def doc_to_target(doc: dict[str, Any]) -> str:
    """Return the letter of the reference answer, "" where it is not among the choices."""
    gold = gold_indexes(doc["choices"], doc["answer"])
    return LETTERS[min(gold)] if gold else ""


def process_results(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Score one item; the metrics are described in README.md.

    `results` has one (log-likelihood, is greedy) for each letter. A likelihood that is not a number
    means that the item could not be served: it is errored, and no letter is taken for its answer.
    """
    likelihoods = [likelihood for likelihood, _ in results]
    if doc.get("problem") or any(math.isnan(likelihood) for likelihood in likelihoods):
        return {"acc": 0.0, "acc_norm": 0.0, "errored": 1.0}
    per_byte = [
        likelihood / len(letter.encode())
        for likelihood, letter in zip(likelihoods, doc_to_choice(doc), strict=True)
    ]
    return {
        "acc": float(is_right(doc, _likeliest(likelihoods))),
        "acc_norm": float(is_right(doc, _likeliest(per_byte))),
        "errored": 0.0,
    }


def _likeliest(scores: list[float]) -> int:
    """Return the position of the highest score, the first of equals as in lm_eval."""
    return scores.index(max(scores))
