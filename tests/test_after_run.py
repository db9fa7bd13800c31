"""What a run says of itself: from what lm_eval did in this process, and from nowhere else.

lm_eval's own command, configuration and tracker are used; `simple_evaluate`, the hours of work between
them, is replaced, and lm_eval's index of thousands of tasks is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import types
from pathlib import Path

import lm_eval
import pytest
from lm_eval._cli.run import Run as RunCommand
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from mmaupro_ext import compat
from mmaupro_ext.compat.lm_eval_0_4_13 import look_at_tasks
from mmaupro_ext.models.identity import identity_of
from mmaupro_ext.report import after_run
from mmaupro_ext.util import peak_memory

compat.install()

SAMPLE = {
    "doc_id": 0,
    "arguments": [("what is heard?", {})],
    "resps": [["B"]],
    "filtered_resps": ["B"],
    "target": "B",
    **dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "0"),
}
TASKS = ("mmaupro-sample_sound", "mmaupro-sample_open")


def found(*, errored: float = 0.0, **config):
    """Return what `simple_evaluate` returns for two tasks."""
    values = {"errored,none": errored, "sample_len": 8}
    return {
        "results": {
            "mmaupro-sample_sound": {"alias": "sound", "acc,none": 0.5, **values},
            "mmaupro-sample_open": {"alias": "open", "errored,none": 0.0, "sample_len": 5},
        },
        "configs": dict.fromkeys(TASKS, {}),
        "config": {"batch_sizes": [], **config},
        "versions": {},
        "n-shot": {},
        "higher_is_better": {},
        "samples": {task: [dict(SAMPLE)] for task in TASKS},
    }


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "other.yaml").write_text("task: other_task\ndataset_path: json\n")
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture
def run(monkeypatch, manager):
    """Run lm_eval's command in this process, on results that are given."""
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **_: manager)
    # An interrupted process ignores further signals, and sees that it ends: not so that of the tests.
    monkeypatch.setattr(threading.Timer, "start", lambda timer: None)
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]

    def execute(*words, results=None, raises=None, calls=lambda: None):
        def evaluate(**options):
            # the name of the model, which lm_eval notes at this point
            options["evaluation_tracker"].general_config_tracker.log_experiment_args(
                options["model"], "pretrained=nano", None, None, False
            )
            calls()
            if raises is not None:
                raise raises
            answer = results if results is not None else found()
            if not options["log_samples"]:
                answer.pop("samples")
            return answer

        monkeypatch.setattr(lm_eval, "simple_evaluate", evaluate)
        parsers = argparse.ArgumentParser().add_subparsers()
        command = RunCommand(parsers)
        arguments = command._parser.parse_args([str(word) for word in words])
        RunCommand._execute(arguments)

    yield execute
    for number, handler in before:
        signal.signal(number, handler)


OURS = ("--model", "hf-audio", "--model_args", "pretrained=nano", "--tasks", ",".join(TASKS))


def test_after_a_run_the_files_that_it_wrote_are_named(run, tmp_path, capsys):
    run(*OURS, "--output_path", tmp_path, "--log_samples")
    text = capsys.readouterr().out
    (file,) = tmp_path.glob("*/results_*.json")
    stamp = file.stem.removeprefix("results_")
    assert f"Results: {file}\n" in text
    assert f"Samples: {file.parent}{os.sep}samples_*_{stamp}.jsonl (2 files)" in text
    assert len(list(file.parent.glob(f"samples_*_{stamp}.jsonl"))) == 2
    assert "ERRORED" not in text
    assert "Unscored: open-ended replies" in text


def test_results_in_a_file_of_the_users_name(run, tmp_path, capsys):
    run(*OURS, "--output_path", tmp_path / "mine.json", "--log_samples")
    (file,) = tmp_path.glob("mine_*.json")
    assert f"Results: {file}\n" in capsys.readouterr().out


def test_without_samples_the_way_to_keep_them_is_named(run, tmp_path, capsys):
    run(*OURS, "--output_path", tmp_path)
    assert "Samples: not kept; add --log_samples" in capsys.readouterr().out


def test_nothing_was_saved_is_said_when_nothing_was_to_be_saved(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*OURS)
    assert "Nothing was saved. Add --output_path" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_configuration_file_counts_as_the_command_line_does(run, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "run.yaml").write_text(
        f"model: hf-audio\nmodel_args: {{pretrained: nano}}\ntasks: [{', '.join(TASKS)}]\n"
        f"output_path: {out}\nlog_samples: true\nretry_errors: true\nmax_errors: 7\n"
    )
    run("--config", tmp_path / "run.yaml")
    text = capsys.readouterr().out
    (file,) = out.glob("*/results_*.json")
    assert f"Results: {file}\n" in text
    assert "Nothing was saved" not in text


def test_a_run_interrupted_before_its_first_answer_says_the_command_that_goes_on(
    run, capsys, monkeypatch
):
    words = ["/bin/lm_eval", *OURS, "--metadata", "hf_token=s3cret", "a b"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stop:
        run(*OURS, raises=KeyboardInterrupt())
    assert stop.value.code == 130
    said = capsys.readouterr().err
    assert "Interrupted before the first answer." in said
    assert f"goes on from there:\n  lm_eval {' '.join(OURS)} --metadata" in said
    assert said.rstrip().endswith("'hf_token=***' 'a b'")


def test_a_terminated_run_ends_with_the_status_of_its_signal(run, capsys):
    def kill():
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as stop:
        run(*OURS, calls=kill)
    assert stop.value.code == 143
    assert "Interrupted before the first answer." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # until the process has ended


def test_an_interrupted_run_says_how_far_it_got(run, capsys, tmp_path):
    class Model:
        rank, world_size = 0, 1

        def identity(self):
            return identity_of(model="m")

        def set_cache_hook(self, hook):
            self.hook = hook

        def generate_until(self, requests):
            self.hook.add_partial("generate_until", requests[0].args, "B")
            raise KeyboardInterrupt

    Model.__module__ = "mmaupro_ext.models.stub"

    class Task:
        OUTPUT_TYPE = "generate_until"
        instances = [
            Instance("generate_until", {}, (f"{n}?", {}), 0, ("t", n, 1)) for n in range(3)
        ]

        def aggregation(self):
            return {"errored": None}

    def evaluate():
        def asked(lm, task_dict):
            return lm.generate_until(Task.instances)

        module = types.SimpleNamespace(evaluate=asked)
        look_at_tasks(module)
        module.evaluate(Model(), {"tasks": {"t": Task()}})

    with pytest.raises(SystemExit) as stop:
        run(*OURS, "--output_path", tmp_path, calls=evaluate)
    assert stop.value.code == 130
    said = capsys.readouterr().err
    (folder,) = (tmp_path / "journal").iterdir()
    assert f"Interrupted: 1 of 3 answers are kept in {folder}. The same command goes on" in said


def test_our_options_are_in_the_help_and_for_our_models_only(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    assert "--retry-errors" in text
    assert "--max-errors <n>" in text
    with pytest.raises(SystemExit) as stop:
        run("--model", "dummy", "--tasks", "other_task", "--max-errors", "3")
    assert stop.value.code == 2
    assert "--max-errors: --model dummy keeps no journal" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        run(*OURS, "--max-errors", "0")
    assert stop.value.code == 2
    assert "--max-errors 0: give a whole number of 1 or more." in capsys.readouterr().err


def other_models_results(folder: Path) -> Path:
    """Write results of another model that are newer than any run of today."""
    file = folder / "other" / "results_2030-01-01T00-00-00.000000.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(found(errored=1.0)))
    os.utime(file, (2e9, 2e9))
    return file


def test_what_others_wrote_below_the_same_folder_is_not_ours(run, tmp_path, capsys):
    other = other_models_results(tmp_path)
    run(*OURS, "--output_path", tmp_path, "--log_samples")
    text = capsys.readouterr().out
    assert str(other) not in text
    assert "ERRORED" not in text


def test_a_run_that_could_not_save_fails_loudly_and_names_no_other_run(run, tmp_path, capsys):
    other = other_models_results(tmp_path)

    def in_the_way():
        for name in ("pretrained=nano", "nano"):
            (tmp_path / name).write_text("a file where lm_eval wants a folder")

    with pytest.raises(SystemExit) as stop:
        run(*OURS, "--output_path", tmp_path, "--log_samples", calls=in_the_way)
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert "could not write" in said.err
    assert str(tmp_path) in said.err
    assert str(other) not in said.out + said.err
    assert "Results:" not in said.out
    assert "Samples:" not in said.out


def test_a_disk_that_fills_up_in_the_middle_of_a_file_is_noticed(
    run, tmp_path, capsys, monkeypatch
):
    write_text = Path.write_text

    def half(self, text, **options):
        write_text(self, text[: len(text) // 2], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(SystemExit) as stop:
        run(*OURS, "--output_path", tmp_path, "--log_samples")
    assert stop.value.code == 1
    assert "results_" in capsys.readouterr().err


def test_a_save_that_ended_before_the_file_had_a_name_is_noticed(run, tmp_path, capsys):
    results = found()
    for sample in results["samples"]["mmaupro-sample_sound"]:
        del sample["doc_hash"]  # lm_eval adds these up first
    with pytest.raises(SystemExit) as stop:
        run(*OURS, "--output_path", tmp_path, "--log_samples", results=results)
    assert stop.value.code == 1
    assert f"could not write {tmp_path};" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json*"))


def test_samples_that_were_written_in_part_are_not_called_saved(tmp_path):
    record = after_run.Run()
    (tmp_path / "whole").write_text("{}\n{}\n")
    (tmp_path / "cut").write_text("{}\n{")
    record.saved_samples(tmp_path / "whole", 2)
    record.saved_samples(tmp_path / "cut", 2)
    record.saved_samples(tmp_path / "gone", 0)
    assert record.samples_files == [tmp_path / "whole"]
    assert record.unsaved == [tmp_path / "cut", tmp_path / "gone"]


def test_a_process_without_results_stays_silent(capsys):
    after_run.Run().say_where()
    assert capsys.readouterr().out == ""


def test_other_peoples_runs_stay_as_they_are(run, tmp_path, capsys):
    results = found()
    results["results"] = {"other_task": {"alias": "other", "acc,none": 0.5, "sample_len": 1}}
    results["configs"] = {}
    run("--model", "dummy", "--tasks", "other_task", "--output_path", tmp_path, results=results)
    assert "Results:" not in capsys.readouterr().out
    with pytest.raises(KeyboardInterrupt):
        run("--model", "dummy", "--tasks", "other_task", raises=KeyboardInterrupt())


def test_errored_items_are_counted_below_the_table(run, tmp_path, capsys):
    run(*OURS, "--output_path", tmp_path, results=found(errored=0.25))
    assert "ERRORED: 2 item(s) could not be served" in capsys.readouterr().out


def test_of_an_ablation_errors_are_counted_by_condition_and_lengths_are_those_after_it():
    heard = {"clips": 3, "windows": 3, "seconds_in_files": 4.5, "seconds_heard": 4.5}
    values = {"errored,none": 0.25, "sample_len": 8}
    tasks = ("mmar-sample_sound", "mmar-sample_sound@noise", "mmar-sample_music@noise")
    results = {"results": dict.fromkeys(tasks, values), "configs": dict.fromkeys(tasks, {})}
    first, second = after_run.summary(results | {"config": {"heard": heard}})
    assert first.startswith("Heard under all conditions: 3 clips, 4.5 s as altered, 4.5 s given")
    assert (
        "6 item(s) could not be served and are left out of the profile: full 2, noise 4." in second
    )
    results = {"results": {}, "config": {"heard": heard, "condition": "fragments"}}
    assert after_run.summary(results)[0].startswith("Heard: 3 clips, 4.5 s as altered, ")


def test_footnotes_name_random_weights_and_partial_data():
    results = {
        "config": {"note": "chance level"},
        "configs": {
            "mmaupro_sound": {"metadata": {"mmaupro_data": "partial download: 2 of 5,305 items"}},
            "mmaupro_music": {"metadata": {"mmaupro_data": "partial download: 2 of 5,305 items"}},
            "mmlu": {"metadata": {}},
        },
    }
    assert after_run.footnotes(results) == [
        "NOTE: chance level",
        "PARTIAL DATA: partial download: 2 of 5,305 items",
    ]
    assert after_run.footnotes({"results": {}, "configs": {"mmlu": {"metadata": None}}}) == []


def test_the_peak_memory_of_this_process_is_in_bytes():
    before = peak_memory()["process"]
    block = bytearray(200_000_000)
    block[::4096] = bytes(len(block[::4096]))  # touched, so that it is really there
    after = peak_memory()["process"]
    assert 100_000_000 < after < 1_000_000_000_000
    assert after >= before
