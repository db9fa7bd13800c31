"""The log-mel kernel, on whichever core runs now (see :mod:`mmaupro_ext.native.select`).

Arguments are taken as already checked: this is the layer under :mod:`mmaupro_ext.features`.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mmaupro_ext.native import select
from mmaupro_ext.native.threads import side_by_side

N_FFT = 400  # samples in a frame
HOP_LENGTH = 160  # samples from one frame to the next
REFLECT = 200  # samples mirrored at either end of the buffer
MELS_MAX = 256
FLOOR_FEATURE = np.float32(-1.5)
RANGE = np.float32(2.0)
SPLIT = 512  # frames; threads cut here, at multiples of every core's batch


class Plan:
    """A filter bank made ready for the kernels; make it once and share it between threads.

    Parameters
    ----------
    filters : numpy.ndarray
        Float32 array of shape (201, n_mels): non-negative triangles that overlap their neighbours
        only.

    Raises
    ------
    ValueError
        If ``filters`` is none of that.
    """

    def __init__(self, filters: np.ndarray) -> None:
        self.filters = np.array(filters, dtype=np.float32, order="C")
        self.filters.flags.writeable = False
        self.n_mels = int(self.filters.shape[1])
        # Raises ValueError now rather than at the first signal.
        select.core("logmel")[0].Plan(self.filters)

    @functools.cached_property
    def compiled(self) -> Any:
        """The plan in the form of the compiled core."""
        return select.module("compiled", "logmel").Plan(self.filters)

    @functools.cached_property
    def twin(self) -> Any:
        """The plan in the form of the Numba twin."""
        return select.module("twin", "logmel").Plan(self.filters)

    @functools.cached_property
    def fallback(self) -> Any:
        """The plan in the form of the fallback on scipy."""
        return select.module("fallback", "logmel").Plan(self.filters)


def log_mel(plan: Plan, x: np.ndarray, padded: int, out: np.ndarray, threads: int = 1) -> bool:
    """Write the Whisper features of one signal.

    Parameters
    ----------
    plan : Plan
        The filter bank.
    x : numpy.ndarray
        Contiguous float32 samples at 16 kHz, at most ``padded``.
    padded : int
        Length in samples of the buffer that holds ``x`` followed by zeros; more than 200.
    out : numpy.ndarray
        C-contiguous float32 array of shape (n_mels, padded // 160), written.
    threads : int
        Threads to share the frames between. The result does not depend on it.

    Returns
    -------
    bool
        False if a sample is not finite, or so large that its energy overflows; ``out`` is then
        worthless.
    """
    core, form, level = select.core("logmel")
    made = getattr(plan, form)
    live = core.live_frames(x.size, padded)
    cuts = list(range(0, live, -(-live // threads // SPLIT) * SPLIT)) if live else []
    if len(cuts) < 2:
        return core.log_mel(made, level, x, padded, out)

    lanes = core.lanes(level)
    pieces = list(zip(cuts, [*cuts[1:], live], strict=True))
    minima = [np.empty(-(-(last - first) // lanes), np.float32) for first, last in pieces]

    def extract(piece: tuple[int, int], minimum: np.ndarray) -> tuple[float, bool]:
        return core.frames(made, level, x, padded, *piece, out, minimum)

    with ThreadPoolExecutor(len(pieces) - 1) as pool:
        results = side_by_side(pool, extract, pieces, minima)
        lowest = np.float32(max(maximum for maximum, _ in results)) - RANGE

        def clamp(piece: tuple[int, int], minimum: np.ndarray) -> None:
            core.clamp(level, *piece, out, minimum, lowest)

        side_by_side(pool, clamp, pieces, minima)
    out[:, live:] = max(lowest, FLOOR_FEATURE)
    return all(finite for _, finite in results)


def frames(
    plan: Plan, x: np.ndarray, padded: int, first: int, last: int, out: np.ndarray
) -> tuple[float, bool]:
    """Write features `first` to ``last - 1`` of a signal, not yet limited to 80 dB.

    They are the same numbers whatever the range: a frame depends on its own samples only.

    Parameters
    ----------
    plan, x, padded, out
        As in :func:`log_mel`; the other columns of `out` are left alone.
    first, last : int
        Range of frames, within :func:`live_frames`.

    Returns
    -------
    tuple of float and bool
        The largest feature, and whether all was finite.
    """
    core, form, level = select.core("logmel")
    minimum = np.empty(max(0, -(-(last - first) // core.lanes(level))), np.float32)
    return core.frames(getattr(plan, form), level, x, padded, first, last, out, minimum)


def live_frames(n: int, padded: int) -> int:
    """Return how many frames of `n` samples padded to `padded` are not all padding."""
    return select.core("logmel")[0].live_frames(n, padded)
