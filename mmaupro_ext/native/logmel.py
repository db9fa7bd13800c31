"""Old names of what Whisper's features need of :mod:`mmaupro_ext.native.kernels`."""

from __future__ import annotations

import math

import numpy as np

from mmaupro_ext.native import kernels, stft_plan

N_FFT = 400  # samples in a frame
HOP_LENGTH = 160  # samples from one frame to the next
REFLECT = 200  # samples mirrored at either end of the buffer
MELS_MAX = 256
FLOOR_FEATURE = np.float32(-1.5)
RANGE = np.float32(2.0)


class Plan:
    """A filter bank made ready for the kernels."""

    def __init__(self, filters: np.ndarray) -> None:
        filters = np.asarray(filters, np.float32)
        if filters.shape[0] != N_FFT // 2 + 1:
            raise ValueError(
                f"the filter bank must have {N_FFT // 2 + 1} rows, not {filters.shape[0]}"
            )
        if not 1 <= filters.shape[1] <= MELS_MAX:
            raise ValueError(f"cannot use {filters.shape[1]} mel filters")
        self.n_mels = filters.shape[1]
        self.limited, self.open = (
            stft_plan.Plan(
                window=0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT),
                hop_length=HOP_LENGTH,
                n_fft=N_FFT,
                filters=filters.astype(np.float64),
                offset=REFLECT,
                boundary="mirror",
                floor=1e-10,
                scale=0.25 / math.log(10),
                shift=1.0,
                span=span,
                bands_first=True,
                precision="float",
            )
            for span in (2.0, None)
        )


def log_mel(plan: Plan, x: np.ndarray, padded: int, out: np.ndarray, threads: int = 1) -> bool:
    """Write the Whisper features of one signal; return whether they can be used."""
    return kernels.log_mel(plan.limited, x, padded, out)


def frames(
    plan: Plan, x: np.ndarray, padded: int, first: int, last: int, out: np.ndarray
) -> tuple[float, bool]:
    """Write features `first` to ``last - 1`` of a signal, not yet limited to 80 dB."""
    largest = kernels.stft_mel(plan.open, x, out[:, first:last], padded=padded, first=first)
    return max(largest, float(FLOOR_FEATURE)), not math.isnan(largest)


def live_frames(n: int, padded: int) -> int:
    """Return how many frames of `n` samples padded to `padded` are not all padding."""
    return min((n + REFLECT + HOP_LENGTH - 1) // HOP_LENGTH, padded // HOP_LENGTH) if n > 0 else 0
