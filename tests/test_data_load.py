"""Finding the dataset, reading it once, and referring to its clips."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from mmaupro_ext import data
from mmaupro_ext.audio import AudioReader
from mmaupro_ext.data import digests, load
from mmaupro_ext.errors import AudioError, DataError
from mmaupro_ext.util import cache_dir


@pytest.fixture(autouse=True)
def clean_process(monkeypatch, tmp_path):
    """Give each test its own cache folder and no memory of other tests' folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MMAUPRO_DATA", raising=False)
    monkeypatch.setattr(load, "_roots", {})
    load._read_once.cache_clear()
    digests._sha256_of.cache_clear()


def row(number, **changes):
    base = {
        "id": f"id-{number}",
        "audio_path": [f"data/{number}.wav"],
        "question": "Which?",
        "answer": "a",
        "choices": ["a", "b"],
        "length_type": "short",
        "perceptual_skills": [],
        "reasoning_skills": [],
        "category": "sound",
        "transcription": None,
        "task_classification": None,
        "task_identifier": None,
        "kwargs": {"N": None, "keyword": None},
        "sub-cat": None,
    }
    return {**base, **changes}


def dataset(folder, rows):
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "test.parquet")
    return folder


def test_missing_data_names_folder_commands_and_sample(tmp_path):
    missing = tmp_path / "nowhere"
    with pytest.raises(DataError) as caught:
        data.locate(missing)
    message = str(caught.value)
    for part in (
        f"{missing} (from data_dir): there is no such folder",
        "hf download gamma-lab-umd/MMAU-Pro --repo-type dataset --local-dir",
        "unzip",
        "47.5 GB",
        "--metadata data_dir=",
        "export MMAUPRO_DATA=",
        "--tasks mmaupro-sample",
    ):
        assert part in message
    last = message.splitlines()[-1].strip()
    assert last.startswith(f"mmaupro data fetch --to '{missing}' --limit 120 ")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        ((), "it has no test.parquet"),
        (("test.parquet",), "it has no folder data/"),
        (("test.parquet", "data.zip"), "data.zip is there but was not extracted"),
    ],
)
def test_half_a_dataset_is_not_taken(tmp_path, make, problem):
    for name in make:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=problem):
        data.locate(tmp_path)


def test_order_is_argument_then_variable_then_cache(tmp_path, monkeypatch):
    named = dataset(tmp_path / "named", [row(0)])
    variable = dataset(tmp_path / "variable", [row(0)])
    cached = dataset(tmp_path / "cache" / "mmaupro-ext" / "MMAU-Pro", [row(0)])
    assert data.locate() == cached
    monkeypatch.setenv("MMAUPRO_DATA", str(variable))
    assert data.locate() == variable
    assert data.locate(str(named)) == named


def test_a_wrong_named_folder_is_never_replaced_by_another(tmp_path, monkeypatch):
    monkeypatch.setenv("MMAUPRO_DATA", str(dataset(tmp_path / "good", [row(0)])))
    with pytest.raises(DataError, match="from data_dir"):
        data.locate(tmp_path / "bad")


def test_category_is_found_by_slug_and_by_value_and_unknown_ones_are_named(tmp_path):
    assert data.load_category("instruction_following", sample=True) == data.load_category(
        "instruction following", sample=True
    )
    with pytest.raises(DataError, match="unknown category 'sonds'.*sound_music_speech"):
        data.load_category("sonds", sample=True)


def test_sample_and_data_dir_together_are_refused(tmp_path):
    with pytest.raises(DataError, match="not both"):
        data.load_category("sound", data_dir=tmp_path, sample=True)


def test_rows_are_split_by_category_in_file_order(tmp_path):
    rows = [row(0), row(1, category="music"), row(2)]
    folder = dataset(tmp_path / "d", rows)
    assert [d["id"] for d in data.load_category("sound", folder)] == ["id-0", "id-2"]
    assert [d["id"] for d in data.load_category("music", folder)] == ["id-1"]
    assert data.load_category("multi", folder) == []


def test_parquet_is_read_once_for_all_categories(tmp_path, monkeypatch):
    folder = dataset(tmp_path / "d", [row(0), row(1, category="music")])
    opened = []
    real = pyarrow.parquet.ParquetFile
    monkeypatch.setattr(
        pyarrow.parquet, "ParquetFile", lambda path: opened.append(path) or real(path)
    )
    for slug in data.CATEGORIES:
        data.load_category(slug, folder)
    assert len(opened) == 1


def test_changed_parquet_is_read_again(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    assert len(data.load_category("sound", folder)) == 1
    dataset(folder, [row(0), row(1)])
    os.utime(folder / "test.parquet", ns=(1, 1))
    assert len(data.load_category("sound", folder)) == 2


def test_documents_belong_to_the_caller(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    data.load_category("sound", folder)[0]["choices"].append("c")
    assert data.load_category("sound", folder)[0]["choices"] == ["a", "b"]


def test_documents_do_not_depend_on_where_the_data_is(tmp_path):
    one = dataset(tmp_path / "one", [row(0)])
    two = dataset(tmp_path / "two", [row(0)])
    docs = [data.load_category("sound", folder) for folder in (one, two)]
    assert docs[0] == docs[1]
    assert str(tmp_path) not in json.dumps(docs)


def test_text_of_a_parquet_that_is_none_is_named(tmp_path):
    folder = dataset(tmp_path / "d", [row(number) for number in range(3)])
    table = pyarrow.parquet.read_table(folder / "test.parquet")
    wrong = pa.array([b"\xff", b"a", b"b"], pa.binary()).view(pa.string())
    at = table.schema.get_field_index("question")
    pyarrow.parquet.write_table(table.set_column(at, "question", wrong), folder / "test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet: not readable as parquet \('utf-8' codec"):
        data.load_category("sound", folder)


def test_unreadable_parquet_is_named(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    (folder / "test.parquet").write_bytes(b"<html>429</html>")
    with pytest.raises(DataError, match=r"test\.parquet: not readable as parquet"):
        data.load_category("sound", folder)


def test_a_bad_row_is_kept_as_an_errored_item_and_named(tmp_path, caplog):
    rows = [row(0), row(1, choices=["a"]), row(2), row(3, audio_path=[])]
    folder = dataset(tmp_path / "d", rows)
    with caplog.at_level(logging.WARNING):
        docs = data.load_category("sound", folder)
    assert [doc["id"] for doc in docs] == ["id-0", "id-1", "id-2", "id-3"]
    assert ["problem" in doc for doc in docs] == [False, True, False, True]
    assert "row 1 (id id-1), column 'choices'" in docs[1]["problem"]
    assert docs[1]["audio_path"] == docs[1]["audio_sha256"] == []
    assert "counted as errored: row 1 (id id-1)" in caplog.text


def test_a_file_of_bad_rows_stops_and_names_the_first(tmp_path):
    folder = dataset(tmp_path / "d", [row(0), row(1, choices=["a"]), row(2, choices=["a"])])
    with pytest.raises(DataError, match=r"test\.parquet: 2 of 3 rows .* row 1 \(id id-1\)"):
        data.load_category("sound", folder)


def test_a_row_that_no_task_could_count_stops_the_load(tmp_path):
    folder = dataset(tmp_path / "d", [row(0), row(1, category="noise")])
    with pytest.raises(DataError, match=r"row 1 \(id id-1\), column 'category'"):
        data.load_category("sound", folder)


def test_real_counts_are_checked_and_reported_once(tmp_path, caplog):
    folder = dataset(tmp_path / "d", [row(0)])
    with caplog.at_level(logging.WARNING):
        data.load_category("sound", folder)
        data.load_category("music", folder)
    assert [r.getMessage().count("expected 1048") for r in caplog.records] == [1]
    assert set(data.load_report(folder).by_fact()) == {"counts"}


def test_broken_manifest_is_named(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    (folder / "manifest.json").write_text('{"files": []}')
    with pytest.raises(DataError, match=r"manifest\.json: not a manifest"):
        data.load_category("sound", folder)


def test_digest_is_of_the_bytes_and_missing_files_have_none(tmp_path):
    folder = dataset(tmp_path / "d", [row(0, audio_path=["data/0.wav", "data/gone.wav"])])
    (folder / "data" / "0.wav").write_bytes(b"some bytes")
    doc = data.load_category("sound", folder)[0]
    assert doc["audio_sha256"] == [None, None]
    assert data.audio_references(doc) == [
        {
            "path": str(folder / "data" / "0.wav"),
            "sha256": hashlib.sha256(b"some bytes").hexdigest(),
        },
        {"path": str(folder / "data" / "gone.wav"), "sha256": None},
    ]


def test_unreadable_file_has_no_digest_and_raises_nothing(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    (folder / "data" / "0.wav").mkdir()
    doc = data.load_category("sound", folder)[0]
    assert data.audio_references(doc)[0]["sha256"] is None


def test_digest_follows_the_file_when_it_changes(tmp_path):
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"one")
    first = data.file_sha256(clip)
    clip.write_bytes(b"two")
    os.utime(clip, ns=(5, 5))
    assert data.file_sha256(clip) == hashlib.sha256(b"two").hexdigest() != first


def test_digest_measured_by_verify_is_taken_while_the_file_is_the_same(tmp_path, monkeypatch):
    folder = dataset(tmp_path / "d", [row(0)])
    clip = folder / "data" / "0.wav"
    clip.write_bytes(b"sound")
    state = clip.stat()
    entry = {"sha256": "ab" * 32, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    (folder / "manifest.json").write_text(json.dumps({"files": {"data/0.wav": entry}}))
    (doc,) = data.load_category("sound", folder)
    assert data.audio_references(doc)[0]["sha256"] == "ab" * 32
    clip.write_bytes(b"other")
    os.utime(clip, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert data.audio_references(doc)[0]["sha256"] == hashlib.sha256(b"other").hexdigest()


def test_digest_is_remembered_on_disk_between_processes(tmp_path, monkeypatch):
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"one")
    digest = data.file_sha256(clip)
    digests._sha256_of.cache_clear()  # what a new process would know
    monkeypatch.setattr(digests, "sha256_of_file", lambda path: pytest.fail("it was read again"))
    assert data.file_sha256(clip) == digest


@pytest.mark.parametrize("content", [b"", b"not sqlite", b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_store_of_digests_costs_reading_again(tmp_path, content):
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"one")
    digest = data.file_sha256(clip)
    for forget in (digests._sha256_of, digests._notes):
        forget.cache_clear()
    (cache_dir() / "store.sqlite").write_bytes(content)
    assert data.file_sha256(clip) == digest


@pytest.mark.parametrize("what", ["pipe", "socket", "device", "folder"])
def test_what_would_block_a_reader_is_never_opened(tmp_path, what):
    folder = dataset(tmp_path / "d", [row(0)])
    clip = folder / "data" / "0.wav"
    if what == "pipe":
        os.mkfifo(clip)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(os.path.relpath(clip))  # a socket's path must be short
    elif what == "device":
        clip.symlink_to("/dev/zero")
    else:
        clip.mkdir()
    (reference,) = data.audio_references(data.load_category("sound", folder)[0])
    assert reference["sha256"] is None
    assert "no regular file" in reference["problem"]
    assert data.file_sha256(clip) is None


def test_a_link_out_of_the_dataset_is_not_opened_and_one_within_is(tmp_path):
    folder = dataset(tmp_path / "d", [row(0), row(1)])
    (tmp_path / "secret.wav").write_bytes(b"not of the dataset")
    (folder / "data" / "0.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "data" / "real.wav").write_bytes(b"sound")
    (folder / "data" / "1.wav").symlink_to("real.wav")
    out, within = (data.audio_references(doc)[0] for doc in data.load_category("sound", folder))
    assert out["sha256"] is None
    assert "a link out of the dataset" in out["problem"]
    assert within["sha256"] == hashlib.sha256(b"sound").hexdigest()
    assert "problem" not in within


def test_a_model_does_not_open_what_must_not_be_opened(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    sound = folder / "data" / "sound.wav"
    soundfile.write(sound, np.full(1600, 0.1), 16000)
    sound.rename(tmp_path / "outside.wav")
    (folder / "data" / "0.wav").symlink_to(tmp_path / "outside.wav")
    (reference,) = data.audio_references(data.load_category("sound", folder)[0])
    with pytest.raises(AudioError, match="is not opened: it is a link out of the dataset"):
        AudioReader(16000, "native", 0).read(reference)
    assert AudioReader(16000, "native", 0).read({"path": str(tmp_path / "outside.wav")})


def test_the_folder_of_clips_may_itself_be_a_link(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    (folder / "data").rename(tmp_path / "on-another-disk")
    (folder / "data").symlink_to(tmp_path / "on-another-disk")
    (folder / "data" / "0.wav").write_bytes(b"sound")
    (reference,) = data.audio_references(data.load_category("sound", folder)[0])
    assert reference["sha256"] == hashlib.sha256(b"sound").hexdigest()


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"one")
    assert data.file_sha256(clip) == hashlib.sha256(b"one").hexdigest()


def test_bytes_that_differ_from_the_manifest_are_named(tmp_path, caplog):
    folder = dataset(tmp_path / "d", [row(0)])
    (folder / "data" / "0.wav").write_bytes(b"other")
    manifest = {"files": {"data/0.wav": {"sha256": "0" * 64}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    doc = data.load_category("sound", folder)[0]
    assert doc["audio_sha256"] == ["0" * 64]
    caplog.clear()
    references = data.audio_references(doc)
    assert references[0]["sha256"] == hashlib.sha256(b"other").hexdigest()
    assert "0.wav" in caplog.text
    assert "id-0" in caplog.text


def test_root_of_documents_is_found_in_a_process_that_did_not_load_them(tmp_path, monkeypatch):
    folder = dataset(tmp_path / "d", [row(0)])
    doc = data.load_category("sound", folder)[0]
    sample_doc = data.load_category("sound", sample=True)[0]
    assert data.audio_root(doc) == folder
    monkeypatch.setattr(load, "_roots", {})
    assert data.audio_root(sample_doc) == data.SAMPLE_DIR
    with pytest.raises(DataError, match="hf download"):
        data.audio_root(doc)
    monkeypatch.setenv("MMAUPRO_DATA", str(folder))
    assert data.audio_root(doc) == folder


def test_sample_and_full_dataset_keep_their_own_roots(tmp_path):
    folder = dataset(tmp_path / "d", [row(0)])
    full, sample = data.load_category("sound", folder), data.load_category("sound", sample=True)
    assert data.audio_root(full[0]) == folder
    assert data.audio_root(sample[0]) == data.SAMPLE_DIR


def test_loading_opens_no_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "file_sha256", lambda path: pytest.fail(f"{path} was hashed"))
    for slug in data.CATEGORIES:
        assert data.load_category(slug, sample=True)
