"""A stand-in chat server that hears: it decodes what it is sent, counts tokens, and answers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import soundfile
from chat_standin import StandIn

TOKENS_PER_S = 25
TOKENS_OF_AN_IMAGE = 64


def sound_of(part):
    """Return format and bytes of an audio part."""
    if part["type"] == "input_audio":
        assert set(part) == {"type", "input_audio"}
        assert set(part["input_audio"]) == {"data", "format"}
        return part["input_audio"]["format"], base64.b64decode(
            part["input_audio"]["data"], validate=True
        )
    head, data = part["audio_url"]["url"].split(",", 1)
    assert head.startswith("data:audio/")
    assert head.endswith(";base64")
    return head[len("data:audio/") : -len(";base64")], base64.b64decode(data, validate=True)


def samples_of(part):
    """Return the 16-bit samples of a WAV part, shape (frames,) or (frames, channels), and its rate."""
    kind, content = sound_of(part)
    assert kind == "wav"
    info = soundfile.info(io.BytesIO(content))
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    return samples, rate


def parts_of(body):
    """Return all parts of all messages; text messages as one part."""
    parts = []
    for message in body["messages"]:
        content = message["content"]
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts


def sounds_of(body):
    return [part for part in parts_of(body) if part["type"] in ("input_audio", "audio_url")]


def text_with_marks(body):
    """Return the text of a request with a mark for each sound and image in its place."""
    marks = {"input_audio": "<audio>", "audio_url": "<audio>", "image_url": "<image>"}
    return "".join(marks.get(part["type"], part.get("text", "")) for part in parts_of(body))


def is_check(body):
    """Tell whether a request is one of the short ones before a run."""
    return body.get("max_tokens", body.get("max_completion_tokens")) == 1


class Listener(StandIn):
    """Hears everything; options make it deaf in some way.

    Parameters
    ----------
    reply : callable, optional
        Body -> text, or (status, headers, content) for a failure.
    forms : tuple of str
        Types of parts that it takes beside text; others are refused with status 400.
    passes_over : tuple of str
        Types of parts that it does not look at.
    cuts_at_s : float
        Seconds of each sound that it hears.
    counts : bool
        Whether its answers state token counts.
    details : callable, optional
        Tokens of sounds -> what its counts say of them.
    """

    def __init__(
        self,
        reply=lambda body: "A",
        forms=("input_audio", "audio_url", "image_url"),
        passes_over=(),
        cuts_at_s=1e9,
        counts=True,
        details=None,
    ):
        super().__init__(self._act)
        self.reply, self.forms, self.passes_over = reply, forms, passes_over
        self.cuts_at_s, self.counts, self.details = cuts_at_s, counts, details

    def _act(self, body):
        tokens, of_sounds = 5, 0
        for part in parts_of(body):
            kind = part["type"]
            if kind == "text":
                tokens += len(part["text"].split())
                continue
            if kind not in self.forms:
                return error(400, f"unsupported content[].type {kind}")
            if kind in self.passes_over:
                continue
            if kind == "image_url":
                tokens += TOKENS_OF_AN_IMAGE
            else:
                of_sounds += self._count(part)
        tokens += of_sounds
        told = "x" if is_check(body) else self.reply(body)
        if isinstance(told, tuple):
            return told
        content = {
            "choices": [{"message": {"content": told}, "finish_reason": "stop"}],
        }
        if self.counts:
            content["usage"] = {"prompt_tokens": tokens, "completion_tokens": 2}
            if self.details is not None:
                content["usage"]["prompt_tokens_details"] = self.details(of_sounds)
        return 200, {}, json.dumps(content).encode()

    def _count(self, part):
        info = soundfile.info(io.BytesIO(sound_of(part)[1]))
        return int(np.ceil(min(info.duration, self.cuts_at_s) * TOKENS_PER_S))

    @property
    def asked(self):
        """The bodies of the requests that are no check, in order of arrival."""
        return [body for _, body in self.requests if not is_check(body)]

    @property
    def checks(self):
        return [body for _, body in self.requests if is_check(body)]


def error(status, message):
    return status, {}, json.dumps({"error": {"message": message}}).encode()
