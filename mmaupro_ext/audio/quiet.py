"""What libmpg123 says on stderr while it decodes: kept from the terminal, and nothing else with it.

libsndfile carries libmpg123 inside and has no switch for its remarks, dozens of lines a damaged file, none of
which names the file. They go through C's `stderr`, a variable that holds a stream, and not through Python's.
While a file is decoded that variable points to a stream in memory; then what stands there is sorted: lines
that libmpg123 is known to write go to the log, all others to where they were going. What Python writes, and
what goes to descriptor 2 itself, does not come this way at all. Threads decode side by side: the first one
to come changes the variable, the last one to leave changes it back.

With glibc only. Elsewhere the variable may be constant, or have another name, and the lines appear.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger(__name__)

# In libmpg123's words: what its sources print with a place, and the notes of its resynchronisation.
_REMARKS = re.compile(
    rb"\[src/libmpg123/|"
    rb"Note: (Trying to resync|Hit end of \(available\) data|Illegal Audio-MPEG-Header|Skipped |"
    rb"Input data end|Junk at the beginning|Could be a BMP|Looks like |Missing zero byte)|"
    rb"Warning: (Xing stream size off|Encountered more data|Real sample count|Cannot look)"
)


class _Diversion:
    """C's `stderr` turned to a file in memory while anybody decodes."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(self._libc, "stderr")
        self._file = os.memfd_create("stderr")
        self._libc.fdopen.restype = ctypes.c_void_p
        self._stream = self._libc.fdopen(self._file, b"w")  # never closed: a late writer finds it
        if not self._stream:
            raise OSError("no stream for stderr")
        # Unbuffered, as stderr is: each message is in the file once it is printed.
        self._libc.setvbuf(ctypes.c_void_p(self._stream), None, 2, ctypes.c_size_t(0))
        self._lock = threading.Lock()
        self._users = 0
        self._usual: int | None = None
        self._read = 0  # bytes of the file that were sent on
        atexit.register(self._sort)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._usual = self._variable.value
                self._variable.value = self._stream
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._variable.value = self._usual
            self._sort()

    def _sort(self) -> None:
        """Send what has been written where it belongs; a line without an end waits for it."""
        # Nothing is cut off here: whoever is writing at this moment goes on behind what is read.
        new = os.pread(self._file, os.fstat(self._file).st_size - self._read, self._read)
        if self._users:
            new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        blank = b""  # libmpg123 begins some of its notes with an empty line
        for line in new.splitlines(keepends=True):
            if _REMARKS.match(line):
                logger.debug("libmpg123: %s", line.decode(errors="replace").strip())
                blank = b""
            elif not line.strip():
                blank += line
            else:
                os.write(2, blank + line)
                blank = b""
        if blank:
            os.write(2, blank)


@functools.cache
def _diversion() -> Any:
    try:
        glibc = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
        return _Diversion() if glibc else contextlib.nullcontext()
    except (OSError, ValueError, AttributeError):
        return contextlib.nullcontext()


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Decode, with what libmpg123 says of it in the log and not on the terminal."""
    with _diversion():
        yield
