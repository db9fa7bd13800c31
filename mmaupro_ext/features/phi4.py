"""Phi-4-multimodal's log-mel spectrogram: Kaldi-like, without removal of the mean.

Source: ``Phi4MultimodalFeatureExtractor`` of transformers 5.23
(``models/phi4_multimodal/feature_extraction_phi4_multimodal.py``, lines 203-267).
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
WIN_LENGTH = 400  # samples, 25 ms; symmetric Hamming window at the start of N_FFT, no padding
HOP_LENGTH = 160  # samples, 10 ms
N_FFT = 512  # points
EMPHASIS = 0.97  # in each frame, and 0.03 x for the first sample
FULL_SCALE = 32768.0  # samples are scaled to the range of int16
N_MELS = 80
LOWEST_HZ, HIGHEST_HZ = 0.0, 7690.0  # corners of the bank, Kaldi's mel, triangles over mel
FLOOR = 1.0  # feature = ln(max(v, FLOOR))


def log_mel(x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE) -> npt.NDArray[np.float32]:
    """Return Phi-4-multimodal's features of one signal.

    Parameters
    ----------
    x : array_like
        Mono samples, shape (n,): floating point, or int16 or int32 PCM (scaled by full scale).
    sampling_rate : int
        Sampling rate of ``x`` in Hz; must be 16000.

    Returns
    -------
    numpy.ndarray
        Float32, shape (1 + (n - 400) // 160, 80).

    Raises
    ------
    AudioError
        If ``x`` is not as described, holds NaN or infinity, or has less than 400 samples.
    """
    samples = as_waveform(x, sampling_rate=sampling_rate, wanted_rate=SAMPLING_RATE)
    families.need_samples(samples, WIN_LENGTH, "one frame")
    features = np.empty((1 + (samples.size - WIN_LENGTH) // HOP_LENGTH, N_MELS), np.float32)
    families.compute(_plan(), samples, features)
    return features


def log_mel_reference(
    x: npt.ArrayLike, *, sampling_rate: int = SAMPLING_RATE
) -> npt.NDArray[np.float64]:
    """Return what :func:`log_mel` does by the letter of the definition, in float64.

    Parameters
    ----------
    x, sampling_rate
        As in :func:`log_mel`.

    Returns
    -------
    numpy.ndarray
        Float64, shape (1 + (n - 400) // 160, 80).
    """
    samples = families.reference_samples(x, sampling_rate, SAMPLING_RATE)
    families.need_samples(samples, WIN_LENGTH, "one frame")
    energies = families.reference_energies(
        samples * FULL_SCALE, families.hamming(WIN_LENGTH), HOP_LENGTH, N_FFT, _filters(),
        frame_emphasis=EMPHASIS,
    )  # fmt: skip
    return np.log(np.maximum(energies, FLOOR))


def drop_in(stock: Any) -> Any:
    """Return the native drop-in of a ``Phi4MultimodalFeatureExtractor``."""
    families.check_settings(stock, families.VIRTUAL_PADDING)
    plan = families.build_plan(
        stock,
        window=FULL_SCALE * families.hamming(stock.win_length),
        hop_length=stock.hop_length,
        n_fft=stock.n_fft,
        filters=np.asarray(stock.mel_filters, np.float64),
        emphasis=float(stock.preemphasis),
        emphasis_kind="frame",
        floor=FLOOR,
    )
    return families.make_drop_in(stock, NativePhi4, plan)


@functools.cache
def _filters() -> npt.NDArray[np.float64]:
    return families.mel_filters(
        N_FFT, N_MELS, LOWEST_HZ, HIGHEST_HZ, scale="kaldi", triangles_in_mel=True
    )


@functools.cache
def _plan() -> Plan:
    return Plan(
        window=FULL_SCALE * families.hamming(WIN_LENGTH),
        hop_length=HOP_LENGTH,
        n_fft=N_FFT,
        filters=_filters(),
        emphasis=EMPHASIS,
        emphasis_kind="frame",
        floor=FLOOR,
    )


class NativePhi4(families.NativeFamily):
    """The part of the drop-in that stands before the stock class."""

    def __call__(
        self: Any,
        raw_speech: Any,
        sampling_rate: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding: Any = "longest",
        max_length: int | None = None,
        truncation: bool = False,
        return_tensors: Any = None,
        return_attention_mask: bool | None = True,
        device: str | None = "cpu",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in the stock class.

        ``device`` is ignored: the work is done on the processor.
        """
        import torch
        from transformers.feature_extraction_utils import BatchFeature

        families.check_settings(self, families.VIRTUAL_PADDING)
        families.check_rate(self, sampling_rate)
        whole = _waves(raw_speech)
        waves, lengths = families.pad_lengths(
            self, whole, padding, max_length, truncation, pad_to_multiple_of
        )
        families.refuse_cut(whole, waves)
        plan, hop = self.native_plan, self.hop_length
        padded = families.one_length(lengths)
        sizes = np.array([wave.size for wave in waves])
        # A frame of silence is ln(max(0, 1)) = 0, so frames that see only padding need no work.
        features = np.empty((len(waves), max(0, plan.frames(padded)), plan.n_mels), np.float32)
        for number, wave in enumerate(waves):
            row = features[number]
            row[-(-wave.size // hop) :] = 0.0
            try:
                families.need_samples(wave, plan.frame_length, "one frame")
                families.compute(plan, wave, row[: -(-wave.size // hop)])
            except AudioError as error:
                raise families.named(error, number + 1, len(waves)) from error
            if wave.size < sizes.max():
                # The stock rule to the letter: of the frames that reach into the padding, the first
                # ones are silenced, and the last two (which hold up to 319 samples) are not.
                first = plan.frames(wave.size)
                row[first : max(first, wave.size // hop - 1)] = 0.0
        frames = ((sizes - plan.frame_length) // hop + 1) * self.audio_feat_stride
        data: dict[str, Any] = {
            "audio_input_features": torch.from_numpy(features),
            "audio_embed_sizes": self._compute_audio_embed_size(torch.from_numpy(frames)),
        }
        if len(waves) > 1 and return_attention_mask:
            mask = np.arange(frames.max()) < frames[:, None]
            data["audio_attention_mask"] = torch.from_numpy(mask)
        return BatchFeature(data=data, tensor_type=return_tensors)
