"""What layers that do not keep all keys held behind the first tokens of a prompt.

A layer with a sliding window keeps the last keys, a state-space layer its states: once a prompt has been
read on, what stood at an earlier token is gone. So where other prompts are to go on from there, it is copied.
Copies are of one prompt each, in transformers' own layers, and hold no more than its slot does of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicSlidingWindowLayer, LinearAttentionCacheLayerMixin

STATES = ("conv_states", "recurrent_states")


@dataclass(frozen=True, eq=False)
class Mark:
    """The place in a prompt from which others go on.

    Parameters
    ----------
    length : int
        Tokens before it.
    layers : tuple
        For each layer of the cache, what it held there; None for one that keeps all keys.
    """

    length: int
    layers: tuple[Any, ...]

    @classmethod
    def of(cls, cache: Any, length: int) -> Mark:
        """Copy what the layers hold after a pass over the first tokens of one prompt.

        Parameters
        ----------
        cache : transformers.Cache
            As the model filled it, with one row.
        length : int
            Tokens of that row.
        """
        return cls(length, tuple(map(_copied, cache.layers)))


def has_state(layer: Any) -> bool:
    """Tell whether a layer has states instead of keys."""
    return isinstance(layer, LinearAttentionCacheLayerMixin)


def behind(marks: Sequence[Mark], width: int) -> list[Any]:
    """Return layers for a pass over what comes after marks, one a row; None for those that keep all keys.

    Parameters
    ----------
    marks : sequence of Mark
        One for each row of the pass.
    width : int
        Tokens before those of the pass: rows with fewer are aligned on the right.
    """
    return [
        None if of_one[0] is None else _together(of_one, width)
        for of_one in zip(*(mark.layers for mark in marks), strict=True)
    ]


def _copied(layer: Any) -> Any:
    if has_state(layer):
        return _with_states(layer, lambda name, number: getattr(layer, name)[number].clone())
    if not getattr(layer, "is_sliding", False) or layer.keys is None:
        return None
    copied = copy.copy(layer)
    # The layer's own are views of the keys of all tokens.
    copied.keys, copied.values = layer.keys.clone(), layer.values.clone()
    return copied


def _together(layers: Sequence[Any], width: int) -> Any:
    first = layers[0]
    if has_state(first):
        return _with_states(
            first,
            lambda name, number: torch.cat([getattr(layer, name)[number] for layer in layers]),
        )
    made = DynamicSlidingWindowLayer(first.sliding_window)
    made.lazy_initialization(first.keys, first.values)
    held = min(width, first.sliding_window - 1)
    made.keys, made.values = (
        torch.cat([_on_the_right(part, held) for part in parts])
        for parts in zip(*((layer.keys, layer.values) for layer in layers), strict=True)
    )
    made.cumulative_length = width
    return made


def _on_the_right(part: torch.Tensor, width: int) -> torch.Tensor:
    part = part[:, :, max(0, part.shape[2] - width) :]
    return torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0))


def _with_states(layer: Any, state_of: Any) -> Any:
    """Return a layer with other states, where it has any."""
    made = copy.copy(layer)
    for name in STATES:
        states = getattr(layer, name)
        setattr(
            made,
            name,
            {
                number: None if states[number] is None else state_of(name, number)
                for number in states
            },
        )
    return made
