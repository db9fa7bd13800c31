"""What travels from a request to the model: a question, and the same question made ready."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmaupro_ext.heard import Record
from mmaupro_ext.models.batching import Inputs
from mmaupro_ext.models.inputs import Clip


@dataclass
class Question:
    """What is prepared once: one prompt with its media, and the requests that share it.

    Parameters
    ----------
    context : str
        The prompt as the task (or the chat template) wrote it.
    media : dict
        References by kind.
    members : list of int
        Positions of the requests in the call.
    continuations : list of str
        One per member, for log-likelihood requests.
    item : str
        Task and id of the item that asks, for messages.
    """

    context: str
    media: dict[str, list[Any]]
    members: list[int] = field(default_factory=list)
    continuations: list[str] = field(default_factory=list)
    item: str = ""


@dataclass
class PreparedPrompt:
    """One prompt with its media, ready for the model; tensors are on the CPU.

    Parameters
    ----------
    text : str
        The prompt with the model's own placeholders, one per audio block and image.
    tensors : dict
        The processor's output for this prompt alone.
    clips : list of Clip
        What was decoded for it.
    blocks : list of int
        How many audio blocks each recording takes (a clip, or clips joined).
    files : str
        The names of its media, for messages.
    heard : dict or None
        The record of what is given of its clips; None without audio.
    kinds : frozenset of str
        Kinds of its media.
    """

    text: str
    tensors: Inputs
    clips: list[Clip]
    blocks: list[int]
    files: str
    heard: Record | None = None
    kinds: frozenset[str] = frozenset()

    @property
    def length(self) -> int:
        """Tokens of the prompt, audio and image tokens included."""
        return int(self.tensors["input_ids"].shape[1])


@dataclass
class Choices:
    """A prepared prompt with the token ids of the continuations to be scored after it."""

    prompt: PreparedPrompt
    continuations: list[list[int]]
