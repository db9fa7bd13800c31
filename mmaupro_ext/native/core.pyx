# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The compiled core: arrays in, arrays out, without the GIL.

One file of more than 400 lines, as it is one module: the declarations of all C headers come first.

Arguments are checked by the callers in Python; here only what would let C read or write out of bounds
is checked again. The functions have the signatures of the twin's and the fallback's.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int16_t, int32_t, int64_t, uintptr_t
from libc.stdlib cimport free, malloc


cdef extern from "mix.h" nogil:
    ctypedef struct mm_mix_kernel:
        void (*mean_i16)(const int16_t *x, Py_ssize_t frames, int channels, float *y) noexcept nogil
        void (*mean_i32)(const int32_t *x, Py_ssize_t frames, int channels, float *y) noexcept nogil
        void (*mean_f32)(const float *x, Py_ssize_t frames, int channels, float *y) noexcept nogil
        void (*split_i16)(
            const int16_t *x, Py_ssize_t frames, int channels, float *y,
            Py_ssize_t stride) noexcept nogil
        void (*split_i32)(
            const int32_t *x, Py_ssize_t frames, int channels, float *y,
            Py_ssize_t stride) noexcept nogil
        void (*split_f32)(
            const float *x, Py_ssize_t frames, int channels, float *y,
            Py_ssize_t stride) noexcept nogil
        float (*peak)(const float *x, Py_ssize_t samples) noexcept nogil


cdef extern from "resample.h" nogil:
    enum: MM_MAX_STAGES
    enum: MM_MAX_RADIX

    ctypedef struct mm_fft:
        int n
        int stages
        int radix[16]
        const float *twiddles[16]

    ctypedef struct mm_resample_plan:
        mm_fft input "in"
        mm_fft output "out"
        int hop_in
        int hop_out
        int context
        const int32_t *bin_row
        const float *response
        const int32_t *zero_row
        int n_zero
        const int32_t *out_row

    ctypedef struct mm_resample_kernel:
        int64_t (*scratch_floats)(const mm_resample_plan *plan) noexcept nogil
        void (*blocks)(
            const mm_resample_plan *plan, const float *x, int64_t x_first, int64_t x_count,
            float *y, int64_t n_out, int64_t first_pair, int64_t last_pair,
            float *scratch) noexcept nogil


cdef extern from "stft_mel.h" nogil:
    enum: MM_STFT_PASSES_MAX
    enum: MM_LOG_TERMS
    enum: MM_EMPHASIS_NONE
    enum: MM_EMPHASIS_SIGNAL
    enum: MM_EMPHASIS_FRAME
    enum: MM_BOUNDARY_ZEROS
    enum: MM_BOUNDARY_MIRROR

    ctypedef struct mm_stft_plan:
        float limit
        int frame_length, hop_length, offset, boundary
        int emphasis_kind
        double emphasis
        int n_fft, radix, columns, rows, step
        int passes
        int *radices
        const void *window
        const void *turns
        const void *pass_turns
        const int32_t *bins
        int n_mels, first_bin, magnitude
        float power_floor
        const int32_t *segment_bins
        const float *rising
        const float *falling
        int linear
        float span
        int bands_first
        float lowest
        float floor, add, shift, exponent_high, exponent_low
        float *log_terms

    ctypedef struct mm_stft_kernel:
        size_t (*scratch_bytes)(const mm_stft_plan *plan, Py_ssize_t count) noexcept nogil
        float (*features)(
            const mm_stft_plan *plan, const float *x, Py_ssize_t n, Py_ssize_t padded,
            Py_ssize_t first, Py_ssize_t count, float *out, Py_ssize_t stride, void *scratch
        ) noexcept nogil


cdef extern from "normalize.h" nogil:
    ctypedef void mm_normalize_function(
        const float *terms, int n_mels, float *energies, Py_ssize_t count, Py_ssize_t stride,
        double epsilon, double *working_memory) noexcept nogil


cdef extern from "cpu.h" nogil:
    enum: MM_LEVELS

    ctypedef struct mm_kernels:
        int lanes
        const mm_mix_kernel *mix
        const mm_resample_kernel *resample
        const mm_stft_kernel *stft_float
        const mm_stft_kernel *stft_double
        mm_normalize_function *normalize

    const mm_kernels *mm_kernels_of(int level)
    const char *mm_level_name(int level)


# Constants of the C sources.
LEVELS = tuple(mm_level_name(level).decode() for level in range(MM_LEVELS))  # worst first
MAX_RADIX = MM_MAX_RADIX  # of the resampler's transforms
cdef dict EMPHASIS = {None: MM_EMPHASIS_NONE, "signal": MM_EMPHASIS_SIGNAL, "frame": MM_EMPHASIS_FRAME}
cdef dict BOUNDARY = {"zeros": MM_BOUNDARY_ZEROS, "mirror": MM_BOUNDARY_MIRROR}

cdef enum:
    LINE = 64  # bytes: working memory starts at a multiple


def level_runs(int level):
    """Return whether this build holds the level and this processor runs it."""
    return mm_kernels_of(level) != NULL


cdef const mm_kernels *kernels_of(int level) except NULL:
    cdef const mm_kernels *kernels = mm_kernels_of(level)
    if kernels == NULL:
        raise ValueError(f"instruction-set level {level} does not run here")
    return kernels


def lanes(int level):
    """Return the number of floats in a register: frames in a batch, pairs of blocks in a group."""
    return kernels_of(level).lanes


cdef inline void *aligned(void *block) noexcept nogil:
    return <void *>((<uintptr_t>block + LINE - 1) & ~<uintptr_t>(LINE - 1))


# ---- csrc/stft_mel.c, csrc/normalize.c


cdef class StftPlan:
    """A `stft_plan.Plan` as the C structure; read-only, so threads may share it."""

    cdef mm_stft_plan plan
    cdef bint double
    cdef object tables  # keeps the memory that the structure points to

    def __cinit__(self, source):
        cdef dict tables = source.tables
        cdef const int32_t[:, ::1] bins = tables["bins"]
        cdef const int32_t[::1] segment_bins = tables["segment_bins"]
        cdef const float[::1] rising = tables["rising"]
        cdef const float[::1] falling = tables["falling"]
        cdef int i
        self.tables = tables
        self.double = source.precision == "double"
        p = &self.plan
        p.limit = source.limit
        p.frame_length, p.hop_length = tables["frame_length"], source.hop_length
        p.offset, p.boundary = tables["offset"], BOUNDARY[source.boundary]
        p.emphasis_kind, p.emphasis = EMPHASIS[source.emphasis_kind], source.emphasis
        p.n_fft, p.radix, p.step = source.n_fft, tables["radix"], tables["step"]
        p.columns, p.rows = tables["columns"], tables["rows"]
        p.passes = len(tables["radices"])
        if p.passes > MM_STFT_PASSES_MAX or len(tables["log_terms"]) != MM_LOG_TERMS:
            raise ValueError(f"a plan of {p.passes} passes is too long")
        for i in range(p.passes):
            p.radices[i] = tables["radices"][i]
        for i in range(MM_LOG_TERMS):
            p.log_terms[i] = tables["log_terms"][i]
        p.window, p.bins = address_of(tables["window"], self.double), &bins[0, 0]
        p.turns = address_of(tables["turns"], self.double)
        p.pass_turns = address_of(tables["pass_turns"], self.double)
        p.n_mels, p.first_bin = source.n_mels, tables["first_bin"]
        p.magnitude, p.power_floor = source.magnitude, tables["power_floor"]
        p.segment_bins, p.rising, p.falling = &segment_bins[0], &rising[0], &falling[0]
        p.linear, p.bands_first = source.linear, source.bands_first
        p.span = INFINITY if source.span is None else source.span
        p.lowest = tables["lowest"]
        p.floor, p.add, p.shift = source.floor, source.add, source.shift
        p.exponent_high, p.exponent_low = tables["exponent_high"], tables["exponent_low"]


cdef const void *address_of(table, bint double) except? NULL:
    cdef const double[::1] doubles
    cdef const float[::1] floats
    if not table.size:
        return NULL
    if double:
        doubles = table.reshape(-1)
        return &doubles[0]
    floats = table.reshape(-1)
    return &floats[0]


stft_plan = StftPlan


def features(
    StftPlan plan not None, int level, const float[::1] x, Py_ssize_t padded, Py_ssize_t first,
    float[:, :] out,
):
    """Write the features of consecutive frames from ``first`` on to ``out``; return the largest one.

    ``out`` has shape (frames, n_mels), or with bands first (n_mels, frames); its last axis is contiguous. The
    largest is NaN if a sample of these frames is not finite or above the plan's limit.
    """
    cdef const mm_kernels *kernels = kernels_of(level)
    cdef const mm_stft_kernel *kernel = kernels.stft_double if plan.double else kernels.stft_float
    cdef int bands = 0 if plan.plan.bands_first else 1  # the axis
    cdef Py_ssize_t n = x.shape[0], count = out.shape[1 - bands]
    cdef Py_ssize_t stride = out.strides[0] // <Py_ssize_t>sizeof(float)
    cdef void *block
    cdef float largest
    if (
        out.shape[bands] != plan.plan.n_mels or padded < n or first < 0
        or out.strides[1] != sizeof(float) or out.strides[0] % <Py_ssize_t>sizeof(float)
    ):
        raise ValueError(
            f"frames from {first} of {padded} samples do not go to {out.shape[0]} x {out.shape[1]}")
    # A mirror reaches back over the signal once, not several times.
    if plan.plan.boundary == MM_BOUNDARY_MIRROR and padded <= plan.plan.offset:
        raise ValueError(f"a buffer of {padded} samples is too short to mirror")
    if count == 0:
        return float("-inf")
    with nogil:
        block = malloc(LINE + kernel.scratch_bytes(&plan.plan, count))
        if block != NULL:
            largest = kernel.features(
                &plan.plan, &x[0] if n else NULL, n, padded, first, count, &out[0, 0], stride,
                aligned(block))
            free(block)
    if block == NULL:
        raise MemoryError()
    return largest


def normalize(StftPlan plan not None, int level, float[:, ::1] energies, double epsilon):
    """Bring the logarithm of each column to mean 0 and deviation 1."""
    cdef const mm_kernels *kernels = kernels_of(level)
    cdef Py_ssize_t count = energies.shape[0], stride = energies.shape[1]
    cdef void *block
    if count < 2 or stride != plan.plan.n_mels:
        raise ValueError(f"cannot normalise energies of shape {count} x {stride}")
    with nogil:
        block = malloc(LINE + 3 * (stride + kernels.lanes) * sizeof(double))
        if block != NULL:
            kernels.normalize(
                plan.plan.log_terms, plan.plan.n_mels, &energies[0, 0], count, stride, epsilon,
                <double *>aligned(block))
            free(block)
    if block == NULL:
        raise MemoryError()


# ---- csrc/resample.c


cdef int describe(mm_fft *fft, transform, list keep) except -1:
    """Fill in one transform and keep its arrays alive."""
    cdef const float[:, ::1] twiddles
    cdef int radix, roots, m = transform.points
    if not 1 <= len(transform.radices) <= MM_MAX_STAGES:
        raise ValueError("a transform has too many stages, or none")
    fft.n = transform.points
    fft.stages = len(transform.radices)
    for stage, table in enumerate(transform.twiddles):
        radix = transform.radices[stage]
        if radix < 2 or radix > MM_MAX_RADIX or m % radix:
            raise ValueError(f"{radix} is no radix of a transform of {transform.points} points")
        m //= radix
        twiddles = table
        roots = radix if radix > 9 or radix == 6 else 0
        if twiddles.shape[0] < roots + m * (radix - 1) or twiddles.shape[1] != 2:
            raise ValueError("a table of twiddles is too short")
        fft.radix[stage] = radix
        fft.twiddles[stage] = &twiddles[0, 0]
        keep.append(twiddles)
    if m != 1:
        raise ValueError("the radices do not multiply to the number of points")
    return 0


cdef class ResamplePlan:
    """A `resample_plan.ResamplePlan` as the C structure; read-only, so threads may share it."""

    cdef mm_resample_plan plan
    cdef list keep

    def __cinit__(self, source):
        cdef const int32_t[::1] bin_row = source.bin_row
        cdef const float[:, ::1] response = source.response
        cdef const int32_t[::1] zero_row = source.zero_row
        cdef const int32_t[::1] out_row = source.out_row
        self.keep = [bin_row, response, zero_row, out_row]
        describe(&self.plan.input, source.forward, self.keep)
        describe(&self.plan.output, source.inverse, self.keep)
        cdef int points_in = self.plan.input.n, points_out = self.plan.output.n
        cdef Py_ssize_t i
        if bin_row.shape[0] != points_in or response.shape[0] != points_in or response.shape[1] != 2:
            raise ValueError("the filter does not have one row for each bin")
        for i in range(points_in):
            if bin_row[i] >= points_out:
                raise ValueError("a bin has a row outside the output spectrum")
        for i in range(zero_row.shape[0]):
            if not 0 <= zero_row[i] < points_out:
                raise ValueError("a row to clear is outside the output spectrum")
        for i in range(out_row.shape[0]):
            if not 0 <= out_row[i] < points_out:
                raise ValueError("an output sample is outside the output transform")
        self.plan.hop_in = source.hop_in
        self.plan.hop_out = source.hop_out
        self.plan.context = source.context
        if out_row.shape[0] != self.plan.hop_out or self.plan.hop_out < 16 or self.plan.hop_in < 1:
            raise ValueError("a block yields the wrong number of samples")
        self.plan.bin_row = &bin_row[0]
        self.plan.response = &response[0, 0]
        self.plan.zero_row = &zero_row[0] if zero_row.shape[0] else NULL
        self.plan.n_zero = <int>zero_row.shape[0]
        self.plan.out_row = &out_row[0]


resample_plan = ResamplePlan


def scratch_floats(ResamplePlan plan not None, int level):
    """Return how many floats of working memory ``blocks`` needs."""
    return kernels_of(level).resample.scratch_floats(&plan.plan) + <int>(LINE // sizeof(float))


def blocks(
    ResamplePlan plan not None, int level, const float[::1] x, int64_t x_first, float[::1] y,
    int64_t n_out, int64_t first_pair, int64_t last_pair, float[::1] scratch not None,
):
    """Write the output samples of pairs ``first_pair`` to ``last_pair - 1`` to ``y``.

    ``x[0]`` is sample ``x_first`` of the signal, whose output has ``n_out`` samples in all; samples
    outside ``x`` count as zeros. ``scratch`` is overwritten.
    """
    cdef const mm_resample_kernel *kernel = kernels_of(level).resample
    cdef int64_t step = 2 * <int64_t>plan.plan.hop_out
    cdef int64_t end = min(last_pair * step, n_out)
    if first_pair < 0 or last_pair <= first_pair or (last_pair - 1) * step >= n_out:
        raise ValueError(f"pairs {first_pair} to {last_pair} are out of bounds")
    if y.shape[0] < end - first_pair * step:
        raise ValueError("y is too short")
    if scratch.shape[0] < scratch_floats(plan, level):
        raise ValueError("scratch is too short")
    cdef Py_ssize_t count = x.shape[0]
    with nogil:
        kernel.blocks(
            &plan.plan, &x[0] if count else NULL, x_first, count, &y[0], n_out, first_pair,
            last_pair, <float *>aligned(&scratch[0]))


# ---- csrc/mix.c


ctypedef fused sample:
    int16_t
    int32_t
    float


def mean(int level, const sample[:, ::1] x, float[::1] y):
    """Write the mean over the channels of the interleaved frames ``x`` to ``y``."""
    cdef const mm_mix_kernel *kernel = kernels_of(level).mix
    if y.shape[0] != x.shape[0] or x.shape[1] < 1:
        raise ValueError("y must have one sample for each frame of x")
    if x.shape[0] == 0:
        return
    with nogil:
        if sample is int16_t:
            kernel.mean_i16(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0])
        elif sample is int32_t:
            kernel.mean_i32(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0])
        else:
            kernel.mean_f32(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0])


def split(int level, const sample[:, ::1] x, float[:, ::1] y):
    """Write channel c of the interleaved frames ``x`` to ``y[c]``."""
    cdef const mm_mix_kernel *kernel = kernels_of(level).mix
    if y.shape[1] != x.shape[0] or y.shape[0] != x.shape[1]:
        raise ValueError("y must have one row for each channel of x")
    if x.shape[0] == 0 or x.shape[1] == 0:
        return
    with nogil:
        if sample is int16_t:
            kernel.split_i16(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0, 0], y.shape[1])
        elif sample is int32_t:
            kernel.split_i32(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0, 0], y.shape[1])
        else:
            kernel.split_f32(&x[0, 0], x.shape[0], <int>x.shape[1], &y[0, 0], y.shape[1])


def peak(int level, const float[::1] x):
    """Return the largest absolute sample; NaN if one is NaN."""
    cdef const mm_mix_kernel *kernel = kernels_of(level).mix
    cdef float largest = 0.0
    if x.shape[0]:
        with nogil:
            largest = kernel.peak(&x[0], x.shape[0])
    return largest
