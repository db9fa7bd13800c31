"""Multiple choice that is answered with an option's text: the prompt is all that differs from `mmaupro`."""

from __future__ import annotations

from typing import Any

from mmaupro_ext.data.questions import prompt


def doc_to_text(doc: dict[str, Any]) -> str:
    """Return the prompt: one placeholder per clip, the question, and the options without letters."""
    return prompt(doc, asks_for="text")
