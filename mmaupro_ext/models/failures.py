"""Items that cannot be served: how they are named, logged, answered, and tried again the next time."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeVar

from lm_eval.api.instance import Instance

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models import inputs
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import error_reply, parse_error

logger = logging.getLogger(__name__)

R = TypeVar("R")


def item_name(request: Instance) -> str:
    """Return how messages call the item of a request: by task and by the id that its data gives."""
    doc = request.doc if isinstance(request.doc, dict) else {}
    return f"{request.task_name or 'item'} {doc.get('id', request.doc_id)}"


def attempt(question: Question, task: Callable[[], R]) -> R | str:
    """Return what `task` returns, or the error reply of an item that cannot be served."""
    try:
        return task()
    except ItemError as error:
        return failure(question, error.problem, error.fix, error.path)
    except OSError as error:
        return failure(question, str(error), "Check that the file can be read.")


def failure(question: Question, problem: str, fix: str | None, file: str | None = None) -> str:
    """Log that an item cannot be served and return its error reply.

    Parameters
    ----------
    question : Question
        The item.
    problem : str
        What is wrong, in one clause.
    fix : str or None
        What the user can do about it.
    file : str, optional
        The file concerned; default: all files of the item.
    """
    file = file or inputs.names_of(question.media) or None
    named = f"{question.item}, {file}" if file else question.item
    logger.error("%s: %s. %s", named, problem, fix or "")
    return error_reply(problem, item=question.item, file=file, fix=fix)


def is_failure(answer: Any) -> bool:
    """Tell whether a stored or fresh answer stands for an item that was not served."""
    if isinstance(answer, str):
        return parse_error(answer) is not None
    if isinstance(answer, (tuple, list)) and answer and isinstance(answer[0], float):
        return math.isnan(answer[0])
    return False


def forget_failures(cache_hook: Any) -> None:
    """Take the failures out of lm_eval's response cache, so that those items are tried again."""
    stored = getattr(cache_hook, "dbdict", None)
    if stored is None:
        return
    failed = [key for key, answer in stored.items() if is_failure(answer)]
    for key in failed:
        del stored[key]
    if failed:
        logger.info("%d failed items in the response cache will be tried again", len(failed))
