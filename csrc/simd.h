/* One vector type for every instruction set.
 *
 * Each kernel is written once, against `vf` (a vector of MM_LANES floats) and the helpers below, and compiled
 * once per instruction-set level with other flags (see setup.py):
 *
 *     level    MM_LANES   machine
 *     scalar       1      any C11 compiler (no vector extension needed)
 *     sse2         4      every x86-64
 *     avx2         8      x86-64-v3 (AVX2 + FMA)
 *     avx512      16      x86-64-v4
 *     neon         4      every arm64
 *
 * MM_LANES must equal the register width of the level: wider vectors than registers cost a factor of 2 to 4.
 * MM_NAME(f) gives a function its level's name, e.g. mm_mix_avx2, so that all levels link together.
 * With one lane `vf` is a plain float, so the arithmetic below is ordinary C.
 */
#ifndef MM_SIMD_H
#define MM_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef MM_LANES
#error "compile kernels with -DMM_LANES=<floats per register> -DMM_LEVEL=<level name>; see setup.py"
#endif

#define MM_PASTE_(a, b) a##_##b
#define MM_PASTE(a, b) MM_PASTE_(a, b)
#define MM_NAME(f) MM_PASTE(f, MM_LEVEL)

/* With MM_SMALL nothing is inlined or unrolled by force: under a sanitizer that would take minutes to compile. */
#if defined(__GNUC__) || defined(__clang__)
#ifdef MM_SMALL
#define MM_INLINE static inline __attribute__((unused))
#else
#define MM_INLINE static inline __attribute__((always_inline, unused))
#endif
#define MM_RESTRICT __restrict__
#define MM_ALIGNED(bytes) __attribute__((aligned(bytes)))
#define MM_PREFETCH(p) __builtin_prefetch(p)
#if defined(MM_SMALL)
#define MM_UNROLL
#elif defined(__clang__)
#define MM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define MM_UNROLL _Pragma("GCC unroll 32")
#endif
#else
#define MM_UNROLL
#define MM_INLINE static inline
#define MM_RESTRICT
#define MM_ALIGNED(bytes) _Alignas(bytes)
#define MM_PREFETCH(p) ((void)(p))
#endif

#if MM_LANES == 1

typedef float vf;
typedef int32_t vi;
typedef uint32_t vu;
MM_INLINE vf v_load(const float *p) { return *p; }
MM_INLINE vf v_loadu(const float *p) { return *p; }
MM_INLINE void v_store(float *p, vf v) { *p = v; }
MM_INLINE void v_storeu(float *p, vf v) { *p = v; }
MM_INLINE vf v_set1(float x) { return x; }
MM_INLINE vf v_max(vf a, vf b) { return a > b ? a : b; }
MM_INLINE vf v_min(vf a, vf b) { return a < b ? a : b; }
MM_INLINE float v_lane(vf v, int lane) {
    (void)lane;
    return v;
}
MM_INLINE vi v_bits(vf v) {
    vi i;
    memcpy(&i, &v, sizeof i);
    return i;
}
MM_INLINE vf v_from_bits(vi i) {
    vf v;
    memcpy(&v, &i, sizeof v);
    return v;
}
MM_INLINE vf v_from_int(vi i) { return (float)i; }

#else /* GCC/clang vector extensions */

typedef float vf __attribute__((vector_size(MM_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(MM_LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(MM_LANES * 4)));
typedef float vf_unaligned __attribute__((vector_size(MM_LANES * 4), aligned(4)));
MM_INLINE vf v_load(const float *p) { return *(const vf *)p; } /* p aligned to the vector */
MM_INLINE vf v_loadu(const float *p) { return (vf) * (const vf_unaligned *)p; }
MM_INLINE void v_store(float *p, vf v) { *(vf *)p = v; }
MM_INLINE void v_storeu(float *p, vf v) { *(vf_unaligned *)p = (vf_unaligned)v; }
MM_INLINE vf v_set1(float x) { return (vf){} + x; }
MM_INLINE float v_lane(vf v, int lane) { return v[lane]; }
MM_INLINE vi v_bits(vf v) { return (vi)v; }
MM_INLINE vf v_from_bits(vi i) { return (vf)i; }
MM_INLINE vf v_from_int(vi i) { return __builtin_convertvector(i, vf); }

/* Compilers turn the compare-and-blend form into one instruction only under -ffast-math, which we never use. */
#if MM_LANES == 4 && defined(__SSE__)
MM_INLINE vf v_max(vf a, vf b) { return (vf)__builtin_ia32_maxps(a, b); }
MM_INLINE vf v_min(vf a, vf b) { return (vf)__builtin_ia32_minps(a, b); }
#elif MM_LANES == 8 && defined(__AVX__)
MM_INLINE vf v_max(vf a, vf b) { return (vf)__builtin_ia32_maxps256(a, b); }
MM_INLINE vf v_min(vf a, vf b) { return (vf)__builtin_ia32_minps256(a, b); }
#elif MM_LANES == 16 && defined(__AVX512F__)
#include <immintrin.h>
MM_INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
MM_INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif MM_LANES == 4 && defined(__ARM_NEON)
#include <arm_neon.h>
MM_INLINE vf v_max(vf a, vf b) { return (vf)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
MM_INLINE vf v_min(vf a, vf b) { return (vf)vminq_f32((float32x4_t)a, (float32x4_t)b); }
#else
MM_INLINE vf v_max(vf a, vf b) {
    vi m = a > b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}
MM_INLINE vf v_min(vf a, vf b) {
    vi m = a < b;
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}
#endif

#endif /* MM_LANES */

/* ---- Transposes between memory order and lanes.
 *
 * Kernels keep independent pieces of work (frames, blocks) in the lanes, while memory holds each piece on its own:
 * "lane" j of the work lies at src + j*stride. Both functions move an MM_LANES x MM_LANES square:
 *
 *     v_transpose_load:   rows[i] lane j  =  src[j*stride + i]
 *     v_transpose_store:  dst[j*stride + i]  =  rows[i] lane j
 *
 * A register is taken as quarters of four floats. Loading (or storing) quarter by quarter puts each 4 x 4 square where
 * it belongs without a shuffle, because the memory unit does it; what is left is a 4 x 4 transpose inside each
 * quarter (v_transpose_quads), two shuffles for a result. Addresses need no alignment beyond that of a float.
 */
#if MM_LANES == 1

MM_INLINE void v_transpose_load(const float *src, ptrdiff_t stride, vf rows[1]) {
    (void)stride;
    rows[0] = src[0];
}
MM_INLINE void v_transpose_store(float *dst, ptrdiff_t stride, const vf rows[1]) {
    (void)stride;
    dst[0] = rows[0];
}

#elif (MM_LANES == 4 && defined(__SSE__)) || (MM_LANES == 8 && defined(__AVX__)) || \
    (MM_LANES == 16 && defined(__AVX512F__))

#include <immintrin.h>
#if MM_LANES == 4
typedef __m128 v_raw;
#define V_RAW(op) _mm_##op
#elif MM_LANES == 8
typedef __m256 v_raw;
#define V_RAW(op) _mm256_##op
#else
typedef __m512 v_raw;
#define V_RAW(op) _mm512_##op
#endif

/* In each quarter: four rows of four floats become four columns. */
MM_INLINE void v_transpose_quads(vf q[4]) {
    const v_raw low01 = V_RAW(unpacklo_ps)((v_raw)q[0], (v_raw)q[1]); /* 00 10 01 11 */
    const v_raw low23 = V_RAW(unpacklo_ps)((v_raw)q[2], (v_raw)q[3]); /* 20 30 21 31 */
    const v_raw high01 = V_RAW(unpackhi_ps)((v_raw)q[0], (v_raw)q[1]); /* 02 12 03 13 */
    const v_raw high23 = V_RAW(unpackhi_ps)((v_raw)q[2], (v_raw)q[3]); /* 22 32 23 33 */
    q[0] = (vf)V_RAW(shuffle_ps)(low01, low23, _MM_SHUFFLE(1, 0, 1, 0));
    q[1] = (vf)V_RAW(shuffle_ps)(low01, low23, _MM_SHUFFLE(3, 2, 3, 2));
    q[2] = (vf)V_RAW(shuffle_ps)(high01, high23, _MM_SHUFFLE(1, 0, 1, 0));
    q[3] = (vf)V_RAW(shuffle_ps)(high01, high23, _MM_SHUFFLE(3, 2, 3, 2));
}

/* Quarter g of the result is the four floats at p + 4*g*stride. */
MM_INLINE vf v_load_quads(const float *p, ptrdiff_t stride) {
#if MM_LANES == 4
    (void)stride;
    return (vf)_mm_loadu_ps(p);
#elif MM_LANES == 8
    return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 4 * stride), 1);
#else
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(p));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 4 * stride), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(p + 8 * stride), 2);
    return (vf)_mm512_insertf32x4(v, _mm_loadu_ps(p + 12 * stride), 3);
#endif
}

MM_INLINE void v_store_quads(float *p, ptrdiff_t stride, vf v) {
#if MM_LANES == 4
    (void)stride;
    _mm_storeu_ps(p, (__m128)v);
#elif MM_LANES == 8
    _mm_storeu_ps(p, _mm256_castps256_ps128((__m256)v));
    _mm_storeu_ps(p + 4 * stride, _mm256_extractf128_ps((__m256)v, 1));
#else
    _mm_storeu_ps(p, _mm512_castps512_ps128((__m512)v));
    _mm_storeu_ps(p + 4 * stride, _mm512_extractf32x4_ps((__m512)v, 1));
    _mm_storeu_ps(p + 8 * stride, _mm512_extractf32x4_ps((__m512)v, 2));
    _mm_storeu_ps(p + 12 * stride, _mm512_extractf32x4_ps((__m512)v, 3));
#endif
}
#define V_HAVE_QUADS 1

#elif MM_LANES == 4 && defined(__ARM_NEON)

MM_INLINE void v_transpose_quads(vf q[4]) {
    const float32x4x2_t pair01 = vtrnq_f32((float32x4_t)q[0], (float32x4_t)q[1]); /* 00 10 02 12, 01 11 03 13 */
    const float32x4x2_t pair23 = vtrnq_f32((float32x4_t)q[2], (float32x4_t)q[3]); /* 20 30 22 32, 21 31 23 33 */
    q[0] = (vf)vcombine_f32(vget_low_f32(pair01.val[0]), vget_low_f32(pair23.val[0]));
    q[1] = (vf)vcombine_f32(vget_low_f32(pair01.val[1]), vget_low_f32(pair23.val[1]));
    q[2] = (vf)vcombine_f32(vget_high_f32(pair01.val[0]), vget_high_f32(pair23.val[0]));
    q[3] = (vf)vcombine_f32(vget_high_f32(pair01.val[1]), vget_high_f32(pair23.val[1]));
}
MM_INLINE vf v_load_quads(const float *p, ptrdiff_t stride) {
    (void)stride;
    return v_loadu(p);
}
MM_INLINE void v_store_quads(float *p, ptrdiff_t stride, vf v) {
    (void)stride;
    v_storeu(p, v);
}
#define V_HAVE_QUADS 1

#else /* a vector machine that is none of the above: element by element */

MM_INLINE void v_transpose_load(const float *src, ptrdiff_t stride, vf rows[MM_LANES]) {
    for (int i = 0; i < MM_LANES; i++)
        for (int j = 0; j < MM_LANES; j++) rows[i][j] = src[j * stride + i];
}
MM_INLINE void v_transpose_store(float *dst, ptrdiff_t stride, const vf rows[MM_LANES]) {
    for (int i = 0; i < MM_LANES; i++)
        for (int j = 0; j < MM_LANES; j++) dst[j * stride + i] = rows[i][j];
}

#endif

#ifdef V_HAVE_QUADS

MM_INLINE void v_transpose_load(const float *src, ptrdiff_t stride, vf rows[MM_LANES]) {
    for (int q = 0; q < MM_LANES; q += 4) {
        for (int j = 0; j < 4; j++) rows[q + j] = v_load_quads(src + j * stride + q, stride);
        v_transpose_quads(rows + q);
    }
}

MM_INLINE void v_transpose_store(float *dst, ptrdiff_t stride, const vf rows[MM_LANES]) {
    for (int q = 0; q < MM_LANES; q += 4) {
        vf quads[4] = {rows[q], rows[q + 1], rows[q + 2], rows[q + 3]};
        v_transpose_quads(quads);
        for (int j = 0; j < 4; j++) v_store_quads(dst + j * stride + q, stride, quads[j]);
    }
}

#endif

/* The bits of the largest |x|. Without their sign, the bits of floats are ordered as the numbers are, with infinity and
 * then NaN above them all. */
MM_INLINE int32_t largest_bits(const float *x, ptrdiff_t n) {
    int32_t largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

#endif /* MM_SIMD_H */
