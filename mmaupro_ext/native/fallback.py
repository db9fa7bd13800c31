"""The kernels with numpy and scipy.fft: where there is neither the compiled core nor Numba.

The functions have the signatures of the compiled module and take its plans. Log-mel features are in float64
up to the feature, by the letter of the definition; blocks of frames bound the memory. A frame's result must
not depend on the block that it is in: blocks are whole batches, as scipy transforms several rows at once and
a rest one by one, and filters are applied as a sparse matrix, which adds frame by frame (a dense product adds
in an order that depends on the number of frames).

Resampling is overlap-save as in ``csrc/resample.c``. Blocks are real transforms of their own here, a batch
of them at a time, always as many, for the same reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, rfft
from scipy.sparse import csr_array

from mmaupro_ext.native.resample_plan import FULL_SCALE, ResamplePlan, digit_reversed
from mmaupro_ext.native.stft_plan import Plan

L = 16  # frames, or pairs of blocks, in a batch
BLOCK = 16 * L  # frames
FRAMES = 1 << 16  # of several channels, mixed at once


def lanes(level: int) -> int:
    """Return the number of frames in a batch."""
    return L


def continued(x: np.ndarray, padded: int, mirror: bool, start: int, stop: int) -> np.ndarray:
    """Return samples ``start`` to ``stop - 1`` of a signal: zeros up to ``padded``, then its mirror."""
    if start >= 0 and stop <= x.size:
        return x[start:stop]
    at = np.arange(start, stop)
    if mirror:
        at = np.abs(at)
        at = np.where(at >= padded, 2 * (padded - 1) - at, at)
    inside = (at >= 0) & (at < x.size)
    samples = np.zeros(at.size, x.dtype)
    samples[inside] = x[at[inside]]
    return samples


# ---- csrc/stft_mel.c, csrc/normalize.c


class StftPlan(NamedTuple):
    """A plan, its filters as a sparse matrix."""

    plan: Plan
    filters: csr_array


def stft_plan(plan: Plan) -> StftPlan:
    """Return the plan as the fallback reads it."""
    return StftPlan(plan, csr_array(plan.filters.T))


def features(
    made: StftPlan, level: int, x: np.ndarray, padded: int, first: int, out: np.ndarray
) -> float:
    """Write the features of consecutive frames from ``first`` on to ``out``; return the largest one.

    It is NaN if a sample is not finite or above the plan's limit.
    """
    plan = made.plan
    out = out.T if plan.bands_first else out
    if out.shape[1] != plan.n_mels or padded < x.size or first < 0:
        raise ValueError(f"frames from {first} of {padded} samples do not go to {out.shape}")
    if plan.boundary == "mirror" and padded <= plan.offset:
        raise ValueError(f"a buffer of {padded} samples is too short to mirror")
    if not peak(level, x) <= plan.limit:
        return math.nan
    largest = -math.inf
    for f in range(0, len(out), BLOCK):
        rows = out[f : f + BLOCK]
        rows[:] = _energies(made, x, padded, first + f, len(rows))
        if len(rows):
            largest = max(largest, float(rows.max()))
    if plan.span is not None:
        np.maximum(out, np.float32(largest) - np.float32(plan.span), out=out)
    return largest


def _energies(made: StftPlan, x: np.ndarray, padded: int, first: int, count: int) -> np.ndarray:
    """Return the features of `count` frames, float64 of shape (count, n_mels)."""
    plan = made.plan
    hop, length, c = plan.hop_length, plan.frame_length, plan.emphasis
    whole = -(-count // L) * L
    start = first * hop - plan.offset
    stop = start + (whole - 1) * hop + length
    samples = continued(x, padded, plan.boundary == "mirror", start - 1, stop).astype(np.float64)
    if plan.emphasis_kind == "signal":
        samples[1:] -= c * samples[:-1]
        samples[max(0, x.size - start + 1) :] = 0.0  # it makes something of the first zero, too
    cut = np.lib.stride_tricks.sliding_window_view(samples[1:], length)[::hop]
    if plan.emphasis_kind == "frame":
        cut = cut - c * np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)
    spectrum = rfft(cut * plan.window, plan.n_fft)
    power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
    if plan.magnitude:
        power = np.sqrt(np.maximum(power, plan.power_floor))
    energies = np.maximum((made.filters @ power).T[:count], plan.floor) + plan.add
    if plan.linear:
        return energies
    return np.maximum(plan.scale * np.log(energies) + plan.shift, plan.tables["lowest"])


def normalize(made: StftPlan, level: int, energies: np.ndarray, epsilon: float) -> None:
    """Bring the logarithm of each column to mean 0 and deviation 1."""
    if energies.shape[0] < 2 or energies.shape[1] != made.plan.n_mels:
        raise ValueError(f"cannot normalise energies of shape {energies.shape}")
    count = len(energies)
    blocks = [energies[f : f + BLOCK] for f in range(0, count, BLOCK)]
    first = np.log(energies[0].astype(np.float64))
    sums, squares = np.zeros_like(first), np.zeros_like(first)
    for block in blocks:  # of differences to a value of the band: see normalize in csrc/stft_mel.c
        difference = np.log(block.astype(np.float64)) - first
        sums += difference.sum(axis=0)
        squares += (difference**2).sum(axis=0)
    spread = np.maximum(squares - sums * (sums / count), 0.0)
    mean, deviation = first + sums / count, np.sqrt(spread / (count - 1)) + epsilon
    for block in blocks:
        block[:] = (np.log(block.astype(np.float64)) - mean) / deviation


# ---- csrc/resample.c, csrc/mix.c


@dataclass(frozen=True)
class ResampleForm:
    """A plan, and its response in the order of the bins 0, 1, ..., with the scale of both transforms."""

    plan: ResamplePlan
    response: npt.NDArray[np.complex64]
    skip: int  # outputs of a block before the first good one


def resample_plan(plan: ResamplePlan) -> ResampleForm:
    """Return the plan as the fallback reads it."""
    rows = digit_reversed(plan.forward.radices)[: plan.forward.points // 2 + 1]
    used = plan.bin_row[rows] >= 0  # bins below the lower of the two Nyquist frequencies
    gain = plan.forward.points * plan.response[rows[used]] @ np.array([1, 1j])
    # rfft does not scale, irfft by 1 / points: what is left is the ratio of the lengths.
    response = gain * (plan.inverse.points / plan.forward.points)
    skip = -(-plan.half_length * plan.up // plan.down)
    return ResampleForm(plan, response.astype(np.complex64), skip)


def scratch_floats(made: ResampleForm, level: int) -> int:
    """Return how many floats of working memory ``blocks`` needs from its caller."""
    return 0


def blocks(
    made: ResampleForm,
    level: int,
    x: np.ndarray,
    x_first: int,
    y: np.ndarray,
    n_out: int,
    first_pair: int,
    last_pair: int,
    scratch: np.ndarray,
) -> None:
    """Write the output of pairs ``first_pair`` to ``last_pair - 1`` to ``y``."""
    plan, points = made.plan, made.plan.forward.points
    y_first = 2 * first_pair * plan.hop_out
    for pair in range(first_pair, last_pair, L):
        pairs = min(L, last_pair - pair)
        start = 2 * pair * plan.hop_in - plan.context - x_first
        stop = start + (2 * L - 1) * plan.hop_in + points
        samples = continued(x, 0, False, start, stop)
        cut = np.lib.stride_tricks.sliding_window_view(samples, points)[:: plan.hop_in]
        spectrum = rfft(cut)[:, : made.response.size] * made.response
        good = slice(made.skip, made.skip + plan.hop_out)
        made_here = irfft(spectrum, plan.inverse.points)[: 2 * pairs, good].reshape(-1)
        done = 2 * pair * plan.hop_out - y_first
        room = y[done : min(done + made_here.size, n_out - y_first)]
        room[:] = made_here[: room.size]


def mean(level: int, x: np.ndarray, y: np.ndarray) -> None:
    """Write the mean over the channels of the interleaved frames ``x`` to ``y``."""
    full_scale = FULL_SCALE[x.dtype.name]
    for f in range(0, len(x), FRAMES):
        sums = x[f : f + FRAMES].sum(axis=1, dtype=np.float64)
        y[f : f + FRAMES] = sums / (full_scale * x.shape[1])


def split(level: int, x: np.ndarray, y: np.ndarray) -> None:
    """Write channel c of the interleaved frames ``x`` to ``y[c]``."""
    for f in range(0, len(x), FRAMES):
        y[:, f : f + FRAMES] = x[f : f + FRAMES].T / FULL_SCALE[x.dtype.name]


def peak(level: int, x: np.ndarray) -> float:
    """Return the largest absolute sample; NaN if one is NaN."""
    return float(np.maximum(x.max(), -x.min())) if x.size else 0.0
