"""Old names of :mod:`mmaupro_ext.native.kernels` and ``stft_plan``."""

import numpy as np

from mmaupro_ext.native.kernels import normalize, peak  # noqa: F401
from mmaupro_ext.native.kernels import stft_mel as features  # noqa: F401
from mmaupro_ext.native.stft_plan import Plan  # noqa: F401


def clamp(values: np.ndarray, lowest: float) -> None:
    """Raise values to at least ``lowest``, in place."""
    np.maximum(values, np.float32(lowest), out=values)
