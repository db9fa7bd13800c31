"""What is special to Nemotron Omni: which clips may be padded, and where its template puts media."""

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
    return HFAudioLM(checkpoint_of("nemotron_h_omni"), device="cpu", batch_size=4)


def clip(seconds, generator):
    samples = 0.1 * torch.randn(round(seconds * RATE), generator=generator)
    return {"array": samples.numpy(), "sampling_rate": RATE}


def choices_of(lm, *lengths):
    generator = torch.Generator().manual_seed(0)
    return [
        lm.prepare_choices(
            Question(
                "<audio>\nWhich?",
                {"audio": [clip(seconds, generator)]},
                continuations=["A", "B is right"],
            )
        )
        for seconds in lengths
    ]


def values(rows):
    return [value for row in rows for value, _ in row]


def test_clips_whose_frames_do_not_fill_tokens_go_into_one_batch(lm):
    batch = choices_of(lm, 2.53, 1.55, 12.37)
    tensors = [choices.prompt.tensors for choices in batch]
    batching.collate(tensors, lm.tokenizer.pad_token_id, loading=lm.family.loading)
    alone = [
        value for choices in batch for value in values(lm.score_choices([choices], shared=False))
    ]
    assert values(lm.score_choices(batch, shared=True)) == pytest.approx(alone, abs=1e-3)


def test_clips_with_a_token_behind_the_mask_are_not_padded(lm):
    batch = choices_of(lm, 2.0, 3.0)
    tensors = [choices.prompt.tensors for choices in batch]
    with pytest.raises(batching.UnbatchableError):
        batching.collate(tensors, lm.tokenizer.pad_token_id, loading=lm.family.loading)
    # what padding would do to the last token of the first clip
    inputs = tensors[0]
    padded = {
        "input_features": torch.nn.functional.pad(inputs["input_features"], (0, 0, 0, 100)),
        "input_features_mask": torch.nn.functional.pad(inputs["input_features_mask"], (0, 100)),
    }
    with torch.no_grad():
        heard, other = (
            lm.model.get_audio_features(
                entry["input_features"], entry["input_features_mask"]
            ).pooler_output
            for entry in (inputs, padded)
        )
    torch.testing.assert_close(heard[:-1], other[:-1], rtol=0, atol=1e-3)
    assert (heard[-1] - other[-1]).abs().max() > 0.1


def test_a_token_behind_the_mask_says_the_same_whatever_the_attention_kernel(
    checkpoint_of, monkeypatch
):
    """A kernel that gives 0 for a row that is masked whole stands in for the fused one of a GPU."""
    fused = torch.nn.functional.scaled_dot_product_attention

    def zeros_where_all_is_masked(query, key, value, attn_mask=None, **options):
        out = fused(query, key, value, attn_mask=attn_mask, **options)
        if attn_mask is None or not attn_mask.is_floating_point():
            return out
        lowest = torch.finfo(attn_mask.dtype).min
        return out.masked_fill((attn_mask <= lowest).all(dim=-1, keepdim=True), 0.0)

    def scored():
        # loaded anew: what an encoder made of a clip is kept
        lm = HFAudioLM(checkpoint_of("nemotron_h_omni"), device="cpu")
        return values(lm.score_choices(choices_of(lm, 4.0), shared=True))

    usual = scored()
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", zeros_where_all_is_masked
    )
    assert scored() == pytest.approx(usual, abs=1e-5)  # the same sums, in float32


def test_clips_stand_before_the_text_and_are_numbered_in_their_order(lm):
    context = lm.apply_chat_template(
        [{"role": "user", "content": "Compare <audio> with <audio>, please."}]
    )
    generator = torch.Generator().manual_seed(0)
    prompt = lm.prepare(Question(context, {"audio": [clip(1, generator), clip(2, generator)]}))
    assert (
        "Audio 1: <so_embedding>\nAudio 2: <so_embedding>\nCompare  with , please." in prompt.text
    )
