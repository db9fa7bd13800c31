"""A table of texts in the notations that papers, repositories and spreadsheets take."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; all columns but the first stand to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def latex(header: Sequence[str], rows: Sequence[Sequence[object]], note: str = "") -> str:
    """Return the lines of a LaTeX table with booktabs' rule, without its environment."""
    lines = [
        " & ".join("".join(_LATEX.get(c, c) for c in str(cell)) for cell in line) + r" \\"
        for line in [header, *rows]
    ]
    return "\n".join([*([f"% {note}"] if note else []), lines[0], r"\midrule", *lines[1:]])


def comma_separated(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return lines of CSV without a final newline."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().rstrip("\n")
