"""The log-mel families other than Whisper: our drop-ins against stock extractors, and asrfront.

Run: ``pytest benchmarks/test_families.py``. Both sides of a race get the same float32 samples and return
new tensors; each result is compared with ours, so that nobody is timed at other work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmaupro_ext.features import from_settings, native_extractor
from mmaupro_ext.features.mel import filter_bank

RATE = 16000
STOCK = {
    "Gemma 4": ("Gemma4AudioFeatureExtractor", {}),
    "Gemma 3n": ("Gemma3nAudioFeatureExtractor", {}),
    "Parakeet (128, normalised)": ("ParakeetFeatureExtractor", {"feature_size": 128}),
    "Phi-4": ("Phi4MultimodalFeatureExtractor", {}),
    "Inkling": ("InklingFeatureExtractor", {}),
    "dots3-note": ("Dots3NoteFeatureExtractor", {}),
}


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """Thirty seconds between noise and music: gliding chords in changing noise."""
    rng = np.random.default_rng(0)
    t = np.arange(30 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * t + 5 * np.sin(0.3 * t)) for f in (220, 330, 550, 1900))
    noise = rng.standard_normal(t.size) * (0.02 + 0.1 * np.sin(0.7 * t) ** 2)
    return (0.1 * chord * (1 + np.sin(2.1 * t)) / 2 + noise).astype(np.float32)


def extractor_of(family: str, candidate: str) -> Any:
    import transformers

    name, settings = STOCK[family]
    stock = getattr(transformers, name)(**settings)
    return stock if candidate == "transformers" else native_extractor(stock)


@pytest.mark.parametrize("candidate", ["mmaupro_ext", "mmaupro_ext (Numba)", "transformers"])
@pytest.mark.parametrize("family", STOCK)
def test_extractor(race, monkeypatch, recording, family, candidate):
    def prepare() -> Callable[[], Any]:
        if candidate == "mmaupro_ext (Numba)":
            monkeypatch.setenv("MMAUPRO_NATIVE", "numba")
        extractor = extractor_of(family, candidate)
        call = {"sampling_rate": RATE, "return_tensors": "pt"}
        extractor([recording], **call)
        return lambda: extractor([recording], **call)

    value = race(f"{family} extractor, 30 s", candidate, prepare)
    ours = extractor_of(family, "mmaupro_ext")([recording], sampling_rate=RATE, return_tensors="pt")
    for key, expected in ours.items():
        np.testing.assert_allclose(value[key], expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("candidate", ["mmaupro_ext", "asrfront"])
def test_gemma4_features(race, recording, candidate):
    def ours() -> Callable[[], np.ndarray]:
        extractor = extractor_of("Gemma 4", "mmaupro_ext")
        return lambda: extractor([recording]).input_features[0]

    def theirs() -> Callable[[], np.ndarray]:
        from asrfront import gemma4

        return lambda: gemma4.log_mel(recording)

    prepare = theirs if candidate == "asrfront" else ours
    value = race("Gemma 4 features, 30 s", candidate, prepare)
    np.testing.assert_allclose(value, ours()()[: len(value)], rtol=0, atol=2e-3)


@pytest.mark.parametrize("candidate", ["mmaupro_ext", "torch.stft as torchaudio calls it"])
def test_granite_features(race, recording, candidate):
    def ours() -> Callable[[], np.ndarray]:
        extractor = from_settings({"feature_extractor_type": "GraniteSpeechFeatureExtractor"})
        return lambda: extractor([recording]).input_features[0].numpy()

    prepare = ours if candidate == "mmaupro_ext" else lambda: of_melspectrogram(recording)
    value = race("Granite features, 30 s", candidate, prepare)
    np.testing.assert_allclose(value, ours()(), rtol=0, atol=1e-3)


def of_melspectrogram(x: np.ndarray) -> Callable[[], np.ndarray]:
    import torch

    bank = torch.from_numpy(filter_bank(512, 80, scale="htk").astype(np.float32))
    window, samples = torch.hann_window(400), torch.from_numpy(x)[None]

    def run() -> np.ndarray:
        spectrum = torch.stft(samples, 512, 160, 400, window, return_complex=True)
        energies = spectrum.abs().pow(2.0).transpose(-1, -2) @ bank
        values = energies.clip_(min=1e-10).log10_()
        values = torch.maximum(values, values.amax() - 8.0).div_(4).add_(1)[0]
        return values[: len(values) // 2 * 2].reshape(-1, 160).numpy()

    return run
