"""A run as pandas frames: what the report, its figures and notebooks are built on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmaupro_ext import benchmarks
from mmaupro_ext.benchmarks import Benchmark
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs, rescoring
from mmaupro_ext.offline.logged_files import logged_files
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import clip_clusters
from mmaupro_ext.scoring.scorer import Verdict, gold_indexes
from mmaupro_ext.util import stat_regular, visible

STRICT = "strict"


@dataclass(frozen=True)
class Frames:
    """One or several runs, each a row of `runs`.

    Attributes
    ----------
    runs : pandas.DataFrame
        Index `run`, a short name; model, benchmark, dataset, asks_for, items, time, identity, versions, and
        what else the run says of itself.
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
        full = (self.runs.dataset == "full").any()
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
        Folders of results, as `mmaupro score` takes them; each is a run of its own. Plain lm_eval's
        folders do as well; without samples of our tasks a run has `tasks` alone.
    preset : str
        Of which no embedder is asked: "strict", or one with overrides. Scores of other presets are taken
        from the files that `mmaupro score` left beside the run, where they are of the same replies.
    data_dir : path, optional
        Folder of the full dataset, for measured lengths.
    benchmark : str, optional
        Which of the benchmarks, where a folder has replies to several; by default the first of
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
    folders = [Path(path) for path in paths]
    wanted = benchmark or _shared_benchmark(folders)
    resolved = presets.resolve(preset, [], wanted)
    parts = [_load(path, wanted, resolved, data_dir, accept_changed) for path in folders]
    names = _short_names([part["about"]["model"] for part in parts])
    for part, name in zip(parts, names, strict=True):
        for rows in (part["items"], part["clips"], part["scores"], part["tasks"]):
            for row in rows:
                row["run"] = name
        part["about"]["run"] = name
    runs = pd.DataFrame([part["about"] for part in parts]).set_index("run")
    return Frames(runs, *(_frame(parts, key) for key in ("items", "clips", "scores", "tasks")))


def _frame(parts: Sequence[Mapping[str, Any]], key: str) -> pd.DataFrame:
    return pd.DataFrame([row for part in parts for row in part[key]])


def _short_names(models: Sequence[str]) -> list[str]:
    """Return the models' names without what they are filed under, numbered where two are equal."""
    short = [visible(model.rstrip("/").rpartition("/")[2] or model) for model in models]
    return [
        name if short.count(name) == 1 else f"{name} ({short[:position].count(name) + 1})"
        for position, name in enumerate(short)
    ]


# --- one run --------------------------------------------------------------------------------------


def _shared_benchmark(folders: Sequence[Path]) -> str:
    """Return the first benchmark to which every folder that has samples of ours has replies."""
    answered = []
    for folder in filter(_has_samples, folders):
        answered.append({file.asked.benchmark for file in logged_files([folder], None, [])})
    for name in benchmarks.BENCHMARKS:
        if answered and all(name in found for found in answered):
            return name
    if answered:
        shown = "; ".join(
            f"{f}: {', '.join(sorted(a))}" for f, a in zip(folders, answered, strict=False)
        )
        raise ConfigError(
            f"these runs have no benchmark in common ({shown}). Report each by itself"
        )
    return benchmarks.MMAUPRO


def _has_samples(path: Path) -> bool:
    files = [path] if path.is_file() else [*path.glob("samples_*"), *path.glob("*/samples_*")]
    return any(_asked(file) for file in files)


def _asked(file: Path) -> bool:
    task = file.name.removeprefix("samples_").rpartition("_")[0]
    return benchmarks.parse_task(task) is not None


def _load(
    path: Path,
    benchmark: str,
    preset: presets.Preset,
    data_dir: str | Path | None,
    accept_changed: bool,
) -> dict[str, Any]:
    results_file = _results_of(path)
    if results_file is not None and not _has_samples(path):
        results = _read_json(results_file)
        about = _about(None, results, results_file)
        return {
            "about": about,
            "items": [],
            "clips": [],
            "scores": [],
            "tasks": _tasks(results, ""),
        }
    (run,) = logged_runs.read_all(
        [path], accept_changed=accept_changed, data_dir=data_dir, only=benchmark
    )
    results_file = run.files[0].parent / f"results_{run.times[-1]}.json"
    results = _read_json(results_file) if results_file.is_file() else {}
    verdicts, result = rescoring.score_run(run, preset, data_dir=data_dir)
    seconds = logged_runs.clip_seconds(run.dataset, data_dir, run.name)
    scores = list(_scores(result, run.benchmark))
    for other in _scored_before(run, result):
        scores += _scores(other, run.benchmark)
    return {
        "about": _about(run, results, results_file),
        "items": list(_items(run, verdicts, preset, seconds)),
        "clips": [row for item in run.items for row in _clips(item, seconds)],
        "scores": scores,
        "tasks": _tasks(results, run.name),
    }


def _results_of(path: Path) -> Path | None:
    """Return the newest results file in a folder or one folder below."""
    folder = path if path.is_dir() else path.parent
    files = [*folder.glob("results_*.json"), *folder.glob("*/results_*.json")]
    return max(files, key=lambda file: file.name, default=None)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        stat_regular(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScoringError(f"{file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise ScoringError(f"{file}: not a results file of lm_eval")
    return content


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
        "notes": list(run.notes) if run else [],
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


# --- scores ---------------------------------------------------------------------------------------

_KEPT = ("items", "scored", "score", "low", "high", "served", "served_score", "marked", "counts")


def _scores(result: Mapping[str, Any], benchmark: Benchmark) -> Iterator[dict[str, Any]]:
    preset = result["label"]
    overall = result["overall"]
    yield {
        "preset": preset,
        "group": "overall",
        "name": "overall",
        "score": overall["weighted"],
        "complete": overall["complete"],
        "label": overall["label"],
        **{key: overall.get(key) for key in ("items", "low", "high", "served_score", "marked")},
    }
    for name in benchmark.by_value:
        if name in result["categories"]:
            entry = result["categories"][name]
            values = {key: entry.get(key) for key in _KEPT}
            yield {"preset": preset, "group": "category", "name": name, **values}
    for group, entries in result["groups"].items():
        for name, entry in sorted(entries.items()):
            values = {key: entry.get(key) for key in _KEPT}
            yield {"preset": preset, "group": group, "name": name, **values}


def _scored_before(run: Run, result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what `mmaupro score` left beside the run under other presets, of the same replies."""
    newest: dict[str, dict[str, Any]] = {}
    for file in sorted(run.files[0].parent.glob("scores_*.json"), key=lambda f: f.stat().st_mtime):
        other = _read_json(file)
        same = (other.get("scorer") or {}) == result["scorer"]
        if same and other.get("replies_sha256") == result["replies_sha256"]:
            newest[other["label"]] = other
    newest.pop(result["label"], None)
    yield from newest.values()


def _tasks(results: Mapping[str, Any], benchmark: str) -> list[dict[str, Any]]:
    """Return the scores that lm_eval gave to other tasks than those of a benchmark: text, pictures."""
    rows = []
    groups = results.get("groups") or {}
    for task, values in {**(results.get("results") or {}), **groups}.items():
        asked = benchmarks.parse_task(task)
        if asked is not None and (
            asked.benchmark == benchmark or (asked.part and task not in groups)
        ):
            continue  # shown above, or a leaf of a benchmark whose row stands there
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, (int, float)):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            rows.append(
                {
                    "task": task,
                    "alias": str(values.get("alias", task)).strip(" -"),
                    "metric": metric if filtered == "none" else f"{metric} ({filtered})",
                    "value": float(value),
                    "stderr": float(error) if isinstance(error, (int, float)) else None,
                    "items": values.get("sample_len"),
                    "is_group": task in groups,
                }
            )
    return rows
