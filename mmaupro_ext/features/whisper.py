"""Whisper's log-mel spectrogram, which most audio language models are trained on.

Definition: ``log_mel_spectrogram`` in openai/whisper (``whisper/audio.py``) and ``WhisperFeatureExtractor``
in transformers. Users: Qwen2-Audio, Qwen2.5-Omni, Qwen3-Omni, Audio Flamingo 3, Music Flamingo, Voxtral;
dots3-note in chunks; nano; pictures in reports.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.features import mel
from mmaupro_ext.features.extractor import (
    VIRTUAL_PADDING,
    FloatArray,
    NativeExtractor,
    as_samples,
    buffer_length,
    check_rate,
    one_length,
    reference_samples,
    whole_number,
    write_features,
)

SAMPLING_RATE = 16000  # Hz
N_FFT = 400  # samples in a frame, 25 ms; periodic Hann window, half as many mirrored at either end
HOP_LENGTH = 160  # samples, 10 ms
SHORTEST = N_FFT // 2 + 1  # samples: what mirroring takes
MELS_MAX = 256  # bands; there are 201 bins
FLOOR = 1e-10  # v = log10(max(energy, FLOOR))
RANGE = 8.0  # decades under the largest v that are kept: feature = (max(v, max(v) - RANGE) + 4) / 4


def log_mel(
    x: npt.ArrayLike,
    n_mels: int = 128,
    *,
    sampling_rate: int = SAMPLING_RATE,
    pad_to: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return Whisper's log-mel features of one signal.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale; the drop-ins of
        `native_extractor` take integers by value, as transformers does).
    n_mels : int
        Number of mel bands: 80 (Whisper up to large-v2) or 128 (large-v3, Qwen2-Audio, ...); any
        number from 1 to 256 works.
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.
    pad_to : int, optional
        Length in samples of the buffer to extract from: ``x`` followed by zeros, e.g. 480000 for
        Whisper's 30 s. The zeros cost nothing. Default: the length of ``x``. Longer audio is never
        cut; split it with :func:`mmaupro_ext.audio.windows`.

    Returns
    -------
    numpy.ndarray
        Float32, shape (n_mels, frames) with frames = pad_to // 160: log10 of the mel energies,
        limited to 80 dB under the largest one of the buffer, plus 4, over 4.

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, is longer than ``pad_to`` or, without
        padding, shorter than 201 samples.
    ConfigError
        If ``n_mels`` or ``pad_to`` is not such a number.

    Examples
    --------
    >>> import numpy as np
    >>> log_mel(np.zeros(16000, np.float32), n_mels=80).shape
    (80, 100)
    >>> log_mel(np.zeros(16000, np.int16), pad_to=480000).shape  # as Whisper pads
    (128, 3000)
    """
    plan = _plan(_valid_n_mels(n_mels))
    check_rate(sampling_rate, SAMPLING_RATE)
    samples = as_samples(x)
    padded = buffer_length(samples.size, pad_to, SHORTEST)
    out = np.empty((plan.n_mels, padded // HOP_LENGTH), np.float32)
    write_features(plan, samples, out, padded=padded)
    return out


def log_mel_reference(
    x: npt.ArrayLike, n_mels: int = 128, *, pad_to: int | None = None
) -> npt.NDArray[np.float64]:
    """Return the features of :func:`log_mel` by the letter of the definition, in float64.

    Parameters
    ----------
    x, n_mels, pad_to
        As in :func:`log_mel`.

    Returns
    -------
    numpy.ndarray
        Float64, shape (n_mels, frames).

    Examples
    --------
    >>> import numpy as np
    >>> x = np.random.default_rng(0).standard_normal(16000) * 0.1
    >>> bool(abs(log_mel(x) - log_mel_reference(x)).max() < 1e-4)
    True
    """
    samples = reference_samples(x)
    padded = buffer_length(samples.size, pad_to, SHORTEST)
    signal = np.pad(np.pad(samples, (0, padded - samples.size)), N_FFT // 2, mode="reflect")
    energies = mel.energies(
        signal, mel.hann(N_FFT), HOP_LENGTH, mel_filters(n_mels), frames=padded // HOP_LENGTH
    )
    values = np.log10(np.maximum(energies, FLOOR)).T
    return (np.maximum(values, values.max() - RANGE) + 4.0) / 4.0


def mel_filters(n_mels: int = 128) -> npt.NDArray[np.float64]:
    """Return Whisper's mel filter bank: Slaney's scale from 0 to 8000 Hz, triangles of equal area.

    It is librosa's ``filters.mel(sr=16000, n_fft=400, n_mels=n_mels)``.

    Parameters
    ----------
    n_mels : int
        Number of filters.

    Returns
    -------
    numpy.ndarray
        Float64, shape (201, n_mels): the weight of each bin (40 Hz apart) in each filter.

    Raises
    ------
    ConfigError
        If ``n_mels`` is not a number from 1 to 256.

    Examples
    --------
    >>> mel_filters(80).shape
    (201, 80)
    """
    return mel.filter_bank(N_FFT, _valid_n_mels(n_mels), scale="slaney", equal_area=True)


def plan_of_filters(filters: npt.NDArray[np.floating]) -> native.Plan:
    """Return the kernel's plan for a filter bank of shape (201, n_mels).

    Raises
    ------
    ValueError
        If the kernel cannot use the bank.
    """
    # As float32, like the bank of a checkpoint.
    bank = np.asarray(filters, dtype=np.float32).astype(np.float64)
    try:
        return native.Plan(
            window=mel.hann(N_FFT),
            hop_length=HOP_LENGTH,
            n_fft=N_FFT,
            filters=bank,
            offset=N_FFT // 2,
            boundary="mirror",
            floor=FLOOR,
            scale=0.25 / math.log(10.0),
            shift=1.0,
            span=RANGE / 4.0,
            bands_first=True,
            precision="float",
        )
    except ValueError as error:
        raise ValueError(f"mel_filters cannot be used: {error}") from error


@functools.lru_cache(maxsize=8)
def _plan(n_mels: int) -> native.Plan:
    return plan_of_filters(mel_filters(n_mels))


def _valid_n_mels(n_mels: int) -> int:
    return whole_number("n_mels", n_mels, 1, MELS_MAX)


WHISPER_SETTINGS = {
    **VIRTUAL_PADDING,
    "n_fft": N_FFT,
    "hop_length": HOP_LENGTH,
    "sampling_rate": SAMPLING_RATE,
    "dither": 0.0,
}
"""Settings of a stock extractor that the kernel has built in."""


class NativeWhisper(NativeExtractor):
    """Before ``WhisperFeatureExtractor``."""

    native_settings = WHISPER_SETTINGS

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's filter bank."""
        return plan_of_filters(stock.mel_filters)

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (batch, n_mels, frames), and the mask that was asked for."""
        if call["do_normalize"]:
            self.native_refuse("do_normalize=True")
        call["max_length"] = call["max_length"] or self.n_samples
        waves, lengths = self.native_padded(waves, call)
        length = buffer_length(0, one_length(lengths), SHORTEST)
        features = np.empty((len(waves), self.native_plan.n_mels, length // HOP_LENGTH), np.float32)
        self.native_each(waves, features, length)
        data: dict[str, Any] = {"input_features": features}
        # The stock rule to the letter: False with do_normalize=None means "as configured", and
        # a mask that was not asked for by argument counts samples, not frames.
        asked = call["return_attention_mask"]
        masked = asked or call["do_normalize"]
        if self.return_attention_mask if masked is None else masked:
            step = HOP_LENGTH if asked else 1
            sizes = np.array([wave.size for wave in waves])
            data["attention_mask"] = (np.arange(length // step) * step < sizes[:, None]).astype(
                np.int32
            )
        return data
