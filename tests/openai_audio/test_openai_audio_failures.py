"""openai-audio: nothing that fails is taken for an answer."""

from __future__ import annotations

import json

import pytest
from listening_server import (
    Listener,
    error,
    is_check,
    text_with_marks,
)
from server_requests import ask, model, request

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import parse_error


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
        ("hang", "failed 3 times, last: no whole answer within 0.3 s", "see its log"),
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
        ((200, {}, b'{"choices": [{"message": {"content": "A"}, "finish_reason": "error"}]}'),
         "an error instead", "see its log"),
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


def test_what_nobody_foresaw_costs_its_item_and_ends_the_run_when_it_does_not_end(monkeypatch):
    with Listener() as server:
        lm = model(server)
        prepare = lm.prepare

        def fails(question, **options):
            if question.context.startswith("#"):
                raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")
            return prepare(question, **options)

        monkeypatch.setattr(lm, "prepare", fails)
        replies = ask(lm, request("a"), request("#"), request("b"))
        assert [parse_error(reply) is None for reply in replies] == [True, False, True]
        assert "UnicodeEncodeError" in parse_error(replies[1])["problem"]
        with pytest.raises(ConfigError, match="20 items in a row.*UnicodeEncodeError"):
            ask(lm, *(request(f"# {number}") for number in range(25)))
