"""NeMo's log-mel spectrogram (Parakeet, Nemotron): pre-emphasis, and each band normalised.

Sources: ``ParakeetFeatureExtractor`` (normalised) and ``NemotronAsrStreamingFeatureExtractor`` (not)
of transformers 5.23 (``models/parakeet/feature_extraction_parakeet.py``, lines 94-120 and 245-275),
after ``AudioToMelSpectrogramPreprocessor`` of NVIDIA NeMo.

Normalising is ill-conditioned where a band hardly varies: its deviation, the divisor, is then made of
rounding errors. A band of a signal near the guard value 2**-24 is the usual case. The kernel therefore
takes ln(v 2**24 + 1), which is small there, and never rounds it to float32; the difference of ln(2**-24)
falls out with the mean.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import families
from mmaupro_ext.features.extractor import _waves
from mmaupro_ext.features.waveform import as_waveform
from mmaupro_ext.native import stft_mel
from mmaupro_ext.native.stft_mel import Plan

if TYPE_CHECKING:
    from transformers.feature_extraction_utils import BatchFeature

SAMPLING_RATE = 16000  # Hz
WIN_LENGTH = 400  # samples, 25 ms; a symmetric Hann window in the middle of N_FFT
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points; the signal has half as many zeros at either end
EMPHASIS = 0.97  # along the signal, its first sample unchanged
N_MELS = 128  # Nemotron 3 Omni; Parakeet has 80
LOWEST_HZ, HIGHEST_HZ = 0.0, 8000.0  # corners of the bank, Slaney's mel, triangles of equal area
GUARD = 2.0**-24  # feature = ln(v + GUARD)
EPSILON = 1e-5  # added to the deviation
SHORTEST = 2 * HOP_LENGTH  # samples: two frames, which a deviation takes


def log_mel(
    x: npt.ArrayLike,
    n_mels: int = N_MELS,
    *,
    normalize: bool = True,
    sampling_rate: int = SAMPLING_RATE,
) -> npt.NDArray[np.float32]:
    """Return NeMo's features of one signal.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    n_mels : int
        Number of mel bands: 128 (Nemotron 3 Omni) or 80 (Parakeet).
    normalize : bool
        Whether each band is brought to mean 0 and deviation 1 over the signal.
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.

    Returns
    -------
    numpy.ndarray
        Float32, shape (n // 160, n_mels). (The stock extractor has one frame of zeros more.)

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or, to be normalised, has less than 320
        samples.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    features = np.empty((samples.size // HOP_LENGTH, n_mels), np.float32)
    _compute(_plan(n_mels, normalize), samples, features, normalize)
    return features


def log_mel_reference(
    x: npt.ArrayLike,
    n_mels: int = N_MELS,
    *,
    normalize: bool = True,
    sampling_rate: int = SAMPLING_RATE,
) -> npt.NDArray[np.float64]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, n_mels, normalize, sampling_rate
        As in :func:`log_mel`.

    Returns
    -------
    numpy.ndarray
        Float64, shape (n // 160, n_mels).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    frames = samples.size // HOP_LENGTH
    if normalize:
        families.need_samples(samples, SHORTEST, "normalising")
    emphasised = np.concatenate([samples[:1], samples[1:] - EMPHASIS * samples[:-1]])
    energies = families.reference_energies(
        np.pad(emphasised, N_FFT // 2), _window(WIN_LENGTH), HOP_LENGTH, N_FFT, _filters(n_mels),
        frames=frames,
    )  # fmt: skip
    features = np.log(energies + GUARD)
    if not normalize:
        return features
    return (features - features.mean(0)) / (features.std(0, ddof=1) + EPSILON)


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a Parakeet or streaming Nemotron extractor."""
    normalize = type(stock).__name__ == "ParakeetFeatureExtractor"
    families.check_settings(stock, families.VIRTUAL_PADDING)
    if stock.n_fft % 2 or stock.win_length > stock.n_fft:
        raise ConfigError(
            f"{type(stock).__name__} has win_length={stock.win_length} and n_fft={stock.n_fft}, "
            f"which the native frontend does not compute; {families.STOCK_WAY_OUT}"
        )
    window = families.hann(stock.win_length, symmetric=True)
    filters = np.asarray(stock.mel_filters.T, np.float64)
    kept_as = getattr(stock, "mel_filters_dtype", "float32")
    if kept_as != "float32":  # constants of a reduced precision: round them as the stock class does
        window, filters = (_rounded(values, kept_as) for values in (window, filters))
    before = (stock.n_fft - stock.win_length) // 2
    window = np.pad(window, (before, stock.n_fft - stock.win_length - before))
    emphasis = {"emphasis": float(stock.preemphasis or 0.0), "emphasis_kind": "signal"}
    plan = families.build_plan(
        stock,
        window=window,
        hop_length=stock.hop_length,
        n_fft=stock.n_fft,
        offset=stock.n_fft // 2,
        **(emphasis if stock.preemphasis else {}),
        **_logarithm(filters, normalize),
    )
    kind = NativeParakeet if normalize else NativeNemotron
    return families.make_drop_in(stock, kind, plan)


def _rounded(values: npt.NDArray[np.float64], kind: str) -> npt.NDArray[np.float64]:
    import torch

    as_float32 = torch.from_numpy(values.astype(np.float32))
    return as_float32.to(getattr(torch, kind)).double().numpy()


def _window(win_length: int) -> npt.NDArray[np.float64]:
    window = families.hann(win_length, symmetric=True)
    return np.pad(window, (N_FFT - win_length) // 2)


@functools.lru_cache(maxsize=8)
def _filters(n_mels: int) -> npt.NDArray[np.float64]:
    return families.mel_filters(
        N_FFT, n_mels, LOWEST_HZ, HIGHEST_HZ, scale="slaney", equal_area=True
    )


def _logarithm(filters: npt.NDArray[np.float64], normalize: bool) -> dict[str, Any]:
    """Return the part of the plan that makes v / GUARD + 1, to be normalised, or ln(v + GUARD)."""
    if normalize:
        return {"filters": filters / GUARD, "add": 1.0, "linear": True}
    return {"filters": filters, "add": GUARD}


@functools.lru_cache(maxsize=8)
def _plan(n_mels: int, normalize: bool) -> Plan:
    return Plan(
        window=_window(WIN_LENGTH),
        hop_length=HOP_LENGTH,
        n_fft=N_FFT,
        offset=N_FFT // 2,
        emphasis=EMPHASIS,
        emphasis_kind="signal",
        **_logarithm(_filters(n_mels), normalize),
    )


def _compute(
    plan: Plan, samples: families.FloatArray, features: families.FloatArray, normalize: bool
) -> None:
    if normalize:
        families.need_samples(samples, 2 * plan.hop_length, "normalising")
    families.compute(plan, samples, features)
    if normalize:
        stft_mel.normalize(plan, features, EPSILON)


class _Native(families.NativeFamily):
    """The part of the drop-in that stands before the stock class."""

    native_normalize: bool

    def _native_call(
        self: Any,
        raw_speech: Any,
        truncation: bool,
        pad_to_multiple_of: int | None,
        return_tensors: Any,
        padding: Any,
        max_length: int | None,
        sampling_rate: int | None,
    ) -> BatchFeature:
        import torch
        from transformers.feature_extraction_utils import BatchFeature

        families.check_settings(self, families.VIRTUAL_PADDING)
        families.check_rate(self, sampling_rate)
        whole = _waves(raw_speech)
        waves, lengths = families.pad_lengths(
            self, whole, padding, max_length, truncation, pad_to_multiple_of
        )
        families.refuse_cut(whole, waves)
        plan = self.native_plan
        frames = families.one_length(lengths) // plan.hop_length + 1
        features = np.empty((len(waves), frames, plan.n_mels), np.float32)
        valid = np.array([wave.size // plan.hop_length for wave in waves])
        for number, wave in enumerate(waves):
            features[number, valid[number] :] = 0.0
            try:
                _compute(plan, wave, features[number, : valid[number]], self.native_normalize)
            except AudioError as error:
                raise families.named(error, number + 1, len(waves)) from error
        mask = np.arange(frames) < valid[:, None]
        data = {
            "input_features": torch.from_numpy(features),
            "attention_mask": torch.from_numpy(mask),
        }
        return BatchFeature(data=data, tensor_type=return_tensors)


class NativeParakeet(_Native):
    """Before ``ParakeetFeatureExtractor``."""

    native_normalize = True

    def __call__(
        self: Any,
        raw_speech: Any,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: Any = None,
        return_attention_mask: bool | None = None,
        padding: Any = "longest",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | None = "cpu",
        return_token_timestamps: bool | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        ``device`` is ignored: the work is done on the processor.
        """
        return self._native_call(
            raw_speech, truncation, pad_to_multiple_of, return_tensors, padding, max_length,
            sampling_rate,
        )  # fmt: skip


class NativeNemotron(_Native):
    """Before ``NemotronAsrStreamingFeatureExtractor``."""

    native_normalize = False

    def __call__(
        self: Any,
        raw_speech: Any,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_tensors: Any = None,
        return_attention_mask: bool | None = None,
        padding: Any = "longest",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        device: str | None = "cpu",
        return_token_timestamps: bool | None = None,
        center: bool = True,
        is_last_audio_chunk: bool = False,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        Chunks of a stream (``center=False``) are refused: benchmarks hear whole clips.
        """
        if not center:
            raise ConfigError(f"center=False has no native form; {families.STOCK_WAY_OUT}")
        return self._native_call(
            raw_speech, truncation, pad_to_multiple_of, return_tensors, padding, max_length,
            sampling_rate,
        )  # fmt: skip
