"""Fetch a benchmark: what `mmaupro data fetch` does, as a function.

`huggingface_hub` talks to the host (`hub`); `zipfile`, `tarfile` and `pyarrow` read what it has
(`archive`). Added is what neither does:

* MMAU-Pro's zip of 47.5 GB is never on disk: its members are read by ranges over several connections,
  neighbours with one request, so that a part of the dataset costs only that part (`fetching`);
* each clip is compared with a checksum, written beside its place and moved there when it is durable;
* whatever stops a fetch (kill -9, a full disk), clips and bytes that are there stay, and the next one
  goes on (`fetch_state`);
* nothing that a hostile file says is believed, and every failure is one sentence with the way out.

The others' files, parquet with the clips inside and tar.gz, can be checked as wholes only: one goes on
at the byte where it broke off; when it is right its clips are unpacked, and it is deleted.

What is where in the folder:

* `test.parquet` of MMAU-Pro, `rows.jsonl` of the others: always all rows;
* `data/`, the clips; names that begin with a dot and end in `.part` are unfinished;
* `selection.json`, only when the folder does not hold everything (see `selection`);
* `manifest.json` of the others, with the sha256 of each clip;
* `.mmaupro-fetch/`, what was finished, files on their way, and the lock of a running fetch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark
from mmaupro_ext.data.selection import Criteria
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import visible


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


def fetch(request: Request) -> bool:
    """Fetch what a request asks for.

    Parameters
    ----------
    request : Request
        What, from where, to where.

    Returns
    -------
    bool
        True when every clip that was asked for is there; of a dry run, when there is space for it.

    Raises
    ------
    DataError
        When the host refuses or fails, the folder cannot be written, the disk is full, another
        fetch is at work in the folder, or the archive is not safe. Finished clips stay.
    ConfigError
        When the selection cannot be made.
    KeyboardInterrupt
        After Ctrl-C, when what is kept has been said.
    """
    # Libraries that take a second to import, which the help of a command need not cost.
    from tqdm import tqdm

    from mmaupro_ext.data.fetch_state import Folder
    from mmaupro_ext.data.fetching import Members, WholeFiles

    def say(line: str) -> None:
        with tqdm.external_write_mode():  # above the bar
            request.say(visible(line))

    folder = Folder(request.root, say)
    described = request.benchmark.read_row is not None
    work = WholeFiles(request, folder, say) if described else Members(request, folder, say)
    if request.dry_run:
        enough, clause = folder.space(work.preview())
        say(f"{clause}\ndry run: nothing was written")
        return enough
    with folder.errors(), folder.lock():
        try:
            folder.begin(work.origin)
            return work.run()
        except KeyboardInterrupt:
            say(f"\nstopped. {folder.kept()} The same command goes on from there.")
            raise
        except DataError:
            say(folder.kept())
            raise
