"""Replies that were made elsewhere: JSON lines or CSV, with an id and a reply a line.

The questions are those of a benchmark, by their ids; or come with the replies, as `choices` and `answer`.
Such a file says nothing of prompts, clips and models: its numbers compare with nothing but each other.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data.items import all_documents
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.scorer import kind_of
from mmaupro_ext.util import require_choice, stat_regular

SUFFIXES = (".jsonl", ".csv")
FIELDS = "id, reply, and error in place of a reply where an item was not served"
OWN = "own"
# What a question of one's own is: the kind is all that is asked of it.
_CATEGORY = next(c.value for c in benchmarks.BENCHMARKS["mmaupro"].categories if c.kind == "closed")


def is_plain(path: str | Path) -> bool:
    """Return whether a path names such a file, and not what lm_eval logged."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("samples_")


def read_plain(
    path: str | Path,
    name: str = benchmarks.MMAUPRO,
    data_dir: str | Path | None = None,
    sample: bool = False,
    accept_changed: bool = False,
) -> Run:
    """Read a file of replies.

    Parameters
    ----------
    path : path
        Ends in .jsonl or .csv; UTF-8. Fields: id; reply, or error where the item was not served; choices (in
        CSV a JSON list) and answer, in each line or in none.
    name : str
        Key of `BENCHMARKS`: whose questions, where they do not come with the replies.
    data_dir, sample
        As for `data.items.all_documents`.
    accept_changed : bool
        Whether to go on where questions have no reply.

    Returns
    -------
    Run
        Its items are multiple-choice questions, in the order of the file.

    Raises
    ------
    ScoringError
        When the file cannot be read or is not as said above, an id is there twice or unknown, or questions
        have no reply.
    DataError
        When the benchmark's questions are not at hand.
    """
    path = Path(path)
    rows = dict(_rows(path))
    if not rows:
        raise ScoringError(f"{path}: holds no replies. Write one a line: {FIELDS}")
    own = [where for where, row in rows.items() if row.get("choices") is not None]
    if own and len(own) < len(rows):
        lacks = next(where for where in rows if where not in own)
        raise ScoringError(
            f"{lacks}: no choices, but {own[0]} has. Give them in each line, or none"
        )
    docs: dict[str, dict[str, Any]] = {}
    require_choice("--benchmark", name, benchmarks.BENCHMARKS)
    if not own:
        _, found = all_documents(name, data_dir, sample)
        docs = {doc["id"]: doc for doc in found}
    items: dict[str, Item] = {}
    for where, row in rows.items():
        identifier = row["id"]
        if identifier in items:
            raise ScoringError(
                f"{where}: id {identifier} is there twice, first in {items[identifier].where}"
            )
        doc = _own_document(row, where) if own else docs.get(identifier)
        if doc is None:
            title = benchmarks.BENCHMARKS[name].title
            raise ScoringError(
                f"{where}: {identifier!r} is no id of {title}{' (its sample)' if sample else ''}. Name the "
                "benchmark with --benchmark, or give choices and answer with each reply"
            )
        clips = tuple(doc.get("audio_sha256") or [None] * len(doc["audio_path"]))
        items[identifier] = Item(doc, _reply(row, where), clips=clips, where=where)
    if own and all(item.doc["answer"] not in item.doc["choices"] for item in items.values()):
        first = next(iter(items.values()))
        raise ScoringError(
            f"{first.where}: the answer {first.doc['answer']!r} is none of the choices "
            f"{first.doc['choices']!r}, nor is any other in this file. Write the text of the right "
            "choice, not its letter"
        )
    closed = [name for name, doc in docs.items() if kind_of(doc) == "closed"]
    missing = [identifier for identifier in closed if identifier not in items]
    deviations = (
        (f"{len(missing):,} of {len(closed):,} questions have no reply (say {missing[0]})",)
        if missing
        else ()
    )
    if deviations and not accept_changed:
        raise ScoringError(
            f"{path}: {deviations[0]}. Give each one, with an error where it was not served; or add "
            "--accept-changed to go on with those that are there"
        )
    dataset = OWN if own else "sample" if sample else "full"
    return Run(path.stem, dataset, tuple(items.values()), (path,), (), deviations, name=name)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (file and line, fields) of each reply."""
    try:
        stat_regular(path)
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScoringError(f"{path}: cannot be read ({error})") from error
    lines = _of_csv(path, content) if path.suffix.lower() == ".csv" else _of_json(path, content)
    for where, row in lines:
        if isinstance(row.get("id"), int) and not isinstance(row["id"], bool):
            row["id"] = str(row["id"])
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise ScoringError(f"{where}: no id. A line holds {FIELDS}")
        yield where, row


def _of_json(path: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ScoringError(f"{where}: not JSON ({error}). Was the file cut off?") from error
        if not isinstance(row, dict):
            raise ScoringError(
                f"{where}: not an object but {type(row).__name__}. A line holds {FIELDS}"
            )
        yield where, row


def _of_csv(path: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or None in row.values():
                raise ScoringError(f"{where}: not as many cells as the first line has names")
            if row.get("error") == "":
                del row["error"]
            if row.get("choices") is not None:
                try:
                    row["choices"] = json.loads(row["choices"])
                except json.JSONDecodeError as error:
                    raise ScoringError(
                        f'{where}: choices are not JSON ({error}). Write ["Tea", "Coffee"]'
                    ) from error
            yield where, row
    except csv.Error as error:
        raise ScoringError(f"{path}, line {reader.line_num}: not CSV ({error})") from error


def _reply(row: Mapping[str, Any], where: str) -> str:
    if row.get("error") is not None:
        if row.get("reply"):
            raise ScoringError(f"{where}: both a reply and an error. An item has one of them")
        return error_reply(str(row["error"]), item=row["id"])
    if not isinstance(row.get("reply"), str):
        raise ScoringError(
            f"{where}: the reply is {row.get('reply')!r}, not text. An item that was not served has an error "
            'in its place: {"id": "…", "error": "timeout"}'
        )
    return str(row["reply"])


def _own_document(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    choices, answer = row["choices"], row.get("answer")
    texts = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    if not texts or not choices or not isinstance(answer, str):
        raise ScoringError(
            f"{where}: choices are {choices!r} and the answer {answer!r}, not a list of texts and a text"
        )
    return {
        "id": row["id"],
        "category": _CATEGORY,
        "question": "",
        "choices": choices,
        "answer": answer,
        "audio_path": [],
    }
