/* Small transforms in registers, forward: y[k] = sum over n of x[n] exp(-2 pi i n k / length). */
#ifndef MM_DFT_H
#define MM_DFT_H

#include "real.h"

typedef struct {
    vr re, im;
} complex_vr;

MM_INLINE complex_vr c_load(const real *p) { return (complex_vr){r_load(p), r_load(p + WIDTH)}; }
MM_INLINE void c_store(real *p, complex_vr a) {
    r_store(p, a.re);
    r_store(p + WIDTH, a.im);
}
MM_INLINE complex_vr c_add(complex_vr a, complex_vr b) { return (complex_vr){a.re + b.re, a.im + b.im}; }
MM_INLINE complex_vr c_sub(complex_vr a, complex_vr b) { return (complex_vr){a.re - b.re, a.im - b.im}; }
/* a + i b and a - i b */
MM_INLINE complex_vr c_add_i(complex_vr a, complex_vr b) { return (complex_vr){a.re - b.im, a.im + b.re}; }
MM_INLINE complex_vr c_sub_i(complex_vr a, complex_vr b) { return (complex_vr){a.re + b.im, a.im - b.re}; }
/* a exp(-i phi), given cos phi and sin phi */
MM_INLINE complex_vr c_turn(complex_vr a, real cosine, real sine) {
    return (complex_vr){a.re * cosine + a.im * sine, a.im * cosine - a.re * sine};
}

MM_INLINE void dft2(const complex_vr x[2], complex_vr y[2]) {
    y[0] = c_add(x[0], x[1]);
    y[1] = c_sub(x[0], x[1]);
}

MM_INLINE void dft4(const complex_vr x[4], complex_vr y[4]) {
    const complex_vr sum02 = c_add(x[0], x[2]), difference02 = c_sub(x[0], x[2]);
    const complex_vr sum13 = c_add(x[1], x[3]), difference13 = c_sub(x[1], x[3]);
    y[0] = c_add(sum02, sum13);
    y[1] = c_sub_i(difference02, difference13);
    y[2] = c_sub(sum02, sum13);
    y[3] = c_add_i(difference02, difference13);
}

/* a exp(-2 pi i m / 32), m a constant from 0 to 18. */
MM_INLINE complex_vr c_turn32(complex_vr a, const int m) {
    // clang-format off
    static const real cosine[19] = {
        1, 0.980785280403230449, 0.923879532511286756, 0.831469612302545237, 0.707106781186547524,
        0.555570233019602225, 0.382683432365089772, 0.195090322016128268, 0, -0.195090322016128268,
        -0.382683432365089772, -0.555570233019602225, -0.707106781186547524, -0.831469612302545237,
        -0.923879532511286756, -0.980785280403230449, -1, -0.980785280403230449, -0.923879532511286756};
    // clang-format on
    if (m == 0) return a;
    if (m == 8) return (complex_vr){a.im, -a.re};
    return c_turn(a, cosine[m], m < 8 ? cosine[8 - m] : cosine[m - 8]); /* sin phi = cos(phi - a quarter) */
}

/* DFT-8 as 2 x 4: the even outputs are a DFT-4 of the sums, the odd ones of the turned differences. */
MM_INLINE void dft8(const complex_vr x[8], complex_vr y[8]) {
    complex_vr sums[4], differences[4], even[4], odd[4];
    MM_UNROLL
    for (int j = 0; j < 4; j++) {
        sums[j] = c_add(x[j], x[j + 4]);
        differences[j] = c_sub(x[j], x[j + 4]);
    }
    MM_UNROLL
    for (int j = 1; j < 4; j++) differences[j] = c_turn32(differences[j], 4 * j);
    dft4(sums, even);
    dft4(differences, odd);
    MM_UNROLL
    for (int r = 0; r < 4; r++) {
        y[2 * r] = even[r];
        y[2 * r + 1] = odd[r];
    }
}

/* cos and sin of 2 pi j / radix, radix = 3, 5, 7. */
static const real odd_cosine[8][7] = {
    [3] = {1, -0.5, -0.5},
    [5] = {1, 0.309016994374947424, -0.809016994374947424, -0.809016994374947424, 0.309016994374947424},
    [7] = {1, 0.623489801858733531, -0.222520933956314404, -0.900968867902419126, -0.900968867902419126,
           -0.222520933956314404, 0.623489801858733531}};
static const real odd_sine[8][7] = {
    [3] = {0, 0.866025403784438647, -0.866025403784438647},
    [5] = {0, 0.951056516295153572, 0.587785252292473129, -0.587785252292473129, -0.951056516295153572},
    [7] = {0, 0.781831482468029809, 0.974927912181823607, 0.433883739117558120, -0.433883739117558120,
           -0.974927912181823607, -0.781831482468029809}};

/* DFT of an odd length, by its definition on sums and differences of the inputs j and radix - j. */
MM_INLINE void dft_odd(const complex_vr *x, complex_vr *y, const int radix) {
    complex_vr sums[4], differences[4];
    y[0] = x[0];
    MM_UNROLL
    for (int j = 1; j <= radix / 2; j++) {
        sums[j] = c_add(x[j], x[radix - j]);
        differences[j] = c_sub(x[j], x[radix - j]);
        y[0] = c_add(y[0], sums[j]);
    }
    MM_UNROLL
    for (int q = 1; q <= radix / 2; q++) {
        complex_vr even = x[0], odd = {r_set1(0), r_set1(0)};
        MM_UNROLL
        for (int j = 1; j <= radix / 2; j++) {
            const real cosine = odd_cosine[radix][j * q % radix], sine = odd_sine[radix][j * q % radix];
            even = (complex_vr){even.re + sums[j].re * cosine, even.im + sums[j].im * cosine};
            odd = (complex_vr){odd.re + differences[j].re * sine, odd.im + differences[j].im * sine};
        }
        y[q] = c_sub_i(even, odd);
        y[radix - q] = c_add_i(even, odd);
    }
}

/* DFT-5 of real input: outputs 0, 1 and 2; outputs 4 and 3 are the conjugates of the last two. */
MM_INLINE void dft5_real(const vr x[5], vr *y0, complex_vr *y1, complex_vr *y2) {
    const real cos1 = odd_cosine[5][1], cos2 = odd_cosine[5][2], sin1 = odd_sine[5][1], sin2 = odd_sine[5][2];
    const vr sum1 = x[1] + x[4], sum2 = x[2] + x[3], difference1 = x[1] - x[4], difference2 = x[2] - x[3];
    *y0 = x[0] + sum1 + sum2;
    *y1 = (complex_vr){x[0] + sum1 * cos1 + sum2 * cos2, -(difference1 * sin1 + difference2 * sin2)};
    *y2 = (complex_vr){x[0] + sum1 * cos2 + sum2 * cos1, difference2 * sin1 - difference1 * sin2};
}

/* DFT-10 by Good's mapping, since 2 and 5 are coprime: with n = (5 n1 + 2 n2) mod 10, k1 = k mod 2 and k2 = k mod 5,
 * exp(-2 pi i n k / 10) = exp(-2 pi i n1 k1 / 2) exp(-2 pi i n2 k2 / 5). */
MM_INLINE void dft10(const complex_vr x[10], complex_vr y[10]) {
    complex_vr sums[5], differences[5], even[5], odd[5];
    MM_UNROLL
    for (int n2 = 0; n2 < 5; n2++) {
        sums[n2] = c_add(x[2 * n2], x[(2 * n2 + 5) % 10]);
        differences[n2] = c_sub(x[2 * n2], x[(2 * n2 + 5) % 10]);
    }
    dft_odd(sums, even, 5);
    dft_odd(differences, odd, 5);
    MM_UNROLL
    for (int k2 = 0; k2 < 5; k2++) { /* 6 is 0 mod 2 and 1 mod 5 */
        y[6 * k2 % 10] = even[k2];
        y[(6 * k2 + 5) % 10] = odd[k2];
    }
}

MM_INLINE void dft(const complex_vr *x, complex_vr *y, const int radix) {
    switch (radix) { /* a constant wherever this is used */
    case 2: dft2(x, y); break;
    case 3:
    case 5:
    case 7: dft_odd(x, y, radix); break;
    case 4: dft4(x, y); break;
    case 8: dft8(x, y); break;
    case 10: dft10(x, y); break;
    default: y[0] = x[0];
    }
}

/* ---- Transforms of real input. */

typedef struct {
    real *to; /* output q goes to to + q apart */
    ptrdiff_t apart;
    const real *turns; /* NULL: outputs are not turned (Good's mapping) */
} outputs;

/* Output q of a transform of `radix` real points; beyond the middle it is the conjugate of radix - q. */
MM_INLINE void put(outputs o, int q, const int radix, complex_vr y) {
    if (2 * q > radix) {
        q = radix - q;
        y.im = -y.im;
    }
    c_store(o.to + q * o.apart, q && o.turns ? c_turn(y, o.turns[2 * q - 2], o.turns[2 * q - 1]) : y);
}

/* DFT-4 of real input: outputs 0 and 2 are real, and 3 is the conjugate of 1. */
MM_INLINE void dft4_real(vr x0, vr x1, vr x2, vr x3, vr *y0, complex_vr *y1, vr *y2) {
    const vr sum02 = x0 + x2, sum13 = x1 + x3;
    *y0 = sum02 + sum13;
    *y1 = (complex_vr){x0 - x2, x3 - x1};
    *y2 = sum02 - sum13;
}

/* DFT-4r of real input, r = 4 or 8, given the DFT-4s of its samples b, b + r, b + 2 r, b + 3 r: with n = r a + b and
 * k = c + 4 d,    exp(-2 pi i n k / 4r) = exp(-2 pi i a c / 4) exp(-2 pi i b c / 4r) exp(-2 pi i b d / r).
 *
 * c = 0: real input.   c = 1: complex input.   c = 3: the conjugates of c = 1.
 * c = 2: real input v, and an odd number of half turns over its length: for even d
 *        v[b] exp(-2 pi i b (1 + 2 d) / 2r) and the same of b + r / 2 differ by the factor -i, whatever d. So d = 0, 2, ...
 *        is a complex transform of v[b] - i v[b + r / 2], of half the length, and odd d are the conjugates. */
MM_INLINE void dft_from_fours(const vr *v0, const complex_vr *v1, const vr *v2, const int r, outputs o) {
    const int radix = 4 * r;
    complex_vr in[8], out[8];
    const vr zero = r_set1(0);
    if (r == 8) {
        vr even0, even2, odd0, odd2;
        complex_vr even1, odd1;
        dft4_real(v0[0], v0[2], v0[4], v0[6], &even0, &even1, &even2);
        dft4_real(v0[1], v0[3], v0[5], v0[7], &odd0, &odd1, &odd2);
        odd1 = c_turn32(odd1, 4);
        put(o, 0, radix, (complex_vr){even0 + odd0, zero});
        put(o, 16, radix, (complex_vr){even0 - odd0, zero});
        put(o, 8, radix, (complex_vr){even2, -odd2});
        put(o, 4, radix, c_add(even1, odd1));
        put(o, 20, radix, c_sub(even1, odd1));
    } else {
        vr y0, y2;
        complex_vr y1;
        dft4_real(v0[0], v0[1], v0[2], v0[3], &y0, &y1, &y2);
        put(o, 0, radix, (complex_vr){y0, zero});
        put(o, 4, radix, y1);
        put(o, 8, radix, (complex_vr){y2, zero});
    }
    MM_UNROLL
    for (int b = 0; b < r / 2; b++) in[b] = c_turn32((complex_vr){v2[b], -v2[b + r / 2]}, 16 / r * b);
    dft(in, out, r / 2);
    MM_UNROLL
    for (int d = 0; d < r / 2; d++) put(o, 2 + 8 * d, radix, out[d]);
    MM_UNROLL
    for (int b = 0; b < r; b++) in[b] = c_turn32(v1[b], 8 / r * b);
    dft(in, out, r);
    MM_UNROLL
    for (int d = 0; d < r; d++) put(o, 1 + 4 * d, radix, out[d]);
}

/* DFT-25 of real input as 5 x 5, with n = 5 a + b and k = c + 5 d:
 * exp(-2 pi i n k / 25) = exp(-2 pi i a c / 5) exp(-2 pi i b c / 25) exp(-2 pi i b d / 5).
 * Of the outputs of the inner DFT-5s only c = 0 (real), 1 and 2 are needed. inner0[b], inner1[b], inner2[b] are those. */
MM_INLINE void dft25_from_fives(const vr inner0[5], complex_vr inner1[5], complex_vr inner2[5], outputs o) {
    // clang-format off
    static const real cosine[9] = {1, 0.968583161128631119, 0.876306680043863587, 0.728968627421411523, 0.535826794978996618,
                                   0, 0.0627905195293134, 0, -0.425779291565072649};
    static const real sine[9] = {0, 0.248689887164854788, 0.481753674101715275, 0.684547105928688674, 0.844327925502015079,
                                 0, 0.998026728428271562, 0, 0.904827052466019528};
    // clang-format on
    vr y0;
    complex_vr y[5];
    MM_UNROLL
    for (int b = 1; b < 5; b++) {
        inner1[b] = c_turn(inner1[b], cosine[b], sine[b]);
        inner2[b] = c_turn(inner2[b], cosine[2 * b], sine[2 * b]);
    }
    dft5_real(inner0, &y0, &y[1], &y[2]);
    put(o, 0, 25, (complex_vr){y0, r_set1(0)});
    put(o, 5, 25, y[1]);
    put(o, 10, 25, y[2]);
    dft_odd(inner1, y, 5);
    MM_UNROLL
    for (int d = 0; d < 5; d++) put(o, 1 + 5 * d, 25, y[d]);
    dft_odd(inner2, y, 5);
    MM_UNROLL
    for (int d = 0; d < 5; d++) put(o, 2 + 5 * d, 25, y[d]);
}

#endif
