"""Several nodes: network namespaces of this machine, which meet by a virtual cable as machines do.

`make test-scale` and CI run it: it takes root and `ip` of iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [
    pytest.mark.skipif(
        "MMAUPRO_TEST_SCALE" not in os.environ, reason="several minutes: make test-scale"
    ),
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces take root and `ip` (iproute2)",
    ),
]

TASKS = "mmaupro-sample_sound,mmaupro-sample_multi"
ITEMS = 8
# Like a node: one process, which stops dead behind its n-th answer, where it is told to.
NODE = """
import os, signal, sys
stop, rank = sys.argv.pop(1), os.environ.get("RANK")
if stop:
    from mmaupro_ext.models.journal import Journal
    keep, left = Journal.keep, int(stop)
    def kept(self, *arguments):
        global left
        keep(self, *arguments)
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGSTOP)
    Journal.keep = kept
from mmaupro_ext.commands.cli import main
main(sys.argv[1:])
"""


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def nodes():
    """Two nodes, 10.77.0.1 and 10.77.0.2: names of their namespaces."""
    names = [f"mmaupro{os.getpid()}-{number}" for number in range(2)]
    for name in names:
        ip("netns", "add", name)
    try:
        one, other = names
        ip(*f"link add eth0 netns {one} type veth peer name eth0 netns {other}".split())
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start the one command, alone or on a node, and end what a test leaves running."""
    place = tmp_path_factory.mktemp("nodes")
    running = []

    def start(out, node=None, rank=0, stop="", port=29_500):
        command = [
            *(sys.executable, "-c", NODE, stop, "run", "--model", "hf-audio"),
            *("--model_args", "pretrained=nano", "--device", "cpu", "--tasks", TASKS),
            *("--limit", str(ITEMS // 2), "--batch_size", "1"),
            *("--output_path", str(place / out), "--log_samples"),
        ]
        env = os.environ | {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        if node is not None:
            command = ["ip", "netns", "exec", node, *command]
            env |= {
                "MASTER_ADDR": "10.77.0.1",
                "MASTER_PORT": str(port),
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "1",
                "RANK": str(rank),
                "LOCAL_RANK": "0",
                "ACCELERATE_USE_CPU": "true",
                # The host's name leads to no address that the other node could reach.
                "GLOO_SOCKET_IFNAME": "eth0",
            }
        log = (place / f"{out}-{len(running)}.log").open("w+")
        process = subprocess.Popen(command, env=env, cwd=place, stdout=log, stderr=log, text=True)
        process.log = log
        running.append(process)
        return process

    start.place = place
    yield start
    for process in running:
        process.kill()
        process.wait()
        process.log.close()


def said(process):
    process.log.seek(0)
    return process.log.read()


def end_of(process, seconds=300):
    process.wait(seconds)
    return process.returncode, said(process)


def until_stopped(process):
    """Wait until a node has stopped dead (`ip netns exec` becomes the command: it is one process)."""
    for _ in range(3_000):
        pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
        if pid:
            assert os.WIFSTOPPED(status), said(process)[-3000:]
            return
        time.sleep(0.1)
    raise AssertionError(said(process)[-3000:])


def outcome(folder):
    """Return the results and the samples of a run, without what a run has of its own."""
    (file,) = folder.glob("*/results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    samples = {
        path.name.rpartition("_")[0]: sorted(path.read_text(encoding="utf-8").splitlines())
        for path in folder.glob("*/samples_*.jsonl")
    }
    return results["results"], results["config"]["heard"], samples


def table_of(output):
    return [line for line in output.splitlines() if line.startswith(("sound ", "multi", "overall"))]


def answers_kept(folder):
    lines = [line for path in folder.glob("journal/*/*.jsonl") for line in path.open()]
    return sum('"start"' not in line[:12] for line in lines)


def test_nodes_that_are_lost_end_the_others_and_the_same_command_goes_on(nodes, start):
    alone = start("alone")
    assert end_of(alone)[0] == 0, said(alone)[-3000:]

    # The second node is killed in mid-run: its connections close.
    first, second = (start("out", nodes[n], n, stop=["", "2"][n]) for n in range(2))
    until_stopped(second)
    os.kill(second.pid, signal.SIGKILL)
    code, output = end_of(first, 60)
    assert code == 2, output[-3000:]
    assert "another process of this run has ended: process 0 of 2 could not meet" in output
    assert "Traceback" not in output
    kept = answers_kept(start.place / "out")
    assert kept == ITEMS // 2 + 2  # all of the first node's, and two of the second's

    # The first node, by which all know each other, goes down with its network: nothing is closed. The
    # second has an answer to write, and would then wait for it.
    first, second = (start("out", nodes[n], n, stop=["", "1"][n], port=29_501) for n in range(2))
    until_stopped(second)
    ip("-n", nodes[0], "link", "set", "eth0", "down")
    os.kill(first.pid, signal.SIGKILL)
    os.kill(second.pid, signal.SIGCONT)
    code, output = end_of(second, 60)
    assert code == 2, output[-3000:]
    assert "process 0 of 2" in output
    assert "has given no sign of life for 40 s" in output
    assert "Traceback" not in output
    ip("-n", nodes[0], "link", "set", "eth0", "up")
    assert answers_kept(start.place / "out") > kept

    first, second = (start("out", nodes[n], n, port=29_502) for n in range(2))
    for process in (first, second):
        assert end_of(process)[0] == 0, said(process)[-3000:]
    assert "come from the journal" in said(first)
    ours, theirs = outcome(start.place / "out"), outcome(start.place / "alone")
    assert ours == theirs
    assert answers_kept(start.place / "out") == ITEMS
    assert table_of(said(first)) == table_of(said(alone)) != []
