"""The compiled core; see ``core.pyx``."""

from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.native import resample_plan as resample_plans
from mmaupro_ext.native import stft_plan as stft_plans

Float32 = npt.NDArray[np.float32]

LEVELS: tuple[str, ...]
MAX_RADIX: int

class StftPlan:
    def __init__(self, source: stft_plans.Plan) -> None: ...

class ResamplePlan:
    def __init__(self, source: resample_plans.ResamplePlan) -> None: ...

stft_plan = StftPlan
resample_plan = ResamplePlan

def level_runs(level: int) -> bool: ...
def lanes(level: int) -> int: ...
def features(
    plan: StftPlan, level: int, x: Float32, padded: int, first: int, out: Float32
) -> float: ...
def normalize(plan: StftPlan, level: int, energies: Float32, epsilon: float) -> None: ...
def scratch_floats(plan: ResamplePlan, level: int) -> int: ...
def blocks(
    plan: ResamplePlan,
    level: int,
    x: Float32,
    x_first: int,
    y: Float32,
    n_out: int,
    first_pair: int,
    last_pair: int,
    scratch: Float32,
) -> None: ...
def mean(level: int, x: npt.NDArray[Any], y: Float32) -> None: ...
def split(level: int, x: npt.NDArray[Any], y: Float32) -> None: ...
def peak(level: int, x: Float32) -> float: ...
