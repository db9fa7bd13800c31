"""The client of chat servers: what judges do not test of it."""

from __future__ import annotations

import json
import threading
import time

import pytest
from chat_standin import StandIn, answer, without_proxy

from mmaupro_ext.chat_server import ChatServer, RequestFailedError, ServerSettings, Wording
from mmaupro_ext.errors import ConfigError

WORDING = Wording("the server", "Check the key.", "Check the address.")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)


def server(url, **settings):
    quick = {"concurrency": 1, "timeout_s": 2.0, "tries": 4, "backoff_s": 0.01, "grace_s": 1.0}
    return ChatServer(url, "m", settings=ServerSettings(**quick | settings), wording=WORDING)


def text_of(body):
    return body["choices"][0]["message"]["content"]


def ask(chat, count, parameters=None):
    """Ask `count` times and return what came, failures as their problem."""
    answers = {}
    with chat.session() as session:

        def work(number):
            try:
                return session.complete(parameters or {"messages": []}, text_of)
            except RequestFailedError as failure:
                return failure.problem

        session.each(count, work, answers.__setitem__)
    return [answers[number] for number in range(count)]


def test_a_kept_connection_that_the_server_closes_costs_no_try():
    with StandIn(answer("one"), "reset", answer("two"), "reset") as stand_in:
        chat = server(stand_in.url, tries=1)
        one, two, three = ask(chat, 3)
        assert (one, two) == ("one", "two")
        assert "failed once" in three  # on the new connection, too
        assert len(stand_in.requests) == 5
        assert chat.requests == 3


def test_a_server_that_is_gone_costs_one_try_an_item_and_may_come_back():
    back = threading.Event()

    def act(body):
        return answer("here")

    with StandIn("reset") as stand_in:
        chat = server(stand_in.url, patience=3)
        problems = ask(chat, 5)
        assert len(stand_in.requests) == 3 * 4 + 2
        assert "failed 4 times" in problems[0]
        assert "failed once" in problems[4]
        stand_in.script = [act]
        back.set()
        assert ask(chat, 1) == ["here"]
        assert chat.tries == 4


def test_a_server_that_answers_with_errors_is_not_gone():
    with StandIn((500, {}, b"out of memory")) as stand_in:
        chat = server(stand_in.url, patience=2, tries=2)
        problems = ask(chat, 4)
    assert len(stand_in.requests) == 8
    assert problems[3].endswith("failed 2 times, last: status 500: out of memory")


def test_requests_and_repeats_are_counted():
    with StandIn((503, {}, b""), answer("a"), answer("b")) as stand_in:
        chat = server(stand_in.url)
        assert ask(chat, 2) == ["a", "b"]
    assert (chat.requests, chat.retries) == (3, 1)


def test_text_that_is_no_unicode_is_sent_and_does_not_end_the_run():
    with StandIn(answer("fine")) as stand_in:
        chat = server(stand_in.url)
        assert ask(chat, 1, {"messages": [{"role": "user", "content": "a \ud800 b é"}]}) == ["fine"]
    assert stand_in.requests[0][1]["messages"][0]["content"] == "a \ud800 b é"


def test_a_refusal_carries_status_and_words():
    words = json.dumps({"error": {"message": "At most 1 audio(s)"}}).encode()
    with (
        StandIn((400, {}, words)) as stand_in,
        server(stand_in.url).session() as session,
        pytest.raises(RequestFailedError) as refusal,
    ):
        session.complete({"messages": []}, text_of)
    assert refusal.value.status == 400
    assert "At most 1 audio" in refusal.value.text


def test_more_workers_than_the_usual_pool_of_connections_holds():
    let_go = threading.Event()

    def wait(body):
        let_go.wait(20)
        return answer("late")

    with StandIn(wait) as stand_in:
        chat = server(stand_in.url, concurrency=130, timeout_s=20.0)
        results = []
        thread = threading.Thread(target=lambda: results.extend(ask(chat, 130)))
        thread.start()
        deadline = time.monotonic() + 20
        while stand_in.under_way < 130 and time.monotonic() < deadline:
            time.sleep(0.02)
        let_go.set()
        thread.join(30)
    assert stand_in.most_under_way == 130
    assert results == ["late"] * 130


def test_the_models_of_a_server_are_listed_where_it_lists_them():
    with StandIn(answer("a")) as stand_in:
        assert server(stand_in.url).served_models() is None
        stand_in.models = ["one", "two"]
        assert server(stand_in.url).served_models() == ["one", "two"]


def test_nobody_listening_is_said_at_once():
    with pytest.raises(ConfigError, match="does not answer.*Start it first"):
        server("http://127.0.0.1:9/v1").served_models()


def test_what_work_raises_ends_everything():
    with StandIn(answer("a")) as stand_in, server(stand_in.url).session() as session:

        def work(number):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            session.each(3, work, lambda *_: None)
