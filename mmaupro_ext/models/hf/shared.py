"""What prompts have in common: those that begin alike are read once as far as they are the same.

Questions on one clip, the orders of a question's choices and its other wordings begin with the same tokens
and the same sounds, most of what there is to read. The keys and values of the earlier prompt still stand in
its slot, and the new one begins with a copy of them; no memory is taken but for the pass itself.

Layers that do not keep all keys have to be marked where others are to go on (`marks`). What prompts share is
then read first, in a pass of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from mmaupro_ext.models.hf.marks import Mark
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row

# With fewer tokens in common a prompt is read whole: beside the weights, which every pass reads, they cost
# nothing, and the pass would be one more.
FEWEST = 16
# A mark costs a pass over few tokens, which takes as long as one over so many (7B on an H100: 22 ms, most of
# it for launching kernels): others must save them.
WORTH_A_PASS = 512


@dataclass(frozen=True)
class Held:
    """A prompt whose keys stand in a slot, or are about to.

    Parameters
    ----------
    ids : torch.Tensor
        Its tokens, shape `(tokens,)`.
    media : bytes
        The digest of its media.
    pool : object
        What rows must have in common to share a pass.
    delta : int
        As in `Row`.
    most : int
        Tokens that the row may come to.
    marks : tuple of Mark
        From which others may go on; the longest is the last.
    compared : mapping of Row to int
        What rows of its pool share with it, as far as they were compared: each is asked about several times.
    """

    ids: torch.Tensor
    media: bytes
    pool: object
    delta: int
    most: int
    marks: tuple[Mark, ...] = ()
    compared: WeakKeyDictionary[Row[Any], int] = field(default_factory=WeakKeyDictionary)

    def shared_with(self, row: Row[Any], pool: object) -> int:
        """Return with how many of these tokens another prompt begins, 0 if too few.

        The rest of it must be text: at least one token, whose logits say how the reply begins.
        """
        prompt = row.prompt
        if pool != self.pool or prompt.media_digest != self.media:
            return 0
        if row not in self.compared:
            self.compared[row] = self._compare(prompt)
        return self.compared[row]

    def _compare(self, prompt: PreparedPrompt) -> int:
        ids = prompt.tensors["input_ids"][0]
        longest = min(len(ids) - 1, len(self.ids))
        differ = (ids[:longest] != self.ids[:longest]).nonzero()
        shared = int(differ[0]) if len(differ) else longest
        return shared if shared >= max(FEWEST, prompt.media_end) else 0


@dataclass(frozen=True)
class Beginning:
    """Where a prompt may begin: behind so many tokens of what stands in a slot, at the last mark if any."""

    slot: int
    length: int
    delta: int
    marks: tuple[Mark, ...] = ()

    @property
    def way(self) -> str:
        """What it is begun with; prompts that are read together begin in one way."""
        return "mark" if self.marks else "slot"


class Standing:
    """What stands in slots, whether its reply is still being written or not.

    Parameters
    ----------
    shares : bool
        Whether a prompt may begin with what another one left.
    pool_of : callable
        Row -> what rows must have in common to share a pass.

    reach : float
        Of the slots (see `Slots`).

    Attributes
    ----------
    most_marks : int
        How many are kept; what was used longest ago goes first.
    """

    def __init__(
        self, shares: bool, pool_of: Callable[[Row[Any]], object], reach: float = math.inf
    ) -> None:
        self.shares, self._pool_of, self.reach, self.most_marks = shares, pool_of, reach, 2
        self._held: dict[int, Held] = {}  # by slot; what was used longest ago first

    @property
    def marks(self) -> bool:
        """Whether prompts may have to be marked for others."""
        return self.shares and not math.isinf(self.reach)

    def clear(self) -> None:
        """Forget what stands anywhere."""
        self._held.clear()

    def forget(self, slot: int) -> None:
        """What stands in a slot is no longer whole."""
        self._held.pop(slot, None)

    def let_marks_go(self) -> bool:
        """Give the memory of marks back; tell whether there were any."""
        had_some = any(held.marks for held in self._held.values())
        self._keep_marks(0)
        return had_some

    def put(self, slot: int, row: Row[Any], marks: tuple[Mark, ...] = ()) -> None:
        """A row has got a slot."""
        self.forget(slot)
        if self.shares:
            self._held[slot] = self._of(row, marks)
            self._keep_marks(self.most_marks)

    def used(self, beginnings: Iterable[Beginning]) -> None:
        """Keep what was begun with for longer than the rest."""
        for slot in {beginning.slot for beginning in beginnings}:
            self._held[slot] = self._held.pop(slot)

    def keep_for(self, rows: Iterable[Row[Any]]) -> None:
        """Keep what rows that wait are going to begin with for longer than the rest."""
        self.used(filter(None, map(self.beginning_of, rows)))

    def next_slot(self, free: Iterable[int]) -> int:
        """Return a slot for the next row: one that holds nothing, or what was used longest ago."""
        order = {slot: place for place, slot in enumerate(self._held)}
        return min(free, key=lambda slot: order.get(slot, -1))

    def beginning_of(self, row: Row[Any]) -> Beginning | None:
        """Return the longest beginning of a prompt that stands in a slot."""
        pool = self._pool_of(row)
        found = []
        for slot, held in self._held.items():
            whole = self._is_whole(held, row)
            shared = held.shared_with(row, pool) if whole or held.marks else 0
            marks = tuple(
                mark for mark in held.marks if row.prompt.media_end <= mark.length <= shared
            )
            if whole and shared:
                found.append(Beginning(slot, shared, held.delta))
            elif marks:
                found.append(Beginning(slot, marks[-1].length, held.delta, marks))
        return max(found, key=lambda beginning: beginning.length, default=None)

    def unread(self, row: Row[Any]) -> int:
        """Return how many tokens of a prompt are to be read behind what stands in a slot."""
        beginning = self.beginning_of(row)
        return row.prompt.length - (beginning.length if beginning else 0)

    def cut_of(self, row: Row[Any], waiting: Iterable[Row[Any]]) -> int:
        """Return after how many tokens a prompt is to be marked for others that wait, 0 if nowhere."""
        if not self.marks:
            return 0
        beginning, mine = self.beginning_of(row), self._of(row)
        begun = beginning.length if beginning else 0
        shared = [
            min(mine.shared_with(other, self._pool_of(other)), row.prompt.length - 1)
            for other in waiting
            if other is not row and not self._is_whole(mine, other)
        ]
        saved = {cut: (cut - begun) * sum(length >= cut for length in shared) for cut in shared}
        cut = max(saved, key=lambda cut: saved[cut], default=0)
        if cut < max(FEWEST, row.prompt.media_end) or saved[cut] < WORTH_A_PASS:
            return 0
        return cut

    def together(self, rows: Sequence[Row[Any]], waiting: Iterable[Row[Any]]) -> list[Row[Any]]:
        """Return those of one pool that are read in one pass: all of them whole, or none.

        One that begins like another of them, or that is to be marked, is left for a later pass. The first
        one, if it is to be marked (`Row.cut`), is read alone.
        """
        first, waiting = rows[0], list(waiting)
        first.cut = self.cut_of(first, waiting)
        if first.cut:
            return [first]
        chosen: list[Row[Any]] = []
        coming: list[Held] = []
        before = own = 0
        way = _way(self.beginning_of(first))
        for row in rows:
            beginning = self.beginning_of(row)
            if _way(beginning) != way or (chosen and self.cut_of(row, waiting)):
                continue
            shared = beginning.length if beginning else 0
            if any(
                self._is_whole(held, row) and held.shared_with(row, held.pool) >= shared + FEWEST
                for held in coming
            ):
                continue
            more = max(own, row.prompt.length - shared)
            if way == "slot" and max(before, shared) + more > self.reach:
                continue
            # Padding between would move a window, and change a state.
            if way == "mark" and chosen and row.prompt.length - shared != own:
                continue
            before, own = max(before, shared), more
            chosen.append(row)
            if self.shares:
                coming.append(self._of(row))
        return chosen

    def _is_whole(self, held: Held, row: Row[Any]) -> bool:
        """Tell whether another prompt finds in a slot all that it may begin with."""
        return max(held.most, row.prompt.length) <= self.reach

    def _keep_marks(self, most: int) -> None:
        latest = dict.fromkeys(
            mark for held in reversed(self._held.values()) for mark in reversed(held.marks)
        )
        kept = {*itertools.islice(latest, most)}
        for slot, held in self._held.items():
            marks = tuple(mark for mark in held.marks if mark in kept)
            self._held[slot] = dataclasses.replace(held, marks=marks)

    def _of(self, row: Row[Any], marks: tuple[Mark, ...] = ()) -> Held:
        prompt = row.prompt
        ids = prompt.tensors["input_ids"][0]
        most = prompt.length + row.limit
        return Held(ids, prompt.media_digest, self._pool_of(row), row.delta, most, marks)


def _way(beginning: Beginning | None) -> str:
    return beginning.way if beginning else "whole"
