"""What the report's figures are made of: their kind, their style, rows of dots, and their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from mmaupro_ext import extras
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report import figures, published

if TYPE_CHECKING:
    from mmaupro_ext.report.frames import Frames

Spec = dict[str, Any]

VERSION = "6.4"
"""Of Vega-Lite: that of the bundle in the page and of the figures in files."""
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

PICTURES = (".png", ".svg", ".html")

_OTHERS = f"the systems of {published.SOURCE}, human and random"
_RUN_COLOURS = (
    figures.BLUE,
    figures.VERMILION,
    figures.GREEN,
    figures.PURPLE,
    figures.ORANGE,
    figures.SKY,
)


@dataclass(frozen=True)
class Chart:
    """One figure.

    Attributes
    ----------
    name : str
        Of its files.
    title, about : str
        What it shows, and how to read it in a sentence.
    spec : dict
        Vega-Lite, with its data.
    section : str
        Where on the page it stands: "headline", "where", "what", "compare", or one of `reliance_chart`.
    """

    name: str
    title: str
    about: str
    spec: Spec
    section: str


SCORE: Spec = {
    "field": "score",
    "type": "quantitative",
    "title": "score (%)",
    "scale": {"domain": [0, 100]},
}


def dots(
    frames: Frames,
    rows: list[dict[str, Any]],
    order: Sequence[str],
    title: str = "",
    beside: list[dict[str, Any]] | None = None,
) -> Spec:
    """Return dots with intervals, a row a name, runs beside each other within a row.

    `beside` are scores of other systems (`name`, `system`, `score`), which get a row of ticks of their own.
    """
    names = [*frames.runs.index, *([_OTHERS] if beside else [])]
    several = len(names) > 1
    colours = [_RUN_COLOURS[i % len(_RUN_COLOURS)] for i in range(len(frames.runs))]
    shared: Spec = {
        "y": {
            "field": "name",
            "type": "nominal",
            "sort": list(order),
            "title": None,  # the figure's own title says it
            "axis": {"labelLimit": 260, "labelPadding": 8, "ticks": False, "domain": False},
        },
        "color": {
            "field": "run",
            "type": "nominal",
            "scale": {"domain": names, "range": [*colours, figures.GREY][: len(names)]},
            "legend": {"title": None, "orient": "top", "labelLimit": 400} if several else None,
        },
    }
    if several:
        shared["yOffset"] = {"field": "run", "sort": names}
    tips = [
        {"field": "run"},
        {"field": "name", "title": title or "name"},
        {"field": "score", "format": ".1f"},
        {"field": "low", "format": ".1f"},
        {"field": "high", "format": ".1f"},
        {"field": "items"},
    ]
    spec: Spec = {
        "width": 460,
        "height": {"step": 12 if several else 20},
        "data": {"values": rows},
        "encoding": shared,
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
                "encoding": {
                    "x": {"field": "low", "type": "quantitative", "title": "score (%)"},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {"x": SCORE, "tooltip": tips},
            },
        ],
    }
    if beside:
        marks = [{"run": _OTHERS, **row} for row in beside]
        spec["layer"].append(
            {
                "data": {"values": marks},
                "mark": {"type": "tick", "thickness": 1.5, "height": 8},
                "encoding": {"x": SCORE, "tooltip": [{"field": "system"}, {"field": "score"}]},
            }
        )
    return spec


def theme() -> Spec:
    """Return Vega-Lite's configuration in the colours of all our figures; dark ones are the page's CSS."""
    ink, soft, faint = figures.INK, figures.SOFT, figures.FAINT
    return {
        "background": "white",
        "font": figures.WEB_FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": ink,
            "titleColor": soft,
            "gridColor": faint,
            "domainColor": faint,
            "tickColor": faint,
            "titleFontWeight": "normal",
        },
        "axisY": {"grid": False},
        "legend": {"labelColor": ink, "titleColor": soft},
        "header": {"labelColor": ink, "labelFontWeight": "bold"},
        "title": {"color": ink, "anchor": "start"},
        "mark": {"tooltip": True},
    }


def check_picture(path: str) -> None:
    """Stop where a figure cannot be drawn to a path, before any work is done for it.

    Raises
    ------
    ConfigError
        When its ending is not one of `PICTURES`, its folder does not exist, or a package is missing.
    """
    target = Path(path)
    if target.suffix.lower() not in PICTURES:
        raise ConfigError(f"--figure {path}: name it with one of {', '.join(PICTURES)}")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"--figure {path}: there is no folder {target.absolute().parent}")
    extras.require("--figure", "vl_convert")


def write_picture(chart: Chart, target: Path) -> None:
    """Write a figure to a file, by its ending one of `PICTURES`; the page holds all that it needs.

    Raises
    ------
    ConfigError
        When the file cannot be written.
    """
    import vl_convert

    suffix = target.suffix.lower()
    if suffix == ".html":
        page = vl_convert.vegalite_to_html(_titled(chart), vl_version=VERSION, bundle=True)
        content = page.encode()
    else:
        content = next(data for name, data in files_of(chart) if name.endswith(suffix))
    try:
        target.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            f"--figure {target}: cannot be written ({error}). Name another file"
        ) from error


def _titled(chart: Chart) -> Spec:
    return {
        "$schema": SCHEMA,
        **chart.spec,
        "config": theme(),
        "title": {
            "text": chart.title,
            "subtitle": wrap(chart.about, 80),
            "subtitleColor": figures.SOFT,
        },
    }


def files_of(chart: Chart) -> Iterator[tuple[str, bytes]]:
    """Yield the figure as files: SVG, and PNG with twice the pixels.

    Yields
    ------
    name : str
    content : bytes
    """
    import vl_convert

    spec = _titled(chart)
    yield f"{chart.name}.svg", vl_convert.vegalite_to_svg(spec, vl_version=VERSION).encode()
    yield f"{chart.name}.png", vl_convert.vegalite_to_png(spec, vl_version=VERSION, scale=2)
