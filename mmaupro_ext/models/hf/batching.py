"""Batches: which requests go together, and how their tensors are put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch

from mmaupro_ext.models.families.family import Loading

# Inputs with one entry per token of the prompt; every other tensor has one row per medium.
PER_TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")

Inputs = dict[str, torch.Tensor]


Entry = TypeVar("Entry")


class UnbatchableError(ValueError):
    """Inputs of several prompts whose shapes do not fit into one batch."""


def halves(batch: Sequence[Entry]) -> tuple[Sequence[Entry], Sequence[Entry]]:
    """Return both halves of a batch that cannot be put together.

    Batches are ordered by length, so that what fits together stands together: halving finds it in few
    steps.
    """
    half = (len(batch) + 1) // 2
    return batch[:half], batch[half:]


def batch_length(sizes: Sequence[int], limit: int, max_size: int | None = None) -> int:
    """Return how many leading entries of `sizes` may share a batch.

    At most `limit`, and none less than half as long as the longest, so that at most half of a
    batch is padding.

    Parameters
    ----------
    sizes : sequence of int
        Lengths of the waiting items, about longest first.
    limit : int
        The batch size.
    max_size : int, optional
        Most that the batch may come to with its padding: its count times its longest.

    Returns
    -------
    int
        At least 1.
    """
    shortest = longest = max(1, sizes[0])
    count = 1
    for size in sizes[1:limit]:
        shortest, longest = min(shortest, size), max(longest, size)
        if 2 * shortest < longest or (max_size is not None and (count + 1) * longest > max_size):
            break
        count += 1
    return count


def round_up(length: int, bucket: int) -> int:
    """Return the next multiple of a bucket."""
    return -(-length // bucket) * bucket


def pad(
    tensor: torch.Tensor, length: int, value: int, side: Literal["left", "right"]
) -> torch.Tensor:
    """Pad `(1, tokens)` to `(1, length)` with `value` on one side."""
    missing = length - tensor.shape[1]
    sides = (missing, 0) if side == "left" else (0, missing)
    return torch.nn.functional.pad(tensor, sides, value=value)


def collate(
    prompts: Sequence[Mapping[str, torch.Tensor]],
    pad_token_id: int,
    side: Literal["left", "right"] = "left",
    loading: Loading | None = None,
) -> Inputs:
    """Put the inputs of several prompts into one batch.

    Parameters
    ----------
    prompts : sequence of mapping
        Each as a processor returns it for one prompt: inputs per token of shape `(1, tokens)`,
        and others with one row per medium, for example `(blocks, mels, frames)`.
    pad_token_id : int
        Fills `input_ids`; the other inputs per token are filled with 0.
    side : {"left", "right"}
        Where shorter prompts are padded.
    loading : Loading, optional
        Of the family: says along which axes of other inputs zeros may be added at the end; default: none.

    Returns
    -------
    dict
        Inputs per token of shape `(prompts, longest)`; the others joined in prompt order.

    Raises
    ------
    UnbatchableError
        When the media of the prompts have different shapes.
    """
    if len({frozenset(prompt) for prompt in prompts}) != 1:
        raise UnbatchableError("prompts with different kinds of inputs")
    lengths = [prompt["input_ids"].shape[1] for prompt in prompts]
    longest = max(lengths)
    if loading is not None and not loading.padded_prompts and min(lengths) < longest:
        raise UnbatchableError("prompts of different length, which must not be padded")
    batch: Inputs = {}
    for name in prompts[0]:
        tensors = [prompt[name] for prompt in prompts]
        if name in PER_TOKEN_INPUTS:
            value = pad_token_id if name == "input_ids" else 0
            tensors = [pad(tensor, longest, value, side) for tensor in tensors]
        elif loading is not None and name in loading.padded_inputs:
            may = loading.padded_if or (lambda _: True)
            paddable = [may(prompt) for prompt in prompts]
            tensors = _equally_long(tensors, loading.padded_inputs[name], paddable)
        if len({tensor.shape[1:] for tensor in tensors}) != 1:
            raise UnbatchableError(f"{name} of different shapes")
        batch[name] = torch.cat(tensors, dim=0)
    return batch


def refuse_to_cross(
    model: Any, loading: Loading | None, lengths: Sequence[int], more: int = 0
) -> bool:
    """Raise UnbatchableError where prompts together would be turned otherwise than alone.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With its configuration.
    loading : Loading or None
        Of the family: says whether the model turns positions otherwise beyond a limit.
    lengths : sequence of int
        Tokens of each prompt.
    more : int
        Tokens that may come after each.

    Returns
    -------
    bool
        Whether a prompt (then it is the only one) crosses the limit with what comes after it.

    Raises
    ------
    UnbatchableError
        When the prompts of a batch are not all on one side of the limit.
    """
    if loading is None or loading.rope_limit is None:
        return False
    limit = loading.rope_limit(model.config)
    if limit is None or max(lengths) + more <= limit or min(lengths) > limit:
        return False
    if len(lengths) > 1:
        raise UnbatchableError(f"prompts on both sides of {limit} positions")
    return True


def _equally_long(
    tensors: Sequence[torch.Tensor], axis: int, paddable: Sequence[bool]
) -> list[torch.Tensor]:
    """Add zeros at the end of one axis, of those that may be padded, up to the longest."""
    longest = max(tensor.shape[axis] for tensor in tensors)
    padded = []
    for tensor, may in zip(tensors, paddable, strict=True):
        sides = [0] * (2 * tensor.ndim)
        if may:
            sides[2 * (tensor.ndim - 1 - axis) + 1] = longest - tensor.shape[axis]
        padded.append(torch.nn.functional.pad(tensor, sides))
    return padded


@contextmanager
def last_positions_only(model: Any, count: int) -> Iterator[None]:
    """Let a model compute the logits of the last `count` positions only.

    A ten-minute prompt has 15 000 positions; their logits over a vocabulary of 150 000 would take
    gigabytes, and several model classes have no option against that.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Unchanged afterwards.
    count : int
        How many positions from the end are wanted.
    """
    head = _output_layer(model)
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][:, -count:], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()


def _output_layer(model: Any) -> Any:
    """Return the layer that makes logits: the model's, or that of the language model inside it."""
    parts = (part for part in model.modules() if hasattr(part, "get_output_embeddings"))
    return next(filter(None, (part.get_output_embeddings() for part in parts)), None)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether results differ by rounding only: other sizes of batches have other kernels."""
    rounding = 1e-3 if one.dtype == torch.float32 else 0.05
    return bool((one - other).abs().max() <= rounding * other.abs().max())


def rope_deltas(model: Any) -> torch.Tensor:
    """Return by how much the position after each prompt of the last pass differs from its length."""
    return next(
        module.rope_deltas
        for module in model.modules()
        if getattr(module, "rope_deltas", None) is not None
    )
