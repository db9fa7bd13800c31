"""Old name of :mod:`mmaupro_ext.native.choose`."""

from mmaupro_ext.native.choose import *  # noqa: F403
from mmaupro_ext.native.choose import (  # noqa: F401
    backend,
    backends,
    level,
    levels,
    numba_works,
)

LEVELS = ("scalar", "sse2", "neon", "avx2", "avx512")
