"""Find MMAU-Pro (or the embedded sample), read it, and refer to its audio.

The sample and the real dataset have one layout and one loader: a folder with `test.parquet`, the
clips under `data/`, and optionally `manifest.json`. Reading touches the parquet only; no clip is
opened before `audio_references` hashes it.

Documents carry relative paths, so that they, and everything that is logged from them, are the same
on every machine. lm_eval gives `--metadata` to the function that loads a task's documents and to
nothing else, so `doc_to_audio(doc)` cannot know the folder: `load_category` therefore notes, per
process, the folder of each dataset under the names that the documents carry (`doc["benchmark"]`, and
`doc["dataset"]`, "sample" or "full"), and `audio_root` looks it up; `items` notes those of the others.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.data.conditions import sound_of
from mmaupro_ext.data.digests import file_sha256, measured_digest, modified
from mmaupro_ext.data.locate import (
    PARQUET,
    SAMPLE_DIR,
    benchmark_folder,
    folder_problem,
    locate,
)
from mmaupro_ext.data.manifest import MANIFEST
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.data.schema import CATEGORIES, CATEGORY_BY_VALUE, Category, Doc, LoadReport
from mmaupro_ext.data.selection import read_selection
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.errors import DataError

logger = logging.getLogger(__name__)

FULL, SAMPLE = "full", "sample"

_roots: dict[str, Path] = {}


def prepare_run(
    categories: Iterable[str],
    data_dir: str | os.PathLike[str] | None = None,
    name: str = benchmarks.MMAUPRO,
) -> str | None:
    """Check, before a model is loaded, that a run on these categories has its data.

    Parameters
    ----------
    categories : iterable of str
        Slugs of the benchmark's categories.
    data_dir : path, optional
        As for `locate` and `locate.benchmark_folder`.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    str or None
        For a partial download one line that says which part it is; None for the whole dataset.

    Raises
    ------
    DataError
        No dataset, or a partial download without any item of one of the categories.
    """
    described = benchmarks.BENCHMARKS[name]
    other = described.read_row is not None
    root = benchmark_folder(described, data_dir) if other else locate(data_dir)
    selection = read_selection(root)
    if selection is None:
        return None
    wanted = [described.by_slug[slug] for slug in categories]
    absent = [category.slug for category in wanted if not selection.by_category.get(category.value)]
    if absent:
        raise DataError(
            f"{root} is a {selection.describe()}, and has no item of {', '.join(absent)}.\n"
            "Leave those tasks out, or add their items:\n"
            f"  mmaupro data fetch --to '{root}' --category {' '.join(absent)}"
        )
    return selection.describe()


def load_category(
    category: str,
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    whole: bool = False,
) -> list[Doc]:
    """Return the documents of one category, in file order.

    Parameters
    ----------
    category : str
        A key of `CATEGORIES` ("instruction_following") or its dataset value
        ("instruction following").
    data_dir : path, optional
        Folder of the real dataset; see `locate`. Must be None with `sample=True`.
    sample : bool
        True reads the sample that ships with the package.
    whole : bool
        True gives all rows of a partial download too, False only those whose clips it holds.

    Returns
    -------
    list of dict
        Plain JSON documents (see `rows.normalise_row`) with two more keys: `audio_sha256`, for
        each clip the hex digest that `manifest.json` beside the parquet states, or None; and
        `dataset`, "sample" or "full". The caller owns them.

    Raises
    ------
    DataError
        Unknown category, no dataset, an unreadable parquet, duplicate ids, a row without id or
        category, or a file most of whose rows break the schema. A single row that breaks it becomes
        a document with the key `problem`, which the tasks report as errored.
    """
    wanted = _category(category)
    root, dataset = _root(data_dir, sample)
    note_root(dataset, root)
    docs, _ = _read(root, dataset)
    selection = None if sample or whole else read_selection(root)
    return [
        copy.deepcopy(doc)
        for doc in docs
        if doc["category"] == wanted.value and (selection is None or doc["id"] in selection.ids)
    ]


def note_root(key: str, root: Path) -> None:
    """Note where the clips of a dataset are, for `audio_root`; `key` is as `_root_key` gives it."""
    previous = _roots.get(key)
    if previous is not None and previous != root:
        logger.warning("audio of earlier documents from %s is now looked up in %s", previous, root)
    _roots[key] = root


def _root_key(doc: Doc) -> str:
    dataset = doc.get("dataset", FULL)
    return f"{doc['benchmark']}:{dataset}" if "benchmark" in doc else dataset


def load_report(data_dir: str | os.PathLike[str] | None = None, sample: bool = False) -> LoadReport:
    """Return what was noticed while reading the dataset (see `schema.FACTS`).

    Parameters
    ----------
    data_dir, sample
        As for `load_category`.

    Returns
    -------
    LoadReport
        Empty findings when every fact holds.

    Raises
    ------
    DataError
        As for `load_category`.
    """
    root, dataset = _root(data_dir, sample)
    return copy.deepcopy(_read(root, dataset)[1])


def _category(name: str) -> Category:
    found = CATEGORIES.get(name) or CATEGORY_BY_VALUE.get(name)
    if found is None:
        raise DataError(f"unknown category {name!r}. The categories are: {', '.join(CATEGORIES)}")
    return found


def _root(data_dir: str | os.PathLike[str] | None, sample: bool) -> tuple[Path, str]:
    if not sample:
        return locate(data_dir), FULL
    if data_dir is not None:
        raise DataError("the sample is part of the package: give data_dir or sample, not both")
    problem = folder_problem(SAMPLE_DIR)
    if problem:
        raise DataError(f"the embedded sample in {SAMPLE_DIR} is damaged: {problem}. Reinstall.")
    return SAMPLE_DIR, SAMPLE


def _read(root: Path, dataset: str) -> tuple[list[Doc], LoadReport]:
    """Read a dataset once per process and state of its two files."""
    stamps = tuple(modified(root / name) for name in (PARQUET, MANIFEST))
    return _read_once(root, dataset, stamps)


@functools.lru_cache(maxsize=4)
def _read_once(root: Path, dataset: str, stamps: tuple[int, ...]) -> tuple[list[Doc], LoadReport]:
    """Read and check the whole parquet; `stamps` makes a changed file a new cache entry."""
    path = root / PARQUET
    report = LoadReport(source=str(path))
    docs = read_documents(path, report, expect_counts=dataset == FULL)
    digests = manifest_digests(root / MANIFEST)
    for doc in docs:
        doc["audio_sha256"] = [digests.get(clip) for clip in doc["audio_path"]]
        doc["dataset"] = dataset
    if report.findings:
        logger.warning("%s differs from what was expected:\n%s", path, report.summary())
    return docs, report


def manifest_digests(path: Path) -> dict[str, str]:
    """Return relative path -> sha256 from a manifest, or nothing when there is no manifest."""
    if not path.is_file():
        return {}
    fix = "Delete it (it is optional) or build it again."
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: str(entry["sha256"]) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a manifest ({error!r}). {fix}") from error


def audio_root(doc: Doc) -> Path:
    """Return the folder that a document's `audio_path` entries are relative to.

    Parameters
    ----------
    doc : dict
        A document of `load_category` or `items.load_items`.

    Returns
    -------
    pathlib.Path
        The folder from which this process loaded the document's dataset; in a process that has
        not loaded it, the sample's folder or what `locate` finds.

    Raises
    ------
    DataError
        When the dataset was not loaded in this process and is not found.
    """
    key = _root_key(doc)
    if key in _roots:
        return _roots[key]
    sample = doc.get("dataset") == SAMPLE
    if "benchmark" in doc:
        return benchmark_folder(benchmarks.of(doc), sample=sample)
    return _root(None, sample=sample)[0]


def audio_references(doc: Doc, root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """Return where a document's clips are and what they hold, without decoding them.

    Parameters
    ----------
    doc : dict
        A document of `load_category`.
    root : path, optional
        Folder of the clips; `audio_root(doc)` by default.

    Returns
    -------
    list of dict
        One `{"path": absolute path, "sha256": hex digest of the file's bytes}` per clip, in clip
        order; with what is done to its samples as `condition`, where the document is asked so. A file
        that is missing or cannot be read has sha256 None; one that must not be opened (a pipe, a device,
        a link out of the folder) has a `problem`, too. Nothing is raised: the model class reports its
        item as errored, and the rest of the run goes on.

    Notes
    -----
    The digest is of the file as it is now, not the one that a manifest promises; when they differ
    a warning names the file. Where `mmaupro data verify` measured the file and its size and time are
    the same since, its digest is taken. Otherwise digests are remembered in memory and in the
    user's cache folder by path, size and modification time, so each file is read once per machine.
    """
    folder = audio_root(doc) if root is None else Path(root).absolute()
    promised = doc.get("audio_sha256") or [None] * len(doc["audio_path"])
    references: list[dict[str, Any]] = []
    for position, (relative, expected) in enumerate(zip(doc["audio_path"], promised, strict=True)):
        path = folder / relative
        reference: dict[str, Any] = {"path": str(path), "sha256": None}
        if (told := sound_of(doc, position)) is not None:
            reference["condition"] = told
        references.append(reference)
        try:
            stat_clip(folder, relative)
        except FileNotFoundError:
            continue
        except OSError as error:
            reference["problem"] = error.strerror
            continue
        reference["sha256"] = digest = measured_digest(folder, relative) or file_sha256(path)
        if expected and digest and digest != expected:
            logger.warning("%s: its bytes are not those of the manifest (item %r)", path, doc["id"])
    return references
