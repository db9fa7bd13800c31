"""MMSU: 5,000 questions on speech, by perception and reasoning, and by what of speech they ask about."""

from __future__ import annotations

from collections.abc import Sequence

from mmaupro_ext.benchmarks.description import (
    Benchmark,
    Fields,
    File,
    Row,
    RowError,
    clip_of,
    first_of,
    text_of,
)
from mmaupro_ext.categories import Category

_ABILITIES = ("Perception", "Reasoning")
_FIELDS = ("Semantics", "Phonology", "Paralinguistics")
# The six columns of the authors' leaderboard; nobody states how many rows each has.
CATEGORIES = tuple(
    Category(f"{ability}_{field}".lower(), f"{ability}: {field}", 0, "closed")
    for ability in _ABILITIES
    for field in _FIELDS
)
_CHOICES = ("choice_a", "choice_b", "choice_c", "choice_d")
_LEVELS = ("category", "sub-category", "sub-sub-category")
_ATTRIBUTES = ("task_name", *_LEVELS, "linguistics_sub_discipline")


def identify(row: Row) -> tuple[str, str]:
    """Return the id and the column of the leaderboard."""
    return text_of(row, "id"), _category(row)


def read_row(row: Row) -> Fields:
    """Read a row; two choices may be null, in any position, and "None" may be the text of a real one."""
    choices = [row.get(column) for column in _CHOICES]
    wrong = next((one for one in choices if one is not None and not isinstance(one, str)), None)
    real = [one for one in choices if one]
    if wrong is not None or len(real) < 2:
        raise RowError("choice_a", "there must be two or more choices, all text", choices)
    answer = text_of(row, "answer_gt")
    if answer not in real:
        raise RowError("answer_gt", "must be one of the choices", answer)
    return {
        "question": text_of(row, "question"),
        "choices": [one or "" for one in choices],
        "answer": answer,
        "audio_path": [clip_of(row, "audio")],
        "attributes": {name: first_of(row.get(name)) for name in _ATTRIBUTES},
    }


def _category(row: Row) -> str:
    """Return the leaf: what paralinguistics divides into is not told apart, as on the leaderboard."""
    named = {str(row.get(level)).strip().title() for level in _LEVELS}
    if named & {"Speaker Traits", "Speaking Style"}:
        named.add("Paralinguistics")
    fields = [field for field in _FIELDS if field in named]
    abilities = [ability for ability in _ABILITIES if ability in named]
    if len(fields) != 1 or len(abilities) != 1:
        shown = [row.get(level) for level in _LEVELS]
        raise RowError(
            "sub-category",
            f"the levels must name one of {', '.join(_ABILITIES)} and one of {', '.join(_FIELDS)}",
            shown,
        )
    return f"{abilities[0]}: {fields[0]}"


def prompt(question: str, choices: Sequence[str]) -> str:
    """Ask as the authors do: a choice that is missing is shown as "None"."""
    lines = "\n".join(
        f"{letter}. {text or None}" for letter, text in zip("ABCD", choices, strict=False)
    )
    return (
        "Choose the most suitable answer from options A, B, C, and D. You must respond with only A, B, "
        f"C, or D.\n\nQuestion: {question}\n\n{lines}"
    )


BENCHMARK = Benchmark(
    name="mmsu",
    title="MMSU",
    version="train split of 548e228",
    homepage="https://huggingface.co/datasets/ddwang2000/MMSU",
    paper="https://arxiv.org/abs/2506.04779",
    licence="MIT",
    items=5000,
    categories=CATEGORIES,
    columns=("id", "audio", "question", *_CHOICES, "answer_gt", "category", "sub-category"),
    files=(
        File(
            "hub",
            "ddwang2000/MMSU",
            "548e2283105825bf908a7db5c09c00dbcf42bd4c",
            "data/train-*.parquet",
            "both",
            1_466_894_219,
        ),
    ),
    clip_column="audio",
    identify=identify,
    read_row=read_row,
    prompt=prompt,
    rule="first-letter",
    counts={"real choices": {"2": 453}},
    groups=(
        "category",
        "task_name",
        "sub-category",
        "sub-sub-category",
        "linguistics_sub_discipline",
    ),
    parts={
        ability.lower(): tuple(one.slug for one in CATEGORIES if one.value.startswith(ability))
        for ability in _ABILITIES
    },
    order=3,
)
