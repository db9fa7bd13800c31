"""What a row of MMAU-Pro looks like: its categories, columns and the facts that are held true of it.

The dataset has no published schema: its column names, counts and types are known from the paper,
from the official scorer and from programs that read the file. Some of them are inferred. `FACTS`
lists them with the confidence of each, and says what happens when a file disagrees:

* structure that the rest of the package relies on stops the load (`DataError`, naming row, id,
  column, value and fix);
* everything else is listed in a `LoadReport` and the row is kept, so that nothing is lost and
  nothing is hidden.

`rows` checks a file against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

# Names of this module for all of `data` and above; `scoring` takes them from below.
from mmaupro_ext.categories import CATEGORIES as CATEGORIES
from mmaupro_ext.categories import CATEGORY_BY_VALUE as CATEGORY_BY_VALUE
from mmaupro_ext.categories import CHOICE_LETTERS as CHOICE_LETTERS
from mmaupro_ext.categories import Category as Category
from mmaupro_ext.categories import Kind as Kind
from mmaupro_ext.util import visible

Confidence = Literal["verified", "reported", "inferred"]
Doc = dict[str, Any]


COLUMNS: tuple[str, ...] = (
    "id",
    "audio_path",
    "question",
    "answer",
    "choices",
    "length_type",
    "perceptual_skills",
    "reasoning_skills",
    "category",
    "transcription",
    "task_classification",
    "task_identifier",
    "kwargs",
    "sub-cat",
)
REQUIRED_COLUMNS: tuple[str, ...] = (
    "id",
    "audio_path",
    "question",
    "answer",
    "choices",
    "category",
    "task_identifier",
    "kwargs",
)
LENGTH_TYPES: tuple[str, ...] = ("short", "medium", "long", "ultra-long")
# Upper ends of short, medium and long in seconds (paper, section on the dataset); above is
# ultra-long, which ends at 10 min.
LENGTH_LIMITS_S: tuple[float, ...] = (30.0, 180.0, 480.0)
LONGEST_S = 600.0
# Encoders pad a clip by some milliseconds; without this a 30-s MP3 would count as longer than 30 s.
LENGTH_TOLERANCE_S = 0.1

# The ten fields of the kwargs struct; the first three are numbers, the others text.
NUMBER_KWARGS: tuple[str, ...] = ("N", "N1", "N2")
TEXT_KWARGS: tuple[str, ...] = (
    "keywords",
    "keyword",
    "forbidden_words",
    "postscript_marker",
    "section_splitter",
    "start_phrase",
    "end_phrase",
)
KWARGS_KEYS: tuple[str, ...] = NUMBER_KWARGS + TEXT_KWARGS

# The 27 constraint names that the official scorer handles, with the arguments each one reads.
TASK_IDENTIFIERS: dict[str, tuple[str, ...]] = {
    "Include Keywords": ("keywords",),
    "Keyword Frequency": ("keyword", "N"),
    "Forbidden Words": ("forbidden_words",),
    "Number Paragraphs": ("N",),
    "Number Words (at least)": ("N",),
    "Number Words (at most)": ("N",),
    "Number Words (range)": ("N1", "N2"),
    "Number Sentences (at least)": ("N",),
    "Number Sentences (at most)": ("N",),
    "Number Sentences (range)": ("N1", "N2"),
    "Postscript": ("postscript_marker",),
    "Number Placeholder": ("N",),
    "Number Bullets": ("N",),
    "Title": (),
    "Minimum Number Highlighted Section": ("N",),
    "Multiple Sections": ("N", "section_splitter"),
    "Repeat Prompt": (),
    "Two Responses": (),
    "All Uppercase": (),
    "All Lowercase": (),
    "All-capital Words (at least)": ("N",),
    "All-capital Words (at most)": ("N",),
    "All-capital Words (range)": ("N1", "N2"),
    "Start Checker": ("start_phrase",),
    "End Checker": ("end_phrase",),
    "Quotation": (),
    "No Commas": (),
}


@dataclass(frozen=True)
class Fact:
    """Something that is held true of the dataset, and how sure that is.

    Parameters
    ----------
    name : str
        Short name, used in `Finding.fact`.
    statement : str
        The fact in one sentence.
    confidence : {"verified", "reported", "inferred"}
        Read in the paper or the official scorer; stated by others who opened the file; or
        concluded from such statements.
    stops : bool
        True when a row that breaks it cannot be asked or scored (`normalise_row` raises; the loader
        keeps it as a broken document), False when it is only reported.
    """

    name: str
    statement: str
    confidence: Confidence
    stops: bool


FACTS: dict[str, Fact] = {
    fact.name: fact
    for fact in (
        Fact("row-usable", "Every row can be asked and scored.", "reported", False),
        Fact("columns", "The columns are those of COLUMNS; eight are needed.", "reported", True),
        Fact("optional-columns", "The other six columns exist as well.", "reported", False),
        Fact("id", "id is a unique, non-empty string.", "reported", True),
        Fact("category", "category is one of the twelve values.", "reported", True),
        Fact("counts", "The rows of each category number as in CATEGORIES.", "inferred", False),
        Fact("audio-path", "audio_path names 1 or more files inside the folder.", "reported", True),
        Fact("audio-path-list", "audio_path is a list even for one clip.", "reported", False),
        Fact("clip-count", "A row has at most three clips.", "verified", False),
        Fact("question", "question is a non-empty string.", "reported", True),
        Fact("answer", "answer is null on instruction rows and text elsewhere.", "reported", True),
        Fact("instruction-answer", "Instruction rows carry no answer.", "reported", False),
        Fact("choices", "Closed rows have at least 2 choices, all text.", "reported", True),
        Fact("choices-filled", "No choice is an empty text.", "inferred", False),
        Fact("choices-distinct", "The choices of a row differ.", "inferred", False),
        Fact("gold-in-choices", "The answer of a closed row is a choice.", "inferred", False),
        Fact("length-type", "length_type is one of four values.", "verified", False),
        Fact("skills", "The skills are lists of text.", "reported", False),
        Fact("text-columns", "The remaining columns are text or null.", "inferred", False),
        Fact("task-identifier", "Instruction rows name one of 27 constraints.", "verified", True),
        Fact("kwargs", "kwargs is a struct or null.", "reported", True),
        Fact("kwargs-keys", "The keys of kwargs are those of KWARGS_KEYS.", "verified", False),
        Fact("kwargs-json", "kwargs is a struct and not a JSON string.", "reported", False),
        Fact("kwargs-types", "N, N1, N2 are numbers; the other kwargs text.", "inferred", True),
        Fact("kwargs-complete", "kwargs holds what its constraint reads.", "inferred", False),
    )
}


@dataclass(frozen=True)
class Finding:
    """One row (or the whole file) that differs from a fact without stopping the load.

    Parameters
    ----------
    fact : str
        Key of `FACTS`.
    message : str
        What was found.
    row : int, optional
        Row number in the parquet, from 0.
    id : str, optional
        Id of the row.
    column : str, optional
        Column concerned.
    """

    fact: str
    message: str
    row: int | None = None
    id: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        """Return the finding as one line."""
        where = [] if self.row is None else [f"row {self.row}"]
        where += [f"id {visible(self.id)}"] if self.id else []
        where += [f"column {self.column!r}"] if self.column else []
        prefix = f"{', '.join(where)}: " if where else ""
        confidence = FACTS[self.fact].confidence
        return f"{prefix}{self.message} [fact {self.fact}, {confidence}]"


@dataclass
class LoadReport:
    """What was noticed while a parquet file was read.

    Parameters
    ----------
    source : str
        The file.
    findings : list of Finding
        Every deviation that did not stop the load.
    """

    source: str = ""
    findings: list[Finding] = field(default_factory=list)

    def add(
        self,
        fact: str,
        message: str,
        row: int | None = None,
        id: str | None = None,
        column: str | None = None,
    ) -> None:
        """Append one finding about a fact of `FACTS`."""
        if fact not in FACTS:
            raise KeyError(f"{fact!r} is not the name of a fact")
        self.findings.append(Finding(fact, message, row, id, column))

    def by_fact(self) -> dict[str, list[Finding]]:
        """Return the findings grouped by fact, in the order in which they were met."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault(finding.fact, []).append(finding)
        return groups

    def summary(self) -> str:
        """Return one line per fact: how many rows differ and the first of them."""
        lines = []
        for found in self.by_fact().values():
            more = f" (and {len(found) - 1} more like it)" if len(found) > 1 else ""
            lines.append(f"{found[0]}{more}")
        return "\n".join(lines)


def length_type_of(seconds: float) -> str:
    """Return the `length_type` that a duration has by the paper's thresholds.

    Parameters
    ----------
    seconds : float
        Duration in seconds.

    Returns
    -------
    str
        "short" (up to 30 s), "medium" (3 min), "long" (8 min) or "ultra-long".
    """
    for limit, name in zip(LENGTH_LIMITS_S, LENGTH_TYPES, strict=False):
        if seconds <= limit + LENGTH_TOLERANCE_S:
            return name
    return LENGTH_TYPES[-1]
