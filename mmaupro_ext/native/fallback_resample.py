"""Overlap-save resampling and mixing with numpy and scipy.fft: no compiled core and no Numba needed.

The plan is that of ``csrc/resample.c``, where the method is explained. Blocks are real transforms of
their own here, a batch of them at a time, always as many: a block's result must not depend on how many
come with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, rfft

from mmaupro_ext.native.fallback_logmel import continued
from mmaupro_ext.native.resample_plan import ResamplePlan, digit_reversed

BATCH = 16  # pairs of blocks
FRAMES = 1 << 16  # of several channels, mixed at once


@dataclass(frozen=True)
class FallbackPlan:
    """A plan, and its response in the order of the bins 0, 1, ..., with the scale of both transforms."""

    plan: ResamplePlan
    response: npt.NDArray[np.complex64]
    skip: int  # outputs of a block before the first good one


def fallback_plan(plan: ResamplePlan) -> FallbackPlan:
    """Return the plan as the fallback reads it."""
    rows = digit_reversed(plan.forward.radices)[: plan.forward.points // 2 + 1]
    used = plan.bin_row[rows] >= 0  # bins below the lower of the two Nyquist frequencies
    gain = plan.forward.points * plan.response[rows[used]] @ np.array([1, 1j])
    # rfft does not scale, irfft by 1 / points: what is left is the ratio of the lengths.
    response = gain * (plan.inverse.points / plan.forward.points)
    skip = -(-plan.half_length * plan.up // plan.down)
    return FallbackPlan(plan, response.astype(np.complex64), skip)


def blocks(
    made: FallbackPlan,
    x: np.ndarray,
    x_first: int,
    y: np.ndarray,
    n_out: int,
    first_pair: int,
    last_pair: int,
) -> None:
    """Write the output of pairs ``first_pair`` to ``last_pair - 1`` to ``y``."""
    plan, points = made.plan, made.plan.forward.points
    y_first = 2 * first_pair * plan.hop_out
    for pair in range(first_pair, last_pair, BATCH):
        pairs = min(BATCH, last_pair - pair)
        start = 2 * pair * plan.hop_in - plan.context - x_first
        stop = start + (2 * BATCH - 1) * plan.hop_in + points
        samples = continued(x, 0, False, start, stop)
        cut = np.lib.stride_tricks.sliding_window_view(samples, points)[:: plan.hop_in]
        spectrum = rfft(cut)[:, : made.response.size] * made.response
        good = slice(made.skip, made.skip + plan.hop_out)
        made_here = irfft(spectrum, plan.inverse.points)[: 2 * pairs, good].reshape(-1)
        done = 2 * pair * plan.hop_out - y_first
        room = y[done : min(done + made_here.size, n_out - y_first)]
        room[:] = made_here[: room.size]


def mean(x: np.ndarray, full_scale: float, y: np.ndarray) -> None:
    """Write the mean over the channels of interleaved frames, over ``full_scale``, to ``y``."""
    for f in range(0, len(x), FRAMES):
        sums = x[f : f + FRAMES].sum(axis=1, dtype=np.float64)
        y[f : f + FRAMES] = sums / (full_scale * x.shape[1])


def split(x: np.ndarray, full_scale: float, y: np.ndarray) -> None:
    """Write channel c of the interleaved frames ``x``, divided by ``full_scale``, to ``y[c]``."""
    for f in range(0, len(x), FRAMES):
        y[:, f : f + FRAMES] = x[f : f + FRAMES].T / full_scale
