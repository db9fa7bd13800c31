"""What the builders of tiny checkpoints share."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast


def byte_tokenizer(
    special: Sequence[str],
    named: Mapping[str, str] | None = None,
    *,
    pad: str,
    eos: str,
    bos: str | None = None,
    first: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Return a tokenizer with a token a byte and special tokens.

    `named` gives attributes such as `audio_token`; tokens of `first` get the lowest ids. With `bos`,
    texts begin with it unless `add_special_tokens=False`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*first, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in [*first, *special]]
    )
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        bos_token=bos,
        extra_special_tokens=dict(named or {}),
    )


def save_model(
    folder: Path,
    kind: Any,
    config: Any,
    seed: int = 0,
    scale: float = 1.0,
    noise: float = 0.0,
    unwritten: Sequence[int] = (),
) -> None:
    """Save a model with seeded weights.

    `scale` multiplies all that are matrices, and normal noise with the deviation `noise` is added to
    all that are vectors: models begin with biases of 0, which hide what padding does. Of `unwritten`
    tokens the logit is 0, so that no reply has them.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = kind(config).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= scale
            elif noise:
                parameter += noise * torch.randn_like(parameter)
        if unwritten:
            model.get_output_embeddings().weight[list(unwritten)] = 0.0
    # As with checkpoints whose generation_config says nothing: the tokenizer and the template do.
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)


@contextmanager
def ending(model: Any, token: int) -> Iterator[None]:
    """Let a model end each reply with a token, after one to seven others, by the length of its prompt.

    So a row ends by itself, whatever stands beside it in a batch; once it has ended, it would go on.
    """
    parts = (part for part in model.modules() if hasattr(part, "get_output_embeddings"))
    head = next(filter(None, (part.get_output_embeddings() for part in parts)))
    generate, step, last_step = model.generate, 0, torch.zeros(0)

    def count(**options: Any) -> Any:
        nonlocal step, last_step
        step, last_step = 0, 2 + options["attention_mask"].sum(dim=1) % 7
        return generate(**options)

    def end(_: Any, __: Any, logits: torch.Tensor) -> torch.Tensor:
        nonlocal step
        step += 1
        logits = logits.clone()
        due = torch.where(
            (step == last_step)[:, None], logits.amax(dim=-1), logits.amin(dim=-1) - 2
        )
        logits[..., token] = due + 1
        return logits

    hook = head.register_forward_hook(end)
    model.generate = count
    try:
        yield
    finally:
        hook.remove()
        del model.generate


def needed(package: str) -> Any:
    """Import what only the environment of `make test-media` has; elsewhere the test is skipped."""
    if os.environ.get("MMAUPRO_TEST_ALL_FAMILIES"):
        return importlib.import_module(package)
    return pytest.importorskip(package)


def save_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def settings(part: Any) -> dict[str, Any]:
    """Return what a part of a processor writes about itself."""
    return json.loads(part.to_json_string())
