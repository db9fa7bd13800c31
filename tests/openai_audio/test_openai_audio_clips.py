"""openai-audio: every clip in its place, byte for byte."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import soundfile
from listening_server import (
    TOKENS_PER_S,
    Listener,
    samples_of,
    sound_of,
    sounds_of,
    text_with_marks,
)
from server_requests import RATE, ask, model, request

from mmaupro_ext import audio, heard
from mmaupro_ext.models import blocks, windows
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.windows import Recording, balanced_spans
from mmaupro_ext.replies import parse_error

QWEN = FAMILIES["qwen2_audio"].writing


# ---- every clip in its place ---------------------------------------------------------------------
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
    local = windows.write(blocks.split_at_places(context, quiet), recordings, quiet)
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


# ---- long clips ----------------------------------------------------------------------------------
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


# ---- files as they are ---------------------------------------------------------------------------
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


# ---- what the server counted ---------------------------------------------------------------------
def by_kind(tokens):
    return {"cached_tokens": 16, "multimodal_tokens": {"audio": tokens}}


def as_openai(tokens):
    return {"audio_tokens": tokens}


@pytest.mark.parametrize("details", [by_kind, as_openai])
def test_audio_tokens_that_a_server_counts_are_what_was_heard(clip, details):
    paths = [clip(f"{seconds}.wav", seconds)[0] for seconds in (1.0, 3.0)]
    with Listener(details=details) as server:
        for name in ("Qwen/Qwen2-Audio-7B-Instruct", "some-model"):
            (reply,) = ask(model(server, name), request("<audio><audio>?", *paths))
            assert reply.heard["audio_tokens"] == 4 * TOKENS_PER_S


@pytest.mark.parametrize("details", [by_kind, as_openai])
def test_fewer_audio_tokens_than_a_known_model_needs_are_an_error_of_the_item(clip, details):
    short, long = clip("short.wav", 2.0)[0], clip("long.wav", 4.0)[0]
    with Listener(details=details, cuts_at_s=2.0) as server:
        lm = model(server, "Qwen/Qwen2-Audio-7B-Instruct", check=False)
        fine, cut = ask(lm, request("<audio>?", short), request("<audio>?", long))
    assert fine == "A"
    assert "50 tokens of the 100 that they need" in parse_error(cut)["problem"]
    assert parse_error(cut)["file"] == long


def test_a_count_that_says_nothing_of_the_length_does_not_hide_that_a_model_cuts(clip):
    path = clip("a.wav", 31.0)[0]
    with Listener(details=lambda _: by_kind(188)) as server:
        lm = model(server, "google/gemma-3n-E4B-it", check=False, long_audio="native")
        (reply,) = ask(lm, request("<audio>?", path))
    assert "hears 30 s at once" in parse_error(reply)["problem"]


@pytest.mark.parametrize(
    "details",
    [
        {"audio_tokens": 0, "cached_tokens": 0},
        {"audio_tokens": None},
        {"multimodal_tokens": None},
        {"multimodal_tokens": {"image": 9}},
        None,
        "none",
    ],
)
def test_a_count_that_a_server_does_not_have_is_not_known(clip, details):
    with Listener(details=lambda _: details) as server:
        lm = model(server, "Qwen/Qwen2-Audio-7B-Instruct")
        (reply,) = ask(lm, request("<audio>?", clip("a.wav", 2.0)[0]))
    assert reply == "A"
    assert reply.heard["audio_tokens"] is None
