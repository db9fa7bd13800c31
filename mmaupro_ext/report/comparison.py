"""Runs side by side on the same items: which differences are more than chance, and on which items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from mmaupro_ext.data import text
from mmaupro_ext.data.conditions import CONDITIONS, FULL, warning
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report.frames import Frames
from mmaupro_ext.scoring.answers import BACKBONE
from mmaupro_ext.scoring.intervals import clip_clusters
from mmaupro_ext.scoring.paired import Difference, corrected, difference

OVERALL = "overall"
METHOD = (
    "Intervals: 95 %, paired, clustered by clip. p: by the same rule, the categories corrected together "
    "after Holm."
)
_SETTINGS = {
    "asks_for": "what the prompt asks for",
    "system_instruction": "the system message",
    "recipe": "the recipe",
    "dataset": "the dataset",
}


@dataclass(frozen=True)
class Comparison:
    """One run against the first.

    Attributes
    ----------
    first, second : str
        Names of the runs.
    rows : dict of str to Difference
        "overall", over all items below; then each category with scored items in both. p-values of the
        categories are corrected together, that of the overall stands for itself.
    won, lost : list of str
        Ids of the items on which the second scores more, or less.
    remarks : tuple of str
        What is not the same in both, or left out.
    parts : tuple of str
        Which of the two was asked a part of its items (`--until-se`).
    notes : tuple of str
        Which run was taken where a folder holds several.
    """

    first: str
    second: str
    rows: dict[str, Difference]
    won: list[str]
    lost: list[str]
    remarks: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compare(frames: Frames, accept_different: bool = False) -> list[Comparison]:
    """Compare each run with the first, item by item.

    Parameters
    ----------
    frames : Frames
        Of at least two runs.
    accept_different : bool
        Whether runs on different items, prompts or datasets are compared over what they share; the
        remarks then say so.

    Returns
    -------
    list of Comparison

    Raises
    ------
    ConfigError
        With fewer than two runs or one run twice, without a shared scored item, or where the runs differ in
        what was asked.
    """
    names = [name for name in frames.runs.index if frames.runs.loc[name, "items"]]
    if len(names) < 2:
        raise ConfigError("a comparison needs at least two runs with samples: name another folder")
    return [_pair(frames, names[0], name, accept_different) for name in names[1:]]


def _pair(frames: Frames, first: str, second: str, accept_different: bool) -> Comparison:
    one, two = (
        frames.items[frames.items.run == name].set_index("id", drop=False)
        for name in (first, second)
    )
    files = [Path(frames.runs.loc[name, "file"]) for name in (first, second)]
    if files[0].resolve() == files[1].resolve():
        raise ConfigError(
            f"{first} and {second} are one run, {files[0]}: name another one, by its results_<time>.json "
            "where a folder holds several"
        )
    ablated = frames.runs.loc[[first, second], "condition"].tolist()
    refused = list(_unlike_settings(frames, first, second))
    unlike = list(_unlike_items(frames, one, two, first, second))
    if ablated[0] == ablated[1]:
        meant = [] if ablated[0] == FULL else [warning(ablated[0])]
        refused += unlike
    elif FULL in ablated:  # what one model is asked differs by intention
        full, other = (first, second) if ablated[0] == FULL else (second, first)
        meant = [f"{other} was asked {warning(frames.runs.loc[other, 'condition'])}", *unlike]
        refused += _beyond_condition(frames, full, other)
    else:
        meant = []
        refused += [f"two conditions, {ablated[0]} and {ablated[1]}", *unlike]
    differing = [*meant, *refused]
    if refused and not accept_different:
        raise ConfigError(
            f"{first} and {second} were not asked the same: {'; '.join(refused)}. Compare runs of "
            "the same tasks and prompts, or add --accept-different to compare the items that both have"
        )
    shared = one.index.intersection(two.index, sort=False)
    one, two = one.loc[shared], two.loc[shared]
    scored = one.score.notna() & two.score.notna()
    if not scored.all():
        differing.append(
            f"left out: {int((~scored).sum()):,} items that are unscored in one of them"
        )
    one, two = one[scored], two[scored]
    if one.empty:
        raise ConfigError(f"{first} and {second} share no item that is scored in both")
    known = _clips_of(frames, (second, first) if ablated[1] == FULL else (first, second), one.id)
    clusters = pd.Series(clip_clusters(known), index=one.index)

    def between(chosen: pd.Series) -> Difference:
        return difference(
            one.score[chosen].tolist(), two.score[chosen].tolist(), clusters[chosen].tolist()
        )

    everything = pd.Series(True, index=one.index)
    overall = corrected([between(everything)])[0]
    present = [value for value in frames.categories if (one.category == value).any()]
    by_category = corrected([between(one.category == value) for value in present])
    gain = two.score - one.score
    return Comparison(
        first,
        second,
        {OVERALL: overall, **dict(zip(present, by_category, strict=True))},
        one.id[gain > 0].tolist(),
        one.id[gain < 0].tolist(),
        tuple(differing),
        tuple(
            f"{name} is {part}"
            for name in (first, second)
            if (part := frames.runs.loc[name, "part"])
        ),
        tuple(
            dict.fromkeys(
                note for name in (first, second) for note in frames.runs.loc[name, "taken"]
            )
        ),
    )


def _clips_of(
    frames: Frames, runs: tuple[str, str], items: Iterable[str]
) -> list[list[str | None]]:
    """Return the clips of each item by the first of two runs that was asked with any.

    Under a condition an item may have been asked without its clips, or with those of another.
    """
    one, two = (
        frames.clips[frames.clips.run == run].groupby("id").sha256.apply(list) for run in runs
    )
    return [one.get(item) or two.get(item) or [None] for item in items]


def _unlike_settings(frames: Frames, first: str, second: str) -> Iterator[str]:
    for name, what in _SETTINGS.items():
        here, there = frames.runs.loc[first, name], frames.runs.loc[second, name]
        if here != there:
            yield f"{what} differs ({here!r} and {there!r})"


def _beyond_condition(frames: Frames, full: str, ablated: str) -> Iterator[str]:
    """Yield by what a run in full and one under a condition differ beside the condition."""
    condition = CONDITIONS[frames.runs.loc[ablated, "condition"]]
    if condition.name != BACKBONE and frames.runs.loc[[full, ablated], "model"].nunique() > 1:
        yield (
            f"two models, of which one was asked under {condition.name}: their difference is that of the "
            "models and of the condition at once; name runs of one model, or both under one condition"
        )
    asked, answered = (set(frames.items.id[frames.items.run == name]) for name in (full, ablated))
    if answered - asked or (asked - answered and not condition.some):
        what = "changes some items alone" if condition.some else "leaves no item out"
        yield (
            f"one of them has a part of the items, which is not the condition's doing ({condition.name} "
            f"{what}); name the run in full of the same items, as `mmaupro ablate` writes it beside them"
        )


def _unlike_items(
    frames: Frames, one: pd.DataFrame, two: pd.DataFrame, first: str, second: str
) -> Iterator[str]:
    only = [len(one.index.difference(two.index)), len(two.index.difference(one.index))]
    if any(only):
        yield f"{only[0]:,} items are only in {first}, {only[1]:,} only in {second}"
    shared = one.index.intersection(two.index)
    for column in ("question", "choices", "answer"):
        changed = one.loc[shared, column].map(str) != two.loc[shared, column].map(str)
        if changed.any():
            yield f"{column} differs in {int(changed.sum()):,} items (say {changed.idxmax()})"
    # A chat template stands around the question and is the model's own; the question itself was checked
    # when the run was read.
    for name in (first, second):
        if odd := [note for note in frames.runs.loc[name, "deviations"] if "prompt" in note]:
            yield f"{name} was not asked as the benchmark asks: {odd[0]}"


def render(found: list[Comparison]) -> str:
    """Return comparisons as text for a terminal, about 80 columns wide."""
    parts = []
    for pair in found:
        header = ["", "items", "first", "second", "diff", "95 % interval", "won:lost", "p"]
        rows = [
            [
                _name(name),
                entry.items,
                f"{100 * entry.first:.1f}",
                f"{100 * entry.second:.1f}",
                f"{100 * entry.difference:+.1f}",
                interval_text(entry) or "-",
                f"{entry.won}:{entry.lost}",
                p_text(entry),
            ]
            for name, entry in sorted(pair.rows.items(), key=lambda row: row[0] == OVERALL)
        ]
        overall = pair.rows[OVERALL]
        smallest = (
            f"This many items show a difference of {100 * overall.smallest:.1f} points four times in "
            "five (power 80 %, 5 % two-sided). "
            if overall.smallest == overall.smallest
            else ""
        )
        notes = [
            f"Agreement: {100 * overall.agreement:.1f} % of the items have the same score. {smallest}"
            f"{METHOD}",
            *(f"Not the whole: {part}." for part in pair.parts),
            *(f"Not the same: {remark}." for remark in pair.remarks),
            *(f"Note: {note}." for note in pair.notes),
        ]
        parts.append(
            "\n\n".join(
                [
                    f"first:  {pair.first}\nsecond: {pair.second}",
                    text.table(header, rows),
                    *(text.paragraph(note, width=80) for note in notes),
                ]
            )
        )
    return "\n\n\n".join(parts)


def interval_text(entry: Difference) -> str:
    """Return the interval in points as it is printed; "" where there is none."""
    known = not math.isnan(entry.low)
    return f"{100 * entry.low:+.1f} to {100 * entry.high:+.1f}" if known else ""


def p_text(entry: Difference) -> str:
    """Return the corrected p-value as it is printed; "-" where there is none."""
    p = entry.p_corrected
    return "-" if math.isnan(p) else f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _name(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def as_dict(found: list[Comparison]) -> list[dict[str, object]]:
    """Return comparisons as plain JSON; what is not known is null."""

    def plain(entry: Difference) -> dict[str, object]:
        return {key: None if value != value else value for key, value in asdict(entry).items()}

    return [
        {
            "first": pair.first,
            "second": pair.second,
            "rows": {name: plain(entry) for name, entry in pair.rows.items()},
            "won": pair.won,
            "lost": pair.lost,
            "remarks": list(pair.remarks),
            "parts": list(pair.parts),
            "notes": list(pair.notes),
        }
        for pair in found
    ]
