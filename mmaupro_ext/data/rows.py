"""Turn a row of test.parquet into a plain JSON document, checked against `schema.FACTS`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from mmaupro_ext.data.schema import (
    CATEGORY_BY_VALUE,
    CHOICE_LETTERS,
    KWARGS_KEYS,
    LENGTH_TYPES,
    TASK_IDENTIFIERS,
    TEXT_KWARGS,
    Doc,
    Kind,
    LoadReport,
)
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import visible

DOWNLOAD_AGAIN = "Check that test.parquet is the released file, or download it again."
_FIX_ROW = "Correct this row of test.parquet."


class _Row:
    """One raw row on its way to a document: where it is, and how to complain about it."""

    def __init__(self, raw: Mapping[str, Any], number: int, report: LoadReport) -> None:
        self.raw, self.number, self.report = raw, number, report
        self.id: str | None = None

    def fail(self, column: str, value: Any, problem: str, fix: str) -> DataError:
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        name = f"row {self.number}" + (f" (id {visible(self.id)})" if self.id else "")
        return DataError(f"{name}, column {column!r}: {problem}; found {shown}. {fix}")

    def note(self, fact: str, column: str, message: str) -> None:
        self.report.add(fact, message, self.number, self.id, column)

    def get(self, column: str) -> Any:
        return to_plain(self.raw.get(column))


def to_plain(value: Any) -> Any:
    """Return a numpy, pyarrow or pandas value as plain Python; a missing value as None.

    Parameters
    ----------
    value : object
        A scalar, array, list, tuple, mapping or null of any of these libraries.

    Returns
    -------
    object
        None, bool, int, float, str, list or dict, nested. NaN becomes None, because pandas
        writes missing text as NaN.
    """
    if hasattr(value, "as_py"):  # pyarrow scalars
        value = value.as_py()
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if type(value).__name__ in {"NAType", "NaTType"}:  # pandas' own nulls, pandas not imported
        return None
    return value


def normalise_row(row: Mapping[str, Any], row_number: int, report: LoadReport | None = None) -> Doc:
    """Turn one row of test.parquet into a plain JSON document.

    Parameters
    ----------
    row : mapping
        Column name to value, as pyarrow, pandas or datasets hand it out.
    row_number : int
        Position in the file from 0, for messages.
    report : LoadReport, optional
        Receives what is unusual but does not stop the load.

    Returns
    -------
    dict
        The columns of `COLUMNS` with Python values: `audio_path`, `choices` and both skills are
        always lists of str; text columns are str or None; `kwargs` is a dict without its null
        keys. One key is added: `kwargs_null`, the sorted names of the `kwargs` fields that were
        present but null (the official scorer treats these unlike absent ones; None when the
        whole cell was null).

    Raises
    ------
    DataError
        When a fact of `FACTS` with `stops=True` does not hold. The message names the row, the
        id, the column, the value found and the fix.
    """
    cells = _Row(row, row_number, LoadReport() if report is None else report)

    identifier = cells.get("id")
    if not isinstance(identifier, str) or not identifier.strip():
        raise cells.fail("id", identifier, "every row needs a non-empty text id", DOWNLOAD_AGAIN)
    cells.id = identifier

    category = cells.get("category")
    if not isinstance(category, str) or category not in CATEGORY_BY_VALUE:
        known = ", ".join(CATEGORY_BY_VALUE)
        raise cells.fail(
            "category", category, "unknown category", f"The categories are: {known}. {_FIX_ROW}"
        )
    kind = CATEGORY_BY_VALUE[category].kind

    question = cells.get("question")
    if not isinstance(question, str) or not question.strip():
        raise cells.fail("question", question, "every row needs a question", _FIX_ROW)

    kwargs, kwargs_null = _kwargs(cells)
    doc: Doc = {
        "id": identifier,
        "audio_path": _audio_path(cells),
        "question": question,
        "answer": _answer(cells, kind),
        "choices": _choices(cells, kind),
        "length_type": _note_text(cells, "length_type"),
        "perceptual_skills": _skills(cells, "perceptual_skills"),
        "reasoning_skills": _skills(cells, "reasoning_skills"),
        "category": category,
        "transcription": _note_text(cells, "transcription"),
        "task_classification": _note_text(cells, "task_classification"),
        "task_identifier": _text(cells, "task_identifier"),
        "kwargs": kwargs,
        "kwargs_null": kwargs_null,
        "sub-cat": _note_text(cells, "sub-cat"),
    }
    # No length is the rule on voice_chat rows of the released file, and worth a note elsewhere.
    if doc["length_type"] not in LENGTH_TYPES and (doc["length_type"] or category != "voice_chat"):
        cells.note("length-type", "length_type", f"unknown length type {doc['length_type']!r}")
    if kind == "closed" and doc["answer"] not in doc["choices"]:
        cells.note(
            "gold-in-choices",
            "answer",
            f"the answer {doc['answer']!r} is not one of the choices {doc['choices']!r}, "
            "so exact matching can never score this row as right",
        )
    if kind == "instruction":
        _check_instruction(cells, doc)
    return doc


def broken_doc(row: Mapping[str, Any], error: DataError) -> Doc | None:
    """Return the document that stands for a row which breaks the schema.

    Such a row stays in its task, is counted as errored and never scored, so that one bad row neither
    stops a run nor shrinks a denominator.

    Parameters
    ----------
    row : mapping
        The raw row.
    error : DataError
        What `normalise_row` said of it.

    Returns
    -------
    dict or None
        A document with every key of a sound one and `problem`, the error's text. It refers to no clip.
        None when the row has no id or no known category, so that no task could count it.
    """
    identifier, category = to_plain(row.get("id")), to_plain(row.get("category"))
    if not isinstance(identifier, str) or not identifier.strip():
        return None
    if not isinstance(category, str) or category not in CATEGORY_BY_VALUE:
        return None
    texts = {name: to_plain(row.get(name)) for name in ("question", "answer", "task_identifier")}
    choices = to_plain(row.get("choices"))
    return {
        "id": identifier,
        "audio_path": [],
        "question": texts["question"] if isinstance(texts["question"], str) else "",
        "answer": texts["answer"] if isinstance(texts["answer"], str) else None,
        "choices": [str(choice) for choice in choices] if isinstance(choices, list) else [],
        "length_type": None,
        "perceptual_skills": [],
        "reasoning_skills": [],
        "category": category,
        "transcription": None,
        "task_classification": None,
        "task_identifier": texts["task_identifier"],
        "kwargs": {},
        "kwargs_null": None,
        "sub-cat": None,
        "problem": str(error),
    }


def _text(cells: _Row, column: str) -> str | None:
    """Return a text that the package relies on."""
    value = cells.get(column)
    if value is None or isinstance(value, str):
        return value
    raise cells.fail(column, value, "text or null expected", _FIX_ROW)


def _note_text(cells: _Row, column: str) -> str | None:
    """Return a text that is only shown and grouped by; another type is kept as JSON text."""
    value = cells.get(column)
    if value is None or isinstance(value, str):
        return value
    cells.note("text-columns", column, f"{type(value).__name__} instead of text; kept as JSON text")
    return json.dumps(value, ensure_ascii=False, default=str)


def _skills(cells: _Row, column: str) -> list[str]:
    value = cells.get(column)
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    cells.note("skills", column, f"a list of text expected, found {value!r}; read as one")
    items = value if isinstance(value, list) else [value]
    return [str(item) for item in items if item is not None]


def _audio_path(cells: _Row) -> list[str]:
    paths = cells.get("audio_path")
    if isinstance(paths, str) and paths:
        cells.note("audio-path-list", "audio_path", "one path instead of a list; read as a list")
        paths = [paths]
    if not isinstance(paths, list) or not paths:
        raise cells.fail(
            "audio_path",
            paths,
            "a list with at least one path expected",
            f"Without sound there is nothing to ask. {_FIX_ROW}",
        )
    for path in paths:
        problem = _path_problem(path)
        if problem:
            raise cells.fail(
                "audio_path",
                path,
                problem,
                "Paths are relative to the folder of test.parquet, such as 'data/<uuid>.wav'. "
                f"{_FIX_ROW}",
            )
    if len(paths) > 3:
        cells.note("clip-count", "audio_path", f"{len(paths)} clips; at most 3 are documented")
    return paths


def _path_problem(path: Any) -> str | None:
    """Return why a path must not be opened, or None. Windows forms count on every system."""
    if not isinstance(path, str) or not path.strip():
        return "an empty path"
    if visible(path) != path:  # a null character, an escape of a terminal
        return "a path with hidden characters"
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or path.startswith("\\"):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", path):
        return "a path that leaves the dataset folder"
    return None


def _answer(cells: _Row, kind: Kind) -> str | None:
    answer = _text(cells, "answer")
    if kind == "instruction":
        if answer is not None:
            cells.note("instruction-answer", "answer", f"unexpected answer {answer!r}")
    elif answer is None or not answer.strip():
        raise cells.fail(
            "answer", answer, "only instruction rows may lack an answer", DOWNLOAD_AGAIN
        )
    return answer


def _choices(cells: _Row, kind: Kind) -> list[str]:
    found = cells.get("choices")
    choices = [] if found is None else found
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise cells.fail("choices", choices, "a list of text expected", _FIX_ROW)
    if any(not choice.strip() for choice in choices):
        cells.note("choices-filled", "choices", f"a choice is empty: {choices!r}")
    if kind == "closed" and len(choices) < 2:
        raise cells.fail("choices", choices, "a closed question needs at least 2 choices", _FIX_ROW)
    if kind == "closed" and len(choices) > len(CHOICE_LETTERS):
        raise cells.fail(
            "choices",
            choices,
            f"more than {len(CHOICE_LETTERS)} choices, no letters left",
            _FIX_ROW,
        )
    if len(set(choices)) < len(choices):
        cells.note("choices-distinct", "choices", f"a choice is there twice: {choices!r}")
    return choices


def _kwargs(cells: _Row) -> tuple[dict[str, Any], list[str] | None]:
    value = cells.get("kwargs")
    if isinstance(value, str):
        text = value
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise cells.fail(
                "kwargs", text, f"text that is not JSON ({error.msg})", _FIX_ROW
            ) from None
        cells.note("kwargs-json", "kwargs", "a JSON string instead of a struct; it was parsed")
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        raise cells.fail("kwargs", value, "a struct expected", _FIX_ROW)
    unknown = sorted(set(value) - set(KWARGS_KEYS))
    if unknown:
        cells.note("kwargs-keys", "kwargs", f"keys that no official check reads: {unknown}")
    kept: dict[str, Any] = {}
    for key, item in value.items():
        if item is not None:
            kept[key] = item if key in unknown else _kwarg(cells, key, item)
    return kept, sorted(key for key, item in value.items() if item is None)


def _kwarg(cells: _Row, key: str, item: Any) -> int | str:
    if key in TEXT_KWARGS:
        if isinstance(item, str):
            return item
        raise cells.fail(f"kwargs.{key}", item, "text expected", _FIX_ROW)
    is_number = isinstance(item, (int, float)) and not isinstance(item, bool)
    if not is_number or not math.isfinite(item) or item != int(item):
        raise cells.fail(
            f"kwargs.{key}",
            item,
            "a whole number expected",
            f"The official checks compare it with a count, so text never matches. {_FIX_ROW}",
        )
    return int(item)  # a nullable integer column comes back from pandas as float


def _check_instruction(cells: _Row, doc: Doc) -> None:
    identifier = doc["task_identifier"]
    if identifier not in TASK_IDENTIFIERS:
        known = ", ".join(TASK_IDENTIFIERS)
        raise cells.fail(
            "task_identifier",
            identifier,
            "unknown constraint on an instruction row",
            f"The constraints are: {known}. {_FIX_ROW}",
        )
    absent = [key for key in TASK_IDENTIFIERS[identifier] if key not in doc["kwargs"]]
    if absent:
        cells.note("kwargs-complete", "kwargs", f"{identifier!r} reads {absent}, which are null")
