"""Stand-ins for the benchmarks at full size: made-up rows with the stated counts, no sound.

Tests and benchmarks use them, because the real files may not be copied into a repository and loading,
checking and building tasks should be measured at the real scale. Nothing in them is a question of a
benchmark: texts are numbered placeholders, ids come from a seed. What MMAU-Pro's shares with the real file
is what `facts.check_facts` counts, the columns and their types, and the order by category; the others have
the columns and counts of theirs.
"""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.data.schema import CATEGORIES, NUMBER_KWARGS, TASK_IDENTIFIERS, TEXT_KWARGS
from suite_samples import QUESTIONS, SAMPLES
from synth.build import PARQUET_SCHEMA

_NAMESPACE = uuid.UUID("0a7f1d2e-52c1-4a69-9d0b-6f2f0a3d5b11")

# The real file is sorted by category and starts like this.
_ORDER = ("sound", "open", *(slug for slug in CATEGORIES if slug not in ("sound", "open")))
_SINGLE_CHOICE_OPEN = 497
_LONG_ROWS = 1219
# Rows with several clips: {category: (with two, with three)}.
_SEVERAL_CLIPS = {"multi": (413, 17), "open": (17, 9)}
# How often a closed row has so many choices. Mean 1/k is then near the paper's 27 %.
_CHOICES_PER_ROW = ((2, 4), (3, 20), (4, 62), (5, 6), (6, 4), (8, 2), (10, 2))

_REASONING = ("Procedural Reasoning", "Temporal Reasoning", "World Knowledge Integration")
_PERCEPTUAL = ("Acoustic Source Characterization", "Prosody Detection", "Harmony Perception")


def rows(seed: int = 0) -> list[dict[str, Any]]:
    """Return 5,305 made-up rows with the counts that are stated of MMAU-Pro.

    Parameters
    ----------
    seed : int
        Equal seeds give equal rows.

    Returns
    -------
    list of dict
        Raw rows (before `schema.normalise_row`), sorted by category.
    """
    rng = random.Random(seed)
    made: list[dict[str, Any]] = []
    for slug in _ORDER:
        category = CATEGORIES[slug]
        two, three = _SEVERAL_CLIPS.get(slug, (0, 0))
        for number in range(category.expected_count):
            row = _row(rng, seed, slug, number)
            # Open rows with several clips are among those without choices, at the end.
            rank = category.expected_count - 1 - number if slug == "open" else number
            clips = 3 if rank < three else 2 if rank < three + two else 1
            row["audio_path"] = [f"data/{_uuid(seed, slug, number, c)}.wav" for c in range(clips)]
            made.append(row)
    labels = ["long"] * 1000 + ["ultra-long"] * (_LONG_ROWS - 1000)
    labels += ["short"] * 2400
    labels += ["medium"] * (len(made) - len(labels))
    rng.shuffle(labels)
    for row, label in zip(made, labels, strict=True):
        row["length_type"] = label
    return made


def _uuid(*parts: object) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, parts))))


def _row(rng: random.Random, seed: int, slug: str, number: int) -> dict[str, Any]:
    category = CATEGORIES[slug]
    row: dict[str, Any] = {
        "id": _uuid(seed, slug, number),
        "question": f"Placeholder question {number} about {category.value}: which one is it?",
        "answer": None,
        "choices": [],
        "perceptual_skills": rng.sample(_PERCEPTUAL, rng.randint(1, 2)),
        "reasoning_skills": rng.sample(_REASONING, rng.randint(1, 2)),
        "category": category.value,
        "transcription": None,
        "task_classification": None,
        "task_identifier": None,
        "kwargs": None,
        "sub-cat": f"{slug}-{number % 7}",
    }
    if category.kind == "closed":
        sizes, weights = zip(*_CHOICES_PER_ROW, strict=True)
        count = rng.choices(sizes, weights)[0]
        row["choices"] = [f"option {number}-{c}" for c in range(count)]
        row["answer"] = rng.choice(row["choices"])
    elif category.kind == "open":
        row["answer"] = (
            f"Placeholder reference answer {number}, a sentence that a judge would read."
        )
        if number < _SINGLE_CHOICE_OPEN:
            row["choices"] = [row["answer"]]
    else:
        identifier = list(TASK_IDENTIFIERS)[number % len(TASK_IDENTIFIERS)]
        kwargs: dict[str, Any] = dict.fromkeys((*NUMBER_KWARGS, *TEXT_KWARGS))
        for key in TASK_IDENTIFIERS[identifier]:
            kwargs[key] = rng.randint(1, 9) if key in NUMBER_KWARGS else f"word{number}"
        row |= {
            "transcription": row["question"],
            "task_classification": "Placeholder group",
            "task_identifier": identifier,
            "kwargs": kwargs,
        }
    return row


def write(folder: Path, made: list[dict[str, Any]] | None = None) -> Path:
    """Write a dataset folder: test.parquet, and data/ without a clip.

    Parameters
    ----------
    folder : pathlib.Path
        Made when it is missing.
    made : list of dict, optional
        The rows; `rows()` by default.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows() if made is None else made, schema=PARQUET_SCHEMA)
    pyarrow.parquet.write_table(table, folder / "test.parquet")
    return folder


def write_rows(folder: Path, name: str) -> Path:
    """Write the folder of a benchmark that is described by its rows: rows.jsonl, and data/ without a clip.

    Parameters
    ----------
    folder : pathlib.Path
        Made when it is missing.
    name : str
        Key of `suite_samples.SAMPLES`.

    Returns
    -------
    pathlib.Path
        The folder.
    """
    benchmark, (row_of, _) = BENCHMARKS[name], SAMPLES[name]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    share, rest = divmod(benchmark.items, len(benchmark.categories))
    lines, number = [], 0
    for position, category in enumerate(benchmark.categories):
        for _ in range(category.expected_count or share + (position < rest)):
            question = list(QUESTIONS)[number % len(QUESTIONS)]
            choices = list(QUESTIONS[question])
            answer = choices[number % len(choices)]
            clip = f"data/{_uuid(name, number)}.wav"
            row = row_of(clip, category.value, number, f"{question} {number}", choices, answer)
            lines.append(json.dumps(row))
            number += 1
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder
