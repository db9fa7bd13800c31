/* Interleaved samples as decoders give them -> float32, one channel or all. */
#ifndef MM_MIX_H
#define MM_MIX_H

#include <stddef.h>
#include <stdint.h>

/* The functions of one instruction-set level: the same numbers at all of them.
 *
 * x holds `frames` frames of `channels` samples each, interleaved. Integers are divided by 2^15 (int16) or 2^31 (int32),
 * so that full scale is [-1, 1); float32 passes as it is.
 *
 * mean_*:   y[i] is the mean of frame i over its channels. The sum is exact for integers and carried in double for
 *           float32; the result is rounded to float32 once.
 * split_*:  y[c * stride + i] is channel c of frame i.
 * peak:     the largest |x|; NaN if a sample is NaN, else infinity if one is infinite.
 */
typedef struct {
    void (*mean_i16)(const int16_t *x, ptrdiff_t frames, int channels, float *y);
    void (*mean_i32)(const int32_t *x, ptrdiff_t frames, int channels, float *y);
    void (*mean_f32)(const float *x, ptrdiff_t frames, int channels, float *y);
    void (*split_i16)(const int16_t *x, ptrdiff_t frames, int channels, float *y, ptrdiff_t stride);
    void (*split_i32)(const int32_t *x, ptrdiff_t frames, int channels, float *y, ptrdiff_t stride);
    void (*split_f32)(const float *x, ptrdiff_t frames, int channels, float *y, ptrdiff_t stride);
    float (*peak)(const float *x, ptrdiff_t samples);
} mm_mix_kernel;

#endif
