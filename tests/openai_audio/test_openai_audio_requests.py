"""openai-audio: what a request says, how large it may be, and how much of a clip goes whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from listening_server import Listener, error, sound_of, sounds_of
from server_requests import RATE, ask, model, request

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.engines.known_models import KNOWN_MODELS, known_model
from mmaupro_ext.replies import parse_error


def test_flac_holds_the_samples_of_the_file_and_is_what_the_check_sends(clip):
    path, samples = clip("a.wav")
    with Listener() as server:
        assert ask(model(server, send="flac"), request("<audio>?", path)) == ["A"]
    for body in server.asked + server.checks:
        for part in sounds_of(body):
            assert sound_of(part)[0] == "flac"
    found, rate = soundfile.read(
        io.BytesIO(sound_of(sounds_of(server.asked[0])[0])[1]), dtype="int16"
    )
    assert rate == RATE
    assert np.array_equal(found, samples)


def test_what_is_too_large_is_one_items_error_with_the_fix_and_is_not_sent(clip):
    small, large = clip("a.wav", 0.5)[0], clip("b.wav", 5.0)[0]
    with Listener() as server:
        lm = model(server, check=False, max_request_mb=0.1)
        one, two, three = ask(lm, *(request("<audio>?", path) for path in (small, large, small)))
    assert (one, three) == ("A", "A")
    found = parse_error(two)
    assert "the request has 0.21 MB, 0.1 are allowed, and was not sent" in found["problem"]
    assert "max_request_mb" in found["fix"]
    assert "send=flac" in found["fix"]
    assert found["file"] == large
    assert len(server.asked) == 2


def test_the_temperature_is_sent_unless_it_is_not_to_be(clip):
    with Listener() as server:
        ask(model(server), request("a"), request("b", temperature=0.7, do_sample=True))
        ask(model(server, send_temperature=False), request("a"), request("b", temperature=0.7))
        assert model(server).identity() != model(server, send_temperature=False).identity()
    assert [body.get("temperature") for body in server.asked] == [0.0, 0.7, None, None]


def test_a_refused_temperature_is_found_before_the_first_item(clip):
    def refuses(body):
        if "temperature" in body:
            return error(
                400, "Unsupported value: 'temperature' does not support 0 with this model."
            )
        return hears(body)

    with Listener() as server:
        hears = server._act
        server.script = [refuses]
        with pytest.raises(ConfigError, match="send_temperature=false"):
            ask(model(server), request("<audio>?", clip("a.wav")[0]))
        assert not server.asked
        lm = model(server, send_temperature=False)
        assert ask(lm, request("<audio>?", clip("a.wav")[0])) == ["A"]


def test_headers_and_query_go_with_every_request():
    with Listener() as server:
        server.models = ["tiny"]
        lm = model(
            server, headers='{"X-Team": "audio"}', query={"api-version": "2025-01-01", "n": 2}
        )
        assert ask(lm, request("a")) == ["A"]
    assert server.headers[0]["X-Team"] == "audio"
    assert server.requests[0][0] == "/v1/chat/completions?api-version=2025-01-01&n=2"


def test_a_key_that_may_not_list_models_may_still_ask_one():
    class Restricted(Listener):
        refused = 403

    with Restricted() as server:
        assert ask(model(server), request("a")) == ["A"]
        server.refused = 401
        with pytest.raises(ConfigError, match="refuses the key"):
            model(server)


def test_a_refusal_between_answers_is_one_items_error():
    def act(body):
        text = body["messages"][0]["content"]
        return error(403, "input was flagged") if text == "bad" else hears(body)

    with Listener() as server:
        hears = server._act
        server.script = [act]
        one, two, three = ask(model(server), request("a"), request("bad"), request("c"))
    assert (one, three) == ("A", "A")
    assert "input was flagged" in parse_error(two)["problem"]


def test_a_key_that_stays_refused_ends_the_run_after_twenty_items_with_the_way_on():
    def act(body):
        return hears(body) if body["messages"][0]["content"] == "first" else error(401, "expired")

    with Listener() as server:
        hears = server._act
        server.script = [act]
        questions = [request("first"), *(request(f"{number}") for number in range(40))]
        with pytest.raises(ConfigError, match="20 items in a row were refused.*--retry-errors"):
            ask(model(server), *questions)
    assert len(server.asked) == 21


# ---- how much goes whole -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "whole_s"),
    [
        ("gemini-2.5-flash", 34200.0),
        ("google/gemini-3.5-pro", 34200.0),
        ("gpt-audio-mini", 600.0),
        ("gpt-4o-mini-audio-preview", 600.0),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", 2400.0),
        ("qwen3.5-omni-plus", 36000.0),
        ("Qwen/Qwen2.5-Omni-7B", 300.0),
        ("Qwen/Qwen2-Audio-7B-Instruct", 30.0),
        ("mistralai/Voxtral-Mini-3B-2507", 2400.0),
        ("nvidia/audio-flamingo-3-hf", 600.0),
        ("nvidia/music-flamingo-hf", 1200.0),
        ("google/gemma-3n-E4B-it", 30.0),
        ("gpt-4o", None),
        ("my-own", None),
    ],
)
def test_models_are_known_by_their_names(name, whole_s):
    found = known_model(name)
    assert (found.whole_s if found else None) == whole_s


def test_every_known_length_has_a_public_source():
    assert all(entry.source.startswith(("https://", "arXiv:")) for entry in KNOWN_MODELS)
    assert all(entry.whole_s >= 30.0 for entry in KNOWN_MODELS)


@pytest.mark.parametrize(
    ("name", "arguments", "blocks", "source"),
    [
        ("gemini-2.5-flash", {}, 1, "https://ai.google.dev"),
        ("gemini-2.5-flash", {"whole_s": 15.0}, 3, "whole_s"),
        ("gemini-2.5-flash", {"long_audio": "windows"}, 2, "long_audio"),
        ("my-own", {}, 2, "default"),
    ],
)
def test_what_is_known_decides_how_much_goes_whole(clip, caplog, name, arguments, blocks, source):
    caplog.set_level("INFO")
    path, _ = clip("a.wav", 40.0)
    with Listener() as server:
        lm = model(server, model=name, **arguments)
        assert ask(lm, request("<audio>?", path)) == ["A"]
    assert len(sounds_of(server.asked[0])) == blocks
    info = lm.get_model_info()
    assert info["whole_s_from"].startswith(source)
    assert info["heard"]["seconds_heard"] == 40.0
    assert ("how much audio my-own takes at once is not known" in caplog.text) == (name == "my-own")
