"""What the tests of extractors share: stock extractors by name, and the comparison of what two return.

Nothing is made, and transformers not imported, before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmaupro_ext.features import dots3, gemma, granite, inkling, mel, parakeet, phi4

RATE = 16000


def noise(n: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    """Return float32 white noise."""
    return (scale * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A family of extractors beside Whisper's."""

    kind: str  # name of the stock class
    reference: Callable[[np.ndarray], np.ndarray]
    shortest: int  # samples that make a frame
    key: str = "input_features"
    extra_frames: int = 0  # that the extractors return beyond the reference
    settings: dict[str, Any] = field(default_factory=dict)


CASES = {
    "gemma3n": Case(
        "Gemma3nAudioFeatureExtractor",
        lambda x: gemma.log_mel_reference(x, gemma.GEMMA3N)[0],
        513,
    ),
    "gemma4": Case(
        "Gemma4AudioFeatureExtractor", lambda x: gemma.log_mel_reference(x, gemma.GEMMA4)[0], 161
    ),
    "granite": Case("GraniteSpeechFeatureExtractor", granite.log_mel_reference, 257),
    "inkling": Case("InklingFeatureExtractor", inkling.log_mel_reference, 1),
    "parakeet": Case(
        "ParakeetFeatureExtractor",
        parakeet.log_mel_reference,
        320,
        extra_frames=1,
        settings={"feature_size": 128},
    ),
    "phi4": Case(
        "Phi4MultimodalFeatureExtractor", phi4.log_mel_reference, 400, key="audio_input_features"
    ),
    # One chunk of one audio; its mels and frames are turned to be as those of the others.
    "dots3": Case("Dots3NoteFeatureExtractor", lambda x: dots3.log_mel_reference(x)[0][0].T, 1),
}

# What the families' tests of extractors run on beside these: other settings.
VARIANTS = {
    **CASES,
    "parakeet-80": Case(
        "ParakeetFeatureExtractor", lambda x: parakeet.log_mel_reference(x, 80), 320
    ),
    "dots3-1s": Case(
        "Dots3NoteFeatureExtractor", CASES["dots3"].reference, 1, settings={"chunk_length": 1}
    ),
}


def stock_of(name: str) -> Any:
    """Return a new stock extractor of a case."""
    import transformers

    if name == "granite":
        return granite_without_torchaudio()
    case = VARIANTS[name]
    return getattr(transformers, case.kind)(**case.settings)


def call(extractor: Any, audio: Any, **options: Any) -> Any:
    """Call an extractor with the rate, where it takes one."""
    if type(extractor).__name__ == "GraniteSpeechFeatureExtractor":
        return extractor(audio, **options)
    return extractor(audio, sampling_rate=RATE, **options)


def features_of(name: str, extractor: Any, x: np.ndarray) -> np.ndarray:
    """Return the features of one audio, shape (frames, bands), of the frames of the reference."""
    case = CASES[name]
    found = np.asarray(call(extractor, [x])[case.key][0])
    found = found.T if name == "dots3" else found
    return found[: len(found) - case.extra_frames]


def granite_without_torchaudio() -> Any:
    """Return a GraniteSpeechFeatureExtractor whose MelSpectrogram is torchaudio's, on torch.stft."""
    import torch
    from transformers import GraniteSpeechFeatureExtractor, SequenceFeatureExtractor

    class MelSpectrogram(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mel_scale = torch.nn.Module()
            bank = mel.filter_bank(512, 80, scale="htk")
            self.mel_scale.fb = torch.from_numpy(bank.astype(np.float32))

        def forward(self, audio: torch.Tensor) -> torch.Tensor:
            window = torch.hann_window(400)
            spectrum = torch.stft(audio, 512, 160, 400, window, return_complex=True)
            return (spectrum.abs().pow(2.0).transpose(-1, -2) @ self.mel_scale.fb).transpose(-1, -2)

    stock = GraniteSpeechFeatureExtractor.__new__(GraniteSpeechFeatureExtractor)
    SequenceFeatureExtractor.__init__(stock, feature_size=80, sampling_rate=RATE, padding_value=0.0)
    stock.melspec_kwargs = {
        "sample_rate": RATE, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80,
    }  # fmt: skip
    stock.mel_filters = MelSpectrogram()
    stock.projector_window_size, stock.projector_downsample_rate = 15, 5
    return stock


def assert_same(ours: Any, theirs: Any, largest: float, mean: float = np.inf) -> None:
    """Two results of extractors have the same keys, types, shapes and masks, and features as near."""
    assert isinstance(theirs, type(ours))
    assert list(ours) == list(theirs)
    for key, expected in theirs.items():
        found = ours[key]
        assert type(found) is type(expected), key
        rows = (
            [(found, expected)]
            if not isinstance(found, list)
            else zip(found, expected, strict=True)
        )
        for one, other in rows:
            assert type(one) is type(other), key
            one, other = np.asarray(one), np.asarray(other)
            assert one.dtype == other.dtype, key
            assert one.shape == other.shape, key
            if one.dtype.kind == "f" and one.size:
                difference = np.abs(one.astype(np.float64) - other)
                assert difference.max() <= largest, key
                assert difference.mean() <= mean, key
            else:
                np.testing.assert_array_equal(one, other, err_msg=key)
