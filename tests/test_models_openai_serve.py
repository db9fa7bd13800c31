"""openai-audio against a real server: `transformers serve` on loopback, with the tiny Qwen2-Audio."""

from __future__ import annotations

import json

import lm_eval_here
import numpy as np
import pytest
import soundfile
from chat_standin import without_proxy
from serve_tiny import TinyServer

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global Instance, tiny_random, OpenAIAudioLM, HFAudioLM
    from lm_eval.api.instance import Instance

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.engines.openai import OpenAIAudioLM
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all tests of this file; it ends with them, or with this process."""
    folder = tmp_path_factory.mktemp("serve")
    model, processor = tiny_random.make(1)
    model.save_pretrained(folder / "tiny-qwen2-audio")
    processor.save_pretrained(folder / "tiny-qwen2-audio")
    with TinyServer(folder / "tiny-qwen2-audio", folder / "log.txt") as running:
        yield running


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)


def model(server, **arguments):
    return OpenAIAudioLM(server.url, server.model, **{"max_retries": 0} | arguments)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, seconds in enumerate((0.7, 3.0, 1.5, 2.0)):
        time = np.arange(round(seconds * RATE)) / RATE
        noise = np.random.default_rng(number).normal(0, 0.05, len(time))
        paths.append(str(folder / f"{number}.wav"))
        soundfile.write(paths[-1], 0.4 * np.sin(2 * np.pi * 150 * 3**number * time) + noise, RATE)
    return paths


def request(context, *paths, **gen_kwargs):
    arguments = (context, {"until": [], "max_gen_toks": 8} | gen_kwargs)
    media = ({"audio": [{"path": path} for path in paths]},) if paths else ()
    return Instance("generate_until", {}, arguments + media, 0)


def ask(lm, *requests):
    return lm.generate_until(list(requests), disable_tqdm=True)


# The template of Qwen2-Audio labels each clip and writes a line break after it.
QUESTIONS = [
    ("<audio>\nWhat is it?", [0]),
    ("<audio>How many?", [1]),
    ("This <audio>or this <audio>\nis higher?", [2, 3]),
    ("<audio>\n<audio>\nWhich is higher?", [3, 2]),
    ("<audio>Is it speech?", [2]),
    ("Hello?", []),
    ("Two plus two?", []),
]


@pytest.mark.parametrize("form", ["input_audio", "audio_url"])
def test_the_served_model_answers_as_the_local_one_does(server, clips, form):
    lm = model(server, audio_format=form)
    local = HFAudioLM(server.model, device="cpu", batch_size=1, frontend="stock")
    history = [[{"role": "user", "content": text}] for text, _ in QUESTIONS]
    paths = [[clips[n] for n in numbers] for _, numbers in QUESTIONS]
    served = ask(
        lm,
        *(request(lm.apply_chat_template(h), *p) for h, p in zip(history, paths, strict=True)),
    )
    expected = ask(
        local,
        *(request(local.apply_chat_template(h), *p) for h, p in zip(history, paths, strict=True)),
    )
    assert served == expected
    assert len(set(served)) > 1
    assert [reply.heard for reply in served[-2:]] == [None, None]
    assert [reply.heard["seconds_heard"] for reply in served[:4]] == [0.7, 3.0, 3.5, 3.5]
    info = lm.get_model_info()
    assert info["check"]["tokens_of_a_second"] > 25
    assert info["audio_format"] == form
    assert info["usage"]["answers"] == len(QUESTIONS)


def test_a_clip_that_the_server_would_cut_without_a_word_is_found_out(server, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 45 * RATE)
    soundfile.write(tmp_path / "long.wav", noise, RATE)
    question = request("<audio>\nWhat?", str(tmp_path / "long.wav"))
    with pytest.raises(ConfigError, match="45.0 s is not heard whole"):
        ask(model(server, long_audio="native"), question)
    lm = model(server)
    (reply,) = ask(lm, question)
    assert reply in set("ABCD")
    assert reply.heard["seconds_heard"] == 45.0
    assert reply.heard["windows"] == 2
    # Two windows of 750 and 375 tokens reached the model.
    assert lm.get_model_info()["usage"]["prompt_tokens"] > 1125


def test_an_image_that_the_server_would_pass_over_is_found_out(server):
    from PIL import Image

    image = Image.new("RGB", (8, 8))
    question = Instance(
        "generate_until", {}, ("<image>\nWhat?", {"until": []}, {"visual": [image]}), 0
    )
    with pytest.raises(ConfigError, match="no image reaches the model"):
        ask(model(server), question)


def test_stop_strings_at_which_this_server_fails_are_not_sent(server, clips):
    lm = model(server)
    (reply,) = ask(lm, request("<audio>\nWhat?", clips[0], until=["\n\n", "Q:"]))
    assert reply in set("ABCD")
    assert lm.get_model_info()["check"]["takes_stop_strings"] is False


def test_what_the_server_refuses_is_an_errored_item(server, clips):
    lm = model(server)
    began = lm.apply_chat_template(
        [{"role": "user", "content": "<audio>\nWhat?"}, {"role": "assistant", "content": "It is"}],
        add_generation_prompt=False,
    )
    refused, answered = ask(lm, request(began, clips[0]), request("<audio>\nWhat?", clips[0]))
    assert "continue_final_message" in parse_error(refused)["problem"]
    assert clips[0] in parse_error(refused)["file"]
    assert answered in set("ABCD")


def test_original_files_reach_the_model(server, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2))
    replies = []
    for name in ("a.flac", "a.wav", "a.mp3", "a.ogg"):
        soundfile.write(tmp_path / name, noise, RATE)
        replies += ask(
            model(server, send="original"), request("<audio>\nWhat?", str(tmp_path / name))
        )
    assert all(reply in set("ABCD") for reply in replies)
    assert replies[0] == replies[1]


@pytest.fixture
def run_lm_eval(server, tmp_path, monkeypatch, capsys):
    """Run the command; `printed` and `said` are then its output and its standard error."""

    def run(*words):
        monkeypatch.setenv("SOME_KEY", "sk-very-secret")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        try:
            lm_eval_here.run(
                monkeypatch, "--model", "openai-audio", "--output_path", str(tmp_path),
                "--model_args", f"base_url={server.url},model={server.model},api_key_env=SOME_KEY",
                *words,
            )  # fmt: skip
        finally:
            run.printed, run.said = capsys.readouterr()

    return run


def test_a_whole_run_of_lm_eval(run_lm_eval, server, tmp_path):
    run_lm_eval(
        "--tasks", "mmaupro-sample_sound,mmaupro-sample_multi", "--limit", "3",
        "--log_samples", "--apply_chat_template", "--system_instruction", "Answer.",
        "--use_cache", str(tmp_path / "answers"), "--batch_size", "2",
        "--gen_kwargs", "max_gen_toks=5",
    )  # fmt: skip
    (file,) = tmp_path.glob("*/results_*.json")
    text = file.read_text(encoding="utf-8")
    assert "sk-very-secret" not in text + run_lm_eval.printed + run_lm_eval.said
    results = json.loads(text)
    config = results["config"]
    assert config["concurrency"] == 2
    assert config["server"] == server.url
    assert config["heard"]["items"] == 6
    assert config["heard"]["errored_items"] == 0
    assert config["heard"]["audio_tokens"] is None
    assert config["usage"]["answers"] == 6
    assert results["system_instruction"] == "Answer."
    for task in ("mmaupro-sample_sound", "mmaupro-sample_multi"):
        assert results["results"][task]["errored,none"] == 0.0
    (samples,) = tmp_path.glob("*/samples_mmaupro-sample_multi_*.jsonl")
    for line in samples.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        assert sample["heard"]["seconds_heard"] == sample["heard"]["seconds_in_files"] > 0
        assert len(sample["heard"]["clips"]) == len(sample["doc"]["audio_path"])
        assert '["system", "Answer."]' in sample["arguments"]["gen_args_0"]["arg_0"]
        assert sample["resps"][0][0] in set("ABCD")
    assert "Heard: " in run_lm_eval.printed


def test_tasks_that_need_log_likelihoods_stop_before_anything_is_asked(run_lm_eval):
    with pytest.raises(SystemExit) as stop:
        run_lm_eval("--limit", "1", "--tasks", "mmaupro-sample_sound,mmaupro-sample-ll_sound")
    assert stop.value.code == 2
    assert "mmaupro-sample-ll_sound: these tasks need log-likelihoods" in run_lm_eval.said
    assert "Traceback" not in run_lm_eval.said
    assert "Asking the server" not in run_lm_eval.said
