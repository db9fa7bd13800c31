"""Pipes, devices and links where files are expected, and escapes of terminals where text is."""

from __future__ import annotations

import logging
import os

import pytest

from mmaupro_ext.models.items import Question, attempt, failure
from mmaupro_ext.offline.checkpoints import read_json
from mmaupro_ext.replies import parse_error
from mmaupro_ext.util import sha256_of_file, visible

ESCAPE = "\x1b[2J\x1b]0;gotcha\x07"


@pytest.fixture
def pipe(tmp_path):
    """A pipe that nobody writes to: opening it would wait for ever."""
    path = tmp_path / "samples_mmaupro_sound_2026-01-01T00-00-00.jsonl"
    os.mkfifo(path)
    return path


def test_a_pipe_is_not_hashed(pipe):
    with pytest.raises(OSError, match="named pipe and no regular file"):
        sha256_of_file(pipe)


def test_a_device_is_not_hashed():
    with pytest.raises(OSError, match="a device and no regular file"):
        sha256_of_file("/dev/zero")


def test_an_image_that_is_a_pipe_costs_its_item(pipe):
    from mmaupro_ext.models.media import read_image

    question = Question("<image>", {"visual": [str(pipe)]}, item="task 1")
    error = parse_error(attempt(question, lambda: read_image(str(pipe))))
    assert "named pipe" in error["problem"]
    assert error["file"] == str(pipe)


def test_samples_that_are_a_pipe_are_refused(pipe):
    from mmaupro_ext.offline import logged_runs
    from mmaupro_ext.scoring.errors import ScoringError

    for given in (pipe, pipe.parent):
        with pytest.raises(ScoringError, match="named pipe|no such file"):
            logged_runs.read_runs([given])


def test_settings_of_a_checkpoint_that_are_a_pipe_are_refused(pipe):
    from mmaupro_ext.errors import ConfigError

    with pytest.raises(ConfigError, match="named pipe"):
        read_json(pipe)


def test_escapes_in_names_of_items_and_files_are_logged_as_text(caplog):
    question = Question("?", {"audio": [f"{ESCAPE}.wav"]}, item=f"task {ESCAPE}")
    with caplog.at_level(logging.ERROR):
        reply = failure(question, f"bad {ESCAPE}", "Fix it.")
    assert "\x1b" not in caplog.text
    assert "\x07" not in caplog.text
    assert r"\x1b[2J" in caplog.text
    assert ESCAPE in parse_error(reply)["problem"]  # the reply is data, and keeps it


def test_an_explained_reply_obeys_no_escape(monkeypatch):
    from mmaupro_ext.report import reply_explained

    monkeypatch.setattr(reply_explained, "_head", lambda *_: [f"question: {ESCAPE}"])
    for part in ("_strict", "_official"):
        monkeypatch.setattr(reply_explained, part, lambda *_: [])
    assert reply_explained.explain_item(None, None) == visible(f"question: {ESCAPE}")


@pytest.mark.parametrize("command", [["score"], ["report"], ["compare", "/none"]], ids=str)
def test_errors_of_commands_obey_no_escape(command, capsys):
    from mmaupro_ext.commands.cli import main

    with pytest.raises(SystemExit):
        main([*command, f"/no{ESCAPE}"])
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
