"""Log-likelihoods of several continuations of one prompt with media.

Two ways that give the same numbers: on the key-value cache of the prompt, which encodes the audio
once for all choices, and by one whole pass per choice, which any model allows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers.cache_utils import DynamicLayer

from mmaupro_ext.heard import LogProb
from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.batching import Inputs
from mmaupro_ext.models.hf.passes import FILLING, Passes
from mmaupro_ext.models.hf.preparing import Choices, PreparedPrompt
from mmaupro_ext.models.items import Score


def score(passes: Passes, batch: Sequence[Choices], *, shared: bool) -> list[list[Score]]:
    """Score continuations in batches of what goes together.

    Parameters
    ----------
    passes : Passes
        Of the model.
    batch : sequence of Choices
        Prompts with the token ids of their continuations.
    shared : bool
        Whether on the key-value cache of the prompts, or by one whole pass each.

    Returns
    -------
    list of list of (LogProb, bool)
        Per prompt and continuation: the log-probability (natural logarithm) with the prompt's record,
        and whether every token is the most probable one.
    """
    lengths = [choices.prompt.length for choices in batch]
    count = batching.batch_length(lengths, len(batch), FILLING)
    if count < len(batch):
        parts = batch[:count], batch[count:]
        return [row for part in parts for row in score(passes, part, shared=shared)]
    try:
        kinds = {choices.prompt.kinds for choices in batch}
        if len(kinds) > 1:  # the model may have other adapters for each
            raise batching.UnbatchableError("prompts with different kinds of media")
        with passes.over(*kinds):
            scores = (score_shared if shared else score_full)(passes, batch)
    except batching.UnbatchableError:
        parts = batching.halves(batch)
        return [row for part in parts for row in score(passes, part, shared=shared)]
    return [
        [(LogProb(value, choices.prompt.heard), greedy) for value, greedy in row]
        for choices, row in zip(batch, scores, strict=True)
    ]


def score_shared(passes: Passes, batch: Sequence[Choices]) -> list[list[Score]]:
    """Score continuations on the key-value cache of their prompts.

    Parameters
    ----------
    passes : Passes
        Of the model; its `loading` says how positions are counted and what may be padded.
    batch : sequence of Choices
        Prompts with the token ids of their continuations.

    Returns
    -------
    list of list of (float, bool)
        Per prompt and continuation: the log-probability (natural logarithm), and whether every
        token is the most probable one.

    Raises
    ------
    UnbatchableError
        When the media of the prompts have different shapes, or the model would turn the positions
        of one otherwise beside the others.
    """
    model, loading = passes.model, passes.loading
    more = max(len(tokens) for choices in batch for tokens in choices.continuations) - 1
    if batching.refuse_to_cross(model, loading, [choices.prompt.length for choices in batch], more):
        # The keys of the prompt would have to be turned anew.
        return score_full(passes, batch)
    with (
        passes.inputs([choices.prompt for choices in batch]) as tensors,
        batching.last_positions_only(model, 1),
    ):
        mask = tensors["attention_mask"]
        # With several axes the model itself works out where images and audio stand.
        positions = None if passes.has_axes else (mask.cumsum(dim=1) - 1).clamp(min=0)
        output = model(**tensors, position_ids=positions, use_cache=True)
    lengths = mask.sum(dim=1, keepdim=True)
    first = output.logits[:, -1:].float().log_softmax(dim=-1)
    cache = output.past_key_values
    # Layers that keep a window or a state cannot be taken back to where the prompt ended.
    can_crop = all(type(layer) is DynamicLayer for layer in cache.layers)
    after = lengths
    if passes.has_axes:
        after = lengths + batching.rope_deltas(model).to(lengths.device)
    scores: list[list[Score]] = [[] for _ in batch]
    for turn in range(max(len(choices.continuations) for choices in batch)):
        # A prompt that has no more continuations repeats its last one, unrecorded.
        current = [
            choices.continuations[min(turn, len(choices.continuations) - 1)] for choices in batch
        ]
        logprobs = first
        width = max(len(tokens) for tokens in current) - 1
        if width:
            # The last token is predicted, not read.
            read, read_mask = _pad_right(
                [tokens[:-1] for tokens in current], width, passes.pad_token_id
            )
            next_positions = passes.on_axes(after + torch.arange(width, device=lengths.device))
            more = model(
                input_ids=read.to(mask.device),
                attention_mask=torch.cat([mask, read_mask.to(mask.device)], dim=1),
                position_ids=next_positions,
                past_key_values=cache if can_crop else copy.deepcopy(cache),
                use_cache=True,
            )
            if can_crop:
                cache.crop(-width)  # back to the prompt, for the next continuation
            logprobs = torch.cat([first, more.logits.float().log_softmax(dim=-1)], dim=1)
        for row, choices in enumerate(batch):
            if turn < len(choices.continuations):
                scores[row].append(_score(logprobs[row], current[row]))
    return scores


def score_full(passes: Passes, batch: Sequence[Choices]) -> list[list[Score]]:
    """Score continuations by one whole pass each.

    Parameters and results are those of `score_shared`, for any decoder-only model; prompts whose
    media do not fit into one batch are scored one by one.
    """
    rows = [
        (choices.prompt, _extend(choices.prompt.tensors, tokens[:-1]), tokens)
        for choices in batch
        for tokens in choices.continuations
    ]
    scores: list[Score] = []
    for start in range(0, len(rows), len(batch)):
        scores.extend(_score_rows(passes, rows[start : start + len(batch)]))
    remaining = iter(scores)
    return [[next(remaining) for _ in choices.continuations] for choices in batch]


def _score_rows(
    passes: Passes, rows: Sequence[tuple[PreparedPrompt, Inputs, list[int]]]
) -> list[Score]:
    model = passes.model
    # Padding on the right leaves the position of every token as it is without padding, whatever
    # the model does with positions.
    prompts, entries, continuations = zip(*rows, strict=True)
    lengths = [entry["input_ids"].shape[1] for entry in entries]
    starts = [length - len(tokens) for length, tokens in zip(lengths, continuations, strict=True)]
    kept = max(lengths) - min(starts)
    try:
        batching.refuse_to_cross(model, passes.loading, lengths)
        with (
            passes.inputs(prompts, entries, side="right") as tensors,
            batching.last_positions_only(model, kept),
        ):
            logits = model(**tensors).logits[:, -kept:]
    except batching.UnbatchableError:
        return [scored for part in batching.halves(rows) for scored in _score_rows(passes, part)]
    scores = []
    for row, start, tokens in zip(logits, starts, continuations, strict=True):
        first = start - min(starts)
        logprobs = row[first : first + len(tokens)].float().log_softmax(dim=-1)
        scores.append(_score(logprobs, tokens))
    return scores


def _extend(tensors: Inputs, tokens: list[int]) -> Inputs:
    """Append text tokens to the inputs of a prompt."""
    extended = dict(tensors)
    for name in batching.PER_TOKEN_INPUTS:
        if name in tensors:
            values = {"input_ids": tokens, "attention_mask": [1] * len(tokens)}
            more = torch.tensor([values.get(name, [0] * len(tokens))], dtype=tensors[name].dtype)
            extended[name] = torch.cat([tensors[name], more], dim=1)
    return extended


def _pad_right(
    rows: Sequence[list[int]], width: int, pad_token_id: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of shape `(rows, width)`."""
    ids = [row + [pad_token_id] * (width - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def _score(logprobs: torch.Tensor, tokens: list[int]) -> Score:
    """Score `tokens` under log-probabilities of shape `(positions, vocabulary)`."""
    logprobs = logprobs[: len(tokens)]
    wanted = torch.tensor(tokens, device=logprobs.device)
    total = logprobs.gather(1, wanted[:, None]).sum()
    return float(total), bool((logprobs.argmax(dim=-1) == wanted).all())
