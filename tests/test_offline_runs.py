"""Reading logged replies, and refusing what does not belong together or was not asked as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from logged_runs import (
    DOCS,
    EARLY,
    LATE,
    edit,
    line_of,
    result_of,
    samples,
    score,
    write_lines,
    write_run,
)

from mmaupro_ext import data
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs
from mmaupro_ext.offline.logged_runs import read_runs
from mmaupro_ext.scoring.errors import ScoringError


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
    with pytest.raises(ScoringError, match="several models or conditions: .*m, .*other"):
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
        (lambda line: line["doc"].update(dataset="full"), "'full' in the file of 'sample'"),
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


def test_why_the_reply_ended_is_read_and_scored_with(folder):
    def cut(line):
        line.update(resps=[["The answer is A"]], finish="length")

    edit(samples(folder, "sound"), cut)
    (item,) = (item for item in read_runs([folder]).items if item.id == DOCS["sound"][0]["id"])
    assert item.finish == "length"
    assert score(folder) == 0
    assert result_of(folder)["categories"]["sound"]["counts"]["unparsed"] == 1


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


def with_identity(folder: Path, model_args: dict, **fields) -> None:
    file = folder / f"results_{LATE}.json"
    content = json.loads(file.read_text())
    content["config"] |= {"model_args": model_args, "identity": {"id": fields["weights"], **fields}}
    file.write_text(json.dumps(content))


def test_the_identities_of_runs_say_whether_they_belong_together(tmp_path):
    slugs = list(DOCS)
    first = write_run(tmp_path / "a", slugs=slugs[:6])
    second = write_run(tmp_path / "b", slugs=slugs[6:])
    with_identity(first, {"pretrained": "m"}, weights="aa", model="m")
    with_identity(second, {"pretrained": "m", "long_audio": "auto"}, weights="aa", model="m")
    assert len(read_runs([first, second]).items) == 100  # the same in other words
    with_identity(second, {"pretrained": "m"}, weights="bb", model="m")
    with pytest.raises(ScoringError, match="identity: aa and bb, which differ in weights.. Score"):
        read_runs([first, second])


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


def test_an_unreadable_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ScoringError, match="not a manifest"):
        logged_runs.clip_seconds("full", tmp_path)
    assert logged_runs.clip_seconds("full", None) == {}
