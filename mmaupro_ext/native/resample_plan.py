"""Plans of the overlap-save FFT resampler: everything that the kernels read, as plain arrays.

The C kernel (`csrc/resample.c`, which explains the method) and its Numba twin run the same plan.
All design is done here, in float64, once for a pair of rates; the arrays are read-only and shared
by all threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

# Full scale of the samples that decoders give: what resampling takes after mixing has a full scale of 1.
FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31, "float32": 1.0}

# Response of soxr HQ, the default of librosa, so that features stay where published numbers were
# made. Edges in units of the lower of the two Nyquist frequencies; attenuation in dB.
PASS_EDGE = 0.913
STOP_EDGE = 1.0
ATTENUATION = 135.0

# What the kernels can transform. A prime factor without a butterfly of its own costs `prime`
# operations a point.
MAX_POINTS = 1 << 16
MAX_RADIX = 61
CODELETS = (2, 3, 4, 5, 7, 8, 9)
# The kernels move squares of up to 16 samples, and a block must hold at least one.
MIN_HOP = 16
# Longer blocks waste less on overlap, but 32 of them at once (AVX-512) then leave the second-level
# cache.
USUAL_POINTS = 1 << 12
# Points of the shorter transform. Bins from the edge on are left out, which cuts the filter off where
# it is at -134 dB, and what that leaks into the pass band grows as the transition band gets short of
# bins: -127 dB with 15 of them, -129 dB with 29, -132 dB with 45, which is what 1024 points hold.
LEAST_POINTS = 1 << 10

# Vector operations for each point of a stage with that radix, twiddles and memory included
# (counted, then corrected by timing). They only steer the choice of the block length.
STAGE_COST = {2: 6.0, 3: 7.5, 4: 6.5, 5: 9.5, 7: 12.5, 8: 8.5, 9: 11.0}
TRANSPOSE_COST = 6.0


@dataclass(frozen=True, eq=False)
class Transform:
    """One complex FFT by decimation in frequency.

    Attributes
    ----------
    points : int
        Length, the product of `radices`.
    radices : tuple of int
        Radix of each stage, first stage first.
    twiddles : tuple of numpy.ndarray
        Per stage, float32 of shape ``(m * (radix - 1), 2)``: cosine and sine of ``-2 pi j q / n``
        for butterfly ``j < m`` and output ``1 <= q < radix``. A radix that is not in `CODELETS` has
        its `radix` roots of unity in front.
    """

    points: int
    radices: tuple[int, ...]
    twiddles: tuple[npt.NDArray[np.float32], ...]


@dataclass(frozen=True, eq=False)
class ResamplePlan:
    """What the kernels need to resample from one rate to another.

    Attributes
    ----------
    orig_sr, target_sr : int
        Rates in Hz.
    up, down : int
        ``target_sr / orig_sr`` in lowest terms.
    forward, inverse : Transform
        Transforms of a block of input and of output; ``forward.points / inverse.points = down /
        up``.
    hop_in, hop_out : int
        Samples between the starts of consecutive blocks, and the samples that a block yields.
    context : int
        Input samples of a block before the instant of its first output.
    half_length : int
        Input samples on either side of an output's instant that the filter reaches.
    bin_row : numpy.ndarray
        int32 of shape ``(forward.points,)``: row of the output spectrum for each row that the
        forward transform leaves, or -1.
    response : numpy.ndarray
        float32 of shape ``(forward.points, 2)``: complex filter at those rows.
    zero_row : numpy.ndarray
        int32: rows of the output spectrum that no bin fills.
    out_row : numpy.ndarray
        int32 of shape ``(hop_out,)``: row in which the output transform leaves each kept sample.
    forms : dict
        The plan as each core wants it, once it has run there.
    """

    orig_sr: int
    target_sr: int
    up: int
    down: int
    forward: Transform
    inverse: Transform
    hop_in: int
    hop_out: int
    context: int
    half_length: int
    bin_row: npt.NDArray[np.int32]
    response: npt.NDArray[np.float32]
    zero_row: npt.NDArray[np.int32]
    out_row: npt.NDArray[np.int32]
    forms: dict[str, Any] = field(init=False, repr=False, default_factory=dict)


def kaiser_sinc(orig_sr: int, target_sr: int) -> tuple[float, int, float]:
    """Return the prototype low-pass as ``(cutoff, half_length, beta)``.

    The impulse response at ``t`` input samples from its centre is ``cutoff * sinc(cutoff * t) *
    kaiser(t / half_length)``, with Kaiser's formulas for the length and for beta (J. F. Kaiser,
    "Nonrecursive digital filter design using the I0-sinh window function", 1974).

    Returns
    -------
    cutoff : float
        -6 dB point in units of the input's Nyquist frequency.
    half_length : int
        Input samples on either side of the centre.
    beta : float
        Shape of the window.
    """
    lower = min(orig_sr, target_sr) / orig_sr  # lower Nyquist frequency, input's = 1
    transition = math.pi * (STOP_EDGE - PASS_EDGE) * lower
    taps = math.ceil((ATTENUATION - 7.95) / (2.285 * transition)) + 1
    beta = 0.1102 * (ATTENUATION - 8.7)
    return (STOP_EDGE + PASS_EDGE) / 2 * lower, taps // 2, beta


def lowpass(orig_sr: int, target_sr: int) -> npt.NDArray[np.float64]:
    """Return the taps of the filter at the input rate: odd length, symmetric, sum 1."""
    cutoff, half, beta = kaiser_sinc(orig_sr, target_sr)
    t = np.arange(-half, half + 1)
    taps = cutoff * np.sinc(cutoff * t) * np.kaiser(2 * half + 1, beta)
    return taps / taps.sum()


def prime_factors(n: int) -> list[int]:
    """Return the prime factors of `n`, ascending, with repetition."""
    factors = []
    prime = 2
    while prime * prime <= n:
        while n % prime == 0:
            factors.append(prime)
            n //= prime
        prime += 1
    return [*factors, n] if n > 1 else factors


def radices_of(points: int) -> tuple[int, ...] | None:
    """Return the stages of a transform, or None where a prime factor is above `MAX_RADIX`.

    Large radices come first, where the sub-transforms still have to be fetched from a far cache
    anyway; 8 and 4 come last, because the last stage also filters and scatters. Twos are taken
    three at a time (a radix-8 butterfly costs less a point than 4 and 2), threes two at a time.
    """
    primes = prime_factors(points)
    if any(p > MAX_RADIX for p in primes):
        return None
    stages = sorted((p for p in primes if p > 3), reverse=True)
    threes, twos = primes.count(3), primes.count(2)
    stages += [9] * (threes // 2) + [3] * (threes % 2)
    if twos % 3 == 0:
        stages += [8] * (twos // 3)
    elif twos % 3 == 2:
        stages += [4] + [8] * (twos // 3)
    elif twos == 1:
        stages += [2]
    else:  # 4 * 4 is cheaper than 8 * 2
        stages += [4, 4] + [8] * ((twos - 4) // 3)
    return tuple(stages)


def digit_reversed(radices: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return the row in which decimation in frequency leaves each bin.

    (Or each sample, where the transform is an inverse.) Stage one puts the bins ``q mod radix``
    into the q-th part of the rows, and so on within each part.
    """
    rows = np.zeros(1, np.int64)
    for radix in reversed(radices):
        # Bin k of this stage is bin k // radix of the sub-transform k % radix.
        rows = (rows[:, None] + len(rows) * np.arange(radix)).ravel()
    return rows


def make_transform(radices: tuple[int, ...]) -> Transform:
    """Return the transform with these stages."""
    points = n = math.prod(radices)
    tables = []
    for radix in radices:
        m = n // radix
        turns = np.arange(m)[:, None] * np.arange(1, radix) / n
        if radix not in CODELETS:
            turns = np.concatenate([np.arange(radix) / radix, turns.ravel()])
        angle = -2 * np.pi * turns.ravel()
        tables.append(_frozen(np.stack([np.cos(angle), np.sin(angle)], axis=1), np.float32))
        n = m
    return Transform(points, radices, tuple(tables))


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray:
    array = np.ascontiguousarray(values, dtype=dtype)
    array.flags.writeable = False
    return array


def _cost(points: int, radices: tuple[int, ...]) -> float:
    stages = sum(STAGE_COST.get(radix, 2.0 * radix) for radix in radices)
    return points * (stages + TRANSPOSE_COST)


def _overlap(up: int, down: int, half_length: int) -> tuple[int, int]:
    """Return a block's spoilt outputs at either end, and the inputs before the first good one."""
    skip = -(-half_length * up // down)
    return skip, -(-skip * down // up)


def _block_length(up: int, down: int, half_length: int) -> int | None:
    """Return the factor B for which an output sample costs least; None if none is in bounds."""
    skip, _ = _overlap(up, down, half_length)
    possible = [
        block
        for block in _smooth_numbers(MAX_POINTS // max(up, down))
        if (block * up - 2 * skip) // up * up >= MIN_HOP
    ]
    # Where no block is long enough (quotients of 64 and more), any that is possible.
    possible = [block for block in possible if block * min(up, down) >= LEAST_POINTS] or possible
    best, best_cost = None, math.inf
    for block in possible:
        shortest = possible[0] * max(up, down)
        if block * max(up, down) > (USUAL_POINTS if shortest <= USUAL_POINTS else 1.5 * shortest):
            break
        forward, inverse = radices_of(block * down), radices_of(block * up)
        if forward is None or inverse is None:
            return None
        kept = (block * up - 2 * skip) // up * up
        cost = (_cost(block * down, forward) + _cost(block * up, inverse)) / kept
        if cost < best_cost:
            best, best_cost = block, cost
    return best


def _smooth_numbers(limit: int) -> list[int]:
    """Return the numbers up to `limit` whose prime factors are 2, 3, 5 and 7, ascending."""
    numbers = [1]
    for prime in (2, 3, 5, 7):
        numbers = [
            n * prime**e
            for n in numbers
            for e in range(limit.bit_length())
            if n * prime**e <= limit
        ]
    return sorted(numbers) if limit >= 1 else []


@lru_cache(maxsize=64)
def resample_plan(orig_sr: int, target_sr: int) -> ResamplePlan | None:
    """Return the plan for a pair of rates, or None where the FFT route does not reach.

    Parameters
    ----------
    orig_sr, target_sr : int
        Rates in Hz, different from each other.

    Returns
    -------
    ResamplePlan or None
        None if a prime factor of ``target_sr / orig_sr`` in lowest terms is above `MAX_RADIX`, or
        if the filter does not fit into a transform of `MAX_POINTS` points.
    """
    common = math.gcd(orig_sr, target_sr)
    up, down = target_sr // common, orig_sr // common
    _, half, _ = kaiser_sinc(orig_sr, target_sr)
    block = _block_length(up, down, half)
    return None if block is None else make_plan(orig_sr, target_sr, block)


def make_plan(orig_sr: int, target_sr: int, block: int) -> ResamplePlan:
    """Return the plan whose transforms have ``block * down`` and ``block * up`` points."""
    common = math.gcd(orig_sr, target_sr)
    up, down = target_sr // common, orig_sr // common
    taps = lowpass(orig_sr, target_sr)
    half = len(taps) // 2
    n_in, n_out = block * down, block * up
    forward_radices, inverse_radices = radices_of(n_in), radices_of(n_out)
    if forward_radices is None or inverse_radices is None:
        raise ValueError(f"no transform of {n_in} or {n_out} points")
    skip, context = _overlap(up, down, half)
    hop_units = (n_out - 2 * skip) // up

    # Zero-phase response: centre the taps on sample 0 of the circle.
    circle = np.zeros(n_in)
    circle[np.arange(-half, half + 1) % n_in] = taps
    response = np.fft.fft(circle) / n_in
    # The first kept output lies `skip` output samples into the block, which is a whole number of
    # input samples only after a shift by less than one of them.
    delay = context - skip * down / up
    edge = (min(n_in, n_out) + 1) // 2  # bins -edge+1 .. edge-1 are below both Nyquist frequencies
    bins = np.arange(-edge + 1, edge)
    response = response[bins] * np.exp(2j * np.pi * bins * delay / n_in)

    rows = digit_reversed(forward_radices)[bins % n_in]
    bin_row = np.full(n_in, -1)
    bin_row[rows] = bins % n_out
    row_response = np.zeros((n_in, 2))
    row_response[rows] = np.stack([response.real, response.imag], axis=1)
    return ResamplePlan(
        orig_sr=orig_sr,
        target_sr=target_sr,
        up=up,
        down=down,
        forward=make_transform(forward_radices),
        inverse=make_transform(inverse_radices),
        hop_in=hop_units * down,
        hop_out=hop_units * up,
        context=context,
        half_length=half,
        bin_row=_frozen(bin_row, np.int32),
        response=_frozen(row_response, np.float32),
        zero_row=_frozen(np.setdiff1d(np.arange(n_out), bins % n_out), np.int32),
        out_row=_frozen(digit_reversed(inverse_radices)[skip : skip + hop_units * up], np.int32),
    )
