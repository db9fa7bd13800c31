"""Share the parts of one piece of work between threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def side_by_side(
    pool: ThreadPoolExecutor, function: Callable[..., Result], *columns: Iterable[Any]
) -> list[Result]:
    """Do as ``list(map(function, *columns))``, each call in a thread, the first in this one.

    New threads come to run on processors of their own only after a while: with two processors, ten
    minutes of log-mel took one thread 8.9 ms, two new ones 8 ms, and a new one beside the caller 4.8 ms.

    Parameters
    ----------
    pool : ThreadPoolExecutor
        With a thread for each call but one.
    function : callable
        Releases Python's lock.
    *columns : iterable
        The arguments.

    Returns
    -------
    list
        What the calls returned, in order.
    """
    first, *others = zip(*columns, strict=True)
    waiting = [pool.submit(function, *arguments) for arguments in others]
    return [function(*first), *(one.result() for one in waiting)]
