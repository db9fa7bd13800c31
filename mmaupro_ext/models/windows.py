"""Which parts of a recording a model is given, and in how many blocks.

A clip that is longer than a model takes at once is given in as few consecutive windows as hold it, all
of the same length (`audio.windowing.balanced_spans`): a last window of a few milliseconds would take
another prompt and a block of silence. Nothing here leaves audio out unless the policy says so by its
name; a clip that does not fit is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmaupro_ext.audio.windowing import Span, balanced_spans
from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.util import positive, require_choice

# Tokens for the audio of one prompt where the context sets no bound.
NO_LIMIT = 1 << 30

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
        price = writing.count_tokens([window])[0] + tokens_beside
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


def _spread(length: int, window: int, count: int) -> tuple[Span, ...]:
    """Return `count` windows from the beginning to the end, or one in the middle."""
    last = length - window
    if count == 1:
        return ((last // 2, last // 2 + window),)
    starts = [math.floor(last * i / (count - 1)) for i in range(count)]
    return tuple((start, start + window) for start in starts)
