"""Look before you leap: what a run needs is tried, and names are looked up, before its model is loaded."""

from __future__ import annotations

import argparse
import os
import shutil
import types

import lm_eval
import pytest
from lm_eval._cli.run import Run as RunCommand
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager

from mmaupro_ext import compat
from mmaupro_ext.compat import preflight
from mmaupro_ext.errors import ConfigError

compat.install()

YAML = {
    "other": "task: other_task\ndataset_path: json\ntag: many\n",
    "third": "task: third_task\ndataset_path: json\ntag: many\n",
    "both": "group: both\ntask:\n- other_task\n- group: inner\n  task: [third_task]\n",
    "some": "group: some\ntask: [many]\n",
}


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    for name, text in YAML.items():
        (folder / f"{name}.yaml").write_text(text)
    return TaskManager(include_path=str(folder), include_defaults=False)


def config(**given):
    made = EvaluatorConfig(**{"model": "hf-audio", "tasks": ["mmaupro-sample_sound"]} | given)
    made.model_args = made.model_args or {"pretrained": "nano"}
    return made


# ---- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_size", "device"])
def test_an_option_of_the_command_among_the_model_s_arguments_is_named(name):
    """lm_eval hands the model its own value as well, and Python's message names neither place."""
    preflight.check_arguments(config(batch_size=2))
    with pytest.raises(ConfigError, match=f"--{name} 4, not in --model_args"):
        preflight.check_arguments(config(model_args={"pretrained": "nano", name: 4}))


# ---- places --------------------------------------------------------------------------------------


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path):
    preflight.check_places(config(output_path=str(tmp_path / "a" / "b")))
    preflight.check_places(config(output_path=str(tmp_path / "c" / "mine.json")))
    preflight.check_places(config(use_cache=str(tmp_path / "kept")))
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for given in ({"output_path": "file/out"}, {"output_path": "file/out/mine.json"}):
        path = str(tmp_path / given["output_path"])
        with pytest.raises(ConfigError, match=r"--output_path .*file/out.*cannot be written to"):
            preflight.check_places(config(output_path=path))
    with pytest.raises(ConfigError, match="--use_cache .*file: .*cannot be written to"):
        preflight.check_places(config(use_cache=str(tmp_path / "file")))


def test_a_disk_without_room_for_a_page_is_named(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(preflight.os, "fsync", full)
    with pytest.raises(ConfigError, match=rf"{tmp_path} cannot be written to \(No space left"):
        preflight.check_places(config(output_path=str(tmp_path)))


def test_the_users_cache_that_cannot_be_written_asks_for_an_output_path(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"Or give --output_path FOLDER\."):
        preflight.check_places(config())


def test_a_model_path_that_no_folder_can_be_named_by_is_found_in_time(tmp_path):
    long = {"pretrained": "/models/" + "x" * 150 + "/" + "y" * 150}
    with pytest.raises(
        ConfigError, match=r"File name too long: .*by the model, of 3\d\d bytes\. Name"
    ):
        preflight.check_places(config(output_path=str(tmp_path), model_args=long))
    preflight.check_places(config(output_path=str(tmp_path / "mine.json"), model_args=long))


def test_what_a_run_writes_is_held_against_the_free_space(tmp_path, monkeypatch, caplog):
    def free(count):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda path: types.SimpleNamespace(total=0, used=0, free=count)
        )

    one = config(output_path=str(tmp_path / "new"))
    free(54_000_000)
    with pytest.raises(ConfigError) as stop:
        preflight.check_space(one, ["mmaupro"])
    assert f"{tmp_path} has 54 MB of free space, and this run writes about 55 MB" in str(stop.value)
    assert "(5305 items)" in str(stop.value)
    for name in ("mmaupro_sound", "mmaupro-sample", "other_task"):
        preflight.check_space(one, [name])
    one.limit = 100.0
    preflight.check_space(one, ["mmaupro"])
    free(1_000_000)
    with pytest.raises(ConfigError, match="this run writes about 2 MB"):
        preflight.check_space(one, ["other_task"])


# ---- names ---------------------------------------------------------------------------------------


def test_an_unknown_task_is_named_with_those_like_it(manager):
    assert preflight.unknown_tasks("other_task,both", manager) is None
    assert preflight.unknown_tasks(["mmaupro-sample_*", "many"], manager) is None
    error = preflight.unknown_tasks("other_task,mmaupro-sample_sond", manager)
    assert str(error).startswith("--tasks: not found: 'mmaupro-sample_sond'. The nearest: mmaupro-")
    assert "mmaupro-sample_sound" in str(error)
    assert "other_task" in str(preflight.unknown_tasks(["othr_task*"], manager))


@pytest.mark.parametrize(
    ("asked", "leaves"),
    [
        (["both"], ["other_task", "third_task"]),
        (["many"], ["other_task", "third_task"]),
        (["some"], ["other_task", "third_task"]),
        ([{"task": "mine", "dataset_path": "json"}], ["mine"]),
        ([{"group": "g", "task": ["other_task", {"task": "mine"}]}], ["other_task", "mine"]),
    ],
)
def test_groups_and_tags_are_their_tasks(manager, asked, leaves):
    assert preflight.leaves_of(asked, manager) == leaves


def test_samples_of_tasks_that_are_not_asked_are_refused(manager):
    leaves = preflight.leaves_of(["both"], manager)
    preflight.check_samples(config(samples={"other_task": [1]}), leaves)
    with pytest.raises(ConfigError, match="'othr_task' is no task of this run. The nearest: other"):
        preflight.check_samples(config(samples={"othr_task": [1]}), leaves)
    with pytest.raises(ConfigError, match="Groups are named by their tasks"):
        preflight.check_samples(config(samples={"both": [1]}), leaves)
    with pytest.raises(ConfigError, match="neither JSON nor a file"):
        preflight.check_samples(config(samples="gone.json"), leaves)


def test_a_task_that_is_asked_for_twice_is_found_before_the_model_is_loaded(manager):
    preflight.check_once(["other_task", "third_task", "many"], manager)
    with pytest.raises(ConfigError, match="other_task is asked for twice, by both and by other_ta"):
        preflight.check_once(["both", "other_task"], manager)


def test_an_unknown_model_is_named_with_those_like_it():
    preflight.check_model("hf-audio")
    with pytest.raises(ConfigError, match=r"--model hf-adio: .*The nearest: hf-audio"):
        preflight.check_model("hf-adio")


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch, manager, capsys):
    """Run lm_eval's command up to its model; return its status and what it says."""
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **_: manager)

    def execute(*words):
        parsers = argparse.ArgumentParser().add_subparsers()
        run = RunCommand(parsers)
        with pytest.raises(SystemExit) as stop:
            RunCommand._execute(run._parser.parse_args([str(word) for word in words]))
        return stop.value.code, capsys.readouterr().err

    return execute


MODEL = ("--model", "hf-audio", "--model_args", "pretrained=nano")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tasks", "mmaupro-sample_sond"), "--tasks: not found: 'mmaupro-sample_sond'. The nearest: "),
        (("--tasks", "both", "--samples", '{"othr": [1]}'), "--samples: 'othr' is no task of this run."),
        (("--tasks", "both", "--output_path", "/dev/null/out"), "--output_path /dev/null/out: "),
        (("--tasks", "both,other_task"), "--tasks: other_task is asked for twice"),
    ],
)  # fmt: skip
def test_a_run_ends_with_one_line_before_its_model_is_made(command, monkeypatch, words, said):
    monkeypatch.setattr(lm_eval, "simple_evaluate", None)
    status, text = command(*MODEL, *words)
    assert status == 2
    assert f"mmaupro-ext: {said}" in text
    assert "Traceback" not in text


# ---- the checkpoint ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    from mmaupro_ext.models.hf import checks

    return checks


def test_a_checkpoint_that_is_not_there_is_named_with_what_is(checks, tmp_path):
    (tmp_path / "models" / "qwen" / "checkpoint-500").mkdir(parents=True)
    (tmp_path / "models" / "qwen" / "checkpoint-500" / "config.json").write_text("{}")
    (tmp_path / "models" / "file.bin").write_text("")
    checks.check_checkpoint(str(tmp_path / "models" / "qwen" / "checkpoint-500"))
    checks.check_checkpoint("owner/name")
    for path, said in (
        ("models/qwn", r"models/qwn: there is no such folder\. Nearest in .*/models: qwen\."),
        ("modls/qwen", r"modls is not there either\. Nearest in .*: models\."),
        ("models/qwen", r"holds no config\.json\. Checkpoints in it: checkpoint-500\."),
        ("models/file.bin", "is a file: give the folder"),
    ):
        with pytest.raises(ConfigError, match=said):
            checks.check_checkpoint(str(tmp_path / path))


def test_a_name_that_can_be_had_nowhere_is_one_line(checks, monkeypatch):
    error = checks.not_to_be_had("nanoo", OSError("\nno connection.\nmore lines"))
    assert str(error).startswith("nanoo: no connection. Built in: nano. A folder must hold")
    assert "\n" not in str(error)


def test_unknown_arguments_are_named_with_those_like_them(checks, checkpoint_of):
    from mmaupro_ext.models.hf.model import HFAudioLM

    folder = checkpoint_of("qwen2_5_omni")
    known = ["attn_implementation", "device_map", "peft", "load_in_8bit", "bnb_4bit_quant_type"]
    checks.check_arguments(HFAudioLM, folder, known)
    checks.check_arguments(HFAudioLM, folder, ["text_config"])  # of its configuration
    with pytest.raises(ConfigError, match=r"no argument 'long_adio'\. The nearest: long_audio"):
        checks.check_arguments(HFAudioLM, folder, ["long_adio"])
    with pytest.raises(ConfigError, match="hf-audio has no argument 'zzz'"):
        checks.check_arguments(HFAudioLM, folder, ["zzz"])
    # Of a configuration that is not here: only what looks like one that is known.
    checks.check_arguments(HFAudioLM, "owner/name", ["zzz"])
    with pytest.raises(ConfigError, match="The nearest: long_audio"):
        checks.check_arguments(HFAudioLM, "owner/name", ["long_adio"])


def test_a_device_that_is_not_here_is_refused(checks, monkeypatch):
    import torch

    checks.check_device("cpu")
    with pytest.raises(ConfigError, match="--device gpu: there is no such kind of device"):
        checks.check_device("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match=f"--device {device}: there is no such device here"):
            checks.check_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    checks.check_device("cuda")
    checks.check_device("cuda:1")
    with pytest.raises(ConfigError, match="--device cuda:2: the last of 2 devices is cuda:1"):
        checks.check_device("cuda:2")


def test_a_device_that_was_left_out_is_what_is_there(checks, monkeypatch):
    """lm_eval's command then says cuda:0, whatever the machine has."""
    import torch

    from mmaupro_ext.models.hf.model import HFAudioLM

    for there, expected in (
        (False, {None: "cpu", "cuda:0": "cpu"}),
        (True, {None: "cuda", "cuda:0": "cuda:0"}),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        for said, device in expected.items():
            assert checks.before_loading(HFAudioLM, "tiny-random", {}, said) == device


# ---- processes -----------------------------------------------------------------------------------


def test_processes_that_make_no_group_are_refused(monkeypatch):
    from mmaupro_ext.models.hf import ranks

    monkeypatch.setattr(ranks, "Accelerator", lambda **_: types.SimpleNamespace(num_processes=1))
    ranks.join(alone=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    ranks.join(alone=False)  # a name of a cluster's own: no launcher
    monkeypatch.setenv("RANK", "0")
    ranks.join(alone=True)
    with pytest.raises(ConfigError, match=r"started 2 processes .* ACCELERATE_USE_CPU=true"):
        ranks.join(alone=False)


def test_a_process_whose_others_do_not_come_ends_with_a_sentence(monkeypatch, capsys):
    from mmaupro_ext.models.hf import ranks

    assert ranks._JOIN_S < 60
    ended = []

    def waits_for_ever(**_):
        while not ended:
            os.sched_yield()
        return types.SimpleNamespace(num_processes=2)

    monkeypatch.setattr(ranks, "Accelerator", waits_for_ever)
    monkeypatch.setattr(ranks, "_JOIN_S", 0.01)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    ranks.join(alone=False)
    assert ended == [2]
    assert "of 2 processes, not all have come" in capsys.readouterr().err
