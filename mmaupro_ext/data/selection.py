"""Which rows of the dataset a folder is meant to hold, and how a sample of them is drawn.

A folder that holds a part of MMAU-Pro has a `selection.json` beside its `test.parquet`. The parquet
is always whole; the selection says which of its rows have their clips there, so that a run can load
those and say so. A folder without the file holds everything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext.data.schema import CATEGORIES, CATEGORY_BY_VALUE, LENGTH_TYPES, Doc
from mmaupro_ext.errors import ConfigError, DataError
from mmaupro_ext.util import stat_regular, write_json

SELECTION_FILE = "selection.json"
_FORMAT = 1


@dataclass(frozen=True)
class Criteria:
    """What a user asks for; the filters are combined with "and".

    Parameters
    ----------
    categories : tuple of str
        Dataset values of `category`; empty for all.
    length_types : tuple of str
        Values of `length_type`; empty for all.
    ids : tuple of str, optional
        Item ids; None for all.
    limit : int, optional
        Size of a stratified sample of what the filters leave.
    seed : int
        Of the sample.
    """

    categories: tuple[str, ...] = ()
    length_types: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    limit: int | None = None
    seed: int = 0

    @property
    def everything(self) -> bool:
        """True when nothing is left out."""
        return self == Criteria(seed=self.seed)

    @property
    def kind(self) -> str:
        """`all`, `filter` or `sample`."""
        if self.everything:
            return "all"
        return "filter" if self.limit is None else "sample"

    def describe(self) -> str:
        """Return what is selected in one phrase."""
        filters = [f"category {name}" for name in (" or ".join(self.categories),) if name]
        filters += [f"length {name}" for name in (" or ".join(self.length_types),) if name]
        if self.ids is not None:
            filters.append(f"a list of {len(self.ids)} ids")
        if self.limit is None:
            return ", ".join(filters) or "everything"
        phrase = f"stratified sample of {self.limit}, seed {self.seed}"
        return f"{phrase}, of {', '.join(filters)}" if filters else phrase

    def to_json(self) -> dict[str, Any]:
        """Return the criteria as plain JSON."""
        return {
            "kind": self.kind,
            "categories": list(self.categories),
            "length_types": list(self.length_types),
            "ids": None if self.ids is None else sorted(self.ids),
            "limit": self.limit,
            "seed": self.seed if self.limit is not None else None,
            "description": self.describe(),
        }


@dataclass(frozen=True)
class Selection:
    """The rows whose clips a folder is meant to hold.

    Parameters
    ----------
    ids : frozenset of str
        Item ids.
    total : int
        Rows of the whole dataset.
    by_category : dict of str to int
        Selected rows of each category that has any.
    revision : str
        Commit of the dataset.
    parts : tuple of dict
        What was asked for, in order; a later fetch adds a part.
    finished : bool
        False while a fetch has not brought every clip yet.
    """

    ids: frozenset[str]
    total: int
    by_category: dict[str, int] = field(hash=False)
    revision: str
    parts: tuple[dict[str, Any], ...] = field(hash=False)
    finished: bool = False

    @property
    def complete(self) -> bool:
        """True when every row of the dataset is selected."""
        return len(self.ids) == self.total

    def describe(self) -> str:
        """Return one line for a table or a log: how much of the dataset this is, and which part."""
        what = " + ".join(str(part["description"]) for part in self.parts)
        part = f"{len(self.ids):,} of {self.total:,} items ({what})"
        if self.finished:
            return f"partial download: {part}"
        return f"unfinished download: {part}; run the same `mmaupro data fetch` again"


def parse_categories(names: Iterable[str]) -> tuple[str, ...]:
    """Return the dataset values of category names.

    Parameters
    ----------
    names : iterable of str
        Keys of `schema.CATEGORIES` or dataset values.

    Raises
    ------
    ConfigError
        For a name that is neither.
    """
    values = []
    for name in names:
        found = CATEGORIES.get(name) or CATEGORY_BY_VALUE.get(name)
        if found is None:
            raise ConfigError(f"unknown category {name!r}. The categories: {', '.join(CATEGORIES)}")
        values.append(found.value)
    return tuple(value for value in CATEGORY_BY_VALUE if value in values)


def parse_length_types(names: Iterable[str]) -> tuple[str, ...]:
    """Return length types in their natural order.

    Raises
    ------
    ConfigError
        For a name that is none.
    """
    wanted = list(names)
    for name in wanted:
        if name not in LENGTH_TYPES:
            raise ConfigError(
                f"unknown length type {name!r}. The length types: {', '.join(LENGTH_TYPES)}"
            )
    return tuple(name for name in LENGTH_TYPES if name in wanted)


def read_ids(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read a file of item ids: one per line, blank lines and lines that begin with # left out.

    Raises
    ------
    ConfigError
        When the file cannot be read or names nothing.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--ids {path}: not readable ({error}). Give one id per line.") from error
    ids = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not ids:
        raise ConfigError(f"--ids {path}: the file names no item. Give one id per line.")
    return tuple(dict.fromkeys(ids))


def select(docs: Sequence[Doc], criteria: Criteria) -> list[Doc]:
    """Return the documents that the criteria name, in file order.

    Parameters
    ----------
    docs : sequence of dict
        All documents of the dataset.
    criteria : Criteria
        Filters, and the size and seed of a sample.

    Returns
    -------
    list of dict
        The same dicts.

    Raises
    ------
    ConfigError
        When an id is not in the dataset, when nothing is left, or when the limit is not positive.

    Notes
    -----
    A sample is stratified by category: each category gets its proportional share, fractions by the
    largest remainder, and at least one item when the limit allows one for each category that the
    filters leave. Within a category the items with the smallest SHA-256 of `seed:id` are taken, so
    a draw depends on neither row order, machine nor Python version, and a larger sample of the same
    seed keeps nearly all items of a smaller one.
    """
    if criteria.ids is not None:
        known = {doc["id"] for doc in docs}
        unknown = [item for item in criteria.ids if item not in known]
        if unknown:
            shown = ", ".join(unknown[:3])
            raise ConfigError(
                f"{len(unknown)} of {len(criteria.ids)} ids are not in the dataset: {shown}"
                f"{', ...' if len(unknown) > 3 else ''}. Ids are those of the column `id`."
            )
    wanted_ids = None if criteria.ids is None else set(criteria.ids)
    left = [
        doc
        for doc in docs
        if (not criteria.categories or doc["category"] in criteria.categories)
        and (not criteria.length_types or doc["length_type"] in criteria.length_types)
        and (wanted_ids is None or doc["id"] in wanted_ids)
    ]
    if not left:
        raise ConfigError(f"no item of the dataset is left by: {criteria.describe()}")
    if criteria.limit is None:
        return left
    if criteria.limit < 1:
        raise ConfigError(f"--limit {criteria.limit}: at least one item must be asked for")
    counts = Counter(doc["category"] for doc in left)
    shares = proportional_shares(dict(counts), criteria.limit)
    taken: set[str] = set()
    for category, share in shares.items():
        ids = [doc["id"] for doc in left if doc["category"] == category]
        ids.sort(key=lambda item: hashlib.sha256(f"{criteria.seed}:{item}".encode()).digest())
        taken.update(ids[:share])
    return [doc for doc in left if doc["id"] in taken]


def proportional_shares(counts: dict[str, int], limit: int) -> dict[str, int]:
    """Divide a sample among categories.

    Parameters
    ----------
    counts : dict of str to int
        Rows of each category, all positive.
    limit : int
        Size of the sample; more than there are rows gives all of them.

    Returns
    -------
    dict of str to int
        Shares that sum to `min(limit, rows)`, by the largest remainder (Hare quota), each at least
        one when `limit` is at least the number of categories. Equal remainders go to the larger
        category, then by name.
    """
    total = sum(counts.values())
    if limit >= total:
        return dict(counts)
    shares = {name: count * limit // total for name, count in counts.items()}
    remainders = {name: count * limit % total for name, count in counts.items()}
    order = sorted(counts, key=lambda name: (-remainders[name], -counts[name], name))
    for name in order[: limit - sum(shares.values())]:
        shares[name] += 1
    if limit >= len(counts):
        for name in sorted(counts):
            if shares[name] == 0:
                giver = max(counts, key=lambda other: (shares[other], other))
                shares[giver] -= 1
                shares[name] = 1
    return shares


def make_selection(
    docs: Sequence[Doc],
    criteria: Criteria,
    revision: str,
    earlier: Selection | None = None,
) -> Selection:
    """Return the selection of a folder after one more request.

    Parameters
    ----------
    docs : sequence of dict
        All documents of the dataset.
    criteria : Criteria
        The request.
    revision : str
        Commit of the dataset.
    earlier : Selection, optional
        What the folder was meant to hold before; it is kept.

    Raises
    ------
    ConfigError
        As `select`.
    DataError
        When the folder holds another revision, or ids that the dataset has not.
    """
    ids = frozenset(doc["id"] for doc in select(docs, criteria))
    part = criteria.to_json()
    parts = [part]
    if earlier is not None:
        if earlier.revision != revision:
            raise DataError(
                f"the folder holds items of revision {earlier.revision}, not {revision}. Name "
                "another folder with --to."
            )
        ids |= earlier.ids
        parts = [*(known for known in earlier.parts if known != part), part]
    counts = Counter(doc["category"] for doc in docs if doc["id"] in ids)
    if sum(counts.values()) != len(ids):
        raise DataError(
            f"{SELECTION_FILE} names {len(ids) - sum(counts.values())} items that test.parquet has "
            "not. Delete it and run the command again; clips that are there stay."
        )
    return Selection(ids, len(docs), dict(counts), revision, tuple(parts))


def read_selection(root: str | os.PathLike[str]) -> Selection | None:
    """Return which part of the dataset a folder is meant to hold.

    Parameters
    ----------
    root : path
        Folder of `test.parquet`.

    Returns
    -------
    Selection or None
        None when the folder holds everything.

    Raises
    ------
    DataError
        When the file is there and cannot be understood.
    """
    path = Path(root) / SELECTION_FILE
    try:
        stat_regular(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        if not all(isinstance(part["description"], str) for part in content["parts"]):
            raise ValueError("a part without a description")
        return Selection(
            ids=frozenset(str(item) for item in content["ids"]),
            total=int(content["total"]),
            by_category={str(name): int(n) for name, n in content["by_category"].items()},
            revision=str(content["revision"]),
            parts=tuple(content["parts"]),
            finished=content["finished"] is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: not a selection that this version can read ({error!r}). Delete it and run "
        "`mmaupro data fetch` with the same options again; clips that are there stay."
    )


def write_selection(root: str | os.PathLike[str], selection: Selection) -> None:
    """Write `selection.json`, in one step.

    Parameters
    ----------
    root : path
        Folder of `test.parquet`.
    selection : Selection
        What to write.
    """
    content = {
        "format": _FORMAT,
        "revision": selection.revision,
        "finished": selection.finished,
        "total": selection.total,
        "count": len(selection.ids),
        "by_category": dict(sorted(selection.by_category.items())),
        "parts": list(selection.parts),
        "ids": sorted(selection.ids),
    }
    write_json(Path(root) / SELECTION_FILE, content)
