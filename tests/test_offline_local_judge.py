"""A judge on this machine: a tiny chat model through transformers."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

import pytest
import tiny_chat

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.judging import CachedJudge, Prompt, ask_all
from mmaupro_ext.replies import parse_error


def prompts(count: int) -> list[Prompt]:
    return [Prompt("Be fair.", f"question {i}") for i in range(count)]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory) -> Path:
    return tiny_chat.save(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def _short(monkeypatch):
    from mmaupro_ext.offline import local_judge

    short = MappingProxyType({**local_judge.JUDGE_GENERATION, "max_new_tokens": 12})
    monkeypatch.setattr(local_judge, "JUDGE_GENERATION", short)


def local(folder, decoding, **options):
    from mmaupro_ext.offline.local_judge import LocalJudge

    return LocalJudge(str(folder), decoding, dtype="float32", device="cpu", **options)


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("decoding", ["greedy", "sampled"])
def test_a_local_judge_answers_alike_in_any_order(tiny_model, decoding):
    judge = local(tiny_model, decoding)
    forward = ask_all(judge, prompts(3))
    backward = ask_all(judge, prompts(3)[::-1])
    assert forward == backward[::-1]
    assert len(set(forward)) > 1


@pytest.mark.usefixtures("_short")
def test_a_local_judge_continues_the_chat_that_it_is_given(tiny_model):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    chat = (
        "<|im_start|>system\nBe fair.<|im_end|>\n<|im_start|>user\nquestion 0<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    ids = tokenizer(chat, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        for _ in range(12):
            following = model(ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
            if following.item() == tokenizer.eos_token_id:
                break
    begin = len(tokenizer(chat, add_special_tokens=False)["input_ids"])
    expected = tokenizer.decode(ids[0, begin:], skip_special_tokens=True)
    assert ask_all(local(tiny_model, "greedy"), prompts(1)) == [expected]


@pytest.mark.usefixtures("_short")
def test_batches_of_a_local_judge_agree_with_single_prompts(tiny_model):
    mixed = [Prompt(None, "a"), Prompt("Be fair.", "a much longer question"), Prompt(None, "b")]
    one_by_one = ask_all(local(tiny_model, "greedy"), mixed)
    assert ask_all(local(tiny_model, "greedy", batch_size=3), mixed) == one_by_one


@pytest.mark.usefixtures("_short")
def test_a_local_judge_is_cached_by_content_and_decoding(tiny_model, tmp_path):
    judge = local(tiny_model, "greedy")
    first = ask_all(CachedJudge(judge, tmp_path), prompts(2))
    unloaded = local(tiny_model, "greedy")
    assert ask_all(CachedJudge(unloaded, tmp_path), prompts(2)) == first
    assert unloaded._loaded is None
    assert local(tiny_model, "sampled").identity() != judge.identity()


@pytest.mark.usefixtures("_short")
def test_a_judge_that_runs_out_of_memory_gives_an_error_reply(tiny_model, monkeypatch):
    import torch

    judge = local(tiny_model, "greedy")

    def exhausted(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(judge, "_generate", exhausted)
    (reply,) = ask_all(judge, prompts(1))
    assert "out of memory" in parse_error(reply)["problem"]
    assert "--judge-batch-size" in parse_error(reply)["fix"]


def test_a_prompt_that_a_local_judge_fails_on_costs_no_other(tiny_model, monkeypatch):
    judge = local(tiny_model, "greedy", batch_size=4)
    bad = prompts(4)[2]

    def generate(batch):
        if bad in batch:
            raise IndexError("index out of range in self")
        return ["4"] * len(batch)

    monkeypatch.setattr(judge, "_generate", generate)
    kept: dict[int, str] = {}
    judge.ask(prompts(4), kept.__setitem__)
    assert "IndexError: index out of range" in parse_error(kept.pop(2))["problem"]
    assert kept == {0: "4", 1: "4", 3: "4"}
    with pytest.raises(ConfigError, match="20 items in a row"):
        judge.ask([bad] * 25, kept.__setitem__)


def test_a_model_without_chat_template_is_refused(tiny_model, tmp_path):
    import shutil

    folder = tmp_path / "plain"
    shutil.copytree(tiny_model, folder)
    for file in folder.glob("chat_template*"):
        file.unlink()
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    settings.pop("chat_template", None)
    config.write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="no chat template"):
        ask_all(local(folder, "greedy"), prompts(1))


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be loaded"):
        ask_all(local(tmp_path, "greedy"), prompts(1))


def test_a_folder_is_named_without_its_place(tiny_model):
    identity = local(tiny_model, "greedy").identity()
    assert identity["model"] == tiny_model.name
    assert str(tiny_model) not in json.dumps(identity)
