"""The kernels, on whichever core runs now (see :mod:`mmaupro_ext.native.choose`): arrays in, arrays out.

The functions take what they are given; :mod:`mmaupro_ext.audio` and :mod:`mmaupro_ext.features` check it
first.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.native import choose
from mmaupro_ext.native.resample_plan import ResamplePlan
from mmaupro_ext.native.stft_plan import Plan

Float32 = npt.NDArray[np.float32]


# Blocks are computed in batches of so many pairs, which all lane counts divide.
PAIRS_PER_BATCH = 16
# Samples after a block that the kernel may touch: it loads whole registers. Without them it copies
# first.
PADDING = 16


def running() -> choose.Core:
    """Return the core that runs now, by ``MMAUPRO_NATIVE`` and ``MMAUPRO_SIMD``.

    Raises
    ------
    ConfigError
        As :func:`mmaupro_ext.native.choose.core`.
    """
    return choose.core(os.environ.get("MMAUPRO_NATIVE", ""), os.environ.get("MMAUPRO_SIMD", ""))


def _form(plan: Plan | ResamplePlan, core: choose.Core, make: str) -> Any:
    """Return the plan as a core wants it; made at the first use and kept with the plan."""
    form = plan.forms.get(core.backend)
    if form is None:
        module = core.stft if make == "stft_plan" else core.resample
        form = plan.forms[core.backend] = getattr(module, make)(plan)
    return form


# ---- Log-mel features.


def stft_mel(
    plan: Plan, x: Float32, out: Float32, *, padded: int | None = None, first: int = 0
) -> float:
    """Write the features of consecutive frames of one signal.

    Parameters
    ----------
    plan : Plan
        The family.
    x : numpy.ndarray
        Contiguous float32 samples.
    out : numpy.ndarray
        float32 array of shape (frames, n_mels), or (n_mels, frames) where the plan has bands first; the
        last axis is contiguous. Written.
    padded : int, optional
        Length in samples of the buffer that holds `x` followed by zeros; it matters only to a plan that
        mirrors. Default: the length of `x`.
    first : int
        Number of the frame that comes first in `out`.

    Returns
    -------
    float
        The largest feature; minus infinity if there is no frame; NaN if a sample, from the first one
        of these frames on, is not finite or above ``plan.limit`` (in double) or so large that an energy
        overflows (in float): `out` is then worthless.
    """
    core = running()
    form = _form(plan, core, "stft_plan")
    end = x.size if padded is None else padded
    largest = core.stft.features(form, core.level, x, end, first, out)
    frames = out.shape[1] if plan.bands_first else len(out)
    behind = x[_end_of(plan, first + frames) :]
    if behind.size and not core.resample.peak(core.level, behind) <= plan.limit:
        return math.nan
    return largest


def log_mel(plan: Plan, x: Float32, padded: int, out: Float32) -> bool:
    """Write the features of a whole padded signal; the frames that see nothing but padding cost nothing.

    Parameters
    ----------
    plan : Plan
        With bands first and a span.
    x : numpy.ndarray
        Contiguous float32 samples.
    padded : int
        Length in samples of the buffer that holds `x` followed by zeros.
    out : numpy.ndarray
        float32 array of shape (n_mels, padded // hop_length), the last axis contiguous. Written.

    Returns
    -------
    bool
        False if a sample is not finite, or so large that an energy overflows; `out` is then worthless.
    """
    live = _live_frames(plan, x.size, padded)
    lowest = plan.tables["lowest"]
    largest = max(stft_mel(plan, x, out[:, :live], padded=padded), lowest)
    if live < out.shape[1]:
        out[:, live:] = max(np.float32(largest) - np.float32(plan.span), np.float32(lowest))
    return not math.isnan(largest)


def _end_of(plan: Plan, count: int) -> int:
    """Return the sample behind those that a kernel checks where it makes ``count`` frames.

    In float these are the frames' own, in double those of the columns (of a hop) that they lie in.
    """
    if not count:
        return 0
    length, hop = plan.tables["frame_length"], plan.hop_length
    if plan.precision == "float":
        return max(0, (count - 1) * hop + length - plan.tables["offset"])
    return max(0, (count + (length - 1) // hop) * hop - plan.tables["offset"])


def _live_frames(plan: Plan, samples: int, padded: int) -> int:
    """Return how many frames (of ``padded`` // hop) see a sample, and not padding alone."""
    if not samples:
        return 0
    touched = -(-(samples + plan.tables["offset"]) // plan.hop_length)
    return min(touched, padded // plan.hop_length)


def normalize(plan: Plan, energies: Float32, epsilon: float) -> None:
    """Turn energies into features, in place: each band's logarithm at mean 0 and deviation 1.

    Parameters
    ----------
    plan : Plan
        The (linear) plan that the energies come from.
    energies : numpy.ndarray
        C-contiguous float32 array of shape (frames, n_mels), of at least two frames. It becomes
        (ln v - mean) / (deviation + epsilon); the deviation is that of a sample (over frames - 1).
    epsilon : float
        Added to the deviation.
    """
    core = running()
    core.stft.normalize(_form(plan, core, "stft_plan"), core.level, energies, epsilon)


# ---- Resampling.

_of_this_thread = threading.local()


def _scratch(floats: int) -> Float32:
    """Return this thread's working memory, 1 to 2 MB; kept, as new pages cost more than the work."""
    if getattr(_of_this_thread, "scratch", None) is None or _of_this_thread.scratch.size < floats:
        _of_this_thread.scratch = np.empty(floats, np.float32)
    return _of_this_thread.scratch


def output_length(n: int, orig_sr: int, target_sr: int) -> int:
    """Return ``ceil(n * target_sr / orig_sr)``, the length of `n` samples after resampling."""
    return -(-n * target_sr // orig_sr)


def pairs_of(plan: ResamplePlan, n_out: int) -> int:
    """Return how many pairs of blocks make `n_out` output samples."""
    return -(-n_out // (2 * plan.hop_out))


def pair_span(plan: ResamplePlan, pair: int) -> tuple[int, int]:
    """Return the range of input samples that `pair` reads, partly outside the signal maybe."""
    start = 2 * pair * plan.hop_in - plan.context
    return start, start + plan.hop_in + plan.forward.points


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
    core = running()
    form = _form(plan, core, "resample_plan")
    scratch = _scratch(core.resample.scratch_floats(form, core.level))
    core.resample.blocks(form, core.level, x, x_first, y, n_out, first_pair, last_pair, scratch)


def resample(plan: ResamplePlan, x: Float32, *, out: Float32 | None = None) -> Float32:
    """Resample one channel.

    Parameters
    ----------
    plan : ResamplePlan
        From `resample_plan.resample_plan`.
    x : numpy.ndarray
        float32, contiguous, 1-D.
    out : numpy.ndarray, optional
        float32, contiguous, of as many samples as :func:`output_length` says; made where not given.

    Returns
    -------
    numpy.ndarray
        `out`: float32, zero delay.
    """
    n_out = output_length(len(x), plan.orig_sr, plan.target_sr)
    if out is None:
        out = np.empty(n_out, np.float32)
    elif out.shape != (n_out,):
        raise ValueError(f"out has shape {out.shape}, the result {(n_out,)}")
    if n_out:
        resample_pairs(plan, x, 0, out, n_out, 0, pairs_of(plan, n_out))
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
            n_out = output_length(self._first + self._held, plan.orig_sr, plan.target_sr)
            return n_out, pairs_of(plan, n_out)
        # Pair p is complete when its span ends within what has come; whole batches fill all lanes.
        spare = self._first + self._held - pair_span(plan, 0)[1] - PADDING
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
            used = min(pair_span(plan, last_pair)[0] - self._first, self._held)
            if used > 0:
                self._held -= used
                self._first += used
                self._buffer[: self._held] = self._buffer[used : used + self._held]


# ---- Samples as decoders give them.


def peak(x: Float32) -> float:
    """Return the largest absolute sample of contiguous `x`; NaN if one is NaN."""
    core = running()
    return core.resample.peak(core.level, x)


def finite(x: Float32) -> bool:
    """Return whether no sample of `x` (float32, contiguous, 1-D) is NaN or infinite."""
    return peak(x) < math.inf


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
    core = running()
    core.resample.mean(core.level, x, y)
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
    core = running()
    core.resample.split(core.level, x, y)
    return y
