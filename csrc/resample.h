/* Rational resampling by overlap-save FFT, many blocks at once in the lanes of the registers.
 *
 * A plan is made in Python (mmaupro_ext/native/resample_plan.py), holds plain arrays and is only read here, so any
 * number of threads may share it. Scratch comes from the caller; nothing is allocated.
 */
#ifndef MM_RESAMPLE_H
#define MM_RESAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* Transforms are at most 2^16 points long, so they never have more stages than this. */
enum { MM_MAX_STAGES = 16 };
/* Largest prime factor of a transform length; every lane's butterfly of that size must fit on the stack. */
enum { MM_MAX_RADIX = 61 };

/* One complex FFT, decimation in frequency: n = radix[0] * radix[1] * ... */
typedef struct {
    int n;
    int stages;
    int radix[MM_MAX_STAGES];
    /* Stage s, sub-transforms of n_s points, m = n_s / radix: (radix - 1) pairs (cos, sin) for each of its m
     * butterflies. A radix without a codelet of its own has its `radix` roots of unity in front. */
    const float *twiddles[MM_MAX_STAGES];
} mm_fft;

typedef struct {
    mm_fft in, out;          /* N_in = B*down and N_out = B*up points */
    int hop_in, hop_out;     /* samples by which consecutive blocks are apart */
    int context;             /* input samples of a block that lie before the instant of its first kept output */
    const int32_t *bin_row;  /* [N_in] row of the forward transform's result -> row of the output spectrum, or -1 */
    const float *response;   /* [N_in][2] filter at that row, with the scale 1/N_in and the fractional delay */
    const int32_t *zero_row; /* [n_zero] rows of the output spectrum that no bin fills */
    int n_zero;
    const int32_t *out_row;  /* [hop_out] row in which the output transform leaves the n-th kept sample */
} mm_resample_plan;

/* The functions of one instruction-set level. */
typedef struct {
    /* Floats of working memory that one call of `blocks` needs, aligned to 64 bytes. */
    int64_t (*scratch_floats)(const mm_resample_plan *plan);

    /* Resample blocks [2*first_pair, 2*last_pair).
     *
     * Block t gives output samples [t*hop_out, (t+1)*hop_out) of the whole signal; the last one is cut at `n_out`.
     * x:  input samples [x_first, x_first + x_count) of the whole signal; every other sample counts as zero
     * y:  output samples from 2*first_pair*hop_out on
     *
     * The result of a pair depends on nothing but its own input samples: not on the range that it is computed in. */
    void (*blocks)(const mm_resample_plan *plan, const float *x, int64_t x_first, int64_t x_count, float *y,
                   int64_t n_out, int64_t first_pair, int64_t last_pair, float *scratch);
} mm_resample_kernel;

#endif
