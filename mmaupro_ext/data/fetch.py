"""Fetch a benchmark: what `mmaupro data fetch` does, as a function.

`huggingface_hub` talks to the host (`hub`); `zipfile`, `tarfile` and `pyarrow` read what it has
(`archive`). Added is what neither does:

* MMAU-Pro's zip of 47.5 GB is never on disk: its members are read by ranges over several connections,
  neighbours with one request, so that a part of the dataset costs only that part (`Members`);
* each clip is compared with a checksum, written beside its place and moved there when it is durable;
* whatever stops a fetch (kill -9, a full disk), clips and bytes that are there stay, and the next one
  goes on (`fetch_state`);
* nothing that a hostile file says is believed, and every failure is one sentence with the way out.

The others' files, parquet with the clips inside and tar.gz, can be checked as wholes only
(`WholeFiles`): one goes on at the byte where it broke off; when it is right its clips are unpacked, and
it is deleted.

What is where in the folder:

* `test.parquet` of MMAU-Pro, `rows.jsonl` of the others: always all rows;
* `data/`, the clips; names that begin with a dot and end in `.part` are unfinished;
* `selection.json`, only when the folder does not hold everything (see `selection`);
* `manifest.json` of the others, with the sha256 of each clip;
* `.mmaupro-fetch/`, what was finished, files on their way, and the lock of a running fetch.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from mmaupro_ext import fan_out
from mmaupro_ext.benchmarks import File
from mmaupro_ext.data import archive
from mmaupro_ext.data import selection as choice
from mmaupro_ext.data.archive import Member, Row
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.fetch_state import MARGIN, Folder, Stated
from mmaupro_ext.data.hub import ATTEMPTS, Hub, RemoteFile, github_content
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER, PARQUET, ROWS
from mmaupro_ext.data.manifest import MANIFEST, read_manifest
from mmaupro_ext.data.schema import LoadReport
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import ConfigError, DataError
from mmaupro_ext.progress import progress
from mmaupro_ext.util import sha256_of_text, visible, write_atomically, write_json

_LARGEST_ROWS = 256 << 20  # bytes of a file that holds rows alone
# Bytes at the zip's end that are read for its directory; the released one takes half a MiB.
_TAILS = (1 << 20, 64 << 20)
_SMALL_GAP = 256 << 10  # bytes; to read and drop them costs less than another request
_BLOCK = 4096  # bytes; what a file system rounds a file's size up to


def fetch(request: Request) -> bool:
    """Fetch what a request asks for.

    Parameters
    ----------
    request : Request
        What, from where, to where.

    Returns
    -------
    bool
        True when every clip that was asked for is there; of a dry run, when there is space for it.

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

    def say(line: str) -> None:
        with tqdm.external_write_mode():  # above the bar
            request.say(visible(line))

    folder = Folder(request.root, say)
    described = request.benchmark.read_row is not None
    work = WholeFiles(request, folder, say) if described else Members(request, folder, say)
    with contextlib.nullcontext() if request.dry_run else folder.held(work.origin):
        enough, clause = folder.space(work.plan())
        if request.dry_run:
            say(f"{clause}\ndry run: nothing was written")
            return enough
        if not enough:
            fix = "Free some space, name another folder with --to, or fetch a part of MMAU-Pro"
            raise DataError(f"{clause}. {fix} (--category, --limit). Nothing more was downloaded.")
        return work.run()


class Members:
    """MMAU-Pro: the clips that are asked for, by ranges of one remote zip."""

    def __init__(self, request: Request, folder: Folder, say: Callable[[str], None]) -> None:
        self.request, self.folder, self.say = request, folder, say
        rows, clips = request.benchmark.files
        self.hub = Hub(request, rows, say)
        (self.parquet,), (self.archive,) = self.hub.introduce(rows), self.hub.introduce(clips)
        self.origin = self.hub.origin([self.parquet, self.archive])

    def plan(self) -> int:
        """Say what is asked for and what is missing, and return how many bytes must be free."""
        criteria, folder = self.request.criteria, self.folder
        path = folder.brought(self.parquet)
        self.rows = path.read_bytes() if path else self.hub.content(self.parquet, _LARGEST_ROWS)
        report = LoadReport(source=f"{PARQUET} at {self.hub.commit}")
        docs = self.docs = read_documents(self.rows, report, expect_counts=False)
        earlier = choice.read_selection(folder.root)
        asked = choice.select(docs, criteria)
        self.selection = choice.make_selection(docs, criteria, self.hub.commit, earlier)
        members = self.members = {member.name: member for member in self._directory()}
        names = dict.fromkeys(clip for doc in asked for clip in doc["audio_path"])
        if criteria.everything:
            names = dict.fromkeys([*members, *names])
        self.wanted = [members[name] for name in names if name in members]
        self.absent = [name for name in names if name not in members]
        # A folder without selection.json that has every clip is a whole dataset, also when it was
        # unpacked by hand: fetching a part of it must not make it a partial one.
        clips = {clip for doc in docs for clip in doc["audio_path"]} & members.keys()
        whole = bool(clips) and all(folder.has(clip, members[clip].size) for clip in clips)
        self.was_complete = earlier is None and whole
        if earlier is not None:
            more = f"{len(self.selection.ids - earlier.ids):,} items to the selection"
            self.say(f"the folder has a {earlier.describe()}. This fetch adds {more}.")
        elif self.was_complete and not criteria.everything:
            self.say("the folder holds every clip of the dataset already")
        todo = [member for member in self.wanted if not folder.has(member.name, member.size)]
        counts = Counter(doc["category"] for doc in asked)
        self.say(f"selection: {criteria.describe()}")
        self.say("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        amount, size = sum(m.stop - m.start for m in todo), sum(m.size for m in todo)
        there = f"{len(self.wanted):,}, of which {len(self.wanted) - len(todo):,} are there by size"
        more = f"to download: {readable(amount)}; on disk: {readable(size)} more"
        self.say(f"clips: {there}; {more}")
        if self.absent:
            what = f"{len(self.absent):,} clips that {PARQUET} names are not in {ARCHIVE}"
            self.say(f"{what} (first: {self.absent[0]}); their items cannot be answered")
        return sum(-(-m.size // _BLOCK) * _BLOCK for m in todo) + MARGIN if todo else 0

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

    def run(self) -> bool:
        """Fetch what was planned, and return whether everything that was asked for is there."""
        root = self.folder.root
        if not (root / PARQUET).is_file():
            write_atomically(root / PARQUET, self.rows)
        lacking = set(self.folder.lacks({m.name: (m.size, m.crc) for m in self.wanted}))
        if not self.was_complete:
            choice.write_selection(root, self.selection)
        todo = [member for member in self.wanted if member.name in lacking]
        damaged = self._download(todo) if todo else {}
        docs = [doc for doc in self.docs if doc["id"] in self.selection.ids]
        clips = {clip for doc in docs for clip in doc["audio_path"]}
        members = [self.members[clip] for clip in clips if clip in self.members]
        finished = not damaged and all(self.folder.has(m.name, m.size) for m in members)
        if self.was_complete or (self.selection.complete and finished):
            (root / choice.SELECTION_FILE).unlink(missing_ok=True)
            state = f"all {len(self.docs):,} items"
        else:
            selection = replace(self.selection, finished=finished)
            choice.write_selection(root, selection)
            state = selection.describe()
        size = readable(sum(member.size for member in members))
        self.say(f"{root}: {state}; {len(clips):,} clips, {size} when complete")
        self.say("every fetched clip has the size and CRC-32 that the archive states")
        for name, problem in list(damaged.items())[:10]:
            self.say(f"not fetched: {name}: {problem} ({ATTEMPTS} attempts)")
        if damaged:
            fix = f"Look at the mirror or proxy in between ({self.hub.endpoint}), then run this again."
            self.say(f"{len(damaged):,} clips arrived damaged each time. {fix}")
        return not damaged and not self.absent

    def _download(self, todo: list[Member]) -> dict[str, str]:
        """Fetch members by ranges over several connections; return what stays damaged, and how."""
        amount, jobs = sum(member.stop - member.start for member in todo), self.request.jobs
        # Short enough that every connection has work to the end, long enough to be worth a request.
        longest = min(64 << 20, max(4 << 20, amount // (4 * jobs)))
        runs = archive.plan_runs(todo, longest, _SMALL_GAP)
        traffic = sum(run[-1].stop - run[0].start for run in runs)  # with the gaps
        damaged: dict[str, str] = {}
        with progress(traffic, "fetch", "B") as bar:
            self.hub.moved = bar.update
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

    def plan(self) -> int:
        """Say what is missing by size, and return how many bytes must be free."""
        self.known = {file: self._known(file) for file in self.files}
        sizes = [file.size for file, known in self.known.items() if not known]
        self.say(f"to download: {readable(sum(sizes))}")
        # For the largest file, and the clips of all.
        return max(sizes) + sum(sizes) + MARGIN if sizes else 0

    def _note(self, file: RemoteFile) -> Path:
        """Return the file that says what a file held which was unpacked."""
        return self.folder.state / f"{sha256_of_text(f'{file.path} {file.identity}')[:16]}.json"

    def _known(self, file: RemoteFile) -> dict[str, Any] | None:
        """Return what an unpacked file held, None when some of it is not there any more."""
        try:
            held: dict[str, Any] = json.loads(self._note(file).read_bytes())
            held["clips"] = {name: (size, sha256) for name, (size, sha256) in held["clips"].items()}
            there = all(self.folder.has(name, size) for name, (size, _) in held["clips"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return held if there else None

    def run(self) -> bool:
        """Fetch, and return whether every clip is there."""
        rows = [row for stated in self.row_files for row in self._rows(stated)]
        clips: dict[str, Stated] = {}
        named = list(rows)
        for file in self.files:
            held = self.known[file]
            if held is None or self.folder.lacks(held["clips"]):
                held = self._bring(file, named)
            rows += held["rows"]
            clips |= held["clips"]
        return self._conclude(rows, clips)

    def _rows(self, stated: File) -> list[Row]:
        """Read a file of rows; name the clips as we do."""
        file = RemoteFile(stated.path, stated.bytes or 0, stated.digest or "")
        there, name = self.folder.brought(file), PurePosixPath(stated.path).name
        retries = self.request.retries
        content = there.read_bytes() if there else github_content(stated, file, retries)
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

    def _bring(self, file: RemoteFile, named: list[Row]) -> dict[str, Any]:
        """Download a file, unpack it, and delete it; one that the user put there stays."""
        part = self.folder.state / PurePosixPath(file.path).name
        path = self.folder.brought(file)
        if path is None:
            path = self.folder.on_its_way = part
            with path.open("ab+") as sink, progress(file.size, "fetch", "B") as bar:
                have = f"{readable(file.size)}, of which {readable(sink.tell())} are there"
                self.say(f"fetching {path.name}, {have}")
                self.hub.moved = bar.update
                self.hub.complete(file, sink)
                sink.flush()
                os.fsync(sink.fileno())
        self.say(f"unpacking {path.name}")
        rows: list[Row] = []
        clips: dict[str, Stated] = {}
        for clip, content in archive.clips_of(path, self.benchmark, named, rows):
            clips[clip] = self.folder.put(clip, content)
        held = {"rows": rows, "clips": clips}
        write_atomically(self._note(file), json.dumps(held, default=str))
        part.unlink(missing_ok=True)
        return held

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
