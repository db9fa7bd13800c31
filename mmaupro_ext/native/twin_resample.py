"""Numba twin of ``csrc/resample.c`` and ``csrc/mix.c``: the same plans, the same method.

A few lines more than 400, with the writer of the butterflies.

Read the C sources for the method; names are the same here. Two things differ. The stages run one
after the other over all rows instead of depth first. And the outputs of a butterfly go to a small
buffer first: with constant offsets there, LLVM sees that the loop over lanes can be a vector operation.
Places in the big buffer are unsigned: an index that might be negative, as one that Python counts from
the end, could not be vectorised, and a slice is an object that Numba counts references to.

The numbers differ from those of the C core by the rounding of operations that are fused in one and not
in the other: at most 6e-7 of full scale at 44.1 kHz, 1e-6 at any pair of rates.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmaupro_ext.native.jit import inline, jit
from mmaupro_ext.native.resample_plan import (
    CODELETS,
    FULL_SCALE,
    MAX_RADIX,
    ResamplePlan,
    Transform,
)

LANES = 16  # PAIRS_PER_BATCH of native/stream.py is a multiple of it
ROW = 2 * LANES  # a row: LANES real parts, then LANES imaginary parts
_LANES = np.uintp(LANES)
AT_ONCE = 64  # rows
_UNSIGNED = np.int32(0x7FFFFFFF)


class TwinPlan(NamedTuple):
    """A plan as flat arrays, so that the same compiled functions serve all plans."""

    radices_in: npt.NDArray[np.int64]
    twiddles_in: npt.NDArray[np.float32]
    radices_out: npt.NDArray[np.int64]
    twiddles_out: npt.NDArray[np.float32]
    hop_in: int
    hop_out: int
    context: int
    bin_row: npt.NDArray[np.int32]
    response: npt.NDArray[np.float32]
    zero_row: npt.NDArray[np.int32]
    out_row: npt.NDArray[np.int32]


def resample_plan(plan: ResamplePlan) -> TwinPlan:
    """Return the plan as the twin reads it."""

    def flat(transform: Transform) -> tuple[npt.NDArray, npt.NDArray]:
        return np.array(transform.radices, np.int64), np.concatenate(transform.twiddles).ravel()

    return TwinPlan(
        *flat(plan.forward),
        *flat(plan.inverse),
        plan.hop_in,
        plan.hop_out,
        plan.context,
        plan.bin_row,
        plan.response,
        plan.zero_row,
        plan.out_row,
    )


# ---- Butterflies, in place, on the rows `step` numbers apart from `first` on. w holds, from t on, the cosine
# and sine by which each output but the first is turned. Outputs wait in u until all inputs are read.
#
# There is one, written out for each radix: Numba has no way to say "unroll this, with these constants".


@inline
def _get(rows, place, to, number):
    base = np.uintp(number * ROW)
    for v in range(ROW):
        to[base + np.uintp(v)] = rows[place + np.uintp(v)]


@inline
def _put(u, number, rows, place):
    base = np.uintp(number * ROW)
    for v in range(ROW):
        rows[place + np.uintp(v)] = u[base + np.uintp(v)]


class _Writer:
    """The body of a loop over lanes, statement by statement. A complex number is a pair of names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, np.float32] = {}  # as float32, or products with them were double

    def begin(self, x: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Begin a loop; return the DFT of the places x."""
        self.lines = []
        return self.dft([self.pair(*place) for place in x])

    def end(self) -> list[str]:
        """Return the loop."""
        head = ["    for v in range(LANES):", "        at = np.uintp(v)"]
        return [*head, *(f"        {line}" for line in self.lines)]

    def put(self, numbered: list[tuple[int, tuple[str, str]]], twiddled: bool = False) -> None:
        """Write numbers to their rows of u, turned by the twiddles on request."""
        for q, (re, im) in numbered:
            if q and twiddled:
                re, im = f"{re} * c{q} - {im} * s{q}", f"{re} * s{q} + {im} * c{q}"
            self.lines += [f"u[{q} * ROW + v] = {re}", f"u[{q} * ROW + LANES + v] = {im}"]

    def name(self, expression: str) -> str:
        self.lines.append(f"x{len(self.lines)} = {expression}")
        return f"x{len(self.lines) - 1}"

    def constant(self, value: float) -> str:
        name = f"C{len(self.constants)}"
        self.constants[name] = np.float32(value)
        return name

    def pair(self, re: str, im: str) -> tuple[str, str]:
        return self.name(re), self.name(im)

    def turned(self, x: tuple[str, str], k: int, n: int) -> tuple[str, str]:
        """Multiply by exp(-2 pi i k / n)."""
        (re, im), turn = x, cmath.exp(-2j * math.pi * k / n)
        if k == 0:
            return x
        if 4 * k == n:
            return im, self.name(f"-{re}")
        if 8 * k == n or 8 * k == 3 * n:
            h = self.constant(math.sqrt(0.5))
            if 8 * k == n:
                return self.pair(f"{h} * ({re} + {im})", f"{h} * ({im} - {re})")
            return self.pair(f"{h} * ({im} - {re})", f"-{h} * ({re} + {im})")
        c, s = self.constant(turn.real), self.constant(turn.imag)
        return self.pair(f"{re} * {c} - {im} * {s}", f"{re} * {s} + {im} * {c}")

    def dft(self, x: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the DFT of the numbers x."""
        n = len(x)
        if n == 2:
            (a, b), (c, d) = x
            return [self.pair(f"{a} + {c}", f"{b} + {d}"), self.pair(f"{a} - {c}", f"{b} - {d}")]
        return self._dft_odd(x) if n % 2 else self._dft_product(x, n // 2)

    def _dft_product(self, x: list[tuple[str, str]], outer: int) -> list[tuple[str, str]]:
        """Inputs a inner + b to outputs c + outer d; outer transforms of inner ones."""
        inner = len(x) // outer
        parts = [self.dft(x[b::inner]) for b in range(inner)]
        y: list[tuple[str, str]] = [("", "")] * len(x)
        for c in range(outer):
            column = [self.turned(parts[b][c], b * c, len(x)) for b in range(inner)]
            for d, value in enumerate(self.dft(column)):
                y[c + outer * d] = value
        return y

    def _dft_odd(self, x: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Sums of x[n] and x[-n] meet only cosines, differences only sines; outputs k and -k share both."""
        n, half = len(x), range(1, len(x) // 2 + 1)
        sums = [self.pair(*(f"{x[j][p]} + {x[n - j][p]}" for p in (0, 1))) for j in half]
        differences = [self.pair(*(f"{x[j][p]} - {x[n - j][p]}" for p in (0, 1))) for j in half]
        cosines = [self.constant(math.cos(2 * math.pi * k / n)) for k in half]
        sines = [self.constant(math.sin(2 * math.pi * k / n)) for k in half]
        y = [("", "")] * n
        y[0] = self.pair(*(" + ".join([x[0][p], *(s[p] for s in sums)]) for p in (0, 1)))
        for k in half:
            turns = [min(j * k % n, n - j * k % n) - 1 for j in half]
            signs = ["+" if 2 * (j * k % n) < n else "-" for j in half]
            even = self.pair(
                *(
                    x[0][p]
                    + "".join(f" + {cosines[t]} * {s[p]}" for t, s in zip(turns, sums, strict=True))
                    for p in (0, 1)
                )
            )
            odd = self.pair(
                *(
                    "".join(
                        f" {sign} {sines[t]} * {d[p]}"
                        for sign, t, d in zip(signs, turns, differences, strict=True)
                    ).removeprefix(" + ")
                    for p in (0, 1)
                )
            )
            y[k] = self.pair(f"{even[0]} + {odd[1]}", f"{even[1]} - {odd[0]}")
            y[n - k] = self.pair(f"{even[0]} - {odd[1]}", f"{even[1]} + {odd[0]}")
        return y


def _make_butterfly(radix: int) -> Callable[..., Any]:
    writer, count = _Writer(), range(radix)
    lines = [
        f"def butterfly{radix}(rows, first, step, w, t, u):",
        *(f"    p{q} = first + np.uintp({q}) * step" for q in count),
        *(f"    c{q}, s{q} = w[t + {2 * q - 2}], w[t + {2 * q - 1}]" for q in count if q),
    ]
    rows = [(f"rows[p{q} + at]", f"rows[p{q} + _LANES + at]") for q in count]
    if radix < 9:
        writer.put(list(enumerate(writer.begin(rows))), twiddled=True)
        lines += writer.end()
    else:  # LLVM compares no more than eight pointers, so a loop must not read nine rows: 3 x 3, by way of u
        for b in range(3):
            y = writer.begin(rows[b::3])
            writer.put([(9 + b + 3 * c, writer.turned(z, b * c, radix)) for c, z in enumerate(y)])
            lines += writer.end()
        for c in range(3):
            column = [f"u[{9 + 3 * c + b} * ROW" for b in range(3)]
            y = writer.begin([(f"{row} + v]", f"{row} + LANES + v]") for row in column])
            writer.put([(c + 3 * d, z) for d, z in enumerate(y)], twiddled=True)
            lines += writer.end()
    lines += [f"    _put(u, {q}, rows, p{q})" for q in count]
    space = {**globals(), **writer.constants}
    # The name of this file, so that Numba keeps what it compiles until the file changes.
    exec(compile("\n".join(lines), __file__, "exec"), space)
    return jit(space[f"butterfly{radix}"])


_butterfly2, _butterfly3, _butterfly4, _butterfly5 = map(_make_butterfly, (2, 3, 4, 5))
_butterfly7, _butterfly8, _butterfly9 = map(_make_butterfly, (7, 8, 9))


@jit
def _butterfly_odd(radix, root, a, w, t, u):
    """DFT of the rows of a by its definition."""
    for k in range(radix):
        re, im = u[k * ROW : k * ROW + LANES], u[k * ROW + LANES : (k + 1) * ROW]
        re[:] = np.float32(0.0)
        im[:] = np.float32(0.0)
        for n in range(radix):
            c, s = w[root + 2 * (n * k % radix)], w[root + 2 * (n * k % radix) + 1]
            x = a[n * ROW : (n + 1) * ROW]
            for v in range(LANES):
                re[v] += x[v] * c - x[LANES + v] * s
                im[v] += x[v] * s + x[LANES + v] * c
        if k > 0:
            c, s = w[t + 2 * k - 2], w[t + 2 * k - 1]
            for v in range(LANES):
                re[v], im[v] = re[v] * c - im[v] * s, re[v] * s + im[v] * c


@jit
def _stage(radix, rows, n, w, t, a, u):
    """Run one stage of all sub-transforms of n rows, in place; its twiddles are w from t on."""
    m = n // radix
    root = t
    if not _has_codelet(radix):
        t += 2 * radix
    step = np.uintp(m * ROW)
    for part in range(0, rows.size // ROW, n):
        for j in range(m):
            first, at = np.uintp((part + j) * ROW), t + 2 * j * (radix - 1)
            if radix == 8:
                _butterfly8(rows, first, step, w, at, u)
            elif radix == 4:
                _butterfly4(rows, first, step, w, at, u)
            elif radix == 7:
                _butterfly7(rows, first, step, w, at, u)
            elif radix == 5:
                _butterfly5(rows, first, step, w, at, u)
            elif radix == 3:
                _butterfly3(rows, first, step, w, at, u)
            elif radix == 2:
                _butterfly2(rows, first, step, w, at, u)
            elif radix == 9:
                _butterfly9(rows, first, step, w, at, u)
            else:
                for q in range(radix):
                    _get(rows, first + np.uintp(q) * step, a, q)
                _butterfly_odd(radix, root, a, w, at, u)
                for q in range(radix):
                    _put(u, q, rows, first + np.uintp(q) * step)


@jit
def _has_codelet(radix):
    return radix <= CODELETS[-1] and radix != 6


@jit
def _transform(rows, radices, twiddles):
    """Transform `rows` in place."""
    n = rows.size // ROW
    a = np.empty(MAX_RADIX * ROW, np.float32)
    u = np.empty(MAX_RADIX * ROW, np.float32)
    t = 0
    for radix in radices:
        _stage(radix, rows, n, twiddles, t, a, u)
        t += 2 * (n // radix) * (radix - 1)
        if not _has_codelet(radix):
            t += 2 * radix
        n //= radix


@jit
def _load(x, start, hop, pairs, rows):
    """Put the blocks from sample `start` on, `hop` apart, into columns; zeros outside the signal."""
    points = rows.size // ROW
    for low in range(0, points, AT_ONCE):  # a part of the rows that stays in the first-level cache
        high = min(low + AT_ONCE, points)
        for block in range(2 * pairs):
            column = block % 2 * LANES + block // 2
            at = start + block * hop
            if at + low >= 0 and at + high <= x.size:
                inside = x[at + low : at + high]
                for i in range(high - low):
                    rows[(low + i) * ROW + column] = inside[i]
            else:
                for i in range(low, high):
                    there = 0 <= at + i < x.size
                    rows[i * ROW + column] = x[at + i] if there else np.float32(0.0)


@jit
def _store(spectrum, out_row, pairs, y):
    """Put the kept samples of columns into blocks, one after the other, as far as y goes."""
    hop = out_row.size
    for low in range(0, hop, AT_ONCE):
        high = min(low + AT_ONCE, hop)
        for block in range(2 * pairs):
            column = (1 - block % 2) * LANES + block // 2  # the transform ran on swapped parts
            first = block * hop
            to = y[first + low : min(first + high, y.size)]
            for i in range(to.size):
                to[i] = spectrum[out_row[low + i] * ROW + column]


@jit
def _filter(rows, bin_row, response, spectrum):
    for i in range(bin_row.size):
        if bin_row[i] < 0:
            continue
        c, s = response[i, 0], response[i, 1]
        source, to = np.uintp(i * ROW), np.uintp(bin_row[i] * ROW)
        for v in range(LANES):  # parts swapped: the next transform is an inverse
            at = np.uintp(v)
            re, im = rows[source + at], rows[source + _LANES + at]
            spectrum[to + at], spectrum[to + _LANES + at] = re * s + im * c, re * c - im * s


# ---- csrc/mix.c


@jit
def _mean(x, full_scale, y):
    frames, channels = x.shape
    for i in range(frames):
        total = 0.0
        for c in range(channels):
            total += np.float64(x[i, c])
        y[i] = np.float32(total / (full_scale * channels))


@jit
def _split(x, full_scale, y):
    frames, channels = x.shape
    for i in range(frames):
        for c in range(channels):
            y[c, i] = np.float32(np.float64(x[i, c]) / full_scale)


@jit
def _largest_bits(bits):
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, bits[i] & _UNSIGNED)
    return largest


# ---- The functions of the compiled module. `level` is taken for its sake and not used.


def scratch_floats(made: TwinPlan, level: int) -> int:
    """Return how many floats of working memory ``blocks`` needs from its caller."""
    return 0


def blocks(
    made: TwinPlan,
    level: int,
    x: np.ndarray,
    x_first: int,
    y: np.ndarray,
    n_out: int,
    first_pair: int,
    last_pair: int,
    scratch: np.ndarray,
) -> None:
    """Write the output of pairs ``first_pair`` to ``last_pair - 1`` to ``y``."""
    # Not compiled as a whole: LLVM makes slower code of the stages where it puts them into one function.
    rows = np.empty(len(made.bin_row) * ROW, np.float32)
    spectrum = np.empty(math.prod(made.radices_out.tolist()) * ROW, np.float32)
    x = x.view()
    x.flags.writeable = False  # one type of array, or Numba compiles for either
    y_first = 2 * first_pair * made.hop_out
    for pair in range(first_pair, last_pair, LANES):
        pairs = min(LANES, last_pair - pair)
        if pairs < LANES:
            rows[:] = 0
        start = 2 * pair * made.hop_in - made.context - x_first
        _load(x, start, made.hop_in, pairs, rows)
        _transform(rows, made.radices_in, made.twiddles_in)
        spectrum.reshape(-1, ROW)[made.zero_row] = 0
        _filter(rows, made.bin_row, made.response, spectrum)
        _transform(spectrum, made.radices_out, made.twiddles_out)
        done = 2 * pair * made.hop_out
        end = min(n_out, done + 2 * pairs * made.hop_out)
        _store(spectrum, made.out_row, pairs, y[done - y_first : end - y_first])


def mean(level: int, x: np.ndarray, y: np.ndarray) -> None:
    """Write the mean over the channels of the interleaved frames ``x`` to ``y``."""
    _mean(x, FULL_SCALE[x.dtype.name], y)


def split(level: int, x: np.ndarray, y: np.ndarray) -> None:
    """Write channel c of the interleaved frames ``x`` to ``y[c]``."""
    _split(x, FULL_SCALE[x.dtype.name], y)


def peak(level: int, x: np.ndarray) -> float:
    """Return the largest absolute sample; NaN if one is NaN."""
    return float(np.int32(_largest_bits(x.view(np.int32))).view(np.float32))
