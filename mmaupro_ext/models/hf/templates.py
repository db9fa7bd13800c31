"""Chats as the model's own template writes them, with places for clips and images."""

from __future__ import annotations

import logging
import re
from typing import Any

import jinja2

from mmaupro_ext.models.blocks import AUDIO_MARK, IMAGE_MARK
from mmaupro_ext.models.families.family import Family
from mmaupro_ext.models.identity import digest_of

logger = logging.getLogger(__name__)

Messages = list[dict[str, Any]]

_PART_TYPES = {AUDIO_MARK: "audio", IMAGE_MARK: "image"}
_ANY_MARK = re.compile(f"({re.escape(AUDIO_MARK)}|{re.escape(IMAGE_MARK)})")
# Stands for an answer when a template is asked what follows one.
_ANSWER = "an answer"


def has_marks(text: str) -> bool:
    """Tell whether a text holds `<audio>` or `<image>` marks."""
    return _ANY_MARK.search(text) is not None


def content_parts(text: str, audio_end: str = "") -> Messages:
    r"""Split a text at its marks into the typed parts that chat templates take.

    Parameters
    ----------
    text : str
        For example `"<audio>\nWhich animal?"`.
    audio_end : str, optional
        What the chat template writes after an audio part by itself; where the text repeats it
        after a mark, it is dropped.

    Returns
    -------
    list of dict
        For example `[{"type": "audio"}, {"type": "text", "text": "\nWhich animal?"}]`.
    """
    parts: Messages = []
    for piece in _ANY_MARK.split(text):
        if piece in _PART_TYPES:
            parts.append({"type": _PART_TYPES[piece]})
            continue
        if parts and parts[-1]["type"] == "audio":
            piece = piece.removeprefix(audio_end)
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def chat_content(text: str, family: Family | None) -> str | Messages:
    """Return a message as the chat template of a family takes it.

    Parameters
    ----------
    text : str
        With `<audio>` and `<image>` marks.
    family : Family or None
        None for models without audio, whose templates take parts.

    Returns
    -------
    str or list of dict
        A text with the family's audio blocks, where its template takes text; else typed parts.
    """
    if family is not None and family.loading.template_content == "text":
        return text.replace(AUDIO_MARK, family.writing.audio_block)
    return content_parts(text, family.writing.template_block_end if family is not None else "")


class ChatTemplate:
    """The chat template of one checkpoint.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        May have the template.
    processor : transformers.ProcessorMixin or None
        May have it, too; None for models that have a tokenizer only.
    family : Family or None
        Says how the template takes clips.
    arguments : mapping
        For the template, as the user gives them.
    """

    def __init__(
        self, tokenizer: Any, processor: Any, family: Family | None, arguments: dict[str, Any]
    ) -> None:
        self.tokenizer, self.processor = tokenizer, processor
        self.family, self.arguments = family, arguments

    @property
    def writer(self) -> Any:
        """The function with which the family writes chats, if not by a template."""
        return self.family.loading.render_chat if self.family is not None else None

    @property
    def exists(self) -> bool:
        """Whether the checkpoint was made for chats, as far as its files say."""
        holders = (self.tokenizer, self.processor)
        return self.writer is not None or any(
            getattr(holder, "chat_template", None) for holder in holders
        )

    @property
    def name(self) -> str | None:
        """The template itself where only the processor has one; the name of the family's function."""
        if self.writer is not None:
            return f"{self.writer.__module__}.{getattr(self.writer, '__qualname__', '')}"
        if getattr(self.tokenizer, "chat_template", None) is None:
            return getattr(self.processor, "chat_template", None)
        return None

    def render(self, history: Messages, add_generation_prompt: bool) -> str | None:
        """Return a chat as the template writes it, `<audio>` and `<image>` as media.

        Parameters
        ----------
        history : list of dict
            Messages with `role` and `content` (str).
        add_generation_prompt : bool
            Whether the answer is to start, or the last message to go on.

        Returns
        -------
        str or None
            One place per clip. None for a chat of text alone whose template is the tokenizer's.
        """
        with_media = any(has_marks(message["content"]) for message in history)
        if self.writer is None and (
            self.processor is None or not (with_media or self._takes_parts())
        ):
            return None
        messages = self._messages(history)
        try:
            return self._write(messages, add_generation_prompt, not add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            logger.warning("the chat template refuses a system message: it is left out")
            without = [message for message in messages if message["role"] != "system"]
            return self._write(without, add_generation_prompt, not add_generation_prompt)

    @property
    def digest(self) -> str:
        """A digest of what decides how a chat becomes a prompt."""
        owners = (self.processor, self.tokenizer)
        templates = [getattr(owner, "chat_template", None) for owner in owners]
        return digest_of([self.name, templates, self.arguments])

    def end_of_turn(self) -> int | None:
        """Return the control token that the template writes after an answer, if it writes one."""
        if self.family is not None and self.family.loading.turn_end is not None:
            return int(self.tokenizer.convert_tokens_to_ids(self.family.loading.turn_end))
        if not self.exists:
            return None
        history = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
        try:
            messages = self._messages(history) if self.processor is not None else history
            written = self._write(messages, self.writer is not None, False)
            after = written.rpartition(_ANSWER)[2].lstrip()
            ids = self.tokenizer.encode(after, add_special_tokens=False)
            vocabulary = self.tokenizer.get_vocab()
        except Exception as error:  # a template may raise anything
            logger.info("the chat template does not say how an answer ends: %s", error)
            return None
        # In the harmony format the end of a message is not that of a turn: thoughts are messages.
        if not ids or "<|channel|>" in vocabulary:
            return None
        control = {*self.tokenizer.all_special_ids}
        if hasattr(self.tokenizer, "get_added_vocab"):  # mistral-common's has none
            control |= {*self.tokenizer.get_added_vocab().values()}
        return ids[0] if ids[0] in control else None

    def _takes_parts(self) -> bool:
        """Tell whether text tasks, too, use the processor's template.

        Such templates may pass over content that is a plain string: they get typed parts.
        """
        own = getattr(self.tokenizer, "chat_template", None)
        return own is None or own == getattr(self.processor, "chat_template", None)

    def _messages(self, history: Messages) -> Messages:
        return [
            {**message, "content": chat_content(message["content"], self.family)}
            for message in history
        ]

    def _write(self, messages: Messages, add_generation_prompt: bool, goes_on: bool) -> str:
        if self.writer is not None:
            return self.writer(self.processor, messages, add_generation_prompt)
        # Checkpoints may have their template with the tokenizer alone.
        with_template = getattr(self.processor, "chat_template", None) is not None
        return (self.processor if with_template else self.tokenizer).apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=goes_on,
            **self.arguments,
        )
