"""How the questions of MMAU-Pro are put to a model: the prompts, which are part of a task's definition.

Bump `metadata.version` in `tasks/mmaupro/_template_yaml` when a word of them changes. `mmaupro score`
compares each logged prompt with these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mmaupro_ext.data.schema import CATEGORY_BY_VALUE, CHOICE_LETTERS

AUDIO = "<audio>"
"""Stands for a clip, in clip order; the model class puts its own audio blocks there."""

CLOSED_PROMPT = "{audio}\n{question}\n\n{options}\n\nAnswer with the letter of the correct option."
OPEN_PROMPT = "{audio}\n{question}"
INSTRUCTION_PROMPT = "{audio}\n{question}"
PROMPTS = {"closed": CLOSED_PROMPT, "open": OPEN_PROMPT, "instruction": INSTRUCTION_PROMPT}


def prompt(doc: Mapping[str, Any]) -> str:
    """Return the prompt of a document: one placeholder per clip, the question, the options with letters.

    Parameters
    ----------
    doc : mapping
        As `load_category` gives it.

    Returns
    -------
    str
        Without white space at its end.
    """
    options = "\n".join(
        f"({letter}) {choice}"
        for letter, choice in zip(CHOICE_LETTERS, doc["choices"], strict=False)
    )
    return PROMPTS[CATEGORY_BY_VALUE[doc["category"]].kind].format(
        audio=AUDIO * len(doc["audio_path"]), question=doc["question"].strip(), options=options
    )


def is_asked_in(doc: Mapping[str, Any], text: str) -> bool:
    """Tell whether a text that was given to a model asks a document, question and options as they are.

    Parameters
    ----------
    doc : mapping
        As `load_category` gives it.
    text : str
        What a run logged: the prompt, the same as a chat template wrote it, or a chat as JSON. Its audio
        blocks may be anything.

    Returns
    -------
    bool
    """
    asked = prompt(doc).removeprefix(AUDIO * len(doc["audio_path"])).strip()
    # Within JSON, line breaks and quotation marks are escaped.
    escaped = (json.dumps(asked, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return asked in text or any(form in text for form in escaped)
