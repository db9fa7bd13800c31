"""The audio-reliance profile as tables, for terminals and pages, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmaupro_ext.data import text
from mmaupro_ext.report import published
from mmaupro_ext.scoring.answers import BACKBONE, FULL, NONE, REPEAT, LeftOut
from mmaupro_ext.scoring.intervals import Interval
from mmaupro_ext.scoring.reliance import OVERALL, Profile

WIDTH = 80


@dataclass(frozen=True)
class Table:
    """A table of a profile: its head, its rows as texts, and what must be said below it."""

    head: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def render(profile: Profile, beside_published: bool = False) -> str:
    """Return a profile as text for a terminal, 80 columns wide.

    Parameters
    ----------
    profile : Profile
        Of `scoring.reliance.profile`.
    beside_published : bool
        Whether published figures follow; for runs on the whole of MMAU-Pro.

    Returns
    -------
    str
        Lines without a final newline.
    """
    found = [*tables(profile), *([overall_published()] if beside_published else [])]
    parts = []
    for table in found:
        parts.append(_within(table))
        parts += [text.paragraph(note, width=WIDTH) for note in table.notes]
    return "\n\n".join(parts)


def _within(table: Table) -> str:
    """Lay a table out; where it is too wide, its names are cut."""
    whole = text.table(table.head, table.rows)
    names = max(len(row[0]) for row in table.rows)
    kept = names - max(0, max(map(len, whole.splitlines())) - WIDTH)
    if kept == names:
        return whole
    cut = [
        [row[0] if len(row[0]) <= kept else f"{row[0][: kept - 1]}…", *row[1:]]
        for row in table.rows
    ]
    return text.table(table.head, cut)


def tables(profile: Profile) -> list[Table]:
    """Return all tables of a profile; those without a row are left out."""
    made = (_categories, _conditions, _classes, _orders, _places, _longest, _flips)
    return [table for make in made if (table := make(profile)) and table.rows]


def as_dict(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain JSON; what is unknown or without bound is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(entry) for entry in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(asdict(profile))


def points(share: float) -> str:
    """Return a difference as it is printed, in points with its sign; "-" where it is unknown."""
    # Adding zero makes of -0.0 what it is.
    return "-" if math.isnan(share) else f"{round(100 * share, 1) + 0.0:+.1f}"


def from_to(low: float, high: float) -> str:
    """Return the interval of a difference as it is printed, in points; "-" where there is none."""
    return "-" if math.isnan(low) or math.isnan(high) else f"{points(low)} to {points(high)}"


# --- tables ---------------------------------------------------------------------------------------


def _conditions(profile: Profile) -> Table:
    rows = []
    for name in profile.conditions:
        row = profile.row(name)
        if row is None or row.score is None:
            rows.append([name, "0", *["-"] * 5])
            continue
        score, found = row.score, row.against_full
        cells = (
            [_one(score.mean), "-", _bounds(score), "-", "-"]
            if found is None
            else [
                _one(found.second),
                points(found.difference),
                from_to(found.low, found.high),
                _one(found.ratio),
                _per_cent(found.ratio_low, found.ratio_high),
            ]
        )
        rows.append([name, f"{score.items:,}", *cells])
    head = ["condition", "items", "score", "diff", "interval", "of full", "interval"]
    about = (
        "Per cent. diff, of full: against the score in full of the same items, as difference and as ratio; "
        "under none, the ratio is text-prior retention. Intervals: 95 %, paired, clustered by clip."
    )
    return Table(head, rows, (about, *_without_choice(profile), *_left_out(profile)))


def _without_choice(profile: Profile) -> Iterator[str]:
    silent = [
        f"{name} {_one(row.no_choice)}"
        for name in profile.conditions
        if (row := profile.row(name)) is not None and row.no_choice > 0.0
    ]
    if silent:
        yield (
            f"Replies that state no choice, per cent of those to items with choices: {', '.join(silent)}. "
            "They count as wrong, and as an outcome of their own under orders and flips: a low score may be "
            "silence."
        )


def _left_out(profile: Profile) -> Iterator[str]:
    alike: dict[str, list[str]] = {}
    for name in profile.conditions:
        row = profile.row(name)
        if row is not None and (words := _words(row.left_out)):
            where = "not counted" if name == FULL else "not compared with full"
            alike.setdefault(f"{where}: {words}.", []).append(name)
    for words, names in alike.items():
        yield f"{', '.join(names)}, {words}"
    if profile.without_full:
        yield (
            f"{profile.without_full:,} items were asked under a condition but not in full, and count nowhere."
        )


def _words(found: LeftOut) -> str:
    return _counted(
        {
            "errored": found.errored,
            "without a verdict": found.unscored,
            "not asked, or in part": found.not_asked,
        }
    )


def _counted(named: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)


def _categories(profile: Profile) -> Table:
    backbone = BACKBONE in profile.conditions
    rows = []
    for category in (*profile.categories, OVERALL):
        none = profile.row(NONE, category)
        if none is None or none.against_full is None:
            continue
        found = none.against_full
        other = profile.row(BACKBONE, category)
        read = "-" if other is None or other.score is None else _one(other.score.mean)
        row = [category, f"{found.items:,}", _one(found.first), _one(found.second)]
        row += [points(-found.difference), from_to(-found.high, -found.low)]
        rows.append([*row, *([read] if backbone else []), _one(none.chance)])
    head = ["category", "items", "full", "none", "adds", "interval"]
    about = "adds: what listening adds, full minus none. chance: 1 / number of choices."
    return Table([*head, *(["backbone"] if backbone else []), "chance"], rows, (about,))


def _classes(profile: Profile) -> Table | None:
    found = profile.classes
    if found is None:
        return None
    shares = {
        "right with and without audio (text solves)": found.text_solves,
        "right with audio only (needs it)": found.needs_audio,
        "- and a fragment alone suffices": found.fragment_suffices,
        "- and needs several segments": found.several_segments,
        "wrong with audio, right without (audio hurts)": found.audio_hurts,
        "wrong in both (unsolved)": found.unsolved,
    }
    notes = []
    if found.of_needed is not None:
        several = found.of_needed
        notes.append(
            f"Of {several.items:,} items that need audio and are decided, {_one(several.mean)} % need "
            f"several segments ({_bounds(several)}); if each fragment were answered by a guess, "
            f"{_one(found.by_chance)} % would seem to."
        )
    if found.fragment_suffices is not None and found.undecided:
        notes.append(
            f"Undecided: {found.undecided:,} items that need audio have a fragment without an answer that "
            "counts. The script released by Foo et al. counts an errored fragment as one that suffices: it "
            f"would say {found.released[0]:,} items for a fragment, {found.released[1]:,} for several."
        )
    return _shares(f"what {found.unsolved.items:,} items need", shares, tuple(notes))


def _orders(profile: Profile) -> Table | None:
    found = profile.orders
    if found is None:
        return None
    low, high = found.orders
    span = f"{low}" if low == high else f"{low} to {high}"
    shares = {
        "consistency rate (pairs of orders that agree)": found.consistency,
        "correctness rate (orders that are right)": found.correctness,
        "right in all orders": found.always_right,
    }
    return _shares(f"over {span} orders of {found.consistency.items:,} items", shares)


def _shares(
    title: str, shares: Mapping[str, Interval | None], notes: tuple[str, ...] = ()
) -> Table:
    rows = [
        [name, _one(share.mean), _bounds(share)]
        for name, share in shares.items()
        if share is not None
    ]
    return Table([title, "share", "interval"], rows, notes)


def _places(profile: Profile) -> Table:
    rows = [
        [
            f"{place.choices} choices",
            f"{place.items:,}",
            " ".join(f"{100 * score:.0f}" for score in place.scores),
            f"{100 * place.spread:.1f}",
            _one(place.rsd),
            _divergence(place.ckld),
        ]
        for place in profile.places
    ]
    about = "score by place: with the right choice in the first, the second, … place."
    return Table(["items with", "items", "score by place", "spread", "RSD", "CKLD"], rows, (about,))


def _divergence(nats: float) -> str:
    if math.isnan(nats):  # no reply states a choice
        return "-"
    return "one never picked" if math.isinf(nats) else f"{nats:.3f}"


def _longest(profile: Profile) -> Table:
    rows = [
        [
            found.name,
            f"{found.picks.items:,}",
            _one(found.picks.first),
            _one(found.picks.second),
            points(found.picks.difference),
            from_to(found.picks.low, found.picks.high),
        ]
        for found in profile.longest
    ]
    why = [
        f"{found.name}: {words}"
        for found in profile.longest
        if (
            words := _counted(
                {
                    "without one longest": found.no_longest,
                    "errored": found.errored,
                    "without a stated choice": found.no_choice,
                }
            )
        )
    ]
    notes = (f"Items left out: {'; '.join(why)}.",) if why else ()
    head = ["longest choice", "items", "is right", "is picked", "diff", "interval"]
    return Table(head, rows, notes)


def _flips(profile: Profile) -> Table:
    rows = []
    for found in profile.flips:
        above = found.above_floor
        row = [found.name, f"{found.share.items:,}", _one(found.share.mean), _bounds(found.share)]
        row += (
            ["-", "-"]
            if above is None
            else [points(above.difference), from_to(above.low, above.high)]
        )
        rows.append(row)
    notes = ["flips: items that choose otherwise than in full."]
    if REPEAT not in profile.conditions:
        notes.append(
            "No noise floor: add the condition repeat, to see how often an answer changes by itself."
        )
    head = ["flips", "items", "share", "interval", "above repeat", "interval"]
    return Table(head, rows, tuple(notes))


# --- published beside it --------------------------------------------------------------------------


def overall_published() -> Table:
    """Return published overall scores of MMAU-Pro under ablations, each as its source scored it."""
    rows = []
    for model, part in published.foo().groupby(level="model", sort=False):
        full, none, backbone = (part.overall[model, name] for name in (FULL, NONE, BACKBONE))
        cells = [_tenth(full), _tenth(none), _tenth(backbone), "-", _tenth(100 * none / full)]
        rows.append([str(model), *cells, "Foo et al."])
    scores = published.paper_ablations()
    for (table, model), part in scores[scores.table > 3].groupby(["table", "model"], sort=False):
        by_name = part.set_index("condition").score
        cells = [_tenth(by_name.get(name, math.nan)) for name in (FULL, NONE, BACKBONE, "noise")]
        rows.append([str(model), *cells, "-", f"table {table}"])
    classes = published.foo_classes().loc["MMAU-Pro"]
    notes = (
        f"Published, overall, per cent: {published.FOO}, multiple choice alone, read by rules and a model, "
        f"replies without a choice wrong; tables of {published.SOURCE}, all items.",
        f"Item classes of Foo et al., means over {classes.models:.0f} models: text solves "
        f"{classes.text_solves}, a fragment suffices {classes.fragment_suffices}, several segments "
        f"{classes.several_segments}, audio hurts {classes.audio_hurts}, unsolved {classes.unsolved}.",
    )
    return Table(["published", FULL, NONE, "backbone", "noise", "of full", "source"], rows, notes)


def categories_published() -> Table:
    """Return the scores of Foo et al. under ablations by category."""
    found = published.foo()
    rows = [
        [f"{model}, {condition}", *(_tenth(value) for value in row)]
        for (model, condition), row in zip(found.index, found.to_numpy(), strict=True)
    ]
    head = ["published by category", *found.columns[:-1], "no choice read"]
    return Table(head, rows, (f"{published.FOO}. Per cent of the multiple-choice items.",))


# --- numbers --------------------------------------------------------------------------------------


def _one(share: float) -> str:
    return _tenth(100 * share)


def _tenth(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"


def _per_cent(low: float, high: float) -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"{_one(low)} to {_one(high)}"


def _bounds(found: Interval) -> str:
    return _per_cent(found.low, found.high)
