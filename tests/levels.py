"""The cores that kernels are tested on.

By default these are the best instruction-set level of this processor, the next lower one, the Numba twin
and the fallback on scipy. ``MMAUPRO_TEST_ALL_LEVELS=1``, which ``make test-all-levels`` sets, adds the
levels below.
"""

from __future__ import annotations

import os

from mmaupro_ext.native import choose

ALL_LEVELS = os.environ.get("MMAUPRO_TEST_ALL_LEVELS", "") not in ("", "0")

C_LEVELS = dict(list(choose.levels().items())[0 if ALL_LEVELS else -2 :])
"""Name and number of the levels of the compiled core to test, worst first."""

CORES = [*(("c", level) for level in C_LEVELS), ("numba", "auto"), ("scipy", "auto")]
"""Values of ``MMAUPRO_NATIVE`` and ``MMAUPRO_SIMD`` for the cores to test."""
