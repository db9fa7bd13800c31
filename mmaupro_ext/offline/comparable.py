"""How far an official number compares with the paper: what the replies look like, and what differs.

The released evaluator takes for each multiple-choice reply the choice whose text is nearest. That is a
score of replies that name a choice by its text; what other replies get is near chance, and a number that
rests on them looks like one that does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmaupro_ext.data.conditions import FULL, warning
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import Verdict

SHARES = ("letter_only", "unparsed", "truncated")
"""Keys of `reply_shares`."""


def reply_shares(pairs: Sequence[tuple[Item, Verdict]]) -> dict[str, float | None]:
    """Return how many replies are of kinds that the released evaluator was not made for, in per cent.

    Parameters
    ----------
    pairs : sequence of (Item, Verdict)
        Multiple-choice items, with their verdicts under any preset.

    Returns
    -------
    dict
        "letter_only": the reply states a letter, and the text of that choice is nowhere in it.
        "unparsed": it states no choice. "truncated": it was cut at its limit; None where the log says of no
        item why its reply ended. All are shares of all items.
    """
    ends = [item.finish for item, _ in pairs]
    counts: dict[str, int | None] = {
        "letter_only": sum(_is_letter_only(item, verdict) for item, verdict in pairs),
        "unparsed": sum(verdict.status == "unparsed" for _, verdict in pairs),
        "truncated": None if not any(ends) else ends.count("length"),
    }
    return {
        name: None if count is None or not pairs else round(100.0 * count / len(pairs), 4)
        for name, count in counts.items()
    }


def _is_letter_only(item: Item, verdict: Verdict) -> bool:
    if verdict.status != "letter":
        return False
    text = re.escape(_folded(verdict.details["stated"]))
    return re.search(rf"(?<!\w){text}(?!\w)", _folded(item.reply)) is None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def differences(
    run: Run,
    preset: Preset,
    embedder: Mapping[str, Any] | None = None,
    judge_is_official: bool = True,
) -> Iterator[str]:
    """Yield what keeps a result from being compared with the paper's scores.

    Parameters
    ----------
    run : Run
        The replies.
    preset : Preset
        Under which they are scored.
    embedder : mapping, optional
        What the result says of it; None where there was none.
    judge_is_official : bool
        Whether open questions were judged by the released evaluator's model, or not at all.

    Yields
    ------
    str
        Clauses; none where the result follows the released evaluator throughout.
    """
    if run.condition != FULL:
        yield warning(run.condition)
    if run.dataset != "full":
        yield f"the questions are not {run.benchmark.title}'s"
    elif run.deviations:
        yield f"the items are not the released ones ({len(run.deviations):,} deviations accepted)"
    if run.part is not None:
        yield f"it is {run.part}"
    if preset.base != "official":
        yield f"the preset {preset.base} is not the released evaluator"
    for option, value in preset.overrides.items():
        note = ": the text of a stated letter is put in its place" if option == "letters" else ""
        yield f"{option}={value} deviates from the preset {preset.base}{note}"
    if run.recipe:
        yield f"the items were asked by the recipe {run.recipe}"
    elif run.benchmark.prompt is not None and run.asks_for != "own":
        yield "the prompt is not the one that the benchmark's authors ask with"
    closed = any(item.kind == "closed" for item in run.items)
    by_letter = run.asks_for == "letter" and not run.recipe
    if closed and by_letter and run.benchmark.rule == "embedding":
        yield (
            "the prompt asked for a letter, and the released evaluator compares texts (the tasks "
            "mmaupro-text_* ask for the text)"
        )
    if closed and preset.options.closed == "embedding" and embedder is None:
        yield "multiple choice is unscored, for want of an embedder"
    if embedder is not None and not embedder.get("official"):
        yield f"the embedder {embedder['name']} is not the released evaluator's"
    if not judge_is_official:
        yield "the judge is not the released evaluator's"
