"""The figure of a comparison."""

from __future__ import annotations

from mmaupro_ext.report import figures
from mmaupro_ext.report.chart_parts import Chart, Spec
from mmaupro_ext.report.comparison import OVERALL, Comparison


def difference_chart(pair: Comparison) -> Chart:
    """Return the differences of a pair of runs by category, with their intervals."""
    rows = [
        {
            "name": name,
            "difference": 100 * entry.difference,
            "low": None if entry.low != entry.low else 100 * entry.low,
            "high": None if entry.high != entry.high else 100 * entry.high,
            "won": entry.won,
            "lost": entry.lost,
            "items": entry.items,
        }
        for name, entry in pair.rows.items()
    ]
    order = list(pair.rows)[1:] + [OVERALL]
    y = {"field": "name", "type": "nominal", "sort": order, "title": None}
    spec: Spec = {
        "width": 460,
        "height": {"step": 20},
        "data": {"values": rows},
        "layer": [
            {"mark": {"type": "rule", "color": figures.SOFT}, "encoding": {"x": {"datum": 0}}},
            {
                "mark": {"type": "rule", "strokeWidth": 2, "color": figures.BLUE, "opacity": 0.55},
                "encoding": {
                    "y": {**y, "axis": {"ticks": False, "domain": False}},
                    "x": {"field": "low", "type": "quantitative"},
                    "x2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "color": figures.BLUE},
                "encoding": {
                    "y": y,
                    "x": {
                        "field": "difference",
                        "type": "quantitative",
                        "title": f"points, {pair.second} minus {pair.first}",
                    },
                    "tooltip": [
                        {"field": "name"},
                        {"field": "difference", "format": "+.1f"},
                        {"field": "won"},
                        {"field": "lost"},
                        {"field": "items"},
                    ],
                },
            },
        ],
    }
    about = "Dot: difference on the same items; line: 95 % interval, paired and clustered by clip."
    title = f"{pair.second} against {pair.first}"
    name = "difference_" + "".join(c if c.isalnum() else "_" for c in pair.second)
    return Chart(name, title, about, spec, "compare")
