"""What models behind an engine share: a server, or vLLM in this process.

An engine applies its chat template, writes its placeholders and computes its features by itself. What
is done here is everything before that: clips decoded, cut and put into their places, images read,
items that cannot be served turned into error replies, and a record of what is given.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from mmaupro_ext import heard
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.models import chats, failures, inputs, placing, prompts
from mmaupro_ext.models.arguments import positive, require_choice
from mmaupro_ext.models.chats import Chat, Message, Sound
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.families.family import each
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.long_audio import NO_LIMIT, POLICIES, LongAudio, Recording
from mmaupro_ext.models.placing import MULTI_AUDIO

STEREO = "stereo"
CHANNELS = ("mono", STEREO, inputs.STEREO_AS_TWO)

# What every audio model takes whole, and the shortest block that all of them take, in seconds.
USUAL_WINDOW_S = 30.0
SHORTEST_S = 0.1


@dataclass(frozen=True)
class PreparedChat:
    """One item, ready for an engine.

    Parameters
    ----------
    chat : Chat
        As lm_eval made it.
    messages : list of Message
        With their parts in order.
    heard : dict or None
        The record of what is given of its clips; None without audio.
    """

    chat: Chat
    messages: list[Message]
    heard: heard.Record | None

    @property
    def sounds(self) -> list[Sound]:
        """The blocks of audio in order."""
        return [part for m in self.messages for part in m.parts if isinstance(part, Sound)]


class EngineLM(LM):
    """A model that is given chats with sounds and images in their places.

    Parameters
    ----------
    name : str
        How messages call the engine.
    long_audio : {"auto", "native", "windows", "uniform", "truncate"}
        What is done with long clips. "auto": clips of up to `whole_s` whole, longer ones as
        consecutive, numbered windows, so that nothing is cut whatever the model's window is.
        "native": clips as they are. "windows": consecutive windows of `window_s`. "uniform": as
        many evenly spread windows as `max_audio_tokens` holds. "truncate": the first window alone.
        Only the last two leave audio out, and the results say so.
    whole_s : float, optional
        The longest clip that is given whole by "auto" (default: 30 s) and "native" (default: any).
    window_s : float, optional
        Length of a window in seconds; default: 30.
    max_audio_tokens : int, optional
        Budget of "uniform" for the audio of a prompt. The engine's context is not known here.
    audio_tokens_per_s : float
        What a second of audio costs of this budget; 25 for the Qwen models.
    multi_audio : {"list", "concat"}
        Several clips one by one, numbered; or joined into one, with 2 s of silence between them and
        a sentence that says so.
    channels : {"mono", "stereo", "stereo-as-two"}
        Files with two channels: mixed; sent with both channels; or as two labelled recordings, left
        and right. Files with other numbers of channels are mixed.
    sampling_rate : int
        Of what is given, in Hz.
    block_label : str
        Written before each block where there are several, with `{number}` from 1; "" for none.
    audio_cache_mb : float
        Bound on decoded audio kept in memory for requests that share a clip, in MiB.
    frontend_cache : str, optional
        Folder in which decoded audio outlives the run.

    Raises
    ------
    ConfigError
        When an argument cannot be honoured, or in one of several processes.
    """

    MULTIMODAL = True

    def __init__(
        self,
        name: str,
        *,
        long_audio: str = "auto",
        whole_s: float | None = None,
        window_s: float | None = None,
        max_audio_tokens: int | None = None,
        audio_tokens_per_s: float = 25.0,
        multi_audio: str = "list",
        channels: str = "mono",
        sampling_rate: int = 16000,
        block_label: str = "Audio {number}: ",
        audio_cache_mb: float = 512,
        frontend_cache: str | None = None,
    ) -> None:
        super().__init__()
        require_choice("long_audio", long_audio, POLICIES)
        require_choice("multi_audio", multi_audio, MULTI_AUDIO)
        require_choice("channels", channels, CHANNELS)
        if long_audio == "uniform" and max_audio_tokens is None:
            raise ConfigError(
                "long_audio=uniform needs max_audio_tokens here: how much of its context "
                f"{name} has for audio is not known. Add max_audio_tokens=N to --model_args."
            )
        if block_label and "{number}" not in block_label:
            raise ConfigError(f"block_label={block_label!r} has no place for the {{number}}.")
        whole = positive("whole_s", whole_s, float)
        if whole is None and long_audio != "native":
            whole = USUAL_WINDOW_S
        rate = positive("sampling_rate", sampling_rate, int) or 0
        per_second = positive("audio_tokens_per_s", audio_tokens_per_s, float) or 0.0
        self.name = name
        self.long_audio = LongAudio(
            long_audio,
            positive("window_s", window_s, float),
            positive("max_audio_tokens", max_audio_tokens, int),
        )
        self.multi_audio = multi_audio
        self.channels = channels
        self.heard = heard.Totals()
        # All that placing and cutting must know of an engine; it writes the placeholders itself.
        self.description = Family(
            model_types=(name,),
            loader="",
            audio_block=prompts.AUDIO_MARK,
            audio_token=prompts.AUDIO_MARK,
            count_tokens=each(lambda samples: math.ceil(samples / rate * per_second)),
            exact_count=False,
            whole_s=whole,
            window_s=USUAL_WINDOW_S,
            block_label=block_label,
            min_samples=math.ceil(SHORTEST_S * rate),
        )
        self.reader = inputs.AudioReader(
            rate,
            resampler="native",
            cache_bytes=int(float(audio_cache_mb) * 2**20),
            channels="mono" if channels == "mono" else inputs.STEREO_AS_TWO,
            cache=frontend_cache,
        )

    # ---- what lm_eval asks --------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by."""
        return self.name

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the chat itself: the engine applies its template.

        Parameters
        ----------
        chat_history : list of dict
            Messages with `role` and `content` (str), the system message among them.
        add_generation_prompt : bool
            Whether the answer is to start, or the last message to go on.
        """
        return chats.write(chat_history, add_generation_prompt)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take lm_eval's response cache, and forget the failures in it so that they are retried."""
        super().set_cache_hook(cache_hook)
        failures.forget_failures(cache_hook)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Refuse: nothing here scores whole texts."""
        raise ConfigError(
            f"{tasks_of(requests)}: {self.name} gives no rolling log-likelihood. Use "
            "--model hf-audio, or tasks that generate."
        )

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: how audio is given, and what was given."""
        return {
            "sampling_rate": self.reader.sampling_rate,
            "resamplers_used": sorted(self.reader.resamplers_used),
            "channels": self.channels,
            "long_audio": {
                **dataclasses.asdict(self.long_audio),
                "whole_s": self.description.whole_s,
            },
            "multi_audio": self.multi_audio,
            "heard": self.heard.as_dict(),
        }

    # ---- items --------------------------------------------------------------------------------

    def describe(self, chat: Chat) -> Family:
        """Return how blocks are written in a chat: whole clips, windows, labels."""
        return self.description

    def question_of(self, request: Instance, position: int) -> Question:
        """Return the question of a request at a position of its call."""
        return Question(
            request.args[0],
            inputs.media_of(request.args),
            members=[position],
            item=failures.item_name(request),
        )

    def prepare(self, question: Question, *, untouched: bool = False) -> PreparedChat:
        """Read the media of one item and put them into their places.

        Parameters
        ----------
        question : Question
            The prompt, a chat or plain text, and its references.
        untouched : bool
            Whether files that are given whole are given as they are.

        Returns
        -------
        PreparedChat
            Blocks are numbered over the whole chat, in the words of `prompts.place_audio_blocks`.

        Raises
        ------
        ItemError, OSError
            When this item cannot be served.
        """
        chat = chats.read(question.context)
        text = chats.SEPARATOR.join(chat.texts)
        references = question.media.get("audio", [])
        clips = [self.reader.read(reference) for reference in references]
        things: dict[str, list[Any]] = {}
        record = None
        if clips:
            text, sounds, recordings = self._place(text, clips, question, self.describe(chat))
            if untouched:
                sounds = [
                    dataclasses.replace(sound, file=file)
                    for sound, file in zip(
                        sounds, _whole_files(references, recordings), strict=True
                    )
                ]
            things["audio"] = sounds
            record = self._record(clips, recordings, sounds)
        if images := question.media.get("visual"):
            places = text.count(prompts.IMAGE_MARK)
            if places != len(images):
                raise placing.wrong_places(
                    places, len(images), "images", prompts.IMAGE_MARK, question
                )
            things["visual"] = [inputs.read_image(reference) for reference in images]
        return PreparedChat(chat, _messages(chat, text, things), record)

    def longest_block_s(self, question: Question) -> float:
        """Return the length of the longest sound that is given for an item, in seconds.

        By the stated lengths of its files: nothing is decoded.
        """
        lengths = [inputs.stated_seconds(entry) for entry in question.media.get("audio", [])]
        if self.multi_audio == "concat" and len(lengths) > 1:
            lengths = [sum(lengths) + inputs.JOIN_SILENCE_S * (len(lengths) - 1)]
        rate = self.reader.sampling_rate
        recordings = [Recording(max(1, round(seconds * rate)), rate) for seconds in lengths]
        with contextlib.suppress(ItemError):  # the item itself will say what is wrong
            recordings = self.long_audio.plan(recordings, self.description, NO_LIMIT)
        spans = [span for entry in recordings for span in entry.spans]
        return max((end - start for start, end in spans), default=0) / rate

    def _place(
        self, text: str, clips: Sequence[inputs.Clip], question: Question, family: Family
    ) -> tuple[str, list[Sound], list[Recording]]:
        rate = self.reader.sampling_rate
        text, signals, recordings = placing.find_recordings(
            text,
            clips,
            question,
            family,
            rate,
            self.multi_audio,
            tracks_apart=self.channels == inputs.STEREO_AS_TWO,
        )
        recordings = self.long_audio.plan(recordings, family, NO_LIMIT)
        text = prompts.place_audio_blocks(text, recordings, family)
        blocks = placing.cut_blocks(signals, recordings, family)
        return text, [Sound(block, rate) for block in blocks], recordings

    def _record(
        self,
        clips: Sequence[inputs.Clip],
        recordings: Sequence[Recording],
        sounds: Sequence[Sound],
    ) -> heard.Record:
        record = placing.make_record(
            clips,
            recordings,
            sampling_rate=self.reader.sampling_rate,
            audio_tokens=None,
            long_audio=self.long_audio.policy,
            multi_audio=self.multi_audio,
            channels=self.channels,
        )
        files = {sound.file for sound in sounds if sound.file is not None}
        for clip in record["clips"]:
            if clip["file"] in files:
                clip["channels_heard"] = clip["channels_in_file"]
                clip["untouched"] = True
        return record


def _whole_files(references: Sequence[Any], recordings: Sequence[Recording]) -> list[str | None]:
    """Return for each block the file of which it is the whole, None where it is cut or made."""
    files: list[str | None] = []
    joined = len(recordings) != len(references)
    for place, entry in enumerate(recordings):
        whole = not joined and entry.blocks == 1 and entry.is_whole
        reference = references[place] if whole else None
        in_memory = isinstance(reference, dict) and reference.get("array") is not None
        file = None if reference is None or in_memory else inputs.name_of(reference)
        files += [file] * entry.blocks
    return files


def _messages(chat: Chat, text: str, things: dict[str, list[Any]]) -> list[Message]:
    texts = text.split(chats.SEPARATOR)
    parts = chats.split(text, things)
    if len(texts) == 1:
        return [Message(chat.roles[0], tuple(parts))]
    messages: list[list[Any]] = [[]]
    for part in parts:
        if not isinstance(part, str):
            messages[-1].append(part)
            continue
        first, *others = part.split(chats.SEPARATOR)
        messages[-1].append(first)
        messages += [[other] for other in others]
    return [
        Message(role, tuple(part for part in found if not (isinstance(part, str) and not part)))
        for role, found in zip(chat.roles, messages, strict=True)
    ]


def refuse_ranks(name: str, instead: str) -> None:
    """Raise ConfigError where a launcher has started several processes.

    Parameters
    ----------
    name : str
        How messages call the engine.
    instead : str
        What to do, as a sentence.
    """
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes.isdigit() and int(processes) > 1:
        raise ConfigError(
            f"{name} is asked from one process, and a launcher has started {processes} "
            f"(WORLD_SIZE). {instead}"
        )


def tasks_of(requests: Sequence[Instance]) -> str:
    """Return the names of the tasks of requests, for messages."""
    names = sorted({request.task_name or "a request" for request in requests})
    return ("task " if len(names) == 1 else "tasks ") + ", ".join(names)
