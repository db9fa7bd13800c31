"""What a result says of the reference answers: where they stand, what is known to be wrong with them.

And, for benchmarks whose released rule needs no model, what that rule gives beside the strict score.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mmaupro_ext.benchmarks.faults import CODES, Faults, known_faults
from mmaupro_ext.categories import CHOICE_LETTERS
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.scoring.official_rules import RULES
from mmaupro_ext.scoring.scorer import Verdict, gold_indexes, score


def gold_positions(items: Iterable[Item]) -> dict[str, Any] | None:
    """Return how often the reference answer stands under each letter, and what always answering A scores.

    Parameters
    ----------
    items : iterable of Item
        Those of other kinds than multiple choice do not count, nor do those without a known answer.

    Returns
    -------
    dict or None
        Plain JSON: "items"; "letters", letter -> items whose reference stands there (the first place where it
        is there twice); "always_a", per cent. None where nothing counts.
    """
    golds = [
        gold_indexes(item.doc["choices"], item.doc["answer"])
        for item in items
        if item.kind == "closed" and not item.doc.get("problem")
    ]
    known = [min(gold) for gold in golds if gold]
    if not known:
        return None
    letters = Counter(CHOICE_LETTERS[index] for index in known)
    always = 100.0 * sum(0 in gold for gold in golds) / len(golds)
    return {
        "items": len(golds),
        "letters": dict(sorted(letters.items())),
        "always_a": round(always, 4),
    }


def faults_of(run: Run) -> Faults:
    """Return the known faults of what was asked; a generated sample has none."""
    return known_faults(run.name if run.dataset == "full" else "")


def faults_found(run: Run) -> dict[str, Any]:
    """Return which items of a run are known to be faulty.

    Parameters
    ----------
    run : Run
        What was asked.

    Returns
    -------
    dict
        Plain JSON: "version" and "data" of the list, "items", and by code "items", "means" and "source".
    """
    known = faults_of(run)
    counts = Counter(code for item in run.items for code in known.codes.get(item.id, ()))
    return {
        "version": known.version,
        "data": known.data,
        "items": sum(item.id in known.codes for item in run.items),
        "codes": {
            code: {"items": counts[code], "means": CODES[code], "source": known.sources[code]}
            for code in CODES
            if counts[code]
        },
    }


def readings(
    run: Run, mean: Callable[[Sequence[Verdict]], float | None]
) -> dict[str, dict[str, Any]] | None:
    """Return the strict and the official score of a run side by side.

    Parameters
    ----------
    run : Run
        The replies.
    mean : callable
        Verdicts to per cent, None where none has a score.

    Returns
    -------
    dict or None
        Preset -> "score", "dropped" (items that the released rule leaves out) and "dropped_share", per cent
        of all items. None where the released rule needs a model, or answers are withheld.
    """
    if run.benchmark.rule not in RULES or run.benchmark.hidden:
        return None
    found = {}
    for preset in ("strict", "official"):
        verdicts = [score(item.doc, item.reply, preset, finish=item.finish) for item in run.items]
        kept = [verdict for verdict in verdicts if not verdict.dropped]
        dropped = len(verdicts) - len(kept)
        found[preset] = {
            "score": mean(kept),
            "dropped": dropped,
            "dropped_share": round(100.0 * dropped / len(verdicts), 4),
        }
    return found
