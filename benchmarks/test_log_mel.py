"""Whisper's log-mel features against everyone who computes them.

Run: ``pytest benchmarks/test_log_mel.py``. All candidates get the same float32 samples and return
new float32 features; each result is compared with ours, so that nobody is timed at other work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmaupro_ext.features import log_mel, mel_filters, native_extractor

RATE = 16000
# name: seconds of audio, seconds of the buffer that it is padded to
WORKS = {"30 s": (30, 30), "600 s": (600, 600), "5 s padded to 30 s": (5, 30)}

Prepare = Callable[[np.ndarray, int, int], Callable[[], Any]]


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """Ten minutes between noise and music: gliding chords in changing noise."""
    rng = np.random.default_rng(0)
    t = np.arange(600 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * t + 5 * np.sin(0.3 * t)) for f in (220, 330, 550, 1900))
    noise = rng.standard_normal(t.size) * (0.02 + 0.1 * np.sin(0.7 * t) ** 2)
    return (0.1 * chord * (1 + np.sin(2.1 * t)) / 2 + noise).astype(np.float32)


def ours(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    return lambda: log_mel(x, n_mels, pad_to=padded)


def our_extractor(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    from transformers import WhisperFeatureExtractor

    extractor = native_extractor(WhisperFeatureExtractor(feature_size=n_mels))
    call = {"sampling_rate": RATE, "return_tensors": "pt", "max_length": padded}
    return lambda: extractor(x, **call).input_features[0]


def transformers(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    call = {"sampling_rate": RATE, "return_tensors": "pt", "max_length": padded}
    return lambda: extractor(x, **call).input_features[0]


def asrfront(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    from asrfront import whisper

    to_thirty_seconds = padded == 30 * RATE
    assert to_thirty_seconds or x.size == padded
    return lambda: whisper.log_mel(x, n_mels, pad_or_trim=to_thirty_seconds)


def openai_whisper(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    import torch
    from whisper.audio import log_mel_spectrogram

    samples = torch.from_numpy(x)
    return lambda: log_mel_spectrogram(samples, n_mels, padding=padded - x.size)


def faster_whisper(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    from faster_whisper.feature_extractor import FeatureExtractor

    extractor = FeatureExtractor(feature_size=n_mels)
    # Its own `padding` of one hop gives one frame more than the rest of us have.
    return lambda: extractor(x, padding=padded - x.size)


def torchaudio(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    import torch

    try:
        from torchaudio.transforms import MelSpectrogram
    except OSError as error:  # built for another torch
        raise ImportError(str(error)) from error

    mel = MelSpectrogram(RATE, 400, 400, 160, n_mels=n_mels, norm="slaney", mel_scale="slaney")

    def run() -> torch.Tensor:
        y = torch.nn.functional.pad(torch.from_numpy(x), (0, padded - x.size))
        features = mel(y)[:, :-1].clamp_(min=1e-10).log10_()
        return features.clamp_(min=features.max() - 8).add_(4).div_(4)

    return run


def librosa(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    from librosa.feature import melspectrogram

    def run() -> np.ndarray:
        y = np.pad(x, (0, padded - x.size))
        mel = melspectrogram(
            y=y, sr=RATE, n_fft=400, hop_length=160, n_mels=n_mels, pad_mode="reflect"
        )
        features = np.log10(np.maximum(mel[:, :-1], 1e-10))
        return (np.maximum(features, features.max() - 8) + 4) / 4

    return run


def scipy_blocks(x: np.ndarray, n_mels: int, padded: int) -> Callable[[], Any]:
    """Compute with numpy and scipy.fft alone, in blocks that stay in the second-level cache."""
    from scipy.fft import rfft

    filters = mel_filters(n_mels).astype(np.float32)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)).astype(np.float32)

    def run() -> np.ndarray:
        y = np.pad(np.pad(x, (0, padded - x.size)), 200, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(y, 400)[::160][: padded // 160]
        features = np.empty((n_mels, len(frames)), np.float32)
        for first in range(0, len(frames), 500):
            block = slice(first, first + 500)
            spectrum = rfft(frames[block] * window)
            mel = (spectrum.real**2 + spectrum.imag**2) @ filters
            features[:, block] = np.log10(np.maximum(mel, 1e-10)).T
        np.maximum(features, features.max() - 8, out=features)
        return (features + 4) / 4

    return run


CANDIDATES: dict[str, Prepare] = {
    "mmaupro_ext": ours,
    "mmaupro_ext as extractor": our_extractor,
    "mmaupro_ext, Numba twin": ours,
    "transformers": transformers,
    "asrfront": asrfront,
    "openai-whisper": openai_whisper,
    "faster-whisper": faster_whisper,
    "torchaudio": torchaudio,
    "librosa": librosa,
    "scipy.fft in blocks": scipy_blocks,
}


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("work", WORKS)
def test_log_mel(race, monkeypatch, recording, work, n_mels, candidate):
    seconds, padded_seconds = WORKS[work]
    x, padded = recording[: seconds * RATE], padded_seconds * RATE
    expected = log_mel(x, n_mels, pad_to=padded)
    if candidate.endswith("twin"):
        monkeypatch.setenv("MMAUPRO_NATIVE", "numba")
        log_mel(x, n_mels, pad_to=padded)  # compiles
    prepare = CANDIDATES[candidate]
    features = race(
        f"log-mel, {n_mels} mels, {work}", candidate, lambda: prepare(x, n_mels, padded)
    )
    # The bound of the tests is 1e-4; float32 matrix products of some candidates are a little worse.
    assert np.abs(np.asarray(features) - expected).max() < 2e-4
