"""One picture of a dataset: what `mmaupro_ext.data.info` counts, in six panels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmaupro_ext import __version__
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data import text
from mmaupro_ext.data.locate import PARQUET, ROWS
from mmaupro_ext.data.schema import LENGTH_LIMITS_S, LONGEST_S
from mmaupro_ext.report import figures
from mmaupro_ext.report.figures import BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, SKY, SOFT, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KIND_COLOURS = {"closed": BLUE, "open": ORANGE, "instruction": GREEN, "hidden": BLUE}
KIND_NAMES = {
    "closed": "multiple choice",
    "open": "open-ended",
    "instruction": "instruction",
    "hidden": "multiple choice, answers withheld",
}
SKILLS_SHOWN = 8
# Key, label, marker, colour, size, offset from the middle of the row (equal scores stay apart).
_BLIND_MARKS = (
    ("chance", "chance (1/choices)", "|", INK, 22.0, 0.0),
    ("always_first", "always A", "o", BLUE, 6.0, -0.28),
    ("best_letter", "best letter", "s", ORANGE, 5.8, 0.0),
    ("longest_choice", "longest choice", "D", PURPLE, 5.2, 0.28),
)


def draw(facts: dict[str, Any], target: Path) -> None:
    """Draw the dataset in six panels.

    Parameters
    ----------
    facts : dict
        What `info.overview` returned.
    target : pathlib.Path
        Picture to write.
    """
    heard = f", {text.duration(facts['seconds'])} of sound" if facts["measured_clips"] else ""
    panels: list[list[Callable[[Axes, dict[str, Any]], None]]] = [
        [_draw_categories, _draw_durations if facts["measured_clips"] else _draw_labels],
        [_draw_blind if facts["answers"] else _draw_labels, _draw_choices],
        [_draw_skills, _draw_rates if facts["formats"] else _draw_sub_categories],
    ]
    with figures.canvas(target, 14.0, 15.0) as figure:
        title = BENCHMARKS[facts["benchmark"]].title
        name = title if facts["dataset"] == title else f"{title}, embedded sample"
        figure.suptitle(
            f"{name}: {facts['items']:,} items, {facts['clips']:,} clips{heard}",
            x=0.013,
            ha="left",
            fontsize=17,
            fontweight="bold",
        )
        # Subfigures keep the long names of one panel from squeezing the panels around it.
        cells: Any = figure.subfigures(
            3, 2, height_ratios=(1.0, 1.0, 1.15), width_ratios=(1.12, 1.0)
        )
        painters = [paint for row in panels for paint in row]
        for cell, paint in zip(cells.flat, painters, strict=True):
            paint(cell.subplots(), facts)
        rows = PARQUET if facts["benchmark"] == MMAUPRO else ROWS
        source = rows + (" and manifest.json" if facts["measured_clips"] else "")
        if facts["measured_clips"] not in (0, facts["clips"]):
            source += f" ({facts['measured_clips']:,} of {facts['clips']:,} clips measured)"
        if facts["partial"]:
            source += f" [{facts['partial']}]"
        owner = title if facts["dataset"] == title else "the embedded sample"
        figure.supxlabel(
            f"Source: {source} of {owner}, counted by mmaupro-ext {__version__}",
            x=0.013,
            ha="left",
            fontsize=9,
            color=SOFT,
        )


def _rows_down(axis: Axes, names: list[str]) -> range:
    """Set up a horizontal chart with one named row per entry, the first on top."""
    places = range(len(names))
    axis.set_yticks(places, names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(axis="x")
    return places


def _draw_categories(axis: Axes, facts: dict[str, Any]) -> None:
    rows = sorted(facts["categories"], key=lambda row: -row["items"])
    places = _rows_down(axis, [row["category"] for row in rows])
    counts = [row["items"] for row in rows]
    axis.barh(places, counts, height=0.7, color=[KIND_COLOURS[row["kind"]] for row in rows])
    for place, count in zip(places, counts, strict=True):
        share = text.percent(count / max(1, facts["items"]))
        axis.annotate(
            f"{count:,}  ({share})",
            (count, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axis.set_xlim(0, max(counts) * 1.22)
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("items")
    axis.set_title("Items by category")
    kinds = [kind for kind in KIND_COLOURS if any(row["kind"] == kind for row in rows)]
    handles = _patches([(KIND_NAMES[kind], KIND_COLOURS[kind]) for kind in kinds])
    if len(kinds) > 1:
        axis.legend(handles=handles, loc="lower right")


def _label_bars(axis: Axes, places: Iterable[int], counts: list[int], *, upright: bool) -> None:
    """Write each bar's number at its end."""
    for place, count in zip(places, counts, strict=True):
        axis.annotate(
            f"{count:,}",
            (place, count) if upright else (count, place),
            xytext=(0, 3) if upright else (4, 0),
            textcoords="offset points",
            ha="center" if upright else "left",
            va="bottom" if upright else "center",
            fontsize=9,
        )


def _patches(entries: list[tuple[str, str]]) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=name) for name, colour in entries]


def _legend_above(axis: Axes, handles: list[Any]) -> None:
    """Put a legend between title and axes, where it can hide no data."""
    legend = axis.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.985),
        ncols=len(handles),
        columnspacing=1.3,
        handletextpad=0.4,
    )
    legend.set_in_layout(False)


def _draw_durations(axis: Axes, facts: dict[str, Any]) -> None:
    """One row per category: every clip as a tick, the median as a dot."""
    rows = [row["category"] for row in sorted(facts["categories"], key=lambda row: -row["items"])]
    rows = [category for category in rows if facts["clip_seconds"].get(category)]
    places = _rows_down(axis, rows)
    rng = np.random.default_rng(0)  # jitter only
    for place, category in zip(places, rows, strict=True):
        seconds = np.maximum(np.asarray(facts["clip_seconds"][category]), 0.05)
        jitter = place + rng.uniform(-0.27, 0.27, len(seconds))
        alpha = float(np.clip(25 / len(seconds), 0.12, 0.7))
        axis.scatter(
            seconds, jitter, s=9, color=SKY, alpha=alpha, linewidths=0, rasterized=True, zorder=2
        )
        low, middle, high = np.percentile(seconds, (25, 50, 75))
        axis.plot((low, high), (place, place), color=BLUE, linewidth=2.6, zorder=3)
        axis.plot(middle, place, "o", color=BLUE, markersize=7, markeredgecolor="white", zorder=4)
    axis.set_xscale("log")
    for limit, label in zip(
        (*LENGTH_LIMITS_S, LONGEST_S), ("30 s", "3 min", "8 min", "10 min"), strict=True
    ):
        axis.axvline(limit, color=VERMILION, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axis.annotate(
            label,
            (limit, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right" if label != "10 min" else "left",
            va="bottom",
            fontsize=8,
            color=VERMILION,
        )
    ticks = [
        (0.1, "0.1"),
        (0.3, "0.3"),
        (1, "1"),
        (3, "3"),
        (10, "10"),
        (30, "30"),
        (100, "100"),
        (600, "600"),
    ]
    everything = [value for values in facts["clip_seconds"].values() for value in values]
    low = max(min(everything) * 0.7, 0.05)
    axis.set_xticks([t for t, _ in ticks if t > low], [n for t, n in ticks if t > low])
    axis.minorticks_off()
    axis.set_xlim(low, max(900.0, max(everything) * 1.2))
    axis.set_xlabel("measured seconds per clip (dot: median, bar: middle half)")
    axis.set_title("Length of the clips", pad=18)


def _draw_labels(axis: Axes, facts: dict[str, Any]) -> None:
    rows = facts["lengths"]
    places = _rows_down(axis, [row["length_type"] for row in rows])
    counts = [row["items"] for row in rows]
    axis.barh(places, counts, height=0.6, color=SKY)
    _label_bars(axis, places, counts, upright=False)
    axis.set_xlim(0, max(counts) * 1.15)
    axis.set_xlabel("items, by the label length_type (no clip was measured yet)")
    axis.set_title("Length, as labelled")


def _draw_blind(axis: Axes, facts: dict[str, Any]) -> None:
    from matplotlib.lines import Line2D

    rows = facts["answers"]
    places = _rows_down(axis, [f"{row['category']}  (n={row['items']:,})" for row in rows])
    handles = []
    for key, label, marker, colour, size, offset in _BLIND_MARKS:
        look: dict[str, Any] = {"marker": marker, "color": colour, "linestyle": ""}
        if marker == "|":
            look |= {"markeredgewidth": 2.0, "zorder": 2}
        else:
            look |= {"markeredgewidth": 0.7, "markeredgecolor": "white", "zorder": 3}
        scores = [100 * row[key] for row in rows]
        axis.plot(scores, [place + offset for place in places], markersize=size, **look)
        handles.append(Line2D([], [], label=label, markersize=min(size, 10.0), **look))
    top = max(100 * row[key] for row in rows for key, *_ in _BLIND_MARKS)
    axis.set_xlim(-0.02 * top, top * 1.08)
    for place in places:
        axis.axhline(place + 0.5, color=FAINT, linewidth=1.2 if place == len(rows) - 2 else 0.4)
    axis.set_xlabel("accuracy (%) on multiple-choice items without hearing anything")
    axis.set_title("What a system gets that never listens", pad=24)
    _legend_above(axis, handles)


def _draw_choices(axis: Axes, facts: dict[str, Any]) -> None:
    rows = facts["choices"]
    places = range(len(rows))
    below = [0] * len(rows)
    for kind, colour in KIND_COLOURS.items():
        if not any(kind in row for row in rows):
            continue
        counts = [row[kind] for row in rows]
        axis.bar(places, counts, bottom=below, width=0.7, color=colour, label=KIND_NAMES[kind])
        below = [b + c for b, c in zip(below, counts, strict=True)]
    _label_bars(axis, places, below, upright=True)
    axis.set_xticks(places, [str(row["choices"]) for row in rows])
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y")
    axis.set_ylim(0, max(below) * 1.25)
    axis.locator_params(axis="y", integer=True)
    axis.set_xlabel("number of choices of an item")
    axis.set_ylabel("items")
    axis.set_title("Number of choices")
    axis.legend(loc="upper left", ncols=3)


def _draw_skills(axis: Axes, facts: dict[str, Any]) -> None:
    shown: list[tuple[str, int, str]] = []
    described = BENCHMARKS[facts["benchmark"]]
    own = described.read_row is None
    kinds = ("perceptual", "reasoning") if own else described.groups[:2]
    for kind, colour in zip(kinds, (SKY, PURPLE), strict=False):
        rows = [row for row in facts["skills"] if row["kind"] == kind][:SKILLS_SHOWN]
        shown += [(str(row["skill"]), row["items"], colour) for row in rows]
    places = _rows_down(axis, [_short(name, 44) for name, _, _ in shown])
    counts = [count for _, count, _ in shown]
    axis.barh(places, counts, height=0.7, color=[colour for _, _, colour in shown])
    _label_bars(axis, places, counts, upright=False)
    axis.set_xlim(0, max(counts, default=1) * 1.15)
    axis.set_xlabel("items (an item may have several skills)" if own else "items")
    what = "skills of each kind" if own else "values of an attribute"
    axis.set_title(f"The {SKILLS_SHOWN} most frequent {what}", pad=24)
    totals = [sum(row["kind"] == kind for row in facts["skills"]) for kind in kinds]
    unit = "skills" if own else "values"
    names = [f"{kind} ({total} {unit})" for kind, total in zip(kinds, totals, strict=True)]
    _legend_above(axis, _patches(list(zip(names, (SKY, PURPLE), strict=False))))


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _draw_rates(axis: Axes, facts: dict[str, Any]) -> None:
    rates = sorted({row["sampling_rate"] for row in facts["formats"]})
    channels = sorted({row["channels"] for row in facts["formats"]})
    places = range(len(rates))
    below = [0] * len(rates)
    for count, colour in zip(channels, (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION), strict=False):
        clips = [
            sum(
                row["clips"]
                for row in facts["formats"]
                if row["sampling_rate"] == rate and row["channels"] == count
            )
            for rate in rates
        ]
        name = {1: "one channel", 2: "two channels"}.get(count, f"{count} channels")
        axis.bar(
            places, clips, bottom=below, width=0.7, color=colour, label=f"{name} ({sum(clips):,})"
        )
        below = [b + c for b, c in zip(below, clips, strict=True)]
    _label_bars(axis, places, below, upright=True)
    axis.set_xticks(places, [f"{rate / 1000:g}" for rate in rates])
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="y")
    axis.set_ylim(0, max(below) * 1.25)
    axis.set_xlabel("sampling rate of the files (kHz)")
    axis.set_ylabel("clips")
    axis.set_title("Sampling rate and channels of the clips")
    axis.legend(loc="upper left", ncols=min(3, len(channels)))


def _draw_sub_categories(axis: Axes, facts: dict[str, Any]) -> None:
    rows = facts["sub_categories"][: 2 * SKILLS_SHOWN]
    if not rows:
        axis.set_axis_off()
        axis.text(0, 0.5, "No sub-categories, and no clip was measured yet.", color=SOFT)
        return
    places = _rows_down(axis, [_short(f"{r['sub_category']} ({r['category']})", 44) for r in rows])
    counts = [row["items"] for row in rows]
    axis.barh(places, counts, height=0.7, color=SKY)
    _label_bars(axis, places, counts, upright=False)
    axis.set_xlim(0, rows[0]["items"] * 1.15)
    axis.set_xlabel("items")
    axis.set_title("Most frequent sub-categories")
