"""The figure of a profile: what listening adds, a category a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmaupro_ext.report import figures
from mmaupro_ext.report.chart_parts import SCORE, Chart, Spec
from mmaupro_ext.report.reliance import from_to, points
from mmaupro_ext.scoring.answers import BACKBONE, NONE
from mmaupro_ext.scoring.paired import Contrast
from mmaupro_ext.scoring.reliance import OVERALL, Profile

_WITHOUT, _ADDS, _TAKES = "right without audio", "listening adds", "listening takes away"
_PARTS = {_WITHOUT: figures.PALE_GREY, _ADDS: figures.BLUE, _TAKES: figures.VERMILION}
# Dark with a white edge: seen on every bar, on white and on a dark page.
_MARKS = {"text backbone": "diamond", "chance": "M-0.3,-1.3h0.6v2.6h-0.6z"}
# A row is a line of words over a bar, so that the figure is legible on a telephone.
_WIDTH, _ROW, _BAR, _TEXT = 380, 42, 15, 12

_LEGEND: Spec = {"title": None, "orient": "top", "labelFontSize": 11, "columnPadding": 8}


def section_of(run: str) -> str:
    """Return the section of the page in which a run's figure stands, beside its tables."""
    return f"listening {run}"


def reliance_chart(name: str, profile: Profile, categories: Sequence[str]) -> Chart | None:
    """Return the figure of one run.

    Parameters
    ----------
    name : str
        Of the run.
    profile : Profile
        Of its answers.
    categories : sequence of str
        In the order in which they stand in the figure.

    Returns
    -------
    Chart or None
        None where nothing was asked without audio.
    """
    bars: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    marks: list[dict[str, Any]] = []
    for category in (*categories, OVERALL):
        none = profile.row(NONE, category)
        if none is None or none.against_full is None:
            continue
        found = none.against_full
        full, deaf = 100 * found.first, 100 * found.second
        bar = {"name": category, "full": full, "none": deaf, "adds": full - deaf}
        part = _ADDS if full >= deaf else _TAKES
        low, high = sorted((full, deaf))
        bars.append({**bar, "part": _WITHOUT, "from": 0.0, "to": low, "items": found.items})
        bars.append({**bar, "part": part, "from": low, "to": high, "items": found.items})
        words.append({"name": category, "label": f"{category} ({found.items:,})", **_gain(found)})
        other = profile.row(BACKBONE, category)
        if other is not None and other.score is not None:
            score = 100 * other.score.mean
            marks.append({"name": category, "mark": "text backbone", "score": score})
        if not math.isnan(none.chance):
            marks.append({"name": category, "mark": "chance", "score": 100 * none.chance})
    if not words:
        return None
    spec: Spec = {
        "width": _WIDTH,
        "height": {"step": _ROW},
        "encoding": {
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": [entry["name"] for entry in words],
                "axis": None,
            }
        },
        "layer": [
            _bars(bars),
            _marks(marks),
            _text(words, "label", "left", 0),
            _text(words, "gain", "right", _WIDTH),
        ],
    }
    about = (
        "Bars: right answers, of so many items. On the right: what listening adds, in points, with its 95 % "
        "interval, paired and clustered by clip; bold where it excludes 0."
    )
    suffix = "".join(c if c.isalnum() else "_" for c in name)
    return Chart(
        f"listening_{suffix}", f"What listening adds: {name}", about, spec, section_of(name)
    )


def _gain(found: Contrast) -> dict[str, Any]:
    """Return what is written beside a bar: none minus full with its sign turned."""
    gain, bounds = points(-found.difference), from_to(-found.high, -found.low)
    sure = found.low > 0 or found.high < 0
    return {"gain": gain if math.isnan(found.low) else f"{gain} ({bounds})", "sure": sure}


def _bars(bars: list[dict[str, Any]]) -> Spec:
    present = [part for part in _PARTS if any(bar["part"] == part for bar in bars)]
    tips = [{"field": field, "format": ".1f"} for field in ("full", "none")]
    return {
        "data": {"values": bars},
        "mark": {"type": "bar", "height": _BAR, "yOffset": _BAR / 2},
        "encoding": {
            "x": {
                **SCORE,
                "field": "from",
                "axis": {"values": [0, 25, 50, 75, 100], "labelFontSize": 11},
            },
            "x2": {"field": "to"},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": present, "range": [_PARTS[part] for part in present]},
                "legend": _LEGEND,
            },
            "tooltip": [
                {"field": "name", "title": "category"},
                {"field": "items"},
                *tips,
                {"field": "adds", "title": "listening adds", "format": "+.1f"},
            ],
        },
    }


def _marks(marks: list[dict[str, Any]]) -> Spec:
    present = [mark for mark in _MARKS if any(entry["mark"] == mark for entry in marks)]
    return {
        "data": {"values": marks},
        "mark": {
            "type": "point",
            "size": 90,
            "opacity": 1,
            "yOffset": _BAR / 2,
        },
        "encoding": {
            "x": SCORE,
            "fill": {"value": figures.INK},
            "stroke": {"value": "white"},
            "strokeWidth": {"value": 1},
            "shape": {
                "field": "mark",
                "type": "nominal",
                "scale": {"domain": present, "range": [_MARKS[mark] for mark in present]},
                "legend": {
                    **_LEGEND,
                },
            },
            "tooltip": [
                {"field": "name", "title": "category"},
                {"field": "mark"},
                {"field": "score", "format": ".1f"},
            ],
        },
    }


def _text(words: list[dict[str, Any]], field: str, align: str, x: float) -> Spec:
    bold = {"fontWeight": {"expr": "datum.sure ? 'bold' : 'normal'"}} if field == "gain" else {}
    return {
        "data": {"values": words},
        "mark": {
            "type": "text",
            "align": align,
            "baseline": "bottom",
            "fontSize": _TEXT,
            "color": figures.INK,
            "tooltip": None,
            **bold,
        },
        "encoding": {"x": {"value": x}, "text": {"field": field}},
    }
