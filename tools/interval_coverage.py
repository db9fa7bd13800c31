"""Simulate how often the intervals of `scoring.intervals` hold the truth, for docs/scoring.md.

python tools/interval_coverage.py            # prints the table
python tools/interval_coverage.py --write    # puts it into docs/scoring.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmaupro_ext.scoring.intervals import clustered_interval, stratified_interval

DOC = Path(__file__).resolve().parents[1] / "docs" / "scoring.md"
BEGIN = "<!-- made by: python tools/interval_coverage.py --write -->"
END = "<!-- end of the table of coverage -->"

Draw = Callable[[np.random.Generator], tuple[float, float, float]]

# A judge's scores from 0 to 1: probabilities of 0, 0.25, 0.5, 0.75 and 1.
JUDGED = {
    "evenly spread": (0.2, 0.2, 0.2, 0.2, 0.2),
    "mostly high": (0.02, 0.05, 0.13, 0.3, 0.5),
    "nearly all fives": (0.01, 0.01, 0.03, 0.1, 0.85),
    "ones and fives": (0.4, 0.1, 0.0, 0.1, 0.4),
    "mostly low": (0.6, 0.2, 0.1, 0.07, 0.03),
    "close together": (0.0, 0.1, 0.6, 0.3, 0.0),
}
VALUES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
# The closed categories of the embedded sample, and what a model may score there.
MACRO = ((13, 0.85), (12, 0.9), (12, 0.9), (6, 0.95), (6, 0.8), (5, 0.8), (4, 0.9), (8, 0.6))


def judged(items: int, chances: tuple[float, ...]) -> Draw:
    """Return a draw of `items` judged scores: low bound, high bound, truth."""
    truth = float(np.dot(chances, VALUES))

    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        found = clustered_interval(rng.choice(VALUES, items, p=chances).tolist(), range(items))
        return found.low, found.high, truth

    return draw


def choices(clips: int, largest: int, share: float, likeness: float) -> Draw:
    """Return a draw of right and wrong answers, 1 to `largest` on each clip, alike by `likeness`."""

    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        clusters = np.repeat(np.arange(clips), rng.integers(1, largest + 1, clips))
        ease = np.full(clips, share)
        if likeness:
            weight = 1.0 / likeness - 1.0
            ease = rng.beta(share * weight, (1.0 - share) * weight, clips)
        right = rng.random(len(clusters)) < ease[clusters]
        found = clustered_interval(right.tolist(), clusters.tolist())
        return found.low, found.high, share

    return draw


def macro(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw the macro mean of small categories."""
    groups = [((rng.random(n) < share).tolist(), range(n)) for n, share in MACRO]
    found = stratified_interval(groups)
    return found.low, found.high, sum(share for _, share in MACRO) / len(MACRO)


def coverage(draw: Draw, trials: int, seed: int) -> tuple[float, float]:
    """Return how often the bounds hold the truth, and their mean distance."""
    rng = np.random.default_rng(seed)
    bounds = np.array([draw(rng) for _ in range(trials)])
    # Sums of the same numbers in another order differ in the last digits.
    inside = (bounds[:, 0] <= bounds[:, 2] + 1e-9) & (bounds[:, 2] <= bounds[:, 1] + 1e-9)
    return float(inside.mean()), float((bounds[:, 1] - bounds[:, 0]).mean())


def cases() -> dict[str, Draw]:
    """Return what is simulated, by the name of its row."""
    found: dict[str, Draw] = {}
    for items in (5, 7, 10, 20, 50, 625):
        for name, chances in JUDGED.items():
            found[f"{items} judged items, {name}"] = judged(items, chances)
    for clips in (5, 10, 30, 300):
        for share in (0.5, 0.9):
            found[f"{clips} clips with 1 question, share {share}"] = choices(clips, 1, share, 0.0)
            name = f"{clips} clips with 1 to 8 questions, share {share}, correlation 0.5"
            found[name] = choices(clips, 8, share, 0.5)
    found["macro mean of 8 categories with 4 to 13 items"] = macro
    return found


def table(trials: int) -> str:
    """Return the table in Markdown."""
    lines = ["| scores | held the truth | mean width |", "|---|---:|---:|"]
    for seed, (name, draw) in enumerate(cases().items()):
        held, width = coverage(draw, trials, seed)
        lines.append(f"| {name} | {100 * held:.1f} % | {100 * width:.0f} points |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or put it into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/scoring.md")
    parser.add_argument("--trials", type=int, default=2000, metavar="N", help="a row (2000)")
    args = parser.parse_args()
    found = table(args.trials)
    if not args.write:
        print(found)
        return
    text = DOC.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOC.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
