"""How the twins are compiled.

Of the "fast" flags only two: like the C core, a twin may fuse a product into a sum, but not reorder sums.
What is compiled is kept on disk for the next process, where there is a folder that can be written.
"""

from __future__ import annotations

import logging
from typing import Any

from numba import njit

_log = logging.getLogger(__name__)


def _can_be_kept() -> bool:
    def probe() -> None: ...

    try:
        njit(cache=True)(probe)
    except (
        RuntimeError
    ):  # "no locator available": neither the package's folder nor the user's can be written
        _log.warning(
            "Numba has no folder to keep what it compiles in: that takes half a minute more in each "
            "process. Set NUMBA_CACHE_DIR to a folder that can be written."
        )
        return False
    return True


OPTIONS: dict[str, Any] = {
    "cache": _can_be_kept(),
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
}

jit = njit(**OPTIONS)
inline = njit(**OPTIONS, forceinline=True)
