"""Means over categories, checked against the paper's table."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from mmaupro_ext.scoring.aggregate import OFFICIAL_COUNTS, macro_mean, overall
from mmaupro_ext.scoring.errors import ScoringError

TABLE_3 = Path(__file__).parent / "data" / "published_results.csv"
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


def published_systems():
    lines = TABLE_3.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    # Random counts open and IF as zero; no weights explain the human row's average.
    return [row for row in rows if row["Models"] not in ("Random Choice", "Human")]


def test_official_counts_make_up_the_whole_dataset():
    assert sum(OFFICIAL_COUNTS.values()) == 5305
    assert set(COLUMNS.values()) == set(OFFICIAL_COUNTS)


@pytest.mark.parametrize("row", published_systems(), ids=lambda row: row["Models"])
def test_the_papers_average_is_reproduced(row):
    scores = {category: float(row[column]) for column, category in COLUMNS.items()}
    # Printed figures are cut or rounded to 0.1; 1e-9 is for the binary form of the decimals.
    assert abs(overall(scores) - float(row["Avg."])) <= 0.1 + 1e-9


def test_all_25_systems_of_the_table_are_there():
    assert len(published_systems()) == 25


def test_overall_weights_by_the_counts_given():
    assert overall({"a": 1.0, "b": 0.0}, {"a": 1, "b": 3, "unused": 9}) == 0.25
    assert macro_mean({"a": 1.0, "b": 0.0}) == 0.5


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_missing_score_is_not_averaged_as_zero(bad):
    for mean in (overall, macro_mean):
        with pytest.raises(ScoringError, match="'open' has no score"):
            mean({"sound": 0.5, "open": bad})


def test_bad_categories_are_named():
    with pytest.raises(ScoringError, match="no item count for 'sounds'"):
        overall({"sounds": 0.5})
    with pytest.raises(ScoringError, match="no category scores"):
        overall({})
    with pytest.raises(ScoringError, match="no category scores"):
        macro_mean({})
    with pytest.raises(ScoringError, match="hold no items"):
        overall({"a": 0.5}, {"a": 0})
    with pytest.raises(ScoringError, match="must not be negative"):
        overall({"a": 0.5}, {"a": -1})
