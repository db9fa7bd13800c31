"""dots3-note's log-mel chunks: Whisper's spectrogram of every 60 s by itself, zero-padded to 60 s.

Source: ``Dots3NoteFeatureExtractor`` of transformers 5.23
(``models/dots3_note/feature_extraction_dots3_note.py``, lines 73-157). Each chunk has its own largest
energy. Frames behind the longest chunk of a call are left out, down to a whole number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import families, whisper
from mmaupro_ext.features.extractor import _waves
from mmaupro_ext.features.waveform import as_waveform, raise_unusable
from mmaupro_ext.features.whisper import (
    HOP_LENGTH,
    N_FFT,
    SAMPLING_RATE,
    extract_into,
    plan_of_filters,
    plan_of_mels,
)
from mmaupro_ext.native.logmel import Plan

if TYPE_CHECKING:
    from transformers.feature_extraction_utils import BatchFeature

N_MELS = 128
CHUNK_SAMPLES = 60 * SAMPLING_RATE
FRAMES_PER_TOKEN = 8  # three convolutions of stride 2
# Zeros behind the last frame that is kept, so that it does not mirror the end: half a frame, in hops.
_SILENCE = 2 * HOP_LENGTH

# Settings of a stock extractor that the kernel has built in.
_SETTINGS = {
    **families.VIRTUAL_PADDING,
    "n_fft": N_FFT,
    "hop_length": HOP_LENGTH,
    "sampling_rate": SAMPLING_RATE,
    "dither": 0.0,
}


def log_mel(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return dots3-note's features of one signal of any length.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.

    Returns
    -------
    features : numpy.ndarray
        Float32, shape (chunks, 128, frames): one chunk for each 60 s that have begun (one, without
        frames, for an empty signal); 8 frames a token of the longest chunk.
    lengths : numpy.ndarray
        Int64, shape (chunks,): samples of each.

    Raises
    ------
    AudioError
        If ``x`` is not as described, or holds NaN or infinity.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    lengths = _chunk_lengths(samples.size, CHUNK_SAMPLES)
    frames = _count_frames(lengths, CHUNK_SAMPLES)
    features = np.empty((len(lengths), N_MELS, frames), np.float32)
    _extract(plan_of_mels(N_MELS), samples, CHUNK_SAMPLES, frames, features)
    return features, np.array(lengths, np.int64)


def log_mel_reference(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, sampling_rate
        As in :func:`log_mel`.

    Returns
    -------
    features : numpy.ndarray
        Float64, shape (chunks, 128, frames).
    lengths : numpy.ndarray
        Int64, shape (chunks,).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    chunks = [
        samples[start : start + CHUNK_SAMPLES]
        for start in range(0, max(samples.size, 1), CHUNK_SAMPLES)
    ]
    longest = max(chunk.size for chunk in chunks)
    frames = -(-longest // (HOP_LENGTH * FRAMES_PER_TOKEN)) * FRAMES_PER_TOKEN
    features = [whisper.log_mel_reference(chunk, N_MELS, pad_to=CHUNK_SAMPLES) for chunk in chunks]
    lengths = np.array([chunk.size for chunk in chunks], np.int64)
    return np.stack(features)[..., :frames], lengths


def count_tokens(samples: int, chunk_samples: int = CHUNK_SAMPLES) -> int:
    """Return how many audio tokens a signal of so many samples at 16 kHz takes."""
    whole, rest = divmod(samples, chunk_samples)
    token = HOP_LENGTH * FRAMES_PER_TOKEN
    return whole * -(-chunk_samples // token) + -(-rest // token)


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a ``Dots3NoteFeatureExtractor``."""
    families.check_settings(stock, _SETTINGS)
    try:
        plan = plan_of_filters(stock.mel_filters)
    except ConfigError as error:
        kind = type(stock).__name__
        raise ConfigError(f"{kind}.mel_{error}; {families.STOCK_WAY_OUT}") from error
    return families.make_drop_in(stock, NativeDots3, plan)


def _chunk_lengths(samples: int, chunk_samples: int) -> list[int]:
    whole, rest = divmod(samples, chunk_samples)
    return [chunk_samples] * whole + [rest] * (rest > 0 or not whole)


def _count_frames(lengths: Sequence[int], chunk_samples: int) -> int:
    """Return how many frames are kept of each chunk of a call."""
    tokens = count_tokens(max(lengths), chunk_samples)
    return min(tokens * FRAMES_PER_TOKEN, chunk_samples // HOP_LENGTH)


def _extract(
    plan: Plan,
    samples: npt.NDArray[np.float32],
    chunk_samples: int,
    frames: int,
    out: npt.NDArray[np.float32],
) -> None:
    """Write the frames of each chunk of a signal, as if it were padded to ``chunk_samples``.

    Raises
    ------
    AudioError
        If a sample is not finite, or too large for float32 energies.
    """
    padded = min(frames * HOP_LENGTH + _SILENCE, chunk_samples)
    buffer = np.empty((plan.n_mels, padded // HOP_LENGTH), np.float32)
    for number, chunk in enumerate(out):
        start = number * chunk_samples
        try:
            extract_into(plan, samples[start : start + chunk_samples], padded, buffer)
        except AudioError:
            raise_unusable(samples)  # counts from the beginning of the signal
        chunk[:] = buffer[:, :frames]


class NativeDots3(families.NativeFamily):
    """The part of the drop-in that stands before the stock class."""

    def __call__(
        self: Any,
        raw_speech: Any,
        sampling_rate: int | None = None,
        return_tensors: Any = "pt",
        device: str = "cpu",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        The work is done on the processor; ``device`` is where the tensors are put.
        """
        import torch
        from transformers.feature_extraction_utils import BatchFeature

        families.check_settings(self, _SETTINGS)
        families.check_rate(self, sampling_rate)
        waves = _waves(raw_speech)
        chunks = [_chunk_lengths(wave.size, self.n_samples) for wave in waves]
        lengths = [length for of_wave in chunks for length in of_wave]
        frames = _count_frames(lengths, self.n_samples)
        features = np.empty((len(lengths), self.native_plan.n_mels, frames), np.float32)
        first = 0
        for number, (wave, of_wave) in enumerate(zip(waves, chunks, strict=True), start=1):
            rows = features[first : first + len(of_wave)]
            first += len(of_wave)
            try:
                _extract(self.native_plan, wave, self.n_samples, frames, rows)
            except AudioError as error:
                raise families.named(error, number, len(waves)) from error
        tokens = [count_tokens(wave.size, self.n_samples) for wave in waves]
        data = {
            "input_features": torch.from_numpy(features).to(device),
            "chunk_sample_lengths": torch.tensor(lengths, dtype=torch.long, device=device),
            "num_audio_tokens": torch.tensor(tokens, dtype=torch.long, device=device),
        }
        return BatchFeature(data, tensor_type=return_tensors)
