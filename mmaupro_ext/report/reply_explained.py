"""`mmaupro score RUN --explain ID`: what the rules make of one reply, and why."""

from __future__ import annotations

from collections.abc import Iterator

from mmaupro_ext import benchmarks
from mmaupro_ext.categories import CHOICE_LETTERS
from mmaupro_ext.data import text
from mmaupro_ext.offline.answer_key import faults_of
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.scoring import final_answer, presets, scorer
from mmaupro_ext.scoring.official_rules import RULES


def explain_item(run: Run, item: Item) -> str:
    """Say what strict and official scoring make of a reply.

    Parameters
    ----------
    run : Run
        The run that it is of.
    item : Item
        The item, with its reply.

    Returns
    -------
    str
        Lines without a final newline.
    """
    return text.visible("\n".join([*_head(run, item), *_strict(item), *_official(item)]))


def _head(run: Run, item: Item) -> Iterator[str]:
    doc = item.doc
    yield f"{item.id}: {run.benchmark.title}, {doc['category']} ({item.where})"
    yield text.paragraph(f"question: {doc['question']}")
    gold = scorer.gold_indexes(doc["choices"], doc["answer"])
    if item.kind in ("closed", "hidden"):
        for index, choice in enumerate(doc["choices"]):
            mark = "  <- reference" if index in gold else ""
            shown = text.visible(choice) if choice else "(no choice)"
            yield f"  ({CHOICE_LETTERS[index]}) {shown}{mark}"
        if not gold and item.kind == "closed":
            yield f"  the reference, {doc['answer']!r}, is not among them: nothing can be right"
    elif doc["answer"] is not None:
        yield text.paragraph(f"reference: {doc['answer']}")
    codes = faults_of(run).codes.get(item.id, ())
    if codes:
        yield f"known faults: {', '.join(codes)}"
    yield f"reply: {item.reply!r}" + (f" (ended: {item.finish})" if item.finish else "")


def _strict(item: Item) -> Iterator[str]:
    verdict = scorer.score(item.doc, item.reply, "strict", finish=item.finish)
    yield f"strict: {_points(verdict)} ({verdict.status})"
    if verdict.errored:
        yield f"  the item was not served: {verdict.details['error']}"
        return
    answer = final_answer(item.reply, item.finish)
    if answer != item.reply:
        yield f"  of the reply counts: {answer!r}"
    if "stated" in verdict.details:
        stated = verdict.details["stated"]
        yield f"  it states {stated!r}" if stated is not None else "  it states no one choice"
    elif verdict.details.get("identifier"):
        yield f"  rule {verdict.details['identifier']}: {verdict.details['note'] or 'checked'}"


def _official(item: Item) -> Iterator[str]:
    name = benchmarks.of(item.doc).name
    options = presets.of_benchmark("official", name).options
    if item.kind in ("closed", "hidden") and options.closed not in RULES:
        yield (
            "official: the choice whose text is nearest to the reply; needs an embedder (mmaupro score RUN "
            "--preset official --items FILE)"
        )
        return
    if item.kind == "open":
        yield "official: a judge's verdict (mmaupro score RUN --preset official --judge ... --items FILE)"
        return
    verdict = scorer.score(item.doc, item.reply, "official", finish=item.finish)
    yield f"official: {_points(verdict)}"
    if "rule" not in verdict.details:
        note = verdict.details.get("note") or verdict.details.get("error")
        yield from [f"  {note}"] if note else []
        return
    meaning = presets.OPTION_BY_NAME["closed"].values[verdict.details["rule"]]
    yield text.paragraph(f"the rule {verdict.details['rule']}: {meaning}", indent="  ")
    yield text.paragraph(f"of this reply: {verdict.details['why']}", indent="  ")
    if verdict.details["chosen"] is not None:
        yield f"  it takes {verdict.details['chosen']!r}"
    lettered = scorer.score(item.doc, item.reply, "official+letters=on", finish=item.finish)
    if lettered.score != verdict.score:
        yield f"  with letters=on, the text of the stated letter in its place: {_points(lettered)}"


def _points(verdict: scorer.Verdict) -> str:
    if verdict.dropped:
        return "dropped, in no denominator"
    return "not scored" if verdict.score is None else f"{verdict.score:g}"
