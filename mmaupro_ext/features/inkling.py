"""Inkling's log-mel spectrogram, from which its processor makes discrete mel tokens (dMel).

Source: ``InklingFeatureExtractor`` of transformers 5.23
(``models/inkling/feature_extraction_inkling.py``, lines 111-134). User: Inkling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import mel
from mmaupro_ext.features.extractor import (
    FloatArray,
    NativeExtractor,
    need_samples,
    one_length,
    reference_samples,
    write_features,
)

N_FFT = 1600  # samples in a frame, 100 ms at 16 kHz; periodic Hann window
HOP_LENGTH = 800  # samples, 50 ms: one audio token
OFFSET = N_FFT - HOP_LENGTH  # zeros before the first sample; the end is padded to whole hops
N_MELS = 80  # Slaney's mel from 0 to half the sampling rate, triangles of equal area
POWER_FLOOR = 1e-10  # a bin's magnitude is sqrt(max(power, POWER_FLOOR))
FLOOR = 1e-10  # feature = log10(max(v, FLOOR))


def log_mel_reference(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the features of one signal by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.

    Returns
    -------
    numpy.ndarray
        Float64, shape (ceil(n / 800), 80).

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or is empty.
    """
    samples = reference_samples(x)
    need_samples(samples.size, 1, "one frame")
    energies = mel.energies(
        np.pad(samples, (OFFSET, -samples.size % HOP_LENGTH)), mel.hann(N_FFT), HOP_LENGTH,
        mel.filter_bank(N_FFT, N_MELS, scale="slaney", equal_area=True),
        magnitude=True, power_floor=POWER_FLOOR,
    )  # fmt: skip
    return np.log10(np.maximum(energies, FLOOR))


class NativeInkling(NativeExtractor):
    """Before ``InklingFeatureExtractor``."""

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's settings."""
        if stock.window_size != stock.n_fft:
            raise ValueError(
                f"a window of {stock.window_size} samples in n_fft={stock.n_fft} has no native form"
            )
        return native.Plan(
            window=mel.hann(stock.window_size),
            hop_length=stock.hop_length,
            n_fft=stock.n_fft,
            filters=np.asarray(stock.mel_filters.T, np.float64),
            offset=max(stock.n_fft - stock.hop_length, 0),
            magnitude=True,
            power_floor=POWER_FLOOR,
            floor=FLOOR,
            scale=1.0 / math.log(10.0),
        )

    def native_audios(self: Any, raw: Any) -> list[FloatArray]:
        """Return the audios of a call; to the stock class one array is one audio."""
        if getattr(raw, "ndim", 1) > 1:
            raise AudioError(
                f"one audio has the shape {tuple(raw.shape)}, not one channel of samples",
                fix="Mix the channels first (mmaupro_ext.audio.load does), or pass a list of audios",
            )
        return super().native_audios(raw)

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (batch, frames, n_mels), and the mask if asked for."""
        import torch

        waves, lengths = self.native_padded(waves, call)
        plan = self.native_plan
        frames = -(-one_length(lengths) // plan.hop_length)
        used = [-(-wave.size // plan.hop_length) for wave in waves]
        features = np.zeros((len(waves), frames, plan.n_mels), np.float32)
        self.native_each(waves, [row[:n] for row, n in zip(features, used, strict=True)])
        data = {"input_features": torch.from_numpy(features)}
        if call["return_attention_mask"]:
            mask = np.arange(frames) < np.array(used)[:, None]
            data["input_features_mask"] = torch.from_numpy(mask)
        return data

    def native_features(
        self: Any, wave: FloatArray, out: FloatArray, padded: int | None = None
    ) -> None:
        """Write the features of one audio."""
        need_samples(wave.size, 1, "one frame")
        write_features(self.native_plan, wave, out)
