"""What a run says when it has ended: where its files are, what was not scored, what to do next."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import recipes
from mmaupro_ext.benchmarks import BENCHMARKS, UNDER, asks_for_ours, parse_task
from mmaupro_ext.data.conditions import CONDITIONS, FULL, warning
from mmaupro_ext.recipes import RECIPE
from mmaupro_ext.report.run_table import metadata_of, title_of
from mmaupro_ext.scoring.by_recipe import rule_in_run, what_is_ours
from mmaupro_ext.util import visible

UNSCORED = (
    "open-ended replies are kept in the samples; `mmaupro score FOLDER --judge ...` has them judged"
)


@dataclass
class Run:
    """What lm_eval did in this process for one command, noted by `compat` as it happens.

    Parameters
    ----------
    config : lm_eval.config.evaluate_config.EvaluatorConfig or None
        The values that lm_eval runs with, from wherever they came; None until it has them.
    results : dict or None
        The results; None in a process that is not the first of several, and in a run without an end.
    samples : dict or None
        Their samples by task, where they are logged.
    output_path : str or None
        Where they were to be saved.
    results_file, samples_files : Path or None, list of Path
        What was written, whole.
    unsaved : list of Path
        What could not be written.
    options : dict
        Our own options of the command.
    resumed : mmaupro_ext.models.resuming.Resumed or None
        The model with its journal, once it is there.
    """

    config: Any = None
    results: dict[str, Any] | None = None
    samples: dict[str, Any] | None = None
    output_path: str | None = None
    results_file: Path | None = None
    samples_files: list[Path] = field(default_factory=list)
    unsaved: list[Path] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    resumed: Any = None

    def is_ours(self, models: Container[str]) -> bool:
        """Return whether one of our models or tasks takes part."""
        return self.config is not None and (
            self.config.model in models or asks_for_ours(self.config.tasks)
        )

    def saved_results(
        self,
        results: dict[str, Any],
        output_path: str | None,
        file: Path | None,
        samples: dict[str, Any] | None = None,
    ) -> None:
        """Note the results with their samples, and whether lm_eval wrote `file` whole."""
        self.results, self.output_path, self.samples = results, output_path, samples
        if not output_path:
            return
        if file is not None and _is_json(file):
            self.results_file = file
        else:
            self.unsaved.append(file or Path(output_path))

    def saved_samples(self, file: Path, count: int) -> None:
        """Note whether lm_eval wrote `count` samples to `file`."""
        (self.samples_files if _lines(file) == count else self.unsaved).append(file)

    def interrupted(self, command: str) -> str:
        """Return what to say after Ctrl-C or SIGTERM: how far it got, and what goes on from there."""
        several = os.environ.get("WORLD_SIZE", "1") != "1"
        by = ", started as before by its launcher," if several else ""
        again = f"The same command{by} goes on from there:\n  {command}"
        if self.resumed is None or not self.resumed.progress.requests:
            return f"Interrupted before the first answer. {again}"
        progress, journal = self.resumed.progress, self.resumed.journal
        of_one = " of this process" if several else ""
        errored = f", {progress.errored} item(s) of them errored" if progress.errored else ""
        return (
            f"Interrupted: {progress.answered} of {progress.requests} answers{of_one} are kept in "
            f"{journal.folder}{errored}. {again}"
        )

    def say_where(self) -> None:
        """Print what stands below the last table.

        Raises
        ------
        SystemExit
            With code 1 when something that should have been saved was not: lm_eval itself only logs
            a warning.
        """
        if self.results is None:
            return
        for line in summary(self.results):
            print(visible(line))
        if not self.output_path:
            print(
                "Nothing was saved. Add --output_path results --log_samples to keep scores and "
                "replies."
            )
            return
        if self.results_file is not None:
            print(f"Results: {self.results_file}")
        if self.samples_files:
            first = self.samples_files[0]
            names = f"samples_*_{first.stem.rpartition('_')[2]}.jsonl"
            where = first.with_name(names)
            if any(file.parent != first.parent for file in self.samples_files):  # of an ablation
                where = first.parent.with_name("<condition>") / "samples_*.jsonl"
            print(f"Samples: {where} ({len(self.samples_files)} files)")
        elif not self.config.log_samples:
            print("Samples: not kept; add --log_samples to keep every prompt and reply.")
        if self.unsaved:
            print(
                "mmaupro-ext: lm_eval could not write "
                + ", ".join(map(str, self.unsaved))
                + "; see the warnings above, then check that the folder can be written to and has "
                + (
                    "room." if self.resumed is None else "room: the same command writes them again."
                ),
                file=sys.stderr,
            )
            raise SystemExit(1)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _lines(file: Path) -> int:
    try:
        with file.open("rb") as lines:
            return sum(line.endswith(b"\n") for line in lines)
    except OSError:
        return -1


def footnotes(results: dict[str, Any]) -> list[str]:
    """Return what must stand below every table of these results.

    Parameters
    ----------
    results : dict
        What lm_eval's `simple_evaluate` returns, or a results file.

    Returns
    -------
    list of str
        The model class's note (random weights, say), how many items were heard in part, and, for a
        partial download, which part it is; empty for results that have nothing to do with this
        package.
    """
    lines = []
    config = results.get("config") or {}
    if config.get("note"):
        lines.append(f"NOTE: {config['note']}")
    heard = config.get("heard") or {}
    if heard.get("shortened_items"):
        policy = (config.get("long_audio") or {}).get("policy")
        lines.append(
            f"HEARD IN PART: {heard['shortened_items']} of {heard['items']} items with audio, by "
            f"long_audio={policy}: {heard_line(heard)}"
        )
    lines += ablation_notes(results)
    lines += recipe_notes(results)
    lines += parts_drawn(results)
    parts = {
        (config.get("metadata") or {}).get(BENCHMARKS[asked.benchmark].part_note)
        for task, config in (results.get("configs") or {}).items()
        if (asked := parse_task(task)) is not None
    }
    return lines + [f"PARTIAL DATA: {part}" for part in sorted(part for part in parts if part)]


def ablation_notes(results: Mapping[str, Any]) -> list[str]:
    """Return what must be said of items that were asked under a condition (`data.conditions`).

    Parameters
    ----------
    results : mapping
        As for `footnotes`.

    Returns
    -------
    list of str
        What was changed, and how many items could not be asked and why; empty for a run as released.
    """
    not_asked: dict[str, Counter[str]] = {}
    for config in (results.get("configs") or {}).values():
        metadata = config.get("metadata") or {}
        if metadata.get("condition") in CONDITIONS:
            counts = not_asked.setdefault(metadata["condition"], Counter())
            counts.update(metadata.get("not_asked") or {})
    return [line for name, counts in not_asked.items() for line in condition_lines(name, counts)]


def condition_lines(name: str, not_asked: Mapping[str, int]) -> list[str]:
    """Return what a condition changes, and why so many items were not asked under it."""
    lines = [f"ABLATED: {warning(name)}"]
    return lines + ([f"NOT ASKED {not_asked_line(name, not_asked)}"] if not_asked else [])


def not_asked_line(name: str, reasons: Mapping[str, int]) -> str:
    """Return how many items were not asked under a condition, and why."""
    why = "; ".join(f"{reason} ({count:,})" for reason, count in reasons.items())
    return f"under {name}: {sum(reasons.values()):,} items: {why}"


def recipe_notes(results: Mapping[str, Any]) -> list[str]:
    """Return what must be said of items that were asked by a recipe (`recipes`).

    Parameters
    ----------
    results : mapping
        As for `footnotes`.

    Returns
    -------
    list of str
        By which rule replies are read, and what no source states; empty for a run without a recipe.
    """
    names = {metadata_of(results, task).get(RECIPE) for task in results.get("configs") or {}}
    lines = []
    for name in sorted(name for name in names if name in recipes.names()):
        recipe = recipes.known(name)
        rule = rule_in_run(recipe)
        read = f"acc is read by {rule}; " if rule else ""
        lines.append(
            f"RECIPE: {name}: {read}{what_is_ours(recipe)}. `mmaupro recipes {name}` has its sources."
        )
    return lines


def parts_drawn(results: dict[str, Any]) -> list[str]:
    """Return a sentence for each benchmark of which `--until-se` drew a part.

    Parameters
    ----------
    results : dict
        As for `footnotes`.

    Returns
    -------
    list of str
        Empty where all items were drawn, or none was.
    """
    part = results.get("part") or {}
    lines = []
    for title, whole in part.get("overall", {}).items():
        own = [
            entry
            for task, entry in part["tasks"].items()
            if (asked := parse_task(task)) is not None and title_of(asked) == title
        ]
        drawn, items = (sum(entry[key] for entry in own) for key in ("drawn", "items"))
        if drawn == items:
            continue
        unscored = [entry for entry in own if not entry["scored"]]
        besides = (
            f", and {sum(entry['drawn'] for entry in unscored):,} of "
            f"{sum(entry['items'] for entry in unscored):,} unscored ones"
            if unscored
            else ""
        )
        lines.append(
            f"A PART, not the whole: {title}, {whole['drawn']:,} of {whole['items']:,} scored items{besides}"
            f", drawn by --until-se {part['points']:g} with seed {part['seed']}. The last row estimates all "
            f"{whole['items']:,}: {whole['mean']:.1f} %, between {whole['low']:.1f} and {whole['high']:.1f} "
            f"({100 * part['confidence']:g} %, stopping allowed for, as the intervals of categories do not). "
            "The same command without --until-se goes on to all of them."
        )
    return lines


def summary(results: dict[str, Any]) -> list[str]:
    """Return the sentences that belong below lm_eval's table.

    Parameters
    ----------
    results : dict
        The content of a results file of lm_eval.

    Returns
    -------
    list of str
        What was heard, errored items and unscored categories; empty when there is nothing to say.
    """
    lines = []
    config = results.get("config") or {}
    heard = config.get("heard")
    several = any(UNDER in task for task in results.get("configs") or {})
    if heard and heard.get("clips"):
        which = "Heard under all conditions" if several else "Heard"
        altered = several or config.get("condition")
        lines.append(f"{which}: {heard_line(heard, 'as altered' if altered else 'in the files')}")
    if heard and heard.get("mixed_down_clips"):
        lines.append(
            f"Heard in mono: {heard['mixed_down_clips']} clip(s) have two or more channels, which were "
            "mixed; channels=stereo-as-two gives left and right of two-channel files apart."
        )
    errored = Counter[str]()
    for task, values in (results.get("results") or {}).items():
        if task not in (results.get("groups") or {}) and (count := errored_items(values)):
            errored[task.partition(UNDER)[2] or FULL if several else task] += count
    if errored:
        count_as = "are left out of the profile" if several else "count as wrong"
        lines.append(
            f"ERRORED: {sum(errored.values())} item(s) could not be served and {count_as}: "
            + ", ".join(f"{name} {count}" for name, count in errored.items())
            + ". Their replies in the samples say which file and what to do; then the same command "
            "with --retry-errors asks them again."
        )
    if any(task.startswith("mmaupro") and task.endswith("_open") for task in results["results"]):
        lines.append(f"Unscored: {UNSCORED}.")
    return lines


def errored_items(values: dict[str, Any]) -> int:
    """Return how many items of a task could not be served, from its row of the results."""
    shares = [value for name, value in values.items() if name.startswith("errored,")]
    return round(max(shares, default=0.0) * (values.get("sample_len") or 0))


def heard_line(heard: dict[str, Any], where: str = "in the files") -> str:
    """Return one line that compares what the files hold, or what was made of them, with what was given."""
    return (
        f"{heard.get('clips', 0)} clips, {heard.get('seconds_in_files', 0.0):.1f} s {where}, "
        f"{heard.get('seconds_heard', 0.0):.1f} s given to the model in {heard.get('windows', 0)} windows"
    )
