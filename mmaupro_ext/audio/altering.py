"""What is done to the samples of a clip under a condition (`data.conditions`): the one place for it.

A reference to a clip says so in its key `condition`, so that whatever is keyed by references (caches,
journals) tells altered sound from real. Without that key nothing here is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError

Samples = npt.NDArray[np.float32]
Told = Mapping[str, Any]


def altered(samples: Samples, sampling_rate: int, told: Told) -> Samples:
    """Return the sound that is given in place of a clip.

    Parameters
    ----------
    samples : numpy.ndarray
        float32 of shape ``(n,)`` or ``(channels, n)``; not changed.
    sampling_rate : int
        Of the samples, in Hz.
    told : mapping
        `name` and what it takes: "silence", "reversed", "mono" (each channel becomes the mean of all) and
        "repeat" (nothing changes) take nothing; "noise" takes `seed` and, unless it is to have the level of
        the clip, `sigma`; "fragment" takes `part`, from 1, and `of`; "first" takes `seconds`.

    Returns
    -------
    numpy.ndarray
        float32 with as many channels. Noise is white and Gaussian, each channel drawn by itself, at the root
        mean square of all channels together: what levels say of places is gone, too.

    Raises
    ------
    AudioError
        When nothing is left of the clip, or the condition is not known here.

    Notes
    -----
    Noise is drawn at the rate of the model, by MT19937 as `numpy.random.RandomState` has frozen it.

    Examples
    --------
    >>> altered(np.float32([1, 2, 3, 4, 5]), 16000, {"name": "fragment", "part": 2, "of": 2})
    array([3., 4., 5.], dtype=float32)
    """
    make = _MAKERS.get(told.get("name", ""))
    if make is None:
        raise AudioError(f"there is no way to alter a clip called {told.get('name')!r}")
    made = make(samples, sampling_rate, told)
    if made.shape[-1] == 0:
        raise AudioError(f"is too short: it has no {wording(told)}")
    return np.ascontiguousarray(made, np.float32)


def altered_seconds(seconds: float, told: Told) -> float:
    """Return how long a clip of a stated length is once it is altered."""
    if told.get("name") == "fragment":
        return seconds / told["of"]
    return min(seconds, told["seconds"]) if told.get("name") == "first" else seconds


def wording(told: Told) -> str:
    """Return what is given in place of a clip, in words: for records and messages.

    Examples
    --------
    >>> wording({"name": "fragment", "part": 2, "of": 5})
    'fragment 2 of 5'
    """
    name = str(told.get("name"))
    if name == "fragment":
        return f"fragment {told['part']} of {told['of']}"
    if name == "first":
        return f"first {told['seconds']:g} s"
    if name == "noise":
        return f"noise, {_level(told)}, seed {told['seed']}"
    return name


def _level(told: Told) -> str:
    return f"sigma {told['sigma']:g}" if "sigma" in told else "level of the clip"


def _silence(samples: Samples, rate: int, told: Told) -> Samples:
    return np.zeros_like(samples)


def _noise(samples: Samples, rate: int, told: Told) -> Samples:
    sigma = told.get("sigma")
    if sigma is None:
        sigma = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    draws = np.random.RandomState(told["seed"]).standard_normal(samples.shape)
    return (sigma * draws).astype(np.float32)


def _mono(samples: Samples, rate: int, told: Told) -> Samples:
    mean = np.mean(np.atleast_2d(samples), axis=0, dtype=np.float64)
    return np.broadcast_to(mean, samples.shape)


def _fragment(samples: Samples, rate: int, told: Told) -> Samples:
    length, part, of = samples.shape[-1], told["part"], told["of"]
    return samples[..., (part - 1) * length // of : part * length // of]


_MAKERS: dict[str, Callable[[Samples, int, Told], Samples]] = {
    "silence": _silence,
    "noise": _noise,
    "mono": _mono,
    "fragment": _fragment,
    "first": lambda samples, rate, told: samples[..., : round(told["seconds"] * rate)],
    "reversed": lambda samples, rate, told: samples[..., ::-1],
    "repeat": lambda samples, rate, told: samples,
}
