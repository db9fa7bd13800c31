"""Blocks of a corpus on Ray Data: a thin shell, in which `shards.write_shard` does the work."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__, native
from mmaupro_ext.corpus.families import family_of
from mmaupro_ext.corpus.shards import Outcome, write_shard
from mmaupro_ext.corpus.sources import Block
from mmaupro_ext.errors import ConfigError, MMAUProError

# Features never pass through Ray's store of objects: this is the least that it takes.
_STORE_BYTES = 80 << 20


def outcomes(blocks: Sequence[Block], folder: Path, family: str, workers: int) -> Iterator[Outcome]:
    """Write the shards of blocks in several processes, and yield what became of each, as they are done.

    Where `RAY_ADDRESS` names a cluster, on its machines, which must all have the corpus, the folder and
    this package; else on this machine.

    Parameters
    ----------
    blocks : sequence of Block
        What is to be done.
    folder : pathlib.Path
        Absolute.
    family : str
        As for `families.family_of`.
    workers : int
        How many shards are made at a time, each on one core.

    Raises
    ------
    ConfigError
        When Ray is not installed or does not start, and what `write_shard` raises.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"--workers {workers} needs Ray: pip install 'mmaupro-ext[ray]', or --workers 1, which is this "
            f"process ({error})."
        ) from error
    started = not ray.is_initialized()
    if started:
        start(ray, workers)
    try:
        # Shards are counted by whoever called.
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = ray.data.from_items(
            [{"block": block.to_json()} for block in blocks], override_num_blocks=len(blocks)
        )
        work = _Work(str(folder), family)
        done = rows.map(work, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=workers))
        for row in done.iter_rows():
            content = json.loads(row["outcome"])
            if "error" in content:
                raise ConfigError(content["error"])
            yield Outcome(**content)
    finally:
        if started:
            ray.shutdown()


def start(ray: Any, workers: int) -> None:
    """Start Ray, or find the cluster that `RAY_ADDRESS` names.

    Raises
    ------
    ConfigError
        When it does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # what a corpus is made of is its owner's
    local: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        local = {
            "num_cpus": workers,
            "object_store_memory": _STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(log_to_driver=False, logging_level="warning", **local)
    except Exception as error:  # Ray raises what it likes
        raise ConfigError(
            f"Ray does not start: {str(error).splitlines()[0]} Start the same command again, or with "
            "--workers 1."
        ) from error


class _Work:
    """What a process of Ray does with a block: an error of ours travels as a sentence."""

    def __init__(self, folder: str, family: str) -> None:
        self.folder, self.family, self.core = folder, family, _core()

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        block = Block.from_json(row["block"])
        if _core() != self.core:
            problem = (
                f"a process of Ray would compute with {_core()}, this one with {self.core}: the shards would "
                "differ. Start the command outside of a checkout, with the same package on all machines."
            )
            return {"outcome": json.dumps({"error": problem})}
        try:
            outcome = write_shard(block, Path(self.folder), family_of(self.family))
        except MMAUProError as error:
            return {"outcome": json.dumps({"error": str(error)})}
        return {"outcome": json.dumps(asdict(outcome))}


def _core() -> str:
    """Return what decides on bytes: this package's version and the core that it runs on here."""
    return f"mmaupro-ext {__version__} on core {native.info()['backend']}"
