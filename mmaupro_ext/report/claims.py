"""What was claimed for a model beside what a run measured: claims have one place each.

Scores on MMAU-Pro are the tables of `report.published`; those on other benchmarks are in the recipe cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmaupro_ext import recipes
from mmaupro_ext.benchmarks import MMAUPRO
from mmaupro_ext.report import published

if TYPE_CHECKING:
    from mmaupro_ext.report.frames import Frames


@dataclass(frozen=True)
class Claimed:
    """A published score.

    Attributes
    ----------
    stated : str
        As printed, in per cent.
    source, how : str
        Where, and how it came about as far as stated.
    """

    stated: str
    source: str
    how: str


def published_claims(recipe: recipes.Recipe) -> Iterator[Claimed]:
    """Yield the scores on MMAU-Pro that the published tables have for a card's model."""
    for row in published.overalls():
        if row["model"] in recipe.published:
            source = f"{row['source']}, {row['date']}, as {row['model']}"
            yield Claimed(row["overall"], source, row["how"])


def claims_of(recipe: recipes.Recipe, benchmark: str) -> list[Claimed]:
    """Return what was claimed for a card's model on a benchmark.

    Parameters
    ----------
    recipe : Recipe
        The card.
    benchmark : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    list of Claimed
    """
    own = [
        Claimed(
            f"{claim.score:g}",
            f"{recipe.sources[claim.source].place}, {recipe.sources[claim.source].date}"
            + (f" ({claim.part})" if claim.part else ""),
            claim.how,
        )
        for claim in recipe.claims
        if claim.benchmark == benchmark
    ]
    return [*published_claims(recipe), *own] if benchmark == MMAUPRO else own


def beside_measured(frames: Frames) -> list[dict[str, Any]]:
    """Return the claims for the models of runs, with what was measured.

    Parameters
    ----------
    frames : Frames
        Of a benchmark itself; its samples have no claims.

    Returns
    -------
    list of dict
        A row a claim of a run: `run`, `claimed`, `source`, `how`, `recipe` (the card), `followed` (whether
        the run follows it), `measured` (each preset with its overall, interval and what it is of).
    """
    found: list[dict[str, Any]] = []
    for run, about in frames.runs.iterrows():
        if about.dataset != "full" or not about.benchmark:
            continue
        for card in map(recipes.known, recipes.names()):
            if about.recipe != card.name and not card.is_of(str(about.model).partition(" [")[0]):
                continue
            measured = _measured(frames, str(run))
            found += [
                {
                    "run": str(run),
                    "claimed": claim.stated,
                    "source": claim.source,
                    "how": claim.how,
                    "recipe": card.name,
                    "followed": about.recipe == card.name,
                    "measured": measured,
                }
                for claim in claims_of(card, str(about.benchmark))
            ]
    # Two cards of one model name the same published rows.
    return [row for place, row in enumerate(found) if row not in found[:place]]


def _measured(frames: Frames, run: str) -> list[str]:
    scores = frames.scores
    rows = scores[(scores.run == run) & (scores.group == "overall")]
    return [
        f"{row.preset}: {row.score:.1f} ({row.low:.1f} to {row.high:.1f})"
        + ("" if row.complete else f", {row.label}")
        for row in rows.itertuples()
        if row.score == row.score
    ]
