"""Secrets among the arguments of a model of ours: the model gets them, logs and results do not.

lm_eval logs the arguments, hands them to the tasks as their metadata, prints them, and writes them into
the results. Each secret (`masking.hidden`) travels as an object that is written as `***`, and becomes
itself when the model is made.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from mmaupro_ext import plugin
from mmaupro_ext.masking import hidden, revealed, shown

_PATCHED = "_mmaupro_ext_hides_secrets"


def hide_in_config(config: Any, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Hide the secrets in an `EvaluatorConfig` whose model is ours; return metadata without them, too."""
    if config.model not in plugin.MODELS:
        return metadata
    config.model_args = hidden(config.model_args or {})
    config.metadata = hidden(config.metadata or {})
    return hidden(metadata) if metadata else metadata


def hide_in_simple_evaluate(module: Any) -> None:
    """Let `simple_evaluate` hide the secrets among the arguments of a model of ours."""
    original = module.simple_evaluate
    if hasattr(original, _PATCHED):
        return

    @functools.wraps(original)
    def simple_evaluate(*arguments: Any, **options: Any) -> Any:
        given = dict(zip(("model", "model_args"), arguments, strict=False)) | options
        model, model_args = given.get("model"), given.get("model_args")
        if not (isinstance(model, str) and model in plugin.MODELS and model_args):
            return original(*arguments, **options)
        if isinstance(model_args, str):
            from lm_eval.utils import simple_parse_args_string

            model_args = simple_parse_args_string(model_args)
        given["model_args"] = hidden(model_args)
        if isinstance(given.get("metadata"), Mapping):
            given["metadata"] = hidden(given["metadata"])
        results = original(*arguments[2:], **given)
        if results is not None:
            for name in ("config", "configs"):
                results[name] = shown(results[name])
        return results

    setattr(simple_evaluate, _PATCHED, True)
    module.simple_evaluate = simple_evaluate


def reveal_to_models(module: Any) -> None:
    """Let models be made with what was hidden."""
    original = module.LM.create_from_arg_obj.__func__
    if hasattr(original, _PATCHED):
        return

    def create_from_arg_obj(
        cls: Any, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> Any:
        return original(cls, revealed(arg_dict), additional_config)

    setattr(create_from_arg_obj, _PATCHED, True)
    module.LM.create_from_arg_obj = classmethod(create_from_arg_obj)
