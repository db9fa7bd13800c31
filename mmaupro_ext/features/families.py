"""What the log-mel families other than Whisper share: filter banks, checks, and the drop-ins.

Each family is one module (:mod:`gemma4 <mmaupro_ext.features.gemma4>`, ...) with its constants and
their source, ``log_mel_reference`` (float64, by the letter), ``log_mel`` (float32, native) and
``drop_in`` (the stock extractor of transformers with native arithmetic). :data:`MODULES` says which
stock class belongs to which module; to add a family, write its module and add a line there.
"""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features.waveform import as_waveform, check_finite, raise_unusable
from mmaupro_ext.native import logmel, stft_mel

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]
Scale = Literal["slaney", "htk", "kaldi"]

MODULES: Mapping[str, str] = {
    "Gemma4AudioFeatureExtractor": "gemma4",
    "ParakeetFeatureExtractor": "parakeet",
    "NemotronAsrStreamingFeatureExtractor": "parakeet",
    "Phi4MultimodalFeatureExtractor": "phi4",
    "Gemma3nAudioFeatureExtractor": "gemma3n",
    "GraniteSpeechFeatureExtractor": "granite",
    "FunAsrNanoFeatureExtractor": "kaldi",
    "InklingFeatureExtractor": "inkling",
    "Dots3NoteFeatureExtractor": "dots3",
    "Gemma4UnifiedAudioFeatureExtractor": "raw",
    "MuseSparkFeatureExtractor": "raw",
    "VibeVoiceAcousticTokenizerFeatureExtractor": "raw",
    "KyutaiSpeechToTextFeatureExtractor": "raw",
}
"""Name of the stock class -> module of this package that builds its drop-in."""

STOCK_WAY_OUT = "use frontend=stock to keep the library's own extractor"


# ---- Definitions in float64.


def hz_to_mel(hz: npt.ArrayLike, scale: Scale) -> npt.NDArray[np.float64]:
    """Return frequencies in Hz as mel: Slaney's scale, HTK's (base 10) or Kaldi's (base e)."""
    hz = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + hz / 700.0)
    above = 15.0 + 27.0 / np.log(6.4) * np.log(np.maximum(hz, 1000.0) / 1000.0)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, above)


def mel_to_hz(mel: npt.ArrayLike, scale: Scale) -> npt.NDArray[np.float64]:
    """Return the inverse of :func:`hz_to_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * np.expm1(mel / 1127.0)
    above = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
    return np.where(mel < 15.0, mel * 200.0 / 3.0, above)


def mel_filters(
    n_fft: int,
    n_mels: int,
    lowest_hz: float,
    highest_hz: float,
    *,
    scale: Scale,
    sampling_rate: int = 16000,
    equal_area: bool = False,
    triangles_in_mel: bool = False,
) -> npt.NDArray[np.float64]:
    """Return a bank of triangular filters whose corners are equally spaced in mel.

    Parameters
    ----------
    n_fft : int
        Points of the transform.
    n_mels : int
        Number of filters.
    lowest_hz, highest_hz : float
        Lower corner of the first filter and upper corner of the last one.
    scale : {"slaney", "htk", "kaldi"}
        The mel scale.
    sampling_rate : int
        In Hz.
    equal_area : bool
        Whether filters have the area 1 (in Hz) rather than the height 1.
    triangles_in_mel : bool
        Whether the sides are straight over mel (Kaldi) rather than over Hz.

    Returns
    -------
    numpy.ndarray
        Float64, shape (n_fft // 2 + 1, n_mels).
    """
    mels = np.linspace(hz_to_mel(lowest_hz, scale), hz_to_mel(highest_hz, scale), n_mels + 2)
    hz = np.arange(n_fft // 2 + 1) * (sampling_rate / n_fft)
    corners_hz = mel_to_hz(mels, scale)
    corners, bins = (mels, hz_to_mel(hz, scale)) if triangles_in_mel else (corners_hz, hz)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    at = bins[:, None]
    bank = np.maximum(np.minimum((at - low) / (centre - low), (high - at) / (high - centre)), 0.0)
    return bank * (2.0 / (corners_hz[2:] - corners_hz[:-2])) if equal_area else bank


def hann(length: int, *, symmetric: bool = False) -> npt.NDArray[np.float64]:
    """Return the Hann window, periodic unless ``symmetric``."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / (length - symmetric))


def hamming(length: int) -> npt.NDArray[np.float64]:
    """Return the symmetric Hamming window, 0.54 - 0.46 cos."""
    return 0.54 - 0.46 * np.cos(2.0 * np.pi * np.arange(length) / (length - 1))


def reference_energies(
    signal: npt.NDArray[np.float64],
    window: npt.NDArray[np.float64],
    hop_length: int,
    n_fft: int,
    filters: npt.NDArray[np.float64],
    *,
    frames: int | None = None,
    magnitude: bool = False,
    power_floor: float = 0.0,
    remove_mean: bool = False,
    frame_emphasis: float = 0.0,
) -> npt.NDArray[np.float64]:
    """Return float64 mel energies of the frames of a signal that is already padded.

    Parameters
    ----------
    signal : numpy.ndarray
        Float64 samples; frame t is ``signal[hop_length * t:][:len(window)]``.
    window, hop_length, n_fft, filters
        As in :class:`mmaupro_ext.native.stft_mel.Plan`.
    frames : int, optional
        How many; default: all that lie within the signal.
    magnitude, power_floor, remove_mean
        As in the plan.
    frame_emphasis : float
        Coefficient of the pre-emphasis in each frame.

    Returns
    -------
    numpy.ndarray
        Float64, shape (frames, n_mels).
    """
    count = max(0, 1 + (signal.size - window.size) // hop_length) if frames is None else frames
    energies = np.empty((count, filters.shape[1]))
    if not count:
        return energies
    cut = np.lib.stride_tricks.sliding_window_view(signal, window.size)[::hop_length][:count]
    for first in range(0, count, 1000):  # bounds the memory on long audio
        part = np.array(cut[first : first + 1000])
        if remove_mean:
            part -= part.mean(axis=1, keepdims=True)
        if frame_emphasis:
            part -= frame_emphasis * np.concatenate([part[:, :1], part[:, :-1]], axis=1)
        spectrum = np.abs(np.fft.rfft(part * window, n_fft)) ** 2
        if magnitude:
            spectrum = np.sqrt(np.maximum(spectrum, power_floor))
        energies[first : first + 1000] = spectrum @ filters
    return energies


def reference_samples(x: npt.ArrayLike, sampling_rate: int, wanted_rate: int) -> npt.NDArray[Any]:
    """Return checked samples in float64."""
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=wanted_rate)
    check_finite(samples)
    return samples.astype(np.float64)


# ---- Native computation.


def compute(
    plan: stft_mel.Plan, samples: FloatArray, out: FloatArray, *, padded: int | None = None
) -> float:
    """Write the frames of checked samples from the first one on; return the largest feature.

    Raises
    ------
    AudioError
        If a sample is not finite, or too large for float32 energies.
    """
    largest = stft_mel.features(plan, samples, out, padded=padded)
    if math.isnan(largest):
        raise_unusable(samples)
    return largest


def need_samples(samples: npt.NDArray[Any], least: int, why: str) -> None:
    """Raise AudioError if there are fewer samples than a family can work on."""
    if samples.size < least:
        raise AudioError(
            f"{samples.size} samples are too few: {why} takes at least {least}",
            fix="Leave this clip out, or pad it with zeros",
        )


# ---- Drop-ins.


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a stock extractor of one of the families.

    Parameters
    ----------
    stock : transformers.SequenceFeatureExtractor
        An extractor of a class in :data:`MODULES`. It is not changed.

    Returns
    -------
    transformers.SequenceFeatureExtractor
        An instance of a subclass of ``type(stock)`` with the same attributes; calling it gives the
        stock keys, shapes, types and masks.

    Raises
    ------
    ConfigError
        If the class is in no family, or a setting of the extractor is one that the kernel does not
        compute.
    """
    kind = type(stock)
    if isinstance(stock, NativeFamily):
        return stock
    if kind.__name__ not in MODULES or not kind.__module__.startswith("transformers."):
        raise ConfigError(
            f"there is no native form of {kind.__module__}.{kind.__qualname__}; {STOCK_WAY_OUT}"
        )
    module = importlib.import_module(f"mmaupro_ext.features.{MODULES[kind.__name__]}")
    return module.drop_in(stock)


def from_settings(settings: Mapping[str, Any]) -> Any | None:
    """Return the native extractor of a checkpoint whose stock one cannot be made here.

    Parameters
    ----------
    settings : mapping
        The checkpoint's preprocessor_config.json, or its part of processor_config.json.

    Returns
    -------
    transformers.SequenceFeatureExtractor or None
        None where the stock class has no native form that does without the packages it asks for.

    Raises
    ------
    ConfigError
        If a setting is one that the kernel does not compute.
    """
    name = MODULES.get(settings.get("feature_extractor_type", ""))
    module = importlib.import_module(f"mmaupro_ext.features.{name}") if name else None
    make = getattr(module, "from_settings", None)
    return None if make is None else make(settings)


class NativeFamily:
    """The part that all drop-ins share; it stands before the stock class."""

    native_plan: (
        stft_mel.Plan | logmel.Plan | None
    )  # on the class, so that to_dict does not find it

    def __reduce__(self: Any) -> Any:  # the class is made at run time: pickle what makes it
        kinds = type(self).__mro__[1:]
        stock = next(kind for kind in kinds if not issubclass(kind, NativeFamily))
        return _rebuild, (stock, self.__dict__)


def make_drop_in(
    stock: Any, mixin: type[NativeFamily], plan: stft_mel.Plan | logmel.Plan | None
) -> Any:
    """Return an instance of ``mixin`` before the stock class, with the stock attributes."""
    kind = type(stock)
    # The class keeps its name: save_pretrained writes it, and the loader looks it up.
    namespace = {"__module__": kind.__module__, "__doc__": kind.__doc__, "native_plan": plan}
    native_kind: Any = type(kind.__name__, (mixin, kind), namespace)
    native = object.__new__(native_kind)
    native.__dict__.update(copy.copy(stock.__dict__))
    return native


def _rebuild(kind: type, state: dict[str, Any]) -> Any:
    stock: Any = object.__new__(kind)
    stock.__dict__.update(state)
    return drop_in(stock)


def check_settings(extractor: Any, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the extractor has these settings, which the kernel has built in."""
    for name, built_in in settings.items():
        if getattr(extractor, name, built_in) != built_in:
            raise ConfigError(
                f"{type(extractor).__name__} has {name}={getattr(extractor, name)!r}, and the "
                f"native frontend computes {name}={built_in!r} only; {STOCK_WAY_OUT}"
            )


VIRTUAL_PADDING: Mapping[str, Any] = {"padding_side": "right", "padding_value": 0.0}
"""Settings under which padding is what the kernel adds for nothing: zeros behind the signal."""


def build_plan(extractor: Any, **arguments: Any) -> stft_mel.Plan:
    """Return the plan, or say that this extractor's settings make none."""
    try:
        return stft_mel.Plan(**arguments)
    except ValueError as error:
        raise ConfigError(f"{type(extractor).__name__}: {error}; {STOCK_WAY_OUT}") from error


def check_rate(extractor: Any, sampling_rate: int | None, *, warn: bool = True) -> None:
    """Raise AudioError for audio at another rate; warn if the caller did not say its rate."""
    if sampling_rate is None:
        if warn:
            _log.warning(
                "%s was called without sampling_rate; audio at another rate than %d Hz gives wrong "
                "features unnoticed",
                type(extractor).__name__,
                extractor.sampling_rate,
            )
    elif sampling_rate != extractor.sampling_rate:
        raise AudioError(
            f"{type(extractor).__name__} is defined at {extractor.sampling_rate} Hz, but the audio "
            f"is at {sampling_rate} Hz",
            fix=f"Convert it first: mmaupro_ext.audio.resample(x, {sampling_rate}, "
            f"{extractor.sampling_rate})",
        )


def pad_lengths(
    extractor: Any,
    waves: Sequence[FloatArray],
    padding: Any,
    max_length: int | None,
    truncation: bool,
    pad_to_multiple_of: int | None,
) -> tuple[list[FloatArray], list[int]]:
    """Return the audios, cut where the caller asked for it, and the length that each is padded to.

    The rules are those of ``SequenceFeatureExtractor.pad``; nothing is copied.
    """
    from transformers.utils import PaddingStrategy

    def rounded(length: int) -> int:
        if pad_to_multiple_of is None:
            return length
        return -(-length // pad_to_multiple_of) * pad_to_multiple_of

    strategy = extractor._get_padding_strategies(padding=padding, max_length=max_length)
    waves = list(waves)
    if truncation:
        if max_length is None:
            raise ConfigError("truncation=True needs max_length (in samples)")
        waves = [wave[: rounded(max_length)] for wave in waves]
    if strategy == PaddingStrategy.DO_NOT_PAD:
        return waves, [wave.size for wave in waves]
    if strategy == PaddingStrategy.LONGEST:
        max_length = max(wave.size for wave in waves)
    least = rounded(max_length or 0)
    return waves, [max(wave.size, least) for wave in waves]


def refuse_cut(before: Sequence[FloatArray], after: Sequence[FloatArray]) -> None:
    """Raise AudioError if truncation cut an audio, in a family that goes wrong then.

    The stock extractor keeps the lengths from before the cut: it normalises over, counts and masks
    frames that are not there.
    """
    for number, (whole, cut) in enumerate(zip(before, after, strict=True), start=1):
        if cut.size < whole.size:
            raise AudioError(
                f"audio {number} of {len(before)} in this call has {whole.size} samples, and "
                f"truncation to {cut.size} gives wrong features in this extractor",
                fix="Cut the audio before the call, or leave truncation out",
            )


def one_length(lengths: Iterable[int]) -> int:
    """Return the length that all have, or raise AudioError: they make no array."""
    found = set(lengths)
    if len(found) > 1:
        raise AudioError(
            f"the audios of this call have {len(found)} different lengths (in samples, from "
            f"{min(found)} to {max(found)}), which make no array",
            fix="Pass padding='longest'",
        )
    return found.pop()


def named(error: AudioError, number: int, count: int) -> AudioError:
    """Return the error with the number of the audio in its call, if there are several."""
    if count == 1:
        return error
    return AudioError(f"audio {number} of {count} in this call: {error.problem}", fix=error.fix)
