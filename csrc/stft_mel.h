/* Log-mel features of the families other than Whisper: samples in, features out. The method is explained in
 * stft_mel.c; the plan is built, in float64, by mmaupro_ext/native/stft_mel.py. */
#ifndef MM_STFT_MEL_H
#define MM_STFT_MEL_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

/* y[i] = x[i] - c x[i-1] before the window, where c is the plan's `emphasis`. */
enum mm_stft_emphasis {
    MM_EMPHASIS_NONE = 0,   /* y = x */
    MM_EMPHASIS_SIGNAL = 1, /* once, along the signal: the first sample stays as it is, y is zero outside the signal */
    MM_EMPHASIS_FRAME = 2   /* in each frame on its own: its first sample stands in for the one before */
};

/* What lies before the first sample and after the last one. */
enum mm_stft_boundary { MM_BOUNDARY_ZEROS = 0, MM_BOUNDARY_MIRROR = 1 };

enum { MM_STFT_PASSES_MAX = 16, MM_STFT_LOG_TERMS = 8 };

/* All that depends on the family and not on the signal. Read-only, so threads may share it; the arrays belong to the
 * caller. Sizes in brackets; `columns` = n_fft / radix, `half` = radix / 2. */
typedef struct {
    float limit; /* the largest sample that cannot make an energy overflow */

    /* frames: frame t starts at sample hop_length t - offset */
    int frame_length, hop_length, offset, boundary;
    int emphasis_kind, remove_mean;
    double emphasis;

    /* transform of n_fft points as radix x columns; rows = rows of the radix that hold samples (the rest is zero) */
    int n_fft, radix, columns, rows;
    int passes, radices[MM_STFT_PASSES_MAX];
    const double *window;     /* [columns][rows] */
    const double *turns;      /* [columns][half][cos, sin]: between the radix and the columns */
    const double *pass_turns; /* for each pass but the last: [points after the pass][its radix - 1][cos, sin] */
    const int32_t *bins;      /* [half + 1][columns]: the bin at each place after the last pass; n_fft / 2 + 1: none */

    /* filters: see make_bank in stft_mel.py */
    int n_mels, first_bin, magnitude;
    float power_floor;
    const int32_t *segment_bins; /* [n_mels + 1] */
    const float *rising, *falling;

    /* feature = scale ln(max(v, floor) + add) + shift, with the scale already in the coefficients; with `linear` it is
     * max(v, floor) + add */
    int linear;
    float floor, add, shift, exponent_high, exponent_low;
    float log_terms[MM_STFT_LOG_TERMS];
} mm_stft_plan;

/* The functions of one instruction-set level. */
typedef struct {
    int lanes; /* frames in a batch */

    /* Working memory of one call of `features`, in bytes, to be aligned to 64. */
    size_t (*scratch_bytes)(const mm_stft_plan *plan);

    /* Features of frames first .. first + count - 1 of the n samples x, followed by padded - n zeros (n <= padded):
     * out[(t - first) * stride + m] for mel m and frame t. Returns the largest feature (-infinity if count is 0), or NaN
     * if a sample of these frames is not finite or above the plan's limit: the output is then worthless. */
    float (*features)(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t first,
                      ptrdiff_t count, float *out, ptrdiff_t stride, void *scratch);

    /* Raise numbers to at least `lowest`. */
    void (*clamp)(float *v, ptrdiff_t n, float lowest);

    /* The largest |x|; NaN if a sample is NaN. */
    float (*peak)(const float *x, ptrdiff_t n);

    /* Energies v (from a `linear` plan) to features, in place: for each of the plan's columns
     * (ln v - mean) / (deviation + epsilon) over `count` >= 2 rows, the squares of the deviation over count - 1. The
     * working memory is 3 n_mels numbers, n_mels rounded up to whole batches, aligned to 64 bytes. */
    void (*normalize)(const mm_stft_plan *plan, float *energies, ptrdiff_t count, ptrdiff_t stride, double epsilon,
                      double *working_memory);
} mm_stft_kernel;

extern const mm_stft_kernel mm_stft_scalar, mm_stft_sse2, mm_stft_neon, mm_stft_avx2, mm_stft_avx512;

/* The kernel of a level, or NULL where this build lacks it. setup.py defines MM_HAVE_<LEVEL> for what it links. */
static inline const mm_stft_kernel *mm_stft_kernel_of(int level) {
    switch (level) {
    case MM_SCALAR:
        return &mm_stft_scalar;
#ifdef MM_HAVE_SSE2
    case MM_SSE2:
        return &mm_stft_sse2;
#endif
#ifdef MM_HAVE_NEON
    case MM_NEON:
        return &mm_stft_neon;
#endif
#ifdef MM_HAVE_AVX2
    case MM_AVX2:
        return &mm_stft_avx2;
#endif
#ifdef MM_HAVE_AVX512
    case MM_AVX512:
        return &mm_stft_avx512;
#endif
    default:
        return NULL;
    }
}

#endif
