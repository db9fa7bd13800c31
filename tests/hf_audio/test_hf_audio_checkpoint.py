"""hf-audio: frontends, arguments, chat templates, what the results say."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import soundfile
from hf_requests import generate, scores_of

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, transformers, get_model, tiny_random, HFAudioLM, ranks
    import torch
    import transformers
    from lm_eval.api.registry import get_model

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.hf import ranks
    from mmaupro_ext.models.hf.model import HFAudioLM


# ---- frontends, construction, information --------------------------------------------------------
def test_stock_and_native_frontend_agree(make, tmp_path):
    # Below the transition bands of the resamplers, where both promise the same response.
    time = np.arange(3 * 44_100) / 44_100
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 68)
    tones = [np.sin(2 * np.pi * 100 * n * time + phase) for n, phase in enumerate(phases, start=1)]
    path = str(tmp_path / "harmonics.wav")
    soundfile.write(path, 0.01 * np.sum(tones, axis=0), 44_100)
    native, stock = make(), make(frontend="stock")
    assert type(stock.processor.feature_extractor) is transformers.WhisperFeatureExtractor
    assert type(native.processor.feature_extractor) is not transformers.WhisperFeatureExtractor
    question = Question("<audio>\nWhat?", {"audio": [path]})
    ours, theirs = native.prepare(question).tensors, stock.prepare(question).tensors
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert scores_of(native, "<audio>\nWhat?", [path]) == pytest.approx(
        scores_of(stock, "<audio>\nWhat?", [path]), abs=1e-3
    )


def test_native_features_are_the_stock_features(make, clip):
    path = clip("a.wav", seconds=3)
    question = Question("<audio>\nWhat?", {"audio": [path]})
    ours = make().prepare(question).tensors["input_features"]
    theirs = make(frontend="stock").prepare(question).tensors["input_features"]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_the_class_is_where_the_registration_says():
    assert get_model("hf-audio") is HFAudioLM
    assert f"{HFAudioLM.__module__}:{HFAudioLM.__name__}" == (
        "mmaupro_ext.models.hf.model:HFAudioLM"
    )


def test_unknown_options_are_refused(make):
    with pytest.raises(ConfigError, match="frontend"):
        make(frontend="fast")
    with pytest.raises(ConfigError, match="decoder-only"):
        make(backend="seq2seq")


def test_constructor_arguments_reach_transformers(make):
    lm = make(dtype="bfloat16", attn_implementation="eager", max_length=1234)
    assert lm.model.dtype == torch.bfloat16
    assert lm.model.config._attn_implementation == "eager"
    assert lm.max_length == 1234


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ({"load_in_8bit": True}, {"load_in_8bit": True}),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        ),
        ({"quantization_config": {"quant_method": "hqq"}}, {"quant_method": "hqq"}),
    ],
)
def test_quantization_reaches_transformers(make, monkeypatch, given, arrives):
    class Arrived(BaseException):
        pass

    def from_pretrained(*_, **options):
        raise Arrived(options)

    kind = transformers.Qwen2AudioForConditionalGeneration
    monkeypatch.setattr(kind, "from_pretrained", from_pretrained)
    with pytest.raises(Arrived) as arrived:
        make(**given, attn_implementation="eager")
    (options,) = arrived.value.args
    assert options["quantization_config"] == arrives
    assert options["attn_implementation"] == "eager"
    assert not set(options) & {"load_in_8bit", "load_in_4bit", "bnb_4bit_quant_type"}


def test_half_precision_models_take_audio(make, clip):
    lm = make(dtype="bfloat16")
    path = clip("a.wav")
    (reply,) = lm.generate_until([generate("<audio>\nWhat?", path)], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)
    assert np.isfinite(scores_of(lm, "<audio>\nWhat?", [path])).all()


def test_a_model_object_with_its_processor_is_served(clip):
    model, processor = tiny_random.make(1)
    lm = HFAudioLM(model, tokenizer=processor.tokenizer, processor=processor)
    (reply,) = lm.generate_until([generate("<audio>\nWhat?", clip("a.wav"))], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)


def test_the_results_say_what_was_heard_and_that_it_was_chance(make, clip, caplog):
    with caplog.at_level(logging.WARNING):
        lm = make()
    assert "chance level" in caplog.text
    short, long = clip("short.wav", seconds=1.5), clip("long.wav", seconds=31, rate=8_000)
    requests = [
        generate("<audio>\nWhat?", short),
        generate("<audio>\n<audio>\nWhich?", short, long),
        generate("<audio>\nWhat?", "missing.wav"),
    ]
    lm.generate_until(requests, disable_tqdm=True)
    info = lm.get_model_info()
    assert info["frontend"] == "native"
    assert info["native"]["backend"]
    assert info["resamplers_used"] == ["native", "none"]
    assert "chance level" in info["note"]
    assert info["model_num_parameters"] < 100_000
    assert info["heard"] == {
        "items": 2,
        "files": 2,
        "clips": 3,
        "windows": 4,
        "audio_tokens": 37 + 37 + 2 * 387,  # 31 s are two windows of 15.5 s
        "seconds_in_files": 34.0,
        "seconds_heard": 34.0,
        "shortened_items": 0,
        "mixed_down_clips": 0,
        "errored_items": 1,
        "process": 0,
        "processes": 1,
    }
    json.dumps(info, default=str)


def test_ranks_are_counted_over_all_nodes(lm):
    class Accelerator:
        process_index, local_process_index, num_processes = 3, 1, 4

        def unwrap_model(self, model):
            return model

    lm.accelerator = Accelerator()
    assert ranks.take_part(lm) == (3, 4)


# ---- chat templates ------------------------------------------------------------------------------
def test_the_chat_template_keeps_one_place_per_clip(lm, clip):
    history = [{"role": "user", "content": "<audio>\n<audio>\nWhich is louder?"}]
    rendered = lm.apply_chat_template(history)
    block = lm.family.writing.audio_block
    assert f"Audio 1: {block}\nAudio 2: {block}\nWhich is louder?<|im_end|>" in rendered
    assert rendered.endswith("<|im_start|>assistant\n")
    paths = [clip("long.wav", seconds=31), clip("b.wav")]
    prompt = lm.prepare(Question(rendered, {"audio": paths}))
    text = lm.tok_decode(prompt.tensors["input_ids"][0])
    assert "recording 2 is Audio 3.\nWhich is louder?\nassistant\n" in text.replace("user\n", "")
    (reply,) = lm.generate_until([generate(rendered, *paths)], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)


def test_the_chat_template_takes_text_and_a_system_message(lm):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One plus one?"},
    ]
    expected = lm.processor.tokenizer.apply_chat_template(
        history,
        tokenize=False,
        chat_template=lm.processor.chat_template,
        add_generation_prompt=True,
    )
    assert lm.apply_chat_template(history) == expected
    assert lm.chat_template(True) == lm.processor.chat_template


def test_a_chat_template_that_is_not_in_use_is_hinted_at_once(lm, clip, caplog):
    path = clip("a.wav")
    rendered = lm.apply_chat_template([{"role": "user", "content": "<audio>\nWhat?"}])
    with caplog.at_level(logging.WARNING):
        lm.generate_until([generate(rendered, path)], disable_tqdm=True)
        assert "--apply_chat_template" not in caplog.text
        lm.generate_until([generate("<audio>\nWhat?", path)] * 2, disable_tqdm=True)
    assert caplog.text.count("--apply_chat_template") == 1
