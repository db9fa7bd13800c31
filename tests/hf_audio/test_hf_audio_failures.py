"""hf-audio: what cannot be served costs its own item, and is asked again."""

from __future__ import annotations

import functools
import json
import logging
import math

import numpy as np
import pytest
import soundfile
from hf_requests import RATE, generate, score

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, Instance, Resumed, HFAudioLM
    import torch
    from lm_eval.api.instance import Instance

    from mmaupro_ext.models.hf.model import HFAudioLM
    from mmaupro_ext.models.resuming import Resumed


# ---- errors --------------------------------------------------------------------------------------
def bad_files(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), RATE)
    return [str(tmp_path / name) for name in ("missing.wav", "empty.wav", "text.wav", "silent.wav")]


def test_bad_files_cost_their_items_only(lm, clip, tmp_path, caplog):
    good = [generate("<audio>\nWhat?", clip(f"{n}.wav", frequency=300 * n)) for n in (1, 2, 3)]
    expected = lm.generate_until(good, disable_tqdm=True)
    bad = bad_files(tmp_path)
    requests = [good[0], *(generate("<audio>\nWhat?", path) for path in bad), good[1], good[2]]
    with caplog.at_level(logging.ERROR):
        replies = lm.generate_until(requests, disable_tqdm=True)
    assert [replies[0], *replies[-2:]] == expected
    for path, reply in zip(bad, replies[1:-2], strict=True):
        error = parse_error(reply)
        assert path in error["file"]
        assert error["problem"]
        assert error["fix"]
        assert path in caplog.text
    assert lm.get_model_info()["heard"]["errored_items"] == len(bad)


def test_an_errored_item_is_named_by_task_and_id(lm, tmp_path, caplog):
    request = generate("<audio>\nWhat?", str(tmp_path / "missing.wav"))
    request.doc, request.task_name = {"id": "c93e3644"}, "mmaupro_sound"
    with caplog.at_level(logging.ERROR):
        (reply,) = lm.generate_until([request], disable_tqdm=True)
    assert parse_error(reply)["item"] == "mmaupro_sound c93e3644"
    assert "mmaupro_sound c93e3644, " in caplog.text


def test_choices_about_a_bad_file_have_no_score(lm, clip, tmp_path):
    missing = str(tmp_path / "missing.wav")
    answers = lm.loglikelihood(
        [score("<audio>\nWhat?", "A", missing), score("<audio>\nWhat?", "A", clip("a.wav"))],
        disable_tqdm=True,
    )
    assert math.isnan(answers[0][0])
    assert answers[0][1] is False
    assert math.isfinite(answers[1][0])


def test_a_prompt_beyond_the_context_is_an_error_not_a_cut(make, clip):
    lm = make(max_length=300)
    short, long = clip("short.wav"), clip("long.wav", seconds=20)
    replies = lm.generate_until(
        [generate("<audio>\nWhat?", long), generate("<audio>\nWhat?", short)], disable_tqdm=True
    )
    length = lm.prepare(Question("<audio>\nWhat?", {"audio": [long]})).length
    error = parse_error(replies[0])
    assert error["file"] == long
    assert f"need {length + 8} tokens" in error["problem"]
    assert "takes 300" in error["problem"]
    assert "max_length" in error["fix"]
    assert parse_error(replies[1]) is None


def test_the_context_limit_is_exact(make, clip):
    path = clip("a.wav")
    length = make().prepare(Question("<audio>\nWhat?", {"audio": [path]})).length
    fits = make(max_length=length + 8).generate_until([generate("<audio>\nWhat?", path)])
    assert parse_error(fits[0]) is None
    over = make(max_length=length + 7).generate_until([generate("<audio>\nWhat?", path)])
    assert parse_error(over[0]) is not None
    scored = make(max_length=length).loglikelihood([score("<audio>\nWhat?", "A", path)])
    assert math.isfinite(scored[0][0])
    over_by_one = make(max_length=length).loglikelihood([score("<audio>\nWhat?", "AB", path)])
    assert math.isnan(over_by_one[0][0])


@pytest.mark.parametrize("batch_size", [4, "auto"])
def test_out_of_memory_halves_the_batch_and_loses_nothing(make, clip, monkeypatch, batch_size):
    requests = [generate(f"<audio>\nQ{n}?", clip(f"{n}.wav", frequency=200 * n)) for n in (1, 2, 3)]
    expected = make().generate_until(requests, disable_tqdm=True)
    tried = []
    generate_batch = HFAudioLM._generate

    def too_small(self, batch, *arguments):
        tried.append(len(batch))
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", too_small)
    lm = make(batch_size=batch_size, decoding="generate")
    assert lm.generate_until(requests, disable_tqdm=True) == expected
    assert tried == [3, 2, 1, 1, 1]


def test_after_running_out_of_memory_shorter_items_go_together_again(make, clip, monkeypatch):
    long = [clip(f"long{n}.wav", seconds=28 + n / 8, frequency=200 * n) for n in (1, 2, 3)]
    short = [clip(f"{n}.wav", seconds=2 + n / 8, frequency=200 * n) for n in (1, 2, 3, 4)]
    tried = []
    generate_batch = HFAudioLM._generate

    def too_small(self, batch, *arguments):
        tried.append(len(batch))
        if sum(prompt.length for prompt in batch) > 1000:  # one long clip takes some 700
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", too_small)
    requests = [generate("<audio>\nWhat?", path) for path in [*short, *long]]
    replies = make(batch_size=4, decoding="generate").generate_until(requests, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in replies)
    assert tried == [3, 2, 1, 1, 1, 4]


@pytest.mark.parametrize("decoding", ["slots", "generate"])
def test_an_item_that_never_fits_is_errored_alone(make, clip, monkeypatch, decoding):
    lm = make(decoding=decoding)
    big = clip("big.wav", seconds=31)
    forward = lm.model.forward

    @functools.wraps(forward)  # `generate` looks at its arguments
    def too_small(**inputs):
        features = inputs.get("input_features")
        # Of all prompts, only that of the long clip has two blocks.
        if features is not None and len(features) > len(inputs["input_ids"]):
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(**inputs)

    monkeypatch.setattr(lm.model, "forward", too_small)
    requests = [generate("<audio>\nWhat?", path) for path in (clip("a.wav"), big, clip("b.wav"))]
    replies = lm.generate_until(requests, disable_tqdm=True)
    assert [parse_error(reply) is None for reply in replies] == [True, False, True]
    assert parse_error(replies[1])["file"] == big
    assert "out of memory" in parse_error(replies[1])["problem"]


def break_passes(model, monkeypatch):
    @functools.wraps(model.forward)
    def fail(*_, **__):
        raise TypeError("a shape\nthat it does not know")

    monkeypatch.setattr(model, "forward", fail)


def test_an_item_that_the_model_fails_on_is_errored_with_the_reason(lm, clip, monkeypatch):
    assert lm._generator.has_slots
    break_passes(lm.model, monkeypatch)
    (reply,) = lm.generate_until([generate("<audio>\nWhat?", clip("a.wav"))], disable_tqdm=True)
    assert "TypeError: a shape that it does not know" in parse_error(reply)["problem"]


def test_a_model_that_fails_on_everything_ends_the_run(lm, clip, monkeypatch):
    """Twenty items one after the other, all with the same error: the other thousands would fail, too."""
    assert lm._generator.has_slots
    break_passes(lm.model, monkeypatch)
    path = clip("a.wav")
    requests = [generate(f"<audio>\nQuestion {number}?", path) for number in range(25)]
    with pytest.raises(ConfigError, match="20 items in a row.*TypeError: a shape that"):
        lm.generate_until(requests, disable_tqdm=True)


WAYS = {
    "generate": lambda lm, requests: [
        parse_error(reply) is None for reply in lm.generate_until(requests, disable_tqdm=True)
    ],
    "score": lambda lm, requests: [
        math.isfinite(value) for value, _ in lm.loglikelihood(requests, disable_tqdm=True)
    ],
}


def requests_of(way, prompts, *files):
    if way == "generate":
        return [generate(prompt, *files) for prompt in prompts]
    return [score(prompt, "A", *files) for prompt in prompts]


def break_passes_over(lm, monkeypatch, token, error):
    """Let every pass fail that has a token in one of its rows."""
    forward = lm.model.forward
    (number,) = lm.tokenizer.encode(token, add_special_tokens=False)

    @functools.wraps(forward)
    def passes(*given, **inputs):
        if (inputs.get("input_ids", *given) == number).any():
            raise error
        return forward(*given, **inputs)

    monkeypatch.setattr(lm.model, "forward", passes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("media", [True, False], ids=["audio", "text"])
def test_an_item_that_a_batch_fails_on_is_the_only_one_lost(make, clip, monkeypatch, way, media):
    lm = make(decoding="generate")
    prompts = [f"Question {number}?" for number in range(5)]
    prompts[3] += "#"
    marked = [f"<audio>\n{prompt}" for prompt in prompts] if media else prompts
    requests = requests_of(way, marked, *([clip("a.wav")] if media else []))
    whole = lm.generate_until(requests, disable_tqdm=True) if way == "generate" else None
    break_passes_over(lm, monkeypatch, "#", IndexError("index out of range in self"))
    assert WAYS[way](lm, requests) == [number != 3 for number in range(5)]
    assert lm.heard.errored_items == 1
    if whole is not None:
        replies = lm.generate_until(requests, disable_tqdm=True)
        assert "IndexError: index out of range in self" in parse_error(replies[3])["problem"]
        assert [*replies[:3], replies[4]] == [*whole[:3], whole[4]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("media", [True, False], ids=["audio", "text"])
def test_the_same_failure_twenty_times_over_ends_the_run_on_every_path(
    make, clip, monkeypatch, way, media
):
    lm = make(decoding="generate")
    break_passes(lm.model, monkeypatch)
    prompts = [f"{'<audio>' * media}Question {number}?" for number in range(25)]
    requests = requests_of(way, prompts, *([clip("a.wav")] if media else []))
    with pytest.raises(ConfigError, match="20 items in a row.*TypeError: a shape that"):
        WAYS[way](lm, requests)


def test_text_without_memory_goes_on_in_smaller_batches(make, monkeypatch):
    lm = make(batch_size=8)
    requests = [generate(f"Question {number}?") for number in range(12)]
    whole = lm.generate_until(requests, disable_tqdm=True)
    model_generate, tried = lm._model_generate, []

    def too_small(context, **options):
        tried.append(len(context))
        if len(context) > 3:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)")
        return model_generate(context, **options)

    monkeypatch.setattr(lm, "_model_generate", too_small)
    assert lm.generate_until(requests, disable_tqdm=True) == whole
    assert lm.batch_size == 8
    assert tried == [8, 4, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("decoding", ["slots", "generate"])
def test_what_the_processor_fails_on_costs_its_item(make, clip, monkeypatch, decoding):
    lm = make(decoding=decoding, prefetch_workers=0)
    stock = type(lm.processor).__call__

    def fails(self, *, text, **options):
        if "#" in text[0]:
            raise KeyError("audio_values")
        return stock(self, text=text, **options)

    monkeypatch.setattr(type(lm.processor), "__call__", fails)
    path = clip("a.wav")
    requests = [generate(f"<audio>\nQuestion {mark}", path) for mark in "abc#de"]
    replies = lm.generate_until(requests, disable_tqdm=True)
    assert [parse_error(reply) is None for reply in replies] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    assert "the processor fails on this item (KeyError: 'audio_values')" in replies[3]
    requests = [generate(f"<audio>\nQuestion {number} #", path) for number in range(25)]
    with pytest.raises(ConfigError, match="processor fails on 20 items in a row.*mmaupro doctor"):
        lm.generate_until(requests, disable_tqdm=True)


@pytest.mark.parametrize("decoding", ["slots", "generate"])
def test_clips_of_a_few_milliseconds_are_heard(make, clip, decoding):
    paths = [clip(f"{ms}.wav", seconds=ms / 1000) for ms in (1, 30, 60, 61, 70)]
    lm = make(decoding=decoding, batch_size=1)
    replies = lm.generate_until(
        [generate("<audio>\nWhat?", path) for path in paths], disable_tqdm=True
    )
    assert all(parse_error(reply) is None for reply in replies)
    assert [reply.heard["audio_tokens"] for reply in replies] == [2] * 5


def test_rolling_scores_of_audio_are_refused_and_of_text_are_given(lm, clip):
    media = {"audio": [clip("a.wav")]}
    with pytest.raises(ConfigError, match="text only"):
        lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("x", media), 0)])
    (value,) = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("some text",), 0)])
    assert math.isfinite(value)


# ---- caches --------------------------------------------------------------------------------------
def test_a_second_run_takes_every_answer_from_the_journal(make, clip, tmp_path, monkeypatch):
    path = clip("a.wav")
    asked = [generate("<audio>\nWhat?", path), generate("A text question:")]
    scored = [score("<audio>\nWhat?", letter, path) for letter in "AB"] + [score("A text", " B")]
    database = str(tmp_path / "kept")
    first = Resumed(make(), database)
    replies, scores = first.generate_until(asked), first.loglikelihood(scored)

    def not_again(*_, **__):
        raise AssertionError("an answer was not taken from the journal")

    second = Resumed(make(), database)
    monkeypatch.setattr(HFAudioLM, "_route", not_again)
    assert second.generate_until(asked) == replies
    assert second.loglikelihood(scored) == scores


def test_answers_and_failures_are_kept_as_they_come_for_the_request_that_was_made(lm, clip):
    class Hook:
        kept = {}

        def add_partial(self, attr, arguments, answer):
            self.kept[json.dumps([attr, *arguments])] = answer

    lm.set_cache_hook(Hook())
    good = generate("<audio>\nWhat?", clip("a.wav"))
    bad = generate("<audio>\nWhat?", "missing.wav")
    replies = lm.generate_until([good, bad], disable_tqdm=True)
    keys = [json.dumps(["generate_until", *one.args]) for one in (good, bad)]
    assert Hook.kept == dict(zip(keys, replies, strict=True))


def test_failed_items_are_tried_again_when_their_file_has_come(make, clip, tmp_path):
    missing = str(tmp_path / "late.wav")
    asked = [generate("<audio>\nWhat?", missing), generate("<audio>\nWhat?", clip("a.wav"))]
    scored = [score("<audio>\nWhat?", "A", missing)]
    database = str(tmp_path / "kept")
    first = Resumed(make(), database)
    replies = first.generate_until(asked)
    assert parse_error(replies[0]) is not None
    assert math.isnan(first.loglikelihood(scored)[0][0])
    same = Resumed(make(), database)
    same.lm.generate_until = same.lm.loglikelihood = None  # nothing is asked again
    assert same.generate_until(asked) == replies
    assert math.isnan(same.loglikelihood(scored)[0][0])
    clip("late.wav")  # another state of the file: another request
    second = Resumed(make(), database)
    again = second.generate_until(asked)
    assert parse_error(again[0]) is None
    assert again[1] == replies[1]
    assert math.isfinite(second.loglikelihood(scored)[0][0])
