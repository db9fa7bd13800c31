"""Samples, checked, into the kernels: the one module of this room that knows :mod:`mmaupro_ext.native`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio.validate import check_finite
from mmaupro_ext.errors import AudioError, ConfigError

FloatArray = npt.NDArray[np.float32]
Plan = native.Plan

# Full scale of the integer sample formats that sound files hold; dividing by it is exact.
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def as_samples(x: npt.ArrayLike, *, pcm: bool = True) -> FloatArray:
    """Return one channel of samples as contiguous float32, copied only where needed.

    Whether all samples are finite is not checked here: the kernels find out on the way.

    Parameters
    ----------
    x : array_like
        Samples, shape (n,): floating point or integers.
    pcm : bool
        Whether integers are PCM, int16 or int32, and are scaled so that full scale is 1 (int16 exactly;
        int32 rounded to float32's 24 bits). Else they are taken by value, as transformers takes them.

    Returns
    -------
    numpy.ndarray
        Float32, shape (n,), C-contiguous and aligned.

    Raises
    ------
    AudioError
        If ``x`` is not one-dimensional or not of such a type.
    """
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors with gradients
        raise AudioError(
            f"the samples cannot be read as an array ({error})",
            fix="Pass a one-dimensional numpy array",
        ) from error
    if array.ndim != 1:
        raise AudioError(
            f"one channel of samples, shape (n,), is needed, but the array has shape {array.shape}",
            fix="Mix the channels first (mmaupro_ext.audio.load does) or pass one of them",
        )
    full_scale = _FULL_SCALE.get(array.dtype) if pcm else None
    if full_scale is not None:
        return (array / np.float64(full_scale)).astype(np.float32)
    if array.dtype.kind not in ("f" if pcm else "fiub"):
        raise AudioError(
            f"samples of type {array.dtype} have no agreed full scale",
            fix="Pass floating-point samples in [-1, 1], or int16 or int32 PCM",
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found
        return np.require(array, np.float32, ["C", "A"])


def reference_samples(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return samples for a float64 definition: checked as for the kernels, and finite."""
    samples = as_samples(x)
    check_finite(samples, "the audio")
    return samples.astype(np.float64)


def check_rate(sampling_rate: int, wanted_rate: int, what: str = "the features") -> None:
    """Raise AudioError if audio is at another rate, in Hz, than ``what`` is defined at."""
    if sampling_rate != wanted_rate:
        raise AudioError(
            f"{what} is defined at {wanted_rate} Hz, but the audio is at {sampling_rate} Hz",
            fix=f"Convert it first: mmaupro_ext.audio.resample(x, {sampling_rate}, {wanted_rate})",
        )


def need_samples(n: int, least: int, why: str) -> None:
    """Raise AudioError if there are fewer samples than features can be made of."""
    if n < least:
        raise AudioError(
            f"{n} samples are too few: {why} takes at least {least}",
            fix="Leave this clip out, or pad it with zeros",
        )


def buffer_length(n: int, pad_to: int | None, shortest: int) -> int:
    """Return the length of a padded buffer whose ends are mirrored, or say why there is none."""
    padded = n if pad_to is None else whole_number("pad_to", pad_to, 0)
    if n > padded:
        raise AudioError(
            f"{n} samples do not fit in pad_to={padded}, and audio is never cut silently",
            fix="Split it with mmaupro_ext.audio.windows, or leave pad_to out",
        )
    need_samples(padded, shortest, "mirroring the ends")
    return padded


def whole_number(name: str, value: Any, lowest: int, highest: int = 1 << 62) -> int:
    """Return a whole number given by the user; raise ConfigError for anything else."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and lowest <= value <= highest):
        raise ConfigError(f"{name}={value!r}: a whole number from {lowest} to {highest} is needed")
    return int(value)


def raise_unusable(samples: npt.NDArray[Any]) -> None:
    """Raise the AudioError for samples in which a kernel met a NaN, an infinity or an overflow."""
    check_finite(samples, "the audio")
    loudest = int(np.abs(samples).argmax())
    raise AudioError(
        f"the samples are too large for float32 energies (sample {loudest} is "
        f"{samples[loudest]:g})",
        fix="Scale the audio to [-1, 1]",
    )


def features(
    plan: Plan, samples: FloatArray, out: FloatArray, *, padded: int | None = None
) -> None:
    """Write the features of a plan for the first frames of checked samples.

    Parameters
    ----------
    plan : Plan
        The family.
    samples : numpy.ndarray
        From :func:`as_samples`.
    out : numpy.ndarray
        C-contiguous float32 array of shape (frames, n_mels), or (n_mels, frames) where the plan has bands
        first. Written.
    padded : int, optional
        Length in samples of the buffer that holds ``samples`` followed by zeros, where ends are mirrored.
        With bands first the zeros cost nothing. Default: the length of ``samples``.

    Raises
    ------
    AudioError
        If a sample is not finite, or too large for float32 energies; ``out`` is then worthless.
    """
    if plan.bands_first:
        usable = native.log_mel(plan, samples, samples.size if padded is None else padded, out)
    else:
        usable = not math.isnan(native.stft_mel(plan, samples, out, padded=padded))
    if not usable:
        raise_unusable(samples)


def normalize(plan: Plan, values: FloatArray, epsilon: float) -> None:
    """Bring the logarithm of each band to mean 0 and deviation 1, in place.

    Parameters
    ----------
    plan : Plan
        The plan that the values come from, which leaves the logarithm out (``linear``).
    values : numpy.ndarray
        C-contiguous float32 array of shape (frames, n_mels), of at least two frames.
    epsilon : float
        Added to the deviation.
    """
    native.normalize(plan, values, epsilon)
