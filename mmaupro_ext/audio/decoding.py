"""Files to samples: probe, load, decode and stream."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio.opening import AudioInfo, Clip, open_clip
from mmaupro_ext.audio.resampling import RESAMPLERS, SoxrStream, stream_for
from mmaupro_ext.audio.validate import check_finite, regular_file, valid_rate, valid_rates
from mmaupro_ext.audio.windowing import sample_count
from mmaupro_ext.util import require_choice

CHANNELS = ("mono", "keep", "apart")
# Room for the result is made at once on the word of a header, as long as it claims no more samples than
# these, or so many for each byte of the file (silence in FLAC reaches some hundreds); beyond, it
# grows as samples come. Memory that is never written costs nothing.
FIRST_CAPACITY = 1 << 24
SAMPLES_OF_A_BYTE = 1024


@dataclass(frozen=True)
class Decoded:
    """A decoded clip.

    Attributes
    ----------
    samples : numpy.ndarray
        float32 of shape ``(n,)`` or ``(channels, n)``, as :func:`load` returns it.
    info : AudioInfo
        What the file held: frames and seconds are those that were decoded.
    """

    samples: npt.NDArray[np.float32]
    info: AudioInfo


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Say what an audio file holds, without decoding it.

    Parameters
    ----------
    path : path-like
        WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) or MP3, whatever its name; and, with
        the extra `media`, m4a, AAC, WebM, WMA and FLAC in Ogg.

    Returns
    -------
    AudioInfo
        See there.

    Raises
    ------
    AudioError
        As :func:`load`, but for damage that only decoding finds.

    Notes
    -----
    `frames` may be one MPEG frame more than :func:`decode` finds in an MP3.
    """
    with open_clip(path) as clip:
        return clip.info


def load(
    path: str | os.PathLike[str],
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    resampler: str = "native",
) -> npt.NDArray[np.float32]:
    """Decode an audio file, mix its channels, and resample it.

    Parameters
    ----------
    path : path-like
        WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) or MP3, whatever its name; and, with
        the extra `media`, m4a, AAC, WebM, WMA and FLAC in Ogg.
    sampling_rate : int or None, default 16000
        Rate of the result in Hz; None keeps the file's own.
    channels : {"mono", "keep", "apart"}
        The mean over all channels; all of them; or both channels of a file of two, and the mean of
        any other.
    resampler : {"native", "soxr"}
        See :func:`mmaupro_ext.audio.resample`.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``(n,)`` for ``"mono"``, ``(channels, n)`` for ``"keep"`` and for two
        channels apart, with ``n = ceil(frames * sampling_rate / file_rate)``. Integer formats are
        scaled to [-1, 1); others may exceed it.

    Raises
    ------
    AudioError
        If the file is missing, not a regular file, empty, not readable, not audio, holds no samples,
        holds NaN or an infinity, or is not whole. The message names the file and what to do.
    ConfigError
        If `channels` or `resampler` is unknown.

    Notes
    -----
    Decoding, mixing and resampling go block by block, so beyond the result the memory needed does
    not depend on the length of the sound; an MP3 or Ogg file is read at once.

    A file is whole if it holds all that its header counts, every page or frame follows the one
    before, and the last one is there; ``docs/data.md`` has the rules for each format. What no file
    can show: an MP3 without a count that is cut exactly between two of its frames.
    """
    return decode(path, sampling_rate, channels, resampler=resampler).samples


def decode(
    path: str | os.PathLike[str],
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    resampler: str = "native",
) -> Decoded:
    """Decode, mix and resample an audio file as :func:`load` does, and say what it held.

    The file is opened once.

    Parameters
    ----------
    path, sampling_rate, channels, resampler
        As in :func:`load`.

    Returns
    -------
    Decoded
        The samples, and an `AudioInfo` of what was really decoded.

    Raises
    ------
    AudioError, ConfigError
        As :func:`load`.
    """
    rate = _check_arguments(sampling_rate, channels, resampler)
    with open_clip(path) as clip:
        info = clip.info
        target = rate or info.sampling_rate
        rows = _rows(info, channels)
        expected = native.output_length(info.frames, info.sampling_rate, target)
        believed = max(FIRST_CAPACITY, SAMPLES_OF_A_BYTE * clip.size)
        result = _Growing(rows, min(expected, believed // rows))
        memory = _of_this_thread.__dict__.setdefault("memory", _Memory())
        for piece in _pieces(clip, target, rows, resampler, result.room, memory):
            result.filled(piece.shape[1])
    samples = result.finished()
    return Decoded(samples if channels == "keep" or rows > 1 else samples[0], clip.info)


def stream(
    path: str | os.PathLike[str],
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    block_s: float | None = None,
    resampler: str = "native",
) -> Iterator[npt.NDArray[np.float32]]:
    """Decode, mix and resample an audio file block by block.

    The blocks joined are :func:`load`'s result to the last bit, whatever `block_s`; the memory
    needed does not depend on the length of the sound.

    Parameters
    ----------
    path, sampling_rate, channels, resampler
        As in :func:`load`.
    block_s : float, optional
        Seconds in each block, the last one excepted. Where not given, blocks come as decoding
        yields them: of a few seconds, of different lengths.

    Yields
    ------
    numpy.ndarray
        float32 of shape ``(m,)`` or ``(channels, m)``, ``m >= 1``, the caller's to keep.

    Raises
    ------
    AudioError, ConfigError
        As :func:`load`: at the call for a bad argument or a missing file, at the first block for a file
        that is not whole, and after the blocks before it for damage that only decoding finds. So use
        nothing of a file before all its blocks have come.
    """
    rate = _check_arguments(sampling_rate, channels, resampler)
    if block_s is not None and rate is not None:
        sample_count(block_s, rate, "block_s")
    return _stream(regular_file(path), rate, channels, block_s, resampler)


def _stream(
    path: str,
    rate: int | None,
    channels: str,
    block_s: float | None,
    resampler: str,
) -> Iterator[npt.NDArray[np.float32]]:
    with open_clip(path) as clip:
        info = clip.info
        target = rate or info.sampling_rate
        rows = _rows(info, channels)

        def room(samples: int) -> npt.NDArray[np.float32]:
            return np.empty((rows, samples), np.float32)

        pieces = _pieces(clip, target, rows, resampler, room, _Memory())
        if block_s is not None:
            pieces = _of_length(pieces, round(sample_count(block_s, target, "block_s")))
        for piece in pieces:
            if piece.size:
                yield piece if channels == "keep" or rows > 1 else piece[0]


def _of_length(
    pieces: Iterator[npt.NDArray[np.float32]], length: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the same samples in pieces of `length`, and what is left."""
    waiting: list[npt.NDArray[np.float32]] = []
    missing = length
    for piece in pieces:
        while piece.shape[1] >= missing:
            yield np.concatenate([*waiting, piece[:, :missing]], axis=1)
            piece, waiting, missing = piece[:, missing:], [], length
        if piece.size:
            waiting.append(piece)
            missing -= piece.shape[1]
    if waiting:
        yield np.concatenate(waiting, axis=1)


def _check_arguments(sampling_rate: int | None, channels: str, resampler: str) -> int | None:
    require_choice("channels", channels, CHANNELS)
    require_choice("resampler", resampler, RESAMPLERS)
    return None if sampling_rate is None else valid_rate(sampling_rate)


def _rows(info: AudioInfo, channels: str) -> int:
    """Return how many channels the result has."""
    if channels == "keep" or (channels == "apart" and info.channels == 2):
        return info.channels
    return 1


@dataclass
class _Memory:
    """What decoding works in. A thread keeps it: new pages cost as much as the work on them."""

    block: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    stream: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def block_of(self, frames: int, channels: int, dtype: str) -> npt.NDArray:
        """Return an array of shape (frames, channels) in the memory for blocks."""
        size = frames * channels * np.dtype(dtype).itemsize
        if self.block.size < size:
            self.block = np.empty(size, np.uint8)
        return self.block[:size].view(dtype).reshape(frames, channels)


_of_this_thread = threading.local()


def _pieces(
    clip: Clip,
    target: int,
    rows: int,
    resampler: str,
    room: Callable[[int], npt.NDArray[np.float32]],
    memory: _Memory,
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield mixed and resampled ``(rows, m)``, written where ``room(m)`` says."""
    info = clip.info
    streams = []
    if target != info.sampling_rate:
        valid_rates(info.sampling_rate, target, path=info.path)
        buffers = [memory.stream if i == 0 else None for i in range(rows)]
        streams = [stream_for(info.sampling_rate, target, resampler, b) for b in buffers]
    for block in _finite_blocks(clip, memory):
        if not streams:
            out = room(len(block))
            if rows == 1:
                native.mean(block, out=out[0])
            elif out.flags.c_contiguous:
                native.split(block, out=out)
            else:
                out[:] = native.split(block)
            yield out
            continue
        if rows == 1:
            streams[0].take(native.mean(block, out=streams[0].room(len(block))))
        else:
            for stream, row in zip(streams, native.split(block), strict=True):
                stream.take(row)
        yield _given(streams, room)
    if streams:
        for stream in streams:
            stream.end()
        yield _given(streams, room)
        if isinstance(streams[0], native.Stream):
            memory.stream = streams[0].buffer


def _finite_blocks(clip: Clip, memory: _Memory) -> Iterator[npt.NDArray[Any]]:
    """Yield the blocks of a clip, ``(frames, channels)``; one with NaN or an infinity is an error."""
    frames = min(clip.block_frames, clip.info.frames)
    first = 0
    for block in clip.blocks(memory.block_of(frames, clip.info.channels, clip.dtype)):
        if clip.dtype == "float32" and not native.finite(block.reshape(-1)):
            transposed = np.ascontiguousarray(block.T)
            check_finite(transposed, "the signal", path=clip.info.path, first=first)
        first += len(block)
        yield block


def _given(
    streams: Sequence[native.Stream | SoxrStream], room: Callable[[int], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return what the streams have ready, written where `room` says."""
    out = room(streams[0].ready)
    for stream, row in zip(streams, out, strict=True):
        stream.give(row)
    return out


class _Growing:
    """Rows of samples of a length that is expected, but only known at the end."""

    def __init__(self, rows: int, expected: int) -> None:
        self._samples = np.empty((rows, max(1, expected)), np.float32)
        self._length = 0

    def room(self, samples: int) -> npt.NDArray[np.float32]:
        """Return where the next samples may be written."""
        end = self._length + samples
        rows, capacity = self._samples.shape
        if end > capacity:
            larger = np.empty((rows, max(end, 2 * capacity)), np.float32)
            larger[:, : self._length] = self._samples[:, : self._length]
            self._samples = larger
        return self._samples[:, self._length : end]

    def filled(self, samples: int) -> None:
        """Keep so many samples that were written to the `room`."""
        self._length += samples

    def finished(self) -> npt.NDArray[np.float32]:
        rows, capacity = self._samples.shape
        if self._length == capacity:
            return self._samples
        filled = self._samples[:, : self._length]
        # What decoding made a little shorter than its header says need not be there twice.
        return filled if rows == 1 and 16 * self._length > 15 * capacity else filled.copy()
