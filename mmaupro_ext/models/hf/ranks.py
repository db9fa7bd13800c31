"""Which of several processes this one is."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from lm_eval.models.huggingface import HFLM

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.hf.peers import Peers

# Seconds within which all processes of a run must have come. They start together, and nothing before this
# point takes one longer than another but the disk.
_JOIN_S = 50.0

# Of this process: a second model in it has the same others.
_peers: Peers | None = None


def join(alone: bool) -> Peers | None:
    """Make the group of the processes that a launcher started.

    Parameters
    ----------
    alone : bool
        Whether the model is one that makes no such group: given whole, or split by tensors.

    Returns
    -------
    Peers or None
        The others, which are watched from here on; None where there are none.

    Raises
    ------
    ConfigError
        When several processes were started, and each would answer everything.

    Notes
    -----
    A process that another one has not come to within a minute, because it has ended or hangs, ends with
    a sentence: those who wait in vain for a group would wait for ever.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if alone or "RANK" not in os.environ or not count.isdigit() or int(count) < 2:
        return None
    last = threading.Timer(_JOIN_S, _give_up, [count])
    last.daemon = True
    last.start()
    try:
        # As HFLM makes it: the slowest process may take weeks longer than the first.
        accelerator = Accelerator(
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(weeks=52))]
        )
    finally:
        last.cancel()
    if accelerator.num_processes < 2:
        raise ConfigError(
            f"a launcher has started {count} processes (WORLD_SIZE), and on this machine they make no group: "
            "each would answer everything. Start one process; or, for several on CPUs, set "
            "ACCELERATE_USE_CPU=true."
        )
    global _peers
    if _peers is None and "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ:
        _peers = Peers(accelerator.process_index, accelerator.num_processes)
        atexit.register(_leave)
    return _peers


def _give_up(count: str) -> None:
    print(
        f"mmaupro-ext: of {count} processes, not all have come within {_JOIN_S:.0f} s: another one has "
        "ended or hangs. See its output, and start all of them again; what was answered is kept.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def take_part(lm: Any) -> tuple[int, int]:
    """Return rank and number of processes over all nodes, and leave the group of them in the end.

    HFLM counts ranks per node and only where a node has several GPUs, so that two nodes, or two CPU
    processes, would each answer everything.

    Parameters
    ----------
    lm : lm_eval.models.huggingface.HFLM
        As it was loaded.
    """
    # A process that ends while threads of its group still run may abort, and the launcher then kills the
    # process that is writing the results.
    if _peers is None:
        atexit.register(_leave)
    accelerator = getattr(lm, "accelerator", None)
    if accelerator is None:
        return lm.rank, lm.world_size
    return accelerator.process_index, accelerator.num_processes


class Together(HFLM):
    """What meets other processes, and says so when it cannot: one that has ended is no traceback.

    Attributes
    ----------
    peers : Peers or None
        From `join`.
    """

    peers: Peers | None = None

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor with those of the others behind it."""
        with self._meeting():
            return super().all_gather(tensor)

    def gather_object(self, obj: Any, dst: int = 0) -> Any:
        """Return an object of each process, in the process that is named."""
        with self._meeting():
            return super().gather_object(obj, dst)

    def barrier(self) -> None:
        """Wait for the others."""
        with self._meeting():
            super().barrier()

    def _meeting(self) -> AbstractContextManager[None]:
        return nullcontext() if self.peers is None else self.peers.meeting()


def _leave() -> None:
    # After an error that nobody caught, the other processes may never come to this point, and leaving
    # may wait for them.
    failed = getattr(sys, "last_value", None) is not None
    if _peers is not None:
        _peers.leave(failed)
    if not failed and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
