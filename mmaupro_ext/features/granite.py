"""Granite Speech's log-mel spectrogram: Whisper's range on an HTK bank, two frames side by side.

Source: ``GraniteSpeechFeatureExtractor`` of transformers 5.23
(``models/granite_speech/feature_extraction_granite_speech.py``, lines 101-129), which calls
``torchaudio.transforms.MelSpectrogram`` with that class's defaults: periodic Hann window in the middle of
n_fft, mirrored ends, power 2, HTK mel from 0 to half the sampling rate, triangles of height 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import families
from mmaupro_ext.features.waveform import as_waveform
from mmaupro_ext.native import stft_mel
from mmaupro_ext.native.stft_mel import Plan

if TYPE_CHECKING:
    from transformers.feature_extraction_utils import BatchFeature

SAMPLING_RATE = 16000  # Hz
WIN_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points; half as many samples are mirrored at either end
N_MELS = 80
FLOOR = 1e-10  # v = log10(max(energy, FLOOR))
RANGE = 8.0  # decades under the largest v that are kept: feature = max(v, max(v) - RANGE) / 4 + 1
STACKED = 2  # frames in a row of the output
SHORTEST = N_FFT // 2 + 1  # samples: what mirroring takes


def log_mel(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE, pad_to: int | None = None
) -> npt.NDArray[np.float32]:
    """Return Granite Speech's features of one signal.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.
    pad_to : int, optional
        Length in samples to extract from: ``x`` followed by zeros. In a batch it is that of the
        longest audio. Default: the length of ``x``.

    Returns
    -------
    numpy.ndarray
        Float32, shape ((pad_to // 160 + 1) // 2, 160): 80 bands of each of two frames.

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, does not fit in ``pad_to``, or, padded,
        has less than 257 samples.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    return extract(_plan(), samples, _padded(samples, pad_to))


def log_mel_reference(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE, pad_to: int | None = None
) -> npt.NDArray[np.float64]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, sampling_rate, pad_to
        As in :func:`log_mel`.

    Returns
    -------
    numpy.ndarray
        Float64, shape ((pad_to // 160 + 1) // 2, 160).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    padded = _padded(samples, pad_to)
    signal = np.pad(np.pad(samples, (0, padded - samples.size)), N_FFT // 2, mode="reflect")
    energies = families.reference_energies(
        signal, _window(WIN_LENGTH, N_FFT), HOP_LENGTH, N_FFT, _filters()
    )
    values = np.log10(np.maximum(energies, FLOOR))
    features = np.maximum(values, values.max() - RANGE) / 4.0 + 1.0
    return features[: len(features) // STACKED * STACKED].reshape(-1, STACKED * N_MELS)


def extract(plan: Plan, samples: families.FloatArray, padded: int) -> families.FloatArray:
    """Return the features of checked samples, zero-padded to ``padded``."""
    frames = padded // plan.hop_length + 1
    features = np.empty((frames, plan.n_mels), np.float32)
    highest = families.compute(plan, samples, features, padded=padded)
    features = features[: frames // STACKED * STACKED]
    stft_mel.clamp(features, np.float32(highest) - np.float32(RANGE / 4.0))
    return features.reshape(-1, STACKED * plan.n_mels)


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a ``GraniteSpeechFeatureExtractor``."""
    families.check_settings(stock, {"sampling_rate": SAMPLING_RATE})
    settings = stock.melspec_kwargs
    if hasattr(stock, "mel_filters"):
        filters = np.asarray(stock.mel_filters.mel_scale.fb, np.float64)
    else:  # made by from_settings
        filters = families.mel_filters(
            settings["n_fft"], settings["n_mels"], 0.0, SAMPLING_RATE / 2, scale="htk"
        )
    plan = families.build_plan(
        stock, **_arguments(settings["win_length"], settings["hop_length"], settings["n_fft"]),
        filters=filters,
    )  # fmt: skip
    return families.make_drop_in(stock, NativeGranite, plan)


def from_settings(settings: Mapping[str, Any]) -> Any:
    """Return the native extractor of a checkpoint where the stock one cannot be made.

    The stock class computes with torchaudio and refuses to be made without it.

    Parameters
    ----------
    settings : mapping
        The checkpoint's preprocessor_config.json; what it leaves out is as in the stock class.

    Returns
    -------
    transformers.GraniteSpeechFeatureExtractor
        What :func:`drop_in` makes of the stock extractor, without its torchaudio module.
    """
    from transformers import GraniteSpeechFeatureExtractor, SequenceFeatureExtractor

    given = dict(settings)
    melspec = {
        "n_fft": N_FFT, "win_length": WIN_LENGTH, "hop_length": HOP_LENGTH, "n_mels": N_MELS
    }  # fmt: skip
    melspec = {name: given.pop(name, default) for name, default in melspec.items()}
    rate = given.pop("sampling_rate", SAMPLING_RATE)
    stock = GraniteSpeechFeatureExtractor.__new__(GraniteSpeechFeatureExtractor)
    SequenceFeatureExtractor.__init__(
        stock,
        feature_size=given.pop("feature_size", None) or melspec["n_mels"],
        sampling_rate=rate,
        padding_value=given.pop("padding_value", 0.0),
        **given,
    )
    stock.melspec_kwargs = {"sample_rate": rate, **melspec}
    stock.projector_window_size = settings.get("projector_window_size", 15)
    stock.projector_downsample_rate = settings.get("projector_downsample_rate", 5)
    return drop_in(stock)


def _padded(samples: npt.NDArray[Any], pad_to: int | None) -> int:
    padded = samples.size if pad_to is None else pad_to
    if padded < samples.size:
        raise AudioError(
            f"{samples.size} samples do not fit in pad_to={padded}, and audio is never cut silently",
            fix="Split it with mmaupro_ext.audio.windows, or leave pad_to out",
        )
    if padded < SHORTEST:
        raise AudioError(
            f"{padded} samples are too few: mirroring the ends takes at least {SHORTEST}",
            fix="Pad the audio with zeros",
        )
    return padded


def _window(win_length: int, n_fft: int) -> npt.NDArray[np.float64]:
    before = (n_fft - win_length) // 2
    return np.pad(families.hann(win_length), (before, n_fft - win_length - before))


@functools.cache
def _filters() -> npt.NDArray[np.float64]:
    return families.mel_filters(N_FFT, N_MELS, 0.0, SAMPLING_RATE / 2, scale="htk")


def _arguments(win_length: int, hop_length: int, n_fft: int) -> dict[str, Any]:
    return {
        "window": _window(win_length, n_fft),
        "hop_length": hop_length,
        "n_fft": n_fft,
        "offset": n_fft // 2,
        "boundary": "mirror",
        "floor": FLOOR,
        "scale": 0.25 / math.log(10.0),
        "shift": 1.0,
    }


@functools.cache
def _plan() -> Plan:
    return Plan(filters=_filters(), **_arguments(WIN_LENGTH, HOP_LENGTH, N_FFT))


class NativeGranite(families.NativeFamily):
    """The part of the drop-in that stands before the stock class.

    The stock class collects the audios and counts the placeholders.
    """

    def __call__(self: Any, audios: Any, device: str | None = "cpu") -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        ``device`` is ignored: the work is done on the processor.
        """
        import torch
        from transformers.feature_extraction_utils import BatchFeature

        padded, lengths = self._get_audios_and_audio_lengths(audios)
        sizes = self._get_num_audio_features(lengths)
        mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
        data = {
            "input_features": self._extract_mel_spectrograms(padded),
            "audio_embed_sizes": sizes,
            "input_features_mask": mask,
        }
        return BatchFeature(data=data)

    def _extract_mel_spectrograms(self: Any, audio: Any, device: str | None = "cpu") -> Any:
        """Return the features of zero-padded audios, a tensor of shape (batch, samples)."""
        import torch

        rows = audio.detach().cpu().float().numpy()
        features = []
        for number, row in enumerate(rows, start=1):
            try:
                padded = _padded(row, None)
                features.append(extract(self.native_plan, np.ascontiguousarray(row), padded))
            except AudioError as error:
                raise families.named(error, number, len(rows)) from error
        stacked = features[0][None] if len(features) == 1 else np.stack(features)
        return torch.from_numpy(stacked)
