"""hf-audio: models of text and images, and all kinds of requests in one run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hf_requests import GREEDY, generate, score

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, transformers, simple_evaluate, Instance, HFLM, TaskManager, tiny_random, HFAudioLM
    import torch
    import transformers
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.hf.model import HFAudioLM


# ---- text and image models -----------------------------------------------------------------------
@pytest.fixture(scope="module")
def text_checkpoint(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("text"))
    tokenizer = tiny_random.byte_tokenizer()
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_text_model_writes_marks_of_a_chat_as_they_are(text_checkpoint):
    lm = HFAudioLM(text_checkpoint, device="cpu")
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    history = [{"role": "user", "content": "What does <audio> do in HTML?"}]
    assert lm.apply_chat_template(history) == "What does <audio> do in HTML?"


def text_scores():
    return [score("One plus one is", text) for text in (" two", " three", " a lot")]


def text_questions():
    return [generate("One plus one is"), generate("Say something longer please:", until=["q"])]


def test_text_through_hf_audio_equals_plain_hf(text_checkpoint):
    plain = HFLM(text_checkpoint, device="cpu", batch_size=2)
    ours = HFAudioLM(text_checkpoint, device="cpu", batch_size=2)
    assert ours.loglikelihood(text_scores()) == plain.loglikelihood(text_scores())
    assert ours.generate_until(text_questions()) == plain.generate_until(text_questions())


def test_text_through_an_audio_model_equals_its_language_model_under_plain_hf(lm):
    language_model = transformers.Qwen2ForCausalLM(lm.model.config.text_config).eval()
    weights = lm.model.state_dict()
    prefix = "model.language_model."
    language_model.load_state_dict(
        {f"model.{k.removeprefix(prefix)}": v for k, v in weights.items() if k.startswith(prefix)}
        | {"lm_head.weight": weights["lm_head.weight"]}
    )
    plain = HFLM(language_model, tokenizer=lm.tokenizer, batch_size=4)
    ours = lm.loglikelihood(text_scores())
    assert [value for value, _ in ours] == pytest.approx(
        [value for value, _ in plain.loglikelihood(text_scores())], abs=1e-5
    )
    assert lm.generate_until(text_questions()) == plain.generate_until(text_questions())


@pytest.mark.parametrize("kind", ["audio", "visual"])
def test_media_for_a_text_model_are_refused_before_anything_is_answered(
    text_checkpoint, monkeypatch, kind
):
    lm = HFAudioLM(text_checkpoint, device="cpu")
    monkeypatch.setattr(HFLM, "generate_until", lambda *_, **__: pytest.fail("text was answered"))
    request = Instance("generate_until", {}, ("<audio>?", GREEDY, {kind: ["a.wav"]}), 0)
    with pytest.raises(ConfigError, match="'qwen2'"):
        lm.generate_until([generate("Text?"), request], disable_tqdm=True)


@pytest.fixture(scope="module")
def vision_checkpoint(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("vision"))
    tokenizer = tiny_random.byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    template = (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    processor = transformers.LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    size = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "image_size": 32,
            "patch_size": 16,
            **size,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.3,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            **size,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def images(tmp_path):
    from PIL import Image

    gradient = np.arange(40 * 32 * 3, dtype=np.uint32).reshape(32, 40, 3)
    made = [Image.fromarray((gradient * factor % 256).astype(np.uint8)) for factor in (1, 7)]
    made[1].save(tmp_path / "b.png")
    return [made[0], str(tmp_path / "b.png")]


def test_images_and_text_are_served_in_one_call_by_a_vision_model(vision_checkpoint, tmp_path):
    first, second = images(tmp_path)

    def ask(context, *visual):
        return Instance("generate_until", {}, (context, GREEDY, {"visual": list(visual)}), 0)

    requests = [
        ask("<image>\nWhat colour?", first),
        generate("One plus one is"),
        ask("<image> and <image>: which is brighter?", first, second),
        ask("<image>\nWhat?", second),
    ]
    alone = HFAudioLM(vision_checkpoint, device="cpu", batch_size=1)
    expected = [alone.generate_until([request], disable_tqdm=True)[0] for request in requests]
    lm = HFAudioLM(vision_checkpoint, device="cpu", batch_size=4)
    assert lm.generate_until(requests, disable_tqdm=True) == expected
    lost = lm.generate_until([ask("What colour?", first)], disable_tqdm=True)
    assert "places for 0 images" in parse_error(lost[0])["problem"]
    missing = lm.generate_until([ask("<image>?", str(tmp_path / "no.png"))], disable_tqdm=True)
    assert "no.png" in parse_error(missing[0])["file"]


def test_image_scores_depend_on_the_image_and_not_on_the_batch(vision_checkpoint, tmp_path):
    def ask(image, text):
        arguments = ("<image>\nWhat colour?", text, {"visual": [image]})
        return Instance("loglikelihood", {}, arguments, 0)

    requests = [ask(image, text) for image in images(tmp_path) for text in (" red", " greenish")]
    one = HFAudioLM(vision_checkpoint, device="cpu").loglikelihood(requests, disable_tqdm=True)
    lm = HFAudioLM(vision_checkpoint, device="cpu", batch_size=4)
    four = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
    assert four == pytest.approx([value for value, _ in one], abs=1e-4)
    assert abs(four[0] - four[2]) > 1e-4


def test_typed_parts_reach_the_template_of_a_vision_model(vision_checkpoint):
    lm = HFAudioLM(vision_checkpoint, device="cpu")
    rendered = lm.apply_chat_template([{"role": "user", "content": "See <image>: what?"}])
    assert rendered == "user: See <image>: what?\nassistant: "
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "user: Hi\nassistant: "


def test_encoder_decoder_models_are_refused_by_name(tmp_path):
    transformers.T5Config(d_model=8, num_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'t5'.*--model hf"):
        HFAudioLM(str(tmp_path), device="cpu")


# ---- one run -------------------------------------------------------------------------------------
def test_audio_and_text_tasks_share_one_run(make, clip, tmp_path):
    paths = [clip(f"{n}.wav", frequency=250 * (n + 1)) for n in range(3)] + ["missing.wav"]
    rows = [{"question": f"Which {n}?", "path": path} for n, path in enumerate(paths)]
    texts = [{"question": f"{n} plus 1 is", "choices": ["two", "blue"], "answer": 0} for n in "12"]
    for name, content in (("audio", rows), ("text", texts)):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / f"{name}.jsonl").write_text(lines)

    def dataset(name):
        return {
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(tmp_path / f"{name}.jsonl")},
                "cache_dir": str(tmp_path / "datasets"),
            },
            "test_split": "test",
            "num_fewshot": 0,
            "metadata": {"version": 1},
        }

    audio_task = dataset("audio") | {
        "task": "audio_questions",
        "output_type": "generate_until",
        "doc_to_text": "<audio>\n{{question}}\nAnswer:",
        "doc_to_audio": lambda doc: [{"path": doc["path"]}],
        "doc_to_target": "A",
        "generation_kwargs": GREEDY | {"until": ["\n"]},
        "process_results": lambda doc, results: {
            "letter": float(results[0] in set(tiny_random.ANSWERS)),
            "errored": float(parse_error(results[0]) is not None),
        },
        "metric_list": [{"metric": "letter", "aggregation": "mean", "higher_is_better": True}]
        + [{"metric": "errored", "aggregation": "mean", "higher_is_better": False}],
    }
    text_task = dataset("text") | {
        "task": "text_choices",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
    }
    results = simple_evaluate(
        model=make(),
        tasks=[audio_task, text_task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["audio_questions"]["letter,none"] == 0.75
    assert results["results"]["audio_questions"]["errored,none"] == 0.25
    assert 0.0 <= results["results"]["text_choices"]["acc,none"] <= 1.0
    assert results["config"]["heard"]["errored_items"] == 1
