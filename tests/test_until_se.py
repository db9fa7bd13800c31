"""A run that stops: what it asks, what stays of it, how it is labelled, and how it goes on."""

import argparse
import json
import types

import lm_eval_here
import pytest
from lm_eval.api.instance import Instance

from mmaupro_ext.commands import cli
from mmaupro_ext.compat import command
from mmaupro_ext.compat.rounds import InRounds
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs, rescoring
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import comparison, frames, run_table, runs
from mmaupro_ext.scoring import anytime, presets
from mmaupro_ext.scoring.errors import ScoringError

OPEN = "mmaupro-sample_open"
CATEGORIES = ("mmaupro-sample_sound", "mmaupro-sample_music")


# --- a made-up model ------------------------------------------------------------------------------


class Task:
    """As much of lm_eval's task as is used: documents, requests, a score."""

    def __init__(self, name, size, *, scored=True, choices=0):
        self.eval_docs = [{"id": f"{name} {n}"} for n in range(size)]
        self._metric_fn_list = {"acc": None} if scored else {"errored": None}
        kind = "loglikelihood" if choices else "generate_until"
        self._instances = [
            Instance(kind, doc, ("a question", {}), index, (name, number, 1))
            for number, doc in enumerate(self.eval_docs)
            for index in range(choices or 1)
        ]

    @property
    def instances(self):
        return self._instances

    def doc_iterator(self, **_):
        return enumerate(self.eval_docs)

    def process_results(self, doc, results):
        if len(results) > 1:
            return {"acc": float(max(results)[0] == results[0][0])}
        return {"acc": float(results[0] == "right")}


class Model:
    """Answers by a rule, and notes what it is asked."""

    rank, world_size = 0, 1

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def generate_until(self, requests):
        self.calls.append([(one.task_name, one.doc_id) for one in requests])
        return [self.answer(one) for one in requests]

    loglikelihood = generate_until


def run(tasks, answer, points):
    model = InRounds(Model(answer), tasks, points, 1234)
    requests = [one for task in tasks.values() for one in task.instances]
    kind = requests[0].request_type
    answers = getattr(model, kind)(requests)
    return model, dict(
        zip([(r.task_name, r.doc_id, r.idx) for r in requests], answers, strict=True)
    )


def test_it_asks_rounds_until_the_bounds_are_near_enough_and_keeps_what_was_drawn():
    tasks = {name: Task(name, 400) for name in CATEGORIES}
    model, answers = run(tasks, lambda one: "right" if one.doc_id % 4 else "wrong", 8)
    asked = [item for call in model.lm.calls for item in call]
    assert len(asked) == len(set(asked)) < 800
    assert {len(call) for call in model.lm.calls} == {40}
    assert sum(answer is not None for answer in answers.values()) == len(asked)
    for name, task in tasks.items():
        numbers = {number for of, number in asked if of == name}
        assert {one.doc_id for one in task.instances} == numbers
        assert dict(task.doc_iterator()) == {n: task.eval_docs[n] for n in numbers}
    results = {"results": {name: {} for name in tasks}}
    model.label(results)
    (whole,) = results["part"]["overall"].values()
    assert whole["drawn"] == len(asked)
    assert whole["items"] == 800
    assert whole["low"] <= 75 <= whole["high"] <= whole["low"] + 16
    assert all(values["alias"].endswith("[a part]") for values in results["results"].values())
    assert results["part"]["method"] == anytime.METHOD


def test_what_it_drew_is_the_beginning_of_what_it_draws_when_it_must_be_surer():
    drawn = []
    for points in (12, 6):
        tasks = {name: Task(name, 400) for name in CATEGORIES}
        model, _ = run(tasks, lambda one: "right" if one.doc_id % 4 else "wrong", points)
        drawn.append([item for call in model.lm.calls for item in call])
    assert len(drawn[0]) < len(drawn[1])
    assert set(drawn[0]) < set(drawn[1])


def test_all_is_drawn_where_only_all_is_sure_enough_and_nothing_is_called_a_part():
    tasks = {"mmaupro-sample_sound": Task("mmaupro-sample_sound", 30)}
    model, answers = run(tasks, lambda _: "right", 0.5)
    assert None not in answers.values()
    results = {"results": {"mmaupro-sample_sound": {"alias": "sound"}}}
    model.label(results)
    assert results["results"]["mmaupro-sample_sound"] == {"alias": "sound"}


def test_tasks_of_others_are_asked_whole_and_at_once():
    tasks = {"mmaupro-sample_sound": Task("mmaupro-sample_sound", 200), "gsm8k": Task("gsm8k", 9)}
    model, _ = run(tasks, lambda _: "right", 20)
    assert [item for item in model.lm.calls[0] if item[0] == "gsm8k"] == [
        ("gsm8k", number) for number in range(9)
    ]
    assert len(tasks["gsm8k"].instances) == 9
    assert len(tasks["mmaupro-sample_sound"].instances) < 200


def test_choices_of_an_item_are_asked_together():
    name = "mmaupro-sample-ll_sound"
    tasks = {name: Task(name, 200, choices=3)}
    model, _ = run(tasks, lambda one: (-float(one.idx), True), 20)
    counts = [model.lm.calls[0].count(item) for item in model.lm.calls[0]]
    assert set(counts) == {3}
    results = {"results": {}}
    model.label(results)
    assert results["part"]["overall"]["mmaupro-sample-ll"]["mean"] == 100.0


@pytest.mark.parametrize("failure", [error_reply("no clip"), (float("nan"), False)])
def test_an_item_that_was_not_served_counts_as_wrong(failure):
    choices = 2 if isinstance(failure, tuple) else 0
    name = "mmaupro-sample-ll_sound" if choices else "mmaupro-sample_sound"
    tasks = {name: Task(name, 100, choices=choices)}
    model, _ = run(tasks, lambda _: failure, 20)
    results = {"results": {}}
    model.label(results)
    (whole,) = results["part"]["overall"].values()
    assert whole["mean"] == 0.0


def test_unscored_items_are_drawn_alike_and_do_not_decide():
    tasks = {"mmaupro-sample_sound": Task("mmaupro-sample_sound", 400)}
    tasks[OPEN] = Task(OPEN, 100, scored=False)
    run(tasks, lambda one: "right" if one.doc_id % 4 else "wrong", 10)
    share = len(tasks["mmaupro-sample_sound"].instances) / 400
    assert 0 < share < 1
    assert len(tasks[OPEN].instances) == pytest.approx(100 * share, abs=1)


def test_a_run_without_a_score_is_refused():
    with pytest.raises(ConfigError, match="no overall to stop at"):
        InRounds(Model(None), {OPEN: Task(OPEN, 5, scored=False)}, 2, 0)


# --- the command ----------------------------------------------------------------------------------


def config(**more):
    values = {
        "model": "hf-audio",
        "tasks": ["mmaupro"],
        "limit": None,
        "samples": None,
        "metadata": {},
    }
    return types.SimpleNamespace(**values | more)


@pytest.mark.parametrize("points", [0, -1, 50, True, "2", float("nan")])
def test_points_that_are_no_half_width_are_refused(points):
    with pytest.raises(ConfigError, match="half the width"):
        command.take_options({"until_se": points})


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"limit": 5}, "leave out --limit"),
        ({"limit": 0}, "leave out --limit"),
        ({"samples": {"mmaupro_sound": [0]}}, "leave out --samples"),
        ({"model": "hf"}, "keeps no journal"),
        ({"metadata": {"condition": "noise"}}, "no condition gives"),
        ({"tasks": ["gsm8k"]}, "no task of this run is one of ours"),
    ],
)
def test_what_does_not_go_with_it_is_refused_before_the_model_is_loaded(more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        command.refuse_options({"until_se": 2.0}, config(**more))


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="several processes"):
        command.refuse_options({"until_se": 2.0}, config())
    monkeypatch.delenv("WORLD_SIZE")  # as under mpirun, of which the model knows
    model = Model(None)
    model.world_size = 2
    with pytest.raises(ConfigError, match="several processes"):
        InRounds(model, {OPEN: Task(OPEN, 5)}, 2, 0)


def test_the_help_says_what_it_does():
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    text = " ".join(parser.format_help().split())
    assert "--until-se <points>" in text
    assert "The same command without it goes on to all items" in text


def test_the_list_of_runs_says_what_goes_on_to_all_items():
    run = runs.Run(
        "2026-01-01", 60, 40, 20, 0, "m", "id", ["mmaupro"], "mmaupro run --until-se 2", "j"
    )
    assert "id goes on (to all items without --until-se) with:" in runs.listing([run])


# --- a whole run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stop a run of nano, then go on with it: the folders of both, and what was printed."""
    folder = tmp_path_factory.mktemp("until")
    words = ["--model", "hf-audio", "--model_args", "pretrained=nano", "--batch_size", "8"]
    words += ["--tasks", ",".join((*CATEGORIES, OPEN)), "--log_samples"]
    words += ["--use_cache", str(folder / "journal")]
    with pytest.MonkeyPatch.context() as patch:
        for name, more in (("part", ["--until-se", "26"]), ("all", [])):
            lm_eval_here.run(patch, *words, "--output_path", str(folder / name), *more)
    return folder


def results_in(folder):
    (file,) = folder.glob("**/results_*.json")
    return json.loads(file.read_text(encoding="utf-8"))


def samples_in(folder):
    return {
        file.name.removeprefix("samples_").rpartition("_")[0]: [
            json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
        ]
        for file in folder.glob("**/samples_*.jsonl")
    }


def test_a_stopped_run_asks_less_and_its_samples_are_those_of_the_whole(stopped):
    part, whole = samples_in(stopped / "part"), samples_in(stopped / "all")
    for task, samples in part.items():
        by_id = {sample["doc_id"]: sample for sample in whole[task]}
        assert 0 < len(samples) < len(by_id)
        for sample in samples:
            assert sample == by_id[sample["doc_id"]]


def test_going_on_asks_nothing_again(stopped):
    starts = sorted((stopped / "journal").glob("*/*.jsonl"))
    counts = [len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in starts]
    assert len(counts) == 2
    drawn = sum(map(len, samples_in(stopped / "part").values()))
    assert counts == [drawn, 13 + 12 + 7 - drawn]
    assert "part" not in results_in(stopped / "all")


def test_the_table_names_a_part_and_of_how_many(stopped):
    results = results_in(stopped / "part")
    whole = results["part"]["overall"]["mmaupro-sample"]
    lines = run_table.render(results).splitlines()
    assert lines[-1].split()[:2] == ["a", "part"]
    assert f"{whole['drawn']}/25" in lines[-1]
    assert not any(line.startswith("overall") for line in lines)
    assert results["part"]["tasks"][OPEN]["items"] == 7
    assert not results["part"]["tasks"][OPEN]["scored"]


def test_score_takes_a_part_for_what_it_is(stopped):
    run = logged_runs.read_runs([stopped / "part"])
    assert run.deviations == ()
    _, result = rescoring.score_run(run, presets.resolve("strict"))
    overall = result["overall"]
    whole = results_in(stopped / "part")["part"]["overall"]["mmaupro-sample"]
    assert not overall["complete"]
    assert "drawn by --until-se 26" in overall["label"]
    assert result["dataset"]["part"]["sizes"]["sound"] == 13
    assert any("a part" in clause for clause in result["why"])
    # the scores file and the results round alike, to four digits of a per cent
    assert (overall["weighted"], overall["low"], overall["high"]) == (
        whole["mean"],
        whole["low"],
        whole["high"],
    )


def test_score_prints_denominators(stopped, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["score", str(stopped / "part"), "--output", str(stopped / "scores")])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "/13" in printed
    assert "overall (partial)" in printed
    assert "allows for the stopping" in " ".join(printed.split())


def test_fewer_items_than_were_drawn_are_refused(stopped, tmp_path):
    for file in (stopped / "part").glob("**/*.json*"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        cut = lines[1:] if "_sound_" in file.name else lines
        (tmp_path / file.name).write_text("".join(cut), encoding="utf-8")
    with pytest.raises(ScoringError, match="not all the items"):
        logged_runs.read_runs([tmp_path])


def test_compare_and_report_name_the_part(stopped):
    both = frames.load(stopped / "part", stopped / "all")
    with pytest.raises(ConfigError, match="only in"):
        comparison.compare(both)
    (pair,) = comparison.compare(both, accept_different=True)
    assert len(pair.parts) == 1
    assert "drawn by --until-se 26" in comparison.render([pair])
    overall = both.scores[both.scores.group == "overall"]
    assert not overall.complete.any()
