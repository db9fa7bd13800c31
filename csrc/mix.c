/* Interleaved samples -> float32. See mix.h for the interface.
 *
 * Plain loops: the compiler turns those with a constant number of channels into vector code for each level. Mono and
 * stereo, nearly all files, get such loops; more channels take the general one.
 *
 * Exactness. An int16 is a float32 exactly, and so is the sum of two (17 bits); scales are powers of two for one and two
 * channels, so mono and stereo int16 lose nothing. The rest is summed without error in a wider type (int64 holds 2^32
 * int32 channels, double adds float32 samples of like size exactly) and rounded to float32 once.
 */
#include "mix.h"

#include "simd.h"

/* Division by full scale, 2^15 or 2^31, and by the number of channels. */
#define SCALE_I16(channels) (1.0 / (32768.0 * (channels)))
#define SCALE_I32(channels) (1.0 / (2147483648.0 * (channels)))

static void mean_i16(const int16_t *MM_RESTRICT x, ptrdiff_t frames, int channels, float *MM_RESTRICT y) {
    if (channels == 1) {
        for (ptrdiff_t i = 0; i < frames; i++) y[i] = (float)x[i] * (float)SCALE_I16(1);
    } else if (channels == 2) {
        for (ptrdiff_t i = 0; i < frames; i++) y[i] = (float)((int32_t)x[2 * i] + x[2 * i + 1]) * (float)SCALE_I16(2);
    } else {
        const double full_scale = 32768.0 * channels;
        for (ptrdiff_t i = 0; i < frames; i++, x += channels) {
            int64_t sum = 0;
            for (int c = 0; c < channels; c++) sum += x[c];
            y[i] = (float)((double)sum / full_scale);
        }
    }
}

static void mean_i32(const int32_t *MM_RESTRICT x, ptrdiff_t frames, int channels, float *MM_RESTRICT y) {
    if (channels == 1) {
        for (ptrdiff_t i = 0; i < frames; i++) y[i] = (float)x[i] * (float)SCALE_I32(1);
    } else if (channels == 2) {
        for (ptrdiff_t i = 0; i < frames; i++) y[i] = (float)(((double)x[2 * i] + (double)x[2 * i + 1]) * SCALE_I32(2));
    } else {
        const double full_scale = 2147483648.0 * channels;
        for (ptrdiff_t i = 0; i < frames; i++, x += channels) {
            int64_t sum = 0;
            for (int c = 0; c < channels; c++) sum += x[c];
            y[i] = (float)((double)sum / full_scale);
        }
    }
}

static void mean_f32(const float *MM_RESTRICT x, ptrdiff_t frames, int channels, float *MM_RESTRICT y) {
    if (channels == 1) {
        memcpy(y, x, (size_t)frames * sizeof *y);
    } else if (channels == 2) {
        /* In double, as all else: in float, halves of the smallest numbers round, or not where a level fuses the sum. */
        for (ptrdiff_t i = 0; i < frames; i++) y[i] = (float)(((double)x[2 * i] + (double)x[2 * i + 1]) * 0.5);
    } else {
        for (ptrdiff_t i = 0; i < frames; i++, x += channels) {
            double sum = 0.0;
            for (int c = 0; c < channels; c++) sum += (double)x[c];
            y[i] = (float)(sum / channels);
        }
    }
}

#define SPLIT(name, type, scale)                                                                             \
    static void name(const type *MM_RESTRICT x, ptrdiff_t frames, int channels, float *MM_RESTRICT y,        \
                     ptrdiff_t stride) {                                                                     \
        if (channels == 2) {                                                                                 \
            float *MM_RESTRICT right = y + stride;                                                           \
            for (ptrdiff_t i = 0; i < frames; i++) {                                                         \
                y[i] = (float)x[2 * i] * (scale);                                                            \
                right[i] = (float)x[2 * i + 1] * (scale);                                                    \
            }                                                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int c = 0; c < channels; c++)                                                                   \
            for (ptrdiff_t i = 0; i < frames; i++) y[c * stride + i] = (float)x[i * channels + c] * (scale); \
    }

SPLIT(split_i16, int16_t, (float)SCALE_I16(1))
SPLIT(split_i32, int32_t, (float)SCALE_I32(1))
SPLIT(split_f32, float, 1.0f)

static float peak(const float *x, ptrdiff_t samples) {
    const int32_t largest = largest_bits(x, samples);
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

const mm_mix_kernel MM_NAME(mm_mix) = {mean_i16, mean_i32, mean_f32, split_i16, split_i32, split_f32, peak};
