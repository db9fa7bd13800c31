"""Messages and answers in the words of OpenAI's chat protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.models import encoding
from mmaupro_ext.models.chats import Message, Part, Sound

logger = logging.getLogger(__name__)

# How a clip is written: OpenAI's own way, and that of vLLM and SGLang, like images.
FORMS = ("input_audio", "audio_url")
_MEDIA_TYPES = {"mp3": "audio/mpeg"}


def write_message(message: Message, form: str, subtype: str = "PCM_16") -> dict[str, Any]:
    """Return a message as the protocol has it.

    Parameters
    ----------
    message : Message
        With its parts in order.
    form : {"input_audio", "audio_url"}
        How clips are written.
    subtype : {"PCM_16", "FLOAT"}
        Of the WAV files.

    Returns
    -------
    dict
        `content` is a string where there is only text, for servers that take nothing else.
    """
    content: Any = message.text
    if content is None:
        content = [write_part(part, form, subtype) for part in message.parts]
    return {"role": message.role, "content": content}


def write_part(part: Part, form: str, subtype: str = "PCM_16") -> dict[str, Any]:
    """Return one part of a message; see `write_message`."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Sound):
        return {
            "type": "image_url",
            "image_url": {"url": encoding.data_uri(encoding.png(part), "image/png")},
        }
    if part.file is not None:
        content, kind = encoding.original(part.file)
    else:
        content, kind = encoding.wav(part.samples, part.sampling_rate, subtype), "wav"
    if form == "input_audio":
        sound = {"data": encoding.base64_text(content), "format": kind}
        return {"type": "input_audio", "input_audio": sound}
    media_type = _MEDIA_TYPES.get(kind, f"audio/{kind}")
    return {"type": "audio_url", "audio_url": {"url": encoding.data_uri(content, media_type)}}


@dataclass(frozen=True)
class Answer:
    """What a server answered to one item."""

    text: str | None
    finish_reason: str | None
    reasoning: bool
    usage: Mapping[str, Any]


def read_answer(body: Any) -> Answer:
    """Return what the body of an answer says.

    Raises
    ------
    ValueError, KeyError, IndexError, TypeError
        When it is malformed.
    """
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):
        raise ValueError(f"an error instead of an answer: {body['error']}")
    choice = body["choices"][0]
    message = choice["message"]
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part["type"] == "text")
    if content is not None and not isinstance(content, str):
        raise TypeError(f"no text but {content!r}")
    usage = body.get("usage")
    return Answer(
        content,
        choice.get("finish_reason"),
        bool(message.get("reasoning_content") or message.get("reasoning")),
        usage if isinstance(usage, dict) else {},
    )


class AnswerCounts:
    """How answers ended, and the tokens that the server counted."""

    def __init__(self) -> None:
        self.cut_by_length = self.empty = self.with_usage = 0
        self.prompt_tokens = self.completion_tokens = 0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.cut_by_length += answer.finish_reason == "length"
        self.empty += not (answer.text or "").strip()
        if isinstance(answer.usage.get("prompt_tokens"), int):
            self.with_usage += 1
            self.prompt_tokens += answer.usage["prompt_tokens"]
            self.completion_tokens += int(answer.usage.get("completion_tokens") or 0)

    def tell(self) -> None:
        """Log what a user should know."""
        if self.cut_by_length:
            logger.warning(
                "%d answers ended at max_gen_toks and are kept as they are", self.cut_by_length
            )
        if self.empty:
            logger.warning("%d answers are empty: the model said nothing", self.empty)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "answers_cut_by_length": self.cut_by_length,
            "empty_answers": self.empty,
            "usage": {
                "answers": self.with_usage,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
        }
