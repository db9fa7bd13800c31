"""openai-audio: the check before a run; concurrency, pace and caches."""

from __future__ import annotations

import threading

import pytest
from listening_server import (
    Listener,
    error,
    samples_of,
    sound_of,
    sounds_of,
)
from server_requests import RATE, ask, failing, model, request

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global Resumed, Settings, OpenAIAudioLM

    from mmaupro_ext.models.engines.openai import OpenAIAudioLM
    from mmaupro_ext.models.resuming import Resumed, Settings


# ---- the check -----------------------------------------------------------------------------------
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


# ---- concurrency, pace, caches -------------------------------------------------------------------
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


def test_a_second_run_asks_nothing_and_failures_are_asked_again_when_that_is_asked_for(
    clip, tmp_path
):
    path, _ = clip("a.wav")
    fine, fails = request("<audio>\nfine?", path), request("<audio>\nFAIL?", path)
    database = str(tmp_path / "kept")
    with Listener(reply=failing(error(400, "no"))) as server:
        first = Resumed(model(server), database).generate_until([fine, fails])
        assert parse_error(first[1]) is not None
        server.reply = lambda body: "C"
        assert Resumed(model(server), database).generate_until([fine, fails]) == first
        again = Resumed(model(server), database, Settings(retry_errors=True))
        second = again.generate_until([fine, fails])
        assert second == ["B", "C"]
        assert second[0].heard == first[0].heard
        assert len(server.asked) == 3
        before = len(server.requests)
        assert Resumed(model(server), database).generate_until([fine, fails]) == ["B", "C"]
        assert len(server.requests) == before


def test_ctrl_c_keeps_every_answer_that_arrived(clip, tmp_path):
    path, _ = clip("a.wav")
    requests = [request(f"<audio>\n{n}?", path, doc_id=n) for n in range(12)]
    database = str(tmp_path / "kept")
    with Listener() as server:
        cached = Resumed(model(server, concurrency=2), database)
        keep, arrived = cached.add_partial, []

        def interrupted(*entry):
            keep(*entry)
            arrived.append(entry)
            if len(arrived) == 4:
                raise KeyboardInterrupt

        cached.add_partial = interrupted
        with pytest.raises(KeyboardInterrupt):
            cached.generate_until(requests)
        asked = len(server.asked)
        assert 4 <= asked < 12
        assert len(arrived) == asked
        again = Resumed(model(server), database)
        assert again.generate_until(requests) == ["A"] * 12
        assert len(server.asked) == 12
