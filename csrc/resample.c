/* Rational resampling by overlap-save FFT. See resample.h for the interface. 400 lines: one transform, with the butterflies
 * of all its radices.
 *
 * The method. With down/up the ratio of the rates in lowest terms, a block of N_in = B*down input samples and a block of
 * N_out = B*up output samples last equally long, so bin k of both transforms is the same frequency. Resampling a block is
 * therefore: forward FFT of N_in points, multiply by the filter's response, keep (or pad with zeros) the bins of the
 * output, inverse FFT of N_out points. Circular convolution spoils as many samples at both ends as the filter is long;
 * blocks overlap by that much and the spoilt samples are dropped (overlap-save). The cost hardly depends on the filter's
 * length: this is why 135 dB of attenuation over a narrow transition band is affordable, where a direct polyphase filter
 * needs some 560 multiply-adds for every output sample.
 *
 * Two real blocks for one complex transform. Blocks 2p and 2p+1 are the real and the imaginary part of one complex
 * signal. The filter's impulse response is real, so the two come out separated again and no unpacking of conjugate
 * symmetric halves is ever needed.
 *
 * Layout. Lane j of a register belongs to pair p + j. Row n of a buffer is sample (or bin) n of all the pairs at
 * hand: MM_LANES real parts, then MM_LANES imaginary parts. A transform then is scalar textbook code in which every variable
 * is a register: no shuffles, no special last vector, the twiddle factors are broadcast from memory.
 *
 * No reordering pass. Both transforms are decimation in frequency: natural order in, digit-reversed order out. The last
 * butterfly of the forward transform multiplies by the filter and writes each bin straight to its natural row of the output
 * spectrum; the rows of the second transform's result are picked in the right order when samples are transposed back
 * to memory. Stages recurse depth first, so sub-transforms stay in the near caches.
 *
 * The inverse transform is a forward transform with real and imaginary parts swapped on the way in and out.
 *
 * Error budget. A float32 FFT of log-many stages adds errors of about 2^-24 * sqrt(log2 N) RMS relative to the block's
 * RMS: some 1e-7 for two transforms, -138 dB. The filter's own stop band (-135 dB) is of the same size, so neither
 * dominates; the tests hold the sum to 1e-6 of full scale against a float64 evaluation.
 */
#include "resample.h"

#include "simd.h"

enum { ROW = 2 * MM_LANES };

#if defined(MM_SMALL)
#define UNROLL
#elif defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 16")
#elif defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif

/* ---- Butterflies: forward DFTs of 2 to 9 points in registers, X[k] = sum_n x[n] exp(-2 pi i n k / radix), in place.
 *
 * For odd lengths, the sums x[n] + x[-n] meet only cosines and the differences x[n] - x[-n] only sines, and the outputs
 * k and -k share both.
 */

MM_INLINE void dft2(vf *re, vf *im) {
    const vf r = re[0] - re[1], i = im[0] - im[1];
    re[0] += re[1], im[0] += im[1];
    re[1] = r, im[1] = i;
}

MM_INLINE void dft3(vf *re, vf *im) {
    const float c = -0.5f, s = 0.866025403784438646763723f; /* cos, sin of 2 pi / 3 */
    const vf sum_r = re[1] + re[2], sum_i = im[1] + im[2];
    const vf dif_r = s * (re[1] - re[2]), dif_i = s * (im[1] - im[2]);
    const vf mid_r = re[0] + c * sum_r, mid_i = im[0] + c * sum_i;
    re[0] += sum_r, im[0] += sum_i;
    re[1] = mid_r + dif_i, im[1] = mid_i - dif_r;
    re[2] = mid_r - dif_i, im[2] = mid_i + dif_r;
}

MM_INLINE void dft4(vf *re, vf *im) {
    const vf sum02_r = re[0] + re[2], sum02_i = im[0] + im[2], dif02_r = re[0] - re[2], dif02_i = im[0] - im[2];
    const vf sum13_r = re[1] + re[3], sum13_i = im[1] + im[3], dif13_r = re[1] - re[3], dif13_i = im[1] - im[3];
    re[0] = sum02_r + sum13_r, im[0] = sum02_i + sum13_i;
    re[2] = sum02_r - sum13_r, im[2] = sum02_i - sum13_i;
    re[1] = dif02_r + dif13_i, im[1] = dif02_i - dif13_r;
    re[3] = dif02_r - dif13_i, im[3] = dif02_i + dif13_r;
}

MM_INLINE void dft5(vf *re, vf *im) {
    const float c1 = 0.309016994374947424102293f, c2 = -0.809016994374947424102293f; /* cos 2 pi k / 5 */
    const float s1 = 0.951056516295153572116439f, s2 = 0.587785252292473129168706f;
    const vf sum1_r = re[1] + re[4], sum1_i = im[1] + im[4], dif1_r = re[1] - re[4], dif1_i = im[1] - im[4];
    const vf sum2_r = re[2] + re[3], sum2_i = im[2] + im[3], dif2_r = re[2] - re[3], dif2_i = im[2] - im[3];
    const vf even1_r = re[0] + c1 * sum1_r + c2 * sum2_r, even1_i = im[0] + c1 * sum1_i + c2 * sum2_i;
    const vf even2_r = re[0] + c2 * sum1_r + c1 * sum2_r, even2_i = im[0] + c2 * sum1_i + c1 * sum2_i;
    const vf odd1_r = s1 * dif1_r + s2 * dif2_r, odd1_i = s1 * dif1_i + s2 * dif2_i;
    const vf odd2_r = s2 * dif1_r - s1 * dif2_r, odd2_i = s2 * dif1_i - s1 * dif2_i;
    re[0] += sum1_r + sum2_r, im[0] += sum1_i + sum2_i;
    re[1] = even1_r + odd1_i, im[1] = even1_i - odd1_r;
    re[4] = even1_r - odd1_i, im[4] = even1_i + odd1_r;
    re[2] = even2_r + odd2_i, im[2] = even2_i - odd2_r;
    re[3] = even2_r - odd2_i, im[3] = even2_i + odd2_r;
}

MM_INLINE void dft7(vf *re, vf *im) {
    const float c1 = 0.623489801858733530525005f, c2 = -0.222520933956314404288903f; /* cos 2 pi k / 7 */
    const float c3 = -0.900968867902419126236102f;
    const float s1 = 0.781831482468029808708444f, s2 = 0.974927912181823607018131f, s3 = 0.433883739117558120475768f;
    const vf sum1_r = re[1] + re[6], sum1_i = im[1] + im[6], dif1_r = re[1] - re[6], dif1_i = im[1] - im[6];
    const vf sum2_r = re[2] + re[5], sum2_i = im[2] + im[5], dif2_r = re[2] - re[5], dif2_i = im[2] - im[5];
    const vf sum3_r = re[3] + re[4], sum3_i = im[3] + im[4], dif3_r = re[3] - re[4], dif3_i = im[3] - im[4];
    const vf even1_r = re[0] + c1 * sum1_r + c2 * sum2_r + c3 * sum3_r;
    const vf even1_i = im[0] + c1 * sum1_i + c2 * sum2_i + c3 * sum3_i;
    const vf even2_r = re[0] + c2 * sum1_r + c3 * sum2_r + c1 * sum3_r;
    const vf even2_i = im[0] + c2 * sum1_i + c3 * sum2_i + c1 * sum3_i;
    const vf even3_r = re[0] + c3 * sum1_r + c1 * sum2_r + c2 * sum3_r;
    const vf even3_i = im[0] + c3 * sum1_i + c1 * sum2_i + c2 * sum3_i;
    const vf odd1_r = s1 * dif1_r + s2 * dif2_r + s3 * dif3_r, odd1_i = s1 * dif1_i + s2 * dif2_i + s3 * dif3_i;
    const vf odd2_r = s2 * dif1_r - s3 * dif2_r - s1 * dif3_r, odd2_i = s2 * dif1_i - s3 * dif2_i - s1 * dif3_i;
    const vf odd3_r = s3 * dif1_r - s1 * dif2_r + s2 * dif3_r, odd3_i = s3 * dif1_i - s1 * dif2_i + s2 * dif3_i;
    re[0] += sum1_r + sum2_r + sum3_r, im[0] += sum1_i + sum2_i + sum3_i;
    re[1] = even1_r + odd1_i, im[1] = even1_i - odd1_r;
    re[6] = even1_r - odd1_i, im[6] = even1_i + odd1_r;
    re[2] = even2_r + odd2_i, im[2] = even2_i - odd2_r;
    re[5] = even2_r - odd2_i, im[5] = even2_i + odd2_r;
    re[3] = even3_r + odd3_i, im[3] = even3_i - odd3_r;
    re[4] = even3_r - odd3_i, im[4] = even3_i + odd3_r;
}

MM_INLINE void rotate(vf *re, vf *im, float c, float s) { /* multiply by c + i s */
    const vf r = *re * c - *im * s;
    *im = *re * s + *im * c;
    *re = r;
}

MM_INLINE void dft8(vf *re, vf *im) { /* 8 = 2 x 4: even and odd samples, then twiddles exp(-2 pi i k / 8) */
    const float h = 0.707106781186547524400844f;
    vf even_r[4] = {re[0], re[2], re[4], re[6]}, even_i[4] = {im[0], im[2], im[4], im[6]};
    vf odd_r[4] = {re[1], re[3], re[5], re[7]}, odd_i[4] = {im[1], im[3], im[5], im[7]};
    dft4(even_r, even_i);
    dft4(odd_r, odd_i);
    const vf one_r = h * (odd_r[1] + odd_i[1]), one_i = h * (odd_i[1] - odd_r[1]);
    const vf two_r = odd_i[2], two_i = -odd_r[2];
    const vf three_r = h * (odd_i[3] - odd_r[3]), three_i = -h * (odd_r[3] + odd_i[3]);
    const vf turned_r[4] = {odd_r[0], one_r, two_r, three_r}, turned_i[4] = {odd_i[0], one_i, two_i, three_i};
    UNROLL
    for (int k = 0; k < 4; k++) {
        re[k] = even_r[k] + turned_r[k], im[k] = even_i[k] + turned_i[k];
        re[k + 4] = even_r[k] - turned_r[k], im[k + 4] = even_i[k] - turned_i[k];
    }
}

MM_INLINE void dft9(vf *re, vf *im) { /* 9 = 3 x 3 with twiddles exp(-2 pi i k / 9), k = 1, 2, 2, 4 */
    vf r[3][3], i[3][3];
    UNROLL
    for (int b = 0; b < 3; b++) {
        UNROLL
        for (int a = 0; a < 3; a++) r[b][a] = re[3 * a + b], i[b][a] = im[3 * a + b];
        dft3(r[b], i[b]);
    }
    rotate(&r[1][1], &i[1][1], 0.766044443118978035202393f, -0.642787609686539326322643f);
    rotate(&r[1][2], &i[1][2], 0.173648177666930348851717f, -0.984807753012208059366743f);
    rotate(&r[2][1], &i[2][1], 0.173648177666930348851717f, -0.984807753012208059366743f);
    rotate(&r[2][2], &i[2][2], -0.939692620785908384054109f, -0.342020143325668733044099f);
    UNROLL
    for (int k = 0; k < 3; k++) {
        vf x[3] = {r[0][k], r[1][k], r[2][k]}, y[3] = {i[0][k], i[1][k], i[2][k]};
        dft3(x, y);
        UNROLL
        for (int q = 0; q < 3; q++) re[k + 3 * q] = x[q], im[k + 3 * q] = y[q];
    }
}

/* Any odd prime, by the definition, for rates that have one (11.024 kHz has 13 and 53). root[k] = (cos, sin) of
 * -2 pi k / radix. Slow but exact; the planner keeps such radices small. */
MM_INLINE void dft_odd(int radix, const float *root, vf *re, vf *im) {
    const int half = radix / 2;
    vf sum_r[MM_MAX_RADIX / 2 + 1], sum_i[MM_MAX_RADIX / 2 + 1], dif_r[MM_MAX_RADIX / 2 + 1],
        dif_i[MM_MAX_RADIX / 2 + 1];
    vf total_r = re[0], total_i = im[0];
    for (int n = 1; n <= half; n++) {
        sum_r[n] = re[n] + re[radix - n], sum_i[n] = im[n] + im[radix - n];
        dif_r[n] = re[n] - re[radix - n], dif_i[n] = im[n] - im[radix - n];
        total_r += sum_r[n], total_i += sum_i[n];
    }
    for (int k = 1; k <= half; k++) {
        vf even_r = re[0], even_i = im[0], odd_r = v_set1(0.0f), odd_i = v_set1(0.0f);
        for (int n = 1, turn = k; n <= half; n++, turn = (turn + k) % radix) {
            const float c = root[2 * turn], s = root[2 * turn + 1];
            even_r += c * sum_r[n], even_i += c * sum_i[n];
            odd_r += s * dif_r[n], odd_i += s * dif_i[n];
        }
        re[k] = even_r - odd_i, im[k] = even_i + odd_r;
        re[radix - k] = even_r + odd_i, im[radix - k] = even_i - odd_r;
    }
    re[0] = total_r, im[0] = total_i;
}

/* Called with a constant radix only (dft_odd apart), so the switch and the loops around it vanish. */
MM_INLINE void butterfly(int radix, const float *root, vf *re, vf *im) {
    switch (radix) {
    case 2: dft2(re, im); break;
    case 3: dft3(re, im); break;
    case 4: dft4(re, im); break;
    case 5: dft5(re, im); break;
    case 7: dft7(re, im); break;
    case 8: dft8(re, im); break;
    case 9: dft9(re, im); break;
    default: dft_odd(radix, root, re, im);
    }
}

MM_INLINE int has_codelet(int radix) { return radix <= 9 && radix != 6; }
MM_INLINE int registers(int radix) { return has_codelet(radix) ? radix : MM_MAX_RADIX; }

/* ---- One stage: for each of the m = n/radix butterflies over rows j, j+m, j+2m, ..., DFT, then twiddle output q by
 * exp(-2 pi i j q / n), so that rows [q*m, (q+1)*m) become the sub-transform that holds the bins q mod radix. */
MM_INLINE void stage(int radix, float *rows, int m, const float *twiddle) {
    const float *root = twiddle;
    if (!has_codelet(radix)) twiddle += 2 * radix;
    const size_t step = (size_t)m * ROW;
    for (int j = 0; j < m; j++, rows += ROW, twiddle += 2 * (radix - 1)) {
        vf re[registers(radix)], im[registers(radix)];
        UNROLL
        for (int q = 0; q < radix; q++) re[q] = v_load(rows + q * step), im[q] = v_load(rows + q * step + MM_LANES);
        butterfly(radix, root, re, im);
        v_store(rows, re[0]);
        v_store(rows + MM_LANES, im[0]);
        UNROLL
        for (int q = 1; q < radix; q++) {
            const float c = twiddle[2 * q - 2], s = twiddle[2 * q - 1];
            v_store(rows + q * step, re[q] * c - im[q] * s);
            v_store(rows + q * step + MM_LANES, re[q] * s + im[q] * c);
        }
    }
}

/* The last stage (m = 1, no twiddles) over `n` rows. */
MM_INLINE void last_stage(int radix, float *rows, int n, const float *root) {
    for (int e = 0; e < n; e += radix, rows += (size_t)radix * ROW) {
        vf re[registers(radix)], im[registers(radix)];
        UNROLL
        for (int q = 0; q < radix; q++) re[q] = v_load(rows + q * ROW), im[q] = v_load(rows + q * ROW + MM_LANES);
        butterfly(radix, root, re, im);
        UNROLL
        for (int q = 0; q < radix; q++) v_store(rows + q * ROW, re[q]), v_store(rows + q * ROW + MM_LANES, im[q]);
    }
}

/* The last stage of the forward transform: filter each bin and write it, real and imaginary part swapped, to its row of
 * the output spectrum. Bins above the lower of the two Nyquist frequencies have no row. */
MM_INLINE void last_stage_filtered(int radix, const float *rows, int n, const float *root, const int32_t *bin_row,
                                   const float *response, float *spectrum) {
    for (int e = 0; e < n; e += radix, rows += (size_t)radix * ROW) {
        vf re[registers(radix)], im[registers(radix)];
        UNROLL
        for (int q = 0; q < radix; q++) re[q] = v_load(rows + q * ROW), im[q] = v_load(rows + q * ROW + MM_LANES);
        butterfly(radix, root, re, im);
        UNROLL
        for (int q = 0; q < radix; q++) {
            if (bin_row[e + q] < 0) continue;
            const float c = response[2 * (e + q)], s = response[2 * (e + q) + 1];
            float *bin = spectrum + (size_t)bin_row[e + q] * ROW;
            v_store(bin, re[q] * s + im[q] * c);
            v_store(bin + MM_LANES, re[q] * c - im[q] * s);
        }
    }
}

/* A real function for each radix: calls one of the three templates above with the radix as a constant. */
#define EACH_RADIX(radix, call) \
    switch (radix) {            \
    case 2: call(2); break;     \
    case 3: call(3); break;     \
    case 4: call(4); break;     \
    case 5: call(5); break;     \
    case 7: call(7); break;     \
    case 8: call(8); break;     \
    case 9: call(9); break;     \
    default: call(radix);       \
    }

static void run_stage(int radix, float *rows, int m, const float *twiddle) {
#define CALL(r) stage(r, rows, m, twiddle)
    EACH_RADIX(radix, CALL)
#undef CALL
}

static void run_last(int radix, float *rows, int n, const float *root) {
#define CALL(r) last_stage(r, rows, n, root)
    EACH_RADIX(radix, CALL)
#undef CALL
}

static void run_last_filtered(int radix, const float *rows, int n, const float *root, const int32_t *bin_row,
                              const float *response, float *spectrum) {
#define CALL(r) last_stage_filtered(r, rows, n, root, bin_row, response, spectrum)
    EACH_RADIX(radix, CALL)
#undef CALL
}

/* Transform n rows from stage s on. The last stage runs over all its sub-transforms at once. */
static void transform_out(const mm_fft *fft, int s, float *rows, int n) {
    const int radix = fft->radix[s];
    if (s == fft->stages - 1) {
        run_last(radix, rows, n, fft->twiddles[s]);
        return;
    }
    const int m = n / radix;
    run_stage(radix, rows, m, fft->twiddles[s]);
    if (s == fft->stages - 2)
        run_last(fft->radix[s + 1], rows, n, fft->twiddles[s + 1]);
    else
        for (int q = 0; q < radix; q++) transform_out(fft, s + 1, rows + (size_t)q * m * ROW, m);
}

static void transform_in(const mm_resample_plan *plan, int s, float *rows, int n, int first_row, float *spectrum) {
    const mm_fft *fft = &plan->in;
    const int radix = fft->radix[s];
    const int last = fft->stages - 1;
    const int m = n / radix;
    if (s < last) run_stage(radix, rows, m, fft->twiddles[s]);
    if (s >= last - 1)
        run_last_filtered(fft->radix[last], rows, n, fft->twiddles[last], plan->bin_row + first_row,
                          plan->response + 2 * (size_t)first_row, spectrum);
    else
        for (int q = 0; q < radix; q++)
            transform_in(plan, s + 1, rows + (size_t)q * m * ROW, m, first_row + q * m, spectrum);
}

/* ---- Between memory and lanes. */

/* A group of 2*MM_LANES blocks reads this many samples; the transposes read whole squares. */
static int64_t group_span(const mm_resample_plan *plan) {
    return (int64_t)(ROW - 1) * plan->hop_in + plan->in.n + MM_LANES;
}

static int64_t scratch_floats(const mm_resample_plan *plan) {
    const int64_t rows = (int64_t)plan->in.n + MM_LANES + plan->out.n;
    const int64_t samples_in = group_span(plan), samples_out = (int64_t)ROW * plan->hop_out;
    return rows * ROW + (samples_in > samples_out ? samples_in : samples_out);
}

/* Rows 0 .. n-1 from the blocks at x, x + hop, x + 2*hop, ...: even blocks to the real, odd to the imaginary parts. */
static void load_blocks(const float *x, int hop, int n, float *rows) {
    for (int i = 0; i < n; i += MM_LANES) {
        vf re[MM_LANES], im[MM_LANES];
        v_transpose_load(x + i, 2 * (ptrdiff_t)hop, re);
        v_transpose_load(x + hop + i, 2 * (ptrdiff_t)hop, im);
        for (int k = 0; k < MM_LANES; k++, rows += ROW) {
            v_store(rows, re[k]);
            v_store(rows + MM_LANES, im[k]);
        }
    }
}

/* The way back. The transform ran on swapped parts, so the even blocks are in the imaginary ones. The last square may
 * overlap the one before it: it writes the same values again. */
static void store_blocks(const float *rows, const int32_t *out_row, int hop, float *y) {
    for (int i = 0; i < hop; i += MM_LANES) {
        const int n = i + MM_LANES <= hop ? i : hop - MM_LANES;
        vf even[MM_LANES], odd[MM_LANES];
        for (int k = 0; k < MM_LANES; k++) {
            const float *row = rows + (size_t)out_row[n + k] * ROW;
            odd[k] = v_load(row);
            even[k] = v_load(row + MM_LANES);
        }
        v_transpose_store(y + n, 2 * (ptrdiff_t)hop, even);
        v_transpose_store(y + hop + n, 2 * (ptrdiff_t)hop, odd);
    }
}

/* Copy samples [first, first + count) of a signal of which [x_first, x_first + x_count) is at x; zeros elsewhere. */
static void copy_padded(const float *x, int64_t x_first, int64_t x_count, int64_t first, int64_t count, float *to) {
    const int64_t from = first > x_first ? first : x_first;
    const int64_t x_end = x_first + x_count, end = first + count < x_end ? first + count : x_end;
    memset(to, 0, (size_t)count * sizeof *to);
    if (end > from) memcpy(to + (from - first), x + (from - x_first), (size_t)(end - from) * sizeof *to);
}

static void blocks(const mm_resample_plan *plan, const float *x, int64_t x_first, int64_t x_count, float *y,
                   int64_t n_out, int64_t first_pair, int64_t last_pair, float *scratch) {
    float *rows = scratch;
    float *spectrum = rows + (size_t)(plan->in.n + MM_LANES) * ROW;
    float *edge = spectrum + (size_t)plan->out.n * ROW;
    const int64_t span = group_span(plan);
    const int64_t y_first = 2 * first_pair * plan->hop_out;

    for (int64_t pair = first_pair; pair < last_pair; pair += MM_LANES) {
        const int64_t pairs = last_pair - pair < MM_LANES ? last_pair - pair : MM_LANES;
        const int64_t start = 2 * pair * plan->hop_in - plan->context;
        if (pairs == MM_LANES && start >= x_first && start + span <= x_first + x_count) {
            load_blocks(x + (start - x_first), plan->hop_in, plan->in.n, rows);
        } else {
            /* Idle lanes read whatever follows; they are never stored, and lanes do not meet. */
            copy_padded(x, x_first, x_count, start, span, edge);
            load_blocks(edge, plan->hop_in, plan->in.n, rows);
        }

        for (int z = 0; z < plan->n_zero; z++)
            memset(spectrum + (size_t)plan->zero_row[z] * ROW, 0, ROW * sizeof(float));
        transform_in(plan, 0, rows, plan->in.n, 0, spectrum);
        transform_out(&plan->out, 0, spectrum, plan->out.n);

        const int64_t done = 2 * pair * plan->hop_out;
        const int64_t left = n_out - done, made = 2 * pairs * (int64_t)plan->hop_out;
        if (pairs == MM_LANES && left >= made) {
            store_blocks(spectrum, plan->out_row, plan->hop_out, y + (done - y_first));
        } else {
            store_blocks(spectrum, plan->out_row, plan->hop_out, edge);
            memcpy(y + (done - y_first), edge, (size_t)(left < made ? left : made) * sizeof *y);
        }
    }
}

const mm_resample_kernel MM_NAME(mm_resample) = {scratch_floats, blocks};
