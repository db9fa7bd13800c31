"""Numba twin of ``csrc/resample.c`` and ``csrc/mix.c``: the same plans, the same method.

Read the C source for the method; names are the same here. Two things differ. The stages run one
after the other over all rows instead of depth first. And the outputs of a butterfly go to a small
buffer first: with constant offsets there, LLVM sees that the loop over lanes can be a vector operation.
Places in the big buffer are unsigned: an index that might be negative, as one that Python counts from
the end, could not be vectorised, and a slice is an object that Numba counts references to.

The numbers differ from those of the C core by the rounding of operations that are fused in one and not
in the other: at most 6e-7 of full scale at 44.1 kHz, 1e-6 at any pair of rates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from mmaupro_ext.native.resample_plan import CODELETS, MAX_RADIX, ResamplePlan, Transform

LANES = 16  # PAIRS_PER_BATCH of native/resample.py is a multiple of it
ROW = 2 * LANES  # a row: LANES real parts, then LANES imaginary parts
_LANES = np.uintp(LANES)
AT_ONCE = 64  # rows

# cos(2 pi k / n) and sin(2 pi k / n) of the butterflies, as float32 so that products stay float32.
C3, S3 = np.float32(-0.5), np.float32(0.8660254037844386)
C5_1, C5_2 = np.float32(0.30901699437494745), np.float32(-0.8090169943749475)
S5_1, S5_2 = np.float32(0.9510565162951535), np.float32(0.5877852522924731)
C7_1, C7_2, C7_3 = (np.float32(np.cos(2 * np.pi * k / 7)) for k in (1, 2, 3))
S7_1, S7_2, S7_3 = (np.float32(np.sin(2 * np.pi * k / 7)) for k in (1, 2, 3))
H8 = np.float32(0.7071067811865476)
C9_1, C9_2, C9_4 = (np.float32(np.cos(2 * np.pi * k / 9)) for k in (1, 2, 4))
S9_1, S9_2, S9_4 = (np.float32(-np.sin(2 * np.pi * k / 9)) for k in (1, 2, 4))

_options: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz"},
}
_jit = numba.njit(**_options)
_inline = numba.njit(**_options, forceinline=True)


class TwinPlan(NamedTuple):
    """A plan as flat arrays, so that one compiled function serves all plans."""

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


def twin_plan(plan: ResamplePlan) -> TwinPlan:
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


@_inline
def _turn(re, im, c, s):
    return re * c - im * s, re * s + im * c


@_inline
def _dft3(r0, i0, r1, i1, r2, i2):
    sum_r, sum_i = r1 + r2, i1 + i2
    dif_r, dif_i = S3 * (r1 - r2), S3 * (i1 - i2)
    mid_r, mid_i = r0 + C3 * sum_r, i0 + C3 * sum_i
    return r0 + sum_r, i0 + sum_i, mid_r + dif_i, mid_i - dif_r, mid_r - dif_i, mid_i + dif_r


@_inline
def _dft4(r0, i0, r1, i1, r2, i2, r3, i3):
    sum02_r, sum02_i, dif02_r, dif02_i = r0 + r2, i0 + i2, r0 - r2, i0 - i2
    sum13_r, sum13_i, dif13_r, dif13_i = r1 + r3, i1 + i3, r1 - r3, i1 - i3
    return (
        sum02_r + sum13_r, sum02_i + sum13_i, dif02_r + dif13_i, dif02_i - dif13_r,
        sum02_r - sum13_r, sum02_i - sum13_i, dif02_r - dif13_i, dif02_i + dif13_r,
    )  # fmt: skip


@_inline
def _get(rows, place, to, number):
    base = np.uintp(number * ROW)
    for v in range(ROW):
        to[base + np.uintp(v)] = rows[place + np.uintp(v)]


@_inline
def _put(u, number, rows, place):
    base = np.uintp(number * ROW)
    for v in range(ROW):
        rows[place + np.uintp(v)] = u[base + np.uintp(v)]


@_jit
def _butterfly2(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    c, s = w[t], w[t + 1]
    for v in range(LANES):
        at = np.uintp(v)
        u[v], u[LANES + v] = (
            rows[first + at] + rows[p1 + at],
            rows[first + _LANES + at] + rows[p1 + _LANES + at],
        )
        u[ROW + v], u[ROW + LANES + v] = _turn(
            rows[first + at] - rows[p1 + at],
            rows[first + _LANES + at] - rows[p1 + _LANES + at],
            c,
            s,
        )
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)


@_jit
def _butterfly3(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    p2 = first + np.uintp(2) * step
    c1, s1, c2, s2 = w[t], w[t + 1], w[t + 2], w[t + 3]
    for v in range(LANES):
        at = np.uintp(v)
        y = _dft3(
            rows[first + at],
            rows[first + _LANES + at],
            rows[p1 + at],
            rows[p1 + _LANES + at],
            rows[p2 + at],
            rows[p2 + _LANES + at],
        )
        u[v], u[LANES + v] = y[0], y[1]
        u[ROW + v], u[ROW + LANES + v] = _turn(y[2], y[3], c1, s1)
        u[2 * ROW + v], u[2 * ROW + LANES + v] = _turn(y[4], y[5], c2, s2)
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)
    _put(u, 2, rows, p2)


@_jit
def _butterfly4(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    p2 = first + np.uintp(2) * step
    p3 = first + np.uintp(3) * step
    c1, s1, c2, s2, c3, s3 = w[t], w[t + 1], w[t + 2], w[t + 3], w[t + 4], w[t + 5]
    for v in range(LANES):
        at = np.uintp(v)
        y = _dft4(
            rows[first + at], rows[first + _LANES + at], rows[p1 + at], rows[p1 + _LANES + at],
            rows[p2 + at], rows[p2 + _LANES + at], rows[p3 + at], rows[p3 + _LANES + at],
        )  # fmt: skip
        u[v], u[LANES + v] = y[0], y[1]
        u[ROW + v], u[ROW + LANES + v] = _turn(y[2], y[3], c1, s1)
        u[2 * ROW + v], u[2 * ROW + LANES + v] = _turn(y[4], y[5], c2, s2)
        u[3 * ROW + v], u[3 * ROW + LANES + v] = _turn(y[6], y[7], c3, s3)
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)
    _put(u, 2, rows, p2)
    _put(u, 3, rows, p3)


@_inline
def _sums5(x0, x1, x2, x3, x4):
    """Real or imaginary part of a DFT-5: its total, even and odd sums."""
    sum1, sum2, dif1, dif2 = x1 + x4, x2 + x3, x1 - x4, x2 - x3
    return (
        x0 + sum1 + sum2,
        x0 + C5_1 * sum1 + C5_2 * sum2,
        x0 + C5_2 * sum1 + C5_1 * sum2,
        S5_1 * dif1 + S5_2 * dif2,
        S5_2 * dif1 - S5_1 * dif2,
    )


@_jit
def _butterfly5(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    p2 = first + np.uintp(2) * step
    p3 = first + np.uintp(3) * step
    p4 = first + np.uintp(4) * step
    c1, s1, c2, s2, c3, s3, c4, s4 = (
        w[t],
        w[t + 1],
        w[t + 2],
        w[t + 3],
        w[t + 4],
        w[t + 5],
        w[t + 6],
        w[t + 7],
    )
    for v in range(LANES):
        z, at = v + LANES, np.uintp(v)
        r, i = (
            _sums5(rows[first + at], rows[p1 + at], rows[p2 + at], rows[p3 + at], rows[p4 + at]),
            _sums5(
                rows[first + _LANES + at],
                rows[p1 + _LANES + at],
                rows[p2 + _LANES + at],
                rows[p3 + _LANES + at],
                rows[p4 + _LANES + at],
            ),
        )
        u[v], u[z] = r[0], i[0]
        u[ROW + v], u[ROW + z] = _turn(r[1] + i[3], i[1] - r[3], c1, s1)
        u[2 * ROW + v], u[2 * ROW + z] = _turn(r[2] + i[4], i[2] - r[4], c2, s2)
        u[3 * ROW + v], u[3 * ROW + z] = _turn(r[2] - i[4], i[2] + r[4], c3, s3)
        u[4 * ROW + v], u[4 * ROW + z] = _turn(r[1] - i[3], i[1] + r[3], c4, s4)
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)
    _put(u, 2, rows, p2)
    _put(u, 3, rows, p3)
    _put(u, 4, rows, p4)


@_inline
def _sums7(x0, x1, x2, x3, x4, x5, x6):
    """Real or imaginary part of a DFT-7: its total, even and odd sums."""
    sum1, sum2, sum3, dif1, dif2, dif3 = x1 + x6, x2 + x5, x3 + x4, x1 - x6, x2 - x5, x3 - x4
    return (
        x0 + sum1 + sum2 + sum3,
        x0 + C7_1 * sum1 + C7_2 * sum2 + C7_3 * sum3,
        x0 + C7_2 * sum1 + C7_3 * sum2 + C7_1 * sum3,
        x0 + C7_3 * sum1 + C7_1 * sum2 + C7_2 * sum3,
        S7_1 * dif1 + S7_2 * dif2 + S7_3 * dif3,
        S7_2 * dif1 - S7_3 * dif2 - S7_1 * dif3,
        S7_3 * dif1 - S7_1 * dif2 + S7_2 * dif3,
    )


@_jit
def _butterfly7(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    p2 = first + np.uintp(2) * step
    p3 = first + np.uintp(3) * step
    p4 = first + np.uintp(4) * step
    p5 = first + np.uintp(5) * step
    p6 = first + np.uintp(6) * step
    c1, s1, c2, s2, c3, s3 = w[t], w[t + 1], w[t + 2], w[t + 3], w[t + 4], w[t + 5]
    c4, s4, c5, s5, c6, s6 = w[t + 6], w[t + 7], w[t + 8], w[t + 9], w[t + 10], w[t + 11]
    for v in range(LANES):
        z, at = v + LANES, np.uintp(v)
        r = _sums7(
            rows[first + at],
            rows[p1 + at],
            rows[p2 + at],
            rows[p3 + at],
            rows[p4 + at],
            rows[p5 + at],
            rows[p6 + at],
        )
        i = _sums7(
            rows[first + _LANES + at],
            rows[p1 + _LANES + at],
            rows[p2 + _LANES + at],
            rows[p3 + _LANES + at],
            rows[p4 + _LANES + at],
            rows[p5 + _LANES + at],
            rows[p6 + _LANES + at],
        )
        u[v], u[z] = r[0], i[0]
        u[ROW + v], u[ROW + z] = _turn(r[1] + i[4], i[1] - r[4], c1, s1)
        u[2 * ROW + v], u[2 * ROW + z] = _turn(r[2] + i[5], i[2] - r[5], c2, s2)
        u[3 * ROW + v], u[3 * ROW + z] = _turn(r[3] + i[6], i[3] - r[6], c3, s3)
        u[4 * ROW + v], u[4 * ROW + z] = _turn(r[3] - i[6], i[3] + r[6], c4, s4)
        u[5 * ROW + v], u[5 * ROW + z] = _turn(r[2] - i[5], i[2] + r[5], c5, s5)
        u[6 * ROW + v], u[6 * ROW + z] = _turn(r[1] - i[4], i[1] + r[4], c6, s6)
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)
    _put(u, 2, rows, p2)
    _put(u, 3, rows, p3)
    _put(u, 4, rows, p4)
    _put(u, 5, rows, p5)
    _put(u, 6, rows, p6)


@_jit
def _butterfly8(rows, first, step, w, t, u):
    p1 = first + np.uintp(1) * step
    p2 = first + np.uintp(2) * step
    p3 = first + np.uintp(3) * step
    p4 = first + np.uintp(4) * step
    p5 = first + np.uintp(5) * step
    p6 = first + np.uintp(6) * step
    p7 = first + np.uintp(7) * step
    c1, s1, c2, s2, c3, s3, c4, s4 = (
        w[t],
        w[t + 1],
        w[t + 2],
        w[t + 3],
        w[t + 4],
        w[t + 5],
        w[t + 6],
        w[t + 7],
    )
    c5, s5, c6, s6, c7, s7 = w[t + 8], w[t + 9], w[t + 10], w[t + 11], w[t + 12], w[t + 13]
    for v in range(LANES):
        z, at = v + LANES, np.uintp(v)
        e = _dft4(
            rows[first + at],
            rows[first + _LANES + at],
            rows[p2 + at],
            rows[p2 + _LANES + at],
            rows[p4 + at],
            rows[p4 + _LANES + at],
            rows[p6 + at],
            rows[p6 + _LANES + at],
        )
        o = _dft4(
            rows[p1 + at],
            rows[p1 + _LANES + at],
            rows[p3 + at],
            rows[p3 + _LANES + at],
            rows[p5 + at],
            rows[p5 + _LANES + at],
            rows[p7 + at],
            rows[p7 + _LANES + at],
        )
        r1, i1 = H8 * (o[2] + o[3]), H8 * (o[3] - o[2])
        r3, i3 = H8 * (o[7] - o[6]), -H8 * (o[6] + o[7])
        u[v], u[z] = e[0] + o[0], e[1] + o[1]
        u[ROW + v], u[ROW + z] = _turn(e[2] + r1, e[3] + i1, c1, s1)
        u[2 * ROW + v], u[2 * ROW + z] = _turn(e[4] + o[5], e[5] - o[4], c2, s2)
        u[3 * ROW + v], u[3 * ROW + z] = _turn(e[6] + r3, e[7] + i3, c3, s3)
        u[4 * ROW + v], u[4 * ROW + z] = _turn(e[0] - o[0], e[1] - o[1], c4, s4)
        u[5 * ROW + v], u[5 * ROW + z] = _turn(e[2] - r1, e[3] - i1, c5, s5)
        u[6 * ROW + v], u[6 * ROW + z] = _turn(e[4] - o[5], e[5] + o[4], c6, s6)
        u[7 * ROW + v], u[7 * ROW + z] = _turn(e[6] - r3, e[7] - i3, c7, s7)
    _put(u, 0, rows, first)
    _put(u, 1, rows, p1)
    _put(u, 2, rows, p2)
    _put(u, 3, rows, p3)
    _put(u, 4, rows, p4)
    _put(u, 5, rows, p5)
    _put(u, 6, rows, p6)
    _put(u, 7, rows, p7)


@_inline
def _thirds(rows, p, step, a, b, c1, s1, c2, s2):
    """DFT-3 of the rows p, p + 3 step, p + 6 step, turned: rows b, b + 3, b + 6 of a."""
    q, r = p + np.uintp(3) * step, p + np.uintp(6) * step
    for v in range(LANES):
        z, at = v + LANES, np.uintp(v)
        y = _dft3(
            rows[p + at], rows[p + _LANES + at], rows[q + at], rows[q + _LANES + at],
            rows[r + at], rows[r + _LANES + at],
        )  # fmt: skip
        a[b * ROW + v], a[b * ROW + z] = y[0], y[1]
        a[(b + 3) * ROW + v], a[(b + 3) * ROW + z] = _turn(y[2], y[3], c1, s1)
        a[(b + 6) * ROW + v], a[(b + 6) * ROW + z] = _turn(y[4], y[5], c2, s2)


@_jit
def _butterfly9(rows, first, step, w, t, a, u):
    """3 x 3: LLVM compares no more than eight pointers, so a loop must not read nine rows."""
    one, nothing = np.float32(1.0), np.float32(0.0)
    _thirds(rows, first, step, a, 0, one, nothing, one, nothing)
    _thirds(rows, first + step, step, a, 1, C9_1, S9_1, C9_2, S9_2)
    _thirds(rows, first + np.uintp(2) * step, step, a, 2, C9_2, S9_2, C9_4, S9_4)
    for k in range(3):
        x = a[3 * k * ROW : 3 * (k + 1) * ROW]
        to = u[k * ROW :]
        c0, s0 = (w[t + 2 * k - 2], w[t + 2 * k - 1]) if k else (one, nothing)
        c3, s3, c6, s6 = w[t + 2 * k + 4], w[t + 2 * k + 5], w[t + 2 * k + 10], w[t + 2 * k + 11]
        for v in range(LANES):
            z = v + LANES
            y = _dft3(x[v], x[z], x[ROW + v], x[ROW + z], x[2 * ROW + v], x[2 * ROW + z])
            to[v], to[z] = _turn(y[0], y[1], c0, s0)
            to[3 * ROW + v], to[3 * ROW + z] = _turn(y[2], y[3], c3, s3)
            to[6 * ROW + v], to[6 * ROW + z] = _turn(y[4], y[5], c6, s6)
    for k in range(9):
        _put(u, k, rows, first + np.uintp(k) * step)


@_jit
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


@_jit
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
                _butterfly9(rows, first, step, w, at, a, u)
            else:
                for q in range(radix):
                    _get(rows, first + np.uintp(q) * step, a, q)
                _butterfly_odd(radix, root, a, w, at, u)
                for q in range(radix):
                    _put(u, q, rows, first + np.uintp(q) * step)


@_jit
def _has_codelet(radix):
    return radix <= CODELETS[-1] and radix != 6


@_jit
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


@_jit
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


@_jit
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


@_jit
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


@_jit
def blocks(plan, x, x_first, y, n_out, first_pair, last_pair):
    """Write the output of pairs `first_pair` to `last_pair - 1` to `y`."""
    points_in, points_out = len(plan.bin_row), 1
    for radix in plan.radices_out:
        points_out *= radix
    rows = np.empty(points_in * ROW, np.float32)
    spectrum = np.empty(points_out * ROW, np.float32)
    y_first = 2 * first_pair * plan.hop_out

    for pair in range(first_pair, last_pair, LANES):
        pairs = min(LANES, last_pair - pair)
        if pairs < LANES:
            rows[:] = np.float32(0.0)
        start = 2 * pair * plan.hop_in - plan.context - x_first
        _load(x, start, plan.hop_in, pairs, rows)
        _transform(rows, plan.radices_in, plan.twiddles_in)
        for z in plan.zero_row:
            spectrum[z * ROW : (z + 1) * ROW] = np.float32(0.0)
        _filter(rows, plan.bin_row, plan.response, spectrum)
        _transform(spectrum, plan.radices_out, plan.twiddles_out)

        done = 2 * pair * plan.hop_out
        end = min(n_out, done + 2 * pairs * plan.hop_out)
        _store(spectrum, plan.out_row, pairs, y[done - y_first : end - y_first])


# ---- csrc/mix.c


@_jit
def mean(x, full_scale, y):
    """Write the mean over the channels of interleaved frames, over `full_scale`, to `y`."""
    frames, channels = x.shape
    for i in range(frames):
        total = 0.0
        for c in range(channels):
            total += np.float64(x[i, c])
        y[i] = np.float32(total / (full_scale * channels))


@_jit
def split(x, full_scale, y):
    """Write channel c of the interleaved frames `x`, divided by `full_scale`, to ``y[c]``."""
    frames, channels = x.shape
    for i in range(frames):
        for c in range(channels):
            y[c, i] = np.float32(np.float64(x[i, c]) / full_scale)
