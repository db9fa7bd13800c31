"""Chats for engines that apply their template themselves, and the ordered parts of their messages.

lm_eval renders a chat into one string before the model class sees it. Where the template is applied
elsewhere, that string is the chat itself as JSON, and is read again when its item is served.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Union

from mmaupro_ext.audio.decoding import Samples
from mmaupro_ext.models.blocks import AUDIO_MARK, IMAGE_MARK
from mmaupro_ext.models.families.family import Family, Writing

if TYPE_CHECKING:
    from PIL.Image import Image

_OPENING = '{"mmaupro-ext chat": '
# Between the messages of a chat while its clips are placed.
SEPARATOR = "\x1emmaupro-ext message\x1e"

_MARKS = {"audio": AUDIO_MARK, "visual": IMAGE_MARK}


@dataclass(frozen=True)
class Chat:
    """A chat as lm_eval made it.

    Parameters
    ----------
    roles, texts : tuple of str
        Of its messages, in order.
    goes_on : bool
        Whether the last message is the beginning of the answer.
    rendered : bool
        Whether lm_eval was told to apply the chat template; otherwise the chat is a bare prompt.
    """

    roles: tuple[str, ...]
    texts: tuple[str, ...]
    goes_on: bool = False
    rendered: bool = True


def write(history: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
    """Return a chat as one string, for lm_eval to carry.

    Parameters
    ----------
    history : sequence of mapping
        Messages with `role` and `content`, as lm_eval gives them to `apply_chat_template`.
    add_generation_prompt : bool
        Whether the answer is to start, or the last message to go on.
    """
    messages = [[message["role"], message["content"]] for message in history]
    content = json.dumps(messages, ensure_ascii=False)
    return f'{_OPENING}{content}, "goes on": {json.dumps(not add_generation_prompt)}}}'


def is_chat(context: str) -> bool:
    """Tell whether a context was written by `write`."""
    return context.startswith(_OPENING)


def read(context: str) -> Chat:
    """Return the chat that `write` wrote, or any other context as one message of the user."""
    if not is_chat(context):
        return Chat(("user",), (context,), rendered=False)
    content = json.loads(context)
    messages = content[next(iter(content))]
    return Chat(
        tuple(role for role, _ in messages),
        tuple(text for _, text in messages),
        content["goes on"],
    )


@dataclass(frozen=True, eq=False)
class Sound:
    """One block of audio in its place.

    Parameters
    ----------
    samples : numpy.ndarray
        float32, shape `(samples,)`, or `(2, samples)` for both channels.
    sampling_rate : int
        In Hz.
    file : str, optional
        The file of which the block is the whole, to be given as it is.
    """

    samples: Samples
    sampling_rate: int
    file: str | None = None


Part = Union[str, Sound, "Image"]


@dataclass(frozen=True)
class Message:
    """One message with its parts in order: text, `Sound`, image."""

    role: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str | None:
        """The text of a message that has nothing else, "" for an empty one; None with media."""
        if all(isinstance(part, str) for part in self.parts):
            return "".join(map(str, self.parts))
        return None


def split(text: str, media: Mapping[str, Sequence[Any]]) -> list[Part]:
    """Return a text with its marks replaced by media.

    Parameters
    ----------
    text : str
        With `<audio>` and `<image>` marks.
    media : mapping
        Kind ("audio", "visual") to its things, as many as there are marks. Marks of a kind without
        things are plain text.

    Returns
    -------
    list
        Text, sounds and images in order; no empty text.
    """
    things = {_MARKS[kind]: iter(found) for kind, found in media.items() if len(found)}
    if not things:
        return [text] if text else []
    pattern = re.compile(f"({'|'.join(map(re.escape, things))})")
    pieces = pattern.split(text)
    return [next(things[piece]) if piece in things else piece for piece in pieces if piece]


def in_template(usual: Writing, family: Family | None) -> Writing:
    """Return how blocks are written for a chat template: without what it writes beside them by itself.

    Parameters
    ----------
    usual : Writing
        With the labels that are wanted.
    family : Family or None
        Of the model whose template it is; None where that is not described here.
    """
    if family is None:
        return usual
    of_template = family.writing.block_label if family.writing.label_alone else None
    return dataclasses.replace(
        usual,
        block_label="" if usual.block_label == of_template else usual.block_label,
        template_block_end=family.writing.template_block_end,
    )


def messages_of(
    chat: Chat, text: str, things: dict[str, list[Any]], sound_end: str = ""
) -> list[Message]:
    """Return the messages of a chat whose texts were joined by `SEPARATOR`, their marks replaced by media.

    `sound_end` is what the chat template writes after a sound by itself: a text that begins with it there
    loses it.
    """
    texts = text.split(SEPARATOR)
    parts = split(text, things)
    for number, (before, part) in enumerate(itertools.pairwise(parts), start=1):
        if isinstance(before, Sound) and isinstance(part, str):
            parts[number] = part.removeprefix(sound_end)
    parts = [part for part in parts if not isinstance(part, str) or part]
    if len(texts) == 1:
        return [Message(chat.roles[0], tuple(parts))]
    messages: list[list[Any]] = [[]]
    for part in parts:
        if not isinstance(part, str):
            messages[-1].append(part)
            continue
        first, *others = part.split(SEPARATOR)
        messages[-1].append(first)
        messages += [[other] for other in others]
    return [
        Message(role, tuple(part for part in found if not (isinstance(part, str) and not part)))
        for role, found in zip(chat.roles, messages, strict=True)
    ]
