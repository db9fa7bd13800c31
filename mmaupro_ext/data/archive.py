"""The clips that a released file holds, which may be large, remote, damaged and hostile.

`zipfile`, `tarfile` and `pyarrow` read. Added is what they leave to their users: nothing that a file
says is believed before it is checked (names, kinds, sizes, overlaps), so that nothing outside data/
and not one byte more than was declared is written; whatever damage leads them to, there is one error;
and members of a zip are read from any stream of their bytes, several from one request.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import re
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from mmaupro_ext.benchmarks import Benchmark, RowError
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER
from mmaupro_ext.errors import DataError, MMAUProError

T = TypeVar("T")
Row = dict[str, Any]
Clip = tuple[str, Iterator[bytes]]  # its place in the folder, and its bytes

LARGEST_MEMBER = 2 << 30  # bytes; ten minutes of 32-bit stereo at 192 kHz are 0.9 GiB
LARGEST_TOTAL = 256 << 30  # bytes; the released zip declares about 53 GB
MOST_MEMBERS = 100_000  # the released zip holds 5,787

_STEP = 1 << 20  # bytes that are unpacked at once
_ROWS_AT_ONCE = 8  # with their clips, which a parquet holds inside
# PKWARE, APPNOTE.TXT 6.3.10, 4.3.7: signature, 22 bytes that the directory states as well, lengths
# of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22x2H")
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # encrypted, strong encryption, masked headers


class DamagedMember(Exception):  # noqa: N818 - a state of the bytes that leads to a new attempt
    """The bytes of a member are not those that the central directory promises."""


@dataclass(frozen=True)
class Member:
    """One file of a zip: path, bytes and CRC-32 once it is unpacked, and its place.

    `start` and `stop` are offsets in the zip: of its local header, and of what follows it.
    """

    name: str
    size: int
    crc: int
    start: int
    stop: int
    info: zipfile.ZipInfo | None = None


class Pieces:
    """Bytes that arrive in pieces, from offset `start` on, as a file of `size` bytes to read forward.

    Of what was read the last piece is kept; within it one may go back.
    """

    def __init__(self, pieces: Iterator[bytes], start: int, size: int = 0) -> None:
        self._pieces, self._piece, self._start = pieces, b"", start
        self._position, self._size = start, size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset, from the file's start or its end."""
        self._position = max(0, offset + (self._size if whence == io.SEEK_END else 0))
        return self._position

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._position

    def read(self, size: int = sys.maxsize) -> bytes:
        """Return the next bytes, fewer than `size` at the end alone."""
        found = bytearray()
        while len(found) < size:
            at = self._position - self._start
            if at < 0:
                raise ValueError("its table of contents begins earlier than it states")
            part = self._piece[at : at + size - len(found)]
            if not part:
                piece = next(self._pieces, b"")
                if not piece:
                    break
                self._start, self._piece = self._start + len(self._piece), piece
            found += part
            self._position += len(part)
        return bytes(found)


def read_directory(tail: bytes, size: int) -> tuple[list[Member], list[str]]:
    """Return the files under data/ in a zip's table of contents, and the harmless names outside it.

    `tail` is the end of a zip of `size` bytes, or all of it. DataError when it is no zip, when the table
    is longer than the tail, and when it is not safe to extract.
    """
    source: Any = Pieces(iter([tail]), size - len(tail), size)
    with (
        _one_error(DataError, f"{ARCHIVE} is not a readable zip archive"),
        zipfile.ZipFile(source) as zipped,
    ):
        return _checked(zipped.infolist(), zipped.start_dir)


def _unsafe(problem: str) -> DataError:
    fix = "Nothing was extracted from it. Check the host, --repo and --revision."
    return DataError(f"{ARCHIVE} is not safe to extract: {problem}. {fix}")


def _checked(entries: list[zipfile.ZipInfo], end: int) -> tuple[list[Member], list[str]]:
    if len(entries) > MOST_MEMBERS:
        raise _unsafe(f"it lists {len(entries):,} entries, more than {MOST_MEMBERS:,}")
    members: list[Member] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    limits = [*(entry.header_offset for entry in ordered), end][1:]
    for entry, stop in zip(ordered, limits, strict=True):
        _check_entry(entry, stop)
        if entry.is_dir():
            continue
        # Two names that differ in case only are one file on macOS and Windows.
        earlier = seen.setdefault(entry.filename.casefold(), entry.filename)
        if earlier is not entry.filename:
            raise _unsafe(f"{entry.filename!r} is listed twice (as {earlier!r} before)")
        if entry.filename.startswith(AUDIO_FOLDER):
            what = (entry.filename, entry.file_size, entry.CRC)
            members.append(Member(*what, entry.header_offset, stop, entry))
        else:
            ignored.append(entry.filename)
    folders = {member.name.rpartition("/")[0].casefold() for member in members}
    for key in folders & seen.keys():
        raise _unsafe(f"{seen[key]!r} is both a file and a folder")
    total = sum(member.size for member in members)
    if total > LARGEST_TOTAL:
        raise _unsafe(f"its files declare {total:,} bytes, more than {LARGEST_TOTAL:,}")
    return members, ignored


def _check_entry(entry: zipfile.ZipInfo, stop: int) -> None:
    name, original = entry.filename, entry.orig_filename
    parts = name.rstrip("/").split("/")
    if original != name or not name.isprintable():
        raise _unsafe(f"the name {original!r} has characters that hide its end")
    if name.startswith("/") or "\\" in name or ":" in name:
        raise _unsafe(f"the name {name!r} is absolute or not portable")
    if any(part in ("", ".", "..") for part in parts):
        raise _unsafe(f"the name {name!r} leads out of the folder")
    if any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise _unsafe(f"a name of {len(name)} characters is too long for a file system")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise _unsafe(f"{name!r} is {what}")
    if entry.flag_bits & _ENCRYPTED:
        raise _unsafe(f"{name!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _unsafe(f"{name!r} uses compression method {entry.compress_type} (0 and 8 are read)")
    if entry.file_size > LARGEST_MEMBER:
        raise _unsafe(f"{name!r} declares {entry.file_size:,} bytes")
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        raise _unsafe(f"{name!r} is not compressed and yet declares two sizes")
    # In any encoding a name takes at least one byte per character.
    header = _LOCAL_HEADER.size + len(original)
    if entry.header_offset < 0 or entry.header_offset + header + entry.compress_size > stop:
        raise _unsafe(f"{name!r} overlaps what follows it in the archive")


def plan_runs(members: Iterable[Member], longest: int, largest_gap: int) -> list[list[Member]]:
    """Group members into long reads; every member is in exactly one, in the zip's order.

    A run has at most `longest` bytes, unless a single member is longer, and between its members at
    most `largest_gap` bytes that nobody wants.
    """
    runs: list[list[Member]] = []
    for member in sorted(members, key=lambda item: item.start):
        last = runs[-1] if runs else [member]
        near = member.start - last[-1].stop <= largest_gap
        if runs and near and member.stop - last[0].start <= longest:
            last.append(member)
        else:
            runs.append([member])
    return runs


def unpack(source: Pieces, member: Member) -> Iterator[bytes]:
    """Yield the bytes of a member of a zip, never more than it declares, checked at their end.

    `source` is before the member or at its start, and somewhere in it afterwards. `DamagedMember` as soon
    as the bytes cannot be those that the table of contents promises.
    """
    left = member.size
    with _one_error(DamagedMember, ""):
        source.seek(member.start)
        signature, length, extra = _LOCAL_HEADER.unpack(source.read(_LOCAL_HEADER.size))
        name = source.read(length)
        names = (name.decode("utf-8", "replace"), name.decode("cp437"))
        if signature != b"PK\3\4" or member.name not in names:
            raise DamagedMember(f"another member, {name!r}, is where it should begin")
        source.read(extra)
        unpacked = zipfile.ZipExtFile(source, "r", member.info)  # type: ignore[call-overload]
        # Never more than the size that `info` states; the last read compares the CRC-32.
        while piece := unpacked.read(_STEP):
            left -= len(piece)
            yield piece
        if left:
            raise DamagedMember(f"it ends {left:,} bytes too early")


def clips_of(path: Path, benchmark: Benchmark, named: list[Row], rows: list[Row]) -> Iterator[Clip]:
    """Yield the clips of a tar archive, which rows name, or of a parquet, whose rows are added to `rows`.

    Nothing in a file says where a clip is written: for a parquet the row's id does, for a tar archive
    what the row calls it. DataError when the file is damaged, or holds more than is reasonable.
    """
    if path.suffix == ".parquet":
        kind, clips = "parquet file", _parquet_clips(path, benchmark, rows)
    else:
        places = [row[benchmark.clip_column] for row in named if row.get(benchmark.clip_column)]
        members = {PurePosixPath(place).name: place for place in places if isinstance(place, str)}
        kind, clips = "tar archive", _tar_clips(path, members)
    what = f"{path.name} is not readable as a {kind}"
    for name, content in _guarded(clips, what):
        yield name, _guarded(content, what)


def place_of(name: str) -> str:
    """Return the path in the folder of a clip by the name of its file, whatever that is."""
    if re.fullmatch(r"[\w-][\w.-]{0,180}", name, re.ASCII):
        return f"{AUDIO_FOLDER}{name}"
    fit = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[:100]
    return f"{AUDIO_FOLDER}{fit}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]}"


def _parquet_clips(path: Path, benchmark: Benchmark, rows: list[Row]) -> Iterator[Clip]:
    import pyarrow.parquet

    assert benchmark.identify is not None
    column = benchmark.clip_column
    with pyarrow.parquet.ParquetFile(path) as table:
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
                    row[column] = place_of(name + suffix)
                    yield row[column], iter([content])
                rows.append(row)


def _tar_clips(path: Path, places: dict[str, str]) -> Iterator[Clip]:
    seen: set[str] = set()
    total = 0
    with tarfile.open(path, "r|*") as archive:
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
            stream = archive.extractfile(member)
            assert stream is not None  # of a regular file there is one
            yield places[name], iter(functools.partial(stream.read, _STEP), b"")


def _guarded(items: Iterator[T], what: str) -> Iterator[T]:
    with _one_error(DataError, what):
        yield from items


@contextlib.contextmanager
def _one_error(kind: type[Exception], what: str) -> Iterator[None]:
    """Make one error of whatever damaged bytes lead a library to: a dozen kinds were seen."""
    try:
        yield
    except (MMAUProError, DamagedMember):  # said already, or of the network
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the disk
            raise
        raise kind(f"{what} ({error})" if what else str(error)) from error
