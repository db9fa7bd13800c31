/* Which instruction-set levels this build holds and this processor runs, and the kernels of each. */
#ifndef MM_CPU_H
#define MM_CPU_H

#include "mix.h"
#include "normalize.h"
#include "resample.h"
#include "stft_mel.h"

/* Order matters: a later level is preferred to an earlier one. */
enum mm_level { MM_SCALAR = 0, MM_SSE2 = 1, MM_NEON = 2, MM_AVX2 = 3, MM_AVX512 = 4, MM_LEVELS = 5 };

/* All that is compiled for one level. */
typedef struct {
    const char *name; /* "scalar", "sse2", "neon", "avx2", "avx512" */
    int lanes;        /* floats in a register: frames, or pairs of blocks, that are computed at once */
    const mm_mix_kernel *mix;
    const mm_resample_kernel *resample;
    const mm_stft_kernel *stft_float, *stft_double;
    mm_normalize_function *normalize;
} mm_kernels;

/* The kernels of a level, or NULL where it was not compiled in or this processor (or operating system) cannot run it. */
const mm_kernels *mm_kernels_of(int level);

/* Name of any level, or NULL for a number that is none. */
const char *mm_level_name(int level);

#endif
