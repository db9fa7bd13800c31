"""What a description of a benchmark says: where its data is, what a row means, how it is asked and scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmaupro_ext.categories import Category

Row = Mapping[str, Any]
Fields = dict[str, Any]

VARIANTS: dict[str, str] = {
    "": "own",
    "letter": "letter",
    "text": "text",
    "ll": "letter",
}
"""Variant in a task's name -> the prompt that it asks with; see `data.questions.prompt`."""


class RowError(ValueError):
    """A released row that cannot be asked or scored: column, value found, problem.

    Parameters
    ----------
    column : str
        The column concerned.
    problem : str
        What is wrong, in one clause.
    value : object
        What was found.
    """

    def __init__(self, column: str, problem: str, value: object) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 120 else f"{shown[:117]}..."
        super().__init__(f"column {column!r}: {problem}; found {shown}")


@dataclass(frozen=True)
class File:
    """A file of the release, or several of one kind.

    Parameters
    ----------
    host : {"hub", "github"}
        Where the repository is: a dataset of the Hugging Face hub, or a repository of GitHub.
    repository : str
        "owner/name".
    revision : str
        Commit.
    path : str
        Within the repository; of several files a pattern (`fnmatch`).
    holds : {"rows", "clips", "both"}
        What it is needed for.
    bytes : int or None
        Its size, or their sum; None where nobody states it.
    digest : str or None
        In hexadecimal digits: a sha256 (64), or the id that git gives its content (40). None where nobody
        states it.
    """

    host: str
    repository: str
    revision: str
    path: str
    holds: str
    bytes: int | None = None
    digest: str | None = None


@dataclass(frozen=True)
class TaskName:
    """What the name of a task or group asks for.

    Parameters
    ----------
    benchmark : str
        Key of `BENCHMARKS`.
    sample : bool
        Whether the generated sample is asked.
    variant : str
        Key of `VARIANTS`.
    part : str
        Slug of a category, or of several ("perception"); "" for all.
    condition : str
        Under which its items are asked, where `mmaupro ablate` asks them under several (`data.conditions`);
        "" as they are.
    """

    benchmark: str
    sample: bool
    variant: str
    part: str
    condition: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark, as data.

    Parameters
    ----------
    name : str
        In names of tasks, commands and files: lower case, letters, digits and hyphens.
    title : str
        For people, and the name of its folder in the user's cache.
    version : str
        Of the data, as its authors call it.
    homepage, paper : str
        Addresses.
    licence : str
        Of the data, as its card states it.
    hours : float or None
        Of sound; None where nobody states it.
    items : int
        Rows of the release.
    categories : tuple of Category
        The leaves of its tasks; the value of one is what documents carry as `category`.
    columns : tuple of str
        That every released row must have.
    files : tuple of File
        The release.
    clip_column : str
        Column that holds a clip's bytes in the release, and the clip's relative path in `rows.jsonl`; or the
        column that names a member of an archive.
    identify : callable or None
        Released row -> its id and its category. Raises `RowError` where it has none: such a file is not used.
        None: its rows have a schema of their own (MMAU-Pro).
    read_row : callable or None
        Released row -> question, choices, answer, audio_path and attributes of a document. Raises `RowError`
        for a row that cannot be asked: it is counted as errored. A choice that is "" holds the place of a
        letter that no choice has.
    prompt : callable or None
        (question, choices) -> the text that the benchmark's authors ask with, without audio. None: they have
        published none, and ours is asked.
    rule : str
        Value of the option `closed` by which the released scorer finds right replies (`scoring.presets`).
    presets : tuple of str
        Presets of `scoring.presets` that are defined for it.
    groups : tuple of str
        Names of attributes by which `mmaupro score --groups` and `mmaupro data info` tabulate.
    counts : mapping of str to mapping of str to int
        Name of an attribute, "choices" (how many a row has) or "real choices" (without those that are null)
        -> value -> rows, as others counted them; `mmaupro data verify` compares.
    parts : mapping of str to tuple of str
        Groups within it: part of a task's name -> slugs of its categories.
    asked_as : tuple of str
        Variants of its tasks, keys of `VARIANTS`.
    submission_row : callable or None
        (document, text of the reply) -> the row of the file that its authors score, where they withhold the
        answers.
    in_suite : bool
        Whether the group `audio-suite` runs it.
    order : int
        Its place in tables.
    """

    name: str
    title: str
    version: str
    homepage: str
    paper: str
    licence: str
    items: int
    categories: tuple[Category, ...]
    columns: tuple[str, ...]
    files: tuple[File, ...]
    clip_column: str
    identify: Callable[[Row], tuple[str, str]] | None
    read_row: Callable[[Row], Fields] | None
    prompt: Callable[[str, Sequence[str]], str] | None
    rule: str
    order: int
    hours: float | None = None
    presets: tuple[str, ...] = ("official", "strict")
    groups: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked_as: tuple[str, ...] = ("", "letter", "text", "ll")
    submission_row: Callable[[Mapping[str, Any], str], Fields] | None = None
    in_suite: bool = True

    @cached_property
    def by_slug(self) -> dict[str, Category]:
        """Its categories by the name that tasks use."""
        return {category.slug: category for category in self.categories}

    @cached_property
    def by_value(self) -> dict[str, Category]:
        """Its categories by the value that documents carry."""
        return {category.value: category for category in self.categories}

    @property
    def hidden(self) -> bool:
        """Whether its answers are withheld: replies are kept, and not scored here."""
        return self.submission_row is not None

    @property
    def part_note(self) -> str:
        """Key of lm_eval's metadata under which a run notes which part of the data it has."""
        return f"{self.name.replace('-', '_')}_data"

    def task(self, variant: str = "", sample: bool = False, part: str = "") -> str:
        """Return the name of a task or group; see `TaskName`."""
        name = "-".join(word for word in (self.name, "sample" if sample else "", variant) if word)
        return f"{name}_{part}" if part else name


def matching_task(benchmark: Benchmark, name: str) -> TaskName | None:
    """Return what a task's name asks of a benchmark, None where it is not of its tasks."""
    variants = "|".join(variant for variant in VARIANTS if variant)
    form = rf"{re.escape(benchmark.name)}(-sample)?(?:-({variants}))?(?:_(\w+))?"
    found = re.fullmatch(form, name)
    if found is None:
        return None
    variant, part = found[2] or "", found[3] or ""
    parts = {"", *benchmark.by_slug, *benchmark.parts}
    if variant not in benchmark.asked_as or part not in parts:
        return None
    return TaskName(benchmark.name, bool(found[1]), variant, part)


# --- reading rows --------------------------------------------------------------------------------


def text_of(row: Row, column: str) -> str:
    """Return a cell that must hold text."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise RowError(column, "must be text", value)
    return value


def texts_of(row: Row, column: str) -> list[str]:
    """Return a cell that must hold a list of two or more texts."""
    value = row.get(column)
    if (
        not isinstance(value, list)
        or len(value) < 2
        or not all(isinstance(one, str) for one in value)
    ):
        raise RowError(column, "must be a list of two or more texts", value)
    return value


def first_of(value: object) -> str | None:
    """Return a text that is there, or is the only one of a list; None where there is neither."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) else None


def clip_of(row: Row, column: str) -> str:
    """Return the relative path of a row's clip, without a leading "./"."""
    return text_of(row, column).removeprefix("./")


def require_category(value: object, column: str, known: Mapping[str, Any]) -> str:
    """Return a value that is a category's."""
    if not isinstance(value, str) or value not in known:
        raise RowError(column, f"must be one of {', '.join(known)}", value)
    return value
