"""One HTTP connection whose requests take no longer than they may, and that another thread can cut.

The libraries bound each wait for the next bytes, so that a server that sends a byte a second is never
late. Here a clock runs for a request as a whole, and shuts the socket down when it is over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmaupro_ext import masking
from mmaupro_ext.errors import ConfigError

CONNECT_TIMEOUT_S = 30.0
_LIBRARIES = ("httpx2", "httpx", "httpcore2", "httpcore")
_PARTS = ("", ".connection", ".http11", ".http2", ".proxy", ".socks")


class ConnectionFailedError(Exception):
    """A request without an answer; the text says what happened."""


class _CutError(Exception):
    """Raised where a connection is made just after it was cut."""


@dataclass(frozen=True)
class Response:
    """What came back: the status, the headers with names in lower case, and all of the body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def said(self) -> str:
        """Return what the server wrote in one line, without secrets, those with escapes of JSON too."""
        text = self.content.decode("utf-8", "replace")
        with contextlib.suppress(ValueError):
            text = json.dumps(masking.masked(json.loads(text)), ensure_ascii=False)
        return " ".join(masking.masked(text).split())


def http_library() -> Any:
    """Return the HTTP library that the installed huggingface_hub brings: httpx2 or httpx.

    Raises
    ------
    ConfigError
        When there is neither.
    """
    try:
        import httpx2 as http
    except ImportError:
        try:
            import httpx as http  # type: ignore[no-redef]
        except ImportError as error:
            raise ConfigError(
                "a model behind a server needs httpx2 or httpx: pip install httpx"
            ) from error
    for library in _LIBRARIES:
        for part in _PARTS:  # their loggers, which may show headers and addresses
            logging.getLogger(library + part).addFilter(_MASKING)
    return http


_MASKING = masking.Masking()


class Connection:
    """A connection to one server, kept from one request to the next; for one thread at a time.

    Parameters
    ----------
    verify : object
        The TLS context, which connections share because it takes long to make.
    """

    def __init__(self, verify: Any) -> None:
        self._http = http_library()
        self._client = self._http.Client(
            limits=self._http.Limits(max_connections=1), follow_redirects=False, verify=verify
        )
        self._lock = threading.Lock()
        self._socket: Any = None
        self._under_way = self._is_late = self._is_cut = False

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        timeout_s: float,
    ) -> Response:
        """Send a request and return all of the answer.

        Parameters
        ----------
        method, url, body, headers, query
            Of the request.
        timeout_s : float
            Seconds until the last byte must have come.

        Raises
        ------
        ConnectionFailedError
            When there is no answer, or none in time.
        ConfigError
            When the address is none.
        """
        http = self._http
        connect_s = min(timeout_s, CONNECT_TIMEOUT_S)
        events: list[str] = []

        def note(event: str, details: Mapping[str, Any]) -> None:
            events.append(event)
            if event.endswith(("connect_tcp.complete", "start_tls.complete")):
                self._take_socket(details["return_value"].get_extra_info("socket"))

        self._begin()
        clock = threading.Timer(timeout_s, self._end_late)
        clock.daemon = True
        clock.start()
        try:
            while True:
                events.clear()
                try:
                    answer = self._client.request(
                        method,
                        url,
                        content=body,
                        headers=dict(headers),
                        params=dict(query) or None,
                        timeout=http.Timeout(timeout_s, connect=connect_s),
                        extensions={"trace": note},
                    )
                    return Response(answer.status_code, dict(answer.headers), answer.content)
                except http.InvalidURL as error:
                    raise ConfigError(f"{url!r} is no URL ({error})") from None
                except (http.HTTPError, _CutError, OSError, ValueError) as error:
                    if not self._is_lost(error, events):
                        raise ConnectionFailedError(self._problem(error, timeout_s)) from None
        finally:
            clock.cancel()
            with self._lock:
                self._under_way = False

    def _is_lost(self, error: Exception, events: list[str]) -> bool:
        """Tell whether a connection kept from the request before was closed under this one.

        A server may do that (uvicorn does after an error of the application) just as the next request
        goes out. It is no failure: the request goes out again, on a new connection at last.
        """
        http = self._http
        lost = isinstance(error, (http.ReadError, http.WriteError, http.RemoteProtocolError))
        new = any("connect_tcp" in event for event in events)
        begun = any("receive_response_headers.complete" in event for event in events)
        return lost and not (new or begun or self._is_late or self._is_cut)

    def _problem(self, error: Exception, timeout_s: float) -> str:
        if self._is_late or isinstance(error, (self._http.ReadTimeout, self._http.WriteTimeout)):
            return f"no whole answer within {timeout_s:g} s"
        return masking.masked(f"{type(error).__name__}: {error}")

    def _begin(self) -> None:
        with self._lock:
            self._under_way, self._is_late = True, False

    def _take_socket(self, found: Any) -> None:
        with self._lock:
            self._socket = found
            if self._is_late or self._is_cut:
                raise _CutError

    def _end_late(self) -> None:
        with self._lock:
            if self._under_way:
                self._is_late = True
                self._shut_down()

    def cut(self) -> None:
        """End the request under way, from another thread, and let no other be sent."""
        with self._lock:
            self._is_cut = True
            if self._under_way:
                self._shut_down()
            else:
                self._client.close()

    def _shut_down(self) -> None:
        # Closing would not wake a thread that waits for bytes. The plain method, because that of a TLS
        # socket takes the session from under the other thread.
        if isinstance(self._socket, socket.socket):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
