"""What an exception of a model or of a processor costs: the item that it came from, and no other.

The one place for this rule. A batch that fails is run in parts, down to the items that are the reason
(`in_parts`); an item that fails alone is errored, with what its exception said (`Failed`); and what
fails alike on so many items in a row is no longer their fault: the run ends (`Streak`).
"""

from __future__ import annotations

import gc
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mmaupro_ext import versions
from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.masking import masked

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# So many items in a row that fail with the same error are no longer these items' fault.
ALIKE = 20
_LONGEST = 300  # characters of an error that are kept

# CUDA and XPU have a type of their own for it; the CPU's allocator, MPS and the libraries of CUDA say it in
# words of a RuntimeError.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|alloc_failed|failed to allocate|"
    r"allocation failed|out_of_(host_|device_)?(memory|resources)",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


@dataclass(frozen=True)
class Failed:
    """What an exception said. The exception itself would keep the tensors of all its frames.

    Parameters
    ----------
    problem : str
        The last line of its traceback, on one line.
    out_of_memory : bool
        Whether memory ran out.
    alike : str
        What failures have in common that are the same; default: the problem without its numbers, since
        shapes and lengths differ between items.
    """

    problem: str
    out_of_memory: bool = False
    alike: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """Return what an exception said."""
        words = " ".join(masked(str(error)).split())[:_LONGEST]
        name = type(error).__name__
        return cls(f"{name}: {words}" if words else name, is_out_of_memory(error))


class Streak:
    """Items that fail alike one after the other.

    Parameters
    ----------
    what : str
        What fails, for the message: "the model".
    fix : str
        What the user can do about it, in whole sentences.
    """

    def __init__(self, what: str, fix: str) -> None:
        self.what, self._fix = what, fix
        self._last, self._count = "", 0

    def end(self) -> None:
        """An item was served."""
        self._count = 0

    def add(self, failed: Failed) -> None:
        """An item failed.

        Raises
        ------
        ConfigError
            When it is one too many. Memory is another matter: the longest items come first, and those
            after them may well fit.
        """
        if failed.out_of_memory:
            return
        kind = failed.alike or re.sub(r"\d+", "0", failed.problem)
        self._count = self._count + 1 if kind == self._last else 1
        self._last = kind
        if self._count >= ALIKE:
            raise ConfigError(
                f"{self.what} fails on {ALIKE} items in a row with the same error ({failed.problem}), "
                f"and would on the others. {self._fix}{f' {said}' if (said := versions.advice()) else ''}"
            )


def in_parts(
    batch: Sequence[T], run: Callable[[Sequence[T]], Sequence[R]]
) -> tuple[list[R | Failed], int]:
    """Run a batch; where it fails, its halves if memory ran out, else its items alone.

    Parameters
    ----------
    batch : sequence
        What `run` takes.
    run : callable
        Part of the batch -> a result for each.

    Returns
    -------
    results : list
        In the order of the batch; `Failed` for what failed alone.
    together : int
        How many went together in the end, as far as memory is concerned.

    Raises
    ------
    MMAUProError
        What `run` raises of these concerns more than an item.
    """
    results: list[R | Failed] = []
    together = len(batch)
    while len(results) < len(batch):
        part = batch[len(results) : len(results) + together]
        try:
            results += run(part)
            continue
        except MMAUProError:
            raise
        except Exception as error:
            logger.debug("a batch of %d fails", len(part), exc_info=True)
            failed = Failed.of(error)
        # What the failed pass allocated is freed only now that the exception is gone.
        if failed.out_of_memory:
            free_memory()
        if len(part) == 1:
            results.append(failed)
        elif failed.out_of_memory:
            together = (len(part) + 1) // 2
            logger.warning("out of memory with %d items in a batch: trying %d", len(part), together)
        else:
            logger.warning("a batch of %d fails (%s): its items alone", len(part), failed.problem)
            for entry in part:
                results += in_parts([entry], run)[0]
    return results, together


def free_memory() -> None:
    """Give back what torch keeps of the memory of each accelerator."""
    gc.collect()
    if torch := sys.modules.get("torch"):
        for kind in (torch.cuda, torch.xpu, torch.mps):
            if getattr(kind, "is_available", bool)():  # older torch: not in all of them
                kind.empty_cache()
