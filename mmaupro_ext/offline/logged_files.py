"""Find the samples files that lm_eval logged (`--log_samples`), and tell from their names what they hold.

lm_eval 0.4.13 writes, per task and run, ``samples_<task>_<time>.jsonl`` beside ``results_<time>.json``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, VARIANTS, TaskName, parse_task
from mmaupro_ext.scoring.errors import ScoringError

_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d+)?"
_SAMPLES = re.compile(rf"samples_(?P<task>.+)_(?P<time>{_TIME})\.jsonl")


@dataclass(frozen=True)
class LoggedFile:
    """A samples file with replies to one category of a benchmark.

    Attributes
    ----------
    path : Path
        The file.
    asked : TaskName
        What its task asks.
    time : str
        Its time stamp.
    """

    path: Path
    asked: TaskName
    time: str

    @property
    def task(self) -> str:
        """Name of its task."""
        return self.path.name.removeprefix("samples_").removesuffix(f"_{self.time}.jsonl")

    @property
    def group(self) -> str:
        """Name of the group of its task: the benchmark, with what its prompt asks for where that differs."""
        return BENCHMARKS[self.asked.benchmark].task(self.asked.variant)

    @property
    def has_choices(self) -> bool:
        """Whether its items are asked with several prompts, each by tasks of its own."""
        found = BENCHMARKS[self.asked.benchmark].by_slug[self.asked.part]
        return found.kind in ("closed", "hidden")

    @property
    def dataset(self) -> str:
        """What was asked: "full" or "sample"."""
        return "sample" if self.asked.sample else "full"

    @property
    def asks_for(self) -> str:
        """Which prompt its multiple-choice items have: "letter", "text" or "own"."""
        own = BENCHMARKS[self.asked.benchmark].prompt is not None
        prompt = VARIANTS[self.asked.variant]
        return prompt if own or prompt != "own" else "letter"

    @property
    def results(self) -> Path:
        """The results file of its run, which may be missing."""
        return self.path.parent / f"results_{self.time}.json"


def logged_files(
    paths: Sequence[str | Path], time: str | None, notes: list[str]
) -> list[LoggedFile]:
    """Return the samples files that are meant.

    Parameters
    ----------
    paths : sequence of path
        Folders of results, or single samples files.
    time : str or None
        Time stamp of a folder's files, or its beginning; the newest when None.
    notes : list of str
        Receives what a reader should know.

    Returns
    -------
    list of LoggedFile
        Each file once.

    Raises
    ------
    ScoringError
        When there are none, a folder holds several models, or a file has no replies of ours.
    """
    found: dict[Path, LoggedFile] = {}
    for path in paths:
        for file in _files_of(Path(path), time, notes):
            found.setdefault(file.path.resolve(), file)
    return list(found.values())


def of_group(files: Sequence[LoggedFile], name: str) -> list[LoggedFile]:
    """Return the files that the name of a benchmark or of a group of its tasks means.

    Parameters
    ----------
    files : sequence of LoggedFile
        Of any.
    name : str
        Such as "mmaupro" or "mmaupro-text".

    Returns
    -------
    list of LoggedFile
        Those of the group, with those of questions without choices, which have one prompt; all of the
        benchmark where there are none of the group.
    """
    of_benchmark = [file for file in files if file.asked.benchmark == name]
    if not any(file.group == name for file in files):
        return of_benchmark
    (benchmark,) = {file.asked.benchmark for file in files if file.group == name}
    return [
        file
        for file in files
        if file.group == name or (file.asked.benchmark == benchmark and not file.has_choices)
    ]


def prompts_of(files: Sequence[LoggedFile]) -> list[str]:
    """Return the groups by which multiple-choice questions were asked; several are never one run."""
    return sorted({file.group for file in files if file.has_choices})


def _parsed(path: Path) -> LoggedFile | None:
    """Return what a file is by its name; None where it has no replies of ours."""
    found = _SAMPLES.fullmatch(path.name)
    asked = parse_task(found["task"]) if found else None
    if found is None or asked is None or asked.variant == "ll":
        return None
    category = BENCHMARKS[asked.benchmark].by_slug.get(asked.part)
    if category is None or (asked.variant and category.kind not in ("closed", "hidden")):
        return None
    return LoggedFile(path, asked, found["time"])


def _is_of_ours(path: Path) -> bool:
    """Whether a samples file is of a benchmark of ours, with replies or log-likelihoods."""
    found = _SAMPLES.fullmatch(path.name)
    return found is not None and (
        found["task"].startswith(MMAUPRO) or parse_task(found["task"]) is not None
    )


def _files_of(path: Path, time: str | None, notes: list[str]) -> list[LoggedFile]:
    if path.is_file():
        return [_require_replies(path)]
    if not path.is_dir():
        raise ScoringError(f"{path}: there is no such file or folder. Name a folder of results")
    folder = _folder_with_samples(path)
    by_time: dict[str, list[LoggedFile]] = {}
    likelihoods = 0
    for name in sorted(filter(_is_of_ours, folder.glob("samples_*.jsonl"))):
        file = _parsed(name)
        if file is not None:
            by_time.setdefault(file.time, []).append(file)
        else:
            likelihoods += 1
    if not by_time:
        raise ScoringError(
            f"{folder}: {likelihoods} samples file(s), but none of tasks mmaupro_*, mmaupro-text_*, of the "
            "other benchmarks or their samples. Log-likelihood tasks have no replies; lm_eval's own table "
            "has their scores"
        )
    stamps = sorted(by_time)
    fitting = [stamp for stamp in stamps if stamp.startswith(time or "")]
    if not fitting:
        raise ScoringError(f"{folder}: no samples of time {time!r}. There are: {', '.join(stamps)}")
    if time and len(fitting) > 1:
        raise ScoringError(f"{folder}: several times begin with {time!r}: {', '.join(fitting)}")
    chosen = fitting[-1]
    if len(stamps) > 1 and not time:
        others = [stamp for stamp in stamps if stamp != chosen]
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        notes.append(
            f"{folder} holds runs of {len(stamps)} times; the newest, {chosen}, is taken, not "
            f"{', '.join(others[-5:])}{more} (another: --time, or results_<time>.json in place of the folder "
            "for report and compare)"
        )
    return by_time[chosen]


def _folder_with_samples(path: Path) -> Path:
    """Return the folder itself, or the only one below it that has samples."""
    if any(map(_is_of_ours, path.glob("samples_*.jsonl"))):
        return path
    below = sorted({file.parent for file in path.glob("*/samples_*.jsonl") if _is_of_ours(file)})
    if not below:
        raise ScoringError(
            f"{path}: no samples_*.jsonl of our tasks here or one folder below. Run lm_eval with "
            "--output_path DIR --log_samples"
        )
    if len(below) > 1:
        names = ", ".join(str(folder) for folder in below)
        raise ScoringError(
            f"{path} holds the results of several models or conditions: {names}. Name one of them"
        )
    return below[0]


def _require_replies(path: Path) -> LoggedFile:
    found = _SAMPLES.fullmatch(path.name)
    if found is None:
        raise ScoringError(
            f"{path}: not a samples file of lm_eval (samples_<task>_<time>.jsonl). Give the file as "
            "lm_eval named it. Replies that were made elsewhere are for `mmaupro reconcile`, as .jsonl (an "
            "object a line) or .csv"
        )
    file = _parsed(path)
    if file is None:
        raise ScoringError(
            f"{path}: task {found['task']!r} has no replies to score here. Tasks: mmaupro_<category>, "
            "mmaupro-text_<category>, those of the other benchmarks, and their samples"
        )
    return file


def read_results(results: Path) -> dict[str, Any]:
    """Return what a results file holds.

    Parameters
    ----------
    results : Path
        Which may be missing.

    Returns
    -------
    dict
        Empty where there is no such file.

    Raises
    ------
    ScoringError
        When it cannot be read.
    """
    if not results.is_file():
        return {}
    try:
        found = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScoringError(f"{results}: cannot be read ({error})") from error
    return dict(found)
