"""From the clips of a question to blocks of audio in their places, and the record of what is given.

What is done here is the same for models of transformers (`preparing`) and for engines and servers
that write their own placeholders (`engines`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmaupro_ext import heard
from mmaupro_ext.errors import ItemError
from mmaupro_ext.models import inputs, prompts
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.long_audio import Recording

MULTI_AUDIO = ("list", "concat")


def find_recordings(
    text: str,
    clips: Sequence[inputs.Clip],
    question: Question,
    family: Family,
    sampling_rate: int,
    multi_audio: str,
    *,
    tracks_apart: bool = True,
) -> tuple[str, list[inputs.Samples], list[Recording]]:
    """Return prompt, signals and recordings: one a clip, or one of all clips joined.

    Parameters
    ----------
    text : str
        The prompt, with a place for every clip.
    clips : sequence of Clip
        In prompt order.
    question : Question
        For messages.
    family : Family
        Says what a place looks like.
    sampling_rate : int
        Of the clips' samples, in Hz.
    multi_audio : {"list", "concat"}
        Whether several clips are given one by one, or joined into one recording.
    tracks_apart : bool
        Whether left and right are blocks of their own, or stay together in one.

    Raises
    ------
    ItemError
        When the prompt has more or fewer places than there are clips.
    """
    places = prompts.count_clips(text, family)
    if places != len(clips):
        raise wrong_places(places, len(clips), "clips", prompts.AUDIO_MARK, question)
    signals = [clip.samples for clip in clips]
    joined = 1
    if multi_audio == "concat" and len(clips) > 1:
        joined = len(clips)
        signals = [inputs.join(clips, sampling_rate)]
        text = prompts.keep_first_place(text, family)
    recordings = [
        Recording(
            signal.shape[-1],
            sampling_rate,
            len(np.atleast_2d(signal)) if tracks_apart else 1,
            joined=joined,
        )
        for signal in signals
    ]
    return text, signals, recordings


def cut_blocks(
    signals: Sequence[inputs.Samples], recordings: Sequence[Recording], family: Family
) -> list[inputs.Samples]:
    """Return the blocks of all recordings in prompt order.

    Parameters
    ----------
    signals : sequence of numpy.ndarray
        One a recording, of shape `(samples,)` or `(2, samples)`.
    recordings : sequence of Recording
        With their spans.
    family : Family
        Says how short a block may be.

    Returns
    -------
    list of numpy.ndarray
        float32, of shape `(samples,)`, all blocks of the left channel before those of the right
        one; `(2, samples)` where a signal of two channels is one track.
    """
    return [
        inputs.padded(track[..., start:end], family.min_samples)
        for signal, entry in zip(signals, recordings, strict=True)
        for track in (np.atleast_2d(signal) if entry.tracks == 2 else [signal])
        for start, end in entry.spans
    ]


def make_record(
    clips: Sequence[inputs.Clip],
    recordings: Sequence[Recording],
    *,
    sampling_rate: int,
    audio_tokens: int | None,
    **policy: str,
) -> heard.Record:
    """Return the record of what is given of each clip.

    Parameters
    ----------
    clips : sequence of Clip
        In prompt order.
    recordings : sequence of Recording
        With their spans: one a clip, or one of all clips joined.
    sampling_rate : int
        Of what is given, in Hz.
    audio_tokens : int or None
        Tokens that stand for audio; None where nobody tells.
    **policy : str
        What decided (`long_audio`, `multi_audio`, `channels`).
    """
    listed = [
        heard.ClipHeard(
            clip.name,
            clip.seconds_in_file,
            # The last fraction of a sample is not lost: resampling rounds up.
            min(samples / sampling_rate, clip.seconds_in_file)
            if whole
            else samples / sampling_rate,
            clip.channels_in_file,
            len(clip.tracks),
            clip.sampling_rate_in_file,
        )
        for clip, (samples, whole) in zip(
            clips, _heard_of_each(clips, recordings, sampling_rate), strict=True
        )
    ]
    return heard.record(
        listed,
        sampling_rate=sampling_rate,
        windows=sum(entry.blocks for entry in recordings),
        audio_tokens=audio_tokens,
        **policy,
    )


def _heard_of_each(
    clips: Sequence[inputs.Clip], recordings: Sequence[Recording], rate: int
) -> list[tuple[int, bool]]:
    """Return how many samples of each clip are given, and whether that is all."""
    if len(recordings) == len(clips):
        return [(entry.heard, entry.is_whole) for entry in recordings]
    (joined,) = recordings
    given = []
    start = 0
    for clip in clips:
        length = clip.samples.shape[-1]
        end = start + length
        samples = sum(max(0, min(end, b) - max(start, a)) for a, b in joined.spans)
        given.append((samples, samples == length))
        start = end + round(inputs.JOIN_SILENCE_S * rate)
    return given


def wrong_places(places: int, things: int, kind: str, mark: str, question: Question) -> ItemError:
    """Return the error of a prompt that has not one place per thing."""
    return ItemError(
        f"the prompt has places for {places} {kind}, the item has {things}",
        path=inputs.names_of(question.media),
        fix=f"Write {mark} once for each of the {kind} in doc_to_text.",
    )
