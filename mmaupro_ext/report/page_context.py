"""What a report says, as plain data for its templates."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmaupro_ext import __version__
from mmaupro_ext.data import text
from mmaupro_ext.report import charts, claims, published, reliance
from mmaupro_ext.report.after_run import footnotes
from mmaupro_ext.report.chart_parts import Chart
from mmaupro_ext.report.comparison import METHOD, OVERALL, Comparison, interval_text, p_text
from mmaupro_ext.report.frames import Frames
from mmaupro_ext.report.reliance_chart import section_of
from mmaupro_ext.scoring.reliance import Profile

Context = dict[str, Any]


def context_of(
    frames: Frames,
    comparisons: Sequence[Comparison],
    figures: Sequence[Chart],
    profiles: Mapping[str, Profile],
    missing: Sequence[str],
) -> Context:
    """Return what the templates of a report are given.

    Parameters
    ----------
    frames : Frames
        What `frames.load` gave.
    comparisons : sequence of Comparison
        Of these runs.
    figures : sequence of Chart
        What `charts.draw` gave.
    profiles : mapping of str to Profile
        Of the runs that were asked under conditions as well.
    missing : sequence of str
        What is not on the page and why, a sentence each; "" says nothing.
    """
    runs = [_run(frames, name) for name in frames.runs.index]
    warnings = [
        note if all(note in other["warnings"] for other in runs) else f"{run['name']}: {note}"
        for run in runs
        for note in run["warnings"]
    ]
    return {
        "title": f"{frames.benchmark.title}: " + ", ".join(run["name"] for run in runs),
        "version": __version__,
        "runs": runs,
        "warnings": [
            *dict.fromkeys(warnings),
            *filter(None, missing),
        ],
        "headline": _headline(frames),
        "other_tasks": _other_tasks(frames),
        "comparisons": [_pair(pair) for pair in comparisons],
        "listening": [_listening(run, found) for run, found in profiles.items()],
        "listening_beside": (
            [reliance.overall_published(), reliance.categories_published()]
            if profiles and frames.is_paper
            else []
        ),
        "published": _published() if frames.is_paper else None,
        "claims": claims.beside_measured(frames),
        "happened": _happened(frames),
        "charts": figures,
    }


def _run(frames: Frames, name: str) -> Context:
    about = frames.runs.loc[name]
    identity = about.identity or {}
    title = frames.benchmark.title
    named = {"full": title, "sample": f"the generated sample of {title}"}
    dataset = named.get(about.dataset, "other tasks only")
    warnings = [
        note.removeprefix("NOTE: ") for note in footnotes({"config": about.config, "configs": {}})
    ]
    if about.part:
        warnings.append(f"{about.part}: no score here is that of the whole")
    if about.deviations:
        warnings.append(
            f"not all items of the dataset, or not as it asks them: {about.deviations[0]}"
            + (f"; and {len(about.deviations) - 1} more" if len(about.deviations) > 1 else "")
        )
    warnings += [*about.taken, *about.notes]
    if about.dataset == "sample":
        warnings.append(f"the sample is synthetic: its scores say nothing about {title}")
    details = {
        key: about[key]
        for key in (
            "model_args",
            "gen_kwargs",
            "batch_size",
            "device",
            "limit",
            "versions",
            "identity",
        )
        if about[key]
    }
    return {
        "name": name,
        "model": about.model,
        "dataset_name": dataset,
        "when": about.time.partition("T")[0],
        "identity": identity.get("id", ""),
        "warnings": warnings,
        "command": _command(about),
        "details": json.dumps(details, indent=2, ensure_ascii=False, default=str),
    }


def _command(about: pd.Series) -> str:
    """Return a command that repeats the run, as far as lm_eval logged its options; "" where it did not."""
    if not about.model_class:
        return ""
    parts = ["lm_eval", "--model", str(about.model_class)]
    if about.model_args:
        args = about.model_args
        plain = args if isinstance(args, str) else json.dumps(args)
        if isinstance(args, dict) and not any(
            isinstance(value, (dict, list)) or "," in str(value) for value in args.values()
        ):
            plain = ",".join(f"{key}={value}" for key, value in args.items())
        parts += ["--model_args", plain]
    parts += ["--tasks", ",".join(about.tasks)]
    if given := about.gen_kwargs:
        parts += ["--gen_kwargs", given if isinstance(given, str) else json.dumps(given)]
    if about.batch_size:
        parts += ["--batch_size", str(about.batch_size)]
    if about.limit:
        parts += ["--limit", f"{about.limit:.15g}"]
    if about.system_instruction:
        parts += ["--system_instruction", about.system_instruction]
    if about.chat_template:
        parts.append("--apply_chat_template")
    return shlex.join([*parts, "--output_path", "results", "--log_samples"])


def _headline(frames: Frames) -> Context:
    scores = frames.scores
    if scores.empty:
        return {"rows": [], "columns": [], "others": [], "remarks": []}
    presets = list(dict.fromkeys(scores.preset))
    base = list(dict.fromkeys(scores.groupby("run", sort=False).preset.first()))
    others = [preset for preset in presets if preset not in base]
    columns = ["strict" if base == ["strict"] else base[0], *others, "parsed", "errored", "items"]
    rows, remarks = [], []
    for name in [*frames.categories, OVERALL]:
        group = OVERALL if name == OVERALL else "category"
        chosen = scores[(scores.group == group) & (scores["name"] == name)]
        if chosen.empty:
            continue
        cells = []
        for run in frames.runs.index:
            own = chosen[chosen.run == run].set_index("preset")
            items = frames.items[frames.items.run == run]
            items = items if name == OVERALL else items[items.category == name]
            cells += [_score_cell(own, preset) for preset in (own.index[:1].tolist() or base[:1])]
            cells += [_score_cell(own, preset) for preset in others]
            closed = items[items.kind != "open"]
            parsed = f"{100 * closed.parsed.mean():.1f}" if len(closed) else "-"
            errored = (items.status == "errored").sum()
            cells += [_cell(parsed), _cell(f"{errored:,}"), _cell(f"{len(items):,}")]
        rows.append({"name": name, "label": name, "cells": cells})
    for row in scores[(scores.group == OVERALL) & (scores.get("complete") == False)].itertuples():  # noqa: E712
        remarks.append(f"{row.run}: the overall row ({row.preset}) is {row.label}.")
    return {"rows": rows, "columns": columns, "others": others, "remarks": remarks}


def _score_cell(own: pd.DataFrame, preset: str) -> Context:
    if preset not in own.index or own.loc[preset, "score"] != own.loc[preset, "score"]:
        return _cell("unscored" if preset in own.index else "-")
    row = own.loc[preset]
    small = "" if row.low != row.low else f"{row.low:.1f} to {row.high:.1f}"
    return _cell(f"{row.score:.1f}", small, row.get("marked") is True)


def _cell(text: str, small: str = "", marked: bool = False) -> Context:
    return {"text": text, "small": small, "marked": marked}


def _other_tasks(frames: Frames) -> list[Context]:
    if frames.tasks.empty:
        return []
    rows = []
    for (task, metric), part in frames.tasks.groupby(["task", "metric"], sort=False):
        by_run = part.drop_duplicates("run").set_index("run")
        cells = []
        for run in frames.runs.index:
            if run not in by_run.index:
                cells.append("-")
                continue
            value, error = by_run.loc[run, ["value", "stderr"]]
            cells.append(f"{value:.4f}" + ("" if pd.isna(error) else f" ± {error:.4f}"))
        rows.append({"task": task, "metric": metric, "cells": cells})
    return rows


def _pair(pair: Comparison) -> Context:
    rows = []
    for name, entry in sorted(pair.rows.items(), key=lambda row: row[0] == OVERALL):
        rows.append(
            {
                "name": name,
                "count": f"{entry.items:,}",
                "first": f"{100 * entry.first:.1f}",
                "second": f"{100 * entry.second:.1f}",
                "difference": f"{100 * entry.difference:+.1f}",
                "interval": interval_text(entry),
                "won": entry.won,
                "lost": entry.lost,
                "p": p_text(entry),
            }
        )
    overall = pair.rows[OVERALL]
    note = f"Agreement: {100 * overall.agreement:.1f} % of the items have the same score."
    if not math.isnan(overall.smallest):
        note += f" So many items show a difference of {100 * overall.smallest:.1f} points four times in five."
    note += f" {METHOD}" + "".join(f" Not the same: {remark}." for remark in pair.remarks)
    return {"first": pair.first, "second": pair.second, "rows": rows, "note": note}


def _listening(run: str, profile: Profile) -> Context:
    return {"name": run, "section": section_of(run), "tables": reliance.tables(profile)}


def _published() -> Context:
    table = published.paper()
    rows = [
        [name, *("-" if value != value else value for value in row)]
        for name, row in zip(table.index, table.itertuples(index=False, name=None), strict=True)
    ]
    later = published.later().to_dict("records")
    return {
        "source": published.SOURCE,
        "columns": list(table.columns),
        "rows": rows,
        "later": later,
    }


def _happened(frames: Frames) -> list[Context]:
    """Return what happened in each run: a row a fact, a cell a run."""
    columns: dict[str, list[str]] = {}

    def say(label: str, value: Any) -> None:
        columns.setdefault(label, []).append("-" if value in (None, "") else str(value))

    for name, about in frames.runs.iterrows():
        items, heard = frames.items, about.heard or {}
        items = items[items.run == name] if not items.empty else items
        say("items", f"{len(items):,}")
        if not items.empty:
            words = [
                charts.outcome(status, score)
                for status, score in zip(items.status, items.score, strict=True)
            ]
            for word in charts.OUTCOMES:
                say(word, f"{words.count(word):,}")
            say("cut at the limit of length", f"{(items.finish == 'length').sum():,}")
            unanswerable = (items.kind == "closed") & items.gold_position.isna()
            say("unanswerable (the reference is no choice)", f"{unanswerable.sum():,}")
        for label, key in (
            ("seconds in files", "seconds_in_files"),
            ("seconds heard", "seconds_heard"),
        ):
            say(label, text.duration(heard[key]) if heard.get(key) is not None else None)
        say("windows given", f"{heard['windows']:,}" if heard.get("windows") is not None else None)
        say("clips mixed down to mono", heard.get("mixed_down_clips"))
        tokens = items.audio_tokens.sum() if not items.empty else 0
        say("audio tokens", f"{int(tokens):,}" if tokens == tokens and tokens else None)
        say(
            "time of the run",
            text.duration(about.seconds) if about.seconds else None,
        )
        memory = about.config.get("peak_memory") or {}
        for part in ("process", "device"):
            say(f"peak memory of the {part}", text.size(memory[part]) if part in memory else None)
        say("versions", ", ".join(f"{key} {value}" for key, value in about.versions.items()))
        say("identity of the answers", (about.identity or {}).get("id"))
    return [{"label": label, "cells": cells} for label, cells in columns.items()]
