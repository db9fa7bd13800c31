"""Requests without media, which HFLM answers, going on after a batch that fails.

HFLM answers all or raises, and what it had answered is lost with the exception. It does report each
answer to lm_eval's response cache as it comes, though: listening there, what is missing can be asked
again, in halves, down to the request that is the reason.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance

from mmaupro_ext.errors import MMAUProError
from mmaupro_ext.failing import Failed, free_memory
from mmaupro_ext.heard import Reply
from mmaupro_ext.models.items import Failures, questions_of

logger = logging.getLogger(__name__)

R = TypeVar("R")

# Instead of batch_size=auto once a batch has failed: HFLM finds its size together with all processes,
# and the others do not fail.
_WITHOUT_AUTO = 8


class _Listener:
    """Stands before lm_eval's response cache and keeps what goes into it."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self._heard: defaultdict[str, deque[Any]] = defaultdict(deque)

    def add_partial(self, kind: str, arguments: Any, answer: Any) -> None:
        self._heard[_key(arguments)].append(answer)
        self._hook.add_partial(kind, arguments, answer)

    def has(self, request: Instance) -> bool:
        return bool(self._heard.get(_key(request.args)))

    def take(self, request: Instance) -> Any:
        return self._heard[_key(request.args)].popleft()


def answer(
    lm: Any,
    requests: Sequence[Instance],
    ask: Callable[[list[Instance]], list[R]],
    failures: Failures,
    on_failure: Callable[[Reply], R],
) -> list[R]:
    """Return the answers to requests, in their order; an error for each that fails alone.

    Parameters
    ----------
    lm : lm_eval.models.huggingface.HFLM
        Its `cache_hook` is told each answer as it comes.
    requests : sequence of Instance
        Without media.
    ask : callable
        Requests -> their answers, by HFLM.
    failures : Failures
        Of the model's passes.
    on_failure : callable
        Error reply -> the answer of a request that could not be served.

    Raises
    ------
    ConfigError
        When too many requests in a row fail alike.
    """
    hook, batch_size = lm.cache_hook, lm.batch_size_per_gpu
    listener = lm.cache_hook = _Listener(hook)
    found: dict[int, R] = {}
    # Positions of what is asked together; the last one is next.
    waiting = [list(range(len(requests)))]
    try:
        while waiting:
            part = waiting.pop()
            try:
                answers = ask([requests[position] for position in part])
            except MMAUProError:
                raise
            except Exception as error:
                logger.debug("HFLM fails on %d requests", len(part), exc_info=True)
                failed = Failed.of(error)
            else:
                failures.end()
                found.update(zip(part, answers, strict=True))
                continue
            missing = []
            for position in part:
                if listener.has(requests[position]):
                    found[position] = listener.take(requests[position])
                    failures.end()
                else:
                    missing.append(position)
            if lm.batch_size_per_gpu == "auto":
                lm.batch_size_per_gpu = _WITHOUT_AUTO
            if failed.out_of_memory and len(missing) > 1 and lm.batch_size_per_gpu > 1:
                free_memory()
                lm.batch_size_per_gpu //= 2
                logger.warning("out of memory: batches of %d texts", lm.batch_size_per_gpu)
                waiting.append(missing)
            elif len(missing) == 1:
                (question,) = questions_of([requests[missing[0]]])
                found[missing[0]] = on_failure(failures.reply(question, failed))
            elif missing:
                logger.warning("HFLM fails (%s): %d requests again", failed.problem, len(missing))
                half = (len(missing) + 1) // 2
                waiting += [missing[half:], missing[:half]]
    finally:
        lm.cache_hook, lm.batch_size_per_gpu = hook, batch_size
    return [found[position] for position in range(len(requests))]


def _key(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)
