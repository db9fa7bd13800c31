"""What one fetch is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmaupro_ext.data.selection import Criteria

REPO = "gamma-lab-umd/MMAU-Pro"

# Stated by programs of others that fetched the dataset; not read from the host by us. A difference
# is reported and does not stop the fetch, because the host is the better witness.
PINNED_REVISION = "b8516c217464d53be36d6dc334fda3cd578ed103"


@dataclass(frozen=True)
class Request:
    """Everything that one fetch is told.

    Parameters
    ----------
    root : pathlib.Path
        The folder.
    criteria : Criteria
        What to fetch.
    repo, revision : str
        From where.
    jobs : int
        Connections at once.
    retries : int
        Failures in a row, without headway, after which a request is given up.
    wait_s : float
        Seconds before the second attempt; they double.
    archive, keep_archive : bool
        Download the zip whole; keep it.
    dry_run : bool
        Only say what would be done.
    endpoint : str, optional
        Base URL of the hub; `HF_ENDPOINT` by default.
    say : callable
        Receives lines for the user.
    """

    root: Path
    criteria: Criteria = field(default_factory=Criteria)
    repo: str = REPO
    revision: str = PINNED_REVISION
    jobs: int = 4
    retries: int = 8
    wait_s: float = 1.0
    archive: bool = False
    keep_archive: bool = False
    dry_run: bool = False
    endpoint: str | None = None
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
