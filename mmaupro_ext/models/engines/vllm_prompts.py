"""From a prepared item to what vLLM takes: a chat, or a text with the model's placeholders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.engines.chats import Message, Sound, in_template
from mmaupro_ext.models.engines.engine import PreparedChat
from mmaupro_ext.models.engines.protocol import write_message
from mmaupro_ext.models.engines.vllm_engine import ChatPrompt, Prompt, TextPrompt
from mmaupro_ext.models.families import Family, find_family
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.models.items import Question

# LLM.chat takes sounds as URLs only; a WAV of floats is what was decoded, bit for bit.
FORM, ENCODING = "audio_url", "wav-float"


@dataclass(frozen=True)
class Ready:
    """One item that can be put to vLLM."""

    question: Question
    prepared: PreparedChat
    prompt: Prompt


class PromptWriter:
    """Writes prompts for one model.

    Parameters
    ----------
    pretrained : str
        Name on the hub, or folder.
    loading : mapping
        Of vLLM's arguments; `revision` and `trust_remote_code` are looked at.
    placeholders : mapping
        "audio" and "image" to what stands for one in a plain prompt; None: what the family of the
        model has.
    """

    def __init__(
        self, pretrained: str, loading: Mapping[str, Any], placeholders: Mapping[str, str | None]
    ) -> None:
        self.pretrained, self.placeholders = pretrained, placeholders
        self._options = {
            "revision": loading.get("revision"),
            "trust_remote_code": bool(loading.get("trust_remote_code")),
        }
        self._family: Family | None = None
        self._looked = False

    def write(self, prepared: PreparedChat) -> Prompt:
        """Return an item as a chat, if lm_eval applies chat templates, else as a text.

        Raises
        ------
        ConfigError
            When a plain prompt has media for which no placeholder is known.
        """
        if prepared.chat.rendered:
            messages = [write_message(message, FORM, ENCODING) for message in prepared.messages]
            return ChatPrompt(messages, prepared.chat.goes_on)
        (message,) = prepared.messages
        text = "".join(
            part
            if isinstance(part, str)
            else self._placeholder("audio" if isinstance(part, Sound) else "image")
            for part in message.parts
        )
        return TextPrompt(text, media_of(prepared.messages))

    def writing(self, usual: Writing, *, rendered: bool) -> Writing:
        """Return how blocks are written: in a plain prompt with the labels of the model's family.

        In a chat, `rendered`, without those that its template writes.
        """
        family = self.family()
        if family is None:
            return usual
        usual = dataclasses.replace(usual, min_samples=family.writing.min_samples)
        if rendered:
            return in_template(usual, family)
        return dataclasses.replace(
            usual,
            block_label=family.writing.block_label,
            label_alone=family.writing.label_alone,
            block_end=family.writing.block_end,
        )

    def family(self) -> Family | None:
        """Return the family of the model by its configuration, None where it is not described."""
        if not self._looked:
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.pretrained, **self._options)
            self._family = find_family(config.model_type)
            self._looked = True
        return self._family

    def _placeholder(self, kind: str) -> str:
        found = self.placeholders.get(kind)
        if found is None and kind == "audio" and (family := self.family()) is not None:
            found = family.writing.audio_block
        if found is None:
            raise ConfigError(
                f"what stands for {kind} in a plain prompt of this model is not known here. Add "
                f"--apply_chat_template, or {kind}_placeholder=TEXT to --model_args."
            )
        return found


def media_of(messages: Sequence[Message]) -> dict[str, list[Any]]:
    """Return the media of messages as vLLM's `multi_modal_data`."""
    media: dict[str, list[Any]] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, Sound):
                media.setdefault("audio", []).append((part.samples, part.sampling_rate))
            elif not isinstance(part, str):
                media.setdefault("image", []).append(part)
    return media
