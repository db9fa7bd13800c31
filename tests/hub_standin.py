"""A stand-in for a dataset hub on loopback: the requests that huggingface_hub makes, and faults.

Two servers run, as in the real world: the hub, which knows commits and files and redirects large
files elsewhere, and the storage behind it, on another origin, which serves byte ranges and must
never see a token. What was asked is in `log`; `fault` decides what goes wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPO = "gamma-lab-umd/MMAU-Pro"
COMMIT = "b8516c217464d53be36d6dc334fda3cd578ed103"
MOST_REQUESTS = 5_000  # a client that asks more often than this is in a loop


@dataclass(frozen=True)
class Request:
    """What a client asked: the role of the server, the file, the range and the headers."""

    role: str  # "api", "resolve" or "storage"
    file: str
    start: int
    stop: int
    authorization: str | None
    time: float


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes, then an orderly end of the connection
    reset_after: int | None = None  # bytes, then a TCP reset
    flip: int | None = None  # offset in the file of a byte that arrives wrong
    etag: str | None = None
    size: int | None = None
    ignore_range: bool = False
    before: Callable[[], object] | None = None  # called before the answer, may block
    each: Callable[[int], object] | None = None  # called with the bytes sent so far
    chunk: int = 16 << 10


@dataclass
class File:
    """A file of the repository, in memory or on disk."""

    content: bytes | Path
    large: bool
    sha256: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.content, bytes):
            self.sha256 = hashlib.sha256(self.content).hexdigest()

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @property
    def blob_id(self) -> str:
        """Git object id; of a pointer for a large file, so any 40 digits serve."""
        if isinstance(self.content, bytes) and not self.large:
            return hashlib.sha1(b"blob %d\0" % self.size + self.content).hexdigest()
        return hashlib.sha1(self.sha256.encode()).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        """Return a range."""
        if isinstance(self.content, bytes):
            return self.content[start:stop]
        with self.content.open("rb") as stream:
            stream.seek(start)
            return stream.read(stop - start)


class StandInHub:
    """The two servers. Use it as a context manager; `endpoint` is the hub's base URL."""

    def __init__(
        self,
        files: dict[str, File],
        token: str | None = None,
        repo: str = REPO,
        commit: str = COMMIT,
    ) -> None:
        self.files, self.token, self.repo = files, token, repo
        self.commit = commit
        self.raw: dict[str, File] = {}  # of another host, as GitHub serves them: by path
        self.branches = {"main": COMMIT}
        self.log: list[Request] = []
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self._lock = threading.Lock()
        self._servers = [_Server(self, _Hub), _Server(self, _Storage)]

    def __enter__(self) -> StandInHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """Base URL of the hub."""
        return self._servers[0].url

    @property
    def storage(self) -> str:
        """Base URL of the storage."""
        return self._servers[1].url

    def note(self, request: Request) -> Fault:
        """Log a request and return what is to go wrong with it."""
        with self._lock:
            self.log.append(request)
            if len(self.log) > MOST_REQUESTS:
                return Fault(status=508)
            return self.fault(request) or Fault()

    def asked(self, role: str, file: str | None = None) -> list[Request]:
        """Return the logged requests of one role."""
        return [r for r in list(self.log) if r.role == role and file in (None, r.file)]

    def bytes_asked(self, file: str) -> int:
        """Return how many bytes of a file were asked of the storage."""
        return sum(request.stop - request.start for request in self.asked("storage", file))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: StandInHub, handler: type[BaseHTTPRequestHandler]) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that are killed leave broken connections; that is what the tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    disable_nagle_algorithm = True

    @property
    def hub(self) -> StandInHub:
        return self.server.hub

    def log_message(self, *args: object) -> None:
        """Keep the test output quiet."""

    def request_for(self, role: str, name: str) -> Request:
        file = self.hub.files.get(name) or self.hub.raw.get(name)
        size = file.size if file else 0
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, size
        if found:
            start, stop = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        return Request(role, name, start, stop, self.headers.get("Authorization"), time.monotonic())

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, fault: Fault) -> bool:
        if fault.before is not None:
            fault.before()
        if fault.status is None:
            return False
        self.answer(fault.status, b'{"error": "made up by the test"}', fault.headers)
        return True

    def serve(self, file: File, request: Request, fault: Fault, etag: str) -> None:
        size = fault.size or file.size
        ranged = "Range" in self.headers and not fault.ignore_range
        if ranged and request.start >= file.size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        start, stop = (request.start, request.stop) if ranged else (0, file.size)
        self.send_response(206 if ranged else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(stop - start if not fault.size or ranged else size))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        position = start
        while position < stop:
            chunk = bytearray(file.read(position, min(stop, position + fault.chunk)))
            if fault.flip is not None and position <= fault.flip < position + len(chunk):
                chunk[fault.flip - position] ^= 0xFF
            for limit, end in ((fault.cut_after, self._cut), (fault.reset_after, self._reset)):
                if limit is not None and position + len(chunk) - start > limit:
                    self.wfile.write(bytes(chunk[: max(0, limit - (position - start))]))
                    end()
                    return
            if fault.each is not None:
                fault.each(position - start)
            self.wfile.write(bytes(chunk))
            position += len(chunk)

    def _cut(self) -> None:
        self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


class _Hub(_Handler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/(.+)", path)
        resolve = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if api:
            repo, revision, name = api[1], api[2], ""
        elif resolve:
            repo, revision, name = resolve[1], resolve[2], resolve[3]
        else:
            self.raw(path.lstrip("/"))
            return
        request = self.request_for("api" if api else "resolve", name)
        fault = self.hub.note(request)
        if self.refuse(fault):
            return
        hub = self.hub
        if hub.token is not None and request.authorization != f"Bearer {hub.token}":
            self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        if repo != self.hub.repo:
            self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        commit = hub.branches.get(revision, revision)
        if commit != hub.commit:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        if api:
            self.answer(200, self._info(), {"Content-Type": "application/json"})
            return
        file = hub.files.get(name)
        if file is None:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        if not file.large:
            self.serve(file, request, fault, file.blob_id)
            return
        self.answer(
            302,
            b"",
            {
                "Location": f"{hub.storage}/{urllib.parse.quote(name)}?signature=made-up",
                "X-Repo-Commit": commit,
                "X-Linked-Size": str(fault.size or file.size),
                "X-Linked-Etag": f'"{fault.etag or file.sha256}"',
                "ETag": f'"{file.blob_id}"',
            },
        )

    def raw(self, name: str) -> None:
        request = self.request_for("raw", name)
        fault = self.hub.note(request)
        if self.refuse(fault):
            return
        if name not in self.hub.raw:
            self.answer(404)
            return
        self.serve(self.hub.raw[name], request, fault, "raw-etag")

    def _info(self) -> bytes:
        siblings = []
        for name, file in self.hub.files.items():
            entry = {"rfilename": name, "size": file.size, "blobId": file.blob_id}
            if file.large:
                entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
            siblings.append(entry)
        info = {
            "_id": "0",
            "id": self.hub.repo,
            "sha": self.hub.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": ["license:cc-by-nc-4.0"],
            "cardData": {"license": "cc-by-nc-4.0"},
            "siblings": siblings,
        }
        return json.dumps(info).encode()


class _Storage(_Handler):
    def do_GET(self) -> None:
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        request = self.request_for("storage", name)
        fault = self.hub.note(request)
        if self.refuse(fault):
            return
        self.serve(self.hub.files[name], request, fault, "storage-etag")
