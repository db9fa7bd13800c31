"""Items that a model of ours could not serve, in tasks of other people: counted, and never scored."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from typing import Any

_PATCHED = "_mmaupro_ext"


def count(task: Any) -> bool:
    """Give a task of somebody else the metric `errored`, and keep error replies from its scorer.

    Our models answer an item that they cannot serve with a marked text, or with a score that is no
    number, which other people's filters and scorers would take for a reply. Such an item is given to
    them as an empty reply; what it scores is then set to 0 wherever higher is better (an empty reply
    may be right by chance: MMMU guesses). Metrics of other kinds keep the value of the empty reply.

    Parameters
    ----------
    task : lm_eval.api.task.Task
        Changed in place.

    Returns
    -------
    bool
        False for a task that has a metric `errored` of its own, as ours do.
    """
    if "errored" in task.aggregation():
        return getattr(task, _PATCHED, False)
    setattr(task, _PATCHED, True)
    from lm_eval.api.metrics import mean

    apply_filters, aggregation = task.apply_filters, task.aggregation
    doc_iterator, process_results = task.doc_iterator, task.process_results
    errored: set[int] = set()
    at: list[int] = [-1]  # the document that lm_eval is scoring

    def apply_filters_without_errors() -> Any:
        from mmaupro_ext import heard

        errored.clear()
        kept = [(one, one.resps) for one in task.instances if heard.is_errored(one.resps)]
        for one, answers in kept:
            errored.add(one.doc_id)
            one.resps = [_no_reply(answer) for answer in answers]
        try:
            return apply_filters()
        finally:
            for one, answers in kept:  # the samples keep what was said
                one.resps = answers

    def noted_doc_iterator(**options: Any) -> Iterator[tuple[int, Any]]:
        for doc_id, doc in doc_iterator(**options):
            at[0] = doc_id
            yield doc_id, doc

    def process_results_with_errors(doc: Any, results: Any) -> dict[str, Any]:
        metrics = process_results(doc, results)
        if at[0] not in errored:
            return {**metrics, "errored": 0.0}
        better = task.higher_is_better() or {}
        return {
            **{name: _wrong(name, value, better) for name, value in metrics.items()},
            "errored": 1.0,
        }

    task.apply_filters = apply_filters_without_errors
    task.doc_iterator = noted_doc_iterator
    task.process_results = process_results_with_errors
    task.aggregation = lambda: {**aggregation(), "errored": mean}
    return True


def _no_reply(answer: Any) -> Any:
    if isinstance(answer, str):
        return ""
    return (0.0, False) if isinstance(answer, tuple) else answer


def _wrong(name: str, value: Any, higher_is_better: dict[str, Any]) -> Any:
    import numpy as np

    if name == "bypass" or not isinstance(value, (numbers.Number, np.bool_)):
        return value
    return 0.0 if higher_is_better.get(name, True) else value


def drop_zeros(results: dict[str, Any], tasks: list[str]) -> None:
    """Leave the table of a task without errors as it would be without us."""
    for task in tasks:
        values = results["results"][task]
        ours = [name for name in values if name.startswith(("errored,", "errored_stderr,"))]
        if not any(values[name] for name in ours if name.startswith("errored,")):
            for name in ours:
                del values[name]
