"""Which of several processes this one is."""

from __future__ import annotations

import atexit
import sys
from typing import Any

import torch


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
