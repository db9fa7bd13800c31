"""Prepare the next items while the model works on this batch, within a bound on memory."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from mmaupro_ext.util import usable_cores

Item = TypeVar("Item")
Worker = TypeVar("Worker")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return how many threads prepare items: a few, and one processor is left to the model."""
    return max(1, min(8, usable_cores() - 1))


class Prefetcher(Generic[Item, Worker, Result]):
    """Prepare items in worker threads, ahead of their use and in their order.

    Parameters
    ----------
    items : sequence
        In the order in which they will be taken.
    make_worker : callable
        Called once in each thread; what it returns is that thread's own.
    prepare : callable
        `(worker, item)` -> result; raises only what should end the run.
    size_of : callable
        Item -> estimate of the bytes that it occupies until it is taken.
    workers : int
        Threads; with 0 items are prepared when they are taken, in the calling thread.
    max_bytes : int
        Bound on the estimates of items that are prepared or in preparation. One item may always be.

    Attributes
    ----------
    waited_s : float
        Seconds for which the caller waited for items.
    prepared_s : float
        Seconds that preparing took, over all threads.
    """

    def __init__(
        self,
        items: Sequence[Item],
        make_worker: Callable[[], Worker],
        prepare: Callable[[Worker, Item], Result],
        size_of: Callable[[Item], int],
        workers: int,
        max_bytes: int,
    ) -> None:
        self._waiting = deque(items)
        self._make_worker, self._prepare, self._size_of = make_worker, prepare, size_of
        self._max_bytes = max_bytes
        self._pending: deque[tuple[Item, int, Future[Result]]] = deque()
        self._pending_bytes = 0
        self._own = threading.local()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers, "prepare") if workers > 0 else None
        self.waited_s = 0.0
        self.prepared_s = 0.0

    def __enter__(self) -> Prefetcher[Item, Worker, Result]:
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            # An item in preparation is short; what has not begun never will.
            self._pool.shutdown(wait=True, cancel_futures=True)

    def take(self, count: int) -> Iterator[tuple[Item, Result]]:
        """Yield the next items with their results, `count` at most."""
        for _ in range(count):
            self._fill()
            if not self._pending:
                return
            item, size, future = self._pending.popleft()
            start = time.perf_counter()
            try:
                result = future.result()
            finally:
                self.waited_s += time.perf_counter() - start
                self._pending_bytes -= size
            if self._pool is not None:
                self._fill()
            yield item, result

    def _fill(self) -> None:
        while self._waiting and (self._pool is not None or not self._pending):
            size = self._size_of(self._waiting[0])
            if self._pending and self._pending_bytes + size > self._max_bytes:
                return
            item = self._waiting.popleft()
            self._pending_bytes += size
            self._pending.append((item, size, self._submit(item)))

    def _submit(self, item: Item) -> Future[Result]:
        if self._pool is not None:
            return self._pool.submit(self._run, item)
        future: Future[Result] = Future()
        start = time.perf_counter()
        try:
            future.set_result(self._run(item))
        except BaseException as error:
            future.set_exception(error)
        self.waited_s += time.perf_counter() - start
        return future

    def _run(self, item: Item) -> Result:
        if not hasattr(self._own, "worker"):
            self._own.worker = self._make_worker()
        start = time.perf_counter()
        try:
            return self._prepare(self._own.worker, item)
        finally:
            with self._lock:
                self.prepared_s += time.perf_counter() - start
