"""`mmaupro data verify`, `info` and `show` on the benchmarks that are described as data."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

import suite_samples
from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.commands import data_info, data_show, data_verify
from mmaupro_ext.data import info
from mmaupro_ext.data.facts import described_facts
from mmaupro_ext.data.items import all_documents, load_items
from mmaupro_ext.data.locate import SAMPLES_DIR
from mmaupro_ext.data.verify import VerifyReport, verify
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report import item, item_text

NAMES = list(suite_samples.SAMPLES)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for benchmark in BENCHMARKS.values():
        monkeypatch.delenv(f"{benchmark.name.upper().replace('-', '_')}_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path):
    """Return what copies a sample to where a fetched benchmark would be."""

    def copy(name: str) -> Path:
        target = tmp_path / name
        shutil.copytree(SAMPLES_DIR / name, target)
        return target

    return copy


def change_row(root: Path, number: int, **changes) -> None:
    file = root / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows[number] |= changes
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def found(report: VerifyReport) -> dict[str, list[str]]:
    return {difference.key: difference.examples for difference in report.differences}


def run(command, *arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="mmaupro data")
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


# --- verify ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_sound_and_nobody_states_its_numbers(name):
    report = verify(sample=True, name=name)
    assert report.ok
    assert report.problems == []
    assert {fact.verdict for fact in report.facts} == {"-"}
    assert report.clips["present"] == report.clips["referenced"] == report.clips["read"]


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_that_is_not_the_release_differs_from_what_is_stated(folder, name):
    report = verify(folder(name), name=name, jobs=1)
    assert not report.ok
    off = {fact.name for fact in report.facts if fact.verdict == "DIFFERS"}
    assert "rows" in off
    assert {f"rows:{one.slug}" for one in BENCHMARKS[name].categories if one.expected_count} <= off


def test_stated_counts_are_compared_value_by_value():
    benchmark = BENCHMARKS["mmau"]
    docs = load_items("mmau", sample=True)
    facts = {fact.name: fact for fact in described_facts(benchmark, docs, sample=False)}
    assert (facts["difficulty:easy"].expected, facts["difficulty:easy"].found) == (224, 5)
    assert (facts["choices:4"].expected, facts["choices:4"].found) == (948, 7)
    # A null choice is no real one, wherever it stands.
    mmsu = described_facts(BENCHMARKS["mmsu"], load_items("mmsu", sample=True), sample=False)
    (real,) = [fact for fact in mmsu if fact.name == "real choices:2"]
    assert (real.expected, real.found) == (453, 4)


@pytest.mark.parametrize(
    ("name", "stated"),
    [
        ("mmau", {"rows:": 1000, "choices:": 1000, "difficulty:": 1000, "category:": 1000}),
        ("mmar", {"rows:": 1000, "choices:": 1000, "category:": 1000, "source:": 1000}),
    ],
)
def test_stated_counts_sum_to_the_rows(name, stated):
    facts = described_facts(BENCHMARKS[name], [], sample=False)
    sums = {key: sum(f.expected for f in facts if f.name.startswith(key)) for key in stated}
    assert sums == stated


def test_lost_changed_and_broken_clips_are_problems(folder):
    root = folder("mmau")
    paths = [root / doc["audio_path"][0] for doc in load_items("mmau", data_dir=root)]
    paths[0].unlink()
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    problems = {p.key: p.examples for p in verify(root, name="mmau", jobs=1).problems}
    assert "mmau-sample-00" in problems["clips-missing"][0]
    assert "mmau-sample-01" in problems["clips-changed"][0]
    assert "mmau-sample-02" in problems["clips-broken"][0]
    assert len(problems["clips-missing"]) == len(problems["clips-broken"]) == 1


def test_a_row_that_cannot_be_asked_is_a_problem_and_the_others_are_read(folder):
    root = folder("mmsu")
    change_row(root, 4, answer_gt="nowhere")
    report = verify(root, name="mmsu", jobs=1)
    (problem,) = [p for p in report.problems if p.key == "rows-unusable"]
    assert "mmsu-sample-04" in problem.examples[0]
    assert report.clips["present"] == 17


def test_odd_cases_of_the_releases_are_notes():
    mmau, mmsu = (found(verify(sample=True, name=name)) for name in ("mmau", "mmsu"))
    assert mmau["list-for-text"] == ["mmau-sample-01: category = ['Reasoning']"]
    assert mmau["many-channels"] == ["data/mmau-sample-04.wav: 6 channels"]
    assert (
        "mmsu-sample-01: ['It rises', '', 'It falls', 'It stays the same']"
        in (mmsu["choices-padded"])
    )
    assert "mmsu-sample-03: None" in mmsu["choice-called-none"]


def test_a_choice_that_is_there_twice_says_whether_it_is_the_answer(folder):
    root = folder("mmau")
    change_row(root, 0, choices=["(A) One", "(B) Two", "(C) One"])
    change_row(root, 4, choices=["(A) One", "(B) Two", "(C) Four", "(D) Four"], answer="(A) One")
    twice = found(verify(root, name="mmau", jobs=1))["choices-distinct"]
    assert twice == [
        "mmau-sample-00: ['One', 'Two', 'One'] (the answer)",
        "mmau-sample-04: ['One', 'Two', 'Four', 'Four']",
    ]


def test_an_mp3_that_is_called_wav_is_whole_and_noted(folder):
    root = folder("mmau")
    clip = root / "data" / "mmau-sample-00.wav"
    wave = 0.3 * np.sin(np.arange(16000) / 20.0)
    soundfile.write(root / "clip.mp3", wave, 16000, format="MP3")
    (root / "clip.mp3").replace(clip)
    report = verify(root, name="mmau", jobs=1, accept_changes=True)
    assert report.problems == []
    (note,) = found(report)["named-otherwise"]
    assert note.startswith("data/mmau-sample-00.wav: MP3")


def test_verify_as_a_command(folder, capsys):
    root = folder("mmar")
    assert run(data_verify, "mmar", "--sample") == 0
    assert "sample of MMAR" in capsys.readouterr().out
    assert run(data_verify, "mmar", "--data-dir", root) == 1
    assert "not a result on MMAR as released" in capsys.readouterr().out
    assert run(data_verify, "mmar", "--data-dir", root / "nowhere") == 2
    assert f"mmaupro data fetch mmar --to '{root / 'nowhere'}'" in capsys.readouterr().err


# --- info --------------------------------------------------------------------------------------


def test_counts_are_those_of_the_rows():
    facts = info.overview(sample=True, name="mmsu")
    assert (facts["items"], facts["clips"]) == (18, 18)
    assert {row["kind"] for row in facts["categories"]} == {"closed"}
    assert facts["choices"] == [
        {"choices": 2, "closed": 4},
        {"choices": 3, "closed": 5},
        {"choices": 4, "closed": 9},
    ], "null is no choice"
    # 4 rows of 1/2, 5 of 1/3, 9 of 1/4
    assert facts["answers"][-1]["chance"] == pytest.approx((4 / 2 + 5 / 3 + 9 / 4) / 18)
    assert sum(facts["answers"][-1]["positions"]) == 18
    assert {row["kind"] for row in facts["skills"]} == {*BENCHMARKS["mmsu"].groups}
    assert facts["lengths"] == [
        {"length_type": "not labelled", "items": 18, "measured": facts["lengths"][0]["measured"]}
        | {"not_measured": facts["lengths"][0]["not_measured"]}
    ]


@pytest.mark.parametrize("name", NAMES)
def test_info_as_a_command(name, capsys):
    assert run(data_info, name, "--sample") == 0
    shown = capsys.readouterr().out
    assert f"sample of {BENCHMARKS[name].title}" in shown
    assert "Attributes (items)" in shown
    assert "Skills" not in shown
    assert all(group in shown for group in BENCHMARKS[name].groups)


def hidden(root: Path) -> Path:
    """Write a folder of MMAU's test split, whose answers are withheld."""
    (root / "data").mkdir(parents=True)
    row = {"audio_id": "data/a.wav", "question": "Which?", "choices": ["x", "y"], "answer": ""}
    rows = [row | {"id": str(number), "task": "sound"} for number in range(3)]
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "data" / "a.wav").write_bytes(suite_samples.wav(suite_samples.tone(0.2)))
    return root


def test_withheld_answers_have_no_blind_scores(tmp_path, capsys):
    root = hidden(tmp_path / "test")
    facts = info.overview(root, name="mmau-test")
    assert facts["answers"] == []
    assert facts["choices"] == [{"choices": 2, "hidden": 3}]
    assert "all closed" not in info.render(facts)
    assert run(data_show, "mmau-test", "1", "--data-dir", root) == 0
    assert "withheld by the authors" in capsys.readouterr().out
    assert verify(root, name="mmau-test", jobs=1).problems == []


@pytest.mark.parametrize("measured", [True, False])
def test_the_picture_is_drawn_with_and_without_answers_and_lengths(tmp_path, measured):
    pytest.importorskip("matplotlib")
    root = hidden(tmp_path / "test")
    if measured:
        verify(root, name="mmau-test", jobs=1)
    for arguments in (("mmar", "--sample"), ("mmau-test", "--data-dir", root)):
        target = tmp_path / f"{arguments[0]}.png"
        assert run(data_info, *arguments, "--figure", target) == 0
        assert target.stat().st_size > 10_000


# --- show --------------------------------------------------------------------------------------


def test_letters_stay_where_the_release_has_them():
    shown = item_text.render(item.show("mmsu-sample-01", sample=True, name="mmsu"))
    assert "* (A) It rises\n    (C) It falls\n    (D) It stays the same" in shown
    assert "(B)" not in shown
    assert "task_name" in shown
    assert "16,000 Hz" in shown


def test_a_row_that_cannot_be_asked_is_shown_as_such(folder):
    root = folder("mmau")
    change_row(root, 2, choices=["(A) alone"])
    shown = item.show("mmau-sample-02", root, name="mmau")
    assert not shown.usable
    assert "counts as errored in every run" in item_text.render(shown)


@pytest.mark.parametrize("name", NAMES)
def test_every_item_of_a_sample_can_be_shown(name):
    _, docs = all_documents(name, sample=True)
    for doc in docs[::5]:
        assert item.show(doc["id"], sample=True, name=name).usable


def test_an_unknown_id_names_the_benchmark_and_near_ids():
    with pytest.raises(ConfigError, match=r"no item of the sample of MMAR has the id 'mmar-sampel"):
        item.show("mmar-sampel-00", sample=True, name="mmar")
    with pytest.raises(ConfigError, match=r"Did you mean\n  mmar-sample"):
        item.show("mmar-sampel-00", sample=True, name="mmar")


def test_show_as_a_command(capsys, tmp_path):
    assert run(data_show, "mmar", "mmar-sample-00", "--sample") == 0
    assert "mmar-sample-00\nsound (closed)" in capsys.readouterr().out
    for words in (("birds", "mmar-sample-00"), ("mmar", "a", "b")):
        assert run(data_show, *words, "--sample") == 2
        assert "give [BENCHMARK] ID" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    target = tmp_path / "item.png"
    assert run(data_show, "mmsu", "mmsu-sample-01", "--sample", "--figure", target) == 0
    assert target.stat().st_size > 10_000
