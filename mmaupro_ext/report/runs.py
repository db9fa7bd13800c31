"""Runs by their journals: how far each got, what errored, and the command that goes on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mmaupro_ext.benchmarks import UNDER
from mmaupro_ext.data.conditions import FULL
from mmaupro_ext.data.text import table
from mmaupro_ext.models.journal_lines import Address, Kept, files_of, is_failure, read
from mmaupro_ext.util import visible

_SHOWN_TASKS = 2


@dataclass(frozen=True)
class Run:
    """One run, whatever number of processes and starts it had.

    Parameters
    ----------
    started : str
        When it was started last, in UTC (ISO 8601).
    requests, done, left : int
        Requests of all its processes; those answered; the rest.
    errored : int
        Items among the answered ones that could not be served.
    model : str
        Its name, and how lm_eval calls its class.
    identity : str
        The id of what its answers depend on.
    tasks : list of str
        As they were asked for.
    command : str
        What was typed, and goes on.
    journal : str
        The folder with its answers.
    """

    started: str
    requests: int
    done: int
    left: int
    errored: int
    model: str
    identity: str
    tasks: list[str]
    command: str
    journal: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


def below(*places: Path) -> list[Run]:
    """Return the runs whose journals are in or below some folders, the last one last.

    Raises
    ------
    OSError
        When a journal cannot be read.
    """
    folders = {Path(folder).resolve(): folder for place in places for folder in _folders(place)}
    runs = [run for folder in folders.values() for run in _runs_in(Path(folder))]
    return sorted(runs, key=lambda run: run.started)


def _folders(place: Path) -> Iterator[str]:
    for folder, subfolders, _ in os.walk(place):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield folder


def _runs_in(folder: Path) -> Iterator[Run]:
    by_run: dict[str, list[Kept]] = {}
    for kept in map(read, files_of(folder)):
        if kept.start is not None:
            asked = kept.start.get("asked") or str(kept.start.get("tasks"))
            by_run.setdefault(asked, []).append(kept)
    for files in by_run.values():
        yield _run(folder, files)


def _run(folder: Path, files: list[Kept]) -> Run:
    """Return one run: of its last start, the last file of each process."""
    starts = [file.start for file in files if file.start is not None]
    last = starts[-1]
    of_rank = {
        start["rank"]: (start, file)
        for start, file in zip(starts, files, strict=True)
        if start["processes"] == last["processes"]
    }
    requests = done = errored = 0
    for start, file in of_rank.values():
        entries = dict(file.answers)
        requests += start["requests"]
        # Of several processes, some answer a request once more, so that all have equally many.
        done += min(start["found"] + len(entries), start["requests"])
        errored += start["errored"] + len(
            {_item(address) for address, entry in entries.items() if is_failure(entry)}
        )
    identity = last["identity"]
    named = [last.get("model"), identity.get("model")]
    return Run(
        started=last["started"],
        requests=requests,
        done=done,
        left=requests - done,
        errored=errored,
        model=" ".join(str(name) for name in named if name),
        identity=identity["id"],
        tasks=list(last.get("tasks") or ()),
        command=last.get("command") or "",
        journal=str(folder),
    )


def _item(address: Address) -> tuple[str, int | None]:
    return address.task, address.doc


def _asked(tasks: Sequence[str]) -> str:
    """Return the first names of tasks, how many more there are, and under how many conditions they stand."""
    names = list(dict.fromkeys(task.partition(UNDER)[0] for task in tasks))
    more = len(names) - _SHOWN_TASKS
    shown = ", ".join(names[:_SHOWN_TASKS]) + (f" +{more}" if more > 0 else "")
    conditions = {task.partition(UNDER)[2] or FULL for task in tasks} - {FULL}
    if not conditions:
        return shown
    under = conditions.pop() if len(conditions) == 1 else f"{len(conditions)} conditions"
    return f"{shown} under {under}"


def listing(runs: Iterable[Run]) -> str:
    """Return runs as a table, and below it the commands of those that are not at their end."""
    rows, rest = [], []
    for run in runs:
        when = datetime.fromisoformat(run.started).astimezone().strftime("%Y-%m-%d %H:%M")
        rows.append(
            (when, run.model, _asked(run.tasks), run.identity, run.done, run.left, run.errored)
        )
        if run.left and run.command:
            stops = " (to all items without --until-se)" if "--until-se" in run.command else ""
            rest += [f"{run.identity} goes on{stops} with:", f"  {run.command}"]
    header = ("started", "model", "tasks", "identity", "done", "left", "errored")
    return visible("\n".join([table(header, rows, left=4), *(["", *rest] if rest else [])]))
