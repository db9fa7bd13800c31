"""The documents of the benchmarks that are described in `benchmarks` alone: MMAU, MMAR, MMSU.

A benchmark's folder, and that of its generated sample, has one layout: `rows.jsonl`, the released rows as
they are, one a line, but with a clip's path within the folder in place of the clip; the clips in `data/`;
optionally `manifest.json` with their digests. Reading touches `rows.jsonl` and the manifest, once per process
and state of them.

MMAU-Pro has open questions, instructions and a published parquet: `load` reads it.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark, RowError
from mmaupro_ext.data.digests import modified
from mmaupro_ext.data.load import FULL, SAMPLE, load_category, manifest_digests, note_root
from mmaupro_ext.data.locate import ROWS, SAMPLE_DIR, benchmark_folder, locate
from mmaupro_ext.data.manifest import MANIFEST
from mmaupro_ext.data.schema import Doc
from mmaupro_ext.data.selection import read_selection
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import require_choice, stat_regular

# More rows than this that cannot be asked mean that the file is not what it should be.
MAX_BROKEN_SHARE = 0.5


def load_items(
    name: str,
    category: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    prompt: str = "own",
) -> list[Doc]:
    """Return the documents of a benchmark, in file order.

    Parameters
    ----------
    name : str
        Key of `benchmarks.BENCHMARKS`, but for "mmaupro".
    category : str, optional
        Slug of a category; all of them when left out.
    data_dir : path, optional
        Its folder; see `locate.benchmark_folder`. Ignored for the sample.
    sample : bool
        True reads the generated sample that ships with the package.
    prompt : {"own", "letter", "text"}
        How the questions will be asked (`questions.prompt`). Prompts of ours leave out the letters that no
        choice has.

    Returns
    -------
    list of dict
        Plain JSON: `id`, `benchmark`, `dataset` ("full" or "sample"), `prompt`, `category` (value of its
        category), `audio_path`, `audio_sha256`, `question`, `choices`, `answer`, `attributes`; and `problem`
        where the row cannot be asked. The caller owns them.

    Raises
    ------
    DataError
        No such benchmark or category, no data, a file that is not JSON lines, a row without id or category,
        duplicate ids, or a file most of whose rows cannot be asked.
    """
    benchmark = _benchmark(name)
    if category is not None and category not in benchmark.by_slug:
        raise DataError(
            f"{name} has no category {category!r}. Its categories: {', '.join(benchmark.by_slug)}"
        )
    require_choice("prompt", prompt, ("own", "letter", "text"))
    root = benchmark_folder(benchmark, data_dir, sample)
    dataset = SAMPLE if sample else FULL
    note_root(f"{name}:{dataset}", root)
    wanted = None if category is None else benchmark.by_slug[category].value
    selection = None if sample else read_selection(root)
    return [
        _as_asked(doc, dataset, prompt)
        for doc in _read(benchmark, root)
        if wanted in (None, doc["category"]) and (selection is None or doc["id"] in selection.ids)
    ]


def all_documents(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    whole: bool = False,
) -> tuple[Path, list[Doc]]:
    """Return the folder of any benchmark, MMAU-Pro included, and its documents.

    Parameters
    ----------
    name : str
        Key of `benchmarks.BENCHMARKS`.
    data_dir, sample
        As for `load_items` and `load.load_category`.
    whole : bool
        True gives all rows of a partial download too, False only those whose clips it holds.

    Raises
    ------
    DataError
        As these.
    """
    described = BENCHMARKS[name]
    if described.read_row is not None:
        return benchmark_folder(described, data_dir, sample), load_items(
            name, None, data_dir, sample
        )
    docs = [
        doc for slug in described.by_slug for doc in load_category(slug, data_dir, sample, whole)
    ]
    return SAMPLE_DIR if sample else locate(data_dir), docs


def dataset_title(name: str, sample: bool) -> str:
    """Return what reports call a benchmark's data, or its sample."""
    if sample:
        return "embedded sample" if name == MMAUPRO else f"sample of {BENCHMARKS[name].title}"
    return BENCHMARKS[name].title


def real_choices(doc: Doc) -> list[str]:
    """Return the choices of a document without those that only hold the place of a letter."""
    if benchmarks.of(doc).read_row is None:
        return list(doc["choices"])
    return [choice for choice in doc["choices"] if choice]


def _benchmark(name: str) -> Benchmark:
    benchmark = BENCHMARKS.get(name)
    if benchmark is None or benchmark.read_row is None:
        known = [one.name for one in BENCHMARKS.values() if one.read_row is not None]
        raise DataError(
            f"no benchmark {name!r} is described by rows. There are: {', '.join(known)}"
        )
    return benchmark


def _as_asked(doc: Doc, dataset: str, prompt: str) -> Doc:
    """Return a copy of a document, with what depends on how it is asked."""
    choices = [choice for choice in doc["choices"] if choice or prompt == "own"]
    lists = {key: [*doc[key]] for key in ("audio_path", "audio_sha256")}
    attributes = {**doc["attributes"]}
    return {
        **doc,
        **lists,
        "dataset": dataset,
        "prompt": prompt,
        "choices": choices,
        "attributes": attributes,
    }


def _read(benchmark: Benchmark, root: Path) -> tuple[Doc, ...]:
    stamps = tuple(modified(root / name) for name in (ROWS, MANIFEST))
    return _read_once(benchmark.name, root, stamps)


@functools.lru_cache(maxsize=8)
def _read_once(name: str, root: Path, stamps: tuple[int, ...]) -> tuple[Doc, ...]:
    """Read and check all rows; `stamps` makes a changed file a new cache entry."""
    benchmark, path = BENCHMARKS[name], root / ROWS
    digests = manifest_digests(root / MANIFEST)
    docs: dict[str, Doc] = {}
    broken: list[Doc] = []
    for number, row in enumerate(released_rows(path)):
        where = f"{path}: row {number}"
        doc = document(benchmark, row, where)
        if doc["id"] in docs:
            raise DataError(f"{where}: the id {doc['id']} was there already. Fetch the rows again")
        doc["audio_sha256"] = [digests.get(clip) for clip in doc["audio_path"]]
        docs[doc["id"]] = doc
        if "problem" in doc:
            broken.append(doc)
    if len(broken) > MAX_BROKEN_SHARE * len(docs):
        raise DataError(
            f"{path}: {len(broken)} of {len(docs)} rows cannot be asked, so this is hardly the released "
            f"file; the first: {broken[0]['problem']}"
        )
    return tuple(docs.values())


def released_rows(path: Path) -> list[Any]:
    """Return the rows of a `rows.jsonl` as they are; DataError for a file that is no JSON lines."""
    try:
        stat_regular(path)
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number}: not JSON ({error}). Fetch the rows again"
                ) from error
    return rows


def document(benchmark: Benchmark, row: Any, where: str) -> Doc:
    """Turn a released row into a document.

    Parameters
    ----------
    benchmark : Benchmark
        Whose row it is.
    row : mapping
        As released, with a clip's relative path in place of its bytes.
    where : str
        File and row, for messages.

    Returns
    -------
    dict
        A row that cannot be asked has the key `problem`, and neither question, choices nor clips.

    Raises
    ------
    DataError
        When the row is no mapping, or has no id or no category.
    """
    assert benchmark.identify is not None
    assert benchmark.read_row is not None
    if not isinstance(row, dict):
        raise DataError(f"{where}: not an object but {type(row).__name__}. Fetch the rows again")
    try:
        identifier, category = benchmark.identify(row)
    except RowError as error:
        raise DataError(
            f"{where}: {error}. Is this the released file of {benchmark.title}?"
        ) from error
    doc: Doc = {"id": identifier, "benchmark": benchmark.name, "category": category}
    try:
        return {**doc, **benchmark.read_row(row)}
    except RowError as error:
        nothing: Doc = {
            "question": "",
            "choices": [],
            "answer": None,
            "audio_path": [],
            "attributes": {},
        }
        return {**doc, **nothing, "problem": f"{where} (id {identifier}): {error}"}
