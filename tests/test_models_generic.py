"""Models that no one has described: what is learned from their processor is what a description says."""

import dataclasses
import importlib
import json

import numpy as np
import pytest

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models import families
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, transformers, Instance, tiny_random, batching, generic, loaded, loading, HFAudioLM
    import torch
    import transformers
    from lm_eval.api.instance import Instance

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.hf import batching, generic, loaded, loading
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


@pytest.fixture(params=["qwen2_audio", "qwen2_5_omni"])
def model_type(request):
    return request.param


@pytest.fixture
def undescribed(model_type, tmp_path, monkeypatch):
    """Return a loader of a checkpoint whose family is taken out of the list."""
    importlib.import_module(f"tiny.{model_type}").build(tmp_path)

    def load(**arguments):
        lm = HFAudioLM(str(tmp_path), device="cpu", batch_size=2, **arguments)
        with monkeypatch.context() as patch:
            for module in (families, loaded):
                patch.setattr(module, "find_family", lambda _: None)
            processor = lm.processor
            monkeypatch.setattr(loading, "load_processor", lambda *_, **__: (processor, None))
            monkeypatch.setattr(loading, "loader_for", lambda *_: type(lm.model))
            return lm, HFAudioLM(str(tmp_path), device="cpu", batch_size=2, **arguments)

    return load


def ask(lm, content, *sounds):
    rng = np.random.default_rng(0)
    audio = [
        {"array": rng.normal(0, 0.1, int(s * RATE)).astype(np.float32), "sampling_rate": RATE}
        for s in sounds
    ]
    context = lm.apply_chat_template([{"role": "user", "content": content}])
    arguments = (context, {"until": [], "max_gen_toks": 6}, {"audio": audio})
    return Instance("generate_until", {}, arguments, 0)


def test_the_generic_way_gives_the_described_answers(undescribed, model_type):
    described, generic_lm = undescribed()
    assert generic_lm.family.notes[0].startswith("Learned")
    assert generic_lm.family.writing.audio_block == described.family.writing.audio_block
    assert generic_lm.family.writing.label_alone == described.family.writing.label_alone
    # where the stock processor cuts; the description of the second asks it not to
    assert (
        generic_lm.family.writing.whole_s
        == {"qwen2_audio": 30.0, "qwen2_5_omni": 300.0}[model_type]
    )
    assert 0 < generic_lm.family.writing.min_samples <= RATE // 20
    for content, sounds in [
        ("<audio>\nWhat?", (2.0,)),
        ("<audio><audio>\nWhich?", (1.0, 3.0)),
        ("<audio>\nWhat?", (45.0,)),
    ]:
        replies = [
            lm.generate_until([ask(lm, content, *sounds)], disable_tqdm=True)
            for lm in (described, generic_lm)
        ]
        assert parse_error(replies[0][0]) is None
        assert replies[0] == replies[1]
        assert replies[0][0].heard["seconds_heard"] == sum(sounds)
    note = generic_lm.get_model_info()["note"]
    assert "not described here" in note
    assert "note" not in described.get_model_info()


class OldStyle:
    """A processor as vendors wrote them before transformers 4.50: one text, clips under a name of its own."""

    def __init__(self, takes, pairs, token, placeholder):
        _, self.stock = tiny_random.make(0)
        self.tokenizer, self.feature_extractor = self.stock.tokenizer, self.stock.feature_extractor
        self.takes, self.pairs = takes, pairs
        setattr(self, *token)
        setattr(self, *placeholder)
        self.placeholder = placeholder[1]

    def __call__(self, text, sampling_rate=None, return_tensors=None, **clips):
        if not isinstance(text, str):
            raise AssertionError("one text only")
        found = clips.pop(self.takes, [])
        if clips:
            raise StopIteration
        if self.pairs:
            found = [array for array, _ in found]
        elif found and sampling_rate != RATE:
            raise KeyError("sampling_rate")
        before = len(self.tokenizer.encode(text.split(self.placeholder)[0]))
        text = text.replace(self.placeholder, "<|AUDIO|>")
        made = self.stock(text=[text], audio=found or None, return_tensors="pt")
        if found:
            made["audio_token_start_idx"] = torch.tensor([before])
        return made


@pytest.mark.parametrize("takes", ["audio", "audios"])
@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "arrays"])
@pytest.mark.parametrize(
    ("token", "placeholder"),
    [
        (("audio_token", "<|AUDIO|>"), ("audio_token", "<|AUDIO|>")),
        (("audio_token_replacement", "<|AUDIO|>"), ("audio_placeholder", "<|clip|>")),
    ],
    ids=["audio_token", "audio_token_replacement"],
)
def test_vendors_forms_of_a_processor_are_found(takes, pairs, token, placeholder):
    processor = OldStyle(takes, pairs, token, placeholder)
    family = generic.learn("new_model", processor)
    assert family.writing.audio_token == "<|AUDIO|>"
    assert family.writing.audio_block == placeholder[1]
    assert family.loading.template_content == "text"
    clip = np.zeros(2 * RATE, np.float32)
    made = family.loading.encode(processor, f"{placeholder[1]} What?", {"audio": [clip]})
    audio_tokens = (
        made["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|AUDIO|>")
    ).sum()
    assert audio_tokens == 50
    (wanted,) = family.writing.count_tokens([len(clip)])
    assert wanted == pytest.approx(audio_tokens, abs=1)
    # Where the clip begins would be another place in a prompt padded on the left.
    assert not family.loading.padded_prompts
    lengths = [
        family.loading.encode(processor, text + placeholder[1], {"audio": [clip]})
        for text in ("", "before ")
    ]
    with pytest.raises(batching.UnbatchableError, match="must not be padded"):
        batching.collate(lengths, 0, loading=family.loading)
    batching.collate(lengths[:1] * 2, 0, loading=family.loading)


def test_a_processor_that_takes_clips_in_no_known_way_is_named_with_what_it_takes(
    tmp_path, monkeypatch
):
    """It serves text all the same, and the task with audio gets what the processor takes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def stubborn(self, text, waveforms=None, spoken_language=None, **_):
        if waveforms is None:
            raise StopIteration
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(loaded, "find_family", lambda _: None)
        patch.setattr(
            loading, "loader_for", lambda *_: transformers.Qwen2AudioForConditionalGeneration
        )
        patch.setattr(transformers.Qwen2AudioProcessor, "__call__", stubborn)
        lm = HFAudioLM("tiny-random", device="cpu")
        assert lm.generate_until(
            [Instance("generate_until", {}, ("Text?", {"until": [], "max_gen_toks": 2}), 0)]
        )
        with pytest.raises(ConfigError, match="has audio") as caught:
            lm.generate_until([ask(lm, "<audio>\nWhat?", 1.0)])
    for said in (
        "Qwen2AudioProcessor",
        "waveforms=None, spoken_language=None",
        "StopIteration",
        "family=FILE.py",
    ):
        assert said in str(caught.value)


@pytest.mark.parametrize("model_type", sorted(families.ELSEWHERE))
def test_models_whose_code_transformers_cannot_run_are_refused_before_it_is_asked_for(
    tmp_path, model_type
):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(ConfigError, match="vllm-audio.*openai-audio.*family=FILE.py"):
        HFAudioLM(str(tmp_path), device="cpu", trust_remote_code=True)


def test_a_processor_that_refuses_two_clips_is_asked_for_one(tmp_path, monkeypatch):
    _, processor = tiny_random.make(0)
    original = type(processor).__call__

    def one_only(self, text, audio=None, **options):
        if audio is not None and len(audio) > 1:
            raise ValueError("one audio a text")
        return original(self, text=text, audio=audio, **options)

    monkeypatch.setattr(type(processor), "__call__", one_only)
    family = generic.learn("new_model", processor)
    assert family.writing.max_blocks == 1
    assert "one clip in a prompt" in generic.describe(family)


def test_too_many_blocks_are_an_errored_item_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lm = HFAudioLM("tiny-random", device="cpu")
    lm._preparer.placer.writing = dataclasses.replace(lm.family.writing, max_blocks=1)
    (reply,) = lm.generate_until([ask(lm, "<audio><audio>\nWhich?", 1.0, 2.0)], disable_tqdm=True)
    assert "takes 1 in a prompt" in parse_error(reply)["problem"]
    assert "multi_audio=concat" in parse_error(reply)["fix"]


@pytest.mark.parametrize("exact", [True, False])
def test_a_processor_that_cuts_after_all_costs_its_items_only(tmp_path, monkeypatch, exact):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lm = HFAudioLM("tiny-random", device="cpu", prefetch_workers=0)
    hides_its_limit = {"whole_s": None, "exact_count": exact}
    lm._preparer.placer.writing = dataclasses.replace(lm.family.writing, **hides_its_limit)
    requests = [ask(lm, "<audio>\nWhat?", 2.0), ask(lm, "<audio>\nWhat?", 45.0)]
    short, long = lm.generate_until(requests, disable_tqdm=True)
    assert parse_error(short) is None
    assert (
        "1125 audio tokens stand for these clips, and the processor wrote 750"
        in (parse_error(long)["problem"])
    )


def test_a_fixed_number_of_tokens_is_taken_for_the_usual_window():
    per_second, whole_s = generic._growth(lambda _: 188)
    assert whole_s == 30.0
    assert per_second == pytest.approx(188 / 30)


@pytest.mark.parametrize(
    ("limit", "found"), [(30.0, 30.0), (300.0, 300.0), (655.0, None), (1e9, None)]
)
def test_the_limit_is_where_tokens_stop_growing(limit, found):
    _, whole_s = generic._growth(lambda seconds: int(25 * min(seconds, limit)))
    assert whole_s == found


def test_a_processor_without_audio_teaches_nothing():
    assert generic.learn("qwen2", tiny_random.byte_tokenizer()) is None


@pytest.mark.parametrize(
    "model_type", ["qwen3_asr", "glmasr", "whisper", "wav2vec2", "parakeet_tdt"]
)
def test_models_that_only_transcribe_are_refused_with_the_reason(tmp_path, model_type):
    config = transformers.AutoConfig.for_model(model_type)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": config.model_type}))
    with pytest.raises(ConfigError, match="transcribes speech and answers no questions"):
        HFAudioLM(str(tmp_path), device="cpu")


def test_nothing_is_both_described_and_refused():
    assert not set(families.REFUSED) & set(FAMILIES)
