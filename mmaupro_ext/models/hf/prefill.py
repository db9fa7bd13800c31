"""Prompts read into the model: whole, or what comes after a beginning that stands in a slot (`shared`)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mmaupro_ext.failing import is_out_of_memory
from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.batching import Inputs
from mmaupro_ext.models.hf.marks import Mark
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.row import Row, kinds_of, processors_of
from mmaupro_ext.models.hf.shared import Beginning, Standing
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
    mask : torch.Tensor
        Where in it the tokens of each are: bool of shape `(prompts, columns)`, on the CPU.
    marks : list of tuple of Mark
        Of each, from which others may go on; empty where there are none.
    """

    logits: torch.Tensor
    cache: Any
    mask: torch.Tensor
    marks: list[tuple[Mark, ...]] = field(default_factory=list)

    @property
    def places(self) -> list[torch.Tensor]:
        """Where the tokens of each are, as `Slots.take` wants to know."""
        return [row.nonzero()[:, 0] - len(row) for row in self.mask]


def reach_of(passes: Passes) -> float | None:
    """Return the reach of a model's slots (see `Slots`), by a pass over one token; None if it has none."""
    model = passes.model
    token = torch.tensor([[passes.pad_token_id]])
    try:
        with passes.over(()), batching.last_positions_only(model, 1):
            cache = model(**passes.to_device({"input_ids": token}), use_cache=True).past_key_values
        processors_of(model)
        return Slots(cache, 1, 1).reach
    except Exception as error:  # whatever a model says to one token, `generate` may do without
        logger.info("replies are written batch by batch: %s", error)
        return None


def read(
    passes: Passes, rows: Sequence[Row[Any]], slots: Slots | None, standing: Standing
) -> Prefilled:
    """Read prompts, after what they share with others if all of them do.

    Parameters
    ----------
    passes : Passes
        Of the model.
    rows : sequence of Row
        Of one pool; their `keys_held` and `delta` are set. One that is to be marked is alone.
    slots : Slots or None
        In which beginnings stand.
    standing : Standing
        Knows which. It knows none any more where the model goes on from none.
    """
    found = [standing.beginning_of(row) for row in rows]
    known = [beginning for beginning in found if beginning is not None]
    cut = rows[0].cut
    # Padding between would move a window, and change a state.
    ways = {
        (bool(beginning.marks), row.prompt.length - beginning.length if beginning.marks else 0)
        for row, beginning in zip(rows, known, strict=False)
    }
    if slots is None or len(known) < len(rows) or len(ways) > 1:
        known = []
    if not (known or cut):
        return whole(passes, rows)
    try:
        made = (
            after(passes, rows, slots, known, cut)
            if slots is not None and known
            else whole(passes, rows, cut)
        )
        marks = [beginning.marks for beginning in known] or [()] * len(rows)
        if cut:
            marks = [(*marks[0], Mark.of(made.cache, cut))]
            made = _on(passes, rows, made.cache, made.mask, [cut])
    except Exception as error:  # whatever a model says to it, prompts can be read whole
        if is_out_of_memory(error):
            raise
        made = whole(passes, rows)
        logger.info("prompts that begin alike are read whole: %s", error)
        standing.shares = False
        standing.clear()
        return made
    standing.used(known)
    passes.counts.shared_tokens += sum(beginning.length for beginning in known)
    return dataclasses.replace(made, marks=marks)


def whole(passes: Passes, rows: Sequence[Row[Any]], cut: int = 0) -> Prefilled:
    """Read prompts from their first token, aligned on the right.

    Parameters
    ----------
    passes : Passes
        Of the model.
    rows : sequence of Row
        Of one pool; their `keys_held` and `delta` are set.
    cut : int
        How many tokens of each, with all of its media; 0 for all.
    """
    model, has_axes = passes.model, passes.has_axes
    prompts = [row.prompt for row in rows]
    entries = [_first(prompt.tensors, cut) if cut else prompt.tensors for prompt in prompts]
    with (
        passes.over(kinds_of(rows)),
        passes.inputs(prompts, entries) as tensors,
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
    width, lengths = mask.shape[1], torch.tensor([cut or prompt.length for prompt in prompts])
    there = torch.arange(width) >= width - lengths[:, None]
    return Prefilled(output.logits[:, -1], output.past_key_values, there)


def after(
    passes: Passes,
    rows: Sequence[Row[Any]],
    slots: Slots,
    beginnings: Sequence[Beginning],
    cut: int = 0,
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
    cut : int
        Up to where; 0 for all.
    """
    shared = [beginning.length for beginning in beginnings]
    before = max(shared)
    marks = [beginning.marks[-1] for beginning in beginnings if beginning.marks]
    for row, beginning in zip(rows, beginnings, strict=True):
        row.delta = beginning.delta
    with torch.inference_mode():
        numbers = [beginning.slot for beginning in beginnings]
        cache = slots.beginnings(numbers, shared, before, marks)
    held = torch.arange(before) >= before - torch.tensor(shared)[:, None]
    return _on(passes, rows, cache, held, shared, cut)


def _on(
    passes: Passes,
    rows: Sequence[Row[Any]],
    cache: Any,
    held: torch.Tensor,
    begins: Sequence[int],
    cut: int = 0,
) -> Prefilled:
    """Read tokens of prompts behind those that a cache holds, padded on the left."""
    model = passes.model
    parts = [
        row.prompt.tensors["input_ids"][:, begin : cut or None]
        for row, begin in zip(rows, begins, strict=True)
    ]
    width = max(part.shape[1] for part in parts)
    ids = [batching.pad(part, width, passes.pad_token_id, "left") for part in parts]
    # A row is two runs, each of them aligned on the right, with padding before either.
    own = torch.tensor([part.shape[1] for part in parts])
    mask = torch.cat([held, torch.arange(width) >= width - own[:, None]], dim=1)
    deltas = torch.tensor([[row.delta] for row in rows])
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, held.shape[1] :] + deltas
    inputs = {
        "input_ids": torch.cat(ids),
        "attention_mask": mask.long(),
        "position_ids": passes.on_axes(positions),
    }
    with (
        passes.over(kinds_of(rows)),
        passes.budget.measured() as took,
        batching.last_positions_only(model, 1),
        passes.part("prefill"),
    ):
        took(len(rows) * width)
        output = model(**passes.to_device(inputs), past_key_values=cache, use_cache=True)
    for row in rows:
        row.keys_held = row.prompt.length
    passes.counts.prefilled((len(rows), width), held.shape[1])
    return Prefilled(output.logits[:, -1], cache, mask)


def _first(tensors: Inputs, count: int) -> Inputs:
    """Return the inputs of the first tokens of a prompt, with all of its media."""
    return {
        name: value[:, :count] if name in batching.PER_TOKEN_INPUTS else value
        for name, value in tensors.items()
    }
