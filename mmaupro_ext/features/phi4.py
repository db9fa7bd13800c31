"""Phi-4-multimodal's log-mel spectrogram: Kaldi-like, without removal of the mean.

Source: ``Phi4MultimodalFeatureExtractor`` of transformers 5.23
(``models/phi4_multimodal/feature_extraction_phi4_multimodal.py``, lines 203-267). User: Phi-4-multimodal.
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

WIN_LENGTH = (
    400  # samples, 25 ms at 16 kHz; symmetric Hamming window at the start of N_FFT, no padding
)
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points
EMPHASIS = 0.97  # in each frame, and 0.03 x for the first sample
FULL_SCALE = 32768.0  # samples are scaled to the range of int16
N_MELS = 80
LOWEST_HZ, HIGHEST_HZ = 0.0, 7690.0  # corners of the bank, Kaldi's mel, triangles over mel
FLOOR = 1.0  # feature = ln(max(v, FLOOR))


def log_mel_reference(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the features of one signal by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.

    Returns
    -------
    numpy.ndarray
        Float64, shape (1 + (n - 400) // 160, 80).

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or has less than 400 samples.
    """
    samples = reference_samples(x)
    need_samples(samples.size, WIN_LENGTH, "one frame")
    bank = mel.filter_bank(
        N_FFT, N_MELS, LOWEST_HZ, HIGHEST_HZ, scale="kaldi", triangles_in_mel=True
    )
    energies = mel.energies(
        samples * FULL_SCALE, mel.hamming(WIN_LENGTH), HOP_LENGTH, bank, frame_emphasis=EMPHASIS
    )
    return np.log(np.maximum(energies, FLOOR))


class NativePhi4(NativeExtractor):
    """Before ``Phi4MultimodalFeatureExtractor``."""

    native_may_cut = False

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's settings."""
        return native.Plan(
            window=FULL_SCALE * mel.hamming(stock.win_length),
            hop_length=stock.hop_length,
            n_fft=stock.n_fft,
            filters=np.asarray(stock.mel_filters, np.float64),
            emphasis=float(stock.preemphasis),
            emphasis_kind="frame",
            floor=FLOOR,
        )

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``audio_input_features`` of shape (batch, frames, n_mels), sizes, and a batch's mask."""
        import torch

        waves, lengths = self.native_padded(waves, call)
        plan, hop = self.native_plan, self.hop_length
        sizes = np.array([wave.size for wave in waves])
        frames = plan.frames(one_length(lengths))
        # A frame of silence is ln(max(0, 1)) = 0, so frames that see only padding need no work.
        features = np.zeros((len(waves), frames, plan.n_mels), np.float32)
        self.native_each(
            waves, [row[: -(-n // hop)] for row, n in zip(features, sizes, strict=True)]
        )
        for row, size in zip(features, sizes.tolist(), strict=True):
            if size < sizes.max():
                # The stock rule to the letter: of the frames that reach into the padding, the first
                # ones are silenced, and the last two (which hold up to 319 samples) are not.
                first = plan.frames(size)
                row[first : max(first, size // hop - 1)] = 0.0
        valid = ((sizes - plan.frame_length) // hop + 1) * self.audio_feat_stride
        data = {
            "audio_input_features": torch.from_numpy(features),
            "audio_embed_sizes": self._compute_audio_embed_size(torch.from_numpy(valid)),
        }
        if len(waves) > 1 and call["return_attention_mask"]:
            mask = np.arange(valid.max()) < valid[:, None]
            data["audio_attention_mask"] = torch.from_numpy(mask)
        return data

    def native_features(
        self: Any, wave: FloatArray, out: FloatArray, padded: int | None = None
    ) -> None:
        """Write the features of one audio."""
        need_samples(wave.size, self.native_plan.frame_length, "one frame")
        write_features(self.native_plan, wave, out)
