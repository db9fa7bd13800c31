"""What the encoder made of clips is kept and used again, and never for other audio."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from mmaupro_ext.models.hf.model import HFAudioLM
from mmaupro_ext.models.items import Question

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("qwen2_audio")
    importlib.import_module("tiny.qwen2_audio").build(made)
    return str(made)


@pytest.fixture
def lm(folder):
    return HFAudioLM(folder, device="cpu", batch_size=8)


@pytest.fixture
def blocks(lm):
    """Blocks that the audio tower has encoded, one number a pass."""
    found = []
    tower = lm.model.model.audio_tower
    tower.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))
    return found


def clip(seed, seconds=0.5):
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))
    return {"array": samples.astype(np.float32), "sampling_rate": RATE}


def asked(text, *clips):
    context = "<audio>\n" * len(clips) + text
    return Instance(
        "generate_until", {}, (context, {"until": [], "max_gen_toks": 3}, {"audio": [*clips]}), 0
    )


def prompts(lm, *clips):
    return [lm.prepare(Question("<audio>\nWhat?", {"audio": [each]})) for each in clips]


def rows_of(lm, *clips):
    batch = prompts(lm, *clips)
    with lm.passes.over({"audio"}):
        return lm.passes.encoder_cache.rows_of(batch, lm.passes)


def test_questions_in_one_batch_and_in_later_calls_share_what_was_encoded(lm, blocks):
    questions = [asked(f"Which {'x' * n}?", clip(n % 3)) for n in range(8)]
    first = lm.generate_until(questions, disable_tqdm=True)
    assert sum(blocks) == 3
    assert lm.generate_until(questions, disable_tqdm=True) == first
    assert sum(blocks) == 3


def test_a_clip_is_known_in_whatever_list_it_comes(folder, lm, blocks):
    lists = [[clip(0), clip(1)], [clip(1), clip(0)], [clip(2), clip(0)], [clip(2)]]
    questions = [asked("Which?", *clips) for clips in lists]
    replies = [lm.generate_until([question], disable_tqdm=True)[0] for question in questions]
    # two as they are; together and each by itself, to find out; then the third
    assert sum(blocks) == lm.passes.counts.encoded == 2 + 2 + 2 + 1
    assert lm.passes.counts.encoded_before == 2 + 1 + 1
    every = HFAudioLM(folder, device="cpu", batch_size=8, audio_cache_mb=0)
    assert every.generate_until(questions, disable_tqdm=True) == replies
    wanted = [rows_of(lm, clip(number))[0] for number in (1, 0)]
    batch = [lm.prepare(Question("<audio><audio>What?", {"audio": lists[1]}))]
    with lm.passes.over({"audio"}):
        (found,) = lm.passes.encoder_cache.rows_of(batch, lm.passes)
    assert torch.equal(found, torch.cat(wanted))


def test_clips_that_are_encoded_otherwise_beside_others_stay_together(lm, blocks):
    tower = lm.model.model.audio_tower
    tower.register_forward_hook(
        lambda _, __, output: output.__setitem__(
            "last_hidden_state", output.last_hidden_state + output.last_hidden_state.mean(0)
        )
    )
    lm.generate_until([asked("Which?", clip(0), clip(1))], disable_tqdm=True)
    assert sum(blocks) == 2 + 2 + 2  # to find out, and then together
    lm.generate_until([asked("Which?", clip(1), clip(0))], disable_tqdm=True)
    assert sum(blocks) == 6 + 2


def test_windows_of_silence_are_encoded_once(folder):
    lm = HFAudioLM(folder, device="cpu", batch_size=8, long_audio="windows", window_s=1)
    silence = {"array": np.zeros(4 * RATE, np.float32), "sampling_rate": RATE}
    lm.generate_until([asked("Which?", silence)], disable_tqdm=True)
    first = 4 + 2 + 2  # as they are; two together and apart, to find out
    assert lm.passes.counts.encoded == first
    assert lm.passes.counts.encoded_before == 0
    longer = {"array": np.zeros(6 * RATE, np.float32), "sampling_rate": RATE}
    lm.generate_until([asked("Which?", longer)], disable_tqdm=True)
    assert lm.passes.counts.encoded == first
    assert lm.passes.counts.encoded_before == 6


def test_one_sample_makes_other_audio(lm, blocks):
    changed = clip(0)
    changed["array"] = changed["array"].copy()
    changed["array"][4000] += 0.5
    rows = rows_of(lm, clip(0), changed)
    assert not torch.equal(*rows)


def test_no_more_is_kept_than_allowed_and_the_oldest_goes_first(lm, blocks):
    one = rows_of(lm, clip(0))[0].nbytes
    lm.passes.encoder_cache.max_bytes = 2 * one
    rows_of(lm, clip(1))
    rows_of(lm, clip(0))  # now the newest
    rows_of(lm, clip(2))
    assert sum(blocks) == 3
    rows_of(lm, clip(0))
    assert sum(blocks) == 3
    rows_of(lm, clip(1))
    assert sum(blocks) == 4


def test_what_is_larger_than_the_bound_is_used_and_not_kept(lm, blocks):
    lm.passes.encoder_cache.max_bytes = 1
    question = [asked("Which?", clip(0)), asked("Which one?", clip(0))]
    lm.generate_until(question, disable_tqdm=True)
    assert sum(blocks) == 1
    lm.generate_until(question, disable_tqdm=True)
    assert sum(blocks) == 2


def test_memory_that_runs_out_takes_what_is_kept(lm):
    rows_of(lm, clip(0))
    with pytest.raises(MemoryError), lm.passes.over({"audio"}):
        raise MemoryError
    assert not lm.passes.encoder_cache._kept


def test_passes_that_read_text_only_are_left_alone(lm):
    ids = torch.tensor([[5, 6, 7]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with lm.passes.over(()):
        before = lm.model(**inputs).logits
    lm.generate_until([asked("Which?", clip(0))], disable_tqdm=True)
    with lm.passes.over(()):
        assert torch.equal(lm.model(**inputs).logits, before)
    assert not lm.model.model.language_model._forward_pre_hooks


def test_a_model_that_tells_its_text_part_more_of_the_audio_encodes_every_prompt(lm, blocks):
    inner, stock = lm.model.model, lm.model.model.forward

    def forward(*args, **kwargs):
        if kwargs.get("input_features") is not None:
            kwargs["position_ids"] = kwargs["attention_mask"].cumsum(1)
        return stock(*args, **kwargs)

    inner.forward = forward
    # Other words before the clip: no prompt begins like another one.
    contexts = [f"{'x' * n}<audio>\nWhich?" for n in range(4)]
    options = {"until": [], "max_gen_toks": 3}
    questions = [
        Instance("generate_until", {}, (context, options, {"audio": [clip(0)]}), 0)
        for context in contexts
    ]
    lm.generate_until(questions, disable_tqdm=True)
    assert not lm.passes.encoder_cache.serves({"audio"})
    assert sum(blocks) == 1 + 4  # one to find out


def test_a_model_that_fails_without_its_features_encodes_every_prompt(lm):
    inner, stock = lm.model.model, lm.model.model.forward

    def forward(*args, **kwargs):
        if kwargs.get("input_features") is None and len(kwargs["input_ids"][0]) > 1:
            raise ValueError("where is the audio?")
        return stock(*args, **kwargs)

    inner.forward = forward
    (reply,) = lm.generate_until([asked("Which?", clip(0))], disable_tqdm=True)
    assert "where is the audio" not in reply
    assert not lm.passes.encoder_cache.serves({"audio"})


def test_prompts_whose_audio_differs_in_shape_are_read_together(checkpoint_of):
    lm = HFAudioLM(checkpoint_of("granite_speech"), device="cpu", batch_size=4)
    rows = []

    def count(_, __, kwargs):
        if kwargs["inputs_embeds"].shape[1] > 1:
            rows.append(len(kwargs["inputs_embeds"]))

    lm.model.model.language_model.register_forward_pre_hook(count, with_kwargs=True)
    questions = [asked("Which?", clip(n, 0.5 + 0.1 * n)) for n in range(4)]
    lm.generate_until(questions, disable_tqdm=True)
    # the first of the trial, one of each while encoding, and all of them in one prefill
    assert rows[-1] == 4
