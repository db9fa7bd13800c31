"""The `mmaupro` command: help that teaches, and the helpers around lm_eval's own commands."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmaupro_ext import __version__, after_run, plugin
from mmaupro_ext.commands import cli, hook


def run(*arguments: str) -> int:
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


def test_hook_is_enabled_and_disabled(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mmaupro_ext_hook.pth"
    monkeypatch.setattr(hook, "hook_file", lambda: file)
    monkeypatch.delenv(plugin.OFF_SWITCH, raising=False)
    assert run("hook", "enable") == 0
    assert "mmaupro_ext.plugin" in file.read_text()
    assert run("hook") == 0
    assert capsys.readouterr().out.count("hook: on") == 2
    assert run("hook", "disable") == 0
    assert not file.exists()
    assert run("hook", "disable") == 0
    assert capsys.readouterr().out.count("hook: off") == 2


def test_hook_in_a_folder_that_cannot_be_written_names_the_way_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hook, "hook_file", lambda: tmp_path / "missing" / "mmaupro_ext_hook.pth")
    assert run("hook", "enable") == 2
    assert "mmaupro run" in capsys.readouterr().err


def results_file(folder: Path, *, errored: float = 0.0, config: dict | None = None) -> Path:
    file = folder / "tiny-random" / "results_2026-01-01T00-00-00.000000.json"
    file.parent.mkdir(parents=True)
    results = {
        "mmaupro-sample_sound": {"alias": "sound", "errored,none": errored, "sample_len": 8},
        "mmaupro-sample_open": {"alias": "open", "errored,none": 0.0, "sample_len": 5},
    }
    file.write_text(json.dumps({"results": results, "config": config or {}}))
    (file.parent / "samples_mmaupro-sample_sound_2026-01-01T00-00-00.000000.jsonl").write_text("")
    return file


def test_after_a_run_the_files_are_named(tmp_path, capsys):
    file = results_file(tmp_path)
    after_run.say_where(SimpleNamespace(output_path=str(tmp_path), log_samples=True))
    text = capsys.readouterr().out
    assert f"Results: {file}" in text
    assert "samples_*_2026-01-01T00-00-00.000000.jsonl (1 files)" in text
    assert "ERRORED" not in text
    assert "Unscored: open-ended replies" in text


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


def test_errored_items_are_counted_below_the_table(tmp_path, capsys):
    results_file(tmp_path, errored=0.25)
    after_run.say_where(SimpleNamespace(output_path=str(tmp_path), log_samples=True))
    assert "ERRORED: 2 item(s)" in capsys.readouterr().out


def test_a_run_whose_results_were_not_saved_fails_loudly(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        after_run.say_where(
            SimpleNamespace(output_path=str(tmp_path / "nowhere"), log_samples=True)
        )
    assert stop.value.code == 1
    assert "no results file" in capsys.readouterr().err


def test_other_ranks_stay_silent(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    after_run.say_where(SimpleNamespace(output_path=str(tmp_path), log_samples=True))
    assert capsys.readouterr().out == ""
