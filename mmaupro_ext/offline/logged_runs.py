"""Read the replies that lm_eval logged (`--log_samples`), and stop where they do not belong together.

lm_eval 0.4.13 writes, per task and run, ``samples_<task>_<time>.jsonl`` beside
``results_<time>.json``. Nothing here imports lm_eval.

Two kinds of trouble:

* a file that cannot be what it should be (no reply field, broken JSON, an item twice, replies of
  two models) always stops with `ScoringError`, naming file and line;
* a dataset that is not the released one, or not all of it, is listed in `Run.deviations`. It stops
  as well unless the caller accepts it, and then travels into the result.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext.data import CATEGORIES, CATEGORY_BY_VALUE, SAMPLE_DIR, load_category
from mmaupro_ext.errors import DataError
from mmaupro_ext.offline.logged_items import REPLY_FIELDS, Item, read_items
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import require_choice

_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?"
_SAMPLES = re.compile(rf"samples_(?P<task>mmaupro.*)_(?P<time>{_TIME})\.jsonl")
_CLOSED = [slug for slug, category in CATEGORIES.items() if category.kind == "closed"]
_TASK = re.compile(
    rf"mmaupro(?P<sample>-sample)?"
    rf"(?:_(?P<slug>{'|'.join(CATEGORIES)})|-text_(?P<text_slug>{'|'.join(_CLOSED)}))"
)
# Settings of a run that change replies; lm_eval's results files hold them.
_MODEL_KEYS = ("model_name", "system_instruction_sha", "chat_template_sha")
_CONFIG_KEYS = ("model", "model_args", "gen_kwargs", "identity")
# Of these, the identity of a run says more than the words with which it was started.
_IN_IDENTITY = ("model_name", "model", "model_args")
_NOT_OF_THE_MODEL = ("batch_size", "max_batch_size", "device", "prefetch", "workers")


@dataclass(frozen=True)
class Run:
    """The replies of one model.

    Attributes
    ----------
    model : str
        Its name.
    dataset : {"full", "sample"}
        What was asked.
    items : tuple of Item
        In the order of the dataset's categories, then by id.
    files : tuple of Path
        Where they come from.
    times : tuple of str
        The time stamps of these files.
    deviations : tuple of str
        Where the items differ from the released dataset.
    notes : tuple of str
        What a reader should know besides.
    asks_for : {"letter", "text"}
        What the prompts of multiple-choice items asked for.
    """

    model: str
    dataset: str
    items: tuple[Item, ...]
    files: tuple[Path, ...]
    times: tuple[str, ...]
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    asks_for: str = "letter"


def read_runs(
    paths: Sequence[str | Path],
    time: str | None = None,
    reply_field: str = "resps",
    accept_changed: bool = False,
    data_dir: str | Path | None = None,
) -> Run:
    """Read logged replies that form one run together.

    Parameters
    ----------
    paths : sequence of path
        Folders of results, or single samples files.
    time : str, optional
        Time stamp of a folder's files, or its beginning; the newest when left out.
    reply_field : {"resps", "filtered_resps"}
        The field of the sample lines that holds the reply.
    accept_changed : bool
        Whether to go on where `Run.deviations` is not empty.
    data_dir : path, optional
        Folder of the full dataset, to compare the documents with; without it only their numbers
        are compared. The sample is always compared with.

    Returns
    -------
    Run
        Its items are ordered by category and id.

    Raises
    ------
    ScoringError
        See the module's docstring.
    """
    require_choice("reply field", reply_field, REPLY_FIELDS)
    notes: list[str] = []
    files: list[Path] = []
    for path in paths:
        for file in _samples_files(Path(path), time, notes):
            if file.resolve() not in [known.resolve() for known in files]:
                files.append(file)
    items = [item for file in files for item in read_items(file, *_asked_by(file), reply_field)]
    if not items:
        raise ScoringError(f"{', '.join(map(str, paths))}: the samples files hold no lines")
    asks_for = _one_prompt(items)
    _refuse_duplicates(items)
    dataset = _one_dataset(items)
    model = _one_model(files)
    order = {value: position for position, value in enumerate(CATEGORY_BY_VALUE)}
    # Ranks of a parallel run log in another order.
    items.sort(key=lambda item: (order[item.doc["category"]], item.id))
    deviations = tuple(_deviations(items, _documents(dataset, data_dir)))
    if deviations and not accept_changed:
        shown = "\n  ".join(deviations[:10])
        more = f"\n  and {len(deviations) - 10} more" if len(deviations) > 10 else ""
        raise ScoringError(
            f"these are not all the items of the dataset, or not the same ones:\n  {shown}{more}\n"
            "Score a complete run, or add --accept-changed to score what is there; the result then "
            "says so"
        )
    times = tuple(sorted({_parts(file)[1] for file in files}))
    return Run(
        model, dataset, tuple(items), tuple(files), times, deviations, tuple(notes), asks_for
    )


# --- files ---------------------------------------------------------------------------------------


def _parts(file: Path) -> tuple[str, str]:
    """Return the task and the time stamp in a file's name."""
    found = _SAMPLES.fullmatch(file.name)
    return (found["task"], found["time"]) if found else ("", "")


def _asked_by(file: Path) -> tuple[str, str, str]:
    """Return the category's slug and the dataset of a file's task, and what it asks for."""
    task, _ = _parts(file)
    found = _TASK.fullmatch(task)
    assert found is not None
    dataset = "sample" if found["sample"] else "full"
    if found["text_slug"]:
        return found["text_slug"], dataset, "text"
    return found["slug"], dataset, "letter"


def _samples_files(path: Path, time: str | None, notes: list[str]) -> list[Path]:
    if path.is_file():
        task, _ = _parts(path)
        _require_replies(path, task)
        return [path]
    if not path.is_dir():
        raise ScoringError(f"{path}: there is no such file or folder. Name a folder of results")
    folder = _folder_with_samples(path)
    by_time: dict[str, list[Path]] = {}
    likelihoods = 0
    for file in sorted(folder.glob("samples_mmaupro*.jsonl")):
        task, stamp = _parts(file)
        if _TASK.fullmatch(task):
            by_time.setdefault(stamp, []).append(file)
        else:
            likelihoods += 1
    if not by_time:
        raise ScoringError(
            f"{folder}: {likelihoods} samples file(s), but none of tasks mmaupro_*, mmaupro-text_* or "
            "their samples. Log-likelihood tasks have no replies; lm_eval's own table has "
            "their scores"
        )
    stamps = sorted(by_time)
    fitting = [stamp for stamp in stamps if stamp.startswith(time or "")]
    if not fitting:
        raise ScoringError(f"{folder}: no samples of time {time!r}. There are: {', '.join(stamps)}")
    if time and len(fitting) > 1:
        raise ScoringError(f"{folder}: several times begin with {time!r}: {', '.join(fitting)}")
    chosen = fitting[-1]
    if len(stamps) > 1 and not time:
        notes.append(
            f"{folder} holds runs of {len(stamps)} times; the newest, {chosen}, is scored "
            "(--time picks another)"
        )
    return by_time[chosen]


def _folder_with_samples(path: Path) -> Path:
    """Return the folder itself, or the only one below it that has samples."""
    if any(path.glob("samples_mmaupro*.jsonl")):
        return path
    below = sorted({file.parent for file in path.glob("*/samples_mmaupro*.jsonl")})
    if not below:
        raise ScoringError(
            f"{path}: no samples_mmaupro*.jsonl here or one folder below. Run lm_eval with "
            "--output_path DIR --log_samples"
        )
    if len(below) > 1:
        names = ", ".join(str(folder) for folder in below)
        raise ScoringError(f"{path} holds the results of several models: {names}. Name one of them")
    return below[0]


def _require_replies(path: Path, task: str) -> None:
    if not task:
        raise ScoringError(
            f"{path}: not a samples file of lm_eval (samples_<task>_<time>.jsonl). Give the file as "
            "lm_eval named it"
        )
    if not _TASK.fullmatch(task):
        raise ScoringError(
            f"{path}: task {task!r} has no replies to score here. Tasks: mmaupro_<category>, "
            "mmaupro-text_<category>, mmaupro-sample_<category>, mmaupro-sample-text_<category>"
        )


# --- what belongs together -----------------------------------------------------------------------


def _one_prompt(items: Sequence[Item]) -> str:
    """Return what the prompts of multiple-choice items asked for, and refuse two kinds in one run."""
    first: dict[str, Item] = {}
    for item in items:
        if item.kind == "closed":
            first.setdefault(item.asks_for, item)
    if len(first) > 1:
        places = "; ".join(f"{name}: {item.where}" for name, item in sorted(first.items()))
        raise ScoringError(
            f"replies to prompts that ask for a letter and for a text are mixed ({places}). They are "
            "different tasks: name the samples files of one of them"
        )
    return next(iter(first), "letter")


def _refuse_duplicates(items: Sequence[Item]) -> None:
    first: dict[str, Item] = {}
    for item in items:
        earlier = first.setdefault(item.id, item)
        if earlier is not item:
            other = "" if earlier.doc_hash == item.doc_hash else " of another state of the dataset"
            raise ScoringError(
                f"{item.where}: id {item.id} is there twice{other}, first in {earlier.where}. Give "
                "each category once, with one line an item (one filter, no second run)"
            )


def _one_dataset(items: Sequence[Item]) -> str:
    by_dataset: dict[str, Item] = {}
    for item in items:
        by_dataset.setdefault(item.doc.get("dataset", "full"), item)
    if len(by_dataset) > 1:
        places = "; ".join(f"{name}: {item.where}" for name, item in sorted(by_dataset.items()))
        raise ScoringError(
            f"runs of different datasets are mixed ({places}). The sample says nothing about "
            "MMAU-Pro: score them apart"
        )
    return next(iter(by_dataset))


def _one_model(files: Sequence[Path]) -> str:
    """Return the model's name, and refuse files of different models or settings."""
    places = dict.fromkeys(file.parent / f"results_{_parts(file)[1]}.json" for file in files)
    settings = {results: _settings(results) for results in places}
    first_file, first = next(iter(settings.items()))
    for file, other in settings.items():
        if shown := "; ".join(_differences(first, other)):
            raise ScoringError(
                f"{first_file.parent} and {file.parent}: the replies of different models or "
                f"settings are mixed ({shown}). Score each run by itself"
            )
    return str(first["model_name"])


def _differences(first: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the settings of two runs differ; their identities count, where both have one."""
    one, another = first.get("identity"), other.get("identity")
    told = ("identity", *_IN_IDENTITY) if one and another else ("identity",)
    if one and another and one != another:
        fields = (name for name in {**one, **another} if one.get(name) != another.get(name))
        shown = ", ".join(name for name in fields if name != "id")
        yield f"identity: {one['id']} and {another['id']}, which differ in {shown}"
    for key in first:
        if key not in told and key in other and first[key] != other[key]:
            yield f"{key}: {first[key]!r} and {other[key]!r}"


def _settings(results: Path) -> dict[str, Any]:
    """Return what a results file says of the model; the folder's name where there is no such file."""
    if not results.is_file():
        return {"model_name": results.parent.name}
    try:
        content = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScoringError(f"{results}: cannot be read ({error})") from error
    config = content.get("config") or {}
    found = {key: content.get(key) for key in _MODEL_KEYS}
    found.update({key: config.get(key) for key in _CONFIG_KEYS})
    if isinstance(found["model_args"], dict):
        found["model_args"] = {
            key: value for key, value in found["model_args"].items() if key not in _NOT_OF_THE_MODEL
        }
    found["model_name"] = found["model_name"] or results.parent.name
    return found


def _deviations(
    items: Sequence[Item], known: Mapping[str, Mapping[str, Any]] | None
) -> Iterator[str]:
    """Yield where the items are not those of the dataset (by id; None: only counts are known)."""
    counts = Counter(item.doc["category"] for item in items)
    expected = (
        {category.value: category.expected_count for category in CATEGORIES.values()}
        if known is None
        else Counter(doc["category"] for doc in known.values())
    )
    for value in CATEGORY_BY_VALUE:
        if counts[value] and counts[value] != expected[value]:
            why = "a run with --limit?" if counts[value] < expected[value] else "another dataset?"
            yield f"{value}: {counts[value]:,} items, the dataset has {expected[value]:,} ({why})"
    for item in items:
        for deviation in item.deviations:
            yield f"{item.where}: item {item.id}: {deviation}"
        if known is not None and item.id not in known:
            yield f"{item.where}: id {item.id} is not in the dataset"
        elif known is not None and _asked(known[item.id]) != _asked(item.doc):
            yield f"{item.where}: item {item.id} differs from the dataset's"
        stated = item.doc.get("audio_sha256") or ()
        for path, promised, heard in zip(item.doc["audio_path"], stated, item.clips, strict=False):
            if promised and heard and promised != heard:
                yield f"{item.where}: {path} was not the clip that the manifest describes"


def _asked(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without digests that one copy of the dataset knows and another does not."""
    known = [digest for digest in doc.get("audio_sha256") or () if digest is not None]
    return {**doc, "audio_sha256": known if doc.get("dataset") == "sample" else []}


def _documents(dataset: str, data_dir: str | Path | None) -> dict[str, Mapping[str, Any]] | None:
    """Return the dataset's documents by id, or None where the dataset is not at hand."""
    sample = dataset == "sample"
    if not sample and data_dir is None:
        return None
    try:
        docs = [
            doc
            for slug in CATEGORIES
            for doc in load_category(slug, data_dir=None if sample else data_dir, sample=sample)
        ]
    except DataError as error:
        raise ScoringError(f"the dataset cannot be read: {error}") from error
    return {doc["id"]: doc for doc in docs}


def clip_seconds(dataset: str, data_dir: str | Path | None) -> dict[str, float]:
    """Return the measured duration of each clip, where a manifest tells.

    Parameters
    ----------
    dataset : {"full", "sample"}
        The sample has its manifest with it.
    data_dir : path, optional
        Folder of the full dataset, with the `manifest.json` that `mmaupro data verify` writes.

    Returns
    -------
    dict of str to float
        Relative path to seconds; empty where nothing is known.

    Raises
    ------
    ScoringError
        When there is a manifest that cannot be read.
    """
    folder = SAMPLE_DIR if dataset == "sample" else data_dir
    if folder is None or not (Path(folder) / "manifest.json").is_file():
        return {}
    path = Path(folder) / "manifest.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {
            name: float(entry["seconds"]) for name, entry in entries.items() if entry.get("seconds")
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoringError(f"{path}: not a manifest ({error!r}). Write it again") from error
