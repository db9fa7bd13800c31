"""The work of `mmaupro data fetch`: what is missing, where from, and each clip into its place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mmaupro_ext.data import archive as zips
from mmaupro_ext.data.fetch_state import (
    STATE_FOLDER,
    Journal,
    Screen,
    disk_errors,
    disk_problem,
    readable_bytes,
    size_of,
)
from mmaupro_ext.data.schema import Doc, LoadReport
from mmaupro_ext.data.selection import (
    PART_SUFFIX,
    SELECTION_FILE,
    Criteria,
    Selection,
    make_selection,
    read_selection,
    select,
    write_atomically,
    write_selection,
)
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.errors import DataError

if TYPE_CHECKING:
    from mmaupro_ext.data.hub import Hub, RemoteFile, RetryPolicy, Snapshot

REPO = "gamma-lab-umd/MMAU-Pro"
PARQUET, ARCHIVE = "test.parquet", "data.zip"

# Stated by programs of others that fetched the dataset; not read from the host by us. A difference
# is reported and does not stop the fetch, because the host is the better witness.
PINNED_REVISION = "b8516c217464d53be36d6dc334fda3cd578ed103"
REPORTED_ARCHIVE_SIZE = 47_506_239_410  # bytes
REPORTED_ARCHIVE_SHA256 = "8fab3e820b27bf7f239ae74a45a1085f1364b6971a7b5ac53f220d091b9b111c"
REPORTED_CLIPS = 5_787

_BLOCK = 4096  # bytes; what a file system rounds a file's size up to
_MARGIN = 16 << 20  # bytes of free space beyond the clips: parquet, journal, folders
_MEMBER_ATTEMPTS = 3
_LARGEST_PARQUET = 256 << 20


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
    archive, keep_archive : bool
        Download the zip whole; keep it.
    dry_run : bool
        Only say what would be done.
    endpoint : str, optional
        Base URL of the hub; `HF_ENDPOINT` by default.
    policy : hub.RetryPolicy, optional
        How long to try again.
    say : callable
        Receives lines for the user.
    """

    root: Path
    criteria: Criteria = field(default_factory=Criteria)
    repo: str = REPO
    revision: str = PINNED_REVISION
    jobs: int = 4
    archive: bool = False
    keep_archive: bool = False
    dry_run: bool = False
    endpoint: str | None = None
    policy: RetryPolicy | None = None
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Plan:
    """What a fetch has to do, once the parquet and the central directory are known."""

    docs: list[Doc]
    selection: Selection
    was_complete: bool
    wanted: list[zips.Member]
    absent: list[str]
    directory: zips.Directory


class Fetch:
    """One fetch into one folder."""

    def __init__(
        self,
        request: Request,
        hub: Hub,
        snapshot: Snapshot,
        screen: Screen,
        stop: threading.Event,
        journal: Journal | None,
    ) -> None:
        self.request, self.hub, self.snapshot = request, hub, snapshot
        self.screen, self.stop, self._journal = screen, stop, journal
        self.root = request.root
        self.archive: RemoteFile = snapshot.file(ARCHIVE)
        self.damaged: dict[str, str] = {}
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._added = 0
        self._added_bytes = 0

    @property
    def journal(self) -> Journal:
        """The journal; a dry run has none."""
        if self._journal is None:
            raise RuntimeError("a dry run has no journal")
        return self._journal

    def run(self) -> bool:
        """Fetch, and return whether everything that was asked for is there."""
        with disk_errors(self.root):
            self._sweep()
            content = self._parquet()
            write = not (self.root / PARQUET).exists()
            if write:
                self._room(self.root, len(content), PARQUET)
                write_atomically(self.root / PARQUET, content)
        plan = self._plan(content)
        todo = self._check_present(plan.wanted)
        with disk_errors(self.root):
            (self.root / zips.AUDIO_FOLDER).mkdir(exist_ok=True)
            self._check_room(plan, todo)
            if not plan.was_complete:
                write_selection(self.root, plan.selection)
        try:
            if self.request.archive:
                todo = self._through_archive(plan, todo)
            self._download(todo)
        except KeyboardInterrupt:
            self.screen.say(f"\nstopped. {self._kept()} The same command goes on from there.")
            raise
        return self._conclude(plan)

    def dry_run(self) -> bool:
        """Say what a fetch would do; write nothing."""
        plan = self._plan(self._parquet())
        todo = [member for member in plan.wanted if not self._has_size(member)]
        here = len(plan.wanted) - len(todo)
        say = self.screen.say
        say(f"selection: {self.request.criteria.describe()}")
        counts = self._asked_counts(plan)
        say("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        say(
            f"clips: {len(plan.wanted):,}, of which {here:,} are there by size; to download: "
            f"{readable_bytes(sum(m.stop - m.start for m in todo))}; on disk: "
            f"{readable_bytes(sum(m.size for m in todo))} more"
        )
        self._report_absent(plan)
        need = self._needed(plan, todo)
        folder = _existing(self.root)
        free = shutil.disk_usage(folder).free
        say(f"room in {folder}: {readable_bytes(free)} free, {readable_bytes(need)} needed")
        say("dry run: nothing was written")
        return free >= need

    # The parquet and the plan

    def _parquet(self) -> bytes:
        """Return the bytes of test.parquet, from the folder when they are those of the commit."""
        remote = self.snapshot.file(PARQUET)
        path = self.root / PARQUET
        if path.is_file():
            content = path.read_bytes()
            if _is_content(content, remote):
                return content
            raise DataError(
                f"{path} is not the file of {self.snapshot.repo} at {self.snapshot.commit}. Move "
                "it away to have it fetched, or name another folder with --to."
            )
        if not 0 < remote.size <= _LARGEST_PARQUET:
            raise DataError(f"the host states {remote.size:,} bytes for {PARQUET}. Check --repo.")
        for _ in range(_MEMBER_ATTEMPTS):
            content = b"".join(self.hub.stream(self.snapshot, remote, 0, remote.size, whole=True))
            if _is_content(content, remote):
                return content
        raise DataError(
            f"{PARQUET} arrived {_MEMBER_ATTEMPTS} times with a digest other than "
            f"{remote.identity}. Look at the mirror or proxy in between ({self.hub.endpoint})."
        )

    def _plan(self, content: bytes) -> _Plan:
        report = LoadReport(source=f"{PARQUET} at {self.snapshot.commit}")
        docs = read_documents(content, report, expect_counts=False)
        earlier = read_selection(self.root)
        asked = {doc["id"] for doc in select(docs, self.request.criteria)}
        selection = make_selection(docs, self.request.criteria, self.snapshot.commit, earlier)
        directory = self._directory()
        by_name = {member.name: member for member in directory.members}
        if self.request.criteria.everything:
            names = dict.fromkeys([*by_name, *(clip for doc in docs for clip in doc["audio_path"])])
        else:
            names = dict.fromkeys(
                clip for doc in docs if doc["id"] in asked for clip in doc["audio_path"]
            )
        every_clip = {clip for doc in docs for clip in doc["audio_path"]}
        # A folder without selection.json that has every clip is a whole dataset, also when it was
        # unpacked by hand: fetching a part of it must not make it a partial one.
        known_clips = [by_name[clip] for clip in every_clip if clip in by_name]
        was_complete = (
            earlier is None
            and bool(known_clips)
            and all(self._has_size(member) for member in known_clips)
        )
        if earlier is not None and not self.request.dry_run:
            self.screen.say(
                f"the folder has a {earlier.describe()}. This fetch adds "
                f"{len(selection.ids - earlier.ids):,} items to the selection."
            )
        elif was_complete and not self.request.criteria.everything:
            self.screen.say("the folder holds every clip of the dataset already")
        return _Plan(
            docs=docs,
            selection=selection,
            was_complete=was_complete,
            wanted=[by_name[name] for name in names if name in by_name],
            absent=[name for name in names if name not in by_name],
            directory=directory,
        )

    def _directory(self) -> zips.Directory:
        from mmaupro_ext.data.hub import RangeReader

        kept = self.root / ARCHIVE
        if self.request.archive and kept.is_file() and kept.stat().st_size == self.archive.size:
            with kept.open("rb") as local:
                directory = zips.read_directory(local, str(kept))
        else:
            remote = RangeReader(self.hub, self.snapshot, self.archive)
            # RawIOBase has every method that zipfile uses of a BinaryIO.
            directory = zips.read_directory(remote, ARCHIVE)  # type: ignore[arg-type]
        if directory.ignored:
            self.screen.say(
                f"{len(directory.ignored)} names of {ARCHIVE} outside {zips.AUDIO_FOLDER} are not "
                f"extracted (first: {directory.ignored[0]!r})"
            )
        return directory

    def _asked_counts(self, plan: _Plan) -> dict[str, int]:
        counts: dict[str, int] = {}
        for doc in select(plan.docs, self.request.criteria):
            counts[doc["category"]] = counts.get(doc["category"], 0) + 1
        return counts

    # What is there

    def _has_size(self, member: zips.Member) -> bool:
        try:
            return (self.root / member.name).stat().st_size == member.size
        except OSError:
            return False

    def _check_present(self, wanted: Iterable[zips.Member]) -> list[zips.Member]:
        """Return the members whose file is not there or not right."""
        missing, unknown = [], []
        for member in wanted:
            path = self.root / member.name
            try:
                state = path.stat()
            except OSError:
                missing.append(member)
                continue
            if state.st_size != member.size:
                missing.append(member)
            elif self.journal.clips.get(member.name) != (
                member.size,
                member.crc,
                state.st_mtime_ns,
            ):
                unknown.append(member)
        if not unknown:
            return missing
        total = sum(member.size for member in unknown)
        self.screen.say(
            f"{len(unknown):,} files are there that the journal does not know as they are: reading "
            f"them once ({readable_bytes(total)})"
        )
        wrong = []
        with self.screen.progress("check", total), disk_errors(self.root):
            for member in unknown:
                path = self.root / member.name
                if self._file_crc(path) == member.crc:
                    self.journal.add_clip(member, path)
                else:
                    wrong.append(member)
        if wrong:
            self.screen.say(
                f"{len(wrong):,} of them are not the archive's and are fetched again (first: "
                f"{wrong[0].name})"
            )
        return missing + wrong

    def _file_crc(self, path: Path) -> int:
        crc = 0
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                crc = zlib.crc32(chunk, crc)
                self.screen.advance(len(chunk))
        return crc

    def _sweep(self) -> None:
        """Delete what an interrupted fetch left half written."""
        for folder in (self.root, self.root / STATE_FOLDER):
            for path in folder.glob(f".*{PART_SUFFIX}"):
                path.unlink(missing_ok=True)
        audio = self.root / zips.AUDIO_FOLDER
        for path in audio.rglob(f".*{PART_SUFFIX}"):
            path.unlink(missing_ok=True)

    # Room

    def _needed(self, plan: _Plan, todo: list[zips.Member]) -> int:
        size = sum(_on_disk(member.size) for member in todo)
        if not todo or not self.request.archive:
            return size + (_MARGIN if todo else 0)
        have = size_of(self.root / ARCHIVE) or size_of(self._archive_part)
        if self.request.keep_archive:
            return self.archive.size - have + size + _MARGIN
        # Members are unpacked from the last to the first, and each leaves the archive's end.
        peak, unpacked = self.archive.size, 0
        names = {member.name for member in todo}
        for member in sorted(plan.wanted, key=lambda item: -item.start):
            if member.name in names:
                unpacked += _on_disk(member.size)
                peak = max(peak, member.stop + unpacked)
        return peak - have + _MARGIN

    def _check_room(self, plan: _Plan, todo: list[zips.Member]) -> None:
        self._room(self.root / zips.AUDIO_FOLDER, self._needed(plan, todo), "the clips")

    def _room(self, folder: Path, need: int, what: str) -> None:
        free = shutil.disk_usage(folder).free
        if free < need:
            raise DataError(
                f"{folder} has {readable_bytes(free)} free, and {what} need "
                f"{readable_bytes(need)}. Free some room, name another folder with --to, or fetch a "
                "part (--category, --limit). "
                "Nothing more was downloaded."
            )

    # Ranges of the remote archive

    def _download(self, todo: list[zips.Member]) -> None:
        """Fetch members by ranges over several connections."""
        if not todo:
            return
        amount = sum(member.stop - member.start for member in todo)
        # Short enough that every connection has work to the end, long enough to be worth a request.
        longest = min(64 << 20, max(4 << 20, amount // (4 * self.request.jobs)))
        queue = deque(zips.plan_runs(todo, longest))
        jobs = min(self.request.jobs, len(queue))
        workers = [
            # Daemons: one that waits for a silent host must not keep a stopped command alive.
            threading.Thread(target=self._work, args=(queue,), daemon=True, name=f"fetch-{number}")
            for number in range(jobs)
        ]
        self.screen.say(
            f"fetching {len(todo):,} clips, {readable_bytes(amount)}, over {jobs} connections into "
            f"{self.root}"
        )
        with self.screen.progress("fetch", amount):
            for worker in workers:
                worker.start()
            try:
                for worker in workers:
                    while worker.is_alive():
                        worker.join(0.2)
            except KeyboardInterrupt:
                self.stop.set()
                deadline = time.monotonic() + 3
                for worker in workers:
                    worker.join(max(0.0, deadline - time.monotonic()))
                raise
        if isinstance(self._failure, OSError):
            raise disk_problem(self._failure, self.root, self._kept()) from self._failure
        if self._failure is not None:
            self.screen.say(self._kept())
            raise self._failure

    def _work(self, queue: deque[zips.Run]) -> None:
        from mmaupro_ext.data.hub import Stopped

        try:
            while not self.stop.is_set():
                try:
                    run = queue.popleft()
                except IndexError:
                    return
                damaged = self._fetch_run(run)
                for _ in range(_MEMBER_ATTEMPTS - 1):
                    again = [zips.Run((m,), m.start, m.stop) for m, _ in damaged]
                    damaged = [found for single in again for found in self._fetch_run(single)]
                for member, problem in damaged:
                    with self._lock:
                        self.damaged[member.name] = problem
        except Stopped:
            return
        except BaseException as error:  # handed to the main thread, which raises it
            with self._lock:
                # A response that a stopped thread was reading fails in many ways; the first
                # failure is the one that says why.
                if self._failure is None and not self.stop.is_set():
                    self._failure = error
            self.stop.set()

    def _fetch_run(self, run: zips.Run) -> list[tuple[zips.Member, str]]:
        """Fetch the members of one run; return those whose bytes were wrong, with the reason."""
        stream = self.hub.stream(self.snapshot, self.archive, run.start, run.stop)
        return self._unpack_stream(stream, run)

    def _unpack_stream(
        self, stream: Iterator[bytes], run: zips.Run
    ) -> list[tuple[zips.Member, str]]:
        damaged: list[tuple[zips.Member, str]] = []
        members = deque(run.members)
        position = run.start
        incoming: _Incoming | None = None
        try:
            for chunk in stream:
                rest = memoryview(chunk)
                while rest and members:
                    member = members[0]
                    if position < member.start:  # unwanted bytes between two members
                        skipped = min(len(rest), member.start - position)
                        rest, position = rest[skipped:], position + skipped
                        continue
                    if incoming is None:
                        incoming = _Incoming(self.root, member)
                    piece = rest[: member.stop - position]
                    rest, position = rest[len(piece) :], position + len(piece)
                    incoming.feed(bytes(piece))
                    self.screen.advance(len(piece))
                    if position == member.stop:
                        members.popleft()
                        finished, incoming = incoming, None
                        problem = self._finish(finished)
                        if problem is not None:
                            damaged.append((member, problem))
                            self.screen.advance(member.start - member.stop)
        finally:
            if incoming is not None:
                incoming.discard()
        # Only a file on disk can end early; the hub's stream is complete or raises.
        damaged.extend((member, "the archive ends before it does") for member in members)
        return damaged

    def _finish(self, incoming: _Incoming) -> str | None:
        """Move a member into place, or return why it is damaged."""
        try:
            path = incoming.finish()
        except zips.DamagedMember as problem:
            incoming.discard()
            return str(problem)
        except BaseException:
            incoming.discard()
            raise
        self.journal.add_clip(incoming.member, path)
        with self._lock:
            self._added += 1
            self._added_bytes += incoming.member.size
        return None

    # The archive as a whole

    @property
    def _archive_part(self) -> Path:
        return self.root / (ARCHIVE + PART_SUFFIX)

    def _through_archive(self, plan: _Plan, todo: list[zips.Member]) -> list[zips.Member]:
        """Download, check and unpack data.zip; return what is still missing then."""
        path = self.root / ARCHIVE
        if not todo and not (self.request.keep_archive and not path.exists()):
            return todo
        with disk_errors(self.root, self._kept):
            if self.journal.archive_sha256 is None or not path.is_file():
                self._download_archive(path)
            return self._unpack_archive(path, plan, todo)

    def _download_archive(self, path: Path) -> None:
        expected = self.archive.sha256
        if expected is None:
            raise DataError(
                f"the host states no sha256 of {ARCHIVE}, so --archive cannot check it. Leave "
                "--archive out: each clip is then checked by its CRC-32."
            )
        own = not path.is_file()
        part = self._archive_part if own else path
        have = size_of(part)
        hasher = hashlib.sha256()
        if have:
            self.screen.say(f"{part} has {readable_bytes(have)} already: hashing them")
            with self.screen.progress("hash", have), part.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    hasher.update(chunk)
                    self.screen.advance(len(chunk))
        if own and have < self.archive.size:
            self._append_archive(part, have, hasher)
        if hasher.hexdigest() != expected:
            if own:
                part.unlink()
            raise DataError(
                f"{part} has sha256 {hasher.hexdigest()}, the host states {expected}. "
                + ("It was deleted. " if own else "Move it away. ")
                + "Without --archive only clips whose bytes are wrong are fetched again."
            )
        if own:
            os.replace(part, path)
        self.journal.add_archive(expected)
        self.screen.say(f"{ARCHIVE}: sha256 {expected} as the host states it")

    def _append_archive(self, part: Path, have: int, hasher: Any) -> None:
        from mmaupro_ext.data.hub import Stopped

        remote = self.hub.stream(self.snapshot, self.archive, have, self.archive.size, whole=True)
        with self.screen.progress("fetch", self.archive.size, have), part.open("ab") as sink:
            try:
                for chunk in remote:
                    sink.write(chunk)
                    hasher.update(chunk)
                    self.screen.advance(len(chunk))
            except Stopped:
                raise KeyboardInterrupt from None
            finally:
                sink.flush()
                os.fsync(sink.fileno())

    def _unpack_archive(
        self, path: Path, plan: _Plan, todo: list[zips.Member]
    ) -> list[zips.Member]:
        """Unpack from the last member to the first, cutting each off the archive's end."""
        missing = {member.name for member in todo}
        left: list[zips.Member] = []
        with (
            self.screen.progress("unpack", sum(m.stop - m.start for m in todo)),
            path.open("rb" if self.request.keep_archive else "r+b") as archive,
        ):
            size = size_of(path)
            for member in sorted(plan.directory.members, key=lambda item: -item.start):
                self.hub.gate.check()
                if member.name in missing:
                    if member.stop > size:  # cut off by an earlier run that was then interrupted
                        left.append(member)
                        continue
                    run = zips.Run((member,), member.start, member.stop)
                    for _, problem in self._unpack_stream(_pieces(archive, run), run):
                        self.damaged[member.name] = problem
                if not self.request.keep_archive:
                    archive.truncate(member.start)
        if not self.request.keep_archive:
            path.unlink()
        return left

    # The end

    def _kept(self) -> str:
        part = size_of(self._archive_part)
        if part:
            return f"{readable_bytes(part)} of {ARCHIVE} are kept."
        if self._added == 0:
            return "No clip was finished in this run; clips of earlier runs are kept."
        return f"{self._added:,} clips of this run ({readable_bytes(self._added_bytes)}) are kept."

    def _report_absent(self, plan: _Plan) -> None:
        if plan.absent:
            self.screen.say(
                f"{len(plan.absent):,} clips that {PARQUET} names are not in {ARCHIVE} (first: "
                f"{plan.absent[0]}); their items cannot be answered"
            )

    def _conclude(self, plan: _Plan) -> bool:
        by_name = {member.name: member for member in plan.directory.members}
        selection = plan.selection
        clips = {
            clip for doc in plan.docs if doc["id"] in selection.ids for clip in doc["audio_path"]
        }
        finished = not self.damaged and all(
            self._has_size(by_name[clip]) for clip in clips if clip in by_name
        )
        with disk_errors(self.root):
            if plan.was_complete or (selection.complete and finished):
                (self.root / SELECTION_FILE).unlink(missing_ok=True)
                state = f"all {len(plan.docs):,} items"
            else:
                selection = replace(selection, finished=finished)
                write_selection(self.root, selection)
                state = selection.describe()
        size = sum(by_name[clip].size for clip in clips if clip in by_name)
        say = self.screen.say
        say(f"{self.root}: {state}; {len(clips):,} clips, {readable_bytes(size)} when complete")
        say(
            "every fetched clip has the size and CRC-32 that the archive states"
            + (
                f", and {ARCHIVE} had the sha256 that the host states"
                if self.journal.archive_sha256
                else f"; the sha256 of {ARCHIVE} is only checked with --archive"
            )
        )
        self._report_absent(plan)
        for name, problem in list(self.damaged.items())[:10]:
            say(f"not fetched: {name}: {problem} ({_MEMBER_ATTEMPTS} attempts)")
        if self.damaged:
            say(
                f"{len(self.damaged):,} clips arrived damaged each time. Look at the mirror or "
                f"proxy in between ({self.hub.endpoint}), then run the same command again."
            )
        return not self.damaged and not plan.absent


class _Incoming:
    """A member on its way into its file: written beside it, checked, then renamed."""

    def __init__(self, root: Path, member: zips.Member) -> None:
        self.member = member
        self._path = root / member.name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unique = f"{os.getpid():x}-{threading.get_ident():x}"
        self._part = self._path.with_name(f".{self._path.name[:180]}.{unique}{PART_SUFFIX}")
        self._sink = self._part.open("wb")
        self._unpacker = zips.Unpacker(member, self._sink)
        self._problem: zips.DamagedMember | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; damage is remembered, so that the members behind it are still read."""
        if self._problem is None:
            try:
                self._unpacker.feed(data)
            except zips.DamagedMember as problem:
                self._problem = problem

    def finish(self) -> Path:
        """Check, make durable and rename; return the file."""
        if self._problem is not None:
            raise self._problem
        self._unpacker.finish()
        self._sink.flush()
        os.fsync(self._sink.fileno())
        self._sink.close()
        try:
            os.replace(self._part, self._path)
        except FileNotFoundError:
            raise zips.DamagedMember("another program deleted its unfinished file") from None
        return self._path

    def discard(self) -> None:
        """Delete what was written."""
        with contextlib.suppress(OSError):
            self._sink.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _is_content(content: bytes, remote: RemoteFile) -> bool:
    """Return whether bytes are those of a remote file, by the strongest name that the host gave."""
    if len(content) != remote.size:
        return False
    if remote.sha256:
        return hashlib.sha256(content).hexdigest() == remote.sha256
    if remote.blob_id:
        blob = b"blob %d\0" % len(content) + content
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == remote.blob_id
    return True


def _pieces(archive: BinaryIO, run: zips.Run) -> Iterator[bytes]:
    archive.seek(run.start)
    left = run.stop - run.start
    while left and (chunk := archive.read(min(left, 1 << 20))):
        left -= len(chunk)
        yield chunk


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
