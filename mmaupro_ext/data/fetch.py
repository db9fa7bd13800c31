"""Fetch MMAU-Pro, whole or in part: what `mmaupro data fetch` does, as a function.

The dataset is one small parquet and one zip of 47.5 GB. By default the zip is never on disk: its
table of contents is read first, then its members by ranges over several connections, neighbours
with one request, and each one is unpacked, checked and moved into place on its own. So a part of the
dataset costs only that part, no space is needed twice, and whatever stops the fetch, the clips that
are there stay and the next one goes on with the others.

What is where in the folder:

* `test.parquet`, always whole;
* `data/`, the clips; names that end in `.mmaupro-part` are unfinished;
* `selection.json`, only when the folder does not hold everything (see `selection`);
* `.mmaupro-fetch/`, what was finished, and the lock of a running fetch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmaupro_ext.data.fetch_request import PINNED_REVISION, REPO, Request
from mmaupro_ext.data.locate import ARCHIVE
from mmaupro_ext.data.text import size as readable

if TYPE_CHECKING:
    from mmaupro_ext.data.hub import Hub

# Stated by programs of others that fetched the dataset; not read from the host by us. A difference
# is reported and does not stop the fetch, because the host is the better witness.
REPORTED_ARCHIVE_SIZE = 47_506_239_410  # bytes
REPORTED_ARCHIVE_SHA256 = "8fab3e820b27bf7f239ae74a45a1085f1364b6971a7b5ac53f220d091b9b111c"


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
    from mmaupro_ext.data.fetch_plan import dry_run
    from mmaupro_ext.data.fetch_state import STATE_FOLDER, Journal, Screen, disk_errors, only_one
    from mmaupro_ext.data.fetching import Fetch
    from mmaupro_ext.data.hub import Hub

    screen = Screen(request.say)
    hub = Hub(
        request.repo,
        request.revision,
        request.endpoint,
        request.retries,
        request.wait_s,
        screen.say,
    )
    _introduce(hub, screen.say)
    if request.dry_run:
        return dry_run(request, hub, screen)
    with disk_errors(request.root):
        (request.root / STATE_FOLDER).mkdir(parents=True, exist_ok=True)
    with only_one(request.root):
        with disk_errors(request.root):
            journal = Journal(request.root, hub)
        return Fetch(request, hub, screen, journal).run()


def _introduce(hub: Hub, say: Callable[[str], None]) -> None:
    from mmaupro_ext.data.hub import sha256_of

    archive = hub.file(ARCHIVE)
    say(f"{hub.repo} at {hub.commit}: {ARCHIVE} has {readable(archive.size or 0)}")
    if isinstance(hub.licence, str):
        say(f"licence, as its dataset card states: {hub.licence}")
    if (hub.repo, hub.commit) != (REPO, PINNED_REVISION):
        return
    for what, found, reported in (
        ("size", archive.size, REPORTED_ARCHIVE_SIZE),
        ("sha256", sha256_of(archive), REPORTED_ARCHIVE_SHA256),
    ):
        if found != reported:
            say(
                f"note: the host states {what} {found} of {ARCHIVE}; others reported {reported}. "
                "Please report it, and compare results with those of others with care."
            )
