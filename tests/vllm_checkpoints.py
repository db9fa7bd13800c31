"""Tiny checkpoints that vLLM takes on a CPU: those of `tests/tiny`, with heads of 32 numbers.

Its attention kernel for CPUs has no narrower ones. Transformers before 5.20 writes some language models one
level deeper than the hub has them, which vLLM does not read.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import common

HEAD = 32
DEEPER, ON_THE_HUB = "language_model.model.model.", "language_model.model."


def build(name: str, folder: Path) -> str:
    """Make the checkpoint of a builder in `tests/tiny`, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        maker = importlib.import_module(f"tiny.{name}")
        # That of Qwen2-Audio has heads of 32, and another way of saving.
        patch.setattr(maker, "save_model", save_model, raising=False)
        maker.build(folder)
    rename_weights(folder)
    return str(folder)


def save_model(folder: Path, kind: Any, config: Any, **options: Any) -> None:
    """Save a model as `tiny.common` does, with heads and names that vLLM takes."""
    text = config.get_text_config()
    if "head_dim" in (before := text.to_dict()) and before["head_dim"] is not None:
        text.head_dim = HEAD
    else:
        text.num_attention_heads = text.num_key_value_heads = text.hidden_size // HEAD
    if sections := (text.rope_parameters or {}).get("mrope_section"):
        text.rope_parameters["mrope_section"] = [2 * size for size in sections]
    common.save_model(folder, kind, config, **options)


def rename_weights(folder: Path) -> None:
    """Give the weights the names that the hub's checkpoints have."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    if any(name.startswith(DEEPER) for name in weights):
        renamed = {name.replace(DEEPER, ON_THE_HUB): weight for name, weight in weights.items()}
        save_file(renamed, path, metadata={"format": "pt"})
