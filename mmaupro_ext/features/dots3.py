"""dots3-note's log-mel chunks: Whisper's spectrogram of every 60 s by itself, zero-padded to 60 s.

Source: ``Dots3NoteFeatureExtractor`` of transformers 5.23
(``models/dots3_note/feature_extraction_dots3_note.py``, lines 73-157). Each chunk has its own largest
energy. Frames behind the longest chunk of a call are left out, down to a whole number of tokens.
User: dots3-note.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio.windowing import spans
from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import whisper
from mmaupro_ext.features.extractor import (
    FloatArray,
    NativeExtractor,
    raise_unusable,
    reference_samples,
    write_features,
)

HOP_LENGTH = whisper.HOP_LENGTH
CHUNK_SAMPLES = 60 * whisper.SAMPLING_RATE
TOKEN_SAMPLES = 8 * HOP_LENGTH  # three convolutions of stride 2
# Zeros behind the last frame that is kept, so that it does not mirror the end: half a frame, in hops.
_SILENCE = 2 * HOP_LENGTH


def log_mel_reference(
    x: npt.ArrayLike,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the chunks of one signal by the letter of the definition, in float64.

    Parameters
    ----------
    x : array_like
        Mono samples at 16 kHz, shape (n,): floating point, or int16 or int32 PCM.

    Returns
    -------
    features : numpy.ndarray
        Float64, shape (chunks, 128, frames): one chunk for each 60 s that have begun (one, without
        frames, for an empty signal); 8 frames a token of the longest chunk.
    lengths : numpy.ndarray
        Int64, shape (chunks,): samples of each.

    Raises
    ------
    AudioError
        If ``x`` is not as described, or holds NaN or infinity.
    """
    samples = reference_samples(x)
    starts = range(0, max(samples.size, 1), CHUNK_SAMPLES)
    chunks = [samples[start : start + CHUNK_SAMPLES] for start in starts]
    features = [whisper.log_mel_reference(chunk, pad_to=CHUNK_SAMPLES) for chunk in chunks]
    lengths = np.array([chunk.size for chunk in chunks], np.int64)
    frames = -(-lengths.max() // TOKEN_SAMPLES) * TOKEN_SAMPLES // HOP_LENGTH
    return np.stack(features)[..., :frames], lengths


def count_tokens(samples: int, chunk_samples: int = CHUNK_SAMPLES) -> int:
    """Return how many audio tokens a signal of so many samples at 16 kHz takes."""
    return sum(-(-(end - start) // TOKEN_SAMPLES) for start, end in spans(samples, chunk_samples))


class NativeDots3(NativeExtractor):
    """Before ``Dots3NoteFeatureExtractor``."""

    native_settings = whisper.WHISPER_SETTINGS

    @classmethod
    def native_plan_of(cls, stock: Any) -> native.Plan:
        """Return the plan for the checkpoint's filter bank."""
        return whisper.plan_of_filters(stock.mel_filters)

    def native_data(self: Any, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return ``input_features`` of shape (chunks, n_mels, frames), lengths, and tokens."""
        import torch

        chunks = [self.native_chunks(wave) for wave in waves]
        lengths = [chunk.size for of_wave in chunks for chunk in of_wave]
        longest = -(-max(lengths) // TOKEN_SAMPLES) * TOKEN_SAMPLES
        frames = min(longest, self.n_samples) // HOP_LENGTH
        features = np.empty((len(lengths), self.native_plan.n_mels, frames), np.float32)
        ends = np.cumsum([len(of_wave) for of_wave in chunks])
        self.native_each(waves, np.split(features, ends[:-1]))
        tokens = [count_tokens(wave.size, self.n_samples) for wave in waves]
        device = call["device"]
        return {
            "input_features": torch.from_numpy(features).to(device),
            "chunk_sample_lengths": torch.tensor(lengths, dtype=torch.long, device=device),
            "num_audio_tokens": torch.tensor(tokens, dtype=torch.long, device=device),
        }

    def native_features(
        self: Any, wave: FloatArray, out: FloatArray, padded: int | None = None
    ) -> None:
        """Write the frames of each chunk of one audio, as if it were padded to its full length."""
        plan, frames = self.native_plan, out.shape[2]
        length = min(frames * HOP_LENGTH + _SILENCE, self.n_samples)
        buffer = np.empty((plan.n_mels, length // HOP_LENGTH), np.float32)
        for chunk, rows in zip(self.native_chunks(wave), out, strict=True):
            try:
                write_features(plan, chunk, buffer, padded=length)
            except AudioError:
                raise_unusable(wave)  # counts from the beginning of the signal
            rows[:] = buffer[:, :frames]

    def native_chunks(self: Any, wave: FloatArray) -> list[FloatArray]:
        """Return the chunks of one audio: one, of no samples, of an empty one."""
        return [wave[start:end] for start, end in spans(wave.size, self.n_samples) or ((0, 0),)]
