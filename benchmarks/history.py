"""Speed from commit to commit: a line of benchmarks/history.csv a commit and machine, and a picture of it.

Run: ``pytest benchmarks/test_log_mel.py benchmarks/test_resample.py benchmarks/test_families.py
--benchmark-json=FILE`` on a machine that is left alone, then ``python benchmarks/history.py FILE``. Every
figure is how many times faster than its rival the C core was in that run, by medians (`write_targets`);
times of different machines and days do not compare, ratios nearly do. Without FILE only the picture is drawn.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from pathlib import Path
from typing import Any

import documenting
import write_targets

from mmaupro_ext.report import figures
from mmaupro_ext.util import write_atomically

HISTORY = Path(__file__).with_name("history.csv")
PICTURE = documenting.FIGURES / "speed_history.png"
FACTS = ("date", "commit", "machine", "simd")
# What a change of the core shows in first: label of a target, which is a column.
WATCHED = (
    "log-mel, 128 mels, 30 s",
    "log-mel, 128 mels, 5 s padded to 30 s",
    "Gemma 4 log-mel, 30 s",
    "Parakeet (128, normalised) extractor, 30 s",
    "Phi-4 extractor, 30 s",
    "resample 44.1k → 16k, mono, 30 s",
    "resample 48k → 16k, mono, 30 s",
    "Numba twin: log-mel, 128 mels, 30 s",
)


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the lines of one run of the benchmarks: one for each SIMD level in it."""
    run = json.loads(file.read_text(encoding="utf-8"))
    commit, targets = run["commit_info"], list(write_targets.targets())
    lines = []
    for simd, medians in write_targets.medians_of([file]).items():
        ratios = {
            label: next((t.ratio(medians) for t in targets if t.label == label), None)
            for label in WATCHED
        }
        line = {
            "date": run["datetime"][:10],
            "commit": commit["id"][:8] + ("+" if commit["dirty"] else ""),
            "machine": run["machine_info"]["cpu"].get("brand_raw", run["machine_info"]["machine"]),
            "simd": simd,
            **{label: "" if ratio is None else f"{ratio:.2f}" for label, ratio in ratios.items()},
        }
        lines.append(line)
    return lines


def read() -> list[dict[str, Any]]:
    """Return the lines so far, oldest first."""
    if not HISTORY.exists():
        return []
    with HISTORY.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def add(new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add lines; one of the same commit, machine and level takes the place of the older one."""

    def same(line: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(line[name] for name in FACTS[1:])

    known = {same(line): line for line in [*read(), *new]}
    lines = sorted(known.values(), key=lambda line: line["date"])

    text = io.StringIO()
    table = csv.DictWriter(text, [*FACTS, *WATCHED], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    write_atomically(HISTORY, text.getvalue())
    return lines


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw a panel a column, a line a machine and level."""
    with figures.canvas(path, 9, 10) as figure:
        panels = figure.subplots(4, 2, sharex=True).flat
        colours = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
        commits = list(dict.fromkeys(line["commit"] for line in lines))
        hosts = list(dict.fromkeys((line["machine"], line["simd"]) for line in lines))
        for panel, label in zip(panels, WATCHED, strict=True):
            for host, colour in zip(hosts, colours, strict=False):
                points = [
                    (commits.index(line["commit"]), float(line[label]))
                    for line in lines
                    if (line["machine"], line["simd"]) == host and line[label]
                ]
                if points:
                    panel.plot(
                        *zip(*points, strict=True), "o-", color=colour, label=", ".join(host)
                    )
            panel.set_title(label, fontsize=9.5)
            panel.set_ylim(bottom=0)
            panel.set_xticks(range(len(commits)), commits, rotation=45, ha="right")
        figure.legend(*panel.get_legend_handles_labels(), loc="lower center", frameon=False)
        figure.suptitle("How many times faster than the rival of its target", x=0.02, ha="left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="of pytest --benchmark-json")
    files = parser.parse_args().files
    lines = add([line for file in files for line in lines_of(file)]) if files else read()
    draw(lines, PICTURE)
    print(f"{HISTORY}: {len(lines)} lines; {PICTURE}")


if __name__ == "__main__":
    main()
