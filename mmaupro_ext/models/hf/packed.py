"""Attention inside the chunks of a packed sequence, in a few calls instead of one for each chunk.

Audio encoders of the Omni kind put the chunks of all clips behind one another and let each frame attend to
its own chunk only. With flash attention transformers does that in one call a layer; without it, in one call a
chunk and layer: 2,000 for a clip of two minutes, during which a GPU mostly waits. All chunks of a clip but
the last are equally long, so that each run of equal ones is a batch for torch's own attention: the same sums,
in two calls a clip.
"""

from __future__ import annotations

import inspect
import itertools
import weakref
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

# transformers hands out where chunks begin to implementations with "flash" in their name.
NAME = "flash_by_sdpa"


def unpack(model: Any) -> int:
    """Let the audio encoder of a model that packs its chunks attend to equally long ones together.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its encoder is changed where the attention is torch's.

    Returns
    -------
    int
        How many attention layers do so now.
    """
    found = [
        module
        for module in model.modules()
        if "Audio" in type(module).__name__
        and "cu_seqlens" in inspect.signature(module.forward).parameters
        and getattr(getattr(module, "config", None), "_attn_implementation", None) == "sdpa"
    ]
    if found:
        AttentionInterface.register(NAME, _attend)
    for config in {id(module.config): module.config for module in found}.values():
        config._attn_implementation = NAME
    return len(found)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as `sdpa` of transformers does, each chunk of `(1, heads, frames, size)` to itself."""
    for name in ("cu_seq_lens_k", "max_length_q", "max_length_k"):
        options.pop(name, None)
    if cu_seq_lens_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    attended, begin = [], 0
    for length, group in itertools.groupby(_lengths(cu_seq_lens_q)):
        count = len(list(group))
        end = begin + count * length
        q, k, v = (
            part[0, :, begin:end].unflatten(1, (count, length)).transpose(0, 1)
            for part in (query, key, value)
        )
        output, _ = sdpa_attention_forward(module, q, k, v, None, **options)
        attended.append(output.flatten(0, 1))
        begin = end
    return torch.cat(attended)[None], None


_last: tuple[weakref.ref[torch.Tensor], list[int]] | None = None


def _lengths(ends: torch.Tensor) -> list[int]:
    """Return the lengths of chunks; asked of a GPU once for all layers, which are given the same tensor."""
    global _last
    if _last is None or _last[0]() is not ends:
        _last = weakref.ref(ends), [length for length in ends.diff().tolist() if length]
    return _last[1]
