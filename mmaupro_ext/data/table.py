"""Read test.parquet: rows, documents, and what only shows over all of them."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

from mmaupro_ext.data.rows import DOWNLOAD_AGAIN, broken_doc, normalise_row
from mmaupro_ext.data.schema import CATEGORIES, COLUMNS, REQUIRED_COLUMNS, Doc, LoadReport
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import visible

# More broken rows than this mean that the file is not what it should be.
MAX_BROKEN_SHARE = 0.5


def read_rows(file: Path | bytes, report: LoadReport) -> list[dict[str, Any]]:
    """Return the rows of a parquet file as it holds them, its known columns alone.

    Parameters
    ----------
    file : pathlib.Path or bytes
        The file, or its content.
    report : LoadReport
        Names the file in its `source`; receives the optional columns that are missing.

    Returns
    -------
    list of dict
        For `rows.normalise_row`.

    Raises
    ------
    DataError
        When the file is not readable as parquet or lacks a needed column.
    """
    import pyarrow.parquet  # a third of a second, which the help of a command need not cost

    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        table = pyarrow.parquet.ParquetFile(source)
        names = table.schema_arrow.names
        check_columns(names, report.source, report)
        return table.read(columns=[name for name in COLUMNS if name in names]).to_pylist()
    except (OSError, pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{report.source}: not readable as parquet ({error}). Download test.parquet again."
        ) from error


def read_documents(file: Path | bytes, report: LoadReport, *, expect_counts: bool) -> list[Doc]:
    """Return the documents of a file that is to be used; few broken rows are kept as such.

    Parameters
    ----------
    file : pathlib.Path or bytes
        The file, or its content.
    report : LoadReport
        Names the file in its `source`; receives what is unusual, broken rows among it.
    expect_counts : bool
        As for `check_docs`.

    Returns
    -------
    list of dict
        As `rows.normalise_row` and, for a row that breaks the schema, `rows.broken_doc` return
        them, in file order.

    Raises
    ------
    DataError
        When the file is unreadable, an id is there twice, a row has no id or no known category, or
        most rows break the schema.
    """
    rows = read_rows(file, report)
    docs: list[Doc] = []
    errors: list[DataError] = []
    try:
        for number, row in enumerate(rows):
            try:
                docs.append(normalise_row(row, number, report))
            except DataError as error:
                doc = broken_doc(row, error)
                if doc is None:
                    raise
                docs.append(doc)
                errors.append(error)
                report.add("row-usable", f"counted as errored: {error}", number, doc["id"])
        if len(errors) > MAX_BROKEN_SHARE * len(rows):
            raise DataError(
                f"{len(errors)} of {len(rows)} rows break the schema, so this is hardly the released "
                f"file; the first: {errors[0]}"
            )
        check_docs(docs, report, expect_counts)
    except DataError as error:
        raise DataError(f"{report.source}: {error}") from error
    return docs


def check_columns(names: list[str], source: str, report: LoadReport) -> None:
    """Check the column names of a parquet file.

    Parameters
    ----------
    names : list of str
        The columns found.
    source : str
        The file, for messages.
    report : LoadReport
        Receives the optional columns that are missing.

    Raises
    ------
    DataError
        When a column of `REQUIRED_COLUMNS` is missing.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        raise DataError(
            f"{source}: the columns {missing} are missing; found {sorted(names)}. {DOWNLOAD_AGAIN}"
        )
    for name in COLUMNS:
        if name not in names:
            report.add("optional-columns", f"{source} has no column {name!r}", column=name)


def check_docs(docs: list[Doc], report: LoadReport, expect_counts: bool) -> None:
    """Check what only shows over all rows: unique ids, and the counts of the categories.

    Parameters
    ----------
    docs : list of dict
        All documents of a file, in file order.
    report : LoadReport
        Receives categories whose count differs.
    expect_counts : bool
        True for the real dataset; the sample has counts of its own.

    Raises
    ------
    DataError
        When two rows share an id.
    """
    first_row: dict[str, int] = {}
    for number, doc in enumerate(docs):
        earlier = first_row.setdefault(doc["id"], number)
        if earlier != number:
            raise DataError(
                f"row {number} (id {visible(doc['id'])}), column 'id': duplicate id, found already in row "
                f"{earlier}. Ids join replies with questions and must be unique. {DOWNLOAD_AGAIN}"
            )
    if not expect_counts:
        return
    counts = Counter(doc["category"] for doc in docs)
    for category in CATEGORIES.values():
        count = counts[category.value]
        if count != category.expected_count:
            report.add(
                "counts",
                f"{count} rows of category {category.value!r}, expected {category.expected_count}",
                column="category",
            )
