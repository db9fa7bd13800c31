"""What is special to Qwen3-Omni: seconds of mel frames that the longest of a batch fills up."""

from __future__ import annotations

import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, batching, HFAudioLM
    import torch

    from mmaupro_ext.models.hf import batching
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


@pytest.fixture(scope="module")
def lm(checkpoint_of):
    return HFAudioLM(checkpoint_of("qwen3_omni_moe"), device="cpu", batch_size=4)


def choices_of(lm, *lengths):
    generator = torch.Generator().manual_seed(0)
    return [
        lm.prepare_choices(
            Question(
                "<audio>\nWhich?",
                {"audio": [{"array": noise.numpy(), "sampling_rate": RATE}]},
                continuations=["A", "B is right"],
            )
        )
        for noise in (
            0.1 * torch.randn(round(seconds * RATE), generator=generator) for seconds in lengths
        )
    ]


def values(rows):
    return [value for row in rows for value, _ in row]


def test_prompts_of_a_second_and_more_go_into_one_batch(lm):
    batch = choices_of(lm, 1.0, 2.0, 1.55)
    tensors = [choices.prompt.tensors for choices in batch]
    batching.collate(tensors, lm.tokenizer.pad_token_id, loading=lm.family.loading)
    alone = [
        value for choices in batch for value in values(lm.score_choices([choices], shared=False))
    ]
    assert values(lm.score_choices(batch, shared=True)) == pytest.approx(alone, abs=1e-3)


def test_shorter_prompts_are_not_padded(lm):
    batch = choices_of(lm, 0.35, 2.0)
    tensors = [choices.prompt.tensors for choices in batch]
    with pytest.raises(batching.UnbatchableError):
        batching.collate(tensors, lm.tokenizer.pad_token_id, loading=lm.family.loading)


def test_the_count_depends_on_the_longest_block(lm):
    # 1.005 s are 100 whole hops and one that has begun
    assert lm.family.writing.count_tokens([16_080]) == [13]
    assert lm.family.writing.count_tokens([16_080, 32_000]) == [14, 26]
    media = {
        "audio": [
            {"array": torch.randn(samples).numpy(), "sampling_rate": RATE}
            for samples in (16_080, 32_000)
        ]
    }
    assert lm.prepare(Question("<audio><audio>", media)).heard["audio_tokens"] == 40


def test_the_weights_of_the_full_model_are_those_of_the_thinker(lm, checkpoint_of):
    from safetensors.torch import load_file

    stored = load_file(f"{checkpoint_of('qwen3_omni_moe')}/model.safetensors")
    assert all(name.startswith("thinker.") for name in stored)
    name = "lm_head.weight"
    assert torch.equal(lm.model.get_parameter(name), stored[f"thinker.{name}"])
