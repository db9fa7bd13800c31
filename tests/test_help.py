"""`--help` in a terminal: nothing is wider than it, and what was wrapped says what it said."""

from __future__ import annotations

import argparse
import shlex

import pytest

from mmaupro_ext.commands import cli
from mmaupro_ext.commands.help import Help


def parsers(parser=None):
    """Yield the parser of each command of ours with all its options."""
    parser = cli.build_parser() if parser is None else parser
    parser.load()
    if parser.description:  # those of lm_eval have their line alone
        yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def shown(epilog: str, monkeypatch, columns: int) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    parser = argparse.ArgumentParser(epilog=epilog, formatter_class=Help, add_help=False)
    return parser.format_help().splitlines()[2:]


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_nothing_is_wider_than_the_terminal_or_than_a_hundred_columns(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    widest = 0
    for parser in parsers():
        for line in parser.format_help().splitlines():
            assert len(line) <= min(columns, 100), (parser.prog, line)
            widest = max(widest, len(line))
    assert widest > 0.9 * min(columns, 100)


def test_every_word_of_a_help_text_is_there_whatever_the_width(monkeypatch):
    for parser in parsers():
        told = []
        for columns in (50, 80, 200):
            monkeypatch.setenv("COLUMNS", str(columns))
            lines = parser.format_help().partition("\n\n")[2].splitlines()
            told.append(" ".join(lines).replace("\\", " ").replace("#", " ").split())
        assert told[0] == told[1] == told[2], parser.prog


def test_a_long_command_goes_on_after_a_backslash_and_is_the_same_command(monkeypatch):
    command = (
        "mmaupro run --model hf-audio --tasks 'mmaupro-sample_*' --metadata recipe=NAME --limit 5"
    )
    lines = shown(f"examples:\n  {command}\n  mmaupro runs\n", monkeypatch, 50)
    assert lines[0] == "examples:"
    assert lines[-1] == "  mmaupro runs"
    typed = "\n".join(lines[1:-1])
    assert typed.count("\\\n") == len(lines) - 3 > 0
    assert shlex.split(typed.replace("\\\n", " ")) == shlex.split(command)


def test_entries_hang_below_their_text_and_paragraphs_are_filled(monkeypatch):
    text = "one two\nthree\n\nlist:\n  a   four five six seven\n      eight\n  bb  nine\n"
    assert shown(text, monkeypatch, 22) == [
        "one two three",
        "",
        "list:",
        "  a   four five six",
        "      seven eight",
        "  bb  nine",
    ]
