"""Features of a corpus: every clip in a shard or with its fault, whole shards kept, same bytes anyhow."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile

from mmaupro_ext import features
from mmaupro_ext.audio import load
from mmaupro_ext.commands import cli
from mmaupro_ext.corpus import on_ray, shards, sources
from mmaupro_ext.corpus.extract import extract
from mmaupro_ext.corpus.families import STOCK, WHISPER, family_of
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import sha256_of_file

FAMILY = "whisper-80"


def tone(number, rate=16_000, seconds=0.3):
    time = np.arange(round(rate * (seconds + number / 10))) / rate
    return 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Seven clips, of which two are damaged, in three blocks; and a file that is no clip."""
    folder = tmp_path_factory.mktemp("speech")
    (folder / "b").mkdir()
    for number, name in enumerate(["a.wav", "b/c.flac", "b/d.ogg", "b/e.WAV", "z.wav"]):
        rate = [16_000, 44_100][number % 2]
        path = folder / name
        soundfile.write(path, tone(number, rate), rate, format=path.suffix[1:].upper())
    whole = (folder / "a.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "empty.mp3").touch()
    (folder / "notes.txt").write_text("no clip")
    return folder


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "CLIPS", 3)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines_of(folder, number):
    text = (folder / "shards" / f"{number:05}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def done(speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "CLIPS", 3)
        return folder, extract([speech], folder, family=FAMILY)


# ---- what is written -----------------------------------------------------------------------------


def test_every_clip_has_its_frames_or_what_is_wrong_with_it(speech, done):
    folder, report = done
    served, damaged = [], []
    for number in range(report.shards):
        head, *lines = lines_of(folder, number)
        frames = np.load(folder / "shards" / head["shard"], mmap_mode="r")
        assert frames.shape == (head["frames"], 80)
        assert frames.dtype == np.float32
        good = [line for line in lines if "problem" not in line]
        assert sum(line["frames"] for line in good) == head["frames"]
        for line in good:
            path = speech / line["path"]
            of_clip = frames[line["first"] : line["first"] + line["frames"]]
            np.testing.assert_array_equal(of_clip, features.log_mel(load(path), 80).T)
            assert line["sha256"] == sha256_of_file(path)
            assert line["seconds"] == pytest.approx(soundfile.info(path).duration, abs=1e-6)
        served += [line["path"] for line in good]
        damaged += [line for line in lines if "problem" in line]
    assert served == ["a.wav", "z.wav", "b/c.flac", "b/d.ogg", "b/e.WAV"]
    assert [one["path"] for one in damaged] == ["cut.wav", "b/empty.mp3"]
    assert "empty" in damaged[1]["problem"]
    listed = (folder / "damaged.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(map(json.loads, listed), key=str) == sorted(damaged, key=str)


def test_the_manifest_counts_all(done):
    folder, report = done
    manifest = json.loads((folder / "features.json").read_text(encoding="utf-8"))
    assert manifest == report.manifest
    assert {k: manifest[k] for k in ("clips", "damaged", "shards", "complete", "family")} == {
        "clips": 5,
        "damaged": 2,
        "shards": 3,
        "complete": True,
        "family": FAMILY,
    }
    assert report.others == {".txt": 1}


@pytest.mark.parametrize("name", [*WHISPER, *STOCK])
def test_a_family_gives_whole_clips_as_its_extractor_does(name):
    family = family_of(name)
    samples = np.random.default_rng(0).normal(0, 0.1, 47 * family.sampling_rate).astype(np.float32)
    frames = family.compute(samples)
    assert frames.shape[1] == family.bands
    assert frames.flags.c_contiguous
    rows = {"inkling": 20, "granite": 50}.get(name, 100)  # a second, by the family's definition
    # Ends are mirrored, or hold whole windows only, of 3.2 hops at most; dots3 fills its last token of eight.
    assert abs(len(frames) - 47 * rows) <= (8 if name == "dots3" else 3)


def test_whisper_by_name_is_whisper_by_checkpoint(tmp_path, done):
    transformers = pytest.importorskip("transformers")
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    samples = tone(3).astype(np.float32)
    family = family_of(str(tmp_path))
    np.testing.assert_array_equal(family.compute(samples), family_of(FAMILY).compute(samples))


def test_dots3_goes_by_its_chunks_of_a_minute():
    family = family_of("dots3")
    samples = np.random.default_rng(1).normal(0, 0.1, 70 * 16_000).astype(np.float32)
    parts = [family.compute(samples[: 60 * 16_000]), family.compute(samples[60 * 16_000 :])]
    np.testing.assert_array_equal(family.compute(samples), np.concatenate(parts))


# ---- started again -------------------------------------------------------------------------------


def test_what_is_whole_stays_and_what_is_torn_is_made_anew(speech, done, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(done[0], folder)
    (folder / "features.json").write_text(
        json.dumps(json.loads((folder / "features.json").read_text()) | {"complete": False})
    )
    (folder / "shards" / "00000.jsonl").unlink()  # killed before the list was written
    (folder / "shards" / "00001.npy").write_bytes(b"\x93NUMPY")  # a disk that lost the array's end
    for torn in (".features.json.x.part", "shards/.00000.jsonl.x.part", "shards/00007.npy.part"):
        (folder / torn).write_bytes(b"torn")  # what was being written
    kept = (folder / "shards" / "00002.npy").stat().st_mtime_ns
    report = extract([speech], folder, family=FAMILY)
    assert report.outcome.kept == 1
    assert (folder / "shards" / "00002.npy").stat().st_mtime_ns == kept
    assert content(folder) == content(done[0])
    assert report.manifest == done[1].manifest


def test_killed_at_any_clip_it_goes_on_to_the_same_bytes(speech, done, tmp_path, monkeypatch):
    serve = shards._serve
    for last in range(1, 8):
        count, folder = 0, tmp_path / str(last)

        def killed(*arguments, last=last):
            nonlocal count
            count += 1
            if count == last:
                raise KeyboardInterrupt
            return serve(*arguments)

        monkeypatch.setattr(shards, "_serve", killed)
        with pytest.raises(KeyboardInterrupt):
            extract([speech], folder, family=FAMILY)
        monkeypatch.setattr(shards, "_serve", serve)
        report = extract([speech], folder, family=FAMILY)
        assert report.outcome.kept == (last - 1) // 3
        assert content(folder) == content(done[0])


def test_a_clip_that_came_or_changed_is_served_and_a_shard_too_many_goes(speech, done, tmp_path):
    corpus, folder = tmp_path / "speech", tmp_path / "out"
    shutil.copytree(speech, corpus)
    extract([corpus], folder, family=FAMILY)
    for path in (corpus / "b").iterdir():
        path.unlink()
    soundfile.write(corpus / "z.wav", tone(9), 16_000)
    report = extract([corpus], folder, family=FAMILY)
    assert (report.shards, report.outcome.kept) == (1, 0)
    assert sorted(path.name for path in (folder / "shards").iterdir()) == [
        "00000.jsonl",
        "00000.npy",
    ]
    assert lines_of(folder, 0)[3]["seconds"] == pytest.approx(1.2)


def test_other_features_and_other_files_are_left_alone(speech, done, tmp_path):
    with pytest.raises(ConfigError, match=r"family \('whisper-80' there\).*bands"):
        extract([speech], done[0], family="whisper-128")
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        extract([speech], tmp_path, family=FAMILY)


def test_a_full_disk_ends_it_with_the_folder_and_the_way_on(speech, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shards, "write_atomically", full)
    with pytest.raises(ConfigError, match=r"shards: cannot be written.*same command then goes on"):
        extract([speech], tmp_path / "out", family=FAMILY)
    monkeypatch.undo()
    report = extract([speech], tmp_path / "out", family=FAMILY)
    assert report.outcome.clips == 5


# ---- parquet -------------------------------------------------------------------------------------


def test_sound_in_parquet_files_gives_the_frames_of_its_files(speech, tmp_path):
    names = ["a.wav", "b/c.flac", "cut.wav", "b/d.ogg", "z.wav"]
    rows = [{"bytes": (speech / name).read_bytes(), "path": name} for name in names]
    rows[4] = {"bytes": None, "path": str(speech / "z.wav")}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"text": names, "audio": pa.array(rows, kind)})
    for number in range(2):
        part = table.slice(0, 3) if number == 0 else table.slice(3)
        pyarrow.parquet.write_table(part, tmp_path / f"{number}.parquet", row_group_size=2)
    files = sorted(tmp_path.glob("*.parquet"))
    report = extract(files, tmp_path / "out", family=FAMILY)
    assert (report.outcome.clips, report.shards) == (4, 3)
    assert [one["path"] for one in report.outcome.damaged] == ["0.parquet#2"]
    array = np.load(tmp_path / "out" / "shards" / "00000.npy")
    expected = [features.log_mel(load(speech / name), 80).T for name in names[:2]]
    np.testing.assert_array_equal(array, np.concatenate(expected))
    assert lines_of(tmp_path / "out", 2)[2]["sha256"] == sha256_of_file(speech / "z.wav")
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_benchmark_is_a_corpus():
    corpus = sources.read_corpus([Path(features.__file__).parents[1] / "data/sample/test.parquet"])
    clips = [clip for block in corpus.blocks for clip in block.clips]
    assert len(clips) == len({clip.name for clip in clips}) == 112
    assert all(clip.size for clip in clips)


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"text": ["a"]}, "no column of audio"), ({"path": [None]}, "holds None")],
)
def test_a_parquet_file_without_clips_is_refused(tmp_path, columns, message):
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=message):
        extract([tmp_path / "a.parquet"], tmp_path / "out")


def test_sources_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ConfigError, match="not readable as parquet"):
        extract([tmp_path / "a.parquet"], tmp_path / "out")
    with pytest.raises(ConfigError, match="there is no such"):
        extract([tmp_path / "b"], tmp_path / "out")
    with pytest.raises(ConfigError, match="there is no clip"):
        extract([tmp_path], tmp_path / "out")
    with pytest.raises(ConfigError, match="no such family, and no checkpoint"):
        family_of(str(tmp_path))


# ---- the command, and Ray ------------------------------------------------------------------------


def test_the_command_says_what_became_of_the_clips(speech, tmp_path, capsys):
    arguments = ["features", str(speech), "-o", str(tmp_path / "out"), "--family", FAMILY]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "5 clips" in said
    assert "DAMAGED: 2 clips" in said
    assert "b/empty.mp3: is empty" in said
    assert "1 .txt" in said


def test_a_block_goes_through_the_shell_as_text(speech, done, tmp_path):
    """What a process of Ray does, without Ray."""
    work = on_ray._Work(str(tmp_path), FAMILY)
    for block in sources.read_corpus([speech]).blocks:
        found = json.loads(work({"block": block.to_json()})["outcome"])
        assert set(found) == {"clips", "frames", "seconds", "damaged", "kept"}
    ours = {name: data for name, data in content(done[0]).items() if name.startswith("shards")}
    assert content(tmp_path) == ours
    (tmp_path / "file").touch()
    failed = on_ray._Work(str(tmp_path / "file"), FAMILY)({"block": block.to_json()})
    assert "cannot be written" in json.loads(failed["outcome"])["error"]


def test_without_ray_the_error_names_what_to_install(speech, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'mmaupro-ext\[ray\]'"):
        extract([speech], tmp_path / "out", family=FAMILY, workers=2)


@pytest.mark.skipif("MMAUPRO_TEST_SCALE" not in os.environ, reason="needs Ray: make test-scale")
def test_two_processes_of_ray_write_the_bytes_of_one(speech, done, tmp_path, monkeypatch):
    # Ray's workers look for packages where it is started: in a checkout, for one without a compiled core.
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    report = extract([speech], folder, family=FAMILY, workers=2)
    assert content(folder) == content(done[0])
    assert report.manifest == done[1].manifest


def test_a_worker_on_another_core_writes_nothing(tmp_path, monkeypatch):
    from mmaupro_ext.corpus import on_ray, sources

    work = on_ray._Work(str(tmp_path), FAMILY)
    monkeypatch.setattr(on_ray, "_core", lambda: "another core")
    block = sources.Block(0, ())
    outcome = work({"block": block.to_json()})["outcome"]
    assert "would compute with another core" in json.loads(outcome)["error"]
    assert list(tmp_path.iterdir()) == []
