"""Did it listen? What answers under ablations say of a model's reliance on audio, as numbers.

Pure functions on answers to the same items under several conditions; `offline.ablated` makes such answers of
logged samples, `report.reliance` shows the profile. `answers` says which items count.

Item classes and text-prior retention are those of Foo et al. (arXiv 2604.24401; compute_decomposition.py in
leonardofhy/all-that-glitters-is-not-audio at e42b3d1), but for errors: there, an item with a fragment that
errored is one that a fragment solves, and a fragment that was not asked is wrong. Here, it stays undecided.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import fmean

from mmaupro_ext.scoring import choosing
from mmaupro_ext.scoring.answers import (
    ABSENT,
    BACKBONE,
    FRAGMENTS,
    FULL,
    NONE,
    PERMUTE,
    Answer,
    LeftOut,
    Table,
    is_choice,
)
from mmaupro_ext.scoring.choosing import Flips, Longest, Orders, Places
from mmaupro_ext.scoring.intervals import Interval, clustered_interval
from mmaupro_ext.scoring.paired import Contrast, contrast

OVERALL = "overall"


@dataclass(frozen=True)
class Row:
    """A condition against full, on the items that count in both.

    Attributes
    ----------
    name : str
        Of the condition: "none", "noise-0.01", "fragments 1/3" (all thirds, each alone).
    category : str
        Or "overall": all items together.
    score : Interval or None
        Mean over items of the share of right answers; clustered by clip. None where no item counts.
    against_full : Contrast or None
        Full first, the condition second. None in the rows of full and of absent, which has other choices.
    chance : float
        What guessing gives on these items: mean of 1 over the number of choices; nan where one has none.
    no_choice : float
        Share of the replies to those of them with choices that state none; nan where none has choices.
    left_out : LeftOut
    """

    name: str
    category: str
    score: Interval | None
    against_full: Contrast | None
    chance: float
    no_choice: float
    left_out: LeftOut


@dataclass(frozen=True)
class Classes:
    """What each item needs, after Foo et al.; shares of the items that count in full and in none.

    Attributes
    ----------
    text_solves : Interval
        Right in full, and right without audio.
    needs_audio : Interval
        Right in full, wrong without audio.
    fragment_suffices, several_segments : Interval or None
        Those that need audio, split: right on at least one fragment alone, or wrong on all. None where no
        fragments were asked.
    audio_hurts : Interval
        Wrong in full, right without audio.
    unsolved : Interval
        Wrong in both.
    undecided : int
        Need audio, no fragment was right, and at least one errored, is unscored or was not asked.
    of_needed : Interval or None
        Several segments, as a share of those that need audio and are decided.
    by_chance : float
        What `of_needed` would be expected to be if each fragment's answer were a guess.
    released : tuple of int
        How many items the released script would say a fragment suffices for, and need several segments.
    left_out : LeftOut
    """

    text_solves: Interval
    needs_audio: Interval
    fragment_suffices: Interval | None
    several_segments: Interval | None
    audio_hurts: Interval
    unsolved: Interval
    undecided: int
    of_needed: Interval | None
    by_chance: float
    released: tuple[int, int]
    left_out: LeftOut


@dataclass(frozen=True)
class Profile:
    """The audio-reliance profile of a model.

    Attributes
    ----------
    conditions, categories : tuple of str
        In the order in which they came; "full" first.
    rows : tuple of Row
        For each condition: overall, then each category that it was asked of.
    classes : Classes or None
        Needs none.
    orders, places : Orders or None, tuple of Places
        Need permute.
    longest : tuple of Longest
        Of full, none and text-backbone.
    flips : tuple of Flips
        Of each condition with the released choices; `repeat`, the noise floor, first.
    without_full : int
        Items that were asked under a condition but not in full; they count in nothing.

    Examples
    --------
    >>> found = profile([Answer("q1", "sound", ("a.wav",), "full", correct=True)])
    >>> found.row("full").score.mean, found.row("none"), found.classes
    (1.0, None, None)
    """

    conditions: tuple[str, ...]
    categories: tuple[str, ...]
    rows: tuple[Row, ...]
    classes: Classes | None
    orders: Orders | None
    places: tuple[Places, ...]
    longest: tuple[Longest, ...]
    flips: tuple[Flips, ...]
    without_full: int

    def row(self, name: str, category: str = OVERALL) -> Row | None:
        """Return the row of a condition and category; None where it was not asked."""
        found = (row for row in self.rows if (row.name, row.category) == (name, category))
        return next(found, None)


def profile(answers: Iterable[Answer]) -> Profile:
    """Return the profile of one model from its answers under all conditions.

    Parameters
    ----------
    answers : iterable of Answer
        "full" must be among them; other conditions as far as they were asked.

    Returns
    -------
    Profile

    Raises
    ------
    ScoringError
        Without answers in full, when an item was answered twice under the same condition and variant, when
        an answer names a place that was not shown, or a fragment is not named like 2/5.

    Examples
    --------
    >>> heard = [Answer(str(n), "sound", (str(n),), "full", correct=n < 3) for n in range(4)]
    >>> deaf = [Answer(str(n), "sound", (str(n),), "none", correct=n < 1) for n in range(4)]
    >>> found = profile([*heard, *deaf]).row("none").against_full
    >>> found.first, found.second, found.ratio
    (0.75, 0.25, 0.3333333333333333)
    """
    table = Table(answers)
    names = list(table.conditions)
    return Profile(
        tuple(names),
        table.categories,
        tuple(row for name in names for row in _rows(table, name)),
        _classes(table) if NONE in names else None,
        choosing.orders(table) if PERMUTE in names else None,
        tuple(choosing.places(table)) if PERMUTE in names else (),
        tuple(
            found
            for name in (FULL, NONE, BACKBONE)
            if name in names and (found := choosing.longest(table, name))
        ),
        tuple(choosing.flips(table)),
        table.without_full,
    )


# --- numbers --------------------------------------------------------------------------------------


def _rows(table: Table, name: str) -> Iterator[Row]:
    for category in (OVERALL, *table.categories):
        items = [
            item for item, answer in table.items.items() if category in (OVERALL, answer.category)
        ]
        if not any(table.of(name, item) for item in items):
            continue
        kept, left_out = table.counting(sorted({FULL, name}), items)
        if not kept:
            yield Row(name, category, None, None, math.nan, math.nan, left_out)
            continue
        clusters = table.clusters_of(kept)
        scores = table.shares(name, kept, _correct)
        against = (
            None
            if name in (FULL, ABSENT)
            else contrast(table.shares(FULL, kept, _correct), scores, clusters)
        )
        found = clustered_interval(scores, clusters)
        chance, silent = _chance(table, name, kept), _no_choice(table, name, kept)
        yield Row(name, category, found, against, chance, silent, left_out)


def _chance(table: Table, name: str, items: list[str]) -> float:
    sizes = [len(answer.order) for item in items for answer in table.of(name, item)[:1]]
    return fmean(1.0 / size for size in sizes) if all(sizes) else math.nan


def _no_choice(table: Table, name: str, items: list[str]) -> float:
    asked = [item for item in items if is_choice(table.items[item])]
    found = table.shares(name, asked, lambda answer: answer.picked is None)
    return fmean(found) if found else math.nan


def _correct(answer: Answer) -> bool | None:
    return answer.correct


def _classes(table: Table) -> Classes | None:
    kept, left_out = table.counting([FULL, NONE], table.items)
    if not kept:
        return None
    clusters = table.clusters_of(kept)
    parts = [name for name in table.conditions if name.startswith(f"{FRAGMENTS} ")]
    words, guesses = [], []
    released = Counter[str]()
    for item in kept:
        full, none = (bool(table.of(name, item)[0].correct) for name in (FULL, NONE))
        if not full or none:
            words.append("text" if full else "hurts" if none else "unsolved")
            continue
        found = [answer for name in parts for answer in table.of(name, item)]
        asked = sum(table.whole[name] for name in parts)
        solved = any(answer.served and answer.correct for answer in found)
        whole = len(found) == asked and all(answer.counts for answer in found)
        words.append("fragment" if solved else "several" if whole and parts else "undecided")
        errored = any(not answer.served for answer in found)
        released["fragment" if solved or errored else "several"] += 1
        choices = len(table.items[item].order)
        if words[-1] != "undecided" and choices > 1:
            guesses.append((1.0 - 1.0 / choices) ** asked)

    def share(*wanted: str) -> Interval:
        return clustered_interval([word in wanted for word in words], clusters)

    decided = [n for n, word in enumerate(words) if word in ("fragment", "several")]
    return Classes(
        text_solves=share("text"),
        needs_audio=share("fragment", "several", "undecided"),
        fragment_suffices=share("fragment") if parts else None,
        several_segments=share("several") if parts else None,
        audio_hurts=share("hurts"),
        unsolved=share("unsolved"),
        undecided=words.count("undecided"),
        of_needed=clustered_interval(
            [words[n] == "several" for n in decided], [clusters[n] for n in decided]
        )
        if decided
        else None,
        by_chance=fmean(guesses) if guesses else math.nan,
        released=(released["fragment"], released["several"]),
        left_out=left_out,
    )
