"""W&B and Trackio, where a user turned them on, get the numbers and items of our tasks beside lm_eval's.

lm_eval calls `log_eval_result`, then with --log_samples `log_eval_samples`, before it writes any file.
Settings and the identity of the answers are in what lm_eval itself logs of a run (`cli_configs`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)

_EXTENDED = "_mmaupro_ext"

# Logger of lm_eval -> the package that it logs to.
Package = Callable[[Any], Any]


def extend_all(module: Any) -> None:
    """Extend both loggers of `lm_eval.loggers`."""
    _extend(module.WandbLogger, lambda _: import_module("wandb"))
    _extend(module.TrackioLogger, lambda theirs: theirs._trackio)


def _extend(theirs: Any, package: Package) -> None:
    if getattr(theirs, _EXTENDED, False):
        return
    setattr(theirs, _EXTENDED, True)
    log_result, log_samples = theirs.log_eval_result, theirs.log_eval_samples

    def log_eval_result(self: Any) -> None:
        log_result(self)
        _try(_log_numbers, self, package(self))

    def log_eval_samples(self: Any, samples: Mapping[str, Sequence[Any]]) -> None:
        _try(_log_items, self, package(self), samples)
        log_samples(self, samples)

    theirs.log_eval_result, theirs.log_eval_samples = log_eval_result, log_eval_samples


def _try(log: Callable[..., None], *arguments: Any) -> None:
    try:
        log(*arguments)
    except Exception:  # of a package of others: the run and lm_eval's own log go on
        logger.exception("the tracker was not told of our tasks")


def _log_numbers(theirs: Any, package: Any) -> None:
    from mmaupro_ext.report import tracked

    if found := tracked.numbers(theirs.results):
        package.log(found, step=theirs.step)


def _log_items(theirs: Any, package: Any, samples: Mapping[str, Sequence[Any]]) -> None:
    from mmaupro_ext.report import tracked

    known = tracked.numbers(theirs.results)
    found = tracked.numbers(theirs.results, samples)
    if more := {name: value for name, value in found.items() if name not in known}:
        package.log(more, step=theirs.step)
    for title, rows in tracked.items(theirs.results, samples):
        table = package.Table(columns=list(tracked.COLUMNS), data=rows)
        package.log({f"{title}/items": table}, step=theirs.step)
