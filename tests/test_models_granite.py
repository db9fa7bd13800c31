"""Granite Speech where torchaudio, which its stock feature extractor computes with, is missing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, granite_speech, needed, stock_module, features, loading, HFAudioLM
    import torch
    from tiny import granite_speech
    from tiny.common import needed
    from transformers.models.granite_speech import feature_extraction_granite_speech as stock_module

    from mmaupro_ext import features
    from mmaupro_ext.models.hf import loading
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("granite")
    granite_speech.build(folder)
    return str(folder)


@pytest.fixture
def no_torchaudio(monkeypatch):
    def requires(_, backends):
        if "torchaudio" in backends:
            raise ImportError("GraniteSpeechFeatureExtractor requires the torchaudio library")

    monkeypatch.setattr(stock_module, "requires_backends", requires)


def prepared(lm):
    text = lm.apply_chat_template([{"role": "user", "content": "<audio><audio>Which?"}])
    clips = [{"array": NOISE[:size], "sampling_rate": RATE} for size in (NOISE.size, 20_001)]
    return lm.prepare(Question(text, {"audio": clips})).tensors


@pytest.mark.usefixtures("no_torchaudio")
def test_the_checkpoint_is_served_without_torchaudio(checkpoint):
    lm = HFAudioLM(checkpoint, device="cpu")
    assert features.is_native(lm.processor.audio_processor)
    assert lm._processor_problem is None
    tensors = prepared(lm)
    assert tensors["input_features"].shape == (2, (NOISE.size // 160 + 1) // 2, 160)
    assert tensors["input_features_mask"].sum().item() == lm.model.config.window_size // 5 * (
        10 + 5
    )


@pytest.mark.usefixtures("no_torchaudio")
def test_the_stock_frontend_says_what_it_needs(checkpoint):
    with pytest.raises(ConfigError, match="torchaudio"):
        HFAudioLM(checkpoint, device="cpu", frontend="stock")


def test_it_is_the_same_with_torchaudio(checkpoint, request):
    needed("torchaudio")
    usual = prepared(HFAudioLM(checkpoint, device="cpu"))
    request.getfixturevalue("no_torchaudio")
    found = prepared(HFAudioLM(checkpoint, device="cpu"))
    assert set(found) == set(usual)
    for name, tensor in usual.items():
        # torchaudio rounds the filter bank to float32
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("no_torchaudio")
def test_the_extractor_can_be_copied(checkpoint):
    processor, _ = loading.load_processor(checkpoint, ("granite_speech",))
    extractor = processor.audio_processor
    expected = extractor([NOISE])["input_features"]
    for other in (copy.deepcopy(processor).audio_processor, pickle.loads(pickle.dumps(extractor))):
        assert torch.equal(other([NOISE])["input_features"], expected)


def test_other_settings_are_taken_or_refused():
    settings = granite_speech.EXTRACTOR
    wide = features.from_settings({**settings, "projector_window_size": 30})
    # 62 rows in blocks of 30, of 6 tokens each; in blocks of 15, of 3 tokens, they would be 15.
    assert wide([NOISE[:20_001]])["audio_embed_sizes"] == [18]
    with pytest.raises(ConfigError, match="sampling_rate"):
        features.from_settings({**settings, "sampling_rate": 8000})
    assert features.from_settings({"feature_extractor_type": "WhisperFeatureExtractor"}) is None
    assert features.from_settings({}) is None
