"""What prompts have in common: those that begin alike are read once as far as they are the same.

Questions on one clip, the orders of a question's choices and its other wordings begin with the same tokens
and the same sounds, most of what there is to read. The keys and values of the earlier prompt still stand in
its slot, and the new one begins with a copy of them; no memory is taken but for the pass itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmaupro_ext.models.hf.row import Row

# With fewer tokens in common a prompt is read whole: beside the weights, which every pass reads, they cost
# nothing, and the pass would be one more.
FEWEST = 16


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
    """

    ids: torch.Tensor
    media: bytes
    pool: object
    delta: int
    most: int

    def shared_with(self, row: Row[Any], pool: object) -> int:
        """Return with how many of these tokens another prompt begins, 0 if too few.

        The rest of it must be text: at least one token, whose logits say how the reply begins.
        """
        prompt = row.prompt
        if pool != self.pool or prompt.media_digest != self.media:
            return 0
        ids = prompt.tensors["input_ids"][0]
        longest = min(len(ids) - 1, len(self.ids))
        differ = (ids[:longest] != self.ids[:longest]).nonzero()
        shared = int(differ[0]) if len(differ) else longest
        return shared if shared >= max(FEWEST, prompt.media_end) else 0


@dataclass(frozen=True)
class Beginning:
    """Where a prompt may begin: behind so many tokens of what stands in a slot."""

    slot: int
    length: int
    delta: int


class Standing:
    """What stands in slots, whether its reply is still being written or not.

    Parameters
    ----------
    shares : bool
        Whether a prompt may begin with what another one left.
    pool_of : callable
        Row -> what rows must have in common to share a pass.

    Attributes
    ----------
    reach : float
        Of the slots (see `Slots`).
    """

    def __init__(self, shares: bool, pool_of: Callable[[Row[Any]], object]) -> None:
        self.shares, self._pool_of, self.reach = shares, pool_of, math.inf
        self._held: dict[int, Held] = {}  # by slot; what was used longest ago first

    def clear(self) -> None:
        """Forget what stands anywhere."""
        self._held.clear()

    def forget(self, slot: int) -> None:
        """What stands in a slot is no longer whole."""
        self._held.pop(slot, None)

    def put(self, slot: int, row: Row[Any]) -> None:
        """A row has got a slot."""
        self.forget(slot)
        if self.shares:
            self._held[slot] = self._of(row)

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
        if not self._held or row.prompt.length > self.reach:
            return None
        pool = self._pool_of(row)
        found = [
            Beginning(slot, shared, held.delta)
            for slot, held in self._held.items()
            if held.most <= self.reach and (shared := held.shared_with(row, pool))
        ]
        return max(found, key=lambda beginning: beginning.length, default=None)

    def together(self, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
        """Return those of one pool that are read in one pass: all of them whole, or none.

        One that begins like another of them is left for a later pass, where it begins with what that
        one leaves.
        """
        chosen: list[Row[Any]] = []
        coming: list[Held] = []
        before = own = 0
        whole = self.beginning_of(rows[0]) is None
        for row in rows:
            beginning = self.beginning_of(row)
            if (beginning is None) != whole:
                continue
            shared = beginning.length if beginning else 0
            if any(held.shared_with(row, held.pool) >= shared + FEWEST for held in coming):
                continue
            more = max(own, row.prompt.length - shared)
            if not whole and max(before, shared) + more > self.reach:
                continue
            before, own = max(before, shared), more
            chosen.append(row)
            if self.shares:
                coming.append(self._of(row))
        return chosen

    def _of(self, row: Row[Any]) -> Held:
        prompt = row.prompt
        ids = prompt.tensors["input_ids"][0]
        pool = self._pool_of(row)
        return Held(ids, prompt.media_digest, pool, row.delta, prompt.length + row.limit)
