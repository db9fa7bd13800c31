"""How `--help` is laid out: texts are wrapped to the terminal, wherever their source breaks its lines."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

# Beyond it, lines are hard to read.
_WIDEST = 100
# What is typed, addresses and options, is not torn.
_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
# Lines that are indented as far go on with those before them; others begin something.
_FAR = 10
# An entry of a list: its name, two spaces or more, what is said of it.
_ENTRY = re.compile(r"\s+(?:\S+ )*\S+ {2,}(?=\S)")
_COMMAND = re.compile(r"\s+(?:[A-Z_]+=\S+ )*(?:mmaupro|lm_eval|accelerate) ")


class Help(argparse.HelpFormatter):
    """Wraps descriptions and epilogs: paragraphs, lists whose entries have a name, commands.

    Lines that are not indented form paragraphs. Of those that are, a line of a name, two spaces and a text
    hangs below the text, and a command that is too long goes on after a backslash.
    """

    def __init__(self, prog: str, **options: Any) -> None:
        columns = min(_WIDEST, shutil.get_terminal_size().columns)
        super().__init__(prog, **{"width": columns - 2, **options})

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, **_WHOLE_WORDS)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(
            indent + line for part in _parts(text) for line in _laid_out(part, width - len(indent))
        )


def _parts(text: str) -> Iterator[str]:
    """Yield paragraphs, entries, commands and empty lines, each as one line."""
    before = ""
    for line in text.strip("\n").splitlines():
        if before and line.strip() and _goes_on(before, line):
            before = f"{before.removesuffix(chr(92)).rstrip()} {line.strip()}"
            continue
        if before:
            yield before
        before = line.rstrip()
        if not before:
            yield ""
    if before:
        yield before


def _goes_on(before: str, line: str) -> bool:
    if before.endswith("\\"):
        return True
    indent, hung = _indent(line), _indent(before)
    if indent == 0 or hung == 0:
        return indent == hung
    entry = _ENTRY.match(before)
    return indent == (entry.end() if entry else hung) >= (0 if entry else _FAR)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _laid_out(part: str, width: int) -> list[str]:
    if len(part) <= width:
        return [part]
    entry = _ENTRY.match(part)
    if entry is None and _COMMAND.match(part):
        return _broken(part, width)
    first = entry[0] if entry else " " * _indent(part)
    told = part[len(first) :]
    rest = " " * len(first) + ("# " if told.startswith("# ") else "")
    return textwrap.wrap(
        told,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        **_WHOLE_WORDS,
    )


def _broken(command: str, width: int) -> list[str]:
    """Return a command in lines of which all but the last end in a backslash, broken before options."""
    first, *options = re.split(r" (?=--)", command)
    lines, hang = [first], " " * (_indent(command) + 4)
    for option in options:
        if len(lines[-1]) + len(option) + 3 <= width:
            lines[-1] += f" {option}"
        else:
            lines.append(f"{hang}{option}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
