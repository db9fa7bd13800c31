/* Log-mel features by plan: any frame, hop, window and transform length, any triangular filter bank.
 *
 * With the signal x and its pre-emphasised form y (enum mm_stft_emphasis), for frame t of `frame_length` samples:
 *
 *     X_t[k]  =  sum over n < frame_length of  window[n] y[hop t - offset + n] exp(-2 pi i n k / n_fft)
 *     v[t, m] =  sum over k <= n_fft / 2 of  filter[k, m] |X_t[k]|^p,                                   p = 1 or 2
 *     out     =  scale ln(max(v, floor) + add) + shift
 *
 * How it is computed
 * ------------------
 * Frames in lanes, as in logmel.c: lane l of a vector belongs to frame f + l of a batch. No shuffle, no idle lane, and
 * a frame's result does not depend on its neighbours (nor, therefore, on how the frames are cut into calls).
 *
 * 1. load_columns   samples -> tile, pre-emphasis included. Sample n of frame t is sample n % hop of the hop-long
 *                   column t + n / hop. The tile holds column c of row r at tile[r][c]: the transpose of the signal.
 *                   Sample n of a whole batch is then one (unaligned) load, and each sample is read, converted,
 *                   emphasised and transposed once. Sums of columns make the means of frames.
 * 2. real_stage     tile -> `columns` transforms of length `radix`, window included.
 * 3. column_stage   -> radix / 2 + 1 transforms of length `columns`, and the power of each bin.
 * 4. mel_stage      power -> mel energies. Triangles overlap their neighbours only, so a bin feeds two filters.
 * 5. log_stage      logarithm; transposed back, so that a frame's features lie together in the output.
 *
 * The transform. With n_fft = radix x columns, n = columns a + j and k = q + radix r (Cooley and Tukey):
 *
 *     X[q + radix r] = sum over j of  exp(-2 pi i j r / columns)          <- 3: a transform of length `columns` ...
 *                      . exp(-2 pi i j q / n_fft)                         <-    ... of turned ...
 *                      . sum over a of y[columns a + j] exp(-2 pi i a q / radix)  <- 2: ... transforms of length `radix`
 *
 * Samples are real, so outputs q and radix - q of step 2 are conjugates, and so are their bins: q <= radix / 2 suffices.
 * This halves the work with nothing to mend afterwards (a half-length complex transform needs a last pass that splits
 * even from odd samples). The two outermost q give some bins twice: 1 / radix of the work, wasted. A zero-padded frame
 * (frame_length < n_fft) leaves whole rows a empty: step 2 is compiled for each number of rows that a family has.
 *
 * For 512 points this is 32 x 16: both factors in registers, with one pass through memory (`halfway`) between them.
 * Other lengths take several passes in step 3, which works in place by decimation in frequency. A pass of radix r over
 * blocks of `size` points, m = size / r: butterflies over the points j, j + m, j + 2 m, ..., then output q turned by
 * exp(-2 pi i j q / size); each of the r parts is then a block of its own. In the last pass m is 1, no turn is needed,
 * and the outputs go straight to power, each to the bin that the plan names: the digit reversal costs nothing.
 *
 * In double up to the power of a bin, in float from there. A tone leaves bins 100 dB and more under its own, and every
 * one of them becomes a feature: rounding errors in float, a few 6e-8 of the frame's root energy in each bin, would be
 * up to 1 in such a feature (measured: 1.1 for Gemma 3n on a chirp). Double costs less than twice the time. A batch of
 * LANES frames is transformed in halves, since a register holds half as many doubles.
 *
 * Error budget (eps = 6e-8 is half the distance from 1 to the next float; that of a double is 1e-16)
 *     transform       pre-emphasis, window and all else in double, 9 levels of butterflies: 1e-15 of the frame's root
 *                     energy in each bin.
 *     power, root     rounded to float: eps.
 *     mel             sums of positive terms, weights rounded to float: a few eps of the sum.
 *     log             the polynomial is 4e-8 off at most; the exponent times ln 2 is exact to 24 bits (two products);
 *                     then one rounding of the result (5e-7 for features between 8 and 16), the largest error of all.
 */
#include "stft_mel.h"

#include <math.h>

#include "simd.h"

enum { LANES = MM_LANES, HALF = MM_LANES > 1 ? MM_LANES / 2 : 1, PARTS = LANES / HALF };

/* A vector of HALF doubles, and what converts it from and to floats. Compilers know the instructions, but make three
 * of __builtin_convertvector where one does (GCC 12). */
#if MM_LANES == 1
typedef double vd;
MM_INLINE vd d_load(const double *p) { return *p; }
MM_INLINE vd d_loadu(const double *p) { return *p; }
MM_INLINE void d_store(double *p, vd v) { *p = v; }
MM_INLINE vd d_set1(double x) { return x; }
MM_INLINE void d_to_floats(float *p, vd v) { *p = (float)v; }
MM_INLINE void d_widen(vf v, vd parts[PARTS]) { parts[0] = v; }
MM_INLINE vf d_narrow(const vd parts[PARTS]) { return (float)parts[0]; }
#else
typedef double vd __attribute__((vector_size(HALF * 8)));
typedef double vd_unaligned __attribute__((vector_size(HALF * 8), aligned(8)));
MM_INLINE vd d_load(const double *p) { return *(const vd *)p; } /* p aligned to the vector */
MM_INLINE vd d_loadu(const double *p) { return (vd) * (const vd_unaligned *)p; }
MM_INLINE void d_store(double *p, vd v) { *(vd *)p = v; }
MM_INLINE vd d_set1(double x) { return (vd){} + x; }
#if MM_LANES == 16 && defined(__AVX512DQ__)
MM_INLINE void d_to_floats(float *p, vd v) { _mm256_store_ps(p, _mm512_cvtpd_ps((__m512d)v)); }
MM_INLINE void d_widen(vf v, vd parts[PARTS]) {
    parts[0] = (vd)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v));
    parts[1] = (vd)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1));
}
MM_INLINE vf d_narrow(const vd parts[PARTS]) {
    const __m256 low = _mm512_cvtpd_ps((__m512d)parts[0]), high = _mm512_cvtpd_ps((__m512d)parts[1]);
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
#elif MM_LANES == 8 && defined(__AVX__)
MM_INLINE void d_to_floats(float *p, vd v) { _mm_store_ps(p, _mm256_cvtpd_ps((__m256d)v)); }
MM_INLINE void d_widen(vf v, vd parts[PARTS]) {
    parts[0] = (vd)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
    parts[1] = (vd)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
}
MM_INLINE vf d_narrow(const vd parts[PARTS]) {
    const __m128 low = _mm256_cvtpd_ps((__m256d)parts[0]), high = _mm256_cvtpd_ps((__m256d)parts[1]);
    return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
#elif MM_LANES == 4 && defined(__SSE2__)
MM_INLINE void d_to_floats(float *p, vd v) { _mm_storel_pi((__m64 *)p, _mm_cvtpd_ps((__m128d)v)); }
MM_INLINE void d_widen(vf v, vd parts[PARTS]) {
    parts[0] = (vd)_mm_cvtps_pd((__m128)v);
    parts[1] = (vd)_mm_cvtps_pd(_mm_movehl_ps((__m128)v, (__m128)v));
}
MM_INLINE vf d_narrow(const vd parts[PARTS]) {
    return (vf)_mm_movelh_ps(_mm_cvtpd_ps((__m128d)parts[0]), _mm_cvtpd_ps((__m128d)parts[1]));
}
#elif MM_LANES == 4 && defined(__aarch64__)
MM_INLINE void d_to_floats(float *p, vd v) { vst1_f32(p, vcvt_f32_f64((float64x2_t)v)); }
MM_INLINE void d_widen(vf v, vd parts[PARTS]) {
    parts[0] = (vd)vcvt_f64_f32(vget_low_f32((float32x4_t)v));
    parts[1] = (vd)vcvt_high_f64_f32((float32x4_t)v);
}
MM_INLINE vf d_narrow(const vd parts[PARTS]) {
    return (vf)vcvt_high_f32_f64(vcvt_f32_f64((float64x2_t)parts[0]), (float64x2_t)parts[1]);
}
#else
MM_INLINE void d_to_floats(float *p, vd v) {
    for (int l = 0; l < HALF; l++) p[l] = (float)v[l];
}
MM_INLINE void d_widen(vf v, vd parts[PARTS]) {
    for (int l = 0; l < LANES; l++) parts[l / HALF][l % HALF] = v[l];
}
MM_INLINE vf d_narrow(const vd parts[PARTS]) {
    vf v;
    for (int l = 0; l < LANES; l++) v[l] = (float)parts[l / HALF][l % HALF];
    return v;
}
#endif
#endif

/* Working memory of one call, in the caller's hands: pointers into one block, and the sizes that depend on LANES. */
typedef struct {
    int more;        /* columns that a batch reads beyond those where its frames start */
    int front;       /* their place before the group of LANES columns in a row of the tile: whole vectors */
    int stride;      /* of the tile: front + LANES */
    int tile_rows;   /* hop, rounded up to whole vectors; after them three more rows (enum extra_row) */
    double *tile;    /* [tile_rows + EXTRA_ROWS][stride] */
    double *halfway; /* [radix / 2 + 1][columns, and one more][re, im][HALF]: between steps 2 and 3 */
    ptrdiff_t apart; /* from one of its transforms to the next: not a power of two, or all would fall into one set of
                      * the cache */
    float *power;    /* [n_fft / 2 + 2][LANES]; the last row takes what is not wanted */
    float *mel;      /* [n_mels, rounded up to whole vectors][LANES] */
    float *edge;     /* [LANES + hop * LANES + LANES] samples of a group that reaches past the signal */
    int32_t *place;  /* [columns][rows]: where in the tile a sample of the batch's first frame is */
} scratch;

/* What the tile knows of a column besides its samples. */
enum extra_row {
    FIRST_SAMPLE, /* (1 - c) times its first sample: what pre-emphasis in each frame makes of it */
    WHOLE_SUM,    /* the sum of its samples, before pre-emphasis, and of the first frame_length % hop of them */
    PART_SUM,
    EXTRA_ROWS
};

MM_INLINE size_t whole_vectors(size_t count) { return (count + LANES - 1) / LANES * LANES; }
MM_INLINE size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; } /* of cache */

/* Cut the block into its parts. Returns its length in bytes; with block = NULL only measures. */
static size_t cut_scratch(const mm_stft_plan *plan, scratch *s, char *block) {
    s->more = (plan->frame_length - 1) / plan->hop_length;
    s->front = (s->more + HALF - 1) / HALF * HALF;
    s->stride = s->front + LANES;
    s->tile_rows = (int)whole_vectors(plan->hop_length);
    s->apart = (ptrdiff_t)(plan->columns + 1) * 2 * HALF;
    size_t used = 0;
#define CUT(part, count)                                \
    if (block) s->part = (void *)(block + used);        \
    used += whole_lines((size_t)(count) * sizeof *s->part)
    CUT(tile, (size_t)(s->tile_rows + EXTRA_ROWS) * s->stride);
    CUT(halfway, (plan->radix / 2 + 1) * s->apart);
    CUT(power, (size_t)(plan->n_fft / 2 + 2) * LANES);
    CUT(mel, whole_vectors(plan->n_mels) * LANES);
    CUT(edge, 2 * LANES + (size_t)plan->hop_length * LANES);
    CUT(place, (size_t)plan->columns * plan->rows);
#undef CUT
    return used;
}

static size_t scratch_bytes(const mm_stft_plan *plan) {
    scratch s;
    return cut_scratch(plan, &s, NULL);
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

/* Fill the tile's group with columns first_column .. first_column + LANES - 1. `emphasised` and `summed` say what the
 * plan asks for; they are constants wherever this is used. */
MM_INLINE void transpose_columns(const mm_stft_plan *plan, const scratch *s, const float *samples,
                                 const int emphasised, const int summed) {
    const int hop = plan->hop_length, stride = s->stride;
    const double c = plan->emphasis;
    double *tile = s->tile + s->front;
    vd before[PARTS], sums[PARTS];
    for (int p = 0; p < PARTS; p++) before[p] = sums[p] = d_set1(0.0);
    if (emphasised) {
        MM_ALIGNED(64) float last[LANES]; /* sample of the column before */
        for (int l = 0; l < LANES; l++) last[l] = samples[(ptrdiff_t)l * hop - 1];
        d_widen(v_load(last), before);
    }
    const int part = plan->frame_length % hop;
    for (int row = 0; row < hop; row += LANES) {
        vf rows[LANES];
        v_transpose_load(samples + row, hop, rows);
        MM_UNROLL
        for (int i = 0; i < LANES; i++) {
            double *to = tile + (ptrdiff_t)(row + i) * stride;
            vd now[PARTS];
            d_widen(rows[i], now);
            MM_UNROLL
            for (int p = 0; p < PARTS; p++) {
                d_store(to + p * HALF, emphasised ? now[p] - before[p] * c : now[p]);
                before[p] = now[p];
            }
            if (summed) {
                if (row + i == part)
                    for (int p = 0; p < PARTS; p++) d_store(tile + (ptrdiff_t)(s->tile_rows + PART_SUM) * stride + p * HALF, sums[p]);
                if (row + i < hop)
                    for (int p = 0; p < PARTS; p++) sums[p] += now[p];
            }
            if (emphasised && row + i == 0)
                for (int p = 0; p < PARTS; p++)
                    d_store(tile + (ptrdiff_t)(s->tile_rows + FIRST_SAMPLE) * stride + p * HALF, now[p] * (1.0 - c));
        }
    }
    if (summed)
        for (int p = 0; p < PARTS; p++) d_store(tile + (ptrdiff_t)(s->tile_rows + WHOLE_SUM) * stride + p * HALF, sums[p]);
}

/* The bits of the largest |x|. Without their sign, the bits of floats are ordered as the numbers are, with infinity and
 * then NaN above them all. */
MM_INLINE int32_t largest_bits(const float *x, ptrdiff_t n) {
    int32_t largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* The next LANES columns. Returns 0 if a sample in them is not finite or above the plan's limit. */
static int load_columns(const mm_stft_plan *plan, const scratch *s, const float *x, ptrdiff_t n, ptrdiff_t padded,
                        ptrdiff_t first_column) {
    const ptrdiff_t hop = plan->hop_length, count = LANES * hop, start = first_column * hop - plan->offset;
    /* One sample before is read by the pre-emphasis; up to a vector beyond by the transpose. */
    const int inside = start >= 1 && start + count + LANES <= n;
    const float *samples = x + start;
    if (!inside) {
        copy_span(plan, x, n, padded, start - 1, count + 1 + LANES, s->edge + LANES - 1);
        samples = s->edge + LANES;
    }
    /* In the order of memory, and so the fastest way of all to bring them near. */
    int32_t limit;
    memcpy(&limit, &plan->limit, sizeof limit);
    if (largest_bits(samples, count) > limit) return 0;
    if (plan->remove_mean) {
        if (plan->emphasis_kind == MM_EMPHASIS_NONE)
            transpose_columns(plan, s, samples, 0, 1);
        else
            transpose_columns(plan, s, samples, 1, 1);
    } else {
        if (plan->emphasis_kind == MM_EMPHASIS_NONE)
            transpose_columns(plan, s, samples, 0, 0);
        else
            transpose_columns(plan, s, samples, 1, 0);
    }
    /* The signal has an end: what pre-emphasis makes of the zero after it is not part of y. */
    if (plan->emphasis_kind == MM_EMPHASIS_SIGNAL && start <= n && n < start + count)
        s->tile[(n - start) % hop * s->stride + s->front + (n - start) / hop] = 0.0;
    return 1;
}

/* The last columns of a batch are the first ones of the next. */
MM_INLINE void shift_columns(const scratch *s) {
    const ptrdiff_t rows = s->tile_rows + EXTRA_ROWS, stride = s->stride;
    double *row = s->tile;
    if (s->front == HALF) /* the usual case, without an inner loop */
        for (ptrdiff_t r = 0; r < rows; r++, row += stride) d_store(row, d_load(row + LANES));
    else
        for (ptrdiff_t r = 0; r < rows; r++, row += stride)
            for (int c = 0; c < s->front; c += HALF) d_store(row + c, d_load(row + LANES + c));
}

static void find_places(const mm_stft_plan *plan, const scratch *s) {
    const int hop = plan->hop_length, first = s->front - s->more; /* column of the batch's first frame */
    for (int j = 0; j < plan->columns; j++)
        for (int a = 0; a < plan->rows; a++) {
            const int n = plan->columns * a + j;
            const int in_frame = n < plan->frame_length ? n : 0; /* beyond the frame the window is zero */
            const int first_sample = in_frame == 0 && plan->emphasis_kind == MM_EMPHASIS_FRAME;
            const int row = first_sample ? s->tile_rows + FIRST_SAMPLE : in_frame % hop;
            s->place[j * plan->rows + a] = row * s->stride + in_frame / hop + first;
        }
}

/* The means of HALF frames as they stand in y: y of a constant m is (1 - c) m. */
MM_INLINE vd means_of_frames(const mm_stft_plan *plan, const scratch *s, int lane) {
    const double *whole = s->tile + (ptrdiff_t)(s->tile_rows + WHOLE_SUM) * s->stride + s->front - s->more + lane;
    const double *part = whole + (PART_SUM - WHOLE_SUM) * s->stride;
    const int columns = plan->frame_length / plan->hop_length;
    const double c = plan->emphasis_kind == MM_EMPHASIS_FRAME ? plan->emphasis : 0.0;
    vd sum = d_set1(0.0);
    for (int i = 0; i < columns; i++) sum += d_loadu(whole + i);
    if (plan->frame_length % plan->hop_length) sum += d_loadu(part + columns);
    return sum * ((1.0 - c) / plan->frame_length);
}

/* ---- Small transforms on vectors. */

typedef struct {
    vd re, im;
} complex_vd;

MM_INLINE complex_vd c_load(const double *p) { return (complex_vd){d_load(p), d_load(p + HALF)}; }
MM_INLINE void c_store(double *p, complex_vd a) {
    d_store(p, a.re);
    d_store(p + HALF, a.im);
}
MM_INLINE complex_vd c_add(complex_vd a, complex_vd b) { return (complex_vd){a.re + b.re, a.im + b.im}; }
MM_INLINE complex_vd c_sub(complex_vd a, complex_vd b) { return (complex_vd){a.re - b.re, a.im - b.im}; }
/* a + i b and a - i b */
MM_INLINE complex_vd c_add_i(complex_vd a, complex_vd b) { return (complex_vd){a.re - b.im, a.im + b.re}; }
MM_INLINE complex_vd c_sub_i(complex_vd a, complex_vd b) { return (complex_vd){a.re + b.im, a.im - b.re}; }
/* a exp(-i phi), given cos phi and sin phi */
MM_INLINE complex_vd c_turn(complex_vd a, double cosine, double sine) {
    return (complex_vd){a.re * cosine + a.im * sine, a.im * cosine - a.re * sine};
}

MM_INLINE void dft2(const complex_vd x[2], complex_vd y[2]) {
    y[0] = c_add(x[0], x[1]);
    y[1] = c_sub(x[0], x[1]);
}

MM_INLINE void dft4(const complex_vd x[4], complex_vd y[4]) {
    const complex_vd sum02 = c_add(x[0], x[2]), difference02 = c_sub(x[0], x[2]);
    const complex_vd sum13 = c_add(x[1], x[3]), difference13 = c_sub(x[1], x[3]);
    y[0] = c_add(sum02, sum13);
    y[1] = c_sub_i(difference02, difference13);
    y[2] = c_sub(sum02, sum13);
    y[3] = c_add_i(difference02, difference13);
}

/* a exp(-2 pi i m / 32), m a constant from 0 to 18. */
MM_INLINE complex_vd c_turn32(complex_vd a, const int m) {
    static const double cosine[19] = {
        1, 0.980785280403230449, 0.923879532511286756, 0.831469612302545237, 0.707106781186547524,
        0.555570233019602225, 0.382683432365089772, 0.195090322016128268, 0, -0.195090322016128268,
        -0.382683432365089772, -0.555570233019602225, -0.707106781186547524, -0.831469612302545237,
        -0.923879532511286756, -0.980785280403230449, -1, -0.980785280403230449, -0.923879532511286756};
    if (m == 0) return a;
    if (m == 8) return (complex_vd){a.im, -a.re};
    return c_turn(a, cosine[m], m < 8 ? cosine[8 - m] : cosine[m - 8]); /* sin phi = cos(phi - a quarter) */
}

/* DFT-8 as 2 x 4: the even outputs are a DFT-4 of the sums, the odd ones of the turned differences. */
MM_INLINE void dft8(const complex_vd x[8], complex_vd y[8]) {
    complex_vd sums[4], differences[4], even[4], odd[4];
    MM_UNROLL
    for (int j = 0; j < 4; j++) {
        sums[j] = c_add(x[j], x[j + 4]);
        differences[j] = c_sub(x[j], x[j + 4]);
    }
    MM_UNROLL
    for (int j = 1; j < 4; j++) differences[j] = c_turn32(differences[j], 4 * j);
    dft4(sums, even);
    dft4(differences, odd);
    MM_UNROLL
    for (int r = 0; r < 4; r++) {
        y[2 * r] = even[r];
        y[2 * r + 1] = odd[r];
    }
}

/* cos and sin of 2 pi j / radix, radix = 3, 5, 7. */
static const double odd_cosine[8][7] = {
    [3] = {1, -0.5, -0.5},
    [5] = {1, 0.309016994374947424, -0.809016994374947424, -0.809016994374947424, 0.309016994374947424},
    [7] = {1, 0.623489801858733531, -0.222520933956314404, -0.900968867902419126, -0.900968867902419126,
           -0.222520933956314404, 0.623489801858733531}};
static const double odd_sine[8][7] = {
    [3] = {0, 0.866025403784438647, -0.866025403784438647},
    [5] = {0, 0.951056516295153572, 0.587785252292473129, -0.587785252292473129, -0.951056516295153572},
    [7] = {0, 0.781831482468029809, 0.974927912181823607, 0.433883739117558120, -0.433883739117558120,
           -0.974927912181823607, -0.781831482468029809}};

/* DFT of an odd length, by its definition on sums and differences of the inputs j and radix - j. */
MM_INLINE void dft_odd(const complex_vd *x, complex_vd *y, const int radix) {
    complex_vd sums[4], differences[4];
    y[0] = x[0];
    MM_UNROLL
    for (int j = 1; j <= radix / 2; j++) {
        sums[j] = c_add(x[j], x[radix - j]);
        differences[j] = c_sub(x[j], x[radix - j]);
        y[0] = c_add(y[0], sums[j]);
    }
    MM_UNROLL
    for (int q = 1; q <= radix / 2; q++) {
        complex_vd even = x[0], odd = {d_set1(0.0), d_set1(0.0)};
        MM_UNROLL
        for (int j = 1; j <= radix / 2; j++) {
            const double cosine = odd_cosine[radix][j * q % radix], sine = odd_sine[radix][j * q % radix];
            even = (complex_vd){even.re + sums[j].re * cosine, even.im + sums[j].im * cosine};
            odd = (complex_vd){odd.re + differences[j].re * sine, odd.im + differences[j].im * sine};
        }
        y[q] = c_sub_i(even, odd);
        y[radix - q] = c_add_i(even, odd);
    }
}

/* DFT-10 by Good's mapping, since 2 and 5 are coprime: with n = (5 n1 + 2 n2) mod 10, k1 = k mod 2 and k2 = k mod 5,
 * exp(-2 pi i n k / 10) = exp(-2 pi i n1 k1 / 2) exp(-2 pi i n2 k2 / 5). */
MM_INLINE void dft10(const complex_vd x[10], complex_vd y[10]) {
    complex_vd sums[5], differences[5], even[5], odd[5];
    MM_UNROLL
    for (int n2 = 0; n2 < 5; n2++) {
        sums[n2] = c_add(x[2 * n2], x[(2 * n2 + 5) % 10]);
        differences[n2] = c_sub(x[2 * n2], x[(2 * n2 + 5) % 10]);
    }
    dft_odd(sums, even, 5);
    dft_odd(differences, odd, 5);
    MM_UNROLL
    for (int k2 = 0; k2 < 5; k2++) { /* 6 is 0 mod 2 and 1 mod 5 */
        y[6 * k2 % 10] = even[k2];
        y[(6 * k2 + 5) % 10] = odd[k2];
    }
}

MM_INLINE void dft(const complex_vd *x, complex_vd *y, const int radix) {
    switch (radix) { /* a constant wherever this is used */
    case 2:
        dft2(x, y);
        break;
    case 3:
    case 5:
    case 7:
        dft_odd(x, y, radix);
        break;
    case 4:
        dft4(x, y);
        break;
    case 8:
        dft8(x, y);
        break;
    case 10:
        dft10(x, y);
        break;
    default:
        y[0] = x[0];
    }
}

/* ---- Step 2: transforms of length `radix` over the rows of the frame, turned on their way to `halfway`. */

typedef struct {
    double *to; /* output q goes to to + q apart */
    ptrdiff_t apart;
    const double *turns;
} outputs;

/* Output q of a transform of `radix` real points; beyond the middle it is the conjugate of radix - q. */
MM_INLINE void put(outputs o, int q, const int radix, complex_vd y) {
    if (2 * q > radix) {
        q = radix - q;
        y.im = -y.im;
    }
    c_store(o.to + q * o.apart, q ? c_turn(y, o.turns[2 * q - 2], o.turns[2 * q - 1]) : y);
}

/* DFT-4 of real input: outputs 0 and 2 are real, and 3 is the conjugate of 1. */
MM_INLINE void dft4_real(vd x0, vd x1, vd x2, vd x3, vd *y0, complex_vd *y1, vd *y2) {
    const vd sum02 = x0 + x2, sum13 = x1 + x3;
    *y0 = sum02 + sum13;
    *y1 = (complex_vd){x0 - x2, x3 - x1};
    *y2 = sum02 - sum13;
}

/* DFT-4r of real input, r = 4 or 8, given the DFT-4s of its samples b, b + r, b + 2 r, b + 3 r: with n = r a + b and
 * k = c + 4 d,    exp(-2 pi i n k / 4r) = exp(-2 pi i a c / 4) exp(-2 pi i b c / 4r) exp(-2 pi i b d / r).
 *
 * c = 0: real input.   c = 1: complex input.   c = 3: the conjugates of c = 1.
 * c = 2: real input v, and an odd number of half turns over its length: for even d
 *        v[b] exp(-2 pi i b (1 + 2 d) / 2r) and the same of b + r / 2 differ by the factor -i, whatever d. So d = 0, 2, ...
 *        is a complex transform of v[b] - i v[b + r / 2], of half the length, and odd d are the conjugates. */
MM_INLINE void dft_from_fours(const vd *v0, const complex_vd *v1, const vd *v2, const int r, outputs o) {
    const int radix = 4 * r;
    complex_vd in[8], out[8];
    const vd zero = d_set1(0.0);
    if (r == 8) {
        vd even0, even2, odd0, odd2;
        complex_vd even1, odd1;
        dft4_real(v0[0], v0[2], v0[4], v0[6], &even0, &even1, &even2);
        dft4_real(v0[1], v0[3], v0[5], v0[7], &odd0, &odd1, &odd2);
        odd1 = c_turn32(odd1, 4);
        put(o, 0, radix, (complex_vd){even0 + odd0, zero});
        put(o, 16, radix, (complex_vd){even0 - odd0, zero});
        put(o, 8, radix, (complex_vd){even2, -odd2});
        put(o, 4, radix, c_add(even1, odd1));
        put(o, 20, radix, c_sub(even1, odd1));
    } else {
        vd y0, y2;
        complex_vd y1;
        dft4_real(v0[0], v0[1], v0[2], v0[3], &y0, &y1, &y2);
        put(o, 0, radix, (complex_vd){y0, zero});
        put(o, 4, radix, y1);
        put(o, 8, radix, (complex_vd){y2, zero});
    }
    MM_UNROLL
    for (int b = 0; b < r / 2; b++) in[b] = c_turn32((complex_vd){v2[b], -v2[b + r / 2]}, 16 / r * b);
    dft(in, out, r / 2);
    MM_UNROLL
    for (int d = 0; d < r / 2; d++) put(o, 2 + 8 * d, radix, out[d]);
    MM_UNROLL
    for (int b = 0; b < r; b++) in[b] = c_turn32(v1[b], 8 / r * b);
    dft(in, out, r);
    MM_UNROLL
    for (int d = 0; d < r; d++) put(o, 1 + 4 * d, radix, out[d]);
}

/* Where the samples of column j of the transform come from. */
typedef struct {
    const double *tile, *window;
    const int32_t *place;
    vd mean;
} inputs;

/* Sample a, windowed. The compiler drops the arithmetic on the rows that are zero. */
MM_INLINE vd sample_of(inputs i, const int a, const int rows, const int remove_mean) {
    if (a >= rows) return d_set1(0.0);
    const vd y = d_loadu(i.tile + i.place[a]);
    return (remove_mean ? y - i.mean : y) * i.window[a];
}

MM_INLINE void real_stage(const mm_stft_plan *plan, const scratch *s, int lane, const int radix, const int rows,
                          const int remove_mean) {
    inputs i = {s->tile + lane, plan->window, s->place, d_set1(0.0)};
    outputs o = {s->halfway, s->apart, plan->turns};
    if (remove_mean) i.mean = means_of_frames(plan, s, lane);
    for (int j = 0; j < plan->columns; j++) {
        if (radix >= 16) {
            const int r = radix / 4;
            vd v0[8], v2[8];
            complex_vd v1[8];
            MM_UNROLL
            for (int b = 0; b < r; b++)
                dft4_real(sample_of(i, b, rows, remove_mean), sample_of(i, b + r, rows, remove_mean),
                          sample_of(i, b + 2 * r, rows, remove_mean), sample_of(i, b + 3 * r, rows, remove_mean), &v0[b],
                          &v1[b], &v2[b]);
            dft_from_fours(v0, v1, v2, r, o);
        } else { /* as complex input; the compiler drops the arithmetic on imaginary parts and of outputs not used */
            complex_vd in[8], out[8];
            MM_UNROLL
            for (int a = 0; a < radix; a++)
                in[a] = (complex_vd){sample_of(i, a, rows, remove_mean), d_set1(0.0)};
            dft(in, out, radix);
            MM_UNROLL
            for (int q = 0; q <= radix / 2; q++) put(o, q, radix, out[q]);
        }
        i.place += rows;
        i.window += rows;
        o.turns += radix / 2 * 2;
        o.to += 2 * HALF;
    }
}

/* One copy for each shape that a family uses, and one for each other radix. */
static void choose_real_stage(const mm_stft_plan *plan, const scratch *s, int lane) {
#define STAGE(radix, rows)                             \
    case 100 * radix + rows:                           \
        if (plan->remove_mean)                         \
            real_stage(plan, s, lane, radix, rows, 1); \
        else                                           \
            real_stage(plan, s, lane, radix, rows, 0); \
        break
    switch (100 * plan->radix + plan->rows) {
        STAGE(32, 16); /* frames of 512 in 1024 */
        STAGE(32, 20); /* 320 in 512 */
        STAGE(32, 25); /* 400 in 512 */
        STAGE(32, 32);
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
MM_INLINE const double *middle_pass(double *z, int columns, int size, const double *turns, const int radix) {
    const int m = size / radix;
    for (int j = 0; j < m; j++, turns += 2 * (radix - 1)) {
        for (double *p = z + (ptrdiff_t)j * 2 * HALF; p < z + (ptrdiff_t)columns * 2 * HALF;
             p += (ptrdiff_t)size * 2 * HALF) {
            complex_vd x[8], y[8];
            MM_UNROLL
            for (int a = 0; a < radix; a++) x[a] = c_load(p + (ptrdiff_t)a * m * 2 * HALF);
            dft(x, y, radix);
            c_store(p, y[0]);
            MM_UNROLL
            for (int q = 1; q < radix; q++)
                c_store(p + (ptrdiff_t)q * m * 2 * HALF, c_turn(y[q], turns[2 * q - 2], turns[2 * q - 1]));
        }
    }
    return turns;
}

/* The power of an output goes to the row of its bin. */
MM_INLINE void put_power(float *power, int32_t bin, complex_vd y) {
    d_to_floats(power + (ptrdiff_t)bin * LANES, y.re * y.re + y.im * y.im);
}

MM_INLINE void last_pass(const double *z, int columns, const int32_t *bins, float *power, const int radix) {
    for (int at = 0; at < columns; at += radix, bins += radix) {
        complex_vd x[10], y[10];
        if (radix == 16) {
            /* 4 x 4: with n = 4 a + b and k = c + 4 d,
             * exp(-2 pi i n k / 16) = exp(-2 pi i a c / 4) exp(-2 pi i b c / 16) exp(-2 pi i b d / 4) */
            complex_vd inner[4][4]; /* [c][b] */
            MM_UNROLL
            for (int b = 0; b < 4; b++) {
                MM_UNROLL
                for (int a = 0; a < 4; a++) x[a] = c_load(z + (ptrdiff_t)(at + 4 * a + b) * 2 * HALF);
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
            for (int a = 0; a < radix; a++) x[a] = c_load(z + (ptrdiff_t)(at + a) * 2 * HALF);
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
        double *z = s->halfway + q * s->apart;
        const double *turns = plan->pass_turns;
        int size = plan->columns, pass = 0;
        for (; pass < plan->passes - 1; pass++) {
#define MIDDLE(radix) turns = middle_pass(z, plan->columns, size, turns, radix)
            BY_RADIX(plan->radices[pass], MIDDLE)
#undef MIDDLE
            size /= plan->radices[pass];
        }
        const int32_t *bins = plan->bins + (ptrdiff_t)q * plan->columns;
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

/* v = m 2^e with m in [sqrt(1/2), sqrt(2)): the float e, and m - 1. v is a normal number. */
MM_INLINE void split(vf v, vf *exponent, vf *f) {
    const int32_t sqrt_half = 0x3f3504f3; /* bits of sqrt(1/2): subtracted, the mantissa falls in that interval */
    const vi offset = v_bits(v) - sqrt_half;
    *f = v_from_bits((offset & 0x007fffff) + sqrt_half) - 1.0f;
    *exponent = v_from_int(offset >> 23);
}

/* scale ln(1 + f) by its series, of several vectors at once: each coefficient is loaded once for all of them. */
MM_INLINE void series(const float *terms, const vf *f, vf *sum, const int count) {
    MM_UNROLL
    for (int i = 0; i < count; i++) sum[i] = v_set1(terms[MM_STFT_LOG_TERMS - 1]);
    MM_UNROLL
    for (int t = MM_STFT_LOG_TERMS - 2; t >= 0; t--) {
        MM_UNROLL
        for (int i = 0; i < count; i++) sum[i] = sum[i] * f[i] + terms[t];
    }
    MM_UNROLL
    for (int i = 0; i < count; i++) sum[i] *= f[i];
}

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

/* Lanes beyond the last frame of a call are neither stored nor counted. Returns the largest feature. */
MM_INLINE float log_stage(const mm_stft_plan *plan, scratch *s, int frames, float *out, ptrdiff_t stride) {
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

/* ---- All steps. */

static float features(const mm_stft_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t first,
                      ptrdiff_t count, float *out, ptrdiff_t stride, void *working_memory) {
    scratch memory, *s = &memory;
    cut_scratch(plan, s, working_memory);
    find_places(plan, s);
    for (size_t m = plan->n_mels; m < whole_vectors(plan->n_mels); m++) v_store(s->mel + m * LANES, v_set1(1.0f));
    /* Columns before those that a batch adds: of the first batch, they come this way too. */
    for (int before = (s->front + LANES - 1) / LANES; before > 0; before--) {
        if (!load_columns(plan, s, x, n, padded, first + s->more - (ptrdiff_t)before * LANES)) return NAN;
        shift_columns(s);
    }
    float maximum = -INFINITY;
    for (ptrdiff_t f = first; f < first + count; f += LANES) {
        if (f > first) shift_columns(s);
        if (!load_columns(plan, s, x, n, padded, f + s->more)) return NAN;
        for (int lane = 0; lane < LANES; lane += HALF) {
            choose_real_stage(plan, s, lane);
            column_stage(plan, s, lane);
        }
        if (plan->magnitude)
            mel_stage(plan, s, 1);
        else
            mel_stage(plan, s, 0);
        const int frames = first + count - f < LANES ? (int)(first + count - f) : LANES;
        maximum = fmaxf(maximum, log_stage(plan, s, frames, out + (f - first) * stride, stride));
    }
    return maximum;
}

/* ---- Before and after. */

static float peak(const float *x, ptrdiff_t n) {
    const int32_t largest = largest_bits(x, n);
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

static void clamp(float *v, ptrdiff_t n, float lowest) {
    const vf least = v_set1(lowest);
    ptrdiff_t i = 0;
    for (; i + LANES <= n; i += LANES) v_storeu(v + i, v_max(v_loadu(v + i), least));
    for (; i < n; i++) v[i] = fmaxf(v[i], lowest);
}

/* A band that hardly varies has a deviation that is made of rounding errors, and the deviation is the divisor. So
 * logarithms are never rounded to float, and sums are in double: sums of l - l0 and (l - l0)^2, l0 the logarithm of the
 * band's first frame. As l0 is one of the values, (mean - l0)^2 is at most `count` times their variance, and what the
 * difference of the two sums loses is 1e-16 count of the result.
 *
 * Bands are taken LANES at a time and frames in blocks that stay in the first-level cache. */

/* ln of LANES energies, in double: the error is 5e-8 whatever the size of the logarithm. */
MM_INLINE void logarithms(const float *terms, vf v, vd logs[PARTS]) {
    vf exponent, f, sum;
    vd exponents[PARTS];
    split(v, &exponent, &f);
    series(terms, &f, &sum, 1);
    d_widen(exponent, exponents);
    d_widen(sum, logs);
    for (int p = 0; p < PARTS; p++) logs[p] += exponents[p] * 0.693147180559945309;
}

/* Up to LANES numbers of a row; ones stand in for those beyond it. */
MM_INLINE vf load_bands(const float *v, int bands) {
    if (bands == LANES) return v_loadu(v);
    MM_ALIGNED(64) float part[LANES];
    for (int l = 0; l < LANES; l++) part[l] = l < bands ? v[l] : 1.0f;
    return v_load(part);
}

MM_INLINE void add_bands(const mm_stft_plan *plan, const float *energies, ptrdiff_t count, ptrdiff_t stride, int bands,
                         const double *first, double *sums, double *squares) {
    vd base[PARTS], sum[PARTS], square[PARTS], logs[PARTS];
    for (int p = 0; p < PARTS; p++) {
        base[p] = d_load(first + p * HALF);
        sum[p] = d_load(sums + p * HALF);
        square[p] = d_load(squares + p * HALF);
    }
    for (ptrdiff_t t = 0; t < count; t++) {
        logarithms(plan->log_terms, load_bands(energies + t * stride, bands), logs);
        for (int p = 0; p < PARTS; p++) {
            const vd difference = logs[p] - base[p];
            sum[p] += difference;
            square[p] += difference * difference;
        }
    }
    for (int p = 0; p < PARTS; p++) {
        d_store(sums + p * HALF, sum[p]);
        d_store(squares + p * HALF, square[p]);
    }
}

MM_INLINE void scale_bands(const mm_stft_plan *plan, float *energies, ptrdiff_t count, ptrdiff_t stride, int bands,
                           const double *means, const double *scales) {
    vd mean[PARTS], scale[PARTS], logs[PARTS];
    for (int p = 0; p < PARTS; p++) {
        mean[p] = d_load(means + p * HALF);
        scale[p] = d_load(scales + p * HALF);
    }
    for (ptrdiff_t t = 0; t < count; t++) {
        logarithms(plan->log_terms, load_bands(energies + t * stride, bands), logs);
        for (int p = 0; p < PARTS; p++) logs[p] = (logs[p] - mean[p]) * scale[p];
        if (bands == LANES) {
            v_storeu(energies + t * stride, d_narrow(logs));
        } else {
            MM_ALIGNED(64) float part[LANES];
            v_store(part, d_narrow(logs));
            memcpy(energies + t * stride, part, bands * sizeof *part);
        }
    }
}

static void normalize(const mm_stft_plan *plan, float *energies, ptrdiff_t count, ptrdiff_t stride, double epsilon,
                      double *working_memory) {
    enum { BLOCK = 64 };
    const int n_mels = plan->n_mels, padded = (int)whole_vectors(n_mels);
    double *first = working_memory, *sums = first + padded, *squares = sums + padded;
    memset(working_memory, 0, 3 * (size_t)padded * sizeof(double));
    for (int m = 0; m < n_mels; m += LANES) {
        vd logs[PARTS];
        logarithms(plan->log_terms, load_bands(energies + m, n_mels - m < LANES ? n_mels - m : LANES), logs);
        for (int p = 0; p < PARTS; p++) d_store(first + m + p * HALF, logs[p]);
    }
    for (int pass = 0; pass < 2; pass++) {
        for (ptrdiff_t t = 0; t < count; t += BLOCK)
            for (int m = 0; m < n_mels; m += LANES) {
                const ptrdiff_t frames = count - t < BLOCK ? count - t : BLOCK;
                const int bands = n_mels - m < LANES ? n_mels - m : LANES;
                float *block = energies + t * stride + m;
                if (pass && bands == LANES)
                    scale_bands(plan, block, frames, stride, LANES, first + m, squares + m);
                else if (pass)
                    scale_bands(plan, block, frames, stride, bands, first + m, squares + m);
                else if (bands == LANES)
                    add_bands(plan, block, frames, stride, LANES, first + m, sums + m, squares + m);
                else
                    add_bands(plan, block, frames, stride, bands, first + m, sums + m, squares + m);
            }
        for (int m = 0; m < n_mels && pass == 0; m++) { /* from sums to means and scales */
            const double spread = squares[m] - sums[m] * (sums[m] / (double)count);
            first[m] += sums[m] / (double)count;
            squares[m] = 1.0 / (sqrt(fmax(spread, 0.0) / (double)(count - 1)) + epsilon);
        }
    }
}

const mm_stft_kernel MM_NAME(mm_stft) = {LANES, scratch_bytes, features, clamp, peak, normalize};
