"""Which of several processes this one is."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from mmaupro_ext.errors import ConfigError

# Seconds within which all processes of a run must have come. They start together, and nothing before this
# point takes one longer than another but the disk.
_JOIN_S = 50.0


def join(alone: bool) -> None:
    """Make the group of the processes that a launcher started.

    Parameters
    ----------
    alone : bool
        Whether the model is one that makes no such group: given whole, or split by tensors.

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
        return
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
    atexit.register(_leave_process_group)
    accelerator = getattr(lm, "accelerator", None)
    if accelerator is None:
        return lm.rank, lm.world_size
    return accelerator.process_index, accelerator.num_processes


def _leave_process_group() -> None:
    # After an error that nobody caught, the other processes may never come to this point, and leaving
    # may wait for them.
    failed = getattr(sys, "last_value", None) is not None
    if not failed and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
