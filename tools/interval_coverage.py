"""Simulate how often the intervals of `scoring` hold the truth, for docs/.

python tools/interval_coverage.py            # prints the tables
python tools/interval_coverage.py --write    # puts them into docs/scoring.md, anytime.md and reliance.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np

from mmaupro_ext.report.published import paper
from mmaupro_ext.scoring.anytime import confidence_sequence
from mmaupro_ext.scoring.intervals import clustered_interval, stratified_interval
from mmaupro_ext.scoring.paired import contrast, difference

PAGES = Path(__file__).resolve().parents[1] / "docs"
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


# Right answers in full and without audio, and how alike the two are: a model that listens, one that nearly
# always hears, one that hardly looks at the audio, one whose audio does nothing.
PAIRS = ((0.6, 0.35, 0.5), (0.95, 0.3, 0.2), (0.5, 0.5, 0.9), (0.3, 0.25, 0.0))


def pair(
    clips: int, largest: int, full: float, ablated: float, alike: float
) -> Callable[[np.random.Generator], list[tuple[float, float, float]]]:
    """Return a draw of the same items under two conditions, 1 to `largest` on each clip.

    Whether an item is right is a normal value below a bound, so that two values of an item, and those of a
    clip's items where there are several (correlation 0.5), are as alike as wanted. Drawn are low bound, high
    bound and truth: of the difference, of the ratio, and of the bootstrap's difference.
    """
    bounds = [NormalDist().inv_cdf(share) for share in (full, ablated)]

    def both(rng: np.random.Generator, count: int) -> np.ndarray:
        own, shared = rng.standard_normal((2, count)), rng.standard_normal(count)
        return np.sqrt(alike) * shared + np.sqrt(1.0 - alike) * own

    def draw(rng: np.random.Generator) -> list[tuple[float, float, float]]:
        clusters: np.ndarray = np.repeat(np.arange(clips), rng.integers(1, largest + 1, clips))
        values = both(rng, len(clusters))
        if largest > 1:
            values = np.sqrt(0.5) * (values + both(rng, clips)[:, clusters])
        first, second = (values < np.array(bounds)[:, None]).astype(float)
        found = contrast(first, second, clusters.tolist())
        drawn = difference(first, second, clusters.tolist(), draws=400)
        truth = ablated - full
        # A ratio without bounds claims nothing.
        low, high = found.ratio_low, found.ratio_high
        ratio = (0.0, np.inf) if np.isnan(low) else (low, high)
        return [
            (found.low, found.high, truth),
            (*ratio, ablated / full),
            (drawn.low, drawn.high, truth),
        ]

    return draw


def pairs() -> dict[str, Callable[[np.random.Generator], list[tuple[float, float, float]]]]:
    """Return the pairs that are simulated, by the name of their row."""
    found = {}
    for clips, largest in ((7, 1), (30, 1), (10, 8), (30, 8), (300, 3)):
        for full, ablated, alike in PAIRS:
            questions = f"1 to {largest} questions" if largest > 1 else "1 question"
            name = f"{clips} clips with {questions}, {full} and {ablated}, alike {alike}"
            found[name] = pair(clips, largest, full, ablated, alike)
    return found


def paired_coverage(name: str, trials: int, seed: int) -> tuple[list[float], float]:
    """Return how often each of the three intervals holds the truth, and the mean width of the first."""
    rng = np.random.default_rng(seed)
    draw = pairs()[name]
    bounds = np.array([draw(rng) for _ in range(trials)])
    low, high, truth = np.moveaxis(bounds, 2, 0)
    inside = (low <= truth + 1e-9) & (truth <= high + 1e-9)
    return inside.mean(axis=0).tolist(), float((high - low)[:, 0].mean())


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
    """Return the table of means in Markdown."""
    lines = ["| scores | held the truth | mean width |", "|---|---:|---:|"]
    for seed, (name, draw) in enumerate(cases().items()):
        held, width = coverage(draw, trials, seed)
        lines.append(f"| {name} | {100 * held:.1f} % | {100 * width:.0f} points |")
    return "\n".join(lines)


def paired_table(trials: int) -> str:
    """Return the table of pairs in Markdown."""
    lines = [
        "| right in full and without audio | difference held | mean width | ratio held | bootstrap held |",
        "|---|---:|---:|---:|---:|",
    ]
    for seed, name in enumerate(pairs()):
        (held, ratio, drawn), width = paired_coverage(name, trials, seed)
        shares = [f"{100 * share:.1f} %" for share in (held, ratio, drawn)]
        lines.append(
            f"| {name} | {shares[0]} | {100 * width:.0f} points | {shares[1]} | {shares[2]} |"
        )
    return "\n".join(lines)


# --- runs that stop -------------------------------------------------------------------------------

# Category -> its items, and the probabilities of the scores 0, 0.25, 0.5, 0.75 and 1.
Population = dict[str, tuple[int, tuple[float, ...]]]

# The scored categories of MMAU-Pro in the order of the paper's columns, the open one among the judged.
PRO = (1048, 1418, 891, 50, 46, 88, 7, 325, 290, 430, 625, 87)
OPEN = "open"


def _shares(sizes: dict[str, int], share: float) -> Population:
    return {name: (size, (1.0 - share, 0.0, 0.0, 0.0, share)) for name, size in sizes.items()}


def populations() -> dict[str, tuple[Population, float]]:
    """Return what is drawn from and the half width to stop at, by the name of the row."""
    row = paper().loc["Qwen2.5-Omni-7B"].drop(["size", "overall"])
    sizes = dict(zip(row.index, PRO, strict=True))
    scored = {name: size for name, size in sizes.items() if name != OPEN}
    as_paper: Population = {}
    for name, size in scored.items():
        as_paper |= _shares({name: size}, row[name] / 100.0)
    judged_too = {**as_paper, OPEN: (sizes[OPEN], JUDGED["evenly spread"])}
    sample = {str(n): size for n, size in enumerate((13, 12, 12, 12, 12, 12, 8, 12))}
    return {
        "MMAU-Pro, scores of Qwen2.5-Omni-7B, to 1 point": (as_paper, 0.01),
        "the same, to 2 points": (as_paper, 0.02),
        "the same, to 3 points": (as_paper, 0.03),
        "the same, to 5 points": (as_paper, 0.05),
        "the same with judged open questions, to 2 points": (judged_too, 0.02),
        "MMAU-Pro, 90 % right, to 2 points": (_shares(scored, 0.9), 0.02),
        "MMAU-Pro, 99 % right, to 1 point": (_shares(scored, 0.99), 0.01),
        "three categories of 333, 60 % right, to 5 points": (_shares(dict.fromkeys("abc", 333), 0.6), 0.05),
        "the embedded sample's sizes, 80 % right, to 10 points": (_shares(sample, 0.8), 0.1),
    }  # fmt: skip


def stopped(
    population: Population, half_width: float, trials: int, seed: int
) -> tuple[float, float, float, float]:
    """Simulate runs that stop at a half width.

    Parameters
    ----------
    population : Population
        From which each run's scores are made; its truth is their mean.
    half_width : float
        0 to 1.
    trials, seed : int
        How many runs, and what seeds them.

    Returns
    -------
    at_stop, always : float
        Shares of the runs whose bounds held the truth where they stopped, and in all rounds to the last.
    drawn, fixed : float
        Mean items at the stop; and those of the usual interval (normal, with the correction for a finite
        population) that has this half width, by somebody who knew the score beforehand.
    """
    rng = np.random.default_rng(seed)
    sizes = {name: size for name, (size, _) in population.items()}
    items = sum(sizes.values())
    found = []
    for _ in range(trials):
        scores = {name: rng.choice(VALUES, size, p=p) for name, (size, p) in population.items()}
        every = np.concatenate(list(scores.values()))
        bounds = confidence_sequence(sizes, {n: s.tolist() for n, s in scores.items()}, half_width)
        # Sums of the same numbers in another order differ in the last digits.
        held = [b.low - 1e-9 <= every.mean() <= b.high + 1e-9 for b in bounds]
        stop = next(n for n, b in enumerate(bounds) if b.half_width <= half_width)
        independent = every.var() * (1.96 / half_width) ** 2
        fixed = independent / (1.0 + independent / items)
        found.append((held[stop], all(held), bounds[stop].drawn, fixed))
    return tuple(np.mean(found, axis=0).tolist())


def table_of_stops(trials: int) -> str:
    """Return the table of runs that stop, in Markdown."""
    lines = [
        "| scores | items | held at the stop | held in every round | drawn | fixed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for seed, (name, (population, half_width)) in enumerate(populations().items()):
        at_stop, always, drawn, fixed = stopped(population, half_width, trials, seed)
        items = sum(size for size, _ in population.values())
        cells = [f"{items:,}", f"{100 * at_stop:.1f} %", f"{100 * always:.1f} %"]
        lines.append(f"| {name} | {' | '.join([*cells, f'{drawn:,.0f}', f'{fixed:,.0f}'])} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or put them into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into their pages")
    parser.add_argument("--trials", type=int, default=2000, metavar="N", help="a row (2000)")
    parser.add_argument(
        "--stops", type=int, default=1000, metavar="N", help="of stopping runs (1000)"
    )
    args = parser.parse_args()
    for page, found in (
        ("scoring.md", table(args.trials)),
        ("anytime.md", table_of_stops(args.stops)),
        ("reliance.md", paired_table(args.trials)),
    ):
        if not args.write:
            print(found)
            continue
        text = (PAGES / page).read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        written = f"{before}{BEGIN}\n\n{found}\n\n{END}{rest.split(END)[1]}"
        (PAGES / page).write_text(written, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
