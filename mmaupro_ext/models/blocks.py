"""From the clips of a question to numbered blocks of audio in their places in its prompt.

This is the same for models of transformers (`hf.preparing`) and for engines and servers that write
their own placeholders (`engines.engine`): clips are read, their places in the prompt counted, long ones
cut into windows, labelled blocks written into the text, and a record is made of what is given.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmaupro_ext.audio.altering import wording
from mmaupro_ext.audio.decoding import AudioReader, Decoded, Samples
from mmaupro_ext.errors import ItemError
from mmaupro_ext.heard import Record
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.media import names_of
from mmaupro_ext.models.windows import JOIN_SILENCE_S, NO_LIMIT, LongAudio, Recording, write

AUDIO_MARK = "<audio>"
IMAGE_MARK = "<image>"
MULTI_AUDIO = ("list", "concat")


@dataclass(frozen=True)
class Placed:
    """A prompt with its blocks of audio.

    Parameters
    ----------
    text : str
        The prompt with a placeholder and its label for each block.
    blocks : list of numpy.ndarray
        float32, of shape `(samples,)`, in prompt order; `(2, samples)` where a signal of two channels
        is one block.
    clips : list of Decoded
        As decoded, in prompt order.
    recordings : list of Recording
        With their spans: one a clip, or one of all clips joined.
    heard : dict or None
        The record of what is given of each clip, without the number of audio tokens; None where there
        are no clips.
    """

    text: str
    blocks: list[Samples]
    clips: list[Decoded]
    recordings: list[Recording]
    heard: Record | None


class Placer:
    """Puts the clips of questions into their prompts.

    Parameters
    ----------
    reader : AudioReader
        Decodes clips.
    writing : Writing
        How the model has clips in a prompt.
    long_audio : LongAudio
        What is done with audio that does not fit into one block.
    multi_audio : {"list", "concat"}
        Whether several clips are given one by one, or joined into one recording.
    channels : str
        What the record calls the way in which channels are heard.
    tracks_apart : bool
        Whether left and right are blocks of their own, or stay together in one.
    """

    def __init__(
        self,
        reader: AudioReader,
        writing: Writing,
        long_audio: LongAudio,
        multi_audio: str,
        channels: str,
        *,
        tracks_apart: bool = True,
    ) -> None:
        self.reader = reader
        self.writing = writing
        self.long_audio = long_audio
        self.multi_audio = multi_audio
        self.tracks_apart = tracks_apart
        self.policy = {
            "long_audio": long_audio.policy,
            "multi_audio": multi_audio,
            "channels": channels,
        }

    def place(
        self,
        question: Question,
        text: str,
        *,
        writing: Writing | None = None,
        max_tokens: int = NO_LIMIT,
        tokens_of: Callable[[str], int] | None = None,
    ) -> Placed:
        """Read the clips of a question and put them into its prompt.

        Parameters
        ----------
        question : Question
            With its references.
        text : str
            Its prompt: one `<audio>` mark, or one block as the chat template writes it, per clip.
        writing : Writing, optional
            In place of the usual one.
        max_tokens : int
            How many tokens the prompt may have; looked at where audio is to fill the context.
        tokens_of : callable, optional
            Text -> its number of tokens; where it is given, audio may fill the context.

        Returns
        -------
        Placed
            Prompt and blocks.

        Raises
        ------
        ItemError, OSError
            When a clip cannot be read, the prompt has other places than clips, or the blocks do not
            fit.
        """
        writing = writing or self.writing
        clips = [self.reader.read(entry) for entry in question.media.get("audio", [])]
        pieces = split_at_places(text, writing)
        if len(pieces) - 1 != len(clips):
            raise wrong_places(len(pieces) - 1, len(clips), "clips", AUDIO_MARK, question)
        signals, joined = [clip.samples for clip in clips], 1
        if self.multi_audio == "concat" and len(clips) > 1:
            signals, joined = [join(clips, self.reader.sampling_rate)], len(clips)
            pieces = keep_first_place(pieces)
            text = AUDIO_MARK.join(pieces)
        recordings = [self._recording(signal, joined) for signal in signals]
        budget, beside = NO_LIMIT, 0
        if self.long_audio.policy == "uniform" and tokens_of is not None:
            budget = max_tokens - tokens_of(text)
            beside = _tokens_beside(writing, tokens_of)
        recordings = self.long_audio.plan(recordings, writing, budget, beside)
        if recordings:
            text = write(pieces, recordings, writing)
        blocks = cut(signals, recordings, writing)
        _check(text, len(blocks), question, writing)
        rate = self.reader.sampling_rate
        record = record_of(clips, recordings, rate, self.policy) if clips else None
        return Placed(text, blocks, clips, recordings, record)

    def planned_blocks(self, question: Question) -> list[int]:
        """Return the samples of each block by what headers state: nothing is decoded.

        Clips whose header cannot be read count as one sample; the item itself will say what is wrong.
        """
        rate = self.reader.sampling_rate
        stated = [self.reader.stated(entry) for entry in question.media.get("audio", [])]
        if self.multi_audio == "concat" and len(stated) > 1:
            silence = JOIN_SILENCE_S * (len(stated) - 1)
            joined = sum(seconds for seconds, _ in stated) + silence
            stated = [(joined, max(channels for _, channels in stated))]
        recordings = [
            Recording(max(1, round(seconds * rate)), rate, channels if self.tracks_apart else 1)
            for seconds, channels in stated
        ]
        with contextlib.suppress(ItemError):
            recordings = self.long_audio.plan(recordings, self.writing, NO_LIMIT)
        return [end - start for entry in recordings for start, end in entry.spans * entry.tracks]

    def _recording(self, signal: Samples, joined: int) -> Recording:
        tracks = len(np.atleast_2d(signal)) if self.tracks_apart else 1
        return Recording(signal.shape[-1], self.reader.sampling_rate, tracks, joined=joined)


def split_at_places(text: str, writing: Writing) -> list[str]:
    """Return the text around the places of clips.

    A place is a bare mark or the block that the chat template writes, with or without its label.
    """
    label = re.escape(writing.block_label).replace(re.escape("{number}"), r"\d+")
    mark = f"(?:{re.escape(AUDIO_MARK)}|{re.escape(writing.audio_block)})"
    return re.split(f"(?:{label})?{mark}" if label else mark, text)


def keep_first_place(pieces: Sequence[str]) -> list[str]:
    """Return the text around the first place only: for clips joined into one."""
    between = "".join(piece for piece in pieces[1:-1] if piece.strip())
    return [pieces[0], between + pieces[-1]]


def join(clips: Sequence[Decoded], sampling_rate: int) -> Samples:
    """Return clips one after the other, with silence between them.

    Parameters
    ----------
    clips : sequence of Decoded
        At least one.
    sampling_rate : int
        Of their samples, in Hz.

    Returns
    -------
    numpy.ndarray
        float32, shape `(samples,)`; `(2, samples)` if some clip is heard in two channels, where a
        mono clip is the same in both.
    """
    tracks = max(len(clip.tracks) for clip in clips)
    silence = np.zeros((tracks, round(JOIN_SILENCE_S * sampling_rate)), np.float32)
    pieces: list[Samples] = []
    for clip in clips:
        pieces += [np.broadcast_to(clip.samples, (tracks, clip.samples.shape[-1])), silence]
    joined = np.concatenate(pieces[:-1], axis=1)
    return joined if tracks == 2 else joined[0]


def cut(
    signals: Sequence[Samples], recordings: Sequence[Recording], writing: Writing
) -> list[Samples]:
    """Return the blocks of all recordings in prompt order.

    A block that is too short for one audio token is followed by silence. Of a signal in two tracks all
    blocks of the left channel come before those of the right one.
    """
    return [
        _padded(track[..., start:end], writing.min_samples)
        for signal, entry in zip(signals, recordings, strict=True)
        for track in (np.atleast_2d(signal) if entry.tracks == 2 else [signal])
        for start, end in entry.spans
    ]


def _padded(block: Samples, least: int) -> Samples:
    sides = [(0, 0)] * (block.ndim - 1) + [(0, max(0, least - block.shape[-1]))]
    return np.pad(block, sides).astype(np.float32, copy=False)


def record_of(
    clips: Sequence[Decoded],
    recordings: Sequence[Recording],
    sampling_rate: int,
    policy: Mapping[str, str],
) -> Record:
    """Return the record of what is given of clips, as plain JSON.

    Parameters
    ----------
    clips : sequence of Decoded
        In prompt order.
    recordings : sequence of Recording
        With their spans: one a clip, or one of all clips joined.
    sampling_rate : int
        At which the model hears, in Hz.
    policy : mapping
        What decided (`long_audio`, `multi_audio`, `channels`).

    Returns
    -------
    dict
        Of which `audio_tokens`, the tokens of the prompt that stand for audio, is None: who counts them
        puts them in, and behind a server nobody does.
    """
    heard = [
        # The last fraction of a sample is not lost: resampling rounds up.
        min(samples / sampling_rate, clip.info.seconds) if whole else samples / sampling_rate
        for clip, (samples, whole) in zip(
            clips, _given(clips, recordings, sampling_rate), strict=True
        )
    ]
    return {
        "seconds_in_files": round(sum(clip.info.seconds for clip in clips), 3),
        "seconds_heard": round(sum(heard), 3),
        "windows": sum(entry.blocks for entry in recordings),
        "audio_tokens": None,
        "sampling_rate": sampling_rate,
        **policy,
        "clips": [
            {
                "file": clip.info.path,
                "seconds_in_file": round(clip.info.seconds, 3),
                "seconds_heard": round(seconds, 3),
                "channels_in_file": clip.info.channels,
                "channels_heard": len(clip.tracks),
                "sampling_rate_in_file": clip.info.sampling_rate,
                **({} if clip.condition is None else {"condition": wording(clip.condition)}),
            }
            for clip, seconds in zip(clips, heard, strict=True)
        ],
    }


def _given(
    clips: Sequence[Decoded], recordings: Sequence[Recording], sampling_rate: int
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
        start = end + round(JOIN_SILENCE_S * sampling_rate)
    return given


def _tokens_beside(writing: Writing, tokens_of: Callable[[str], int]) -> int:
    """Return how many text tokens an audio block brings with it, its times included."""
    label = writing.block_label.format(number=10) + writing.block_end
    return tokens_of(label + " Audio 10 from 10:00 to 10:30,") + 2


def _check(text: str, blocks: int, question: Question, writing: Writing) -> None:
    most = writing.max_blocks
    if most is not None and blocks > most:
        raise ItemError(
            f"the item has {blocks} blocks of audio, and the processor takes {most} in a prompt",
            path=names_of(question.media),
            fix="Set multi_audio=concat to join clips; long_audio=truncate hears the first part "
            "of what is too long. Nothing was cut.",
        )
    if text.count(writing.audio_token) != blocks:
        raise ItemError(
            f"the text of the prompt contains the model's own token {writing.audio_token}",
            path=names_of(question.media),
            fix="Take it out of the question.",
        )


def wrong_places(places: int, things: int, kind: str, mark: str, question: Question) -> ItemError:
    """Return the error of a prompt that has not one place per thing."""
    return ItemError(
        f"the prompt has places for {places} {kind}, the item has {things}",
        path=names_of(question.media),
        fix=f"Write {mark} once for each of the {kind} in doc_to_text.",
    )
