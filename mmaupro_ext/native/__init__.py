"""The compiled core, its Numba twin, the fallback on scipy, and the choice between them.

Nothing here checks what a user passes in; use :mod:`mmaupro_ext.audio` and
:mod:`mmaupro_ext.features`.
"""

from __future__ import annotations

import mmaupro_ext
from mmaupro_ext.native import choose
from mmaupro_ext.native.kernels import (
    Stream,
    finite,
    log_mel,
    mean,
    normalize,
    output_length,
    peak,
    resample,
    split,
    stft_mel,
)
from mmaupro_ext.native.resample_plan import ResamplePlan
from mmaupro_ext.native.stft_plan import Plan
from mmaupro_ext.util import usable_cores

__all__ = [
    "Plan",
    "ResamplePlan",
    "Stream",
    "finite",
    "info",
    "log_mel",
    "mean",
    "normalize",
    "output_length",
    "peak",
    "resample",
    "split",
    "stft_mel",
]


def info() -> dict[str, str | int | list[str]]:
    """Say which core runs now.

    Returns
    -------
    dict
        ``backend``: ``"c"``, ``"numba"`` or ``"scipy"``. ``simd``: the instruction-set level of the
        compiled core; ``"numba"`` or ``"scipy"`` where these run (Numba compiles for the processor at
        hand).
        ``simd_available``: the levels that this build holds and this processor runs, worst first.
        ``threads``: processors that this process may use; a kernel itself runs on one.
        ``version``: of mmaupro-ext.

    Raises
    ------
    ConfigError
        If ``MMAUPRO_NATIVE`` or ``MMAUPRO_SIMD`` asks for what is not available.

    Examples
    --------
    >>> sorted(info())
    ['backend', 'simd', 'simd_available', 'threads', 'version']
    """
    backend = choose.backend()
    return {
        "backend": backend,
        "simd": choose.level() if backend == "c" else backend,
        "simd_available": list(choose.levels()),
        "threads": usable_cores(),
        "version": mmaupro_ext.__version__,
    }
