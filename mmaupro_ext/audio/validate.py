"""Checks of arguments: rates and signals. What is wrong with a file is found by `opening`."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.errors import AudioError, ConfigError

MAX_RATE = 768_000  # Hz; the highest that audio hardware records at
MAX_QUOTIENT = 10_000  # of two rates; soxr may never return beyond
MAX_CHANNELS = 1024  # libsndfile's limit; more rows than this are samples in the wrong place


def valid_rate(rate: Any, name: str = "sampling_rate") -> int:
    """Return a sampling rate as int.

    Parameters
    ----------
    rate : int or float
        Samples per second, integer-valued, 1 to 768 000.
    name : str, optional
        Name of the argument, for the message.

    Raises
    ------
    AudioError
        If it is none of that.
    """
    fix = f"Give {name} in Hz, such as 16000."
    if isinstance(rate, (bool, np.bool_)) or not isinstance(rate, (int, float, np.number)):
        raise AudioError(f"{name}={rate!r} is not a number", fix=fix)
    if not np.isfinite(rate) or rate != int(rate):
        raise AudioError(f"{name}={rate!r} is not a whole number of Hz", fix=fix)
    if not 1 <= rate <= MAX_RATE:
        raise AudioError(f"{name}={rate!r} is outside 1 to {MAX_RATE} Hz", fix=fix)
    return int(rate)


def valid_seconds(seconds: Any, name: str) -> float:
    """Return a time as float; raise ConfigError if it is none, negative, or not finite."""
    if isinstance(seconds, bool) or not isinstance(seconds, (Real, np.number)):
        raise ConfigError(f"{name}={seconds!r} is not a number of seconds.")
    if not 0 <= float(seconds) < np.inf:
        raise ConfigError(f"{name}={seconds!r}: give seconds, 0 or more.")
    return float(seconds)


def valid_rates(orig_sr: Any, target_sr: Any) -> tuple[int, int]:
    """Return the rates of a resampling as int; raise AudioError if they are not usable together."""
    orig, target = valid_rate(orig_sr, "orig_sr"), valid_rate(target_sr, "target_sr")
    if max(orig, target) > MAX_QUOTIENT * min(orig, target):
        raise AudioError(
            f"{orig} Hz to {target} Hz is a change by more than a factor of {MAX_QUOTIENT}",
            fix="Check both rates; they are in Hz.",
        )
    return orig, target


def valid_signal(x: npt.ArrayLike, name: str = "x", *, axis: int = -1) -> npt.NDArray[np.float32]:
    """Return a signal as contiguous float32 in full-scale units.

    Parameters
    ----------
    x : array_like
        Samples of shape ``(n,)`` or ``(channels, n)``, at least one. Floating samples are taken as
        they are; int16 and int32 are PCM and divided by 2**15 or 2**31.
    name : str, optional
        Name of the argument, for the message.
    axis : int, default -1
        Axis of the samples; with 0, a 2-D `x` has shape ``(n, channels)`` and is transposed.

    Returns
    -------
    numpy.ndarray
        float32, C-contiguous; `x` itself where nothing had to be changed.

    Raises
    ------
    AudioError
        If `x` has another shape or type, is empty, or holds NaN or an infinity (the first one is
        named).
    """
    try:
        samples = np.asarray(x)
    except ValueError:  # rows of different lengths
        samples = np.asarray(None)
    if samples.dtype.kind not in "fi" or samples.dtype.itemsize == 1:
        raise AudioError(
            f"{name} has dtype {samples.dtype}, which is not a sample format",
            fix="Give floating samples within [-1, 1], or int16 or int32 PCM.",
        )
    if samples.dtype.kind == "i" and samples.dtype.name not in ("int16", "int32"):
        raise AudioError(
            f"{name} has dtype {samples.dtype}, whose full scale is not known",
            fix="Convert it to float32 within [-1, 1], or to int16 or int32 PCM.",
        )
    if samples.ndim not in (1, 2):
        raise AudioError(
            f"{name} has shape {samples.shape}", fix="Give shape (n,) or (channels, n)."
        )
    if not -samples.ndim <= axis < samples.ndim:
        raise AudioError(
            f"{name} of shape {samples.shape} has no axis {axis}",
            fix="Use -1, or 0 for (n, channels).",
        )
    if samples.ndim == 2 and axis % 2 == 0:
        samples = samples.T
    if samples.size == 0:
        raise AudioError(
            f"{name} holds no samples (shape {samples.shape})", fix="Give at least one sample."
        )
    if samples.ndim == 2 and samples.shape[0] > MAX_CHANNELS:
        raise AudioError(
            f"{name} has shape {samples.shape}: {samples.shape[0]} channels",
            fix="Channels come first; transpose it.",
        )
    if samples.dtype.kind == "i":
        full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
        return samples.astype(np.float32, order="C") / full_scale
    with np.errstate(over="ignore"):  # a double too large for float32 is reported below
        floats = np.ascontiguousarray(samples, dtype=np.float32)
    check_finite(floats, name)
    return floats


def check_finite(
    x: npt.NDArray[np.float32], name: str = "x", *, path: str | None = None, first: int = 0
) -> None:
    """Raise AudioError, with the place of the first bad sample, if `x` holds NaN or an infinity.

    Parameters
    ----------
    x : numpy.ndarray
        float32, contiguous, of shape ``(n,)`` or ``(channels, n)``.
    name : str, optional
        What `x` is, for the message.
    path : str, optional
        The file that it comes from.
    first : int, optional
        Index in the whole signal of the first sample of `x`.
    """
    if native.finite(x.reshape(-1)):
        return
    bad = ~np.isfinite(x)
    index = int(np.argmax(bad.any(axis=0))) if x.ndim == 2 else int(np.argmax(bad))
    value = x[..., index]
    place = f"sample {first + index}"
    if x.ndim == 2:
        channel = int(np.argmax(~np.isfinite(value)))
        place, value = f"{place} of channel {channel}", value[channel]
    raise AudioError(
        f"{name} has {value} at {place}",
        path=path,
        fix="Repair or leave out the clip: one such sample spoils every feature around it.",
    )
