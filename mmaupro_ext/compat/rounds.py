"""`--until-se`: items are asked in rounds until the overall is known well enough; the others are left out.

lm_eval hands all requests of a kind to the model at once. `InRounds` stands between the two: it asks those of
a round, has their answers scored by the tasks themselves, and stops when the bounds of the overall
(`scoring.anytime`) are near enough. What was not drawn then leaves the tasks, so that lm_eval
averages and logs what was asked, under the number that each item has in its dataset. Answers go through the
journal: the same command without --until-se asks what is left.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmaupro_ext import benchmarks, heard
from mmaupro_ext.compat.command import ONE_PROCESS
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report.run_table import title_of
from mmaupro_ext.scoring import anytime

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)

CONFIDENCE = 0.95

# What an item is known by: its task, and its number in the task's dataset.
_Item = tuple[str, int]


class InRounds:
    """A model that is asked part of its requests; all else is the model's own.

    Parameters
    ----------
    lm : mmaupro_ext.models.resuming.Resumed
        The model with its journal.
    tasks : mapping of str to lm_eval.api.task.Task
        Those of the run. Tasks that are not of our benchmarks are asked whole.
    points : float
        Half width of the interval, in per cent, at which a benchmark stops.
    seed : object
        Decides, with the ids of items, in which order they are drawn.

    Raises
    ------
    ConfigError
        When the run scores no item of ours, or several processes share it: those that a launcher does not
        tell of (`command.refuse_options`) are known once the model is there.
    """

    def __init__(self, lm: Any, tasks: Mapping[str, Any], points: float, seed: object) -> None:
        if lm.world_size > 1:
            raise ConfigError(ONE_PROCESS)
        self.lm = lm
        self.points, self.seed = points, seed
        titles: dict[str, dict[str, Any]] = {}
        for name, task in tasks.items():
            if (asked := benchmarks.parse_task(name)) is not None:
                titles.setdefault(title_of(asked), {})[name] = task
        self._draws = {
            title: _Draw(title, own, points / 100.0, seed) for title, own in titles.items()
        }
        if not any(draw.scored for draw in self._draws.values()):
            raise ConfigError(
                "--until-se: no task of this run is scored while it runs (open questions need a judge), so "
                "that there is no overall to stop at. Leave it out"
            )

    def __getattr__(self, name: str) -> Any:
        if name == "lm":  # not there yet, while this is copied
            raise AttributeError(name)
        return getattr(self.lm, name)

    def generate_until(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Answer the requests that are drawn; the others have None."""
        return self._ask("generate_until", requests, options)

    def loglikelihood(self, requests: list[Instance], **options: Any) -> list[Any]:
        """Score the requests that are drawn; the others have None."""
        return self._ask("loglikelihood", requests, options)

    def _ask(
        self, kind: str, requests: Sequence[Instance], options: Mapping[str, Any]
    ) -> list[Any]:
        draws = [draw for draw in self._draws.values() if draw.begin(requests)]
        drawn = {item: draw for draw in draws for item in draw.round_of}
        answers: list[Any] = [None] * len(requests)
        for part in range(anytime.ROUNDS):
            now = [
                number
                for number, one in enumerate(requests)
                if _is_due(drawn.get(_item(one)), _item(one), part)
            ]
            if not now:
                continue
            given = getattr(self.lm, kind)([requests[number] for number in now], **options)
            for number, answer in zip(now, given, strict=True):
                answers[number] = answer
                if (draw := drawn.get(_item(requests[number]))) is not None:
                    draw.take(requests[number], answer)
            for draw in draws:
                if not draw.done:
                    draw.look(part)
        for draw in draws:
            draw.leave_out_the_rest()
        return answers

    def label(self, results: dict[str, Any]) -> None:
        """Write into lm_eval's results what was drawn, and that a part is a part (`part`, `alias`)."""
        results["part"] = self._part()
        partial = {
            title
            for title, draw in self._draws.items()
            if sum(draw.drawn.values()) < sum(draw.sizes.values())
        }
        for name, values in results["results"].items():
            asked = benchmarks.parse_task(name)
            if asked is not None and title_of(asked) in partial:
                values["alias"] = f"{values.get('alias', name)} [a part]"

    def _part(self) -> dict[str, Any]:
        """Return, as plain JSON, how items were drawn, how many, and the bounds."""
        return {
            "points": self.points,
            "confidence": CONFIDENCE,
            "seed": str(self.seed),
            "method": anytime.METHOD,
            "overall": {title: draw.as_dict() for title, draw in self._draws.items()},
            "tasks": {
                name: {"drawn": draw.drawn[name], "items": size, "scored": name in draw.scored}
                for draw in self._draws.values()
                for name, size in draw.sizes.items()
            },
        }


def _item(request: Instance) -> _Item:
    return request.task_name or "", int(request.doc_id)


def _is_due(draw: _Draw | None, item: _Item, part: int) -> bool:
    if draw is None:  # of a task that is not ours
        return part == 0
    return not draw.done and draw.round_of[item] == part


class _Draw:
    """The items of one benchmark, and how far their drawing is.

    `round_of` is the round of each item, in the order of drawing; `drawn` counts the items so far by task, to
    the round `last`; `done` once the bounds are near enough or all is drawn.
    """

    def __init__(
        self, title: str, tasks: Mapping[str, Any], half_width: float, seed: object
    ) -> None:
        self.title, self.half_width, self.seed = title, half_width, seed
        self.tasks = dict(tasks)
        self.scored = {name for name, task in tasks.items() if _is_scored(task)}
        self.sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
        self.drawn: Counter[str] = Counter()
        self.last = -1
        self.round_of: dict[_Item, int] = {}
        self.bounds: anytime.Bounds | None = None
        self.done = False
        self._answers: dict[_Item, list[tuple[int, Any]]] = {}
        self._docs: dict[_Item, Any] = {}
        self._scores: dict[str, list[float]] = {name: [] for name in self.scored}

    def begin(self, requests: Sequence[Instance]) -> bool:
        """Order the items of these requests; say whether there are any of this benchmark."""
        docs = {_item(one): one.doc for one in requests if one.task_name in self.tasks}
        if not docs:
            return False
        self._docs = docs
        for name in self.tasks:
            numbers = sorted(number for task, number in docs if task == name)
            ids = {number: str(docs[name, number].get("id", number)) for number in numbers}
            numbers.sort(key=lambda number: anytime.place(ids[number], self.seed))
            at = 0
            for part, until in enumerate(anytime.quotas(len(numbers)) if numbers else ()):
                self.round_of |= {(name, number): part for number in numbers[at:until]}
                at = until
        return True

    def take(self, request: Instance, answer: Any) -> None:
        """Note an answer to a request."""
        self._answers.setdefault(_item(request), []).append((request.idx, answer))

    def look(self, part: int) -> None:
        """Score what the round brought, and see whether the bounds are near enough."""
        self.last = part
        for item in (item for item, of in self.round_of.items() if of == part):
            self.drawn[item[0]] += 1
            if item[0] in self.scored:
                self._scores[item[0]].append(self._score(item))
        self._answers.clear()
        sizes = {name: self.sizes[name] for name in self.tasks if name in self.scored}
        if sizes:
            self.bounds = anytime.confidence_sequence(
                sizes, self._scores, self.half_width, CONFIDENCE
            )[-1]
            logger.info(
                "%s: %d of %d scored items, overall %.1f %% (%.1f to %.1f)",
                *(self.title, self.bounds.drawn, sum(sizes.values()), 100 * self.bounds.mean),
                *(100 * self.bounds.low, 100 * self.bounds.high),
            )
        # Of what is not scored all is asked: nothing else could tell when to stop.
        near = self.bounds is not None and self.bounds.half_width <= self.half_width
        self.done = near or part == anytime.ROUNDS - 1

    def leave_out_the_rest(self) -> None:
        """Take from the tasks what was not drawn."""
        kept = {item for item, part in self.round_of.items() if part <= self.last}
        for name, task in self.tasks.items():
            task._instances = [one for one in task.instances if _item(one) in kept]
            task.doc_iterator = _only(task.doc_iterator, {n for of, n in kept if of == name})

    def _score(self, item: _Item) -> float:
        """Score an item; of several replies to a request the first counts, as in lm_eval's own filter."""
        by_request: dict[int, list[Any]] = {}
        for index, answer in self._answers[item]:
            by_request.setdefault(index, []).append(answer)
        given = [by_request[index][0] for index in sorted(by_request)]
        if heard.is_errored(given):
            return 0.0
        return float(self.tasks[item[0]].process_results(self._docs[item], given)["acc"])

    def as_dict(self) -> dict[str, Any]:
        """Return the bounds of the overall in per cent, and of how many items."""
        scored = [name for name in self.tasks if name in self.scored]
        found = {
            "drawn": sum(self.drawn[name] for name in scored),
            "items": sum(self.sizes[name] for name in scored),
        }
        if self.bounds is not None:
            for name in ("mean", "low", "high"):
                found[name] = round(100.0 * getattr(self.bounds, name), 4)
        return found


def _is_scored(task: Any) -> bool:
    return "acc" in (getattr(task, "_metric_fn_list", None) or {})


def _only(iterate: Any, kept: set[int]) -> Any:
    """Return a task's iterator of documents without those that were not drawn; numbers stay."""

    def doc_iterator(**options: Any) -> Iterator[tuple[int, Any]]:
        return ((number, doc) for number, doc in iterate(**options) if number in kept)

    return doc_iterator
