"""The log-mel spectrograms of Gemma 3n and Gemma 4: magnitudes, on HTK's mel.

Sources: ``Gemma3nAudioFeatureExtractor`` and ``Gemma4AudioFeatureExtractor`` of transformers 5.23
(``models/gemma3n/feature_extraction_gemma3n.py``, lines 226-265, and
``models/gemma4/feature_extraction_gemma4.py``, lines 168-224), after the Universal Speech Model
(Zhang et al., 2023, arXiv:2303.01037). Users: Gemma 3n, Gemma 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.features import mel
from mmaupro_ext.features.extractor import (
    VIRTUAL_PADDING,
    FloatArray,
    NativeExtractor,
    reference_samples,
    write_features,
)

HOP_LENGTH = 160  # samples, 10 ms at 16 kHz
N_MELS = 128  # triangles of height 1
MULTIPLE = 128  # samples; audio is zero-padded to a whole number of these


@dataclass(frozen=True)
class Definition:
    """What the two differ in; feature = ln(max(v, floor) + addend)."""

    frame_length: int  # samples; periodic Hann window at the start of n_fft
    n_fft: int  # points
    lowest_hz: float  # corners of the bank
    highest_hz: float
    offset: int = (
        0  # zeros before the first sample; where there are some, frames with padding in them are 0
    )
    emphasis: float = 0.0  # HTK's: in each frame, and 1 - emphasis times the first sample
    floor: float = 0.0
    addend: float = 0.0


GEMMA3N = Definition(512, 1024, 125.0, 7600.0, emphasis=0.97, floor=1e-5)
GEMMA4 = Definition(320, 512, 0.0, 8000.0, offset=160, addend=1e-3)


def log_mel_reference(
    x: npt.ArrayLike, family: Definition
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return the features of one signal of any length by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.
    family : Definition
        GEMMA3N or GEMMA4.

    Returns
    -------
    features : numpy.ndarray
        Float64, shape (frames, 128).
    mask : numpy.ndarray
        Bool, shape (frames,): whether a frame starts in the audio (Gemma 3n), or holds nothing else
        (Gemma 4, which has zeros for the other frames).

    Raises
    ------
    AudioError
        If ``x`` is not as described, or holds NaN or infinity.
    """
    samples = reference_samples(x)
    around = (family.offset, -samples.size % MULTIPLE)
    signal, audio = np.pad(samples, around), np.pad(np.ones(samples.size, bool), around)
    # Frames are cut one sample longer than they are used.
    frames = max(0, 1 + (signal.size - (family.frame_length + 1)) // HOP_LENGTH)
    bank = mel.filter_bank(family.n_fft, N_MELS, family.lowest_hz, family.highest_hz, scale="htk")
    energies = mel.energies(
        signal, mel.hann(family.frame_length), HOP_LENGTH, bank, frames=frames, magnitude=True,
        frame_emphasis=family.emphasis,
    )  # fmt: skip
    features = np.log(np.maximum(energies, family.floor) + family.addend)
    if not family.offset:
        return features, audio[::HOP_LENGTH][:frames]
    mask = audio[np.arange(frames) * HOP_LENGTH + family.frame_length]
    return features * mask[:, None], mask


class NativeGemma3n(NativeExtractor):
    """Before ``Gemma3nAudioFeatureExtractor``."""

    native_settings = {**VIRTUAL_PADDING, "dither": 0.0}

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's settings."""
        if stock.preemphasis > 0.0 and not stock.preemphasis_htk_flavor:
            raise ValueError("preemphasis_htk_flavor=False has no native form")
        return native.Plan(
            # The stock class rounds its window to float32.
            window=mel.hann(stock.frame_length) * float(stock.input_scale_factor),
            hop_length=stock.hop_length,
            n_fft=stock.fft_length,
            filters=np.asarray(stock.mel_filters, np.float64),
            magnitude=True,
            emphasis=float(stock.preemphasis),
            emphasis_kind="frame" if stock.preemphasis > 0.0 else None,
            **cls.native_logarithm(stock),
        )

    @staticmethod
    def native_logarithm(stock: Any) -> dict[str, Any]:
        """Return the part of the plan in which the two differ."""
        return {"floor": float(stock.mel_floor)}

    def native_mask(self: Any, samples: int, frames: int) -> npt.NDArray[np.bool_]:
        """Return whether each frame of an audio starts in it."""
        return np.arange(frames) * self.hop_length < samples

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (batch, frames, n_mels) and ``input_features_mask``."""
        waves, lengths = self.native_padded(waves, call)
        plan = self.native_plan
        # Each frame is cut one sample longer than it is used.
        spare = plan.offset - (self.frame_length + 1)
        counts = [max(0, 1 + (length + spare) // self.hop_length) for length in lengths]
        # One block for the batch: stacking its rows later costs nothing.
        block = np.zeros((len(waves), max(counts), plan.n_mels), np.float32)
        masks = np.zeros(block.shape[:2], bool)
        for number, frames in enumerate(counts):
            masks[number, :frames] = self.native_mask(waves[number].size, frames)
        # Gemma 3n computes the frames of the padding and masks them, to Gemma 4 they are 0.
        used = masks.sum(axis=1).tolist() if plan.offset else counts
        self.native_each(waves, [row[:frames] for row, frames in zip(block, used, strict=True)])
        data: dict[str, Any] = {"input_features": block, "input_features_mask": masks}
        if call["return_tensors"] is None or len(set(counts)) > 1:
            data = {
                key: [row[:frames] for row, frames in zip(rows, counts, strict=True)]
                for key, rows in data.items()
            }
        return data

    def native_features(
        self: Any, wave: FloatArray, out: FloatArray, padded: int | None = None
    ) -> None:
        """Write the features of one audio, of which each band may have a mean and a deviation."""
        write_features(self.native_plan, wave, out)
        if self.per_bin_mean is not None:
            out -= self.per_bin_mean[0]
        if self.per_bin_stddev is not None:
            out /= self.per_bin_stddev[0]


class NativeGemma4(NativeGemma3n):
    """Before ``Gemma4AudioFeatureExtractor``."""

    @staticmethod
    def native_logarithm(stock: Any) -> dict[str, Any]:
        """Return the part of the plan in which the two differ."""
        return {"offset": stock.frame_length // 2, "add": float(stock.mel_floor)}

    def native_mask(self: Any, samples: int, frames: int) -> npt.NDArray[np.bool_]:
        """Return whether the last (unused) sample of each frame is one of the audio."""
        ends = np.arange(frames) * self.hop_length + self.frame_length - self.native_plan.offset
        return ends < samples
