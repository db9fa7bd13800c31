"""Simulate how often the intervals of `scoring` hold the truth, for docs/.

python tools/interval_coverage.py            # prints the tables
python tools/interval_coverage.py --write    # puts them into docs/scoring.md, anytime.md and reports.md
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean

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


def choices(clips: int, questions: str, share: float, likeness: float) -> Draw:
    """Return a draw of right and wrong answers, `QUESTIONS` on each clip, alike by `likeness`."""

    def draw(rng: np.random.Generator) -> tuple[float, float, float]:
        clusters = np.repeat(np.arange(clips), QUESTIONS[questions](rng, clips))
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
            found[f"{clips} clips with 1 question, share {share}"] = choices(clips, "1", share, 0.0)
            name = f"{clips} clips with 1 to 8 questions, share {share}, correlation 0.5"
            found[name] = choices(clips, "1 to 8", share, 0.5)
    for clips in (5, 10, 20, 50):
        for share in (0.5, 0.9):
            questions = "1, and 6 to 8 about one in seven"
            name = f"{clips} clips with {questions}, share {share}, correlation 0.5"
            found[name] = choices(clips, questions, share, 0.5)
    found["macro mean of 8 categories with 4 to 13 items"] = macro
    return found


def table(trials: int) -> str:
    """Return the table of means in Markdown."""
    lines = ["| scores | held the truth | mean width |", "|---|---:|---:|"]
    for seed, (name, draw) in enumerate(cases().items()):
        held, width = coverage(draw, trials, seed)
        lines.append(f"| {name} | {100 * held:.1f} % | {100 * width:.0f} points |")
    return "\n".join(lines)


# --- pairs ----------------------------------------------------------------------------------------

# How many of the items two runs have right, and how alike the two are: a model that listens and the same
# without audio, two good models, one whose audio does nothing, two that have little to do with each other,
# two that are nearly always right, two that hardly ever are, and one run twice.
PAIRS = (
    (0.6, 0.35, 0.5),
    (0.95, 0.8, 0.5),
    (0.5, 0.5, 0.9),
    (0.3, 0.25, 0.0),
    (0.99, 0.97, 0.5),
    (0.02, 0.01, 0.5),
    (0.6, 0.6, 1.0),
)
EQUAL = (0.5, 0.5, 0.9)
# Two runs whose answers are judged, as alike as the first pair: shares of 0, 0.25, 0.5, 0.75 and 1 in each.
GRADED = [JUDGED["mostly high"], JUDGED["evenly spread"]]

# How many questions are about each of n clips.
QUESTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "1": lambda rng, n: np.ones(n, dtype=np.int64),
    "1, and 6 to 8 about one in seven": lambda rng, n: np.where(
        np.arange(n) % 7 == 0, rng.integers(6, 9, n), 1
    ),
    "1 to 8": lambda rng, n: rng.integers(1, 9, n),
    "20": lambda rng, n: np.full(n, 20),
    "1, and 40 about one in ten": lambda rng, n: np.where(np.arange(n) % 10 == 0, 40, 1),
}


@dataclass(frozen=True)
class Held:
    """How often intervals of a pair held the truth, 0 to 1.

    Attributes
    ----------
    difference, ratio : float
        Shares of the draws.
    width : float
        Mean, of the difference's.
    called, mcnemar : float
        In which share of the draws a difference was called one: by p below 5 %, and by McNemar's test.
    """

    difference: float
    ratio: float
    width: float
    called: float
    mcnemar: float


def paired_coverage(
    clips: int,
    questions: str,
    pair: tuple[float, float, float] | None,
    trials: int,
    seed: int,
) -> Held:
    """Simulate two runs on the same items.

    An item's score is by where a normal value lies, so that two values of an item, and those of a clip's
    items where there are several (correlation 0.5), are as alike as wanted.

    Parameters
    ----------
    clips : int
        How many.
    questions : str
        Key of `QUESTIONS`.
    pair : tuple of float or None
        Shares of right answers in the first and second run, and how alike they are; None: `GRADED`.
    trials, seed : int
        How many draws, and what seeds them.
    """
    rng = np.random.default_rng(seed)
    if pair is None:
        steps, alike = GRADED, PAIRS[0][2]
    else:
        steps, alike = [(1.0 - share, 0.0, 0.0, 0.0, share) for share in pair[:2]], pair[2]
    means = [float(np.dot(shares, VALUES)) for shares in steps]
    bounds = [
        [
            NormalDist().inv_cdf(min(max(bound, 1e-12), 1 - 1e-12))
            for bound in np.cumsum(shares)[:-1]
        ]
        for shares in steps
    ]

    def both(count: int) -> np.ndarray:
        own, shared = rng.standard_normal((2, count)), rng.standard_normal(count)
        return np.sqrt(alike) * shared + np.sqrt(1.0 - alike) * own

    found = np.zeros(5)
    for _ in range(trials):
        sizes = QUESTIONS[questions](rng, clips)
        clusters = np.repeat(np.arange(clips), sizes)
        values = both(len(clusters))
        if questions != "1":
            values = np.sqrt(0.5) * (values + both(clips)[:, clusters])
        first, second = (
            VALUES[np.searchsorted(edges, row)] for edges, row in zip(bounds, values, strict=True)
        )
        scores = first.tolist(), second.tolist(), clusters.tolist()
        one, ratio = difference(*scores), contrast(*scores)
        # Sums of the same numbers in another order differ in the last digits.
        found += [
            one.low - 1e-9 <= means[1] - means[0] <= one.high + 1e-9,
            # A ratio without bounds claims nothing.
            not ratio.ratio_low > means[1] / means[0] + 1e-9
            and not ratio.ratio_high < means[1] / means[0] - 1e-9,
            one.high - one.low,
            one.p < 0.05,
            mcnemar(one.won, one.lost) < 0.05,
        ]
    return Held(*(found / trials).tolist())


def mcnemar(won: int, lost: int) -> float:
    """Return the p-value of McNemar's exact test, which knows nothing of clips."""
    total = won + lost
    tail = sum(math.comb(total, count) for count in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**total)


def designs() -> dict[str, tuple[int, str]]:
    """Return how many clips, and questions about each, are simulated, by what their row begins with."""
    found = [(clips, name) for name in QUESTIONS for clips in (5, 7, 10, 20, 50)]
    found += [(300, "1, and 6 to 8 about one in seven"), (300, "1 to 8")]
    return {f"{clips} | {questions}": (clips, questions) for clips, questions in found}


def paired_table(trials: int) -> str:
    """Return the table of pairs in Markdown."""
    names = [
        *(f"{first:g}, {second:g}; {alike:g}" for first, second, alike in PAIRS),
        f"judged; {PAIRS[0][2]:g}",
    ]
    header = ["clips", "questions about each", *names, "ratio", "width", "called", "McNemar"]
    lines = [f"| {' | '.join(header)} |", "|---:|---|" + "---:|" * (len(header) - 2)]
    for seed, (name, (clips, questions)) in enumerate(designs().items()):
        found = {
            pair: paired_coverage(clips, questions, pair, trials, seed) for pair in (*PAIRS, None)
        }
        equal = found[EQUAL]
        cells = [
            name,
            *(f"{100 * held.difference:.1f}" for held in found.values()),
            f"{100 * min(held.ratio for held in found.values()):.1f}",
            f"{100 * fmean(held.width for held in found.values()):.0f}",
            f"{100 * equal.called:.1f}",
            f"{100 * equal.mcnemar:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
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
        ("reports.md", paired_table(args.trials)),
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
