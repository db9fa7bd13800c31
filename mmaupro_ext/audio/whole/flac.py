"""Is a FLAC file whole? Judged by the last of its frames, each of which states its place.

libsndfile plays as many samples as the header states, which may be too few, or none if the file was
written to a pipe.
"""

from __future__ import annotations

from mmaupro_ext.audio.whole import DamagedError, Source, Verdict

BLOCK = 1 << 16  # bytes, read at a time: larger ones cost new pages


def of_flac(source: Source, first: int = 0) -> Verdict:
    """Judge a FLAC file; whether its frames are sound is left to the decoder, which checks them.

    Parameters
    ----------
    source : Source
        The file.
    first : int
        Where in the file it begins: behind a tag.

    Raises
    ------
    DamagedError
        If the header counts more samples than the last frame reaches.
    """
    info = source.read(first + 4, 38)
    if len(info) < 38 or info[0] & 0x7F != 0:
        raise DamagedError("is FLAC without its first block")
    stated = int.from_bytes(info[4 + 13 : 4 + 18], "big") & 0xFFFFFFFFF
    start = first + 4
    while len(head := source.read(start, 4)) == 4 and start < source.size:
        start += 4 + int.from_bytes(head[1:], "big")
        if head[0] & 0x80:
            break
    streams = 1 + _later_streams(source, start)
    if streams > 1:
        raise DamagedError(f"holds {streams} streams, one after the other")
    ends = _possible_ends(source, start, info)
    if stated in ends and first == 0:
        return Verdict()
    total = stated if stated in ends else next(iter(ends), 0)
    if stated > total:
        raise DamagedError(f"is cut short: it holds {total} of {stated} frames")
    word = info[4 + 13] & 0xF0 | total >> 32
    right = bytes((word,)) + (total & 0xFFFFFFFF).to_bytes(4, "big")
    field = first + 4 + 4 + 13
    return Verdict(pieces=((first, field), right, (field + 5, source.size)))


def _later_streams(source: Source, at: int) -> int:
    """Return how many other FLAC streams begin after byte `at`."""
    count, mark = 0, b"fLaC\0\0\0\x22"
    while block := source.read(at, BLOCK):
        count += block.count(mark)
        at += len(block)
        if at < source.size:
            at -= len(mark) - 1  # one may lie across the border
    return count


def _possible_ends(source: Source, start: int, info: bytes) -> list[int]:
    """Return the samples before the end of what may be the last frame, the likeliest one first."""
    like = source.read(start, 4)
    if len(like) < 4 or like[0] != 0xFF or like[1] & 0xFE != 0xF8:
        raise DamagedError("has no FLAC frame after its header")
    # The codes of rate and bits are those of every frame.
    shortest, longest = (int.from_bytes(info[4 + i : 6 + i], "big") for i in (0, 2))
    largest = int.from_bytes(info[4 + 7 : 4 + 10], "big")
    room = max(largest, longest * 8 * 4) + 4096  # a frame, and tags behind it
    begin = max(start, source.size - room)
    tail = source.read(begin, source.size - begin)
    found = []
    at = tail.rfind(like[:2])
    while at >= 0:
        head = tail[at : at + 16]
        alike = len(head) >= 6 and not ((head[2] ^ like[2]) & 0x0F or (head[3] ^ like[3]) & 0x0E)
        samples = _frame_end(head, shortest) if alike else None
        if samples is not None:
            found.append(samples)
        at = tail.rfind(like[:2], 0, at)
    return found


def _frame_end(head: bytes, blocksize: int) -> int | None:
    """Return the samples up to the end of the frame with this header; None if it is no header."""
    code, at = head[2] >> 4, 5
    number = head[4]
    if number & 0x80:  # coded as in UTF-8
        more = 0
        while number & 0x80 >> more:
            more += 1
        if not 2 <= more <= 7 or len(head) < 4 + more:
            return None
        number &= 0x7F >> more
        for byte in head[5 : 4 + more]:
            number = number << 6 | byte & 0x3F
        at = 4 + more
    if code == 1:
        samples = 192
    elif 2 <= code <= 5:
        samples = 576 << (code - 2)
    elif code in (6, 7):
        samples = int.from_bytes(head[at : at + code - 5], "big") + 1
        at += code - 5
    elif code >= 8:
        samples = 256 << (code - 8)
    else:
        return None
    at += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if len(head) <= at or _crc8(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * blocksize) + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF
    return crc
