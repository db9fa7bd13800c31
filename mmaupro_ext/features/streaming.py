"""From a file to log-mel features in one pass and in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.decoding import stream_to
from mmaupro_ext.audio.windowing import Held, cut, lengths
from mmaupro_ext.errors import AudioError
from mmaupro_ext.features.whisper import (
    HOP_LENGTH,
    SAMPLING_RATE,
    SHORTEST,
    check_buffer_length,
    check_usable,
    extract_into,
    plan_of_mels,
)
from mmaupro_ext.native import logmel as kernel

# Frames 0 and 1 see samples before their window, in the mirror.
FIRST_CLEAN = -(-kernel.REFLECT // HOP_LENGTH)


def log_mel_windows(
    path: str | os.PathLike[str],
    n_mels: int = 128,
    length_s: float = 30.0,
    hop_s: float | None = None,
    pad: bool = True,
    *,
    resampler: str = "native",
) -> Iterator[npt.NDArray[np.float32]]:
    """Return Whisper's log-mel features of a file, window by window.

    The features are those of :func:`mmaupro_ext.audio.load`, then
    :func:`mmaupro_ext.audio.windows`, then :func:`log_mel` of each window, to the last bit. But the
    file is decoded, mixed, resampled and cut block by block, so that the memory needed does not
    depend on its length, and the first window comes before the rest is decoded.

    Parameters
    ----------
    path : path-like
        The audio file; its channels are averaged.
    n_mels : int
        Number of mel bands, 1 to 256.
    length_s, hop_s : float
        Length of a window and time from window to window, in seconds, as in
        :func:`mmaupro_ext.audio.windows`. Where windows overlap by more than half and the hop is a
        whole number of frames (of 10 ms), frames are computed once for all windows that they are
        inside of.
    pad : bool
        Whether a last window that the signal does not fill is padded with zeros to the length of
        the others, or left at its own length.
    resampler : {"native", "soxr"}
        As in :func:`mmaupro_ext.audio.load`.

    Yields
    ------
    numpy.ndarray
        Float32, shape (n_mels, frames), frames = samples of the window // 160; the caller's to
        keep.

    Raises
    ------
    AudioError
        As :func:`mmaupro_ext.audio.stream` and :func:`log_mel`; the message names the file. Damage
        that only decoding finds is reported after the windows before it: use nothing of a file
        before all its windows have come.
    ConfigError
        If another argument cannot be used.
    """
    plan = plan_of_mels(n_mels)
    length, hop = lengths(length_s, hop_s, SAMPLING_RATE)
    check_buffer_length(length, None)
    held = Held(1, length)
    blocks = stream_to(path, SAMPLING_RATE, resampler, held.room)
    pieces = cut(blocks, length, hop, "keep", held)
    # With less overlap, copying the shared frames takes as long as computing them.
    shares = hop < length / 2 and hop % HOP_LENGTH == 0
    windows = (
        _Overlapping(plan, length, int(hop) // HOP_LENGTH, pad)
        if shares
        else _Separate(plan, length, pad)
    )
    return _features(os.fspath(path), pieces, windows)


def _features(
    path: str | bytes,
    pieces: Iterator[tuple[int, npt.NDArray[np.float32]]],
    windows: _Separate,
) -> Iterator[npt.NDArray[np.float32]]:
    for start, piece in pieces:
        try:
            features = windows.features(piece[0])
        except AudioError as error:
            raise AudioError(
                f"in the window from {start / SAMPLING_RATE:g} s on, {error.problem}",
                path=os.fsdecode(path),
                fix=error.fix,
            ) from error
        yield features


class _Separate:
    """Each window for itself."""

    def __init__(self, plan: kernel.Plan, length: int, pad: bool) -> None:
        self.plan, self.length, self.pad = plan, length, pad

    def features(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the features of the next window."""
        padded = self._padded(len(x))
        out = np.empty((self.plan.n_mels, padded // HOP_LENGTH), np.float32)
        extract_into(self.plan, x, padded, out)
        return out

    def _padded(self, n: int) -> int:
        """Return the length of the buffer that `n` samples are extracted from."""
        if n < SHORTEST and not self.pad:
            raise AudioError(
                f"there are only {n} samples, and mirroring the ends takes at least {SHORTEST}",
                fix="Use pad=True, or another length_s.",
            )
        return self.length if self.pad else n


class _Overlapping(_Separate):
    """Windows that share frames.

    A frame that lies inside two windows, clear of their ends, sees the same samples in both, and
    its features before the clamp to 80 dB are the same numbers. These are kept; each window then
    computes the frames that are new or at its ends, and clamps by its own maximum.
    """

    def __init__(self, plan: kernel.Plan, length: int, hop_frames: int, pad: bool) -> None:
        super().__init__(plan, length, pad)
        self._hop = hop_frames
        # Features of the last window before the clamp, and how many of its frames, from FIRST_CLEAN
        # on, are clear of its ends.
        self._open = np.empty((plan.n_mels, length // HOP_LENGTH), np.float32)
        self._clean_end = 0

    def features(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the features of the next window."""
        padded = self._padded(len(x))
        n_frames = padded // HOP_LENGTH
        kept_end = self._clean_end - self._hop  # the kept frames are FIRST_CLEAN to here
        kept = kept_end > FIRST_CLEAN
        if kept:
            # Row by row, as NumPy makes a copy of overlapping arrays first if they have two axes.
            for row in self._open:
                row[:kept_end] = row[self._hop : self._clean_end]
        if n_frames < self._open.shape[1]:  # a last window that is kept short
            self._open = np.ascontiguousarray(self._open[:, :n_frames])
        live = kernel.live_frames(len(x), padded)
        ranges = [(0, FIRST_CLEAN), (kept_end, live)] if kept else [(0, live)]
        for first, last in ranges:
            _, usable = kernel.frames(self.plan, x, padded, first, last, self._open)
            check_usable(x, n_frames, usable)
        self._clean_end = max(0, (len(x) - kernel.REFLECT) // HOP_LENGTH + 1)

        unlimited = self._open[:, :live]
        lowest = max(unlimited.max(), kernel.FLOOR_FEATURE) - kernel.RANGE
        out = np.empty_like(self._open)
        np.maximum(unlimited, lowest, out=out[:, :live])
        out[:, live:] = max(lowest, kernel.FLOOR_FEATURE)
        return out
