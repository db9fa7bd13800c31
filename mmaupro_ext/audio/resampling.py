"""Change of sampling rate: for arrays, and which resampler a pair of rates gets."""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType

import numpy as np
import numpy.typing as npt

from mmaupro_ext import extras, native
from mmaupro_ext.audio.validate import valid_rates, valid_signal
from mmaupro_ext.native.resample_plan import MAX_POINTS, MAX_RADIX, ResamplePlan, resample_plan
from mmaupro_ext.util import require_choice

RESAMPLERS = ("native", "soxr")

_log = logging.getLogger(__name__)


def resampler_used(orig_sr: int, target_sr: int, resampler: str = "native") -> str:
    """Say which resampler a pair of rates gets.

    Parameters
    ----------
    orig_sr, target_sr : int
        Rates in Hz.
    resampler : {"native", "soxr"}
        The one asked for.

    Returns
    -------
    str
        ``"none"`` where the rates are equal, ``"native"`` or ``"soxr"``. Native becomes soxr only
        for pairs that the FFT route does not reach (see :func:`resample`). Features depend on it,
        so record it with results.

    Raises
    ------
    AudioError
        If a rate is not a whole number of Hz from 1 to 768 000, or one is over 10 000 times the
        other.
    ConfigError
        If `resampler` is unknown.

    Examples
    --------
    >>> resampler_used(44100, 16000), resampler_used(44101, 16000), resampler_used(16000, 16000)
    ('native', 'soxr', 'none')
    """
    orig_sr, target_sr = valid_rates(orig_sr, target_sr)
    require_choice("resampler", resampler, RESAMPLERS)
    if orig_sr == target_sr:
        return "none"
    return "native" if plan_for(orig_sr, target_sr, resampler) else "soxr"


def resample(
    x: npt.ArrayLike,
    orig_sr: int,
    target_sr: int,
    *,
    resampler: str = "native",
    axis: int = -1,
) -> npt.NDArray[np.float32]:
    """Change the sampling rate of a signal.

    Parameters
    ----------
    x : array_like
        Samples of shape ``(n,)`` or ``(channels, n)``: floating, or int16 or int32 PCM (scaled to
        [-1, 1)).
    orig_sr, target_sr : int
        Rates in Hz, 1 to 768 000.
    resampler : {"native", "soxr"}
        ``"native"``: this package's overlap-save FFT resampler, with the response of soxr HQ:
        within 1e-4 dB up to 0.913 of the lower Nyquist frequency, below -130 dB from that frequency
        on. ``"soxr"``: soxr HQ itself, as librosa's default.
    axis : int, default -1
        Axis of the samples; with 0, `x` has shape ``(n, channels)``.

    Returns
    -------
    numpy.ndarray
        float32 of exactly ``ceil(n * target_sr / orig_sr)`` samples along `axis`, without delay;
        before and after the signal counts as silence. Channels do not influence each other. Where
        the rates are equal, it may share memory with `x`.

    Raises
    ------
    AudioError
        If `x` is empty, not finite, not numeric or has more than two axes, or a rate is out of
        range.
    ConfigError
        If `resampler` is unknown.

    Notes
    -----
    The native route takes every pair of rates whose quotient in lowest terms has prime
    factors up to 61 and fits a transform of 65 536 points: all rates in use (8 to 384 kHz) and odd
    ones such as 11 024 or 47 952 Hz. Other pairs, such as 44 101 to 16 000 Hz, fall back to soxr
    HQ; :func:`resampler_used` tells, and the log says so once for each pair.

    Examples
    --------
    >>> import numpy as np
    >>> second = np.sin(np.arange(44100) * 2 * np.pi * 440 / 44100)
    >>> resample(second, 44100, 16000).shape
    (16000,)
    """
    orig_sr, target_sr = valid_rates(orig_sr, target_sr)
    require_choice("resampler", resampler, RESAMPLERS)
    signal = valid_signal(x, axis=axis)
    if orig_sr == target_sr:
        y = signal
    else:
        channels = signal if signal.ndim == 2 else signal[None]
        y = np.empty(
            (len(channels), native.output_length(signal.shape[-1], orig_sr, target_sr)), np.float32
        )
        plan = plan_for(orig_sr, target_sr, resampler)
        for channel, out in zip(channels, y, strict=True):
            if plan is None:
                out[:] = soxr_hq(channel, orig_sr, target_sr)
            else:
                native.resample(plan, channel, out=out)
        y = y if signal.ndim == 2 else y[0]
    return np.ascontiguousarray(np.moveaxis(y, -1, axis))


def soxr_hq(x: npt.NDArray[np.float32], orig_sr: int, target_sr: int) -> npt.NDArray[np.float32]:
    """Return one channel resampled by soxr HQ, at the exact length (soxr may be one off)."""
    n_out = native.output_length(len(x), orig_sr, target_sr)
    y = _soxr().resample(x, orig_sr, target_sr, quality="HQ")[:n_out]
    return y if len(y) == n_out else np.pad(y, (0, n_out - len(y)))


def _soxr() -> ModuleType:
    extras.require("resampler='soxr', or rates that only it takes,", "soxr")
    return importlib.import_module("soxr")


class SoxrStream:
    """`soxr_hq` piece by piece, to the same bits; with the methods of the native stream.

    Parameters
    ----------
    orig_sr, target_sr : int
        Rates in Hz.
    """

    def __init__(self, orig_sr: int, target_sr: int) -> None:
        self._rates = orig_sr, target_sr
        self._soxr = _soxr().ResampleStream(orig_sr, target_sr, 1, dtype="float32", quality="HQ")
        self._taken = self._given = 0  # samples
        self._complete = np.empty(0, np.float32)

    def room(self, samples: int) -> npt.NDArray[np.float32]:
        """Return where the next samples may be written."""
        return np.empty(samples, np.float32)

    def take(self, x: npt.NDArray[np.float32]) -> None:
        """Take the next samples. Before more of them, `give` the output that they complete."""
        self._complete = self._soxr.resample_chunk(x)
        self._taken += len(x)

    def end(self) -> None:
        """Take no more samples: the rest of the output is complete."""
        rest = native.output_length(self._taken, *self._rates) - self._given
        y = self._soxr.resample_chunk(np.empty(0, np.float32), last=True)[:rest]
        self._complete = y if len(y) == rest else np.pad(y, (0, rest - len(y)))

    @property
    def ready(self) -> int:
        """Number of output samples that are complete and not given yet."""
        return len(self._complete)

    def give(self, out: npt.NDArray[np.float32]) -> None:
        """Write the `ready` samples to `out`."""
        out[:] = self._complete
        self._given += len(self._complete)
        self._complete = np.empty(0, np.float32)


@functools.lru_cache(maxsize=1024)
def plan_for(orig_sr: int, target_sr: int, resampler: str) -> ResamplePlan | None:
    """Return the native plan for a pair of different rates, or None where soxr resamples.

    Raises
    ------
    AudioError
        If the rates are not usable together.
    """
    valid_rates(orig_sr, target_sr)
    if resampler == "soxr":
        return None
    plan = resample_plan(orig_sr, target_sr)
    if plan is None:
        _log.info(
            "%d Hz -> %d Hz is resampled by soxr HQ: the quotient has a prime factor above %d or "
            "needs a transform of more than %d points",
            orig_sr,
            target_sr,
            MAX_RADIX,
            MAX_POINTS,
        )
    return plan
