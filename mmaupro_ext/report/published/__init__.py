"""Published MMAU-Pro scores, as figures with their source.

`paper.csv`: table 3 of arXiv 2508.13992: 25 systems, the human and the random row, in the paper's order and
names. `later.csv`: overall scores printed elsewhere since; `date` (of a paper its month on arXiv) and `how`,
that is how they were scored, are "unstated" where their source does not say.

`paper_ablations.csv`: its tables 4 and 5, and random choice of table 3. `foo.csv`: right answers by category
under ablations, of leonardofhy/all-that-glitters-is-not-audio at e42b3d1, files
results/mmau_pro/<directory>/<condition>_llm_judge_results.json (a text backbone's condition there is "none");
`foo_classes.csv`: its results/decomposition_summary.json. MIT; the benchmarks are under CC BY-NC 4.0.
docs/reliance.md says what to know of them.
"""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # names and sources are needed where it is not installed
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
FOO = "Foo et al., arXiv 2604.24401 (leonardofhy/all-that-glitters-is-not-audio at e42b3d1)"


@cache
def paper() -> pd.DataFrame:
    """Return the paper's table: index the model, one column a category (per cent), "overall" last."""
    import pandas as pd

    table = pd.read_csv(_text("paper.csv"), na_values="-").set_index("Models")
    found = table.rename(columns={**COLUMNS, OVERALL: "overall", "Size": "size"})
    return found[["size", *COLUMNS.values(), "overall"]]


@cache
def later() -> pd.DataFrame:
    """Return later scores: `model`, `overall` (per cent, or NaN), `stated`, `source`, `date`, `how`."""
    import pandas as pd

    table = pd.read_csv(_text("later.csv"), dtype=str)
    table["stated"] = table["overall"]
    table["overall"] = pd.to_numeric(table["overall"], errors="coerce")
    return table[["model", "overall", "stated", "source", "date", "how"]]


def overalls() -> list[dict[str, str]]:
    """Return all overall scores as texts, without pandas: `model`, `overall`, `source`, `date`, `how`."""
    stated = {"source": SOURCE, "date": "2025-08", "how": "the paper's evaluator"}
    own = csv.DictReader(_text("paper.csv"))
    found = [{"model": row["Models"], "overall": row[OVERALL], **stated} for row in own]
    return [*found, *csv.DictReader(_text("later.csv"))]


@cache
def paper_ablations() -> pd.DataFrame:
    """Return `table` (of the paper), `model`, `condition` and `score` (per cent, overall)."""
    import pandas as pd

    return pd.read_csv(_text("paper_ablations.csv"))


@cache
def foo() -> pd.DataFrame:
    """Return scores under ablations (per cent): index (model, condition), columns categories and "overall".

    The last, `no_choice`, is the share of replies from which no choice was read; they count as wrong.
    """
    import pandas as pd

    counts = pd.read_csv(_text("foo.csv"))
    table = counts[1:].set_index(["model", "condition"]).drop(columns="directory")
    items = counts.iloc[0].drop(["model", "condition", "directory"])
    items["no_choice"] = items["right"]
    shares = 100.0 * table / items.astype(float)
    names = [*(name for name in COLUMNS.values() if name in shares), "right", "no_choice"]
    return shares[names].rename(columns={"right": "overall"})


@cache
def foo_classes() -> pd.DataFrame:
    """Return the shares of item classes (per cent, means over `models` models): index the benchmark."""
    import pandas as pd

    return pd.read_csv(_text("foo_classes.csv")).set_index("benchmark")


def _text(name: str) -> io.StringIO:
    return io.StringIO((files(__name__) / name).read_text(encoding="utf-8"))
