/* Energies to features whose bands have mean 0 and deviation 1. */
#ifndef MM_NORMALIZE_H
#define MM_NORMALIZE_H

#include <stddef.h>

/* Energies v, [count][n_mels] with rows `stride` apart, become (ln v - mean) / (deviation + epsilon) in place, over
 * `count` >= 2 rows, the squares of the deviation over count - 1. `terms` are MM_LOG_TERMS coefficients of ln. The
 * working memory is 3 n_mels numbers, n_mels rounded up to whole batches of lanes, aligned to 64 bytes. */
typedef void mm_normalize_function(const float *terms, int n_mels, float *energies, ptrdiff_t count, ptrdiff_t stride,
                                   double epsilon, double *working_memory);

#endif
