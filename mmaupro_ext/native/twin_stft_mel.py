"""The log-mel kernel in Numba: the twin of ``csrc/stft_mel.c`` and ``csrc/normalize.c``.

One file of more than 400 lines: a transform of each length that a family has, as one kernel. The method,
its names and its steps are those of the C sources, where they are explained, but everything is in double up
to the power of a bin; the functions at the end have the signatures of the compiled module. Numba has no
vector type, so each step is a loop over the lanes of a batch whose body is ordinary scalar arithmetic,
shaped for LLVM's loop vectoriser: flat arrays, and every index of the form ``constant + lane``. Inputs of
a small transform are therefore gathered in one array and its outputs put in another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mmaupro_ext.native.jit import inline, jit
from mmaupro_ext.native.stft_plan import Plan
from mmaupro_ext.native.twin_resample import peak

L = 32  # lanes: frames in a batch
_LIMIT = 10  # of the radices that go by the definition

_HALF = math.sqrt(0.5)
_C1, _S1 = math.cos(math.pi / 16), math.sin(math.pi / 16)  # of a turn by 1/32, 2/32, 3/32
_C2, _S2 = math.cos(math.pi / 8), math.sin(math.pi / 8)
_C3, _S3 = math.cos(math.pi * 3 / 16), math.sin(math.pi * 3 / 16)
_COS1_5, _SIN1_5 = math.cos(2 * math.pi / 5), math.sin(2 * math.pi / 5)
_COS2_5, _SIN2_5 = math.cos(4 * math.pi / 5), math.sin(4 * math.pi / 5)
_LN2 = math.log(2.0)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_MANTISSA = np.int32(0x007FFFFF)
_MANTISSA_BITS = np.int32(23)
_ONE = np.float32(1)
_ZERO = np.float32(0)
_NONE, _SIGNAL, _FRAME = 0, 1, 2  # enum mm_stft_emphasis

_TABLE = np.array(  # cos and sin of 2 pi k / radix, at [radix, k]
    [
        [(math.cos(2 * math.pi * k / r), math.sin(2 * math.pi * k / r)) for k in range(_LIMIT)]
        for r in range(1, _LIMIT + 1)
    ]
)


# ---- Step 1: samples to tile.


@inline
def _sample_at(x, padded, mirror, i):
    if mirror:
        if i < 0:
            i = -i
        if i >= padded:
            i = 2 * (padded - 1) - i
    return np.float64(x[i]) if 0 <= i < x.size else 0.0


@jit
def _load_tile(x, padded, mirror, hop, start, emphasis, ends, columns, tile):
    """Fill the tile: column c holds samples start + c hop ..., pre-emphasised.

    With ``ends``, what pre-emphasis makes of the zero after the last sample is left out.
    """
    for c in range(columns):
        first = start + c * hop
        if first >= 1 and first + hop <= x.size:
            now, before = x[first : first + hop], x[first - 1 : first - 1 + hop]
            for row in range(hop):
                tile[row * columns + c] = np.float64(now[row]) - emphasis * np.float64(before[row])
        else:
            for row in range(hop):
                i = first + row
                y = _sample_at(x, padded, mirror, i)
                if emphasis != 0.0:
                    y -= emphasis * _sample_at(x, padded, mirror, i - 1)
                    if ends and i >= x.size:
                        y = 0.0
                tile[row * columns + c] = y


# ---- Small transforms: from rows of t, each of L numbers, to rows of u. Complex numbers are two rows.


@inline
def _turn(re, im, cosine, sine):
    return re * cosine + im * sine, im * cosine - re * sine


@inline
def _dft4(r0, i0, r1, i1, r2, i2, r3, i3):
    """DFT-4 of complex input: re0, im0 ... re3, im3."""
    sr, si, dr, di = r0 + r2, i0 + i2, r0 - r2, i0 - i2
    ur, ui, vr, vi = r1 + r3, i1 + i3, r1 - r3, i1 - i3
    return sr + ur, si + ui, dr + vi, di - vr, sr - ur, si - ui, dr - vi, di + vr


@jit
def _dft4_rows(t, u):
    for v in range(L):
        y = _dft4(
            t[v], t[L + v], t[2 * L + v], t[3 * L + v],
            t[4 * L + v], t[5 * L + v], t[6 * L + v], t[7 * L + v],
        )  # fmt: skip
        u[v], u[L + v], u[2 * L + v], u[3 * L + v] = y[0], y[1], y[2], y[3]
        u[4 * L + v], u[5 * L + v], u[6 * L + v], u[7 * L + v] = y[4], y[5], y[6], y[7]


@inline
def _dft5_sums(x0, x1, x2, x3, x4):
    """Real or imaginary part of a complex DFT-5: its total, even and odd sums."""
    sum1, sum2, difference1, difference2 = x1 + x4, x2 + x3, x1 - x4, x2 - x3
    return (
        x0 + sum1 + sum2,
        x0 + _COS1_5 * sum1 + _COS2_5 * sum2,
        x0 + _COS2_5 * sum1 + _COS1_5 * sum2,
        _SIN1_5 * difference1 + _SIN2_5 * difference2,
        _SIN2_5 * difference1 - _SIN1_5 * difference2,
    )


@jit
def _dft5_rows(t, u):
    for v in range(L):
        r = _dft5_sums(t[v], t[2 * L + v], t[4 * L + v], t[6 * L + v], t[8 * L + v])
        i = _dft5_sums(t[L + v], t[3 * L + v], t[5 * L + v], t[7 * L + v], t[9 * L + v])
        u[v], u[L + v] = r[0], i[0]
        u[2 * L + v], u[3 * L + v] = r[1] + i[3], i[1] - r[3]
        u[4 * L + v], u[5 * L + v] = r[2] + i[4], i[2] - r[4]
        u[6 * L + v], u[7 * L + v] = r[2] - i[4], i[2] + r[4]
        u[8 * L + v], u[9 * L + v] = r[1] - i[3], i[1] + r[3]


@jit
def _dft5_turned(z, at, apart, w, u):
    """One butterfly of a pass of radix 5, in place: complex rows at, at + apart, ... of z."""
    step = apart * 2 * L
    p = at * 2 * L
    x0, x1, x2 = z[p : p + 2 * L], z[p + step : p + step + 2 * L], z[p + 2 * step :][: 2 * L]
    x3, x4 = z[p + 3 * step :][: 2 * L], z[p + 4 * step :][: 2 * L]
    c1, s1, c2, s2, c3, s3, c4, s4 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    for v in range(L):
        r = _dft5_sums(x0[v], x1[v], x2[v], x3[v], x4[v])
        i = _dft5_sums(x0[L + v], x1[L + v], x2[L + v], x3[L + v], x4[L + v])
        u[v], u[L + v] = r[0], i[0]
        u[2 * L + v], u[3 * L + v] = _turn(r[1] + i[3], i[1] - r[3], c1, s1)
        u[4 * L + v], u[5 * L + v] = _turn(r[2] + i[4], i[2] - r[4], c2, s2)
        u[6 * L + v], u[7 * L + v] = _turn(r[2] - i[4], i[2] + r[4], c3, s3)
        u[8 * L + v], u[9 * L + v] = _turn(r[1] - i[3], i[1] + r[3], c4, s4)
    for v in range(2 * L):
        x0[v] = u[v]
    for v in range(2 * L):
        x1[v] = u[2 * L + v]
    for v in range(2 * L):
        x2[v] = u[4 * L + v]
    for v in range(2 * L):
        x3[v] = u[6 * L + v]
    for v in range(2 * L):
        x4[v] = u[8 * L + v]


@jit
def _dft8_rows(t, u):
    for v in range(L):
        y = _dft8(
            t[v], t[L + v], t[2 * L + v], t[3 * L + v], t[4 * L + v], t[5 * L + v],
            t[6 * L + v], t[7 * L + v], t[8 * L + v], t[9 * L + v], t[10 * L + v], t[11 * L + v],
            t[12 * L + v], t[13 * L + v], t[14 * L + v], t[15 * L + v],
        )  # fmt: skip
        u[v], u[L + v], u[2 * L + v], u[3 * L + v] = y[0], y[1], y[2], y[3]
        u[4 * L + v], u[5 * L + v], u[6 * L + v], u[7 * L + v] = y[4], y[5], y[6], y[7]
        u[8 * L + v], u[9 * L + v], u[10 * L + v], u[11 * L + v] = y[8], y[9], y[10], y[11]
        u[12 * L + v], u[13 * L + v], u[14 * L + v], u[15 * L + v] = y[12], y[13], y[14], y[15]


@jit
def _dft_any_rows(t, u, radix, outputs):
    """DFT of any radix up to 10, by its definition."""
    for q in range(outputs):
        re, im = u[2 * q * L : (2 * q + 1) * L], u[(2 * q + 1) * L : (2 * q + 2) * L]
        for v in range(L):
            re[v], im[v] = t[v], t[L + v]
        for a in range(1, radix):
            cosine, sine = _TABLE[radix - 1, a * q % radix]
            x, y = t[2 * a * L : (2 * a + 1) * L], t[(2 * a + 1) * L : (2 * a + 2) * L]
            for v in range(L):
                re[v] += x[v] * cosine + y[v] * sine
                im[v] += y[v] * cosine - x[v] * sine


@inline
def _dft8(r0, i0, r1, i1, r2, i2, r3, i3, r4, i4, r5, i5, r6, i6, r7, i7):
    """DFT-8 of complex input: re0, im0 ... re7, im7."""
    even = _dft4(r0 + r4, i0 + i4, r1 + r5, i1 + i5, r2 + r6, i2 + i6, r3 + r7, i3 + i7)
    d1r, d1i, d3r, d3i = r1 - r5, i1 - i5, r3 - r7, i3 - i7
    odd = _dft4(
        r0 - r4, i0 - i4, (d1r + d1i) * _HALF, (d1i - d1r) * _HALF,
        i2 - i6, r6 - r2, (d3i - d3r) * _HALF, -(d3r + d3i) * _HALF,
    )  # fmt: skip
    return (
        even[0], even[1], odd[0], odd[1], even[2], even[3], odd[2], odd[3],
        even[4], even[5], odd[4], odd[5], even[6], even[7], odd[6], odd[7],
    )  # fmt: skip


@jit
def _dft16_real_rows(t, u):
    """DFT-16 of 16 real rows: outputs 0 to 8."""
    for v in range(L):
        s0, d0 = t[v] + t[8 * L + v], t[v] - t[8 * L + v]
        s1, d1 = t[L + v] + t[9 * L + v], t[L + v] - t[9 * L + v]
        s2, d2 = t[2 * L + v] + t[10 * L + v], t[2 * L + v] - t[10 * L + v]
        s3, d3 = t[3 * L + v] + t[11 * L + v], t[3 * L + v] - t[11 * L + v]
        s4, d4 = t[4 * L + v] + t[12 * L + v], t[4 * L + v] - t[12 * L + v]
        s5, d5 = t[5 * L + v] + t[13 * L + v], t[5 * L + v] - t[13 * L + v]
        s6, d6 = t[6 * L + v] + t[14 * L + v], t[6 * L + v] - t[14 * L + v]
        s7, d7 = t[7 * L + v] + t[15 * L + v], t[7 * L + v] - t[15 * L + v]
        # c = 0: k = 0, 4, 8
        e0, e1, e2, e3 = s0 + s4, s1 + s5, s2 + s6, s3 + s7
        u[v], u[L + v] = e0 + e2 + (e1 + e3), 0.0
        u[16 * L + v], u[17 * L + v] = e0 + e2 - (e1 + e3), 0.0
        u[8 * L + v], u[9 * L + v] = e0 - e2, e3 - e1
        # c = 2: k = 2, 6
        f0, f1, f2, f3 = s0 - s4, s1 - s5, s2 - s6, s3 - s7
        plus, minus = (f1 + f3) * _HALF, (f1 - f3) * _HALF
        u[4 * L + v], u[5 * L + v] = f0 + minus, -f2 - plus
        u[12 * L + v], u[13 * L + v] = f0 - minus, f2 - plus
        # c = 1: k = 1, 5, 9, 13; the last two are the conjugates of 7 and 3
        a1r, a1i = _turn(d1, -d5, _C2, _S2)
        a3r, a3i = _turn(d3, -d7, _S2, _C2)
        y = _dft4(d0, -d4, a1r, a1i, (d2 - d6) * _HALF, (-d6 - d2) * _HALF, a3r, a3i)
        u[2 * L + v], u[3 * L + v] = y[0], y[1]
        u[10 * L + v], u[11 * L + v] = y[2], y[3]
        u[14 * L + v], u[15 * L + v] = y[4], -y[5]
        u[6 * L + v], u[7 * L + v] = y[6], -y[7]


_COS_25 = tuple(math.cos(2 * math.pi * m / 25) for m in range(9))
_SIN_25 = tuple(math.sin(2 * math.pi * m / 25) for m in range(9))


@inline
def _dft5_real(x0, x1, x2, x3, x4):
    """Outputs 0, 1 and 2 of a DFT-5 of real input, as y0, re1, im1, re2, im2."""
    total, even1, even2, odd1, odd2 = _dft5_sums(x0, x1, x2, x3, x4)
    return total, even1, -odd1, even2, -odd2


@jit
def _dft25_real_rows(t, u):
    """DFT-25 of 25 real rows: outputs 0 to 12. See dft25_from_fives in C."""
    for v in range(L):
        z0, r01, i01, r02, i02 = _dft5_real(
            t[v], t[5 * L + v], t[10 * L + v], t[15 * L + v], t[20 * L + v]
        )
        z1, r11, i11, r12, i12 = _dft5_real(
            t[L + v], t[6 * L + v], t[11 * L + v], t[16 * L + v], t[21 * L + v]
        )
        z2, r21, i21, r22, i22 = _dft5_real(
            t[2 * L + v], t[7 * L + v], t[12 * L + v], t[17 * L + v], t[22 * L + v]
        )
        z3, r31, i31, r32, i32 = _dft5_real(
            t[3 * L + v], t[8 * L + v], t[13 * L + v], t[18 * L + v], t[23 * L + v]
        )
        z4, r41, i41, r42, i42 = _dft5_real(
            t[4 * L + v], t[9 * L + v], t[14 * L + v], t[19 * L + v], t[24 * L + v]
        )
        r11, i11 = _turn(r11, i11, _COS_25[1], _SIN_25[1])
        r21, i21 = _turn(r21, i21, _COS_25[2], _SIN_25[2])
        r31, i31 = _turn(r31, i31, _COS_25[3], _SIN_25[3])
        r41, i41 = _turn(r41, i41, _COS_25[4], _SIN_25[4])
        r12, i12 = _turn(r12, i12, _COS_25[2], _SIN_25[2])
        r22, i22 = _turn(r22, i22, _COS_25[4], _SIN_25[4])
        r32, i32 = _turn(r32, i32, _COS_25[6], _SIN_25[6])
        r42, i42 = _turn(r42, i42, _COS_25[8], _SIN_25[8])
        y = _dft5_real(z0, z1, z2, z3, z4)
        u[v], u[L + v] = y[0], 0.0
        u[10 * L + v], u[11 * L + v] = y[1], y[2]
        u[20 * L + v], u[21 * L + v] = y[3], y[4]
        r, i = _dft5_sums(r01, r11, r21, r31, r41), _dft5_sums(i01, i11, i21, i31, i41)
        u[2 * L + v], u[3 * L + v] = r[0], i[0]  # 1, 6, 11; 16 and 21 as the conjugates 9 and 4
        u[12 * L + v], u[13 * L + v] = r[1] + i[3], i[1] - r[3]
        u[22 * L + v], u[23 * L + v] = r[2] + i[4], i[2] - r[4]
        u[18 * L + v], u[19 * L + v] = r[2] - i[4], -(i[2] + r[4])
        u[8 * L + v], u[9 * L + v] = r[1] - i[3], -(i[1] + r[3])
        r, i = _dft5_sums(r02, r12, r22, r32, r42), _dft5_sums(i02, i12, i22, i32, i42)
        u[4 * L + v], u[5 * L + v] = r[0], i[0]  # 2, 7, 12; 17 and 22 as the conjugates 8 and 3
        u[14 * L + v], u[15 * L + v] = r[1] + i[3], i[1] - r[3]
        u[24 * L + v], u[25 * L + v] = r[2] + i[4], i[2] - r[4]
        u[16 * L + v], u[17 * L + v] = r[2] - i[4], -(i[2] + r[4])
        u[6 * L + v], u[7 * L + v] = r[1] - i[3], -(i[1] + r[3])


@inline
def _dft4_real(x0, x1, x2, x3):
    """DFT-4 of real input: output 0, output 1 (re, im), output 2."""
    s, t = x0 + x2, x1 + x3
    return s + t, x0 - x2, x3 - x1, s - t


@jit
def _fours_rows(tile, place, weights, u):
    """DFT-4s of the windowed rows b, b + 8, b + 16, b + 24: of b = 0 ... 7, output 0, 1 (re, im), 2.

    Rows that hold no samples have the weight 0 (and some row's place).
    """
    for b in range(8):
        w0, w1, w2, w3 = weights[b], weights[b + 8], weights[b + 16], weights[b + 24]
        x0, x1 = tile[place[b] : place[b] + L], tile[place[b + 8] : place[b + 8] + L]
        x2, x3 = tile[place[b + 16] : place[b + 16] + L], tile[place[b + 24] : place[b + 24] + L]
        to = u[4 * b * L : 4 * (b + 1) * L]
        for v in range(L):
            y = _dft4_real(x0[v] * w0, x1[v] * w1, x2[v] * w2, x3[v] * w3)
            to[v], to[L + v], to[2 * L + v], to[3 * L + v] = y[0], y[1], y[2], y[3]


@jit
def _from_fours_rows(u, w, h):
    """Outputs 0 to 16 of the DFT-32, turned; see dft_from_fours in C. w: cos, sin of turns 1 to 16."""
    c4, s4, c8, s8, c12, s12, c16, s16 = w[6], w[7], w[14], w[15], w[22], w[23], w[30], w[31]
    for v in range(L):
        even = _dft4_real(u[v], u[8 * L + v], u[16 * L + v], u[24 * L + v])
        odd = _dft4_real(u[4 * L + v], u[12 * L + v], u[20 * L + v], u[28 * L + v])
        odd_re, odd_im = (odd[1] + odd[2]) * _HALF, (odd[2] - odd[1]) * _HALF
        h[v], h[L + v] = even[0] + odd[0], 0.0
        h[32 * L + v], h[33 * L + v] = _turn(even[0] - odd[0], 0.0, c16, s16)
        h[16 * L + v], h[17 * L + v] = _turn(even[3], -odd[3], c8, s8)
        h[8 * L + v], h[9 * L + v] = _turn(even[1] + odd_re, even[2] + odd_im, c4, s4)
        h[24 * L + v], h[25 * L + v] = _turn(even[1] - odd_re, odd_im - even[2], c12, s12)
    c2, s2, c10, s10, c14, s14, c6, s6 = w[2], w[3], w[18], w[19], w[26], w[27], w[10], w[11]
    for v in range(L):
        a1r, a1i = _turn(u[7 * L + v], -u[23 * L + v], _C2, _S2)
        a2r, a2i = u[11 * L + v], u[27 * L + v]
        a3r, a3i = _turn(u[15 * L + v], -u[31 * L + v], _S2, _C2)
        y = _dft4(
            u[3 * L + v], -u[19 * L + v], a1r, a1i,
            (a2r - a2i) * _HALF, -(a2i + a2r) * _HALF, a3r, a3i,
        )  # fmt: skip
        h[4 * L + v], h[5 * L + v] = _turn(y[0], y[1], c2, s2)
        h[20 * L + v], h[21 * L + v] = _turn(y[2], y[3], c10, s10)
        h[28 * L + v], h[29 * L + v] = _turn(y[4], -y[5], c14, s14)
        h[12 * L + v], h[13 * L + v] = _turn(y[6], -y[7], c6, s6)
    c1, s1, c5, s5, c9, s9, c13, s13 = w[0], w[1], w[8], w[9], w[16], w[17], w[24], w[25]
    c15, s15, c11, s11, c7, s7, c3, s3 = w[28], w[29], w[20], w[21], w[12], w[13], w[4], w[5]
    for v in range(L):
        a1r, a1i = _turn(u[5 * L + v], u[6 * L + v], _C1, _S1)
        a2r, a2i = _turn(u[9 * L + v], u[10 * L + v], _C2, _S2)
        a3r, a3i = _turn(u[13 * L + v], u[14 * L + v], _C3, _S3)
        a4r, a4i = _turn(u[17 * L + v], u[18 * L + v], _HALF, _HALF)
        a5r, a5i = _turn(u[21 * L + v], u[22 * L + v], _S3, _C3)
        a6r, a6i = _turn(u[25 * L + v], u[26 * L + v], _S2, _C2)
        a7r, a7i = _turn(u[29 * L + v], u[30 * L + v], _S1, _C1)
        y = _dft8(
            u[L + v], u[2 * L + v], a1r, a1i, a2r, a2i, a3r, a3i, a4r, a4i, a5r, a5i, a6r, a6i,
            a7r, a7i,
        )  # fmt: skip
        h[2 * L + v], h[3 * L + v] = _turn(y[0], y[1], c1, s1)
        h[10 * L + v], h[11 * L + v] = _turn(y[2], y[3], c5, s5)
        h[18 * L + v], h[19 * L + v] = _turn(y[4], y[5], c9, s9)
        h[26 * L + v], h[27 * L + v] = _turn(y[6], y[7], c13, s13)
        h[30 * L + v], h[31 * L + v] = _turn(y[8], -y[9], c15, s15)
        h[22 * L + v], h[23 * L + v] = _turn(y[10], -y[11], c11, s11)
        h[14 * L + v], h[15 * L + v] = _turn(y[12], -y[13], c7, s7)
        h[6 * L + v], h[7 * L + v] = _turn(y[14], -y[15], c3, s3)


@inline
def _power(re, im):
    return np.float32(re * re + im * im)


@inline
def _powers5(r, i):
    """Powers of a DFT-5, given _dft5_sums of the real and the imaginary parts."""
    return (
        _power(r[0], i[0]), _power(r[1] + i[3], i[1] - r[3]), _power(r[2] + i[4], i[2] - r[4]),
        _power(r[2] - i[4], i[2] + r[4]), _power(r[1] - i[3], i[1] + r[3]),
    )  # fmt: skip


@jit
def _dft10_powers(z, power):
    """Powers of a DFT-10, by Good's mapping, of rows 34 apart: DFT-5s of sums and differences."""
    a = 34 * L
    for v in range(L):
        r = _dft5_sums(
            z[v] + z[5 * a + v], z[2 * a + v] + z[7 * a + v], z[4 * a + v] + z[9 * a + v],
            z[6 * a + v] + z[a + v], z[8 * a + v] + z[3 * a + v],
        )  # fmt: skip
        i = _dft5_sums(
            z[L + v] + z[5 * a + L + v], z[2 * a + L + v] + z[7 * a + L + v],
            z[4 * a + L + v] + z[9 * a + L + v], z[6 * a + L + v] + z[a + L + v],
            z[8 * a + L + v] + z[3 * a + L + v],
        )  # fmt: skip
        y = _powers5(r, i)
        power[v], power[6 * L + v], power[2 * L + v] = y[0], y[1], y[2]
        power[8 * L + v], power[4 * L + v] = y[3], y[4]
    for v in range(L):
        r = _dft5_sums(
            z[v] - z[5 * a + v], z[2 * a + v] - z[7 * a + v], z[4 * a + v] - z[9 * a + v],
            z[6 * a + v] - z[a + v], z[8 * a + v] - z[3 * a + v],
        )  # fmt: skip
        i = _dft5_sums(
            z[L + v] - z[5 * a + L + v], z[2 * a + L + v] - z[7 * a + L + v],
            z[4 * a + L + v] - z[9 * a + L + v], z[6 * a + L + v] - z[a + L + v],
            z[8 * a + L + v] - z[3 * a + L + v],
        )  # fmt: skip
        y = _powers5(r, i)
        power[5 * L + v], power[L + v], power[7 * L + v] = y[0], y[1], y[2]
        power[3 * L + v], power[9 * L + v] = y[3], y[4]


def _make_dft16_powers(rows: int) -> Callable[..., Any]:
    """Return the function for one distance: places must be constants to be vectorised."""

    @jit
    def _dft16_powers(z, power):
        """Powers of a DFT-16 over the columns that step 2 left for one q, ``rows`` rows apart."""
        a = rows * L
        for v in range(L):
            p = _dft4(
                z[v], z[L + v], z[4 * a + v], z[4 * a + L + v],
                z[8 * a + v], z[8 * a + L + v], z[12 * a + v], z[12 * a + L + v],
            )  # fmt: skip
            q = _dft4(
                z[a + v], z[a + L + v], z[5 * a + v], z[5 * a + L + v],
                z[9 * a + v], z[9 * a + L + v], z[13 * a + v], z[13 * a + L + v],
            )  # fmt: skip
            r = _dft4(
                z[2 * a + v], z[2 * a + L + v], z[6 * a + v], z[6 * a + L + v],
                z[10 * a + v], z[10 * a + L + v], z[14 * a + v], z[14 * a + L + v],
            )  # fmt: skip
            s = _dft4(
                z[3 * a + v], z[3 * a + L + v], z[7 * a + v], z[7 * a + L + v],
                z[11 * a + v], z[11 * a + L + v], z[15 * a + v], z[15 * a + L + v],
            )  # fmt: skip
            y = _dft4(p[0], p[1], q[0], q[1], r[0], r[1], s[0], s[1])
            power[v], power[4 * L + v] = _power(y[0], y[1]), _power(y[2], y[3])
            power[8 * L + v], power[12 * L + v] = _power(y[4], y[5]), _power(y[6], y[7])
            br, bi = _turn(q[2], q[3], _C2, _S2)
            cr, ci = _turn(r[2], r[3], _HALF, _HALF)
            dr, di = _turn(s[2], s[3], _S2, _C2)
            y = _dft4(p[2], p[3], br, bi, cr, ci, dr, di)
            power[L + v], power[5 * L + v] = _power(y[0], y[1]), _power(y[2], y[3])
            power[9 * L + v], power[13 * L + v] = _power(y[4], y[5]), _power(y[6], y[7])
            br, bi = _turn(q[4], q[5], _HALF, _HALF)
            dr, di = _turn(s[4], s[5], -_HALF, _HALF)
            y = _dft4(p[4], p[5], br, bi, r[5], -r[4], dr, di)
            power[2 * L + v], power[6 * L + v] = _power(y[0], y[1]), _power(y[2], y[3])
            power[10 * L + v], power[14 * L + v] = _power(y[4], y[5]), _power(y[6], y[7])
            br, bi = _turn(q[6], q[7], _S2, _C2)
            cr, ci = _turn(r[6], r[7], -_HALF, _HALF)
            dr, di = _turn(s[6], s[7], -_C2, -_S2)
            y = _dft4(p[6], p[7], br, bi, cr, ci, dr, di)
            power[3 * L + v], power[7 * L + v] = _power(y[0], y[1]), _power(y[2], y[3])
            power[11 * L + v], power[15 * L + v] = _power(y[4], y[5]), _power(y[6], y[7])

    return _dft16_powers


_dft16_powers_of_32 = _make_dft16_powers(34)
_dft16_powers_of_25 = _make_dft16_powers(26)


@jit
def _dft_rows(t, u, radix):
    if radix == 4:
        _dft4_rows(t, u)
    elif radix == 5:
        _dft5_rows(t, u)
    elif radix == 8:
        _dft8_rows(t, u)
    else:
        _dft_any_rows(t, u, radix, radix)


# ---- Steps 2 and 3.


@jit
def _turn_rows(u, q, cosine, sine, z, at):
    re, im = u[2 * q * L : (2 * q + 1) * L], u[(2 * q + 1) * L : (2 * q + 2) * L]
    to_re, to_im = z[at : at + L], z[at + L : at + 2 * L]
    for v in range(L):
        to_re[v] = re[v] * cosine + im[v] * sine
        to_im[v] = im[v] * cosine - re[v] * sine


@jit
def _real_stage(tile, place, radix, turned, window, turns, t, u, halfway):
    columns, rows = window.shape
    pitch = (radix // 2 + 1) * 2 * L
    t[:] = 0.0
    for j in range(columns):
        h = halfway[j * pitch : (j + 1) * pitch]
        if radix == 32:
            _fours_rows(tile, place[j], window[j], u)
            _from_fours_rows(u, turns[j].ravel(), h)
            continue
        for a in range(rows):
            # A real row, or a complex one whose imaginary part stays zero.
            row = a if radix == 16 or radix == 25 else 2 * a
            to, weight = t[row * L : (row + 1) * L], window[j, a]
            now = tile[place[j, a] : place[j, a] + L]
            for v in range(L):
                to[v] = now[v] * weight
        to = u if turned else h
        if radix == 25:
            _dft25_real_rows(t, to)
        elif radix == 16:
            _dft16_real_rows(t, to)
        else:
            _dft_any_rows(t, to, radix, radix // 2 + 1)
        for q in range(radix // 2 + 1 if turned else 0):
            cosine, sine = 1.0, 0.0
            if q:
                cosine, sine = turns[j, q - 1, 0], turns[j, q - 1, 1]
            _turn_rows(u, q, cosine, sine, h, q * 2 * L)


@jit
def _gather(z, at, apart, count, t):
    for a in range(count):
        start = (at + a * apart) * 2 * L
        source, to = z[start : start + 2 * L], t[2 * a * L : (2 * a + 2) * L]
        for v in range(2 * L):
            to[v] = source[v]


@jit
def _column_stage(halfway, radix, columns, radices, pass_turns, t, u, power):
    """Powers, for each q in the order in which the last pass makes them."""
    pitch = radix // 2 + 1
    for q in range(pitch):
        to = power[q * columns * L : (q + 1) * columns * L]
        z = halfway[q * 2 * L :]
        if radix == 32 and columns == 16:
            _dft16_powers_of_32(z, to)
            continue
        if radix == 25:
            _dft16_powers_of_25(z, to)
            continue
        size, turn = columns, 0
        for r in radices[:-1]:
            points = size // r
            for j in range(points):
                for at in range(j, columns, size):
                    if r == 5:
                        _dft5_turned(z, at * pitch, points * pitch, pass_turns[turn:], u)
                        continue
                    _gather(z, at * pitch, points * pitch, r, t)
                    _dft_rows(t, u, r)
                    _turn_rows(u, 0, 1.0, 0.0, z, at * pitch * 2 * L)
                    for k in range(1, r):
                        w = turn + 2 * (k - 1)
                        place = (at + k * points) * pitch * 2 * L
                        _turn_rows(u, k, pass_turns[w], pass_turns[w + 1], z, place)
                turn += 2 * (r - 1)
            size = points
        r = radices[-1]
        if radix == 32 and r == 10:
            for at in range(0, columns, 10):
                _dft10_powers(z[at * 34 * L :], to[at * L : (at + 10) * L])
            continue
        for at in range(0, columns, r):
            _gather(z, at * pitch, pitch, r, t)
            _dft_rows(t, u, r)
            for k in range(r):
                re, im = u[2 * k * L : (2 * k + 1) * L], u[(2 * k + 1) * L : (2 * k + 2) * L]
                row = to[(at + k) * L : (at + k + 1) * L]
                for v in range(L):
                    row[v] = _power(re[v], im[v])


# ---- Steps 4 and 5.


@jit
def _mel_stage(power, row_of_bin, segment_bins, rising, falling, magnitude, least, mel):
    below, up, down = np.zeros(L, np.float32), np.zeros(L, np.float32), np.zeros(L, np.float32)
    number = 0
    for segment in range(segment_bins.size):
        up[:] = _ZERO
        down[:] = _ZERO
        for _ in range(segment_bins[segment]):
            start = row_of_bin[number] * L
            p, rise, fall = power[start : start + L], rising[number], falling[number]
            if magnitude:
                for v in range(L):
                    weighed = math.sqrt(max(p[v], least))
                    up[v] += weighed * rise
                    down[v] += weighed * fall
            else:
                for v in range(L):
                    up[v] += p[v] * rise
                    down[v] += p[v] * fall
            number += 1
        if segment > 0:
            to = mel[(segment - 1) * L : segment * L]
            for v in range(L):
                to[v] = below[v] + down[v]
        for v in range(L):
            below[v] = up[v]


@jit
def _log_stage(mel, terms, high, low, shift, floor, add, linear, bands, lowest, frames, out, first):
    # Each loop writes other arrays than it reads, or LLVM would not vectorise it.
    bits, kept = mel.view(np.int32), np.empty(mel.size, np.int32)
    exponents, mantissas = np.empty(mel.size, np.float32), kept.view(np.float32)
    n_mels = mel.size // L
    for i in range(mel.size):
        mel[i] = max(mel[i], floor) + add
    if not linear:
        for i in range(mel.size):
            offset = bits[i] - _SQRT_HALF_BITS
            exponents[i] = np.float32(offset >> _MANTISSA_BITS)
            kept[i] = (offset & _MANTISSA) + _SQRT_HALF_BITS
        c0, c1, c2, c3, c4, c5, c6, c7 = (
            terms[0], terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], terms[7],
        )  # fmt: skip
        for i in range(mel.size):
            f = mantissas[i] - _ONE
            s = ((((((c7 * f + c6) * f + c5) * f + c4) * f + c3) * f + c2) * f + c1) * f + c0
            mel[i] = exponents[i] * high + (s * f + (exponents[i] * low + shift))
    if bands:
        highest = np.full(L, lowest)
        for m in range(n_mels):
            values, to = mel[m * L : (m + 1) * L], out[m, first : first + frames]
            for lane in range(frames):
                to[lane] = max(values[lane], lowest)
                highest[lane] = max(highest[lane], values[lane])
        return highest.max()
    largest = np.float32(-np.inf)
    for lane in range(frames):
        row = out[first + lane]
        for m in range(n_mels):
            value = mel[m * L + lane]
            row[m] = value
            largest = max(largest, value)
    return largest


@jit
def _features(
    x, padded, first, out, frame_length, hop, offset, mirror, emphasis_kind, emphasis,
    radix, columns, step, n_fft, radices, window, turns, pass_turns,
    row_of_bin, segment_bins, rising, falling, magnitude, power_floor,
    terms, high, low, shift, floor, add, linear, bands, lowest, span,
):  # fmt: skip
    pitch = L + (frame_length - 1) // hop
    tile = np.zeros((hop + 1) * pitch, np.float64)
    halfway = np.empty((radix // 2 + 1) * columns * 2 * L, np.float64)
    t, u = np.zeros(2 * 32 * L, np.float64), np.zeros(2 * 32 * L, np.float64)
    power = np.empty((radix // 2 + 1) * columns * L, np.float32)
    count, n_mels = out.shape
    if bands:
        count, n_mels = n_mels, count
    mel = np.empty(n_mels * L, np.float32)

    # With pre-emphasis in each frame, the first sample of frames is in a row of its own.
    in_frames = emphasis_kind == _FRAME
    place = np.empty(window.shape, np.int64)
    for j in range(columns):
        for a in range(window.shape[1]):
            n = (columns * a + step * j) % n_fft
            n = n if n < frame_length else 0
            row = hop if in_frames and n == 0 else n % hop
            place[j, a] = row * pitch + n // hop

    c = emphasis if emphasis_kind != _NONE else 0.0
    largest = np.float32(-np.inf)
    for f in range(0, count, L):
        start = (first + f) * hop - offset
        _load_tile(x, padded, mirror, hop, start, c, not in_frames, pitch, tile)
        if in_frames:
            for v in range(L):
                x0 = _sample_at(x, padded, mirror, start + v * hop)
                tile[hop * pitch + v] = x0 * (1.0 - c)
        _real_stage(tile, place, radix, step == 1, window, turns, t, u, halfway)
        _column_stage(halfway, radix, columns, radices, pass_turns, t, u, power)
        _mel_stage(power, row_of_bin, segment_bins, rising, falling, magnitude, power_floor, mel)
        high_here = _log_stage(
            mel,
            terms,
            high,
            low,
            shift,
            floor,
            add,
            linear,
            bands,
            lowest,
            min(L, count - f),
            out,
            f,
        )
        largest = max(largest, high_here)
    if span < np.inf:
        least = largest - span
        for i in range(out.shape[0]):
            row = out[i]
            for j in range(row.size):
                row[j] = max(row[j], least)
    return largest


@jit
def _logarithms(v, bits, terms, logs):
    """Logarithms of one frame, the exponent's part in double."""
    c0, c1, c2, c3, c4, c5, c6, c7 = (
        terms[0], terms[1], terms[2], terms[3], terms[4], terms[5], terms[6], terms[7],
    )  # fmt: skip
    for i in range(v.size):
        offset = bits[i] - _SQRT_HALF_BITS
        logs[i] = (offset >> _MANTISSA_BITS) * _LN2
        bits[i] = (offset & _MANTISSA) + _SQRT_HALF_BITS
    for i in range(v.size):
        f = v[i] - _ONE
        s = ((((((c7 * f + c6) * f + c5) * f + c4) * f + c3) * f + c2) * f + c1) * f + c0
        logs[i] += np.float64(s * f)


@jit
def _normalize(energies, epsilon, terms):
    """Sums of l - l0 and its square, l0 of the first frame: see normalize in C."""
    count, n_mels = energies.shape
    v, logs = np.empty(n_mels, np.float32), np.empty(n_mels)
    bits = v.view(np.int32)
    mean, scale, sums, squares = (
        np.zeros(n_mels),
        np.zeros(n_mels),
        np.zeros(n_mels),
        np.zeros(n_mels),
    )
    v[:] = energies[0]
    _logarithms(v, bits, terms, mean)
    for t in range(count):
        v[:] = energies[t]
        _logarithms(v, bits, terms, logs)
        for m in range(n_mels):
            difference = logs[m] - mean[m]
            sums[m] += difference
            squares[m] += difference * difference
    for m in range(n_mels):
        spread = max(squares[m] - sums[m] * (sums[m] / count), 0.0)
        mean[m] += sums[m] / count
        scale[m] = 1.0 / (math.sqrt(spread / (count - 1)) + epsilon)
    for t in range(count):
        row = energies[t]
        v[:] = row
        _logarithms(v, bits, terms, logs)
        for m in range(n_mels):
            row[m] = np.float32((logs[m] - mean[m]) * scale[m])


# ---- The functions of the compiled module.


class StftPlan(NamedTuple):
    """What the compiled functions take, in their order."""

    plan: Plan
    arguments: tuple[Any, ...]


def stft_plan(plan: Plan) -> StftPlan:
    """Return the plan as the twin reads it."""
    tables, single = plan.tables, np.float32
    # Powers stay where the transform leaves them: the row of each bin from first_bin on.
    row_of_bin = np.zeros(plan.n_fft // 2 + 2, np.int64)
    row_of_bin[tables["bins"].ravel()] = np.arange(tables["bins"].size)
    # All rows of the first radix, those without samples too: a branch costs more than a zero.
    window = np.zeros((tables["columns"], tables["radix"]))
    window[:, : tables["rows"]] = tables["window"]
    kind = {None: _NONE, "signal": _SIGNAL, "frame": _FRAME}[plan.emphasis_kind]
    arguments = (
        tables["frame_length"], plan.hop_length, tables["offset"], plan.boundary == "mirror",
        kind, float(plan.emphasis),
        tables["radix"], tables["columns"], tables["step"], plan.n_fft, tables["radices"], window,
        tables["turns"].astype(np.float64), tables["pass_turns"].astype(np.float64),
        row_of_bin[tables["first_bin"] :], tables["segment_bins"], tables["rising"],
        tables["falling"], bool(plan.magnitude), single(tables["power_floor"]),
        tables["log_terms"], single(tables["exponent_high"]), single(tables["exponent_low"]),
        single(plan.shift), single(0 if plan.bands_first else plan.floor), single(plan.add),
        bool(plan.linear), bool(plan.bands_first), single(tables["lowest"]),
        single(np.inf if plan.span is None else plan.span),
    )  # fmt: skip
    return StftPlan(plan, arguments)


def lanes(level: int) -> int:
    """Return the number of frames in a batch."""
    return L


def features(
    made: StftPlan, level: int, x: np.ndarray, padded: int, first: int, out: np.ndarray
) -> float:
    """Write the features of consecutive frames from ``first`` on to ``out``; return the largest one.

    It is NaN if a sample is not finite or above the plan's limit.
    """
    plan = made.plan
    if out.shape[not plan.bands_first] != plan.n_mels or padded < x.size or first < 0:
        raise ValueError(f"frames from {first} of {padded} samples do not go to {out.shape}")
    if plan.boundary == "mirror" and padded <= plan.offset:
        raise ValueError(f"a buffer of {padded} samples is too short to mirror")
    if not peak(level, x) <= plan.limit:
        return math.nan
    # Numba compiles read-only and other arrays apart, and strided ones, and may round apart: take one kind.
    x = x.view()
    x.flags.writeable = False
    target = out if out.flags.c_contiguous else np.empty(out.shape, np.float32)
    largest = float(_features(x, padded, first, target, *made.arguments))
    if target is not out:
        out[:] = target
    return largest


def normalize(made: StftPlan, level: int, energies: np.ndarray, epsilon: float) -> None:
    """Bring the logarithm of each column to mean 0 and deviation 1."""
    if energies.shape[0] < 2 or energies.shape[1] != made.plan.n_mels:
        raise ValueError(f"cannot normalise energies of shape {energies.shape}")
    _normalize(energies, epsilon, made.plan.tables["log_terms"])
