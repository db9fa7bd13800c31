"""The words around blocks of audio: their labels, and the sentence that says what belongs together."""

from __future__ import annotations

from collections.abc import Sequence

from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.models.windows import Recording

# Between clips that are joined into one: what the paper of MMAU-Pro did for models that take one clip.
JOIN_SILENCE_S = 2.0


def write(pieces: Sequence[str], recordings: Sequence[Recording], writing: Writing) -> str:
    """Write every recording of a prompt as its numbered audio blocks.

    Parameters
    ----------
    pieces : sequence of str
        The text of the prompt around its places: one more than there are recordings.
    recordings : sequence of Recording
        In prompt order, with their spans. Of a recording in two tracks all blocks of the left
        channel come first, then all of the right one.
    writing : Writing
        What a block and its label look like.

    Returns
    -------
    str
        The prompt with its blocks in order, numbered from 1. If blocks need explaining, one sentence
        after the last one says which belong together, which are the channels of a stereo clip, what
        was left out, and which clips were joined.
    """
    total = sum(entry.blocks for entry in recordings)
    label = writing.block_label if writing.label_alone or total > 1 else ""
    written = [pieces[0]]
    number = 1
    for place, (entry, text_after) in enumerate(zip(recordings, pieces[1:], strict=True), start=1):
        blocks = []
        for _ in range(entry.blocks):
            blocks.append(label.format(number=number) + writing.audio_block)
            number += 1
        written.append(writing.block_end.join(blocks))
        is_followed = place < len(recordings)
        written.append(text_after or (writing.block_end if is_followed else ""))
    if any(entry.blocks > 1 or entry.joined > 1 for entry in recordings):
        question = written.pop().removeprefix("\n")
        sentence = writing.block_sentence.format(sentence=block_sentence(recordings))
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
    return f", consecutive {round((end - start) / entry.sampling_rate, 1):g}-second parts"


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
