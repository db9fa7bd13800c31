"""Read the replies that lm_eval logged (`--log_samples`), and stop where they do not belong together.

`logged_files` finds the files. Nothing here imports lm_eval. A few lines more than 400: what belongs
together is decided here alone.

Two kinds of trouble:

* a file that cannot be what it should be (no reply field, broken JSON, an item twice, replies of
  two models) always stops with `ScoringError`, naming file and line;
* a dataset that is not the released one, or not all of it, is listed in `Run.deviations`. It stops
  as well unless the caller accepts it, and then travels into the result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import recipes
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark
from mmaupro_ext.data import CATEGORIES, SAMPLE_DIR, conditions, load_category, load_items
from mmaupro_ext.data.locate import SAMPLES_DIR
from mmaupro_ext.errors import DataError
from mmaupro_ext.offline.logged_files import (
    LoggedFile,
    logged_files,
    of_group,
    prompts_of,
    read_results,
)
from mmaupro_ext.offline.logged_items import REPLY_FIELDS, Item, read_items
from mmaupro_ext.offline.parts import Part, part_of
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import require_choice

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
    asks_for : {"letter", "text", "own"}
        What the prompts of multiple-choice items asked for; "own": what the benchmark's authors ask.
    name : str
        Key of `benchmarks.BENCHMARKS`.
    identity : str or None
        Id of the identity of its answers, where the results say it.
    condition : str
        Under which all items were asked (`data.conditions`); "full": as they were released.
    part : Part or None
        What was drawn, where that is not all.
    recipe : str
        By which all items were asked (`recipes`); "": as the benchmark has them.
    """

    model: str
    dataset: str
    items: tuple[Item, ...]
    files: tuple[Path, ...]
    times: tuple[str, ...]
    deviations: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    asks_for: str = "letter"
    name: str = MMAUPRO
    identity: str | None = None
    condition: str = conditions.FULL
    part: Part | None = None
    recipe: str = ""

    @property
    def benchmark(self) -> Benchmark:
        """What was asked."""
        return BENCHMARKS[self.name]


def read_runs(
    paths: Sequence[str | Path],
    time: str | None = None,
    reply_field: str = "resps",
    accept_changed: bool = False,
    data_dir: str | Path | None = None,
) -> Run:
    """Read logged replies that form one run together, of one benchmark.

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
    runs = read_all(paths, time, reply_field, accept_changed, data_dir)
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs)
        raise ScoringError(f"these are runs of several benchmarks: {names}. Name one of them")
    return runs[0]


def read_all(
    paths: Sequence[str | Path],
    time: str | None = None,
    reply_field: str = "resps",
    accept_changed: bool = False,
    data_dir: str | Path | None = None,
    only: str | None = None,
) -> list[Run]:
    """Read logged replies of one model, one run for each benchmark.

    Parameters
    ----------
    paths, time, reply_field, accept_changed, data_dir
        As for `read_runs`.
    only : str, optional
        The one benchmark that is wanted, or the group of its tasks ("mmaupro-text"); all when left out.

    Returns
    -------
    list of Run
        In the order of `benchmarks.BENCHMARKS`.

    Raises
    ------
    ScoringError
        See the module's docstring.
    """
    require_choice("reply field", reply_field, REPLY_FIELDS)
    notes: list[str] = []
    files = logged_files(paths, time, notes)
    _one_model(files)
    if only is not None:
        order = list(BENCHMARKS)
        there = sorted({(order.index(file.asked.benchmark), file.group) for file in files})
        if not (files := of_group(files, only)):
            names = ", ".join(group for _, group in there)
            raise ScoringError(f"there are no replies to {only}, but to {names}")
    wanted = [name for name in BENCHMARKS if any(file.asked.benchmark == name for file in files)]
    if data_dir is not None and len(wanted) > 1:
        raise ScoringError(
            f"a data folder is given for the runs of several benchmarks: {', '.join(wanted)}. Add "
            "--benchmark NAME"
        )
    return [
        _run_of(
            [file for file in files if file.asked.benchmark == name],
            tuple(notes),
            reply_field,
            accept_changed,
            data_dir,
        )
        for name in wanted
    ]


def _run_of(
    files: Sequence[LoggedFile],
    notes: tuple[str, ...],
    reply_field: str,
    accept_changed: bool,
    data_dir: str | Path | None,
) -> Run:
    """Read the files of one benchmark."""
    name = files[0].asked.benchmark
    items = [item for file in files for item in read_items(file, reply_field)]
    paths = tuple(file.path for file in files)
    if not items:
        raise ScoringError(f"{', '.join(map(str, paths))}: the samples files hold no lines")
    asks_for = _one_prompt(items, prompts_of(files))
    condition = _one_condition(items)
    _refuse_duplicates(items)
    dataset = _one_dataset(items)
    benchmark = BENCHMARKS[name]
    order = {value: position for position, value in enumerate(benchmark.by_value)}
    # Ranks of a parallel run log in another order.
    items.sort(key=lambda item: (order[item.doc["category"]], item.id))
    known = _documents(benchmark, dataset, asks_for, data_dir)
    part = part_of(files, benchmark)
    deviations = tuple(_deviations(benchmark, items, known, part))
    if deviations and not accept_changed:
        shown = "\n  ".join(deviations[:10])
        more = f"\n  and {len(deviations) - 10} more" if len(deviations) > 10 else ""
        raise ScoringError(
            f"these are not all the items of the dataset, or not the same ones:\n  {shown}{more}\n"
            "Score a complete run, or add --accept-changed to score what is there; the result then "
            "says so"
        )
    times = tuple(sorted({file.time for file in files}))
    model, identity = _one_model(files)
    return Run(
        model,
        dataset,
        tuple(items),
        paths,
        times,
        deviations,
        notes,
        asks_for,
        benchmark.name,
        identity,
        condition,
        part,
        _one_recipe(items),
    )


# --- what belongs together -----------------------------------------------------------------------


def _one_prompt(items: Sequence[Item], groups: Sequence[str]) -> str:
    """Return what the prompts of multiple-choice items asked for, and refuse two kinds in one run."""
    first: dict[str, Item] = {}
    for item in items:
        if item.kind in ("closed", "hidden"):
            first.setdefault(item.asks_for, item)
    if len(first) > 1:
        places = "; ".join(f"{name}: {item.where}" for name, item in sorted(first.items()))
        raise ScoringError(
            f"replies to prompts that ask for a letter, for a text or as the authors do are mixed "
            f"({places}). They are different tasks: name the samples files of one of them, or add "
            f"--benchmark with one of {', '.join(groups)}"
        )
    return next(iter(first), "letter")


def _one_condition(items: Sequence[Item]) -> str:
    """Return under which condition the items were asked, and refuse two in one run."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(conditions.name_of(item.doc), item)
    if len(first) > 1:
        places = "; ".join(f"{name}: {item.where}" for name, item in sorted(first.items()))
        raise ScoringError(
            f"replies under different conditions are mixed ({places}). An ablated reply says nothing of the "
            "benchmark: name the samples files of one condition"
        )
    return next(iter(first))


def _one_recipe(items: Sequence[Item]) -> str:
    """Return by which recipe the items were asked, and refuse two in one run."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(recipes.name_of(item.doc), item)
    if len(first) > 1:
        places = "; ".join(
            f"{name or 'none'}: {item.where}" for name, item in sorted(first.items())
        )
        raise ScoringError(
            f"replies by different recipes are mixed ({places}). Name the files of one"
        )
    return next(iter(first), "")


def _refuse_duplicates(items: Sequence[Item]) -> None:
    first: dict[tuple[str, str], Item] = {}
    for item in items:
        earlier = first.setdefault((item.id, conditions.variant_of(item.doc)), item)
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
            f"runs of different datasets are mixed ({places}). The sample says nothing about the "
            "benchmark: score them apart"
        )
    return next(iter(by_dataset))


def _one_model(files: Sequence[LoggedFile]) -> tuple[str, str | None]:
    """Return the model's name and identity, and refuse files of different models or settings."""
    places = dict.fromkeys(file.results for file in files)
    settings = {results: _settings(results) for results in places}
    first_file, first = next(iter(settings.items()))
    for file, other in settings.items():
        if shown := "; ".join(_differences(first, other)):
            raise ScoringError(
                f"{first_file.parent} and {file.parent}: the replies of different models or "
                f"settings are mixed ({shown}). Score each run by itself"
            )
    return str(first["model_name"]), (first.get("identity") or {}).get("id")


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
    content = read_results(results)
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
    benchmark: Benchmark,
    items: Sequence[Item],
    known: Mapping[str, Mapping[str, Any]] | None,
    part: Part | None = None,
) -> Iterator[str]:
    """Yield where the items are not those of the dataset (by id; None: only counts are known)."""
    # Under a condition some items cannot be asked, and others several times: `mmaupro ablate` counts them.
    ablated = any("condition" in item.doc for item in items)
    counts = Counter(() if ablated else (item.doc["category"] for item in items))
    if part is not None and not ablated:  # a category that is as it was drawn counts as all of it
        for value, drawn in part.drawn.items():
            counts[value] += part.sizes[value] - drawn
    wanted = {category.value: category.expected_count for category in benchmark.categories}
    if known is not None:
        wanted = dict.fromkeys(wanted, 0) | Counter(doc["category"] for doc in known.values())
    elif not any(wanted.values()) and counts.keys() == wanted.keys():  # all of it, or a part of all
        counts, wanted = (
            Counter({"all categories": sum(counts.values())}),
            {"all categories": benchmark.items},
        )
    for value, expected in wanted.items():
        # Where nobody states how many a category has, any number may be all of it.
        if counts[value] and counts[value] != expected and (expected or known is not None):
            why = "a run with --limit?" if counts[value] < expected else "another dataset?"
            yield f"{value}: {counts[value]:,} items, the dataset has {expected:,} ({why})"
    for item in items:
        for deviation in item.deviations:
            yield f"{item.where}: item {item.id}: {deviation}"
        if known is not None and item.id not in known:
            yield f"{item.where}: id {item.id} is not in the dataset"
        elif known is not None and _asked(known[item.id]) != _asked(conditions.original(item.doc)):
            yield f"{item.where}: item {item.id} differs from the dataset's"
        stated = item.doc.get("audio_sha256") or ()
        for path, promised, heard in zip(item.doc["audio_path"], stated, item.clips, strict=False):
            if promised and heard and promised != heard:
                yield f"{item.where}: {path} was not the clip that the manifest describes"


def _asked(doc: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without digests that one copy of the dataset knows and another does not."""
    known = [digest for digest in doc.get("audio_sha256") or () if digest is not None]
    released = {key: value for key, value in doc.items() if key != recipes.RECIPE}
    return {**released, "audio_sha256": known if doc.get("dataset") == "sample" else []}


def _documents(
    benchmark: Benchmark, dataset: str, asks_for: str, data_dir: str | Path | None
) -> dict[str, Mapping[str, Any]] | None:
    """Return the dataset's documents by id, or None where the dataset is not at hand."""
    sample = dataset == "sample"
    if not sample and data_dir is None:
        return None
    folder = None if sample else data_dir
    try:
        if benchmark.read_row is None:
            docs = [
                doc
                for slug in CATEGORIES
                for doc in load_category(slug, data_dir=folder, sample=sample)
            ]
        else:
            docs = load_items(benchmark.name, None, folder, sample, asks_for)
    except DataError as error:
        raise ScoringError(f"the dataset cannot be read: {error}") from error
    return {doc["id"]: doc for doc in docs}


def clip_seconds(
    dataset: str, data_dir: str | Path | None, name: str = MMAUPRO
) -> dict[str, float]:
    """Return the measured duration of each clip, where a manifest tells.

    Parameters
    ----------
    dataset : {"full", "sample"}
        The sample has its manifest with it.
    data_dir : path, optional
        Folder of the full dataset, with the `manifest.json` that `mmaupro data verify` writes.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    dict of str to float
        Relative path to seconds; empty where nothing is known.

    Raises
    ------
    ScoringError
        When there is a manifest that cannot be read.
    """
    sample = SAMPLE_DIR if name == MMAUPRO else SAMPLES_DIR / name
    folder = sample if dataset == "sample" else data_dir
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
