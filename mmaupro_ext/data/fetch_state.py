"""What a fetch keeps beside the clips: the journal of finished ones, the lock, and its screen."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from mmaupro_ext.data.archive import Member
from mmaupro_ext.data.locate import ARCHIVE, DATA_DIR_VARIABLE, PARQUET
from mmaupro_ext.data.safe import stat_regular
from mmaupro_ext.data.text import visible
from mmaupro_ext.errors import DataError
from mmaupro_ext.store import Store
from mmaupro_ext.util import write_json

if TYPE_CHECKING:
    from mmaupro_ext.data.hub import Hub

STATE_FOLDER = ".mmaupro-fetch"


class Screen:
    """Lines, and the one progress bar below them."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._bar = say, tqdm(disable=True)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        with tqdm.external_write_mode():
            self._say(visible(line))

    @contextlib.contextmanager
    def progress(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Show the bar: `done` of `total` bytes, of which `done` do not count for the rate."""
        # Without a terminal, as in a batch job's log, a line every half minute is enough.
        every = 0.2 if sys.stderr.isatty() else 30.0
        look = {"unit": "B", "unit_scale": True, "dynamic_ncols": True, "smoothing": 0.1}
        times = {"mininterval": every, "maxinterval": every * 10}
        with tqdm(desc=name, total=total, initial=done, **look, **times) as self._bar:
            yield
        self._bar = tqdm(disable=True)

    def advance(self, amount: int) -> None:
        """Move the bar by a number of bytes."""
        self._bar.update(amount)


class Journal:
    """What was finished, kept in the folder so that a copy of it knows it, too.

    `origin.json` names the commit and its files. The store has each finished clip with its size,
    CRC-32 and modification time: as long as the file still has these, it is not read again.
    """

    def __init__(self, root: Path, hub: Hub) -> None:
        from mmaupro_ext.data.hub import identity

        self._store = Store(root / STATE_FOLDER / "finished.sqlite")
        path = root / STATE_FOLDER / "origin.json"
        files = {
            name: {"size": hub.file(name).size, "identity": identity(hub.file(name))}
            for name in (PARQUET, ARCHIVE)
        }
        origin = {"repo": hub.repo, "commit": hub.commit, "files": files}
        try:
            begun = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError:
            begun = {}  # damaged; each clip is compared with the archive's CRC-32 all the same
        if isinstance(begun, dict) and begun.get("files", files) != files:
            raise DataError(
                f"{root} was begun with {begun}, and the host now states {origin}. Nothing was "
                "touched. Name another folder with --to; if the commit is the same, look at the "
                "mirror or proxy (HF_ENDPOINT): a commit cannot change on the original host."
            )
        write_json(path, origin)

    def knows(self, member: Member, path: Path) -> bool:
        """Return whether a file is still the one that was finished."""
        return self._store.get("clip", member.name) == _note(member, path)

    def add(self, member: Member, path: Path) -> None:
        """Note a finished clip, durably."""
        self._store.put("clip", member.name, _note(member, path))

    @property
    def clips(self) -> int:
        """How many clips are finished."""
        return self._store.count("clip")

    @property
    def archive_sha256(self) -> str | None:
        """The sha256 of the archive that was downloaded whole, None where none was."""
        found = self._store.get("archive", "sha256")
        return found.decode() if found else None

    @archive_sha256.setter
    def archive_sha256(self, sha256: str) -> None:
        self._store.put("archive", "sha256", sha256.encode())


def _note(member: Member, path: Path) -> bytes:
    return f"{member.size} {member.crc} {path.stat().st_mtime_ns}".encode()


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system frees it when the process ends in any way."""
    import filelock

    folder = root / STATE_FOLDER
    owner = folder / "owner.json"
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        try:
            stat_regular(owner)
            by = json.loads(owner.read_text(encoding="utf-8"))
            who = f"process {by['pid']} on {by['host']}, since {by['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            who = "another process"
        raise DataError(
            f"{root} is being filled by another `mmaupro data fetch` ({who}). Wait for it or stop "
            "it; what it fetched is kept and this command goes on from there."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise DataError(
            f"{folder / 'lock'} cannot be locked ({error}). Name a folder on another file system "
            "with --to."
        ) from error
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S%z")
        with disk_errors(root):
            write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than this system allows",
}


@contextlib.contextmanager
def disk_errors(root: Path, kept: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn an error of the file system into a message with the fix, and with what `kept` says."""
    try:
        yield
    except OSError as error:
        path = error.filename or root
        said = f" {kept()}".rstrip()
        if error.errno in _FULL:
            text = (
                f"{root}: {_FULL[error.errno]}.{said} Free some space or name another folder with "
                "--to, then run the same command again."
            )
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            text = (
                f"{path} cannot be written ({error.strerror}).{said} Name a folder that you may "
                f"write to with --to, or set {DATA_DIR_VARIABLE}."
            )
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            text = f"{path} is a file where a folder is needed.{said} Name another with --to."
        else:
            text = f"{path}: {error.strerror or error}.{said} Run the same command again."
        raise DataError(text) from error


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
