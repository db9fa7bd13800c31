"""One file of replies under every published rule: what each counts, over which items, and why two differ.

A cell is a rule over a set of items. All rules of a column are over the same items, but for "released", which
is what a rule's own script divides by: what was served and it does not leave out. An item that was not served
is no answer: it counts in "all" and "audited" alone, and is right in no cell. Over 400 lines: cells, and what
makes two of them differ, are one subject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from mmaupro_ext.data.conditions import variant_of
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.answer_key import faults_of
from mmaupro_ext.offline.judging import Judge
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.offline.reader import read_unparsed
from mmaupro_ext.offline.rescoring import nearest_choices
from mmaupro_ext.scoring import closed
from mmaupro_ext.scoring.intervals import Interval, clip_clusters, clustered_interval
from mmaupro_ext.scoring.paired import difference_of_means
from mmaupro_ext.scoring.presets import of_benchmark
from mmaupro_ext.scoring.published_rules import (
    MODEL_READ,
    NEMO,
    OFFICIAL,
    RULES,
    STRICT,
    Outcome,
)
from mmaupro_ext.scoring.scorer import Verdict, error_of, is_right, score
from mmaupro_ext.util import require_choice

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import TokenEmbedder

DENOMINATORS: Mapping[str, str] = {
    "released": "as the rule's own script divides: served, without what it leaves out",
    "all": "every multiple-choice item; one that was not served is not right",
    "served": "those that have a reply",
    "parsed": "those whose reply states a choice, strictly read: the same ones for every rule",
    "audited": "all without those that are known to be faulty",
}
_NOT_SERVED = Outcome(None, "errored")


@dataclass(frozen=True)
class Cell:
    """A rule over a set of items.

    Attributes
    ----------
    rule, denominator : str
        Keys of `RULES` and `DENOMINATORS`.
    """

    rule: str
    denominator: str

    def __str__(self) -> str:
        return f"{self.rule}/{self.denominator}"


@dataclass(frozen=True)
class Group:
    """Items on which two rules score differently, by how each came to its score.

    Attributes
    ----------
    first, second : str
        Keys of `HOW`.
    points : float
        What they are worth, 0 to 1: the second's mean less the first's, over the first's items.
    higher, lower : tuple of str
        Ids of the items on which the second scores more, or less.
    """

    first: str
    second: str
    points: float
    higher: tuple[str, ...]
    lower: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Why two cells differ. Their difference is `reading` + `counting`.

    Attributes
    ----------
    first, second : Cell
    means : tuple of float
        Of the two, 0 to 1.
    items : tuple of int
        Of the two.
    difference, low, high : float
        Second less first, with its interval; nan bounds with fewer than two clips.
    reading : float
        The part that the rules make on the first's items.
    counting : float
        The part that the second rule's score makes between the first's items and the second's.
    groups : tuple of Group
        The items behind `reading`, those that weigh most first.
    left, joined : tuple of str
        Ids of the items that count in the first alone, or in the second alone.
    """

    first: Cell
    second: Cell
    means: tuple[float, float]
    items: tuple[int, int]
    difference: float
    low: float
    high: float
    reading: float
    counting: float
    groups: tuple[Group, ...]
    left: tuple[str, ...]
    joined: tuple[str, ...]


@dataclass(frozen=True)
class Reconciled:
    """The replies of a run under all rules.

    Attributes
    ----------
    run : Run
        With its multiple-choice items alone.
    outcomes : dict of str to tuple of Outcome
        Rule -> what it makes of each item, in the order of the run.
    missing : dict of str to str
        Rule or denominator -> why it is not computed.
    official : str
        The rule of the benchmark's own evaluator.
    elsewhere : int
        Items of other kinds, which none of these rules reads.
    models : dict
        What the result says of embedder and reader, where they were asked.
    failed : int
        Replies that the reader gave no answer to; under `MODEL_READ` they state nothing.
    """

    run: Run
    outcomes: Mapping[str, tuple[Outcome, ...]]
    missing: Mapping[str, str]
    official: str
    elsewhere: int
    models: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    failed: int = 0

    @property
    def rules(self) -> list[str]:
        """Names of the rules, computed or not, in the order of tables."""
        return [name for name in RULES if name in self.outcomes or name in self.missing]

    @property
    def denominators(self) -> list[str]:
        """Names of the sets of items that are known."""
        return [name for name in DENOMINATORS if name not in self.missing]

    @cached_property
    def clusters(self) -> list[int]:
        """The cluster of each item: those that share a clip."""
        return clip_clusters([item.clips for item in self.run.items])

    @property
    def unanswerable(self) -> list[str]:
        """Names of the items whose answer is not among their choices."""
        return [
            _name(item) for item in self.run.items if item.doc["answer"] not in item.doc["choices"]
        ]

    @cached_property
    def _sets(self) -> dict[str, list[bool]]:
        faulty = faults_of(self.run).codes
        strict = self.outcomes[STRICT]
        return {
            "all": [True for _ in strict],
            "served": [outcome.how != "errored" for outcome in strict],
            "parsed": [outcome.how in ("letter", "text") for outcome in strict],
            "audited": [item.id not in faulty for item in self.run.items],
        }

    def counted(self, cell: Cell) -> list[bool]:
        """Return which items a cell is over."""
        if cell.denominator == "released":
            return [outcome.score is not None for outcome in self.outcomes[cell.rule]]
        return self._sets[cell.denominator]

    def interval(self, cell: Cell) -> Interval | None:
        """Return the mean of a cell with its interval, random draws included; None over no items."""
        counted = self.counted(cell)
        scores = [
            (outcome.score or 0.0, cluster, outcome.variance)
            for outcome, cluster, counts in zip(
                self.outcomes[cell.rule], self.clusters, counted, strict=True
            )
            if counts
        ]
        if not scores:
            return None
        values, clusters, variances = zip(*scores, strict=True)
        return clustered_interval(values, clusters, drawn=math.fsum(variances) / len(values) ** 2)

    def read_share(self, rule: str) -> float | None:
        """Return in what share of the served replies a rule finds what it goes by; None without any."""
        served = [outcome for outcome in self.outcomes[rule] if outcome.how != "errored"]
        without = sum(outcome.how in ("guess", "default", "none", "dropped") for outcome in served)
        return 1.0 - without / len(served) if served else None

    def cell(self, text: str, default: str = "all") -> Cell:
        """Return the cell that a text names: "RULE" or "RULE/DENOMINATOR".

        Raises
        ------
        ConfigError
            When there is none, or it is not computed.
        """
        rule, _, denominator = text.partition("/")
        rule = self.official if rule == OFFICIAL else rule
        cell = Cell(rule, denominator or default)
        require_choice("rule", rule, self.rules)
        require_choice("denominator", cell.denominator, DENOMINATORS)
        for name in (cell.rule, cell.denominator):
            if name in self.missing:
                raise ConfigError(f"{text}: {name} is not computed: {self.missing[name]}")
        return cell

    def pair(self, first: Cell, second: Cell) -> Pair | None:
        """Return why two cells differ; None where one is over no items."""
        here, there = self.counted(first), self.counted(second)
        if not any(here) or not any(there):
            return None
        size, other_size = sum(here), sum(there)
        ones, twos = (self.outcomes[cell.rule] for cell in (first, second))
        scores = [outcome.score or 0.0 for outcome in ones]
        others = [outcome.score or 0.0 for outcome in twos]
        difference, low, high = difference_of_means(
            [value if counts else None for value, counts in zip(scores, here, strict=True)],
            [value if counts else None for value, counts in zip(others, there, strict=True)],
            self.clusters,
            _drawn(ones, twos, here, there, first.rule == second.rule),
        )
        groups: dict[tuple[str, str], tuple[list[str], list[str], list[float]]] = {}
        for position, item in enumerate(self.run.items):
            gain = others[position] - scores[position]
            if here[position] and gain:
                ways = (ones[position].how, twos[position].how)
                higher, lower, gains = groups.setdefault(ways, ([], [], []))
                (higher if gain > 0 else lower).append(_name(item))
                gains.append(gain)
        found = [
            Group(*ways, math.fsum(gains) / size, tuple(higher), tuple(lower))
            for ways, (higher, lower, gains) in groups.items()
        ]
        mean, other = (
            math.fsum(value for value, counts in zip(values, chosen, strict=True) if counts) / count
            for values, chosen, count in ((scores, here, size), (others, there, other_size))
        )
        reading = math.fsum(group.points for group in found)
        names = [_name(item) for item in self.run.items]
        return Pair(
            first,
            second,
            (mean, other),
            (size, other_size),
            difference,
            low,
            high,
            reading,
            difference - reading if here != there else 0.0,
            tuple(sorted(found, key=lambda g: -len(g.higher) - len(g.lower))),
            tuple(n for n, a, b in zip(names, here, there, strict=True) if a and not b),
            tuple(n for n, a, b in zip(names, here, there, strict=True) if b and not a),
        )

    def named_pair(self, first: str, second: str) -> Pair:
        """Return why the cell that the second text names differs from that of the first.

        Raises
        ------
        ConfigError
            As `cell`, and when one of them is over no items.
        """
        cells = self.cell(first), self.cell(second)
        pair = self.pair(*cells)
        if pair is None:
            empty = next(cell for cell in cells if not any(self.counted(cell)))
            raise ConfigError(f"{empty} is over no items: there is nothing to compare with")
        return pair

    def usual_pairs(self) -> list[Pair]:
        """Return the pairs that a reader wants: each rule against strict, and against the official one."""
        bases = [Cell(STRICT, "all")]
        if self.official in self.outcomes:
            bases.append(Cell(self.official, "released"))
        found = [
            self.pair(base, Cell(rule, "released"))
            for base in bases
            for rule in self.outcomes
            if rule not in (base.rule, STRICT)
        ]
        return [pair for pair in found if pair is not None]


def reconcile(
    run: Run, embedder: TokenEmbedder | None = None, reader: Judge | None = None
) -> Reconciled:
    """Read the replies of a run under every published rule.

    Parameters
    ----------
    run : Run
        What `logged_runs.read_runs` or `plain_replies.read_plain` gave.
    embedder : TokenEmbedder, optional
        Without it the rules that take the nearest text are not computed.
    reader : Judge, optional
        Without it `MODEL_READ` is not computed.

    Returns
    -------
    Reconciled

    Raises
    ------
    ConfigError
        When there is no multiple-choice item whose answer is known, or embedder or reader cannot be used.
    """
    items = [item for item in run.items if item.kind == "closed"]
    if not items:
        raise ConfigError(
            f"{run.model}: no multiple-choice item with a known answer is among the {len(run.items):,}. "
            "These rules read nothing else: name a run that has some"
        )
    closed_run = replace(run, items=tuple(items))
    strict = tuple(map(_strict, items))
    outcomes: dict[str, tuple[Outcome, ...]] = {STRICT: strict}
    missing: dict[str, str] = {}
    models: dict[str, Mapping[str, object]] = {}
    failed = 0
    named = run.benchmark.rule
    for name in (OFFICIAL, NEMO):
        if named in RULES or (name == NEMO and NEMO not in run.benchmark.presets):
            continue
        if embedder is None:
            missing[name] = "no embedder was named (--embedder NAME)"
        else:
            outcomes[name] = _embedded(items, name, run.name, embedder)
            models["embedder"] = embedder.details()
    for name, rule in RULES.items():
        if rule.apply is not None:
            outcomes[name] = tuple(
                _NOT_SERVED
                if outcome.how == "errored"
                else rule.apply(item.doc["choices"], item.doc["answer"], item.reply)
                for item, outcome in zip(items, strict, strict=True)
            )
    if reader is None:
        missing[MODEL_READ] = "no reader was named (--reader READER)"
    else:
        outcomes[MODEL_READ], failed = _model_read(items, strict, reader)
        models["reader"] = reader.identity()
    if not faults_of(closed_run).codes:
        missing["audited"] = "no item of these questions is known to be faulty by its id"
    return Reconciled(
        closed_run,
        {name: outcomes[name] for name in RULES if name in outcomes},
        missing,
        named if named in RULES else OFFICIAL,
        len(run.items) - len(items),
        models,
        failed,
    )


def _name(item: Item) -> str:
    """Return an item's id; with the variant, under a condition that has several."""
    variant = variant_of(item.doc)
    return f"{item.id} {variant}" if variant else item.id


def _strict(item: Item) -> Outcome:
    if error_of(item.doc, item.reply, item.finish) is not None:
        return _NOT_SERVED
    reading = closed.match(item.reply, item.doc["choices"], finish=item.finish)
    how = reading.status if reading.index is not None else "none"
    return Outcome(float(is_right(item.doc, reading.index)), how, reading.index)


def _embedded(
    items: Sequence[Item], preset: str, benchmark: str, embedder: TokenEmbedder
) -> tuple[Outcome, ...]:
    chosen = of_benchmark(preset, benchmark)
    nearest = nearest_choices(items, chosen, embedder)

    def outcome(position: int, item: Item) -> Outcome:
        if error_of(item.doc, item.reply, item.finish) is not None:
            return _NOT_SERVED
        match = nearest.get(position)
        verdict = score(item.doc, item.reply, chosen, finish=item.finish, nearest=match)
        if verdict.errored:  # fewer than two choices
            return Outcome(None, "dropped")
        index = match.index if match is not None else None
        return Outcome(verdict.score, "nearest" if index is not None else "none", index)

    return tuple(outcome(*pair) for pair in enumerate(items))


def _model_read(
    items: Sequence[Item], strict: Sequence[Outcome], reader: Judge
) -> tuple[tuple[Outcome, ...], int]:
    """Return strict outcomes with what a model reads where it reads nothing, and how often that failed."""
    verdicts: list[Verdict] = [
        score(item.doc, item.reply, STRICT, finish=item.finish) for item in items
    ]
    found, failed = list(strict), 0
    for position, verdict in enumerate(read_unparsed(items, verdicts, reader)):
        reading = verdict.details.get("reader", {})
        failed += reading.get("status") == "failed"
        if reading.get("status") == "read":
            right = is_right(items[position].doc, reading["index"])
            found[position] = Outcome(float(right), "model", reading["index"])
    return tuple(found), failed


def _drawn(
    ones: Sequence[Outcome],
    twos: Sequence[Outcome],
    here: Sequence[bool],
    there: Sequence[bool],
    same: bool,
) -> float:
    """Return the variance that draws give the difference of two means; one rule draws once for both."""
    total = 0.0
    size, other_size = sum(here), sum(there)
    for one, two, first, second in zip(ones, twos, here, there, strict=True):
        weights = first / size, second / other_size
        if same:
            total += one.variance * (weights[0] - weights[1]) ** 2
        else:
            total += one.variance * weights[0] ** 2 + two.variance * weights[1] ** 2
    return total
