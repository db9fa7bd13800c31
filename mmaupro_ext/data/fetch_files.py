"""Fetch a benchmark whose clips come in whole files: parquet with the clips inside, tar.gz.

The host states one checksum a file and the formats have none a clip, so a file is downloaded whole (it
goes on at the byte where it broke off), checked, unpacked clip by clip, and deleted. Then
`rows.jsonl` gets the released rows, and `manifest.json` the sha256 of each clip, by which a clip that
is lost or changed later is noticed. `pyarrow` and `tarfile` do the reading. Added is what they leave
to their users: nothing in a file says where it is written (the row's id does, or the row's name of the
clip), only regular files are taken, and not more bytes than is reasonable.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mmaupro_ext.benchmarks import RowError
from mmaupro_ext.data.archive import LARGEST_MEMBER, LARGEST_TOTAL
from mmaupro_ext.data.fetch_state import (
    MARGIN,
    STATE_FOLDER,
    Journal,
    disk_errors,
    has_size,
    progress,
    put_in_place,
    require_space,
    space,
    sweep,
)
from mmaupro_ext.data.github import GitHub
from mmaupro_ext.data.hub import Hub
from mmaupro_ext.data.locate import AUDIO_FOLDER, ROWS
from mmaupro_ext.data.manifest import MANIFEST, read_manifest
from mmaupro_ext.data.remote_file import identity
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import ConfigError, DataError, MMAUProError
from mmaupro_ext.util import sha256_of_file, stat_regular, write_atomically, write_json

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from mmaupro_ext.benchmarks import Benchmark
    from mmaupro_ext.data.fetch_request import Request

Row = dict[str, Any]
Clips = dict[str, tuple[int, str]]  # name in the folder -> bytes and sha256

_LARGEST_ROWS = 256 << 20  # bytes of a file that holds rows alone
_STEP = 1 << 20  # bytes that are unpacked at once
_ROWS_AT_ONCE = 8  # with their clips, which a parquet holds inside


class FetchFiles:
    """One fetch into one folder."""

    def __init__(self, request: Request, say: Callable[[str], None]) -> None:
        self.request, self.say, self.root = request, say, request.root
        self.benchmark: Benchmark = request.benchmark
        self._refuse_parts()
        hosts: dict[tuple[str, str, str], Hub] = {}
        self.files: list[tuple[Hub, RepoSibling, str]] = []  # host, file, what it holds
        for stated in self.benchmark.files:
            where = (stated.host, stated.repository, stated.revision)
            if where not in hosts:
                kind = GitHub if stated.host == "github" else Hub
                hosts[where] = kind(request, stated, say)
            host = hosts[where]
            self.files += [(host, file, stated.holds) for file in host.introduce(stated)]
        self._kept = ""

    def _refuse_parts(self) -> None:
        if not self.request.criteria.everything or self.request.repo or self.request.revision:
            raise ConfigError(
                f"{self.benchmark.title} comes in whole files, of which a part could not be checked, "
                "at a revision that its description pins. Leave out --category, --length-type, "
                "--ids, --limit, --repo and --revision; `lm_eval --limit` asks a part."
            )

    def dry_run(self) -> bool:
        """Say what a fetch would do, write nothing, and return whether there is enough space for it."""
        left = [file for _, file, holds in self.files if holds != "rows"]
        if self._complete():
            left = []
        self.say(f"to download: {readable(sum(file.size or 0 for file in left))}")
        enough, clause = space(self.root, self._need(left))
        self.say(f"{clause}\ndry run: nothing was written")
        return enough

    def run(self) -> bool:
        """Fetch, and return whether every clip is there."""
        try:
            with disk_errors(self.root, lambda: self._kept):
                sweep(self.root, ROWS, MANIFEST)
                self.journal = Journal(self.root, self._origin())
                return self._fetch()
        except KeyboardInterrupt:
            self.say(f"\nstopped. {self._kept} The same command goes on from there.")
            raise
        except DataError as error:
            if self._kept and self._kept not in str(error):
                self.say(self._kept)
            raise

    def _origin(self) -> dict[str, Any]:
        files: dict[str, Any] = {}
        for host, file, _ in self.files:
            files |= host.origin([file])["files"]
        return {"repo": self.benchmark.title, "commit": self.benchmark.version, "files": files}

    def _complete(self) -> bool:
        """Return whether the folder holds all of it, by sizes."""
        clips = (read_manifest(self.root / MANIFEST) or {"files": {}})["files"]
        there = all(has_size(self.root, name, entry.get("bytes")) for name, entry in clips.items())
        return (self.root / ROWS).is_file() and bool(clips) and there

    def _need(self, files: list[RepoSibling]) -> int:
        """Return how many bytes the disk must have free: for the largest file, and the clips of all."""
        sizes = [file.size or 0 for file in files]
        return max(sizes) + sum(sizes) + MARGIN if sizes else 0

    def _fetch(self) -> bool:
        (self.root / AUDIO_FOLDER).mkdir(exist_ok=True)
        rows: list[Row] = []
        clips: Clips = {}
        for host, file, holds in self.files:
            if holds == "rows":
                rows += self._read_rows(host, file)
        members = self._by_member(rows)
        sources = [(host, file) for host, file, holds in self.files if holds != "rows"]
        finished = [self._finished(file) for _, file in sources]
        left = [file for (_, file), done in zip(sources, finished, strict=True) if done is None]
        require_space(self.root, self._need(left))
        for (host, file), known in zip(sources, finished, strict=True):
            done = known or self._bring(host, file, members)
            rows += done["rows"]
            clips |= done["clips"]
        return self._conclude(rows, clips)

    # Rows

    def _read_rows(self, host: Hub, file: RepoSibling) -> list[Row]:
        """Read a file of rows, from the folder when somebody put it there; name the clips as we do."""
        path = self.root / PurePosixPath(file.rfilename).name
        rows = _json_rows(host.content(file, _LARGEST_ROWS, path), file.rfilename)
        column = self.benchmark.clip_column
        for row in rows:
            if isinstance(row.get(column), str):
                row[column] = _place_of(PurePosixPath(row[column]).name)
        return rows

    def _by_member(self, rows: list[Row]) -> dict[str, str]:
        """Return where each clip that rows name belongs, by the name of its file in the archive."""
        column = self.benchmark.clip_column
        places = [row[column] for row in rows if isinstance(row.get(column), str)]
        return {PurePosixPath(place).name: place for place in places}

    # Clips

    def _finished(self, file: RepoSibling) -> dict[str, Any] | None:
        """Return what a file that was unpacked holds, None when some of it is not there any more."""
        try:
            done: dict[str, Any] = json.loads(self._note(file).read_bytes())
            clips = done["clips"].items()
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        for name, (size, sha256) in clips:
            if not has_size(self.root, name, size):
                self.say(f"{name} is missing or changed, so {file.rfilename} is fetched again")
                return None
            if not self.journal.knows(name, size, sha256):
                if sha256_of_file(self.root / name) != sha256:
                    self.say(f"{name} has other bytes, so {file.rfilename} is fetched again")
                    return None
                self.journal.add(name, size, sha256)
        return done

    def _bring(self, host: Hub, file: RepoSibling, members: dict[str, str]) -> dict[str, Any]:
        """Download a file, unpack it, and delete it; one that the user put there stays."""
        name = PurePosixPath(file.rfilename).name
        path, own = self.root / name, False
        if not (_is_regular(path) and path.stat().st_size == file.size):
            path, own = self.root / STATE_FOLDER / name, True
            have = path.stat().st_size if path.is_file() else 0
            self.say(
                f"fetching {name}, {readable(file.size or 0)}, of which {readable(have)} are there"
            )
        try:
            with progress(name, file.size or 0) as moved:
                host.download(file, path, moved, own=own)
        finally:
            if own and path.is_file() and path.stat().st_size:
                self._kept = f"{readable(path.stat().st_size)} of {name} are kept."
        rows: list[Row] = []
        clips: Clips = {}
        self.say(f"unpacking {name}")
        if name.endswith(".parquet"):
            unpacked = parquet_clips(path, self.benchmark, rows)
        else:
            unpacked = tar_clips(path, members)
        for clip, content in unpacked:
            clips[clip] = self._put(clip, content)
        done = {"rows": rows, "clips": clips}
        write_atomically(self._note(file), json.dumps(done, default=str))
        if own:
            path.unlink()
            self._kept = f"{len(clips):,} clips of {name} are kept."
        return done

    def _note(self, file: RepoSibling) -> Path:
        """Return the file that says what a file held which was unpacked."""
        name = hashlib.sha256(f"{file.rfilename} {identity(file)}".encode()).hexdigest()[:16]
        return self.root / STATE_FOLDER / f"{name}.json"

    def _put(self, clip: str, content: Iterator[bytes]) -> tuple[int, str]:
        hasher, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in content:
                hasher.update(piece)
                size += len(piece)
                yield piece

        put_in_place(self.root, clip, counted())
        self.journal.add(clip, size, hasher.hexdigest())
        return size, hasher.hexdigest()

    def _conclude(self, rows: list[Row], clips: Clips) -> bool:
        column = self.benchmark.clip_column
        named = [row[column] for row in rows if isinstance(row.get(column), str)]
        absent = [name for name in dict.fromkeys(named) if name not in clips]
        earlier = (read_manifest(self.root / MANIFEST) or {"files": {}})["files"]
        files = {}
        for name, (size, sha256) in clips.items():
            known = earlier.get(name, {})
            same = known.get("sha256") == sha256  # what `verify` measured of it stays
            files[name] = known if same else {"bytes": size, "sha256": sha256}
        head = {"name": self.benchmark.title, "complete": not absent}
        write_json(self.root / MANIFEST, {**head, "files": files})
        lines = [json.dumps(row, ensure_ascii=False, default=str) for row in rows]
        write_atomically(self.root / ROWS, "\n".join(lines) + "\n")
        total = readable(sum(size for size, _ in clips.values()))
        self.say(f"{self.root}: {len(rows):,} items; {len(clips):,} clips, {total}")
        if absent:
            what = f"{len(absent):,} clips that the rows name are in no file"
            self.say(f"{what} (first: {absent[0]}); their items cannot be answered")
        return not absent


def _place_of(name: str) -> str:
    """Return the path in the folder of a clip by the name of its file, whatever that is."""
    if re.fullmatch(r"[\w-][\w.-]{0,180}", name, re.ASCII):
        return f"{AUDIO_FOLDER}{name}"
    fit = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[:100]
    return f"{AUDIO_FOLDER}{fit}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _is_regular(path: Path) -> bool:
    try:
        stat_regular(path)
    except OSError:
        return False
    return True


def _json_rows(content: bytes, name: str) -> list[Row]:
    """Return the rows of JSON lines, or of a JSON list."""
    try:
        try:
            rows = json.loads(content)
        except ValueError:
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{name} is neither JSON nor JSON lines ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{name} holds no list of rows")
    return rows


def parquet_clips(
    path: Path, benchmark: Benchmark, rows: list[Row]
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the clips of a parquet; its rows are added to `rows`, with a clip's place in place of it."""
    import pyarrow.parquet

    assert benchmark.identify is not None
    column = benchmark.clip_column
    with _damage(path, "parquet file"), pyarrow.parquet.ParquetFile(path) as table:
        missing = set(benchmark.columns) - set(table.schema_arrow.names)
        if missing:
            raise DataError(f"{path.name} has no column {', '.join(sorted(missing))}")
        for batch in table.iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                cell = row[column] if isinstance(row[column], dict) else {}
                content, row[column] = cell.get("bytes"), None
                try:
                    name = benchmark.identify(row)[0]
                except RowError as error:
                    raise DataError(f"{path.name}: row {len(rows)}: {error}") from error
                if content is not None:
                    suffix = PurePosixPath(cell.get("path") or "").suffix or ".wav"
                    row[column] = _place_of(name + suffix)
                    yield row[column], iter([content])
                rows.append(row)


def tar_clips(path: Path, places: dict[str, str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the clips of a tar archive that rows name, by the names of their files alone."""
    seen: set[str] = set()
    total = 0
    with _damage(path, "tar archive"), tarfile.open(path, "r|*") as archive:
        for member in archive:
            total += member.size
            name = PurePosixPath(member.name).name
            if total > LARGEST_TOTAL:
                raise DataError(f"{path.name} declares more than {LARGEST_TOTAL:,} bytes")
            if not member.isreg() or name not in places:
                continue
            if member.size > LARGEST_MEMBER or name in seen:
                what = "is there twice" if name in seen else f"declares {member.size:,} bytes"
                raise DataError(f"{path.name}: {member.name!r} {what}")
            seen.add(name)
            yield places[name], _member_pieces(path, archive, member)


def _member_pieces(
    path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo
) -> Iterator[bytes]:
    left = member.size
    with _damage(path, "tar archive"):
        stream = archive.extractfile(member)
        assert stream is not None  # of a regular file there is one
        while left:
            piece = stream.read(min(left, _STEP))
            if not piece:
                raise DataError(f"{path.name}: {member.name!r} ends {left:,} bytes too early")
            left -= len(piece)
            yield piece


@contextlib.contextmanager
def _damage(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever damaged bytes lead `tarfile`, its decompressors and `pyarrow` to into one error."""
    try:
        yield
    except MMAUProError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        raise DataError(f"{path.name} is not readable as a {kind} ({error})") from error
