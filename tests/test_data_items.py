"""Rows of the described benchmarks: the samples, broken rows, other folders, partial data."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

import suite_samples
from mmaupro_ext import audio, data
from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.data import items
from mmaupro_ext.data.locate import SAMPLES_DIR, benchmark_folder
from mmaupro_ext.errors import DataError

NAMES = list(suite_samples.SAMPLES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of MMAU's sample that may be changed."""
    shutil.copytree(SAMPLES_DIR / "mmau", tmp_path / "mmau")
    return tmp_path / "mmau"


def change_row(folder: Path, number: int, **changes) -> None:
    file = folder / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[number] |= changes
    file.write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_samples_are_what_their_maker_writes(name):
    rows, clips = suite_samples.build(name)
    written = (SAMPLES_DIR / name / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == rows
    committed = {f"data/{file.name}" for file in (SAMPLES_DIR / name / "data").iterdir()}
    assert committed == set(clips)
    manifest = json.loads((SAMPLES_DIR / name / "manifest.json").read_text(encoding="utf-8"))
    for path, content in clips.items():
        assert (SAMPLES_DIR / name / path).read_bytes() == content
        assert manifest["files"][path]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_has_every_category_and_no_broken_row(name):
    docs = data.load_items(name, sample=True)
    assert {doc["category"] for doc in docs} == set(BENCHMARKS[name].by_value)
    assert not [doc for doc in docs if "problem" in doc]
    by_category = [data.load_items(name, slug, sample=True) for slug in BENCHMARKS[name].by_slug]
    assert [doc for group in by_category for doc in group] == docs
    assert json.loads(json.dumps(docs)) == docs


@pytest.mark.parametrize("name", NAMES)
def test_the_clips_of_a_sample_can_be_heard(name):
    for doc in data.load_items(name, sample=True):
        (reference,) = data.audio_references(doc)
        assert reference["sha256"] == doc["audio_sha256"][0]
        assert audio.load(reference["path"]).size > 0


def test_a_clip_of_six_channels_is_among_them():
    docs = data.load_items("mmau", sample=True)
    content = [Path(data.audio_references(doc)[0]["path"]).read_bytes() for doc in docs]
    assert 6 in [wav[22] for wav in content]  # the channels in a WAV header


def test_a_row_that_cannot_be_asked_is_one_errored_item(folder):
    change_row(folder, 2, choices=["(A) alone"])
    docs = data.load_items("mmau", data_dir=folder)
    assert len(docs) == 15
    (broken,) = [doc for doc in docs if "problem" in doc]
    assert "row 2 (id mmau-sample-02): column 'choices'" in broken["problem"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"other_attributes": "{}"}, "row 1: column 'id'"),
        ({"other_attributes": json.dumps({"id": "mmau-sample-00", "task": "sound"})}, "already"),
    ],
)
def test_a_row_without_identity_or_with_another_ones_stops(folder, changes, message):
    change_row(folder, 1, **changes)
    with pytest.raises(DataError, match=message):
        data.load_items("mmau", data_dir=folder)


def test_a_file_that_was_cut_off_names_its_line(folder):
    file = folder / "rows.jsonl"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="line 15: not JSON"):
        data.load_items("mmau", data_dir=folder)


def test_a_file_of_another_kind_is_not_taken_for_broken_rows(folder):
    for number in range(9):
        change_row(folder, number, answer="")
    with pytest.raises(DataError, match="9 of 15 rows cannot be asked"):
        data.load_items("mmau", data_dir=folder)


def test_only_the_items_of_a_partial_download_are_asked(folder):
    part = {"description": "two items"}
    content = {"format": 1, "revision": "r", "finished": True, "total": 15, "by_category": {}}
    content |= {"ids": ["mmau-sample-00", "mmau-sample-07"], "parts": [part]}
    (folder / "selection.json").write_text(json.dumps(content))
    assert [doc["id"] for doc in data.load_items("mmau", data_dir=folder)] == content["ids"]


def test_the_caller_owns_the_documents(folder):
    first = data.load_items("mmau", data_dir=folder)[0]
    first["choices"].clear()
    first["attributes"].clear()
    again = data.load_items("mmau", data_dir=folder)[0]
    assert again["choices"]
    assert again["attributes"]


def test_rows_are_read_once_for_all_tasks_and_no_clip_is(folder, monkeypatch):
    """Start-up grows with the rows, not with rows times categories and prompts."""
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read(path))
    parsed = []
    document = items.document
    monkeypatch.setattr(items, "document", lambda *given: parsed.append(1) or document(*given))
    for prompt in ("own", "letter", "text"):
        for slug in BENCHMARKS["mmau"].by_slug:
            assert data.load_items("mmau", slug, folder, prompt=prompt)
    assert opened == ["rows.jsonl"]
    assert len(parsed) == 15
    change_row(folder, 0, instruction="Another?")  # a changed file is read again
    assert data.load_items("mmau", "sound", folder)[0]["question"] == "Another?"
    assert opened == ["rows.jsonl", "rows.jsonl"]


def test_where_a_benchmark_is_looked_for(monkeypatch, folder, tmp_path):
    benchmark = BENCHMARKS["mmau"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"mmaupro-ext/MMAU \(from the default place\)"):
        benchmark_folder(benchmark)
    monkeypatch.setenv("MMAU_DATA", str(folder))
    assert benchmark_folder(benchmark) == folder
    with pytest.raises(DataError, match="mmau_dir"):  # named and wrong: never the next place
        benchmark_folder(benchmark, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["mmaupro", "mmlu"])
def test_a_benchmark_that_is_not_described_by_rows_is_refused(name):
    with pytest.raises(DataError, match="There are: mmau, mmar"):
        data.load_items(name)
