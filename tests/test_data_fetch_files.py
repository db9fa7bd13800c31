"""`mmaupro data fetch mmau|mmsu|mmar`: parquet with clips inside and tar.gz, against a stand-in hub."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from benchmark_releases import NAMES, Release, archive, released, with_archive
from hub_dataset import folder_clips
from hub_standin import Fault, File, StandInHub
from hub_standin import Request as Asked

from mmaupro_ext import data
from mmaupro_ext.data import archive as archives
from mmaupro_ext.data import fetch_state, hub
from mmaupro_ext.data.fetch import fetch
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.selection import Criteria
from mmaupro_ext.errors import ConfigError, DataError

QUICK = {"retries": 4, "wait_s": 0.01}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "/nonexistent/token")
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


class Run:
    """Fetches a release into one folder and keeps what was said."""

    def __init__(self, release: Release, hub: StandInHub, root: Path) -> None:
        self.release, self.hub, self.root, self.lines = release, hub, root, []

    def __call__(self, **options: object) -> bool:
        self.lines.clear()
        settings = {"endpoint": self.hub.endpoint, "say": self.lines.append, **QUICK} | options
        return fetch(Request(self.root, self.release.benchmark, **settings))

    @property
    def said(self) -> str:
        return "\n".join(self.lines)

    @property
    def holds_everything(self) -> bool:
        """Whether the folder has the rows and the clips, byte for byte, and nothing else of them."""
        lines = (self.root / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return rows == self.release.rows and folder_clips(self.root) == dict(
            sorted(self.release.clips.items())
        )

    def asked_for(self, name: str) -> list[Asked]:
        return self.hub.asked("storage", name)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    running = []

    def begin(release: Release) -> Run:
        server = release.hub().__enter__()
        running.append(server)
        monkeypatch.setattr(hub, "GITHUB", server.endpoint)
        return Run(release, server, tmp_path / "folder")

    yield begin
    for server in running:
        server.__exit__()


@pytest.fixture
def tmp_release() -> Release:
    return released("mmar", longest=200_000)


def always(role: str, fault: Fault):
    return lambda request: fault if request.role == role else None


# All of it


@pytest.mark.parametrize("name", NAMES)
def test_a_release_becomes_rows_clips_and_their_digests(start, name: str) -> None:
    run = start(released(name))
    assert run()
    assert run.holds_everything
    files = json.loads((run.root / "manifest.json").read_text())["files"]
    assert {clip: entry["sha256"] for clip, entry in files.items()} == {
        clip: hashlib.sha256(content).hexdigest() for clip, content in run.release.clips.items()
    }
    docs = data.load_items(name, data_dir=run.root)
    sample = data.load_items(name, sample=True)
    assert [doc | {"dataset": "sample"} for doc in docs] == sample
    left = [path for path in (run.root / ".mmaupro-fetch").iterdir() if path.stat().st_size > 1e5]
    assert left == [], "the files themselves are not kept"


@pytest.mark.parametrize("name", NAMES)
def test_a_second_fetch_downloads_nothing_again(start, name: str) -> None:
    run = start(released(name))
    run()
    run.hub.log.clear()
    assert run()
    assert run.hub.asked("storage") == []
    assert run.holds_everything


@pytest.mark.parametrize("name", NAMES)
def test_what_verify_measured_stays_in_the_manifest(start, name: str) -> None:
    run = start(released(name))
    run()
    path = run.root / "manifest.json"
    content = json.loads(path.read_text())
    first = next(iter(content["files"]))
    content["files"][first]["seconds"] = 1.25
    path.write_text(json.dumps(content))
    run()
    assert json.loads(path.read_text())["files"][first]["seconds"] == 1.25
    content["files"][first] |= {"sha256": "0" * 64, "seconds": 9.0}  # of another clip
    path.write_text(json.dumps(content))
    run()
    entry = json.loads(path.read_text())["files"][first]
    assert entry["sha256"] == hashlib.sha256(run.release.clips[first]).hexdigest()
    assert "seconds" not in entry


@pytest.mark.parametrize("how", ["cut_after", "reset_after"])
def test_a_broken_connection_goes_on_where_it_broke(start, tmp_release, how: str) -> None:
    run = start(tmp_release)
    run.hub.fault = always("storage", Fault(**{how: 300_000}))
    assert run()
    assert run.holds_everything
    starts = [request.start for request in run.hub.asked("storage")]
    assert len(starts) > 3
    assert starts == sorted(set(starts)), "nothing that had arrived was asked for again"


def test_an_interrupted_download_goes_on_in_the_next_fetch(start, tmp_release) -> None:
    run = start(tmp_release)
    run.hub.fault = always("storage", Fault(status=503))
    with pytest.raises(DataError, match=r"gave up .* 503"):
        run()
    part = run.root / ".mmaupro-fetch" / "mmar-audio.tar.gz"
    part.write_bytes(run.release.files["mmar-audio.tar.gz"].content[:700_000])
    run.hub.fault = lambda request: None
    run.hub.log.clear()
    assert run()
    assert [request.start for request in run.hub.asked("storage")] == [700_000]
    assert run.holds_everything


def test_what_is_kept_is_said(start, tmp_release) -> None:
    run = start(tmp_release)
    position = []

    def decide(request: Asked) -> Fault | None:
        position.append(request.start)
        cut = Fault(cut_after=500_000) if request.start == 0 else Fault(status=503)
        return cut if request.role == "storage" else None

    run.hub.fault = decide
    with pytest.raises(DataError, match="gave up"):
        run()
    assert "500.0 kB of mmar-audio.tar.gz are kept." in run.said


@pytest.mark.parametrize("name", NAMES)
def test_wrong_bytes_are_noticed_and_fetched_again(start, name: str) -> None:
    run = start(released(name))
    wrong = iter([Fault(flip=500), Fault(flip=900)])
    run.hub.fault = lambda request: next(wrong, None) if request.role == "storage" else None
    assert run()
    assert run.holds_everything


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_stay_wrong_reach_no_clip(start, name: str) -> None:
    run = start(released(name))
    run.hub.fault = always("storage", Fault(flip=500))
    with pytest.raises(DataError, match="arrived 3 times with a digest other"):
        run()
    assert folder_clips(run.root) == {}
    assert not (run.root / "rows.jsonl").exists(), "the folder must not pass for a benchmark"


def test_bytes_of_an_earlier_part_that_are_wrong_are_fetched_again(start, tmp_release) -> None:
    run = start(tmp_release)
    (run.root / ".mmaupro-fetch").mkdir(parents=True)
    (run.root / ".mmaupro-fetch" / "mmar-audio.tar.gz").write_bytes(bytes(600_000))
    assert run()
    assert run.holds_everything


def test_more_bytes_than_the_file_has_are_fetched_again(start, tmp_release) -> None:
    run = start(tmp_release)
    (run.root / ".mmaupro-fetch").mkdir(parents=True)
    (run.root / ".mmaupro-fetch" / "mmar-audio.tar.gz").write_bytes(bytes(9_000_000))
    assert run()
    assert run.holds_everything


@pytest.mark.parametrize("damage", ["lost", "changed", "shorter"])
def test_a_clip_that_is_not_right_any_more_is_fetched_again_with_its_file_alone(
    start, damage: str
) -> None:
    run = start(released("mmsu"))
    run()
    clip = run.root / run.release.rows[8]["audio"]  # of the second of three files
    content = clip.read_bytes()
    if damage == "lost":
        clip.unlink()
    else:
        clip.write_bytes(bytes(len(content) - (damage == "shorter")))
    run.hub.log.clear()
    assert run()
    assert {request.file for request in run.hub.asked("storage")} == {
        "data/train-00001-of-00003.parquet"
    }
    assert run.holds_everything


@pytest.mark.parametrize("damage", ["torn", "deleted"])
def test_a_damaged_record_of_the_clips_costs_reading_and_no_download(start, damage: str) -> None:
    run = start(released("mmau"))
    run()
    record = run.root / ".mmaupro-fetch" / "finished.sqlite"
    if damage == "torn":
        record.write_bytes(record.read_bytes()[:5000])
    else:
        record.unlink()
    run.hub.log.clear()
    assert run()
    assert run.hub.asked("storage") == []


def test_a_damaged_record_of_a_file_costs_a_download_and_no_clip(start) -> None:
    run = start(released("mmau"))
    run()
    (record,) = (run.root / ".mmaupro-fetch").glob("????????????????.json")
    record.write_text('{"clips": 3}')
    assert run()
    assert run.holds_everything


def test_a_folder_that_was_begun_with_other_files_is_not_mixed(start) -> None:
    run = start(released("mmau"))
    run()
    other = released("mmau", longest=100)
    run.hub.files.update(other.files)
    with pytest.raises(DataError, match="Name another folder"):
        run()
    assert run.holds_everything


# Files that the user brought


@pytest.mark.parametrize("name", ["mmau", "mmar"])
def test_a_file_that_is_there_is_used_and_left(start, name: str) -> None:
    run = start(released(name))
    run.root.mkdir()
    (run.root / run.release.largest).write_bytes(run.release.files[run.release.largest].content)
    assert run()
    assert run.hub.asked("storage") == []
    assert run.holds_everything
    assert (run.root / run.release.largest).exists()


def test_a_wrong_file_of_the_user_is_not_touched(start) -> None:
    run = start(released("mmau"))
    run.root.mkdir()
    wrong = bytearray(run.release.files[run.release.largest].content)
    wrong[500] ^= 0xFF
    (run.root / run.release.largest).write_bytes(wrong)
    with pytest.raises(DataError, match="Move it away"):
        run()
    assert (run.root / run.release.largest).read_bytes() == wrong


# Rows that another host has


def test_no_token_is_sent_to_another_host(start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(released("mmar"))
    run.hub.token = "hf_made_up"
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    assert run()
    assert {request.authorization for request in run.hub.asked("raw")} == {None}


def test_rows_with_other_bytes_are_refused(start) -> None:
    run = start(released("mmar"))
    (url,) = run.hub.raw
    run.hub.raw[url] = File(run.release.raw[url].content.replace(b"beeps", b"bangs"), large=False)
    with pytest.raises(DataError, match="arrived 3 times with a digest other"):
        run()
    assert not (run.root / "rows.jsonl").exists()


def test_rows_that_are_not_to_be_had_may_be_brought_by_hand(start) -> None:
    run = start(released("mmar"))
    (content,) = [file.content for file in run.release.raw.values()]
    run.hub.raw.clear()
    with pytest.raises(DataError, match=r"MMAR-meta\.jsonl answered 404.* put it into the folder"):
        run()
    run.root.mkdir(exist_ok=True)
    (run.root / "MMAR-meta.jsonl").write_bytes(content)
    assert run()
    assert run.holds_everything


def test_rows_as_one_json_list_are_read_too(start) -> None:
    release = released("mmar")
    lines = [json.loads(line) for line in next(iter(release.raw.values())).content.splitlines()]
    listed = json.dumps(lines, indent=1).encode()
    run = start(with_archive(release, listed, release.files["mmar-audio.tar.gz"].content))
    assert run()
    assert run.holds_everything


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"id": 3}', b"\xff"])
def test_rows_that_are_none_are_said(start, content: bytes) -> None:
    release = released("mmar")
    run = start(with_archive(release, content, release.files["mmar-audio.tar.gz"].content))
    with pytest.raises(DataError, match=r"MMAR-meta\.jsonl (is neither|holds no list)"):
        run()


def test_rows_that_git_names_are_checked_by_that_name(start) -> None:
    release = released("mmar")
    content = next(iter(release.raw.values())).content
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    for digest, right in ((blob, True), ("0" * 40, False)):
        metadata, audio = release.benchmark.files
        files = (replace(metadata, bytes=None, digest=digest), audio)
        run = start(replace(release, benchmark=replace(release.benchmark, files=files)))
        run.root = run.root.with_name(digest)
        if right:
            assert run()
        else:
            with pytest.raises(DataError, match="with a digest other"):
                run()


# What released rows and clips are like


def test_nulls_lists_and_a_choice_called_none_survive(start) -> None:
    run = start(released("mmsu"))
    run()
    docs = {doc["id"]: doc for doc in data.load_items("mmsu", data_dir=run.root)}
    padded = [doc for doc in docs.values() if "" in doc["choices"]]
    assert {doc["choices"].index("") for doc in padded} >= {1, 2}, "null in any position"
    assert [doc for doc in docs.values() if "None" in doc["choices"]]
    assert "problem" not in str(docs)
    mini = start(released("mmau"))
    mini.root = mini.root.with_name("mmau")
    mini()
    found = {doc["attributes"]["category"] for doc in data.load_items("mmau", data_dir=mini.root)}
    assert found == {"Reasoning"}, "a list of one text is that text"


def test_clips_are_named_by_ids_whatever_the_file_says_of_them(start) -> None:
    paths = "../../etc/{}.mp3"
    run = start(released("mmsu", paths=paths))
    assert run()
    assert {Path(clip).suffix for clip in folder_clips(run.root)} == {".mp3"}
    names = {Path(clip).stem for clip in folder_clips(run.root)}
    assert names == {row["id"] for row in run.release.rows}
    bare = start(released("mmau", paths=None))
    bare.root = bare.root.with_name("bare")
    assert bare()
    assert bare.holds_everything, "without a name they are called .wav"


@pytest.mark.parametrize("identifier", ["../../outside", "a b/c", ".hidden", "x" * 300, "q?:*"])
def test_an_id_that_is_no_file_name_leads_nowhere_else(start, identifier: str) -> None:
    release = released("mmsu")
    rows = [dict(row) for row in release.rows]
    rows[3]["id"] = identifier
    run = start(released("mmsu", rows=rows))
    assert run()
    clip = json.loads((run.root / "rows.jsonl").read_text().splitlines()[3])["audio"]
    assert Path(clip).parent == Path("data")
    assert (run.root / clip).read_bytes() == release.clips[rows[3]["audio"]]
    assert sorted(path.name for path in run.root.parent.iterdir()) == ["folder"]
    (doc,) = [doc for doc in data.load_items("mmsu", data_dir=run.root) if doc["id"] == identifier]
    assert data.audio_references(doc)[0]["sha256"]


def test_a_row_without_a_clip_is_one_errored_item(start) -> None:
    release = released("mmau")
    rows = [dict(row) for row in release.rows]
    rows[2]["context"] = None
    run = start(released("mmau", rows=rows))
    assert run()
    broken = [doc for doc in data.load_items("mmau", data_dir=run.root) if "problem" in doc]
    assert len(broken) == 1
    assert "column 'context'" in broken[0]["problem"]


def test_clips_missing_from_the_archive_are_reported(start) -> None:
    release = released("mmar")
    lost = "data/mmar-sample-03.wav"
    members = {f"audio/{Path(clip).name}": c for clip, c in release.clips.items() if clip != lost}
    run = start(with_archive(release, next(iter(release.raw.values())).content, archive(members)))
    assert not run()
    assert f"in no file (first: {lost})" in run.said
    assert len(data.load_items("mmar", data_dir=run.root)) == len(release.rows)


def test_a_parquet_without_a_needed_column_is_not_used(start) -> None:
    release = released("mmau")
    rows = [{key: value for key, value in row.items() if key != "answer"} for row in release.rows]
    run = start(released("mmau", rows=rows))
    with pytest.raises(DataError, match="has no column answer"):
        run()


def test_something_else_than_a_parquet_is_said(start) -> None:
    release = released("mmau")
    release.files[release.largest] = File(b"no parquet " * 100, large=True)
    run = start(release)
    with pytest.raises(DataError, match="is not readable as a parquet file"):
        run()


def test_text_that_is_none_is_damage(start) -> None:
    release = released("mmau")
    table = pyarrow.parquet.read_table(io.BytesIO(release.files[release.largest].content))
    raw = [text.encode() for text in table["instruction"].to_pylist()]
    raw[3] = b"\xff\xfe"
    column = pa.array(raw, pa.binary()).view(pa.string())
    sink = io.BytesIO()
    at = table.schema.get_field_index("instruction")
    pyarrow.parquet.write_table(table.set_column(at, "instruction", column), sink)
    release.files[release.largest] = File(sink.getvalue(), large=True)
    with pytest.raises(DataError, match=r"not readable as a parquet file \('utf-8' codec"):
        start(release)()


# Hostile archives


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(content: bytes, release: Release, folder: Path) -> dict[str, bytes]:
    path = folder / "clips.tar.gz"
    path.write_bytes(content)
    rows = [{release.benchmark.clip_column: clip} for clip in release.clips]
    clips = archives.clips_of(path, release.benchmark, rows, [])
    return {clip: b"".join(pieces) for clip, pieces in clips}


def test_only_regular_files_that_rows_name_are_taken(tmp_path: Path) -> None:
    release = released("mmar")
    a, b, c = list(release.clips)[:3]
    links = [
        entry(f"audio/{Path(a).name}", tarfile.SYMTYPE, "/etc/passwd"),
        entry(f"audio/{Path(b).name}", tarfile.FIFOTYPE),
        entry("/etc/cron", tarfile.LNKTYPE, "/etc/passwd"),
    ]
    members = {f"../../{Path(c).name}": b"one", "/tmp/evil.wav": b"two", "audio": b"three"}
    assert unpacked(archive(members, *links), release, tmp_path) == {c: b"one"}


def test_two_members_for_one_clip_are_refused(tmp_path: Path) -> None:
    release = released("mmar")
    name = Path(next(iter(release.clips))).name
    with pytest.raises(DataError, match="is there twice"):
        unpacked(archive({f"a/{name}": b"1", f"b/{name}": b"2"}), release, tmp_path)


def test_a_member_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = released("mmar")
    name = Path(next(iter(release.clips))).name
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 999)
    with pytest.raises(DataError, match="declares 1,000 bytes"):
        unpacked(archive({name: bytes(1000)}), release, tmp_path)
    monkeypatch.setattr(archives, "LARGEST_TOTAL", 999)
    with pytest.raises(DataError, match="declares more than 999 bytes"):
        unpacked(archive({"other": bytes(1000)}), release, tmp_path)


def mutated(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(changed))
        change = rng.randrange(4)
        if change == 0:
            changed[at] = rng.randrange(256)
        elif change == 1:
            changed[at : at + 12] = rng.choice([bytes(12), b"\xff" * 12, b"77777777777\0"])
        elif change == 2:
            del changed[at : at + rng.randint(1, 600)]
        else:
            del changed[at:]
        if not changed:
            return b""
    return bytes(changed)


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_every_damage_ends_in_one_error_or_in_bytes_of_wanted_clips(
    tmp_path: Path, mode: str
) -> None:
    rng, release = random.Random(20261201), released("mmar")
    members = {f"audio/{Path(clip).name}": c for clip, c in [*release.clips.items()][:4]}
    content = archive(members, mode=mode)
    refused = 0
    for _ in range(200):
        try:
            found = unpacked(mutated(rng, content), release, tmp_path)
        except DataError:
            refused += 1
        else:
            assert set(found) <= set(release.clips)
    assert refused > 20


# Room, rights, options


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_writes_nothing(start, name: str) -> None:
    run = start(released(name))
    assert run(dry_run=True)
    assert not run.root.exists()
    assert run.hub.asked("storage") == []
    assert "to download: " in run.said
    run()
    assert run(dry_run=True)
    assert "to download: 0 B" in run.said


def test_too_little_room_is_said_before_the_download(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1 << 20

    run = start(released("mmau"))
    monkeypatch.setattr(fetch_state.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DataError, match=r"1\.0 MB free, and the clips need"):
        run()
    assert run.hub.asked("storage") == []


def test_a_disk_that_fills_up_while_unpacking_keeps_the_file(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, original, written = start(released("mmau")), fetch_state.Folder.put, []

    def full(*args: object) -> object:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(args)
        return original(*args)

    monkeypatch.setattr(fetch_state.Folder, "put", full)
    with pytest.raises(DataError, match=r"the disk is full\. .* of test_mini\.parquet are kept"):
        run()
    assert len(folder_clips(run.root)) == 5
    assert not (run.root / "rows.jsonl").exists()
    monkeypatch.setattr(fetch_state.Folder, "put", original)
    run.hub.log.clear()
    assert run()
    assert run.hub.asked("storage") == []
    assert run.holds_everything


@pytest.mark.parametrize(
    "options",
    [{"criteria": Criteria(limit=3)}, {"criteria": Criteria(ids=("a",))}, {"revision": "main"}],
)
def test_a_part_or_another_revision_is_refused_without_a_request(start, options: dict) -> None:
    run = start(released("mmau"))
    with pytest.raises(ConfigError, match="comes in whole files"):
        run(**options)
    assert run.hub.log == []


def test_a_clip_in_place_of_a_link_out_of_the_folder_is_replaced_unread(
    start, tmp_path: Path
) -> None:
    run = start(released("mmau"))
    run()
    clip, outside = run.root / run.release.rows[0]["context"], tmp_path / "outside.wav"
    clip.rename(outside)
    clip.symlink_to(outside)
    outside.write_bytes(b"mine")
    assert run()
    assert not clip.is_symlink()
    assert outside.read_bytes() == b"mine"
    assert run.holds_everything


def test_real_sizes_that_differ_from_the_stated_ones_are_said(start) -> None:
    run = start(released("mmau"))
    run()
    size = run.release.files["test_mini.parquet"].size
    assert f"note: test_mini.parquet is {size} here and 1213407227 to others" in run.said
