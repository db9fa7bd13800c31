"""Replies of a run that follows a recipe, read as its authors read them, where a pure function can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmaupro_ext import recipes
from mmaupro_ext.scoring.published_rules import RULES
from mmaupro_ext.scoring.scorer import kind_of


def rule_in_run(recipe: recipes.Recipe) -> str:
    """Return the published rule by which a run reads replies for a recipe.

    Parameters
    ----------
    recipe : Recipe
        A card.

    Returns
    -------
    str
        Key of `RULES`. "" where the card states none, or one that needs a model: then `strict` stays.
    """
    rule = str(recipe.reading.value) if recipe.reading is not None else ""
    return rule if rule in RULES and RULES[rule].apply is not None else ""


def what_is_ours(recipe: recipes.Recipe) -> str:
    """Return what a recipe does not say, where this package's ways stay, in one sentence.

    Parameters
    ----------
    recipe : Recipe
        A card.
    """
    ours = [
        name for name in ("system", "decoding", "reading", "audio") if getattr(recipe, name) is None
    ]
    if any("{ours}" in prompt.text for prompt in recipe.prompt.values() if prompt is not None):
        ours.insert(0, "the layout of question and choices")
    parts = [f"unstated, so ours: {', '.join(ours)}"] if ours else ["nothing else is ours"]
    if recipe.audio is not None:
        parts.append(f"not applied, how clips are given: {recipe.audio.about}")
    if recipe.decoding is not None and recipe.decoding.about:
        parts.append(f"decoding: {recipe.decoding.about}")
    if recipe.reading is not None and not rule_in_run(recipe):
        parts.append(
            f"its reading, {recipe.reading.value}, needs a model, so that the table's acc is strict "
            "(`mmaupro reconcile` and `mmaupro score` have others)"
        )
    return "; ".join(parts)


def score_by_recipe(doc: Mapping[str, Any], reply: str) -> float | None:
    """Score a reply as the recipe reads it that its document names.

    Parameters
    ----------
    doc : mapping
        As it was asked.
    reply : str
        Raw, of an item that was served.

    Returns
    -------
    float or None
        0 to 1; a reply that the rule leaves out scores 0. None where no recipe says how, or the item is not
        multiple choice.
    """
    name = recipes.name_of(doc)
    if not name or kind_of(doc) != "closed":
        return None
    recipe = recipes.known(name)
    rule = rule_in_run(recipe)
    if not rule:
        return None
    apply = RULES[rule].apply
    assert apply is not None
    return apply(doc["choices"], doc["answer"], recipes.read_part(recipe, reply)).score or 0.0
