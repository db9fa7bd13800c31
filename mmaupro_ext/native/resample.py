"""Old names of :mod:`mmaupro_ext.native.kernels` and ``stream``."""

from mmaupro_ext.native.kernels import *  # noqa: F403
from mmaupro_ext.native.kernels import finite, mean, peak, resample, resample_pairs, split  # noqa: F401
from mmaupro_ext.native.stream import PADDING, PAIRS_PER_BATCH, Stream  # noqa: F401

FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "float32": 1.0}
