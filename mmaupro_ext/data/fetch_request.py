"""What one fetch is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark
from mmaupro_ext.data.selection import Criteria


@dataclass(frozen=True)
class Request:
    """Everything that one fetch is told.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    benchmark : Benchmark
        Whose data.
    criteria : Criteria
        What to fetch.
    repo, revision : str, optional
        From where: `owner/name`, and a commit, branch or tag. As the description says when left out.
    endpoint : str, optional
        Base URL of the hub; `HF_ENDPOINT` or the public hub by default.
    jobs : int
        Connections at once.
    retries : int
        Failures in a row, without headway, after which a request is given up.
    wait_s : float
        Seconds before the second attempt; they double, up to a minute.
    dry_run : bool
        Only say what would be done.
    say : callable
        Receives lines for the user.
    """

    root: Path
    benchmark: Benchmark = BENCHMARKS[MMAUPRO]
    criteria: Criteria = field(default_factory=Criteria)
    repo: str | None = None
    revision: str | None = None
    endpoint: str | None = None
    jobs: int = 4
    retries: int = 8
    wait_s: float = 1.0
    dry_run: bool = False
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
