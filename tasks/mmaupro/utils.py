"""The glue between MMAU-Pro's rows and lm_eval: tiny functions, no state.

The prompts are part of the benchmark's definition here: bump `metadata.version` in `_template_yaml`
when a word of them changes.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

from mmaupro_ext import data, replies
from mmaupro_ext.scoring import closed, instruction_following

logger = logging.getLogger("mmaupro_ext.tasks")

# One placeholder per clip, in clip order; the model class puts its own audio blocks there.
AUDIO = "<audio>"

CLOSED_PROMPT = "{audio}\n{question}\n\n{options}\n\nAnswer with the letter of the correct option."
OPEN_PROMPT = "{audio}\n{question}"
INSTRUCTION_PROMPT = "{audio}\n{question}"
PROMPTS = {"closed": CLOSED_PROMPT, "open": OPEN_PROMPT, "instruction": INSTRUCTION_PROMPT}

LETTERS = data.CHOICE_LETTERS


def load(
    mmaupro_category: str, mmaupro_dataset: str = "full", data_dir: str | None = None, **_: Any
) -> dict[str, Documents]:
    """Return the documents of one category as lm_eval's `test` split.

    lm_eval passes everything from --model_args and --metadata; only `data_dir` concerns us.
    """
    sample = mmaupro_dataset == "sample"
    folder = None if sample else data_dir
    return {"test": Documents(data.load_category(mmaupro_category, data_dir=folder, sample=sample))}


class Documents(list):
    """Documents as lm_eval takes a split: a sequence that knows its columns.

    A `datasets.Dataset` would pad every `kwargs` with nulls, which the official checks treat unlike
    absent keys, and would write an Arrow copy to the user's cache.
    """

    @property
    def features(self) -> dict[str, None]:
        """Names of the columns; lm_eval reads the keys alone."""
        return dict.fromkeys(self[0]) if self else {}


def kind(doc: dict[str, Any]) -> str:
    """Return how the document is answered and scored: closed, open or instruction."""
    return data.CATEGORY_BY_VALUE[doc["category"]].kind


def doc_to_text(doc: dict[str, Any]) -> str:
    """Return the prompt: one placeholder per clip, the question, and the options with letters."""
    options = "\n".join(
        f"({letter}) {choice}" for letter, choice in zip(LETTERS, doc["choices"], strict=False)
    )
    return PROMPTS[kind(doc)].format(
        audio=AUDIO * len(doc["audio_path"]), question=doc["question"].strip(), options=options
    )


def doc_to_target(doc: dict[str, Any]) -> str:
    """Return the reference answer, "" for instruction items, which have none."""
    return doc["answer"] or ""


def doc_to_audio(doc: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return references to the clips in order (absolute path and SHA-256): nothing is decoded here."""
    return data.audio_references(doc)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score one reply; the metrics are described in README.md.

    Every item counts in every metric that its task has: an errored or unparsed reply is wrong, so the
    denominator never moves.
    """
    (reply,) = results
    if doc.get("problem") or replies.parse_error(reply) is not None:
        outcome = Outcome(errored=True)
    else:
        outcome = SCORERS[kind(doc)](doc, reply)
    if kind(doc) == "open":  # nothing that could be taken for a score
        return {"errored": float(outcome.errored)}
    return {name: float(value) for name, value in outcome._asdict().items()}


class Outcome(NamedTuple):
    """What one reply counts for; the fields are the names of the metrics."""

    acc: bool = False
    parsed: bool = False
    errored: bool = False


def score_closed(doc: dict[str, Any], reply: str) -> Outcome:
    """Score a reply that should state one of the choices."""
    match = closed.match(reply, doc["choices"], mode="strict")
    if match.index is None:
        return Outcome()
    return Outcome(acc=doc["choices"][match.index] == doc["answer"], parsed=True)


def score_open(doc: dict[str, Any], reply: str) -> Outcome:
    """Leave open-ended replies unscored: they need a judge."""
    return Outcome()


def score_instruction(doc: dict[str, Any], reply: str) -> Outcome:
    """Apply the official check of the item's rule."""
    kwargs = instruction_following.released_kwargs(doc)
    result = instruction_following.evaluate(
        doc["task_identifier"], kwargs, reply, doc["question"], mode="official"
    )
    if result.status == "substitute":
        warn_once(result.note)
    if result.passed is None:
        logger.error("item %s cannot be scored: %s", doc["id"], result.note)
        return Outcome(errored=True)
    return Outcome(acc=result.passed, parsed=bool(reply.strip()))


@functools.cache
def warn_once(note: str) -> None:
    """Log a warning the first time that it is given."""
    logger.warning("instruction following: %s", note)


SCORERS = {"closed": score_closed, "open": score_open, "instruction": score_instruction}
