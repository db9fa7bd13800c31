"""A chat server on this machine that does what a script says, failures included."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def without_proxy(monkeypatch):
    """Let requests to this machine go to this machine."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def answer(text: str) -> tuple[int, dict, bytes]:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {}, json.dumps(body).encode()


class StandIn:
    """A server whose replies follow a script: one entry per request, then the last one for ever.

    An entry is (status, headers, body), "hang", "reset", "drip" (a byte each 50 ms), "break" (the
    first part of a stream, in chunks, and no end), or a function of the request's body.
    `models` is what it lists at /models; None for no such list, with the status `refused`.
    """

    refused = 404

    def __init__(self, *script):
        self.script, self.requests, self.starts = list(script), [], []
        self.models = None
        self.headers, self.under_way, self.most_under_way = [], 0, 0
        lock, stand_in = threading.Lock(), self
        self.let_go = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.partition("?")[0]
                if not path.endswith("/models") or stand_in.models is None:
                    self.act((stand_in.refused, {}, b"no list"), None)
                else:
                    listed = {"data": [{"id": name} for name in stand_in.models]}
                    self.act((200, {}, json.dumps(listed).encode()), None)

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(stand_in.requests)
                    stand_in.requests.append((self.path, body))
                    stand_in.headers.append(dict(self.headers))
                    stand_in.starts.append(time.monotonic())
                    stand_in.under_way += 1
                    stand_in.most_under_way = max(stand_in.most_under_way, stand_in.under_way)
                act = stand_in.script[min(number, len(stand_in.script) - 1)]
                try:
                    self.act(act, body)
                finally:
                    with lock:
                        stand_in.under_way -= 1

            def act(self, act, body):
                if act == "hang":
                    stand_in.let_go.wait(5)
                if act in ("hang", "reset"):
                    self.close_connection = True
                    self.connection.close()
                    return
                if act in ("drip", "break"):
                    self.begin_and_not_end(act)
                    return
                status, headers, content = act(body) if callable(act) else act
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def begin_and_not_end(self, act):
                self.close_connection = True
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
                if act == "break":
                    self.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n")
                    half = b'data: {"choices": [{"delta": {"content": "half"}, "finish_reason": null}]}\n\n'
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(half), half))
                for _ in range(200 if act == "drip" else 0):
                    self.wfile.write(b"X")  # still in the headers
                    self.wfile.flush()
                    if stand_in.let_go.wait(0.05):
                        break

            def log_message(self, *arguments):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                pass  # connections are broken here on purpose

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.let_go.set()
        self.server.shutdown()
        self.server.server_close()
