"""The report's figures as Vega-Lite specifications: one description for the page and for the files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmaupro_ext.report import figures, published
from mmaupro_ext.report.chart_parts import SCORE, Chart, Spec, dots
from mmaupro_ext.report.comparison import OVERALL, Comparison
from mmaupro_ext.report.comparison_chart import difference_chart
from mmaupro_ext.report.frames import Frames
from mmaupro_ext.report.reliance_chart import reliance_chart
from mmaupro_ext.scoring.intervals import clustered_interval
from mmaupro_ext.scoring.reliance import Profile

# Seconds heard; the bounds of the benchmark's own words "short" to "ultra-long" are among them.
_SECONDS = (0, 2, 5, 10, 20, 30, 60, 120, 300, 600, math.inf)
# What may have become of an item, in the order of its colours.
OUTCOMES = (
    "right",
    "partly right",
    "wrong",
    "ambiguous",
    "unparsed",
    "empty",
    "errored",
    "unscored",
)
_OUTCOME_COLOURS = (
    figures.GREEN,
    figures.SKY,
    figures.ORANGE,
    figures.PURPLE,
    figures.DULL_PURPLE,
    figures.PALE_PURPLE,
    figures.VERMILION,
    figures.FAINT,
)


def outcome(status: str, score: float) -> str:
    """Return the one word that says what became of an item."""
    if status in ("errored", "judge-errored", "unreadable"):
        return "errored"
    if status in ("unparsed", "ambiguous", "empty"):
        return status
    if score != score:
        return "unscored"
    return "right" if score >= 1 else "wrong" if score <= 0 else "partly right"


def draw(
    frames: Frames,
    comparisons: Sequence[Comparison] = (),
    profiles: Mapping[str, Profile] | None = None,
) -> list[Chart]:
    """Return the figures that these runs have data for, in the order of the page."""
    if frames.items.empty:
        return []
    found = [_categories(frames), _beside_published(frames)]
    named = {group for group, _, _ in _GROUPS}
    others = [
        (name, f"Score by {name}", name) for name in frames.benchmark.groups if name not in named
    ]
    found += [_by_group(frames, *group) for group in (*_GROUPS, *others)]
    found += [_positions(frames), _seconds(frames), _skill_map(frames), _outcomes(frames)]
    found += [difference_chart(pair) for pair in comparisons]
    found += [
        reliance_chart(run, profile, frames.categories) for run, profile in (profiles or {}).items()
    ]
    return [chart for chart in found if chart is not None]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    kept = [
        column for column in ("run", "name", "score", "low", "high", "items") if column in table
    ]
    chosen = table[table.score.notna()][kept]
    return [
        {key: None if value != value else value for key, value in row.items()}
        for row in chosen.to_dict("records")
    ]


def _strict(frames: Frames, group: str) -> pd.DataFrame:
    """Return the scores of a group under the preset with which the runs were loaded."""
    table = frames.scores
    first = table.groupby("run", sort=False).preset.transform("first")
    return table[(table.group == group) & (table.preset == first)]


# --- figures --------------------------------------------------------------------------------------


def _categories(frames: Frames) -> Chart:
    table = pd.concat([_strict(frames, "category"), _strict(frames, "overall")])
    order = [*frames.categories, OVERALL]
    beside: list[dict[str, Any]] = []
    if frames.is_paper:
        beside = [
            {"name": category, "system": system, "score": value}
            for system, row in published.paper().drop(columns="size").iterrows()
            for category, value in row.items()
            if value == value
        ]
    spec = dots(frames, _rows(table), order, beside=beside)
    about = "Dot: score; line: 95 % interval, clustered by clip."
    return Chart("categories", "Score by category", about, spec, "headline")


def _beside_published(frames: Frames) -> Chart | None:
    if not frames.is_paper:
        return None
    rows = [
        {"system": str(name), "score": value, "from": published.SOURCE}
        for name, value in published.paper().overall.items()
    ]
    later = published.later().dropna(subset=["overall"])
    rows += [
        {"system": f"{row.model} [{row.source}: {row.how}]", "score": row.overall, "from": "later"}
        for row in later.itertuples()
    ]
    for row in _strict(frames, OVERALL).itertuples():
        if row.score == row.score and row.complete:  # a part stands beside no whole
            rows.append({"system": f"▶ {row.run}", "score": row.score, "from": "this report"})
    spec = {
        "width": 420,
        "height": {"step": 13},
        "data": {"values": rows},
        "mark": {"type": "bar", "height": 8},
        "encoding": {
            "y": {
                "field": "system",
                "type": "nominal",
                "sort": "-x",
                "title": None,
                "axis": {"labelLimit": 330, "labelFontSize": 9},
            },
            "x": {**SCORE, "title": "overall (%), each as its source scored it"},
            "color": {
                "field": "from",
                "scale": {
                    "domain": ["this report", published.SOURCE, "later"],
                    "range": [figures.BLUE, figures.GREY, figures.PALE_GREY],
                },
                "legend": {"title": None, "orient": "top"},
            },
            "tooltip": [{"field": "system"}, {"field": "score"}, {"field": "from"}],
        },
    }
    about = "Later figures were mostly printed without saying how they were scored: no ranking."
    return Chart("published", "Beside published overall scores", about, spec, "headline")


_GROUPS = (
    ("perceptual_skills", "Score by perceptual skill", "skill"),
    ("reasoning_skills", "Score by reasoning skill", "skill"),
    ("measured_length", "Score by measured length", "length"),
    ("clips", "Score by number of clips", "clips"),
    ("choices", "Score by number of choices", "choices"),
    ("sub-cat", "Score by sub-category (music: region)", "sub-category"),
)


# Groups whose names have an order of their own; empty: that of the alphabet.
_ORDERED: dict[str, tuple[str, ...]] = {
    "measured_length": ("short", "medium", "long", "ultra-long"),
    "clips": (),
    "choices": (),
}
_MOST_ROWS = 24


def _by_group(frames: Frames, group: str, title: str, name: str) -> Chart | None:
    table = _strict(frames, group)
    table = table[table.score.notna()]
    counts = table.groupby("name")["items"].max().sort_values(ascending=False)
    if len(counts) < 2:
        return None
    about = "Dot: score; line: 95 % interval."
    if group in _ORDERED:
        names = list(_ORDERED[group]) or sorted(counts.index)
    else:
        kept = table[table.name.isin(counts.index[:_MOST_ROWS])]
        names = list(kept.groupby("name").score.mean().sort_values().index)
        about = "Over all items that name it; an item may name several."
        if len(counts) > _MOST_ROWS:
            about += f" The {_MOST_ROWS} with most items of {len(counts)}; scores.csv has all."
    # Numbers are written with zeros before them, so that tables sort.
    rows = [
        {**row, "name": row["name"].lstrip("0")} for row in _rows(table) if row["name"] in names
    ]
    names = [each.lstrip("0") for each in names]
    return Chart(
        f"by_{group.replace('-', '_')}", title, about, dots(frames, rows, names, name), "where"
    )


def _interval_row(run: str, name: str, part: pd.DataFrame) -> dict[str, Any]:
    found = clustered_interval(part.score.tolist(), part.cluster.tolist())
    low, high = (
        None if math.isnan(bound) else round(100 * bound, 4) for bound in (found.low, found.high)
    )
    return {
        "run": run,
        "name": name,
        "score": round(100 * found.mean, 4),
        "low": low,
        "high": high,
        "items": found.items,
    }


def _in_bounds(frames: Frames) -> pd.DataFrame:
    """Return the scored items; a judge of the official kind may have gone beyond 0 to 1."""
    return frames.items[frames.items.score.between(0, 1)]


def _positions(frames: Frames) -> Chart | None:
    items = _in_bounds(frames)
    items = items[items.gold_position.notna()]
    rows = [
        _interval_row(str(run), chr(65 + int(position)), part)
        for (run, position), part in items.groupby(["run", "gold_position"], sort=True)
        if position < 26
    ]
    if len(rows) < 2:
        return None
    order = sorted({row["name"] for row in rows})
    about = "Multiple choice, by the letter under which the right option stood."
    spec = dots(frames, rows, order, "right option")
    return Chart("by_position", "Score by position of the answer", about, spec, "where")


def _seconds(frames: Frames) -> Chart | None:
    items = _in_bounds(frames)
    items = items[items.seconds_heard.notna()]
    if items.empty:
        return None
    labels = [
        f"{low} to {high} s" if high < math.inf else f"over {low} s"
        for low, high in zip(_SECONDS, _SECONDS[1:], strict=False)
    ]
    bins = pd.cut(items.seconds_heard, list(_SECONDS), right=False, labels=labels)
    rows = [
        _interval_row(str(run), str(label), part)
        for (run, label), part in items.groupby(["run", bins], observed=True, sort=True)
    ]
    if len({row["name"] for row in rows}) < 2:
        return None
    spec = dots(frames, rows, labels, "seconds heard")
    about = "Seconds of audio that the model was given for the item, all clips together."
    return Chart("by_seconds_heard", "Score against seconds heard", about, spec, "where")


def _by_run(frames: Frames) -> Spec:
    return {"field": "run", "type": "nominal", "title": None, "sort": list(frames.runs.index)}


def _skill_map(frames: Frames) -> Chart | None:
    items = frames.items[["run", "perceptual_skills", "reasoning_skills", "score"]]
    pairs = items.explode("perceptual_skills").explode("reasoning_skills").dropna()
    if pairs.empty:
        return None
    grouped = pairs.groupby(["run", "perceptual_skills", "reasoning_skills"]).score
    table = grouped.agg(["mean", "size"]).reset_index()
    rows = [
        {
            "run": run,
            "perceptual": perceptual,
            "reasoning": reasoning,
            "score": round(100 * float(mean), 2),
            "items": int(size),
        }
        for run, perceptual, reasoning, mean, size in table.itertuples(index=False)
    ]
    cell: Spec = {
        "mark": {"type": "rect", "tooltip": True},
        "encoding": {
            "x": {
                "field": "perceptual",
                "type": "nominal",
                "title": "perceptual skill",
                "axis": {"labelAngle": -45, "labelLimit": 170},
            },
            "y": {
                "field": "reasoning",
                "type": "nominal",
                "title": "reasoning skill",
                "axis": {"labelLimit": 220},
            },
            "color": {
                "field": "score",
                "type": "quantitative",
                "scale": {"scheme": "blueorange", "reverse": True, "domain": [0, 100]},
                "legend": {"title": "score (%)"},
            },
            "opacity": {
                "field": "items",
                "type": "quantitative",
                "scale": {"type": "log", "range": [0.45, 1]},
                "legend": None,
            },
        },
        "width": {"step": 17},
        "height": {"step": 17},
    }
    spec: Spec = {"data": {"values": rows}, **cell}
    if len(frames.runs) > 1:
        spec = {
            "data": {"values": rows},
            "facet": _by_run(frames),
            "columns": 1,
            "spec": cell,
        }
    about = "Mean score of the items that name both skills; paler where there are few."
    return Chart("skill_map", "Skill map", about, spec, "where")


def _outcomes(frames: Frames) -> Chart:
    words = [
        outcome(status, score)
        for status, score in zip(frames.items.status, frames.items.score, strict=True)
    ]
    table = frames.items.assign(outcome=words).groupby(["run", "category", "outcome"]).size()
    rows = [
        {"run": run, "category": category, "outcome": word, "items": int(count)}
        for (run, category, word), count in table.items()
    ]
    order = list(OUTCOMES)
    for row in rows:
        row["rank"] = order.index(row["outcome"])
    bars: Spec = {
        "width": 420,
        "height": {"step": 18},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {
                "field": "category",
                "type": "nominal",
                "sort": frames.categories,
                "title": None,
                "axis": {"labelLimit": 200},
            },
            "x": {
                "field": "items",
                "type": "quantitative",
                "stack": "normalize",
                "title": "share of the items",
                "axis": {"format": "%"},
            },
            "color": {
                "field": "outcome",
                "type": "nominal",
                "scale": {"domain": order, "range": list(_OUTCOME_COLOURS)},
                "legend": {"title": None, "orient": "top", "columns": 4},
            },
            "order": {"field": "rank", "type": "quantitative"},
            "tooltip": [{"field": "category"}, {"field": "outcome"}, {"field": "items"}],
        },
    }
    spec: Spec = {"data": {"values": rows}, **bars}
    if len(frames.runs) > 1:
        spec = {
            "data": {"values": rows},
            "facet": _by_run(frames),
            "columns": 1,
            "spec": bars,
        }
    about = (
        'What became of each item. Only "right" counts as right; errored items were never heard.'
    )
    return Chart("outcomes", "What happened", about, spec, "what")
