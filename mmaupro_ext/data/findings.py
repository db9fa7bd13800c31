"""What there is to find in a dataset: problems, and notes on what a reader of results should know.

Pure functions of the rows and of what was measured; `verify` gathers both.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmaupro_ext.data.manifest import Entry
from mmaupro_ext.data.schema import (
    FACTS,
    LENGTH_TOLERANCE_S,
    LONGEST_S,
    Doc,
    LoadReport,
    length_type_of,
)

SILENT_PEAK = 1e-4  # -80 dBFS
CLIPPED_SHARE = 1e-3

Severity = Literal["problem", "note"]


@dataclass
class Difference:
    """Something found that is not as it should be, or that a reader of results should know.

    Parameters
    ----------
    key : str
        Stable name for programs.
    severity : {"problem", "note"}
        Whether it makes the exit status 1.
    title : str
        What was found, in one clause.
    examples : list of str
        Every case, in file order; the human report shows the first ones.
    fix : str
        What to do about it.
    unit : str
        What `examples` counts: "clips", "rows", ...
    """

    key: str
    severity: Severity
    title: str
    examples: list[str]
    fix: str
    unit: str = "rows"


# --- rows --------------------------------------------------------------------------------------

# What the schema notes without stopping the load: title and advice.
_ROW_NOTES: dict[str, tuple[str, str]] = {
    "gold-in-choices": (
        "the answer is not among the choices (unanswerable by exact match)",
        "Nothing to repair in this copy: these rows cap the reachable accuracy. Name their number "
        "beside results, or leave them out on both sides of a comparison.",
    ),
    "choices-distinct": (
        "a choice is there twice",
        "Nothing to repair in this copy: either letter is the same answer.",
    ),
    "length-type": (
        "length_type is none of the four values",
        "Tables by length put these rows under their measured length.",
    ),
    "instruction-answer": (
        "an instruction row has an answer",
        "The rules do not use it; check that test.parquet is the released file.",
    ),
    "kwargs-complete": (
        "an instruction row lacks an argument of its rule",
        "The official scorer treats a null argument in its own way, and so do we.",
    ),
}


def row_differences(docs: list[Doc], report: LoadReport, errors: list[str]) -> Iterator[Difference]:
    """Yield what is wrong or unusual in test.parquet itself.

    Parameters
    ----------
    docs : list of dict
        The rows that follow the schema.
    report : LoadReport
        What the schema noted about them.
    errors : list of str
        One message per row that breaks the schema.

    Yields
    ------
    Difference
        A problem for broken rows, notes for the rest.
    """
    if errors:
        yield Difference(
            "rows-unusable",
            "problem",
            "rows break the schema: they count as errored in every run",
            errors,
            "Check that test.parquet is the released file, or download it again.",
        )
    for fact, findings in report.by_fact().items():
        title, fix = _ROW_NOTES.get(
            fact,
            (f"differs from: {FACTS[fact].statement}", "The loader reads it all the same."),
        )
        examples = [f"{found.id or found.column}: {found.message}" for found in findings]
        yield Difference(fact, "note", title, examples, fix)
    yield from asked_twice(docs)


def asked_twice(docs: list[Doc]) -> Iterator[Difference]:
    """Yield the rows that ask the same question about the same files."""
    shared = [
        " = ".join(doc["id"] for doc in group) for group in _groups(docs, _question_and_paths)
    ]
    if shared:
        title = "different ids ask the same question about the same files"
        fix = "Their results are one observation, not several."
        yield Difference("same-question-same-paths", "note", title, shared, fix, "groups")


def _question_and_paths(doc: Doc) -> tuple[str, ...] | None:
    return (doc["question"], *doc["audio_path"]) if doc["audio_path"] else None


def _groups(docs: list[Doc], key: Callable[[Doc], Any]) -> list[list[Doc]]:
    groups: dict[Any, list[Doc]] = {}
    for doc in docs:
        value = key(doc)
        if value is not None:
            groups.setdefault(value, []).append(doc)
    return [group for group in groups.values() if len(group) > 1]


# --- clips -------------------------------------------------------------------------------------


def bytes_differ(entry: Entry, promised: Entry | None) -> bool:
    """Return whether both entries state a sha256 and the two are not the same."""
    stated = (promised or {}).get("sha256")
    return bool(stated and entry.get("sha256") and stated != entry["sha256"])


def clip_differences(
    docs: list[Doc],
    entries: dict[str, Entry],
    promised: dict[str, Entry],
    quick: bool,
    accept_changes: bool,
) -> Iterator[Difference]:
    """Yield what is wrong with the files, whatever they sound like."""
    items = _items_of(docs)

    def named(clip: str, detail: str = "") -> str:
        return f"{clip}{': ' if detail else ''}{detail} (item {', '.join(items[clip])})"

    missing = [c for c, entry in entries.items() if entry.get("problem") == "missing"]
    if missing:
        yield Difference(
            "clips-missing",
            "problem",
            f"clips are missing ({len(entries) - len(missing):,} of {len(entries):,} are there)",
            [named(clip) for clip in missing],
            "`mmaupro data fetch` brings them; until then their items are errored, never guessed.",
            "clips",
        )
    problems = {clip: entry["problem"] for clip, entry in entries.items() if "problem" in entry}
    broken = {clip: problem for clip, problem in problems.items() if problem != "missing"}
    if broken:
        yield Difference(
            "clips-broken",
            "problem",
            "clips cannot be used to their end",
            [named(clip, problem) for clip, problem in broken.items()],
            "Delete these files, then `mmaupro data fetch` into this folder.",
            "clips",
        )
    changed = [c for c, entry in entries.items() if bytes_differ(entry, promised.get(c))]
    if changed and not accept_changes:
        yield Difference(
            "clips-changed",
            "problem",
            "clips hold other bytes than the manifest says",
            [named(clip) for clip in changed],
            "Restore these files; if the change is meant, run again with --accept-changes.",
            "clips",
        )
    nonfinite = {c: e["nonfinite"] for c, e in entries.items() if e.get("nonfinite")}
    if nonfinite:
        yield Difference(
            "clips-nonfinite",
            "problem",
            "clips hold samples that are not numbers (NaN or infinite)",
            [named(clip, f"{count:,} samples") for clip, count in nonfinite.items()],
            "Delete these files and get them again; such samples spoil a model's whole input.",
            "clips",
        )
    if quick:
        yield from _quick_notes(entries, named)


def _quick_notes(entries: dict[str, Entry], named: Callable[[str], str]) -> Iterator[Difference]:
    again = "Run `mmaupro data verify` once without --quick."
    unread = [clip for clip, entry in entries.items() if entry.get("unread")]
    if unread:
        yield Difference(
            "clips-unread",
            "note",
            "clips are in no manifest: only their presence was checked",
            [named(clip) for clip in unread],
            again,
            "clips",
        )
    touched = [clip for clip, entry in entries.items() if entry.get("touched")]
    if touched:
        yield Difference(
            "clips-touched",
            "note",
            "clips have the size of the manifest but another modification time",
            [named(clip) for clip in touched],
            again,
            "clips",
        )


def _items_of(docs: list[Doc]) -> dict[str, list[str]]:
    items: dict[str, list[str]] = {}
    for doc in docs:
        for clip in doc["audio_path"]:
            items.setdefault(clip, []).append(doc["id"])
    return items


def audio_notes(docs: list[Doc], entries: dict[str, Entry]) -> Iterator[Difference]:
    """Yield what the clips are like: duplicates, lengths, channels, levels."""
    whole = {c: e for c, e in entries.items() if "problem" not in e and "seconds" in e}
    digests = {c: e["sha256"] for c, e in entries.items() if "sha256" in e}
    yield from _duplicates(docs, digests)
    yield from _lengths(docs, whole)

    spatial = {
        clip: f"{doc['id']}: {clip}, {_one_channel(whole[clip])}"
        for doc in docs
        if doc["category"] == "spatial_audio"
        for clip in doc["audio_path"]
        if clip in whole and _one_channel(whole[clip])
    }
    if spatial:
        yield Difference(
            "spatial-mono",
            "note",
            "clips of spatial_audio items carry no spatial cue",
            list(spatial.values()),
            "Nothing to repair in this copy: a single channel cannot say where a sound is.",
            "clips",
        )
    # A manifest that `verify` did not write may state no levels.
    peaks = {c: e["peak"] for c, e in whole.items() if "peak" in e}
    silent = [f"{c}: peak {_dbfs(peak)}" for c, peak in peaks.items() if peak < SILENT_PEAK]
    if silent:
        yield Difference(
            "clips-silent",
            "note",
            "clips are silent (peak below -80 dBFS)",
            silent,
            "Listen to them; if they should sound, delete them and get them again.",
            "clips",
        )
    clipped = {
        c: e["full_scale_share"]
        for c, e in whole.items()
        if e.get("full_scale_share", 0) > CLIPPED_SHARE
    }
    if clipped:
        yield Difference(
            "clips-clipped",
            "note",
            "clips are distorted: over 0.1% of their samples are runs at full scale",
            [
                f"{clip}: {100 * share:.2g}%"
                for clip, share in sorted(clipped.items(), key=lambda pair: -pair[1])
            ],
            "Nothing to repair in this copy; worst first.",
            "clips",
        )


def _one_channel(entry: Entry) -> str | None:
    """Return why a clip has only one channel's worth of sound, or None."""
    if entry.get("channels") == 1:
        return "one channel"
    return "all channels are the same" if entry.get("identical_channels") else None


def _dbfs(peak: float) -> str:
    return f"{20 * math.log10(peak):.0f} dBFS" if peak > 0 else "no signal at all"


def _duplicates(docs: list[Doc], digests: dict[str, str]) -> Iterator[Difference]:
    files: dict[str, list[str]] = {}
    for clip, digest in digests.items():
        files.setdefault(digest, []).append(clip)
    same = [group for group in files.values() if len(group) > 1]
    if same:
        yield Difference(
            "same-bytes",
            "note",
            f"{sum(map(len, same)):,} clips are byte for byte the same as another clip",
            [" = ".join(group) for group in same],
            "Errors on their items are correlated: compute confidence intervals by clip, not by "
            "item.",
            "groups",
        )

    def asked(doc: Doc) -> tuple[str, ...] | None:
        if not doc["audio_path"] or not all(clip in digests for clip in doc["audio_path"]):
            return None
        return (doc["question"], *(digests[clip] for clip in doc["audio_path"]))

    twice = [
        group
        for group in _groups(docs, asked)
        # Equal paths are reported with the rows, where no clip needs to be read.
        if len({tuple(doc["audio_path"]) for doc in group}) > 1
    ]
    if twice:
        yield Difference(
            "same-question-same-sound",
            "note",
            "different ids ask the same question about the same sound",
            [" = ".join(doc["id"] for doc in group) for group in twice],
            "Their results are one observation, not several.",
            "groups",
        )


def _lengths(docs: list[Doc], whole: dict[str, Entry]) -> Iterator[Difference]:
    differs, too_long = [], []
    for doc in docs:
        measured = doc["audio_path"] and all(clip in whole for clip in doc["audio_path"])
        if not measured or "length_type" not in doc:
            continue
        seconds = [whole[clip]["seconds"] for clip in doc["audio_path"]]
        # Nobody states whether the label of several clips means the longest or their sum.
        fitting = {length_type_of(max(seconds)), length_type_of(sum(seconds))}
        if doc["length_type"] not in fitting:
            shown = " + ".join(f"{value:.2f} s" for value in seconds)
            differs.append(f"{doc['id']}: labelled {doc['length_type']}, measured {shown}")
        if max(seconds) > LONGEST_S + LENGTH_TOLERANCE_S:
            too_long.append(f"{doc['id']}: {max(seconds):.2f} s")
    if differs:
        yield Difference(
            "length-type-measured",
            "note",
            "length_type does not fit the measured seconds (limits 30 s, 3 min, 8 min)",
            differs,
            "Nothing to repair in this copy: the label is an annotation. Tables by length should "
            "use the measured seconds of the manifest.",
        )
    if too_long:
        yield Difference(
            "longer-than-stated",
            "note",
            "clips are longer than the ten minutes that the paper states",
            too_long,
            "Nothing to repair in this copy.",
        )


def unreferenced(root: Path, referenced: set[str]) -> Iterator[Difference]:
    """Yield the files under data/ that no row names, as one note."""
    extra = []
    for folder, _, names in os.walk(root / "data"):
        for name in names:
            relative = (Path(folder) / name).relative_to(root).as_posix()
            if relative not in referenced:
                extra.append(relative)
    if extra:
        yield Difference(
            "files-unreferenced",
            "note",
            "files in data/ belong to no row",
            sorted(extra),
            "They do no harm; they may be leftovers of another version or of an editor.",
            "files",
        )
