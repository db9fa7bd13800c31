"""`mmaupro data fetch` as a process: killed, interrupted, twice at once, without room or rights."""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from benchmark_releases import NAMES, Release, released
from hub_dataset import Dataset, folder_clips, make_dataset
from hub_standin import Fault, StandInHub
from hub_standin import Request as Asked

from mmaupro_ext.commands.data_fetch import add_arguments, run
from mmaupro_ext.data.selection import read_selection

REPOSITORY = Path(__file__).resolve().parent.parent

# As a terminal's shell would start it: a background job may have been told to ignore Ctrl-C.
PROGRAM = """
import argparse, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mmaupro_ext.commands.data_fetch import add_arguments, run
{before}
parser = argparse.ArgumentParser(prog="mmaupro data fetch")
add_arguments(parser)
sys.exit(run(parser.parse_args()))
"""


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture
def hub(dataset: Dataset) -> Iterator[StandInHub]:
    with StandInHub(dataset.files()) as running:
        yield running


class Command:
    """Starts `mmaupro data fetch` against a stand-in hub."""

    def __init__(self, hub: StandInHub, folder: Path) -> None:
        self.hub, self.root = hub, folder

    def start(self, *options: str, before: str = "", **environment: str) -> subprocess.Popen[str]:
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MMAUPRO_DATA"):
            env.pop(name, None)
        env |= {"HF_ENDPOINT": self.hub.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
        env |= {"PYTHONPATH": str(REPOSITORY), "HF_HOME": str(self.root.parent / "hf")}
        env |= {"XDG_CACHE_HOME": str(self.root.parent / "cache")} | environment
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(before=before), "--to", str(self.root), *options],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str, before: str = "", **environment: str) -> tuple[int, str]:
        process = self.start(*options, before=before, **environment)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def command(hub: StandInHub, tmp_path: Path) -> Command:
    return Command(hub, tmp_path / "MMAU-Pro")


def at_byte(hub: StandInHub, limit: int, act: Callable[[], object]) -> None:
    """Call `act` once, when so many bytes have left a storage that throttles."""
    lock = threading.Lock()
    state = {"sent": 0, "done": False}

    def each(position: int) -> None:
        with lock:
            state["sent"] += 8192
            due = state["sent"] >= limit and not state["done"]
            state["done"] = state["done"] or due
        time.sleep(0.0005)  # so that the client keeps up and buffers hold little
        if due:
            act()

    def decide(request: Asked) -> Fault | None:
        return Fault(each=each, chunk=8192) if request.role == "storage" else None

    hub.fault = decide


def whole(root: Path, dataset: Dataset) -> bool:
    """Return whether a folder holds the dataset, byte for byte and nothing else under data/."""
    return folder_clips(root) == dict(sorted(dataset.clips.items()))


def kill_at_byte(command: Command, limit: int, *options: str, before: str = "") -> int:
    started = threading.Event()
    holder: list[subprocess.Popen[str]] = []

    def kill() -> None:
        started.wait(20)
        holder[0].kill()
        holder[0].wait()

    at_byte(command.hub, limit, kill)
    holder.append(command.start(*options, before=before))
    started.set()
    holder[0].communicate(timeout=60)
    return holder[0].returncode


def test_killed_at_random_points_it_resumes_to_the_same_bytes(
    command: Command, dataset: Dataset
) -> None:
    rng = random.Random(20250828)
    tail = 1 << 20  # bytes of the archive's end, read for its central directory
    assert kill_at_byte(command, rng.randint(1, 20_000)) == -signal.SIGKILL, "in the parquet"
    assert kill_at_byte(command, rng.randint(100_000, tail // 2)) == -signal.SIGKILL
    assert finished_clips(command.root) == {}
    # Left by a killed process, and in nobody's way.
    assert (command.root / ".mmaupro-fetch" / "owner").exists()
    sizes = [0]
    for _ in range(2):
        left = sum(map(len, dataset.clips.values())) - sizes[-1]
        limit = tail + len(dataset.parquet) + int(left * 0.6 * rng.uniform(0.3, 1))
        assert kill_at_byte(command, limit, "--jobs", "3") == -signal.SIGKILL
        finished = finished_clips(command.root)
        assert all(dataset.clips[name] == content for name, content in finished.items())
        sizes.append(sum(map(len, finished.values())))
    assert sizes == sorted(sizes), "what is finished stays"
    assert 0 < sizes[-1] < sum(map(len, dataset.clips.values()))
    command.hub.fault = lambda request: None
    status, output = command.run("--jobs", "3")
    assert status == 0, output
    assert whole(command.root, dataset)
    assert read_selection(command.root) is None


def finished_clips(root: Path) -> dict[str, bytes]:
    """Return the clips of a folder without the unfinished ones that a kill left."""
    found = folder_clips(root)
    return {name: found[name] for name in found if not name.endswith(".part")}


def described_so(release: Release, hub: StandInHub) -> str:
    """Return what a process must do first so that a benchmark's description fits a made-up release."""
    return (
        "from dataclasses import replace\n"
        "from mmaupro_ext.benchmarks import BENCHMARKS, File\n"
        "from mmaupro_ext.data import hub\n"
        f"hub.GITHUB = {hub.endpoint!r}\n"
        f"name = {release.benchmark.name!r}\n"
        f"BENCHMARKS[name] = replace(BENCHMARKS[name], files={release.benchmark.files!r})\n"
    )


KILLED_AFTER_FIVE_CLIPS = """
import os
from mmaupro_ext.data.fetch_state import Folder
put, count = Folder.put, []
def put_five(*args):
    count.append(args)
    if len(count) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(*args)
Folder.put = put_five
"""


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_killed_on_their_way_and_unpacking_resume_to_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    release = released(name, longest=150_000)
    with release.hub() as hub:
        command, before = Command(hub, tmp_path / name), described_so(release, hub)
        assert kill_at_byte(command, 300_000, name, before=before) == -signal.SIGKILL
        state = command.root / ".mmaupro-fetch"
        (part,) = [path for path in state.glob("*.*") if path.name in map_names(release)]
        assert 0 < part.stat().st_size < hub.files[map_names(release)[part.name]].size
        assert folder_clips(command.root) == {}
        hub.fault = lambda request: None
        hub.log.clear()
        have = part.stat().st_size
        killed = command.start(name, before=before + KILLED_AFTER_FIVE_CLIPS)
        killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert hub.asked("storage")[0].start == have, "it goes on at the byte where it was"
        clips = folder_clips(command.root)
        assert len(clips) == 5
        assert all(release.clips[clip] == content for clip, content in clips.items())
        assert not (command.root / "rows.jsonl").exists()
        status, output = command.run(name, before=before)
        assert status == 0, output
        assert folder_clips(command.root) == dict(sorted(release.clips.items()))
        assert hub.bytes_asked(part.name) <= hub.files[map_names(release)[part.name]].size


def map_names(release: Release) -> dict[str, str]:
    """Return the paths of a release's files by their names."""
    return {Path(path).name: path for path in release.files}


def test_ctrl_c_keeps_the_part_of_a_whole_file(tmp_path: Path) -> None:
    release = released("mmar", longest=150_000)
    with release.hub() as hub:
        command, before = Command(hub, tmp_path / "mmar"), described_so(release, hub)
        holder: list[subprocess.Popen[str]] = []
        at_byte(hub, 500_000, lambda: holder[0].send_signal(signal.SIGINT))
        holder.append(command.start("mmar", before=before))
        output, _ = holder[0].communicate(timeout=60)
        assert holder[0].returncode == 130, output
        assert re.search(r"[\d.]+ kB of mmar-audio.tar.gz are kept. The same command", output)
        assert "Traceback" not in output
        hub.fault = lambda request: None
        assert command.run("mmar", before=before)[0] == 0
        assert folder_clips(command.root) == dict(sorted(release.clips.items()))


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(
    command: Command, dataset: Dataset
) -> None:
    holder: list[subprocess.Popen[str]] = []
    at_byte(command.hub, 1_600_000, lambda: holder[0].send_signal(signal.SIGINT))
    holder.append(command.start("--jobs", "2"))
    output, _ = holder[0].communicate(timeout=60)
    assert holder[0].returncode == 130, output
    assert "are kept. The same command goes on from there." in output
    assert "Traceback" not in output
    selection = read_selection(command.root)
    assert selection is not None
    assert selection.describe().startswith("unfinished download: ")
    command.hub.fault = lambda request: None
    assert command.run("--jobs", "2")[0] == 0
    assert whole(command.root, dataset)


def test_two_processes_in_one_folder_do_no_harm(command: Command, dataset: Dataset) -> None:
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        go_on.wait(30)

    def decide(request: Asked) -> Fault | None:
        clips = request.role == "storage" and request.stop < len(dataset.archive)
        return Fault(before=hold) if clips and request.file == "data.zip" else None

    command.hub.fault = decide
    first = command.start("--jobs", "1")
    try:
        assert holding.wait(30)
        status, output = command.run()
        assert status == 1
        assert f"process {first.pid} on" in output
    finally:
        go_on.set()
    assert first.communicate(timeout=60)[0]
    assert first.returncode == 0
    assert whole(command.root, dataset)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB, mounted; only root may."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root; the file size limit stands in for it")
    try:
        yield folder
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=False)
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_what_is_finished(
    hub: StandInHub, dataset: Dataset, small_disk: Path
) -> None:
    command = Command(hub, small_disk / "MMAU-Pro")
    filler = small_disk / "filler"

    def fill() -> None:
        try:
            with filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    at_byte(hub, 1_500_000, fill)
    status, output = command.run("--jobs", "2")
    assert status == 1
    assert "the disk is full" in output
    assert "run the same command again" in output
    kept = folder_clips(command.root)
    assert not [name for name in kept if name.endswith(".part")]
    assert all(dataset.clips[name] == content for name, content in kept.items())
    assert len(kept) > 0
    filler.unlink()
    hub.fault = lambda request: None
    assert command.run()[0] == 0
    assert whole(command.root, dataset)


def test_a_disk_that_is_too_small_is_told_before_the_first_clip(
    hub: StandInHub, dataset: Dataset, small_disk: Path
) -> None:
    (small_disk / "filler").write_bytes(bytes(10 << 20))
    command = Command(hub, small_disk / "MMAU-Pro")
    status, output = command.run()
    assert status == 1
    assert "free, and the clips need" in output
    assert folder_clips(command.root) == {}


def test_a_read_only_file_system_is_told_before_any_download(
    hub: StandInHub, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    status, output = Command(hub, small_disk / "MMAU-Pro").run()
    assert status == 1
    assert "cannot be written (Read-only file system)" in output
    assert "--to" in output
    assert hub.asked("storage") == []


def test_a_file_size_limit_of_the_system_keeps_what_is_finished(
    command: Command, dataset: Dataset
) -> None:
    """The way to refuse writes that needs no rights: clips of more than 40,000 bytes do not fit."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))"
    process = command.start("--jobs", "1", before=limit)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a file would be larger than this system allows" in output
    assert "Traceback" not in output
    kept = folder_clips(command.root)
    assert all(dataset.clips[name] == content for name, content in kept.items())
    assert command.run()[0] == 0
    assert whole(command.root, dataset)


def test_a_folder_without_the_right_to_write_is_told_before_any_download(
    command: Command,
) -> None:
    command.root.mkdir()
    command.root.chmod(0o555)
    # Root may write anywhere, so it becomes nobody, once a request has loaded every module.
    before = (
        "import os\n"
        "import mmaupro_ext.data.fetch\n"
        "from mmaupro_ext.data import fetch_request, hub\n"
        "request = fetch_request.Request(None)\n"
        "hub.Hub(request, request.benchmark.files[0], print)\n"
        "if os.geteuid() == 0: os.setuid(65534)"
    )
    process = command.start(before=before, HF_HUB_DISABLE_IMPLICIT_TOKEN="1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{command.root}" in output
    assert "cannot be written (Permission denied)" in output
    assert "--to" in output
    assert command.hub.asked("storage") == []


def test_a_file_in_place_of_the_folder_is_named(command: Command) -> None:
    command.root.write_text("in the way")
    status, output = command.run()
    assert status == 1
    assert f"{command.root}" in output
    assert "is a file where a folder is needed" in output
    assert command.hub.asked("storage") == []


def test_a_proxy_of_the_environment_is_used(command: Command) -> None:
    """The hub's name does not exist, so only the proxy can have answered."""
    status, output = command.run(
        "--limit",
        "12",
        HF_ENDPOINT="http://hub.invalid",
        HTTP_PROXY=command.hub.endpoint,
        NO_PROXY="127.0.0.1",
    )
    assert status == 0, output
    assert len(command.hub.asked("api")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--category", "musik"], "unknown category 'musik'"),
        (["--ids", "no-such-file"], "not readable"),
        (["--jobs", "0"], "--jobs 0"),
        (["--retries", "0"], "--retries 0"),
    ],
)
def test_options_that_cannot_be_honoured_are_told_without_a_request(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(options)) == 2
    assert message in capsys.readouterr().err


def test_help_teaches_with_examples() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    output = parser.format_help()
    for text in ("examples:", "--limit 120 --seed 1", "HF_ENDPOINT", "the same command goes on"):
        assert text in output
