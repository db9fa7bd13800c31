"""A folder that `mmaupro data fetch` fills: its lock, its clips, what is known of them, its disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import filelock

from mmaupro_ext.data.hub import RemoteFile
from mmaupro_ext.data.locate import AUDIO_FOLDER, PARQUET, ROWS
from mmaupro_ext.data.manifest import MANIFEST
from mmaupro_ext.data.safe import stat_clip, stay_inside
from mmaupro_ext.data.selection import SELECTION_FILE
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.progress import progress
from mmaupro_ext.store import Store
from mmaupro_ext.util import sha256_of_file, write_atomically

Stated = tuple[int, int | str]  # bytes of a clip, and its CRC-32 or sha256

MARGIN = 16 << 20  # bytes of free space beyond the clips: rows, store, folders

_PLACE = "Name a folder that you may write to with --to."
_ROOM = "Free some space or name another folder with --to, then run the same command again."
_DISK = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("a file would be larger than this system allows", _ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), ("cannot be written ({})", _PLACE)),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), ("is a file where a folder is needed", _PLACE)),
}


class Folder:
    """The folder of a fetch.

    A store in it has each finished clip with its size, checksum and modification time: as long as the
    file still has these, it is not read again. It has where the files come from, too.
    """

    def __init__(self, root: Path, say: Callable[[str], None]) -> None:
        self.root, self.state, self._say = root, root / ".mmaupro-fetch", say
        self._store = Store(self.state / "finished.sqlite")
        self._earlier = 0  # clips that were finished before
        self._added: list[int] = []  # bytes of each clip of this run
        self.on_its_way: Path | None = None  # a whole file

    @contextlib.contextmanager
    def held(self, origin: dict[str, Any]) -> Iterator[None]:
        """Hold the folder as one that is filled from somewhere; say what is kept when that ends early.

        Raises
        ------
        DataError
            When another process holds it, when it was begun with other files, and instead of an error
            of the file system.
        """
        try:
            with self._lock():
                self._begin(origin)
                yield
        except KeyboardInterrupt:
            self._say(f"\nstopped. {self._kept()} The same command goes on from there.")
            raise
        except OSError as error:
            why, fix = _DISK.get(error.errno or 0, ("{}", "Run the same command again."))
            where = error.filename2 or error.filename or self.root
            text = f"{where}: {why.format(error.strerror or error)}. {self._kept()}".strip()
            raise DataError(f"{text} {fix}") from error
        except DataError as error:
            if self._kept() and self._kept() not in str(error):
                self._say(self._kept())
            raise

    def _lock(self) -> contextlib.AbstractContextManager[Any]:
        """Lock the folder; the operating system frees it when the process ends in any way."""
        self.state.mkdir(parents=True, exist_ok=True)
        for path in (self.state, *self.state.iterdir()):
            stay_inside(self.root, path)
        owner, lock = self.state / "owner", self.state / "lock"
        try:
            held = filelock.FileLock(lock).acquire(timeout=0)
        except filelock.Timeout:
            who = owner.read_text("utf-8", "replace") if owner.is_file() else "another process"
            fix = "Wait for it or stop it; what it fetched is kept and this command goes on from there."
            what = f"{self.root} is being filled by another `mmaupro data fetch` ({who})"
            raise DataError(f"{what}. {fix}") from None
        except (OSError, NotImplementedError) as error:
            fix = "Name a folder on another file system with --to."
            raise DataError(f"{lock} cannot be locked ({error}). {fix}") from error
        now = time.strftime("%Y-%m-%d %H:%M:%S%z")
        write_atomically(owner, f"process {os.getpid()} on {socket.gethostname()}, since {now}")
        return held

    def _begin(self, origin: dict[str, Any]) -> None:
        begun = json.loads(self._store.get("origin", "") or "{}")
        if begun.get("files", origin["files"]) != origin["files"]:
            fix = "Name another folder with --to; if the commit is the same, look at the mirror or proxy"
            what = f"{self.root} was begun with {begun}, and the host now states {origin}"
            raise DataError(f"{what}. Nothing was touched. {fix}: a commit cannot change.")
        self._store.put("origin", "", json.dumps(origin).encode())
        self._earlier = self._store.count("clip")
        # What an interrupted fetch left half written.
        names = (PARQUET, SELECTION_FILE, ROWS, MANIFEST)
        left = [path for name in names for path in self.root.glob(f".{name}.*.part")]
        left += (self.root / AUDIO_FOLDER).rglob(".*[.-]part")  # ".mmaupro-part" until 2026-11
        for path in (*left, *self.state.glob(".*.part")):
            path.unlink(missing_ok=True)

    def _kept(self) -> str:
        part = self.on_its_way
        if part is not None and part.is_file() and part.stat().st_size:
            return f"{readable(part.stat().st_size)} of {part.name} are kept."
        if self._added:
            return (
                f"{len(self._added):,} clips of this run ({readable(sum(self._added))}) are kept."
            )
        return "Clips of earlier runs are kept." if self._earlier else ""

    def brought(self, file: RemoteFile) -> Path | None:
        """Return what somebody put into the folder in place of a remote file; DataError if it is another."""
        path = self.root / PurePosixPath(file.path).name
        if not path.is_file():
            return None
        with path.open("rb") as source:
            if file.is_made_of(iter(lambda: source.read(1 << 20), b"")):
                return path
        fix = "Move it away to have it fetched, or name another folder with --to."
        raise DataError(f"{path} is not that of the release ({file.identity}). {fix}")

    def has(self, name: str, size: int) -> bool:
        """Return whether a clip is in the folder itself, with a size."""
        try:
            return stat_clip(self.root, name).st_size == size
        except OSError:
            return False

    def put(self, name: str, content: Iterable[bytes], crc: int | None = None) -> Stated:
        """Write a clip beside its place, move it there when all of it is durable, and note it."""
        path = self.root / name
        stay_inside(self.root, path.parent)
        write_atomically(path, content)
        stated = (path.stat().st_size, sha256_of_file(path) if crc is None else crc)
        self._store.put("clip", name, self._note(name, stated))
        self._added.append(stated[0])
        return stated

    def lacks(self, clips: Mapping[str, Stated]) -> list[str]:
        """Return which clips are not there as stated; those that are not known as they are are read."""
        missing, unknown = [], []
        for name, stated in clips.items():
            if not self.has(name, stated[0]):
                missing.append(name)
            elif self._store.get("clip", name) != self._note(name, stated):
                unknown.append(name)
        if not unknown:
            return missing
        total, wrong = sum(clips[name][0] for name in unknown), []
        what = f"{len(unknown):,} files are there that the journal does not know as they are"
        self._say(f"{what}: reading them once ({readable(total)})")
        with progress(total, "check", "B") as bar:
            for name in unknown:
                if _checksum(self.root / name, clips[name][1], bar.update) == clips[name][1]:
                    self._store.put("clip", name, self._note(name, clips[name]))
                else:
                    wrong.append(name)
        if wrong:
            what = f"{len(wrong):,} of them are not those of the release"
            self._say(f"{what} and are fetched again (first: {wrong[0]})")
        return missing + wrong

    def _note(self, name: str, stated: Stated) -> bytes:
        return f"{stated[0]} {stated[1]} {(self.root / name).stat().st_mtime_ns}".encode()

    def space(self, need: int) -> tuple[bool, str]:
        """Return whether the folder's disk has so many bytes free, and a clause that says so."""
        places = (self.root / AUDIO_FOLDER, self.root, *self.root.parents)
        folder = next(path for path in places if path.is_dir())
        free = shutil.disk_usage(folder).free
        clause = f"{folder} has {readable(free)} free, and the clips need {readable(need)}"
        return free >= need, clause


def _checksum(path: Path, like: int | str, moved: Callable[[int], object]) -> int | str:
    """Return a file's CRC-32 or sha256, whichever is compared."""
    crc, hasher = 0, hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            if isinstance(like, int):
                crc = zlib.crc32(block, crc)
            else:
                hasher.update(block)
            moved(len(block))
    return crc if isinstance(like, int) else hasher.hexdigest()
