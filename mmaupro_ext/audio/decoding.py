"""Files to samples: probe, load and stream."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from mmaupro_ext.audio import containers
from mmaupro_ext.audio.cache import AudioCache, Spec, as_cache
from mmaupro_ext.audio.resampling import (
    RESAMPLERS,
    SoxrStream,
    output_length,
    resampler_used,
    stream_for,
)
from mmaupro_ext.audio.validate import check_finite, valid_choice, valid_rate, valid_rates
from mmaupro_ext.audio.wav import PcmWav, open_pcm_wav
from mmaupro_ext.audio.windowing import cut, sample_count
from mmaupro_ext.errors import AudioError
from mmaupro_ext.native import resample as native

CHANNELS = ("mono", "keep", "apart")
BLOCK_FRAMES = 128 * 1024
# Integer formats are read as integers, which is exact and leaves the conversion to our kernels;
# everything else as float32.
SAMPLE_TYPES = {
    "PCM_S8": "int16",
    "PCM_U8": "int16",
    "PCM_16": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
}
BYTES_PER_SAMPLE = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}
UNCOMPRESSED_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")
# An MP3 may lack what its header counts by one MPEG frame: encoders differ about delay and padding.
MPEG_SLACK = 1152
# Room for the result is made at once on the word of a header, as long as it claims no more samples than
# these, or so many for each byte of the file (silence in FLAC reaches some hundreds); beyond, it
# grows as samples come. Memory that is never written costs nothing.
FIRST_CAPACITY = 1 << 24
SAMPLES_OF_A_BYTE = 1024

GET_AGAIN = (
    "Get the file again, or re-encode what is there (ffmpeg -i FILE OUT.wav) to accept the loss."
)
CONVERT = "Convert it to WAV, FLAC, OGG or MP3 (ffmpeg -i FILE OUT.wav)."


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes
    ----------
    path : str
        The file.
    frames : int
        Samples of each channel.
    sampling_rate : int
        Hz.
    channels : int
        Number of channels.
    seconds : float
        ``frames / sampling_rate``.
    format, subtype : str
        Container and encoding in libsndfile's words, such as ``"WAV"`` and ``"PCM_16"``.
    """

    path: str
    frames: int
    sampling_rate: int
    channels: int
    seconds: float
    format: str
    subtype: str


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
    """Read the header of an audio file.

    Parameters
    ----------
    path : path-like
        The file: whatever libsndfile reads (WAV, FLAC, OGG Vorbis and Opus, MP3, AIFF, AU, W64,
        CAF, ...).

    Returns
    -------
    AudioInfo
        See there.

    Raises
    ------
    AudioError
        If the file is missing, not a file, empty, not readable, not audio, or holds no samples.

    Notes
    -----
    Nothing is decoded. For MP3, `frames` is the count of the Xing or Info header where the
    file has one; without it libsndfile walks through all frame headers. Either may differ from what
    :func:`load` decodes; `load` goes by the decoded samples.
    """
    name = _readable(path)
    with _open(name) as file:
        return _info(name, file)


def load(
    path: str | os.PathLike[str],
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    resampler: str = "native",
    cache: AudioCache | str | os.PathLike[str] | None = None,
) -> npt.NDArray[np.float32]:
    """Decode an audio file, mix its channels, and resample it.

    Parameters
    ----------
    path : path-like
        The file: whatever libsndfile reads (WAV, FLAC, OGG Vorbis and Opus, MP3, AIFF, AU, W64,
        CAF, ...).
    sampling_rate : int or None, default 16000
        Rate of the result in Hz; None keeps the file's own.
    channels : {"mono", "keep", "apart"}
        The mean over all channels; all of them; or both channels of a file of two, and the mean of
        any other.
    resampler : {"native", "soxr"}
        See :func:`mmaupro_ext.audio.resample`.
    cache : AudioCache or path-like, optional
        Folder that keeps the result for the next time the same content is loaded in the same way
        (see :mod:`mmaupro_ext.audio.cache`). The samples are the same without it. Uncompressed
        files are not kept, unless soxr has to resample them: they are decoded as fast.

    Returns
    -------
    numpy.ndarray
        float32 of shape ``(n,)`` for ``"mono"``, ``(channels, n)`` for ``"keep"`` and for two
        channels apart, with ``n = ceil(frames * sampling_rate / file_rate)``. Integer formats are
        scaled to [-1, 1); others may exceed it.

    Raises
    ------
    AudioError
        If the file is missing, not a file, empty, not readable, not audio, holds no samples, holds
        NaN or an infinity, or is cut short. The message names the file and what to do.
    ConfigError
        If `channels` or `resampler` is unknown, or `cache` cannot be a folder.

    Notes
    -----
    Decoding, mixing and resampling go block by block, so beyond the result the memory needed does
    not depend on the length of the file.

    A file counts as cut short if it holds fewer samples than its header says (WAV, RF64, W64, AIFF,
    AU, FLAC, CAF; MP3 with a Xing or Info header), if its decoder loses its way, or if it ends
    inside an Ogg page. An MP3 without such a header that is cut between two of its frames, and an
    Ogg file that is cut between two pages, cannot be told from a shorter one.
    """
    rate = _check_arguments(sampling_rate, channels, resampler)
    name = _readable(path)
    kept = None if cache is None else as_cache(cache)
    if kept is None or _fast_to_decode(name, rate, resampler):
        return _load(name, rate, channels, resampler)
    return kept.samples(
        name, Spec(rate, channels, resampler), lambda: _load(name, rate, channels, resampler)
    )


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
    return _decode(_readable(path), rate, channels, resampler)


def _fast_to_decode(name: str, rate: int | None, resampler: str) -> bool:
    """Return whether a cache would not be faster: it has to read and hash the file as well."""
    with _open(name) as file:
        if file.format not in UNCOMPRESSED_FORMATS or file.subtype not in BYTES_PER_SAMPLE:
            return False
        return resampler_used(file.samplerate, rate or file.samplerate, resampler) != "soxr"


def _load(name: str, rate: int | None, channels: str, resampler: str) -> npt.NDArray[np.float32]:
    return _decode(name, rate, channels, resampler).samples


def _rows(info: AudioInfo, channels: str) -> int:
    """Return how many channels the result has."""
    if channels == "keep" or (channels == "apart" and info.channels == 2):
        return info.channels
    return 1


def _decode(name: str, rate: int | None, channels: str, resampler: str) -> Decoded:
    with _open(name) as file:
        info = _info(name, file)
        target = rate or info.sampling_rate
        rows = _rows(info, channels)
        expected = output_length(info.frames, info.sampling_rate, target)
        believed = max(FIRST_CAPACITY, SAMPLES_OF_A_BYTE * os.path.getsize(name))
        result = _Growing(rows, min(expected, believed // rows))
        memory = _of_this_thread.__dict__.setdefault("memory", _Memory())
        for piece in _pieces(info, file, target, rows, resampler, result.room, memory):
            result.filled(piece.shape[1])
    samples = result.finished()
    return Decoded(samples if channels == "keep" or rows > 1 else samples[0], info)


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
    needed does not depend on the length of the file.

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
        As :func:`load`: at the call for a bad argument or a missing file, at the first block for a
        bad header, and after the blocks before it for damage that only decoding finds. So use
        nothing of a file before all its blocks have come.
    """
    rate = _check_arguments(sampling_rate, channels, resampler)
    if block_s is not None and rate is not None:
        sample_count(block_s, rate, "block_s")
    return _stream(_readable(path), rate, channels, block_s, resampler)


def stream_to(
    path: str | os.PathLike[str],
    sampling_rate: int,
    resampler: str,
    room: Callable[[int], npt.NDArray[np.float32]],
) -> Iterator[npt.NDArray[np.float32]]:
    """Do as `stream` in mono, but write each block where ``room(samples)`` says: shape (1, samples)."""
    _check_arguments(sampling_rate, "mono", resampler)

    def blocks(name: str) -> Iterator[npt.NDArray[np.float32]]:
        with _open(name) as file:
            info = _info(name, file)
            yield from _pieces(info, file, sampling_rate, 1, resampler, room, _Memory())

    return blocks(_readable(path))


def _stream(
    name: str, rate: int | None, channels: str, block_s: float | None, resampler: str
) -> Iterator[npt.NDArray[np.float32]]:
    with _open(name) as file:
        info = _info(name, file)
        target = rate or info.sampling_rate
        rows = _rows(info, channels)

        def room(samples: int) -> npt.NDArray[np.float32]:
            return np.empty((rows, samples), np.float32)

        pieces = _pieces(info, file, target, rows, resampler, room, _Memory())
        if block_s is not None:
            length = round(sample_count(block_s, target, "block_s"))
            pieces = (piece.copy() for _, piece in cut(pieces, length, Fraction(length), "keep"))
        for piece in pieces:
            if piece.size:
                yield piece if channels == "keep" or rows > 1 else piece[0]


def _check_arguments(sampling_rate: int | None, channels: str, resampler: str) -> int | None:
    valid_choice(channels, "channels", CHANNELS)
    valid_choice(resampler, "resampler", RESAMPLERS)
    return None if sampling_rate is None else valid_rate(sampling_rate)


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
    info: AudioInfo,
    file: soundfile.SoundFile | PcmWav,
    target: int,
    rows: int,
    resampler: str,
    room: Callable[[int], npt.NDArray[np.float32]],
    memory: _Memory,
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield mixed and resampled ``(rows, m)``, written where ``room(m)`` says."""
    if not isinstance(file, PcmWav):  # which has all that its header says
        _check_body(info)
    streams = []
    if target != info.sampling_rate:
        valid_rates(info.sampling_rate, target)
        buffers = [memory.stream if i == 0 else None for i in range(rows)]
        streams = [stream_for(info.sampling_rate, target, resampler, b) for b in buffers]
    for block in _blocks(info, file, memory):
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


def _readable(path: Any) -> str:
    """Return the path as text, or raise AudioError where there is no file to read."""
    try:
        name = os.fspath(path)
    except TypeError:
        raise AudioError(f"{path!r} is not a path", fix="Give the name of an audio file.") from None
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    try:
        found = os.stat(name)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        if "\0" in name or not os.path.lexists(name):
            problem, fix = "no such file", "Check the path, or get the data again."
        else:  # a link to nowhere, or a folder on the way that may not be entered
            problem, fix = "is not a regular file", "Name an audio file."
        raise AudioError(problem, path=name, fix=fix) from None
    if stat.S_ISDIR(found.st_mode):
        raise AudioError("is a directory", path=name, fix="Name an audio file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise AudioError("is not a regular file", path=name, fix="Name an audio file.")
    if found.st_size == 0:
        raise AudioError("is empty (0 bytes)", path=name, fix="Get the file again.")
    return name


class _FromFrontToBack(soundfile.SoundFile):
    """A file that is read once. soundfile seeks to where it is after each block, where it can."""

    def seekable(self) -> bool:
        return False


def _open(name: str) -> soundfile.SoundFile | PcmWav:
    pcm = open_pcm_wav(name)
    if pcm is not None:
        return pcm
    try:
        return _FromFrontToBack(name)
    except soundfile.LibsndfileError as error:
        if not os.access(name, os.R_OK):
            fix = "Check its permissions."
            raise AudioError("may not be read", path=name, fix=fix) from None
        problem = f"is not audio that libsndfile can read ({_reason(error)})"
    except TypeError:  # soundfile takes the name of raw samples as a promise of more arguments
        problem = "has no header (raw samples)"
    raise AudioError(problem, path=name, fix=f"{CONVERT} If it should be audio, get it again.")


def _reason(error: soundfile.LibsndfileError | OSError) -> str:
    """Return libsndfile's reason, without the words that mislead, or the system's."""
    if isinstance(error, OSError):
        return str(error.strerror)
    reason = error.error_string.removeprefix("Error : ").rstrip(".")
    # What it says of an MP3 without a single frame.
    return "no MPEG frame in it" if "possibly a pipe" in reason else reason


def _info(name: str, file: soundfile.SoundFile | PcmWav) -> AudioInfo:
    if file.frames <= 0:
        raise AudioError("holds no samples", path=name, fix="Get the file again, or leave it out.")
    return AudioInfo(
        path=name,
        frames=file.frames,
        sampling_rate=file.samplerate,
        channels=file.channels,
        seconds=file.frames / file.samplerate,
        format=file.format,
        subtype=file.subtype,
    )


def _check_body(info: AudioInfo) -> None:
    """Raise AudioError if the file ends before its header says."""
    if info.format == "OGG" and containers.last_ogg_page_is_cut(info.path):
        raise AudioError(
            f"is cut short: it ends inside a page after {info.frames} frames",
            path=info.path,
            fix=GET_AGAIN,
        )
    body = containers.sample_bytes(info.path)
    if body is None or body.present >= body.declared:
        return
    width = BYTES_PER_SAMPLE.get(info.subtype, 0) * info.channels
    unit, width = ("frames", width) if width else ("bytes of samples", 1)
    if body.present // width < body.declared // width:
        raise _cut_short(info.path, body.present // width, body.declared // width, unit)


def _cut_short(path: str, present: int, declared: int, unit: str = "frames") -> AudioError:
    return AudioError(
        f"is cut short: it holds {present} of {declared} {unit}", path=path, fix=GET_AGAIN
    )


def _blocks(
    info: AudioInfo, file: soundfile.SoundFile | PcmWav, memory: _Memory
) -> Iterator[npt.NDArray]:
    """Yield decoded ``(frames, channels)``; each block overwrites the one before."""
    dtype = SAMPLE_TYPES.get(info.subtype, "float32")
    frames = max(1, BLOCK_FRAMES * 2 // info.channels)  # bounds the memory, not the time
    buffer = memory.block_of(min(frames, info.frames), info.channels, dtype)
    done = 0
    while done < info.frames:  # libsndfile never gives more than that
        try:
            block: npt.NDArray[Any] = file.read(out=buffer)
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(
                f"cannot be decoded between frames {done} and {done + frames} of "
                f"{info.frames} ({_reason(error)})",
                path=info.path,
                fix=GET_AGAIN,
            ) from error
        if len(block) == 0:
            break
        if dtype == "float32" and not native.finite(block.reshape(-1)):
            check_finite(np.ascontiguousarray(block.T), "the signal", path=info.path, first=done)
        done += len(block)
        yield block
    slack = MPEG_SLACK if info.format == "MP3" else 0
    if done == 0 or done + slack < info.frames:
        raise _cut_short(info.path, done, info.frames)
