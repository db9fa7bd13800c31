"""What a fetch keeps beside the clips, who may write there, and what the disk says to it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.data.locate import DATA_DIR_VARIABLE
from mmaupro_ext.data.safe import stay_inside
from mmaupro_ext.errors import DataError
from mmaupro_ext.store import Store
from mmaupro_ext.util import write_atomically, write_json

if TYPE_CHECKING:
    from mmaupro_ext.data.archive import Member

STATE_FOLDER = ".mmaupro-fetch"


class Journal:
    """What was finished, kept in the folder so that a copy of it knows it, too.

    `origin.json` says where the files come from. The store has each finished clip with its size,
    CRC-32 and modification time: as long as the file still has these, it is not read again.
    """

    def __init__(self, root: Path, origin: dict[str, Any]) -> None:
        self._root, self._store = root, Store(root / STATE_FOLDER / "finished.sqlite")
        path = root / STATE_FOLDER / "origin.json"
        try:
            begun = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError:
            begun = {}  # damaged; each clip is compared with the archive's CRC-32 all the same
        if isinstance(begun, dict) and begun.get("files", origin["files"]) != origin["files"]:
            fix = "Name another folder with --to; if the commit is the same, look at the mirror or proxy"
            what = f"{root} was begun with {begun}, and the host now states {origin}"
            raise DataError(f"{what}. Nothing was touched. {fix}: a commit cannot change.")
        write_json(path, origin)

    def knows(self, member: Member) -> bool:
        """Return whether a clip's file is still the one that was finished."""
        return self._store.get("clip", member.name) == self._note(member)

    def add(self, member: Member) -> None:
        """Note a finished clip, durably."""
        self._store.put("clip", member.name, self._note(member))

    def clips(self) -> int:
        """Return how many clips are finished."""
        return self._store.count("clip")

    def _note(self, member: Member) -> bytes:
        modified = (self._root / member.name).stat().st_mtime_ns
        return f"{member.size} {member.crc} {modified}".encode()


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the operating system frees it when the process ends in any way."""
    import filelock

    folder = root / STATE_FOLDER
    owner = folder / "owner"
    lock = filelock.FileLock(folder / "lock")
    with disk_errors(root):
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.iterdir()):
            stay_inside(root, path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        who = owner.read_text("utf-8", "replace") if owner.is_file() else "another process"
        fix = "Wait for it or stop it; what it fetched is kept and this command goes on from there."
        what = f"{root} is being filled by another `mmaupro data fetch` ({who})"
        raise DataError(f"{what}. {fix}") from None
    except (OSError, NotImplementedError) as error:
        fix = "Name a folder on another file system with --to."
        raise DataError(f"{folder / 'lock'} cannot be locked ({error}). {fix}") from error
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S%z")
        who = f"process {os.getpid()} on {socket.gethostname()}, since {now}"
        with disk_errors(root):
            write_atomically(owner, who)
        yield
    finally:
        with contextlib.suppress(OSError):
            owner.unlink()
        lock.release()


_PLACE = f"Name a folder that you may write to with --to, or set {DATA_DIR_VARIABLE}."
_ROOM = "Free some space or name another folder with --to, then run the same command again."
_DISK = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("a file would be larger than this system allows", _ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ("cannot be written ({})", _PLACE)),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), ("is a file where a folder is needed", _PLACE)),
}


@contextlib.contextmanager
def disk_errors(root: Path, kept: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn an error of the file system into a message with the fix, and with what `kept` says."""
    try:
        yield
    except OSError as error:
        why, fix = _DISK.get(error.errno or 0, ("{}", "Run the same command again."))
        where = error.filename2 or error.filename or root
        text = f"{where}: {why.format(error.strerror or error)}. {kept()}".strip()
        raise DataError(f"{text} {fix}") from error
