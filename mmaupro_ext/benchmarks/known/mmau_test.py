"""MMAU test: 9,000 questions whose answers are withheld; replies go to the authors' evaluation space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from mmaupro_ext.benchmarks.description import (
    Fields,
    File,
    Row,
    clip_of,
    first_of,
    require_category,
    text_of,
    texts_of,
)
from mmaupro_ext.benchmarks.known import mmau
from mmaupro_ext.categories import Category

CATEGORIES = tuple(Category(one.slug, one.value, 0, "hidden") for one in mmau.CATEGORIES)
_TASKS = {category.value: category for category in CATEGORIES}


def identify(row: Row) -> tuple[str, str]:
    """Return the id and the task."""
    return text_of(row, "id"), require_category(row.get("task"), "task", _TASKS)


def read_row(row: Row) -> Fields:
    """Read a row of the released JSON, whose `answer` is empty."""
    return {
        "question": text_of(row, "question"),
        "choices": texts_of(row, "choices"),
        "answer": None,
        "audio_path": [clip_of(row, "audio_id")],
        "attributes": {name: first_of(row.get(name)) for name in mmau.ATTRIBUTES},
    }


def submission_row(doc: Mapping[str, Any], text: str) -> Fields:
    """Return the released row with a reply, under the key of the README and the key that the script reads."""
    return {
        "id": doc["id"],
        "audio_id": f"./test-audios/{PurePosixPath(doc['audio_path'][0]).name if doc['audio_path'] else ''}",
        "question": doc["question"],
        "choices": doc["choices"],
        "answer": "",
        "task": doc["category"],
        **{name: doc["attributes"].get(name) for name in mmau.ATTRIBUTES},
        "model_prediction": text,
        "model_output": text,
    }


_GITHUB = ("github", "Sakshi113/MMAU", "110127f54c0dfba3faa5ec9feee4a7e4148679c5")

BENCHMARK = replace(
    mmau.BENCHMARK,
    name="mmau-test",
    title="MMAU-test",
    version="test v05.15.25, answers withheld",
    homepage="https://huggingface.co/datasets/gamma-lab-umd/MMAU-test",
    licence="MIT",
    hours=None,
    items=9000,
    categories=CATEGORIES,
    columns=("id", "audio_id", "question", "choices", "task"),
    files=(
        File(*_GITHUB, "mmau-test.json", "rows", None, "344d99bb206f8be8e69b4507988556fb52b36b02"),
        File("hub", "gamma-lab-umd/MMAU-test", "main", "test-audios.tar.gz", "clips"),
    ),
    clip_column="audio_id",
    identify=identify,
    read_row=read_row,
    asked_as=("", "letter", "text"),
    submission_row=submission_row,
    counts={},
    in_suite=False,
    order=5,
)
