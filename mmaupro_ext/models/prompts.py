"""From a prompt with one mark per clip to a prompt with one numbered block per audio window."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mmaupro_ext.models.families import Family
from mmaupro_ext.models.inputs import JOIN_SILENCE_S
from mmaupro_ext.models.long_audio import Recording

AUDIO_MARK = "<audio>"
IMAGE_MARK = "<image>"

_PART_TYPES = {AUDIO_MARK: "audio", IMAGE_MARK: "image"}
_ANY_MARK = re.compile(f"({re.escape(AUDIO_MARK)}|{re.escape(IMAGE_MARK)})")


def has_marks(text: str) -> bool:
    """Tell whether a text holds `<audio>` or `<image>` marks."""
    return _ANY_MARK.search(text) is not None


def content_parts(text: str, audio_end: str = "") -> list[dict[str, Any]]:
    r"""Split a text at its marks into the typed parts that chat templates take.

    Parameters
    ----------
    text : str
        For example `"<audio>\nWhich animal?"`.
    audio_end : str, optional
        What the chat template writes after an audio part by itself; where the text repeats it
        after a mark, it is dropped.

    Returns
    -------
    list of dict
        For example `[{"type": "audio"}, {"type": "text", "text": "\nWhich animal?"}]`.
    """
    parts: list[dict[str, Any]] = []
    for piece in _ANY_MARK.split(text):
        if piece in _PART_TYPES:
            parts.append({"type": _PART_TYPES[piece]})
            continue
        if parts and parts[-1]["type"] == "audio":
            piece = piece.removeprefix(audio_end)
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def chat_content(text: str, family: Family | None) -> str | list[dict[str, Any]]:
    """Return a message as the chat template of a family takes it.

    Parameters
    ----------
    text : str
        With `<audio>` and `<image>` marks.
    family : Family or None
        None for models without audio, whose templates take parts.

    Returns
    -------
    str or list of dict
        A text with the family's audio blocks, where its template takes text; else typed parts.
    """
    if family is not None and family.template_content == "text":
        return text.replace(AUDIO_MARK, family.audio_block)
    return content_parts(text, family.template_block_end if family is not None else "")


def _mark_pattern(family: Family) -> re.Pattern[str]:
    """Match one clip's place: a bare mark or the template's block, with or without its label."""
    label = re.escape(family.block_label).replace(re.escape("{number}"), r"\d+")
    mark = f"(?:{re.escape(AUDIO_MARK)}|{re.escape(family.audio_block)})"
    return re.compile(f"(?:{label})?{mark}" if label else mark)


def count_clips(prompt: str, family: Family) -> int:
    """Return how many clips a prompt has places for."""
    return len(_mark_pattern(family).findall(prompt))


def keep_first_place(prompt: str, family: Family) -> str:
    """Return the prompt with the place of its first clip only: for clips joined into one."""
    before, *after = _mark_pattern(family).split(prompt)
    between = "".join(text for text in after[:-1] if text.strip())
    return before + AUDIO_MARK + between + after[-1]


def place_audio_blocks(prompt: str, recordings: Sequence[Recording], family: Family) -> str:
    """Write every recording of a prompt as its numbered audio blocks.

    Parameters
    ----------
    prompt : str
        With one `<audio>` mark, or one block as the model's chat template writes it, per recording.
    recordings : sequence of Recording
        In prompt order, with their spans. Of a recording in two tracks all blocks of the left
        channel come first, then all of the right one.
    family : Family
        Says what a block and its label look like.

    Returns
    -------
    str
        The prompt with its blocks in order, numbered from 1. If blocks need explaining, one sentence
        after the last one says which belong together, which are the channels of a stereo clip, what
        was left out, and which clips were joined.

    Raises
    ------
    ValueError
        When the prompt does not have exactly one place per recording.
    """
    pieces = _mark_pattern(family).split(prompt)
    if len(pieces) - 1 != len(recordings):
        raise ValueError(
            f"the prompt has places for {len(pieces) - 1} clips, the item has {len(recordings)}"
        )
    total = sum(entry.blocks for entry in recordings)
    label = family.block_label if family.label_alone or total > 1 else ""
    written = [pieces[0]]
    number = 1
    for place, (entry, text_after) in enumerate(zip(recordings, pieces[1:], strict=True), start=1):
        blocks = []
        for _ in range(entry.blocks):
            blocks.append(label.format(number=number) + family.audio_block)
            number += 1
        written.append(family.block_end.join(blocks))
        is_followed = place < len(recordings)
        written.append(text_after or (family.block_end if is_followed else ""))
    if any(entry.blocks > 1 or entry.joined > 1 for entry in recordings):
        question = written.pop().removeprefix("\n")
        sentence = family.block_sentence.format(sentence=block_sentence(recordings))
        written.append(sentence + question)
    return "".join(written)


def block_sentence(recordings: Sequence[Recording]) -> str:
    """Say which audio blocks make up which recording.

    Parameters
    ----------
    recordings : sequence of Recording
        With their spans.

    Returns
    -------
    str
        For example "Recording 1 is Audio 1 to Audio 3, consecutive 30-second parts; recording 2
        is stereo, left channel Audio 4 and right channel Audio 5."
    """
    clauses = []
    first = 1
    for place, entry in enumerate(recordings, start=1):
        name = "the recording" if len(recordings) == 1 else f"recording {place}"
        numbers = []
        for _ in range(entry.tracks):
            numbers.append(range(first, first + len(entry.spans)))
            first += len(entry.spans)
        if entry.joined > 1:
            clauses.append(
                f"{entry.joined} recordings are joined in their order, with {JOIN_SILENCE_S:g} seconds "
                f"of silence between them"
            )
            if entry.blocks == 1:
                continue
            name = "the whole"
        clauses.append(f"{name} is {_tracks(numbers, entry)}")
    sentence = "; ".join(clauses) + "."
    return sentence[0].upper() + sentence[1:]


def _tracks(numbers: Sequence[range], entry: Recording) -> str:
    if entry.is_whole:
        parts = _parts(entry)
        if len(numbers) == 1:
            return f"{_blocks(numbers[0])}{parts}"
        left, right = map(_blocks, numbers)
        return f"stereo, left channel {left} and right channel {right}{parts}"
    length = clock(entry.length / entry.sampling_rate)
    if len(numbers) == 1:
        return f"{length} long and given in part, {_times(numbers[0], entry)}"
    left, right = (_times(blocks, entry) for blocks in numbers)
    return f"stereo, {length} long and given in part, left channel {left} and right channel {right}"


def _blocks(numbers: range) -> str:
    first = f"Audio {numbers[0]}"
    return first if len(numbers) == 1 else f"{first} to Audio {numbers[-1]}"


def _parts(entry: Recording) -> str:
    if len(entry.spans) == 1:
        return ""
    start, end = entry.spans[0]
    return f", consecutive {(end - start) / entry.sampling_rate:g}-second parts"


def _times(numbers: range, entry: Recording) -> str:
    """Say when each block begins and ends."""
    return ", ".join(
        f"Audio {number} from {clock(start / entry.sampling_rate)} to {clock(end / entry.sampling_rate)}"
        for number, (start, end) in zip(numbers, entry.spans, strict=True)
    )


def clock(seconds: float) -> str:
    """Return minutes and whole seconds, for example "4:05"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
