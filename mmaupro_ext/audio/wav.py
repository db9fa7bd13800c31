"""WAV files of 16-bit PCM, read without a decoder: their samples stand in the file as they are wanted.

Only files whose header leaves no doubt are taken (whole chunks, the usual sizes, all samples there);
everything else, and every other format, goes to libsndfile, which also has the last word on what is
wrong with a file. Saves copies, and in threads the many short calls of a general library, between
which Python's lock changes hands.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.containers import UNKNOWN_SIZES

PCM, EXTENSIBLE = 0x0001, 0xFFFE  # format tags
# Behind its first two bytes, a tag again, the subformat of an extensible header is this.
SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
MAX_CHANNELS = 1024


class PcmWav:
    """A WAV file of 16-bit PCM, open at its first frame, with the part of soundfile's face in use.

    Attributes
    ----------
    frames, samplerate, channels : int
        What the header says, and the file holds.
    format, subtype : str
        In libsndfile's words.
    """

    subtype = "PCM_16"

    def __init__(
        self, file: Any, start: int, frames: int, samplerate: int, channels: int, format: str
    ) -> None:
        self._file = file
        file.seek(start)
        self.frames, self.samplerate, self.channels = frames, samplerate, channels
        self.format = format
        self._left = 2 * frames * channels  # bytes; other chunks may follow

    def __enter__(self) -> PcmWav:
        return self

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


def open_pcm_wav(name: str) -> PcmWav | None:
    """Open a WAV file of 16-bit PCM.

    Parameters
    ----------
    name : str
        A file.

    Returns
    -------
    PcmWav or None
        None for any other file, for any doubt, and where the file cannot be opened.
    """
    if not name.lower().endswith(".wav") or sys.byteorder != "little":
        return None
    try:
        file = open(name, "rb", buffering=0)  # noqa: SIM115 (closed below, or by the caller)
    except OSError:
        return None
    try:
        found = _header(file, os.fstat(file.fileno()).st_size)
        if found is not None:
            return PcmWav(file, *found)
    except OSError:
        pass
    file.close()
    return None


def _header(file: BinaryIO, size: int) -> tuple[int, int, int, int, str] | None:
    """Return start of the samples, frames, rate, channels and format, or None."""
    head = file.read(4096)  # nearly always all that stands before the samples
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    layout, at = None, 12
    while at + 8 <= len(head):
        name, length = head[at : at + 4], struct.unpack_from("<I", head, at + 4)[0]
        start = at + 8
        if not all(32 <= byte < 127 for byte in name):
            return None
        if name == b"data":
            if layout is None or length in UNKNOWN_SIZES or length > size - start:
                return None
            rate, channels, kind = layout
            frames = length // (2 * channels)
            return (start, frames, rate, channels, kind) if frames else None
        if name == b"fmt ":
            if layout is not None:
                return None
            layout = _layout(head[start : start + length])
            if layout is None:
                return None
        at = start + length + length % 2
    return None


def _layout(chunk: bytes) -> tuple[int, int, str] | None:
    """Return rate, channels and format of 16-bit PCM as a chunk "fmt " describes it, or None."""
    if len(chunk) < 16:
        return None
    tag, channels, rate, rate_of_bytes, width, bits = struct.unpack_from("<HHIIHH", chunk)
    usual = bits == 16 and width == 2 * channels and rate_of_bytes == rate * width
    if not (usual and 1 <= channels <= MAX_CHANNELS and rate >= 1):
        return None
    if tag == PCM:
        return rate, channels, "WAV"
    if tag == EXTENSIBLE and len(chunk) >= 40:
        valid_bits, subformat = struct.unpack_from("<H", chunk, 18)[0], chunk[24:40]
        if valid_bits == 16 and subformat == struct.pack("<H", PCM) + SUBFORMAT_TAIL:
            return rate, channels, "WAVEX"
    return None
