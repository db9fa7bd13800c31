"""The log-mel kernel beyond the families: any transform, cuts, layouts, threads, refused plans."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from levels import C_LEVELS

import fit_log
from mmaupro_ext import native
from mmaupro_ext.native import Plan, choose
from mmaupro_ext.native.stft_plan import LOG_TERMS

NOISE = (0.1 * np.random.default_rng(1).standard_normal(9001)).astype(np.float32)


def triangles(n_fft: int, n_mels: int) -> np.ndarray:
    bins = n_fft // 2 + 1
    if bins < 3:
        return np.ones((bins, 1))
    corners = np.linspace(0, bins - 1, min(n_mels, bins) + 2)
    at = np.arange(bins)[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    return np.maximum(np.minimum((at - low) / (centre - low), (high - at) / (high - centre)), 0.0)


def plan_of(frame_length: int, hop_length: int, n_fft: int, **more: Any) -> Plan:
    window = 0.55 - 0.45 * np.cos(2 * np.pi * np.arange(frame_length) / max(frame_length, 2))
    arguments = {"filters": triangles(n_fft, 20), "floor": 1e-10, **more}
    return Plan(window=window, hop_length=hop_length, n_fft=n_fft, **arguments)


# Both precisions are compiled from one source; Whisper's shape is the only one that is used in float.
WHISPER: dict[str, Any] = {
    "n_fft": 400, "frame_length": 400, "hop_length": 160, "bands_first": True, "precision": "float",
    "boundary": "mirror", "offset": 200, "scale": 0.25 / np.log(10), "shift": 1.0,
}  # fmt: skip


def features(plan: Plan, x: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Return features of shape (frames, n_mels) in either layout; the largest one is checked."""
    out = np.empty((plan.n_mels, count) if plan.bands_first else (count, plan.n_mels), np.float32)
    assert native.stft_mel(plan, x, out, first=first) == out.max()
    return out.T if plan.bands_first else out


def by_definition(plan: Plan, x: np.ndarray, frames: int) -> np.ndarray:
    signal = x.astype(np.float64)
    c = plan.emphasis
    if plan.emphasis_kind == "signal":
        signal = np.concatenate([signal[:1], signal[1:] - c * signal[:-1]])
    mode = {"mirror": "reflect", "zeros": "constant"}[plan.boundary]
    signal = np.pad(signal, plan.offset, mode=mode)
    signal = np.pad(signal, (0, plan.frame_length + plan.hop_length * frames))
    cut = np.stack([signal[plan.hop_length * t :][: plan.frame_length] for t in range(frames)])
    if plan.emphasis_kind == "frame":
        cut = cut - c * np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)
    spectrum = np.abs(np.fft.rfft(cut * plan.window, plan.n_fft))
    energies = (spectrum if plan.magnitude else spectrum**2) @ plan.filters
    return plan.scale * np.log(np.maximum(energies, plan.floor) + plan.add) + plan.shift


SHAPES = [  # frame_length, hop_length, n_fft: each first radix, each radix of a pass
    (1, 1, 1), (2, 1, 2), (3, 2, 3), (5, 4, 5), (7, 3, 7), (9, 5, 9), (24, 10, 24), (90, 40, 98),
    (105, 37, 105), (400, 160, 400), (300, 100, 480), (512, 128, 512), (600, 160, 840),
    (512, 160, 1024), (1600, 800, 1600), (2048, 333, 2048),
]  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"emphasis": 0.97, "emphasis_kind": "frame"},
    {"emphasis": 0.97, "emphasis_kind": "signal"},
    {"magnitude": True, "add": 1e-3, "floor": 0.0, "scale": 2.5, "shift": -1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_any_transform_is_that_of_the_definition(core, options):
    for shape in SHAPES:
        plan = plan_of(*shape, **options)
        frames = min(40, plan.frames(NOISE.size))
        found = features(plan, NOISE, frames)
        # Features are up to 23 (ln 1e-10): one rounding of those is 2e-6.
        expected = by_definition(plan, NOISE, frames)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=str(shape))


@pytest.mark.parametrize("bands_first", [False, True])
@pytest.mark.parametrize("precision", ["float", "double"])
def test_either_precision_in_either_layout(core, precision, bands_first):
    for shape in SHAPES:
        plan = plan_of(*shape, precision=precision, bands_first=bands_first)
        frames = min(40, plan.frames(NOISE.size))
        expected = by_definition(plan, NOISE, frames)
        # In float, a bin has an error of some 1e-7 of the loudest one, and noise has bins 40 dB under that.
        atol = 1e-3 if shape[0] <= 7 else 1e-5 if precision == "double" else 2e-4
        found = features(plan, NOISE, frames)
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol, err_msg=str(shape))


@pytest.mark.parametrize("boundary", ["zeros", "mirror"])
def test_frames_over_either_end(core, boundary):
    for offset in (1, 80, 256):
        plan = plan_of(512, 160, 512, boundary=boundary, offset=offset)
        for size in (600, 4000, 9001):
            frames = size // 160 + 3
            if boundary == "mirror":
                frames = 1 + (size + 2 * offset - 512) // 160
            expected = by_definition(plan, NOISE[:size], frames)
            # Features are up to 23 (ln 1e-10): one rounding of those is 2e-6.
            np.testing.assert_allclose(
                features(plan, NOISE[:size], frames),
                expected,
                rtol=0,
                atol=1e-5,
                err_msg=f"{offset}, {size}",
            )


@pytest.mark.parametrize("options", [*OPTIONS, WHISPER], ids=str)
def test_frames_do_not_depend_on_where_the_call_begins(core, options):
    plan = plan_of(**{"frame_length": 400, "hop_length": 160, "n_fft": 512, **options})
    count = plan.frames(NOISE.size)
    whole = features(plan, NOISE, count)
    # Batches have up to 32 frames.
    for first, part in ((0, 1), (1, 17), (5, 32), (50, 4), (3, 31), (7, 33)):
        part = min(part, count - first)
        np.testing.assert_array_equal(
            features(plan, NOISE, part, first), whole[first : first + part]
        )


@pytest.mark.parametrize("options", [*OPTIONS, WHISPER], ids=str)
def test_nothing_outside_the_samples_is_read(core, options):
    # Frames begin two hops before the first sample, so that a batch of columns can begin with it.
    shape = {"frame_length": 400, "hop_length": 160, "n_fft": 512, "offset": 320}
    plan = plan_of(**{**shape, **options})
    around = np.full(NOISE.size + 200, np.float32(1000))
    around[100:-100] = NOISE
    count = plan.frames(NOISE.size)
    for first in range(18):
        wanted = features(plan, NOISE.copy(), count - first, first)
        found = features(plan, around[100:-100], count - first, first)
        np.testing.assert_array_equal(found, wanted, err_msg=str(first))


def test_nothing_outside_the_result_is_written(core):
    plan = plan_of(**WHISPER)
    out = np.full((plan.n_mels, 56), np.nan, np.float32)
    native.stft_mel(plan, NOISE, out[:, 3:40], padded=NOISE.size, first=3)
    assert not np.isnan(out[:, 3:40]).any()
    assert np.isnan(out).sum() == plan.n_mels * (3 + 16)


@pytest.mark.parametrize("bands_first", [False, True])
def test_features_are_raised_to_the_largest_less_the_span(core, bands_first):
    # Loud in the middle: batches before and after it are raised in part, in whole, or not at all.
    x = NOISE * np.exp(-np.abs(np.linspace(-12, 12, NOISE.size))).astype(np.float32)
    for count in (1, 15, 16, 17, 56):
        open_plan, plan = (
            plan_of(**{**WHISPER, "bands_first": bands_first, "span": span}) for span in (None, 0.9)
        )
        wanted = features(open_plan, x, count)
        wanted = np.maximum(wanted, wanted.max() - np.float32(0.9))
        np.testing.assert_array_equal(features(plan, x, count), wanted)


def test_frames_of_nothing_but_padding_are_filled_as_they_would_be_computed(core):
    plan = plan_of(**WHISPER, span=2.0)
    for n in (0, 1, 39, 40, 41, 199, 200, 359, 360, 361, 4000):
        padded = 6000
        out = np.empty((plan.n_mels, padded // 160), np.float32)
        assert native.log_mel(plan, NOISE[:n], padded, out)
        wanted = np.empty_like(out)
        native.stft_mel(plan, np.append(NOISE[:n], np.zeros(padded - n, np.float32)), wanted)
        np.testing.assert_array_equal(out, wanted, err_msg=str(n))


@pytest.mark.parametrize("precision", ["float", "double"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e30])
def test_a_sample_that_cannot_be_used_is_found_wherever_it_is(core, precision, bad):
    plan = plan_of(**{**WHISPER, "precision": precision}, span=2.0)
    out = np.empty((plan.n_mels, NOISE.size // 160), np.float32)
    # Frames end at sample 8999; the range is every place in a frame.
    for at in (0, 1, 200, 201, 8960, 8999, 9000, *range(4000, 4400)):
        x = NOISE.copy()
        x[at] = bad
        assert not native.log_mel(plan, x, x.size, out), at
        assert np.isnan(native.stft_mel(plan, x, out)), at


def test_one_plan_serves_many_threads_at_once(core):
    plan = plan_of(**WHISPER, span=2.0)
    rng = np.random.default_rng(5)
    signals = [rng.standard_normal(rng.integers(300, 60_000)).astype(np.float32) for _ in range(24)]

    def extract(signal: np.ndarray) -> np.ndarray:
        out = np.empty((plan.n_mels, signal.size // 160), np.float32)
        assert native.log_mel(plan, signal, signal.size, out)
        return out

    alone = [extract(signal) for signal in signals]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(extract, signals), strict=True):
            np.testing.assert_array_equal(one, other)


def test_neighbouring_lanes_do_not_leak_into_each_other(core):
    plan = plan_of(**WHISPER)
    half = NOISE.copy()
    half[: NOISE.size // 2] = 0
    # Frames whose 400 samples lie in the second half.
    same = slice(NOISE.size // 2 // 160 + 2, None)
    np.testing.assert_array_equal(features(plan, half, 56)[same], features(plan, NOISE, 56)[same])


@pytest.mark.skipif(not choose.levels(), reason="there is no compiled core here")
@pytest.mark.parametrize("level", C_LEVELS.values())
def test_arguments_that_would_overrun_memory_are_refused(level):
    from mmaupro_ext.native import core

    plan = core.stft_plan(plan_of(**WHISPER))
    out = np.empty((20, 56), np.float32)
    for padded, first, wrong in (
        (9000, 0, out),
        (9001, -1, out),
        (9001, 0, out[:19]),
        (9001, 0, out.T),
        (9001, 0, out[:, ::2]),
    ):
        with pytest.raises(ValueError, match="do not go to"):
            core.features(plan, level, NOISE, padded, first, wrong)
    with pytest.raises(ValueError, match="too short to mirror"):
        core.features(plan, level, NOISE[:100], 199, 0, out[:, :1])
    for rows in (out[:1, :20], out[:, :19]):
        with pytest.raises(ValueError, match="cannot normalise"):
            core.normalize(plan, level, np.ascontiguousarray(rows), 1e-5)


@pytest.mark.skipif(not choose.levels(), reason="there is no compiled core here")
def test_level_that_does_not_run_here_is_refused():
    from mmaupro_ext.native import core

    runs = set(choose.levels().values())
    for level in {-1, 99} | set(range(len(core.LEVELS))) - runs:
        with pytest.raises(ValueError, match="does not run here"):
            core.lanes(level)


def test_normalising_any_number_of_bands(core):
    for n_mels in (1, 3, 20, 77, 128):
        bank = triangles(512, n_mels)
        plan = plan_of(512, 160, 512, filters=bank, linear=True, add=1.0, floor=0.0)
        energies = np.random.default_rng(2).lognormal(3, 2, (57, n_mels)).astype(np.float32)
        logs = np.log(energies.astype(np.float64))
        expected = (logs - logs.mean(0)) / (logs.std(0, ddof=1) + 1e-5)
        native.normalize(plan, energies, 1e-5)
        # Results are up to 4: one rounding of those is 2.4e-7.
        np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-6, err_msg=str(n_mels))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"n_fft": 11 * 16, "filters": triangles(176, 20)}, "multiple of 11"),
        ({"n_fft": 256}, "does not fit"),
        ({"filters": np.ones((257, 4))}, "not triangles"),
        ({"filters": -triangles(512, 20)}, "negative"),
        ({"filters": triangles(400, 20)}, "must have shape"),
        ({"floor": 0.0}, "positive"),
        ({"hop_length": 0}, "cannot hop"),
        ({"boundary": "mirror", "emphasis_kind": "signal"}, "zeros only"),
        ({"bands_first": True, "linear": True}, "bands first"),
        ({"precision": "half"}, "half"),
    ],
)
def test_plan_that_cannot_be_is_refused(change, problem):
    arguments = {
        "window": np.ones(100 if "11" in problem else 400),
        "hop_length": 160, "n_fft": 512, "filters": triangles(512, 20), "floor": 1e-10,
    }  # fmt: skip
    with pytest.raises(ValueError, match=problem):
        Plan(**{**arguments, **change})


def test_logarithm_is_the_fit_of_the_script():
    coefficients, largest = fit_log.fit()
    # The fit repeats to about 1e-7 of a coefficient.
    np.testing.assert_allclose(LOG_TERMS, coefficients, rtol=1e-6)
    assert largest < 3.5e-8  # as tools/fit_log.py and csrc/stft_mel.c say
    m = np.linspace(np.sqrt(0.5), np.sqrt(2), 100_001)
    in_float = np.float32(LOG_TERMS).astype(float)
    value = np.polynomial.polynomial.polyval(m - 1, in_float) * (m - 1)
    # Rounding the first coefficient (6e-8) adds that times 0.41.
    assert np.abs(value - np.log(m)).max() < 6e-8
