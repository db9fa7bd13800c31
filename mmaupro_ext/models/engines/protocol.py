"""Messages and answers in the words of OpenAI's chat protocol."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio.decoding import Samples
from mmaupro_ext.errors import ItemError
from mmaupro_ext.heard import LENGTH, STOP
from mmaupro_ext.models.engines.chats import Message, Part, Sound

if TYPE_CHECKING:
    from PIL.Image import Image

# How a clip is written: OpenAI's own way; that of vLLM and SGLang, like images; OpenAI's with a data: URI
# in place of the bytes, for Qwen's own API.
FORMS = ("input_audio", "audio_url", "input_audio_uri")
# How samples are encoded: name -> libsndfile's container and subtype.
ENCODINGS = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "wav-float": ("WAV", "FLOAT")}
_MEDIA_TYPES = {"mp3": "audio/mpeg"}
# libsndfile's names of containers -> what OpenAI's protocol and media types call them.
FORMATS = {"WAV": "wav", "WAVEX": "wav", "MP3": "mp3", "FLAC": "flac", "OGG": "ogg", "AIFF": "aiff"}
# What servers call the reasons for which an answer ended.
FINISHES = {"stop": STOP, "eos": STOP, "end_turn": STOP, "length": LENGTH, "max_tokens": LENGTH}
_TEXT_PARTS, _THOUGHTS = ("text", "output_text"), ("thinking", "reasoning")


def write_message(message: Message, form: str, encoding: str = "wav") -> dict[str, Any]:
    """Return a message as the protocol has it.

    Parameters
    ----------
    message : Message
        With its parts in order.
    form : {"input_audio", "audio_url", "input_audio_uri"}
        How clips are written.
    encoding : {"wav", "flac", "wav-float"}
        Of clips that do not go as their files are.

    Returns
    -------
    dict
        `content` is a string where there is only text, for servers that take nothing else.
    """
    content: Any = message.text
    if content is None:
        content = [write_part(part, form, encoding) for part in message.parts]
    return {"role": message.role, "content": content}


def write_part(part: Part, form: str, encoding: str = "wav") -> dict[str, Any]:
    """Return one part of a message; see `write_message`."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Sound):
        return {
            "type": "image_url",
            "image_url": {"url": data_uri(png(part), "image/png")},
        }
    if part.file is not None:
        content, kind = original(part.file)
    else:
        content = encoded(part.samples, part.sampling_rate, encoding)
        kind = FORMATS[ENCODINGS[encoding][0]]
    if form == "audio_url":
        media_type = _MEDIA_TYPES.get(kind, f"audio/{kind}")
        return {"type": "audio_url", "audio_url": {"url": data_uri(content, media_type)}}
    data = base64_text(content) if form == "input_audio" else data_uri(content, "")
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def encoded(samples: Samples, sampling_rate: int, encoding: str) -> bytes:
    """Return samples as a file.

    Parameters
    ----------
    samples : numpy.ndarray
        float32, shape `(samples,)`, or `(2, samples)` for two channels.
    sampling_rate : int
        In Hz.
    encoding : {"wav", "flac", "wav-float"}
        16-bit samples are rounded, and what resampling made larger than full scale is full scale;
        those of a 16-bit file at its own rate come out as they are in the file.

    Returns
    -------
    bytes
        The file.
    """
    container, subtype = ENCODINGS[encoding]
    content: Any = samples.T
    if subtype == "PCM_16":
        content = np.clip(np.rint(content * 32768.0), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, content, sampling_rate, format=container, subtype=subtype)
    return file.getvalue()


def original(path: str | os.PathLike[str]) -> tuple[bytes, str]:
    """Return the bytes of an audio file and what its format is called, for example "mp3"."""
    found = audio.probe(path).format
    with open(path, "rb") as file:
        return file.read(), FORMATS.get(found, found.lower())


def png(image: Image) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def base64_text(content: bytes) -> str:
    """Return bytes in base64."""
    return base64.b64encode(content).decode("ascii")


def data_uri(content: bytes, media_type: str) -> str:
    """Return bytes as a data: URI."""
    return f"data:{media_type};base64,{base64_text(content)}"


@dataclass(frozen=True)
class Answer:
    """What a server answered to one item.

    Parameters
    ----------
    text : str or None
        None where the answer has none.
    finish_reason : str or None
        In the server's words.
    reasoning : bool
        Whether it holds thoughts beside the text.
    usage : mapping
        The server's token counts.
    refused : bool
        Whether the text is the model's refusal to answer.
    """

    text: str | None
    finish_reason: str | None
    reasoning: bool
    usage: Mapping[str, Any]
    refused: bool = False

    @property
    def finish(self) -> str | None:
        """Why it ended, "stop" or "length"; None where the server's word is none of those known."""
        return FINISHES.get(self.finish_reason or "")


def text_of(answer: Answer) -> str:
    """Return the text of an answer.

    Raises
    ------
    ItemError
        When it has none that the model meant to give.
    """
    if answer.finish_reason == "content_filter":
        raise ItemError(
            "a filter of the server stopped the answer", fix="Its provider says what it filters."
        )
    text = answer.text or ""
    if text.strip() or (answer.text == "" and answer.finish == STOP and not answer.reasoning):
        return text
    thought = answer.reasoning or answer.finish == LENGTH
    raise ItemError(
        f"the answer holds no text (finish_reason {answer.finish_reason!r}"
        + (", only thoughts" if answer.reasoning else "")
        + ")",
        fix="Give it more room with --gen_kwargs max_gen_toks=N, or switch its thinking off."
        if thought
        else "See the log of the server.",
    )


class Usage:
    """The tokens that a server counted, and how often its model refused to answer."""

    def __init__(self) -> None:
        self.answers = self.prompt_tokens = self.completion_tokens = self.refusals = 0

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.refusals += answer.refused
        if isinstance(answer.usage.get("prompt_tokens"), int):
            self.answers += 1
            self.prompt_tokens += answer.usage["prompt_tokens"]
            self.completion_tokens += int(answer.usage.get("completion_tokens") or 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "refusals": self.refusals,
            "usage": {
                "answers": self.answers,
                "prompt_tokens": self.prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
        }


def read_answer(body: Any) -> Answer:
    """Return what the body of an answer says.

    Raises
    ------
    ValueError, KeyError, IndexError, TypeError
        When it is malformed, holds an error in place of an answer, or parts of a kind that is not
        known: such a request is tried again.
    """
    choice = body["choices"][0] if isinstance(body, dict) and body.get("choices") else {}
    error = (body.get("error") if isinstance(body, dict) else None) or choice.get("error")
    if error or choice.get("finish_reason") == "error":
        raise ValueError(f"an error instead of an answer: {error or choice}")
    choice = body["choices"][0]
    message = choice["message"]
    content = message.get("content")
    refusal = message.get("refusal") or ""
    reasoning = bool(message.get("reasoning_content") or message.get("reasoning"))
    if isinstance(content, list):
        kinds = [part["type"] for part in content]
        unknown = sorted({*kinds} - {*_TEXT_PARTS, *_THOUGHTS, "refusal"})
        if unknown:
            raise TypeError(f"parts of a kind that is not known here: {', '.join(unknown)}")
        reasoning = reasoning or any(kind in _THOUGHTS for kind in kinds)
        refusal += "".join(part["refusal"] for part in content if part["type"] == "refusal")
        content = "".join(part["text"] for part in content if part["type"] in _TEXT_PARTS)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"no text but {content!r}")
    refused = bool(refusal) and not (content or "").strip()
    usage = body.get("usage")
    return Answer(
        refusal if refused else content,
        choice.get("finish_reason"),
        reasoning,
        usage if isinstance(usage, dict) else {},
        refused,
    )
