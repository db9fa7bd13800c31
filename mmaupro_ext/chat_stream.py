"""Answers that a chat server streams, put together to what it would have sent in one piece.

The format is that of server-sent events (WHATWG, HTML, section 9.2): lines of a field and a value, an
empty line after each event. Its data are chunks of OpenAI's chat protocol; the last is ``[DONE]``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

CONTENT_TYPE = "text/event-stream"
# What a request for a stream says; without the second no tokens are counted.
FIELDS = {"stream": True, "stream_options": {"include_usage": True}}

_LINE_END = re.compile("\r\n|\n|\r")  # not what str.splitlines takes for one
_LAST = "[DONE]"
# Fields of a delta that are texts to be joined: OpenAI's, and what thoughts are called by others.
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")


def assembled(content: bytes) -> dict[str, Any]:
    """Return the answer that a stream holds, in the form of one that is not streamed.

    Parameters
    ----------
    content : bytes
        All of the stream.

    Returns
    -------
    dict
        With `choices`, of which there is one, and `usage`; or `error`, where a chunk holds one.

    Raises
    ------
    ValueError, KeyError, TypeError
        When a chunk is malformed, or the stream ended before the answer did: half an answer is none.
    """
    texts: dict[str, str] = {}
    parts: list[Any] = []
    finish: str | None = None
    usage: Any = None
    for data in events(content):
        chunk = json.loads(data)
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            if choice.get("error"):
                return {"error": choice["error"]}
            finish = choice.get("finish_reason") or finish
            for name, text in (choice.get("delta") or {}).items():
                if name == "content" and isinstance(text, list):
                    parts += text
                elif name in _TEXTS and text is not None:
                    texts[name] = texts.get(name, "") + text
        if chunk.get("error"):
            return {"error": chunk["error"]}
    if finish is None:
        raise ValueError("the stream ended before the answer did")
    message: dict[str, Any] = {"role": "assistant", "content": None, **texts}
    if parts:
        text = [{"type": "text", "text": texts["content"]}] if texts.get("content") else []
        message["content"] = [*parts, *text]
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


def events(content: bytes) -> Iterator[str]:
    """Yield the data of each event up to ``[DONE]``; comments and other fields are passed over."""
    lines: list[str] = []
    for line in _LINE_END.split(content.decode("utf-8").removeprefix("\ufeff")):
        field, _, value = line.partition(":")
        if field in ("data", "error") and line != field:
            # llama-server has sent errors in a field of their own.
            value = value.removeprefix(" ")
            lines.append(value if field == "data" else json.dumps({"error": value}))
        elif not line and lines:
            data, lines = "\n".join(lines), []
            if data == _LAST:
                return
            yield data
    # What no empty line ends is not complete, but its server may have stopped at the last event.
    if lines and lines != [_LAST]:
        yield "\n".join(lines)
