"""The work of `mmaupro data fetch`: what is missing, where from, and each clip into its place.

Clips are read out of the remote archive by ranges over several connections, or out of an archive that
was downloaded whole; either way `zipfile` unpacks them, each is compared with its CRC-32, and one
that is in its place is whole and durable. Whatever ends a fetch, the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmaupro_ext.data import archive as zips
from mmaupro_ext.data.fetch_plan import (
    ATTEMPTS,
    PART_SUFFIX,
    Plan,
    check_space,
    has_size,
    make_plan,
    parquet,
    pieces,
    report_absent,
)
from mmaupro_ext.data.fetch_state import STATE_FOLDER, Journal, Screen, disk_errors, size_of
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER, PARQUET
from mmaupro_ext.data.safe import stay_inside
from mmaupro_ext.data.selection import SELECTION_FILE, write_selection
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import write_atomically

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from mmaupro_ext.data.fetch_request import Request
    from mmaupro_ext.data.hub import Hub

_SMALL_GAP = 256 << 10  # bytes; to read and drop them costs less than another request


class Fetch:
    """One fetch into one folder."""

    def __init__(self, request: Request, hub: Hub, screen: Screen, journal: Journal) -> None:
        self.request, self.hub, self.screen, self.journal = request, hub, screen, journal
        self.root = request.root
        self.archive: RepoSibling = hub.file(ARCHIVE)
        self.archive_size: int = self.archive.size or 0
        self.archive_part = self.root / (ARCHIVE + PART_SUFFIX)
        self.damaged: dict[str, str] = {}
        self._failure: BaseException | None = None
        self._lock = threading.Lock()
        self._added: list[int] = []  # bytes of each clip of this run

    def run(self) -> bool:
        """Fetch, and return whether everything that was asked for is there."""
        try:
            with disk_errors(self.root):
                self._sweep()
                content = parquet(self.root, self.hub)
                if not (self.root / PARQUET).is_file():
                    write_atomically(self.root / PARQUET, content)
            plan = make_plan(self.request, self.hub, self.screen, content)
            todo = self._check_present(plan.wanted)
            with disk_errors(self.root):
                (self.root / AUDIO_FOLDER).mkdir(exist_ok=True)
                need = plan.space_needed(self.request, todo, self.archive_size)
                check_space(self.root / AUDIO_FOLDER, need, "the clips")
                if not plan.was_complete:
                    write_selection(self.root, plan.selection)
            if self.request.archive:
                todo = self._through_archive(plan, todo)
            self._download(todo)
            return self._conclude(plan)
        except KeyboardInterrupt:
            self.screen.say(f"\nstopped. {self._kept()} The same command goes on from there.")
            raise
        except DataError as error:
            kept = self._kept()
            if kept and kept not in str(error):
                self.screen.say(kept)
            raise

    # What is there

    def _check_present(self, wanted: Iterable[zips.Member]) -> list[zips.Member]:
        """Return the members whose file is not there or not right."""
        missing, unknown, wrong = [], [], []
        for member in wanted:
            if not has_size(self.root, member):
                missing.append(member)
            elif not self.journal.knows(member, self.root / member.name):
                unknown.append(member)
        if not unknown:
            return missing
        total = sum(member.size for member in unknown)
        self.screen.say(
            f"{len(unknown):,} files are there that the journal does not know as they are: reading "
            f"them once ({readable(total)})"
        )
        with self.screen.progress("check", total), disk_errors(self.root):
            for member in unknown:
                path, crc = self.root / member.name, 0
                for chunk in self._counted(pieces(path, 0, member.size)):
                    crc = zlib.crc32(chunk, crc)
                if crc == member.crc:
                    self.journal.add(member, path)
                else:
                    wrong.append(member)
        if wrong:
            self.screen.say(
                f"{len(wrong):,} of them are not the archive's and are fetched again (first: "
                f"{wrong[0].name})"
            )
        return missing + wrong

    def _sweep(self) -> None:
        """Delete what an interrupted fetch left half written."""
        left = [*self.root.glob(f".{PARQUET}.*.part"), *self.root.glob(f".{SELECTION_FILE}.*.part")]
        left += (self.root / STATE_FOLDER).glob(".*.part")
        left += (self.root / AUDIO_FOLDER).rglob(f".*{PART_SUFFIX}")
        for path in left:
            path.unlink(missing_ok=True)

    # Ranges of the remote archive

    def _download(self, todo: list[zips.Member]) -> None:
        """Fetch members by ranges over several connections."""
        if not todo:
            return
        amount = sum(member.stop - member.start for member in todo)
        # Short enough that every connection has work to the end, long enough to be worth a request.
        longest = min(64 << 20, max(4 << 20, amount // (4 * self.request.jobs)))
        queue = deque(zips.plan_runs(todo, longest, _SMALL_GAP))
        traffic = sum(run[-1].stop - run[0].start for run in queue)  # with the gaps
        # Daemons: one that waits for a silent host must not keep a stopped command alive.
        workers = [
            threading.Thread(target=self._work, args=(queue,), daemon=True, name=f"fetch-{number}")
            for number in range(min(self.request.jobs, len(queue)))
        ]
        self.screen.say(
            f"fetching {len(todo):,} clips, {readable(amount)}, into {self.root} (connections: "
            f"{len(workers)})"
        )
        with self.screen.progress("fetch", traffic), disk_errors(self.root, self._kept):
            for worker in workers:
                worker.start()
            try:
                for worker in workers:
                    while worker.is_alive():
                        worker.join(0.2)
            except KeyboardInterrupt:
                self.hub.stop.set()
                deadline = time.monotonic() + 3
                for worker in workers:
                    worker.join(max(0.0, deadline - time.monotonic()))
                raise
            if self._failure is not None:
                raise self._failure

    def _work(self, queue: deque[list[zips.Member]]) -> None:
        try:
            while not self.hub.stop.is_set():
                try:
                    run = queue.popleft()
                except IndexError:
                    return
                damaged = self._bring_remote(run)
                for member in damaged * (ATTEMPTS - 1):
                    if member.name in self.damaged:
                        self._bring_remote([member])
        except BaseException as error:  # handed to the main thread, which raises it
            with self._lock:
                # A response that a stopped thread was reading fails in many ways; the first
                # failure is the one that says why.
                if self._failure is None and not self.hub.stop.is_set():
                    self._failure = error
            self.hub.stop.set()

    def _bring_remote(self, run: list[zips.Member]) -> list[zips.Member]:
        """Fetch neighbours with one request; return the damaged ones."""
        start, stop = run[0].start, run[-1].stop
        with contextlib.closing(self.hub.stream(self.archive, start, stop)) as stream:
            source = zips.Pieces(self._counted(stream), start)
            return [member for member in run if not self._bring(source, member)]

    def _counted(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in stream:
            self.screen.advance(len(chunk))
            yield chunk

    def _bring(self, source: zips.Pieces, member: zips.Member) -> bool:
        """Unpack a member beside its place, check it, move it there; return False for a damaged one."""
        path = self.root / member.name
        stay_inside(self.root, path.parent)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name[:180]}.{threading.get_ident():x}{PART_SUFFIX}")
        try:
            with part.open("wb") as sink:
                for piece in zips.unpack(source, member):
                    sink.write(piece)
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(part, path)
        except zips.DamagedMember as problem:
            self.damaged[member.name] = str(problem)
            return False
        finally:
            part.unlink(missing_ok=True)
        self.journal.add(member, path)
        self.damaged.pop(member.name, None)
        self._added.append(member.size)
        return True

    # The archive as a whole

    def _through_archive(self, plan: Plan, todo: list[zips.Member]) -> list[zips.Member]:
        """Download, check and unpack data.zip; return what is still missing then."""
        path = self.root / ARCHIVE
        if not todo and not (self.request.keep_archive and not path.exists()):
            return todo
        with disk_errors(self.root, self._kept):
            if self.journal.archive_sha256 is None or not path.is_file():
                self._download_archive(path)
            return self._unpack_archive(path, plan, todo)

    def _download_archive(self, path: Path) -> None:
        from mmaupro_ext.data.hub import sha256_of

        expected = sha256_of(self.archive)
        if expected is None:
            raise DataError(
                f"the host states no sha256 of {ARCHIVE}, so --archive cannot check it. Leave "
                "--archive out: each clip is then checked by its CRC-32."
            )
        own = not path.is_file()
        part = self.archive_part if own else path
        have, hasher = size_of(part), hashlib.sha256()
        if have:
            self.screen.say(f"{part} has {readable(have)} already: hashing them")
            with self.screen.progress("hash", have):
                for chunk in self._counted(pieces(part, 0, have)):
                    hasher.update(chunk)
        if own and have < self.archive_size:
            remote = self.hub.stream(self.archive, have, self.archive_size, whole=True)
            with self.screen.progress("fetch", self.archive_size, have), part.open("ab") as sink:
                for chunk in self._counted(remote):
                    sink.write(chunk)
                    hasher.update(chunk)
                sink.flush()
                os.fsync(sink.fileno())
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
        self.journal.archive_sha256 = expected
        self.screen.say(f"{ARCHIVE}: sha256 {expected} as the host states it")

    def _unpack_archive(self, path: Path, plan: Plan, todo: list[zips.Member]) -> list[zips.Member]:
        """Unpack from the last member to the first, cutting each off the archive's end."""
        missing, size = {member.name for member in todo}, size_of(path)
        left = [member for member in todo if member.stop > size]  # cut off before it was unpacked
        with self.screen.progress("unpack", sum(m.stop - m.start for m in todo)):
            for member in sorted(plan.members.values(), key=lambda item: -item.start):
                if member.stop > size:
                    continue
                if member.name in missing:
                    source = pieces(path, member.start, member.stop)
                    self._bring(zips.Pieces(self._counted(source), member.start), member)
                if not self.request.keep_archive:
                    os.truncate(path, member.start)
        if not self.request.keep_archive:
            path.unlink()
        return left

    # The end

    def _kept(self) -> str:
        """Return a sentence on what is kept, nothing where that is nothing."""
        part = size_of(self.archive_part)
        if part:
            return f"{readable(part)} of {ARCHIVE} are kept."
        if self._added:
            size = readable(sum(self._added))
            return f"{len(self._added):,} clips of this run ({size}) are kept."
        return "Clips of earlier runs are kept." if self.journal.clips else ""

    def _conclude(self, plan: Plan) -> bool:
        selection, say = plan.selection, self.screen.say
        docs = [doc for doc in plan.docs if doc["id"] in selection.ids]
        clips = {clip for doc in docs for clip in doc["audio_path"]}
        members = [plan.members[clip] for clip in clips if clip in plan.members]
        finished = not self.damaged and all(has_size(self.root, member) for member in members)
        with disk_errors(self.root):
            if plan.was_complete or (selection.complete and finished):
                (self.root / SELECTION_FILE).unlink(missing_ok=True)
                state = f"all {len(plan.docs):,} items"
            else:
                selection = replace(selection, finished=finished)
                write_selection(self.root, selection)
                state = selection.describe()
        size = readable(sum(member.size for member in members))
        say(f"{self.root}: {state}; {len(clips):,} clips, {size} when complete")
        say(
            "every fetched clip has the size and CRC-32 that the archive states"
            + (
                f", and {ARCHIVE} had the sha256 that the host states"
                if self.journal.archive_sha256
                else f"; the sha256 of {ARCHIVE} is only checked with --archive"
            )
        )
        report_absent(plan, say)
        for name, problem in list(self.damaged.items())[:10]:
            say(f"not fetched: {name}: {problem} ({ATTEMPTS} attempts)")
        if self.damaged:
            say(
                f"{len(self.damaged):,} clips arrived damaged each time. Look at the mirror or "
                f"proxy in between ({self.hub.endpoint}), then run the same command again."
            )
        return not self.damaged and not plan.absent
