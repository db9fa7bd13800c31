"""MMAU test-mini, v05.15.25: 1,000 questions on sound, music and speech with their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mmaupro_ext.benchmarks.description import (
    Benchmark,
    Fields,
    File,
    Row,
    RowError,
    clip_of,
    first_of,
    require_category,
    text_of,
    texts_of,
)
from mmaupro_ext.categories import Category

CATEGORIES = (
    Category("sound", "sound", 333, "closed"),
    Category("music", "music", 334, "closed"),
    Category("speech", "speech", 333, "closed"),
)
_TASKS = {category.value: category for category in CATEGORIES}
ATTRIBUTES = ("dataset", "category", "sub-category", "difficulty", "split")
_LETTER = re.compile(r"\(([A-Z])\) ")


def identify(row: Row) -> tuple[str, str]:
    """Return the id and the task, which lie within a column of JSON text."""
    others = _others(row)
    return text_of(others, "id"), require_category(others.get("task"), "other_attributes", _TASKS)


def read_row(row: Row) -> Fields:
    """Read a row of the parquet: its choices and its answer carry letters, which are taken off."""
    others = _others(row)
    choices = [_without_letter(text, i) for i, text in enumerate(texts_of(row, "choices"))]
    answer = text_of(row, "answer")
    letter = _LETTER.match(answer)
    if letter is not None:
        answer = answer[letter.end() :]
        if answer not in choices:
            raise RowError("answer", "must be one of the choices", row["answer"])
    return {
        "question": text_of(row, "instruction"),
        "choices": choices,
        "answer": answer,
        "audio_path": [clip_of(row, "context")],
        # `category` is a list of one text in 13 rows.
        "attributes": {name: first_of(others.get(name)) for name in ATTRIBUTES},
    }


def _others(row: Row) -> Row:
    text = text_of(row, "other_attributes")
    try:
        others = json.loads(text)
    except json.JSONDecodeError:
        others = None
    if not isinstance(others, dict):
        raise RowError("other_attributes", "must be a JSON object", text)
    return others


def _without_letter(text: str, position: int) -> str:
    letter = _LETTER.match(text)
    if letter is not None and letter[1] == chr(ord("A") + position):
        return text[letter.end() :]
    return text


def prompt(question: str, choices: Sequence[str]) -> str:
    """Ask as the authors do, who write the choices as a Python list."""
    return f"\n{question}  Select one option from the provided choices.\n{list(choices)}."


BENCHMARK = Benchmark(
    name="mmau",
    title="MMAU",
    version="test-mini v05.15.25",
    homepage="https://huggingface.co/datasets/gamma-lab-umd/MMAU-test-mini",
    paper="https://arxiv.org/abs/2410.19168",
    licence="CC BY-NC 4.0",
    hours=3.98,
    items=1000,
    categories=CATEGORIES,
    columns=("context", "instruction", "choices", "answer", "other_attributes"),
    files=(
        File(
            "hub",
            "gamma-lab-umd/MMAU-test-mini",
            "ccd9696c0111ea7060827598f310558df0b71b0a",
            "test_mini.parquet",
            "both",
            1_213_407_227,
        ),
    ),
    clip_column="context",
    identify=identify,
    read_row=read_row,
    prompt=prompt,
    rule="token-sets",
    groups=("difficulty", "category", "sub-category", "dataset"),
    counts={
        "choices": {"2": 27, "4": 948, "5": 24, "8": 1},
        "difficulty": {"easy": 224, "medium": 540, "hard": 236},
        "category": {"Reasoning": 677, "Information Extraction": 323},
    },
    order=1,
)
