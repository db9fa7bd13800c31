#include "cpu.h"

#include <stddef.h>

#define KERNELS(level, lanes)                                                  \
    extern const mm_mix_kernel mm_mix_##level;                                 \
    extern const mm_resample_kernel mm_resample_##level;                       \
    extern const mm_stft_kernel mm_stft_float_##level, mm_stft_double_##level; \
    extern mm_normalize_function mm_normalize_##level;                         \
    static const mm_kernels level##_kernels = {#level,                         \
                                               lanes,                          \
                                               &mm_mix_##level,                \
                                               &mm_resample_##level,           \
                                               &mm_stft_float_##level,         \
                                               &mm_stft_double_##level,        \
                                               mm_normalize_##level}

/* setup.py defines MM_HAVE_<LEVEL> for each level whose objects it links; scalar is always there. */
KERNELS(scalar, 1);
#ifdef MM_HAVE_SSE2
KERNELS(sse2, 4);
#endif
#ifdef MM_HAVE_NEON
KERNELS(neon, 4);
#endif
#ifdef MM_HAVE_AVX2
KERNELS(avx2, 8);
#endif
#ifdef MM_HAVE_AVX512
KERNELS(avx512, 16);
#endif

const char *mm_level_name(int level) {
    static const char *const names[MM_LEVELS] = {"scalar", "sse2", "neon", "avx2", "avx512"};
    return level >= 0 && level < MM_LEVELS ? names[level] : NULL;
}

const mm_kernels *mm_kernels_of(int level) {
    switch (level) {
    case MM_SCALAR: return &scalar_kernels;
#ifdef MM_HAVE_SSE2
    case MM_SSE2:
        /* part of every x86-64 */
        return &sse2_kernels;
#endif
#ifdef MM_HAVE_NEON
    case MM_NEON:
        /* part of every arm64 */
        return &neon_kernels;
#endif
#ifdef MM_HAVE_AVX2
    case MM_AVX2:
        /* The builtin also asks the operating system whether it saves the wide registers. */
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2_kernels : NULL;
#endif
#ifdef MM_HAVE_AVX512
    case MM_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("fma")
                   ? &avx512_kernels
                   : NULL;
#endif
    default: return NULL;
    }
}
