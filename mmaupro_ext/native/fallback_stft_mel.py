"""The plan-driven log-mel with numpy and scipy.fft: where there is no compiled core and no Numba.

The functions have the signatures of the compiled module. All is in float64 up to the feature, by the
letter of the definition; blocks of frames bound the memory. For what makes a frame independent of its
block, see :mod:`mmaupro_ext.native.fallback_logmel`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.fft import rfft
from scipy.sparse import csr_array

from mmaupro_ext.native.fallback_logmel import BLOCK, L, continued


class Plan:
    """A plan of :mod:`mmaupro_ext.native.stft_mel`, its filters as a sparse matrix."""

    def __init__(self, plan: Any) -> None:
        self.plan = plan
        self.filters = csr_array(plan.filters.T)


def lanes(level: int) -> int:
    """Return the number of frames in a batch."""
    return L


def features(
    made: Plan, level: int, x: np.ndarray, padded: int, first: int, out: np.ndarray
) -> float:
    """Write the features of frames ``first`` to ``first + len(out) - 1``; return the largest one.

    It is NaN if a sample is not finite or above the plan's limit.
    """
    plan = made.plan
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
    return largest


def _energies(made: Plan, x: np.ndarray, padded: int, first: int, count: int) -> np.ndarray:
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
    if plan.remove_mean:
        cut = cut - cut.mean(axis=1, keepdims=True)
    if plan.emphasis_kind == "frame":
        cut = cut - c * np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)
    spectrum = rfft(cut * plan.window, plan.n_fft)
    power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
    if plan.magnitude:
        power = np.sqrt(np.maximum(power, plan.power_floor))
    energies = np.maximum((made.filters @ power).T[:count], plan.floor) + plan.add
    return energies if plan.linear else plan.scale * np.log(energies) + plan.shift


def clamp(level: int, values: np.ndarray, lowest: float) -> None:
    """Raise values to at least ``lowest``, in place."""
    np.maximum(values, np.float32(lowest), out=values)


def peak(level: int, x: np.ndarray) -> float:
    """Return the largest absolute sample; NaN if one is NaN."""
    return float(np.maximum(x.max(), -x.min())) if x.size else 0.0


def normalize(made: Plan, level: int, energies: np.ndarray, epsilon: float) -> None:
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
