"""Resampling and channel mixing on whichever core runs (see `select`): arrays in, arrays out.

The functions here take what they are given; `mmaupro_ext.audio` checks it first.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from mmaupro_ext.native import select
from mmaupro_ext.native.resample_plan import ResamplePlan
from mmaupro_ext.native.threads import side_by_side

Float32 = npt.NDArray[np.float32]

# Full scale of the integer samples that decoders give.
FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "float32": 1.0}
# Threads share a signal at multiples of so many pairs of blocks, which all lane counts divide.
PAIRS_PER_BATCH = 16
# Samples after a block that the kernel may touch: it loads whole registers. Without them it copies
# first.
PADDING = 16


@functools.lru_cache(maxsize=64)
def _c_plan(plan: ResamplePlan):
    from mmaupro_ext.native import _resample

    return _resample.Plan(plan)


@functools.lru_cache(maxsize=64)
def _twin_plan(plan: ResamplePlan):
    from mmaupro_ext.native import twin_resample

    return twin_resample.twin_plan(plan)


@functools.lru_cache(maxsize=64)
def _fallback_plan(plan: ResamplePlan):
    from mmaupro_ext.native import fallback_resample

    return fallback_resample.fallback_plan(plan)


_of_this_thread = threading.local()


def _scratch(floats: int) -> Float32:
    """Return this thread's working memory, 1 to 2 MB; kept, as new pages cost more than the work."""
    if getattr(_of_this_thread, "scratch", np.empty(0)).size < floats:
        _of_this_thread.scratch = np.empty(floats, np.float32)
    return _of_this_thread.scratch


def resample_pairs(
    plan: ResamplePlan,
    x: Float32,
    x_first: int,
    y: Float32,
    n_out: int,
    first_pair: int,
    last_pair: int,
) -> None:
    """Compute pairs of blocks `first_pair` to ``last_pair - 1`` of a signal.

    Parameters
    ----------
    plan : ResamplePlan
        From `resample_plan.resample_plan`.
    x : numpy.ndarray
        float32, contiguous: samples of the signal from `x_first` on. Samples outside count as
        zeros.
    x_first : int
        Place of ``x[0]`` in the signal, in samples.
    y : numpy.ndarray
        float32, contiguous: receives the output from sample ``2 * first_pair * plan.hop_out`` on.
    n_out : int
        Length of the whole output.
    first_pair, last_pair : int
        Range of pairs, not empty.
    """
    backend = select.backend()
    if backend == "c":
        from mmaupro_ext.native import _resample

        level = select.level_number()
        c_plan = _c_plan(plan)
        scratch = _scratch(_resample.scratch_floats(c_plan, level))
        _resample.blocks(c_plan, level, x, x_first, y, n_out, first_pair, last_pair, scratch)
    elif backend == "numba":
        from mmaupro_ext.native import twin_resample

        twin_resample.blocks(_twin_plan(plan), x, x_first, y, n_out, first_pair, last_pair)
    else:
        from mmaupro_ext.native import fallback_resample

        made = _fallback_plan(plan)
        fallback_resample.blocks(made, x, x_first, y, n_out, first_pair, last_pair)


def resample(
    plan: ResamplePlan, x: Float32, *, out: Float32 | None = None, threads: int = 1
) -> Float32:
    """Resample one channel.

    Parameters
    ----------
    plan : ResamplePlan
        From `resample_plan.resample_plan`.
    x : numpy.ndarray
        float32, contiguous, 1-D.
    out : numpy.ndarray, optional
        float32, contiguous, of ``plan.output_length(len(x))`` samples; made where not given.
    threads : int, default 1
        Threads that share the blocks. The result does not depend on it.

    Returns
    -------
    numpy.ndarray
        `out`: float32, zero delay.
    """
    n_out = plan.output_length(len(x))
    if out is None:
        out = np.empty(n_out, np.float32)
    elif out.shape != (n_out,):
        raise ValueError(f"out has shape {out.shape}, the result {(n_out,)}")
    pairs = plan.pairs(n_out)
    batches = -(-pairs // PAIRS_PER_BATCH)
    workers = min(threads, batches)
    if workers <= 1:
        if pairs:
            resample_pairs(plan, x, 0, out, n_out, 0, pairs)
        return out
    cuts = [batches * i // workers * PAIRS_PER_BATCH for i in range(workers)] + [pairs]

    def share(i: int) -> None:
        part = out[2 * cuts[i] * plan.hop_out :]
        resample_pairs(plan, x, 0, part, n_out, cuts[i], cuts[i + 1])

    with ThreadPoolExecutor(workers - 1) as pool:
        side_by_side(pool, share, range(workers))
    return out


class Stream:
    """Resample one channel piece by piece, to the same bits as `resample` of the whole.

    Parameters
    ----------
    plan : ResamplePlan
        From `resample_plan.resample_plan`.
    buffer : numpy.ndarray, optional
        float32, 1-D: memory to work in instead of new one, as long as it is large enough.

    Notes
    -----
    Keeps the input that coming blocks need again (one batch of blocks at most) and no output.
    """

    def __init__(self, plan: ResamplePlan, buffer: Float32 | None = None) -> None:
        self._plan = plan
        self._buffer = np.empty(0, np.float32) if buffer is None else buffer
        self._held = 0  # samples in the buffer
        self._first = 0  # place of the buffer's first sample in the signal
        self._pair = 0  # first pair not yet given out
        self._ended = False

    @property
    def buffer(self) -> Float32:
        """The memory that the stream works in now; free for others when the stream is done."""
        return self._buffer

    def room(self, samples: int) -> Float32:
        """Return where the next samples may be written; `take` such a view to save a copy."""
        if self._held + samples > len(self._buffer):
            larger = np.empty(self._held + samples, np.float32)
            larger[: self._held] = self._buffer[: self._held]
            self._buffer = larger
        return self._buffer[self._held : self._held + samples]

    def take(self, x: Float32) -> None:
        """Take the next samples. Before more of them, `give` the output that they complete."""
        room = self.room(len(x))
        if not np.may_share_memory(room, x):
            room[:] = x
        self._held += len(x)

    def end(self) -> None:
        """Take no more samples: the rest of the output is complete."""
        self._ended = True

    @property
    def ready(self) -> int:
        """Number of output samples that are complete and not given yet."""
        n_out, last_pair = self._complete()
        return max(0, n_out - 2 * self._pair * self._plan.hop_out) if last_pair else 0

    def _complete(self) -> tuple[int, int]:
        """Return the length of the output that is complete, and the pairs of blocks in it."""
        plan = self._plan
        if self._ended:
            n_out = plan.output_length(self._first + self._held)
            return n_out, plan.pairs(n_out)
        # Pair p is complete when its span ends within what has come; whole batches fill all lanes.
        spare = self._first + self._held - plan.pair_span(0)[1] - PADDING
        complete = spare // (2 * plan.hop_in) + 1
        last_pair = max(self._pair, complete // PAIRS_PER_BATCH * PAIRS_PER_BATCH)
        return 2 * last_pair * plan.hop_out, last_pair

    def give(self, out: Float32) -> None:
        """Write the `ready` samples to `out`."""
        plan = self._plan
        n_out, last_pair = self._complete()
        if last_pair > self._pair:
            x = self._buffer[: self._held]
            resample_pairs(plan, x, self._first, out, n_out, self._pair, last_pair)
            self._pair = last_pair
            used = min(plan.pair_span(last_pair)[0] - self._first, self._held)
            if used > 0:
                self._held -= used
                self._first += used
                self._buffer[: self._held] = self._buffer[used : used + self._held]


def finite(x: Float32) -> bool:
    """Return whether no sample of `x` (float32, contiguous, 1-D) is NaN or infinite."""
    if select.backend() == "c":
        from mmaupro_ext.native import _resample

        return _resample.finite(select.level_number(), x)
    return bool(np.isfinite(x).all())


def mean(x: npt.NDArray, out: Float32 | None = None) -> Float32:
    """Return the mean over channels of interleaved frames, in full-scale units.

    Parameters
    ----------
    x : numpy.ndarray
        int16, int32 or float32 of shape ``(frames, channels)``, contiguous.
    out : numpy.ndarray, optional
        float32 of shape ``(frames,)``, contiguous.

    Returns
    -------
    numpy.ndarray
        `out`: exact sums, scaled to [-1, 1) and rounded to float32 once.
    """
    y = np.empty(len(x), np.float32) if out is None else out
    backend = select.backend()
    if backend == "c":
        from mmaupro_ext.native import _resample

        _resample.mean(select.level_number(), x, y)
    elif backend == "numba":
        from mmaupro_ext.native import twin_resample

        twin_resample.mean(x, FULL_SCALE[x.dtype.name], y)
    else:
        from mmaupro_ext.native import fallback_resample

        fallback_resample.mean(x, FULL_SCALE[x.dtype.name], y)
    return y


def split(x: npt.NDArray, out: Float32 | None = None) -> Float32:
    """Return the channels of interleaved frames, in full-scale units.

    Parameters
    ----------
    x : numpy.ndarray
        int16, int32 or float32 of shape ``(frames, channels)``, contiguous.
    out : numpy.ndarray, optional
        float32 of shape ``(channels, frames)``, contiguous.

    Returns
    -------
    numpy.ndarray
        `out`.
    """
    y = np.empty(x.shape[::-1], np.float32) if out is None else out
    backend = select.backend()
    if backend == "c":
        from mmaupro_ext.native import _resample

        _resample.split(select.level_number(), x, y)
    elif backend == "numba":
        from mmaupro_ext.native import twin_resample

        twin_resample.split(x, FULL_SCALE[x.dtype.name], y)
    else:
        from mmaupro_ext.native import fallback_resample

        fallback_resample.split(x, FULL_SCALE[x.dtype.name], y)
    return y
