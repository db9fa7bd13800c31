"""What is missing in a folder, and each clip into its place: out of MMAU-Pro's remote zip, or whole files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmaupro_ext import fan_out
from mmaupro_ext.benchmarks import File
from mmaupro_ext.data import archive
from mmaupro_ext.data import selection as choice
from mmaupro_ext.data.archive import Member, Row
from mmaupro_ext.data.fetch import Request
from mmaupro_ext.data.fetch_state import MARGIN, Folder, Stated, progress
from mmaupro_ext.data.hub import ATTEMPTS, Hub, RemoteFile, github_content
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER, PARQUET, ROWS
from mmaupro_ext.data.manifest import MANIFEST, read_manifest
from mmaupro_ext.data.schema import LoadReport
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import ConfigError, DataError
from mmaupro_ext.util import write_atomically, write_json

_LARGEST_ROWS = 256 << 20  # bytes of a file that holds rows alone
# Bytes at the zip's end that are read for its directory; the released one takes half a MiB.
_TAILS = (1 << 20, 64 << 20)
_SMALL_GAP = 256 << 10  # bytes; to read and drop them costs less than another request
_BLOCK = 4096  # bytes; what a file system rounds a file's size up to


class Members:
    """MMAU-Pro: the clips that are asked for, by ranges of one remote zip."""

    def __init__(self, request: Request, folder: Folder, say: Callable[[str], None]) -> None:
        self.request, self.folder, self.say = request, folder, say
        rows, clips = request.benchmark.files
        self.hub = Hub(request, rows, say)
        (self.parquet,), (self.archive,) = self.hub.introduce(rows), self.hub.introduce(clips)
        self.origin = self.hub.origin([self.parquet, self.archive])

    def preview(self) -> int:
        """Say what a fetch would do, and return how many bytes the disk must have free."""
        self._plan(self._content())
        todo = [member for member in self.wanted if not self.folder.has(member.name, member.size)]
        counts = Counter(doc["category"] for doc in self.asked)
        self.say(f"selection: {self.request.criteria.describe()}")
        self.say("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        there = f"{len(self.wanted):,}, of which {len(self.wanted) - len(todo):,} are there by size"
        amount, size = sum(m.stop - m.start for m in todo), sum(m.size for m in todo)
        self.say(f"clips: {there}; to download: {readable(amount)}; on disk: {readable(size)} more")
        self._report_absent()
        return _on_disk(todo)

    def run(self) -> bool:
        """Fetch, and return whether everything that was asked for is there."""
        content = self._content()
        if not (self.folder.root / PARQUET).is_file():
            write_atomically(self.folder.root / PARQUET, content)
        self._plan(content)
        lacking = set(self.folder.lacks({m.name: (m.size, m.crc) for m in self.wanted}))
        todo = [member for member in self.wanted if member.name in lacking]
        self.folder.require_space(_on_disk(todo), ", or fetch a part (--category, --limit)")
        if not self.was_complete:
            choice.write_selection(self.folder.root, self.selection)
        return self._conclude(self._download(todo) if todo else {})

    def _content(self) -> bytes:
        return self.hub.content(self.parquet, _LARGEST_ROWS, self.folder.root / PARQUET)

    def _plan(self, content: bytes) -> None:
        """Compare what is asked for with what the zip and the folder hold."""
        criteria = self.request.criteria
        report = LoadReport(source=f"{PARQUET} at {self.hub.commit}")
        docs = self.docs = read_documents(content, report, expect_counts=False)
        earlier = choice.read_selection(self.folder.root)
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
        whole = bool(clips) and all(self.folder.has(clip, members[clip].size) for clip in clips)
        self.was_complete = earlier is None and whole
        if earlier is not None and not self.request.dry_run:
            more = f"{len(self.selection.ids - earlier.ids):,} items to the selection"
            self.say(f"the folder has a {earlier.describe()}. This fetch adds {more}.")
        elif self.was_complete and not criteria.everything:
            self.say("the folder holds every clip of the dataset already")

    def _directory(self) -> list[Member]:
        """Read the table of contents at the zip's end."""
        size = self.archive.size
        for length in _TAILS:
            tail = b"".join(self.hub.stream(self.archive, max(0, size - length), size))
            try:
                members, ignored = archive.read_directory(tail, size)
                break
            except DataError:
                if length == _TAILS[-1] or len(tail) == size:
                    raise
        if ignored:
            what = f"{len(ignored)} names of {ARCHIVE} outside {AUDIO_FOLDER}"
            self.say(f"{what} are not extracted (first: {ignored[0]!r})")
        return members

    def _download(self, todo: list[Member]) -> dict[str, str]:
        """Fetch members by ranges over several connections; return what stays damaged, and how."""
        amount, jobs = sum(member.stop - member.start for member in todo), self.request.jobs
        # Short enough that every connection has work to the end, long enough to be worth a request.
        longest = min(64 << 20, max(4 << 20, amount // (4 * jobs)))
        runs = archive.plan_runs(todo, longest, _SMALL_GAP)
        traffic = sum(run[-1].stop - run[0].start for run in runs)  # with the gaps
        damaged: dict[str, str] = {}
        what = f"{len(todo):,} clips, {readable(amount)}, into {self.folder.root}"
        self.say(f"fetching {what} (connections: {min(jobs, len(runs))})")
        with progress("fetch", traffic) as self.hub.moved:
            fan_out.each(
                len(runs),
                lambda number: self._bring(runs[number]),
                lambda number, found: damaged.update(found),
                threads=jobs,
                stop=self.hub.stop,
                grace_s=3.0,  # for connections to close after Ctrl-C
            )
        return damaged

    def _bring(self, run: list[Member], attempts: int = ATTEMPTS) -> dict[str, str]:
        """Fetch neighbours with one request, damaged ones again by themselves."""
        damaged: dict[str, str] = {}
        with contextlib.closing(
            self.hub.stream(self.archive, run[0].start, run[-1].stop)
        ) as stream:
            source = archive.Pieces(stream, run[0].start)
            for member in run:
                try:
                    self.folder.put(member.name, archive.unpack(source, member), member.crc)
                except archive.DamagedMember as problem:
                    damaged[member.name] = str(problem)
        for member in run if attempts > 1 else ():
            if damaged.pop(member.name, None):
                damaged |= self._bring([member], attempts - 1)
        return damaged

    def _report_absent(self) -> None:
        if self.absent:
            what = f"{len(self.absent):,} clips that {PARQUET} names are not in {ARCHIVE}"
            self.say(f"{what} (first: {self.absent[0]}); their items cannot be answered")

    def _conclude(self, damaged: dict[str, str]) -> bool:
        selection, root = self.selection, self.folder.root
        docs = [doc for doc in self.docs if doc["id"] in selection.ids]
        clips = {clip for doc in docs for clip in doc["audio_path"]}
        members = [self.members[clip] for clip in clips if clip in self.members]
        finished = not damaged and all(self.folder.has(m.name, m.size) for m in members)
        if self.was_complete or (selection.complete and finished):
            (root / choice.SELECTION_FILE).unlink(missing_ok=True)
            state = f"all {len(self.docs):,} items"
        else:
            selection = replace(selection, finished=finished)
            choice.write_selection(root, selection)
            state = selection.describe()
        size = readable(sum(member.size for member in members))
        self.say(f"{root}: {state}; {len(clips):,} clips, {size} when complete")
        self.say("every fetched clip has the size and CRC-32 that the archive states")
        self._report_absent()
        for name, problem in list(damaged.items())[:10]:
            self.say(f"not fetched: {name}: {problem} ({ATTEMPTS} attempts)")
        if damaged:
            fix = f"Look at the mirror or proxy in between ({self.hub.endpoint}), then run this again."
            self.say(f"{len(damaged):,} clips arrived damaged each time. {fix}")
        return not damaged and not self.absent


def _on_disk(members: list[Member]) -> int:
    """Return how many bytes the disk must have free for some members."""
    return sum(-(-member.size // _BLOCK) * _BLOCK for member in members) + MARGIN if members else 0


class WholeFiles:
    """A benchmark in files that can be checked as wholes only: parquet with the clips inside, tar.gz.

    `rows.jsonl` gets the released rows, and `manifest.json` the sha256 of each clip, by which a clip
    that is lost or changed later is noticed.
    """

    def __init__(self, request: Request, folder: Folder, say: Callable[[str], None]) -> None:
        self.request, self.folder, self.say = request, folder, say
        benchmark = self.benchmark = request.benchmark
        if not request.criteria.everything or request.repo or request.revision:
            raise ConfigError(
                f"{benchmark.title} comes in whole files, of which a part could not be checked, "
                "at a revision that its description pins. Leave out --category, --length-type, "
                "--ids, --limit, --repo and --revision; `lm_eval --limit` asks a part."
            )
        self.row_files = [stated for stated in benchmark.files if stated.holds == "rows"]
        (clips,) = [stated for stated in benchmark.files if stated.holds != "rows"]
        self.hub = Hub(request, clips, say)
        self.files = self.hub.introduce(clips)
        self.origin = self.hub.origin(self.files)

    def preview(self) -> int:
        """Say what a fetch would do, and return how many bytes the disk must have free."""
        clips = (read_manifest(self.folder.root / MANIFEST) or {"files": {}})["files"]
        there = all(self.folder.has(name, entry.get("bytes")) for name, entry in clips.items())
        complete = (self.folder.root / ROWS).is_file() and bool(clips) and there
        left = [] if complete else self.files
        self.say(f"to download: {readable(sum(file.size for file in left))}")
        return _for_whole(left)

    def run(self) -> bool:
        """Fetch, and return whether every clip is there."""
        rows = [row for stated in self.row_files for row in self._rows(stated)]
        clips: dict[str, Stated] = {}
        done = {file: self._finished(file) for file in self.files}
        self.folder.require_space(_for_whole([file for file in self.files if not done[file]]))
        found = [done[file] or self._bring(file, rows) for file in self.files]
        for one in found:
            rows += one["rows"]
            clips |= one["clips"]
        return self._conclude(rows, clips)

    def _rows(self, stated: File) -> list[Row]:
        """Read a file of rows, from the folder when somebody put it there; name the clips as we do."""
        name = PurePosixPath(stated.path).name
        content = github_content(stated, self.folder.root / name, self.request.retries)
        try:
            try:
                rows = json.loads(content)
            except ValueError:
                rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            raise DataError(f"{name} is neither JSON nor JSON lines ({error})") from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{name} holds no list of rows")
        column = self.benchmark.clip_column
        for row in rows:
            if isinstance(row.get(column), str):
                row[column] = archive.place_of(PurePosixPath(row[column]).name)
        return rows

    def _note(self, file: RemoteFile) -> Path:
        """Return the file that says what a file held which was unpacked."""
        name = hashlib.sha256(f"{file.path} {file.identity}".encode()).hexdigest()[:16]
        return self.folder.state / f"{name}.json"

    def _finished(self, file: RemoteFile) -> dict[str, Any] | None:
        """Return what a file that was unpacked holds, None when some of it is not there any more."""
        try:
            done: dict[str, Any] = json.loads(self._note(file).read_bytes())
            lacking = self.folder.lacks(
                {name: tuple(stated) for name, stated in done["clips"].items()}
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if lacking:
            self.say(f"{lacking[0]} is missing or changed, so {file.path} is fetched again")
        return None if lacking else done

    def _bring(self, file: RemoteFile, rows: list[Row]) -> dict[str, Any]:
        """Download a file, unpack it, and delete it; one that the user put there stays."""
        name = PurePosixPath(file.path).name
        path, part = self.folder.root / name, self.folder.state / name
        if path.is_file() and path.stat().st_size == file.size:
            file.check_brought(path)
        else:
            path = self.folder.on_its_way = part
            with path.open("ab+") as sink, progress(name, file.size) as self.hub.moved:
                have = readable(sink.tell())
                self.say(f"fetching {name}, {readable(file.size)}, of which {have} are there")
                self.hub.complete(file, sink)
                sink.flush()
                os.fsync(sink.fileno())
        self.say(f"unpacking {name}")
        own: list[Row] = []
        clips: dict[str, Stated] = {}
        rows = own if path.suffix == ".parquet" else rows
        for clip, content in archive.clips_of(path, self.benchmark, rows):
            clips[clip] = self.folder.put(clip, content)
        done = {"rows": own, "clips": clips}
        write_atomically(self._note(file), json.dumps(done, default=str))
        part.unlink(missing_ok=True)
        return done

    def _conclude(self, rows: list[Row], clips: dict[str, Stated]) -> bool:
        column, root = self.benchmark.clip_column, self.folder.root
        named = [row[column] for row in rows if isinstance(row.get(column), str)]
        absent = [name for name in dict.fromkeys(named) if name not in clips]
        earlier = (read_manifest(root / MANIFEST) or {"files": {}})["files"]
        files = {}
        for name, (size, sha256) in clips.items():
            known = earlier.get(name, {})
            same = known.get("sha256") == sha256  # what `verify` measured of it stays
            files[name] = known if same else {"bytes": size, "sha256": sha256}
        head = {"name": self.benchmark.title, "complete": not absent}
        write_json(root / MANIFEST, {**head, "files": files})
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
        write_atomically(root / ROWS, "\n".join(lines) + "\n")
        total = readable(sum(size for size, _ in clips.values()))
        self.say(f"{root}: {len(rows):,} items; {len(clips):,} clips, {total}")
        if absent:
            what = f"{len(absent):,} clips that the rows name are in no file"
            self.say(f"{what} (first: {absent[0]}); their items cannot be answered")
        return not absent


def _for_whole(files: list[RemoteFile]) -> int:
    """Return how many bytes the disk must have free: for the largest file, and the clips of all."""
    sizes = [file.size for file in files]
    return max(sizes) + sum(sizes) + MARGIN if sizes else 0
