"""Adapters inside a model: those that a checkpoint brings for a kind of media, and the user's.

Checkpoints such as Granite Speech have a LoRA that must work for audio and rest for text. A user's
`peft=FOLDER` puts another one beside it, in the same layers; that one always works.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any


def tuner_layers(model: Any) -> list[Any]:
    """Return the layers of a model that carry adapters."""
    tuners = sys.modules.get("peft.tuners.tuners_utils")
    if tuners is None:  # without peft there are none
        return []
    return [module for module in model.modules() if isinstance(module, tuners.BaseTunerLayer)]


def names(model: Any) -> set[str]:
    """Return the names of all adapters in a model."""
    return {
        name
        for layer in tuner_layers(model)
        for attribute in layer.adapter_layer_names
        for name in getattr(layer, attribute)
    }


def is_wrapped(model: Any) -> bool:
    """Tell whether a model has the adapter of a user, as `peft=FOLDER` of lm_eval puts it there."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, peft.PeftModel)


def base(model: Any) -> Any:
    """Return the transformers model, without the wrapper of a user's adapter."""
    return model.get_base_model() if is_wrapped(model) else model


def let_work(model: Any, wanted: Collection[str], own: Collection[str]) -> None:
    """Let some of a checkpoint's own adapters work, and all of the user's.

    Parameters
    ----------
    model : transformers.PreTrainedModel or peft.PeftModel
        Changed in place.
    wanted : collection of str
        Which of its own adapters are to work.
    own : collection of str
        All of its own adapters; any other is the user's.
    """
    layers = tuner_layers(model)
    working = sorted((names(model) - set(own)) | set(wanted)) if layers else []
    for layer in layers:
        layer.enable_adapters(bool(working))
        layer.set_adapter(working)
        layer.requires_grad_(False)  # set_adapter is made for training
