"""`mmaupro score` on runs of MMAU, MMAR and MMSU: one result a benchmark, both readings, known faults."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from statistics import fmean

import pytest
from logged_runs import LATE, LETTERS, edit, line_of, result_of, score, write_lines, write_run

from mmaupro_ext import data
from mmaupro_ext.benchmarks import BENCHMARKS, faults
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import answer_key
from mmaupro_ext.offline.ablated import answers_of
from mmaupro_ext.offline.logged_runs import read_all, read_runs
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import reliance
from mmaupro_ext.scoring.errors import ScoringError

NAMES = ("mmau", "mmar", "mmsu")


def text_of(doc: dict) -> str:
    return doc["answer"]


def letter_of(doc: dict) -> str:
    return LETTERS[doc["choices"].index(doc["answer"])]


def write_suite(folder: Path, name: str, reply, variant: str = "", prompt: str = "own") -> Path:
    """Write a run on a benchmark's sample as lm_eval logs it."""
    benchmark = BENCHMARKS[name]
    for slug in benchmark.by_slug:
        docs = data.load_items(name, slug, sample=True, prompt=prompt)
        lines = [line_of(doc, reply(doc)) for doc in docs]
        task = benchmark.task(variant, sample=True, part=slug)
        write_lines(folder / f"samples_{task}_{LATE}.jsonl", lines)
    return folder


def suite_result(folder: Path, name: str, label: str = "strict") -> dict:
    (file,) = folder.glob(f"scores_{name}_{label}_*.json")
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write_suite(tmp_path / "m", name, text_of)
    return tmp_path / "m"


def test_each_benchmark_of_a_run_has_a_result_of_its_own(folder, capsys):
    write_run(folder)
    assert score(folder, "--judge-cache", folder / "none") == 0
    printed = capsys.readouterr().out
    for title in ("the embedded sample", "the sample of MMAU ", "the sample of MMAR "):
        assert printed.count(title) == 1
    assert result_of(folder)["benchmark"] == "mmaupro"
    for name in NAMES:
        result = suite_result(folder, name)
        assert result["overall"]["weighted"] == 100.0
        assert result["overall"]["complete"]
        assert set(result["categories"]) == set(BENCHMARKS[name].by_value)


def test_one_benchmark_can_be_named(folder):
    assert score(folder, "--benchmark", "mmar") == 0
    (file,) = folder.glob("scores_*")
    assert file.name.startswith("scores_mmar_strict_")
    with pytest.raises(ScoringError, match="no replies to mmaupro, but to mmau, mmar, mmsu"):
        read_all([folder], only="mmaupro")
    with pytest.raises(ScoringError, match="several benchmarks: mmau, mmar, mmsu"):
        read_runs([folder])


def test_a_comparison_of_one_benchmark_names_the_others_that_it_leaves_out(folder, caplog):
    pytest.importorskip("pandas")
    from mmaupro_ext.report import frames

    assert set(frames.load(folder).runs.benchmark) == {"mmau"}
    assert "mmau alone is looked at here; --benchmark NAME looks at mmar, mmsu" in caplog.text
    caplog.clear()
    assert set(frames.load(folder, benchmark="mmsu").runs.benchmark) == {"mmsu"}
    assert not caplog.text


def test_letters_without_a_choice_are_no_choices_in_a_profile(tmp_path):
    """Items of MMSU have two to four choices under four letters: all orders of three are six, not 24."""
    for name in ("full", "none", "permute"):
        asked = {} if name == "full" else {"condition": name}
        for slug in BENCHMARKS["mmsu"].by_slug:
            docs, _ = data.asked(data.load_items("mmsu", slug, sample=True, prompt="own"), asked)
            task = BENCHMARKS["mmsu"].task("", sample=True, part=slug)
            lines = [line_of(doc, doc["answer"]) for doc in docs]
            write_lines(tmp_path / name / f"samples_{task}_{LATE}.jsonl", lines)
    answers = answers_of([tmp_path])
    sizes = [len(answer.order) for answer in answers if answer.condition == "full"]
    assert set(sizes) == {2, 3, 4}
    found = reliance.profile(answers)
    assert found.row("permute").score.items == len(sizes)
    assert found.row("none").chance == pytest.approx(fmean(1 / size for size in sizes))
    assert [(place.choices, set(place.scores)) for place in found.places] == [
        (2, {1.0}), (3, {1.0}), (4, {1.0})
    ]  # fmt: skip
    assert found.orders.orders == (2, 24)


def test_items_of_all_benchmarks_go_into_one_file(folder, tmp_path):
    assert score(folder, "--items", tmp_path / "items.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert {line["benchmark"] for line in lines} == set(NAMES)
    assert len(lines) == sum(len(data.load_items(name, sample=True)) for name in NAMES)


def test_a_preset_that_one_benchmark_has_not_is_refused_before_any_is_scored(folder, capsys):
    write_run(folder)
    assert score(folder, "--preset", "nemo-skills", "--embedder", "none") == 2
    assert "nemo-skills is not defined for MMAU" in capsys.readouterr().err
    assert not list(folder.glob("scores_*"))


# --- both readings -------------------------------------------------------------------------------


def test_letters_are_right_under_strict_and_wrong_under_the_rule_of_words(tmp_path, capsys):
    folder = write_suite(tmp_path / "m", "mmau", letter_of)
    assert score(folder) == 0
    result = suite_result(folder, "mmau")
    assert result["readings"]["strict"]["score"] == 100.0
    assert result["readings"]["official"]["score"] == 0.0
    assert "strict 100.0; official 0.0." in capsys.readouterr().out
    assert score(folder, "--preset", "official", "--set", "letters=on") == 0
    assert suite_result(folder, "mmau", "official+letters=on")["overall"]["weighted"] == 100.0


def test_replies_that_the_rule_drops_leave_its_denominator_and_their_share_is_shown(
    tmp_path, capsys
):
    def reply(doc: dict) -> str:
        odd = int(doc["id"][-1]) % 2
        return f"The answer is {letter_of(doc)}" if odd else "A"

    folder = write_suite(tmp_path / "m", "mmsu", reply)
    assert score(folder, "--preset", "official") == 0
    result = suite_result(folder, "mmsu", "official")
    kept = [doc for doc in data.load_items("mmsu", sample=True) if int(doc["id"][-1]) % 2 == 0]
    right = sum(letter_of(doc) == "A" for doc in kept)
    assert result["overall"]["dropped"] == 9
    assert result["overall"]["items"] == len(kept) == 9
    assert result["overall"]["weighted"] == pytest.approx(100 * right / 9, abs=1e-4)  # 4 digits
    assert result["readings"]["official"] == {
        "score": result["overall"]["weighted"],
        "dropped": 9,
        "dropped_share": 50.0,
    }
    assert result["readings"]["strict"]["score"] == pytest.approx(100 * (9 + right) / 18, abs=1e-4)
    assert "50.0 %" in capsys.readouterr().out


def test_when_every_reply_is_dropped_there_is_no_score(tmp_path):
    folder = write_suite(tmp_path / "m", "mmsu", lambda doc: "who knows?")
    assert score(folder, "--preset", "official") == 0
    result = suite_result(folder, "mmsu", "official")
    assert result["overall"]["weighted"] is None
    assert result["overall"]["dropped"] == 18
    assert result["readings"]["strict"]["score"] == 0.0


def test_the_attributes_of_a_benchmark_are_its_groups(folder, capsys):
    assert score(folder, "--benchmark", "mmau", "--groups") == 0
    result = suite_result(folder, "mmau")
    assert set(result["groups"]["difficulty"]) == {"easy", "medium", "hard"}
    assert set(result["groups"]["category"]) == {"Reasoning"}
    assert result["groups"]["measured_length"] == {}
    assert "difficulty" in capsys.readouterr().out


# --- what belongs together -----------------------------------------------------------------------


def test_another_prompt_is_another_label_and_never_mixed(tmp_path):
    folder = write_suite(tmp_path / "m", "mmsu", letter_of, "letter", "letter")
    assert score(folder) == 0
    assert suite_result(folder, "mmsu", "strict+prompt=letter")["overall"]["weighted"] == 100.0
    write_suite(folder, "mmsu", letter_of)
    with pytest.raises(ScoringError, match="as the authors do are mixed"):
        read_all([folder])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda line: line["doc"].update(prompt="text"), "prompt 'text' in the file of 'own'"),
        (lambda line: line["doc"].update(benchmark="mmar"), "benchmark 'mmar' in the file of"),
        (lambda line: line["doc"].update(category="music"), "'music' in the file of 'sound'"),
        (lambda line: line["doc"].pop("attributes"), "lacks attributes"),
        (lambda line: line["doc"].update(attributes=[]), "attributes of the document is"),
        (lambda line: line["doc"].update(answer=None), "has no answer"),
    ],
)
def test_a_document_of_another_kind_names_file_and_line(folder, change, message):
    file = folder / f"samples_mmau-sample_sound_{LATE}.jsonl"
    edit(file, change, line=1)
    with pytest.raises(ScoringError, match=message) as caught:
        read_all([folder])
    assert f"{file}, line 2: " in str(caught.value)


def test_items_that_are_missing_or_changed_are_deviations(folder):
    file = folder / f"samples_mmar-sample_speech_{LATE}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    write_lines(file, lines[:1])
    with pytest.raises(ScoringError, match="speech: 1 items, the dataset has 2"):
        read_all([folder])
    write_lines(file, lines)
    edit(file, lambda line: line["doc"].update(question="Another?"))
    with pytest.raises(ScoringError, match="differs from the dataset's"):
        read_all([folder])


def full_run(folder: Path, name: str, docs: list[dict], reply=text_of) -> Path:
    """Write a run on documents that are taken for the release's."""
    for slug, category in BENCHMARKS[name].by_slug.items():
        own = [doc for doc in docs if doc["category"] == category.value]
        lines = [
            line_of({**doc, "dataset": "full", "audio_sha256": [None]}, reply(doc)) for doc in own
        ]
        write_lines(folder / f"samples_{BENCHMARKS[name].task(part=slug)}_{LATE}.jsonl", lines)
    return folder


def test_a_part_of_a_release_whose_categories_nobody_has_counted_is_noticed(tmp_path):
    folder = full_run(tmp_path / "m", "mmsu", data.load_items("mmsu", sample=True))
    with pytest.raises(ScoringError, match="all categories: 18 items, the dataset has 5,000"):
        read_runs([folder])
    (folder / f"samples_mmsu_perception_phonology_{LATE}.jsonl").unlink()
    assert not read_runs([folder]).deviations  # then nobody knows how many there should be


# --- known faults and positions ------------------------------------------------------------------


def test_the_score_without_faulty_items_stands_beside_the_released_one(
    tmp_path, monkeypatch, capsys
):
    docs = data.load_items("mmau", sample=True)
    wrong = docs[0]["id"]
    folder = full_run(
        tmp_path / "m", "mmau", docs, lambda doc: "" if doc["id"] == wrong else doc["answer"]
    )
    listed = faults.Faults("7", "D", {wrong: ("disputed",)}, {"disputed": "who said so"}, {})
    monkeypatch.setattr(answer_key, "known_faults", lambda name: listed)
    assert score(folder, "--accept-changed", "--audited") == 0
    result = suite_result(folder, "mmau")
    assert result["overall"]["weighted"] == pytest.approx(100 * 14 / 15, abs=1e-4)  # 4 digits
    assert result["overall"]["audited"] == 100.0
    assert result["categories"]["sound"]["faulty"] == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "by list 7 (D): disputed 1 (somebody who listened says" in printed
    assert "who said so" in printed


def test_a_sample_has_no_known_faults(folder, capsys):
    assert score(folder, "--benchmark", "mmsu", "--audited") == 0
    assert "no item of this run is known to be faulty." in capsys.readouterr().out


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_list_of_faults_names_ids_codes_and_sources_and_no_sentence(name):
    file = faults.FOLDER / f"{name}.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert set(content) == {"version", "data", "faults", "gold_positions"}
    assert set(content["faults"]) <= set(faults.CODES)
    for entry in content["faults"].values():
        assert set(entry) == {"source", "ids"}
        assert all(" " not in identifier for identifier in entry["ids"])
    stated = sum(content["gold_positions"].values())
    assert stated in (0, BENCHMARKS[name].items)


def test_what_is_known_of_mmau():
    known = faults.known_faults("mmau")
    codes = [code for own in known.codes.values() for code in own]
    assert (codes.count("duplicate-gold"), codes.count("duplicate-choices")) == (16, 11)
    assert known.gold_positions == {"A": 395, "B": 271, "C": 208, "D": 126}


def test_where_the_reference_stands_and_what_always_a_scores(folder, capsys):
    assert score(folder, "--benchmark", "mmau") == 0
    found = suite_result(folder, "mmau")["gold_positions"]
    docs = data.load_items("mmau", sample=True)
    assert found["always_a"] == 100 * found["letters"]["A"] / len(docs)
    assert sum(found["letters"].values()) == len(docs)
    assert "always answering A would score 40.0." in " ".join(capsys.readouterr().out.split())


# --- one reply, and the hidden split -------------------------------------------------------------


def test_what_the_rules_make_of_one_reply(tmp_path, capsys):
    folder = write_suite(
        tmp_path / "m", "mmsu", lambda doc: f"<think>Hm</think>Yes, {letter_of(doc)}"
    )
    write_suite(folder, "mmau", lambda doc: f"({letter_of(doc)})")
    assert score(folder, "--explain", "mmsu-sample-03") == 0
    printed = capsys.readouterr().out
    assert "(D) Noise  <- reference" in printed
    assert "strict: 1 (letter)" in printed
    assert "of the reply counts: 'Yes, D'" in printed
    assert "official: dropped, in no denominator" in printed
    assert "neither its first nor its second-last character" in " ".join(printed.split())
    assert score(folder, "--explain", "mmau-sample-00") == 0
    printed = capsys.readouterr().out
    assert "lacks words of the answer: one" in printed
    assert "with letters=on, the text of the stated letter in its place: 1" in printed
    assert score(folder, "--explain", "nobody") == 2
    assert "no item 'nobody' is among the 33 of this run" in capsys.readouterr().err


def test_one_reply_of_mmau_pro_is_explained_too(tmp_path, capsys):
    folder = write_run(tmp_path / "m")
    for doc in (data.load_category(slug, sample=True)[0] for slug in data.CATEGORIES):
        assert score(folder, "--explain", doc["id"]) == 0
    printed = capsys.readouterr().out
    assert "needs an embedder" in printed
    assert "a judge's verdict" in printed


def hidden_run(folder: Path) -> Path:
    docs = [copy.deepcopy(doc) for doc in data.load_items("mmau", sample=True)]
    for doc in docs:
        doc |= {"benchmark": "mmau-test", "answer": None}
    failed = error_reply("clip is missing")

    def reply(doc: dict) -> str:
        return failed if doc["id"].endswith("00") else f"({LETTERS[0]})"

    return full_run(folder, "mmau-test", docs, reply)


def test_replies_to_withheld_answers_become_the_authors_file(tmp_path, capsys):
    folder, file = hidden_run(tmp_path / "m"), tmp_path / "submission.json"
    assert score(folder, "--accept-changed", "--submission", file, "--set", "letters=on") == 0
    assert "15 replies; 1 not served" in capsys.readouterr().out
    rows = json.loads(file.read_text(encoding="utf-8"))
    assert len(rows) == 15
    for row in rows:
        assert row["model_output"] == row["model_prediction"]
        assert row["answer"] == ""
        assert row["audio_id"] == f"./test-audios/{row['id']}.wav"
    by_id = {row["id"]: row for row in rows}
    assert by_id["mmau-sample-00"]["model_output"] == ""
    assert by_id["mmau-sample-01"]["model_output"] == by_id["mmau-sample-01"]["choices"][0]
    result = suite_result(folder, "mmau-test", "strict+letters=on")
    assert result["overall"]["weighted"] is None
    assert result["readings"] is None
    assert result["gold_positions"] is None


def test_a_submission_is_of_one_benchmark_whose_answers_are_withheld(folder, tmp_path):
    with pytest.raises(ScoringError, match="answers of MMAU are known"):
        run_score(folder, "--benchmark", "mmau", "--submission", tmp_path / "s.json")
    with pytest.raises(ConfigError, match="--submission is of one benchmark, not of mmau, mmar"):
        run_score(folder, "--submission", tmp_path / "s.json")


def run_score(*arguments) -> int:
    """Run the command without the sentence that it makes of an error."""
    import argparse

    from mmaupro_ext.commands import score as command

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command._run(parser.parse_args([str(argument) for argument in arguments]))
