"""The one progress bar of models and fetches: a line that moves in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from tqdm import tqdm

QUIET = "MMAUPRO_QUIET"
"""Environment variable that switches the bars off when it is not empty (`--quiet` sets it)."""

# Seconds between two lines where each stays, as in the file of a batch job.
_LINE_EVERY_S = 30.0


class _Lines:
    """A stream on which what would overwrite a line begins a new one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        self._stream.flush()


def progress(total: int, what: str, unit: str = "item", disable: bool = False) -> tqdm:
    """Return a bar for a loop over items, or for bytes.

    Parameters
    ----------
    total : int
        How many there are.
    what : str
        What is done with them, in two or three words.
    unit : str
        What one of them is called; "B" for bytes, which are shown as MB and GB.
    disable : bool
        Whether nothing is shown, as in all processes but the first.
    """
    disable = disable or bool(os.environ.get(QUIET))
    options: dict = {"total": total, "desc": what, "unit": unit, "unit_scale": unit == "B"}
    options["disable"] = disable
    if not sys.stderr.isatty():
        options.update(file=_Lines(sys.stderr), mininterval=_LINE_EVERY_S, miniters=1, ncols=100)
    return tqdm(**options)
