"""A client for servers that speak OpenAI's chat protocol: patient, paced, and exact about failures.

Judges (`offline.judges`) and models behind a server (`models.engines.openai`) share it. It knows
nothing of what is asked: callers bring the body of each request and read the answer. What travels, and
for how long, is `connections`' affair.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmaupro_ext import chat_stream, fan_out
from mmaupro_ext.api_keys import ApiKey
from mmaupro_ext.connections import Connection, ConnectionFailedError, Response, http_library
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.fan_out import Pace, StoppedError
from mmaupro_ext.masking import masked
from mmaupro_ext.server_settings import ServerSettings, Wording, checked_address, checked_headers
from mmaupro_ext.util import retry_after

logger = logging.getLogger(__name__)

T = TypeVar("T")

PASSING_STATUSES = (408, 409, 425, 429)
TOO_LARGE = 413
# What may be wrong with every request: the key, the account; the address, the model.
KEY_STATUSES, ADDRESS_STATUSES = (401, 402, 403), (404, 405, 410)
BEARER = "Authorization"
_SHOWN_LETTERS = 300


class RequestFailedError(Exception):
    """A request that got no usable answer, though others may.

    Parameters
    ----------
    problem : str
        What happened, in one clause.
    status : int or None
        The status of a request that the server refused; None after the last try of one that failed.
    text : str
        What the server wrote.
    """

    def __init__(self, problem: str, status: int | None = None, text: str = "") -> None:
        super().__init__(problem)
        self.problem, self.status, self.text = problem, status, text


class _PassingError(Exception):
    """A failure that may pass; `wait_s` is what the server asked for, if anything."""

    def __init__(self, problem: str, wait_s: float | None = None, answered: bool = True) -> None:
        super().__init__(problem)
        self.wait_s, self.answered = wait_s, answered


class ChatServer:
    """A model behind ``POST {url}/chat/completions``.

    Timeouts, broken connections, malformed answers and the statuses 408, 409, 425, 429 and 5xx are
    tried again with exponential backoff; other statuses make the item an error. A refused key, account,
    address or model stops everything before the first answer, or after `patience` items in a row.

    Parameters
    ----------
    url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    key : ApiKey, optional
        Sent to this address only; redirections are not followed. A 401 has it read anew, once.
    key_header : str
        The header with the key: "Authorization" as a bearer token, any other as it is.
    headers, query : mapping, optional
        What else each request carries. Headers are secrets (`masking`).
    settings : ServerSettings, optional
        Concurrency, rate, timeouts.
    wording : Wording
        For messages.

    Attributes
    ----------
    requests, retries : int
        How many requests were sent, and how many of them repeated an earlier one.

    Raises
    ------
    ConfigError
        When the address or a header cannot be used.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: ApiKey | None = None,
        key_header: str = BEARER,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        settings: ServerSettings | None = None,
        wording: Wording,
    ) -> None:
        self.url = checked_address(url, wording.name)
        self.model = model
        self.key = key or ApiKey.fixed(None)
        self.query = {name: str(value) for name, value in (query or {}).items()}
        self.settings = settings or ServerSettings()
        self.wording = wording
        self.requests = self.retries = 0
        self._key_header = key_header
        self._headers = checked_headers(headers or {}, key_header)
        self._unanswered = self._refused = 0
        self._has_answered = False
        self._lock = threading.Lock()

    def session(self) -> Session:
        """Return a session for one set of requests, to be used in a `with` statement."""
        return Session(self)

    def served_models(self) -> list[str] | None:
        """Return the names under ``GET {url}/models``, None where the server shows no such list.

        Raises
        ------
        ConfigError
            When nobody answers there, or the key is refused.
        """
        with self.session() as session:
            return session.served_models()

    def count(self, *, again: bool) -> None:
        """Note that a request is sent."""
        with self._lock:
            self.requests += 1
            self.retries += again

    def note_answer(self, answered: bool) -> None:
        """Note whether the server has answered an item at all."""
        with self._lock:
            self._unanswered = 0 if answered else self._unanswered + 1
            if self._unanswered == self.settings.patience:
                logger.error(
                    "%s at %s has not answered %d items in a row: further items are tried once only",
                    self.wording.name,
                    self.url,
                    self.settings.patience,
                )

    def note_served(self) -> None:
        """Note that the server takes the key and knows the model."""
        with self._lock:
            self._has_answered, self._refused = True, 0
        self.note_answer(True)

    def note_refusal(self, problem: str, fix: str) -> None:
        """Note an item whose key, address or model was refused.

        Raises
        ------
        ConfigError
            When nothing was answered before, or it is the last of `patience` items in a row.
        """
        with self._lock:
            self._refused += 1
            if not self._has_answered:
                raise ConfigError(f"{problem}. {fix}")
            if self._refused >= self.settings.patience:
                said = f"{self._refused} items in a row were refused, the last: {problem}. {fix}"
                raise ConfigError(f"{said} {self.wording.refused_fix}".rstrip())

    @property
    def tries(self) -> int:
        """How often an item is tried: once where the server seems gone."""
        return 1 if self._unanswered >= self.settings.patience else self.settings.tries

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries, with the key as it is now."""
        key = self.key.value
        if not key:
            return self._headers
        value = f"Bearer {key}" if self._key_header.lower() == BEARER.lower() else key
        return {self._key_header: value, **self._headers}


class Session:
    """One set of requests to a server, with its connections, pace and end.

    Parameters
    ----------
    server : ChatServer
        Whom to ask.
    """

    def __init__(self, server: ChatServer) -> None:
        self.server = server
        self._stop = threading.Event()
        self._pace = Pace(server.settings.per_minute, self._stop)
        self._verify = http_library().create_ssl_context()
        self._own = threading.local()
        self._connections: list[Connection] = []

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for connection in self._connections:
            connection.cut()

    def each(self, count: int, work: Callable[[int], T], keep: Callable[[int, T], None]) -> None:
        """Do a piece of work per item in several threads, with `complete`; see `fan_out.each`."""
        settings = self.server.settings
        fan_out.each(
            count,
            work,
            keep,
            threads=settings.concurrency,
            stop=self._stop,
            grace_s=settings.grace_s,
        )

    def complete(
        self, parameters: Mapping[str, Any], read: Callable[[Any], T], tries: int | None = None
    ) -> T:
        """Ask for one completion, again where a failure may pass.

        Parameters
        ----------
        parameters : mapping
            The body of the request besides the model's name, with ``messages``.
        read : callable
            The parsed answer, without secrets -> what the caller wants of it. A ValueError, KeyError,
            IndexError or TypeError says that the answer is malformed, and the request is repeated.
        tries : int, optional
            Instead of those of the settings.

        Returns
        -------
        object
            What `read` returns.

        Raises
        ------
        RequestFailedError
            When this request got no usable answer, or is too large to be sent.
        StoppedError
            When the session ended meanwhile.
        ConfigError
            When the server refuses everything.
        """
        server = self.server
        # Escapes keep any text that Python can hold, and audio is ASCII as it is.
        body = json.dumps({"model": server.model, **parameters}).encode("ascii")
        size, largest = len(body) / 1e6, server.settings.largest_mb
        if largest is not None and size > largest:
            problem = f"the request has {size:.2f} MB, {largest:g} are allowed, and was not sent"
            raise RequestFailedError(problem, TOO_LARGE)
        problem = ""
        answered = True
        tries = tries or server.tries
        for attempt in range(tries):
            self._pace.wait()
            if self._stop.is_set():
                raise StoppedError
            try:
                server.count(again=attempt > 0)
                answer = self._request(body, read)
            except _PassingError as failure:
                problem, answered = str(failure), failure.answered
                logger.debug("%s, try %d: %s", server.url, attempt + 1, problem)
                if attempt + 1 < tries:
                    self._wait(attempt, failure.wait_s)
            else:
                server.note_served()
                return answer
        if self._stop.is_set():
            raise StoppedError
        server.note_answer(answered)
        times = "once" if tries == 1 else f"{tries} times"
        raise RequestFailedError(
            f"{server.wording.name} at {server.url} failed {times}, last: {problem}"
        )

    def _wait(self, attempt: int, asked_s: float | None) -> None:
        settings = self.server.settings
        wait = settings.backoff_s * 2**attempt * random.uniform(0.75, 1.25)
        if asked_s is not None:
            wait = max(wait, asked_s)
            self._pace.hold(min(asked_s, settings.longest_wait_s))
        self._stop.wait(min(wait, settings.longest_wait_s))

    def _request(self, body: bytes, read: Callable[[Any], T]) -> T:
        key = self.server.key.value
        response = self._send("POST", "/chat/completions", body)
        if response.status == 401 and self.server.key.renew(key):
            self.server.count(again=True)
            response = self._send("POST", "/chat/completions", body)
        if response.status != 200:
            raise self._failure(response.status, response)
        try:
            answer = masked(_parsed(response))
            status = _status_within(answer)
            if status is None:
                return read(answer)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            problem = masked(f"malformed answer ({error!r}")[:_SHOWN_LETTERS] + ")"
            raise _PassingError(problem) from None
        raise self._failure(status, response)

    def _failure(self, status: int, response: Response) -> Exception:
        """Return what to raise for a status; raise ConfigError where everything is refused."""
        server, wording = self.server, self.server.wording
        said = response.said()
        told = f": {said[:_SHOWN_LETTERS]}" if said else ""
        if status in PASSING_STATUSES or status >= 500:
            wait_s = retry_after(response.headers.get("retry-after"))
            return _PassingError(f"status {status}{told}", wait_s)
        what, fix = "refused the request", ""
        if status in KEY_STATUSES:
            what, fix = "refuses the key or the account", wording.key_fix
        elif status in ADDRESS_STATUSES or 300 <= status < 400:
            what = f"has no /chat/completions there or no model {server.model!r}"
            fix = wording.address_fix
        problem = f"{wording.name} at {server.url} {what} (status {status}){told}"
        server.note_answer(True)
        if fix:
            server.note_refusal(problem, fix)
        return RequestFailedError(problem, status, said)

    def _send(self, method: str, path: str, body: bytes | None = None) -> Response:
        server = self.server
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = Connection(self._verify)
            self._connections.append(connection)
        json_type = {"Content-Type": "application/json"} if body is not None else {}
        try:
            return connection.send(
                method,
                f"{server.url}{path}",
                body=body,
                headers={**json_type, **server.headers},
                query=server.query,
                timeout_s=server.settings.timeout_s,
            )
        except ConnectionFailedError as error:
            raise _PassingError(str(error), answered=False) from error

    def served_models(self) -> list[str] | None:
        """Return the names that the server lists; see `ChatServer.served_models`."""
        wording = self.server.wording
        key = self.server.key.value
        try:
            response = self._send("GET", "/models")
            if response.status == 401 and self.server.key.renew(key):
                response = self._send("GET", "/models")
        except _PassingError as error:
            raise ConfigError(
                f"{wording.name} at {self.server.url} does not answer ({error}). "
                f"Start it first. {wording.address_fix}"
            ) from error
        # 403 is what keys get that may ask a model, and not list them.
        if response.status == 401:
            raise ConfigError(
                f"{wording.name} at {self.server.url} refuses the key (status 401). {wording.key_fix}"
            )
        try:
            return [str(entry["id"]) for entry in masked(json.loads(response.content))["data"]]
        except (ValueError, KeyError, TypeError):
            return None


def _parsed(response: Response) -> Any:
    if response.headers.get("content-type", "").startswith(chat_stream.CONTENT_TYPE):
        return chat_stream.assembled(response.content)
    return json.loads(response.content)


def _status_within(answer: Any) -> int | None:
    """Return the status of an error that a server sent under status 200, as OpenRouter does."""
    error = answer.get("error") if isinstance(answer, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    with contextlib.suppress(TypeError, ValueError):
        status = int(code)  # type: ignore[arg-type]
        return status if 400 <= status < 600 else None
    return None
