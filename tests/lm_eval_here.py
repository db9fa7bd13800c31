"""`mmaupro run` in this process: a whole run of lm_eval's command, without the start of a process.

A process of its own pays 5 seconds for imports, 6 for lm_eval's index of thousands of task files and half
of one for its survey of the machine. Here only the named task folders are read. What only a process can
show is tested with one: the start-up files and a bare `lm_eval` in test_install.py, a whole
`python -m mmaupro_ext run` in test_scoring_agreement.py.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmaupro_ext.commands import cli


def run(
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    lm_eval_tasks: tuple[str, ...] = (),
    command: str = "run",
) -> None:
    """Run the command.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
        Of the test; undone, it leaves lm_eval and the environment as they were.
    *words : str
        What follows `mmaupro run`.
    lm_eval_tasks : tuple of str
        Folders of lm_eval's own tasks that the run needs.
    command : {"run", "ablate"}
        Of `mmaupro`.

    Raises
    ------
    SystemExit
        As the command does.
    """
    from torch.utils import collect_env

    monkeypatch.setattr(collect_env, "get_pretty_env_info", lambda: "this machine")
    monkeypatch.setattr(sys, "argv", sys.argv)  # the command leaves its own there
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # and this variable
    with our_tasks_alone(monkeypatch, lm_eval_tasks):
        cli.main([command, *words])


@contextlib.contextmanager
def our_tasks_alone(
    monkeypatch: pytest.MonkeyPatch, lm_eval_tasks: tuple[str, ...] = ()
) -> Iterator[None]:
    """Let lm_eval read our tasks and the named folders of its own, and keep its logging in here."""
    import lm_eval.evaluator
    import lm_eval.tasks
    import lm_eval.utils

    folders = [str(Path(lm_eval.tasks.__file__).parent / name) for name in lm_eval_tasks]
    manager = functools.partial(
        lm_eval.tasks.TaskManager, include_path=folders, include_defaults=False
    )
    for module in (lm_eval.tasks, lm_eval.evaluator):
        monkeypatch.setattr(
            module, "TaskManager", lambda *_, metadata=None, **__: manager(metadata=metadata)
        )
    monkeypatch.setattr(lm_eval.utils, "_LOGGING_CONFIGURED", False)
    with loggers_as_they_were():
        yield


@contextlib.contextmanager
def loggers_as_they_were() -> Iterator[None]:
    """Take back what the command does to log to the standard error of now."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "mmaupro_ext")]
    states = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, states, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


_printed: list[str] = []


def _print(*told: object, **_: object) -> None:
    _printed.append(" ".join(map(str, told)))


def keep_prints(patch: pytest.MonkeyPatch) -> list[str]:
    """Keep what is printed from now on; by a function that Numba, imported then, finds by its name."""
    _printed.clear()
    patch.setattr("builtins.print", _print)
    return _printed
