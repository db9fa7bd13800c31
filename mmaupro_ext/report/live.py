"""What a run has scored so far, for its progress line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data import conditions
from mmaupro_ext.scoring.intervals import clip_clusters, clustered_interval

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

# Seconds between two computations of the interval, which takes milliseconds a thousand items.
_EVERY_S, _FEW = 1.0, 500


class LiveScores:
    """Scores answers of our tasks as they come, by the tasks' own scorer.

    Parameters
    ----------
    tasks : mapping of str to lm_eval.api.task.Task
        Those of the run. Replies to tasks that are not ours, and log-likelihoods, are counted only when they
        come to be scored at the end.
    """

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self._tasks = {
            name: task for name, task in tasks.items() if benchmarks.parse_task(name) is not None
        }
        # Scores and clips of the items by the condition under which they are asked.
        self._scores: dict[str, list[float]] = {}
        self._clips: dict[str, list[list[str | None]]] = {}
        self._errored = 0
        self._text, self._due = "", 0.0

    def add(self, request: Instance, answer: Any) -> None:
        """Count an answer to a request."""
        task = self._tasks.get(request.task_name or "")
        if task is None or request.request_type != "generate_until":
            return
        metrics = task.process_results(request.doc, [answer])
        self._errored += bool(metrics.get("errored"))
        if "acc" in metrics:
            media = request.args[2] if len(request.args) > 2 else {}
            clips = media.get("audio") if isinstance(media, Mapping) else None
            condition = conditions.name_of(request.doc)
            self._scores.setdefault(condition, []).append(float(metrics["acc"]))
            self._clips.setdefault(condition, []).append(
                [clip.get("sha256") if isinstance(clip, Mapping) else None for clip in clips or ()]
            )

    def line(self) -> str:
        """Return accuracy, half its 95 % interval, and errored items; "" before the first.

        Items that are asked under a condition name it; of several conditions, means alone are said.
        """
        if not self._scores and not self._errored:
            return ""
        now = time.monotonic()
        if now >= self._due or sum(map(len, self._scores.values())) < _FEW:
            parts = [f"errored {self._errored}"] if self._errored else []
            if len(self._scores) > 1:
                means = ", ".join(
                    f"{name} {100 * fmean(self._scores[name]):.0f}"
                    for name in (conditions.FULL, *conditions.CONDITIONS)
                    if name in self._scores
                )
                parts.insert(0, f"acc % {means}")
            for name, scores in self._scores.items() if len(self._scores) == 1 else ():
                found = clustered_interval(scores, clip_clusters(self._clips[name]))
                half = "" if found.note else f" ± {50 * (found.high - found.low):.1f}"
                under = "" if name == conditions.FULL else f"{name}: "
                parts.insert(0, f"{under}acc {100 * found.mean:.1f}{half} %")
            self._text, self._due = ", ".join(parts), now + _EVERY_S
        return self._text
