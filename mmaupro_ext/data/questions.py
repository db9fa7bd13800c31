"""How questions are put to a model: the prompts, which are part of a task's definition.

Bump `metadata.version` in `tasks/mmaupro/_template_yaml` (or `tasks/mmaupro_text/_template_yaml`) when a word
of them changes. `mmaupro score` compares each logged prompt with these. The prompts of the other benchmarks'
authors are in `benchmarks.known`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmaupro_ext import benchmarks, recipes
from mmaupro_ext.data.schema import CHOICE_LETTERS
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import sha256_of_text

AUDIO = "<audio>"
"""Stands for a clip, in clip order; the model class puts its own audio blocks there."""

CLOSED_PROMPT = "{audio}\n{question}\n\n{options}\n\nAnswer with the letter of the correct option."
CLOSED_TEXT_PROMPT = (
    "{audio}\n{question}\n\n{options}\n\nAnswer with the exact text of the correct option."
)
"""For replies that are compared with the options' texts. Letters before these would invite a letter."""

OPEN_PROMPT = "{audio}\n{question}"
INSTRUCTION_PROMPT = "{audio}\n{question}"
PROMPTS = {
    "closed": CLOSED_PROMPT,
    "hidden": CLOSED_PROMPT,
    "open": OPEN_PROMPT,
    "instruction": INSTRUCTION_PROMPT,
}


def prompt(doc: Mapping[str, Any], asks_for: str = "letter") -> str:
    """Return the prompt of a document: one placeholder per clip, the question, the options.

    Parameters
    ----------
    doc : mapping
        As `load_category` or `load_items` gives it.
    asks_for : {"letter", "text", "own"}
        Whether the options have letters and one of these is asked for, the text of an option is, or the
        benchmark's authors are followed. A document with the key `prompt` says so itself.

    Returns
    -------
    str
        Without white space at its end; without clips, also without their line.
    """
    benchmark = benchmarks.of(doc)
    kind = benchmark.by_value[doc["category"]].kind
    if recipes.name_of(doc):
        return _by_recipe(doc, kind)
    asks_for = doc.get("prompt", asks_for)
    template = PROMPTS[kind]
    if asks_for == "own" and benchmark.prompt is not None:
        text = benchmark.prompt(doc["question"], doc["choices"])
        text = text if text.startswith("\n") else f"\n{text}"
        return (AUDIO * len(doc["audio_path"]) + text.rstrip()).lstrip("\n")
    if kind in ("closed", "hidden") and asks_for == "text":
        template = CLOSED_TEXT_PROMPT
        options = "\n".join(f"- {choice}" for choice in doc["choices"])
    else:
        options = "\n".join(
            f"({letter}) {choice}"
            for letter, choice in zip(CHOICE_LETTERS, doc["choices"], strict=False)
        )
    filled = template.format(
        audio=AUDIO * len(doc["audio_path"]), question=doc["question"].strip(), options=options
    )
    return filled.lstrip("\n")


def _by_recipe(doc: Mapping[str, Any], kind: str) -> str:
    """Return the prompt of a document that a recipe has asked."""
    recipe, benchmark = recipes.known(recipes.name_of(doc)), benchmarks.of(doc)
    wanted = recipe.prompt["closed" if kind == "hidden" else kind]
    if wanted is None:
        raise ConfigError(f"the recipe {recipe.name} does not state how {kind} items are asked")
    question, choices = doc["question"].strip(), doc["choices"]
    options = "\n".join(
        f"({letter}) {choice}" for letter, choice in zip(CHOICE_LETTERS, choices, strict=False)
    )
    own = (
        None if benchmark.prompt is None else benchmark.prompt(doc["question"], choices).strip("\n")
    )
    text = wanted.fill(question, choices, f"{question}\n\n{options}", own)
    return (AUDIO * len(doc["audio_path"]) + f"\n{text.rstrip()}").lstrip("\n")


def prompt_digest(name: str, asks_for: str) -> str:
    """Return a SHA-256 that changes with a word of a prompt; results carry it.

    Parameters
    ----------
    name : str
        Key of `benchmarks.BENCHMARKS`.
    asks_for : {"letter", "text", "own"}
        As for `prompt`.

    Returns
    -------
    str
        64 hexadecimal digits, of the prompt of a question "Q" with the choices "X" and "Y".
    """
    benchmark = benchmarks.BENCHMARKS[name]
    doc = {"category": benchmark.categories[0].value, "question": "Q", "choices": ["X", "Y"]}
    if name != benchmarks.MMAUPRO:
        doc["benchmark"] = name
    return sha256_of_text(prompt({**doc, "audio_path": ["clip"]}, asks_for))


def is_asked_in(doc: Mapping[str, Any], text: str, asks_for: str = "letter") -> bool:
    """Tell whether a text that was given to a model asks a document, question and options as they are.

    Parameters
    ----------
    doc : mapping
        As `load_category` or `load_items` gives it.
    text : str
        What a run logged: the prompt, the same as a chat template wrote it, or a chat as JSON. Its audio
        blocks may be anything.
    asks_for : {"letter", "text"}
        As for `prompt`.

    Returns
    -------
    bool
    """
    asked = prompt(doc, asks_for).removeprefix(AUDIO * len(doc["audio_path"])).strip()
    # Within JSON, line breaks and quotation marks are escaped.
    escaped = (json.dumps(asked, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return asked in text or any(form in text for form in escaped)
