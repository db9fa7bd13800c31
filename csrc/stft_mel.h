/* Log-mel features: samples in, features out. The method is explained in stft_mel.c; the plan is made, in float64, by
 * mmaupro_ext/native/stft_plan.py. */
#ifndef MM_STFT_MEL_H
#define MM_STFT_MEL_H

#include <stddef.h>
#include <stdint.h>

/* y[i] = x[i] - c x[i-1] before the window, where c is the plan's `emphasis`. */
enum mm_stft_emphasis {
    MM_EMPHASIS_NONE = 0,   /* y = x */
    MM_EMPHASIS_SIGNAL = 1, /* once, along the signal: the first sample stays as it is, y is zero outside the signal */
    MM_EMPHASIS_FRAME = 2 /* in each frame on its own: its first sample stands in for the one before */
};

/* What lies before the first sample and after the last one. */
enum mm_stft_boundary { MM_BOUNDARY_ZEROS = 0, MM_BOUNDARY_MIRROR = 1 };

enum { MM_STFT_PASSES_MAX = 16, MM_LOG_TERMS = 8 };

/* All that depends on the family and not on the signal. Read-only, so threads may share it; the arrays belong to the
 * caller. Sizes in brackets; `columns` = n_fft / radix, `half` = radix / 2. */
typedef struct {
    float limit; /* the largest sample that cannot make an energy overflow */

    /* frames: frame t starts at sample hop_length t - offset */
    int frame_length, hop_length, offset, boundary;
    int emphasis_kind;
    double emphasis;

    /* transform of n_fft points as radix x columns; rows = rows of the radix that hold samples (the rest is zero) */
    int n_fft, radix, columns, rows;
    int step; /* samples from one column to the next: 1, or `radix` where the factors are coprime (Good's mapping) */
    int passes, radices[MM_STFT_PASSES_MAX];
    /* Doubles or floats, as the kernel computes: */
    const void *window; /* [columns][rows] */
    const void *turns; /* [columns][half][cos, sin]: between the radix and the columns */
    const void *pass_turns; /* for each pass but the last: [points after the pass][its radix - 1][cos, sin] */
    const int32_t *bins; /* [half + 1][columns]: the bin at each place after the last pass; n_fft / 2 + 1: none */

    /* filters: see make_bank in stft_plan.py */
    int n_mels, first_bin, magnitude;
    float power_floor;
    const int32_t *segment_bins; /* [n_mels + 1] */
    const float *rising, *falling;

    /* feature = scale ln(max(v, floor) + add) + shift, with the scale already in the coefficients; with `linear` it is
     * max(v, floor) + add */
    int linear;
    float span; /* features are raised to the largest of the call less this; infinity: they are not */
    /* Whether each band's frames lie together in the output; features are then raised to `lowest`, and `floor`, `add` and
     * `linear` are not looked at. */
    int bands_first;
    float lowest;
    float floor, add, shift, exponent_high, exponent_low;
    float log_terms[MM_LOG_TERMS];
} mm_stft_plan;

/* The functions of one instruction-set level and precision. */
typedef struct {
    /* Working memory of one call of `features` for so many frames, in bytes, to be aligned to 64. */
    size_t (*scratch_bytes)(const mm_stft_plan *plan, ptrdiff_t count);

    /* Features of frames first .. first + count - 1 of the n samples x, followed by padded - n zeros (n <= padded):
     * out[(t - first) * stride + m] for mel m and frame t, or with bands first out[m * stride + t - first]. Returns the
     * largest feature (-infinity if count is 0), or NaN if a sample of these frames is not finite or so large that an
     * energy may overflow: the output is then worthless. It may be NaN, too, for such a sample behind them, up to a batch
     * of frames further on. */
    float (*features)(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t first,
                      ptrdiff_t count, float *out, ptrdiff_t stride, void *scratch);
} mm_stft_kernel;

#endif
