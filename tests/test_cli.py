"""The `mmaupro` command: help that teaches, and the helpers around lm_eval's own commands."""

from __future__ import annotations

import json
import py_compile
import subprocess
from pathlib import Path

import pytest

from mmaupro_ext import __version__, plugin
from mmaupro_ext.commands import cli, completion, hook


def run(*arguments: str) -> int:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    return stop.value.code or 0


def test_help_shows_commands_that_can_be_pasted(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for part in (
        "mmaupro run",
        "mmaupro-sample_*",
        "accelerate launch -m mmaupro_ext",
        "hook",
        "info",
    ):
        assert part in text


def test_no_arguments_print_the_help(capsys):
    cli.main([])
    assert "usage: mmaupro" in capsys.readouterr().out


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == f"mmaupro-ext {__version__}"


def test_path_is_the_folder_with_both_task_families(capsys):
    assert run("path") == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "mmaupro" / "_template_yaml").is_file()
    assert (folder / "mmaupro_sample" / "_mmaupro_sample.yaml").is_file()


def test_info_names_backend_and_versions(capsys):
    assert run("info", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["versions"]["mmaupro-ext"] == __version__
    assert facts["native"]["backend"] in ("c", "numba", "scipy")
    assert run("info") == 0
    assert "native:" in capsys.readouterr().out


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder in place of site-packages, with the record of an editable install."""
    monkeypatch.setattr(hook, "site_packages", lambda: tmp_path)
    monkeypatch.delenv(plugin.OFF_SWITCH, raising=False)
    (tmp_path / "mmaupro_ext-0.dist-info").mkdir()
    (tmp_path / "mmaupro_ext-0.dist-info" / "RECORD").write_text(
        "mmaupro_ext-0.dist-info/RECORD,,\n"
    )
    return tmp_path


def test_hook_is_enabled_and_disabled_without_a_trace(site, capsys):
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    run("hook", "enable")
    run("hook")
    assert capsys.readouterr().out.count("hook: on") == 2
    py_compile.compile(str(site / "mmaupro_ext_hook.py"))
    assert list(site.glob("__pycache__/*.pyc"))
    run("hook", "disable")
    run("hook", "disable")
    assert capsys.readouterr().out.count("hook: off") == 2
    record = site / "mmaupro_ext-0.dist-info" / "RECORD"
    assert {path for path in site.rglob("*") if path.is_file()} == set(before)
    # pip removes what is listed, and passes over what is no longer there
    assert record.read_bytes().startswith(before[record])


def test_an_uninstall_is_told_of_a_hook_that_was_enabled_by_hand(site):
    run("hook", "enable")
    run("hook", "enable")
    listed = (site / "mmaupro_ext-0.dist-info" / "RECORD").read_text().splitlines()
    assert listed.count("mmaupro_ext_hook.pth,,") == listed.count("mmaupro_ext_hook.py,,") == 1


def test_hook_in_a_folder_that_cannot_be_written_names_the_way_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hook, "site_packages", lambda: tmp_path / "missing")
    assert run("hook", "enable") == 2
    assert "mmaupro run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scor"], "mmaupro: COMMAND: 'scor' is unknown. The nearest: score"),
        (["data", "verfy"], "mmaupro data: ACTION: 'verfy' is unknown. The nearest: verify."),
        (["data", "fetch", "mmrr"], "BENCHMARK: 'mmrr' is unknown. The nearest: mmar"),
        (["score", "RUN", "--juge"], "there is no argument '--juge'. The nearest: --judge,"),
        (["hook", "foo"], "'foo' is unknown. Known: status, enable, disable."),
    ],
)
def test_a_mistyped_word_gets_one_line_with_the_nearest(arguments, said, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert error.endswith(" --help\n")


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_knows_commands_and_options_lm_evals_included(shell, capsys):
    pytest.importorskip("shtab")
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    for word in ("compare", "judge-tries", "model_args"):
        assert word in script


def test_bash_completes_a_command_and_an_option(capsys, tmp_path):
    pytest.importorskip("shtab")
    run("completion", "bash")
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    words = "COMP_WORDS=(mmaupro score --for); COMP_CWORD=2; _shtab_mmaupro; echo $COMPREPLY"
    done = subprocess.run(
        ["bash", "-c", f"source {script}; {words}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["--format"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("qwen2-audio", "qwen2_audio"),
        ("Qwen/Qwen2.5-Omni-7B", "qwen2_5_omni"),
        ("ibm-granite/granite-speech-plus-8b", "granite_speech_plus"),
        ("nvidia/audio-flamingo-3-hf", "audioflamingo3"),
    ],
)
def test_a_model_is_found_by_the_name_that_people_know(name, family, capsys):
    assert run("models", name) == 0
    assert capsys.readouterr().out.startswith(family)


def test_a_model_is_found_by_the_folder_of_its_checkpoint(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "voxtral"}')
    assert run("models", str(tmp_path)) == 0
    assert capsys.readouterr().out.startswith("voxtral")


def test_a_model_that_is_not_known_gets_the_nearest_and_the_command_that_tries(capsys):
    assert run("models", "Qwen/Qwen3-Omni-30B-A3B-Instruct") == 2
    error = capsys.readouterr().err
    assert "The nearest: qwen3_omni_moe, " in error
    assert "doctor --model_args pretrained=Qwen/Qwen3-Omni-30B-A3B-Instruct" in error
