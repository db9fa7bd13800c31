"""Work on many items in several threads, at a pace, and kept when it is interrupted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

# After Ctrl-C the program ends within a second, whatever hangs.
INTERRUPTED_GRACE_S = 0.5


class StoppedError(BaseException):
    """Everything ended while a piece of work waited for its turn.

    No `Exception`: what makes errored items of exceptions must not make one of it.
    """


def each(
    count: int,
    work: Callable[[int], T],
    keep: Callable[[int, T], None],
    *,
    threads: int,
    stop: threading.Event,
    grace_s: float,
) -> None:
    """Do a piece of work per item in several threads, and hand on what it returns.

    Parameters
    ----------
    count : int
        Number of items.
    work : callable
        Item number -> result, in one of the threads. What it raises ends
        everything, except `StoppedError`.
    keep : callable
        ``keep(number, result)`` as results arrive, one at a time, in the calling thread.
    threads : int
        How many.
    stop : threading.Event
        Set when all is done; work that waits for its turn then raises `StoppedError`.
    grace_s : float
        Seconds that a call which ends early waits for the work under way; `INTERRUPTED_GRACE_S` at most
        when a user ends it.

    Raises
    ------
    Exception
        What `work` raised.
    KeyboardInterrupt
        After the answers under way were given time to arrive.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(count):
        waiting.put(number)
    results: queue.SimpleQueue[tuple[int, T] | BaseException | None] = queue.SimpleQueue()

    def work_until_stopped() -> None:
        try:
            while not stop.is_set():
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    break
                results.put((number, work(number)))
        except StoppedError:
            pass
        except BaseException as error:  # handed to the caller, whatever it is
            results.put(error)
        results.put(None)

    # Daemons, so that a server that never answers cannot keep the program from ending.
    workers = [
        threading.Thread(target=work_until_stopped, daemon=True) for _ in range(min(threads, count))
    ]
    for worker in workers:
        worker.start()
    try:
        _collect(results, len(workers), keep)
    except (KeyboardInterrupt, SystemExit):
        grace_s = min(grace_s, INTERRUPTED_GRACE_S)
        raise
    finally:
        stop.set()
        _keep_late_results(workers, results, keep, grace_s)


def _keep_late_results(
    workers: Sequence[threading.Thread],
    results: queue.SimpleQueue[tuple[int, T] | BaseException | None],
    keep: Callable[[int, T], None],
    grace_s: float,
) -> None:
    """After an interruption, wait a little for what is under way and keep it."""
    until = time.monotonic() + grace_s
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
    while not results.empty():
        result = results.get()
        if isinstance(result, tuple):
            keep(*result)


def _collect(
    results: queue.SimpleQueue[tuple[int, T] | BaseException | None],
    workers: int,
    keep: Callable[[int, T], None],
) -> None:
    """Hand on results until every worker has ended; raise what a worker raised."""
    while workers:
        try:
            # A timeout, because Ctrl-C does not reach a wait without one on every system.
            result = results.get(timeout=0.2)
        except queue.Empty:
            continue
        if result is None:
            workers -= 1
        elif isinstance(result, BaseException):
            raise result
        else:
            keep(*result)


class Pace:
    """Spreads the starts of requests evenly, and holds all of them back when a server asks."""

    def __init__(self, per_minute: float | None, stop: threading.Event) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next, self._stop = 0.0, stop
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when a request may start, or when everything was stopped."""
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                if now >= self._next:
                    self._next = now + self._interval
                    return
                delay = self._next - now
            self._stop.wait(delay)

    def hold(self, seconds: float) -> bool:
        """Hold all starts back for so many seconds; return whether none were held back before."""
        with self._lock:
            now, before = time.monotonic(), self._next
            self._next = max(before, now + seconds)
            return before <= now
