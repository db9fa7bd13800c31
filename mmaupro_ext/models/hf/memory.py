"""How many tokens one pass may hold: what memory is free for, as far as that can be measured."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

logger = logging.getLogger(__name__)

# The first pass; the next ones grow from what it took.
FIRST_TOKENS = 4096
# Of what is free, so much may be filled: the allocator loses some to pieces that nothing fits into.
FILLED = 0.7


class Memory(Protocol):
    """Memory whose use can be measured."""

    highest: int  # bytes, over all that was measured

    def begin(self) -> None:
        """Begin a measurement."""

    def taken(self) -> int:
        """Return how many bytes were taken at most since then, beside what had been in use."""

    def free(self) -> int:
        """Return how many bytes are free."""


class CudaMemory:
    """Memory of one GPU, as torch's allocator counts it."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._before, self.highest = device, 0, 0

    def begin(self) -> None:
        """Begin a measurement."""
        self._note()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)

    def taken(self) -> int:
        """Return how many bytes were taken at most since then, beside what had been in use."""
        return self._note() - self._before

    def free(self) -> int:
        """Return how many bytes are free, those among them that torch keeps for later."""
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return int(free + kept)

    def _note(self) -> int:
        peak = torch.cuda.max_memory_allocated(self._device)
        self.highest = max(self.highest, peak)
        return peak


class Budget:
    """Tokens, padding included, that one pass may hold, and what slots may reserve.

    A bound that fell because memory ran out stays for as long as the model is loaded. Where memory is
    measured, the bound also follows from what is free and from what the largest passes took a token
    (keys and values, activations, the encoder's peak), and at most doubles from one pass to the next:
    a model over several devices is measured on its first, and memory may not be all that grows.

    Parameters
    ----------
    memory : Memory or None
        Of the model's device; None where nothing is measured: then only what has failed is a bound.

    Attributes
    ----------
    bytes_a_token : float
        What a token took in the most demanding of the passes that were nearly full; 0 before one.
    reserved : int or None
        Tokens in all slots together; None while nothing has failed.
    """

    def __init__(self, memory: Memory | None) -> None:
        self.memory = memory
        self.bytes_a_token = 0.0
        self.reserved: int | None = None
        self._grown = FIRST_TOKENS
        self._fallen: int | None = None

    @classmethod
    def of(cls, device: torch.device, grows: bool) -> Budget:
        """Return the budget of a model on a device; one that `grows` measures where it can."""
        return cls(CudaMemory(device) if grows and device.type == "cuda" else None)

    @property
    def tokens(self) -> int | None:
        """The bound on the next pass; None where there is none. One prompt alone may pass it."""
        bounds = [] if self._fallen is None else [self._fallen]
        if self.memory is not None:
            bounds.append(self._grown)
            if self.bytes_a_token:
                bounds.append(int(FILLED * self.memory.free() / self.bytes_a_token))
        return max(1, min(bounds)) if bounds else None

    @contextlib.contextmanager
    def measured(self) -> Iterator[Callable[[int], None]]:
        """Measure one pass; call what is given with its tokens, once they are known."""
        if self.memory is None:
            yield lambda _: None
            return
        known: list[int] = []
        self.memory.begin()
        yield known.append  # a pass that fails says nothing
        for tokens in known:
            if 2 * tokens >= self._grown:
                self.bytes_a_token = max(self.bytes_a_token, self.memory.taken() / tokens)
                self._grown = 2 * max(tokens, self._grown)

    def fall(self, tokens: int) -> None:
        """Memory ran out with more than this: keep to it from now on."""
        if self._fallen is None or tokens < self._fallen:
            self._fallen = max(1, tokens)
            logger.info("passes hold %d tokens at most from now on", self._fallen)


def free_bytes(device: torch.device) -> int | None:
    """Return how many bytes are free where a model is; None where that cannot be known."""
    if device.type == "cuda":
        return CudaMemory(device).free()
    if device.type == "cpu" and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
