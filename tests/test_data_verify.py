"""`mmaupro data verify`: every way in which a copy can be wrong is found and named."""

from __future__ import annotations

import _thread
import argparse
import copy
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

import fullsize
from mmaupro_ext import data
from mmaupro_ext.commands import cli, data_verify
from mmaupro_ext.data import clips, findings, manifest, schema, verify
from mmaupro_ext.data.facts import check_facts
from mmaupro_ext.errors import DataError

RATE = 8000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("MMAUPRO_DATA", raising=False)
    return folder


@pytest.fixture(scope="module")
def full_docs(tmp_path_factory):
    folder = fullsize.write(tmp_path_factory.mktemp("full"))
    docs, report, errors = verify.read_every_row(folder / "test.parquet")
    assert not errors
    assert not report.findings
    return docs


def tone(seconds=1.0, level=0.5, rate=RATE, channels=1, hertz=440.0):
    times = np.arange(round(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * hertz * times)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def sound_row(name, **changes):
    row = {
        "id": name,
        "audio_path": [f"data/{name}.wav"],
        "question": f"What is in {name}?",
        "answer": "a tone",
        "choices": ["a tone", "a noise"],
        "length_type": "short",
        "perceptual_skills": [],
        "reasoning_skills": [],
        "category": "sound",
        **changes,
    }
    return row


def make(folder, rows, waves=None):
    """Write rows, and a different tone for every clip that `waves` does not give."""
    fullsize.write(folder, rows)
    for number, path in enumerate(dict.fromkeys(c for row in rows for c in row["audio_path"])):
        wave = (waves or {}).get(path, tone(hertz=300 + 10 * number))
        if wave is not None:
            content = io.BytesIO()
            soundfile.write(content, wave, RATE, subtype="FLOAT", format="WAV")
            # The PEAK chunk of a float WAV holds the time of day: the same sound, the same bytes.
            body = content.getvalue()
            at = body.find(b"PEAK") + 12
            (folder / path).write_bytes(body[:at] + bytes(4) + body[at + 4 :])
    return folder


def found(report, key):
    matching = [difference for difference in report.differences if difference.key == key]
    assert len(matching) <= 1
    return matching[0] if matching else None


def run(*arguments):
    parser = argparse.ArgumentParser(prog="mmaupro data verify")
    data_verify.add_arguments(parser)
    return data_verify.run(parser.parse_args(list(map(str, arguments))))


# --- facts -------------------------------------------------------------------------------------


def test_every_stated_number_holds_on_the_stand_in_at_full_size(full_docs):
    found_facts = check_facts(full_docs)
    assert {fact.name: fact.found for fact in found_facts if fact.verdict != "as stated"} == {}
    assert sum(fact.expected for fact in found_facts if fact.name.startswith("rows:")) == 5305
    assert len([fact for fact in found_facts if fact.name.startswith("rows:")]) == 12


def first(docs, **wanted):
    return next(doc for doc in docs if all(doc[key] == value for key, value in wanted.items()))


def add_choice_to_choiceless(docs):
    first(docs, category="open", choices=[])["choices"] = ["one", "two"]


def add_choice_to_single(docs):
    next(doc for doc in docs if len(doc["choices"]) == 1)["choices"].append("another")


def answer_an_instruction(docs):
    first(docs, answer=None)["answer"] = "yes"


def cut_two_clips_to_one(docs):
    doc = next(doc for doc in docs if len(doc["audio_path"]) == 2)
    doc["audio_path"] = doc["audio_path"][:1]


def cut_three_clips_to_two(docs):
    doc = next(doc for doc in docs if len(doc["audio_path"]) == 3)
    doc["audio_path"] = doc["audio_path"][:2]


def share_a_clip(docs):
    docs[0]["audio_path"] = list(docs[1]["audio_path"])


def relabel_a_long_row(docs):
    first(docs, length_type="ultra-long")["length_type"] = "medium"


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (add_choice_to_choiceless, {"no-choices"}),
        (add_choice_to_single, {"one-choice"}),
        (answer_an_instruction, {"null-answers"}),
        (cut_two_clips_to_one, {"several-clips", "two-clips", "clips"}),
        (cut_three_clips_to_two, {"two-clips", "three-clips", "clips"}),
        (share_a_clip, {"clips"}),
        (relabel_a_long_row, {"long-rows"}),
    ],
)
def test_a_broken_fact_is_reported_and_no_other(full_docs, change, broken):
    docs = copy.deepcopy(full_docs)
    change(docs)
    found_facts = check_facts(docs)
    assert {fact.name for fact in found_facts if fact.verdict == "DIFFERS"} == broken


@pytest.mark.parametrize("slug", data.CATEGORIES)
def test_a_row_that_changes_its_category_breaks_both_counts(full_docs, slug):
    other = "music" if slug != "music" else "sound"
    docs = [dict(doc) for doc in full_docs]
    first(docs, category=data.CATEGORIES[slug].value)["category"] = data.CATEGORIES[other].value
    found_facts = check_facts(docs)
    assert {fact.name for fact in found_facts if fact.verdict == "DIFFERS"} == {
        f"rows:{slug}",
        f"rows:{other}",
    }


def test_a_missing_row_makes_the_exit_status_1_and_is_shown(tmp_path, capsys):
    rows = fullsize.rows()
    dropped = next(i for i, row in enumerate(rows) if row["category"] == "spatial_audio")
    fullsize.write(tmp_path, rows[:dropped] + rows[dropped + 1 :])
    assert run("--data-dir", tmp_path, "--quick") == 1
    lines = capsys.readouterr().out.splitlines()
    spatial = next(line for line in lines if line.strip().startswith("spatial_audio"))
    assert spatial.split() == ["spatial_audio", "325", "324", "DIFFERS", "inferred"]
    assert "clips are missing (0 of 5,786 are there)" in "\n".join(lines)


def test_a_row_that_breaks_the_schema_hides_neither_other_rows_nor_clips(tmp_path):
    rows = [
        sound_row("good"),
        sound_row("empty-question", question=" "),
        sound_row("alone", choices=["a tone"]),
        sound_row("good-too"),
    ]
    make(tmp_path, rows)
    report = verify.verify(tmp_path)
    messages = found(report, "rows-unusable").examples
    assert len(messages) == 2
    assert "empty-question" in messages[0]
    assert "'choices'" in messages[1]
    assert report.facts[0].found == 4
    assert report.clips["present"] == 2


def test_two_rows_with_one_id_are_reported(tmp_path):
    make(tmp_path, [sound_row("same"), sound_row("same", audio_path=["data/b.wav"])])
    assert "already in row 0" in found(verify.verify(tmp_path), "rows-unusable").examples[0]


def test_a_parquet_that_is_none_is_an_error_that_names_it(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "test.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"test\.parquet: not readable as parquet"):
        verify.verify(tmp_path)
    assert run("--data-dir", tmp_path) == 2
    assert "Download test.parquet again" in capsys.readouterr().err


def test_a_folder_that_does_not_exist_is_an_error_with_the_way_to_the_data(tmp_path, capsys):
    assert run("--data-dir", tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


# --- measuring ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "subtype", "channels"),
    [("wav", "PCM_16", 1), ("wav", "PCM_24", 2), ("wav", "FLOAT", 1), ("flac", "PCM_16", 2)],
)
def test_measured_values_are_those_of_the_whole_decoded_clip(tmp_path, suffix, subtype, channels):
    path = tmp_path / f"clip.{suffix}"
    rng = np.random.default_rng(1)
    # Longer than a decoding block, with the loudest sample in the last one.
    wave = rng.uniform(-0.4, 0.4, (150_001, channels)).astype(np.float32)
    wave[-1] = 0.75
    soundfile.write(path, wave, 44_100, subtype=subtype)
    decoded, rate = soundfile.read(path, always_2d=True)
    entry = clips.measure(path)
    assert "problem" not in entry
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entry["bytes"] == path.stat().st_size
    assert (entry["frames"], entry["sampling_rate"], entry["channels"]) == (150_001, rate, channels)
    assert entry["seconds"] == pytest.approx(150_001 / 44_100, abs=1e-4)
    assert entry["peak"] == pytest.approx(np.abs(decoded).max(), rel=1e-5)
    assert entry["rms"] == pytest.approx(np.sqrt((decoded**2).mean()), rel=1e-5)
    assert (entry["nonfinite"], entry["full_scale_share"]) == (0, 0.0)
    assert entry["subtype"] == subtype


def test_only_runs_of_three_at_full_scale_count_as_clipping(tmp_path):
    wave = np.zeros((1000, 2), np.float32)
    wave[10:12, 0] = 1.0  # two: loud, not clipped
    wave[20:23, 0] = -1.0  # three
    wave[22:30, 1] = 1.0  # eight, in the other channel
    wave[995:, 0] = 1.0  # five, up to the end
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    assert clips.measure(tmp_path / "a.wav")["full_scale_share"] == pytest.approx(16 / 2000)


@pytest.mark.parametrize(("second", "same"), [(0.5, True), (0.499, False)])
def test_two_channels_that_are_one_are_told_from_two(tmp_path, second, same):
    wave = np.hstack([tone(level=0.5), tone(level=second)])
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    assert clips.measure(tmp_path / "a.wav")["identical_channels"] is same


def test_not_a_number_is_counted_and_left_out_of_the_levels(tmp_path):
    wave = tone()
    wave[5], wave[100] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    entry = clips.measure(tmp_path / "a.wav")
    assert entry["nonfinite"] == 2
    assert entry["peak"] == pytest.approx(0.5, rel=1e-3)
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_clip_that_was_cut_is_broken_in_every_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), 16_000)
    assert "problem" not in clips.measure(path)
    cut(path)
    entry = clips.measure(path)
    assert entry["problem"]
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wav_of_unknown_length_from_a_pipe_is_whole(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    place = content.index(b"data")
    content[4:8] = content[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    entry = clips.measure(path)
    assert "problem" not in entry
    assert entry["frames"] == RATE


# --- files -------------------------------------------------------------------------------------


def test_each_broken_clip_is_named_and_stops_no_other(tmp_path):
    names = ["good", "missing", "empty", "noise", "cut", "folder", "nan", "silent-header"]
    make(tmp_path, [sound_row(name) for name in names])
    folder = tmp_path / "data"
    (folder / "missing.wav").unlink()
    (folder / "empty.wav").write_bytes(b"")
    (folder / "noise.wav").write_bytes(b"<html>404</html>" * 50)
    cut(folder / "cut.wav")
    (folder / "folder.wav").unlink()
    (folder / "folder.wav").mkdir()
    wave = tone()
    wave[3] = np.nan
    soundfile.write(folder / "nan.wav", wave, RATE, subtype="FLOAT")
    soundfile.write(folder / "silent-header.wav", np.zeros(0), RATE)

    report = verify.verify(tmp_path, jobs=2)
    assert [e.split()[0] for e in found(report, "clips-missing").examples] == ["data/missing.wav"]
    broken = "\n".join(found(report, "clips-broken").examples)
    for name in ("empty", "noise", "cut", "folder", "silent-header"):
        assert f"data/{name}.wav: " in broken
        assert f"(item {name})" in broken
    assert "good" not in broken
    assert found(report, "clips-nonfinite").examples == ["data/nan.wav: 1 samples (item nan)"]
    assert report.clips["present"] == 7
    assert not report.ok
    files = manifest.read_manifest(tmp_path / "manifest.json")["files"]
    assert files["data/good.wav"]["seconds"] == 1.0
    assert "data/missing.wav" not in files


def test_the_manifest_gives_the_loader_its_digests(tmp_path):
    make(tmp_path, [sound_row("a"), sound_row("b")])
    report = verify.verify(tmp_path)
    assert report.manifest == str(tmp_path / "manifest.json")
    docs = data.load_category("sound", data_dir=tmp_path)
    for doc in docs:
        content = (tmp_path / doc["audio_path"][0]).read_bytes()
        assert doc["audio_sha256"] == [hashlib.sha256(content).hexdigest()]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data",
        "manifest.json",
        "test.parquet",
    ]


def test_where_the_folder_takes_no_manifest_the_cache_does(tmp_path, own_cache, capsys):
    make(tmp_path, [sound_row("a")])
    (tmp_path / "manifest.json").mkdir()  # no file can take this name
    run("--data-dir", tmp_path)
    text = capsys.readouterr().out
    assert "cache folder because" in text
    assert list(own_cache.rglob("manifest.json"))
    quick = verify.verify(tmp_path, quick=True)
    assert found(quick, "clips-unread") is None
    assert quick.clips["seconds"] == 1.0


def test_quick_reads_no_clip_and_sees_what_changed(tmp_path, monkeypatch):
    make(tmp_path, [sound_row(name) for name in ("same", "grown", "touched", "gone", "new")])
    (tmp_path / "data" / "new.wav").rename(tmp_path / "new.wav")
    verify.verify(tmp_path)
    (tmp_path / "new.wav").rename(tmp_path / "data" / "new.wav")
    with (tmp_path / "data" / "grown.wav").open("ab") as stream:
        stream.write(b"x")
    os.utime(tmp_path / "data" / "touched.wav", ns=(1, 1))
    (tmp_path / "data" / "gone.wav").unlink()

    def refuse(*_):
        raise AssertionError("--quick must not read clips")

    monkeypatch.setattr(clips, "measure", refuse)
    report = verify.verify(tmp_path, quick=True)
    assert [e.split(":")[0] for e in found(report, "clips-broken").examples] == ["data/grown.wav"]
    assert [e.split()[0] for e in found(report, "clips-touched").examples] == ["data/touched.wav"]
    assert [e.split()[0] for e in found(report, "clips-missing").examples] == ["data/gone.wav"]
    assert [e.split()[0] for e in found(report, "clips-unread").examples] == ["data/new.wav"]
    assert report.manifest is None


def test_other_bytes_of_the_same_size_stay_a_problem_until_they_are_accepted(tmp_path):
    make(tmp_path, [sound_row("a"), sound_row("b")])
    verify.verify(tmp_path)
    before = manifest.read_manifest(tmp_path / "manifest.json")["files"]["data/a.wav"]
    soundfile.write(tmp_path / "data" / "a.wav", tone(hertz=999), RATE, subtype="FLOAT")
    assert (tmp_path / "data" / "a.wav").stat().st_size == before["bytes"]
    for _ in range(2):
        report = verify.verify(tmp_path)
        assert found(report, "clips-changed").examples == ["data/a.wav (item a)"]
        files = manifest.read_manifest(tmp_path / "manifest.json")["files"]
        assert files["data/a.wav"]["sha256"] == before["sha256"]
    assert found(verify.verify(tmp_path, accept_changes=True), "clips-changed") is None
    assert found(verify.verify(tmp_path), "clips-changed") is None


def test_a_clip_that_vanished_keeps_its_digest_for_the_day_it_comes_back(tmp_path):
    make(tmp_path, [sound_row("a"), sound_row("b")])
    verify.verify(tmp_path)
    kept = (tmp_path / "data" / "a.wav").read_bytes()
    (tmp_path / "data" / "a.wav").unlink()
    verify.verify(tmp_path)
    (tmp_path / "data" / "a.wav").write_bytes(kept[:-4] + b"\0\0\0\1")
    assert found(verify.verify(tmp_path), "clips-changed") is not None


def test_ctrl_c_keeps_what_was_read_and_the_next_run_goes_on(tmp_path, monkeypatch, capsys):
    names = [f"clip{number}" for number in range(6)]
    make(tmp_path, [sound_row(name) for name in names])
    measure = clips.measure
    read: list[str] = []

    def measure_four(path: Path, stop: threading.Event):
        if len(read) == 4:
            _thread.interrupt_main()
            assert stop.wait(timeout=20)
            raise InterruptedError
        read.append(path.name)
        return measure(path, stop)

    monkeypatch.setattr(clips, "measure", measure_four)
    assert run("--data-dir", tmp_path, "--jobs", 1) == 130
    assert "interrupted after 4 of 6 clips" in capsys.readouterr().err
    assert not (tmp_path / "manifest.json").exists()

    # One of the four changes meanwhile: it must be read again.
    soundfile.write(tmp_path / "data" / read[0], tone(2.0), RATE)
    again: list[str] = []

    def count(path: Path, stop: threading.Event):
        again.append(path.name)
        return measure(path, stop)

    monkeypatch.setattr(clips, "measure", count)
    report = verify.verify(tmp_path)
    assert sorted(again) == sorted({read[0], *(f"{name}.wav" for name in names)} - set(read[1:]))
    assert report.clips["read"] == 3
    assert len(manifest.read_manifest(tmp_path / "manifest.json")["files"]) == 6
    assert not (tmp_path / "manifest.partial.json").exists()


KILLED_AT_THE_FOURTH_CLIP = """
import json, os, signal, sys, time
from pathlib import Path
from mmaupro_ext.data import clips, manifest, verify

folder, read, measure = Path(sys.argv[1]), [], clips.measure
clips._SAVE_EVERY_S = 0.0

def measure_three(path, stop):
    if len(read) == 3:
        while len((manifest.read_manifest(folder / manifest.PARTIAL) or {"files": {}})["files"]) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    read.append(path)
    return measure(path, stop)

clips.measure = measure_three
verify.verify(folder, jobs=1)
"""


def test_a_killed_run_leaves_a_state_from_which_the_next_goes_on(tmp_path):
    make(tmp_path, [sound_row(f"clip{number}") for number in range(6)])
    package = Path(clips.__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_FOURTH_CLIP, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(package)},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    report = verify.verify(tmp_path)
    assert report.clips["read"] == 3
    assert report.clips["present"] == 6
    assert not report.problems
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"data", "manifest.json", "test.parquet"}


def test_a_complete_run_reads_everything_again(tmp_path):
    make(tmp_path, [sound_row("a"), sound_row("b")])
    assert verify.verify(tmp_path).clips["read"] == 2
    assert verify.verify(tmp_path).clips["read"] == 2


def test_a_partial_download_is_not_missing_what_was_not_selected(tmp_path):
    from mmaupro_ext.data.selection import Selection, write_selection

    rows = [sound_row(name) for name in ("chosen", "lost", "other", "beyond")]
    make(tmp_path, rows, waves={"data/lost.wav": None, "data/other.wav": None})
    chosen = frozenset({"chosen", "lost"})
    part = {"description": "a list of 2 ids"}
    write_selection(tmp_path, Selection(chosen, 4, {"sound": 2}, "0" * 40, (part,), True))
    report = verify.verify(tmp_path)
    assert found(report, "clips-missing").examples == ["data/lost.wav (item lost)"]
    assert report.clips["referenced"] == 3  # the clip of "beyond" is there and is checked
    assert "2 of 4 items" in found(report, "partial").examples[0]


# --- what the data is like ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (0.0, "short"),
        (30.0, "short"),
        (30.05, "short"),
        (30.2, "medium"),
        (180.0, "medium"),
        (181.0, "long"),
        (480.0, "long"),
        (481.0, "ultra-long"),
        (900.0, "ultra-long"),
    ],
)
def test_length_types_follow_the_thresholds_of_the_paper(seconds, name):
    assert schema.length_type_of(seconds) == name


def entry(seconds=5.0, **changes):
    return {"seconds": seconds, "channels": 1, "peak": 0.5, "full_scale_share": 0.0, **changes}


def notes(docs, entries):
    return {
        difference.key: difference.examples for difference in findings.audio_notes(docs, entries)
    }


def test_a_label_fits_the_longest_clip_or_the_sum_of_several():
    rows = [
        sound_row("longest", audio_path=["a", "b"], length_type="short"),
        sound_row("sum", audio_path=["a", "b"], length_type="medium"),
        sound_row("neither", audio_path=["a", "b"], length_type="long"),
    ]
    entries = {"a": entry(20.0), "b": entry(25.0)}
    assert notes(rows, entries) == {
        "length-type-measured": ["neither: labelled long, measured 20.00 s + 25.00 s"]
    }


def test_clips_above_ten_minutes_are_noted():
    row = sound_row("x", audio_path=["a"], length_type="ultra-long")
    assert notes([row], {"a": entry(601.0)}) == {"longer-than-stated": ["x: 601.00 s"]}


def test_spatial_clips_without_two_different_channels_are_noted():
    rows = [
        sound_row(name, audio_path=[name], category="spatial_audio")
        for name in ("mono", "twin", "stereo")
    ]
    rows.append(sound_row("elsewhere", audio_path=["elsewhere"]))
    entries = {
        "mono": entry(),
        "twin": entry(channels=2, identical_channels=True),
        "stereo": entry(channels=2, identical_channels=False),
        "elsewhere": entry(),
    }
    assert notes(rows, entries) == {
        "spatial-mono": ["mono: mono, one channel", "twin: twin, all channels are the same"]
    }


def test_silent_and_distorted_clips_are_noted_from_the_samples(tmp_path):
    silent = tone(level=5e-5)
    distorted = np.clip(tone(level=3.0), -1, 1)
    loud = tone(level=1.0)  # touches full scale, in runs that are no distortion
    rows = [sound_row(name) for name in ("silent", "distorted", "loud", "normal")]
    make(
        tmp_path,
        rows,
        {"data/silent.wav": silent, "data/distorted.wav": distorted, "data/loud.wav": loud},
    )
    report = verify.verify(tmp_path)
    assert found(report, "clips-silent").examples == ["data/silent.wav: peak -86 dBFS"]
    (clipped,) = found(report, "clips-clipped").examples
    assert clipped.startswith("data/distorted.wav")
    assert not report.problems


def test_the_same_sound_and_the_same_question_are_noted_under_other_ids(tmp_path):
    rows = [
        sound_row("a", question="What?"),
        sound_row("b", question="What?"),
        sound_row("c", question="Which?"),
        sound_row("d", question="How?", audio_path=["data/d.wav"]),
        sound_row("e", question="How?", audio_path=["data/d.wav"]),
    ]
    same = tone(hertz=777)
    make(tmp_path, rows, {f"data/{name}.wav": same for name in "abc"})
    report = verify.verify(tmp_path)
    assert found(report, "same-bytes").examples == ["data/a.wav = data/b.wav = data/c.wav"]
    assert found(report, "same-question-same-sound").examples == ["a = b"]
    assert found(report, "same-question-same-paths").examples == ["d = e"]


def test_an_answer_that_is_no_choice_and_a_stray_file_are_noted(tmp_path):
    make(tmp_path, [sound_row("a", answer="a bang"), sound_row("b")])
    (tmp_path / "data" / "deep").mkdir()
    (tmp_path / "data" / "deep" / ".DS_Store").write_bytes(b"x")
    report = verify.verify(tmp_path)
    assert found(report, "gold-in-choices").examples[0].startswith("a: the answer 'a bang'")
    assert found(report, "files-unreferenced").examples == ["data/deep/.DS_Store"]
    assert not report.problems


# --- the command -------------------------------------------------------------------------------


def test_the_sample_is_whole_and_its_folder_is_left_alone(capsys):
    before = {path: path.stat().st_mtime_ns for path in sorted(data.SAMPLE_DIR.rglob("*"))}
    assert run("--sample") == 0
    assert "Verdict: everything is as stated." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in sorted(data.SAMPLE_DIR.rglob("*"))} == before
    assert run("--sample", "--quick") == 0


def test_json_holds_every_case_and_the_screen_only_some(tmp_path, capsys):
    make(tmp_path, [sound_row(f"r{n}", answer="no choice") for n in range(7)])
    target = tmp_path / "report.json"
    run("--data-dir", tmp_path, "--examples", 2, "--json", target)
    assert "... and 5 more" in capsys.readouterr().out
    report = json.loads(target.read_text())
    (unanswerable,) = [d for d in report["differences"] if d["key"] == "gold-in-choices"]
    assert len(unanswerable["examples"]) == 7
    assert report["ok"] is False
    run("--data-dir", tmp_path, "--json")
    assert json.loads(capsys.readouterr().out)["facts"][0]["found"] == 7


def test_a_report_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path, capsys):
    make(tmp_path, [sound_row("a")])
    assert run("--data-dir", tmp_path, "--json", tmp_path / "data" / "a.wav" / "x.json") == 2
    assert "x.json: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("jobs", ["0", "-1", "many"])
def test_a_wrong_number_of_jobs_is_refused(jobs, capsys):
    with pytest.raises(SystemExit) as stop:
        run("--sample", "--jobs", jobs)
    assert stop.value.code == 2
    assert "whole number" in capsys.readouterr().err


def test_help_teaches_examples_and_exit_status(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "verify", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "--quick",
        "exit status",
        "Ctrl-C",
        "mmaupro data verify --sample",
        "manifest.json",
    ):
        assert part in text


def test_a_manifest_without_levels_is_enough_for_a_quick_look():
    report = verify.verify(sample=True, quick=True)
    assert report.ok
    assert report.clips["read"] == 0


@pytest.mark.parametrize("what", ["pipe", "link"])
def test_what_must_not_be_opened_is_a_problem_and_is_not_opened(tmp_path, what):
    make(tmp_path, [sound_row("a"), sound_row("b")])
    clip = tmp_path / "data" / "a.wav"
    clip.rename(tmp_path / "outside.wav")
    if what == "pipe":
        os.mkfifo(clip)
    else:
        clip.symlink_to(tmp_path / "outside.wav")
    # The folder of the dataset, with a link to a file beside it.
    moved = tmp_path / "set"
    moved.mkdir()
    for name in ("data", "test.parquet"):
        (tmp_path / name).rename(moved / name)
    for quick in (False, True):
        broken = found(verify.verify(moved, quick=quick), "clips-broken").examples
        assert len(broken) == 1
        assert "data/a.wav: is not opened: it is a " in broken[0]
