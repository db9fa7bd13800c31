"""The client of chat servers: what judges do not test of it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time

import pytest
from chat_standin import StandIn, answer, without_proxy

from mmaupro_ext import chat_stream
from mmaupro_ext.api_keys import ApiKey
from mmaupro_ext.chat_server import ChatServer, RequestFailedError
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.server_settings import ServerSettings, Wording

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


# ---- refusals, time and interruptions ------------------------------------------------------------


@pytest.mark.parametrize("status", [302, 401, 402, 403, 404, 405])
def test_a_refusal_before_the_first_answer_ends_everything(status):
    with StandIn((status, {}, b"no")) as stand_in:
        with pytest.raises(ConfigError, match=rf"status {status}\).*Check the (key|address)"):
            ask(server(stand_in.url), 5)
        assert len(stand_in.requests) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_after_an_answer_is_one_items_error(status):
    with StandIn(answer("one"), (status, {}, b"not this one"), answer("three")) as stand_in:
        one, two, three = ask(server(stand_in.url), 3)
    assert (one, three) == ("one", "three")
    assert f"status {status}" in two
    assert "not this one" in two


def test_refusals_in_a_row_end_everything_and_an_answer_begins_the_row_anew():
    refused = (403, {}, b"no")
    script = [answer("a"), refused, refused, answer("b"), refused, refused, refused, answer("c")]
    with StandIn(*script) as stand_in:
        chat = server(stand_in.url, patience=3)
        with pytest.raises(ConfigError, match="3 items in a row were refused.*Check the key"):
            ask(chat, 9)
        assert len(stand_in.requests) == 7


def test_a_server_that_drips_is_given_up_in_time():
    with StandIn("drip") as stand_in:
        begin = time.monotonic()
        (problem,) = ask(server(stand_in.url, timeout_s=0.5, tries=1), 1)
        # A byte comes each 50 ms for 10 s. Three times the bound: two cores are shared with others.
        assert time.monotonic() - begin < 1.5
    assert problem.endswith("last: no whole answer within 0.5 s")


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_ctrl_c_ends_hung_requests_within_a_second():
    with StandIn("hang") as stand_in:
        chat = server(stand_in.url, concurrency=4, timeout_s=600.0, grace_s=10.0)
        begin = []

        def interrupt():
            while stand_in.under_way < 4:
                time.sleep(0.01)
            begin.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            ask(chat, 8)
        # What is promised; half a second of it goes to answers under way.
        assert time.monotonic() - begin[0] < 1.0
        assert len(stand_in.requests) == 4


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process on Windows")
def test_ctrl_c_ends_a_hung_request_of_the_main_thread_at_once():
    with StandIn("hang") as stand_in, server(stand_in.url, timeout_s=600.0).session() as session:

        def interrupt():
            while not stand_in.under_way:
                time.sleep(0.01)
            begin.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        begin = []
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            session.complete({"messages": []}, text_of)
        assert time.monotonic() - begin[0] < 1.0


def test_a_closed_session_leaves_no_thread_waiting():
    with StandIn("hang") as stand_in:
        chat = server(stand_in.url, timeout_s=600.0, tries=1)
        raised = []

        def wait(session):
            try:
                session.complete({"messages": []}, text_of)
            except BaseException as error:
                raised.append(type(error).__name__)

        with chat.session() as session:
            thread = threading.Thread(target=wait, args=(session,), daemon=True)
            thread.start()
            while not stand_in.under_way:
                time.sleep(0.01)
        thread.join(1.0)
        assert not thread.is_alive()
    assert raised == ["StoppedError"]


def test_a_request_that_is_too_large_is_not_sent():
    with StandIn(answer("a")) as stand_in:
        chat = server(stand_in.url, largest_mb=0.001)
        large, small = {"messages": ["x" * 1200]}, {"messages": []}
        (problem,) = ask(chat, 1, large)
        assert problem == "the request has 0.00 MB, 0.001 are allowed, and was not sent"
        assert ask(chat, 1, small) == ["a"]
        assert len(stand_in.requests) == 1


@pytest.mark.parametrize("code", [400, "404", 402])
def test_an_error_under_status_200_counts_as_its_code(code):
    within = (200, {}, json.dumps({"error": {"code": code, "message": "not so"}}).encode())
    with StandIn(answer("a"), within, answer("c")) as stand_in:
        first, second, third = ask(server(stand_in.url), 3)
        assert len(stand_in.requests) == 3
    assert (first, third) == ("a", "c")
    assert f"status {code}" in second
    assert "not so" in second


# ---- streams -------------------------------------------------------------------------------------


def stream(*chunks, last="data: [DONE]\n\n"):
    """An answer in server-sent events, as one stand-in sends it."""
    text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + last
    return 200, {"Content-Type": "text/event-stream; charset=utf-8"}, text.encode()


def delta(finish=None, **fields):
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def test_a_stream_is_put_together_with_thoughts_text_and_counts_apart():
    chunks = (
        delta(role="assistant", content=""),
        delta(reasoning_content="hm, "),
        delta(reasoning_content="B?"),
        delta(content="The "),
        {"choices": [{"index": 1, "delta": {"content": "another"}, "finish_reason": "stop"}]},
        delta(content="answer\u2028é"),
        delta(finish="length"),
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    )
    found = chat_stream.assembled(stream(*chunks)[2])
    (choice,) = found["choices"]
    assert choice["message"]["content"] == "The answer\u2028é"
    assert choice["message"]["reasoning_content"] == "hm, B?"
    assert choice["finish_reason"] == "length"
    assert found["usage"]["prompt_tokens"] == 7


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_comments_other_fields_and_any_line_end_are_read_as_the_format_says(end):
    lines = [
        ": PROCESSING", "", "event: message", "id: 4",
        'data: {"choices": [{"delta": {"content": "A"},', 'data:"finish_reason": "stop"}]}', "",
        "data: [DONE]", "", "data: garbage", "",
    ]  # fmt: skip
    found = chat_stream.assembled(end.join(lines).encode())
    assert found["choices"][0]["message"]["content"] == "A"


@pytest.mark.parametrize(
    "broken",
    [
        stream(delta(content="half an ans"), last=""),
        stream(delta(content="half an ans")),
        stream(delta(content="half"), {"error": {"message": "upstream died"}}),
        stream(delta(content="half"), {"choices": [{"delta": {}, "error": {"message": "died"}}]}),
        stream(delta(content="half"), last='data: {"choices": [{"del'),
        stream(delta(content="half"), last='error: {"code": 500}\n\n'),
        stream(last=""),
        "break",
    ],
    ids=["cut", "no-finish", "error", "choice", "json", "field", "empty", "connection"],
)
def test_a_stream_that_breaks_off_is_asked_for_again_and_never_half_an_answer(broken):
    with StandIn(broken, broken, stream(delta(content="whole", finish="stop"))) as stand_in:
        assert ask(server(stand_in.url), 1, {"messages": [], "stream": True}) == ["whole"]
        assert len(stand_in.requests) == 3


# ---- keys ----------------------------------------------------------------------------------------


def with_key(url, key, **options):
    quick = ServerSettings(concurrency=1, tries=2, backoff_s=0.01, grace_s=1.0)
    return ChatServer(url, "m", key=key, settings=quick, wording=WORDING, **options)


def test_a_key_that_expires_is_read_anew_and_the_request_sent_again(tmp_path):
    path = tmp_path / "key"
    path.write_text("first-key-of-mine\n")

    def act(body):
        if stand_in.headers[-1]["Authorization"].endswith("first-key-of-mine"):
            path.write_text("\ufeffsecond-key-of-mine\r\n", encoding="utf-8")
            return 401, {}, b"expired"
        return answer("heard")

    with StandIn(act) as stand_in:
        assert ask(with_key(stand_in.url, ApiKey.of_file(str(path))), 2) == ["heard", "heard"]
    sent = [headers["Authorization"] for headers in stand_in.headers]
    assert sent == ["Bearer first-key-of-mine", *["Bearer second-key-of-mine"] * 2]


def test_a_command_prints_the_key_and_is_run_once_a_refusal(tmp_path):
    log = tmp_path / "log"
    script = f"import time; open({str(log)!r}, 'a').write('x'); print('key-of-mine')"
    key = ApiKey.of_command(shlex.join([sys.executable, "-c", script]))
    with StandIn(answer("a"), (401, {}, b""), answer("b")) as stand_in:
        chat = with_key(stand_in.url, key, key_header="api-key")
        one, two, three = ask(chat, 3)
    assert (one, three) == ("a", "b")
    assert "status 401" in two  # the same key again: not asked again
    assert log.read_text() == "xx"
    assert stand_in.headers[0]["api-key"] == "key-of-mine"
    assert "Authorization" not in stand_in.headers[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ApiKey.fixed("sk-one\nsk-two-of-mine"), "not one word of printable ASCII"),
        (lambda: ApiKey.fixed("sk-of-mïne"), "not one word of printable ASCII"),
        (lambda: ApiKey.of_command("false"), "printed no key .exit status 1"),
        (lambda: ApiKey.of_command("no-such-command-anywhere"), "cannot be run"),
        (lambda: ApiKey.of_command("echo 'sk-of-mine"), "cannot be run"),
        (lambda: ApiKey.of_file("/no/such/file"), "cannot be read: No such file"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_shown(make, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        make()
    assert "of-m" not in str(refusal.value)


def test_white_space_around_a_key_is_no_part_of_it():
    assert ApiKey.fixed(" sk-of-mine\r\n").value == "sk-of-mine"


@pytest.mark.parametrize(
    "url",
    ["http://me:sk-mine@h/v1", "https://h/v1?key=sk-mine", "https://h/v1#sk-mine", "me:sk-mine@h"],
)
def test_an_address_with_a_secret_is_refused_and_not_shown(url):
    with pytest.raises(
        ConfigError, match="take name and password, query and fragment out"
    ) as error:
        server(url)
    assert "sk-mine" not in str(error.value)


@pytest.mark.parametrize(
    "headers", [{"X-Key": "sk-of-mine\nX: y"}, {"X Key": "sk-of-mine"}, {"X": "sk-of-mïne"}]
)
def test_a_header_that_cannot_be_sent_is_refused_and_not_shown(headers):
    with pytest.raises(ConfigError, match="no header that can be sent") as error:
        with_key("http://127.0.0.1:9/v1", None, headers=headers)
    assert "sk-of" not in str(error.value)


def test_a_key_that_a_server_echoes_is_in_no_answer_and_no_problem():
    secret = "sk-of/mine-and-mine"  # the slash is escaped in some JSON

    def echo(status, body):
        return status, {}, body.replace(b"SECRET", secret.replace("/", "\\/").encode())

    with StandIn(
        echo(200, b'{"choices": [{"message": {"content": "You are SECRET!"}}]}'),
        echo(400, b'{"error": {"message": "what is SECRET"}}'),
        echo(401, b'{"error": {"message": "no: Bearer SECRET"}}'),
        (500, {}, f"trace of {secret}".encode()),
        (500, {}, f"trace of {secret}".encode()),
        echo(200, b'{"choices": "SECRET"}'),
        echo(200, b'{"choices": "SECRET"}'),
        stream(delta(content=secret[:7]), delta(content=secret[7:], finish="stop")),
    ) as stand_in:
        told = ask(with_key(stand_in.url, ApiKey.fixed(secret)), 6)
    assert told[0] == "You are ***!"
    assert told[5] == "***"
    assert all("mine" not in text for text in told)
    assert sum("***" in text for text in told) == 5
