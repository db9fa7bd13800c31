"""Published MMAU-Pro scores, as figures with their source.

`paper.csv`: table 3 of arXiv 2508.13992: 25 systems, the human and the random row, in the paper's order and
names. `later.csv`: overall scores printed elsewhere since; `how` says how they were scored, "unstated" where
their source does not.
"""

from __future__ import annotations

import io
from functools import cache
from importlib.resources import files

import pandas as pd

# The paper's columns in its order -> our categories. "Size" stands before, "Avg." after them.
COLUMNS = {
    "Sound": "sound",
    "Music": "music",
    "Speech": "speech",
    "Sound-Music": "sound_music",
    "Speech-Music": "music_speech",
    "Speech-Sound": "sound_speech",
    "Sound-Music-Speech": "sound_music_speech",
    "Spatial": "spatial_audio",
    "Voice": "voice_chat",
    "Multi-Audio": "multi",
    "Open-ended": "open",
    "IF": "instruction following",
}
OVERALL = "Avg."
SOURCE = "arXiv 2508.13992"


@cache
def paper() -> pd.DataFrame:
    """Return the paper's table: index the model, one column a category (per cent), "overall" last."""
    table = pd.read_csv(_text("paper.csv"), na_values="-").set_index("Models")
    found = table.rename(columns={**COLUMNS, OVERALL: "overall", "Size": "size"})
    return found[["size", *COLUMNS.values(), "overall"]]


@cache
def later() -> pd.DataFrame:
    """Return later scores: `model`, `overall` (per cent, or NaN), `stated`, `source`, `how`."""
    table = pd.read_csv(_text("later.csv"), dtype=str)
    table["stated"] = table["overall"]
    table["overall"] = pd.to_numeric(table["overall"], errors="coerce")
    return table[["model", "overall", "stated", "source", "how"]]


def _text(name: str) -> io.StringIO:
    return io.StringIO((files(__name__) / name).read_text(encoding="utf-8"))
