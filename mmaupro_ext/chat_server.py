"""A client for servers that speak OpenAI's chat protocol: patient, paced, and exact about failures.

Judges (`offline.judges`) and models behind a server (`models.engines.openai`) share it. It knows
nothing of what is asked: callers bring the body of each request and read the answer.

A little over 400 lines: what is tried again, what is an error and what ends everything is read together.
"""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from mmaupro_ext import fan_out
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.fan_out import Pace, StoppedError
from mmaupro_ext.util import retry_after

logger = logging.getLogger(__name__)

T = TypeVar("T")

PASSING_STATUSES = (408, 409, 425, 429)
CONNECT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class ServerSettings:
    """How a server is treated.

    Attributes
    ----------
    concurrency : int
        Requests under way at a time.
    per_minute : float or None
        Requests started per minute at most, repeated ones included; None for no limit.
    timeout_s : float
        Seconds until a request without an answer counts as failed.
    tries : int
        Requests per item at most.
    backoff_s, longest_wait_s : float
        Seconds before the second try, doubled before each further one and varied by a quarter, and
        their maximum; a server's Retry-After is obeyed up to the same maximum.
    grace_s : float
        Seconds that an interrupted run waits for the answers already under way.
    patience : int
        Items in a row without any answer of the server, after which it counts as gone: each further
        item is tried once only, until the server answers again.
    """

    concurrency: int = 8
    per_minute: float | None = None
    timeout_s: float = 120.0
    tries: int = 6
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0
    grace_s: float = 10.0
    patience: int = 20

    def __post_init__(self) -> None:
        positive = (
            self.concurrency,
            self.timeout_s,
            self.tries,
            self.longest_wait_s,
            self.patience,
            1.0 if self.per_minute is None else self.per_minute,
        )
        if min(positive) <= 0 or self.backoff_s < 0 or self.grace_s < 0:
            raise ConfigError(f"the settings of a server must be positive: {self}")


@dataclass(frozen=True)
class Wording:
    """How messages call a server, and what the user can do about it.

    Attributes
    ----------
    name : str
        For example "the judge".
    key_fix, address_fix : str
        Sentences for a refused key, and for an address or a model that does not exist.
    """

    name: str
    key_fix: str
    address_fix: str


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
    tried again with exponential backoff; other statuses make the item an error. A server that
    refuses the key or does not know the address stops everything.

    Parameters
    ----------
    url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    key : str, optional
        Sent as a bearer token to this address only; redirections are not followed.
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
        When the address cannot be used.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        settings: ServerSettings | None = None,
        wording: Wording,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(
                f"the address of {wording.name} must begin with http:// or https://: {url!r}"
            )
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self.model = model
        self.settings = settings or ServerSettings()
        self.wording = wording
        self.requests = self.retries = 0
        self._key = key
        self._unanswered = 0
        self._lock = threading.Lock()

    def session(self) -> Session:
        """Return a session for one set of requests, to be used in a `with` statement."""
        return Session(self)

    def served_models(self) -> list[str] | None:
        """Return the names under ``GET {url}/models``, None where the server has no such list.

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

    @property
    def tries(self) -> int:
        """How often an item is tried: once where the server seems gone."""
        return 1 if self._unanswered >= self.settings.patience else self.settings.tries

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}


class Session:
    """One set of requests to a server, with its connections, pace and end.

    Parameters
    ----------
    server : ChatServer
        Whom to ask.
    """

    def __init__(self, server: ChatServer) -> None:
        http = _http()
        settings = server.settings
        self.server = server
        self._stop = threading.Event()
        self._pace = Pace(settings.per_minute, self._stop)
        self._client = http.Client(
            timeout=http.Timeout(
                settings.timeout_s, connect=min(settings.timeout_s, CONNECT_TIMEOUT_S)
            ),
            limits=http.Limits(max_connections=settings.concurrency + 1),
            headers=server.headers,
            follow_redirects=False,
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._client.close()

    def each(self, count: int, work: Callable[[int], T], keep: Callable[[int, T], None]) -> None:
        """Do a piece of work per item in several threads; see `fan_out.each`.

        `work` calls `complete`; after an interruption the answers under way are given time to arrive.
        """
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
            The parsed answer -> what the caller wants of it. A ValueError, KeyError, IndexError or
            TypeError says that the answer is malformed, and the request is repeated.
        tries : int, optional
            Instead of those of the settings.

        Returns
        -------
        object
            What `read` returns.

        Raises
        ------
        RequestFailedError
            When this request got no usable answer.
        StoppedError
            When the session ended meanwhile.
        ConfigError
            When the server refuses everything.
        """
        server = self.server
        # Escapes keep any text that Python can hold, and audio is ASCII as it is.
        body = json.dumps({"model": server.model, **parameters}).encode("ascii")
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
                logger.debug(
                    "%s %s, try %d: %s", server.wording.name, server.url, attempt + 1, problem
                )
                if attempt + 1 < tries:
                    self._wait(attempt, failure.wait_s)
            else:
                server.note_answer(True)
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
        server, wording = self.server, self.server.wording
        response = self._send("POST", "/chat/completions", body)
        status = response.status_code
        if status in PASSING_STATUSES or status >= 500:
            said = _shortened(response.text)
            raise _PassingError(
                f"status {status}" + (f": {said}" if said else ""),
                retry_after(response.headers.get("retry-after")),
            )
        self._refuse_key(status)
        if status == 404 or 300 <= status < 400:
            raise ConfigError(
                f"there is no {server.url}/chat/completions or no model {server.model!r} (status "
                f"{status}). {wording.address_fix}"
            )
        if status != 200:
            server.note_answer(True)
            raise RequestFailedError(
                f"{wording.name} at {server.url} refused the request (status {status}): "
                f"{_shortened(response.text)}",
                status,
                response.text,
            )
        try:
            return read(response.json())
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise _PassingError(f"malformed answer ({error!r})") from error

    def _send(self, method: str, path: str, body: bytes | None = None) -> Any:
        http = _http()
        headers = {"Content-Type": "application/json"} if body is not None else {}
        events: list[str] = []
        while True:
            events.clear()
            try:
                return self._client.request(
                    method,
                    f"{self.server.url}{path}",
                    content=body,
                    headers=headers,
                    extensions={"trace": lambda event, _: events.append(event)},
                )
            except http.InvalidURL as error:
                raise ConfigError(
                    f"the address of {self.server.wording.name}, {self.server.url!r}, is no URL "
                    f"({error})"
                ) from error
            except http.HTTPError as error:
                # A server may close a connection that was kept from the request before (uvicorn does
                # after an error of the application), just as the next request goes out on it. That
                # is no failure: it goes out again, on the next one kept or, at last, on a new one.
                is_lost = isinstance(
                    error, (http.ReadError, http.WriteError, http.RemoteProtocolError)
                )
                if is_lost and not any("connect_tcp" in event for event in events):
                    continue
                problem = f"{type(error).__name__}: {error}"
                raise _PassingError(problem, answered=False) from error

    def _refuse_key(self, status: int) -> None:
        if status in (401, 403):
            raise ConfigError(
                f"{self.server.wording.name} at {self.server.url} refuses the key (status "
                f"{status}). {self.server.wording.key_fix}"
            )

    def served_models(self) -> list[str] | None:
        """Return the names that the server lists; see `ChatServer.served_models`."""
        try:
            response = self._send("GET", "/models")
        except _PassingError as error:
            raise ConfigError(
                f"{self.server.wording.name} at {self.server.url} does not answer ({error}). "
                f"Start it first. {self.server.wording.address_fix}"
            ) from error
        self._refuse_key(response.status_code)
        try:
            return [str(entry["id"]) for entry in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            return None


def _http() -> Any:
    """Return the HTTP library that the installed huggingface_hub brings: httpx2 or httpx."""
    try:
        import httpx2 as http
    except ImportError:
        try:
            import httpx as http  # type: ignore[no-redef]
        except ImportError as error:
            raise ConfigError(
                "a model behind a server needs httpx2 or httpx: pip install httpx"
            ) from error
    return http


def _shortened(text: str) -> str:
    return " ".join(text.split())[:300]
