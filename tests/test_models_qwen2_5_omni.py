"""What is special to Qwen2.5-Omni: whole checkpoints, and audio beyond the 300 s that stock cuts at."""

import json

import numpy as np
import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global \
        torch, \
        load_file, \
        save_file, \
        qwen2_5_omni, \
        Qwen2_5OmniConfig, \
        WhisperFeatureExtractor, \
        HFAudioLM
    import torch
    from safetensors.torch import load_file, save_file
    from tiny import qwen2_5_omni
    from transformers import Qwen2_5OmniConfig, WhisperFeatureExtractor

    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinker")
    qwen2_5_omni.build(folder)
    return folder


@pytest.fixture
def whole(thinker, tmp_path):
    """Write a checkpoint of the whole model: the thinker's weights under its name, others beside."""
    qwen2_5_omni.save_processor(tmp_path, qwen2_5_omni.tokenizer())
    weights = {f"thinker.{k}": v for k, v in load_file(thinker / "model.safetensors").items()}
    weights["talker.codec_head.weight"] = torch.zeros(4, 4)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = Qwen2_5OmniConfig(
        thinker_config=json.loads((thinker / "config.json").read_text(encoding="utf-8"))
    )
    config.architectures = ["Qwen2_5OmniModel"]
    config.save_pretrained(tmp_path)
    return tmp_path


def noise(seconds):
    samples = np.random.default_rng(0).normal(0, 0.1, seconds * RATE).astype(np.float32)
    return {"array": samples, "sampling_rate": RATE}


def test_a_whole_checkpoint_answers_as_its_thinker_does(thinker, whole):
    assert json.loads((whole / "config.json").read_text())["model_type"] == "qwen2_5_omni"
    first, second = (HFAudioLM(str(folder), device="cpu") for folder in (thinker, whole))
    prompt = first.prepare(Question("<audio>\nWhat?", {"audio": [noise(2)]}))
    torch.testing.assert_close(
        first.next_token_logprobs(prompt), second.next_token_logprobs(prompt), rtol=0, atol=1e-5
    )
    weights = second.model.state_dict()
    assert all(
        torch.equal(value, weights[name]) for name, value in first.model.state_dict().items()
    )
    assert second.max_length == first.max_length == 32768


def test_ten_minutes_are_heard_whole_and_padded_little(thinker):
    lm = HFAudioLM(str(thinker), device="cpu")
    media = {"audio": [noise(600), noise(1)]}
    prompt = lm.prepare(Question("<audio><audio>\nWhich?", media))
    assert prompt.heard["audio_tokens"] == 15_000 + 25
    assert prompt.tensors["input_features"].shape == (2, 128, 60_000 + 2)
    assert prompt.tensors["feature_attention_mask"].sum(dim=1).tolist() == [60_000, 100]


@pytest.mark.parametrize("frontend", ["stock", "native"])
def test_features_are_those_of_the_padding_to_300_s(thinker, frontend):
    lm = HFAudioLM(str(thinker), device="cpu", frontend=frontend)
    sound = noise(2)
    prompt = lm.prepare(Question("<audio>\nWhat?", {"audio": [sound]}))
    stock = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    expected = stock(sound["array"], sampling_rate=RATE, return_tensors="pt").input_features
    got = prompt.tensors["input_features"]
    torch.testing.assert_close(got[..., :200], expected[..., :200], rtol=0, atol=1e-4)


def test_chunks_of_one_length_attend_together_and_to_themselves_as_one_by_one(thinker):
    from mmaupro_ext.models.hf import packed

    lm = HFAudioLM(str(thinker), device="cpu")
    encoder = lm.model.model.audio_tower
    assert encoder.config._attn_implementation == packed.NAME
    chunk = 2 * encoder.n_window
    frames = [5 * chunk + 31, chunk, 3 * chunk + 1, 2 * chunk]
    features = torch.randn(encoder.num_mel_bins, sum(frames), generator=torch.manual_seed(0))
    calls = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(query, *others, **options):
        calls.append(tuple(query.shape[::2]))
        return attend(query, *others, **options)

    def encoded(implementation):
        calls.clear()
        encoder.config._attn_implementation = implementation
        with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
            rows = encoder(features, feature_lens=torch.tensor(frames)).last_hidden_state
        return rows, calls[:]

    together, of_together = encoded(packed.NAME)
    one_by_one, of_one_by_one = encoded("sdpa")
    # Sums of float32 in another order: 1e-5 of numbers about 1.
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-5)
    layers = len(encoder.layers)
    assert len(of_one_by_one) == (6 + 1 + 4 + 2) * layers
    half = chunk // 2  # a convolution halves the frames
    assert of_together == [(5, half), (1, 16), (4, half), (1, 1), (2, half)] * layers
