"""Granite Speech's log-mel spectrogram: Whisper's range on an HTK bank, two frames side by side.

Source: ``GraniteSpeechFeatureExtractor`` of transformers 5.23
(``models/granite_speech/feature_extraction_granite_speech.py``, lines 101-129), which calls
``torchaudio.transforms.MelSpectrogram`` with that class's defaults: periodic Hann window in the middle of
n_fft, mirrored ends, power 2, HTK mel from 0 to half the sampling rate, triangles of height 1. The stock
class asks for torchaudio; the native one does not. Users: Granite Speech, Granite Speech Plus.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.features import mel
from mmaupro_ext.features.extractor import (
    FloatArray,
    NativeExtractor,
    buffer_length,
    need_samples,
    reference_samples,
)

SAMPLING_RATE = 16000  # Hz
WIN_LENGTH = 400  # samples, 25 ms
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points; half as many samples are mirrored at either end
N_MELS = 80
FLOOR = 1e-10  # v = log10(max(energy, FLOOR))
RANGE = 8.0  # decades under the largest v that are kept: feature = max(v, max(v) - RANGE) / 4 + 1
STACKED = 2  # frames in a row of the output
SHORTEST = N_FFT // 2 + 1  # samples: what mirroring takes


def log_mel_reference(x: npt.ArrayLike, *, pad_to: int | None = None) -> npt.NDArray[np.float64]:
    """Return the features of one signal by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.
    pad_to : int, optional
        Length in samples to extract from: ``x`` followed by zeros. In a batch it is that of the
        longest audio. Default: the length of ``x``.

    Returns
    -------
    numpy.ndarray
        Float64, shape ((pad_to // 160 + 1) // 2, 160): 80 bands of each of two frames.

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, does not fit in ``pad_to``, or, padded,
        has less than 257 samples.
    """
    samples = reference_samples(x)
    padded = buffer_length(samples.size, pad_to, SHORTEST)
    signal = np.pad(np.pad(samples, (0, padded - samples.size)), N_FFT // 2, mode="reflect")
    bank = mel.filter_bank(N_FFT, N_MELS, scale="htk")
    energies = mel.energies(signal, mel.centred(mel.hann(WIN_LENGTH), N_FFT), HOP_LENGTH, bank)
    values = np.log10(np.maximum(energies, FLOOR))
    features = np.maximum(values, values.max() - RANGE) / 4.0 + 1.0
    return features[: len(features) // STACKED * STACKED].reshape(-1, STACKED * N_MELS)


class NativeGranite(NativeExtractor):
    """Before ``GraniteSpeechFeatureExtractor``, which collects audios and counts placeholders."""

    native_settings = {"sampling_rate": SAMPLING_RATE}

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's settings."""
        settings = stock.melspec_kwargs
        n_fft = settings["n_fft"]
        if hasattr(stock, "mel_filters"):
            filters = np.asarray(stock.mel_filters.mel_scale.fb, np.float64)
        else:  # made without torchaudio
            filters = mel.filter_bank(n_fft, settings["n_mels"], scale="htk")
        return native.Plan(
            window=mel.centred(mel.hann(settings["win_length"]), n_fft),
            hop_length=settings["hop_length"],
            n_fft=n_fft,
            filters=filters,
            offset=n_fft // 2,
            boundary="mirror",
            floor=FLOOR,
            scale=0.25 / math.log(10.0),
            shift=1.0,
            span=RANGE / 4.0,
        )

    @classmethod
    def native_stock_of(cls, settings: Mapping[str, Any]) -> Any:
        """Return what the stock class would be without its torchaudio module.

        What the settings leave out is as in the stock class.
        """
        from transformers import GraniteSpeechFeatureExtractor, SequenceFeatureExtractor

        given = dict(settings)
        defaults = {
            "n_fft": N_FFT, "win_length": WIN_LENGTH, "hop_length": HOP_LENGTH, "n_mels": N_MELS
        }  # fmt: skip
        melspec = {name: given.pop(name, default) for name, default in defaults.items()}
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
        return stock

    def native_audios(self: Any, raw: Any) -> list[FloatArray]:
        """Return the audios as the stock class collects them; it pads, and so does the kernel."""
        padded, lengths = self._get_audios_and_audio_lengths(raw)
        rows = padded.detach().cpu().numpy()
        return super().native_audios([row[:n] for row, n in zip(rows, lengths, strict=True)])

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (batch, rows, 2 * n_mels), sizes and the mask."""
        import torch

        lengths = [wave.size for wave in waves]
        plan, padded = self.native_plan, max(lengths)
        need_samples(padded, plan.offset + 1, "mirroring the ends")
        features = np.empty((len(waves), padded // plan.hop_length + 1, plan.n_mels), np.float32)
        self.native_each(waves, features, padded)
        even = features.shape[1] // STACKED * STACKED
        sizes = self._get_num_audio_features(lengths)
        return {
            "input_features": torch.from_numpy(
                features[:, :even].reshape(len(waves), -1, STACKED * plan.n_mels)
            ),
            "audio_embed_sizes": sizes,
            "input_features_mask": torch.arange(max(sizes)) < torch.tensor(sizes)[:, None],
        }
