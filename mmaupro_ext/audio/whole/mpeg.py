"""Is a file of MPEG audio (MP3) whole? Judged by walking from frame to frame.

libsndfile plays as many frames as a tag in the first one states, or as it guesses from the length of
the file. So frames are counted here: where the file states no number or a wrong one, the decoder is
given the frames with the right one.

And what libmpg123, which libsndfile carries inside, says on stderr while it decodes: kept from the
terminal, and nothing else with it. There is no switch for its remarks, dozens of lines a damaged file,
none of which names the file. They go through C's `stderr`, a variable that holds a stream, and not
through Python's.
While a file is decoded that variable points to a stream in memory; then what stands there is sorted: lines
that libmpg123 is known to write go to the log, all others to where they were going. What Python writes, and
what goes to descriptor 2 itself, does not come this way at all. Threads decode side by side: the first one
to come changes the variable, the last one to leave changes it back.

With glibc only. Elsewhere the variable may be constant, or have another name, and the lines appear.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import re
import struct
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mmaupro_ext.audio.whole import DamagedError, Verdict

logger = logging.getLogger(__name__)

# An MPEG decoder may lack a frame at the start, whose bits stand in a frame before it.
MPEG_FRAME = 1152  # samples
ZEROS = re.compile(rb"\0+")
# Bytes after the last frame in which another one is looked for; so many are an error in any case.
SEARCHED = 1 << 16
LONGEST_MPEG_FRAME = 2881  # bytes, 320 kbit/s at 32 kHz and more for layer II
MPEG_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
# kbit/s by version (1, or 2 and 2.5) and layer.
KBITS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def id3v2_end(head: bytes) -> int:
    """Return the length of the ID3v2 tag that begins here, 0 where there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def of_mpeg(content: bytes, first: int = 0, end: int | None = None) -> Verdict:
    """Judge a file of MPEG audio, layers I to III.

    Parameters
    ----------
    content : bytes
        The file.
    first, end : int, optional
        Where in it the audio begins and ends, tags included.

    Returns
    -------
    Verdict
        With the pieces that libsndfile reads in full, if it does not read the file so: the frames
        alone, with a frame before them that states their number.

    Raises
    ------
    DamagedError
        If frames are missing by the file's own count, something that is no frame stands between
        frames, or frames of different kinds follow each other.
    """
    stop = len(content) if end is None else end
    runs, count = _mpeg_runs(content, _skip_tags(content, first, stop), stop)
    start = runs[0][0]
    kind = content[start + 1] & 0xFE
    layer, samples = 4 - (kind >> 1 & 3), _samples_of(kind)
    # Of what may stand before the frames, libsndfile knows one ID3 tag.
    plain = len(runs) == 1 and start in (0, id3v2_end(content))
    if layer != 3:  # no way to state a count; libsndfile's guess is checked against this one
        return Verdict(pieces=None if plain else tuple(runs), frames=count * samples)
    length = _mpeg_lengths(kind, content[start + 2])[content[start + 2]]
    tag = _count_tag(content[start : start + length])
    if tag is None:
        mended = _frame_with_count(content[start : start + 4], count)
        return Verdict(pieces=(mended, *runs), slack=MPEG_FRAME)
    place, stated, stated_bytes = tag
    count -= 1  # the frame with the tag holds no sound
    if count == 0:
        raise DamagedError("holds no MPEG frame with sound")
    present = sum(b - a for a, b in runs)
    # The bytes, where they are stated, say whether it is the count that is wrong; where they are not,
    # one frame may be missing, since some encoders count the frame with the tag.
    missing = stated > count + 1 if stated_bytes is None else stated_bytes > present
    if missing and stated > count:
        raise DamagedError(f"is cut short: it holds {count} of {stated} MPEG frames")
    if stated == count and plain and content[start + place : start + place + 4] != b"VBRI":
        return Verdict(slack=MPEG_FRAME)
    rest = ((start + length, runs[0][1]), *runs[1:])
    patched = _tag_with_count(content[start : start + length], place, count, stated == count)
    patched = patched or _frame_with_count(content[start : start + 4], count)
    return Verdict(pieces=(patched, *rest), slack=MPEG_FRAME)


def _samples_of(kind: int) -> int:
    """Return samples of a frame by the second byte of its header."""
    layer = 4 - (kind >> 1 & 3)
    return 384 if layer == 1 else 576 if layer == 3 and kind >> 3 & 3 != 3 else 1152


def _mpeg_lengths(kind: int, third: int) -> list[int]:
    """Return the length of a frame in bytes for each third byte of a header; 0 for another stream's.

    `kind` is the second byte of all headers of a stream, without its lowest bit, and `third` the third
    byte of one of them.
    """
    lengths = [0] * 256
    version, layer = kind >> 3 & 3, 4 - (kind >> 1 & 3)
    if kind & 0xE0 != 0xE0 or version == 1 or layer == 4 or third >> 2 & 3 == 3:
        return lengths
    rate = MPEG_RATES[version][third >> 2 & 3]
    for index, kbits in enumerate(KBITS[1 if version == 3 else 2, layer]):
        for padding in range(2 if kbits else 0):
            if layer == 1:
                length = (12000 * kbits // rate + padding) * 4
            else:
                length = _samples_of(kind) // 8 * 1000 * kbits // rate + padding
            for private in (0, 1):
                lengths[index << 4 | third & 0x0C | padding << 1 | private] = length
    return lengths


def _mpeg_runs(content: bytes, at: int, stop: int) -> tuple[list[tuple[int, int]], int]:
    """Return the ranges of frames that follow each other without a gap, and the number of frames."""
    if at + 4 > stop or content[at] != 0xFF:
        raise DamagedError("has no MPEG frame at its beginning")
    kind, mono = content[at + 1] & 0xFE, content[at + 3] >= 0xC0
    lengths = _mpeg_lengths(kind, content[at + 2])
    if not lengths[content[at + 2]]:
        if content[at + 2] >> 4 == 0 and any(lengths):
            raise DamagedError("is MPEG audio of free format")
        raise DamagedError("has no MPEG frame at its beginning")
    runs, count = [], 0
    while True:
        begin = at
        while (
            at + 4 <= stop
            and content[at] == 0xFF
            and content[at + 1] & 0xFE == kind
            and (content[at + 3] >= 0xC0) == mono
            and (length := lengths[content[at + 2]])
        ):
            at += length
            count += 1
        if at > begin:
            runs.append((begin, at))
        if at > stop:
            raise DamagedError(f"is cut short: it ends inside MPEG frame {count}")
        after = _skip_tags(content, at, stop)
        if after == at:
            break
        at = after
    _check_mpeg_tail(content, at, stop, kind, lengths, count)
    return runs, count


def _check_mpeg_tail(
    content: bytes, at: int, stop: int, kind: int, lengths: list[int], count: int
) -> None:
    """Raise DamagedError if there may be sound in what follows the frames."""
    if at >= stop:
        return
    if at + 4 <= stop and content[at] == 0xFF and _is_frame(content, at, stop):
        raise DamagedError(
            f"holds 2 streams, one after the other: MPEG frame {count} is of another kind"
        )
    sync, far = bytes((0xFF,)), min(stop, at + SEARCHED)
    place = content.find(sync, at, far)
    while 0 <= place < stop - 4:
        if (
            content[place + 1] & 0xFE == kind
            and lengths[content[place + 2]]
            and _is_frame(content, place, stop)
        ):
            raise DamagedError(f"has {place - at} bytes after MPEG frame {count} that are no frame")
        place = content.find(sync, place + 1, far)
    if stop - at > LONGEST_MPEG_FRAME:
        raise DamagedError(f"has {stop - at} bytes after its last MPEG frame that are no tag")
    if stop - at < 4 and content[at] == 0xFF:
        raise DamagedError(f"is cut short: it ends inside MPEG frame {count + 1}")


def _is_frame(content: bytes, at: int, stop: int) -> bool:
    """Return whether an MPEG frame of any kind begins here and another one, or the end, follows."""
    kind = content[at + 1] & 0xFE
    lengths = _mpeg_lengths(kind, content[at + 2])
    after = at + lengths[content[at + 2]]
    if after == at:
        return False
    if after + 4 > stop:
        return after == stop
    return (
        content[after] == 0xFF
        and content[after + 1] & 0xFE == kind
        and lengths[content[after + 2]] > 0
    )


def _skip_tags(content: bytes, at: int, stop: int) -> int:
    """Return the place after tags (ID3, APE, Lyrics3) and zeros that begin here."""
    while at < stop:
        head = content[at : at + 32]
        if length := id3v2_end(head):
            at += length
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            size, flags = struct.unpack_from("<I4xI", head, 12)
            at += size + 32 if flags & 0x20000000 else 32
        elif head[:4] == b"TAG+":
            at += 227
        elif head[:3] == b"TAG":
            at += 128
        elif head[:11] == b"LYRICSBEGIN":
            ends = [content.find(mark, at, stop) for mark in (b"LYRICS200", b"LYRICSEND")]
            if max(ends) < 0:
                break
            at = min(end for end in ends if end >= 0) + 9
        elif zeros := ZEROS.match(content, at, stop):
            at = zeros.end()
        else:
            break
    return min(at, stop)


def _count_tag(frame: bytes) -> tuple[int, int, int | None] | None:
    """Return place, stated frames and stated bytes of a tag in a first frame, or None."""
    for place in range(4, min(48, len(frame) - 8)):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            flags = struct.unpack_from(">I", frame, place + 4)[0]
            words = struct.unpack_from(">2I", frame[place + 8 : place + 16].ljust(8, b"\0"))
            frames = words[0] if flags & 1 else 0
            size = words[flags & 1] if flags & 2 else None
            return place, frames, size or None
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        size, frames = struct.unpack_from(">2I", frame, 46)
        return 36, frames, size or None
    return None


def _tag_with_count(frame: bytes, place: int, count: int, trusted: bool) -> bytes | None:
    """Return a Xing or Info frame with another count; None if it has no room for one."""
    flags = struct.unpack_from(">I", frame, place + 4)[0]
    if frame[place : place + 4] == b"VBRI" or not flags & 1:
        return None
    changed = bytearray(frame)
    struct.pack_into(">I", changed, place + 8, count)
    lame = place + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    # Samples to leave out at the end were meant for another end.
    if not trusted and len(changed) >= lame + 24:
        changed[lame + 22] &= 0xF0
        changed[lame + 23] = 0
    return bytes(changed)


def _frame_with_count(header: bytes, count: int) -> bytes:
    """Return an Info frame for a stream of layer III whose frames have such a header."""
    kind, third = header[1] & 0xFE, header[2] & 0x0C
    lengths = _mpeg_lengths(kind, header[2])
    mono, newest = header[3] >= 0xC0, kind >> 3 & 3 == 3
    place = 4 + ((17 if mono else 32) if newest else (9 if mono else 17))
    index = next(i for i in range(1, 15) if lengths[i << 4 | third] >= place + 16)
    frame = bytearray(lengths[index << 4 | third])
    frame[:4] = (0xFF, kind | 1, index << 4 | third, header[3])
    frame[place : place + 12] = b"Info" + struct.pack(">2I", 1, count)
    return bytes(frame)


# ---- what libmpg123 says --------------------------------------------------------------------------

# In libmpg123's words: what its sources print with a place, and the notes of its resynchronisation.
_REMARKS = re.compile(
    rb"\[src/libmpg123/|"
    rb"Note: (Trying to resync|Hit end of \(available\) data|Illegal Audio-MPEG-Header|Skipped |"
    rb"Input data end|Junk at the beginning|Could be a BMP|Looks like |Missing zero byte)|"
    rb"Warning: (Xing stream size off|Encountered more data|Real sample count|Cannot look)"
)


class _Diversion:
    """C's `stderr` turned to a file in memory while anybody decodes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(self._libc, "stderr")
        self._file = os.memfd_create("stderr")
        self._libc.fdopen.restype = ctypes.c_void_p
        self._stream = self._libc.fdopen(self._file, b"w")  # never closed: a late writer finds it
        if not self._stream:
            raise OSError("no stream for stderr")
        # Unbuffered, as stderr is: each message is in the file once it is printed.
        self._libc.setvbuf(ctypes.c_void_p(self._stream), None, 2, ctypes.c_size_t(0))
        self._lock = threading.Lock()
        self._users = 0
        self._usual: int | None = None
        self._read = 0  # bytes of the file that were sent on
        atexit.register(self._sort)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._usual = self._variable.value
                self._variable.value = self._stream
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._variable.value = self._usual
            self._sort()

    def _sort(self) -> None:
        """Send what has been written where it belongs; a line without an end waits for it."""
        # Nothing is cut off here: whoever is writing at this moment goes on behind what is read.
        new = os.pread(self._file, os.fstat(self._file).st_size - self._read, self._read)
        if self._users:
            new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        blank = b""  # libmpg123 begins some of its notes with an empty line
        for line in new.splitlines(keepends=True):
            if _REMARKS.match(line):
                logger.debug("libmpg123: %s", line.decode(errors="replace").strip())
                blank = b""
            elif not line.strip():
                blank += line
            else:
                os.write(2, blank + line)
                blank = b""
        if blank:
            os.write(2, blank)


@functools.cache
def _diversion() -> Any:
    try:
        glibc = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
        return _Diversion() if glibc else contextlib.nullcontext()
    except (OSError, ValueError, AttributeError):
        return contextlib.nullcontext()


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Decode, with what libmpg123 says of it in the log and not on the terminal."""
    with _diversion():
        yield
