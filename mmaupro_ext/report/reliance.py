"""The audio-reliance profile as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mmaupro_ext.data import text
from mmaupro_ext.scoring.answers import BACKBONE, FULL, NONE, REPEAT, LeftOut
from mmaupro_ext.scoring.intervals import Interval
from mmaupro_ext.scoring.paired import Contrast
from mmaupro_ext.scoring.reliance import OVERALL, Profile

WIDTH = 80


def render(profile: Profile) -> str:
    """Return a profile as tables and remarks, 80 columns wide.

    Parameters
    ----------
    profile : Profile
        Of `scoring.reliance.profile`.

    Returns
    -------
    str
        Lines without a final newline.
    """
    parts = [
        _conditions(profile),
        _paragraph(
            "Per cent. full: over the same items. Intervals: 95 %, paired, clustered by clip. "
            "of full: score over full; under none, text-prior retention."
        ),
        *_left_out(profile),
        _categories(profile),
        *_classes(profile),
        *_orders(profile),
        _longest(profile),
        *_flips(profile),
    ]
    return "\n\n".join(part for part in parts if part)


def _conditions(profile: Profile) -> str:
    header = ["condition", "items", "full", "score", "diff", "interval", "of full", "interval"]
    rows: list[list[object]] = []
    for name in profile.conditions:
        row = profile.row(name)
        if row is None or row.score is None:
            rows.append([name, 0, *[None] * 6])
            continue
        rows.append([name, row.score.items, *_beside(row.against_full, row.score)])
    return text.table(header, rows)


def _beside(found: Contrast | None, score: Interval) -> list[object]:
    if found is None:
        return [None, _one(score.mean), None, _bounds(score.low, score.high), None, None]
    return [
        _one(found.first),
        _one(found.second),
        f"{100 * found.difference:+.1f}",
        _bounds(found.low, found.high, "+"),
        _one(found.ratio),
        _bounds(found.ratio_low, found.ratio_high),
    ]


def _categories(profile: Profile) -> str:
    backbone = BACKBONE in profile.conditions
    header = ["category", "items", "full", "none", *([BACKBONE] if backbone else [])]
    rows: list[list[object]] = []
    for category in (*profile.categories, OVERALL):
        none = profile.row(NONE, category)
        if none is None or none.against_full is None:
            continue
        found = none.against_full
        other = profile.row(BACKBONE, category)
        read = None if other is None or other.score is None else _one(other.score.mean)
        rows.append(
            [
                category,
                found.items,
                _one(found.first),
                _one(found.second),
                *([read] if backbone else []),
                f"{-100 * found.difference:+.1f}",
                _bounds(-found.high, -found.low, "+"),
            ]
        )
    return text.table([*header, "listening adds", "interval"], rows) if rows else ""


def _classes(profile: Profile) -> Iterator[str]:
    found = profile.classes
    if found is None:
        return
    shares = {
        "right with and without audio (text solves)": found.text_solves,
        "right with audio only (needs it)": found.needs_audio,
        "  a fragment alone suffices": found.fragment_suffices,
        "  needs several segments": found.several_segments,
        "wrong with audio, right without (audio hurts)": found.audio_hurts,
        "wrong in both (unsolved)": found.unsolved,
    }
    rows: list[list[object]] = [
        [name, _one(share.mean), _bounds(share.low, share.high)]
        for name, share in shares.items()
        if share is not None
    ]
    yield text.table([f"what {found.unsolved.items:,} items need", "share", "interval"], rows)
    if found.of_needed is not None:
        several = found.of_needed
        yield _paragraph(
            f"Of {several.items:,} items that need audio and are decided, {_one(several.mean)} % need "
            f"several segments ({_bounds(several.low, several.high)}); if each fragment were answered by "
            f"a guess, {_one(found.by_chance)} % would seem to."
        )
    if found.fragment_suffices is not None and found.undecided:
        yield _paragraph(
            f"Undecided: {found.undecided:,} items that need audio have a fragment without an answer that "
            "counts. The script released by Foo et al. counts an errored fragment as one that suffices: it "
            f"would say {found.released[0]:,} items for a fragment, {found.released[1]:,} for several."
        )


def _orders(profile: Profile) -> Iterator[str]:
    found = profile.orders
    if found is None:
        return
    low, high = found.orders
    shares = {
        "consistency rate (pairs of orders that choose the same)": found.consistency,
        "correctness rate (orders that are right)": found.correctness,
        "right in all orders": found.always_right,
    }
    span = f"{low}" if low == high else f"{low} to {high}"
    title = f"over {span} orders of {found.consistency.items:,} items"
    yield text.table(
        [title, "share", "interval"],
        [
            [name, _one(share.mean), _bounds(share.low, share.high)]
            for name, share in shares.items()
        ],
    )
    rows: list[list[object]] = [
        [
            place.choices,
            place.items,
            " ".join(f"{100 * score:.0f}" for score in place.scores),
            f"{100 * place.spread:.1f}",
            _one(place.rsd),
            "never picks one" if math.isinf(place.ckld) else f"{place.ckld:.3f}",
        ]
        for place in profile.places
    ]
    header = ["choices", "items", "score by place of the right one", "spread", "RSD", "CKLD"]
    if rows:
        yield text.table(header, rows)


def _longest(profile: Profile) -> str:
    rows: list[list[object]] = [
        [
            f"longest choice, {found.name}",
            found.picks.items,
            _one(found.picks.first),
            _one(found.picks.second),
            f"{100 * found.picks.difference:+.1f}",
            _bounds(found.picks.low, found.picks.high, "+"),
        ]
        for found in profile.longest
    ]
    header = ["", "items", "is right", "is picked", "diff", "interval"]
    return text.table(header, rows) if rows else ""


def _flips(profile: Profile) -> Iterator[str]:
    rows: list[list[object]] = []
    for found in profile.flips:
        above = found.above_floor
        rows.append(
            [
                found.name,
                found.share.items,
                _one(found.share.mean),
                _bounds(found.share.low, found.share.high),
                None if above is None else f"{100 * above.difference:+.1f}",
                None if above is None else _bounds(above.low, above.high, "+"),
            ]
        )
    if rows:
        header = ["flips", "items", "share", "interval", "above repeat", "interval"]
        yield text.table(header, rows)
        yield _paragraph("flips: items that choose otherwise than in full.")
        if REPEAT not in profile.conditions:
            yield _paragraph(
                "No noise floor: add the condition repeat to see how often an answer to the same question "
                "changes."
            )


def _left_out(profile: Profile) -> Iterator[str]:
    for name in profile.conditions:
        row = profile.row(name)
        if row is not None and (words := left_out_words(row.left_out)):
            of = "counted" if name == FULL else "compared with full"
            yield _paragraph(f"{name}: not {of}: {words}.")
    if profile.without_full:
        yield _paragraph(
            f"{profile.without_full:,} items were asked under a condition but not in full, and count nowhere."
        )


def left_out_words(found: LeftOut) -> str:
    """Return in words why items do not count; "" where all do."""
    named = {
        "errored": found.errored,
        "without a verdict": found.unscored,
        "not asked, or not whole": found.not_asked,
    }
    return ", ".join(f"{count:,} {name}" for name, count in named.items() if count)


def _one(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def _bounds(low: float, high: float, sign: str = "") -> str:
    if math.isnan(low) or math.isnan(high):
        return "-"
    return f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}"


def _paragraph(words: str) -> str:
    return text.paragraph(words, width=WIDTH)
