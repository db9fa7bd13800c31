"""What is special to Gemma: one <bos>, in chats and without them, and blocks of 30 s."""

from __future__ import annotations

import numpy as np
import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global HFAudioLM
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


@pytest.fixture(scope="module")
def lm(checkpoint_of):
    return HFAudioLM(checkpoint_of("gemma4"), device="cpu")


def clip(seconds):
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE))
    return {"array": samples.astype(np.float32), "sampling_rate": RATE}


def prepare(lm, context, seconds=1.0):
    return lm.prepare_choices(
        Question(context, {"audio": [clip(seconds)]}, continuations=["A", " B is right"])
    )


@pytest.mark.parametrize("in_chat", [True, False])
def test_a_prompt_with_audio_has_one_bos(lm, in_chat):
    context = "<audio>\nWhich?"
    if in_chat:
        context = lm.apply_chat_template([{"role": "user", "content": context}])
    choices = prepare(lm, context)
    ids = choices.prompt.tensors["input_ids"][0].tolist()
    assert ids[0] == lm.tokenizer.bos_token_id
    assert ids.count(lm.tokenizer.bos_token_id) == 1
    assert all(lm.tokenizer.bos_token_id not in tokens for tokens in choices.continuations)


def test_a_text_prompt_has_one_bos(lm):
    chat = lm.apply_chat_template([{"role": "user", "content": "One plus one?"}])
    for text in ("One plus one?", chat):
        ids = lm.tok_encode(text)
        assert ids[0] == lm.tokenizer.bos_token_id
        assert ids.count(lm.tokenizer.bos_token_id) == 1


def test_a_clip_of_45_s_is_two_blocks_of_the_window_at_most(lm):
    prompt = prepare(lm, "<audio>\nWhich?", 45.0).prompt
    assert prompt.blocks == [2]
    assert prompt.heard["audio_tokens"] == 2 * 563  # of 22.5 s each
    # what the stock extractor does to the whole clip
    stock = lm.processor.feature_extractor([clip(45.0)["array"]])
    assert len(stock["input_features_mask"][0]) < 3000
