"""A run as pandas frames: what the report, its figures and notebooks are built on.

A few lines more than 400: what each column is made of is found here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmaupro_ext import benchmarks
from mmaupro_ext.benchmarks import Benchmark
from mmaupro_ext.data import conditions
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs, rescoring
from mmaupro_ext.offline.ablated import full_of
from mmaupro_ext.offline.logged_files import logged_files, prompts_of
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.report.frame_scores import (
    other_tasks,
    read_json,
    scored_before,
    scores_of,
    task_of,
)
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.intervals import clip_clusters
from mmaupro_ext.scoring.scorer import Verdict, gold_indexes
from mmaupro_ext.util import visible, writable

logger = logging.getLogger(__name__)

STRICT = "strict"


@dataclass(frozen=True)
class Frames:
    """One or several runs, each a row of `runs`.

    Attributes
    ----------
    runs : pandas.DataFrame
        Index `run`, a short name, with its `condition` where the run is ablated; model, benchmark, dataset,
        asks_for, condition, items, time, identity, versions, and what else the run says of itself.
    items : pandas.DataFrame
        One row an item of a run: `run`, `id`, `category`, `kind`, the question with its choices and
        answer, `reply`, `finish`, `status`, `score` (0 to 1, NaN where unscored), `evidence` (the words
        that decided), `cluster` (items of a run that share a clip have the same), seconds, windows,
        audio tokens, metadata.
    clips : pandas.DataFrame
        One row a clip of an item: `run`, `id`, `position`, `name`, `file` (as the run read it), `sha256`,
        seconds in the file and heard, channels, rate in Hz.
    scores : pandas.DataFrame
        One row a group: `run`, `preset`, `group` ("overall", "category", "perceptual_skills", …), `name`,
        `items`, `scored`, `score`, `low`, `high` (per cent; the interval is 95 %).
    tasks : pandas.DataFrame
        One row a metric of each other task of lm_eval (other benchmarks too) in the same results file:
        `run`, `task`, `alias`, `metric`, `value`, `stderr`, `items`, `is_group`.
    """

    runs: pd.DataFrame
    items: pd.DataFrame
    clips: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame

    @property
    def benchmark(self) -> Benchmark:
        """What all runs were asked; MMAU-Pro where none has samples of ours."""
        asked = [name for name in self.runs.benchmark if name]
        return benchmarks.BENCHMARKS[asked[0] if asked else benchmarks.MMAUPRO]

    @property
    def categories(self) -> list[str]:
        """The benchmark's categories in its order, as `items.category` has them."""
        return list(self.benchmark.by_value)

    @property
    def is_paper(self) -> bool:
        """Whether a run is of MMAU-Pro itself, so that published scores may stand beside it."""
        full = ((self.runs.dataset == "full") & (self.runs.condition == conditions.FULL)).any()
        return bool(full) and self.benchmark.name == benchmarks.MMAUPRO


def load(
    *paths: str | Path,
    preset: str = STRICT,
    data_dir: str | Path | None = None,
    benchmark: str | None = None,
    accept_changed: bool = True,
) -> Frames:
    """Load runs that lm_eval logged, each scored under a preset that needs no other model.

    Parameters
    ----------
    *paths : path
        Folders of results, as `mmaupro score` takes them; each is a run of its own: the newest of its
        folder (of an ablation's, that in full), or that of the results file (results_<time>.json) that is
        named in its place. Plain lm_eval's folders do as well; without samples of our tasks a run has
        `tasks` alone.
    preset : str
        Of which no embedder is asked: "strict", or one with overrides. Scores of other presets are taken
        from the files that `mmaupro score` left beside the run, where they are of the same replies.
    data_dir : path, optional
        Folder of the full dataset, for measured lengths.
    benchmark : str, optional
        Which of the benchmarks, where a folder has replies to several, or which group of tasks
        ("mmaupro-text"), where it has replies to several prompts of one; by default the first of
        `benchmarks.BENCHMARKS` that every folder with samples has. Of the others, what lm_eval's table
        says stands in `tasks`.
    accept_changed : bool
        Whether partial runs are loaded; what deviates stands in `runs`.

    Returns
    -------
    Frames

    Raises
    ------
    ScoringError
        When a folder holds no run, or what cannot be used.

    Examples
    --------
    >>> frames = load("results/nano")  # doctest: +SKIP
    >>> frames.items.groupby("category").score.mean()  # doctest: +SKIP
    """
    if not paths:
        raise ConfigError("name at least one folder of results")
    places = [_place(Path(path)) for path in paths]
    wanted = benchmark or _shared_benchmark(places)
    asked = benchmarks.parse_task(wanted)
    if asked is None:
        raise ConfigError(
            f"--benchmark {wanted}: there is none of this name. There are: {', '.join(benchmarks.BENCHMARKS)}"
        )
    resolved = presets.resolve(preset, [], asked.benchmark)
    parts = [_load(place, wanted, resolved, data_dir, accept_changed) for place in places]
    names = _short_names([_asked_model(part["about"]) for part in parts])
    for part, name in zip(parts, names, strict=True):
        for rows in (part["items"], part["clips"], part["scores"], part["tasks"]):
            for row in rows:
                row["run"] = name
        part["about"]["run"] = name
    # As objects: what a run does not say of itself stays None beside runs that do.
    runs = pd.DataFrame([part["about"] for part in parts], dtype=object).set_index("run")
    return Frames(runs, *(_frame(parts, key) for key in ("items", "clips", "scores", "tasks")))


# Columns of numbers, in which an unknown one is NaN also where all are.
_NUMBERS = {
    "items": (
        "gold_position",
        "score",
        "seconds_in_files",
        "longest_s",
        "seconds_heard",
        "windows",
        "audio_tokens",
    ),
    "clips": (
        "seconds_in_file",
        "seconds_heard",
        "channels_in_file",
        "channels_heard",
        "sampling_rate_in_file",
    ),
    "scores": ("score", "low", "high", "served_score"),
    "tasks": ("value", "stderr"),
}


def _frame(parts: Sequence[Mapping[str, Any]], key: str) -> pd.DataFrame:
    rows = [_writable(row) for part in parts for row in part[key]]
    # Under a condition without audio no item has a clip.
    frame = pd.DataFrame(rows, columns=None if rows else ["run", "id", "sha256", *_NUMBERS[key]])
    unknown = [name for name in _NUMBERS[key] if rows and frame[name].isna().all()]
    return frame.astype(dict.fromkeys(unknown, np.float64))


def _writable(value: Any) -> Any:
    """Return a value all of whose texts a file can hold."""
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, Mapping):
        return {key: _writable(entry) for key, entry in value.items()}
    return [_writable(entry) for entry in value] if isinstance(value, list) else value


def _asked_model(about: Mapping[str, Any]) -> str:
    """Return the model's name, with the recipe and the condition by which it was asked."""
    under = "" if about["condition"] == conditions.FULL else about["condition"]
    asked = ", ".join(filter(None, (about["recipe"], under)))
    return f"{about['model']} [{asked}]" if asked else about["model"]


def _short_names(models: Sequence[str]) -> list[str]:
    """Return the models' names without what they are filed under, numbered where two are equal."""
    short = [visible(model.rstrip("/").rpartition("/")[2] or model) for model in models]
    names: list[str] = []
    for name in short:
        number, given = 0, name
        while given in names or (not number and short.count(name) > 1):
            number += 1
            given = f"{name} ({number})"
        names.append(given)
    return names


# --- one run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a run is: a folder or samples file, and its time where one was named."""

    path: Path
    time: str | None

    def __str__(self) -> str:
        return str(self.path) if self.time is None else f"{self.path} at {self.time}"

    @property
    def has_replies(self) -> bool:
        pattern = f"samples_*{self.time or ''}.jsonl"
        below = [*self.path.glob(pattern), *self.path.glob(f"*/{pattern}")]
        asked = map(task_of, [self.path] if self.path.is_file() else below)
        # The scores of log-likelihoods are in lm_eval's own table.
        return any(task is not None and task.variant != "ll" for task in asked)

    @property
    def results(self) -> Path | None:
        """The newest results file in the folder or one below; None where there is no such folder."""
        pattern = f"results_{self.time or '*'}.json"
        files = [*self.path.glob(pattern), *self.path.glob(f"*/{pattern}")]
        return max(files, key=lambda file: file.name, default=None)


def _place(path: Path) -> _Place:
    time = path.stem.removeprefix("results_")
    named = path.is_file() and path.name == f"results_{time}.json"
    return _Place(path.parent, time) if named else _Place(full_of(path), None)


def _shared_benchmark(places: Sequence[_Place]) -> str:
    """Return the first benchmark to which every place that has replies to ours has some."""
    files = {
        place: logged_files([place.path], place.time, []) for place in places if place.has_replies
    }
    if not files:
        return benchmarks.MMAUPRO
    answered = {place: {file.asked.benchmark for file in found} for place, found in files.items()}
    shared = [
        name for name in benchmarks.BENCHMARKS if all(name in found for found in answered.values())
    ]
    if not shared:
        shown = "; ".join(f"{place}: {', '.join(sorted(a))}" for place, a in answered.items())
        raise ConfigError(
            f"these runs have no benchmark in common ({shown}). Report each by itself"
        )
    if len(shared) > 1:
        logger.warning(
            "%s alone is looked at here; --benchmark NAME looks at %s, which were asked as well",
            *(shared[0], ", ".join(shared[1:])),
        )
    for place, found in files.items():
        groups = prompts_of([file for file in found if file.asked.benchmark == shared[0]])
        if len(groups) > 1:
            raise ConfigError(
                f"{place}: replies to {' and '.join(groups)}, which have different prompts and are never one "
                "run. Add --benchmark with one of them"
            )
    return shared[0]


def _load(
    place: _Place,
    benchmark: str,
    preset: presets.Preset,
    data_dir: str | Path | None,
    accept_changed: bool,
) -> dict[str, Any]:
    results_file = place.results
    if results_file is not None and not place.has_replies:
        results = read_json(results_file)
        about = _about(None, results, results_file)
        return {
            "about": about,
            "items": [],
            "clips": [],
            "scores": [],
            "tasks": other_tasks(results, None),
        }
    (run,) = logged_runs.read_all(
        [place.path],
        place.time,
        accept_changed=accept_changed,
        data_dir=data_dir,
        only=benchmark,
    )
    if (known := conditions.CONDITIONS.get(run.condition)) is not None and known.several:
        raise ConfigError(
            f"{place}: under the condition {run.condition} each item was asked several times, which the "
            "profile of `mmaupro ablate` sums up; `mmaupro score` shows the mean. Leave this run out"
        )
    results_file = run.files[0].parent / f"results_{run.times[-1]}.json"
    results = read_json(results_file) if results_file.is_file() else {}
    verdicts, result = rescoring.score_run(run, preset, data_dir=data_dir)
    seconds = logged_runs.clip_seconds(run.dataset, data_dir, run.name)
    scores = list(scores_of(result, run.benchmark))
    for other in scored_before(run, result):
        scores += scores_of(other, run.benchmark)
    return {
        "about": _about(run, results, results_file),
        "items": list(_items(run, verdicts, preset, seconds)),
        "clips": [row for item in run.items for row in _clips(item, seconds)],
        "scores": scores,
        "tasks": other_tasks(results, run),
    }


def _about(run: Run | None, results: Mapping[str, Any], file: Path) -> dict[str, Any]:
    config = results.get("config") or {}
    versions = {
        name: results.get(f"{name}_version")
        for name in ("lm_eval", "transformers")
        if results.get(f"{name}_version")
    }
    identity = config.get("identity") or {}
    if identity.get("mmaupro_ext"):
        versions["mmaupro_ext"] = identity["mmaupro_ext"]
    elapsed = results.get("total_evaluation_time_seconds")
    model = (run.model if run else None) or results.get("model_name") or file.parent.name
    return {
        "model": visible(str(model)),
        "model_class": config.get("model"),
        "model_args": config.get("model_args") or {},
        "benchmark": run.name if run else None,
        "dataset": run.dataset if run else None,
        "asks_for": run.asks_for if run else None,
        "condition": run.condition if run else config.get("condition") or conditions.FULL,
        "items": len(run.items) if run else 0,
        "time": run.times[-1] if run else file.stem.partition("_")[2],
        "folder": str(file.parent),
        "file": str(file),
        "identity": identity,
        "heard": config.get("heard") or {},
        "note": config.get("note") or "",
        "versions": versions,
        "seconds": float(elapsed) if elapsed else None,
        "batch_size": config.get("batch_size"),
        "device": config.get("device"),
        "limit": config.get("limit"),
        "gen_kwargs": config.get("gen_kwargs") or {},
        "system_instruction": results.get("system_instruction"),
        "chat_template": bool(results.get("chat_template")),
        "tasks": sorted(results.get("configs") or {}),
        "config": config,
        "deviations": list(run.deviations) if run else [],
        "taken": list(run.notes) if run else [],
        "notes": [conditions.warning(run.condition)]
        if run and run.condition != conditions.FULL
        else [],
        "part": str(run.part) if run and run.part else "",
        "recipe": run.recipe if run else "",
    }


def _items(
    run: Run, verdicts: Sequence[Verdict], preset: presets.Preset, seconds: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    clusters = clip_clusters([item.clips for item in run.items])
    for item, verdict, cluster in zip(run.items, verdicts, clusters, strict=True):
        doc, heard = item.doc, item.heard or {}
        lengths = [clip["seconds_in_file"] for clip in _clips(item, seconds)]
        known = [value for value in lengths if value is not None]
        gold = sorted(gold_indexes(doc["choices"], doc["answer"], preset.options.gold))
        yield {
            "id": item.id,
            "category": doc["category"],
            "kind": item.kind,
            "question": doc["question"],
            "choices": list(doc["choices"]),
            "answer": doc["answer"],
            "gold_position": gold[0] if gold else None,
            "reply": item.reply,
            "finish": item.finish,
            "status": verdict.status,
            "parsed": verdict.parsed,
            "score": float("nan") if verdict.score is None else float(verdict.score),
            "evidence": verdict.details.get("evidence", ""),
            "details": verdict.details,
            "cluster": cluster,
            "clips": len(doc["audio_path"]),
            "seconds_in_files": sum(known) if len(known) == len(lengths) else None,
            "longest_s": max(known) if known and len(known) == len(lengths) else None,
            "seconds_heard": heard.get("seconds_heard"),
            "windows": heard.get("windows"),
            "audio_tokens": heard.get("audio_tokens"),
            "length_type": doc.get("length_type"),
            "sub_category": doc.get("sub-cat"),
            "attributes": doc.get("attributes") or {},
            "perceptual_skills": doc.get("perceptual_skills") or [],
            "reasoning_skills": doc.get("reasoning_skills") or [],
            "task_identifier": doc.get("task_identifier"),
            "transcription": doc.get("transcription"),
            "prompt": item.prompt,
            "prompt_hash": item.prompt_hash,
        }


def _clips(item: Item, seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    heard = (item.heard or {}).get("clips") or []
    rows = []
    for position, name in enumerate(item.doc["audio_path"]):
        record = heard[position] if position < len(heard) else {}
        digests = item.clips or ()
        rows.append(
            {
                "id": item.id,
                "position": position,
                "name": name,
                "file": record.get("file") or (item.files[position] if item.files else None),
                "sha256": digests[position] if position < len(digests) else None,
                "seconds_in_file": record.get("seconds_in_file", seconds.get(name)),
                "seconds_heard": record.get("seconds_heard"),
                "channels_in_file": record.get("channels_in_file"),
                "channels_heard": record.get("channels_heard"),
                "sampling_rate_in_file": record.get("sampling_rate_in_file"),
            }
        )
    return rows
