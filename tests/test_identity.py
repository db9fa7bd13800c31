"""Whose answer it is: nothing kept is ever another model's, policy's, prompt's or clip's reply."""

from __future__ import annotations

import copy
import json
import os
import sys

import numpy as np
import pytest
import soundfile
from hf_requests import RATE, generate
from listening_server import Listener
from server_requests import model as client
from server_requests import request

from mmaupro_ext import compat


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports(tmp_path_factory):
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global \
        torch, \
        LM, \
        CacheHook, \
        model_of_lm_eval, \
        ConfigurableTask, \
        HFAudioLM, \
        tiny_random, \
        identity
    import torch
    from lm_eval.api import model as model_of_lm_eval
    from lm_eval.api.model import LM, CacheHook
    from lm_eval.api.task import ConfigurableTask

    from mmaupro_ext.models import identity, tiny_random
    from mmaupro_ext.models.hf.model import HFAudioLM

    compat.install()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def clip(tmp_path):
    def write(name="a.wav", seconds=1.0, frequency=440.0):
        path = tmp_path / name
        time = np.arange(int(seconds * RATE)) / RATE
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * frequency * time), RATE)
        return str(path)

    return write


@pytest.fixture
def folder(tmp_path):
    model, processor = tiny_random.make(1)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def make(pretrained="tiny-random", **arguments):
    return HFAudioLM(pretrained, device="cpu", batch_size=2, **arguments)


def ask(lm, database, requests):
    """Return replies under the response cache `database`, and how many of them came from the model."""
    asked = []
    answer = lm.generate_until
    lm.generate_until = lambda some, **options: asked.extend(some) or answer(some, **options)
    kept = model_of_lm_eval.CachingLM(lm, f"{database}_rank0.db")  # as --use_cache has it
    replies = kept.generate_until(requests)
    lm.generate_until, lm.cache_hook = answer, CacheHook(None)
    return replies, len(asked)


def questions(path):
    return [generate(f"<audio>\nWhat is number {n}? (A) one (B) two", path) for n in range(8)]


def said(caplog):
    texts = [entry.getMessage() for entry in caplog.records if "left alone" in entry.getMessage()]
    caplog.clear()
    return texts


# ---- the response cache --------------------------------------------------------------------------


def test_another_model_gets_its_own_replies_and_each_finds_them_again(clip, tmp_path, caplog):
    database, requests = tmp_path / "answers", questions(clip())
    nano, other = make("nano"), make("tiny-random", seed=1)
    expected = {lm: lm.generate_until(requests, disable_tqdm=True) for lm in (nano, other)}
    assert expected[nano] != expected[other]
    assert ask(nano, database, requests) == (expected[nano], 8)
    assert not said(caplog)
    assert ask(other, database, requests) == (expected[other], 8)
    (text,) = said(caplog)
    assert f"8 answers of another identity, {nano.identity().id} (nano)" in text
    assert f"Identity of this run: {other.identity().id} (tiny-random)" in text
    assert 'model: "tiny-random" and "nano"' in text
    assert "weights: " in text
    for lm in (nano, other):
        assert ask(lm, database, requests) == (expected[lm], 0)
    assert not said(caplog)  # once


def test_another_policy_gets_its_own_replies(clip, tmp_path, caplog):
    database, requests = tmp_path / "answers", questions(clip(seconds=9.0))
    whole, cut = make("nano"), make("nano", long_audio="truncate")
    ask(whole, database, requests)
    replies, asked = ask(cut, database, requests)
    assert asked == 8
    assert all(reply.heard["seconds_heard"] == pytest.approx(4.0) for reply in replies)
    (text,) = said(caplog)
    assert text.endswith('What differs: listening.long_audio: "truncate" and "auto"')


def test_changed_weights_under_the_same_path_are_noticed(clip, tmp_path, folder, caplog):
    database, requests = tmp_path / "answers", questions(clip())
    first = make(str(folder))
    ask(first, database, requests)
    model, _ = tiny_random.make(1)
    with torch.no_grad():  # one number of one matrix
        model.get_output_embeddings().weight[3, 5] += 0.5
    model.save_pretrained(folder)
    second = make(str(folder))
    replies, asked = ask(second, database, requests)
    assert asked == 8
    assert replies == second.generate_until(requests, disable_tqdm=True)
    (text,) = said(caplog)
    assert text.partition("What differs: ")[2].startswith("weights: ")
    assert ";" not in text.partition("What differs: ")[2]


def test_weights_that_change_in_memory_change_the_identity(folder):
    lm = make(str(folder))
    before = lm.identity()
    weight = lm.model.get_input_embeddings().weight
    with torch.no_grad():
        weight[0, 0] += 1
    assert lm.identity().id != before.id
    with torch.no_grad():
        weight[0, 0] -= 1
    assert lm.identity() == before


def test_everything_that_changes_replies_is_in_the_identity_and_nothing_else(folder):
    usual = make(str(folder))
    for arguments in (
        {"multi_audio": "concat"},
        {"channels": "stereo-as-two"},
        {"frontend": "stock"},
        {"window_s": 5},
        {"max_audio_tokens": 100},
        {"dtype": "bfloat16"},
        {"think_end_token": "</think>"},
        {"max_length": 512},
        {"decoding": "slots-eager"},  # in half precision near ties may fall otherwise
    ):
        assert make(str(folder), **arguments).identity().id != usual.identity().id, arguments
    fast = HFAudioLM(str(folder), device="cpu", batch_size=7, prefetch_workers=0, truncation=False)
    assert fast.identity() == usual.identity()
    usual.processor.chat_template = "{{ 'another' }}"
    assert usual.identity().id != fast.identity().id
    assert usual.tokenizer_name != fast.tokenizer_name  # in the cache of requests, too


def test_what_a_checkpoint_says_of_generation_counts(folder):
    lm = make(str(folder))
    before = lm.identity()
    lm.model.generation_config.repetition_penalty = 1.3
    assert identity.differences(lm.identity().fields, before.fields)[0].startswith("settings: ")


def test_another_file_under_the_path_of_a_clip_is_noticed(clip, tmp_path):
    database, lm = tmp_path / "answers", make("nano")
    path = clip(seconds=1.0)
    requests = questions(path)[:2]
    requests[1].arguments = (*requests[1].args[:2], {"audio": [path]})  # by its path alone
    ask(lm, database, requests)
    assert ask(lm, database, requests)[1] == 0
    clip(seconds=2.0)
    replies, asked = ask(lm, database, requests)
    assert asked == 2
    assert all(reply.heard["seconds_heard"] == pytest.approx(2.0) for reply in replies)


def test_caches_of_other_models_are_as_without_us(clip, tmp_path):
    from lm_eval.api.model import hash_args
    from sqlitedict import SqliteDict

    class Echo(LM):
        def generate_until(self, requests, disable_tqdm=False):
            return [one.args[0] for one in requests]

        def loglikelihood(self, requests):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    requests, file = questions(clip())[:2], f"{tmp_path / 'answers'}_rank0.db"
    ask(Echo(), tmp_path / "answers", requests)
    with SqliteDict(file) as found:
        assert set(found) == {hash_args("generate_until", one.args) for one in requests}
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "answers_rank0.db"]


# ---- engines -------------------------------------------------------------------------------------


def test_servers_are_told_apart_by_what_every_request_says(tmp_path, clip, caplog):
    database = str(tmp_path / "answers")
    one = request("<audio>\nWhat?", clip())
    with Listener(reply=lambda body: "C" if body.get("top_k") else "B") as server:
        ask(client(server), database, [one])
        assert ask(client(server, extra_body={"top_k": 1}), database, [one]) == (["C"], 1)
        (text,) = said(caplog)
        assert text.endswith("What differs: extra_body.top_k: 1 and null")
        assert ask(client(server, concurrency=4), database, [one]) == (["B"], 0)


def test_no_key_gets_into_identities_caches_or_results(tmp_path, clip, monkeypatch):
    secret = "s3cr3t-of-mine"
    monkeypatch.setenv("MMAUPRO_API_KEY", secret)
    monkeypatch.setenv("OTHER_KEY", secret)
    database = tmp_path / "answers"
    with Listener(reply=lambda body: "B") as server:
        lm = client(server, api_key_env="OTHER_KEY", extra_body={"auth": {"api_key": secret}})
        ask(lm, database, [request("<audio>\nWhat?", clip())])
        assert secret not in json.dumps(lm.get_model_info())
        assert lm.get_model_info()["identity"]["id"] == lm.identity().id
    (kept,) = database.glob("*/*.jsonl")
    assert secret.encode() not in kept.read_bytes()
    told = identity.identity_of(
        server=f"https://me:{secret}@host/v1?key={secret}",
        hf_token=secret,
        token=secret,
        headers={"Authorization": secret},
        think_end_token="</think>",
    )
    assert secret not in json.dumps(told.as_dict())
    assert told.fields["server"] == "https://host/v1"
    assert told.fields["think_end_token"] == "</think>"


def test_files_and_arguments_of_vllm_are_in_its_identity(folder, monkeypatch, tmp_path):
    import vllm_standin

    from mmaupro_ext.models.engines.vllm import VLLMAudioLM

    monkeypatch.setitem(sys.modules, "vllm", vllm_standin)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    arguments = {"default_mm_loras": {"audio": str(adapter)}}

    def made(**more):
        return VLLMAudioLM(str(folder), **arguments, **more).identity()

    first = made()
    assert made() == first
    assert made(max_model_len=99).id != first.id
    assert made(window_s=5).id != first.id
    (adapter / "adapter_model.safetensors").write_bytes(b"another")
    second = made()
    assert [
        text.partition(":")[0] for text in identity.differences(first.fields, second.fields)
    ] == ["files.default_mm_loras.audio"]
    weights = folder / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    os.utime(weights, ns=(1, 1))  # the same size, another time
    assert identity.differences(second.fields, made().fields)[0].startswith("weights: ")


# ---- the cache of requests -----------------------------------------------------------------------


class Documents(list):
    """As lm_eval takes a split."""

    features = dict.fromkeys(("question", "path", "sha256"))


def task_of(docs, ours=True, **config):
    return ConfigurableTask(
        config={
            "task": "mmaupro_sound",
            "custom_dataset": lambda **_: {"test": Documents(docs)},
            "dataset_kwargs": {"mmaupro_category": "sound"} if ours else {},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": lambda doc: doc["question"],
            "doc_to_target": lambda doc: "A",
            "doc_to_audio": lambda doc: [{"path": doc["path"], "sha256": doc["sha256"]}],
            "metric_list": [{"metric": "exact_match"}],
            "generation_kwargs": {"until": []},
            **config,
        }
    )


def arguments_of(task, **options):
    task.build_all_requests(cache_requests=True, rank=0, world_size=1, **options)
    return [one.args for one in task.instances]


def test_requests_made_of_one_data_set_are_not_asked_of_another(tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    docs = [{"question": f"A's {n}?", "path": "a.wav", "sha256": "00"} for n in range(3)]
    others = [{**doc, "question": doc["question"].replace("A", "B")} for doc in docs]
    first = arguments_of(task_of(docs))
    assert [prompt for prompt, *_ in arguments_of(task_of(others))] == [
        "B's 0?",
        "B's 1?",
        "B's 2?",
    ]
    replaced = [{**doc, "sha256": "11"} for doc in docs]
    assert arguments_of(task_of(replaced))[0][2]["audio"][0]["sha256"] == "11"
    longer = task_of(docs, generation_kwargs={"until": [], "max_gen_toks": 3})
    assert arguments_of(longer)[0][1]["max_gen_toks"] == 3
    worded = task_of(docs, doc_to_text=lambda doc: "Listen. " + doc["question"])
    assert arguments_of(worded)[0][0] == "Listen. A's 0?"
    assert [prompt for prompt, *_ in arguments_of(task_of(docs), samples=[1])] == ["A's 1?"]

    def never(*_, **__):
        raise AssertionError("made again")

    same = task_of(copy.deepcopy(docs))
    same.construct_requests = never
    assert arguments_of(same) == first


def test_tasks_of_other_people_are_cached_under_lm_evals_own_names(tmp_path, monkeypatch):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    docs = [{"question": "?", "path": "a.wav", "sha256": "00"}]
    arguments_of(task_of(docs, ours=False, task="theirs"))
    (file,) = os.listdir(tmp_path)
    assert file.startswith("requests-theirs-Noneshot-rank0-world_size1-tokenizer.")
