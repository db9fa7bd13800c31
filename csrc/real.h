/* The precision that a kernel computes in: compiled with MM_DOUBLE = 1, a `real` is a double and a vector of reals holds
 * half as many of them as a vector of floats; else it is a float. A vector of LANES floats is PARTS vectors of WIDTH reals.
 */
#ifndef MM_REAL_H
#define MM_REAL_H

#include "simd.h"

enum { LANES = MM_LANES, WIDTH = MM_DOUBLE && MM_LANES > 1 ? MM_LANES / 2 : MM_LANES, PARTS = LANES / WIDTH };

MM_INLINE size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; } /* of floats */

/* Compilers know the instructions that convert, but make three of __builtin_convertvector where one does (GCC 12). */
#if !MM_DOUBLE

typedef float real;
typedef vf vr;
MM_INLINE vr r_load(const real *p) { return v_load(p); } /* p aligned to the vector */
MM_INLINE vr r_loadu(const real *p) { return v_loadu(p); }
MM_INLINE void r_store(real *p, vr v) { v_store(p, v); }
MM_INLINE vr r_set1(real x) { return v_set1(x); }
MM_INLINE void r_to_floats(float *p, vr v) { v_store(p, v); }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) { parts[0] = v; }

#elif MM_LANES == 1

typedef double real;
typedef double vr;
MM_INLINE vr r_load(const double *p) { return *p; }
MM_INLINE vr r_loadu(const double *p) { return *p; }
MM_INLINE void r_store(double *p, vr v) { *p = v; }
MM_INLINE vr r_set1(double x) { return x; }
MM_INLINE void r_to_floats(float *p, vr v) { *p = (float)v; }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) { parts[0] = v; }
MM_INLINE vf r_narrow(const vr parts[PARTS]) { return (float)parts[0]; }
#else

typedef double real;
typedef double vr __attribute__((vector_size(WIDTH * 8)));
typedef double vr_unaligned __attribute__((vector_size(WIDTH * 8), aligned(8)));
MM_INLINE vr r_load(const double *p) { return *(const vr *)p; } /* p aligned to the vector */
MM_INLINE vr r_loadu(const double *p) { return (vr) * (const vr_unaligned *)p; }
MM_INLINE void r_store(double *p, vr v) { *(vr *)p = v; }
MM_INLINE vr r_set1(double x) { return (vr){} + x; }
#if MM_LANES == 16 && defined(__AVX512DQ__)
MM_INLINE void r_to_floats(float *p, vr v) { _mm256_store_ps(p, _mm512_cvtpd_ps((__m512d)v)); }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) {
    parts[0] = (vr)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    parts[1] = (vr)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
}
MM_INLINE vf r_narrow(const vr parts[PARTS]) {
    const __m256 low = _mm512_cvtpd_ps((__m512d)parts[0]), high = _mm512_cvtpd_ps((__m512d)parts[1]);
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
#elif MM_LANES == 8 && defined(__AVX__)
MM_INLINE void r_to_floats(float *p, vr v) { _mm_store_ps(p, _mm256_cvtpd_ps((__m256d)v)); }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) {
    parts[0] = (vr)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
    parts[1] = (vr)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
}
MM_INLINE vf r_narrow(const vr parts[PARTS]) {
    const __m128 low = _mm256_cvtpd_ps((__m256d)parts[0]), high = _mm256_cvtpd_ps((__m256d)parts[1]);
    return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
#elif MM_LANES == 4 && defined(__SSE2__)
MM_INLINE void r_to_floats(float *p, vr v) { _mm_storel_pi((__m64 *)p, _mm_cvtpd_ps((__m128d)v)); }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) {
    parts[0] = (vr)_mm_cvtps_pd((__m128)v);
    parts[1] = (vr)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v));
}
MM_INLINE vf r_narrow(const vr parts[PARTS]) {
    return (vf)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)parts[0]), _mm_cvtpd_ps((__m128d)parts[1]));
}
#elif MM_LANES == 4 && defined(__aarch64__)
MM_INLINE void r_to_floats(float *p, vr v) { vst1_f32(p, vcvt_f32_f64((float64x2_t)v)); }
MM_INLINE void r_widen(vf v, vr parts[PARTS]) {
    parts[0] = (vr)vcvt_f64_f32(vget_low_f32((float32x4_t)v));
    parts[1] = (vr)vcvt_high_f64_f32((float32x4_t)v);
}
MM_INLINE vf r_narrow(const vr parts[PARTS]) {
    return (vf)vcvt_high_f32_f64(vcvt_f32_f64((float64x2_t)parts[0]), (float64x2_t)parts[1]);
}
#else
MM_INLINE void r_to_floats(float *p, vr v) {
    for (int l = 0; l < WIDTH; l++) p[l] = (float)v[l];
}
MM_INLINE void r_widen(vf v, vr parts[PARTS]) {
    for (int l = 0; l < LANES; l++) parts[l / WIDTH][l % WIDTH] = v[l];
}
MM_INLINE vf r_narrow(const vr parts[PARTS]) {
    vf v;
    for (int l = 0; l < LANES; l++) v[l] = (float)parts[l / WIDTH][l % WIDTH];
    return v;
}
#endif
#endif

#endif
