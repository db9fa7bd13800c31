"""What every request of a run says beside its chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext import chat_stream
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.engines.chats import Message
from mmaupro_ext.models.engines.engine import PreparedChat
from mmaupro_ext.models.engines.protocol import ENCODINGS, write_message, write_part
from mmaupro_ext.util import json_object, require_choice

SENDS = ("wav", "flac", "original")
TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
# More stop strings are refused by OpenAI; all of them are looked for in the answer as well.
MOST_STOPS = 4


class RequestBody:
    """How requests are written; the arguments are those of `OpenAIAudioLM`.

    Raises
    ------
    ConfigError
        When an argument is none of those known.
    """

    def __init__(
        self,
        *,
        send: str,
        max_tokens_field: str,
        send_temperature: bool,
        stream: bool,
        seed: int | None,
        extra_body: dict[str, Any] | str | None,
    ) -> None:
        require_choice("send", send, SENDS)
        require_choice("max_tokens_field", max_tokens_field, TOKENS_FIELDS)
        self.send, self.max_tokens_field = send, max_tokens_field
        self.send_temperature, self.stream, self.seed = bool(send_temperature), bool(stream), seed
        self.extra_body = json_object("extra_body", extra_body)
        if "stream" in self.extra_body:
            raise ConfigError(
                "stream is an argument of its own: stream=true, outside of extra_body."
            )
        self._encoding = send if send in ENCODINGS else "wav"

    def as_dict(self) -> dict[str, Any]:
        """Return what answers depend on."""
        return {
            "send": self.send,
            "max_tokens_field": self.max_tokens_field,
            "send_temperature": self.send_temperature,
            "stream": self.stream,
            "seed": self.seed,
            "extra_body": self.extra_body,
        }

    def of_chat(
        self,
        prepared: PreparedChat,
        form: str,
        options: Mapping[str, Any],
        stops: Sequence[str],
        max_gen_toks: int,
    ) -> dict[str, Any]:
        """Return the body of an item's request.

        Parameters
        ----------
        prepared : PreparedChat
            The item.
        form : str
            How clips are written.
        options : mapping
            More fields, of the task.
        stops : sequence of str
            Stop strings; the first few are sent.
        max_gen_toks : int
            Length of the reply in tokens.
        """
        chat: dict[str, Any] = {
            "messages": [
                write_message(message, form, self._encoding) for message in prepared.messages
            ]
        }
        if prepared.chat.goes_on:
            # vLLM and SGLang go on with the last message by these fields, llama-server without
            # them; a server that knows neither refuses them, which is better than a new answer.
            chat |= {"continue_final_message": True, "add_generation_prompt": False}
        if stops:
            chat["stop"] = list(stops[:MOST_STOPS])
        return {**chat, **self._fields(options, max_gen_toks)}

    def of_check(self, message: Message, form: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a short request that asks what a server takes."""
        # Typed parts also without a sound: some servers write them otherwise than plain text.
        content = [write_part(part, form, self._encoding) for part in message.parts]
        return {"messages": [{"role": "user", "content": content}], **self._fields(options, 1)}

    def _fields(self, options: Mapping[str, Any], max_gen_toks: int) -> dict[str, Any]:
        fields = {self.max_tokens_field: max_gen_toks, **options}
        if not self.send_temperature:
            fields.pop("temperature", None)
        if self.seed is not None:
            fields.setdefault("seed", int(self.seed))
        if self.stream:
            fields |= chat_stream.FIELDS
        return {**fields, **self.extra_body}
