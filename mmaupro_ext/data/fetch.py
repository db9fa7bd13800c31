"""Fetch a benchmark: what `mmaupro data fetch` does, as a function.

MMAU-Pro is one small parquet and one zip of 47.5 GB, which is never on disk: its table of contents
is read first, then its members by ranges over several connections, neighbours with one request, and
each one is unpacked, checked and moved into place on its own (`fetching`). So a part of the dataset
costs only that part, no space is needed twice, and whatever stops the fetch, the clips that are there
stay and the next one goes on with the others.

The others come in files that can be checked as wholes only: parquet with the clips inside, tar.gz
(`fetch_files`). A file goes on at the byte where it broke off; when all of it is right its clips are
unpacked, and it is deleted.

What is where in the folder:

* `test.parquet` of MMAU-Pro, `rows.jsonl` of the others: always all rows;
* `data/`, the clips; names that end in `.mmaupro-part` are unfinished;
* `selection.json`, only when the folder does not hold everything (see `selection`);
* `.mmaupro-fetch/`, what was finished, files on their way, and the lock of a running fetch.
"""

from __future__ import annotations

from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.util import visible


def fetch(request: Request) -> bool:
    """Fetch what a request asks for.

    Parameters
    ----------
    request : Request
        What, from where, to where.

    Returns
    -------
    bool
        True when every clip that was asked for is there.

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

    from mmaupro_ext.data.fetch_files import FetchFiles
    from mmaupro_ext.data.fetch_state import only_one
    from mmaupro_ext.data.fetching import Fetch

    def say(line: str) -> None:
        with tqdm.external_write_mode():  # above the bar
            request.say(visible(line))

    described = request.benchmark.read_row is not None
    work = FetchFiles(request, say) if described else Fetch(request, say)
    if request.dry_run:
        return work.dry_run()
    with only_one(request.root):
        return work.run()
