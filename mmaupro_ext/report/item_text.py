"""One item as text, as a person would look at it."""

from __future__ import annotations

import textwrap
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data import text
from mmaupro_ext.data.items import real_choices
from mmaupro_ext.data.schema import CHOICE_LETTERS, Doc, length_type_of
from mmaupro_ext.report.item import Item


def render(item: Item) -> str:
    """Return an item as text for a terminal: several lines without a final newline.

    Parameters
    ----------
    item : Item
        What `item.show` returned.
    """
    doc, clips = item.doc, item.clips
    kind = benchmarks.of(doc).by_value[doc["category"]].kind
    parts = [
        f"{doc['id']}\n{doc['category']} ({kind})",
        f"Question\n{text.paragraph(doc['question'], indent='  ')}",
    ]
    if "problem" in doc:
        parts.append(f"This row counts as errored in every run\n  {doc['problem']}")
    if doc["choices"]:
        parts.append("Choices\n" + "\n".join(_choice_lines(doc)))
    unknown = kind == "closed" and doc["answer"] is None  # a row that cannot be asked
    if not unknown and (kind != "closed" or doc["answer"] not in doc["choices"]):
        parts.append(f"Answer\n{text.paragraph(_answer(doc, kind), indent='  ')}")
    parts.append("Metadata\n" + _metadata(doc, clips))
    if clips:
        parts.append("Clips\n" + _clip_table(clips))
        parts.append(f"What {item.hearing.name} hears\n" + _hearing_lines(item))
    return text.visible("\n\n".join(parts))


def _choice_lines(doc: Doc) -> list[str]:
    """Return the choices with letters; the answer has a star."""
    lines, real = [], real_choices(doc)
    for letter, choice in zip(CHOICE_LETTERS, doc["choices"], strict=False):
        if not choice and real != doc["choices"]:
            continue  # it holds the place of a letter that no choice has
        mark = "*" if choice == doc["answer"] else " "
        body = textwrap.fill(choice, 90, subsequent_indent=" " * 8)
        lines.append(f"  {mark} ({letter}) {body}")
    lines += [f"        {choice}" for choice in doc["choices"][len(CHOICE_LETTERS) :]]
    return lines


def _answer(doc: Doc, kind: str) -> str:
    if kind == "hidden":
        return "withheld by the authors"
    if doc["answer"] is None:
        return "none: a reply is checked by the rule below"
    if kind == "closed":
        return (
            f"{doc['answer']}   (NOT among the choices: exact matching can never score this item "
            "as right)"
        )
    return str(doc["answer"])


def _metadata(doc: Doc, clips: list[dict[str, Any]]) -> str:
    measured = [clip["seconds"] for clip in clips if "seconds" in clip]
    rows: list[tuple[str, Any]] = [*doc.get("attributes", {}).items()]
    if "length_type" not in doc:
        return _aligned(rows)
    length = str(doc["length_type"])
    if measured and len(measured) == len(clips):
        length += f" (longest clip measured: {length_type_of(max(measured))})"
    rows = [
        ("sub-cat", doc["sub-cat"]),
        ("length_type", length),
        ("perceptual skills", "; ".join(doc["perceptual_skills"])),
        ("reasoning skills", "; ".join(doc["reasoning_skills"])),
        ("transcription", doc["transcription"]),
        ("rule group", doc["task_classification"]),
        ("rule", doc["task_identifier"]),
        ("rule arguments", ", ".join(f"{k} = {v!r}" for k, v in doc["kwargs"].items())),
    ]
    return _aligned(rows)


def _aligned(rows: list[tuple[str, Any]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(
        textwrap.fill(f"  {name.ljust(width)}  {value}", 100, subsequent_indent=" " * (width + 4))
        for name, value in rows
        if value
    )


def _clip_table(clips: list[dict[str, Any]]) -> str:
    rows: list[list[object]] = []
    for number, clip in enumerate(clips, 1):
        if "problem" in clip:
            rows.append([number, clip["path"], None, None, None, "cannot be used"])
            continue
        shown = f"{clip['format']} {clip['subtype']}"
        rate, channels = clip["sampling_rate"], clip["channels"]
        rows.append([number, clip["path"], f"{clip['seconds']:.2f}", rate, channels, shown])
    body = text.table(("#", "file", "seconds", "rate (Hz)", "channels", "format"), rows, left=2)
    problems = [f"clip {n}: {c['problem']}" for n, c in enumerate(clips, 1) if "problem" in c]
    return "\n".join([body, *problems])


def _hearing_lines(item: Item) -> str:
    hearing = item.hearing
    window = "whole clips"
    if hearing.window_s is not None:
        window = f"up to {hearing.window_s:g} s at once"
    lines = [f"  {hearing.writing.sampling_rate:,} Hz, one channel (the mean of all), {window}"]
    for number, clip in enumerate(item.clips, 1):
        if "problem" in clip:
            lines.append(f"  clip {number}: nothing; the item is counted as errored")
            continue
        lines.append(f"  clip {number}: {_heard_in_words(clip)}")
        whole = hearing.writing.whole_s
        if whole is not None and clip["seconds"] > whole:
            beyond = clip["seconds"] - whole
            lines.append(
                f"          its own processor takes {whole:g} s: without windows {beyond:.2f} s "
                f"({100 * beyond / clip['seconds']:.0f}%) would be lost"
            )
    return "\n".join(textwrap.fill(line, 100, subsequent_indent=" " * 10) for line in lines)


def _heard_in_words(clip: dict[str, Any]) -> str:
    count = len(clip["windows"])
    words = f"all {clip['seconds']:.2f} s"
    if count > 1:
        start, end = clip["windows"][0]
        words += f" in {count} windows of {end - start:.2f} s"
    if clip["channels"] > clip["heard_channels"]:
        words += f"; its {clip['channels']} channels become one: what differs between them is lost"
    return words
