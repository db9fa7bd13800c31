"""What there is to find in a described benchmark's rows, and in the formats of any clips.

Pure functions, as in `findings`; `verify` gathers both.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from mmaupro_ext.data.findings import Difference, asked_twice
from mmaupro_ext.data.items import real_choices
from mmaupro_ext.data.manifest import Entry
from mmaupro_ext.data.schema import Doc

# What a suffix promises, as `audio` names formats; others promise nothing.
_FORMATS = {
    "wav": ("WAV", "WAVEX", "RF64", "W64"),
    "flac": ("FLAC",),
    "mp3": ("MP3", "MPEG"),
    "ogg": ("OGG",),
    "opus": ("OGG",),
}


def item_differences(docs: list[Doc], rows: list[Any]) -> Iterator[Difference]:
    """Yield what is wrong or unusual in `rows.jsonl` itself.

    Parameters
    ----------
    docs : list of dict
        All documents, broken ones among them.
    rows : list of dict
        The released rows that they were read from, in the same order.

    Yields
    ------
    Difference
        A problem for broken rows, notes for the rest.
    """
    broken = [doc["problem"] for doc in docs if "problem" in doc]
    if broken:
        yield Difference(
            "rows-unusable",
            "problem",
            "rows cannot be asked: they count as errored in every run",
            broken,
            "Check that rows.jsonl is of the released file, or fetch it again.",
        )
    nothing = "Nothing to repair in this copy: the data is released so."
    notes = (
        (
            "choices-distinct",
            "a choice is there twice",
            _twice,
            "Either letter is the same answer.",
        ),
        (
            "choices-padded",
            "a letter has no choice (null or empty in the release)",
            _padded,
            "The authors' prompt shows it as the authors do; ours leave it out.",
        ),
        (
            "choice-called-none",
            'a choice is the text "None"',
            lambda doc: "None" in doc["choices"] and "None",
            "It is a choice like the others.",
        ),
    )
    for key, title, found, what in notes:
        examples = [f"{doc['id']}: {shown}" for doc in docs if (shown := found(doc))]
        if examples:
            yield Difference(key, "note", title, examples, f"{nothing} {what}")
    lists = [
        f"{doc['id']}: {column} = {value!r}"
        for doc, row in zip(docs, rows, strict=True)
        for column, value in _cells(row)
        if column in doc["attributes"] and isinstance(value, list)
    ]
    if lists:
        fix = f"{nothing} A list of one text is read as that text, another as none."
        yield Difference("list-for-text", "note", "a list stands where text does", lists, fix)
    yield from asked_twice(docs)


def _twice(doc: Doc) -> str:
    choices = real_choices(doc)
    if len(set(choices)) == len(choices):
        return ""
    return repr(choices) + (" (the answer)" if choices.count(doc["answer"] or "") > 1 else "")


def _padded(doc: Doc) -> str:
    return repr(doc["choices"]) if "" in doc["choices"] else ""


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the cells of a row, those within JSON text too."""
    for column, value in row.items():
        inner = None
        if isinstance(value, str) and value.startswith("{"):
            with contextlib.suppress(ValueError):
                inner = json.loads(value)
        yield from inner.items() if isinstance(inner, dict) else [(column, value)]


def format_notes(entries: Mapping[str, Entry]) -> Iterator[Difference]:
    """Yield the clips whose content is not what their name says, and those of more than two channels.

    Parameters
    ----------
    entries : mapping of str to dict
        What was measured of each clip.
    """
    otherwise = []
    for clip, entry in entries.items():
        promised = _FORMATS.get(PurePosixPath(clip).suffix.lower().removeprefix("."))
        found = entry.get("format")
        wrapped = str(entry.get("subtype", "")).startswith("MPEG")  # MP3 within a WAV header
        if promised and found and (found not in promised or (wrapped and "WAV" in promised)):
            otherwise.append(f"{clip}: {found} {entry.get('subtype', '')}".rstrip())
    if otherwise:
        yield Difference(
            "named-otherwise",
            "note",
            "clips are of another format than their name says",
            otherwise,
            "Nothing to repair in this copy: formats are told by the content.",
            "clips",
        )
    many = [
        f"{clip}: {e['channels']} channels"
        for clip, e in entries.items()
        if e.get("channels", 0) > 2
    ]
    if many:
        yield Difference(
            "many-channels",
            "note",
            "clips have more than two channels",
            many,
            "Nothing to repair in this copy: a run gives a model the mean of all channels.",
            "clips",
        )
