"""Downmix of arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio.validate import valid_signal


def to_mono(x: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the mean over the channels.

    Parameters
    ----------
    x : array_like
        Samples of shape ``(n,)`` or ``(channels, n)``: floating, or int16 or int32 PCM (scaled to
        [-1, 1)).

    Returns
    -------
    numpy.ndarray
        float32 of shape ``(n,)``, rounded once. It may share memory with an `x` that is mono
        already.

    Raises
    ------
    AudioError
        If `x` is empty, not finite, not numeric or has more than two axes.

    Notes
    -----
    The mean, as librosa and transformers do it. Channels of opposite phase cancel; to hear
    what a model loses in spatial clips, load with ``channels="keep"``.

    Examples
    --------
    >>> to_mono([[1.0, 0.0], [0.0, 0.0]])
    array([0.5, 0. ], dtype=float32)
    """
    signal = valid_signal(x)
    if signal.ndim == 1:
        return signal
    return native.mean(np.ascontiguousarray(signal.T))
