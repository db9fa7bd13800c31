"""The result of `mmaupro score`: numbers, counts, marks, intervals, and what a judge adds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from logged_runs import (
    DOCS,
    EARLY,
    LATE,
    edit,
    good_reply,
    result_of,
    samples,
    score,
    scores_file,
    write_run,
)

from mmaupro_ext import data
from mmaupro_ext.commands import score as score_command
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_items, summary
from mmaupro_ext.offline.logged_runs import read_runs
from mmaupro_ext.replies import error_reply


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "m")


# --- the result ----------------------------------------------------------------------------------


def test_the_same_replies_give_the_same_bytes(folder, tmp_path):
    assert score(folder, "--items", tmp_path / "items.jsonl") == 0
    first = result_of(folder)
    items = (tmp_path / "items.jsonl").read_bytes()
    later = write_run(tmp_path / "elsewhere" / "m", time=EARLY)
    for slug in DOCS:  # as the ranks of a parallel run would log
        file = samples(later, slug, EARLY)
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[::2] + lines[1::2]))
    shuffled = [samples(later, slug, EARLY) for slug in reversed(DOCS)]
    assert score(*shuffled, "--output", tmp_path / "out", "--items", tmp_path / "again.jsonl") == 0
    again = json.loads(scores_file(tmp_path / "out", time=EARLY).read_text(encoding="utf-8"))
    assert first.pop("run")["times"] == [LATE]
    assert again.pop("run")["times"] == [EARLY]
    assert again == first
    assert (tmp_path / "again.jsonl").read_bytes() == items


def test_one_changed_reply_changes_the_digest(folder):
    before = logged_items.digest(read_runs([folder]).items, replies=True)
    edit(samples(folder, "open"), lambda line: line.update(resps=[["other"]]))
    after = read_runs([folder]).items
    assert logged_items.digest(after, replies=True) != before
    unchanged = logged_items.digest(read_runs([folder]).items, replies=False)
    assert logged_items.digest(after, replies=False) == unchanged


def test_right_answers_score_100_and_the_open_ones_stay_unscored(folder, capsys):
    assert score(folder) == 0
    result = result_of(folder)
    for name, entry in result["categories"].items():
        if entry["kind"] == "closed":
            assert entry["score"] == 100.0, name
            assert entry["counts"] == {"unparsed": 0, "ambiguous": 0, "empty": 0, "errored": 0}
            assert entry["served_score"] == 100.0
            assert not entry["marked"]
    assert result["categories"]["open"]["score"] is None
    overall = result["overall"]
    assert overall["label"] == "partial: 11 of 12 categories; unscored: open (7)"
    shown = capsys.readouterr().out
    assert "overall (partial)" in shown
    assert "unscored (7), no judge was asked" in shown


def test_overall_is_weighted_by_items_and_macro_is_not(tmp_path):
    def by_category(doc):
        return good_reply(doc) if doc["category"] == "sound" else "I cannot tell"

    folder = write_run(tmp_path / "m", slugs=("sound", "music"), reply=by_category)
    assert score(folder) == 0
    result = result_of(folder)
    assert result["categories"]["music"]["counts"]["unparsed"] == 12
    assert result["overall"]["weighted"] == pytest.approx(100 * 13 / 25, abs=1e-4)
    assert result["overall"]["macro"] == 50.0
    assert result["overall"]["categories"] == 2
    assert "missing: speech, " in result["overall"]["label"]
    assert len(result["dataset"]["missing_categories"]) == 10


def test_errored_empty_ambiguous_and_unparsed_replies_stay_in_the_denominator(folder):
    file = samples(folder, "sound")
    replies = [error_reply("clip is missing"), "", "A and B", "no idea", " . "]
    for number, text in enumerate(replies):
        edit(file, lambda line, text=text: line.update(resps=[[text]]), line=number)
    assert score(folder) == 0
    result = result_of(folder)
    entry = result["categories"]["sound"]
    assert entry["counts"] == {"unparsed": 1, "ambiguous": 1, "empty": 2, "errored": 1}
    assert entry["items"] == entry["scored"] == 13
    assert entry["score"] == pytest.approx(100 * 8 / 13, abs=1e-4)
    assert entry["served_score"] == pytest.approx(100 * 8 / 12, abs=1e-4)
    assert result["errored"] == [DOCS["sound"][0]["id"]]


def test_unanswerable_items_are_listed_and_left_out_of_a_second_number(folder):
    edit(samples(folder, "sound"), lambda line: line["doc"].update(answer="none of these"))
    assert score(folder, "--accept-changed") == 0
    result = result_of(folder)
    entry = result["categories"]["sound"]
    assert result["unanswerable"] == [DOCS["sound"][0]["id"]]
    assert entry["unanswerable"] == 1
    assert entry["score"] == pytest.approx(100 * 12 / 13, abs=1e-4)
    assert entry["without_unanswerable"] == 100.0
    assert result["overall"]["without_unanswerable"] > result["overall"]["weighted"]


def test_groups_come_from_the_values_of_the_data(folder):
    assert score(folder) == 0
    groups = result_of(folder)["groups"]
    docs = [doc for docs in DOCS.values() for doc in docs]
    for name in ("perceptual_skills", "reasoning_skills"):
        assert set(groups[name]) == {skill for doc in docs for skill in doc[name]}
        for skill, entry in groups[name].items():
            assert entry["items"] == sum(skill in doc[name] for doc in docs)
    assert {key: entry["items"] for key, entry in groups["clips"].items()} == {
        str(count): sum(len(doc["audio_path"]) == count for doc in docs) for count in (1, 2, 3)
    }
    closed = [doc for doc in docs if data.CATEGORY_BY_VALUE[doc["category"]].kind == "closed"]
    assert sum(entry["items"] for entry in groups["choices"].values()) == len(closed)
    assert set(groups["sub-cat"]) == {doc["sub-cat"] for doc in docs}


def test_measured_lengths_follow_the_manifest_not_the_label(folder):
    manifest = json.loads((data.SAMPLE_DIR / "manifest.json").read_text())["files"]
    long_items = [
        doc["id"]
        for docs in DOCS.values()
        for doc in docs
        if 180.1 < max(manifest[path]["seconds"] for path in doc["audio_path"]) <= 480.1
    ]
    assert score(folder) == 0
    measured = result_of(folder)["groups"]["measured_length"]
    assert measured["long"]["items"] == len(long_items) > 0
    assert sum(entry["items"] for entry in measured.values()) == 100


def test_items_that_share_a_clip_are_one_cluster(tmp_path):
    folder = write_run(tmp_path / "m", slugs=("sound",))
    shared = DOCS["sound"][0]["audio_sha256"]

    def share(line):
        line["doc"]["audio_sha256"] = list(shared)
        for clip in line["arguments"]["gen_args_0"]["arg_2"]["audio"]:
            clip["sha256"] = shared[0]

    for number in (1, 2, 3):
        edit(samples(folder, "sound"), share, line=number)
    assert score(folder, "--accept-changed") == 0
    assert result_of(folder)["categories"]["sound"]["clusters"] == 10


def without_digests(line):
    line["doc"]["audio_sha256"] = [None] * len(line["doc"]["audio_path"])
    for clip in line["arguments"]["gen_args_0"]["arg_2"]["audio"]:
        clip["sha256"] = None


def test_what_is_clustered_by_what_is_said(tmp_path, capsys):
    folder = write_run(tmp_path / "m", slugs=("sound", "music"))
    assert score(folder) == 0
    assert "intervals: 95 %, clustered by clip)" in capsys.readouterr().out
    for number in range(len(DOCS["sound"])):
        edit(samples(folder, "sound"), without_digests, line=number)
    assert score(folder, "--accept-changed") == 0
    result = result_of(folder)
    assert result["categories"]["sound"]["clustered_by"] == "item"
    assert result["categories"]["music"]["clustered_by"] == "clip"
    some = "clip where its digest is known (12 of 25 items)"
    assert result["overall"]["clustered_by"] == some
    assert some in capsys.readouterr().out


def test_one_item_has_no_interval_and_the_table_says_why(tmp_path, capsys):
    folder = write_run(tmp_path / "m", slugs=("sound", "music"))
    file = samples(folder, "sound")
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    assert score(folder, "--accept-changed") == 0
    entry = result_of(folder)["categories"]["sound"]
    assert (entry["low"], entry["interval_note"]) == (None, "only one item: its spread is unknown")
    shown = capsys.readouterr().out
    assert "none: only one item: its spread is unknown" in shown
    assert "none: only one item in a category" in shown  # the macro mean


def test_the_macro_mean_has_an_interval(folder):
    assert score(folder) == 0
    overall = result_of(folder)["overall"]
    interval = overall["macro_interval"]
    assert 0 < interval["low"] < overall["macro"] <= interval["high"] <= 100


def test_instruction_readings_are_compared_item_by_item(folder, monkeypatch):
    position = next(
        i
        for i, doc in enumerate(DOCS["instruction_following"])
        if doc["task_identifier"] == "All Lowercase"
    )
    item = DOCS["instruction_following"][position]
    file = samples(folder, "instruction_following")
    for number in range(len(DOCS["instruction_following"])):
        edit(file, lambda line: line.update(resps=[["Zz."]]), line=number)

    def swap(line):
        line["doc"].update(task_identifier="Postscript", kwargs={"postscript_marker": "P.S."})
        line.update(resps=[["tips"]])

    edit(file, swap, line=position)
    assert score(folder, "--accept-changed") == 0
    entry = result_of(folder)["instruction"]
    change = {"id": item["id"], "identifier": "Postscript", "official": True, "strict": False}
    assert change in entry["differences"]
    assert entry["counted"] == "strict"
    assert entry["official"] >= entry["strict"]


def test_missing_sentence_data_is_counted_and_the_command_is_named(folder, monkeypatch, capsys):
    import nltk

    monkeypatch.setattr(nltk.data, "path", [])
    expected = sorted(
        doc["id"]
        for doc in DOCS["instruction_following"]
        if doc["task_identifier"].startswith("Number Sentences")
    )
    assert expected
    assert score(folder) == 0
    assert result_of(folder)["instruction"]["substitute"] == expected
    assert result_of(folder)["categories"]["instruction following"]["counts"]["substitute"] == 0
    assert score(folder, "--preset", "official", "--embedder", "none") == 0
    assert result_of(folder, "official")["instruction"]["substitute"] == expected
    counts = result_of(folder, "official")["categories"]["instruction following"]["counts"]
    assert counts["substitute"] == len(expected)
    assert "python -m nltk.downloader punkt_tab" in " ".join(capsys.readouterr().out.split())


# --- presets on the command line -----------------------------------------------------------------


def test_an_override_is_in_the_name_of_the_file_and_in_the_result(folder):
    assert score(folder, "--set", "gold=casefold") == 0
    result = result_of(folder, "strict+gold=casefold")
    assert result["preset"]["overrides"] == {"gold": "casefold"}
    assert result["preset"]["options"]["gold"] == "casefold"
    assert result["label"] == "strict+gold=casefold"


def test_explain_needs_no_run(capsys):
    assert score("--explain", "nemo-skills", "--set", "gold=exact") == 0
    assert capsys.readouterr().out.startswith("nemo-skills+gold=exact: ")
    assert score("--explain") == 0
    assert "\nstrict: Nothing is guessed" in capsys.readouterr().out


def test_no_run_and_a_wrong_preset_are_named(folder, capsys):
    assert score() == 2
    assert score(folder, "--preset", "lenient") == 2
    shown = capsys.readouterr().err
    assert "name a folder of results" in shown
    assert "preset='lenient' is unknown" in shown


def test_official_without_an_embedder_says_how_to_go_on(folder, tmp_path, capsys):
    assert score(folder, "--preset", "official", "--embedder", tmp_path / "nothing") == 2
    assert "--embedder none" in capsys.readouterr().err
    assert score(folder, "--preset", "official", "--embedder", "none") == 0
    result = result_of(folder, "official")
    assert result["categories"]["sound"]["score"] is None
    assert result["overall"]["categories"] == 1


def test_an_errored_item_without_an_embedder_makes_no_score_of_its_category(folder):
    edit(samples(folder, "sound"), lambda line: line.update(resps=[[error_reply("no clip")]]))
    assert score(folder, "--preset", "official", "--embedder", "none") == 0
    entry = result_of(folder, "official")["categories"]["sound"]
    assert (entry["score"], entry["scored"], entry["counts"]["errored"]) == (None, 1, 1)


def test_another_embedder_than_the_official_one_is_in_the_label(folder, monkeypatch):
    import numpy as np

    from mmaupro_ext.offline import embedders

    class Lengths:
        name, label, official, identity = "org/lengths", "not official: lengths", False, "lengths"

        def encode(self, texts):
            angles = np.array([len(text) for text in texts]) / 100
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

        def cut_tokens(self, texts):
            return [0] * len(texts)

        def details(self):
            return {"name": self.name, "label": self.label, "official": False}

    monkeypatch.setattr(embedders, "load_embedder", lambda *names, **options: Lengths())
    monkeypatch.chdir(folder)  # where no folder has the embedder's name
    assert score(folder, "--preset", "official", "--embedder", "org/lengths") == 0
    result = result_of(folder, "official+embedder=org_lengths")
    assert result["label"] == "official+embedder=org/lengths"
    Lengths.name = str(folder)
    assert score(folder, "--preset", "official", "--embedder", folder) == 0
    assert str(folder) not in scores_file(folder, "official+embedder=m").read_text()
    # A bare letter is nearest to the shortest choice, right or wrong.
    shortest = [min(doc["choices"], key=len) == doc["answer"] for doc in DOCS["multi"]]
    assert result["categories"]["multi"]["score"] == pytest.approx(
        100 * sum(shortest) / len(shortest), abs=1e-4
    )


def test_a_result_that_cannot_be_written_names_the_option(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert score(folder, "--output", tmp_path / "file" / "below") == 2
    with pytest.raises(ConfigError, match="--output"):
        score_command._write(tmp_path / "file" / "below", "x")


def test_json_holds_no_nan():
    with pytest.raises(ValueError, match="nan|NaN|JSON"):
        summary.to_json({"score": float("nan")})


# --- what is kept and in which form --------------------------------------------------------------


def test_scores_are_kept_and_not_overwritten(folder, capsys):
    assert score(folder) == 0
    first = scores_file(folder).read_bytes()
    assert score(folder) == 0  # the same again: no second file
    edit(samples(folder, "sound"), lambda line: line.update(resps=[["Z"]]))
    assert score(folder) == 0
    assert scores_file(folder).read_bytes() == first
    second = scores_file(folder).with_name(f"{scores_file(folder).stem}-2.json")
    assert str(second) in capsys.readouterr().out
    assert sorted(folder.glob("scores_*")) == sorted([scores_file(folder), second])
    assert json.loads(second.read_text())["arguments"]["reply_field"] == "resps"


@pytest.mark.parametrize("notation", ["markdown", "latex", "csv", "json"])
def test_every_notation_has_every_category_and_the_overall(folder, capsys, notation):
    assert score(folder, "--format", notation) == 0
    printed = capsys.readouterr().out
    if notation == "json":
        assert json.loads(printed) == result_of(folder)
        return
    shown = printed.replace("\\_", "_")
    for name in (*result_of(folder)["categories"], "overall (partial)", "macro mean"):
        assert name in shown
    separator = {"markdown": "|", "latex": "&", "csv": ","}[notation]
    rows = [line for line in printed.splitlines() if line.count(separator) > 5]
    assert len({line.count(separator) for line in rows}) == 1


def test_items_say_what_was_asked_and_what_decided(folder, tmp_path):
    assert score(folder, "--items", tmp_path / "items.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    docs = {doc["id"]: doc for part in DOCS.values() for doc in part}
    for line in lines:
        doc = docs[line["id"]]
        assert (line["question"], line["choices"]) == (doc["question"], doc["choices"])
        assert line["clips"] == doc["audio_path"]
        if line["status"] == "letter":
            assert line["details"]["evidence"] in line["reply"]
