"""The tolerances of docs/frontend.md, where each has its reason: the tests of kernels take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "frontend.md"


@dataclass(frozen=True)
class Tolerance:
    """How far numbers may be off: from float64, at most and on average, and between two cores or levels."""

    largest: float
    mean: float
    between: float


def _read() -> dict[str, Tolerance]:
    text = PAGE.read_text(encoding="utf-8")
    table = text.partition("<!-- begin tolerances -->")[2].partition("<!-- end tolerances -->")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.split("\n")[3:-1]
    ]
    return {name: Tolerance(*map(float, figures)) for name, *figures in rows}


TOLERANCES = _read()
WHISPER = TOLERANCES["features of Whisper's kind"]
FAMILIES = TOLERANCES["features of the other families"]
RESAMPLED = TOLERANCES["resampled samples"]
MIXED = TOLERANCES["mixed samples"]
