"""The judge of whole clips: whether all the sound of a file is there, and what its decoder is told.

libsndfile plays what a header, or a guess, says: it shortens a file that is cut, one whose header
counts too little, and one that never knew its length, without a word. So each container is followed by
its own rules, a module for each kind, before anything is decoded: `chunks` (WAV, RF64, W64, AIFF, AU,
CAF), `mpeg` (MP3), `ogg` and `flac`. `mmaupro_ext.audio.opening` asks them and nobody else does, so that
loading, streaming and `mmaupro data verify` agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

# A tail of other bytes up to this length is taken for what it nearly always is, a tag or filling; a
# longer one may be sound that the header does not count.
STRAY_BYTES = 256
# Samples that FFmpeg may leave out: encoders start with silence and fill the last frame, of AAC say.
PRIMING = 4096


class Source(Protocol):
    """A file that can be read at any place."""

    size: int

    def read(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes from byte `at` on."""


class DamagedError(Exception):
    """A file is not whole; the text says what is wrong, in words that follow the file's name."""


@dataclass(frozen=True)
class Pcm:
    """16-bit samples that stand in a WAV file as they are wanted."""

    start: int
    frames: int
    sampling_rate: int
    channels: int
    format: str


@dataclass(frozen=True)
class Verdict:
    """What was found in a file that may be whole.

    Attributes
    ----------
    declared, present : int or None
        Bytes of samples that the header declares, and those that the file holds.
    pieces : tuple or None
        What the decoder is given in place of the file: bytes, and ranges of the file.
    pcm : Pcm or None
        Where the samples stand, if no decoder is needed.
    mpeg : tuple of int or None
        First byte and end of MPEG audio that the chunks hold.
    frames : int or None
        Samples of each channel, where counting did not need the decoder.
    slack : int
        Samples that the decoder may give less than it announces.
    media : str or None
        The kind of a file that FFmpeg decodes.
    """

    declared: int | None = None
    present: int | None = None
    pieces: tuple[bytes | tuple[int, int], ...] | None = None
    pcm: Pcm | None = None
    mpeg: tuple[int, int] | None = None
    frames: int | None = None
    slack: int = 0
    media: str | None = None
