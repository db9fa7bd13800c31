"""NeMo's log-mel spectrogram (Parakeet): pre-emphasis, and each band normalised.

Source: ``ParakeetFeatureExtractor`` of transformers 5.23
(``models/parakeet/feature_extraction_parakeet.py``, lines 94-120 and 245-275), after
``AudioToMelSpectrogramPreprocessor`` of NVIDIA NeMo. User: Nemotron 3 Omni.

Normalising is ill-conditioned where a band hardly varies: its deviation, the divisor, is then made of
rounding errors. A band of a signal near the guard value 2**-24 is the usual case. The kernel therefore
takes ln(v 2**24 + 1), which is small there, and never rounds it to float32; the difference of ln(2**-24)
falls out with the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.features import mel
from mmaupro_ext.features.extractor import (
    FloatArray,
    NativeExtractor,
    need_samples,
    one_length,
    reference_samples,
    write_features,
)

WIN_LENGTH = 400  # samples, 25 ms at 16 kHz; a symmetric Hann window in the middle of N_FFT
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points; the signal has half as many zeros at either end
EMPHASIS = 0.97  # along the signal, its first sample unchanged
N_MELS = 128  # Nemotron 3 Omni; Parakeet has 80. Slaney's mel, triangles of equal area
GUARD = 2.0**-24  # v = ln(energy + GUARD)
EPSILON = 1e-5  # feature = (v - mean) / (deviation + EPSILON)


def log_mel_reference(x: npt.ArrayLike, n_mels: int = N_MELS) -> npt.NDArray[np.float64]:
    """Return the features of one signal by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.
    n_mels : int
        Number of mel bands.

    Returns
    -------
    numpy.ndarray
        Float64, shape (n // 160, n_mels). (The stock extractor has one frame of zeros more.)

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or has less than 320 samples.
    """
    samples = reference_samples(x)
    need_samples(samples.size, 2 * HOP_LENGTH, "normalising")
    emphasised = np.concatenate([samples[:1], samples[1:] - EMPHASIS * samples[:-1]])
    window = mel.centred(mel.hann(WIN_LENGTH, symmetric=True), N_FFT)
    energies = mel.energies(
        np.pad(emphasised, N_FFT // 2), window, HOP_LENGTH,
        mel.filter_bank(N_FFT, n_mels, scale="slaney", equal_area=True),
        frames=samples.size // HOP_LENGTH,
    )  # fmt: skip
    values = np.log(energies + GUARD)
    return (values - values.mean(0)) / (values.std(0, ddof=1) + EPSILON)


class NativeParakeet(NativeExtractor):
    """Before ``ParakeetFeatureExtractor``."""

    native_may_cut = False

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's settings; the logarithm is part of normalising."""
        if stock.n_fft % 2 or stock.win_length > stock.n_fft:
            raise ValueError(
                f"win_length={stock.win_length} in n_fft={stock.n_fft} has no native form"
            )
        return native.Plan(
            window=mel.centred(mel.hann(stock.win_length, symmetric=True), stock.n_fft),
            hop_length=stock.hop_length,
            n_fft=stock.n_fft,
            offset=stock.n_fft // 2,
            filters=np.asarray(stock.mel_filters.T, np.float64) / GUARD,
            add=1.0,
            linear=True,
            emphasis=float(stock.preemphasis or 0.0),
            emphasis_kind="signal" if stock.preemphasis else None,
        )

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (batch, frames, n_mels) and ``attention_mask``."""
        import torch

        waves, lengths = self.native_padded(waves, call)
        plan = self.native_plan
        frames = one_length(lengths) // plan.hop_length + 1
        used = [wave.size // plan.hop_length for wave in waves]
        features = np.zeros((len(waves), frames, plan.n_mels), np.float32)
        self.native_each(waves, [row[:n] for row, n in zip(features, used, strict=True)])
        mask = np.arange(frames) < np.array(used)[:, None]
        return {
            "input_features": torch.from_numpy(features),
            "attention_mask": torch.from_numpy(mask),
        }

    def native_features(
        self: Any, wave: FloatArray, out: FloatArray, padded: int | None = None
    ) -> None:
        """Write the features of one audio."""
        # A deviation takes two frames.
        need_samples(wave.size, 2 * self.native_plan.hop_length, "normalising")
        write_features(self.native_plan, wave, out)
        native.normalize(self.native_plan, out, EPSILON)
