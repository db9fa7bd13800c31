"""Inkling's log-mel spectrogram, from which its processor makes discrete mel tokens (dMel).

Source: ``InklingFeatureExtractor`` and ``InklingProcessor`` of transformers 5.23
(``models/inkling/feature_extraction_inkling.py``, lines 111-134; ``processing_inkling.py``, line 83).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import families
from mmaupro_ext.features.extractor import _waves
from mmaupro_ext.features.waveform import as_waveform
from mmaupro_ext.native.stft_mel import Plan

if TYPE_CHECKING:
    from transformers.feature_extraction_utils import BatchFeature

SAMPLING_RATE = 16000  # Hz
WIN_LENGTH = N_FFT = 1600  # samples, 100 ms; periodic Hann window
HOP_LENGTH = 800  # samples, 50 ms: one audio token
OFFSET = N_FFT - HOP_LENGTH  # zeros before the first sample; the end is padded to whole hops
N_MELS = 80  # Slaney's mel from 0 to half the sampling rate, triangles of equal area
POWER_FLOOR = 1e-10  # a bin's magnitude is sqrt(max(power, POWER_FLOOR))
FLOOR = 1e-10  # feature = log10(max(v, FLOOR))
TOKENS = 16  # levels of a band, equally spaced from LOWEST_TOKEN to HIGHEST_TOKEN
LOWEST_TOKEN, HIGHEST_TOKEN = -7.0, 2.0  # log10


def log_mel(x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE) -> npt.NDArray[np.float32]:
    """Return Inkling's features of one signal.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.

    Returns
    -------
    numpy.ndarray
        Float32, shape (ceil(n / 800), 80).

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or is empty.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    families.need_samples(samples, 1, "one frame")
    features = np.empty((-(-samples.size // HOP_LENGTH), N_MELS), np.float32)
    families.compute(_plan(), samples, features)
    return features


def log_mel_reference(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> npt.NDArray[np.float64]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, sampling_rate
        As in :func:`log_mel`.

    Returns
    -------
    numpy.ndarray
        Float64, shape (ceil(n / 800), 80).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    families.need_samples(samples, 1, "one frame")
    energies = families.reference_energies(
        np.pad(samples, (OFFSET, -samples.size % HOP_LENGTH)), families.hann(WIN_LENGTH), HOP_LENGTH,
        N_FFT, _filters(), magnitude=True, power_floor=POWER_FLOOR,
    )  # fmt: skip
    return np.log10(np.maximum(energies, FLOOR))


def tokens(features: npt.NDArray[np.floating]) -> npt.NDArray[np.int32]:
    """Return the discrete mel tokens: for each feature the number of the nearest level.

    Parameters
    ----------
    features : numpy.ndarray
        Features of any shape; a feature halfway between two levels takes the lower one.

    Returns
    -------
    numpy.ndarray
        Int32 from 0 to 15, of the same shape.
    """
    step = (HIGHEST_TOKEN - LOWEST_TOKEN) / (TOKENS - 1)
    position = (np.clip(features, LOWEST_TOKEN, HIGHEST_TOKEN) - LOWEST_TOKEN) / step
    return np.ceil(position - 0.5).astype(np.int32)


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of an ``InklingFeatureExtractor``."""
    families.check_settings(stock, families.VIRTUAL_PADDING)
    if stock.window_size != stock.n_fft:
        raise ConfigError(
            f"{type(stock).__name__} has a window of {stock.window_size} samples in n_fft="
            f"{stock.n_fft}; {families.STOCK_WAY_OUT}"
        )
    plan = families.build_plan(
        stock,
        window=families.hann(stock.window_size),
        filters=np.asarray(stock.mel_filters.T, np.float64),
        **_arguments(stock.n_fft, stock.hop_length),
    )
    return families.make_drop_in(stock, NativeInkling, plan)


@functools.cache
def _filters() -> npt.NDArray[np.float64]:
    return families.mel_filters(
        N_FFT, N_MELS, 0.0, SAMPLING_RATE / 2, scale="slaney", equal_area=True
    )


def _arguments(n_fft: int, hop_length: int) -> dict[str, Any]:
    return {
        "n_fft": n_fft,
        "hop_length": hop_length,
        "offset": max(n_fft - hop_length, 0),
        "magnitude": True,
        "power_floor": POWER_FLOOR,
        "floor": FLOOR,
        "scale": 1.0 / math.log(10.0),
    }


@functools.cache
def _plan() -> Plan:
    window = families.hann(WIN_LENGTH)
    return Plan(window=window, filters=_filters(), **_arguments(N_FFT, HOP_LENGTH))


class NativeInkling(families.NativeFamily):
    """The part of the drop-in that stands before the stock class."""

    def __call__(
        self: Any,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: Any = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = True,
        return_tensors: Any = None,
        device: str | None = "cpu",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        ``device`` is ignored: the work is done on the processor.
        """
        import torch
        from transformers.feature_extraction_utils import BatchFeature

        families.check_settings(self, families.VIRTUAL_PADDING)
        families.check_rate(self, sampling_rate)
        if getattr(raw_speech, "ndim", 1) > 1:  # to this class one array is one audio
            raise AudioError(
                f"one audio has the shape {tuple(raw_speech.shape)}, not one channel of samples",
                fix="Mix the channels first (mmaupro_ext.audio.load does), or pass a list of audios",
            )
        waves, lengths = families.pad_lengths(
            self, _waves(raw_speech), padding, max_length, truncation, pad_to_multiple_of
        )
        plan = self.native_plan
        frames = -(-families.one_length(lengths) // plan.hop_length)
        used = np.array([-(-wave.size // plan.hop_length) for wave in waves])
        features = np.empty((len(waves), frames, plan.n_mels), np.float32)
        for number, (wave, count) in enumerate(zip(waves, used, strict=True)):
            features[number, count:] = 0.0
            try:
                families.need_samples(wave, 1, "one frame")
                families.compute(plan, wave, features[number, :count])
            except AudioError as error:
                raise families.named(error, number + 1, len(waves)) from error
        data = {"input_features": torch.from_numpy(features)}
        if return_attention_mask:
            mask = np.arange(frames) < used[:, None]
            data["input_features_mask"] = torch.from_numpy(mask)
        return BatchFeature(data=data, tensor_type=return_tensors)
