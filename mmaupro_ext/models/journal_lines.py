"""Answers as lines of a journal's file (`journal`): how they are written, checked and read.

Every line is a JSON object whose last member, `check`, is a digest of the rest. The first line of a file
says who began what (`start`); each other one holds one answer: the digest of its request, the item that
asked, and the reply or the log-probability with its record of what was heard. A line that is not whole
costs its own answer and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mmaupro_ext.heard import LogProb, Reply, is_errored
from mmaupro_ext.models.identity import with_states_of_files
from mmaupro_ext.models.media import as_stored
from mmaupro_ext.util import sha256_of_text

# Of a file: when it was begun (UTC), where, by which process.
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[\w.-]+-\d+\.jsonl")
_CHECK = re.compile(rb',"check":"([0-9a-f]{16})"\}\n?$')


class Address(NamedTuple):
    """Where an answer belongs.

    Parameters
    ----------
    request : str
        Digest of the request (`digest_of_request`).
    task : str
        Name of the task that asks.
    doc : int or None
        Number of its document.
    n : int
        The how-manieth answer to this request for this document, from 0: a task may want several.
    """

    request: str
    task: str
    doc: int | None
    n: int


# ---- requests and answers ------------------------------------------------------------------------


def digest_of_request(kind: str, arguments: tuple[Any, ...], *more: Any) -> str | None:
    """Return what tells a request from others: SHA-256 in hexadecimal digits.

    Parameters
    ----------
    kind : {"generate_until", "loglikelihood", "loglikelihood_rolling"}
        What is asked.
    arguments : tuple
        `Instance.args`. Files count by the digest in their reference, else by size and time of
        change; pictures, arrays and bytes by content.
    *more
        What else the answer depends on, as plain JSON.

    Returns
    -------
    str or None
        None where some argument has no content that could be told.
    """
    if len(arguments) > 2 and isinstance(arguments[2], Mapping):
        media = {name: value for name, value in arguments[2].items() if value}
        # An empty context asks for the unconditional probability: nothing is to be heard.
        unheard = not media or (kind == "loglikelihood" and arguments[0] == "")
        arguments = (*arguments[:2], *(() if unheard else (media,)), *arguments[3:])
    told = [kind, with_states_of_files(arguments), *more]
    try:
        return sha256_of_text(json.dumps(told, sort_keys=True, default=_content))
    except TypeError:
        return None


def _content(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if (stored := as_stored(value)) is not value:
        return stored
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", hashlib.sha256(value).hexdigest()]
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array of NumPy
        kind = [str(value.dtype), list(value.shape)]
        return ["array", kind, hashlib.sha256(value.tobytes()).hexdigest()]
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a picture of Pillow
        kind = [value.mode, list(value.size), value.getpalette()]
        return ["picture", kind, hashlib.sha256(value.tobytes()).hexdigest()]
    raise TypeError(f"{type(value).__name__} has no content that could be told")


def encode(answer: Any) -> dict[str, Any]:
    """Return an answer as plain JSON: a reply with its words, a log-probability bit for bit."""
    if isinstance(answer, str):
        finish, record = getattr(answer, "finish", None), getattr(answer, "heard", None)
        return {"text": str(answer), "finish": finish, "heard": record}
    value, *greedy = answer if isinstance(answer, (tuple, list)) else (answer,)
    return {
        "logprob": float(value).hex(),
        "greedy": bool(greedy[0]) if greedy else None,
        "heard": getattr(value, "heard", None),
    }


def decode(entry: Mapping[str, Any]) -> Any:
    """Return the answer that `encode` was given."""
    if "text" in entry:
        return Reply(entry["text"], entry["heard"], entry["finish"])
    value = LogProb(float.fromhex(entry["logprob"]), entry["heard"])
    return value if entry["greedy"] is None else (value, entry["greedy"])


def is_failure(entry: Mapping[str, Any]) -> bool:
    """Tell whether a kept answer stands for an item that was not served."""
    return is_errored(decode(entry))


# ---- one file ------------------------------------------------------------------------------------


@dataclass
class Kept:
    """What a file holds.

    Parameters
    ----------
    path : Path
        The file.
    start : dict or None
        What its first line says of the process and its run; None where that is damaged.
    answers : list of (Address, dict)
        In the order in which they were written; as `encode` makes them.
    damaged : list of int
        Numbers of the lines that are not whole, from 1.
    torn : bool
        Whether the last line is one of them, as after a kill or on a full disk.
    """

    path: Path
    start: dict[str, Any] | None = None
    answers: list[tuple[Address, dict[str, Any]]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    torn: bool = False


def line_of(entry: Mapping[str, Any]) -> bytes:
    """Return an object as a line with its check."""
    body = json.dumps(entry, separators=(",", ":")).encode("ascii")
    return body[:-1] + b',"check":"%s"}\n' % _check(body)


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode("ascii")


def read(path: Path) -> Kept:
    """Read a file of a journal, the whole lines of it.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    kept = Kept(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        if entry is None:
            kept.damaged.append(number)
            kept.torn |= number == len(lines)
        elif "start" in entry:
            kept.start = entry["start"]
        else:
            place = Address(*(entry.pop(name, None) for name in Address._fields))
            kept.answers.append((place, entry))
    return kept


def _entry(line: bytes) -> dict[str, Any] | None:
    found = _CHECK.search(line)
    if found is None or not line.endswith(b"\n"):
        return None
    body = line[: found.start()] + b"}"
    return json.loads(body) if _check(body) == found[1] else None


def files_of(folder: Path) -> list[Path]:
    """Return the files of a journal in a folder, in the order of their names: the oldest first."""
    try:
        return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []
