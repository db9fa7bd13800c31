"""A key-value cache with a fixed place, a slot, for each reply that is being written.

transformers' own caches hold one batch: every row has the same number of columns, each step copies all
keys to append one, and a row that has ended stays until the longest has. Here every layer is one buffer
of shape `(slots, heads, columns, size)`. Token t of a row stands in column t of its slot, so each row
writes at a column of its own: taking in a prompt copies the keys of that prompt alone, letting a row go
copies nothing, and a step reads the first columns, rounded up to a bucket, so that shapes repeat. What
stood in a slot stays there until the next prompt takes it, so that prompts that begin alike can begin with
a copy of it (`Slots.beginnings`).

The layers are transformers' (`DynamicLayer` and its kin), read and written through their public face.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.marks import STATES, Mark, behind, has_state

# Keys read by a step are rounded up to a multiple of this: 38 shapes for all of MMAU-Pro, not 11,000.
BUCKET = 256


class NoSlotsError(TypeError):
    """A kind of cache layer that cannot be kept in slots."""


@dataclass(eq=False)
class _Step:
    """What all layers share while a step runs: the column of each row, and how much is read."""

    columns: torch.Tensor  # int64, (slots,); beyond all columns for a slot without a row
    rows: int
    end: int  # of the columns
    keys: int = 1


class _SlotLayer(DynamicLayer):
    """One attention layer in slots; one with a sliding window is written round and round."""

    keys: Any
    values: Any

    def __init__(self, like: Any, slots: int, columns: int, step: _Step) -> None:
        super().__init__()
        self.is_sliding = like.is_sliding
        self.sliding_window = getattr(like, "sliding_window", None)
        self.columns = min(columns, self.sliding_window or columns)
        self._goes_round = self.columns < columns
        self._step = step
        # One column more, for what a step writes for slots without a row.
        self.keys, self.values = (
            part.new_zeros(slots, part.shape[1], self.columns + 1, part.shape[3])
            for part in (like.keys, like.values)
        )
        self.dtype, self.device, self.is_initialized = like.keys.dtype, like.keys.device, True

    def take(self, slot: int, like: Any, row: int, places: torch.Tensor) -> None:
        """Copy the keys of one row of a prefilled layer, which stand at these places from its end."""
        held = int((places >= -like.keys.shape[2]).sum())
        kept = min(held, self.columns)
        columns = torch.arange(len(places) - kept, len(places), device=self.device) % self.columns
        source = places[len(places) - kept :].to(self.device)
        for mine, theirs in ((self.keys, like.keys), (self.values, like.values)):
            mine[slot, :, columns] = theirs[row, :, source]

    def beginnings(self, slots: Sequence[int], lengths: Sequence[int], width: int) -> DynamicLayer:
        """Return a layer of copies of the first tokens in slots, aligned on the right."""
        layer = DynamicLayer()
        if self.sliding_window:  # what goes on from it may be marked, its window as well
            layer = DynamicSlidingWindowLayer(self.sliding_window)
            layer.cumulative_length = width
        layer.lazy_initialization(self.keys, self.values)
        copies = []
        for part in (self.keys, self.values):
            copied = part.new_zeros(len(slots), part.shape[1], width, part.shape[3])
            for row, (slot, length) in enumerate(zip(slots, lengths, strict=True)):
                copied[row, :, width - length :] = part[slot, :, :length]
            copies.append(copied)
        layer.keys, layer.values = copies
        return layer

    def move(self, source: int, target: int) -> None:
        """Copy a row to another slot."""
        for part in (self.keys, self.values):
            part[target] = part[source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token of each row at its column, and return what the step reads."""
        rows, used = self._step.rows, min(self._step.keys, self.columns)
        slots = torch.arange(rows, device=self.device)
        columns = self._step.columns[:rows]
        if self._goes_round:
            columns = torch.where(columns < self._step.end, columns % self.columns, self.columns)
        self.keys[slots, :, columns] = key_states[:, :, 0]
        self.values[slots, :, columns] = value_states[:, :, 0]
        return self.keys[:rows, :, :used], self.values[:rows, :, :used]

    # transformers makes its masks from these. The query is said to stand behind all columns, so that
    # the causal rule hides none, and the mask of each row alone decides.

    def get_seq_length(self) -> int:
        """Return how many keys stand before the query."""
        return min(self._step.keys, self.columns) - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys a step reads, and where they begin."""
        return min(self._step.keys, self.columns), 0


class Slots:
    """The cache of all rows that are being written.

    Parameters
    ----------
    like : transformers.Cache
        Of a prefilled prompt: what kinds of layers there are, of what shape and type, and where.
    count : int
        How many rows fit.
    columns : int
        Tokens that the longest row may come to, prompt and reply.

    Attributes
    ----------
    cache : transformers.Cache
        What the model is given in a step.
    can_move : bool
        Whether a row can be copied to another slot.
    reach : float
        Up to how many tokens all that a row has read stands in its slot: as the narrowest sliding window
        says, and 0 where a layer has a state instead of keys.

    Raises
    ------
    NoSlotsError
        For a kind of layer that is not known here.
    """

    def __init__(self, like: Any, count: int, columns: int) -> None:
        self.count = count
        self.columns = batching.round_up(columns, BUCKET)
        device = next(
            layer.keys.device for layer in like.layers if getattr(layer, "keys", None) is not None
        )
        columns_of_slots = torch.zeros(count, dtype=torch.long, device=device)
        self._step = _Step(columns_of_slots, count, self.columns)
        self.cache = Cache(layers=[self._in_slots(layer) for layer in like.layers])
        self.can_move = not any(map(has_state, self.cache.layers))
        # A layer of transformers with a window of W keeps W - 1 keys.
        windows = [
            layer.sliding_window - 1
            for layer in self.cache.layers
            if isinstance(layer, _SlotLayer) and layer.sliding_window
        ]
        self.reach = min(windows, default=math.inf) if self.can_move else 0

    def _in_slots(self, like: Any) -> Any:
        if has_state(like) and not isinstance(like, DynamicLayer):
            mine = copy.deepcopy(like)
            for states in (mine.conv_states, mine.recurrent_states):
                for number, state in states.items():
                    if state is not None:
                        states[number] = state.new_zeros(self.count, *state.shape[1:])
            return mine
        if type(like) in (DynamicLayer, DynamicSlidingWindowLayer):
            if like.keys is None:  # a layer that reads the keys of another one
                return like
            return _SlotLayer(like, self.count, self.columns, self._step)
        if getattr(like, "keys", None) is None and not has_state(like):
            return copy.deepcopy(like)
        raise NoSlotsError(f"no slots for a cache layer of type {type(like).__name__}")

    def take(self, slot: int, cache: Any, row: int, places: torch.Tensor) -> None:
        """Take in one row of a prefilled cache.

        Parameters
        ----------
        slot : int
            A free one.
        cache : transformers.Cache
            As the model filled it.
        row : int
            Of `cache`.
        places : torch.Tensor
            Where the tokens of that row stand in `cache`, counted from its end: negative, int64 of shape
            `(tokens,)`, on the CPU.
        """
        layers: list[Any] = self.cache.layers
        for mine, theirs in zip(layers, cache.layers, strict=True):
            if isinstance(mine, _SlotLayer):
                mine.take(slot, theirs, row, places)
            elif has_state(mine):
                for number in range(mine.number_of_states):
                    for name in STATES:
                        source = getattr(theirs, name)[number]
                        if source is not None:
                            getattr(mine, name)[number][slot] = source[row]

    def beginnings(
        self, slots: Sequence[int], lengths: Sequence[int], width: int, marks: Sequence[Mark] = ()
    ) -> Cache:
        """Return a cache of copies of what slots begin with, for a pass over what comes after.

        Parameters
        ----------
        slots : sequence of int
            One for each row of that pass; a row that was let go is still in its slot.
        lengths : sequence of int
            Tokens to be copied of each.
        width : int
            Of the cache, at least the longest of them: shorter rows are aligned on the right. With what
            comes after no more than `reach`, but for marks.
        marks : sequence of Mark
            Of each row at its length, where not all of it stands in its slot.
        """
        layers: list[Any] = self.cache.layers
        marked = behind(marks, width) if marks else [None] * len(layers)
        return Cache(
            layers=[
                mark
                or (
                    layer.beginnings(slots, lengths, width)
                    if isinstance(layer, _SlotLayer)
                    else copy.copy(layer)
                )
                for layer, mark in zip(layers, marked, strict=True)
            ]
        )

    def move(self, source: int, target: int) -> None:
        """Copy a row to another slot; only where `can_move`."""
        for layer in self.cache.layers:
            if isinstance(layer, _SlotLayer):
                layer.move(source, target)

    def begin_step(self, lengths: Sequence[int]) -> torch.Tensor:
        """Say how many keys each of the first slots holds before a step.

        Parameters
        ----------
        lengths : sequence of int
            0 for a slot without a row.

        Returns
        -------
        torch.Tensor
            The mask of the step: int64 of shape `(rows, keys)`, on the CPU. A free slot sees its
            first column, since a row that sees nothing is not a number.
        """
        held = torch.tensor(lengths)
        keys = batching.round_up(int(held.max() + 1), BUCKET)
        self._step.rows, self._step.keys = len(lengths), keys
        # What is written for a free slot goes beside what is kept in it.
        self._step.columns[: len(lengths)].copy_(held.masked_fill(held == 0, self.columns))
        return (torch.arange(keys) <= held[:, None]).long()


def bytes_of_token(cache: Any) -> int:
    """Return how many bytes one token of one row takes in all layers that grow with it."""
    return sum(
        2 * layer.keys.shape[1] * layer.keys.shape[3] * layer.keys.element_size()
        for layer in cache.layers
        if getattr(layer, "keys", None) is not None and not getattr(layer, "is_sliding", False)
    )
