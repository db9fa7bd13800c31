/* Log-mel features by plan: any frame, hop, window and transform length, any triangular filter bank.
 *
 * One file of more than 400 lines: its steps work on one block of memory, whose layout they share.
 *
 * With the signal x and its pre-emphasised form y (enum mm_stft_emphasis), for frame t of `frame_length` samples:
 *
 *     X_t[k]  =  sum over n < frame_length of  window[n] y[hop t - offset + n] exp(-2 pi i n k / n_fft)
 *     v[t, m] =  sum over k <= n_fft / 2 of  filter[k, m] |X_t[k]|^p,                                   p = 1 or 2
 *     f[t, m] =  scale ln(max(v, floor) + add) + shift
 *     out     =  max(f, max(f) - span)
 *
 * How it is computed
 * ------------------
 * Frames in lanes: lane l of a vector belongs to frame f + l of a batch, so that all arithmetic below is ordinary scalar
 * arithmetic written on vectors. No shuffle, no idle lane, and a frame's result does not depend on its neighbours (nor,
 * therefore, on how the frames are cut into calls).
 *
 * 1. load_columns   samples -> tile, pre-emphasis included. Sample n of frame t is sample n % hop of the hop-long
 *                   column t + n / hop. The tile holds column c of row r at tile[r][c]: the transpose of the signal.
 *                   Sample n of a whole batch is then one (unaligned) load, and each sample is read, converted,
 *                   emphasised and transposed once.
 * 2. real_stage     tile -> `columns` transforms of length `radix`, window included.
 * 3. column_stage   -> radix / 2 + 1 transforms of length `columns`, and the power of each bin.
 * 4. mel_stage      power -> mel energies. Triangles overlap their neighbours only, so a bin feeds two filters.
 * 5. log_frames     logarithm; transposed back, so that a frame's features lie together in the output. Or
 *    log_bands      logarithm; a band's features lie together, as they do in the lanes.
 * 6. raise          max(f, max(f) - span), when the maximum of the call is known, where it can matter.
 *
 * The transform. With n_fft = radix x columns, n = columns a + j and k = q + radix r (Cooley and Tukey):
 *
 *     X[q + radix r] = sum over j of  exp(-2 pi i j r / columns)          <- 3: a transform of length `columns` ...
 *                      . exp(-2 pi i j q / n_fft)                         <-    ... of turned ...
 *                      . sum over a of y[columns a + j] exp(-2 pi i a q / radix)  <- 2: ... transforms of length `radix`
 *
 * Where the two factors are known to be coprime (radix 25 and even radices but 32, see make_transform in stft_plan.py), n =
 * (columns a + radix j) mod n_fft, and k is the number that is q mod radix and r mod columns: then
 *
 *     exp(-2 pi i n k / n_fft) = exp(-2 pi i a q / radix) exp(-2 pi i j r / columns)
 *
 * and nothing is turned (Good). Whisper's 400 points are 25 x 16.
 *
 * Samples are real, so outputs q and radix - q of step 2 are conjugates, and so are their bins: q <= radix / 2 suffices.
 * This halves the work with nothing to mend afterwards (a half-length complex transform needs a last pass that splits
 * even from odd samples). The outermost q give some bins twice: up to 1 / radix of the work, wasted. A zero-padded frame
 * (frame_length < n_fft) leaves whole rows a empty: step 2 is compiled for each number of rows that a family has.
 *
 * For 512 points this is 32 x 16: both factors in registers, with one pass through memory (`halfway`) between them.
 * Other lengths take several passes in step 3, which works in place by decimation in frequency. A pass of radix r over
 * blocks of `size` points, m = size / r: butterflies over the points j, j + m, j + 2 m, ..., then output q turned by
 * exp(-2 pi i j q / size); each of the r parts is then a block of its own. In the last pass m is 1, no turn is needed,
 * and the outputs go straight to power, each to the bin that the plan names: the digit reversal costs nothing.
 *
 * Precision. The file is compiled twice for each level, see real.h. In double up to the power of a bin, in float from
 * there: a tone leaves bins 100 dB and more under its own, and where every one of them becomes a feature, rounding
 * errors in float, a few 6e-8 of the frame's root energy in each bin, would be up to 1 in such a feature (measured: 1.1
 * for Gemma 3n on a chirp). Double costs less than twice the time; a batch of LANES frames is transformed in halves,
 * since a register holds half as many doubles. In float throughout for Whisper, whose features are raised to 80 dB under
 * the largest.
 *
 * Error budget (eps = 6e-8 is half the distance from 1 to the next float; that of a double is 1e-16)
 *     transform       In double: 1e-15 of the frame's root energy in each bin. In float a few eps of the amplitude of its
 *                     loudest bin. Whisper's bins are seen down to 80 dB under that, 1e-4 of its amplitude, so 2e-3 of
 *                     the faint bin itself at worst. In its feature, log10(|X|^2) / 4, that is 4e-4 for a filter of one
 *                     such bin and falls with the number of bins in it; pure tones reach 5e-5, 5e-7 on average. Noise
 *                     and all else that has no such contrast stays under 1e-5, 1e-7 on average.
 *     power, root     rounded to float: eps.
 *     mel             sums of positive terms, weights rounded to float: a few eps of the sum.
 *     log             the polynomial is 4e-8 off at most. The exponent times ln 2 is exact to 24 bits (two products), then
 *                     one rounding of the result: 5e-7 for features between 8 and 16, the largest error in double. Bands
 *                     (of the order of 1) take one product: eps.
 */
#include "stft_mel.h"

#include <math.h>

#include "dft.h"
#include "log.h"
#include "real.h"

/* Working memory of one call, in the caller's hands: pointers into one block, and the sizes that depend on LANES. */
typedef struct {
    int more;        /* columns that a batch reads beyond those where its frames start */
    int front;       /* their place before the group of LANES columns in a row of the tile: whole vectors */
    int stride;      /* of the tile: front + LANES */
    int tile_rows;   /* hop, rounded up to whole vectors; after them one more (FIRST_SAMPLE) */
    real *tile;      /* [tile_rows + EXTRA_ROWS][stride] */
    real *halfway;   /* [radix / 2 + 1][columns, and one more][re, im][WIDTH]: between steps 2 and 3 */
    ptrdiff_t apart; /* from one of its transforms to the next: not a power of two, or all would fall into one set of
                      * the cache */
    float *power;    /* [n_fft / 2 + 2][LANES]; the last row takes what is not wanted */
    float *mel;      /* [n_mels, rounded up to whole vectors][LANES] */
    float *edge;     /* [LANES + hop * LANES + LANES] samples of a group that reaches past the signal */
    int32_t *power_place; /* [radix / 2 + 1][columns]: where the power of an output goes */
    int32_t *place;       /* [columns][rows]: where in the tile a sample of the batch's first frame is */
    float *minimum;       /* [batches]: the smallest feature of each */
} scratch;

/* What the tile knows of a column besides its samples. */
enum extra_row {
    FIRST_SAMPLE, /* (1 - c) times its first sample: what pre-emphasis in each frame makes of it */
    EXTRA_ROWS
};

MM_INLINE size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; } /* of cache */

/* Cut the block into its parts. Returns its length in bytes; with block = NULL only measures. */
static size_t cut_scratch(const mm_stft_plan *plan, ptrdiff_t count, scratch *s, char *block) {
    s->more = (plan->frame_length - 1) / plan->hop_length;
    s->front = (s->more + WIDTH - 1) / WIDTH * WIDTH;
    s->stride = s->front + LANES;
    s->tile_rows = (int)whole_vectors(plan->hop_length);
    s->apart = (ptrdiff_t)(plan->columns + 1) * 2 * WIDTH;
    size_t used = 0;
#define CUT(part, count)                         \
    if (block) s->part = (void *)(block + used); \
    used += whole_lines((size_t)(count) * sizeof *s->part)
    CUT(tile, (size_t)(s->tile_rows + EXTRA_ROWS) * s->stride);
    CUT(halfway, (plan->radix / 2 + 1) * s->apart);
    CUT(power, (size_t)(plan->n_fft / 2 + 2) * LANES);
    CUT(mel, whole_vectors(plan->n_mels) * LANES);
    CUT(edge, 2 * LANES + (size_t)plan->hop_length * LANES);
    CUT(power_place, (size_t)(plan->radix / 2 + 1) * plan->columns);
    CUT(place, (size_t)plan->columns * plan->rows);
    CUT(minimum, whole_vectors(count) / LANES);
#undef CUT
    return used;
}

static size_t scratch_bytes(const mm_stft_plan *plan, ptrdiff_t count) {
    scratch s;
    return cut_scratch(plan, count, &s, NULL);
}

/* ---- Step 1: samples to tile. */

/* Sample i of the signal as the plan continues it. */
MM_INLINE float sample_at(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t i) {
    if (plan->boundary == MM_BOUNDARY_MIRROR) {
        if (i < 0) i = -i;
        if (i >= padded) i = 2 * (padded - 1) - i;
    }
    return i >= 0 && i < n ? x[i] : 0.0f;
}

/* Copy samples start .. start + count - 1 of the continued signal. */
static void copy_span(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t start,
                      ptrdiff_t count, float *to) {
    const ptrdiff_t from = start > 0 ? start : 0, until = start + count < n ? start + count : n;
    memset(to, 0, count * sizeof *to);
    if (until > from) memcpy(to + (from - start), x + from, (until - from) * sizeof *to);
    if (plan->boundary != MM_BOUNDARY_MIRROR) return;
    for (ptrdiff_t i = start; i < 0 && i < start + count; i++) to[i - start] = sample_at(plan, x, n, padded, i);
    for (ptrdiff_t i = padded > start ? padded : start; i < start + count; i++)
        to[i - start] = sample_at(plan, x, n, padded, i);
}

/* Fill the tile's group with columns first_column .. first_column + LANES - 1. `emphasised` says what the plan
 * asks for; it is a constant wherever this is used. */
MM_INLINE void transpose_columns(const mm_stft_plan *plan, const scratch *s, const float *samples,
                                 const int emphasised) {
    const int hop = plan->hop_length, stride = s->stride;
    const real c = (real)plan->emphasis;
    real *tile = s->tile + s->front;
    vr before[PARTS];
    for (int p = 0; p < PARTS; p++) before[p] = r_set1(0);
    if (emphasised) {
        MM_ALIGNED(64) float last[LANES]; /* sample of the column before */
        for (int l = 0; l < LANES; l++) last[l] = samples[(ptrdiff_t)l * hop - 1];
        r_widen(v_load(last), before);
    }
    for (int row = 0; row < hop; row += LANES) {
        vf rows[LANES];
        v_transpose_load(samples + row, hop, rows);
        MM_UNROLL
        for (int i = 0; i < LANES; i++) {
            real *to = tile + (ptrdiff_t)(row + i) * stride;
            vr now[PARTS];
            r_widen(rows[i], now);
            MM_UNROLL
            for (int p = 0; p < PARTS; p++) {
                r_store(to + p * WIDTH, emphasised ? now[p] - before[p] * c : now[p]);
                before[p] = now[p];
            }
            if (emphasised && row + i == 0)
                for (int p = 0; p < PARTS; p++)
                    r_store(tile + (ptrdiff_t)(s->tile_rows + FIRST_SAMPLE) * stride + p * WIDTH, now[p] * (1 - c));
        }
    }
}

/* The next LANES columns. Returns 0 if a sample in them is not finite or above the plan's limit. */
static int load_columns(const mm_stft_plan *plan, const scratch *s, const float *x, ptrdiff_t n, ptrdiff_t padded,
                        ptrdiff_t first_column) {
    const ptrdiff_t hop = plan->hop_length, count = LANES * hop, start = first_column * hop - plan->offset;
    /* One sample before is read by the pre-emphasis; up to a vector beyond by the transpose. */
    const int inside = start >= 1 && start + count + LANES <= n;
    const float *samples;
    if (inside) {
        samples = x + start;
    } else {
        copy_span(plan, x, n, padded, start - 1, count + 1 + LANES, s->edge + LANES - 1);
        samples = s->edge + LANES;
    }
#if MM_DOUBLE
    /* In the order of memory, and so the fastest way of all to bring them near. */
    int32_t limit;
    memcpy(&limit, &plan->limit, sizeof limit);
    if (largest_bits(samples, count) > limit) return 0;
#else
    /* The transpose reads LANES places at once, more than processors foresee: ask for the next group in time. */
    if (inside && start + 2 * count <= n)
        for (ptrdiff_t i = count; i < 2 * count; i += 16) MM_PREFETCH(samples + i);
#endif
    if (plan->emphasis_kind == MM_EMPHASIS_NONE)
        transpose_columns(plan, s, samples, 0);
    else
        transpose_columns(plan, s, samples, 1);
    /* The signal has an end: what pre-emphasis makes of the zero after it is not part of y. */
    if (plan->emphasis_kind == MM_EMPHASIS_SIGNAL && start <= n && n < start + count)
        s->tile[(n - start) % hop * s->stride + s->front + (n - start) / hop] = 0;
    return 1;
}

/* The last columns of a batch are the first ones of the next. */
MM_INLINE void shift_columns(const scratch *s) {
    const ptrdiff_t rows = s->tile_rows + EXTRA_ROWS, stride = s->stride;
    real *row = s->tile;
    if (s->front == WIDTH) /* the usual case, without an inner loop */
        for (ptrdiff_t r = 0; r < rows; r++, row += WIDTH + LANES) r_store(row, r_load(row + LANES));
    else
        for (ptrdiff_t r = 0; r < rows; r++, row += stride)
            for (int c = 0; c < s->front; c += WIDTH) r_store(row + c, r_load(row + LANES + c));
}

static void find_places(const mm_stft_plan *plan, const scratch *s) {
    for (int i = 0; i < (plan->radix / 2 + 1) * plan->columns; i++) s->power_place[i] = plan->bins[i] * LANES;
    const int hop = plan->hop_length, first = s->front - s->more; /* column of the batch's first frame */
    for (int j = 0; j < plan->columns; j++)
        for (int a = 0; a < plan->rows; a++) {
            const int n = (plan->columns * a + plan->step * j) % plan->n_fft;
            const int in_frame = n < plan->frame_length ? n : 0; /* beyond the frame the window is zero */
            const int first_sample = in_frame == 0 && plan->emphasis_kind == MM_EMPHASIS_FRAME;
            const int row = first_sample ? s->tile_rows + FIRST_SAMPLE : in_frame % hop;
            s->place[j * plan->rows + a] = row * s->stride + in_frame / hop + first;
        }
}

/* ---- Step 2: transforms of length `radix` over the rows of the frame, turned on their way to `halfway`. */

/* Where the samples of column j of the transform come from. */
typedef struct {
    const real *tile, *window;
    const int32_t *place;
} inputs;

/* Sample a, windowed. The compiler drops the arithmetic on the rows that are zero. */
MM_INLINE vr sample_of(inputs i, const int a, const int rows) {
    if (a >= rows) return r_set1(0);
    return r_loadu(i.tile + i.place[a]) * i.window[a];
}

MM_INLINE void real_stage(const mm_stft_plan *plan, const scratch *s, int lane, const int radix, const int rows) {
    inputs i = {s->tile + lane, plan->window, s->place};
    const int turned = radix == 32 || (radix % 2 == 1 && radix != 25);
    outputs o = {s->halfway, radix == 25 ? 17 * 2 * WIDTH : s->apart, turned ? plan->turns : NULL};
    for (int j = 0; j < plan->columns; j++) {
        if (radix == 25) {
            vr inner0[5];
            complex_vr inner1[5], inner2[5];
            MM_UNROLL
            for (int b = 0; b < 5; b++) {
                vr x[5];
                MM_UNROLL
                for (int a = 0; a < 5; a++) x[a] = sample_of(i, 5 * a + b, rows);
                dft5_real(x, &inner0[b], &inner1[b], &inner2[b]);
            }
            dft25_from_fives(inner0, inner1, inner2, o);
        } else if (radix >= 16) {
            const int r = radix / 4;
            vr v0[8], v2[8];
            complex_vr v1[8];
            MM_UNROLL
            for (int b = 0; b < r; b++)
                dft4_real(sample_of(i, b, rows), sample_of(i, b + r, rows), sample_of(i, b + 2 * r, rows),
                          sample_of(i, b + 3 * r, rows), &v0[b], &v1[b], &v2[b]);
            dft_from_fours(v0, v1, v2, r, o);
        } else { /* as complex input; the compiler drops the arithmetic on imaginary parts and of outputs not used */
            complex_vr in[8], out[8];
            MM_UNROLL
            for (int a = 0; a < radix; a++) in[a] = (complex_vr){sample_of(i, a, rows), r_set1(0)};
            dft(in, out, radix);
            MM_UNROLL
            for (int q = 0; q <= radix / 2; q++) put(o, q, radix, out[q]);
        }
        i.place += rows;
        i.window += rows;
        if (o.turns) o.turns += radix / 2 * 2;
        o.to += 2 * WIDTH;
    }
}

/* One copy for each shape that a family uses, and one for each other radix. */
static void choose_real_stage(const mm_stft_plan *plan, const scratch *s, int lane) {
#define STAGE(radix, rows) \
    case 100 * radix + rows: real_stage(plan, s, lane, radix, rows); break
    switch (100 * plan->radix + plan->rows) {
        STAGE(32, 16); /* frames of 512 in 1024 */
        STAGE(32, 20); /* 320 in 512 */
        STAGE(32, 25); /* 400 in 512 */
        STAGE(32, 32);
        STAGE(25, 25); /* 400 in 400 */
        STAGE(16, 16);
        STAGE(8, 8);
        STAGE(7, 7);
        STAGE(5, 5);
        STAGE(4, 4);
        STAGE(3, 3);
        STAGE(2, 2);
        STAGE(1, 1);
    }
#undef STAGE
}

/* ---- Step 3: transforms of length `columns`, in place, and powers. */

/* A pass that is not the last. Returns where the next pass's turns are. */
MM_INLINE const real *middle_pass(real *z, int columns, int size, const real *turns, const int radix) {
    const int m = size / radix;
    for (int j = 0; j < m; j++, turns += 2 * (radix - 1)) {
        for (real *p = z + (ptrdiff_t)j * 2 * WIDTH; p < z + (ptrdiff_t)columns * 2 * WIDTH;
             p += (ptrdiff_t)size * 2 * WIDTH) {
            complex_vr x[8], y[8];
            MM_UNROLL
            for (int a = 0; a < radix; a++) x[a] = c_load(p + (ptrdiff_t)a * m * 2 * WIDTH);
            dft(x, y, radix);
            c_store(p, y[0]);
            MM_UNROLL
            for (int q = 1; q < radix; q++)
                c_store(p + (ptrdiff_t)q * m * 2 * WIDTH, c_turn(y[q], turns[2 * q - 2], turns[2 * q - 1]));
        }
    }
    return turns;
}

/* The power of an output goes to the row of its bin. */
MM_INLINE void put_power(float *power, int32_t place, complex_vr y) {
    r_to_floats(power + place, y.re * y.re + y.im * y.im);
}

MM_INLINE void last_pass(const real *z, int columns, const int32_t *bins, float *power, const int radix) {
    for (int at = 0; at < columns; at += radix, bins += radix) {
        complex_vr x[10], y[10];
        if (radix == 16) {
            /* 4 x 4: with n = 4 a + b and k = c + 4 d,
             * exp(-2 pi i n k / 16) = exp(-2 pi i a c / 4) exp(-2 pi i b c / 16) exp(-2 pi i b d / 4) */
            complex_vr inner[4][4]; /* [c][b] */
            MM_UNROLL
            for (int b = 0; b < 4; b++) {
                MM_UNROLL
                for (int a = 0; a < 4; a++) x[a] = c_load(z + (ptrdiff_t)(at + 4 * a + b) * 2 * WIDTH);
                dft4(x, y);
                MM_UNROLL
                for (int c = 0; c < 4; c++) inner[c][b] = c_turn32(y[c], 2 * b * c);
            }
            MM_UNROLL
            for (int c = 0; c < 4; c++) {
                dft4(inner[c], y);
                MM_UNROLL
                for (int d = 0; d < 4; d++) put_power(power, bins[c + 4 * d], y[d]);
            }
        } else {
            MM_UNROLL
            for (int a = 0; a < radix; a++) x[a] = c_load(z + (ptrdiff_t)(at + a) * 2 * WIDTH);
            dft(x, y, radix);
            MM_UNROLL
            for (int q = 0; q < radix; q++) put_power(power, bins[q], y[q]);
        }
    }
}

#define BY_RADIX(radix, call) \
    switch (radix) {          \
    case 2: call(2); break;   \
    case 3: call(3); break;   \
    case 4: call(4); break;   \
    case 5: call(5); break;   \
    case 7: call(7); break;   \
    case 8: call(8); break;   \
    default: call(1);         \
    }

static void column_stage(const mm_stft_plan *plan, const scratch *s, int lane) {
    for (int q = 0; q <= plan->radix / 2; q++) {
        real *z = s->halfway + q * s->apart;
        const real *turns = plan->pass_turns;
        int size = plan->columns, pass = 0;
        for (; pass < plan->passes - 1; pass++) {
#define MIDDLE(radix) turns = middle_pass(z, plan->columns, size, turns, radix)
            BY_RADIX(plan->radices[pass], MIDDLE)
#undef MIDDLE
            size /= plan->radices[pass];
        }
        const int32_t *bins = s->power_place + (ptrdiff_t)q * plan->columns;
#define LAST(radix) last_pass(z, plan->columns, bins, s->power + lane, radix)
        if (plan->radices[pass] == 16)
            LAST(16);
        else if (plan->radices[pass] == 10)
            LAST(10);
        else
            BY_RADIX(plan->radices[pass], LAST)
#undef LAST
    }
}

/* ---- Step 4: bins to filters.
 * Segment m holds the bins that feed filters m (on its rising side) and m - 1 (on its falling side). */

/* The square root of p >= 1e-37. The instructions for it take as long as 9 (8 lanes) or 18 (16 lanes) others, so from
 * an estimate of 1 / sqrt(p) by Newton's iteration, which squares the relative error: 14 bits of the estimate make 28 in
 * one step, 11 bits make 44 in two. Then one rounding. */
MM_INLINE vf v_square_root(vf p) {
#if MM_LANES == 16 && defined(__AVX512F__)
    const vf y = (vf)_mm512_rsqrt14_ps((__m512)p), half = y * 0.5f;
    const vf root = p * y;
    return root + half * (p - root * root);
#elif MM_LANES == 8 && defined(__AVX__)
    const vf y = (vf)_mm256_rsqrt_ps((__m256)p), half = y * 0.5f;
    vf root = p * y;
    root += half * (p - root * root);
    return root + half * (p - root * root);
#elif MM_LANES == 4 && defined(__SSE__)
    return (vf)_mm_sqrt_ps((__m128)p);
#elif MM_LANES == 4 && defined(__aarch64__)
    return (vf)vsqrtq_f32((float32x4_t)p);
#elif MM_LANES == 1
    return sqrtf(p);
#else
    vf root = p;
    for (int l = 0; l < LANES; l++) root[l] = sqrtf(p[l]);
    return root;
#endif
}

MM_INLINE void mel_stage(const mm_stft_plan *plan, const scratch *s, const int magnitude) {
    const vf least = v_set1(plan->power_floor);
    const float *power = s->power + (ptrdiff_t)plan->first_bin * LANES;
    const float *rising = plan->rising, *falling = plan->falling;
    vf below = v_set1(0.0f); /* rising side of the filter before */
    for (int segment = 0; segment <= plan->n_mels; segment++) {
        vf up = v_set1(0.0f), down = v_set1(0.0f);
        for (int bins = plan->segment_bins[segment]; bins > 0; bins--) {
            vf p = v_load(power);
            if (magnitude) p = v_square_root(v_max(p, least));
            up += p * *rising++;
            down += p * *falling++;
            power += LANES;
        }
        if (segment > 0) v_store(s->mel + (ptrdiff_t)(segment - 1) * LANES, below + down);
        below = up;
    }
}

/* ---- Step 5: energies to features. */

/* Energies to features: scale ln(max(v, floor) + add) + shift, in place. */
MM_INLINE void features_of(const mm_stft_plan *plan, vf *v, const int count) {
    vf exponent[4], f[4], sum[4];
    MM_UNROLL
    for (int i = 0; i < count; i++) split(v[i], &exponent[i], &f[i]);
    series(plan->log_terms, f, sum, count);
    MM_UNROLL
    for (int i = 0; i < count; i++)
        v[i] = exponent[i] * plan->exponent_high + (sum[i] + (exponent[i] * plan->exponent_low + plan->shift));
}

/* To out[frame * stride + mel]. Lanes beyond the last frame of a call are neither stored nor counted. Returns the largest
 * feature. */
MM_INLINE float log_frames(const mm_stft_plan *plan, scratch *s, int frames, float *out, ptrdiff_t stride) {
    enum { AT_ONCE = LANES < 4 ? LANES : 4 };
    const int n_mels = plan->n_mels;
    vf high = v_set1(-INFINITY);
    for (int m = 0; m < n_mels; m += LANES) {
        vf square[LANES];
        const vf floor = v_set1(plan->floor), add = v_set1(plan->add);
        MM_UNROLL
        for (int i = 0; i < LANES; i++) square[i] = v_max(v_load(s->mel + (ptrdiff_t)(m + i) * LANES), floor) + add;
        if (!plan->linear) {
            MM_UNROLL
            for (int i = 0; i < LANES; i += AT_ONCE) features_of(plan, square + i, AT_ONCE);
        }
        const int mels = n_mels - m < LANES ? n_mels - m : LANES;
        if (mels == LANES) {
            MM_UNROLL
            for (int i = 0; i < LANES; i++) high = v_max(high, square[i]);
        } else {
            for (int i = 0; i < mels; i++) high = v_max(high, square[i]);
        }
        if (frames == LANES && mels == LANES) {
            v_transpose_store(out + m, stride, square);
        } else {
            MM_ALIGNED(64) float part[LANES * LANES];
            v_transpose_store(part, LANES, square);
            for (int l = 0; l < frames; l++) memcpy(out + l * stride + m, part + l * LANES, mels * sizeof(float));
        }
    }
    float largest = -INFINITY;
    for (int l = 0; l < frames; l++) largest = fmaxf(largest, v_lane(high, l));
    return largest;
}

/* To out[mel * stride + frame], with a floor under the feature instead of the energy: zero and subnormal energies give
 * some value far under it. */
MM_INLINE void log_bands(const mm_stft_plan *plan, const scratch *s, int frames, float *out, ptrdiff_t stride,
                         vf *largest, float *batch_minimum) {
    const vf lowest = v_set1(plan->lowest), shift = v_set1(plan->shift);
    const vf scale = v_set1(plan->exponent_high + plan->exponent_low); /* features are of the order of 1 */
    vf low = v_set1(INFINITY), high = *largest, terms[MM_LOG_TERMS];
    for (int i = 0; i < MM_LOG_TERMS; i++) terms[i] = v_set1(plan->log_terms[i]);
    MM_ALIGNED(64) float lanes[LANES], unused[LANES];
    for (int l = 0; l < LANES; l++) unused[l] = l < frames ? -INFINITY : INFINITY;
    const vf hidden = v_load(unused);
    for (int m = 0; m < plan->n_mels; m++) {
        vf exponent, f;
        split(v_load(s->mel + (ptrdiff_t)m * LANES), &exponent, &f);
        vf sum = terms[MM_LOG_TERMS - 1];
        MM_UNROLL
        for (int t = MM_LOG_TERMS - 2; t >= 0; t--) sum = sum * f + terms[t];
        const vf feature = v_max(sum * f + (exponent * scale + shift), lowest);
        if (frames == LANES) {
            low = v_min(low, feature);
            high = v_max(high, feature);
            v_storeu(out + m * stride, feature);
        } else {
            low = v_min(low, v_max(feature, hidden));
            high = v_max(high, v_min(feature, v_set1(0) - hidden));
            v_store(lanes, feature);
            memcpy(out + m * stride, lanes, frames * sizeof(float));
        }
    }
    *largest = high;
    *batch_minimum = v_lane(low, 0);
    for (int l = 1; l < LANES; l++) *batch_minimum = fminf(*batch_minimum, v_lane(low, l));
}

/* ---- Step 6. */

/* Raise the features of each band to at least `lowest`, where that can matter: a run of batches at a time, so that each
 * row is written in one piece. */
static void raise_bands(int n_mels, ptrdiff_t count, float *out, ptrdiff_t stride, const float *minimum, float lowest) {
    const vf least = v_set1(lowest);
    for (ptrdiff_t f = 0; f < count; f += LANES, minimum++) {
        if (*minimum >= lowest) continue;
        ptrdiff_t end = f + LANES;
        for (; end < count && minimum[1] < lowest; end += LANES) minimum++;
        if (end > count) end = count;
        for (int m = 0; m < n_mels; m++) {
            float *row = out + m * stride;
            ptrdiff_t t = f;
            for (; t + LANES <= end; t += LANES) v_storeu(row + t, v_max(v_loadu(row + t), least));
            for (; t < end; t++) row[t] = fmaxf(row[t], lowest);
        }
        f = end - LANES;
    }
}

static void raise_frames(int n_mels, ptrdiff_t count, float *out, ptrdiff_t stride, float lowest) {
    for (ptrdiff_t t = 0; t < count; t++)
        for (int m = 0; m < n_mels; m++) out[t * stride + m] = fmaxf(out[t * stride + m], lowest);
}

/* ---- All steps. */

static float features(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t first,
                      ptrdiff_t count, float *out, ptrdiff_t stride, void *working_memory) {
    scratch memory, *s = &memory;
    cut_scratch(plan, count, s, working_memory);
    find_places(plan, s);
    for (size_t m = plan->n_mels; m < whole_vectors(plan->n_mels); m++) v_store(s->mel + m * LANES, v_set1(1.0f));
    /* Columns before those that a batch adds: of the first batch, they come this way too. */
    for (int before = (s->front + LANES - 1) / LANES; before > 0; before--) {
        if (!load_columns(plan, s, x, n, padded, first + s->more - (ptrdiff_t)before * LANES)) return NAN;
        shift_columns(s);
    }
    float largest = -INFINITY;
    vf largest_of_lanes = v_set1(-INFINITY);
    vi not_finite = v_bits(v_set1(0.0f));
    const int32_t infinite = 0x7f800000; /* all bits of the exponent */
    for (ptrdiff_t done = 0, batch = 0; done < count; done += LANES, batch++) {
        if (done) shift_columns(s);
        if (!load_columns(plan, s, x, n, padded, first + done + s->more)) return NAN;
        for (int lane = 0; lane < LANES; lane += WIDTH) {
            choose_real_stage(plan, s, lane);
            column_stage(plan, s, lane);
        }
        if (plan->magnitude)
            mel_stage(plan, s, 1);
        else
            mel_stage(plan, s, 0);
        const int frames = count - done < LANES ? (int)(count - done) : LANES;
        if (plan->bands_first)
            log_bands(plan, s, frames, out + done, stride, &largest_of_lanes, s->minimum + batch);
        else
            largest = fmaxf(largest, log_frames(plan, s, frames, out + done * stride, stride));
        not_finite |= (v_bits(v_load(s->power)) & infinite) == infinite;
    }
    for (int l = 0; l < LANES; l++) largest = fmaxf(largest, v_lane(largest_of_lanes, l));
    /* In float, where load_columns does not look: bin 0 is the sum of the frame's windowed samples, NaN or infinite if one
     * of them is; and an energy that overflows has exponent 128. */
    int32_t bad[LANES];
    memcpy(bad, &not_finite, sizeof bad);
    for (int l = 0; l < LANES; l++)
        if (bad[l]) return NAN;
    if (plan->bands_first && largest > 127.9f * (plan->exponent_high + plan->exponent_low) + plan->shift) return NAN;
    if (plan->span < INFINITY && plan->bands_first)
        raise_bands(plan->n_mels, count, out, stride, s->minimum, largest - plan->span);
    else if (plan->span < INFINITY)
        raise_frames(plan->n_mels, count, out, stride, largest - plan->span);
    return largest;
}

#if MM_DOUBLE
const mm_stft_kernel MM_NAME(mm_stft_double) = {scratch_bytes, features};
#else
const mm_stft_kernel MM_NAME(mm_stft_float) = {scratch_bytes, features};
#endif
