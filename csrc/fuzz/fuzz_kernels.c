/* Any bytes -> one call of a kernel, at any level, on buffers of exactly the promised size: the sanitizers see every
 * read and write beyond. What the kernels promise besides is checked, too. Built and run by tools/fuzz.py.
 *
 * An input: which kernel, level and plan; parameters of the call; samples. Calls keep to what mmaupro_ext/native/core.pyx
 * checks, and to nothing else.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "plans.h" /* mm_fuzz_stft, mm_fuzz_stft_count, mm_fuzz_resample, mm_fuzz_resample_count */

typedef struct {
    const uint8_t *at, *end;
} bytes;

static unsigned take(bytes *input, unsigned below) { /* two bytes, as a number below so many */
    unsigned value = 0;
    for (int i = 0; i < 2; i++) value = value << 8 | (input->at < input->end ? *input->at++ : 0);
    return below ? value % below : 0;
}

static void check(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "a kernel does not keep its promise: %s\n", what);
    abort();
}

static void *buffer(size_t size) { /* aligned as the kernels ask for; its end is the end of what may be touched */
    void *made = NULL;
    if (posix_memalign(&made, 64, size ? size : 1)) abort();
    return made;
}

static float *floats(size_t count) { return count ? buffer(count * sizeof(float)) : NULL; }

/* The rest as samples: as bits, NaN and infinity among them, or as sound. */
static float *samples(bytes *input, int as_bits, size_t most, size_t *count) {
    const size_t left = (size_t)(input->end - input->at);
    *count = as_bits ? left / 4 : left;
    if (*count > most) *count = most;
    float *x = floats(*count);
    if (as_bits && *count) memcpy(x, input->at, *count * sizeof *x);
    for (size_t i = 0; !as_bits && i < *count; i++) x[i] = ((float)input->at[i] - 128.0f) / 128.0f;
    return x;
}

static int same(const float *a, const float *b, size_t count) { /* bit for bit; any NaN is like another */
    for (size_t i = 0; i < count; i++)
        if (memcmp(a + i, b + i, sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) return 0;
    return 1;
}

/* ---- csrc/stft_mel.c */

static const float UNTOUCHED = -12345.678f;

static float features_into(const mm_kernels *level, const mm_fuzz_stft_plan *plan, const float *x, ptrdiff_t n,
                           ptrdiff_t padded, ptrdiff_t first, ptrdiff_t count, float *out, ptrdiff_t stride) {
    const mm_stft_kernel *kernel = plan->in_double ? level->stft_double : level->stft_float;
    void *scratch = buffer(kernel->scratch_bytes(&plan->plan, count));
    const float largest = kernel->features(&plan->plan, x, n, padded, first, count, out, stride, scratch);
    free(scratch);
    return largest;
}

static void fuzz_features(const mm_kernels *level, bytes *input) {
    const mm_fuzz_stft_plan *chosen = &mm_fuzz_stft[take(input, mm_fuzz_stft_count)];
    const mm_stft_plan *plan = &chosen->plan;
    const ptrdiff_t more = take(input, 3000), first = take(input, 50), count = 1 + take(input, 45);
    const ptrdiff_t gap = take(input, 4), cut = take(input, (unsigned)count);
    const int as_bits = take(input, 2);
    size_t n;
    float *x = samples(input, as_bits, 20000, &n);
    ptrdiff_t padded = (ptrdiff_t)n + more;
    if (plan->boundary == MM_BOUNDARY_MIRROR && padded <= plan->offset) padded = plan->offset + 1;

    const ptrdiff_t rows = plan->bands_first ? plan->n_mels : count, width = plan->bands_first ? count : plan->n_mels;
    const ptrdiff_t stride = width + gap;
    const size_t size = (size_t)((rows - 1) * stride + width);
    float *out = floats(size), *parts = floats(size);
    for (size_t i = 0; i < size; i++) out[i] = parts[i] = UNTOUCHED;
    const float largest = features_into(level, chosen, x, (ptrdiff_t)n, padded, first, count, out, stride);
    for (size_t i = 0; i < size; i++)
        check((ptrdiff_t)i % stride < width || out[i] == UNTOUCHED, "nothing is written between rows");
    if (!isnan(largest)) {
        float found = -INFINITY;
        for (size_t i = 0; i < size; i++)
            if ((ptrdiff_t)i % stride < width) found = fmaxf(found, out[i]);
        check(found == largest, "the largest feature is returned");
    }
    /* How frames are cut into calls changes nothing, but where they are raised to the largest of a call. */
    if (!isnan(largest) && plan->span == INFINITY && cut) {
        const float head = features_into(level, chosen, x, (ptrdiff_t)n, padded, first, cut, parts, stride);
        const float tail = features_into(level, chosen, x, (ptrdiff_t)n, padded, first + cut, count - cut,
                                         parts + (plan->bands_first ? cut : cut * stride), stride);
        /* A bad sample behind the last frame, in the same batch of lanes, is seen or not by how frames are batched. */
        if (!isnan(head) && !isnan(tail)) {
            check(same(out, parts, size), "a frame's features do not depend on the frames beside it");
            check(fmaxf(head, tail) == largest, "the largest feature is that of the parts");
        }
    }
    free(x), free(out), free(parts);
}

/* ---- csrc/normalize.c */

static void fuzz_normalize(const mm_kernels *level, bytes *input) {
    const mm_stft_plan *plan = &mm_fuzz_stft[take(input, mm_fuzz_stft_count)].plan;
    const ptrdiff_t count = 2 + take(input, 200);
    const int as_bits = take(input, 2);
    size_t given;
    float *x = samples(input, as_bits, 20000, &given), *energies = floats((size_t)(count * plan->n_mels));
    for (ptrdiff_t i = 0; i < count * plan->n_mels; i++) energies[i] = given ? x[(size_t)i % given] : 0.0f;
    const int whole = (plan->n_mels + level->lanes - 1) / level->lanes * level->lanes;
    double *memory = buffer(3 * (size_t)whole * sizeof(double));
    level->normalize(plan->log_terms, plan->n_mels, energies, count, plan->n_mels, 1e-5, memory);
    free(x), free(energies), free(memory);
}

/* ---- csrc/resample.c */

static void blocks_into(const mm_kernels *level, const mm_resample_plan *plan, const float *x, int64_t x_first,
                        int64_t x_count, float *y, int64_t n_out, int64_t first, int64_t last) {
    float *scratch = floats((size_t)level->resample->scratch_floats(plan));
    level->resample->blocks(plan, x, x_first, x_count, y, n_out, first, last, scratch);
    free(scratch);
}

static void fuzz_resample(const mm_kernels *level, bytes *input) {
    const mm_resample_plan *plan = mm_fuzz_resample[take(input, mm_fuzz_resample_count)];
    const int64_t step = 2 * (int64_t)plan->hop_out;
    const int64_t x_first = (int64_t)take(input, 20000) - 8000;
    const int64_t pairs = 1 + take(input, (unsigned)level->lanes + 3);
    const int64_t n_out = (pairs - 1) * step + 1 + take(input, (unsigned)step);
    const int64_t first = take(input, (unsigned)pairs), last = first + 1 + take(input, (unsigned)(pairs - first));
    const int as_bits = take(input, 2);
    size_t count;
    float *x = samples(input, as_bits, 20000, &count);
    const int64_t end = last * step < n_out ? last * step : n_out;
    const size_t size = (size_t)(end - first * step);
    float *y = floats(size), *parts = floats(size);
    blocks_into(level, plan, x, x_first, (int64_t)count, y, n_out, first, last);
    for (int64_t pair = first; pair < last; pair++)
        blocks_into(level, plan, x, x_first, (int64_t)count, parts + (pair - first) * step, n_out, pair, pair + 1);
    check(same(y, parts, size), "a pair of blocks does not depend on those beside it");
    free(x), free(y), free(parts);
}

/* ---- csrc/mix.c */

static void fuzz_mix(const mm_kernels *level, bytes *input) {
    const mm_mix_kernel *mix = level->mix, *scalar = mm_kernels_of(MM_SCALAR)->mix;
    const int channels = 1 + (int)take(input, 9), kind = (int)take(input, 3);
    const size_t width = kind == 0 ? 2 : 4;
    const ptrdiff_t frames = (input->end - input->at) / (ptrdiff_t)(width * (size_t)channels);
    const size_t count = (size_t)(frames * channels);
    void *x = buffer(count * width);
    if (count) memcpy(x, input->at, count * width);
    float *found[2] = {floats(count), floats(count)}, *means[2] = {floats((size_t)frames), floats((size_t)frames)};
    for (int of = 0; of < 2 && frames; of++) {
        const mm_mix_kernel *k = of ? scalar : mix;
        if (kind == 0) {
            k->mean_i16(x, frames, channels, means[of]);
            k->split_i16(x, frames, channels, found[of], frames);
        } else if (kind == 1) {
            k->mean_i32(x, frames, channels, means[of]);
            k->split_i32(x, frames, channels, found[of], frames);
        } else {
            k->mean_f32(x, frames, channels, means[of]);
            k->split_f32(x, frames, channels, found[of], frames);
        }
    }
    check(same(found[0], found[1], frames ? count : 0), "channels are split alike at all levels");
    check(same(means[0], means[1], (size_t)frames), "channels are mixed alike at all levels");
    if (count) {
        const float a = mix->peak(found[0], (ptrdiff_t)count), b = scalar->peak(found[0], (ptrdiff_t)count);
        check(same(&a, &b, 1), "peaks are alike at all levels");
    }
    free(x);
    for (int of = 0; of < 2; of++) free(found[of]), free(means[of]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const kernels[])(const mm_kernels *, bytes *) = {fuzz_features, fuzz_resample, fuzz_mix,
                                                                   fuzz_normalize};
    bytes input = {data, data + size};
    const unsigned kernel = take(&input, 4);
    const mm_kernels *level = mm_kernels_of((int)take(&input, MM_LEVELS));
    if (level == NULL) level = mm_kernels_of(MM_SCALAR);
    kernels[kernel](level, &input);
    return 0;
}
