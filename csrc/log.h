/* scale ln(v) of floats, by exponent and mantissa. */
#ifndef MM_LOG_H
#define MM_LOG_H

#include "simd.h"
#include "stft_mel.h" /* MM_LOG_TERMS */

/* v = m 2^e with m in [sqrt(1/2), sqrt(2)): the float e, and m - 1. v is a normal number; of others, whatever comes out. */
MM_INLINE void split(vf v, vf *exponent, vf *f) {
    const int32_t sqrt_half = 0x3f3504f3; /* bits of sqrt(1/2): subtracted, the mantissa falls in that interval */
    const vi offset = (vi)((vu)v_bits(v) - (uint32_t)sqrt_half); /* unsigned: of a negative v it would overflow */
    *f = v_from_bits((offset & 0x007fffff) + sqrt_half) - 1.0f;
    *exponent = v_from_int(offset >> 23);
}

/* scale ln(1 + f) by its series, of several vectors at once: each coefficient is loaded once for all of them. */
MM_INLINE void series(const float *terms, const vf *f, vf *sum, const int count) {
    MM_UNROLL
    for (int i = 0; i < count; i++) sum[i] = v_set1(terms[MM_LOG_TERMS - 1]);
    MM_UNROLL
    for (int t = MM_LOG_TERMS - 2; t >= 0; t--) {
        MM_UNROLL
        for (int i = 0; i < count; i++) sum[i] = sum[i] * f[i] + terms[t];
    }
    MM_UNROLL
    for (int i = 0; i < count; i++) sum[i] *= f[i];
}

#endif
