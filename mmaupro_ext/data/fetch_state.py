"""What a fetch does with its folder: clips in their places, the journal of them, the lock, disk errors."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmaupro_ext.data.locate import AUDIO_FOLDER
from mmaupro_ext.data.safe import stat_clip, stay_inside
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.store import Store
from mmaupro_ext.util import write_atomically, write_json

STATE_FOLDER = ".mmaupro-fetch"
PART_SUFFIX = ".mmaupro-part"  # of clips that are still being written
MARGIN = 16 << 20  # bytes of free space beyond the clips: rows, journal, folders


class Journal:
    """What was finished, kept in the folder so that a copy of it knows it, too.

    `origin.json` says where the files come from. The store has each finished clip with its size,
    checksum and modification time: as long as the file still has these, it is not read again.
    """

    def __init__(self, root: Path, origin: dict[str, Any]) -> None:
        self._root, self.store = root, Store(root / STATE_FOLDER / "finished.sqlite")
        path = root / STATE_FOLDER / "origin.json"
        try:
            begun = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError:
            begun = {}  # damaged; each clip is compared with its checksum all the same
        if isinstance(begun, dict) and begun.get("files", origin["files"]) != origin["files"]:
            fix = "Name another folder with --to; if the commit is the same, look at the mirror or proxy"
            what = f"{root} was begun with {begun}, and the host now states {origin}"
            raise DataError(f"{what}. Nothing was touched. {fix}: a commit cannot change.")
        write_json(path, origin)

    def knows(self, name: str, size: int, checksum: int | str) -> bool:
        """Return whether a clip's file is still the one that was finished."""
        return self.store.get("clip", name) == self._note(name, size, checksum)

    def add(self, name: str, size: int, checksum: int | str) -> None:
        """Note a finished clip, durably."""
        self.store.put("clip", name, self._note(name, size, checksum))

    def clips(self) -> int:
        """Return how many clips are finished."""
        return self.store.count("clip")

    def _note(self, name: str, size: int, checksum: int | str) -> bytes:
        return f"{size} {checksum} {(self._root / name).stat().st_mtime_ns}".encode()


def has_size(root: Path, name: str, size: int) -> bool:
    """Return whether a clip is in the folder itself, with a size."""
    try:
        return stat_clip(root, name).st_size == size
    except OSError:
        return False


def put_in_place(root: Path, name: str, content: Iterable[bytes]) -> None:
    """Write a clip beside its place and, when all of it is durable, move it there."""
    path = root / name
    stay_inside(root, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name[:180]}.{threading.get_ident():x}{PART_SUFFIX}")
    try:
        with part.open("wb") as sink:
            for piece in content:
                sink.write(piece)
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(root: Path, *names: str) -> None:
    """Delete what an interrupted fetch left half written: of clips, of its state, of named files."""
    left = [path for name in names for path in root.glob(f".{name}.*.part")]
    left += (root / STATE_FOLDER).glob(".*.part")
    left += (root / AUDIO_FOLDER).rglob(f".*{PART_SUFFIX}")
    for path in left:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Show a bar of bytes, and yield what moves it; `done` of the `total` do not count for the rate."""
    # Without a terminal, as in a batch job's log, a line every half minute is enough.
    every = 0.2 if sys.stderr.isatty() else 30.0
    look = {"unit": "B", "unit_scale": True, "mininterval": every, "maxinterval": 10 * every}
    with tqdm(desc=name, total=total, initial=done, dynamic_ncols=True, **look) as bar:
        yield bar.update


def space(root: Path, need: int) -> tuple[bool, str]:
    """Return whether a folder's disk has so many bytes free, and a clause that says so."""
    places = (root / AUDIO_FOLDER, root, *root.parents)
    folder = next(path for path in places if path.is_dir())
    free = shutil.disk_usage(folder).free
    clause = f"{folder} has {readable(free)} free, and the clips need {readable(need)}"
    return free >= need, clause


def require_space(root: Path, need: int, otherwise: str = "") -> None:
    """Raise DataError when a folder's disk has fewer bytes free; `otherwise` is another way out."""
    enough, clause = space(root, need)
    if not enough:
        fix = f"Free some space or name another folder with --to{otherwise}."
        raise DataError(f"{clause}. {fix} Nothing more was downloaded.")


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


_PLACE = "Name a folder that you may write to with --to."
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
