# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Cython face of ``csrc/stft_mel.c``: arrays in, arrays out, without the GIL.

Arguments are checked by the callers in Python; here only what would let C read or write out of
bounds is checked again.
"""

from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport free, malloc


cdef extern from "cpu.h" nogil:
    int mm_level_runs(int level)


cdef extern from "stft_mel.h" nogil:
    enum: MM_STFT_PASSES_MAX
    enum: MM_STFT_LOG_TERMS
    enum: MM_BOUNDARY_MIRROR

    ctypedef struct mm_stft_plan:
        float limit
        int frame_length, hop_length, offset, boundary
        int emphasis_kind, remove_mean
        double emphasis
        int n_fft, radix, columns, rows
        int passes
        int *radices
        const double *window
        const double *turns
        const double *pass_turns
        const int32_t *bins
        int n_mels, first_bin, magnitude
        float power_floor
        const int32_t *segment_bins
        const float *rising
        const float *falling
        int linear
        float floor, add, shift, exponent_high, exponent_low
        float *log_terms

    ctypedef struct mm_stft_kernel:
        int lanes
        size_t (*scratch_bytes)(const mm_stft_plan *plan) noexcept nogil
        float (*features)(
            const mm_stft_plan *plan, const float *x, Py_ssize_t n, Py_ssize_t padded,
            Py_ssize_t first, Py_ssize_t count, float *out, Py_ssize_t stride, void *scratch
        ) noexcept nogil
        void (*clamp)(float *v, Py_ssize_t n, float lowest) noexcept nogil
        float (*peak)(const float *x, Py_ssize_t n) noexcept nogil
        void (*normalize)(
            const mm_stft_plan *plan, float *energies, Py_ssize_t count, Py_ssize_t stride,
            double epsilon, double *working_memory) noexcept nogil

    const mm_stft_kernel *mm_stft_kernel_of(int level)


cdef const mm_stft_kernel *kernel_of(int level) except NULL:
    if not mm_level_runs(level):
        raise ValueError(f"instruction-set level {level} does not run here")
    return mm_stft_kernel_of(level)


def lanes(int level):
    """Return the number of frames in a batch at this level."""
    return kernel_of(level).lanes


cdef class Plan:
    """The arrays of a plan as the C structure; read-only, so threads may share it."""

    cdef mm_stft_plan plan
    cdef object arrays  # keeps the memory that the structure points to

    def __cinit__(self, dict arrays not None):
        cdef const double[:, ::1] window = arrays["window"]
        cdef const double[:, :, ::1] turns = arrays["turns"]
        cdef const double[::1] pass_turns = arrays["pass_turns"]
        cdef const int32_t[:, ::1] bins = arrays["bins"]
        cdef const int32_t[::1] segment_bins = arrays["segment_bins"]
        cdef const float[::1] rising = arrays["rising"]
        cdef const float[::1] falling = arrays["falling"]
        cdef int i
        self.arrays = arrays
        p = &self.plan
        p.limit = arrays["limit"]
        p.frame_length, p.hop_length = arrays["frame_length"], arrays["hop_length"]
        p.offset, p.boundary = arrays["offset"], arrays["boundary"]
        p.emphasis_kind, p.emphasis = arrays["emphasis_kind"], arrays["emphasis"]
        p.remove_mean = arrays["remove_mean"]
        p.n_fft, p.radix = arrays["n_fft"], arrays["radix"]
        p.columns, p.rows = arrays["columns"], arrays["rows"]
        p.passes = arrays["passes"]
        if p.passes > MM_STFT_PASSES_MAX or len(arrays["log_terms"]) != MM_STFT_LOG_TERMS:
            raise ValueError(f"a plan of {p.passes} passes is too long")
        for i in range(p.passes):
            p.radices[i] = arrays["radices"][i]
        for i in range(MM_STFT_LOG_TERMS):
            p.log_terms[i] = arrays["log_terms"][i]
        p.window, p.bins = &window[0, 0], &bins[0, 0]
        p.turns = &turns[0, 0, 0] if turns.size else NULL
        p.pass_turns = &pass_turns[0]
        p.n_mels, p.first_bin = arrays["n_mels"], arrays["first_bin"]
        p.magnitude, p.power_floor = arrays["magnitude"], arrays["power_floor"]
        p.segment_bins, p.rising, p.falling = &segment_bins[0], &rising[0], &falling[0]
        p.linear = arrays["linear"]
        p.floor, p.add, p.shift = arrays["floor"], arrays["add"], arrays["shift"]
        p.exponent_high, p.exponent_low = arrays["exponent_high"], arrays["exponent_low"]


def features(
    Plan plan not None, int level, const float[::1] x, Py_ssize_t padded, Py_ssize_t first,
    float[:, ::1] out,
):
    """Write the features of frames ``first`` to ``first + len(out) - 1``; return the largest one.

    It is NaN if a sample of theirs is not finite or above the plan's limit.
    """
    cdef const mm_stft_kernel *kernel = kernel_of(level)
    cdef Py_ssize_t n = x.shape[0], count = out.shape[0], stride = out.shape[1]
    cdef void *block
    cdef float largest
    if stride != plan.plan.n_mels or padded < n or first < 0:
        raise ValueError(f"frames from {first} of {padded} samples do not go to {count} x {stride}")
    # A mirror reaches back over the signal once, not several times.
    if plan.plan.boundary == MM_BOUNDARY_MIRROR and padded <= plan.plan.offset:
        raise ValueError(f"a buffer of {padded} samples is too short to mirror")
    if count == 0:
        return float("-inf")
    with nogil:
        block = malloc(64 + kernel.scratch_bytes(&plan.plan))
        if block != NULL:
            largest = kernel.features(
                &plan.plan, &x[0] if n else NULL, n, padded, first, count, &out[0, 0], stride,
                <void *>((<uintptr_t>block + 63) & ~<uintptr_t>63))
            free(block)
    if block == NULL:
        raise MemoryError()
    return largest


def clamp(int level, float[:, ::1] values, float lowest):
    """Raise values to at least ``lowest``, in place."""
    cdef const mm_stft_kernel *kernel = kernel_of(level)
    if values.size:
        with nogil:
            kernel.clamp(&values[0, 0], values.shape[0] * values.shape[1], lowest)


def peak(int level, const float[::1] x):
    """Return the largest absolute sample; NaN if one is NaN."""
    cdef const mm_stft_kernel *kernel = kernel_of(level)
    cdef float largest = 0.0
    if x.shape[0]:
        with nogil:
            largest = kernel.peak(&x[0], x.shape[0])
    return largest


def normalize(Plan plan not None, int level, float[:, ::1] energies, double epsilon):
    """Bring the logarithm of each column to mean 0 and deviation 1."""
    cdef const mm_stft_kernel *kernel = kernel_of(level)
    cdef Py_ssize_t count = energies.shape[0], stride = energies.shape[1]
    cdef void *memory
    if count < 2 or stride != plan.plan.n_mels:
        raise ValueError(f"cannot normalise energies of shape {count} x {stride}")
    with nogil:
        memory = malloc(64 + 3 * (stride + kernel.lanes) * sizeof(double))
        if memory != NULL:
            kernel.normalize(
                &plan.plan, &energies[0, 0], count, stride, epsilon,
                <double *>((<uintptr_t>memory + 63) & ~<uintptr_t>63))
            free(memory)
    if memory == NULL:
        raise MemoryError()
