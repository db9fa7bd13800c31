"""Is a file of chunks whole? WAV, RF64, W64, AIFF, AU and CAF, judged by their own headers.

libsndfile trusts the end of a file more than its header, and shortens what is cut without a word. So
the headers are read here: a file whose samples are not all there is refused, and one whose writer did
not know the length (a pipe, a recorder that was switched off) is played to its end, by giving the
decoder the size that is true. The plain ones need no decoder: `PcmReader` reads them.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.whole import STRAY_BYTES, DamagedError, Pcm, Source, Verdict

Chunk = tuple[bytes, int, int]  # name, start and length
MOST_CHUNKS = 10_000  # more are no sound file, but could keep us busy for hours
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of every GUID but the first in a W64 file
MPEG_TAGS = (0x50, 0x55)  # of a WAV's format: MPEG audio, layers I and II, and layer III
PCM, EXTENSIBLE = 0x0001, 0xFFFE
# What such files begin with.
CHUNKED = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b".snd", b"dns.", b"caff")
# Behind its first two bytes, a tag again, the subformat of an extensible header is this.
SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Chunks in whose contents libsndfile finds no fault, so that a file with them may do without it.
PLAIN_CHUNKS = (b"LIST", b"JUNK", b"PAD ", b"FLLR", b"id3 ", b"ID3 ")


def of_chunks(source: Source) -> Verdict | None:
    """Judge a WAV, RF64, W64, AIFF, AU or CAF file.

    Parameters
    ----------
    source : Source
        The file.

    Returns
    -------
    Verdict or None
        None for other files.

    Raises
    ------
    DamagedError
        If the file is not whole, or its chunks cannot be followed to the samples.
    """
    head = source.read(0, 16)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _wav(source, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(source)
    if head[:4] == b"riff" and source.read(28, 12) == W64_TAIL:
        return _w64(source)
    if head[:4] in (b".snd", b"dns."):
        return _au(source, ">" if head[:4] == b".snd" else "<")
    if head[:4] == b"caff":
        return _caf(source)
    return None


def is_unknown(size: int) -> bool:
    """Return whether writers leave such a size when they do not know the length.

    0, or the largest number that they had, less what they round or subtract for a header.
    """
    return (
        size <= 0
        or 0x7FFFE000 <= size <= 0x80001000
        or 0xFFFFE000 <= size <= 0xFFFFFFFF
        or size >= 1 << 62
    )


def _measured(
    source: Source, start: int, size: int, field: int, layout: str, extra: int = 0
) -> Verdict:
    """Compare the size of the samples with the file's; a size that means "unknown" is put right.

    Parameters
    ----------
    source : Source
        The file.
    start : int
        Place of the first sample.
    size : int
        What the header says, in bytes.
    field : int
        Place of the size in the header.
    layout : str
        How the size is written, in the words of `struct`.
    extra : int
        Bytes that the size counts beside the samples.
    """
    present = max(0, source.size - start)
    declared = size - extra
    if not is_unknown(size) or 0 < declared <= present:
        return Verdict(max(0, declared), min(max(0, declared), present))
    try:
        right = struct.pack(layout, present + extra)
    except struct.error:
        raise DamagedError("has over 4 GB of samples and a header that does not say so") from None
    return Verdict(present, present, ((0, field), right, (field + len(right), source.size)))


def _chunks(source: Source, at: int, order: str) -> list[Chunk]:
    """Return name, start and length of the chunks from `at` on, as far as they can be followed."""
    found: list[Chunk] = []
    while len(found) < MOST_CHUNKS and len(header := source.read(at, 8)) == 8:
        name, length = header[:4], struct.unpack(order + "I", header[4:])[0]
        if not all(32 <= byte < 127 for byte in name):
            break
        found.append((name, at + 8, length))
        at += 8 + length
        if length % 2 and not _looks_like_a_chunk(source, at):  # some writers leave out the filling
            at += 1
    return found


def _looks_like_a_chunk(source: Source, at: int) -> bool:
    name = source.read(at, 4)
    return len(name) == 4 and all(32 <= byte < 127 for byte in name)


def _is_plain(name: bytes, length: int) -> bool:
    return name in PLAIN_CHUNKS or (name == b"fact" and length == 4)


def _check_tail(source: Source, at: int, order: str) -> bool:
    """Raise DamagedError if more than chunks, tags and filling come after the samples.

    Return whether libsndfile finds no fault in them.
    """
    chunks = _chunks(source, at + at % 2, order) or _chunks(source, at, order)
    if any(name in (b"data", b"SSND") for name, _, _ in chunks):
        raise DamagedError("holds two chunks of samples")
    if any(name in CHUNKED for name, _, _ in chunks):
        raise DamagedError("holds two files, one after the other")
    if chunks:
        at = chunks[-1][1] + chunks[-1][2]
    if source.read(at, 3) not in (b"TAG", b"ID3", b"APE"):
        _check_rest(source, at)
    return all(_is_plain(name, length) for name, _, length in chunks)


def _check_rest(source: Source, at: int, filling: bool = True) -> None:
    """Raise DamagedError if many bytes come after the last chunk, other than filling with zeros."""
    stray = source.size - at
    if stray <= STRAY_BYTES:
        return
    while filling and at < source.size:
        block = source.read(at, 1 << 20)
        if any(block):
            break
        at += len(block) or source.size
    else:
        if filling:
            return
    raise DamagedError(
        f"has {stray} bytes after its samples that are no chunk: its header may be wrong"
    )


def _wav(source: Source, order: str) -> Verdict:
    layout, in_ds64, plain = b"", None, order == "<"
    for name, start, length in _chunks(source, 12, order):
        if name == b"ds64":
            plain, in_ds64 = False, start + 8
        elif name == b"fmt ":
            if layout:
                raise DamagedError("has two chunks that describe its samples")
            layout = source.read(start, min(length, 40))
        elif name == b"data":
            if len(layout) < 16:
                raise DamagedError("has samples before the chunk that describes them")
            verdict = _wav_data(source, start, length, order, in_ds64)
            declared, present = verdict.declared or 0, verdict.present or 0
            if verdict.pieces is None:
                plain = _check_tail(source, start + declared, order) and plain
            if struct.unpack_from(order + "H", layout)[0] in MPEG_TAGS and declared == present:
                return Verdict(mpeg=(start, start + present))
            # An odd place means a chunk without its filling, over which libsndfile stumbles.
            if plain and declared == present and start % 2 == 0:
                return replace(verdict, pcm=_pcm(layout, start, declared))
            return verdict
        elif not _is_plain(name, length):
            plain = False
    raise DamagedError("has no chunk of samples that can be found")


def _wav_data(source: Source, start: int, length: int, order: str, in_ds64: int | None) -> Verdict:
    if in_ds64 is not None and length == 0xFFFFFFFF:
        declared = int.from_bytes(source.read(in_ds64, 8), "little")
        return _measured(source, start, declared, in_ds64, "<Q")
    if length == 0 and (rest := _chunks(source, start, order)):
        end = rest[-1][1] + rest[-1][2]
        if source.size in (end, end + 1):  # other chunks follow a chunk without samples
            return Verdict(0, 0)
        if sum(rest[0][1:]) <= source.size:  # a chunk, not samples that look like the name of one
            raise DamagedError("has chunks that cannot be followed")
    return _measured(source, start, length, start - 4, order + "I")


def _pcm(layout: bytes, start: int, length: int) -> Pcm | None:
    """Return where samples stand that need no decoder, by a chunk "fmt " without any doubt."""
    tag, channels, rate, rate_of_bytes, width, bits = struct.unpack_from("<HHIIHH", layout)
    usual = bits == 16 and width == 2 * channels and rate_of_bytes == rate * width
    if not (usual and 1 <= channels <= 1024 and rate >= 1):
        return None
    if tag == PCM:
        form = "WAV"
    elif tag == EXTENSIBLE and len(layout) >= 40:
        valid_bits, subformat = struct.unpack_from("<H", layout, 18)[0], layout[24:40]
        if valid_bits != 16 or subformat != struct.pack("<H", PCM) + SUBFORMAT_TAIL:
            return None
        form = "WAVEX"
    else:
        return None
    return Pcm(start, length // width, rate, channels, form)


def _aiff(source: Source) -> Verdict:
    for name, start, length in _chunks(source, 12, ">"):
        if name == b"SSND":
            # Two numbers come before the samples: where they start, and a size of blocks.
            offset = int.from_bytes(source.read(start, 4), "big")
            first = start + 8 + offset
            verdict = _measured(source, first, length, start - 4, ">I", extra=8 + offset)
            if verdict.pieces is None:
                _check_tail(source, start + length, ">")
            return verdict
    raise DamagedError("has no chunk of samples that can be found")


def _au(source: Source, order: str) -> Verdict:
    header = source.read(4, 8)
    if len(header) < 8:
        raise DamagedError("ends inside its header")
    start, declared = struct.unpack(order + "II", header)
    verdict = _measured(source, start, declared, 8, order + "I")
    if (
        verdict.pieces is None
    ):  # there are no other chunks, and players go on to the end of the file
        _check_rest(source, start + declared, filling=False)
    return verdict


def _w64(source: Source) -> Verdict:
    chunks: list[Chunk] = []
    at = 40  # GUID of the file, size, GUID of its kind
    while len(chunks) < MOST_CHUNKS and (header := source.read(at, 24))[4:16] == W64_TAIL:
        size = int.from_bytes(header[16:], "little")  # counts the header
        chunks.append((header[:4], at + 24, size))
        if size < 24:
            break
        at += size + -size % 8
    return _of_wide_chunks(source, chunks, "<Q", extra=24, before=24)


def _caf(source: Source) -> Verdict:
    chunks: list[Chunk] = []
    at = 8
    while len(chunks) < MOST_CHUNKS and len(header := source.read(at, 12)) == 12:
        size = struct.unpack(">q", header[4:])[0]
        if not all(32 <= byte < 127 for byte in header[:4]):
            break
        chunks.append((header[:4], at + 12, size))
        if size < 0:
            break
        at += 12 + size
    # A number of edits comes before the samples.
    return _of_wide_chunks(source, chunks, ">q", extra=4, before=0)


def _of_wide_chunks(
    source: Source, chunks: list[Chunk], layout: str, extra: int, before: int
) -> Verdict:
    """Judge by chunks whose sizes have 64 bits, and count `before` bytes before the content."""
    samples = [(start, size) for name, start, size in chunks if name == b"data"]
    if not samples:
        raise DamagedError("has no chunk of samples that can be found")
    if len(samples) > 1:
        raise DamagedError("holds two chunks of samples")
    start, size = samples[0]
    verdict = _measured(source, start + extra - before, size, start - 8, layout, extra)
    if verdict.pieces is None:
        _, start, size = chunks[-1]
        _check_rest(source, start - before + size)
    return verdict


class PcmReader:
    """The 16-bit samples of a WAV file, read as they stand, with the part of soundfile's face in use.

    Saves copies, and in threads the many short calls of a general library, between which Python's
    lock changes hands.
    """

    subtype = "PCM_16"

    def __init__(self, file: io.FileIO, pcm: Pcm) -> None:
        self._file = file
        self._file.seek(pcm.start)
        self.frames, self.samplerate, self.channels = pcm.frames, pcm.sampling_rate, pcm.channels
        self.format = pcm.format
        self._left = 2 * pcm.frames * pcm.channels  # bytes; other chunks may follow

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, *, out: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Read the next frames into `out`, shape (n, channels); return the part that was filled."""
        bytes_of_out = out.data.cast("B")[: self._left]
        done = 0
        while done < len(bytes_of_out):
            count = self._file.readinto(bytes_of_out[done:])
            if not count:  # the file has become shorter
                break
            done += count
        self._left -= done
        return out[: done // (2 * self.channels)]
