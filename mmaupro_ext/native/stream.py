"""Resampling piece by piece, in bounded memory."""

from __future__ import annotations

import numpy as np

from mmaupro_ext.native.kernels import Float32, resample_pairs
from mmaupro_ext.native.resample_plan import ResamplePlan

# Blocks are computed in batches of so many pairs, which all lane counts divide.
PAIRS_PER_BATCH = 16
# Samples after a block that the kernel may touch: it loads whole registers. Without them it copies
# first.
PADDING = 16


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
