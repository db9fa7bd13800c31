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
REPORTED_ARCHIVE = (
    "47,506,239,410 bytes, sha256 8fab3e820b27bf7f239ae74a45a1085f1364b6971a7b5ac53f220d091b9b111c"
)


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
        From where: `owner/name`, and a commit, branch or tag.
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
    criteria: Criteria = field(default_factory=Criteria)
    repo: str = REPO
    revision: str = PINNED_REVISION
    endpoint: str | None = None
    jobs: int = 4
    retries: int = 8
    wait_s: float = 1.0
    dry_run: bool = False
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)
