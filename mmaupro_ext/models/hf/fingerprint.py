"""What tells a loaded model and its processor from others: its weights as they are in memory."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from mmaupro_ext.models.identity import Identity, digest_of, fingerprint_of_files, identity_of
from mmaupro_ext.models.prefetch import default_workers
from mmaupro_ext.util import sha256_of_text

_BLOCK = 1 << 26  # bytes of a tensor that are copied to the CPU at a time


def fingerprint_of_weights(model: torch.nn.Module) -> str:
    """Return a digest of all weights of a model, adapters included, by every byte of them.

    Parameters
    ----------
    model : torch.nn.Module
        On any devices. The digest is of what is in memory, so it is the same for a folder, a name
        on the hub and a model that was made here, and changes with `dtype` and quantization.

    Returns
    -------
    str
        32 hexadecimal digits.

    Notes
    -----
    SHA-256 over names, types, shapes and contents of the state dict. It takes a second for each 1 or
    2 GB and thread. Weights that were left on disk count by the files of their folder.
    """
    entries = sorted(model.state_dict().items())
    with ThreadPoolExecutor(max(1, default_workers())) as pool:
        digests = list(pool.map(lambda entry: _digest(entry[1]), entries))
    lines = [[name, digest] for (name, _), digest in zip(entries, digests, strict=True)]
    if any(isinstance(value, torch.Tensor) and value.is_meta for _, value in entries):
        folder = str(getattr(model, "name_or_path", ""))
        lines.append(["", fingerprint_of_files(folder) if folder else ""])
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:32]


def _digest(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return digest_of(value)
    if hasattr(value, "__tensor_flatten__"):  # quantized, or one part of several: made of others
        inner, rest = value.__tensor_flatten__()
        return digest_of([[_digest(getattr(value, name)) for name in inner], str(rest)])
    hasher = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode())
    if not value.is_meta:
        for block in _blocks(value.detach()):
            hasher.update(block.numpy().data)
    return hasher.hexdigest()


def _blocks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
    for start in range(0, flat.numel(), _BLOCK):
        yield flat[start : start + _BLOCK].cpu()


def fingerprint_of_settings(model: torch.nn.Module) -> str:
    """Return a digest of what a checkpoint says of computing and of generating, besides weights."""
    active = getattr(model, "active_adapter", None)  # of PEFT; elsewhere a method, or none
    return digest_of(
        [
            getattr(model, "config", None),
            getattr(model, "generation_config", None),
            getattr(model, "peft_config", None),
            active if isinstance(active, str) else None,
        ]
    )


def fingerprint_of_processor(processor: Any, tokenizer: Any) -> str:
    """Return a digest of a processor's parts and of the tokenizer, templates included."""
    parts: dict[str, Any] = {"tokenizer": _tokenizer(tokenizer)}
    if processor is not None:
        parts["template"] = getattr(processor, "chat_template", None)
        for name in getattr(processor, "get_attributes", tuple)():
            part = getattr(processor, name, None)
            if isinstance(part, torch.nn.Module):
                parts[name] = fingerprint_of_weights(part)
            elif name != "tokenizer":
                parts[name] = [type(part).__name__, part]
    return digest_of(parts)


def _tokenizer(tokenizer: Any) -> list[Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        rules.pop("padding", None)  # change from call to call
        rules.pop("truncation", None)
    else:
        rules = dict(tokenizer.get_vocab())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    template = getattr(tokenizer, "chat_template", None)
    rules_digest = sha256_of_text(json.dumps(rules, sort_keys=True))
    return [type(tokenizer).__name__, rules_digest, special, template]


# Arguments that say where and how fast a model computes, and those that other fields tell better.
_TOLD_OTHERWISE = frozenset(
    ("batch_size", "max_batch_size", "device", "parallelize", "max_memory_per_gpu", "tp_plan")
    + ("max_cpu_memory", "offload_folder", "low_cpu_mem_usage", "device_map", "logits_cache")
    + ("dtype", "tokenizer", "use_fast_tokenizer", "trust_remote_code", "revision", "peft", "delta")
    + ("max_length", "backend")
)


def identity_of_loaded(
    lm: Any, pretrained: Any, arguments: dict[str, Any], template: str
) -> Identity:
    """Return the identity of a loaded model as it is now.

    Parameters
    ----------
    lm : LoadedModel
        The model.
    pretrained : str or transformers.PreTrainedModel
        As the user named it.
    arguments : dict
        Of `HFLM`, as the user gave them.
    template : str
        A digest of what writes chats.
    """
    usual = inspect.signature(HFLM.__init__).parameters
    others = {
        name: value
        for name, value in arguments.items()
        if name not in _TOLD_OTHERWISE
        and value is not None
        and not (name in usual and usual[name].default == value)
    }
    adapters = {name: getattr(lm, name, None) or None for name in ("peft", "delta")}
    return identity_of(
        model_class="hf-audio",
        model=_name_of(pretrained),
        revision=lm.revision if isinstance(pretrained, str) else None,
        dtype=str(getattr(lm.model, "dtype", "")),
        weights=fingerprint_of_weights(lm.model),
        settings=fingerprint_of_settings(lm.model),
        adapters=adapters,
        processor=fingerprint_of_processor(lm.processor, lm.tokenizer),
        template=template,
        listening={
            **lm.long_audio.as_dict(),
            "multi_audio": lm.multi_audio,
            "channels": lm.channels,
            "frontend": lm.frontend,
        },
        max_length=lm.max_length,
        end_tokens=lm.end_tokens,
        arguments=others,
        transformers=transformers.__version__,
    )


def _name_of(pretrained: Any) -> str:
    if not isinstance(pretrained, str):
        return str(getattr(pretrained, "name_or_path", "") or type(pretrained).__name__)
    return os.path.abspath(pretrained) if os.path.exists(pretrained) else pretrained
