"""Which parts of a recording a model is given, in how many blocks, and the words that say so.

A clip that is longer than a model takes at once is given in as few consecutive windows as hold it, all
of the same length (`balanced_spans`): a last window of a few milliseconds would take another prompt and
a block of silence. Nothing here leaves audio out unless the policy says so by its name; a clip that does
not fit is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmaupro_ext.audio.windowing import Span
from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.util import positive, require_choice

# Tokens for the audio of one prompt where the context sets no bound.
NO_LIMIT = 1 << 30

# Between clips that are joined into one: what the paper of MMAU-Pro did for models that take one clip.
JOIN_SILENCE_S = 2.0

POLICIES = ("auto", "native", "windows", "uniform", "truncate")


@dataclass(frozen=True)
class Recording:
    """One recording of a prompt, and the parts of it that are given.

    Parameters
    ----------
    length : int
        In samples.
    sampling_rate : int
        In Hz.
    tracks : int
        2 where left and right are given apart, else 1.
    spans : tuple of (int, int)
        First sample and end of each block, in order.
    joined : int
        How many clips it was joined from.
    """

    length: int
    sampling_rate: int
    tracks: int = 1
    spans: tuple[Span, ...] = ()
    joined: int = 1

    @property
    def blocks(self) -> int:
        """How many blocks of audio it takes, over all tracks."""
        return len(self.spans) * self.tracks

    @property
    def heard(self) -> int:
        """Samples that are given, of one track."""
        return sum(end - start for start, end in self.spans)

    @property
    def is_whole(self) -> bool:
        """Whether the blocks follow each other from the first sample to the last."""
        edges = [0, *(edge for span in self.spans for edge in span), self.length]
        return all(edges[i] == edges[i + 1] for i in range(0, len(edges), 2))


@dataclass(frozen=True)
class LongAudio:
    """What is done with audio that a model does not take in one block.

    Parameters
    ----------
    policy : {"auto", "native", "windows", "uniform", "truncate"}
        "native": the model's own way, a longer clip is an error. "windows": as few consecutive
        windows of the same length as hold the clip, none longer than `window_s`. "auto": native
        where that hears the whole clip, else consecutive windows no longer than the model takes.
        "uniform": as "windows" if they fit into the budget, else as many windows of `window_s` as
        fit, spread evenly. "truncate": the first `window_s` seconds.
    window_s : float, optional
        Longest window in seconds; default: that of the family.
    max_audio_tokens : int, optional
        Budget of "uniform"; default: what the context leaves.
    """

    policy: str = "auto"
    window_s: float | None = None
    max_audio_tokens: int | None = None

    @classmethod
    def of(cls, policy: str, window_s: Any = None, max_audio_tokens: Any = None) -> LongAudio:
        """Return what a user's arguments say; raise ConfigError where they cannot be honoured."""
        require_choice("long_audio", policy, POLICIES)
        return cls(
            policy,
            positive("window_s", window_s, float),
            positive("max_audio_tokens", max_audio_tokens, int),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it in the words of the arguments."""
        return {
            "long_audio": self.policy,
            "window_s": self.window_s,
            "max_audio_tokens": self.max_audio_tokens,
        }

    def plan(
        self,
        recordings: Sequence[Recording],
        writing: Writing,
        budget: int,
        tokens_beside: int = 0,
    ) -> list[Recording]:
        """Return the recordings with the spans that are given of each.

        Parameters
        ----------
        recordings : sequence of Recording
            In prompt order, without spans.
        writing : Writing
            Of the model.
        budget : int
            Tokens that the context leaves for audio; only "uniform" looks at it.
        tokens_beside : int
            Text tokens that each block brings with it (its label).

        Returns
        -------
        list of Recording
            In the same order, each with at least one span.

        Raises
        ------
        ItemError
            When the policy is "native" and a recording is too long for it, or the budget of
            "uniform" does not hold one window of each.
        """
        if self.policy == "native":
            for entry in recordings:
                self._refuse_longer(entry, writing)
            return [replace(entry, spans=((0, entry.length),)) for entry in recordings]
        if self.policy == "auto":
            return [_in_windows(entry, _whole(entry, writing)) for entry in recordings]
        if self.policy == "truncate":
            return [
                replace(entry, spans=((0, min(entry.length, self._window(entry, writing))),))
                for entry in recordings
            ]
        cut = [_in_windows(entry, self._window(entry, writing)) for entry in recordings]
        if self.policy == "windows":
            return cut
        return self._uniform(cut, writing, budget, tokens_beside)

    def _window(self, entry: Recording, writing: Writing) -> int:
        return round((self.window_s or writing.window_s) * entry.sampling_rate)

    def _refuse_longer(self, entry: Recording, writing: Writing) -> None:
        whole = _whole(entry, writing)
        if whole is not None and entry.length > whole:
            raise ItemError(
                f"a clip of {entry.length / entry.sampling_rate:.1f} s is longer than the "
                f"{writing.whole_s:g} s that are given whole",
                fix="Choose long_audio=windows (nothing is lost), uniform or truncate in "
                "--model_args. Nothing was cut.",
            )

    def _uniform(
        self, cut: Sequence[Recording], writing: Writing, budget: int, tokens_beside: int
    ) -> list[Recording]:
        if self.max_audio_tokens is not None:
            budget = min(budget, self.max_audio_tokens)
        lengths = [end - start for entry in cut for start, end in entry.spans * entry.tracks]
        if sum(writing.count_tokens(lengths)) + tokens_beside * len(lengths) <= budget:
            return list(cut)
        window = self._window(cut[0], writing)
        price = sum(writing.count_tokens([window])) + tokens_beside
        shares = share_out(
            budget // price,
            [len(entry.spans) for entry in cut],
            [entry.tracks for entry in cut],
        )
        if shares is None:
            raise ItemError(
                f"{sum(entry.tracks for entry in cut)} windows of {window / cut[0].sampling_rate:g} "
                f"s take {price} tokens each, and only {max(budget, 0)} are left for audio",
                fix="Choose a smaller window_s, a larger max_audio_tokens or a longer context.",
            )
        return [
            entry
            if share == len(entry.spans)
            else replace(entry, spans=_spread(entry.length, window, share))
            for entry, share in zip(cut, shares, strict=True)
        ]


def share_out(
    windows: int, needed: Sequence[int], prices: Sequence[int] | None = None
) -> list[int] | None:
    """Share a number of windows between recordings in proportion to what each would need.

    Parameters
    ----------
    windows : int
        How many there are to share.
    needed : sequence of int
        How many windows hold the whole of each recording.
    prices : sequence of int, optional
        How many of the windows one window of a recording costs (2 where left and right are given
        apart).

    Returns
    -------
    list of int or None
        At least 1 and at most `needed` each; None when there are too few.
    """
    prices = prices or [1] * len(needed)
    left = windows - sum(prices)
    if left < 0:
        return None
    shares = [1] * len(needed)
    while True:
        # Next is who has the smallest part of what it needs; earlier recordings first.
        open_ones = [i for i, share in enumerate(shares) if share < needed[i] and prices[i] <= left]
        if not open_ones:
            return shares
        chosen = min(open_ones, key=lambda i: (shares[i] / needed[i], i))
        shares[chosen] += 1
        left -= prices[chosen]


def _whole(entry: Recording, writing: Writing) -> int | None:
    """Return the longest block in samples that the model takes its own way."""
    return None if writing.whole_s is None else round(writing.whole_s * entry.sampling_rate)


def _in_windows(entry: Recording, longest: int | None) -> Recording:
    return replace(entry, spans=balanced_spans(entry.length, longest))


def balanced_spans(samples: int, longest: int | None) -> tuple[Span, ...]:
    """Cut a signal into as few consecutive windows as `longest` allows, of equal length.

    So no window is a sliver: 30.02 s in windows of at most 30 s are two of 15.01 s, not one of 30 s
    and one of 20 ms, and 45 s are two of 22.5 s. What models are given of a long clip is cut so.

    Parameters
    ----------
    samples : int
        Length of the signal, at least 1.
    longest : int or None
        Samples that a window may have; None for any number.

    Returns
    -------
    tuple of (int, int)
        First sample and end of each window; together they are the whole signal, and their lengths
        differ by one sample at the most.

    Examples
    --------
    >>> balanced_spans(10, 4)
    ((0, 3), (3, 7), (7, 10))
    """
    count = 1 if longest is None else -(-samples // longest)
    edges = [(2 * i * samples + count) // (2 * count) for i in range(count + 1)]
    return tuple(zip(edges, edges[1:], strict=False))


def _spread(length: int, window: int, count: int) -> tuple[Span, ...]:
    """Return `count` windows from the beginning to the end, or one in the middle."""
    last = length - window
    if count == 1:
        return ((last // 2, last // 2 + window),)
    starts = [math.floor(last * i / (count - 1)) for i in range(count)]
    return tuple((start, start + window) for start in starts)


# ---- The words around blocks.


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
