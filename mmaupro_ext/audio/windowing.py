"""Cutting a signal into windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from numbers import Real

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.validate import valid_choice, valid_rate, valid_signal
from mmaupro_ext.errors import AudioError, ConfigError

TAILS = ("keep", "pad", "drop")
Span = tuple[int, int]  # first sample and end
# Samples of each row that a stream's buffer has room for at once; more comes as samples do, since
# the signal may be shorter than a window.
FIRST_CAPACITY = 1 << 20


def windows(
    x: npt.ArrayLike,
    sampling_rate: int,
    length_s: float = 30.0,
    hop_s: float | None = None,
    tail: str = "keep",
) -> list[npt.NDArray[np.float32]]:
    """Cut a signal into windows of equal length.

    Parameters
    ----------
    x : array_like
        Samples of shape ``(n,)`` or ``(channels, n)``, ``n >= 1``.
    sampling_rate : int
        Rate of `x` in Hz.
    length_s : float, default 30.0
        Length of a window in seconds.
    hop_s : float, optional
        Seconds from the start of one window to the start of the next; `length_s` where not given.
        Less makes windows overlap, more leaves gaps.
    tail : {"keep", "pad", "drop"}
        What becomes of a last window that the signal does not fill: kept at its own length, padded
        with zeros, or left out. With ``"drop"``, a signal shorter than a window gives an empty
        list.

    Returns
    -------
    list of numpy.ndarray
        float32 of shape ``(m,)`` or ``(channels, m)``: views of `x` (padded ones are copies) in
        order. The last window is the first that reaches the end of the signal.

    Raises
    ------
    AudioError
        If `x` or `sampling_rate` is not valid; an empty `x` is not.
    ConfigError
        If a duration is not positive and finite or lasts less than a sample, or `tail` is unknown.

    Notes
    -----
    Window k starts at sample ``round(k * hop_s * sampling_rate)``, computed exactly from the
    decimal numbers given, so durations that are no whole number of samples do not drift.
    """
    rate = valid_rate(sampling_rate)
    valid_choice(tail, "tail", TAILS)
    length, hop = lengths(length_s, hop_s, rate)
    signal = valid_signal(x)

    pieces: list[npt.NDArray[np.float32]] = []
    for start, end in spans(signal.shape[-1], length, hop, tail):
        piece = signal[..., start:end]
        missing = end - start - piece.shape[-1]
        if missing:
            piece = np.pad(piece, [(0, 0)] * (signal.ndim - 1) + [(0, missing)])
        pieces.append(piece)
    return pieces


def spans(
    samples: int, length: int, hop: Fraction | None = None, tail: str = "keep"
) -> tuple[Span, ...]:
    """Return where the windows of a signal begin and end: what :func:`windows` cuts.

    Parameters
    ----------
    samples : int
        Length of the signal.
    length : int
        Samples in a window, at least 1.
    hop : Fraction, optional
        Samples from window to window; `length` where not given.
    tail : {"keep", "pad", "drop"}
        As in :func:`windows`; with ``"pad"`` the last end may lie beyond the signal.

    Returns
    -------
    tuple of (int, int)
        First sample and end of each window, in order.
    """
    step = Fraction(length) if hop is None else hop
    found: list[Span] = []
    start = end = 0
    while start < samples and (not found or end < samples):
        end = start + length
        if end > samples and tail == "drop":
            break
        found.append((start, end if tail == "pad" else min(end, samples)))
        start = round(len(found) * step)
    return tuple(found)


def balanced_spans(samples: int, longest: int | None) -> tuple[Span, ...]:
    """Cut a signal into as few consecutive windows as `longest` allows, of equal length.

    So no window is a sliver: 30.02 s in windows of at most 30 s are two of 15.01 s, not one of 30 s
    and one of 20 ms, and 45 s are two of 22.5 s. What models are given of a long clip is cut so.

    Parameters
    ----------
    samples : int
        Length of the signal, at least 1.
    longest : int or None
        Samples that a window may have; None for any number.

    Returns
    -------
    tuple of (int, int)
        First sample and end of each window; together they are the whole signal, and their lengths
        differ by one sample at the most.

    Examples
    --------
    >>> balanced_spans(10, 4)
    ((0, 3), (3, 7), (7, 10))
    """
    count = 1 if longest is None else -(-samples // longest)
    edges = [(2 * i * samples + count) // (2 * count) for i in range(count + 1)]
    return tuple(zip(edges, edges[1:], strict=False))


def stream_windows(
    blocks: Iterable[npt.ArrayLike],
    sampling_rate: int,
    length_s: float = 30.0,
    hop_s: float | None = None,
    tail: str = "keep",
) -> Iterator[npt.NDArray[np.float32]]:
    """Cut a signal that comes in blocks into windows; :func:`windows` for streams.

    Parameters
    ----------
    blocks : iterable of array_like
        The signal in order, such as :func:`mmaupro_ext.audio.stream` gives it: shape ``(m,)`` or
        ``(channels, m)``, of any lengths, 0 included.
    sampling_rate, length_s, hop_s, tail
        As in :func:`windows`.

    Yields
    ------
    numpy.ndarray
        The windows that :func:`windows` gives for the joined blocks, to the last bit, each as soon
        as it is complete; the caller's to keep. Held besides are about a window and a block.

    Raises
    ------
    AudioError
        If a block or `sampling_rate` is not valid, the blocks' shapes differ by more than their
        length, or all are empty.
    ConfigError
        As :func:`windows`.
    """
    rate = valid_rate(sampling_rate)
    valid_choice(tail, "tail", TAILS)
    length, hop = lengths(length_s, hop_s, rate)
    return _stream_windows(blocks, length, hop, tail)


def _stream_windows(
    blocks: Iterable[npt.ArrayLike], length: int, hop: Fraction, tail: str
) -> Iterator[npt.NDArray[np.float32]]:
    axes: list[int] = []  # of the first block

    def rows() -> Iterator[npt.NDArray[np.float32]]:
        shape: tuple[int, ...] | None = None  # all but the last axis
        for i, block in enumerate(blocks):
            if not np.size(block):
                continue
            signal = valid_signal(block, f"block {i}")
            if shape is None:
                shape = signal.shape[:-1]
                axes.append(signal.ndim)
            if signal.shape[:-1] != shape:
                raise AudioError(
                    f"block {i} has shape {signal.shape}, but earlier blocks {(*shape, '...')}",
                    fix="Give all blocks of a signal the same channels.",
                )
            yield signal if signal.ndim == 2 else signal[None]
        if shape is None:
            raise AudioError(
                "the blocks hold no samples", fix="Give at least one block with a sample."
            )

    for _, piece in cut(rows(), length, hop, tail):
        window = piece.copy()
        yield window if axes[0] == 2 else window[0]


def cut(
    blocks: Iterable[npt.NDArray[np.float32]],
    length: int,
    hop: Fraction,
    tail: str,
    held: Held | None = None,
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield the start of each window and a view of it, which the next step overwrites.

    Parameters
    ----------
    blocks : iterable of numpy.ndarray
        float32 of shape ``(rows, m)``.
    length : int
        Samples in a window.
    hop : Fraction
        Samples from window to window.
    tail : {"keep", "pad", "drop"}
        As in :func:`windows`.
    held : Held, optional
        Where the samples wait; made where not given. Blocks that were written to its `room` are not
        copied.

    Yields
    ------
    tuple of int and numpy.ndarray
        Float32 of shape ``(rows, length)``; less for a last window that is kept short.
    """
    count = start = end = 0  # windows given; start of the next one, end of the last one
    for block in blocks:
        held = held or Held(len(block), length)
        held.append(block)
        # A window is due once it is full and something comes after the one before.
        while held.end >= start + length and (not count or held.end > end):
            yield start, held.between(start, start + length)
            count, end = count + 1, start + length
            start = round(count * hop)
            held.forget(start)
        held.forget(start)
    if held and start < held.end and (not count or end < held.end) and tail != "drop":
        if tail == "pad":
            held.append(np.zeros((held.rows, start + length - held.end), np.float32))
        yield start, held.between(start, held.end)


class Held:
    """The samples of a stream that coming windows need: a buffer that moves along the signal."""

    def __init__(self, rows: int, length: int) -> None:
        self.rows = rows
        self.end = 0  # place in the signal after the last sample that came
        self._length = length
        self._buffer = np.empty((rows, 0), np.float32)
        self._offset = self._held = 0  # samples, in the buffer

    def room(self, new: int) -> npt.NDArray[np.float32]:
        """Return where the next samples may be written; `append` such a view to save a copy."""
        capacity = self._buffer.shape[1]
        if self._held + new > capacity:
            # Some slack, so that overlapping windows do not move all samples with each block.
            enough = self._length + self._length // 4 + new
            self._move(np.empty((self.rows, self._grown(self._held + new, enough)), np.float32))
        elif self._offset + self._held + new > capacity:
            self._move(self._buffer)
        stop = self._offset + self._held
        return self._buffer[:, stop : stop + new]

    def append(self, block: npt.NDArray[np.float32]) -> None:
        """Take the next samples."""
        room = self.room(block.shape[1])
        if not np.may_share_memory(room, block):
            room[:] = block
        self._held += block.shape[1]
        self.end += block.shape[1]

    def between(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return a view of samples `start` to ``stop - 1`` of the signal."""
        shift = self._offset - (self.end - self._held)
        return self._buffer[:, start + shift : stop + shift]

    def forget(self, start: int) -> None:
        """Say that nothing before sample `start` of the signal is needed any more."""
        used = min(max(0, start - (self.end - self._held)), self._held)
        self._held -= used
        self._offset += used

    def _grown(self, needed: int, enough: int) -> int:
        return max(needed, min(enough, max(FIRST_CAPACITY, 2 * self._buffer.shape[1])))

    def _move(self, to: npt.NDArray[np.float32]) -> None:
        """Move the samples to the start of a buffer, maybe the same one."""
        for target, source in zip(
            to, self._buffer, strict=True
        ):  # whole arrays that overlap NumPy would copy first
            target[: self._held] = source[self._offset : self._offset + self._held]
        self._buffer, self._offset = to, 0


def lengths(length_s: float, hop_s: float | None, rate: int) -> tuple[int, Fraction]:
    """Return the length of a window and the hop, in samples; raise ConfigError if unusable."""
    length = round(sample_count(length_s, rate, "length_s"))
    hop = Fraction(length) if hop_s is None else sample_count(hop_s, rate, "hop_s")
    return length, hop


def sample_count(seconds: float, rate: int, name: str) -> Fraction:
    """Return a duration in samples, exact by its decimals; raise ConfigError if it is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, (Real, np.number)):
        raise ConfigError(f"{name}={seconds!r} is not a number of seconds")
    if not np.isfinite(seconds):
        raise ConfigError(f"{name}={seconds!r} is not finite")
    # Through the decimal form: 0.1 s at 44100 Hz are 4410 samples, not 4410.000000000001.
    samples = Fraction(str(float(seconds))) * rate
    if round(samples) < 1:
        raise ConfigError(f"{name}={seconds!r} is less than one sample at {rate} Hz")
    return samples
