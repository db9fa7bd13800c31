"""openai-audio: every clip in its place, byte for byte, and nothing that fails taken for an answer."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import threading

import numpy as np
import pytest
import soundfile
from chat_standin import answer, without_proxy
from listening_server import (
    Listener,
    error,
    is_check,
    parts_of,
    samples_of,
    sound_of,
    sounds_of,
    text_with_marks,
)

from mmaupro_ext import audio, heard
from mmaupro_ext.audio.windowing import balanced_spans
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models import blocks, words
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.windows import Recording
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global simple_evaluate, Instance, CachingLM, TaskManager, OpenAIAudioLM
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CachingLM
    from lm_eval.tasks import TaskManager

    from mmaupro_ext.models.engines.openai import OpenAIAudioLM


RATE = 16_000
GREEDY = {"until": [], "max_gen_toks": 8}
QWEN = FAMILIES["qwen2_audio"].writing


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def model(server, **arguments):
    quick = {"timeout": 5.0, "concurrency": 1, "max_retries": 2}
    lm = OpenAIAudioLM(server.url, "tiny", **quick | arguments)
    lm.server.settings = dataclasses.replace(
        lm.server.settings, backoff_s=0.01, grace_s=2.0, longest_wait_s=5.0
    )
    return lm


@pytest.fixture
def clip(tmp_path):
    """Write noise as 16-bit WAV (or another format) and return its path and samples."""

    def write(name, seconds=1.0, rate=RATE, channels=1, **options):
        random = np.random.default_rng(sum(map(ord, name)))
        samples = random.integers(-20_000, 20_000, (round(seconds * rate), channels), np.int16)
        path = tmp_path / name
        soundfile.write(path, samples, rate, **{"subtype": "PCM_16"} | options)
        return str(path), samples[:, 0] if channels == 1 else samples

    return write


def request(context, *clips, images=(), doc_id=0, **gen_kwargs):
    media = {}
    if clips:
        media["audio"] = [c if isinstance(c, dict) else {"path": c} for c in clips]
    if images:
        media["visual"] = list(images)
    arguments = (context, GREEDY | gen_kwargs, *([media] if media else []))
    made = Instance("generate_until", {"id": f"q{doc_id}"}, arguments, 0)
    made.task_name, made.doc_id = "task", doc_id
    return made


def ask(lm, *requests):
    return lm.generate_until(list(requests), disable_tqdm=True)


# ---- every clip in its place -------------------------------------------------------------------


@pytest.mark.parametrize("form", ["input_audio", "audio_url"])
def test_clips_arrive_in_order_between_the_text_and_sample_for_sample(clip, form):
    paths, samples = zip(*(clip(f"{n}.wav", 0.5 + n) for n in range(3)), strict=True)
    with Listener() as server:
        lm = model(server, audio_format=form)
        assert ask(lm, request("First <audio> then <audio>\nand <audio>\nWhich?", *paths)) == ["A"]
    (body,) = server.asked
    assert text_with_marks(body) == (
        "First Audio 1: <audio> then Audio 2: <audio>\nand Audio 3: <audio>\nWhich?"
    )
    assert [part["type"] for part in sounds_of(body)] == [form] * 3
    for part, expected in zip(sounds_of(body), samples, strict=True):
        received, rate = samples_of(part)
        assert rate == RATE
        np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("context", ["<audio>\nWhich?", "<audio><audio>\nWhich?", "Hear: <audio>"])
def test_labels_are_those_of_the_local_adapter(clip, context):
    paths = [clip(f"{n}.wav", 40.0 * n + 1)[0] for n in range(context.count("<audio>"))]
    with Listener() as server:
        ask(model(server), request(context, *paths))
    recordings = []
    for path in paths:
        length = soundfile.info(path).frames
        recordings.append(Recording(length, RATE, spans=balanced_spans(length, 30 * RATE)))
    quiet = dataclasses.replace(QWEN, label_alone=False)
    local = words.write(blocks.split_at_places(context, quiet), recordings, quiet)
    assert text_with_marks(server.asked[0]) == local.replace(QWEN.audio_block, "<audio>")


def test_another_rate_and_two_channels_are_resampled_and_mixed(clip):
    path, _ = clip("a.wav", 1.3, rate=44_100, channels=2)
    with Listener() as server:
        (reply,) = ask(model(server), request("<audio>\nWhat?", path))
    received, rate = samples_of(sounds_of(server.asked[0])[0])
    expected = audio.load(path, sampling_rate=RATE)
    assert rate == RATE
    # Rounding to 16 bits moves a sample by half a step at most.
    np.testing.assert_allclose(received / 32768, expected, atol=0.5001 / 32768, rtol=0)
    assert reply.heard["clips"][0]["channels_heard"] == 1
    assert reply.heard["clips"][0]["channels_in_file"] == 2


def test_another_rate_may_be_asked_for(clip):
    path, samples = clip("a.wav", 0.7, rate=24_000)
    with Listener() as server:
        (reply,) = ask(model(server, sampling_rate=24_000), request("<audio>\nWhat?", path))
    received, rate = samples_of(sounds_of(server.asked[0])[0])
    assert rate == reply.heard["sampling_rate"] == 24_000
    np.testing.assert_array_equal(received, samples)


def test_both_channels_are_sent_in_one_file(clip):
    path, samples = clip("a.wav", 1.0, channels=2)
    with Listener() as server:
        lm = model(server, channels="stereo")
        (reply,) = ask(lm, request("<audio>\nWhere?", path))
    (part,) = sounds_of(server.asked[0])
    np.testing.assert_array_equal(samples_of(part)[0], samples)
    assert text_with_marks(server.asked[0]) == "<audio>\nWhere?"
    assert reply.heard["clips"][0]["channels_heard"] == 2
    assert "not known here" in lm.get_model_info()["note"]


def test_left_and_right_are_two_labelled_sounds(clip):
    path, samples = clip("a.wav", 1.0, channels=2)
    with Listener() as server:
        (reply,) = ask(model(server, channels="stereo-as-two"), request("<audio>\nWhere?", path))
    left, right = sounds_of(server.asked[0])
    np.testing.assert_array_equal(samples_of(left)[0], samples[:, 0])
    np.testing.assert_array_equal(samples_of(right)[0], samples[:, 1])
    assert "stereo, left channel Audio 1 and right channel Audio 2" in text_with_marks(
        server.asked[0]
    )
    assert reply.heard["windows"] == 2


def test_six_channels_are_mixed_whatever_is_asked(clip):
    path, samples = clip("a.wav", 0.5, channels=6)
    with Listener() as server:
        ask(model(server, channels="stereo"), request("<audio>\nWhere?", path))
    received, _ = samples_of(sounds_of(server.asked[0])[0])
    np.testing.assert_allclose(received, samples.mean(axis=1), atol=0.51, rtol=0)


def test_a_clip_of_a_few_samples_is_followed_by_silence(clip):
    path, samples = clip("a.wav", 10 / RATE)
    with Listener() as server:
        ask(model(server), request("<audio>\nWhat?", path))
    received, _ = samples_of(sounds_of(server.asked[0])[0])
    np.testing.assert_array_equal(received[:10], samples)
    assert len(received) == RATE // 10
    assert not received[10:].any()


# ---- long clips --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["auto", "windows"])
def test_a_long_clip_is_sent_whole_in_numbered_windows(clip, policy):
    path, samples = clip("a.wav", 67.5)
    with Listener(cuts_at_s=30.0) as server:
        (reply,) = ask(model(server, long_audio=policy), request("<audio>\nWhat?", path))
    (body,) = server.asked
    blocks = [samples_of(part)[0] for part in sounds_of(body)]
    assert [len(block) / RATE for block in blocks] == [22.5, 22.5, 22.5]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)
    assert text_with_marks(body).endswith(
        "\nThe recording is Audio 1 to Audio 3, consecutive 22.5-second parts.\nWhat?"
    )
    assert not heard.is_shortened(reply.heard)
    assert reply.heard["audio_tokens"] is None
    assert reply.heard["windows"] == 3


def test_native_sends_clips_whole(clip):
    path, samples = clip("a.wav", 65.2)
    with Listener() as server:
        lm = model(server, long_audio="native")
        ask(lm, request("<audio>\nWhat?", path))
    (part,) = sounds_of(server.asked[0])
    np.testing.assert_array_equal(samples_of(part)[0], samples)
    assert lm.get_model_info()["check"]["heard_whole_up_to_s"] == pytest.approx(65.2)


def test_native_with_a_limit_refuses_longer_clips_and_sends_nothing(clip):
    path, _ = clip("a.wav", 65.2)
    with Listener() as server:
        lm = model(server, long_audio="native", whole_s=60)
        (reply,) = ask(lm, request("<audio>\nWhat?", path))
    assert "65.2 s is longer than the 60 s" in parse_error(reply)["problem"]
    assert not server.asked


@pytest.mark.parametrize(
    ("arguments", "spans"),
    [
        ({"long_audio": "truncate"}, [(0, 30)]),
        ({"long_audio": "truncate", "window_s": 10}, [(0, 10)]),
        ({"long_audio": "uniform", "max_audio_tokens": 1600}, [(0, 30), (70, 100)]),
        ({"long_audio": "uniform", "max_audio_tokens": 750, "audio_tokens_per_s": 12.5},
         [(0, 30), (70, 100)]),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said(clip, arguments, spans):
    path, samples = clip("a.wav", 100.0)
    with Listener() as server:
        lm = model(server, **arguments)
        (reply,) = ask(lm, request("<audio>\nWhat?", path))
    received = [samples_of(part)[0] for part in sounds_of(server.asked[0])]
    for block, (start, end) in zip(received, spans, strict=True):
        np.testing.assert_array_equal(block, samples[start * RATE : end * RATE])
    assert reply.heard["seconds_heard"] == sum(end - start for start, end in spans)
    assert heard.is_shortened(reply.heard)
    assert lm.get_model_info()["heard"]["shortened_items"] == 1


def test_joined_clips_are_one_sound_with_silence_between(clip):
    (first, a), (second, b) = clip("a.wav", 1.0), clip("b.wav", 2.0)
    with Listener() as server:
        (reply,) = ask(
            model(server, multi_audio="concat"), request("<audio><audio>\nWhich?", first, second)
        )
    (part,) = sounds_of(server.asked[0])
    expected = np.concatenate([a, np.zeros(2 * RATE, np.int16), b])
    np.testing.assert_array_equal(samples_of(part)[0], expected)
    assert "2 recordings are joined in their order" in text_with_marks(server.asked[0])
    assert [entry["seconds_heard"] for entry in reply.heard["clips"]] == [1.0, 2.0]


# ---- files as they are -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "form", "kind"),
    [
        ("a.mp3", {"subtype": None}, "input_audio", "mp3"),
        ("a.mp3", {"subtype": None}, "audio_url", "mpeg"),
        ("a.flac", {}, "input_audio", "flac"),
        ("a.wav", {"subtype": "PCM_24"}, "input_audio", "wav"),
        ("a.ogg", {"subtype": "VORBIS"}, "audio_url", "ogg"),
    ],
)
def test_original_files_are_sent_byte_for_byte(clip, name, options, form, kind):
    path, _ = clip(name, 1.0, rate=44_100, channels=2, **options)
    with Listener() as server:
        lm = model(server, send="original", audio_format=form)
        (reply,) = ask(lm, request("<audio>\nWhat?", path))
    (part,) = sounds_of(server.asked[0])
    with open(path, "rb") as file:
        assert sound_of(part) == (kind, file.read())
    (entry,) = reply.heard["clips"]
    assert (entry["channels_heard"], entry["untouched"]) == (2, True)


def test_what_is_cut_or_in_memory_is_sent_as_wav(clip):
    path, samples = clip("a.wav", 40.0)
    array = {"array": samples[:RATE] / 32768, "sampling_rate": RATE}
    with Listener() as server:
        lm = model(server, send="original")
        (reply,) = ask(lm, request("<audio><audio>\nWhat?", path, array))
    first, second, third = (samples_of(part)[0] for part in sounds_of(server.asked[0]))
    np.testing.assert_array_equal(np.concatenate([first, second]), samples)
    np.testing.assert_array_equal(third, samples[:RATE])
    assert all("untouched" not in entry for entry in reply.heard["clips"])


# ---- chats, text, images -----------------------------------------------------------------------


def chat(lm, *messages, start=True):
    history = [{"role": role, "content": content} for role, content in messages]
    return lm.apply_chat_template(history, add_generation_prompt=start)


def test_a_chat_arrives_with_its_roles_and_blocks_numbered_over_all_of_it(clip):
    paths = [clip(f"{n}.wav")[0] for n in range(3)]
    with Listener() as server:
        lm = model(server)
        context = chat(
            lm,
            ("system", 'Be "brief".\n'),
            ("user", "<audio>\nOne?"),
            ("assistant", "yes"),
            ("user", "<audio><audio>\nTwo?"),
        )
        ask(lm, request(context, *paths))
    system, first, reply, second = server.asked[0]["messages"]
    assert system == {"role": "system", "content": 'Be "brief".\n'}
    assert reply == {"role": "assistant", "content": "yes"}
    assert (first["role"], second["role"]) == ("user", "user")
    assert [part.get("text") for part in first["content"]] == ["Audio 1: ", None, "\nOne?"]
    assert [part.get("text") for part in second["content"]] == [
        "Audio 2: ", None, "\nAudio 3: ", None, "\nTwo?",
    ]  # fmt: skip


def test_a_long_clip_is_explained_in_its_own_message(clip):
    path, _ = clip("a.wav", 40.0)
    with Listener() as server:
        lm = model(server)
        ask(lm, request(chat(lm, ("user", "Hear <audio>"), ("user", "What?")), path))
    first, second = server.asked[0]["messages"]
    assert first["content"][-1]["text"].endswith("consecutive 20-second parts.\n")
    assert second["content"] == "What?"


def test_a_bare_prompt_is_one_message_and_text_stays_text():
    with Listener() as server:
        lm = model(server)
        ask(lm, request("Two plus two?"), request(chat(lm, ("user", "The tag <audio> means?"))))
    assert [body["messages"] for body in server.asked] == [
        [{"role": "user", "content": "Two plus two?"}],
        [{"role": "user", "content": "The tag <audio> means?"}],
    ]
    assert not server.checks


def test_the_beginning_of_an_answer_is_gone_on_with():
    with Listener() as server:
        lm = model(server)
        ask(lm, request(chat(lm, ("user", "Q?"), ("assistant", "Answer:"), start=False)))
    (body,) = server.asked
    assert body["messages"][-1] == {"role": "assistant", "content": "Answer:"}
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False


def test_images_and_sounds_stand_where_their_marks_stand(clip):
    from PIL import Image

    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    path, samples = clip("a.wav")
    with Listener() as server:
        lm = model(server)
        ask(lm, request("<image>vs<image> <audio>?", path, images=[red, blue]))
    parts = parts_of(server.asked[0])
    assert [part["type"] for part in parts] == [
        "image_url", "text", "image_url", "text", "input_audio", "text",
    ]  # fmt: skip
    for part, image in ((parts[0], red), (parts[2], blue)):
        head, data = part["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        decoded = Image.open(io.BytesIO(base64.b64decode(data)))
        assert decoded.tobytes() == image.tobytes()
    np.testing.assert_array_equal(samples_of(parts[4])[0], samples)
    assert lm.get_model_info()["check"]["images_reach_the_model"] is True


# ---- parameters --------------------------------------------------------------------------------


def test_generation_options_are_translated():
    with Listener() as server:
        lm = model(server, seed=7, extra_body='{"top_k": 5, "chat_template_kwargs": {"a": 1}}')
        ask(
            lm,
            request("a"),
            request("b", do_sample=True, temperature=0.7, top_p=0.9, max_gen_toks=3),
        )
    greedy, sampled = server.asked
    assert greedy["model"] == "tiny"
    assert (greedy["temperature"], greedy["max_tokens"], greedy["seed"]) == (0.0, 8, 7)
    assert "stop" not in greedy
    assert "do_sample" not in greedy
    assert (sampled["temperature"], sampled["top_p"], sampled["max_tokens"]) == (0.7, 0.9, 3)
    assert sampled["top_k"] == 5
    assert sampled["chat_template_kwargs"] == {"a": 1}


def test_the_other_name_of_the_length_is_used_everywhere(clip):
    with Listener() as server:
        lm = model(server, max_tokens_field="max_completion_tokens", max_gen_toks=17)
        path = clip("a.wav")[0]
        made = Instance("generate_until", {}, ("<audio>?", {"until": []}, {"audio": [path]}), 0)
        ask(lm, made)
    assert server.asked[0]["max_completion_tokens"] == 17
    assert all("max_tokens" not in body for _, body in server.requests)


def test_stop_strings_are_sent_and_replies_cut_at_all_of_them():
    stops = ["\n\n", "Q:", "</s>", "###", "END"]
    with Listener(reply=lambda body: "yes END no") as server:
        lm = model(server)
        assert ask(lm, request("a", until=[*stops, ""])) == ["yes "]
    assert server.asked[0]["stop"] == stops[:4]
    assert server.checks[0]["stop"] == ["\n\n"]


def test_a_server_that_fails_at_stop_strings_is_not_sent_any():
    def reply(body):
        return "yes\n\nno"

    with Listener(reply=reply) as server:
        hears = server._act
        server.script = [lambda body: error(500, "boom") if "stop" in body else hears(body)]
        lm = model(server)
        assert ask(lm, request("a", until="\n\n")) == ["yes"]
        assert ask(lm, request("b", until=["\n\n"])) == ["yes"]
    assert all("stop" not in body for body in server.asked)
    assert lm.get_model_info()["check"]["takes_stop_strings"] is False


def test_thoughts_are_left_out():
    with Listener(reply=lambda body: "hm B</think> A") as server:
        assert ask(model(server, think_end_token="</think>"), request("a")) == ["A"]


# ---- failures ----------------------------------------------------------------------------------


def failing(act, text="FAIL"):
    """A reply that fails for items with a certain word."""
    return lambda body: act if text in text_with_marks(body) else "B"


@pytest.mark.parametrize(
    ("act", "problem", "fix"),
    [
        (error(400, "At most 1 audio(s) may be provided in one prompt."),
         "status 400", "--limit-mm-per-prompt"),
        (error(400, "Audio exceeds maximum allowed duration of 600s"),
         "600s", "VLLM_MAX_AUDIO_DECODE_DURATION_S"),
        (error(400, "This model's maximum context length is 4096 tokens"), "4096", "long_audio=uniform"),
        (error(400, "input_audio.format must be either 'wav' or 'mp3'"), "wav", "send=original"),
        (error(400, "unsupported content[].type"), "content[].type", "audio_format=audio_url"),
        (error(500, "audio input is not supported - hint: provide the mmproj"),
         "failed 3 times, last: status 500: {\"error\"", "--mmproj"),
        (error(422, "Unexpected fields in the request: {'top_k'}"), "status 422", "extra_body"),
        (error(413, ""), "status 413", "send=original"),
        (error(400, "no idea"), "no idea", "log of the server"),
        ((500, {}, b"oops"), "failed 3 times, last: status 500: oops", "see its log"),
        ("hang", "failed 3 times, last: ReadTimeout", "see its log"),
        ("reset", "failed 3 times", "see its log"),
        ((200, {}, b'{"choices": ['), "malformed answer", "see its log"),
        ((200, {}, b'{"choices": []}'), "malformed answer (IndexError", "see its log"),
        ((200, {}, b'{"error": {"message": "upstream died"}}'), "upstream died", "see its log"),
        ((200, {}, b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}'),
         "holds no text", "log of the server"),
        ((200, {}, b'{"choices": [{"message": {"content": null, "reasoning_content": "hm"},'
                   b'"finish_reason": "length"}]}'), "only thoughts", "max_gen_toks"),
        ((200, {}, b'{"choices": [{"message": {"content": "", "reasoning_content": "hm"},'
                   b'"finish_reason": "length"}]}'), "only thoughts", "max_gen_toks"),
        ((200, {}, b'{"choices": [{"message": {"content": "  ", "reasoning": "hm"},'
                   b'"finish_reason": "stop"}]}'), "only thoughts", "max_gen_toks"),
        ((200, {}, b'{"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}'),
         "holds no text", "max_gen_toks"),
        ((200, {}, b'{"choices": [{"message": {"content": ""}, "finish_reason": "tool_calls"}]}'),
         "holds no text", "log of the server"),
        ((200, {}, b'{"choices": [{"message": {"content": ""}, "finish_reason": "error",'
                   b'"error": {"message": "upstream died"}}]}'),
         "failed 3 times, last: malformed answer (ValueError(\"an error instead", "see its log"),
        ((200, {}, b'{"error": {"message": "upstream died"}, "choices": [{"message": '
                   b'{"content": "A"}, "finish_reason": "stop"}]}'), "upstream died", "see its log"),
        ((200, {}, b'{"choices": [{"message": {"content": [{"type": "blob", "data": "B"}]},'
                   b'"finish_reason": "stop"}]}'), "not known here: blob", "see its log"),
        ((200, {}, b'{"choices": [{"message": {"content": [{"type": "thinking", "thinking": "B"}]},'
                   b'"finish_reason": "stop"}]}'), "only thoughts", "max_gen_toks"),
        ((200, {}, b'{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}'),
         "filter", "provider"),
    ],
)  # fmt: skip
def test_a_failed_request_is_an_errored_item_and_the_others_are_answered(clip, act, problem, fix):
    path, _ = clip("a.wav")
    with Listener() as server:
        hears = server._act
        server.script = [
            lambda body: (
                hears(body) if is_check(body) or "FAIL" not in text_with_marks(body) else act
            )
        ]
        if isinstance(act, str):  # "hang" and "reset" are no answers
            server.script = [act]
            lm = model(server, check=False, timeout=0.3)
            (reply,) = ask(lm, request("<audio>\nFAIL?", path, doc_id=3))
        else:
            lm = model(server)
            other, reply = ask(
                lm, request("<audio>\nfine?", path), request("<audio>\nFAIL?", path, doc_id=3)
            )
            assert other == "A"
            assert other.heard is not None
    found = parse_error(reply)
    assert problem in found["problem"]
    assert fix in found["fix"]
    assert found["item"] == "task q3"
    assert found["file"] == path
    assert lm.get_model_info()["heard"]["errored_items"] == 1


def test_a_passing_failure_is_no_failure_and_retry_after_is_obeyed(clip):
    path, _ = clip("a.wav")
    acts = iter([(429, {"Retry-After": "1"}, b""), (503, {}, b"")])
    with Listener() as server:
        hears = server._act
        server.script = [
            lambda body: hears(body) if is_check(body) else next(acts, None) or hears(body)
        ]
        lm = model(server)
        assert ask(lm, request("<audio>\nWhat?", path)) == ["A"]
    starts = server.starts[-3:]
    assert starts[1] - starts[0] >= 1.0
    assert server.asked[0] == server.asked[1] == server.asked[2]
    assert lm.get_model_info()["retries"] == 2


def test_a_server_that_dies_makes_the_rest_errored_items():
    with Listener() as server:
        lm = model(server, max_retries=1)
    replies = ask(lm, *(request("a", doc_id=n) for n in range(30)))
    assert all(parse_error(reply)["item"] == f"task q{n}" for n, reply in enumerate(replies))
    # Twenty items are tried twice; then the server counts as gone.
    assert lm.server.requests == 20 * 2 + 10
    assert "failed once" in parse_error(replies[-1])["problem"]


def test_nobody_listening_stops_before_anything_is_loaded():
    class Nobody:
        url = "http://127.0.0.1:9/v1"

    with pytest.raises(ConfigError, match="does not answer.*Start it first"):
        model(Nobody)


@pytest.mark.parametrize(("status", "message"), [(401, "api_key_env"), (404, "base_url")])
def test_a_server_that_refuses_everything_stops_the_run(status, message):
    with Listener() as server:
        server.script = [(status, {}, b"")]
        with pytest.raises(ConfigError, match=message):
            ask(model(server), *(request("a") for _ in range(50)))
    assert len(server.requests) == 1


def test_an_item_that_cannot_be_read_is_never_sent(clip, tmp_path):
    path, _ = clip("a.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF no wave")
    with Listener() as server:
        replies = ask(
            model(server),
            request("<audio>\nWhat?", str(tmp_path / "none.wav")),
            request("<audio>\nWhat?", str(tmp_path / "broken.wav")),
            request("<audio>\nWhat?", path, path),
            request("<audio>\nWhat?", path),
        )
    errors = [parse_error(reply) for reply in replies]
    assert "none.wav" in errors[0]["file"]
    assert "broken.wav" in errors[1]["file"]
    assert "places for 1 clips, the item has 2" in errors[2]["problem"]
    assert replies[3] == "A"
    assert len(server.asked) == 1


def test_answers_cut_by_length_and_empty_ones_are_kept_and_counted(caplog):
    texts = {"long": ("A and", "length"), "none": ("", "stop")}

    def act(body):
        text, reason = texts[body["messages"][0]["content"]]
        choice = {"message": {"content": text}, "finish_reason": reason}
        return 200, {}, json.dumps({"choices": [choice]}).encode()

    with Listener() as server:
        server.script = [act]
        lm = model(server)
        assert ask(lm, request("long"), request("none")) == ["A and", ""]
    info = lm.get_model_info()
    assert (info["answers_cut_by_length"], info["empty_answers"]) == (1, 1)
    assert info["usage"] == {"answers": 0, "prompt_tokens": 0, "completion_tokens": 0}
    assert "1 answers ended at max_gen_toks" in caplog.text
    assert "1 answers are empty" in caplog.text


# ---- the check ---------------------------------------------------------------------------------


@pytest.mark.parametrize("forms", [("input_audio",), ("audio_url",)])
def test_the_form_that_a_server_takes_is_found(clip, forms):
    path, _ = clip("a.wav")
    with Listener(forms=forms) as server:
        lm = model(server)
        assert ask(lm, request("<audio>?", path)) == ["A"]
    assert [part["type"] for part in sounds_of(server.asked[0])] == list(forms)
    info = lm.get_model_info()
    assert info["audio_format"] == forms[0]
    assert info["check"]["tokens_of_a_second"] == 25
    assert info["usage"]["prompt_tokens"] > 25


@pytest.mark.parametrize("passed_over", [("input_audio", "audio_url"), ("input_audio",)])
def test_sounds_that_are_passed_over_are_found_out(clip, passed_over):
    path, _ = clip("a.wav")
    with Listener(passes_over=passed_over) as server:
        lm = model(server)
        if len(passed_over) == 2:
            with pytest.raises(ConfigError, match="the sound was passed over"):
                ask(lm, request("<audio>?", path))
            assert not server.asked
            lm = model(server, check=False)
        assert ask(lm, request("<audio>?", path)) == ["A"]
    forms = {part["type"] for part in sounds_of(server.asked[0])}
    assert forms == ({"audio_url"} if len(passed_over) == 1 else {"input_audio"})


def test_a_server_that_takes_no_audio_stops_the_run_with_its_words(clip):
    with (
        Listener(forms=()) as server,
        pytest.raises(ConfigError, match="input_audio: .*content") as stop,
    ):
        ask(model(server), request("<audio>?", clip("a.wav")[0]))
    assert "audio_url: " in str(stop.value)
    assert "check=false" in str(stop.value)


def test_a_server_that_does_not_count_is_asked_all_the_same_with_a_warning(clip, caplog):
    with Listener(counts=False, cuts_at_s=30.0) as server:
        lm = model(server, long_audio="native")
        assert ask(lm, request("<audio>?", clip("a.wav", 40.0)[0])) == ["A"]
    assert "cannot be checked" in caplog.text
    assert lm.get_model_info()["check"]["tokens_of_a_second"] is None


@pytest.mark.parametrize("seconds", [31.0, 45.0, 300.0])
def test_a_model_that_cuts_whole_clips_is_found_out(clip, seconds):
    path, _ = clip("a.wav", seconds)
    with Listener(cuts_at_s=30.0) as server:
        with pytest.raises(ConfigError, match="is not heard whole.*long_audio=windows"):
            ask(model(server, long_audio="native"), request("<audio>?", path))
        assert not server.asked
        assert ask(model(server), request("<audio>?", path)) == ["A"]


def test_a_server_that_does_not_take_twice_the_length_is_asked_for_the_half(clip):
    path, _ = clip("a.wav", 40.0)
    for cuts_at_s, fails in ((30.0, True), (1e9, False)):
        with Listener(cuts_at_s=cuts_at_s) as server:
            hears = server._act

            def act(body, hears=hears):
                long = any(len(sound_of(part)[1]) > 50 * 2 * RATE for part in sounds_of(body))
                return error(400, "too long") if long else hears(body)

            server.script = [act]
            lm = model(server, long_audio="native")
            if fails:
                with pytest.raises(ConfigError, match="20.0 s takes 500"):
                    ask(lm, request("<audio>?", path))
            else:
                assert ask(lm, request("<audio>?", path)) == ["A"]


def test_images_that_are_passed_over_are_found_out():
    from PIL import Image

    image = Image.new("RGB", (4, 4))
    with Listener(passes_over=("image_url",)) as server:
        with pytest.raises(ConfigError, match="no image reaches"):
            ask(model(server), request("<image>?", images=[image]))
        assert not server.asked
    with (
        Listener(forms=("input_audio",)) as server,
        pytest.raises(ConfigError, match="takes no image"),
    ):
        ask(model(server), request("<image>?", images=[image]))


def test_the_check_is_done_once_and_again_for_longer_clips(clip):
    with Listener() as server:
        lm = model(server, long_audio="native")
        ask(lm, request("<audio>?", clip("a.wav", 1)[0]))
        first = len(server.checks)
        ask(lm, request("<audio>?", clip("b.wav", 2)[0]))
        assert len(server.checks) == first == 2
        ask(lm, request("<audio>?", clip("c.wav", 40)[0]))
        ask(lm, request("<audio>?", clip("d.wav", 39)[0]))
        assert len(server.checks) == 4


# ---- concurrency, pace, caches -----------------------------------------------------------------


def test_slow_answers_overlap_and_come_back_in_order(clip):
    paths = [clip(f"{n}.wav", 0.2 + n / 10)[0] for n in range(12)]
    barrier = threading.Barrier(4, timeout=20)

    def reply(body):
        barrier.wait()  # four requests must be under way at a time
        samples, _ = samples_of(sounds_of(body)[0])
        return str(len(samples))

    with Listener(reply=reply) as server:
        lm = model(server, concurrency=4, timeout=30.0)
        replies = ask(lm, *(request("<audio>?", path) for path in paths))
    assert replies == [str(round((0.2 + n / 10) * RATE)) for n in range(12)]
    assert server.most_under_way == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 8), ({"batch_size": "16"}, 16), ({"batch_size": 1}, 8), ({"batch_size": "auto"}, 8),
     ({"batch_size": 16, "concurrency": 3}, 3)],
)  # fmt: skip
def test_batch_size_is_the_number_of_requests_under_way(arguments, expected):
    with Listener() as server:
        lm = OpenAIAudioLM(server.url, "m", **arguments)
    assert lm.server.settings.concurrency == expected


def test_the_rate_limit_spreads_requests():
    with Listener() as server:
        lm = model(server, concurrency=8, requests_per_minute=600)
        ask(lm, *(request("a") for _ in range(6)))
    starts = sorted(server.starts)
    assert all(start - starts[0] >= 0.1 * n - 0.05 for n, start in enumerate(starts))


def test_a_second_run_asks_nothing_and_failures_are_asked_again(clip, tmp_path):
    path, _ = clip("a.wav")
    fine, fails = request("<audio>\nfine?", path), request("<audio>\nFAIL?", path)
    database = str(tmp_path / "answers.db")
    with Listener(reply=failing(error(400, "no"))) as server:
        first = CachingLM(model(server), database).generate_until([fine, fails])
        assert parse_error(first[1]) is not None
        server.reply = lambda body: "C"
        again = CachingLM(model(server), database)
        second = again.generate_until([fine, fails])
        assert second == ["B", "C"]
        assert second[0].heard == first[0].heard
        assert len(server.asked) == 3
        before = len(server.requests)
        assert CachingLM(model(server), database).generate_until([fine, fails]) == ["B", "C"]
        assert len(server.requests) == before


def test_ctrl_c_keeps_every_answer_that_arrived(clip, tmp_path):
    path, _ = clip("a.wav")
    requests = [request(f"<audio>\n{n}?", path, doc_id=n) for n in range(12)]
    database = str(tmp_path / "answers.db")
    with Listener() as server:
        cached = CachingLM(model(server, concurrency=2), database)
        hook = cached.lm.cache_hook
        arrived = []

        class Hook:
            dbdict = None

            def add_partial(self, *entry):
                hook.add_partial(*entry)
                arrived.append(entry)
                if len(arrived) == 4:
                    raise KeyboardInterrupt

        cached.lm.cache_hook = Hook()
        with pytest.raises(KeyboardInterrupt):
            cached.generate_until(requests)
        asked = len(server.asked)
        assert 4 <= asked < 12
        assert len(arrived) == asked
        cached.dbdict.close()
        again = CachingLM(model(server), database)
        assert again.generate_until(requests) == ["A"] * 12
        assert len(server.asked) == 12


# ---- under lm_eval -----------------------------------------------------------------------------


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


# ---- log-likelihood, ranks, keys ---------------------------------------------------------------


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
        with pytest.raises(ConfigError, match="take name and password out"):
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
        ({"send": "flac"}, "send='flac' is unknown"),
        ({"channels": "left"}, "channels='left' is unknown"),
        ({"long_audio": "cut"}, "long_audio='cut' is unknown"),
        ({"long_audio": "uniform"}, "needs max_audio_tokens"),
        ({"block_label": "Clip: "}, "no place for the {number}"),
        ({"extra_body": "[1]"}, "no JSON object"),
        ({"timeout": 0}, "timeout=0 is not a number greater than 0"),
        ({"base_url": None}, "base_url=http"),
        ({"base_url": "localhost:8000"}, "must begin with http"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused(arguments, message):
    with Listener() as server, pytest.raises(ConfigError, match=message):
        OpenAIAudioLM(**{"base_url": server.url, "model": "m"} | arguments)


def test_an_argument_that_does_not_exist_is_no_silent_default():
    with Listener() as server, pytest.raises(TypeError, match="windows_s"):
        OpenAIAudioLM(server.url, "m", windows_s=10)


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
        cached = CachingLM(lm, str(tmp_path / "cache.db"))
        (reply,) = cached.generate_until([request("a")])
        assert (reply, reply.finish) == ("I cannot listen to that.", "stop")
        assert cached.generate_until([request("a")]) == [reply]
        cached.dbdict.close()
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
