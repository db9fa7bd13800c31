/* Energies to features whose bands have mean 0 and deviation 1. See normalize.h for the interface.
 *
 * A band that hardly varies has a deviation that is made of rounding errors, and the deviation is the divisor. So
 * logarithms are never rounded to float, and sums are in double: sums of l - l0 and (l - l0)^2, l0 the logarithm of the
 * band's first frame. As l0 is one of the values, (mean - l0)^2 is at most `count` times their variance, and what the
 * difference of the two sums loses is 1e-16 count of the result.
 *
 * Bands are taken LANES at a time and frames in blocks that stay in the first-level cache. */
#include "normalize.h"

#include <math.h>

#define MM_DOUBLE 1
#include "log.h"
#include "real.h"

/* ln of LANES energies, in double: the error is 5e-8 whatever the size of the logarithm. */
MM_INLINE void logarithms(const float *terms, vf v, vr logs[PARTS]) {
    vf exponent, f, sum;
    vr exponents[PARTS];
    split(v, &exponent, &f);
    series(terms, &f, &sum, 1);
    r_widen(exponent, exponents);
    r_widen(sum, logs);
    for (int p = 0; p < PARTS; p++) logs[p] += exponents[p] * 0.693147180559945309;
}

/* Up to LANES numbers of a row; ones stand in for those beyond it. */
MM_INLINE vf load_bands(const float *v, int bands) {
    if (bands == LANES) return v_loadu(v);
    MM_ALIGNED(64) float part[LANES];
    for (int l = 0; l < LANES; l++) part[l] = l < bands ? v[l] : 1.0f;
    return v_load(part);
}

MM_INLINE void add_bands(const float *terms, const float *energies, ptrdiff_t count, ptrdiff_t stride, int bands,
                         const double *first, double *sums, double *squares) {
    vr base[PARTS], sum[PARTS], square[PARTS], logs[PARTS];
    for (int p = 0; p < PARTS; p++) {
        base[p] = r_load(first + p * WIDTH);
        sum[p] = r_load(sums + p * WIDTH);
        square[p] = r_load(squares + p * WIDTH);
    }
    for (ptrdiff_t t = 0; t < count; t++) {
        logarithms(terms, load_bands(energies + t * stride, bands), logs);
        for (int p = 0; p < PARTS; p++) {
            const vr difference = logs[p] - base[p];
            sum[p] += difference;
            square[p] += difference * difference;
        }
    }
    for (int p = 0; p < PARTS; p++) {
        r_store(sums + p * WIDTH, sum[p]);
        r_store(squares + p * WIDTH, square[p]);
    }
}

MM_INLINE void scale_bands(const float *terms, float *energies, ptrdiff_t count, ptrdiff_t stride, int bands,
                           const double *means, const double *scales) {
    vr mean[PARTS], scale[PARTS], logs[PARTS];
    for (int p = 0; p < PARTS; p++) {
        mean[p] = r_load(means + p * WIDTH);
        scale[p] = r_load(scales + p * WIDTH);
    }
    for (ptrdiff_t t = 0; t < count; t++) {
        logarithms(terms, load_bands(energies + t * stride, bands), logs);
        for (int p = 0; p < PARTS; p++) logs[p] = (logs[p] - mean[p]) * scale[p];
        if (bands == LANES) {
            v_storeu(energies + t * stride, r_narrow(logs));
        } else {
            MM_ALIGNED(64) float part[LANES];
            v_store(part, r_narrow(logs));
            memcpy(energies + t * stride, part, bands * sizeof *part);
        }
    }
}

void MM_NAME(mm_normalize)(const float *terms, int n_mels, float *energies, ptrdiff_t count, ptrdiff_t stride,
                           double epsilon, double *working_memory) {
    enum { BLOCK = 64 };
    const int padded = (int)whole_vectors(n_mels);
    double *first = working_memory, *sums = first + padded, *squares = sums + padded;
    memset(working_memory, 0, 3 * (size_t)padded * sizeof(double));
    for (int m = 0; m < n_mels; m += LANES) {
        vr logs[PARTS];
        logarithms(terms, load_bands(energies + m, n_mels - m < LANES ? n_mels - m : LANES), logs);
        for (int p = 0; p < PARTS; p++) r_store(first + m + p * WIDTH, logs[p]);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (ptrdiff_t t = 0; t < count; t += BLOCK)
            for (int m = 0; m < n_mels; m += LANES) {
                const ptrdiff_t frames = count - t < BLOCK ? count - t : BLOCK;
                const int bands = n_mels - m < LANES ? n_mels - m : LANES;
                float *block = energies + t * stride + m;
                if (pass && bands == LANES)
                    scale_bands(terms, block, frames, stride, LANES, first + m, squares + m);
                else if (pass)
                    scale_bands(terms, block, frames, stride, bands, first + m, squares + m);
                else if (bands == LANES)
                    add_bands(terms, block, frames, stride, LANES, first + m, sums + m, squares + m);
                else
                    add_bands(terms, block, frames, stride, bands, first + m, sums + m, squares + m);
            }
        for (int m = 0; m < n_mels && pass == 0; m++) { /* from sums to means and scales */
            const double spread = squares[m] - sums[m] * (sums[m] / (double)count);
            first[m] += sums[m] / (double)count;
            squares[m] = 1.0 / (sqrt(fmax(spread, 0.0) / (double)(count - 1)) + epsilon);
        }
    }
}
