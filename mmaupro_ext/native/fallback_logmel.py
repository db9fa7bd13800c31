"""Whisper's log-mel spectrogram with numpy and scipy.fft: where there is no compiled core and no Numba.

The functions have the signatures of the compiled module, so that a caller may take either. Frames are
taken in blocks that stay in the second-level cache. A frame's result must not depend on the block that
it is in: blocks are whole batches, as scipy transforms several rows at once and a rest one by one, and
filters are applied as a sparse matrix, which adds frame by frame (a dense product adds in an order that
depends on the number of frames).
"""

from __future__ import annotations

import numpy as np
from scipy.fft import rfft
from scipy.sparse import csr_array

from mmaupro_ext.native.stft_mel import make_bank

N_FFT = 400
HOP = 160
BINS = 201
REFLECT = 200
MELS_MAX = 256
FLOOR_FEATURE = np.float32(-1.5)
RANGE = np.float32(2.0)
OVERFLOW = np.float32(10.6)

L = 16  # frames in a batch
BLOCK = 16 * L  # frames


class Plan:
    """A filter bank made ready.

    Parameters
    ----------
    filters : numpy.ndarray
        Float32, (201, n_mels).

    Raises
    ------
    ValueError
        If the filters are not non-negative triangles that overlap their neighbours only.
    """

    def __init__(self, filters: np.ndarray) -> None:
        if filters.shape[0] != BINS:
            raise ValueError(f"the filter bank must have {BINS} rows, not {filters.shape[0]}")
        if not 1 <= filters.shape[1] <= MELS_MAX:
            raise ValueError(f"cannot use {filters.shape[1]} mel filters")
        make_bank(filters.astype(np.float64))  # refuses what the other cores refuse
        self.n_mels = filters.shape[1]
        self.filters = csr_array(filters.T)
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


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


def lanes(level: int) -> int:
    """Return the number of frames in a batch."""
    return L


def live_frames(n: int, padded: int) -> int:
    """Return the number of frames that touch the signal; the rest are constant."""
    return min((n + REFLECT + HOP - 1) // HOP, padded // HOP) if n > 0 else 0


def frames(
    plan: Plan,
    level: int,
    x: np.ndarray,
    padded: int,
    first: int,
    last: int,
    out: np.ndarray,
    batch_minimum: np.ndarray,
) -> tuple[float, bool]:
    """Write the unclamped features of frames ``first`` to ``last - 1``.

    Returns
    -------
    tuple of float and bool
        The largest feature (at least that of the floor), and whether all was finite.
    """
    maximum, finite = FLOOR_FEATURE, True
    for f in range(first, last, BLOCK):
        count = min(BLOCK, last - f)
        rows = -(-count // L) * L
        start = f * HOP - REFLECT
        samples = continued(x, padded, True, start, start + (rows - 1) * HOP + N_FFT)
        cut = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
        with np.errstate(all="ignore"):  # samples that are not finite are found below
            spectrum = rfft(cut * plan.window)
            power = np.ascontiguousarray((spectrum.real**2 + spectrum.imag**2).T)
            mel = plan.filters @ power
            feature = np.log10(np.maximum(mel, np.float32(1e-10))) * np.float32(0.25)
            feature = np.maximum(feature + np.float32(1), FLOOR_FEATURE)[:, :count]
        finite = finite and bool(np.isfinite(power[0, :count]).all())
        maximum = np.fmax(maximum, feature.max())
        out[:, f : f + count] = feature
        for batch in range(0, count, L):
            minimum = feature[:, batch : batch + L].min()
            batch_minimum[(f - first + batch) // L] = minimum
    return float(maximum), finite and bool(maximum <= OVERFLOW)


def clamp(
    level: int,
    first: int,
    last: int,
    out: np.ndarray,
    batch_minimum: np.ndarray,
    lowest: float,
) -> None:
    """Raise the features of the same frames to at least ``lowest``."""
    for f in range(first, last, L):
        if batch_minimum[(f - first) // L] < lowest:
            batch = out[:, f : min(f + L, last)]
            np.maximum(batch, np.float32(lowest), out=batch)


def log_mel(plan: Plan, level: int, x: np.ndarray, padded: int, out: np.ndarray) -> bool:
    """Write the features of ``x``, zero-padded to ``padded`` samples, to ``out``.

    Returns
    -------
    bool
        False if a sample is not finite or an energy overflows float32; ``out`` is then worthless.
    """
    live = live_frames(x.size, padded)
    batch_minimum = np.empty(-(-live // L), np.float32)
    maximum, finite = frames(plan, level, x, padded, 0, live, out, batch_minimum)
    lowest = np.float32(maximum) - RANGE
    clamp(level, 0, live, out, batch_minimum, lowest)
    out[:, live:] = max(lowest, FLOOR_FEATURE)
    return finite
