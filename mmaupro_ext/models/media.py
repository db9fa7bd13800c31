"""Media of one request: found by their references, decoded when their batch needs them.

Requests carry references only. `AudioReader` decodes a clip when its item is prepared and keeps
recent clips within a bound in bytes, because several requests share a clip: the choices of one
question, and the questions on one recording.
"""

from __future__ import annotations

import io
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import audio
from mmaupro_ext.errors import AudioError, ItemError

if TYPE_CHECKING:
    from PIL.Image import Image

Samples = npt.NDArray[np.float32]
_Key = tuple[str, int, int]  # path, time of change, size

STEREO_AS_TWO = "stereo-as-two"
CHANNELS = ("mono", STEREO_AS_TWO)


def media_of(arguments: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the media references of a request by kind, without empty kinds.

    Parameters
    ----------
    arguments : sequence
        `Instance.args`: lm_eval puts a mapping such as `{"audio": [...], "visual": [...]}` third.

    Returns
    -------
    dict
        Kind ("audio", "visual") to its flat, non-empty list of references.
    """
    if len(arguments) < 3 or not isinstance(arguments[2], Mapping):
        return {}
    media = {kind: _flatten(value) for kind, value in arguments[2].items()}
    return {kind: references for kind, references in media.items() if references}


def _flatten(value: Any) -> list[Any]:
    """Make a list of one reference, a list of them, or (a list of columns) a list of lists."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        return [value]
    return [reference for entry in value for reference in _flatten(entry)]


def media_key(media: Mapping[str, Sequence[Any]]) -> str:
    """Return a key that is equal for requests with the same media."""
    return json.dumps(media, sort_keys=True, default=lambda thing: f"object at {id(thing)}")


def name_of(reference: Any) -> str:
    """Return how a reference is called in messages: its path where it has one."""
    if isinstance(reference, Mapping):
        return str(reference.get("path") or "audio without a path")
    if isinstance(reference, (str, os.PathLike)):
        return os.fspath(reference)
    return f"{type(reference).__name__} in memory"


def names_of(media: Mapping[str, Sequence[Any]]) -> str:
    """Return the names of all media of a request, for messages."""
    return ", ".join(name_of(entry) for references in media.values() for entry in references)


@dataclass(frozen=True)
class Clip:
    """One clip as decoded for the model.

    Parameters
    ----------
    name : str
        Path of the file, or a description of audio in memory.
    samples : numpy.ndarray
        float32 at the model's sampling rate: shape `(samples,)`, or `(2, samples)` for left and
        right where the model takes stereo as two.
    seconds_in_file : float
        Length of what the file holds, in seconds.
    channels_in_file : int
        1 for an array.
    sampling_rate_in_file : int
        In Hz.
    """

    name: str
    samples: Samples
    seconds_in_file: float
    channels_in_file: int
    sampling_rate_in_file: int

    @property
    def tracks(self) -> list[Samples]:
        """What is cut into blocks: the mono signal, or the left and the right channel."""
        return list(np.atleast_2d(self.samples))


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
    channels : {"mono", "stereo-as-two"}
        The mean over all channels; or both channels of files that have two, and the mean of
        others.

    Attributes
    ----------
    decoded : int
        How many files were decoded.
    resamplers_used : set of str
        The native resampler leaves some pairs of rates to soxr.
    """

    def __init__(
        self, sampling_rate: int, resampler: str, cache_bytes: int, channels: str = "mono"
    ) -> None:
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.resampler = resampler
        self.cache_bytes = cache_bytes
        self.decoded = 0
        self.resamplers_used: set[str] = set()
        self._kept: OrderedDict[_Key, Clip] = OrderedDict()
        self._kept_bytes = 0
        self._coming: dict[_Key, Future[Clip]] = {}
        self._stated: dict[_Key, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def read(self, reference: Any) -> Clip:
        """Return the clip that a reference stands for.

        Parameters
        ----------
        reference : str, path or mapping
            A path, `{"path": ...}`, or `{"array": 1-D samples, "sampling_rate": Hz}`.

        Raises
        ------
        AudioError
            When the file or the array cannot be used, or the reference has none of these forms.
        OSError
            When the file cannot be opened.
        """
        if _is_array(reference):
            return self._from_array(reference)
        path = _path_of(reference)
        key = _key(path)
        if key is None:
            return self._decode(path)  # says what is wrong
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            coming = self._coming.get(key)
            mine: Future[Clip] = Future()
            if coming is None:
                self._coming[key] = mine
        if coming is not None:
            return coming.result()
        try:
            clip = self._decode(path)
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
            if _is_array(reference):
                return len(reference["array"]) / float(reference["sampling_rate"]), 1
            path = _path_of(reference)
            key = _key(path)
            if key is None:
                return 0.0, 1
            if key not in self._stated:
                info = audio.probe(path)
                apart = self.channels == STEREO_AS_TWO and info.channels == 2
                self._stated[key] = info.seconds, 2 if apart else 1
            return self._stated[key]
        except (AudioError, OSError, KeyError, TypeError, ValueError, ZeroDivisionError):
            return 0.0, 1

    def stated_seconds(self, references: Sequence[Any]) -> float:
        """Return the stated length of clips in all, twice where two channels are heard apart."""
        return sum(seconds * channels for seconds, channels in map(self.stated, references))

    def _decode(self, path: str) -> Clip:
        decoded = audio.decode(
            path,
            sampling_rate=self.sampling_rate,
            channels="apart" if self.channels == STEREO_AS_TWO else "mono",
            resampler=self.resampler,
        )
        info = decoded.info
        with self._lock:
            self.decoded += 1
        self._note_resampler(info.sampling_rate)
        return Clip(path, decoded.samples, info.seconds, info.channels, info.sampling_rate)

    def _from_array(self, reference: Mapping[str, Any]) -> Clip:
        name = name_of(reference)
        array = np.asarray(reference["array"], dtype=np.float32)
        if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
            raise AudioError(
                f"array of shape {array.shape} is not one channel of finite samples",
                path=name,
                fix="Give a non-empty 1-D array without NaN or infinity, or a path.",
            )
        if not reference.get("sampling_rate"):
            raise AudioError("array without its sampling rate", path=name, fix="Add sampling_rate.")
        rate = int(reference["sampling_rate"])
        samples = audio.resample(array, rate, self.sampling_rate, resampler=self.resampler)
        self._note_resampler(rate)
        return Clip(name, samples, array.size / rate, 1, rate)

    def _note_resampler(self, rate: int) -> None:
        self.resamplers_used.add(audio.resampler_used(rate, self.sampling_rate, self.resampler))

    def _keep(self, key: _Key, clip: Clip) -> None:
        with self._lock:
            self._kept[key] = clip
            self._kept_bytes += clip.samples.nbytes
            while self._kept_bytes > self.cache_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= dropped.samples.nbytes


def _is_array(reference: Any) -> bool:
    return isinstance(reference, Mapping) and reference.get("array") is not None


def _key(path: str) -> _Key | None:
    """Return what tells a file from another one, and from itself before it changed; None if missing."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return path, state.st_mtime_ns, state.st_size


def _path_of(reference: Any) -> str:
    path = reference.get("path") if isinstance(reference, Mapping) else reference
    if isinstance(reference, Mapping) and reference.get("problem"):
        raise AudioError(f"is not opened: {reference['problem']}", path=str(path))
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise AudioError(
            f"a reference to audio of type {type(reference).__name__} has no path",
            fix='Let doc_to_audio return {"path": ...} or {"array": ..., "sampling_rate": ...}.',
        )
    return str(os.fspath(path))


def read_image(reference: Any) -> Image:
    """Return an image in RGB.

    Parameters
    ----------
    reference : PIL.Image.Image, str, path or mapping
        An image, a path, `{"path": ...}` or `{"bytes": ...}`.

    Raises
    ------
    ItemError
        When the reference has none of these forms.
    OSError
        When the file cannot be read as an image.
    """
    from PIL import Image

    if isinstance(reference, Image.Image):
        return reference.convert("RGB")
    if isinstance(reference, Mapping) and reference.get("bytes"):
        source: Any = io.BytesIO(reference["bytes"])
    else:
        source = reference.get("path") if isinstance(reference, Mapping) else reference
    if not isinstance(source, (str, os.PathLike, io.BytesIO)):
        raise ItemError(
            f"a reference to an image of type {type(reference).__name__} cannot be read",
            fix="Let doc_to_image return PIL images or paths.",
        )
    with Image.open(source) as image:
        return image.convert("RGB")
