"""Members of a zip archive that may be remote, large and hostile.

`zipfile` reads the central directory, decompresses, and compares with the CRC-32. Added is what it
leaves to its users: nothing that an archive says is believed before it is checked (names, kinds,
sizes, overlaps), so that nothing outside data/ and not one byte more than was declared is written;
whatever damage does to `zipfile`, there is one error; and members are read from any stream of their
bytes, several from one request.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER
from mmaupro_ext.errors import DataError, MMAUProError
from mmaupro_ext.fan_out import StoppedError

LARGEST_MEMBER = 2 << 30  # bytes; ten minutes of 32-bit stereo at 192 kHz are 0.9 GiB
LARGEST_TOTAL = 256 << 30  # bytes; the released archive declares about 53 GB
MOST_MEMBERS = 100_000  # the released archive holds 5,787

# PKWARE, APPNOTE.TXT 6.3.10, 4.3.7: signature, 22 bytes that the directory states as well, lengths
# of name and extra field.
_LOCAL_HEADER = struct.Struct("<4s22x2H")
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # encrypted, strong encryption, masked headers


class DamagedMember(Exception):  # noqa: N818 - a state of the bytes that leads to a new attempt
    """The bytes of a member are not those that the central directory promises."""


class _Unsafe(Exception): ...  # noqa: N818 - never leaves this module


@dataclass(frozen=True)
class Member:
    """One file of the archive: path, bytes and CRC-32 once it is unpacked, and its place.

    `start` and `stop` are offsets in the archive: of its local header, and of what follows it.
    """

    name: str
    size: int
    crc: int
    start: int
    stop: int
    info: zipfile.ZipInfo | None = None


class _Tail(io.BytesIO):
    """The end of a file of `size` bytes, which is all that a central directory needs."""

    def __init__(self, tail: bytes, size: int) -> None:
        super().__init__(tail)
        self._before = size - len(tail)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = super().seek(offset - (0 if whence else self._before), whence)
        return at + self._before

    def tell(self) -> int:
        return super().tell() + self._before


def read_directory(tail: bytes, size: int) -> tuple[list[Member], list[str]]:
    """Read and check the central directory of an archive.

    Parameters
    ----------
    tail : bytes
        The end of the archive of `size` bytes, or all of it.
    size : int
        Bytes of the archive.

    Returns
    -------
    members : list of Member
        The files under `data/`, in archive order.
    ignored : list of str
        Harmless names outside `data/`, which are never extracted.

    Raises
    ------
    DataError
        When it is no zip archive, its directory is longer than the tail, or it is not safe to extract.
    """
    fix = "Nothing was extracted from it. Check the host, --repo and --revision."
    try:
        with zipfile.ZipFile(_Tail(tail, size)) as archive:
            return _checked(archive.infolist(), archive.start_dir)
    except _Unsafe as problem:
        raise DataError(f"{ARCHIVE} is not safe to extract: {problem}. {fix}") from None
    except Exception as error:
        raise DataError(f"{ARCHIVE} is not a readable zip archive ({error}). {fix}") from error


def _checked(entries: list[zipfile.ZipInfo], end: int) -> tuple[list[Member], list[str]]:
    if len(entries) > MOST_MEMBERS:
        raise _Unsafe(f"it lists {len(entries):,} entries, more than {MOST_MEMBERS:,}")
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
            raise _Unsafe(f"{entry.filename!r} is listed twice (as {earlier!r} before)")
        if entry.filename.startswith(AUDIO_FOLDER):
            what = (entry.filename, entry.file_size, entry.CRC)
            members.append(Member(*what, entry.header_offset, stop, entry))
        else:
            ignored.append(entry.filename)
    folders = {member.name.rpartition("/")[0].casefold() for member in members}
    for key in folders & seen.keys():
        raise _Unsafe(f"{seen[key]!r} is both a file and a folder")
    total = sum(member.size for member in members)
    if total > LARGEST_TOTAL:
        raise _Unsafe(f"its files declare {total:,} bytes, more than {LARGEST_TOTAL:,}")
    return members, ignored


def _check_entry(entry: zipfile.ZipInfo, stop: int) -> None:
    name = entry.filename
    _check_name(entry.orig_filename, name)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a special file"
        raise _Unsafe(f"{name!r} is {what}")
    if entry.flag_bits & _ENCRYPTED:
        raise _Unsafe(f"{name!r} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _Unsafe(f"{name!r} uses compression method {entry.compress_type} (0 and 8 are read)")
    if entry.file_size > LARGEST_MEMBER:
        raise _Unsafe(f"{name!r} declares {entry.file_size:,} bytes")
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
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


def plan_runs(members: Iterable[Member], longest: int, largest_gap: int) -> list[list[Member]]:
    """Group members into long reads; every member is in exactly one, in archive order.

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


class Pieces:
    """Bytes that arrive in pieces, from offset `position` on, as a file to read forward."""

    def __init__(self, pieces: Iterator[bytes], position: int) -> None:
        self._pieces, self.position, self._rest = pieces, position, b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, none at the end."""
        piece = self._rest or next(self._pieces, b"")
        piece, self._rest = piece[:size], piece[size:]
        self.position += len(piece)
        return piece

    def exactly(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        found = b""
        while len(found) < size and (piece := self.read(size - len(found))):
            found += piece
        return found

    def skip_to(self, position: int) -> None:
        """Throw away what comes before a position."""
        while self.position < position and self.read(position - self.position):
            pass


def unpack(source: Pieces, member: Member) -> Iterator[bytes]:
    """Yield the bytes of a member, never more than it declares, checked at their end.

    Parameters
    ----------
    source : Pieces
        Before `member.start` or there; afterwards somewhere in the member, or at its end.
    member : Member
        From `read_directory`.

    Raises
    ------
    DamagedMember
        As soon as the bytes cannot be those that the central directory promises.
    """
    left = member.size
    try:
        source.skip_to(member.start)
        signature, length, extra = _LOCAL_HEADER.unpack(source.exactly(_LOCAL_HEADER.size))
        name = source.exactly(length)
        names = (name.decode("utf-8", "replace"), name.decode("cp437"))
        if signature != b"PK\3\4" or member.name not in names:
            raise DamagedMember(f"another member, {name!r}, is where it should begin")
        source.exactly(extra)
        unpacked = zipfile.ZipExtFile(source, "r", member.info)  # type: ignore[call-overload]
        while left:
            piece = unpacked.read(1 << 20)
            if not piece:
                raise DamagedMember(f"it ends {left:,} bytes too early")
            left -= len(piece)
            yield piece
        unpacked.read(1)  # compares the CRC-32 of what is empty, too
    except (MMAUProError, StoppedError, DamagedMember):  # of the network, or said already
        raise
    except Exception as error:  # damaged bytes lead zipfile to any of a dozen kinds
        raise DamagedMember(str(error) or "its bytes end too early") from None
