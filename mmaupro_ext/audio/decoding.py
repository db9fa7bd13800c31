"""Files to samples: what one clip becomes, and the clips that a model is given.

Blocks of a file (`opening`) are mixed and resampled as they come. Requests carry references only: an
`AudioReader` decodes a clip when its item is prepared, and keeps recent ones within a bound in bytes,
because several requests share a clip: the choices of one question, and the questions on one recording.

Longer than other files, so that who follows a clip finds the whole way from a reference to the samples
that a model is given here: `opening` alone lies behind it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio import in_memory
from mmaupro_ext.audio.altering import altered, altered_seconds
from mmaupro_ext.audio.channels import to_mono
from mmaupro_ext.audio.opening import AudioInfo, Clip, open_clip
from mmaupro_ext.audio.resampling import RESAMPLERS, SoxrStream, plan_for, resample, resampler_used
from mmaupro_ext.audio.validate import check_finite, valid_rate, valid_seconds, valid_signal
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.util import require_choice

Samples = npt.NDArray[np.float32]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
_Key = tuple[str, int, int]  # path, time of change, size

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
        float32 of shape ``(n,)`` or ``(channels, n)``, as :func:`mmaupro_ext.audio.load` returns it.
    info : AudioInfo
        What the file held: frames and seconds are those that were decoded.
    resampler : {"none", "native", "soxr"}
        What changed its sampling rate.
    condition : mapping or None
        What was done to the samples for an ablation (`altering`); `info` is then of the sound as it is given.
    """

    samples: Samples
    info: AudioInfo
    resampler: str
    condition: Mapping[str, Any] | None = None

    @property
    def tracks(self) -> list[Samples]:
        """The channels that are heard: one mono signal, or several."""
        return list(np.atleast_2d(self.samples))


def decode(
    path: Source,
    sampling_rate: int | None = 16000,
    channels: str = "mono",
    *,
    resampler: str = "native",
    offset: float = 0.0,
    duration: float | None = None,
) -> Decoded:
    """Decode, mix and resample an audio file as :func:`load` does, and say what it held.

    The file is opened once.

    Parameters
    ----------
    path, sampling_rate, channels, resampler, offset, duration
        As in :func:`load`.

    Returns
    -------
    Decoded
        The samples, and an `AudioInfo` of what was really decoded; of a part, what its header says.

    Raises
    ------
    AudioError, ConfigError
        As :func:`load`.

    Examples
    --------
    >>> from mmaupro_ext.data import SAMPLE_DIR
    >>> clip = decode(SAMPLE_DIR / "data" / "078edf8a-f09e-410a-b0f7-c2d97f0c870e.flac")
    >>> clip.samples.shape, clip.info.sampling_rate, clip.resampler
    ((39580,), 11025, 'native')
    """
    rate = checked(sampling_rate, channels, resampler)
    valid_seconds(offset, "offset")
    if duration is not None and not valid_seconds(duration, "duration"):
        raise ConfigError("duration=0: give more than that, or leave it out for all there is.")
    return _decoded(path, rate, channels, resampler, offset, duration)


def _decoded(
    path: Source,
    rate: int | None,
    channels: str,
    resampler: str,
    offset: float = 0.0,
    duration: float | None = None,
) -> Decoded:
    with open_clip(path) as clip:
        info = clip.info
        target = rate or info.sampling_rate
        rows = rows_of(info, channels)
        expected = native.output_length(info.frames, info.sampling_rate, target)
        start = round(offset * target)
        end = None if duration is None else start + round(duration * target)
        believed = max(FIRST_CAPACITY, SAMPLES_OF_A_BYTE * clip.size)
        result = _Growing(rows, min(expected, believed // rows))
        memory = _of_this_thread.__dict__.setdefault("memory", Memory())
        for piece in pieces_of(clip, target, rows, resampler, result.room, memory):
            result.filled(piece.shape[1])
            if end is not None and result.length >= end:
                break
    samples = result.finished()
    if start or end is not None:
        samples = samples[:, start:end].copy()
        if not samples.size:
            fix = f"The file has {info.seconds:g} s."
            raise AudioError(f"has nothing from offset={offset:g} s on", path=info.path, fix=fix)
    if rows == 1 and channels != "keep":
        samples = samples[0]
    used = "none"
    if target != info.sampling_rate:
        used = "native" if _plan(info, target, resampler) else "soxr"
    return Decoded(samples, clip.info, used)


class AudioReader:
    """Decode clips for one model, keeping recent ones. Threads may share it: each clip is decoded once.

    Parameters
    ----------
    sampling_rate : int
        The model's rate in Hz, and that of the clips that are read.
    resampler : str
        "native" or "soxr", as in `mmaupro_ext.audio.load`.
    cache_bytes : int
        Decoded clips are kept up to this many bytes; the newest is always kept.
    channels : {"mono", "apart"}
        As in :func:`mmaupro_ext.audio.load`.

    Attributes
    ----------
    decoded : int
        How many files were decoded.
    resamplers_used : set of str
        The native resampler leaves some pairs of rates to soxr.

    Raises
    ------
    AudioError, ConfigError
        If an argument is not usable.
    """

    def __init__(
        self, sampling_rate: int, resampler: str, cache_bytes: int, channels: str = "mono"
    ) -> None:
        checked(sampling_rate, channels, resampler)
        self.sampling_rate = int(sampling_rate)
        self.channels = channels
        self.resampler = resampler
        self.cache_bytes = cache_bytes
        self.decoded = 0
        self.resamplers_used: set[str] = set()
        self._kept: OrderedDict[_Key, Decoded] = OrderedDict()
        self._kept_bytes = 0
        self._coming: dict[_Key, Future[Decoded]] = {}
        self._stated: dict[_Key, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def read(self, reference: Any) -> Decoded:
        """Return the clip that a reference stands for.

        Parameters
        ----------
        reference : str, path, mapping or torchcodec.decoders.AudioDecoder
            A path, `{"path": ...}`, `{"bytes": content of a file}`, or `{"array": samples of shape (n,) or
            (channels, n), "sampling_rate": Hz}`; a mapping with `condition`, the sound that is given in
            place of the clip (`altering.altered`), which is made anew each time.

        Raises
        ------
        AudioError
            When the file or the array cannot be used, or the reference has none of these forms.
        OSError
            When the file cannot be opened.
        """
        told = condition_of(reference)
        if told is not None:
            return self._altered(reference, told)
        if hasattr(reference, "get_all_samples"):  # a decoder of torchcodec
            sound = reference.get_all_samples()
            reference = {"array": sound.data.numpy(), "sampling_rate": sound.sample_rate}
        if _is_array(reference):
            return self._from_array(reference)
        source = _source_of(reference)
        key = _key(source)
        if key is None:
            return self._decode(source)  # says what is wrong
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            coming = self._coming.get(key)
            mine: Future[Decoded] = Future()
            if coming is None:
                self._coming[key] = mine
        if coming is not None:
            return coming.result()
        try:
            clip = self._decode(source)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            self._keep(key, clip)
            mine.set_result(clip)
            return clip
        finally:
            with self._lock:
                del self._coming[key]

    def stated(self, reference: Any) -> tuple[float, int]:
        """Return what a header states, without decoding: seconds, and channels that will be heard.

        (0.0, 1) for what cannot be read: reading it for its batch will say what is wrong. Each header
        is read once.
        """
        try:
            told = condition_of(reference)
            if told is not None:
                seconds, channels = self.stated({**reference, "condition": None})
                return altered_seconds(seconds, told), channels
            if hasattr(reference, "get_all_samples"):
                return float(reference.metadata.duration_seconds), 1
            if _is_array(reference):
                shape = np.shape(reference["array"])
                channels = 2 if self.channels == "apart" and shape[:-1] == (2,) else 1
                return shape[-1] / float(reference["sampling_rate"]), channels
            source = _source_of(reference)
            key = _key(source)
            if key is None:
                return 0.0, 1
            if key not in self._stated:
                with open_clip(source) as opened:
                    info = opened.info
                self._stated[key] = info.seconds, rows_of(info, self.channels)
            return self._stated[key]
        except (AudioError, OSError, KeyError, TypeError, ValueError, ZeroDivisionError):
            return 0.0, 1

    def stated_seconds(self, references: Sequence[Any]) -> float:
        """Return the stated length of clips in all, twice where two channels are heard apart."""
        return sum(seconds * channels for seconds, channels in map(self.stated, references))

    def _altered(self, reference: Mapping[str, Any], told: Mapping[str, Any]) -> Decoded:
        clip = self.read({**reference, "condition": None})
        try:
            samples = altered(clip.samples, self.sampling_rate, told)
        except AudioError as error:
            raise AudioError(error.problem, path=clip.info.path, fix=error.fix) from None
        share = samples.shape[-1] / clip.samples.shape[-1]
        info = dataclasses.replace(
            clip.info,
            frames=round(clip.info.frames * share),
            seconds=clip.info.seconds * share,
        )
        return Decoded(samples, info, clip.resampler, told)

    def _decode(self, source: str | bytes) -> Decoded:
        clip = _decoded(source, self.sampling_rate, self.channels, self.resampler)
        with self._lock:
            self.decoded += 1
            self.resamplers_used.add(clip.resampler)
        return clip

    def _from_array(self, reference: Mapping[str, Any]) -> Decoded:
        name = name_of(reference)
        try:
            array = valid_signal(reference["array"], "the array")
        except AudioError as error:
            raise AudioError(error.problem, path=name, fix=error.fix) from None
        if not reference.get("sampling_rate"):
            raise AudioError("array without its sampling rate", path=name, fix="Add sampling_rate.")
        channels = 1 if array.ndim == 1 else len(array)
        if array.ndim == 2 and not (self.channels == "apart" and channels == 2):
            array = to_mono(array)
        rate = int(reference["sampling_rate"])
        samples = resample(array, rate, self.sampling_rate, resampler=self.resampler)
        used = resampler_used(rate, self.sampling_rate, self.resampler)
        self.resamplers_used.add(used)
        frames = array.shape[-1]
        info = AudioInfo(name, frames, rate, channels, frames / rate, "array", array.dtype.name)
        return Decoded(samples, info, used)

    def _keep(self, key: _Key, clip: Decoded) -> None:
        with self._lock:
            self._kept[key] = clip
            self._kept_bytes += clip.samples.nbytes
            while self._kept_bytes > self.cache_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.samples.nbytes


def condition_of(reference: Any) -> Mapping[str, Any] | None:
    """Return what a reference asks to be done to the samples of its clip; None: nothing."""
    return reference.get("condition") if isinstance(reference, Mapping) else None


def _is_array(reference: Any) -> bool:
    return isinstance(reference, Mapping) and reference.get("array") is not None


def _key(source: str | bytes) -> _Key | None:
    """Return what tells a file from another one, and from itself before it changed; None if missing."""
    if not isinstance(source, str):
        return hashlib.sha256(source).hexdigest(), 0, len(source)
    try:
        state = os.stat(source)
    except OSError:
        return None
    return source, state.st_mtime_ns, state.st_size


def _source_of(reference: Any) -> str | bytes:
    """Return the path of a file, or its content where a reference has it."""
    if isinstance(reference, Mapping):
        if reference.get("problem"):
            name = str(reference.get("path"))
            raise AudioError(f"is not opened: {reference['problem']}", path=name)
        if reference.get("bytes") is not None:
            return in_memory.Content.of(reference["bytes"], reference.get("path"))
    path: Any = reference.get("path") if isinstance(reference, Mapping) else reference
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise AudioError(
            f"a reference to audio of type {type(reference).__name__} has no path",
            fix='Let doc_to_audio return {"path": ...}, {"bytes": ...} or '
            '{"array": ..., "sampling_rate": ...}.',
        )
    return str(os.fspath(path))


def name_of(reference: Any) -> str:
    """Return how a reference is called in messages: its path where it has one."""
    if isinstance(reference, Mapping):
        return str(reference.get("path") or "audio without a path")
    if isinstance(reference, (str, os.PathLike)):
        return os.fspath(reference)
    return f"{type(reference).__name__} in memory"


# ---- Blocks of a file, mixed and resampled.


def checked(sampling_rate: int | None, channels: str, resampler: str) -> int | None:
    """Return the rate as int; raise AudioError or ConfigError if an argument is not usable."""
    require_choice("channels", channels, CHANNELS)
    require_choice("resampler", resampler, RESAMPLERS)
    return None if sampling_rate is None else valid_rate(sampling_rate)


def rows_of(info: AudioInfo, channels: str) -> int:
    """Return how many channels the result has."""
    if channels == "keep" or (channels == "apart" and info.channels == 2):
        return info.channels
    return 1


@dataclass
class Memory:
    """What decoding works in. A thread keeps it: new pages cost as much as the work on them."""

    block: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    stream: Samples = field(default_factory=lambda: np.empty(0, np.float32))

    def block_of(self, frames: int, channels: int, dtype: str) -> npt.NDArray:
        """Return an array of shape (frames, channels) in the memory for blocks."""
        size = frames * channels * np.dtype(dtype).itemsize
        if self.block.size < size:
            self.block = np.empty(size, np.uint8)
        return self.block[:size].view(dtype).reshape(frames, channels)


_of_this_thread = threading.local()


def pieces_of(
    clip: Clip,
    target: int,
    rows: int,
    resampler: str,
    room: Callable[[int], Samples],
    memory: Memory,
) -> Iterator[Samples]:
    """Yield mixed and resampled ``(rows, m)``, written where ``room(m)`` says."""
    info = clip.info
    streams: list[native.Stream | SoxrStream] = []
    if target != info.sampling_rate:
        plan = _plan(info, target, resampler)
        for row in range(rows):
            streams.append(
                native.Stream(plan, None if row else memory.stream)
                if plan
                else SoxrStream(info.sampling_rate, target)
            )
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


def _plan(info: AudioInfo, target: int, resampler: str) -> native.ResamplePlan | None:
    """Return the native plan for a file's rate, or None where soxr resamples."""
    try:
        return plan_for(info.sampling_rate, target, resampler)
    except AudioError as error:
        raise AudioError(error.problem, path=info.path, fix=error.fix) from None


def _finite_blocks(clip: Clip, memory: Memory) -> Iterator[npt.NDArray[Any]]:
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
    streams: Sequence[native.Stream | SoxrStream], room: Callable[[int], Samples]
) -> Samples:
    """Return what the streams have ready, written where `room` says."""
    out = room(streams[0].ready)
    for stream, row in zip(streams, out, strict=True):
        stream.give(row)
    return out


class _Growing:
    """Rows of samples of a length that is expected, but only known at the end."""

    def __init__(self, rows: int, expected: int) -> None:
        self._samples = np.empty((rows, max(1, expected)), np.float32)
        self.length = 0

    def room(self, samples: int) -> Samples:
        """Return where the next samples may be written."""
        end = self.length + samples
        rows, capacity = self._samples.shape
        if end > capacity:
            larger = np.empty((rows, max(end, 2 * capacity)), np.float32)
            larger[:, : self.length] = self._samples[:, : self.length]
            self._samples = larger
        return self._samples[:, self.length : end]

    def filled(self, samples: int) -> None:
        """Keep so many samples that were written to the `room`."""
        self.length += samples

    def finished(self) -> Samples:
        rows, capacity = self._samples.shape
        if self.length == capacity:
            return self._samples
        filled = self._samples[:, : self.length]
        # What decoding made a little shorter than its header says need not be there twice.
        return filled if rows == 1 and 16 * self.length > 15 * capacity else filled.copy()
