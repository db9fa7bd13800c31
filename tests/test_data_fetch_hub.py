"""`mmaupro data fetch` over the real protocol, against a stand-in hub on loopback."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hub_dataset import (
    PER_CATEGORY,
    Dataset,
    folder_clips,
    make_archive,
    make_dataset,
    make_parquet,
)
from hub_standin import COMMIT, REPO, Fault, File, StandInHub
from hub_standin import Request as Asked

import fullsize
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data import archive, fetch_state
from mmaupro_ext.data import fetch as fetching
from mmaupro_ext.data import hub as remote
from mmaupro_ext.data.fetch import fetch
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.hub import Hub
from mmaupro_ext.data.selection import Criteria, read_selection, select
from mmaupro_ext.errors import ConfigError, DataError
from mmaupro_ext.fan_out import StoppedError

QUICK = {"retries": 4, "wait_s": 0.01}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture
def hub(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nonexistent/token")
    huggingface_hub.close_session()
    with StandInHub(dataset.files()) as running:
        yield running
    huggingface_hub.close_session()


class Run:
    """Fetches into one folder and keeps what was said."""

    def __init__(self, hub: StandInHub, root: Path) -> None:
        self.hub, self.root, self.lines = hub, root, []

    def __call__(self, criteria: Criteria | None = None, **options: object) -> bool:
        self.lines.clear()
        settings = {"endpoint": self.hub.endpoint, "say": self.lines.append, **QUICK}
        return fetch(Request(self.root, criteria=criteria or Criteria(), **(settings | options)))

    @property
    def said(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
def run(hub: StandInHub, tmp_path: Path) -> Run:
    return Run(hub, tmp_path / "MMAU-Pro")


def fault_on(role: str, *faults: Fault | None, file: str | None = None):
    """Let the first answers of a role go wrong, each in its way, and the later ones go right."""
    queue = list(faults)

    def decide(request: Asked) -> Fault | None:
        if request.role == role and file in (None, request.file) and queue:
            return queue.pop(0)
        return None

    return decide


def always(role: str, fault: Fault, file: str | None = None):
    def decide(request: Asked) -> Fault | None:
        return fault if request.role == role and file in (None, request.file) else None

    return decide


# Whole and part


def test_the_whole_dataset_arrives_byte_for_byte(run: Run, dataset: Dataset) -> None:
    assert run()
    assert folder_clips(run.root) == dict(sorted(dataset.clips.items()))
    assert (run.root / "test.parquet").read_bytes() == dataset.parquet
    assert read_selection(run.root) is None, "a whole dataset is not a selection"
    assert not (run.root / "data.zip").exists()


def test_a_second_fetch_downloads_no_clip_again(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    run()
    hub.log.clear()
    assert run()
    assert hub.asked("storage", "test.parquet") == []
    asked = hub.asked("storage", "data.zip")
    # The central directory is read from the last MiB; no clip before it is asked for.
    assert all(request.start == max(0, len(dataset.archive) - (1 << 20)) for request in asked)
    assert len(asked) == 1


def test_a_part_costs_a_part_and_keeps_the_parquet_whole(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    assert run(Criteria(categories=("spatial_audio",)))
    ids = {row["id"] for row in dataset.rows if row["category"] == "spatial_audio"}
    assert set(folder_clips(run.root)) == dataset.clips_of(ids)
    assert (run.root / "test.parquet").read_bytes() == dataset.parquet
    found = read_selection(run.root)
    assert found is not None
    assert found.ids == ids
    assert found.finished
    assert "category spatial_audio" in found.describe()
    assert found.revision == COMMIT


def test_members_are_asked_for_in_few_long_requests(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    run(jobs=1)
    clips = [r for r in hub.asked("storage", "data.zip") if r.stop < len(dataset.archive)]
    # 4 MiB is the shortest run that is planned, and the archive is about as long.
    assert len(clips) <= 1 + len(dataset.archive) // (4 << 20)
    assert sum(r.stop - r.start for r in clips) <= len(dataset.archive)


def test_a_second_selection_adds_to_the_first(run: Run, dataset: Dataset) -> None:
    run(Criteria(categories=("multi",)))
    before = {path: path.stat().st_mtime_ns for path in (run.root / "data").iterdir()}
    run(Criteria(categories=("voice_chat",)))
    assert f"adds {PER_CATEGORY} items to the selection" in run.said
    found = read_selection(run.root)
    assert found is not None
    wanted = {r["id"] for r in dataset.rows if r["category"] in ("multi", "voice_chat")}
    assert found.ids == wanted
    assert [part["description"] for part in found.parts] == [
        "category multi",
        "category voice_chat",
    ]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_whole_fetch_completes_a_part(run: Run, dataset: Dataset) -> None:
    run(Criteria(limit=12))
    assert read_selection(run.root) is not None
    run()
    assert read_selection(run.root) is None
    assert len(folder_clips(run.root)) == len(dataset.clips)


def test_a_part_of_a_whole_dataset_does_not_make_it_a_part(run: Run) -> None:
    run()
    assert run(Criteria(categories=("music",)))
    assert read_selection(run.root) is None
    assert "every clip of the dataset already" in run.said


def test_a_folder_unpacked_by_hand_is_adopted(run: Run, hub: StandInHub, dataset: Dataset) -> None:
    (run.root / "data").mkdir(parents=True)
    for name, content in dataset.clips.items():
        (run.root / name).write_bytes(content)
    assert run()
    assert len(hub.asked("storage", "data.zip")) == 1, "only the central directory is read"
    assert f"{len(dataset.clips)} files are there" in run.said


def test_a_file_with_other_bytes_is_fetched_again(run: Run, dataset: Dataset) -> None:
    run()
    name = max(dataset.clips, key=lambda clip: len(dataset.clips[clip]))
    (run.root / name).write_bytes(bytes(len(dataset.clips[name])))
    assert run()
    assert (run.root / name).read_bytes() == dataset.clips[name]
    assert f"fetched again (first: {name})" in run.said


def test_a_dry_run_says_how_much_and_writes_nothing(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    assert run(Criteria(categories=("open",)), dry_run=True)
    assert not run.root.exists()
    assert f"items: open {PER_CATEGORY}" in run.said
    assert re.search(r"to download: [\d.]+ kB", run.said)


def test_another_parquet_in_the_folder_is_not_overwritten(run: Run) -> None:
    run.root.mkdir()
    (run.root / "test.parquet").write_bytes(b"mine")
    with pytest.raises(DataError, match="Move it away"):
        run()
    assert (run.root / "test.parquet").read_bytes() == b"mine"


def test_a_branch_is_resolved_to_its_commit_once(run: Run, hub: StandInHub) -> None:
    run(Criteria(limit=12), revision="main")
    assert len(hub.asked("api")) == 1
    found = read_selection(run.root)
    assert found is not None
    assert found.revision == COMMIT


def test_the_licence_is_the_one_that_the_card_states(run: Run) -> None:
    run(Criteria(limit=12))
    assert "licence, as its dataset card states: cc-by-nc-4.0" in run.said


def test_differences_from_the_reported_archive_are_said(run: Run, dataset: Dataset) -> None:
    run(Criteria(limit=12))
    assert f"note: data.zip is {len(dataset.archive)} here" in run.said


# Faults of the network


@pytest.mark.parametrize(
    ("role", "status"),
    [("api", 429), ("api", 503), ("resolve", 429), ("resolve", 500), ("resolve", 504)]
    + [("storage", 408), ("storage", 502), ("storage", 503)],
)
def test_passing_refusals_are_tried_again(
    run: Run, hub: StandInHub, dataset: Dataset, role: str, status: int
) -> None:
    hub.fault = fault_on(role, Fault(status=status), Fault(status=status))
    assert run(Criteria(limit=12))
    assert len(hub.asked(role)) >= 3


@pytest.mark.parametrize("form", ["seconds", "date", "ratelimit"])
def test_the_host_gets_the_pause_that_it_asks_for(run: Run, hub: StandInHub, form: str) -> None:
    if form == "date":
        # Whole seconds, counted from now and not from the answer: three leave one for sure.
        value = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))
        headers = {"Retry-After": value}
    elif form == "seconds":
        headers = {"Retry-After": "1"}
    else:
        headers = {"ratelimit": '"resolvers";r=0;t=1'}
    hub.fault = fault_on("resolve", Fault(status=429, headers=headers), file="data.zip")
    assert run(Criteria(limit=12))
    first, second = hub.asked("resolve", "data.zip")[:2]
    assert second.time - first.time >= 0.95


def test_a_pause_holds_for_every_connection(hub: StandInHub) -> None:
    said: list[str] = []
    host = Hub(Request(Path(), endpoint=hub.endpoint), BENCHMARKS[MMAUPRO].files[0], said.append)
    host.pause(0.3, "the host answered 429")
    host.pause(0.1, "a shorter one does not shorten it")
    asked = time.monotonic()
    others = [threading.Thread(target=host.keep_pause) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert time.monotonic() - asked >= 0.25
    host.pause(5, "the host answered 503")
    host.pause(6, "the host answered 503")
    assert said == ["the host answered 503; waiting 5 s, then going on"], "once, not per connection"
    threading.Timer(0.05, host.stop.set).start()
    with pytest.raises(StoppedError):  # at once, and not after six seconds
        host.keep_pause()
    assert time.monotonic() - asked < 3


def test_a_pause_of_hours_ends_the_fetch_with_a_message(run: Run, hub: StandInHub) -> None:
    hub.fault = always("resolve", Fault(status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(DataError, match="asks for a pause of 86400 s"):
        run()


def test_a_host_that_keeps_failing_is_given_up(run: Run, hub: StandInHub) -> None:
    hub.fault = always("storage", Fault(status=503), file="data.zip")
    with pytest.raises(DataError, match=r"gave up .* after 4 attempts.*503.*same.*again"):
        run()
    assert len(hub.asked("storage", "data.zip")) == 4


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
def test_a_broken_connection_goes_on_where_it_broke(
    run: Run, hub: StandInHub, dataset: Dataset, how: str
) -> None:
    hub.fault = always("storage", Fault(**{how: 300_000}), file="data.zip")
    assert run(jobs=1)
    assert folder_clips(run.root) == dict(sorted(dataset.clips.items()))
    asked = hub.asked("storage", "data.zip")
    assert len(asked) > 10, "every answer was cut short"
    # Nothing that had arrived was asked for again: each request begins 300,000 bytes further on,
    # or less far, where the client's own buffer was lost with the connection.
    starts = [request.start for request in asked if request.stop <= asked[-1].stop]
    assert all(later > earlier for earlier, later in zip(starts[1:], starts[2:], strict=False))


def test_a_connection_without_headway_is_given_up(run: Run, hub: StandInHub) -> None:
    hub.fault = always("storage", Fault(reset_after=10), file="data.zip")
    with pytest.raises(DataError, match="gave up"):
        run()
    assert len(hub.asked("storage", "data.zip")) <= 8


def test_an_expired_storage_address_is_renewed_by_the_hub(run: Run, hub: StandInHub) -> None:
    hub.fault = fault_on("storage", None, Fault(status=403), file="data.zip")
    assert run(Criteria(limit=12))


def test_wrong_bytes_are_noticed_and_fetched_again(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    name = max(dataset.clips, key=lambda clip: len(dataset.clips[clip]))
    where = sum(dataset.span(name)) // 2

    def decide(request: Asked) -> Fault | None:
        hit = request.start <= where < request.stop < len(dataset.archive)
        if request.role == "storage" and request.file == "data.zip" and hit:
            decide.times += 1
            return Fault(flip=where) if decide.times <= 2 else None
        return None

    decide.times = 0
    hub.fault = decide
    assert run()
    assert decide.times == 3
    assert folder_clips(run.root) == dict(sorted(dataset.clips.items()))


def test_bytes_that_stay_wrong_cost_one_clip_and_are_reported(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    name = max(dataset.clips, key=lambda clip: len(dataset.clips[clip]))
    hub.fault = always("storage", Fault(flip=sum(dataset.span(name)) // 2), file="data.zip")
    assert not run()
    assert set(dataset.clips) - set(folder_clips(run.root)) == {name}
    assert re.search(rf"not fetched: {name}: (Bad CRC-32|Error -3 while decompressing)", run.said)
    found = read_selection(run.root)
    assert found is not None, "the folder must not pass for a whole dataset"
    assert not found.finished
    hub.fault = lambda request: None
    assert run()
    assert read_selection(run.root) is None


def test_a_wrong_parquet_never_reaches_the_folder(run: Run, hub: StandInHub) -> None:
    hub.fault = always("storage", Fault(flip=100), file="test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet arrived 3 times with a digest other"):
        run()
    assert not (run.root / "test.parquet").exists()


def test_a_parquet_in_git_itself_is_checked_by_its_object_id(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    hub.files["test.parquet"] = File(dataset.parquet, large=False)
    hub.fault = always("resolve", Fault(flip=100), file="test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet arrived 3 times with a digest other"):
        run(Criteria(limit=12))
    hub.fault = lambda request: None
    assert run(Criteria(limit=12))
    assert (run.root / "test.parquet").read_bytes() == dataset.parquet


def test_a_host_without_ranges_is_named_with_the_way_out(run: Run, hub: StandInHub) -> None:
    hub.fault = always("storage", Fault(ignore_range=True), file="data.zip")
    with pytest.raises(DataError, match=r"serves no ranges of data\.zip.*`hf download .*data\.zip"):
        run(Criteria(limit=12))


# Files that change


@pytest.mark.parametrize("fault", [Fault(etag="0" * 64), Fault(size=12345678)])
def test_a_file_that_changes_during_the_fetch_stops_it(
    run: Run, hub: StandInHub, fault: Fault
) -> None:
    role = "resolve" if fault.etag else "storage"
    hub.fault = fault_on(role, None, fault, file="data.zip")
    with pytest.raises(DataError, match="is not the file that was announced"):
        run(jobs=1)


def test_a_file_that_changed_under_the_same_commit_stops_before_anything(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    run(Criteria(limit=12))
    before = folder_clips(run.root)
    hub.files["data.zip"] = File(dataset.archive + b"\0", large=True)
    hub.log.clear()
    with pytest.raises(
        DataError,
        match=rf"was begun with .*{COMMIT}.*if the commit is the same, look at the mirror",
    ):
        run()
    assert hub.asked("storage") == []
    assert folder_clips(run.root) == before


def test_another_revision_needs_another_folder(run: Run, hub: StandInHub) -> None:
    run(Criteria(limit=12))
    hub.commit = "1" * 40
    other = make_dataset(seed=1)
    hub.files.update(other.files())
    with pytest.raises(DataError, match="Name another folder with --to"):
        run(revision="1" * 40)


# Who may read


def test_a_token_goes_to_the_hub_and_never_to_the_storage(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_made_up"
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    assert run(Criteria(limit=12))
    assert {r.authorization for r in hub.asked("resolve")} == {"Bearer hf_made_up"}
    assert {r.authorization for r in hub.asked("storage")} == {None}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=401), "hf auth login"),
        (Fault(status=403), "may not be read with this token"),
        (Fault(status=403, headers={"X-Error-Code": "GatedRepo"}), "asks for its conditions"),
        (Fault(status=404, headers={"X-Error-Code": "RepoNotFound"}), "Check --repo"),
        (Fault(status=404), "Check --repo"),
    ],
)
def test_refusals_say_what_to_do(run: Run, hub: StandInHub, fault: Fault, message: str) -> None:
    hub.fault = always("api", fault)
    with pytest.raises(DataError, match=message):
        run()
    assert len(hub.asked("api")) == 1, "a refusal is not tried again"
    assert not run.root.exists()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=401),
        Fault(status=403),
        Fault(status=403, headers={"X-Error-Code": "GatedRepo"}),
    ],
)
def test_a_gated_dataset_names_the_page_and_the_login_command(
    run: Run, hub: StandInHub, fault: Fault
) -> None:
    hub.fault = always("api", fault)
    with pytest.raises(DataError) as caught:
        run()
    assert f"{hub.endpoint}/datasets/{REPO}" in str(caught.value)
    assert "hf auth login" in str(caught.value)


@pytest.mark.parametrize("how", ["no route", "silent host", "name lookup hangs"])
def test_without_a_network_it_says_so_soon_and_claims_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(remote, "SILENCE_S", 0.5)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    endpoint = "http://127.0.0.1:9"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if how == "silent host":
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        if how == "name lookup hangs":
            endpoint = "http://hub.invalid"
            monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(5))
        began = time.monotonic()
        with pytest.raises(
            DataError, match=r"was not reached within .*Is there a network"
        ) as caught:
            run(endpoint=endpoint, retries=100)
        assert time.monotonic() - began < 3
    assert "kept" not in str(caught.value) + run.said
    assert not run.root.exists()


def test_a_slow_answer_is_waited_for_once_the_host_was_heard(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SILENCE_S", 0.5)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    hub.fault = fault_on("api", Fault(status=503), Fault(before=lambda: time.sleep(1)))
    assert run(Criteria(limit=12))


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_a_clip_that_is_a_pipe_or_a_link_out_of_the_folder_is_replaced_unread(
    run: Run, dataset: Dataset, tmp_path: Path, what: str
) -> None:
    run()
    name = max(dataset.clips, key=lambda clip: len(dataset.clips[clip]))
    clip, outside = run.root / name, tmp_path / "outside"
    clip.rename(outside)
    if what == "pipe":
        os.mkfifo(clip)
    else:
        clip.symlink_to(outside)
    outside.write_bytes(b"mine" + outside.read_bytes()[4:])
    assert run()
    assert clip.is_file()
    assert not clip.is_symlink()
    assert clip.read_bytes() == dataset.clips[name]
    assert outside.read_bytes()[:4] == b"mine"


def test_a_folder_that_leads_out_of_the_dataset_is_not_written_to(
    run: Run, hub: StandInHub, dataset: Dataset, tmp_path: Path
) -> None:
    rows = [{**dataset.rows[0], "audio_path": ["data/deep/a.wav"]}]
    clips = {"data/deep/a.wav": b"sound"}
    hub.files["data.zip"] = File(make_archive(clips, list(clips)), large=True)
    hub.files["test.parquet"] = File(make_parquet(rows), large=True)
    (run.root / "data").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (run.root / "data" / "deep").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="a link out of the dataset"):
        run()
    assert list((tmp_path / "outside").iterdir()) == []
    (run.root / "data" / "deep").unlink()
    assert run()
    assert folder_clips(run.root) == clips


@pytest.mark.parametrize("what", ["", "finished.sqlite", "owner"])
def test_what_was_finished_is_not_noted_through_a_link_out_of_the_folder(
    run: Run, hub: StandInHub, tmp_path: Path, what: str
) -> None:
    outside, link = tmp_path / "outside", run.root / ".mmaupro-fetch" / what
    outside.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(outside if not what else outside / "new")
    with pytest.raises(DataError, match="a link out of the dataset"):
        run()
    assert list(outside.iterdir()) == []
    assert hub.asked("storage") == []


def test_a_folder_in_place_of_the_owner_is_named(run: Run) -> None:
    (run.root / ".mmaupro-fetch" / "owner").mkdir(parents=True)
    with pytest.raises(DataError, match="owner: "):
        run()


def test_a_table_of_contents_longer_than_the_first_read_is_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    monkeypatch.setattr(fetching, "_TAILS", (100, 1 << 20))
    assert run()
    assert folder_clips(run.root) == dict(sorted(dataset.clips.items()))


def test_an_unknown_revision_names_the_pinned_one(run: Run) -> None:
    with pytest.raises(DataError, match="no revision 'no-such'.*Leave --revision out"):
        run(revision="no-such")


def test_an_unknown_repository_is_named(run: Run) -> None:
    with pytest.raises(DataError, match=r"there is no some/thing|some/thing on"):
        run(repo="some/thing")


def test_offline_mode_is_said_plainly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE is set"):
        run()


def test_a_token_file_that_cannot_be_read_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path))
    with pytest.raises(DataError, match=re.escape(f"{tmp_path} cannot be read")):
        run()


def test_a_web_page_in_place_of_a_hub_is_recognised(run: Run, hub: StandInHub) -> None:
    hub.fault = always("api", Fault(status=200))
    with pytest.raises(DataError, match="Check"):
        run()


# Rows and archive that do not fit together


def test_clips_missing_from_the_archive_are_reported(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    lost = dataset.rows[0]["audio_path"][0]
    names = [name for name in dataset.clips if name != lost]
    hub.files["data.zip"] = File(make_archive(dataset.clips, names), large=True)
    assert not run()
    assert f"not in data.zip (first: {lost})" in run.said
    assert set(folder_clips(run.root)) == set(names)


def test_a_row_that_breaks_the_schema_does_not_stop_the_fetch(
    run: Run, hub: StandInHub, dataset: Dataset
) -> None:
    rows = [dict(row) for row in dataset.rows]
    rows[0]["question"] = None
    hub.files["test.parquet"] = File(make_parquet(rows), large=True)
    assert run(Criteria(limit=24))


def test_a_selection_that_names_nothing_is_refused_before_any_clip(
    run: Run, hub: StandInHub
) -> None:
    with pytest.raises(ConfigError, match="not in the dataset: nobody"):
        run(Criteria(ids=("nobody",)))
    assert not (run.root / "data").exists()


# Size


def test_clips_beyond_four_gibibytes_are_found(run: Run, hub: StandInHub, tmp_path: Path) -> None:
    """Offsets of the released archive need zip64; a sparse file has them without the bytes."""
    rows = [row for row in fullsize.rows() if row["category"] == "sound_music_speech"]
    clips = {clip: clip.encode() * 100 for row in rows for clip in row["audio_path"]}
    path = tmp_path / "sparse.zip"
    with path.open("wb") as stream:
        stream.seek(5 << 30)
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in clips.items():
                archive.writestr(name, content)
    hub.files["data.zip"] = File(path, large=True, sha256="5" * 64)
    hub.files["test.parquet"] = File(make_parquet(rows), large=True)
    assert run()
    assert folder_clips(run.root) == dict(sorted(clips.items()))
    assert min(r.start for r in hub.asked("storage", "data.zip")) > 4 << 30


def test_too_little_room_is_said_before_the_first_clip(
    run: Run, hub: StandInHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 17 << 20

    monkeypatch.setattr(fetch_state.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DataError, match=r"17\.8 MB free, and the clips need .* fetch a part"):
        run()
    assert folder_clips(run.root) == {}


def test_a_full_disk_keeps_what_is_finished(
    run: Run, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a full disk, made up, where no small disk can be mounted."""
    written = 0
    original = archive.unpack

    def full(*args: object) -> Iterator[bytes]:
        nonlocal written
        for piece in original(*args):
            written += len(piece)
            if written > 1_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield piece

    monkeypatch.setattr(archive, "unpack", full)
    with pytest.raises(DataError, match=r"the disk is full\. [\d,]+ clips of this run .* are kept"):
        run()
    kept = folder_clips(run.root)
    assert kept
    assert all(dataset.clips[name] == content for name, content in kept.items())
    monkeypatch.setattr(archive, "unpack", original)
    assert run()
    assert folder_clips(run.root) == dict(sorted(dataset.clips.items()))


# Two at once, in one process


def test_a_running_fetch_is_named_to_a_second_one(run: Run, hub: StandInHub) -> None:
    holding, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        holding.set()
        go_on.wait(20)

    hub.fault = fault_on("storage", Fault(before=hold), file="test.parquet")
    first = threading.Thread(target=run, args=(Criteria(limit=12),))
    first.start()
    try:
        assert holding.wait(20)
        second = Run(hub, run.root)
        with pytest.raises(DataError, match=r"being filled by another .*process \d+ on"):
            second(Criteria(limit=12))
    finally:
        go_on.set()
        first.join()
    assert read_selection(run.root).finished


@pytest.mark.parametrize("damage", ["torn", "deleted"])
def test_a_damaged_record_of_what_is_finished_costs_reading_and_no_download(
    run: Run, hub: StandInHub, dataset: Dataset, damage: str
) -> None:
    run()
    record = run.root / ".mmaupro-fetch" / "finished.sqlite"
    if damage == "torn":
        record.write_bytes(record.read_bytes()[:5000])
    else:
        record.unlink()
    hub.log.clear()
    assert run()
    assert "files are there" in run.said
    assert len(hub.asked("storage", "data.zip")) == 1
    assert run()
    assert "files are there" not in run.said


def test_the_sample_is_the_same_wherever_it_is_drawn(run: Run, dataset: Dataset) -> None:
    run(Criteria(limit=20, seed=3))
    found = read_selection(run.root)
    assert found is not None
    expected = select(dataset.rows[::-1], Criteria(limit=20, seed=3))
    assert found.ids == {row["id"] for row in expected}
    assert "stratified sample of 20, seed 3" in found.describe()
