/* Whisper's log-mel spectrogram.
 *
 * The definition (OpenAI's whisper/audio.py; WhisperFeatureExtractor in transformers), with the 16-kHz signal x
 * zero-padded to `padded` samples and mirrored by 200 samples at either end:
 *
 *     X_t[k]  =  sum over n < 400 of  hann[n] x[160 t + n - 200] exp(-2 pi i n k / 400),     t < padded / 160
 *     v[m, t] =  log10(max(1e-10, sum over k <= 200 of filter[k, m] |X_t[k]|^2))
 *     out     =  (max(v, max(v) - 8) + 4) / 4
 *
 * How it is computed
 * ------------------
 * Frames in lanes. Lane l of a vector belongs to frame f + l of a batch, so that all arithmetic below is ordinary
 * scalar arithmetic written on vectors: no shuffle, no idle lane, and a frame's result does not depend on its
 * neighbours (nor, therefore, on how the frames are cut into calls).
 *
 * 1. load_columns  samples -> tile. Sample n of frame t is sample n % 160 of the 160-sample column t + n / 160. The
 *                  tile holds column c of row r at tile[r][c]: the transpose of the signal. Sample n of a whole batch
 *                  is then one (unaligned) load from row n % 160, and each sample is transposed once, not 2.5 times.
 * 2. dft25_stage   tile -> 16 transforms of length 25, window included.
 * 3. dft16_stage   -> 13 transforms of length 16, and the power of each bin.
 * 4. mel_stage     power -> mel energies. Triangles overlap their neighbours only, so a bin feeds two filters.
 * 5. log_stage     logarithm, to the output; the maximum and each batch's minimum are noted.
 * 6. clamp         max(v, max(v) - 8), when the maximum over the whole signal is known, where it can matter.
 *
 * The transform: 400 = 16 x 25 with coprime factors, so Good's mapping needs no twiddle factors between them. With
 *
 *     n = (25 n1 + 16 n2) mod 400,    k1 = k mod 16,    k2 = k mod 25:
 *     exp(-2 pi i n k / 400) = exp(-2 pi i n1 k1 / 16) exp(-2 pi i n2 k2 / 25)
 *
 * The samples are real, so a DFT-25 needs only its outputs k2 = 0 .. 12, and of the 16 x 13 outputs of the second
 * stage each is a bin of its own up to conjugation, except that k2 = 0 gives bins 25 j twice.
 *
 * Error budget, in features (which are of the order of 1), float32 against exact arithmetic
 *     transform       A bin's error is a few roundings of the frame's loudest bin: about 3 x 6e-8 of its amplitude. The
 *                     clamp leaves bins to be seen down to 80 dB under the loudest: 1e-4 of its amplitude, so 2e-3 of
 *                     the faint bin itself at worst. In the feature, log10(|X|^2) / 4, that is 4e-4 for a filter of one
 *                     such bin and falls with the number of bins in it; pure tones reach 5e-5, 5e-7 on average. Noise
 *                     and all else that has no such contrast stays under 1e-5, 1e-7 on average.
 *     mel, logarithm  Sums of positive terms: 1e-7 relative, so 1e-8 in the feature. Polynomial: 4e-9.
 *     result          Rounding of a feature near 1: 6e-8.
 */
#include "logmel.h"

#include <math.h>

#include "simd.h"

enum {
    LANES = MM_LANES,
    /* A batch reads columns f .. f + LANES + 1. They are loaded in groups of LANES. */
    GROUPS = 1 + (2 + LANES - 1) / LANES,
    COLUMNS = GROUPS * LANES
};

/* Working memory of one call, in the caller's hands. At 8 lanes 40 KiB, most of it in the first-level cache. */
typedef struct {
    MM_ALIGNED(64) float tile[MM_HOP][COLUMNS];
    MM_ALIGNED(64) float halfway[13][16][2][LANES]; /* [k2][n1][re, im]: between the two stages */
    MM_ALIGNED(64) float power[MM_BINS][LANES];
    MM_ALIGNED(64) float mel[MM_MELS_MAX][LANES];
    MM_ALIGNED(64) float edge[LANES * MM_HOP];      /* samples of a group that reaches past the signal */
} scratch;

/* ---- Tables of the transform, constant for a lane count. */

/* Where sample n of the batch's first frame is in the tile, in floats. */
#define SAMPLE(n1, n2) ((25 * (n1) + 16 * (n2)) % MM_N_FFT)
#define PLACE(n1, n2) (SAMPLE(n1, n2) % MM_HOP * COLUMNS + SAMPLE(n1, n2) / MM_HOP)
#define PLACES5(n1, n2) PLACE(n1, n2), PLACE(n1, n2 + 1), PLACE(n1, n2 + 2), PLACE(n1, n2 + 3), PLACE(n1, n2 + 4)
#define PLACES(n1) {PLACES5(n1, 0), PLACES5(n1, 5), PLACES5(n1, 10), PLACES5(n1, 15), PLACES5(n1, 20)}
static const int tile_place[16][25] = {
    PLACES(0), PLACES(1), PLACES(2), PLACES(3), PLACES(4), PLACES(5), PLACES(6), PLACES(7),
    PLACES(8), PLACES(9), PLACES(10), PLACES(11), PLACES(12), PLACES(13), PLACES(14), PLACES(15)};

/* The bin of output (k1, k2): the k with k mod 16 = k1 and k mod 25 = k2 (225 is 1 mod 16 and 0 mod 25; 176 the other
 * way round), and 400 - k has the same power. In floats from the start of scratch.power. */
#define FOLD(k) ((k) <= MM_N_FFT / 2 ? (k) : MM_N_FFT - (k))
#define BIN(k2, k1) (FOLD((225 * (k1) + 176 * (k2)) % MM_N_FFT) * LANES)
#define BINS4(k2, k1) BIN(k2, k1), BIN(k2, k1 + 1), BIN(k2, k1 + 2), BIN(k2, k1 + 3)
#define BINS(k2) {BINS4(k2, 0), BINS4(k2, 4), BINS4(k2, 8), BINS4(k2, 12)}
static const int power_place[13][16] = {BINS(0), BINS(1), BINS(2), BINS(3),  BINS(4),  BINS(5), BINS(6),
                                        BINS(7), BINS(8), BINS(9), BINS(10), BINS(11), BINS(12)};

/* ---- Small transforms on vectors. */

typedef struct {
    vf re, im;
} complex_vf;

MM_INLINE complex_vf c_add(complex_vf a, complex_vf b) { return (complex_vf){a.re + b.re, a.im + b.im}; }
MM_INLINE complex_vf c_sub(complex_vf a, complex_vf b) { return (complex_vf){a.re - b.re, a.im - b.im}; }
MM_INLINE complex_vf c_conj(complex_vf a) { return (complex_vf){a.re, -a.im}; }
/* a + i b and a - i b */
MM_INLINE complex_vf c_add_i(complex_vf a, complex_vf b) { return (complex_vf){a.re - b.im, a.im + b.re}; }
MM_INLINE complex_vf c_sub_i(complex_vf a, complex_vf b) { return (complex_vf){a.re + b.im, a.im - b.re}; }
/* a exp(-i phi), given cos phi and sin phi */
MM_INLINE complex_vf c_turn(complex_vf a, float cosine, float sine) {
    return (complex_vf){a.re * cosine + a.im * sine, a.im * cosine - a.re * sine};
}

/* cos and sin of 2 pi / 5 and 4 pi / 5 */
#define COS1_5 0.309016994374947424f
#define COS2_5 (-0.809016994374947424f)
#define SIN1_5 0.951056516295153572f
#define SIN2_5 0.587785252292473129f

/* DFT-5 of real input: outputs 0, 1 and 2; outputs 4 and 3 are the conjugates of the last two. */
MM_INLINE void dft5_real(const vf x[5], vf *y0, complex_vf *y1, complex_vf *y2) {
    const vf sum1 = x[1] + x[4], sum2 = x[2] + x[3], difference1 = x[1] - x[4], difference2 = x[2] - x[3];
    *y0 = x[0] + sum1 + sum2;
    *y1 = (complex_vf){x[0] + COS1_5 * sum1 + COS2_5 * sum2, -(SIN1_5 * difference1 + SIN2_5 * difference2)};
    *y2 = (complex_vf){x[0] + COS2_5 * sum1 + COS1_5 * sum2, SIN1_5 * difference2 - SIN2_5 * difference1};
}

/* DFT-5 of complex input. */
MM_INLINE void dft5(const complex_vf x[5], complex_vf y[5]) {
    const complex_vf sum1 = c_add(x[1], x[4]), sum2 = c_add(x[2], x[3]);
    const complex_vf difference1 = c_sub(x[1], x[4]), difference2 = c_sub(x[2], x[3]);
    const complex_vf even1 = {x[0].re + COS1_5 * sum1.re + COS2_5 * sum2.re,
                              x[0].im + COS1_5 * sum1.im + COS2_5 * sum2.im};
    const complex_vf even2 = {x[0].re + COS2_5 * sum1.re + COS1_5 * sum2.re,
                              x[0].im + COS2_5 * sum1.im + COS1_5 * sum2.im};
    const complex_vf odd1 = {SIN1_5 * difference1.re + SIN2_5 * difference2.re,
                             SIN1_5 * difference1.im + SIN2_5 * difference2.im};
    const complex_vf odd2 = {SIN2_5 * difference1.re - SIN1_5 * difference2.re,
                             SIN2_5 * difference1.im - SIN1_5 * difference2.im};
    y[0] = c_add(c_add(x[0], sum1), sum2);
    y[1] = c_sub_i(even1, odd1);
    y[4] = c_add_i(even1, odd1);
    y[2] = c_sub_i(even2, odd2);
    y[3] = c_add_i(even2, odd2);
}

/* DFT-4 of complex input. */
MM_INLINE void dft4(complex_vf x0, complex_vf x1, complex_vf x2, complex_vf x3, complex_vf y[4]) {
    const complex_vf sum02 = c_add(x0, x2), difference02 = c_sub(x0, x2);
    const complex_vf sum13 = c_add(x1, x3), difference13 = c_sub(x1, x3);
    y[0] = c_add(sum02, sum13);
    y[1] = c_sub_i(difference02, difference13);
    y[2] = c_sub(sum02, sum13);
    y[3] = c_add_i(difference02, difference13);
}

/* a exp(-2 pi i m / 16) for the m that dft16 needs; m is a constant wherever this is used. */
MM_INLINE complex_vf turn16(complex_vf a, int m) {
    const float half = 0.707106781186547524f;                                      /* cos(pi / 4) */
    const float cosine = 0.923879532511286756f, sine = 0.382683432365089772f; /* of pi / 8 */
    switch (m) {
    case 1:
        return c_turn(a, cosine, sine);
    case 2:
        return (complex_vf){(a.re + a.im) * half, (a.im - a.re) * half};
    case 3:
        return c_turn(a, sine, cosine);
    case 4:
        return (complex_vf){a.im, -a.re};
    case 6:
        return (complex_vf){(a.im - a.re) * half, (a.re + a.im) * -half};
    case 9:
        return c_turn(a, -cosine, -sine);
    default: /* 0 */
        return a;
    }
}

/* DFT-16 as 4 x 4: with n = 4 a + b and k = c + 4 d,
 * exp(-2 pi i n k / 16) = exp(-2 pi i a c / 4) exp(-2 pi i b c / 16) exp(-2 pi i b d / 4).
 * Only the power of each output is wanted: power[place[k]] = |y_k|^2. */
MM_INLINE void dft16_power(const complex_vf x[16], float *power, const int *place, int outputs_mask) {
    complex_vf inner[4][4]; /* [c][b] */
    MM_UNROLL
    for (int b = 0; b < 4; b++) {
        complex_vf y[4];
        dft4(x[b], x[b + 4], x[b + 8], x[b + 12], y);
        MM_UNROLL
        for (int c = 0; c < 4; c++) inner[c][b] = turn16(y[c], b * c);
    }
    MM_UNROLL
    for (int c = 0; c < 4; c++) {
        complex_vf y[4];
        dft4(inner[c][0], inner[c][1], inner[c][2], inner[c][3], y);
        MM_UNROLL
        for (int d = 0; d < 4; d++) {
            const int k = c + 4 * d;
            if (outputs_mask >> k & 1) v_store(power + place[k], y[d].re * y[d].re + y[d].im * y[d].im);
        }
    }
}

/* ---- Step 1: samples to tile. */

/* Copy samples start .. start + LANES * 160 - 1 of the zero-padded, mirrored signal. */
static void copy_edge(const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t start, float *to) {
    const ptrdiff_t count = LANES * MM_HOP, stop = start + count;
    memset(to, 0, count * sizeof *to);
    const ptrdiff_t from = start > 0 ? start : 0, until = stop < n ? stop : n;
    if (until > from) memcpy(to + (from - start), x + from, (until - from) * sizeof *to);
    for (ptrdiff_t i = start; i < 0 && i < stop; i++) /* sample -i stands in for sample i */
        if (-i < n) to[i - start] = x[-i];
    const ptrdiff_t mirror_end = padded + MM_REFLECT < stop ? padded + MM_REFLECT : stop;
    for (ptrdiff_t i = padded > start ? padded : start; i < mirror_end; i++) {
        const ptrdiff_t mirrored = 2 * (padded - 1) - i;
        if (mirrored >= 0 && mirrored < n) to[i - start] = x[mirrored];
    }
}

/* Fill group g of the tile with columns first_column .. first_column + LANES - 1. */
MM_INLINE void load_columns(scratch *s, int g, const float *x, ptrdiff_t n, ptrdiff_t padded, ptrdiff_t first_column) {
    const ptrdiff_t start = first_column * MM_HOP - MM_REFLECT;
    const ptrdiff_t count = LANES * MM_HOP;
    const float *samples = s->edge;
    if (start < 0 || start + count > n)
        copy_edge(x, n, padded, start, s->edge);
    else
        samples = x + start;
    /* The transpose reads LANES places at once, more than processors foresee: ask for the next group in time. */
    if (start >= 0 && start + 2 * count <= n)
        for (ptrdiff_t i = count; i < 2 * count; i += 16) MM_PREFETCH(x + start + i);
    for (int row = 0; row < MM_HOP; row += LANES) {
        vf rows[LANES];
        v_transpose_load(samples + row, MM_HOP, rows);
        for (int i = 0; i < LANES; i++) v_store(&s->tile[row + i][g * LANES], rows[i]);
    }
}

/* The last columns of a batch are the first ones of the next. */
MM_INLINE void shift_columns(scratch *s) {
    for (int row = 0; row < MM_HOP; row++)
        for (int g = 1; g < GROUPS; g++) v_store(&s->tile[row][(g - 1) * LANES], v_load(&s->tile[row][g * LANES]));
}

/* ---- Step 2: for each n1 a DFT-25 over n2 = 5 a + b, as 5 x 5: with k2 = c + 5 d,
 * exp(-2 pi i n2 k2 / 25) = exp(-2 pi i a c / 5) exp(-2 pi i b c / 25) exp(-2 pi i b d / 5).
 * The input is real: of the outputs of the inner DFT-5s only c = 0 (real), 1 and 2 are needed. */
MM_INLINE void dft25_stage(const mm_logmel_plan *plan, scratch *s) {
    static const float cosine[3][5] = {{1, 1, 1, 1, 1},
                                       {1, 0.968583161128631119f, 0.876306680043863587f, 0.728968627421411523f,
                                        0.535826794978996618f},
                                       {1, 0.876306680043863587f, 0.535826794978996618f, 0.0627905195293134f,
                                        -0.425779291565072649f}};
    static const float sine[3][5] = {{0, 0, 0, 0, 0},
                                     {0, 0.248689887164854788f, 0.481753674101715275f, 0.684547105928688674f,
                                      0.844327925502015079f},
                                     {0, 0.481753674101715275f, 0.844327925502015079f, 0.998026728428271562f,
                                      0.904827052466019528f}};
    for (int n1 = 0; n1 < 16; n1++) {
        const int *place = tile_place[n1];
        const float *window = plan->window[n1];
        const float *tile = s->tile[0];
        vf inner0[5];
        complex_vf inner1[5], inner2[5]; /* [b], for c = 1 and 2 */
        MM_UNROLL
        for (int b = 0; b < 5; b++) {
            vf x[5];
            MM_UNROLL
            for (int a = 0; a < 5; a++) x[a] = v_loadu(tile + place[5 * a + b]) * window[5 * a + b];
            dft5_real(x, &inner0[b], &inner1[b], &inner2[b]);
            if (b > 0) {
                inner1[b] = c_turn(inner1[b], cosine[1][b], sine[1][b]);
                inner2[b] = c_turn(inner2[b], cosine[2][b], sine[2][b]);
            }
        }
#define STORE(k2, value)                                \
    do {                                                \
        const complex_vf stored = (value);              \
        v_store(s->halfway[k2][n1][0], stored.re);      \
        v_store(s->halfway[k2][n1][1], stored.im);      \
    } while (0)
        vf y0;
        complex_vf y[5];
        dft5_real(inner0, &y0, &y[1], &y[2]);
        v_store(s->halfway[0][n1][0], y0);
        STORE(5, y[1]);
        STORE(10, y[2]);
        dft5(inner1, y); /* k2 = 1, 6, 11, 16, 21; the last two as conjugates of 9 and 4 */
        STORE(1, y[0]);
        STORE(6, y[1]);
        STORE(11, y[2]);
        STORE(9, c_conj(y[3]));
        STORE(4, c_conj(y[4]));
        dft5(inner2, y); /* k2 = 2, 7, 12, 17, 22; the last two as conjugates of 8 and 3 */
        STORE(2, y[0]);
        STORE(7, y[1]);
        STORE(12, y[2]);
        STORE(8, c_conj(y[3]));
        STORE(3, c_conj(y[4]));
#undef STORE
    }
}

/* ---- Step 3: for each k2 a DFT-16 over n1, straight to powers. */
MM_INLINE void dft16_stage(scratch *s) {
    complex_vf x[16];
    /* k2 = 0: real input, and outputs k1 and 16 - k1 are the same bin. The compiler drops the zeros' arithmetic. */
    MM_UNROLL
    for (int n1 = 0; n1 < 16; n1++) x[n1] = (complex_vf){v_load(s->halfway[0][n1][0]), v_set1(0.0f)};
    dft16_power(x, s->power[0], power_place[0], 0x01ff);
    for (int k2 = 1; k2 < 13; k2++) {
        MM_UNROLL
        for (int n1 = 0; n1 < 16; n1++)
            x[n1] = (complex_vf){v_load(s->halfway[k2][n1][0]), v_load(s->halfway[k2][n1][1])};
        dft16_power(x, s->power[0], power_place[k2], 0xffff);
    }
}

/* ---- Step 4: bins to filters.
 * Segment s holds the bins that feed filters s (on its rising side) and s - 1 (on its falling side), see make_plan. */
MM_INLINE void mel_stage(const mm_logmel_plan *plan, scratch *s) {
    const float *power = s->power[0], *rising = plan->rising, *falling = plan->falling;
    vf below = v_set1(0.0f); /* rising side of the filter before */
    for (int segment = 0; segment <= plan->n_mels; segment++) {
        vf up = v_set1(0.0f), down = v_set1(0.0f);
        for (int bins = plan->segment_bins[segment]; bins > 0; bins--) {
            const vf p = v_load(power);
            up += p * *rising++;
            down += p * *falling++;
            power += LANES;
        }
        if (segment > 0) v_store(s->mel[segment - 1], below + down);
        below = up;
    }
}

/* ---- Step 5: energies to features. */

/* log10(v) / 4 + 1. Zero and subnormal numbers give some value far under MM_FLOOR_FEATURE. */
MM_INLINE vf feature_of(vf v) {
    const int32_t sqrt_half = 0x3f3504f3; /* bits of sqrt(1/2): subtracted, the mantissa falls in [sqrt(1/2), sqrt(2)) */
    const float scale = 0.0752574989159953f; /* log10(2) / 4 */
    static const float p[8] = {/* from fit_log.py */
        0.108573601f, -0.0542875342f, 0.0361942984f, -0.0270992629f,
        0.0215768851f, -0.0188195724f, 0.0178277828f, -0.0109683685f};
    const vi offset = v_bits(v) - sqrt_half;
    const vf f = v_from_bits((offset & 0x007fffff) + sqrt_half) - 1.0f;
    vf sum = v_set1(p[7]);
    MM_UNROLL
    for (int i = 6; i >= 0; i--) sum = sum * f + p[i];
    return sum * f + (v_from_int(offset >> 23) * scale + 1.0f);
}

/* Lanes beyond the last frame of a call are neither stored nor counted. */
MM_INLINE void log_stage(int n_mels, const scratch *s, int frames, float *out, ptrdiff_t stride, vf *maximum,
                         float *batch_minimum) {
    vf low = v_set1(INFINITY), high = *maximum;
    if (frames == LANES) {
        for (int m = 0; m < n_mels; m++) {
            const vf feature = v_max(feature_of(v_load(s->mel[m])), v_set1(MM_FLOOR_FEATURE));
            low = v_min(low, feature);
            high = v_max(high, feature);
            v_storeu(out + m * stride, feature);
        }
    } else {
        MM_ALIGNED(64) float lanes[LANES], unused[LANES];
        for (int l = 0; l < LANES; l++) unused[l] = l < frames ? -INFINITY : INFINITY;
        const vf hidden_low = v_load(unused);
        for (int l = 0; l < LANES; l++) unused[l] = -unused[l];
        const vf hidden_high = v_load(unused);
        for (int m = 0; m < n_mels; m++) {
            const vf feature = v_max(feature_of(v_load(s->mel[m])), v_set1(MM_FLOOR_FEATURE));
            low = v_min(low, v_max(feature, hidden_low));
            high = v_max(high, v_min(feature, hidden_high));
            v_store(lanes, feature);
            memcpy(out + m * stride, lanes, frames * sizeof(float));
        }
    }
    *maximum = high;
    *batch_minimum = v_lane(low, 0);
    for (int l = 1; l < LANES; l++) *batch_minimum = fminf(*batch_minimum, v_lane(low, l));
}

/* ---- All steps, for the frames of one call. */
static mm_logmel_result frames(const mm_logmel_plan *plan, const float *x, ptrdiff_t n, ptrdiff_t padded,
                               ptrdiff_t first, ptrdiff_t last, float *out, ptrdiff_t stride, float *batch_minimum,
                               void *working_memory) {
    scratch *s = working_memory;
    vf maximum = v_set1(MM_FLOOR_FEATURE), tainted = v_set1(0.0f);
    for (ptrdiff_t f = first; f < last; f += LANES) {
        int g = 0;
        if (f > first) {
            shift_columns(s);
            g = GROUPS - 1;
        }
        for (; g < GROUPS; g++) load_columns(s, g, x, n, padded, f + g * LANES);
        dft25_stage(plan, s);
        dft16_stage(s);
        mel_stage(plan, s);
        log_stage(plan->n_mels, s, last - f < LANES ? (int)(last - f) : LANES, out + f, stride, &maximum,
                  batch_minimum++);
        /* Bin 0 is the sum of the frame's windowed samples: NaN or infinite if one of them is. */
        tainted += v_load(s->power[0]) * 0.0f;
    }
    mm_logmel_result result = {v_lane(maximum, 0), 1};
    for (int l = 0; l < LANES; l++) {
        result.maximum = fmaxf(result.maximum, v_lane(maximum, l));
        if (v_lane(tainted, l) != 0.0f) result.finite = 0;
    }
    const float overflow = 10.6f; /* an infinite energy has exponent 128: feature 10.63 */
    if (result.maximum > overflow) result.finite = 0;
    return result;
}

/* ---- Step 6. */
static void clamp(int n_mels, ptrdiff_t first, ptrdiff_t last, float *out, ptrdiff_t stride,
                  const float *batch_minimum, float lowest) {
    const vf least = v_set1(lowest);
    for (ptrdiff_t f = first; f < last;) {
        if (*batch_minimum++ >= lowest) {
            f += LANES;
            continue;
        }
        ptrdiff_t end = f + LANES; /* a run of batches, so that each row is written in one piece */
        while (end < last && *batch_minimum < lowest) {
            batch_minimum++;
            end += LANES;
        }
        if (end > last) end = last;
        for (int m = 0; m < n_mels; m++) {
            float *row = out + m * stride;
            ptrdiff_t t = f;
            for (; t + LANES <= end; t += LANES) v_storeu(row + t, v_max(v_loadu(row + t), least));
            for (; t < end; t++) row[t] = fmaxf(row[t], lowest);
        }
        f = end;
    }
}

const mm_logmel_kernel MM_NAME(mm_logmel) = {LANES, sizeof(scratch), frames, clamp};

/* ---- What does not depend on the level is compiled once, with the scalar one. */
#if MM_LANES == 1

ptrdiff_t mm_logmel_live_frames(ptrdiff_t n, ptrdiff_t padded) {
    if (n <= 0) return 0;
    const ptrdiff_t touched = (n + MM_REFLECT + MM_HOP - 1) / MM_HOP; /* frame t starts at 160 t - 200 < n */
    return touched < padded / MM_HOP ? touched : padded / MM_HOP;
}

/* Give each bin a segment: the number of the filter on whose rising side it lies. A bin that feeds filters m - 1 and m
 * is in segment m. A bin that feeds only m may be in segment m or m + 1 (as the falling side of m), a bin that feeds
 * none anywhere; segments must not decrease from bin to bin, so the lowest allowed one is taken. */
enum mm_logmel_error mm_logmel_make_plan(mm_logmel_plan *plan, int n_mels, const float *filters) {
    if (n_mels < 1 || n_mels > MM_MELS_MAX) return MM_LOGMEL_BAD_COUNT;
    memset(plan, 0, sizeof *plan);
    plan->n_mels = n_mels;
    for (int n1 = 0; n1 < 16; n1++)
        for (int n2 = 0; n2 < 25; n2++) {
            const double turn = 6.283185307179586477 * SAMPLE(n1, n2) / MM_N_FFT;
            plan->window[n1][n2] = (float)(0.5 - 0.5 * cos(turn));
        }
    int segment = 0;
    for (int bin = 0; bin < MM_BINS; bin++) {
        const float *weights = filters + (ptrdiff_t)bin * n_mels;
        int lowest = n_mels, highest = -1;
        for (int m = 0; m < n_mels; m++) {
            if (!(weights[m] >= 0.0f && weights[m] <= 3.4e38f)) return MM_LOGMEL_BAD_WEIGHT;
            if (weights[m] == 0.0f) continue;
            if (lowest == n_mels) lowest = m;
            highest = m;
        }
        if (highest >= 0) {
            if (highest > lowest + 1 || segment > lowest + 1) return MM_LOGMEL_NOT_TRIANGLES;
            if (segment < highest) segment = highest;
        }
        plan->segment_bins[segment]++;
        plan->rising[bin] = segment < n_mels ? weights[segment] : 0.0f;
        plan->falling[bin] = segment > 0 ? weights[segment - 1] : 0.0f;
    }
    return MM_LOGMEL_OK;
}

#endif
