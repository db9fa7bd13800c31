"""Greedy replies, written side by side: a reply that ends leaves, and the next prompt takes its place.

`generate` of transformers runs a batch until its longest reply has ended. With MMAU-Pro's replies (half
of them below 15 tokens, some of 512) that is 73,056 steps of 8 rows where 18,135 would do. Here the model
is still transformers', and so are its logits processors; only the loop around `model.forward` is ours,
and it gives the replies of `generate` alone, token for token, which the tests hold for every family.

`generate` stays the way for what this loop does not know: sampling and beams, and cache layers without
slots (`NoSlotsError`).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from mmaupro_ext.failing import Failed, free_memory, is_out_of_memory
from mmaupro_ext.models.hf import batching, prefill
from mmaupro_ext.models.hf.memory import free_bytes
from mmaupro_ext.models.hf.passes import FILLING, Passes
from mmaupro_ext.models.hf.prefill import Prefilled
from mmaupro_ext.models.hf.row import Row, processors_of
from mmaupro_ext.models.hf.shared import Standing
from mmaupro_ext.models.hf.slots import BUCKET, NoSlotsError, Slots, bytes_of_token
from mmaupro_ext.models.hf.steps import Steps

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

# Prompts are prefilled together once this share of the slots is free: few prefills, few idle slots. Longer
# ones, which fill a pass, need not wait for each other.
REFILL_SHARE = 8
# One mark (`marks`) may be kept for so many slots, which hold more than it does.
SLOTS_A_MARK = 4
# Prompts that are looked at beyond those that come in next, where some may have to be marked for others.
AHEAD = 8
# Of the accelerator's free memory, what the slots may take; the rest is for prefills.
MEMORY_SHARE = 0.5


class Decoder:
    """Write greedy replies to prepared prompts, in slots.

    Parameters
    ----------
    passes : Passes
        Of the model.
    slots : int
        Replies that are written side by side at most; fewer where memory holds fewer.
    ends : frozenset of int
        Tokens that end a reply.
    stops : callable, optional
        Tokens of a reply -> whether it holds a stop string.
    free_memory : callable, optional
        Bytes that are free where the model is, or None where that cannot be known; default: it is asked.
    reach : float
        Of the model's slots (see `Slots`), for prompts that come before there are any.

    Raises
    ------
    NoSlotsError
        When the checkpoint's generation settings are not for rows of different lengths.
    """

    def __init__(
        self,
        passes: Passes,
        slots: int,
        ends: frozenset[int],
        stops: Callable[[list[int]], bool] | None = None,
        free_memory: Callable[[], int | None] | None = None,
        reach: float = math.inf,
    ) -> None:
        self.passes, self.wanted, self.ends, self.stops = passes, slots, ends, stops
        self._free_memory = free_memory or (lambda: free_bytes(passes.device))
        loading = passes.loading
        shares = loading is not None and loading.shared_prefix
        self._standing = Standing(shares, self._pool_of, reach)
        self._switches = loading is not None and loading.before_forward is not None
        limit = loading.rope_limit if loading is not None else None
        self._rope_limit = limit(passes.model.config) if limit is not None else None
        self._processors = processors_of(passes.model)
        self.counts = passes.counts
        self._waiting: deque[Row[Any]] = deque()
        self._let_go()

    # ---- the loop -----------------------------------------------------------------------------

    def run(self, rows: Iterator[Row[Key]]) -> Iterator[Row[Key]]:
        """Yield each row once it has ended.

        Parameters
        ----------
        rows : iterator of Row
            Taken as slots become free, so that prompts can be prepared ahead within bounds; longest
            first keeps padding small.

        Raises
        ------
        NoSlotsError
            At the first prompt, when the model's cache cannot be kept in slots.
        """
        try:
            yield from self._run(rows)
        finally:  # what refers to itself is let go of late, and slots hold much memory
            self._let_go()

    def _run(self, rows: Iterator[Row[Key]]) -> Iterator[Row[Key]]:
        waiting = self._waiting
        crowded = False

        def fill(count: int) -> None:
            while len(waiting) < count:
                row = next(rows, None)
                if row is None:
                    return
                waiting.append(row)

        while True:
            fill(1)
            if not waiting and not self._active:
                return
            if waiting and not crowded and self._has_place_for(waiting[0]):
                free = self._free_slots
                refill_at = self._refill_at(waiting[0])
                fill(max(free, refill_at) + (AHEAD if self._standing.marks else 0))
                if not self._active or free >= min(refill_at, len(waiting)):
                    left = self._admit(self._next_group(free))
                    waiting.extendleft(row for row in reversed(left) if not row.finish)
                    yield from (row for row in left if row.finish)
                    yield from self._ended()
                    # What found no memory beside the others waits until one of them has ended.
                    crowded = any(not row.finish for row in left) and bool(self._active)
                    continue
            before = len(self._active)
            yield from self._step()
            crowded = crowded and len(self._active) >= before

    # ---- places -------------------------------------------------------------------------------

    def _pool_of(self, row: Row[Any]) -> object:
        """Return what rows must have in common to share a pass: adapters, and how positions turn."""
        if row.alone:
            return id(row)
        kinds = row.prompt.kinds if self._switches else None
        return kinds, self._rope_limit is not None and row.prompt.length > self._rope_limit

    @property
    def _active(self) -> list[int]:
        return [slot for slot, row in enumerate(self._rows) if row is not None]

    @property
    def _free_slots(self) -> int:
        return (self._slots.count if self._slots else self.wanted) - len(self._active)

    def _refill_at(self, row: Row[Any]) -> int:
        """Return how many slots are to be free before the next prompts, of which this is one, come in."""
        share = (self._slots.count if self._slots else self.wanted) // REFILL_SHARE
        return max(1, min(share, FILLING // self._standing.unread(row)))

    def _has_place_for(self, row: Row[Any]) -> bool:
        """Tell whether a row may come in now; where it cannot, the others end first."""
        active = self._active
        if not active:
            self._make_room_for(row)
            return True
        assert self._slots is not None
        beside = self._rows[active[0]]
        assert beside is not None
        needed = row.prompt.length + row.limit
        if self._pool_of(row) != self._pool_of(beside) or needed > self._slots.columns:
            return False
        # Where memory, not the user, bounds the slots, shorter rows get narrower and more of them.
        narrow = self._slots.count < self.wanted and 2 * needed <= self._slots.columns
        return not narrow and len(active) < self._slots.count

    def _make_room_for(self, row: Row[Any]) -> None:
        """Nothing is being written: let go of slots that do not fit the next row well."""
        if self._slots is None:
            return
        needed = row.prompt.length + row.limit
        narrow = self._slots.count < self.wanted and 2 * needed <= self._slots.columns
        if needed > self._slots.columns or narrow:
            self._let_go()

    def _let_go(self) -> None:
        """Begin with no slots."""
        self._slots: Slots | None = None
        self._steps: Steps | None = None
        self._rows: list[Row[Any] | None] = []
        self._standing.clear()

    def _next_group(self, free: int) -> list[Row[Any]]:
        """Take the prompts that are prefilled together: alike in length, and of one pool."""
        waiting = self._waiting
        pool, columns = self._pool_of(waiting[0]), self._slots.columns if self._slots else None
        fitting: list[Row[Any]] = []
        for row in list(waiting)[:free]:
            if self._pool_of(row) != pool:
                break
            if columns is not None and row.prompt.length + row.limit > columns:
                break
            fitting.append(row)
        fitting = self._standing.together(fitting, waiting)
        lengths = [row.prompt.length for row in fitting]
        count = batching.batch_length(lengths, free, self.passes.budget.tokens)
        unread = [self._standing.unread(row) for row in fitting[:count]]
        while count > 1 and count * max(unread[:count]) > FILLING:
            count -= 1
        group = fitting[:count]
        for row in group:
            waiting.remove(row)
        self._standing.keep_for(waiting)
        return group

    # ---- taking in ----------------------------------------------------------------------------

    def _admit(self, group: list[Row[Key]]) -> list[Row[Key]]:
        """Prefill prompts and give each a slot; return those that have ended already or must wait."""
        try:
            return self._take_in(group)
        except NoSlotsError:
            raise
        except Exception as error:
            failed = Failed.of(error)
        # Memory, or one prompt that the model cannot take, or inputs that do not go together.
        for slot in [slot for slot, row in enumerate(self._rows) if row in group]:
            self._rows[slot] = None
            self._standing.forget(slot)
        marked = group[0].cut
        for row in group:
            row.start_again()
        if failed.out_of_memory:
            free_memory()
        if len(group) > 1:
            if failed.out_of_memory:
                longest = max(row.prompt.length for row in group)
                self.passes.budget.fall((len(group) + 1) // 2 * longest)
            return [row for part in batching.halves(group) for row in self._admit(list(part))]
        if failed.out_of_memory and (self._standing.let_marks_go() or marked):
            return self._admit(group)
        if not (self._active and failed.out_of_memory):
            group[0].finish, group[0].failed = "error", failed
        return group

    def _take_in(self, group: list[Row[Key]]) -> list[Row[Key]]:
        """Prefill prompts and give each a slot; return those for which there was none."""
        read = self._prefill(group)
        places, marks = read.places, read.marks or [()] * len(group)
        slots = self._slots or self._new_slots(read.cache, group)
        if len(self._active) + len(group) > slots.count:
            # Fewer slots than were hoped for: the rest goes in when some are free.
            later = group[slots.count - len(self._active) :]
        else:
            later = []
        coming = group[: len(group) - len(later)]
        for number, row in enumerate(coming):
            slot = self._standing.next_slot(
                slot for slot, other in enumerate(self._rows) if other is None
            )
            self._standing.forget(slot)
            self._rows[slot] = row
            slots.take(slot, read.cache, number, places[number])
            self._standing.put(slot, row, marks[number])
        if coming:
            self._write(coming, read.logits[: len(coming)])
        for row in later:
            row.start_again()
        return later

    def _new_slots(self, cache: Any, group: Sequence[Row[Any]]) -> Slots:
        # Prompts are about longest first: one of the next may be a little longer.
        columns = max(row.prompt.length + row.limit for row in [*group, *self._waiting])
        count = self.wanted
        free = self._free_memory()
        if free is not None:
            room = int(MEMORY_SHARE * free) // max(1, bytes_of_token(cache) * (columns + BUCKET))
            count = max(1, min(count, room))
        if self.passes.budget.reserved is not None:
            count = max(1, min(count, self.passes.budget.reserved // columns))
        while True:
            try:
                self._slots = Slots(cache, count, columns)
                break
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not is_out_of_memory(error):
                    raise
                count //= 2
        if count < self.wanted:
            logger.info("%d replies of up to %d tokens go side by side", count, columns)
        self._rows, self._standing.reach = [None] * count, self._slots.reach
        self._standing.most_marks = max(2, count // SLOTS_A_MARK)
        self._steps = Steps(self.passes, self._slots)
        return self._slots

    def _prefill(self, rows: Sequence[Row[Any]]) -> Prefilled:
        return prefill.read(self.passes, rows, self._slots, self._standing)

    # ---- steps --------------------------------------------------------------------------------

    def _step(self) -> Iterator[Row[Any]]:
        """Write one token of every row; yield the rows that end with it."""
        assert self._slots is not None
        assert self._steps is not None
        count = self._slots.count if self._waiting else self._close_ranks()
        rows = self._rows[:count]
        try:
            logits = self._steps(rows)
            active = [row for row in rows if row is not None]
            for row in active:
                row.keys_held += 1
            self._write(active, logits)
        except Exception as error:
            failed = Failed.of(error)
        else:
            yield from self._ended()
            return
        yield from self._give_up(failed)

    def _write(self, rows: Sequence[Row[Any]], logits: torch.Tensor) -> None:
        """Choose the next token of each row, and note which rows end with it."""
        scores = logits.float()
        if len(self._processors):  # they look at a row's own ids, without padding
            scores = torch.cat(
                [
                    self._processors(self._ids_of(row), scores[number : number + 1])
                    for number, row in enumerate(rows)
                ]
            )
        for row, token in zip(rows, scores.argmax(-1).tolist(), strict=True):
            row.tokens.append(token)
            if token in self.ends or (self.stops is not None and self.stops(row.tokens)):
                row.finish = "stop"
            elif len(row.tokens) >= row.limit:
                row.finish = "length"

    def _ids_of(self, row: Row[Any]) -> torch.Tensor:
        prompt = row.prompt.tensors["input_ids"]
        written = torch.tensor([row.tokens], dtype=prompt.dtype)
        return torch.cat([prompt, written], dim=1).to(self.passes.device)

    def _ended(self) -> Iterator[Row[Any]]:
        for slot in self._active:
            row = self._rows[slot]
            if row is not None and row.finish:
                self._rows[slot] = None
                yield row

    def _close_ranks(self) -> int:
        """Nobody waits: move rows together, so that half of the slots or fewer are computed."""
        assert self._slots is not None
        if not self._slots.can_move:
            return self._slots.count
        active = self._active
        count = min(self._slots.count, 1 << (len(active) - 1).bit_length())
        self._standing.clear()
        for slot in [slot for slot in active if slot >= count]:
            target = self._rows.index(None)
            self._slots.move(slot, target)
            self._rows[target], self._rows[slot] = self._rows[slot], None
        return count

    def _give_up(self, failed: Failed) -> Iterator[Row[Any]]:
        """A step failed: its rows start again, in half the slots if memory ran out, else alone.

        A row that was alone has failed.
        """
        rows = [row for row in self._rows if row is not None]
        count, columns = (self._slots.count, self._slots.columns) if self._slots else (1, 1)
        self._let_go()
        if len(rows) == 1:
            rows[0].finish, rows[0].failed = "error", failed
            yield rows[0]
            return
        if failed.out_of_memory:
            free_memory()
            self.wanted = max(1, min(self.wanted, count) // 2)
            self.passes.budget.reserved = self.wanted * columns
            trying = f"trying {self.wanted}"
        else:
            trying = "each alone"
        logger.warning("%d replies side by side fail (%s): %s", len(rows), failed.problem, trying)
        for row in reversed(rows):
            row.start_again()
            row.alone = not failed.out_of_memory
            self._waiting.appendleft(row)
