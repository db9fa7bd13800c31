"""Plans of the log-mel kernel: all that depends on a family of features and not on the signal.

The method is explained in ``csrc/stft_mel.c``. A :class:`Plan` holds, as read-only arrays computed here in
float64, what the compiled core and the Numba twin read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# ln(1 + f) = f (c0 + c1 f + ...) on [sqrt(1/2) - 1, sqrt(2) - 1], at most 3.4e-8 off: the fit of
# tools/fit_log.py.
LOG_TERMS = (
    0.9999998139148344,
    -0.5000066739904269,
    0.3333618204403414,
    -0.24959343687718838,
    0.19873045741992756,
    -0.17333466278542262,
    0.16419995489628314,
    -0.10102240482651265,
)
_RADICES = (8, 4, 5, 7, 3, 2)  # of the passes over columns, best first; 16 points take one pass
_FIRST_RADICES = (32, 16, 8, 4, 5, 7, 3, 2, 1)  # of the stage on real samples, best first
_ROWS_BUILT_IN = (16, 20, 25, 32)  # with radix 32, see choose_real_stage in csrc/stft_mel.c
_HIGH_BITS = 12  # of the exponent's factor; exponents have 8, so their product is exact in float32


@dataclass(frozen=True, eq=False)
class Plan:
    """What a family's features are; make it once, share it between threads.

    Parameters
    ----------
    window : numpy.ndarray
        Float64 weights of a frame, shape (frame_length,). A scale of the signal may be folded in.
    hop_length : int
        Samples from one frame to the next.
    n_fft : int
        Points of the transform, at least ``frame_length``; a product of 2, 3, 5 and 7.
    filters : numpy.ndarray
        Float64 filter bank, shape (n_fft // 2 + 1, n_mels): non-negative triangles in order, of
        which each overlaps its neighbours only.
    offset : int
        Frame t starts at sample ``hop_length * t - offset``.
    boundary : {"zeros", "mirror"}
        What lies before the first sample and after the last one of the padded signal.
    emphasis : float
        Coefficient c of the pre-emphasis y[i] = x[i] - c x[i-1].
    emphasis_kind : {None, "signal", "frame"}
        Whether it runs along the signal (y[0] = x[0], zeros outside) or in each frame by itself
        (y[0] = (1 - c) x[0]).
    magnitude : bool
        Whether filters weigh the magnitude of a bin rather than its power.
    power_floor : float
        Least power of a bin that is seen (with ``magnitude`` only).
    floor, add : float
        Energies v become max(v, floor) + add before the logarithm.
    scale, shift : float
        The feature is ``scale * ln(energy) + shift``.
    linear : bool
        Whether the energy itself is written instead, for :func:`normalize`.
    span : float, optional
        Features are raised to the largest of their call less this.
    bands_first : bool
        Whether features have shape (n_mels, frames) instead of (frames, n_mels). The feature of ``floor``
        is then exactly the least one; ``add`` and ``linear`` do not go with it.
    precision : {"float", "double"}
        What the transform is computed in, up to the power of a bin.
    """

    window: npt.NDArray[np.float64]
    hop_length: int
    n_fft: int
    filters: npt.NDArray[np.float64]
    offset: int = 0
    boundary: Literal["zeros", "mirror"] = "zeros"
    emphasis: float = 0.0
    emphasis_kind: Literal["signal", "frame"] | None = None
    magnitude: bool = False
    power_floor: float = 0.0
    floor: float = 0.0
    add: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    linear: bool = False
    span: float | None = None
    bands_first: bool = False
    precision: Literal["float", "double"] = "double"

    frame_length: int = field(init=False)
    n_mels: int = field(init=False)
    limit: float = field(init=False)
    """Largest sample that cannot make an energy overflow float32."""

    tables: dict[str, Any] = field(init=False, repr=False)
    """What the kernels read besides the parameters, by the names in ``csrc/stft_mel.h``."""

    forms: dict[str, Any] = field(init=False, repr=False, default_factory=dict)
    """The plan as each core wants it, once it has run there."""

    def __post_init__(self) -> None:
        window = np.asarray(self.window, dtype=np.float64)
        filters = np.asarray(self.filters, dtype=np.float64)
        if window.ndim != 1 or not 1 <= window.size <= self.n_fft:
            raise ValueError(f"a window of shape {window.shape} does not fit n_fft={self.n_fft}")
        if filters.ndim != 2 or filters.shape[0] != self.n_fft // 2 + 1 or filters.shape[1] < 1:
            raise ValueError(
                f"filters must have shape ({self.n_fft // 2 + 1}, n_mels), not {filters.shape}"
            )
        if self.hop_length < 1 or self.offset < 0:
            raise ValueError(f"cannot hop by {self.hop_length} from {-self.offset}")
        if not self.floor + self.add >= np.finfo(np.float32).tiny:
            raise ValueError("the logarithm needs a positive floor or a positive addend")
        if self.boundary == "mirror" and self.emphasis_kind == "signal":
            raise ValueError("emphasis along the signal goes with a boundary of zeros only")
        if self.bands_first and (self.linear or self.add):
            raise ValueError("bands first go with a logarithm and without an addend only")
        if self.precision not in ("float", "double"):
            raise ValueError(f"there is no precision {self.precision!r}")
        # Zeros at either end of a window (one in the middle of n_fft) are left out: that moves a frame in
        # time, which no magnitude shows. What is made of whole frames keeps them.
        zeros_before, zeros_after = 0, window.size
        if self.emphasis_kind != "frame" and window.any():
            zeros_before, last = np.flatnonzero(window)[[0, -1]].tolist()
            zeros_after = last + 1
        transform = make_transform(window[zeros_before:zeros_after], self.n_fft, self.precision)
        bank = make_bank(filters)
        logarithm = make_logarithm(self.scale)
        tables: dict[str, Any] = {
            **transform,
            **bank,
            **logarithm,
            "frame_length": zeros_after - zeros_before,
            "offset": self.offset - zeros_before,
            # The square root starts from its reciprocal, so zero is kept away from it.
            "power_floor": max(self.power_floor, 1e-37),
            "lowest": self.scale * math.log(self.floor) + self.shift
            if self.bands_first
            else -math.inf,
        }
        # |X| <= sum |window| max |y|, and |y| <= 2 max |x|; twice that, to be on the safe side.
        gain = 4.0 * np.abs(window).sum() * max(1.0, float(filters.sum(axis=0).max()))
        limit = math.sqrt(float(np.finfo(np.float32).max)) / (2.0 * gain)
        for table in tables.values():
            if isinstance(table, np.ndarray):
                table.flags.writeable = False
        for name, value in {
            "frame_length": window.size,
            "n_mels": filters.shape[1],
            "limit": limit,
            "tables": tables,
        }.items():
            object.__setattr__(self, name, value)

    def frames(self, length: int) -> int:
        """Return how many frames lie wholly within ``length`` samples and the offset before them."""
        return max(0, 1 + (length + self.offset - self.frame_length) // self.hop_length)


# ---- The parts of a plan.


def make_transform(
    window: npt.NDArray[np.float64], n_fft: int, precision: str = "double"
) -> dict[str, Any]:
    """Return the tables of the transform; the factorisation is that of ``csrc/stft_mel.c``.

    Parameters
    ----------
    window : numpy.ndarray
        Float64 weights of a frame, at most ``n_fft``.
    n_fft : int
        Points of the transform.

    Returns
    -------
    dict
        ``radix``, ``columns``, ``rows``, ``step``, ``radices``, ``window``, ``turns``, ``pass_turns``,
        ``bins``.

    Raises
    ------
    ValueError
        If ``n_fft`` has a prime factor above 7.
    """
    radix = 25 if n_fft == 400 else next(r for r in _FIRST_RADICES if n_fft % r == 0)
    columns = n_fft // radix
    # Good's mapping; other radices may have factors in common with the columns.
    coprime = radix == 25 or (radix % 2 == 0 and radix < 32)
    step = radix if coprime else 1
    radices = factorise(columns)
    rows = radix
    if radix == 32:
        needed = -(-window.size // columns)
        rows = next(r for r in _ROWS_BUILT_IN if r >= needed)

    real = {"float": np.float32, "double": np.float64}[precision]
    padded = np.zeros(n_fft)
    padded[: window.size] = window
    sample = (
        columns * np.arange(rows) + step * np.arange(columns)[:, None]
    ) % n_fft  # [column, row]
    half = np.arange(1, radix // 2 + 1)

    pass_turns = []
    size = columns
    for r in radices[:-1]:
        points = size // r
        pass_turns.append(_turns(np.arange(points)[:, None] * np.arange(1, r), size).ravel())
        size = points

    # Output q of a pass over a block goes to part q of it: place = sum of q_i (size after pass i),
    # frequency = sum of q_i (product of the radices before pass i).
    frequency = np.zeros(1, dtype=np.int64)
    done = 1
    for r in radices:
        frequency = (frequency[:, None] + done * np.arange(r)).ravel()
        done *= r
    q = np.arange(radix // 2 + 1)[:, None]
    if coprime:  # the k that is q modulo the radix and `frequency` modulo the columns
        q = q * columns * pow(columns, -1, radix)
        frequency = frequency * pow(radix, -1, columns)
    bin_of = (q + radix * frequency) % n_fft
    bin_of = np.minimum(bin_of, n_fft - bin_of)
    # Some bins come twice, as conjugates; the second one goes to a row that nobody reads.
    flat = bin_of.ravel()
    again = np.ones(flat.size, dtype=bool)
    again[np.unique(flat, return_index=True)[1]] = False
    flat[again] = n_fft // 2 + 1
    return {
        "radix": radix,
        "columns": columns,
        "rows": rows,
        "radices": np.array(radices, dtype=np.int32),
        "step": step,
        "window": np.ascontiguousarray(padded[sample], dtype=real),
        "turns": _turns(np.arange(columns)[:, None] * half * (not coprime), n_fft).astype(real),
        "pass_turns": np.concatenate([*pass_turns, np.zeros(2)]).astype(real),
        "bins": flat.reshape(bin_of.shape).astype(np.int32),
    }


def factorise(length: int) -> list[int]:
    """Return the radices of a transform of ``length`` points, in the order of the passes."""
    if length == 16:
        return [16]
    if length % 10 == 0:
        return [*factorise(length // 10), 10] if length > 10 else [10]
    left, radices = length, []
    for radix in _RADICES:
        while left % radix == 0:
            radices.append(radix)
            left //= radix
    if left != 1:
        raise ValueError(f"a transform of a multiple of {left} points is not provided for")
    return radices[::-1] or [1]


def _turns(numerator: npt.NDArray[np.int64], denominator: int) -> npt.NDArray[np.float64]:
    """Return cos and sin of 2 pi numerator / denominator along a new last axis."""
    angle = 2.0 * np.pi * (numerator % denominator) / denominator
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def make_bank(filters: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the filter bank bin by bin, in segments.

    Triangles overlap their neighbours only, so a bin feeds filter m, on its rising side, and m - 1,
    on its falling side: it is then in segment m. A bin that feeds only one filter m may be in
    segment m or m + 1, and one that feeds none anywhere; segments must not decrease from bin to
    bin, so the lowest allowed one is taken. Bins outside all filters, at either end, are left out.

    Parameters
    ----------
    filters : numpy.ndarray
        Float64, shape (bins, n_mels).

    Returns
    -------
    dict
        ``first_bin``, ``segment_bins`` (number of bins in each segment), ``rising`` and ``falling``
        (weights of each bin from ``first_bin`` on).

    Raises
    ------
    ValueError
        If the filters are not such triangles.
    """
    if not np.isfinite(filters).all() or (filters < 0).any():
        raise ValueError("a weight of the filter bank is negative or not finite")
    n_mels = filters.shape[1]
    fed = [np.flatnonzero(row) for row in filters]
    used = [number for number, targets in enumerate(fed) if targets.size]
    first, last = (used[0], used[-1]) if used else (0, -1)
    segment_bins = np.zeros(n_mels + 1, dtype=np.int32)
    rising, falling = [0.0], [0.0]  # one more than needed, so that no array is empty
    segment = 0
    for number in range(first, last + 1):
        targets = fed[number]
        if targets.size:
            if targets[-1] > targets[0] + 1 or segment > targets[0] + 1:
                raise ValueError("the filters are not triangles that overlap their neighbours only")
            segment = max(segment, int(targets[-1]))
        segment_bins[segment] += 1
        rising.append(float(filters[number, segment]) if segment < n_mels else 0.0)
        falling.append(float(filters[number, segment - 1]) if segment > 0 else 0.0)
    return {
        "first_bin": first,
        "segment_bins": segment_bins,
        "rising": np.array([*rising[1:], 0.0], dtype=np.float32),
        "falling": np.array([*falling[1:], 0.0], dtype=np.float32),
    }


def make_logarithm(scale: float) -> dict[str, Any]:
    """Return the coefficients of ``scale * ln``.

    The factor of the binary exponent is split in two floats: the product of the high one with any
    exponent is exact, and the low one is a correction.
    """
    factor = scale * math.log(2.0)
    mantissa, exponent = math.frexp(factor)
    high = math.ldexp(round(math.ldexp(mantissa, _HIGH_BITS)), exponent - _HIGH_BITS)
    return {
        "exponent_high": high,
        "exponent_low": factor - high,
        "log_terms": (scale * np.array(LOG_TERMS)).astype(np.float32),
    }
