"""Prompts read into the model: whole, or what comes after a beginning that stands in a slot (`shared`)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.row import Row, processors_of
from mmaupro_ext.models.hf.shared import Beginning
from mmaupro_ext.models.hf.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prefilled:
    """Prompts that were read.

    Parameters
    ----------
    logits : torch.Tensor
        After each, shape `(prompts, vocabulary)`.
    cache : transformers.Cache
        With their keys.
    places : list of torch.Tensor
        Where the tokens of each stand in it, as `Slots.take` wants to know.
    """

    logits: torch.Tensor
    cache: Any
    places: list[torch.Tensor]


def can_serve(passes: Passes) -> bool:
    """Tell whether a model's cache can be kept in slots, by a pass over one token."""
    model = passes.model
    token = torch.tensor([[passes.pad_token_id]])
    try:
        with passes.over(()), batching.last_positions_only(model, 1):
            cache = model(**passes.to_device({"input_ids": token}), use_cache=True).past_key_values
        processors_of(model)
        Slots(cache, 1, 1)
    except Exception as error:  # whatever a model says to one token, `generate` may do without
        logger.info("replies are written batch by batch: %s", error)
        return False
    return True


def whole(passes: Passes, rows: Sequence[Row[Any]]) -> Prefilled:
    """Read prompts from their first token, aligned on the right.

    Parameters
    ----------
    passes : Passes
        Of the model.
    rows : sequence of Row
        Of one pool; their `keys_held` and `delta` are set.
    """
    model, has_axes = passes.model, passes.has_axes
    with (
        passes.over(kinds_of(rows)),
        passes.inputs([row.prompt for row in rows]) as tensors,
        batching.last_positions_only(model, 1),
        passes.part("prefill"),
    ):
        # With several axes the model itself works out where images and audio stand.
        mask = tensors["attention_mask"]
        positions = None if has_axes else (mask.cumsum(1) - 1).clamp(min=0)
        output = model(**tensors, position_ids=positions, use_cache=True)
    deltas = batching.rope_deltas(model)[:, 0].tolist() if has_axes else [0] * len(rows)
    for row, delta in zip(rows, deltas, strict=True):
        row.keys_held, row.delta = row.prompt.length, int(delta)
    places = [torch.arange(-row.prompt.length, 0) for row in rows]
    return Prefilled(output.logits[:, -1], output.past_key_values, places)


def after(
    passes: Passes, rows: Sequence[Row[Any]], slots: Slots, beginnings: Sequence[Beginning]
) -> Prefilled:
    """Read what prompts do not share with what stands in slots.

    Parameters
    ----------
    passes : Passes
        Of the model.
    rows : sequence of Row
        Of one pool; their `keys_held` and `delta` are set.
    slots : Slots
        With the beginnings.
    beginnings : sequence of Beginning
        One for each row, which reaches beyond its media.
    """
    model = passes.model
    shared = [beginning.length for beginning in beginnings]
    own = [row.prompt.length - length for row, length in zip(rows, shared, strict=True)]
    before, width = widths(shared, own, passes.bucket)
    if before + width > slots.reach:
        before, width = max(shared), max(own)
    ids = [
        batching.pad(
            row.prompt.tensors["input_ids"][:, length:], width, passes.pad_token_id, "left"
        )
        for row, length in zip(rows, shared, strict=True)
    ]
    # A row is two runs, each of them aligned on the right, with padding before either.
    column = torch.arange(before + width)
    starts = torch.tensor(
        [[before - length, before + width - more] for length, more in zip(shared, own, strict=True)]
    )
    mask = torch.where(column < before, column >= starts[:, :1], column >= starts[:, 1:]).long()
    deltas = torch.tensor([[beginning.delta] for beginning in beginnings])
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, before:] + deltas
    inputs = {
        "input_ids": torch.cat(ids),
        "attention_mask": mask,
        "position_ids": passes.on_axes(positions),
    }
    with (
        passes.over(kinds_of(rows)),
        passes.budget.measured() as took,
        batching.last_positions_only(model, 1),
        passes.part("prefill"),
    ):
        took(len(rows) * width)
        cache = slots.beginnings([beginning.slot for beginning in beginnings], shared, before)
        output = model(**passes.to_device(inputs), past_key_values=cache, use_cache=True)
    for row, beginning in zip(rows, beginnings, strict=True):
        row.keys_held, row.delta = row.prompt.length, beginning.delta
    passes.counts.prefilled((len(rows), width), before)
    passes.counts.shared_tokens += sum(shared)
    places = [row.nonzero()[:, 0] - len(column) for row in mask]
    return Prefilled(output.logits[:, -1], cache, places)


def widths(shared: Sequence[int], own: Sequence[int], bucket: int) -> tuple[int, int]:
    """Return to how many tokens beginnings, and what comes after them, are padded in one pass."""
    # What comes after is short: a quarter of a bucket is enough.
    return batching.round_up(max(shared), bucket), batching.round_up(max(own), max(1, bucket // 4))


def kinds_of(rows: Sequence[Row[Any]]) -> frozenset[str]:
    """Return the kinds of media in the prompts of rows."""
    return frozenset().union(*(row.prompt.kinds for row in rows))
