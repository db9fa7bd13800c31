"""What a researcher asks first about a dataset, as numbers and tables.

How many items of which kind, how long, how many choices, which skills, and what a system gets
that never listens: guessing, always the same letter, always the longest choice. The picture of it
is in `mmaupro_ext.report.overview`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark
from mmaupro_ext.data import manifest, text
from mmaupro_ext.data.items import all_documents, dataset_title, real_choices
from mmaupro_ext.data.manifest import Entry
from mmaupro_ext.data.schema import (
    CHOICE_LETTERS,
    LENGTH_TYPES,
    Category,
    Doc,
    Kind,
    length_type_of,
)
from mmaupro_ext.data.selection import read_selection

_UNLABELLED = "not labelled"


def overview(
    data_dir: str | os.PathLike[str] | None = None, sample: bool = False, name: str = MMAUPRO
) -> dict[str, Any]:
    """Count what `mmaupro data info` shows.

    Parameters
    ----------
    data_dir : path, optional
        Folder of the dataset; see `locate`.
    sample : bool
        The embedded sample instead.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    dict
        Plain JSON: `benchmark`, `dataset`, `folder`, `partial` (what a folder with a part of the dataset
        holds, or None), `items`, `clips`, `measured_clips`, `seconds` (of the
        measured clips); lists of rows `categories`, `choices`, `answers`, `lengths`, `skills` (of the
        others: attributes), `sub_categories`, `formats`; and `clip_seconds`, the measured durations by
        category.

    Raises
    ------
    DataError
        When there is no dataset or its rows break the schema.
    """
    benchmark = BENCHMARKS[name]
    root, docs = all_documents(name, data_dir, sample, whole=True)
    selection = None if sample else read_selection(root)
    known = {clip: e for clip, e in manifest.known_clips(root).items() if "seconds" in e}
    paths = list(dict.fromkeys(clip for doc in docs for clip in doc["audio_path"]))
    measured = {clip: known[clip] for clip in paths if clip in known}
    if benchmark.read_row is None:
        skills = [*_skill_rows(docs, "perceptual"), *_skill_rows(docs, "reasoning")]
    else:
        skills = [row for group in benchmark.groups for row in _attribute_rows(docs, group)]
    return {
        "benchmark": name,
        "dataset": dataset_title(name, sample),
        "folder": str(root),
        "partial": None if selection is None else selection.describe(),
        "items": len(docs),
        "clips": len(paths),
        "measured_clips": len(measured),
        "seconds": round(sum(entry["seconds"] for entry in measured.values()), 3),
        "categories": [_category_row(c, docs, measured) for c in benchmark.categories],
        "choices": _choice_rows(docs, benchmark),
        "answers": answer_rows(docs),
        "lengths": _length_rows(docs, measured),
        "skills": skills,
        "sub_categories": _sub_category_rows(docs),
        "formats": _format_rows(measured.values()),
        "clip_seconds": _clip_seconds(docs, measured),
    }


def _category_row(
    category: Category, docs: list[Doc], measured: dict[str, Entry]
) -> dict[str, Any]:
    mine = [doc for doc in docs if doc["category"] == category.value]
    paths = {clip for doc in mine for clip in doc["audio_path"]}
    seconds = [measured[clip]["seconds"] for clip in paths if clip in measured]
    return {
        "category": category.value,
        "kind": category.kind,
        "items": len(mine),
        "clips": len(paths),
        "several_clips": sum(len(doc["audio_path"]) > 1 for doc in mine),
        "measured_clips": len(seconds),
        "seconds": round(sum(seconds), 3),
    }


def _kind(doc: Doc) -> Kind:
    return benchmarks.of(doc).by_value[doc["category"]].kind


def _choice_rows(docs: list[Doc], benchmark: Benchmark) -> list[dict[str, Any]]:
    counts = Counter((len(real_choices(doc)), _kind(doc)) for doc in docs)
    sizes = sorted({size for size, _ in counts})
    kinds = list(dict.fromkeys(category.kind for category in benchmark.categories))
    return [{"choices": size, **{kind: counts[size, kind] for kind in kinds}} for size in sizes]


def answer_rows(docs: Iterable[Doc]) -> list[dict[str, Any]]:
    """Return what systems that never listen would score on the closed items.

    Parameters
    ----------
    docs : iterable of dict
        Items of any kind; only closed ones are counted.

    Returns
    -------
    list of dict
        One row per closed category and one, "all closed", over their items: `items`;
        `unanswerable` (the answer is not among the choices: wrong for every system); and the
        accuracies (0 to 1) of `chance` (the mean of 1/number of choices, as the paper's random
        row), `always_first` (choice A), `best_letter` with its name in `letter`, and
        `longest_choice` (the first of the longest choices by characters). `positions` counts the
        answers by place.
    """
    closed = [doc for doc in docs if _kind(doc) == "closed"]
    known = benchmarks.of(closed[0]).by_value if closed else {}
    groups = [(value, [doc for doc in closed if doc["category"] == value]) for value in known]
    return [_answer_row(name, group) for name, group in [*groups, ("all closed", closed)] if group]


def _answer_row(name: str, docs: list[Doc]) -> dict[str, Any]:
    # A row that breaks the schema is wrong for every system, as in a run.
    usable = [doc for doc in docs if "problem" not in doc]
    # An answer that is there twice is right at either place; its first one is counted.
    places = [d["choices"].index(d["answer"]) for d in usable if d["answer"] in d["choices"]]
    counts = Counter(places)
    # The earliest of equally good letters, so that the row does not depend on the order of items.
    best = min(counts, key=lambda place: (-counts[place], place)) if counts else 0
    longest = sum(max(doc["choices"], key=len) == doc["answer"] for doc in usable)
    widest = max((len(doc["choices"]) for doc in usable), default=0)
    return {
        "category": name,
        "items": len(docs),
        "unanswerable": len(docs) - len(places),
        "chance": sum(1 / len(real_choices(doc)) for doc in usable) / len(docs),
        "always_first": counts[0] / len(docs),
        "best_letter": counts[best] / len(docs),
        "letter": CHOICE_LETTERS[best] if best < len(CHOICE_LETTERS) else str(best + 1),
        "longest_choice": longest / len(docs),
        "positions": [counts[place] for place in range(widest)],
    }


def _length_rows(docs: list[Doc], measured: dict[str, Entry]) -> list[dict[str, Any]]:
    """Count items by label and by the measured length of their longest clip."""
    rows = []
    by_label: dict[str, list[Doc]] = {}
    for doc in docs:
        by_label.setdefault(str(doc.get("length_type", _UNLABELLED)), []).append(doc)
    labels = [*LENGTH_TYPES, *sorted(by_label.keys() - {*LENGTH_TYPES})]
    if by_label.keys() == {_UNLABELLED}:
        labels = [_UNLABELLED]
    for label in labels:
        mine = by_label.get(label, [])
        by_measure: Counter[str] = Counter()
        for doc in mine:
            if doc["audio_path"] and all(clip in measured for clip in doc["audio_path"]):
                longest = max(measured[clip]["seconds"] for clip in doc["audio_path"])
                by_measure[length_type_of(longest)] += 1
        rows.append(
            {
                "length_type": label,
                "items": len(mine),
                "measured": {name: by_measure[name] for name in LENGTH_TYPES},
                "not_measured": len(mine) - sum(by_measure.values()),
            }
        )
    return rows


def _skill_rows(docs: list[Doc], kind: str) -> list[dict[str, Any]]:
    counts = Counter(skill for doc in docs for skill in set(doc[f"{kind}_skills"]))
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"kind": kind, "skill": skill, "items": count} for skill, count in ordered]


def _attribute_rows(docs: list[Doc], name: str) -> list[dict[str, Any]]:
    counts = Counter(doc["attributes"].get(name) for doc in docs)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    return [{"kind": name, "skill": value, "items": count} for value, count in ordered]


def _sub_category_rows(docs: list[Doc]) -> list[dict[str, Any]]:
    counts = Counter((doc["category"], doc["sub-cat"]) for doc in docs if doc.get("sub-cat"))
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"category": category, "sub_category": name, "items": count}
        for (category, name), count in ordered
    ]


def _format_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    counts = Counter(
        (e["sampling_rate"], e["channels"], e.get("format", "?"), e.get("subtype", "?"))
        for e in entries
    )
    keys = ("sampling_rate", "channels", "format", "subtype")
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{**dict(zip(keys, key, strict=True)), "clips": count} for key, count in ordered]


def _clip_seconds(docs: list[Doc], measured: dict[str, Entry]) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {}
    for doc in docs:
        seconds.setdefault(doc["category"], []).extend(
            measured[clip]["seconds"] for clip in doc["audio_path"] if clip in measured
        )
    return {category: sorted(values) for category, values in seconds.items()}


def render(facts: dict[str, Any], top: int | None = 10) -> str:
    """Return the tables of `mmaupro data info`.

    Parameters
    ----------
    facts : dict
        What `overview` returned.
    top : int or None
        Rows shown of the skills and sub-categories; None shows all.

    Returns
    -------
    str
        Several tables without a final newline.
    """
    head = (
        f"{facts['dataset']} in {facts['folder']}\n"
        f"{facts['items']:,} items, {facts['clips']:,} clips"
    )
    if facts["measured_clips"]:
        head += f", {text.duration(facts['seconds'])} of sound"
    if facts["partial"]:
        head += f"\n{facts['partial']}; the rows below are all rows"
    if facts["measured_clips"] < facts["clips"]:
        head += (
            f"\n{facts['clips'] - facts['measured_clips']:,} clips were never measured: run "
            "`mmaupro data verify` once for true durations, rates and channels."
        )
    return "\n\n".join(
        [
            head,
            _title("Items by category", _category_table(facts)),
            _title(
                "What a system that never listens gets (closed items, accuracy)",
                _answer_table(facts),
            ),
            _title("Number of choices (items)", _choice_table(facts)),
            _title("Length: the label, and the longest clip as measured (items)", _lengths(facts)),
            *_groupings(facts, top),
            _title("Clips by format", _format_table(facts, top)),
        ]
    )


def _groupings(facts: dict[str, Any], top: int | None) -> list[str]:
    if BENCHMARKS[facts["benchmark"]].read_row is not None:
        groups = BENCHMARKS[facts["benchmark"]].groups
        return [_title("Attributes (items)", _skill_table(facts, groups, top))]
    skills = _skill_table(facts, ("perceptual", "reasoning"), top)
    return [
        _title("Skills (items; an item may have several)", skills),
        _title("Sub-categories (items)", _sub_category_table(facts, top)),
    ]


def _title(title: str, body: str) -> str:
    return f"{title}\n{body}"


def _category_table(facts: dict[str, Any]) -> str:
    rows: list[list[object]] = [
        [
            row["category"],
            row["kind"],
            row["items"],
            text.percent(row["items"] / max(1, facts["items"])),
            row["several_clips"],
            row["clips"],
            text.duration(row["seconds"]) if row["measured_clips"] else None,
        ]
        for row in facts["categories"]
    ]
    several = sum(row["several_clips"] for row in facts["categories"])
    heard = text.duration(facts["seconds"]) if facts["measured_clips"] else None
    rows.append(["all", "", facts["items"], "100.0%", several, facts["clips"], heard])
    header = ("category", "kind", "items", "share", "multi-clip", "clips", "sound")
    return text.table(header, rows, left=2)


def _answer_table(facts: dict[str, Any]) -> str:
    shown = [" ".join(map(str, row["positions"])) for row in facts["answers"]]
    width = max(map(len, [*shown, "answers at A B C ..."]))
    rows = [
        [
            row["category"],
            row["items"],
            text.percent(row["chance"]),
            text.percent(row["always_first"]),
            f"{text.percent(row['best_letter'])} ({row['letter']})",
            text.percent(row["longest_choice"]),
            row["unanswerable"],
            positions.ljust(width),
        ]
        for row, positions in zip(facts["answers"], shown, strict=True)
    ]
    header = (
        "category",
        "items",
        "chance",
        "always A",
        "best letter",
        "longest choice",
        "unanswerable",
        "answers at A B C ...".ljust(width),
    )
    return text.table(header, rows)


def _choice_table(facts: dict[str, Any]) -> str:
    keys = list(facts["choices"][0]) if facts["choices"] else ["choices"]
    return text.table(keys, [[row[key] for key in keys] for row in facts["choices"]])


def _lengths(facts: dict[str, Any]) -> str:
    rows = [
        [row["length_type"], row["items"], *row["measured"].values(), row["not_measured"]]
        for row in facts["lengths"]
    ]
    limits = ("to 30 s", "to 3 min", "to 8 min", "longer")
    return text.table(("label", "items", *limits, "not measured"), rows)


def _skill_table(facts: dict[str, Any], kinds: Sequence[str], top: int | None) -> str:
    tables = []
    for kind in kinds:
        rows = [row for row in facts["skills"] if row["kind"] == kind]
        shown = [[row["skill"], row["items"]] for row in rows[:top]]
        tables.append(text.table((kind, "items"), shown) + _more(len(rows) - len(shown)))
    return "\n\n".join(tables)


def _sub_category_table(facts: dict[str, Any], top: int | None) -> str:
    rows = facts["sub_categories"]
    shown = [[row["sub_category"], row["category"], row["items"]] for row in rows[:top]]
    body = text.table(("sub-cat", "category", "items"), shown, left=2)
    return body + _more(len(rows) - len(shown))


def _more(count: int) -> str:
    return f"\n... and {count:,} more (--all shows them)" if count else ""


def _format_table(facts: dict[str, Any], top: int | None) -> str:
    if not facts["formats"]:
        return "unknown until `mmaupro data verify` has run once"
    rows = [
        [row["format"], row["subtype"], row["sampling_rate"], row["channels"], row["clips"]]
        for row in facts["formats"]
    ]
    header = ("format", "subtype", "rate (Hz)", "channels", "clips")
    return text.table(header, rows[:top], left=2) + _more(len(rows[top or len(rows) :]))
