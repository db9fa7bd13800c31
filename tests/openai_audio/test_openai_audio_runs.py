"""openai-audio under lm_eval; what is refused; keys; what answers say."""

from __future__ import annotations

import json

import pytest
from chat_standin import answer
from listening_server import (
    Listener,
    text_with_marks,
)
from server_requests import ask, model, request

from mmaupro_ext.errors import ConfigError


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global simple_evaluate, Instance, Resumed, TaskManager, OpenAIAudioLM
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.tasks import TaskManager

    from mmaupro_ext.models.engines.openai import OpenAIAudioLM
    from mmaupro_ext.models.resuming import Resumed


# ---- under lm_eval -------------------------------------------------------------------------------
def task(name, docs, tmp_path, **more):
    """A task of lm_eval on documents of its own."""
    (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, docs)), encoding="utf-8")
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(tmp_path / f"{name}.jsonl")},
            "cache_dir": str(tmp_path / "datasets"),
        },
        "test_split": "test",
        "num_fewshot": 0,
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "A",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        **more,
    }


def run(lm, tasks, **options):
    return simple_evaluate(
        model=lm, tasks=tasks, task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0, apply_chat_template=True, system_instruction="Be brief.", **options,
    )  # fmt: skip


def test_sound_pictures_and_text_in_one_run(clip, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    path, samples = clip("a.wav")
    tasks = [
        task("hears", [{"question": f"<audio>{n}?", "path": path} for n in range(4)], tmp_path,
             doc_to_audio=lambda doc: [{"path": doc["path"]}]),
        task("sees", [{"question": "<image>?", "path": str(tmp_path / "red.png")}], tmp_path,
             doc_to_image=lambda doc: [doc["path"]]),
        task("reads", [{"question": "Two?"}, {"question": "Three?"}], tmp_path),
    ]  # fmt: skip
    with Listener() as server:
        lm = model(server, concurrency=4)
        results = run(
            lm, tasks, limit=3, gen_kwargs="max_gen_toks=9,temperature=0.5,do_sample=True"
        )
    scores = results["results"]
    assert [scores[name]["exact_match,none"] for name in ("hears", "sees", "reads")] == [1.0] * 3
    assert len(server.asked) == 3 + 1 + 2
    for body in server.asked:
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (body["max_tokens"], body["temperature"]) == (9, 0.5)
        assert body["stop"] == ["\n\n"]
    texts = sorted(text_with_marks(body).removeprefix("Be brief.") for body in server.asked)
    assert texts == ["<audio>0?", "<audio>1?", "<audio>2?", "<image>?", "Three?", "Two?"]
    heard_of = [s["resps"][0][0].heard for s in results["samples"]["hears"]]
    assert all(record["seconds_heard"] == 1.0 for record in heard_of)


def test_predictions_without_metrics(clip, tmp_path):
    docs = [{"question": "<audio>?", "path": clip("a.wav")[0]}]
    tasks = [task("hears", docs, tmp_path, doc_to_audio=lambda doc: [doc["path"]])]
    with Listener() as server:
        results = run(model(server), tasks, predict_only=True)
    assert results["samples"]["hears"][0]["resps"] == [["A"]]


# ---- log-likelihood, ranks, keys -----------------------------------------------------------------
def test_log_likelihoods_are_refused_with_the_way_out():
    with Listener() as server:
        lm = model(server)
        scored = Instance("loglikelihood", {}, ("a", "b"), 0)
        scored.task_name = "some_mc"
        with pytest.raises(ConfigError, match="some_mc.*log-likelihoods.*tasks that generate"):
            lm.loglikelihood([scored])
        with pytest.raises(ConfigError, match="rolling"):
            lm.loglikelihood_rolling([scored])
    assert not server.requests


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Listener() as server, pytest.raises(ConfigError, match="one process.*concurrency"):
        model(server)


def test_a_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch, caplog):
    caplog.set_level("DEBUG")
    with Listener() as server:
        with pytest.raises(ConfigError, match="environment variable OPENAI_API_KEY"):
            model(server, api_key="sk-secret")
        with pytest.raises(ConfigError, match="no such environment variable"):
            model(server, api_key_env="MY_KEY")
        with pytest.raises(ConfigError, match="take name and password"):
            OpenAIAudioLM("http://me:sk-secret@127.0.0.1/v1", "m")
        monkeypatch.setenv("MY_KEY", "sk-secret")
        lm = model(server, api_key_env="MY_KEY")
        ask(lm, request("a"))
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in json.dumps(lm.get_model_info())
    assert "sk-secret" not in caplog.text
    with Listener() as server:
        ask(model(server), request("a"))
    assert "Authorization" not in server.headers[0]


def test_the_only_model_of_a_server_need_not_be_named(caplog):
    with Listener() as server:
        server.models = ["the-one"]
        lm = OpenAIAudioLM(server.url)
        assert lm.server.model == "the-one"
        server.models = ["a", "b"]
        with pytest.raises(ConfigError, match="It lists: a, b"):
            OpenAIAudioLM(server.url)
        OpenAIAudioLM(server.url, "c")
        assert "lists a, b, not c" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"audio_format": "mp3"}, "audio_format='mp3' is unknown"),
        ({"send": "mp3"}, "send='mp3' is unknown"),
        ({"channels": "left"}, "channels='left' is unknown"),
        ({"long_audio": "cut"}, "long_audio='cut' is unknown"),
        ({"long_audio": "uniform"}, "needs max_audio_tokens"),
        ({"block_label": "Clip: "}, "no place for the {number}"),
        ({"extra_body": "[1]"}, "no JSON object"),
        ({"timeout": 0}, "timeout=0 is not a number greater than 0"),
        ({"base_url": None}, "base_url=http"),
        ({"base_url": "localhost:8000"}, "must begin with http"),
        ({"max_request_mb": 0}, "max_request_mb=0 is not a number greater than 0"),
        ({"api_key_env": "A", "api_key_file": "b"}, "api_key_env and api_key_file: say one place"),
        ({"extra_body": {"stream": True}}, "stream=true, outside of extra_body"),
        ({"windows_s": 10}, "no argument 'windows_s'. The nearest: window_s"),
        ({"long_adio": "auto"}, "no argument 'long_adio'. The nearest: long_audio"),
        ({"api_keyfile": "x"}, "no argument 'api_keyfile'. The nearest: api_key_file"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused(arguments, message):
    with Listener() as server, pytest.raises(ConfigError, match=message):
        OpenAIAudioLM(**{"base_url": server.url, "model": "m"} | arguments)


def test_answers_may_come_as_parts():
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}]
    with Listener() as server:
        server.script = [answer(content)]
        assert ask(model(server), request("a")) == ["A"]


@pytest.mark.parametrize(
    "message",
    [
        {"content": None, "refusal": "I cannot listen to that."},
        {"content": "", "refusal": "I cannot listen to that."},
        {"content": [{"type": "refusal", "refusal": "I cannot listen to that."}]},
    ],
)
def test_a_refusal_is_the_answer_and_is_not_asked_again(tmp_path, message):
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    with Listener() as server:
        server.script = [(200, {}, json.dumps(body).encode())]
        lm = model(server)
        cached = Resumed(lm, str(tmp_path / "kept"))
        (reply,) = cached.generate_until([request("a")])
        assert (reply, reply.finish) == ("I cannot listen to that.", "stop")
        assert cached.generate_until([request("a")]) == [reply]
        assert len(server.requests) == 1
    assert lm.get_model_info()["refusals"] == 1


@pytest.mark.parametrize(
    ("said", "until", "finish"),
    [
        ("stop", [], "stop"),
        ("eos", [], "stop"),
        ("length", [], "length"),
        ("max_tokens", [], "length"),
        ("length", ["\n"], "stop"),
        (None, [], None),
        ("something new", [], None),
    ],
)
def test_why_an_answer_ended_travels_with_it(said, until, finish):
    body = {"choices": [{"message": {"content": "A\nB"}, "finish_reason": said}]}
    with Listener() as server:
        server.script = [(200, {}, json.dumps(body).encode())]
        (reply,) = ask(model(server, check=False), request("a", until=until))
    assert (reply, reply.finish) == ("A" if until else "A\nB", finish)
