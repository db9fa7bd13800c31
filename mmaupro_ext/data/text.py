"""Plain text for terminals: tables, numbers and durations, the same in every report."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from mmaupro_ext.util import visible


def table(header: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> str:
    """Lay out a table.

    Parameters
    ----------
    header : sequence of str
        One title per column.
    rows : sequence of sequences
        Cells; None becomes "-", whole numbers get thousands separators.
    left : int
        So many leading columns are flush left; the others are flush right.

    Returns
    -------
    str
        Lines without a final newline.
    """
    cells = [[str(title) for title in header], *[[_cell(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return visible(str(value)).replace("\n", "\\n")


def percent(share: float | None) -> str:
    """Return a share (0 to 1) as per cent with one digit, or "-"."""
    return "-" if share is None else f"{100 * share:.1f}%"


def duration(seconds: float) -> str:
    """Return seconds as a person writes them: 12.3 s, 4 min 05 s, 182.4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{seconds / 3600:,.1f} h"


def size(count: float) -> str:
    """Return a number of bytes with a decimal unit, as disks and networks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def paragraph(text: str, indent: str = "", width: int = 100) -> str:
    """Wrap a text; lines after the first are indented like the first."""
    return textwrap.fill(
        visible(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
