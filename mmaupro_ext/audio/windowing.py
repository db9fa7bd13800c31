"""Cutting a signal into windows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.validate import valid_rate, valid_seconds, valid_signal
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import require_choice

TAILS = ("keep", "pad", "drop")
Span = tuple[int, int]  # first sample and end


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

    Examples
    --------
    >>> import numpy as np
    >>> [len(window) for window in windows(np.zeros(16000 * 70), 16000, length_s=30)]
    [480000, 480000, 160000]
    """
    rate = valid_rate(sampling_rate)
    require_choice("tail", tail, TAILS)
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


def lengths(length_s: float, hop_s: float | None, rate: int) -> tuple[int, Fraction]:
    """Return the length of a window and the hop, in samples; raise ConfigError if unusable."""
    length = round(sample_count(length_s, rate, "length_s"))
    hop = Fraction(length) if hop_s is None else sample_count(hop_s, rate, "hop_s")
    return length, hop


def sample_count(seconds: float, rate: int, name: str) -> Fraction:
    """Return a duration in samples, exact by its decimals; raise ConfigError if it is none."""
    valid_seconds(seconds, name)
    # Through the decimal form: 0.1 s at 44100 Hz are 4410 samples, not 4410.000000000001.
    samples = Fraction(str(float(seconds))) * rate
    if round(samples) < 1:
        raise ConfigError(f"{name}={seconds!r} is less than one sample at {rate} Hz")
    return samples
