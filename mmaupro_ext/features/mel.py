"""Windows, mel filter banks and mel energies in float64: what every definition in this room is made of."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Scale = Literal["slaney", "htk", "kaldi"]


def hann(length: int, *, symmetric: bool = False) -> Float64:
    """Return the Hann window, periodic unless ``symmetric``."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(length) / (length - symmetric))


def hamming(length: int) -> Float64:
    """Return the symmetric Hamming window, 0.54 - 0.46 cos."""
    return 0.54 - 0.46 * np.cos(2.0 * np.pi * np.arange(length) / (length - 1))


def centred(window: Float64, n_fft: int) -> Float64:
    """Return a window between zeros, in the middle of ``n_fft`` points."""
    before = (n_fft - window.size) // 2
    return np.pad(window, (before, n_fft - window.size - before))


def hz_to_mel(hz: npt.ArrayLike, scale: Scale) -> Float64:
    """Return frequencies in Hz as mel.

    Slaney's scale is linear below 1000 Hz (200/3 Hz a mel) and logarithmic above, 27 mels for a factor of
    6.4 (M. Slaney, *Auditory Toolbox*, 1998). HTK's is logarithmic to base 10 and Kaldi's to base e.
    """
    hz = np.asarray(hz, dtype=np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hz / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + hz / 700.0)
    above = 15.0 + 27.0 / np.log(6.4) * np.log(np.maximum(hz, 1000.0) / 1000.0)
    return np.where(hz < 1000.0, hz * 3.0 / 200.0, above)


def mel_to_hz(mel: npt.ArrayLike, scale: Scale) -> Float64:
    """Return the inverse of :func:`hz_to_mel`."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * np.expm1(mel / 1127.0)
    above = 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0))
    return np.where(mel < 15.0, mel * 200.0 / 3.0, above)


def filter_bank(
    n_fft: int,
    n_mels: int,
    lowest_hz: float = 0.0,
    highest_hz: float = 8000.0,
    *,
    scale: Scale,
    sampling_rate: int = 16000,
    equal_area: bool = False,
    triangles_in_mel: bool = False,
) -> Float64:
    """Return a bank of triangular filters whose corners are equally spaced in mel.

    Parameters
    ----------
    n_fft : int
        Points of the transform.
    n_mels : int
        Number of filters.
    lowest_hz, highest_hz : float
        Lower corner of the first filter and upper corner of the last one.
    scale : {"slaney", "htk", "kaldi"}
        The mel scale, see :func:`hz_to_mel`.
    sampling_rate : int
        In Hz.
    equal_area : bool
        Whether filters have the area 1 (in Hz) rather than the height 1.
    triangles_in_mel : bool
        Whether the sides are straight over mel (Kaldi) rather than over Hz.

    Returns
    -------
    numpy.ndarray
        Float64, shape (n_fft // 2 + 1, n_mels): the weight of each bin in each filter.
    """
    mels = np.linspace(hz_to_mel(lowest_hz, scale), hz_to_mel(highest_hz, scale), n_mels + 2)
    hz = np.arange(n_fft // 2 + 1) * (sampling_rate / n_fft)
    corners_hz = mel_to_hz(mels, scale)
    corners, bins = (mels, hz_to_mel(hz, scale)) if triangles_in_mel else (corners_hz, hz)
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    at = bins[:, None]
    bank = np.maximum(np.minimum((at - low) / (centre - low), (high - at) / (high - centre)), 0.0)
    return bank * (2.0 / (corners_hz[2:] - corners_hz[:-2])) if equal_area else bank


def energies(
    signal: Float64,
    window: Float64,
    hop_length: int,
    filters: Float64,
    *,
    frames: int | None = None,
    magnitude: bool = False,
    power_floor: float = 0.0,
    frame_emphasis: float = 0.0,
) -> Float64:
    """Return the mel energies of the frames of a signal that is already padded: slow, and by the letter.

    Parameters
    ----------
    signal : numpy.ndarray
        Float64 samples; frame t is ``signal[hop_length * t:][:len(window)]``.
    window : numpy.ndarray
        Float64 weights of a frame.
    hop_length : int
        Samples from one frame to the next.
    filters : numpy.ndarray
        Float64, shape (n_fft // 2 + 1, n_mels), n_fft even.
    frames : int, optional
        How many; default: all that lie within the signal.
    magnitude : bool
        Whether filters weigh the magnitude of a bin rather than its power.
    power_floor : float
        Least power of a bin that is seen (with ``magnitude`` only).
    frame_emphasis : float
        Coefficient c of the pre-emphasis in each frame: y[i] = x[i] - c x[i-1], y[0] = (1 - c) x[0].

    Returns
    -------
    numpy.ndarray
        Float64, shape (frames, n_mels).
    """
    n_fft = 2 * (len(filters) - 1)
    count = max(0, 1 + (signal.size - window.size) // hop_length) if frames is None else frames
    found = np.empty((count, filters.shape[1]))
    if not count:
        return found
    cut = np.lib.stride_tricks.sliding_window_view(signal, window.size)[::hop_length][:count]
    for first in range(0, count, 1000):  # bounds the memory on long audio
        part = np.array(cut[first : first + 1000])
        if frame_emphasis:
            part -= frame_emphasis * np.concatenate([part[:, :1], part[:, :-1]], axis=1)
        spectrum = np.abs(np.fft.rfft(part * window, n_fft)) ** 2
        if magnitude:
            spectrum = np.sqrt(np.maximum(spectrum, power_floor))
        found[first : first + 1000] = spectrum @ filters
    return found
