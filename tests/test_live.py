"""The progress line of a run: what it has scored so far, and where it is shown."""

from __future__ import annotations

import io
import sys

from logged_runs import DOCS, good_reply, line_of

from mmaupro_ext import progress, scoring
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report.live import LiveScores


class Task:
    """Scores as the glue of our tasks does."""

    def process_results(self, doc, results):
        verdict = scoring.score(doc, results[0], "strict")
        metrics = {"errored": float(verdict.errored)}
        return metrics if doc["category"] == "open" else {"acc": verdict.score, **metrics}


class Request:
    request_type = "generate_until"

    def __init__(self, task, doc):
        self.task_name, self.doc = task, doc
        self.args = tuple(line_of(doc, "")["arguments"]["gen_args_0"].values())


def fed(answers) -> LiveScores:
    live = LiveScores({"mmaupro-sample_sound": Task(), "mmaupro-sample_open": Task(), "mmlu": None})
    for task, doc, answer in answers:
        live.add(Request(task, doc), answer)
    return live


def test_accuracy_and_errors_so_far_are_those_of_the_scorer():
    docs = DOCS["sound"]
    replies = [good_reply(doc) for doc in docs[:8]] + ["Z"] * 2 + [error_reply("gone")]
    live = fed(
        ("mmaupro-sample_sound", doc, reply) for doc, reply in zip(docs, replies, strict=False)
    )
    assert live.line().startswith(f"acc {100 * 8 / 11:.1f} ± ")
    assert live.line().endswith("%, errored 1")


def test_other_tasks_and_unscored_items_do_not_count():
    assert fed([("mmlu", DOCS["sound"][0], "A")]).line() == ""
    assert fed([("mmaupro-sample_open", DOCS["open"][0], "words")]).line() == ""


def test_without_a_terminal_each_line_stays(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0.0)
    with progress.progress(3, "Answering") as bar:
        for _ in range(3):
            bar.set_postfix_str("acc 50.0 %", refresh=False)
            bar.update()
    text = stream.getvalue()
    assert "\r" not in text
    assert text.count("\n") >= 3
    assert "acc 50.0 %" in text.splitlines()[-1]
    assert "3/3" in text.splitlines()[-1]


def test_quiet_shows_nothing(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv(progress.QUIET, "1")
    with progress.progress(3, "Answering") as bar:
        bar.update(3)
    assert stream.getvalue() == ""
