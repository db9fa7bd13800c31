"""Judges: a server that misbehaves in every way, a tiny local model, and the cache."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from chat_standin import StandIn, answer, without_proxy

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import judges
from mmaupro_ext.offline.judges import ServerJudge
from mmaupro_ext.offline.judging import CachedJudge, Prompt, ask_all
from mmaupro_ext.replies import parse_error
from mmaupro_ext.server_settings import ServerSettings
from mmaupro_ext.store import Store

QUICK = ServerSettings(concurrency=4, timeout_s=2.0, tries=4, backoff_s=0.01, grace_s=2.0)
PACKAGE_PARENT = str(Path(judges.__file__).parents[2])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)


def prompts(count: int) -> list[Prompt]:
    return [Prompt("Be fair.", f"question {i}") for i in range(count)]


def echo(body):
    return answer("OVERALL: 4 " + body["messages"][-1]["content"])


def server_judge(stand_in, settings=QUICK, decoding="greedy", key=None):
    return ServerJudge(stand_in.url, "tiny", decoding, key, settings)


# --- requests ------------------------------------------------------------------------------------


def test_answers_come_back_in_the_order_of_the_prompts():
    with StandIn(echo) as stand_in:
        answers = ask_all(server_judge(stand_in), prompts(25))
    assert answers == [f"OVERALL: 4 question {i}" for i in range(25)]
    assert len(stand_in.requests) == 25
    assert stand_in.most_under_way <= QUICK.concurrency


def test_the_request_holds_the_official_parameters():
    with StandIn(echo) as stand_in:
        ask_all(server_judge(stand_in, decoding="sampled", key="secret"), prompts(1))
        ask_all(server_judge(stand_in), [Prompt(None, "q")])
    (path, sampled), (_, greedy) = stand_in.requests
    assert path == "/v1/chat/completions"
    assert sampled["messages"] == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "question 0"},
    ]
    assert (sampled["model"], sampled["max_tokens"], sampled["temperature"]) == ("tiny", 512, 0.1)
    assert (greedy["temperature"], greedy["seed"]) == (0.0, 0)
    assert greedy["messages"] == [{"role": "user", "content": "q"}]
    assert stand_in.headers[0]["Authorization"] == "Bearer secret"
    assert "Authorization" not in stand_in.headers[1]


# --- failures that pass --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        (500, {}, b"oops"),
        (503, {}, b""),
        (408, {}, b""),
        "hang",
        "reset",
        (200, {}, b'{"choices": ['),
        (200, {}, b'{"choices": []}'),
        (200, {}, b'{"choices": [{"message": {"content": null}}]}'),
        (200, {}, b"<html>"),
    ],
    ids=["500", "503", "408", "timeout", "reset", "cut-json", "no-choice", "no-text", "html"],
)
def test_a_passing_failure_is_tried_again_and_then_succeeds(failure):
    settings = ServerSettings(concurrency=1, timeout_s=0.3, tries=4, backoff_s=0.01, grace_s=1.0)
    with StandIn(failure, failure, echo) as stand_in:
        answers = ask_all(server_judge(stand_in, settings), prompts(1))
    assert answers == ["OVERALL: 4 question 0"]
    assert len(stand_in.requests) == 3


def test_retry_after_is_obeyed_by_every_worker():
    busy = (429, {"Retry-After": "1"}, b"")
    with StandIn(busy, echo) as stand_in:
        one_worker = ServerSettings(concurrency=1, tries=3, backoff_s=0.01)
        ask_all(server_judge(stand_in, one_worker), prompts(3))
    assert len(stand_in.requests) == 4
    assert stand_in.starts[1] - stand_in.starts[0] >= 1.0


@pytest.mark.parametrize("value", ["nonsense", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_an_unusable_retry_after_falls_back_on_the_backoff(value):
    with StandIn((429, {"Retry-After": value}, b""), echo) as stand_in:
        assert ask_all(server_judge(stand_in), prompts(1)) == ["OVERALL: 4 question 0"]


def test_a_server_that_never_recovers_gives_an_error_reply_after_the_stated_tries():
    with StandIn((500, {}, b"")) as stand_in:
        (reply,) = ask_all(server_judge(stand_in), prompts(1))
    error = parse_error(reply)
    assert "failed 4 times, last: status 500" in error["problem"]
    assert len(stand_in.requests) == 4


def test_a_refused_request_is_an_error_at_once_and_the_others_go_on():
    def refuse_first(body):
        first = body["messages"][-1]["content"] == "question 0"
        return (400, {}, b"prompt too long") if first else echo(body)

    with StandIn(refuse_first) as stand_in:
        first, second = ask_all(server_judge(stand_in), prompts(2))
    assert "status 400): prompt too long" in parse_error(first)["problem"]
    assert second == "OVERALL: 4 question 1"
    assert len(stand_in.requests) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "refuses the key.*MMAUPRO_JUDGE_KEY"), (404, "usually ends with /v1"), (302, "/v1")],
)
def test_a_server_that_refuses_everything_stops_the_run(status, message):
    headers = {"Location": "http://127.0.0.1:9/"}
    with StandIn((status, headers, b"")) as stand_in:
        judge = server_judge(stand_in, ServerSettings(concurrency=1, grace_s=1.0), key="secret")
        with pytest.raises(ConfigError, match=message):
            ask_all(judge, prompts(50))
    assert len(stand_in.requests) == 1


def test_nobody_listening_is_an_error_reply_that_names_the_address():
    judge = ServerJudge("http://127.0.0.1:9/v1", "m", "greedy", None, QUICK)
    (reply,) = ask_all(judge, prompts(1))
    assert "http://127.0.0.1:9/v1 failed 4 times" in parse_error(reply)["problem"]


def test_the_rate_limit_holds_for_repeated_requests_too():
    settings = ServerSettings(concurrency=8, per_minute=600.0, tries=3, backoff_s=0.0)
    with StandIn((500, {}, b""), (500, {}, b""), echo) as stand_in:
        begin = time.monotonic()
        answers = ask_all(server_judge(stand_in, settings), prompts(8))
    assert len(answers) == 8
    assert len(stand_in.requests) == 10
    # 600 a minute is one each 0.1 s: request n can reach the server no sooner than n x 0.1 s.
    for number, start in enumerate(sorted(stand_in.starts)):
        assert start - begin >= 0.1 * number


# --- cache ---------------------------------------------------------------------------------------


def test_a_finished_run_asks_nothing_a_second_time(tmp_path):
    with StandIn(echo) as stand_in:
        first = ask_all(CachedJudge(server_judge(stand_in), tmp_path), prompts(5))
        again = ask_all(CachedJudge(server_judge(stand_in), tmp_path), prompts(5))
        assert len(stand_in.requests) == 5
        ask_all(CachedJudge(server_judge(stand_in, decoding="sampled"), tmp_path), prompts(1))
    assert first == again
    assert len(stand_in.requests) == 6


def test_equal_prompts_are_asked_once(tmp_path):
    with StandIn(echo) as stand_in:
        answers = ask_all(CachedJudge(server_judge(stand_in), tmp_path), prompts(1) * 4)
    assert answers == ["OVERALL: 4 question 0"] * 4
    assert len(stand_in.requests) == 1


def test_a_failed_call_is_not_kept_and_is_asked_again(tmp_path):
    settings = ServerSettings(concurrency=1, tries=1)
    with StandIn((500, {}, b""), echo) as stand_in:
        (failed,) = ask_all(CachedJudge(server_judge(stand_in, settings), tmp_path), prompts(1))
        (later,) = ask_all(CachedJudge(server_judge(stand_in, settings), tmp_path), prompts(1))
    assert parse_error(failed) is not None
    assert later == "OVERALL: 4 question 0"


def test_a_damaged_entry_is_asked_again(tmp_path):
    with StandIn(echo) as stand_in:
        judge = CachedJudge(server_judge(stand_in), tmp_path)
        ask_all(judge, prompts(1))
        with sqlite3.connect(tmp_path / "store.sqlite") as connection:
            connection.execute("UPDATE entries SET value = 'OVER'")
        connection.close()
        assert ask_all(judge, prompts(1)) == ["OVERALL: 4 question 0"]
        assert ask_all(judge, prompts(1)) == ["OVERALL: 4 question 0"]
    assert len(stand_in.requests) == 2


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_asked(tmp_path):
    (tmp_path / "file").write_text("")
    with StandIn(echo) as stand_in:
        judge = CachedJudge(server_judge(stand_in), tmp_path / "file" / "cache")
        with pytest.raises(ConfigError, match="--judge-cache"):
            ask_all(judge, prompts(1))
    assert not stand_in.requests


INTERRUPTED = """
    import sys
    from mmaupro_ext.server_settings import ServerSettings
    from mmaupro_ext.offline.judges import ServerJudge
    from mmaupro_ext.offline.judging import CachedJudge, Prompt, ask_all
    judge = ServerJudge(sys.argv[1], "tiny", "greedy", None, ServerSettings(concurrency=2, grace_s=5))
    prompts = [Prompt("Be fair.", f"question {i}") for i in range(60)]
    try:
        ask_all(CachedJudge(judge, sys.argv[2]), prompts)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_loses_no_answer_that_was_asked_for(tmp_path):
    interrupted = threading.Event()

    def slow(body):
        interrupted.wait(0.1)  # well within the half second that Ctrl-C leaves to what is under way
        return echo(body)

    with StandIn(slow) as stand_in:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(INTERRUPTED), stand_in.url, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": PACKAGE_PARENT},
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while len(stand_in.requests) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        interrupted.set()
        asked = len(stand_in.requests)
        assert 5 <= asked < 60
        assert Store(tmp_path / "store.sqlite").count("verdict") == asked
        answers = ask_all(CachedJudge(server_judge(stand_in), tmp_path), prompts(60))
    assert answers == [f"OVERALL: 4 question {i}" for i in range(60)]
    assert len(stand_in.requests) == 60


# --- naming a judge ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpt-4", "names no judge. Write hf:NAME"),
        ("hf:", "names no judge"),
        ("http://localhost/v1", "--judge-model"),
    ],
)
def test_a_judge_that_is_named_wrongly_says_how_to_name_it(text, message):
    with pytest.raises(ConfigError, match=message):
        judges.load_judge(text, "greedy")


def test_the_key_is_read_from_the_environment_and_is_not_part_of_the_identity(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    judge = judges.load_judge("http://localhost/v1/", "greedy", "m", key_variable="SOME_KEY")
    assert judge._server.headers == {"Authorization": "Bearer secret"}
    assert "secret" not in json.dumps(judge.identity())
    assert judge.identity()["url"] == "http://localhost/v1"


def test_an_address_that_is_no_url_is_named():
    judge = ServerJudge("http://[::1/v1", "m", "greedy", None, QUICK)
    with pytest.raises(ConfigError, match="is no URL"):
        ask_all(judge, prompts(1))


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError, match="must be positive"):
        ServerSettings(concurrency=0)
