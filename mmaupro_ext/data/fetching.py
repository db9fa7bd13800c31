"""The work of `mmaupro data fetch`: what is missing, and each clip into its place.

Clips are read out of the remote archive by ranges over several connections; `zipfile` unpacks them,
each is compared with its CRC-32, and one that is in its place is whole and durable. Whatever ends a
fetch, the next one goes on from there.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from mmaupro_ext import fan_out
from mmaupro_ext.data import archive as zips
from mmaupro_ext.data import selection as choice
from mmaupro_ext.data.fetch_state import (
    MARGIN,
    Journal,
    disk_errors,
    has_size,
    progress,
    put_in_place,
    require_space,
    space,
    sweep,
)
from mmaupro_ext.data.hub import ATTEMPTS, Hub
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER, PARQUET
from mmaupro_ext.data.schema import LoadReport
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import write_atomically

if TYPE_CHECKING:
    from mmaupro_ext.data.fetch_request import Request

# Bytes at the archive's end that are read for its directory; the released one takes half a MiB.
_TAILS = (1 << 20, 64 << 20)
_SMALL_GAP = 256 << 10  # bytes; to read and drop them costs less than another request
_BLOCK = 4096  # bytes; what a file system rounds a file's size up to


class Fetch:
    """One fetch into one folder."""

    def __init__(self, request: Request, say: Callable[[str], None]) -> None:
        self.request, self.say, self.root = request, say, request.root
        rows, clips = request.benchmark.files
        self.hub = Hub(request, rows, say)
        (self.archive,) = self.hub.introduce(clips)
        self._added: list[int] = []  # bytes of each clip of this run

    def dry_run(self) -> bool:
        """Say what a fetch would do, write nothing, and return whether there is enough space for it."""
        self._plan(self._parquet())
        todo = [member for member in self.wanted if not self._is_there(member)]
        counts = Counter(doc["category"] for doc in self.asked)
        self.say(f"selection: {self.request.criteria.describe()}")
        self.say("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        there = f"{len(self.wanted):,}, of which {len(self.wanted) - len(todo):,} are there by size"
        amount, size = sum(m.stop - m.start for m in todo), sum(m.size for m in todo)
        self.say(f"clips: {there}; to download: {readable(amount)}; on disk: {readable(size)} more")
        self._report_absent()
        enough, clause = space(self.root, _on_disk(todo))
        self.say(f"{clause}\ndry run: nothing was written")
        return enough

    def run(self) -> bool:
        """Fetch, and return whether everything that was asked for is there."""
        with disk_errors(self.root):
            files = [self.hub.file(PARQUET), self.archive]
            self.journal = Journal(self.root, self.hub.origin(files))
        try:
            with disk_errors(self.root):
                sweep(self.root, PARQUET, choice.SELECTION_FILE)
                content = self._parquet()
                if not (self.root / PARQUET).is_file():
                    write_atomically(self.root / PARQUET, content)
            self._plan(content)
            todo = self._check_present()
            with disk_errors(self.root):
                (self.root / AUDIO_FOLDER).mkdir(exist_ok=True)
                require_space(self.root, _on_disk(todo), ", or fetch a part (--category, --limit)")
                if not self.was_complete:
                    choice.write_selection(self.root, self.selection)
            return self._conclude(self._download(todo) if todo else {})
        except KeyboardInterrupt:
            self.say(f"\nstopped. {self._kept()} The same command goes on from there.")
            raise
        except DataError as error:
            kept = self._kept()
            if kept and kept not in str(error):
                self.say(kept)
            raise

    def _parquet(self) -> bytes:
        return self.hub.content(self.hub.file(PARQUET), 256 << 20, self.root / PARQUET)

    def _plan(self, content: bytes) -> None:
        """Compare what is asked for with what the archive and the folder hold."""
        criteria = self.request.criteria
        report = LoadReport(source=f"{PARQUET} at {self.hub.commit}")
        docs = self.docs = read_documents(content, report, expect_counts=False)
        earlier = choice.read_selection(self.root)
        self.asked = choice.select(docs, criteria)
        self.selection = choice.make_selection(docs, criteria, self.hub.commit, earlier)
        members = self.members = {member.name: member for member in self._directory()}
        names = dict.fromkeys(clip for doc in self.asked for clip in doc["audio_path"])
        if criteria.everything:
            names = dict.fromkeys([*members, *names])
        self.wanted = [members[name] for name in names if name in members]
        self.absent = [name for name in names if name not in members]
        # A folder without selection.json that has every clip is a whole dataset, also when it was
        # unpacked by hand: fetching a part of it must not make it a partial one.
        clips = {clip for doc in docs for clip in doc["audio_path"]} & members.keys()
        whole = bool(clips) and all(self._is_there(members[clip]) for clip in clips)
        self.was_complete = earlier is None and whole
        if earlier is not None and not self.request.dry_run:
            more = f"{len(self.selection.ids - earlier.ids):,} items to the selection"
            self.say(f"the folder has a {earlier.describe()}. This fetch adds {more}.")
        elif self.was_complete and not criteria.everything:
            self.say("the folder holds every clip of the dataset already")

    def _directory(self) -> list[zips.Member]:
        """Read the table of contents at the archive's end."""
        size = self.archive.size or 0
        for length in _TAILS:
            tail = b"".join(self.hub.stream(self.archive, max(0, size - length), size))
            try:
                members, ignored = zips.read_directory(tail, size)
                break
            except DataError:
                if length == _TAILS[-1] or len(tail) == size:
                    raise
        if ignored:
            what = f"{len(ignored)} names of {ARCHIVE} outside {AUDIO_FOLDER}"
            self.say(f"{what} are not extracted (first: {ignored[0]!r})")
        return members

    def _is_there(self, member: zips.Member) -> bool:
        return has_size(self.root, member.name, member.size)

    def _check_present(self) -> list[zips.Member]:
        """Return the members whose file is not there or not right."""
        missing, unknown, wrong = [], [], []
        for member in self.wanted:
            if not self._is_there(member):
                missing.append(member)
            elif not self.journal.knows(member.name, member.size, member.crc):
                unknown.append(member)
        if not unknown:
            return missing
        total = sum(member.size for member in unknown)
        what = f"{len(unknown):,} files are there that the journal does not know as they are"
        self.say(f"{what}: reading them once ({readable(total)})")
        with progress("check", total) as moved, disk_errors(self.root):
            for member in unknown:
                path, crc = self.root / member.name, 0
                with path.open("rb") as stream:
                    while block := stream.read(1 << 20):
                        crc = zlib.crc32(block, crc)
                        moved(len(block))
                if crc == member.crc:
                    self.journal.add(member.name, member.size, crc)
                else:
                    wrong.append(member)
        if wrong:
            what = f"{len(wrong):,} of them are not the archive's"
            self.say(f"{what} and are fetched again (first: {wrong[0].name})")
        return missing + wrong

    def _download(self, todo: list[zips.Member]) -> dict[str, str]:
        """Fetch members by ranges over several connections; return what stays damaged, and how."""
        amount, jobs = sum(member.stop - member.start for member in todo), self.request.jobs
        # Short enough that every connection has work to the end, long enough to be worth a request.
        longest = min(64 << 20, max(4 << 20, amount // (4 * jobs)))
        runs = zips.plan_runs(todo, longest, _SMALL_GAP)
        traffic = sum(run[-1].stop - run[0].start for run in runs)  # with the gaps
        damaged: dict[str, str] = {}
        what = f"{len(todo):,} clips, {readable(amount)}, into {self.root}"
        self.say(f"fetching {what} (connections: {min(jobs, len(runs))})")
        with progress("fetch", traffic) as moved, disk_errors(self.root, self._kept):
            fan_out.each(
                len(runs),
                lambda number: self._bring_run(runs[number], moved),
                lambda number, found: damaged.update(found),
                threads=jobs,
                stop=self.hub.stop,
                grace_s=3.0,  # for connections to close after Ctrl-C
            )
        return damaged

    def _bring_run(self, run: list[zips.Member], moved: Callable[[int], object]) -> dict[str, str]:
        """Fetch neighbours with one request, damaged ones again by themselves."""
        damaged = self._bring(run, moved)
        for member in run * (ATTEMPTS - 1):
            if damaged.pop(member.name, None):
                damaged |= self._bring([member], moved)
        return damaged

    def _bring(self, run: list[zips.Member], moved: Callable[[int], object]) -> dict[str, str]:
        damaged, start = {}, run[0].start
        with contextlib.closing(self.hub.stream(self.archive, start, run[-1].stop)) as stream:
            source = zips.Pieces(_counted(stream, moved), start)
            for member in run:
                try:
                    put_in_place(self.root, member.name, zips.unpack(source, member))
                except zips.DamagedMember as problem:
                    damaged[member.name] = str(problem)
                else:
                    self.journal.add(member.name, member.size, member.crc)
                    self._added.append(member.size)
        return damaged

    def _kept(self) -> str:
        """Return a sentence on what is kept, nothing where that is nothing."""
        if self._added:
            size = readable(sum(self._added))
            return f"{len(self._added):,} clips of this run ({size}) are kept."
        return "Clips of earlier runs are kept." if self.journal.clips() else ""

    def _report_absent(self) -> None:
        if self.absent:
            what = f"{len(self.absent):,} clips that {PARQUET} names are not in {ARCHIVE}"
            self.say(f"{what} (first: {self.absent[0]}); their items cannot be answered")

    def _conclude(self, damaged: dict[str, str]) -> bool:
        selection = self.selection
        docs = [doc for doc in self.docs if doc["id"] in selection.ids]
        clips = {clip for doc in docs for clip in doc["audio_path"]}
        members = [self.members[clip] for clip in clips if clip in self.members]
        finished = not damaged and all(self._is_there(member) for member in members)
        with disk_errors(self.root):
            if self.was_complete or (selection.complete and finished):
                (self.root / choice.SELECTION_FILE).unlink(missing_ok=True)
                state = f"all {len(self.docs):,} items"
            else:
                selection = replace(selection, finished=finished)
                choice.write_selection(self.root, selection)
                state = selection.describe()
        size = readable(sum(member.size for member in members))
        self.say(f"{self.root}: {state}; {len(clips):,} clips, {size} when complete")
        self.say("every fetched clip has the size and CRC-32 that the archive states")
        self._report_absent()
        for name, problem in list(damaged.items())[:10]:
            self.say(f"not fetched: {name}: {problem} ({ATTEMPTS} attempts)")
        if damaged:
            fix = f"Look at the mirror or proxy in between ({self.hub.endpoint}), then run this again."
            self.say(f"{len(damaged):,} clips arrived damaged each time. {fix}")
        return not damaged and not self.absent


def _counted(stream: Iterable[bytes], moved: Callable[[int], object]) -> Iterator[bytes]:
    for chunk in stream:
        moved(len(chunk))
        yield chunk


def _on_disk(members: list[zips.Member]) -> int:
    """Return how many bytes the disk must have free for some members."""
    return sum(-(-member.size // _BLOCK) * _BLOCK for member in members) + MARGIN if members else 0
