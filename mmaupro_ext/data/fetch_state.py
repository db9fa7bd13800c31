"""What a fetch keeps beside the clips: the journal of finished ones, the lock, and its screen."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mmaupro_ext.data.archive import Member
from mmaupro_ext.data.locate import DATA_DIR_VARIABLE
from mmaupro_ext.data.selection import write_atomically
from mmaupro_ext.errors import DataError

if TYPE_CHECKING:
    from mmaupro_ext.data.hub import Snapshot

STATE_FOLDER = ".mmaupro-fetch"
_JOURNAL_FORMAT = 1


class Screen:
    """Lines and the one progress bar, without one tearing the other."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._bar: Any = None
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            self._say(line)

    @contextlib.contextmanager
    def progress(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Show the bar: `done` of `total` bytes, of which `done` do not count for the rate."""
        from tqdm import tqdm

        # Without a terminal, as in a batch job's log, a line every half minute is enough.
        interval = 0.2 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            desc=name,
            total=total,
            initial=done,
            unit="B",
            unit_scale=True,
            smoothing=0.1,
            mininterval=interval,
            maxinterval=interval * 10,
            dynamic_ncols=True,
            leave=True,
        )
        try:
            yield
        finally:
            self._bar.close()
            self._bar = None

    def advance(self, amount: int) -> None:
        """Move the bar by a number of bytes, back when it is negative."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(amount)


class Journal:
    """What was finished, one JSON object per line, so that a torn last line harms nothing.

    The first line names the commit and its files. Each other line is a finished clip with its size,
    CRC-32 and modification time: as long as the file still has these, it is not read again.
    """

    def __init__(self, root: Path, snapshot: Snapshot, names: tuple[str, ...]) -> None:
        self.path = root / STATE_FOLDER / "journal.jsonl"
        self.clips: dict[str, tuple[int, int, int]] = {}
        self.archive_sha256: str | None = None
        self._lock = threading.Lock()
        header = {
            "format": _JOURNAL_FORMAT,
            "repo": snapshot.repo,
            "commit": snapshot.commit,
            "files": {
                name: {"size": snapshot.file(name).size, "identity": snapshot.file(name).identity}
                for name in names
            },
        }
        lines = self._read()
        if lines:
            self._check(lines[0], header)
            for line in lines[1:]:
                self._take(line)
        else:
            write_atomically(self.path, json.dumps(header).encode() + b"\n")
        self._stream: BinaryIO = self.path.open("ab")
        if lines:
            self._stream.write(b"\n")  # ends a torn last line; blank lines are skipped

    def _read(self) -> list[dict[str, Any]]:
        lines = []
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        for raw in content.splitlines():
            with contextlib.suppress(ValueError):
                line = json.loads(raw)
                if isinstance(line, dict):
                    lines.append(line)
        return lines

    def _check(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        if found.get("format") != _JOURNAL_FORMAT:
            raise DataError(
                f"{self.path} is not a journal of this version. Delete it and run the command "
                "again; clips that are there are checked and kept."
            )
        if found.get("files") == header["files"]:
            return
        if found.get("commit") == header["commit"] and found.get("repo") == header["repo"]:
            changed = [n for n, state in header["files"].items() if found["files"].get(n) != state]
            raise DataError(
                f"{', '.join(changed)} changed under the same commit {header['commit']}: the "
                f"folder was begun with {found['files']}, the host now states {header['files']}. A "
                "commit cannot change on the original host, so look at the mirror or proxy "
                "(HF_ENDPOINT). Nothing was touched."
            )
        raise DataError(
            f"{self.path.parent.parent} was begun with {found.get('repo')} at "
            f"{found.get('commit')}, and you ask for {header['repo']} at {header['commit']}, whose "
            "files differ. Name another folder with --to; nothing was touched."
        )

    def _take(self, line: dict[str, Any]) -> None:
        try:
            if "clip" in line:
                note = (int(line["size"]), int(line["crc"]), int(line["mtime_ns"]))
                self.clips[str(line["clip"])] = note
            elif "archive_sha256" in line:
                self.archive_sha256 = line["archive_sha256"]
        except (KeyError, TypeError, ValueError):
            return  # the clip is read and checked instead

    def add_clip(self, member: Member, path: Path) -> None:
        """Note a finished clip, durably."""
        mtime_ns = path.stat().st_mtime_ns
        line = {"clip": member.name, "size": member.size, "crc": member.crc, "mtime_ns": mtime_ns}
        with self._lock:
            self._append(line)
            self.clips[member.name] = (member.size, member.crc, mtime_ns)

    def add_archive(self, sha256: str) -> None:
        """Note that the whole archive was downloaded and has this sha256."""
        with self._lock:
            self._append({"archive_sha256": sha256})
            self.archive_sha256 = sha256

    def _append(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(line).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._stream.close()


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
        note = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        with disk_errors(root):
            write_atomically(owner, json.dumps(note).encode())
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def disk_errors(root: Path, kept: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Turn an error of the file system into a message with the fix."""
    try:
        yield
    except OSError as error:
        raise disk_problem(error, root, kept()) from error


def disk_problem(error: OSError, root: Path, kept: str) -> DataError:
    """Return an error of the file system as a message with the fix.

    Parameters
    ----------
    error : OSError
        What happened.
    root : pathlib.Path
        The folder of the dataset.
    kept : str
        A sentence on what is not lost, or nothing.
    """
    path = error.filename or root
    kept = f" {kept}" if kept else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "a file would be larger than this system allows",
        }[error.errno]
        return DataError(
            f"{root}: {reason}.{kept} Free some room or name another folder with --to, then run "
            "the same command again."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return DataError(
            f"{path} cannot be written ({error.strerror}).{kept} Name a folder that you may write "
            f"to with --to, or set {DATA_DIR_VARIABLE}."
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return DataError(
            f"{path} is a file where a folder is needed.{kept} Name another with --to."
        )
    return DataError(f"{path}: {error.strerror or error}.{kept} Run the same command again.")


def size_of(path: Path) -> int:
    """Return the bytes of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def readable_bytes(count: int) -> str:
    """Return a number of bytes as people write it, in decimal units."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
