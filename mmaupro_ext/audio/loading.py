"""Files to samples, for users: probe, load, and stream block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.decoding import Memory, Source, checked, decode, pieces_of, rows_of
from mmaupro_ext.audio.opening import AudioInfo, open_clip, regular_file
from mmaupro_ext.audio.windowing import sample_count


def probe(path: Source) -> AudioInfo:
    """Say what an audio file holds, without decoding it.

    Parameters
    ----------
    path : path-like, bytes-like or binary file
        WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) or MP3, whatever its name; and, with
        the extra `media`, m4a, AAC, WebM, WMA and FLAC in Ogg. Bytes are the content of a file; an open
        file is read from where it stands to its end, and stays open.

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

    Examples
    --------
    >>> from mmaupro_ext.data import SAMPLE_DIR
    >>> info = probe(SAMPLE_DIR / "data" / "078edf8a-f09e-410a-b0f7-c2d97f0c870e.flac")
    >>> info.format, info.sampling_rate, info.channels, info.frames
    ('FLAC', 11025, 1, 27273)
    """
    with open_clip(path) as clip:
        return clip.info


def load(
    path: Source,
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    resampler: str = "native",
    offset: float = 0.0,
    duration: float | None = None,
) -> npt.NDArray[np.float32]:
    """Decode an audio file or a part of it, mix its channels, and resample it.

    Parameters
    ----------
    path : path-like, bytes-like or binary file
        WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) or MP3, whatever its name; and, with
        the extra `media`, m4a, AAC, WebM, WMA and FLAC in Ogg. Bytes are the content of a file; an open
        file is read from where it stands to its end, and stays open.
    sampling_rate : int or None, default 16000
        Rate of the result in Hz; None keeps the file's own.
    channels : {"mono", "keep", "apart"}
        The mean over all channels; all of them; or both channels of a file of two, and the mean of
        any other.
    resampler : {"native", "soxr"}
        See :func:`mmaupro_ext.audio.resample`.
    offset : float, default 0
        Where the part begins, in seconds.
    duration : float, optional
        How long it is, in seconds; what the file has where that is less. Default: to the end.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``(n,)`` for ``"mono"``, ``(channels, n)`` for ``"keep"`` and for two
        channels apart, with ``n = ceil(frames * sampling_rate / file_rate)``. Integer formats are
        scaled to [-1, 1); others may exceed it. A part is that of the whole result, bit for bit: from
        ``round(offset * sampling_rate)`` on, ``round(duration * sampling_rate)`` samples.

    Raises
    ------
    AudioError
        If the file is missing, not a regular file, empty, not readable, not audio, holds no samples,
        holds NaN or an infinity, or is not whole, or the part begins behind its end. The message names
        the file and what to do.
    ConfigError
        If `channels` or `resampler` is unknown, or `offset` or `duration` is no length.

    Notes
    -----
    Decoding, mixing and resampling go block by block, so beyond the result the memory needed does
    not depend on the length of the sound; an MP3 or Ogg file is read at once.

    A file is whole if it holds all that its header counts, every page or frame follows the one
    before, and the last one is there; ``docs/data.md`` has the rules for each format. What no file
    can show: an MP3 without a count that is cut exactly between two of its frames.

    Examples
    --------
    >>> from mmaupro_ext.data import SAMPLE_DIR
    >>> clip = SAMPLE_DIR / "data" / "078edf8a-f09e-410a-b0f7-c2d97f0c870e.flac"
    >>> samples = load(clip)  # 16 kHz, mono
    >>> samples.shape, samples.dtype
    ((39580,), dtype('float32'))
    >>> load(clip.read_bytes(), sampling_rate=None, offset=0.5, duration=1).shape
    (11025,)
    """
    return decode(
        path, sampling_rate, channels, resampler=resampler, offset=offset, duration=duration
    ).samples


def stream(
    path: Source,
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

    Examples
    --------
    >>> from mmaupro_ext.data import SAMPLE_DIR
    >>> clip = SAMPLE_DIR / "data" / "078edf8a-f09e-410a-b0f7-c2d97f0c870e.flac"
    >>> [block.size for block in stream(clip, block_s=1)]
    [16000, 16000, 7580]
    """
    rate = checked(sampling_rate, channels, resampler)
    if block_s is not None and rate is not None:
        sample_count(block_s, rate, "block_s")
    source = regular_file(path) if isinstance(path, (str, os.PathLike)) else path
    return _stream(source, rate, channels, block_s, resampler)


def _stream(
    path: Source,
    rate: int | None,
    channels: str,
    block_s: float | None,
    resampler: str,
) -> Iterator[npt.NDArray[np.float32]]:
    with open_clip(path) as clip:
        info = clip.info
        target = rate or info.sampling_rate
        rows = rows_of(info, channels)

        def room(samples: int) -> npt.NDArray[np.float32]:
            return np.empty((rows, samples), np.float32)

        pieces = pieces_of(clip, target, rows, resampler, room, Memory())
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
