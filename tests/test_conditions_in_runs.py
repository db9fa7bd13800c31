"""Runs under a condition: that no table, file or score of theirs passes for one of the benchmark."""

from __future__ import annotations

import json

import pytest
from lm_eval_here import keep_prints, run
from logged_runs import DOCS, good_reply, line_of, score, write_lines, write_run
from test_live import Request, Task

from mmaupro_ext import data
from mmaupro_ext.data import ablating, conditions
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs
from mmaupro_ext.report import comparison, frames, rows
from mmaupro_ext.report.live import LiveScores
from mmaupro_ext.scoring.errors import ScoringError

TIME = "2026-01-03T10-00-00.000001"
SLUGS = ("spatial_audio", "sound")


def write_ablated(folder, name, slugs=SLUGS, time=TIME, model="m", most=None):
    """Write a run under a condition as lm_eval logs it, with right replies to the first items of a task."""
    for slug in slugs:
        docs, _ = data.asked(DOCS[slug], {"condition": name})
        lines = []
        for doc in docs[:most]:
            line = line_of(doc, good_reply(doc))
            line["arguments"]["gen_args_0"]["arg_2"] = {"audio": data.audio_references(doc)}
            lines.append(line)
        write_lines(folder / f"samples_mmaupro-sample_{slug}_{time}.jsonl", lines)
    config = {"model": "hf-audio", "model_args": {"pretrained": model}}
    about = {"model_name": model, "config": config}
    (folder / f"results_{time}.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("full"), slugs=SLUGS)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return write_ablated(tmp_path_factory.mktemp("noise"), "noise")


# ---- from a run to its files -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run nano under noise, by the metadata of a plain run; return its folder and what was printed."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        printed = keep_prints(patch)
        words = (
            "--model hf-audio --model_args pretrained=nano --batch_size 8 --limit 3 --log_samples "
            f"--tasks mmaupro-sample_spatial_audio --metadata condition=noise --output_path {folder}"
        )
        run(patch, *words.split())
    (results,) = folder.glob("nano/results_*.json")
    (samples,) = folder.glob("nano/samples_*.jsonl")
    read = [json.loads(line) for line in samples.read_text().splitlines()]
    return json.loads(results.read_text()), read, "\n".join(printed)


@pytest.mark.parametrize(
    "metadata",
    [
        "condition=none,condition=silence",
        "condition=none condition=silence",
        "condition=none --metadata condition=silence",
    ],
)
def test_two_conditions_are_not_the_last_of_them(metadata, monkeypatch, capsys):
    words = "--model hf-audio --model_args pretrained=missing --tasks mmaupro-sample_sound"
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *f"{words} --metadata {metadata}".split())
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "--metadata: condition is given twice" in said
    assert "mmaupro ablate --conditions A,B" in said


def test_the_table_after_a_run_names_the_condition(ran):
    _, _, printed = ran
    assert "mmaupro-sample under the condition noise\n" in printed
    assert "ABLATED: under the condition noise (white Gaussian noise" in printed


def test_results_and_samples_tell_the_condition_wherever_they_tell_runs_apart(ran):
    results, samples, _ = ran
    config = results["config"]
    assert config["condition"] == config["identity"]["condition"] == "noise"
    released = {doc["id"]: doc for doc in DOCS["spatial_audio"]}
    for sample in samples:
        doc = sample["doc"]
        assert conditions.name_of(doc) == "noise"
        assert conditions.original(doc) == released[doc["id"]]
        prompt = line_of(conditions.original(doc), "")["arguments"]["gen_args_0"]["arg_0"]
        assert sample["arguments"]["gen_args_0"]["arg_0"] == prompt
        assert sample["prompt_hash"] != data.conditions.hashlib.sha256(prompt.encode()).hexdigest()
        assert (
            sample["arguments"]["gen_args_0"]["arg_2"]["audio"][0]["condition"]["name"] == "noise"
        )
        assert sample["heard"]["clips"][0]["condition"].startswith("noise, level of the clip")


def test_an_ablated_answer_is_not_the_answer_of_a_full_run_in_the_same_journal(
    tmp_path, monkeypatch, capsys
):
    words = (
        "--model hf-audio --model_args pretrained=nano --limit 2 --log_samples "
        f"--tasks mmaupro-sample_spatial_audio --output_path {tmp_path}"
    ).split()
    run(monkeypatch, *words, "--metadata", "condition=silence")
    run(monkeypatch, *words)
    kept = [
        json.loads(line)
        for file in (tmp_path / "journal").rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    starts = [entry["start"] for entry in kept if "start" in entry]
    assert [start["found"] for start in starts] == [0, 0]
    assert len({entry["request"] for entry in kept if "request" in entry}) == 4
    assert len({start["identity"]["id"] for start in starts}) == 1  # one journal serves both


def test_the_progress_line_names_conditions():
    docs = {
        name: data.asked(DOCS["sound"], {"condition": name})[0][:4] for name in ("noise", "none")
    }
    live = LiveScores({"mmaupro-sample_sound": Task(), "mmaupro-sample_sound@none": Task()})
    for doc in docs["noise"]:
        live.add(Request("mmaupro-sample_sound", doc), good_reply(doc))
    assert live.line().startswith("noise: acc 100.0")
    for doc in docs["none"]:
        live.add(Request("mmaupro-sample_sound@none", doc), "no idea")
    assert live.line() == "acc % none 0, noise 100"


# ---- from files to scores --------------------------------------------------------------------------


def test_scores_are_labelled_and_no_benchmark_is_claimed(noise, capsys):
    assert score(noise) == 0
    assert "preset strict+condition=noise" in capsys.readouterr().out
    (file,) = noise.glob("scores_*.json")
    result = json.loads(file.read_text())
    assert file.name == f"scores_strict+condition=noise_{TIME}.json"
    assert not result["comparable"]
    assert not result["overall"]["complete"]
    assert result["condition"] == "noise"
    assert "no score of the benchmark" in result["overall"]["label"]


def test_the_documents_behind_an_ablated_run_are_checked(tmp_path):
    folder = write_ablated(tmp_path, "permute", ("sound",))
    (run_,) = logged_runs.read_all([folder])
    assert not run_.deviations
    assert run_.condition == "permute"
    orders = [len(ablating.orders(len(doc["choices"]), doc["id"])) for doc in DOCS["sound"]]
    assert len(run_.items) == sum(orders)
    file = next(folder.glob("samples_*.jsonl"))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    forged = {**conditions.original(lines[0]["doc"]), "question": "Another?"}
    (doc, *_) = data.asked([forged], {"condition": "permute"})[0]
    write_lines(file, [line_of(doc, "A"), *lines[1:]])
    with pytest.raises(ScoringError, match="differs from the dataset's"):
        logged_runs.read_all([folder])


def test_replies_under_two_conditions_are_never_one_run(tmp_path, full):
    for other in ("full", "silence"):
        folder = write_ablated(tmp_path / other, "noise", ("sound",))
        if other == "silence":
            write_ablated(folder, other, ("spatial_audio",))
        else:
            docs = DOCS["spatial_audio"]
            lines = [line_of(doc, good_reply(doc)) for doc in docs]
            write_lines(folder / f"samples_mmaupro-sample_spatial_audio_{TIME}.jsonl", lines)
        with pytest.raises(ScoringError, match="different conditions are mixed"):
            logged_runs.read_all([folder])


def test_full_against_ablated_is_compared_and_says_so(full, noise):
    (pair,) = comparison.compare(frames.load(full, noise))
    assert pair.second == "m [noise]"
    assert pair.remarks[0].startswith("m [noise] was asked under the condition noise")
    (back,) = comparison.compare(frames.load(noise, full))
    assert back.remarks[0].startswith("m [noise] was asked under")


def test_full_against_mono_is_over_the_items_that_mono_has(full, tmp_path):
    mono = write_ablated(tmp_path, "mono", ("spatial_audio",))
    (pair,) = comparison.compare(frames.load(full, mono))
    assert pair.rows["overall"].items == len(DOCS["spatial_audio"])
    assert any(f"{len(DOCS['sound'])} items are only in m" in remark for remark in pair.remarks)


def test_full_is_not_compared_with_another_model_under_a_condition(full, tmp_path):
    other = write_ablated(tmp_path / "noise", "noise", model="other")
    with pytest.raises(
        ConfigError, match=r"two models, of which one was asked under noise.*name runs"
    ):
        comparison.compare(frames.load(full, other))
    (pair,) = comparison.compare(frames.load(full, other), accept_different=True)
    assert any(remark.startswith("two models") for remark in pair.remarks)
    backbone = write_ablated(tmp_path / "text", "text-backbone", model="its-language-model")
    (pair,) = comparison.compare(frames.load(full, backbone))  # another model is what it is about
    assert pair.rows["overall"].difference == 0.0


def test_full_is_not_compared_with_a_part_under_a_condition(full, tmp_path):
    part = write_ablated(tmp_path / "part", "noise", most=3)
    for pair in ((full, part), (part, full)):
        with pytest.raises(
            ConfigError, match=r"part of the items.*noise leaves no item out.*in full"
        ):
            comparison.compare(frames.load(*pair))
    (pair,) = comparison.compare(frames.load(full, part), accept_different=True)
    assert pair.rows["overall"].items == 6
    whole = write_ablated(tmp_path / "mono", "mono", ("spatial_audio",))
    less = write_run(tmp_path / "sound", slugs=("sound",))
    with pytest.raises(ConfigError, match="mono changes some items alone"):
        comparison.compare(frames.load(less, whole))


def test_items_fall_together_by_the_clips_of_the_run_in_full(full, tmp_path):
    none = write_ablated(tmp_path / "none", "none")
    for order in ((full, none), (none, full)):
        loaded = frames.load(*order)
        loaded.clips["sha256"] = "the same"
        (pair,) = comparison.compare(loaded)
        assert pair.rows["overall"].clusters == 1
    again = write_ablated(tmp_path / "again", "none")
    (pair,) = comparison.compare(frames.load(none, again))  # nobody was given a clip
    assert pair.rows["overall"].clusters == pair.rows["overall"].items


def test_two_conditions_are_not_compared_unless_asked_to(noise, tmp_path):
    silence = write_ablated(tmp_path, "silence")
    with pytest.raises(Exception, match="two conditions, noise and silence"):
        comparison.compare(frames.load(noise, silence))
    (pair,) = comparison.compare(frames.load(noise, silence), accept_different=True)
    assert "two conditions, noise and silence" in pair.remarks
    other = write_ablated(tmp_path / "other", "noise")
    (pair,) = comparison.compare(frames.load(noise, other))  # two models under one, say
    assert pair.remarks[0].startswith("under the condition noise")


def test_an_ablated_run_is_no_row_of_the_paper_and_not_beside_published_scores(noise):
    loaded = frames.load(noise)
    with pytest.raises(Exception, match=r"m \[noise\]: an ablated run has no row"):
        rows.rows(loaded)
    loaded.runs["dataset"] = "full"
    assert not loaded.is_paper
    loaded.runs["condition"] = "full"
    assert loaded.is_paper


def test_runs_that_ask_an_item_several_times_are_for_the_profile(tmp_path):
    folder = write_ablated(tmp_path, "fragments", ("spatial_audio",))
    with pytest.raises(Exception, match="each item was asked several times"):
        frames.load(folder)
