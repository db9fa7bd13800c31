"""The glue between the rows of all our benchmarks and lm_eval: tiny functions, no state.

The prompts are `mmaupro_ext.data.questions`, the scores `mmaupro_ext.scoring.score`, what a benchmark is
`mmaupro_ext.benchmarks`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from mmaupro_ext import benchmarks, data, scoring
from mmaupro_ext.data.questions import CLOSED_PROMPT, INSTRUCTION_PROMPT, OPEN_PROMPT, prompt
from mmaupro_ext.recipes import RECIPE

__all__ = ["CLOSED_PROMPT", "INSTRUCTION_PROMPT", "LETTERS", "OPEN_PROMPT"]

logger = logging.getLogger("mmaupro_ext.tasks")

LETTERS = data.CHOICE_LETTERS


def load(
    mmaupro_category: str,
    mmaupro_dataset: str = "full",
    mmaupro_benchmark: str = benchmarks.MMAUPRO,
    mmaupro_prompt: str = "own",
    **settings: Any,
) -> dict[str, Documents]:
    """Return the documents of one category as lm_eval's `test` split.

    lm_eval passes everything from --model_args and --metadata; the folder of the benchmark concerns us, and
    under which `condition`, by whose `recipe` its items are asked.
    """
    sample = mmaupro_dataset == "sample"
    benchmark = benchmarks.BENCHMARKS[mmaupro_benchmark]
    folder = None if sample else settings.get(data.folder_setting(benchmark))
    if benchmark.read_row is None:
        docs = data.load_category(mmaupro_category, data_dir=folder, sample=sample)
    else:
        docs = data.load_items(benchmark.name, mmaupro_category, folder, sample, mmaupro_prompt)
    return {"test": Documents(*data.asked(docs, settings))}


class Documents(list):
    """Documents as lm_eval takes a split: a sequence that knows its columns.

    A `datasets.Dataset` would pad every `kwargs` with nulls, which the official checks treat unlike
    absent keys, and would write an Arrow copy to the user's cache.

    Parameters
    ----------
    docs : sequence of dict
        The documents.
    not_asked : mapping of str to int, optional
        Why items of the category are not among them -> how many.
    """

    def __init__(self, docs: Iterable[dict[str, Any]], not_asked: Mapping[str, int] | None = None):
        super().__init__(docs)
        self.not_asked = dict(not_asked or {})

    @property
    def features(self) -> dict[str, None]:
        """Names of the columns; lm_eval reads the keys alone."""
        return dict.fromkeys(self[0]) if self else {}


def doc_to_text(doc: dict[str, Any]) -> str:
    """Return the prompt: one placeholder per clip, the question, and the options with letters."""
    return prompt(doc)


def doc_to_target(doc: dict[str, Any]) -> str:
    """Return the reference answer, "" for instruction items, which have none."""
    return doc["answer"] or ""


def doc_to_audio(doc: dict[str, Any]) -> list[dict[str, str | None]]:
    """Return references to the clips in order (absolute path and SHA-256): nothing is decoded here."""
    return data.audio_references(doc)


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score one reply under the preset `strict`, or as a recipe reads it; README.md has the metrics.

    Every item counts in every metric that its task has: an errored or unparsed reply is wrong, so the
    denominator never moves. Open items have no `acc`: a judge is not asked within a run. Nor have those whose
    answers are withheld.
    """
    (reply,) = results
    verdict = scoring.score(doc, reply, "strict", finish=getattr(reply, "finish", None))
    if verdict.errored and "identifier" in verdict.details:  # served, but its rule lacks something
        logger.error("item %s cannot be scored: %s", doc["id"], verdict.details["error"])
    kind = scoring.kind_of(doc)
    if kind == "open":  # nothing that could be taken for a score
        return {"errored": float(verdict.errored)}
    metrics = {"parsed": float(verdict.parsed), "errored": float(verdict.errored)}
    if kind == "hidden":
        return metrics
    by_recipe = doc.get(RECIPE) and not verdict.errored
    score = scoring.score_by_recipe(doc, reply) if by_recipe else verdict.score
    return {"acc": (verdict.score if score is None else score) or 0.0, **metrics}
