"""`mmaupro score`: reading logged replies, refusing what does not belong together, and the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from logged_runs import (
    DOCS,
    EARLY,
    LATE,
    good_reply,
    line_of,
    result_of,
    samples,
    score,
    write_lines,
    write_run,
)

from mmaupro_ext import data
from mmaupro_ext.commands import score as score_command
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import judges, logged_items, logged_runs, summary
from mmaupro_ext.offline.logged_items import document_hash
from mmaupro_ext.offline.logged_runs import read_runs
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.errors import ScoringError


def edit(file: Path, change, line: int = 0) -> None:
    """Change one line of a samples file, with its hash kept true to the document."""
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    change(lines[line])
    if isinstance(lines[line].get("doc"), dict):
        lines[line]["doc_hash"] = document_hash(lines[line]["doc"])
    write_lines(file, lines)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "m")


# --- finding the files ---------------------------------------------------------------------------


def test_a_folder_a_folder_above_and_single_files_give_the_same_run(folder):
    by_folder = read_runs([folder])
    assert read_runs([folder.parent]).items == by_folder.items
    files = [samples(folder, slug) for slug in reversed(DOCS)]
    assert read_runs(files).items == by_folder.items
    assert read_runs([folder, samples(folder, "open")]).items == by_folder.items
    assert by_folder.model == "m"
    assert by_folder.dataset == "sample"
    assert len(by_folder.items) == sum(map(len, DOCS.values()))


def test_the_newest_time_is_scored_and_another_can_be_named(folder):
    write_run(folder, EARLY, reply=lambda doc: "old")
    newest = read_runs([folder])
    assert newest.times == (LATE,)
    assert "--time" in newest.notes[0]
    assert read_runs([folder], time="2026-01-01").items[0].reply == "old"
    with pytest.raises(ScoringError, match=f"There are: {EARLY}, {LATE}"):
        read_runs([folder], time="2025")
    with pytest.raises(ScoringError, match="several times begin"):
        read_runs([folder], time="2026-01")


def test_a_folder_with_several_models_or_without_samples_is_refused(folder):
    write_run(folder.parent / "other")
    with pytest.raises(ScoringError, match="several models: .*m, .*other"):
        read_runs([folder.parent])
    empty = folder.parent / "empty"
    empty.mkdir()
    with pytest.raises(ScoringError, match="--log_samples"):
        read_runs([empty])
    with pytest.raises(ScoringError, match="no such file or folder"):
        read_runs([folder / "nothing"])


def test_log_likelihood_samples_are_no_replies(folder):
    (folder / f"samples_mmaupro-sample-ll_sound_{LATE}.jsonl").write_text("{}\n")
    assert len(read_runs([folder]).files) == 12
    with pytest.raises(ScoringError, match="'mmaupro-sample-ll_sound' has no replies"):
        read_runs([folder / f"samples_mmaupro-sample-ll_sound_{LATE}.jsonl"])


# --- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line.pop("resps"), "no field 'resps'.*there are: filtered_resps"),
        (lambda line: line.update(resps=[[]]), "'resps' holds no reply"),
        (lambda line: line.update(resps="A"), "'resps' holds no reply"),
        (lambda line: line.update(resps=[["A", "B"]]), "several replies"),
        (lambda line: line.update(resps=[["A"], ["B"]]), "several replies"),
        (lambda line: line.update(resps=[[None]]), "is NoneType"),
        (lambda line: line.update(resps=[[["A", True]]]), "is list"),
        (lambda line: line.pop("doc"), "no field 'doc'"),
        (lambda line: line["doc"].pop("choices"), "lacks choices"),
        (lambda line: line["doc"].update(choices="AB"), "not a list of strings"),
        (lambda line: line["doc"].update(choices=[1, 2]), "choices of the document is .1, 2."),
        (lambda line: line["doc"].update(answer=3), "answer of the document is 3, not text"),
        (lambda line: line["doc"].update(answer=None), "has no answer"),
        (lambda line: line["doc"].update(id=7), "id of the document is 7"),
        (lambda line: line["doc"].update(question=None), "question of the document is None"),
        (lambda line: line["doc"].update(category=["sound"]), "not a category"),
        (lambda line: line["doc"].update(kwargs="{}"), "kwargs of the document"),
        (lambda line: line["doc"].update(audio_path="a.wav"), "audio_path of the document"),
        (lambda line: line["doc"].update(audio_sha256=[None] * 9), "not one digest for each clip"),
        (
            lambda line: line["doc"].update(reasoning_skills="Counting"),
            "reasoning_skills of the doc",
        ),
        (lambda line: line["doc"].update(category="music"), "'music' in the file of 'sound'"),
        (lambda line: line["doc"].update(dataset="full"), "'full' in a file of 'sample'"),
    ],
)
def test_a_wrong_or_missing_field_names_file_and_line(folder, change, message):
    file = samples(folder, "sound")
    edit(file, change, line=2)
    for accept_changed in (False, True):  # what cannot be read cannot be accepted either
        with pytest.raises(ScoringError, match=message) as caught:
            read_runs([folder], accept_changed=accept_changed)
        assert f"{file}, line 3: " in str(caught.value)


def test_the_reference_is_never_taken_for_the_reply(folder):
    def without_reply(line):
        line.update(target=line["doc"]["answer"])
        del line["resps"], line["filtered_resps"]

    edit(samples(folder, "open"), without_reply)
    with pytest.raises(ScoringError, match="reply fields there are: none"):
        read_runs([folder])


def test_the_other_reply_field_is_read_when_named(folder):
    edit(samples(folder, "sound"), lambda line: line.update(filtered_resps=["filtered"]))
    items = read_runs([folder], reply_field="filtered_resps").items
    first = DOCS["sound"][0]["id"]
    assert [item.reply for item in items if item.id == first] == ["filtered"]
    with pytest.raises(ConfigError, match="reply field='answer' is unknown"):
        read_runs([folder], reply_field="answer")


def test_a_file_that_was_cut_off_names_the_line(folder):
    file = samples(folder, "sound")
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ScoringError, match=rf"line {len(DOCS['sound'])}: not JSON.*cut off"):
        read_runs([folder])


def test_a_document_edited_after_the_run_is_noticed(folder):
    file = samples(folder, "sound")
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    lines[0]["doc"]["answer"] = lines[0]["doc"]["choices"][0] + "!"
    write_lines(file, lines)
    with pytest.raises(ScoringError, match="line 1: .*changed after the run"):
        read_runs([folder])


# --- what belongs together -----------------------------------------------------------------------


def test_an_item_that_is_there_twice_names_both_places(folder):
    file = samples(folder, "sound")
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    with pytest.raises(ScoringError, match="is there twice, first in .*line 1"):
        read_runs([folder])


def test_two_runs_of_the_same_items_are_not_mixed(folder):
    other = write_run(folder.parent / "again")
    with pytest.raises(ScoringError, match="is there twice"):
        read_runs([folder, other])


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_name", "other"), ("chat_template_sha", "abc"), ("model_args", {"pretrained": "z"})],
)
def test_replies_of_different_models_or_settings_are_not_mixed(tmp_path, key, value):
    slugs = list(DOCS)
    first = write_run(tmp_path / "a", slugs=slugs[:6])
    second = write_run(tmp_path / "b", slugs=slugs[6:])
    assert len(read_runs([first, second]).items) == 100
    file = second / f"results_{LATE}.json"
    content = json.loads(file.read_text())
    (content["config"] if key == "model_args" else content)[key] = value
    file.write_text(json.dumps(content))
    with pytest.raises(ScoringError, match=f"settings are mixed .{key}: "):
        read_runs([first, second])


def test_settings_that_do_not_change_replies_may_differ(tmp_path):
    slugs = list(DOCS)
    first = write_run(tmp_path / "a", slugs=slugs[:6])
    second = write_run(tmp_path / "b", slugs=slugs[6:])
    file = second / f"results_{LATE}.json"
    content = json.loads(file.read_text())
    content["config"]["model_args"]["batch_size"] = 7
    file.write_text(json.dumps(content))
    assert len(read_runs([first, second]).items) == 100


def full_line(doc: dict) -> dict:
    return line_of({**doc, "dataset": "full"}, "A")


def test_sample_and_benchmark_are_not_mixed(folder):
    file = folder / f"samples_mmaupro_sound_{LATE}.jsonl"
    lines = [full_line({**doc, "id": f"full-{doc['id']}"}) for doc in DOCS["sound"]]
    write_lines(file, lines)
    with pytest.raises(ScoringError, match="full: .*; sample: .*score them apart"):
        read_runs([folder])


def test_a_benchmark_with_other_counts_is_refused_unless_accepted(tmp_path):
    file = tmp_path / "m" / f"samples_mmaupro_sound_{LATE}.jsonl"
    write_lines(file, [full_line(doc) for doc in DOCS["sound"]])
    with pytest.raises(ScoringError, match="sound: 13 items, the dataset has 1,048.*--limit"):
        read_runs([file])
    accepted = read_runs([file], accept_changed=True)
    assert len(accepted.items) == 13
    assert len(accepted.deviations) == 1


def test_the_benchmark_is_compared_with_the_dataset_where_it_is_at_hand(tmp_path):
    file = tmp_path / "m" / f"samples_mmaupro_sound_{LATE}.jsonl"
    # The sample's folder has the layout of the benchmark.
    unhashed = [{**doc, "audio_sha256": [None] * len(doc["audio_path"])} for doc in DOCS["sound"]]
    write_lines(file, [full_line(doc) for doc in unhashed])
    assert read_runs([file], data_dir=data.SAMPLE_DIR).deviations == ()
    edit(file, lambda line: line["doc"].update(answer="another"))
    with pytest.raises(ScoringError, match="line 1: item .* differs from the dataset's"):
        read_runs([file], data_dir=data.SAMPLE_DIR)
    with pytest.raises(ScoringError, match="the dataset cannot be read: .*no such folder"):
        read_runs([file], data_dir=tmp_path / "nothing")


def test_a_limited_run_of_the_sample_is_refused_unless_accepted_and_then_labelled(folder, capsys):
    file = samples(folder, "sound")
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))
    assert score(folder) == 2
    assert "sound: 3 items, the dataset has 13 (a run with --limit?)" in capsys.readouterr().err
    assert score(folder, "--accept-changed") == 0
    overall = result_of(folder)["overall"]
    assert overall["complete"] is False
    assert "not the released items: 1 deviations accepted" in overall["label"]


def test_another_version_of_an_item_or_a_clip_is_a_deviation(folder):
    edit(samples(folder, "sound"), lambda line: line["doc"].update(question="Another?"))
    with pytest.raises(ScoringError, match="line 1: item .* differs from the dataset"):
        read_runs([folder])
    write_run(folder)

    def other_clip(line):
        line["arguments"]["gen_args_0"]["arg_2"]["audio"][0]["sha256"] = "0" * 64

    edit(samples(folder, "music"), other_clip)
    with pytest.raises(ScoringError, match="not the clip that the manifest describes"):
        read_runs([folder])


def reverse_choices(line):
    line["doc"]["choices"].reverse()


def without_audio(line):
    line["arguments"]["gen_args_0"]["arg_2"] = {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda line: line["arguments"]["gen_args_0"].update(
                arg_0="<audio>\nWhat is it? A or B?"
            ),
            "the prompt is not the benchmark's.*A or B",
        ),
        (reverse_choices, "the prompt is not the benchmark's"),
        (without_audio, "no audio was given to the model"),
        (lambda line: line.update(arguments={}), "no audio was given to the model"),
        (lambda line: line["arguments"]["gen_args_0"].pop("arg_0"), "no prompt was logged"),
    ],
    ids=["prompt", "options", "audio", "arguments", "no prompt"],
)
def test_what_was_not_asked_as_the_benchmark_asks_it_stops_unless_accepted(
    folder, change, message, capsys
):
    file = samples(folder, "sound")
    edit(file, change, line=2)
    with pytest.raises(ScoringError, match=message) as caught:
        read_runs([folder])
    assert f"{file}, line 3: item {DOCS['sound'][2]['id']}: " in str(caught.value)
    assert score(folder, "--accept-changed") == 0
    assert "deviations accepted" in result_of(folder)["overall"]["label"]
    capsys.readouterr()


@pytest.mark.parametrize("written_as", ["chat template", "JSON", "ASCII JSON"])
def test_a_prompt_is_known_again_within_a_chat(folder, written_as):
    def as_chat(line):
        arguments = line["arguments"]["gen_args_0"]
        text = arguments["arg_0"]
        if written_as == "chat template":
            arguments["arg_0"] = "<user>" + text.replace("<audio>\n", "<|blocks|>") + "<end>"
        else:
            arguments["arg_0"] = json.dumps([text], ensure_ascii=written_as == "ASCII JSON")

    for number in range(len(DOCS["multi"])):
        edit(samples(folder, "multi"), as_chat, line=number)
    assert read_runs([folder]).deviations == ()


# --- the result ----------------------------------------------------------------------------------


def test_the_same_replies_give_the_same_bytes(folder, tmp_path):
    assert score(folder, "--items", tmp_path / "items.jsonl") == 0
    first = (folder / "scores_strict.json").read_bytes()
    items = (tmp_path / "items.jsonl").read_bytes()
    later = write_run(tmp_path / "elsewhere" / "m", time=EARLY)
    for slug in DOCS:  # as the ranks of a parallel run would log
        file = samples(later, slug, EARLY)
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[::2] + lines[1::2]))
    shuffled = [samples(later, slug, EARLY) for slug in reversed(DOCS)]
    assert score(*shuffled, "--output", tmp_path / "out", "--items", tmp_path / "again.jsonl") == 0
    assert (tmp_path / "out" / "scores_strict.json").read_bytes() == first
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
    assert str(folder) not in (folder / "scores_official+embedder=m.json").read_text()
    # A bare letter is nearest to the shortest choice, right or wrong.
    shortest = [min(doc["choices"], key=len) == doc["answer"] for doc in DOCS["multi"]]
    assert result["categories"]["multi"]["score"] == pytest.approx(
        100 * sum(shortest) / len(shortest), abs=1e-4
    )


# --- judged --------------------------------------------------------------------------------------


class Judge:
    """Answers from a list, item after item."""

    name = "org/judge"

    def __init__(self, answers):
        self.answers, self.asked = list(answers), []

    def identity(self):
        return {"kind": "test", "model": self.name}

    def ask(self, prompts, keep):
        for position, prompt in enumerate(prompts):
            self.asked.append(prompt)
            keep(position, self.answers[position % len(self.answers)])


def verdict_text(value) -> str:
    names = ("CORRECTNESS", "RELEVANCE", "COMPLETENESS", "CLARITY", "OVERALL")
    return "\n".join(f"{name}: {value} - because" for name in names)


def with_judge(monkeypatch, answers) -> Judge:
    judge = Judge(answers)
    monkeypatch.setattr(judges, "load_judge", lambda *names, **options: judge)
    return judge


def test_a_judge_completes_the_overall_row_and_gives_all_scales(folder, monkeypatch, tmp_path):
    judge = with_judge(monkeypatch, [verdict_text(4), verdict_text(2), "I cannot judge this."])
    arguments = (folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "cache")
    assert score(*arguments) == 0
    result = result_of(folder, "strict+judge=org_judge")
    entry = result["open"]
    values = [4, 2, None, 4, 2, None, 4]
    read = [value for value in values if value]
    official = [value or 3 for value in values]
    assert entry["judged"] == 7
    assert entry["unreadable"] == 2
    assert entry["official"] == pytest.approx(100 * sum(official) / 7 / 5, abs=1e-4)
    assert entry["strict"] == pytest.approx(100 * sum(read) / 7 / 5, abs=1e-4)
    assert entry["strict_served"] == pytest.approx(100 * sum(read) / 5 / 5, abs=1e-4)
    floorless = 100 * sum((value - 1) / 4 for value in read) / 7
    assert entry["floorless"] == pytest.approx(floorless, abs=1e-4)
    category = result["categories"]["open"]
    assert category["score"] == pytest.approx(floorless, abs=1e-4)
    assert category["served_score"] == pytest.approx(floorless * 7 / 5, abs=1e-4)
    assert (category["counts"]["unreadable"], category["served"], category["marked"]) == (
        2,
        5,
        True,
    )
    assert result["overall"]["complete"] is True
    assert result["judge"]["model"] == "org/judge"
    asked = len(judge.asked)
    first = (folder / "scores_strict+judge=org_judge.json").read_bytes()
    assert score(*arguments) == 0
    assert len(judge.asked) == asked
    assert (folder / "scores_strict+judge=org_judge.json").read_bytes() == first


def test_a_run_in_which_everything_is_scored_is_complete(folder, monkeypatch, tmp_path):
    with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    overall = result_of(folder, "strict+judge=org_judge")["overall"]
    assert (overall["complete"], overall["label"]) == (True, "overall")
    assert (overall["categories"], overall["items"]) == (12, 100)


def test_a_failed_call_is_counted_marked_and_the_status_says_so(
    folder, monkeypatch, tmp_path, capsys
):
    with_judge(monkeypatch, [verdict_text(5), error_reply("status 500")])
    judge = ("--judge", "hf:org/judge", "--judge-cache")
    assert score(folder, *judge, tmp_path / "first") == 1
    result = result_of(folder, "strict+judge=org_judge")
    assert result["open"]["judge_errors"] == 3
    entry = result["categories"]["open"]
    assert entry["score"] == pytest.approx(100 * 4 / 7, abs=1e-4)
    assert entry["served_score"] == 100.0
    assert entry["counts"]["judge-errored"] == 3
    shown = capsys.readouterr().out
    assert "57.1 (42.9 % errored)" in shown
    assert shown.splitlines()[-1].startswith(
        "WARNING: open: 3 of 7 items have no answer or no verdict"
    )
    assert score(folder, *judge, tmp_path / "second", "--strict-exit") == 3
    limit = ("--errored-limit", 43)
    assert score(folder, *judge, tmp_path / "third", "--strict-exit", *limit) == 1


def test_a_judge_that_answers_nothing_leaves_the_category_unscored(folder, monkeypatch, tmp_path):
    with_judge(monkeypatch, [error_reply("status 500")])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 1
    result = result_of(folder, "strict+judge=org_judge")
    assert result["categories"]["open"]["score"] is None
    assert "unscored: open (7)" in result["overall"]["label"]


def test_an_errored_open_item_without_a_judge_makes_no_score_of_the_category(folder):
    assert score(folder) == 0
    before = result_of(folder)["overall"]
    edit(samples(folder, "open"), lambda line: line.update(resps=[[error_reply("no clip")]]))
    assert score(folder) == 0
    result = result_of(folder)
    assert result["categories"]["open"]["score"] is None
    assert result["overall"]["weighted"] == before["weighted"]
    assert "unscored: open (7)" in result["overall"]["label"]


def test_a_reply_without_an_answer_is_not_judged_and_scores_nothing(folder, monkeypatch, tmp_path):
    unfinished = "<think>It may be a dog. Or"
    edit(samples(folder, "open"), lambda line: line.update(resps=[[unfinished]]))
    judge = with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    assert len(judge.asked) == 6
    result = result_of(folder, "strict+judge=org_judge")
    assert result["open"]["unanswered"] == 1
    assert result["open"]["floorless"] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert result["categories"]["open"]["served_score"] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert not result["categories"]["open"]["marked"]


def test_errored_items_are_never_shown_to_the_judge_and_count_as_zero(
    folder, monkeypatch, tmp_path
):
    edit(samples(folder, "open"), lambda line: line.update(resps=[[error_reply("no clip")]]))
    judge = with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    assert len(judge.asked) == 6
    result = result_of(folder, "strict+judge=org_judge")
    for scale in ("official", "strict", "floorless"):
        assert result["open"][scale] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert result["categories"]["open"]["score"] == pytest.approx(100 * 6 / 7, abs=1e-4)


def test_ctrl_c_says_that_nothing_is_lost(folder, monkeypatch, capsys, tmp_path):
    judge = with_judge(monkeypatch, ["x"])

    def interrupted(prompts, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "ask", interrupted)
    assert score(folder, "--judge", "hf:x", "--judge-cache", tmp_path / "c") == 130
    assert "goes on from there" in capsys.readouterr().err


def test_an_unreadable_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ScoringError, match="not a manifest"):
        logged_runs.clip_seconds("full", tmp_path)
    assert logged_runs.clip_seconds("full", None) == {}


def test_a_result_that_cannot_be_written_names_the_option(folder, tmp_path):
    (tmp_path / "file").write_text("")
    assert score(folder, "--output", tmp_path / "file" / "below") == 2
    with pytest.raises(ConfigError, match="--output"):
        score_command._write(tmp_path / "file" / "below", "x")


def test_json_holds_no_nan():
    with pytest.raises(ValueError, match="nan|NaN|JSON"):
        summary.to_json({"score": float("nan")})
