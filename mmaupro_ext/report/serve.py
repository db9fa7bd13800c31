"""The report over loopback, for browsers that play no clips from files."""

from __future__ import annotations

import mimetypes
import re
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmaupro_ext.errors import ConfigError

_CLIP = re.compile(r"/clip/(\d{1,9})")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def server(folder: Path, clips: Sequence[Path | None], port: int = 0) -> ThreadingHTTPServer:
    """Return a server of a report and its clips on 127.0.0.1.

    Parameters
    ----------
    folder : Path
        With report.html.
    clips : sequence of Path or None
        The file of each clip by its number; nothing else outside of `folder` is served.
    port : int
        0: any that is free; `server_address` says which.

    Raises
    ------
    ConfigError
        When the port is taken, or is none.
    """
    handler = partial(_Handler, directory=str(folder), clips=clips)
    try:
        return _Server(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--port {port}: nothing can be served there ({error}). Leave --port out for any free one"
        ) from error


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A player that moves on hangs up; what is no request (a NUL in its path) gets no answer.
        if not isinstance(sys.exc_info()[1], (ConnectionError, ValueError)):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, clips: Sequence[Path | None], **options: Any) -> None:
        self._clips = clips
        super().__init__(*args, **options)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def do_HEAD(self) -> None:
        if self._is_asked_as_itself():
            super().do_HEAD()

    def do_GET(self) -> None:
        if not self._is_asked_as_itself():
            return
        found = _CLIP.fullmatch(urlsplit(self.path).path)
        if found is None:
            super().do_GET()
            return
        number = int(found[1])
        path = self._clips[number] if number < len(self._clips) else None
        if path is None or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self._send(path)

    def _is_asked_as_itself(self) -> bool:
        # A page of another site must not read this one through a name that leads here.
        host = urlsplit(f"//{self.headers.get('Host') or ''}").hostname
        if host in ("127.0.0.1", "localhost"):
            if urlsplit(self.path).path == "/":
                self.path = "/report.html"
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _send(self, path: Path) -> None:
        """Send a clip, or the part of it that is asked for: without it no player can move within it."""
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range") or "")
        start, stop = 0, size
        if asked and asked[1]:
            start, stop = int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size
        elif asked and asked[2]:
            start = max(0, size - int(asked[2]))
        if start >= size or stop <= start:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", mimetypes.guess_type(path.name)[0] or "audio/wav")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        with path.open("rb") as file:
            file.seek(start)
            if stop == size:
                shutil.copyfileobj(file, self.wfile)
            else:
                self.wfile.write(file.read(stop - start))
