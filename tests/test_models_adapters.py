"""LoRAs: those that a checkpoint brings, which work for some media only, and the user's `peft=FOLDER`."""

from __future__ import annotations

import importlib
import os
import shutil

import numpy as np
import pytest

from mmaupro_ext.models.families import adapters, find_family
from mmaupro_ext.models.families.granite_speech import WITHOUT_ADAPTER
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global peft, torch, transformers, Instance, loading, HFAudioLM
    import peft
    import torch
    import transformers
    from lm_eval.api.instance import Instance

    from mmaupro_ext.models.hf import loading
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
SOUND = {
    "array": np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32),
    "sampling_rate": RATE,
}
# What only float32 in another order of operations changes.
CLOSE = {"abs": 1e-3}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    built: dict[str, str] = {}

    def build(name):
        if name not in built:
            folder = tmp_path_factory.mktemp(name)
            importlib.import_module(f"tiny.{name}").build(folder)
            built[name] = str(folder)
        return built[name]

    return build


@pytest.fixture(scope="module")
def without_adapter(checkpoints, tmp_path_factory):
    """The Granite checkpoint without its LoRA."""
    folder = tmp_path_factory.mktemp("bare") / "granite"
    shutil.copytree(checkpoints("granite_speech"), folder)
    for path in folder.glob("adapter_*"):
        path.unlink()
    return str(folder)


@pytest.fixture(scope="module")
def user_adapter(tmp_path_factory):
    """Make a random LoRA for a checkpoint, as a user trains one; also the checkpoint with it merged."""

    def make(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint)
        loader = loading.loader_for(config.model_type, find_family(config.model_type))
        folder = tmp_path_factory.mktemp("user")
        lora = peft.LoraConfig(
            r=4,
            lora_alpha=32,
            # of the language model: audio encoders of some families have such layers, too
            target_modules=r".*(language_model|model\.layers).*\.(q_proj|qkv_proj|o_proj)",
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model = peft.get_peft_model(loader.from_pretrained(checkpoint), lora)
        model.save_pretrained(folder / "lora")
        shutil.copytree(checkpoint, folder / "merged")
        model.merge_and_unload().save_pretrained(folder / "merged")
        return str(folder / "lora"), str(folder / "merged")

    return make


def load(checkpoint, **arguments):
    return HFAudioLM(checkpoint, device="cpu", batch_size=2, **arguments)


def text_of(lm, content):
    return lm.apply_chat_template([{"role": "user", "content": content}])


def audio_scores(lm):
    context = text_of(lm, "<audio>\nWhich?")
    requests = [
        Instance("loglikelihood", {}, (context, choice, {"audio": [SOUND]}), 0)
        for choice in ("A", "B is right")
    ]
    return [score for score, _ in lm.loglikelihood(requests, disable_tqdm=True)]


def text_scores(lm):
    requests = [
        Instance("loglikelihood", {}, ("One plus one is", choice), 0) for choice in (" two", " 3")
    ]
    return [score for score, _ in lm.loglikelihood(requests, disable_tqdm=True)]


def replies(lm):
    options = {"until": [], "max_gen_toks": 6}
    audio = (text_of(lm, "<audio>\nWhich?"), options, {"audio": [SOUND]})
    requests = [
        Instance("generate_until", {}, arguments, 0)
        for arguments in (audio, ("One plus one is", options))
    ]
    found = lm.generate_until(requests, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in found)
    return found


def differ(first, second):
    return np.abs(np.subtract(first, second)).max() > 0.1


# ---- Granite's own ------------------------------------------------------------------------------


def test_granites_adapter_works_for_audio_and_rests_for_text(checkpoints, without_adapter):
    with_it, bare = load(checkpoints("granite_speech")), load(without_adapter)
    assert adapters.names(with_it.model) == {"speech"}
    assert differ(audio_scores(with_it), audio_scores(bare))
    assert text_scores(with_it) == text_scores(bare)
    # whatever came before
    heard, read = replies(with_it)
    assert read == replies(bare)[1]
    assert audio_scores(with_it) == audio_scores(load(checkpoints("granite_speech")))
    text_scores(with_it)
    assert replies(with_it) == [heard, read]


def test_granites_adapter_is_the_one_of_transformers(checkpoints):
    lm = load(checkpoints("granite_speech"))
    plain = transformers.GraniteSpeechForConditionalGeneration.from_pretrained(
        checkpoints("granite_speech")
    ).eval()
    context = text_of(lm, "<audio>\nWhich?")
    inputs = lm.processor(text=[context], audio=[SOUND["array"]], return_tensors="pt")
    tokens = plain.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert replies(lm)[0] == lm.tok_decode(tokens[0, inputs["input_ids"].shape[1] :])


def test_what_is_lost_without_the_adapter_stands_by_the_scores(without_adapter, caplog):
    assert load(without_adapter).get_model_info()["note"] == WITHOUT_ADAPTER
    assert WITHOUT_ADAPTER in caplog.text


def test_nothing_is_said_lost_where_nothing_is(checkpoints):
    assert "note" not in load(checkpoints("granite_speech_plus")).get_model_info()
    assert "note" not in load(checkpoints("granite_speech")).get_model_info()


# ---- the user's ---------------------------------------------------------------------------------


# Of these, phi4_multimodal has LoRAs of its own, which work on.
@pytest.mark.parametrize(
    "name", ["qwen2_audio", "granite_speech_plus", "audioflamingo3", "phi4_multimodal"]
)
def test_a_users_adapter_works_for_audio_and_text(name, checkpoints, user_adapter):
    adapter, merged = user_adapter(checkpoints(name))
    lm, expected, plain = (
        load(checkpoints(name), peft=adapter),
        load(merged),
        load(checkpoints(name)),
    )
    assert audio_scores(lm) == pytest.approx(audio_scores(expected), **CLOSE)
    assert text_scores(lm) == pytest.approx(text_scores(expected), **CLOSE)
    assert replies(lm) == replies(expected)
    assert differ(audio_scores(lm), audio_scores(plain))
    assert differ(text_scores(lm), text_scores(plain))


def test_a_users_adapter_works_beside_granites_own(checkpoints, without_adapter, user_adapter):
    adapter, merged = user_adapter(without_adapter)
    for path in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(os.path.join(checkpoints("granite_speech"), path), merged)
    lm, expected = load(checkpoints("granite_speech"), peft=adapter), load(merged)
    assert adapters.names(lm.model) == {"speech", "default"}
    assert "note" not in lm.get_model_info()
    assert audio_scores(lm) == pytest.approx(audio_scores(expected), **CLOSE)
    assert text_scores(lm) == pytest.approx(text_scores(expected), **CLOSE)
    assert replies(lm) == replies(expected)
    own_alone = load(checkpoints("granite_speech"))
    assert differ(audio_scores(lm), audio_scores(own_alone))
    assert differ(text_scores(lm), text_scores(own_alone))
