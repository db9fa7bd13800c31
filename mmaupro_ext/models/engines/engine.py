"""What models behind an engine share: a server, or vLLM in this process.

An engine applies its chat template, writes its placeholders and computes its features by itself. What
is done here is everything before that: clips decoded, cut and put into their places, images read,
items that cannot be served turned into error replies, and a record of what is given.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from mmaupro_ext import heard
from mmaupro_ext.audio.decoding import AudioReader, condition_of, name_of
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.heard import LENGTH, STOP, Reply
from mmaupro_ext.models.blocks import (
    AUDIO_MARK,
    IMAGE_MARK,
    MULTI_AUDIO,
    Placed,
    Placer,
    wrong_places,
)
from mmaupro_ext.models.engines import chats
from mmaupro_ext.models.engines.chats import Chat, Message, Sound
from mmaupro_ext.models.families.family import Writing, each
from mmaupro_ext.models.identity import Identity, identity_of
from mmaupro_ext.models.items import Failures, Question, tasks_of
from mmaupro_ext.models.media import STEREO_AS_TWO, read_image
from mmaupro_ext.models.windows import LongAudio
from mmaupro_ext.util import positive, require_choice

logger = logging.getLogger(__name__)

STEREO = "stereo"
CHANNELS = ("mono", STEREO, STEREO_AS_TWO)

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
    max_gen_toks : int
        Length of a reply in tokens, where the task does not say.
    think_end_token : str, optional
        What ends a model's thoughts; they and it are left out of the reply.
    long_audio : {"auto", "native", "windows", "uniform", "truncate"}
        What is done with long clips. "auto": clips of up to `whole_s` whole, longer ones as
        consecutive, numbered windows of equal length, so that nothing is cut whatever the model's
        window is. "native": clips as they are. "windows": the same with windows of `window_s` at
        most. "uniform": as many evenly spread windows as `max_audio_tokens` holds. "truncate": the
        first `window_s` seconds. Only the last two leave audio out, and the results say so.
    whole_s : float, optional
        The longest clip that is given whole by "auto" (default: 30 s) and "native" (default: any).
    window_s : float, optional
        Longest window in seconds; default: 30.
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
        Written before each block where there are several, with `{number}` from 1; "" for none. Where the
        chat template of a model that is described here writes the same by itself, that one stands.
    audio_cache_mb : float
        Bound on decoded audio kept in memory for requests that share a clip, in MiB.

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
        max_gen_toks: int = 256,
        think_end_token: str | None = None,
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
    ) -> None:
        super().__init__()
        require_choice("multi_audio", multi_audio, MULTI_AUDIO)
        require_choice("channels", channels, CHANNELS)
        policy = LongAudio.of(long_audio, window_s, max_audio_tokens)
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
        self.max_gen_toks = positive("max_gen_toks", max_gen_toks, int) or 0
        self.think_end_token = think_end_token
        self.channels = channels
        self.heard = heard.Totals()
        self.cut_by_length = self.empty_answers = 0
        self.unprepared = Failures(
            "making an item ready",
            "The last lines of the log say where; with --log_level DEBUG, in which line of code.",
        )
        self.reader = AudioReader(
            rate,
            resampler="native",
            cache_bytes=int(float(audio_cache_mb) * 2**20),
            channels="mono" if channels == "mono" else "apart",
        )
        # All that placing and cutting must know of an engine; it writes the placeholders itself.
        self.writing = Writing(
            audio_block=AUDIO_MARK,
            audio_token=AUDIO_MARK,
            count_tokens=each(lambda samples: math.ceil(samples / rate * per_second)),
            exact_count=False,
            whole_s=whole,
            window_s=USUAL_WINDOW_S,
            block_label=block_label,
            min_samples=math.ceil(SHORTEST_S * rate),
        )
        self._listening = {
            **policy.as_dict(),
            "whole_s": whole,
            "audio_tokens_per_s": per_second,
            "multi_audio": multi_audio,
            "channels": channels,
            "sampling_rate": rate,
            "block_label": block_label,
        }
        self.placer = Placer(
            self.reader,
            self.writing,
            policy,
            multi_audio,
            channels,
            tracks_apart=channels == STEREO_AS_TWO,
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

    def identity_fields(self) -> dict[str, Any]:
        """Return what answers depend on besides their requests and how audio is given."""
        raise NotImplementedError

    def identity(self) -> Identity:
        """Return what the answers of this model depend on besides their requests, as it is now."""
        return identity_of(
            **self.identity_fields(),
            listening=self._listening,
            max_gen_toks=self.max_gen_toks,
            think_end_token=self.think_end_token,
        )

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
            "identity": self.identity().as_dict(),
            "sampling_rate": self.reader.sampling_rate,
            "resamplers_used": sorted(self.reader.resamplers_used),
            "channels": self.channels,
            "long_audio": {
                **dataclasses.asdict(self.placer.long_audio),
                "whole_s": self.writing.whole_s,
            },
            "multi_audio": self.placer.multi_audio,
            "answers_cut_by_length": self.cut_by_length,
            "empty_answers": self.empty_answers,
            "heard": self.heard.as_dict(),
        }

    # ---- items --------------------------------------------------------------------------------

    def writing_in(self, chat: Chat) -> Writing:
        """Return how blocks are written in a chat: whole clips, windows, labels, ends."""
        return self.writing

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
            Blocks are numbered over the whole chat, in the words of `models.windows`.

        Raises
        ------
        ItemError, OSError
            When this item cannot be served.
        """
        chat = chats.read(question.context)
        text = chats.SEPARATOR.join(chat.texts)
        things: dict[str, list[Any]] = {}
        record, sound_end = None, ""
        if question.media.get("audio"):
            writing = self.writing_in(chat)
            sound_end = writing.template_block_end
            placed = self.placer.place(question, text, writing=writing)
            text = placed.text
            sounds = [Sound(block, self.reader.sampling_rate) for block in placed.blocks]
            record = placed.heard
            if untouched:
                files = _whole_files(question.media["audio"], placed)
                sounds = [
                    dataclasses.replace(sound, file=file)
                    for sound, file in zip(sounds, files, strict=True)
                ]
                record = _untouched(record, files)
            things["audio"] = sounds
        if images := question.media.get("visual"):
            places = text.count(IMAGE_MARK)
            if places != len(images):
                raise wrong_places(places, len(images), "images", IMAGE_MARK, question)
            things["visual"] = [read_image(reference) for reference in images]
        return PreparedChat(chat, chats.messages_of(chat, text, things, sound_end), record)

    def longest_block_s(self, questions: Sequence[Question]) -> float:
        """Return the length of the longest sound that is given for some items, in seconds.

        By the stated lengths of their files: nothing is decoded.
        """
        blocks = [block for question in questions for block in self.placer.planned_blocks(question)]
        return max(blocks, default=0) / self.reader.sampling_rate

    # ---- replies ------------------------------------------------------------------------------

    def options_of(self, gen_kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[str], int]:
        """Return what a task's generation arguments say: options, stop strings, length in tokens."""
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        until = [stop for stop in options.pop("until") if stop]
        max_gen_toks = int(options.pop("max_gen_toks"))
        if not options.pop("do_sample"):
            options["temperature"] = 0.0
        return options, until, max_gen_toks

    def reply_of(
        self, text: str, until: list[str], finish: str | None, record: heard.Record | None
    ) -> Reply:
        """Return a reply without its thoughts and without stop strings and what follows them."""
        if any(stop in text for stop in until):
            finish = STOP
        return Reply(postprocess_generated_text(text, until, self.think_end_token), record, finish)

    def count(self, reply: Reply) -> None:
        """Count how a reply ended, and whether it is empty."""
        self.cut_by_length += reply.finish == LENGTH
        self.empty_answers += not reply.strip()

    def log_counts(self) -> None:
        """Log what a user should know of the replies."""
        if self.cut_by_length:
            logger.warning(
                "%d answers ended at max_gen_toks and are kept as they are", self.cut_by_length
            )
        if self.empty_answers:
            logger.warning("%d answers are empty: the model said nothing", self.empty_answers)


def _whole_files(references: Sequence[Any], placed: Placed) -> list[str | None]:
    """Return for each block the file of which it is the whole, None where it is cut or made."""
    files: list[str | None] = []
    joined = len(placed.recordings) != len(references)
    for place, entry in enumerate(placed.recordings):
        whole = not joined and entry.blocks == 1 and entry.is_whole
        reference = references[place] if whole else None
        made = isinstance(reference, dict) and (
            reference.get("array") is not None
            or reference.get("bytes") is not None
            or condition_of(reference) not in (None, {"name": "repeat"})
        )
        file = None if reference is None or made else name_of(reference)
        files += [file] * entry.blocks
    return files


def _untouched(record: heard.Record | None, files: Sequence[str | None]) -> heard.Record | None:
    """Return a record that says which files go as they are, with all their channels."""
    for clip in record["clips"] if record is not None else []:
        if clip["file"] in files:
            clip["channels_heard"] = clip["channels_in_file"]
            clip["untouched"] = True
    return record


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
