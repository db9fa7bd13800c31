"""Whether the other processes of a run still live.

Who has ended would be waited for without an end: lm_eval gives processes a year to meet, and a machine
that goes down does not close its connections.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed import TCPStore

from mmaupro_ext.errors import MMAUProError

# Seconds between two signs of life; and without one, after which a process counts as ended. The others
# end within a minute.
BEAT_S = 4.0
SILENT_S = 40.0

_LEFT = -1  # the count of a process that has done its part
_AGAIN = "What was answered is kept: start the same command again on all nodes, and it goes on."


class LostProcessError(MMAUProError):
    """Another process of this run has ended, and what it was to answer is missing."""


class Peers:
    """The other processes of a run, from the moment they have met.

    Every process counts up a number of its own in the store by which they met (`MASTER_ADDR` and
    `MASTER_PORT`), and looks at the numbers of the others. A process that finds one standing still ends
    with a sentence, whatever it is doing: it may be waiting for that process.

    Parameters
    ----------
    rank, count : int
        Which process this one is, and of how many.

    Raises
    ------
    RuntimeError
        When that store cannot be reached.
    """

    def __init__(self, rank: int, count: int) -> None:
        self._rank, self._others = rank, [one for one in range(count) if one != rank]
        self._count, self._failed = count, False
        self._names: dict[int, str] = {}
        self._beats = dict.fromkeys(self._others, 0)
        self._seen = dict.fromkeys(self._others, time.monotonic())
        self._stop = threading.Event()
        self._store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        self._store.set(_key("beat", rank), "0")  # where a launcher's store has another run's
        self._store.set(_key("name", rank), f"{socket.gethostname()}, pid {os.getpid()}")
        # Apart, since a store on a machine that has gone down does not answer at all.
        self._beating = threading.Thread(target=self._beat, daemon=True)
        for thread in (self._beating, threading.Thread(target=self._watch, daemon=True)):
            thread.start()

    def leave(self, failed: bool) -> None:
        """End the watch at the end of this process.

        Parameters
        ----------
        failed : bool
            Whether it has not done its part: the others are then to find that it has ended.
        """
        self._failed = failed
        self._stop.set()
        # The store goes with the first process: the others are to read before that it has done its part.
        self._beating.join(3 * BEAT_S)

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Say what it means that processes cannot meet.

        Raises
        ------
        LostProcessError
            When the connection to one of them is gone.
        """
        try:
            yield
        except RuntimeError as error:  # gloo; NCCL's DistBackendError is one, too
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LostProcessError(
                f"another process of this run has ended: process {self._rank} of {self._count} could not "
                f"meet the others ({said}). See their output. {_AGAIN}"
            ) from error

    # ---- the two threads ----------------------------------------------------------------------

    def _beat(self) -> None:
        """Give signs of life and take those of the others, as long as the store can be reached."""
        try:
            while not self._stop.wait(BEAT_S):
                self._store.add(_key("beat", self._rank), 1)
                self._look()
                if self._beats.get(0) == _LEFT:  # and the store with it
                    self._stop.set()
            if self._failed:
                return
            self._store.set(_key("beat", self._rank), str(_LEFT))
            until = time.monotonic() + 2 * BEAT_S
            while self._rank == 0 and self._are_there() and time.monotonic() < until:
                time.sleep(0.1)
                self._look()
        except RuntimeError:
            return  # none of the others is heard any more, which the other thread judges

    def _look(self) -> None:
        for one in self._others:
            beats = self._store.add(_key("beat", one), 0)
            if beats == self._beats[one]:
                continue
            if one not in self._names:
                self._names[one] = self._store.get(_key("name", one)).decode()
            self._beats[one], self._seen[one] = beats, time.monotonic()

    def _are_there(self) -> bool:
        return any(beats != _LEFT for beats in self._beats.values())

    def _watch(self) -> None:
        while not self._stop.wait(BEAT_S):
            now = time.monotonic()
            for one in self._others:
                if self._beats[one] != _LEFT and now - self._seen[one] > SILENT_S:
                    self._end(one)
                    return

    def _end(self, one: int) -> None:
        where = f" ({self._names[one]})" if one in self._names else ""
        print(
            f"\nmmaupro-ext: process {one} of {self._count}{where} has given no sign of life for "
            f"{SILENT_S:.0f} s: it has ended, or its machine or the network to it is gone. Process "
            f"{self._rank} ends, too. See the output of process {one}. {_AGAIN}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)


def _key(what: str, rank: int) -> str:
    return f"mmaupro-{what}-{rank}"
