"""Gemma 4's log-mel spectrogram: magnitudes, and 160 zeros before the first sample.

Source: ``Gemma4AudioFeatureExtractor`` of transformers 5.23
(``models/gemma4/feature_extraction_gemma4.py``, lines 168-224), after the Universal Speech Model
(Zhang et al., 2023, arXiv:2303.01037).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import families
from mmaupro_ext.features.extractor import _waves
from mmaupro_ext.features.waveform import as_waveform
from mmaupro_ext.native.stft_mel import Plan

if TYPE_CHECKING:
    from transformers.feature_extraction_utils import BatchFeature

SAMPLING_RATE = 16000  # Hz
FRAME_LENGTH = 320  # samples, 20 ms
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points
OFFSET = FRAME_LENGTH // 2  # zeros before the first sample, so that frame 0 is centred on it
N_MELS = 128
LOWEST_HZ, HIGHEST_HZ = 0.0, 8000.0  # corners of the bank, HTK mel, triangles of height 1
ADDEND = 1e-3  # feature = ln(v + ADDEND)
MULTIPLE = 128  # samples; audio is zero-padded to a whole number of these


def log_mel(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return Gemma 4's features of one signal of any length.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.

    Returns
    -------
    features : numpy.ndarray
        Float32, shape (frames, 128); frames of the padding are 0.
    mask : numpy.ndarray
        Bool, shape (frames,): whether the frame holds audio only.

    Raises
    ------
    AudioError
        If ``x`` is not as described, or holds NaN or infinity.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    frames = count_frames(samples.size + -samples.size % MULTIPLE, FRAME_LENGTH, HOP_LENGTH, OFFSET)
    mask = _mask(samples.size, frames, FRAME_LENGTH, HOP_LENGTH, OFFSET)
    features = np.empty((frames, N_MELS), np.float32)
    used = int(mask.sum())
    families.compute(_plan(), samples, features[:used])
    features[used:] = 0.0
    return features, mask


def log_mel_reference(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, sampling_rate
        As in :func:`log_mel`.

    Returns
    -------
    features : numpy.ndarray
        Float64, shape (frames, 128).
    mask : numpy.ndarray
        Bool, shape (frames,).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    audio = np.pad(np.ones(samples.size, bool), (OFFSET, -samples.size % MULTIPLE))
    signal = np.pad(samples, (OFFSET, -samples.size % MULTIPLE))
    # Frames are cut one sample longer than they are used (for a pre-emphasis that is switched off).
    frames = max(0, 1 + (signal.size - (FRAME_LENGTH + 1)) // HOP_LENGTH)
    energies = families.reference_energies(
        signal, families.hann(FRAME_LENGTH), HOP_LENGTH, N_FFT, _filters(), frames=frames,
        magnitude=True,
    )  # fmt: skip
    mask = audio[np.arange(frames) * HOP_LENGTH + FRAME_LENGTH]
    return np.log(energies + ADDEND) * mask[:, None], mask


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a ``Gemma4AudioFeatureExtractor``."""
    return drop_in_of_usm(stock, offset=stock.frame_length // 2, add=float(stock.mel_floor))


@functools.cache
def _filters() -> npt.NDArray[np.float64]:
    return families.mel_filters(N_FFT, N_MELS, LOWEST_HZ, HIGHEST_HZ, scale="htk")


@functools.cache
def _plan() -> Plan:
    return Plan(
        window=families.hann(FRAME_LENGTH),
        hop_length=HOP_LENGTH,
        n_fft=N_FFT,
        filters=_filters(),
        offset=OFFSET,
        magnitude=True,
        add=ADDEND,
    )


def count_frames(padded: int, frame_length: int, hop_length: int, offset: int) -> int:
    """Return the number of frames: each is cut one sample longer than it is used."""
    return max(0, 1 + (padded + offset - (frame_length + 1)) // hop_length)


def _mask(
    n: int, frames: int, frame_length: int, hop_length: int, offset: int
) -> npt.NDArray[np.bool_]:
    """Return whether the last (unused) sample of each frame is one of the n of the audio."""
    return np.arange(frames) * hop_length + (frame_length - offset) < n


# ---- The drop-in, which Gemma 3n shares.


def drop_in_of_usm(stock: Any, **of_family: Any) -> Any:
    """Return the drop-in of a Gemma extractor, given what its plan has beyond the common part."""
    families.check_settings(stock, _settings(stock))
    emphasis = {"emphasis": float(stock.preemphasis), "emphasis_kind": "frame"}
    plan = families.build_plan(
        stock,
        window=np.asarray(stock.window, np.float64) * float(stock.input_scale_factor),
        hop_length=stock.hop_length,
        n_fft=stock.fft_length,
        filters=np.asarray(stock.mel_filters, np.float64),
        magnitude=True,
        **(emphasis if stock.preemphasis > 0.0 else {}),
        **of_family,
    )
    return families.make_drop_in(stock, NativeUsm, plan)


def _settings(stock: Any) -> dict[str, Any]:
    settings = {**families.VIRTUAL_PADDING, "dither": 0.0}
    if stock.preemphasis > 0.0:
        settings["preemphasis_htk_flavor"] = True
    return settings


class NativeUsm(families.NativeFamily):
    """The part of the drop-in that stands before the Gemma 3n and Gemma 4 extractors."""

    def __call__(
        self: Any,
        raw_speech: Any,
        padding: Any = "longest",
        max_length: int | None = 480_000,
        truncation: bool = True,
        pad_to_multiple_of: int | None = 128,
        return_tensors: Any = None,
        return_attention_mask: bool | None = True,
        sampling_rate: int | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        ``sampling_rate``, which the stock class ignores, is checked if it is given.
        """
        from transformers.feature_extraction_utils import BatchFeature

        families.check_settings(self, _settings(self))
        families.check_rate(self, sampling_rate, warn=False)
        waves, lengths = families.pad_lengths(
            self, _waves(raw_speech), padding, max_length, truncation, pad_to_multiple_of
        )
        plan, hop = self.native_plan, self.hop_length
        counts = [count_frames(n, self.frame_length, hop, plan.offset) for n in lengths]
        most = max(counts)
        # One block for the batch: stacking its rows later costs nothing.
        block = np.empty((len(waves), most, plan.n_mels), np.float32)
        masks = np.zeros((len(waves), most), bool)
        for number, (wave, frames) in enumerate(zip(waves, counts, strict=True)):
            if plan.offset:  # Gemma 4: frames that touch the padding are 0
                mask = _mask(wave.size, frames, self.frame_length, hop, plan.offset)
                used = int(mask.sum())
            else:  # Gemma 3n: they are computed, and masked if they start in it
                mask = np.arange(frames) * hop < wave.size
                used = frames
            features = block[number, :used]
            block[number, used:] = 0.0
            try:
                families.compute(plan, wave, features)
            except AudioError as error:
                raise families.named(error, number + 1, len(waves)) from error
            if self.per_bin_mean is not None:
                features -= self.per_bin_mean[0]
            if self.per_bin_stddev is not None:
                features /= self.per_bin_stddev[0]
            masks[number, :frames] = mask
        data: dict[str, Any] = {"input_features": block, "input_features_mask": masks}
        if return_tensors is None or len(set(counts)) > 1:
            data = {
                key: [row[:frames] for row, frames in zip(rows, counts, strict=True)]
                for key, rows in data.items()
            }
        return BatchFeature(data, tensor_type=return_tensors)
