"""Read members of a zip archive that may be remote, large and hostile.

`zipfile` reads the central directory; the members themselves are read here from any stream of
their bytes, so that they can come from HTTP ranges, several at a time, without the archive ever
being on disk. Nothing that an archive says is believed: names are checked before any file is
made, declared sizes bound what is written, and each member must have the size and the CRC-32 that
the central directory states.

Source of the format: PKWARE, APPNOTE.TXT - .ZIP File Format Specification 6.3.10.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from mmaupro_ext.errors import DataError

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
LARGEST_MEMBER = 2 << 30  # bytes; ten minutes of 32-bit stereo at 192 kHz are 0.9 GiB
LARGEST_TOTAL = 256 << 30  # bytes; the released archive declares about 53 GB
MOST_MEMBERS = 100_000  # the released archive holds 5,787
AUDIO_FOLDER = "data/"

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # encrypted, strong encryption, masked headers
_OUTPUT_STEP = 1 << 20


class DamagedMember(Exception):  # noqa: N818 - a state of the bytes that leads to a new attempt
    """The bytes of a member are not those that the central directory promises."""


@dataclass(frozen=True)
class Member:
    """One file of the archive.

    Parameters
    ----------
    name : str
        Relative path with forward slashes.
    size : int
        Bytes after decompression.
    packed : int
        Bytes in the archive.
    crc : int
        CRC-32 of the decompressed bytes.
    method : int
        `STORED` or `DEFLATED`.
    start, stop : int
        Offsets in the archive, in bytes: the local header, and the next thing after the member.
    """

    name: str
    size: int
    packed: int
    crc: int
    method: int
    start: int
    stop: int


@dataclass(frozen=True)
class Directory:
    """What the central directory lists, after every check.

    Parameters
    ----------
    members : tuple of Member
        The files under `data/`, in archive order.
    ignored : tuple of str
        Harmless names outside `data/`, which are never extracted.
    """

    members: tuple[Member, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """Members that lie close together and are read with one request.

    Parameters
    ----------
    members : tuple of Member
        In archive order.
    start, stop : int
        Offsets in the archive, in bytes.
    """

    members: tuple[Member, ...]
    start: int
    stop: int


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


def read_directory(source: BinaryIO, name: str = "data.zip") -> Directory:
    """Read and check the central directory of an archive.

    Parameters
    ----------
    source : binary file
        Seekable; only the end of the archive is read.
    name : str
        The archive's name, for messages.

    Returns
    -------
    Directory
        The files under `data/` and the names that are left alone.

    Raises
    ------
    DataError
        When it is no zip archive, or one that is not safe to extract: absolute names, `..`,
        links and other special files, names that are the same file twice, overlapping members,
        encryption, compression other than none and deflate, or sizes beyond reason.
    """
    fix = "Nothing was extracted from it. Compare the host and the revision with the documentation."
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            end = archive.start_dir
    except (zipfile.BadZipFile, UnicodeDecodeError, struct.error, ValueError, EOFError) as error:
        raise DataError(f"{name} is not a readable zip archive ({error}). {fix}") from error
    if len(entries) > MOST_MEMBERS:
        raise DataError(f"{name} lists {len(entries):,} entries, more than {MOST_MEMBERS:,}. {fix}")
    try:
        return _checked(entries, end)
    except _Unsafe as problem:
        raise DataError(f"{name} is not safe to extract: {problem}. {fix}") from None


class _Unsafe(Exception):  # noqa: N818 - never leaves this module
    pass


def _checked(entries: list[zipfile.ZipInfo], end: int) -> Directory:
    members: list[Member] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    limits = [entry.header_offset for entry in ordered[1:]] + [end]
    for entry, stop in zip(ordered, limits, strict=True):
        _check_entry(entry, stop)
        if entry.is_dir():
            continue
        # Two names that differ in case only are one file on macOS and Windows.
        earlier = seen.setdefault(entry.filename.casefold(), entry.filename)
        if earlier is not entry.filename:
            raise _Unsafe(f"{entry.filename!r} is listed twice (as {earlier!r} before)")
        if not entry.filename.startswith(AUDIO_FOLDER):
            ignored.append(entry.filename)
            continue
        members.append(
            Member(
                name=entry.filename,
                size=entry.file_size,
                packed=entry.compress_size,
                crc=entry.CRC,
                method=entry.compress_type,
                start=entry.header_offset,
                stop=stop,
            )
        )
    folders = {"/".join(member.name.split("/")[:-1]).casefold() for member in members}
    for key in folders & seen.keys():
        raise _Unsafe(f"{seen[key]!r} is both a file and a folder")
    total = sum(member.size for member in members)
    if total > LARGEST_TOTAL:
        raise _Unsafe(f"its files declare {total:,} bytes, more than {LARGEST_TOTAL:,}")
    return Directory(tuple(members), tuple(ignored))


def _check_entry(entry: zipfile.ZipInfo, stop: int) -> None:
    name = entry.filename
    _check_name(entry.orig_filename, name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise _Unsafe(f"{name!r} is {what}")
    if entry.flag_bits & _ENCRYPTED:
        raise _Unsafe(f"{name!r} is encrypted")
    if entry.compress_type not in (STORED, DEFLATED):
        raise _Unsafe(f"{name!r} uses compression method {entry.compress_type} (0 and 8 are read)")
    if entry.file_size > LARGEST_MEMBER:
        raise _Unsafe(f"{name!r} declares {entry.file_size:,} bytes")
    if entry.compress_type == STORED and entry.compress_size != entry.file_size:
        raise _Unsafe(f"{name!r} is not compressed and yet declares two sizes")
    # In any encoding a name takes at least one byte per character.
    header = _LOCAL_HEADER.size + len(entry.orig_filename)
    if entry.header_offset < 0 or entry.header_offset + header + entry.compress_size > stop:
        raise _Unsafe(f"{name!r} overlaps what follows it in the archive")


def _check_name(original: str, name: str) -> None:
    parts = name.rstrip("/").split("/")
    if original != name or not name.isprintable():
        raise _Unsafe(f"the name {original!r} has characters that hide its end")
    if name.startswith("/") or "\\" in name or ":" in name:
        raise _Unsafe(f"the name {name!r} is absolute or not portable")
    if any(part in ("", ".", "..") for part in parts):
        raise _Unsafe(f"the name {name!r} leads out of the folder")
    if any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        raise _Unsafe(f"a name of {len(name)} characters is too long for a file system")


def plan_runs(
    members: Iterable[Member], longest: int = 64 << 20, largest_gap: int = 256 << 10
) -> list[Run]:
    """Group members into long reads.

    Parameters
    ----------
    members : iterable of Member
        What is wanted, in any order.
    longest : int
        Bytes of one run, unless a single member is longer.
    largest_gap : int
        Unwanted bytes between two members that cost less than another request.

    Returns
    -------
    list of Run
        In archive order; every member is in exactly one.
    """
    runs: list[Run] = []
    group: list[Member] = []
    for member in sorted(members, key=lambda item: item.start):
        fits = (
            group
            and member.start - group[-1].stop <= largest_gap
            and member.stop - group[0].start <= longest
        )
        if group and not fits:
            runs.append(Run(tuple(group), group[0].start, group[-1].stop))
            group = []
        group.append(member)
    if group:
        runs.append(Run(tuple(group), group[0].start, group[-1].stop))
    return runs


class Unpacker:
    """Turn the bytes of one member, from its local header on, into the file that it holds.

    Parameters
    ----------
    member : Member
        What the central directory says.
    sink : object with write(bytes)
        Receives the decompressed bytes, never more than `member.size`.
    """

    def __init__(self, member: Member, sink: _Sink) -> None:
        self._member, self._sink = member, sink
        self._header = bytearray()
        self._header_size = _LOCAL_HEADER.size
        self._packed_left = member.packed
        self._written = 0
        self._crc = 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the archive.

        Parameters
        ----------
        chunk : bytes
            Any length; bytes after the end of the member's data are ignored.

        Raises
        ------
        DamagedMember
            As soon as the bytes cannot be those of the member.
        """
        while chunk and len(self._header) < self._header_size:
            missing = self._header_size - len(self._header)
            self._header += chunk[:missing]
            chunk = chunk[missing:]
            if len(self._header) == self._header_size == _LOCAL_HEADER.size:
                self._header_size += self._variable_length()
            if len(self._header) == self._header_size:
                self._check_local_name()
        data, self._packed_left = chunk[: self._packed_left], max(0, self._packed_left - len(chunk))
        if not data:
            return
        if self._inflater is None:
            self._write(data)
            return
        try:
            while data:
                self._write(self._inflater.decompress(data, _OUTPUT_STEP))
                data = self._inflater.unconsumed_tail
        except zlib.error as error:
            raise DamagedMember(f"its compressed bytes are not readable ({error})") from None

    def finish(self) -> None:
        """Check that the member is complete.

        Raises
        ------
        DamagedMember
            When its size or its CRC-32 is not what the central directory states.
        """
        member = self._member
        if self._inflater is not None:
            try:
                # Output that the size limit of the last step left behind.
                while not self._inflater.eof:
                    rest = self._inflater.decompress(b"", _OUTPUT_STEP)
                    if not rest:
                        raise DamagedMember("its compressed bytes end too early")
                    self._write(rest)
            except zlib.error as error:
                raise DamagedMember(f"its compressed bytes are not readable ({error})") from None
        if self._written != member.size:
            raise DamagedMember(f"it has {self._written:,} bytes, {member.size:,} are declared")
        if self._crc != member.crc:
            raise DamagedMember(f"its CRC-32 is {self._crc:08x}, {member.crc:08x} is declared")

    def _variable_length(self) -> int:
        fields = _LOCAL_HEADER.unpack(bytes(self._header))
        if fields[0] != _LOCAL_SIGNATURE:
            raise DamagedMember("no member begins where the central directory says")
        length = int(fields[9]) + int(fields[10])
        if (
            _LOCAL_HEADER.size + length + self._member.packed
            > self._member.stop - self._member.start
        ):
            raise DamagedMember("its local header is longer than its place in the archive")
        return length

    def _check_local_name(self) -> None:
        length = int.from_bytes(self._header[26:28], "little")
        start = _LOCAL_HEADER.size
        name = bytes(self._header[start : start + length])
        if self._member.name not in (name.decode("utf-8", "replace"), name.decode("cp437")):
            raise DamagedMember(f"its local header has the name {name!r}")

    def _write(self, data: bytes) -> None:
        self._written += len(data)
        if self._written > self._member.size:
            raise DamagedMember(f"it unpacks to more than the {self._member.size:,} bytes declared")
        self._crc = zlib.crc32(data, self._crc)
        self._sink.write(data)
