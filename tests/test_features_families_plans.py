"""The plan-driven kernel beyond the families: any length of transform, cuts, and refused plans."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmaupro_ext.native import stft_mel
from mmaupro_ext.native.stft_mel import Plan

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


def by_definition(plan: Plan, x: np.ndarray, frames: int) -> np.ndarray:
    signal = x.astype(np.float64)
    c = plan.emphasis
    if plan.emphasis_kind == "signal":
        signal = np.concatenate([signal[:1], signal[1:] - c * signal[:-1]])
    mode = {"mirror": "reflect", "zeros": "constant"}[plan.boundary]
    signal = np.pad(signal, plan.offset, mode=mode)
    signal = np.pad(signal, (0, plan.frame_length + plan.hop_length * frames))
    cut = np.stack([signal[plan.hop_length * t :][: plan.frame_length] for t in range(frames)])
    if plan.remove_mean:
        cut = cut - cut.mean(axis=1, keepdims=True)
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
    {"remove_mean": True},
    {"magnitude": True, "add": 1e-3, "floor": 0.0, "scale": 2.5, "shift": -1.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_any_transform_is_that_of_the_definition(core, options):
    for shape in SHAPES:
        plan = plan_of(*shape, **options)
        frames = min(40, plan.frames(NOISE.size))
        out = np.empty((frames, plan.n_mels), np.float32)
        largest = stft_mel.features(plan, NOISE, out)
        expected = by_definition(plan, NOISE, frames)
        # Frames of a few samples less their mean are next to nothing: rounding of x alone is 1e-8 of that.
        atol = 1e-5 if shape[0] > 7 else 1e-3
        np.testing.assert_allclose(out, expected, rtol=0, atol=atol, err_msg=str(shape))
        assert largest == out.max()


@pytest.mark.parametrize("boundary", ["zeros", "mirror"])
def test_frames_over_either_end(core, boundary):
    for offset in (1, 80, 256):
        plan = plan_of(512, 160, 512, boundary=boundary, offset=offset)
        for size in (600, 4000, 9001):
            frames = size // 160 + 3
            if boundary == "mirror":
                frames = 1 + (size + 2 * offset - 512) // 160
            out = np.empty((frames, plan.n_mels), np.float32)
            stft_mel.features(plan, NOISE[:size], out)
            expected = by_definition(plan, NOISE[:size], len(out))
            # Features are up to 23 (ln 1e-10): one rounding of those is 2e-6.
            np.testing.assert_allclose(
                out, expected, rtol=0, atol=1e-5, err_msg=f"{offset}, {size}"
            )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_frames_do_not_depend_on_where_the_call_begins(core, options):
    plan = plan_of(400, 160, 512, **options)
    whole = np.empty((plan.frames(NOISE.size), plan.n_mels), np.float32)
    stft_mel.features(plan, NOISE, whole)
    for first, count in ((0, 1), (1, 17), (5, 32), (50, 4)):
        part = np.empty((count, plan.n_mels), np.float32)
        stft_mel.features(plan, NOISE, part, first=first)
        np.testing.assert_array_equal(part, whole[first : first + count])


def test_normalising_any_number_of_bands(core):
    for n_mels in (1, 3, 20, 77, 128):
        bank = triangles(512, n_mels)
        plan = plan_of(512, 160, 512, filters=bank, linear=True, add=1.0, floor=0.0)
        energies = np.random.default_rng(2).lognormal(3, 2, (57, n_mels)).astype(np.float32)
        logs = np.log(energies.astype(np.float64))
        expected = (logs - logs.mean(0)) / (logs.std(0, ddof=1) + 1e-5)
        stft_mel.normalize(plan, energies, 1e-5)
        # Results are up to 4: one rounding of those is 2.4e-7.
        np.testing.assert_allclose(energies, expected, rtol=0, atol=1e-6, err_msg=str(n_mels))


def test_peak_sees_every_sample(core):
    for at in (0, 1, 15, 16, 63, 9000):
        for value in (np.nan, np.inf, -np.inf, -7.5):
            x = NOISE.copy()
            x[at] = value
            np.testing.assert_equal(stft_mel.peak(x), np.float32(abs(value)), err_msg=str(at))


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
    path = Path(__file__).parents[1] / "csrc" / "fit_log.py"
    spec = importlib.util.spec_from_file_location("fit_log", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    coefficients, largest = script.fit()
    to_natural = np.log(2.0) / script.SCALE
    # The fit repeats to about 1e-7 of a coefficient.
    np.testing.assert_allclose(stft_mel.LOG_TERMS, coefficients * to_natural, rtol=1e-6)
    assert largest * to_natural < 4e-8
