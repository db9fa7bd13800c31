"""A recipe in a run of lm_eval: its system turn and decoding, and its name in the results.

Prompts are made from documents (`data.questions`), replies read by `scoring.by_recipe`; here is what
lm_eval's configuration decides, before the model is loaded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext import benchmarks, recipes
from mmaupro_ext.compat.preflight import leaves_of
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.identity import identity_of
from mmaupro_ext.recipes import RECIPE, Recipe
from mmaupro_ext.scoring.by_recipe import what_is_ours
from mmaupro_ext.util import sha256_of_text

logger = logging.getLogger(__name__)


def apply(config: Any, manager: Any, metadata: Mapping[str, Any]) -> None:
    """Let a run follow the recipe that its metadata names.

    Parameters
    ----------
    config : lm_eval.config.evaluate_config.EvaluatorConfig
        With its tasks resolved; its system instruction and decoding are changed in place.
    manager : lm_eval.tasks.TaskManager
        Knows the tasks.
    metadata : mapping
        That the tasks will get; nothing happens where it names no recipe.

    Raises
    ------
    ConfigError
        When the recipe is unknown, does not say how the tasks of the run are asked, or says something else
        than the run's options.
    """
    if not metadata.get(RECIPE):
        return
    recipe = recipes.known(str(metadata[RECIPE]))
    for leaf in leaves_of(config.tasks, manager):
        _require_prompt(recipe, leaf)
    if recipe.system is not None:
        _set_system(recipe, config)
    for name, value in (recipe.decoding.value if recipe.decoding else {}).items():
        given = config.gen_kwargs.get(name, value)
        if given != value:
            raise ConfigError(
                f"--gen_kwargs {name}={given}: the recipe {recipe.name} has {name}={value}. Leave one out."
            )
        config.gen_kwargs[name] = value
    logger.warning("recipe %s: %s", recipe.name, what_is_ours(recipe))


def _require_prompt(recipe: Recipe, task: str) -> None:
    asked = benchmarks.parse_task(task)
    if asked is None or asked.variant:
        raise ConfigError(
            f"the recipe {recipe.name} does not fit {task}: recipes are for tasks of ours that ask for a "
            f"reply, without a variant ({', '.join(benchmarks.BENCHMARKS)} and their samples)."
        )
    benchmark = benchmarks.BENCHMARKS[asked.benchmark]
    for slug in benchmarks.categories_of(asked):
        kind = benchmark.by_slug[slug].kind
        prompt = recipe.prompt["closed" if kind == "hidden" else kind]
        if prompt is None:
            raise ConfigError(
                f"the recipe {recipe.name} does not fit {task}: no source states how it asks "
                f"{_KIND[kind]} (`mmaupro recipes {recipe.name}`). {_fitting(recipe)}"
            )
        if "{own}" in prompt.text and benchmark.prompt is None:
            raise ConfigError(
                f"the recipe {recipe.name} does not fit {task}: it asks as the benchmark's authors do, and "
                f"those of {benchmark.title} published no prompt."
            )


_KIND = {
    "closed": "multiple choice",
    "hidden": "multiple choice",
    "open": "open questions",
    "instruction": "instructions",
}


def _fitting(recipe: Recipe) -> str:
    known = [_KIND[kind] for kind in recipes.KINDS if recipe.prompt[kind] is not None]
    return f"It fits tasks of {' and '.join(known)} alone." if known else "It fits no task."


def _set_system(recipe: Recipe, config: Any) -> None:
    assert recipe.system is not None
    text = recipe.system.value
    if text is None:
        raise ConfigError(
            f"the recipe {recipe.name} cannot be applied: its system turn ({recipe.system.about}) is not "
            "known here."
        )
    given = config.system_instruction or ""
    if given and given != text:
        raise ConfigError(
            f"--system_instruction: the recipe {recipe.name} has "
            f"{'another one' if text else 'no system turn'}. Leave one out."
        )
    if text and not config.apply_chat_template:
        raise ConfigError(
            f"the recipe {recipe.name} has a system turn, which only a chat has: add --apply_chat_template."
        )
    config.system_instruction = text or None


def mark(results: dict[str, Any], samples: Mapping[str, Sequence[dict[str, Any]]] | None) -> None:
    """Write the recipe of a run into its results and samples, wherever they tell runs apart.

    Parameters
    ----------
    results : dict
        As lm_eval is about to write them; changed in place: digests of prompts, the identity, and
        `config.recipe`. Runs without a recipe stay as they are.
    samples : mapping, optional
        Task -> its samples; their digests of prompts are changed.
    """
    names = set()
    for task, config in (results.get("configs") or {}).items():
        metadata = config.get("metadata") or {}
        if benchmarks.parse_task(task) is None or not metadata.get(RECIPE):
            continue
        names.add(str(metadata[RECIPE]))
        if "prompt_sha256" in metadata:
            digest = digest_with(metadata["prompt_sha256"], str(metadata[RECIPE]))
            config["metadata"] = {**metadata, "prompt_sha256": digest}
        for sample in (samples or {}).get(task, ()):
            sample["prompt_hash"] = digest_with(sample["prompt_hash"], str(metadata[RECIPE]))
    if not names:
        return
    config = results.setdefault("config", {})
    config[RECIPE] = ", ".join(sorted(names))
    if (identity := config.get("identity")) is not None:
        fields = {name: value for name, value in identity.items() if name != "id"}
        config["identity"] = identity_of(**{**fields, RECIPE: config[RECIPE]}).as_dict()


def digest_with(digest: str, recipe: str) -> str:
    """Return a digest of a prompt that also tells by which recipe it was asked."""
    return sha256_of_text(json.dumps([digest, {RECIPE: recipe}]))
