"""Phi-4-multimodal: what is mended in its audio encoder, LongRoPE, and its two LoRAs."""

from __future__ import annotations

import importlib.util
import os
import shutil

import numpy as np
import pytest

from mmaupro_ext.models.families import adapters
from mmaupro_ext.models.families.phi4_multimodal import unfold
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, load_file, save_file, Instance, tiny, needed, modeling, HFAudioLM
    import torch
    from lm_eval.api.instance import Instance
    from safetensors.torch import load_file, save_file
    from tiny import phi4_multimodal as tiny
    from tiny.common import needed
    from transformers.models.phi4_multimodal import modeling_phi4_multimodal as modeling

    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 100 * RATE).astype(np.float32)
CLOSE = {"abs": 1e-3}  # float32 in another order


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phi4")
    tiny.build(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lm(checkpoint):
    return HFAudioLM(checkpoint, device="cpu", batch_size=4)


def sound(seconds, start=0.0):
    first = round(start * RATE)
    return {"array": NOISE[first : first + round(seconds * RATE)], "sampling_rate": RATE}


def question(lm, *sounds, text="Which?", continuations=()):
    content = "<audio>" * len(sounds) + text
    context = lm.apply_chat_template([{"role": "user", "content": content}])
    return Question(context, {"audio": list(sounds)}, continuations=list(continuations))


# ---- the audio encoder ----------------------------------------------------------------------------


def encoded(model, prompt):
    """Return what the audio encoder makes of each clip of a prompt."""
    encoder = model.model.embed_tokens_extend.audio_embed.encoder
    features = prompt.tensors["audio_input_features"]
    with torch.no_grad():
        found = encoder(features, prompt.tensors.get("audio_attention_mask"))
    sizes = prompt.tensors["audio_embed_sizes"].tolist()
    return [row[:size] for row, size in zip(found, sizes, strict=True)]


def test_unfolding_one_clip_is_as_in_the_stock_function():
    spec = importlib.util.spec_from_file_location(modeling.__name__, modeling.__file__)
    stock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stock)  # a copy that nobody has mended
    audio = torch.randn(1, 1000, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unfold(audio, 500), stock.unfold_tensor(audio, 500))
    with pytest.raises(RuntimeError, match="view"):
        stock.unfold_tensor(audio.expand(2, -1, -1), 500)


def test_several_clips_beyond_40_s_are_heard(lm):
    first, second = sound(41), sound(95, start=5)
    together = encoded(lm.model, lm.prepare(question(lm, first, second)))
    assert [len(clip) for clip in together] == [513, 1188]
    longest_alone = encoded(lm.model, lm.prepare(question(lm, second)))[0]
    # all but its last 40-s piece, where its padding is masked here and not when it is alone
    torch.testing.assert_close(together[1][:1000], longest_alone[:1000], rtol=0, atol=1e-4)


def test_a_clip_does_not_attend_to_the_padding_beside_a_longer_one(lm):
    short = sound(3)
    alone = encoded(lm.model, lm.prepare(question(lm, short)))[0]
    mended, stock = (
        encoded(model, lm.prepare(question(lm, short, sound(30, start=5))))[0]
        for model in (lm.model, modeling.Phi4MultimodalForCausalLM.from_pretrained(lm.pretrained))
    )
    # Its last frames still see what is beyond its end, and are attended to: 0.10 against 0.57.
    errors = [(found - alone).abs().mean().item() for found in (mended, stock)]
    assert errors[0] < errors[1] / 4


def test_a_model_object_can_be_served_twice(lm):
    again = HFAudioLM(
        lm.model, tokenizer=lm.tokenizer, processor=lm.processor, device="cpu", batch_size=4
    )
    prompt = again.prepare(question(again, sound(1), sound(45)))
    assert all(torch.isfinite(clip).all() for clip in encoded(again.model, prompt))


def test_a_placeholder_is_never_written(checkpoint, tmp_path):
    folder = tmp_path / "placeholders"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    head = weights["lm_head.weight"]
    audio = tiny.tokenizer().convert_tokens_to_ids("<|audio|>")
    plain = HFAudioLM(checkpoint, device="cpu")
    prompt = plain.prepare(question(plain, sound(2)))
    with torch.no_grad():
        hidden = plain.model.model(**prompt.tensors).last_hidden_state[0, -1]
    head[audio] = hidden  # what the model would like to write
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    lm = HFAudioLM(str(folder), device="cpu")
    with torch.no_grad():
        assert lm.model(**prompt.tensors).logits[0, -1].argmax() == audio
    options = {"until": [], "max_gen_toks": 6}
    request = Instance("generate_until", {}, (prompt.text, options, {"audio": [sound(2)]}), 0)
    (reply,) = lm.generate_until([request], disable_tqdm=True)
    assert parse_error(reply) is None


# ---- LongRoPE -------------------------------------------------------------------------------------


def around_the_limit(lm):
    """Prompts below, across and beyond what the short factors are for."""
    filler = question(lm, sound(1), text="")
    beside = lm.prepare(filler).length - 13
    lengths = [tiny.SHORT_POSITIONS - beside - 13 + more for more in (-60, -2, 0, 1, 40)]
    return [
        lm.prepare_choices(
            question(lm, sound(1), text="x" * length, continuations=("A", "B is right", "no"))
        )
        for length in lengths
    ]


def values(rows):
    return [value for row in rows for value, _ in row]


def test_the_limit_is_crossed_here(lm):
    lengths = [choices.prompt.length for choices in around_the_limit(lm)]
    assert [length - tiny.SHORT_POSITIONS for length in lengths] == [-60, -2, 0, 1, 40]


def test_scores_around_the_limit_are_those_of_whole_passes_alone(lm):
    batch = around_the_limit(lm)
    lm.passes.switch(frozenset({"audio"}))
    expected = []
    for choices in batch:
        for tokens in choices.continuations:
            inputs = dict(choices.prompt.tensors)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([tokens])], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            for name in ("input_ids", "attention_mask"):
                inputs[name] = inputs[name][:, :-1]
            with torch.no_grad():
                logits = lm.model(**inputs).logits[0, -len(tokens) :].log_softmax(-1)
            expected.append(logits.gather(1, torch.tensor(tokens)[:, None]).sum().item())
    assert values(lm.score_choices(batch, shared=True)) == pytest.approx(expected, **CLOSE)
    assert values(lm.score_choices(batch, shared=False)) == pytest.approx(expected, **CLOSE)


def test_replies_across_the_limit_are_those_of_whole_passes(lm):
    lm.passes.switch(frozenset({"audio"}))
    for choices in around_the_limit(lm):
        inputs = dict(choices.prompt.tensors)
        written = lm.model.generate(
            **inputs,
            max_new_tokens=5,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=lm.tokenizer.pad_token_id,
        )
        for number, logits in enumerate(written.logits):
            inputs["input_ids"] = written.sequences[:, : choices.prompt.length + number]
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            with torch.no_grad():
                expected = lm.model(**inputs).logits[:, -1]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)


def test_replies_around_the_limit_do_not_depend_on_the_batch(checkpoint, lm):
    alone = HFAudioLM(checkpoint, device="cpu", batch_size=1)
    requests = [
        Instance(
            "generate_until",
            {},
            (choices.prompt.text, {"until": [], "max_gen_toks": 6}, {"audio": [sound(1)]}),
            0,
        )
        for choices in around_the_limit(lm)
    ]
    expected = alone.generate_until(requests, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in expected)
    assert lm.generate_until(requests, disable_tqdm=True) == expected


# ---- LoRAs ----------------------------------------------------------------------------------------


def score(lm, context, media=None):
    requests = [
        Instance("loglikelihood", {}, (context, choice) + ((media,) if media else ()), 0)
        for choice in ("A", "B is right")
    ]
    return [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]


@pytest.fixture(scope="module")
def with_one(checkpoint, tmp_path_factory):
    """Return the checkpoint with the weights of one LoRA in its own, and no LoRA."""
    peft = needed("peft")

    def merge(name):
        folder = tmp_path_factory.mktemp(name or "bare")
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        for adapter in ("speech-lora", "vision-lora"):
            shutil.rmtree(folder / adapter)
        if name:
            model = modeling.Phi4MultimodalForCausalLM.from_pretrained(checkpoint)
            adapted = peft.PeftModel.from_pretrained(model, os.path.join(checkpoint, name))
            adapted.merge_and_unload().save_pretrained(folder)
        return HFAudioLM(str(folder), device="cpu")

    return merge


def test_speech_works_for_audio_and_none_for_text(checkpoint, with_one):
    lm, speech, bare = HFAudioLM(checkpoint, device="cpu"), with_one("speech-lora"), with_one("")
    assert adapters.names(lm.model) == {"speech", "vision"}
    context = question(lm, sound(2)).context
    media = {"audio": [sound(2)]}
    assert score(lm, context, media) == pytest.approx(score(speech, context, media), **CLOSE)
    assert score(lm, "One plus one is") == pytest.approx(score(bare, "One plus one is"), **CLOSE)
    assert score(lm, context, media) != pytest.approx(score(bare, context, media), abs=0.1)


def test_vision_works_for_images_with_or_without_audio(checkpoint, with_one):
    needed("torchvision")
    from PIL import Image

    lm, vision = HFAudioLM(checkpoint, device="cpu", batch_size=4), with_one("vision-lora")
    picture = Image.new("RGB", (64, 48), (200, 30, 90))
    context = lm.apply_chat_template([{"role": "user", "content": "<image>Which?"}])
    both = lm.apply_chat_template([{"role": "user", "content": "<image><audio>Which?"}])
    for text, media in (
        (context, {"visual": [picture]}),
        (both, {"visual": [picture], "audio": [sound(1)]}),
    ):
        assert score(lm, text, media) == pytest.approx(score(vision, text, media), **CLOSE)
    # and in one call, where a batch could hold both
    heard = question(lm, sound(9)).context
    mixed = [
        Instance("loglikelihood", {}, (context, "A", {"visual": [picture]}), 0),
        Instance("loglikelihood", {}, (heard, "A", {"audio": [sound(9)]}), 0),
    ]
    together = [value for value, _ in lm.loglikelihood(mixed, disable_tqdm=True)]
    apart = [lm.loglikelihood([request], disable_tqdm=True)[0][0] for request in mixed]
    assert together == pytest.approx(apart, **CLOSE)


def test_what_is_lost_without_the_adapters_stands_by_the_scores(checkpoint, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(checkpoint, folder)
    shutil.rmtree(folder / "speech-lora")
    shutil.rmtree(folder / "vision-lora")
    note = HFAudioLM(str(folder), device="cpu").get_model_info()["note"]
    assert "speech, vision" in note


def test_nothing_is_said_lost_where_nothing_is(checkpoint):
    needed("peft")
    assert "note" not in HFAudioLM(checkpoint, device="cpu").get_model_info()


def test_an_adapter_without_all_its_weights_is_refused(checkpoint, tmp_path):
    needed("peft")
    folder = tmp_path / "half"
    shutil.copytree(checkpoint, folder)
    path = folder / "speech-lora" / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop(next(iter(weights)))
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(Exception, match="speech-lora .*has no weights"):
        HFAudioLM(str(folder), device="cpu")
