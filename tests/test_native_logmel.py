"""The log-mel kernels themselves: cuts, threads, plans, and the constants that were fitted."""

from __future__ import annotations

import importlib.util
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mmaupro_ext.features import log_mel, mel_filters
from mmaupro_ext.native import logmel, select

CSRC = Path(__file__).parents[1] / "csrc"
FRAMES = 500
N = 160 * FRAMES + 77


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(N).astype(np.float32)


def core_of(backend: str):
    """Return the module of a core."""
    if backend == "scipy":
        from mmaupro_ext.native import fallback_logmel

        return fallback_logmel
    if backend == "numba":
        from mmaupro_ext.native import twin_logmel

        return twin_logmel
    from mmaupro_ext.native import _logmel

    return _logmel


MODULES = [("c", number) for number in select.levels().values()] + [("numba", 0), ("scipy", 0)]


@pytest.mark.parametrize(("backend", "level"), MODULES)
def test_every_cut_of_the_frames_gives_the_same_bits(x, backend, level):
    core = core_of(backend)
    plan = core.Plan(mel_filters(80).astype(np.float32))
    whole = np.empty((80, FRAMES), np.float32)
    minimum = np.empty(FRAMES, np.float32)
    largest, finite = core.frames(plan, level, x, N, 0, FRAMES, whole, minimum)
    assert finite
    assert largest == whole.max()
    lanes = core.lanes(level)
    for step in {1, 7, lanes - 1, lanes, lanes + 1, 2 * lanes, 333} - {0}:
        pieces = np.empty_like(whole)
        for first in range(0, FRAMES, step):
            last = min(first + step, FRAMES)
            maximum, _ = core.frames(plan, level, x, N, first, last, pieces, minimum)
            assert maximum == whole[:, first:last].max()
        np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize(("backend", "level"), MODULES)
def test_frames_outside_the_cut_are_not_written(x, backend, level):
    core = core_of(backend)
    plan = core.Plan(mel_filters(80).astype(np.float32))
    out = np.full((80, FRAMES), np.nan, np.float32)
    minimum = np.full(FRAMES, np.nan, np.float32)
    core.frames(plan, level, x, N, 33, 70, out, minimum)
    core.clamp(level, 33, 70, out, minimum, 0.5)
    written = ~np.isnan(out)
    assert written[:, 33:70].all()
    assert written.sum() == 80 * 37
    assert np.isfinite(minimum).sum() == -(-37 // core.lanes(level))
    assert np.nanmin(out) == 0.5


@pytest.mark.parametrize(("backend", "level"), MODULES)
def test_batch_minima_are_those_of_the_stored_frames(x, backend, level):
    core = core_of(backend)
    plan = core.Plan(mel_filters(128).astype(np.float32))
    out = np.empty((128, FRAMES), np.float32)
    lanes = core.lanes(level)
    minimum = np.empty(-(-FRAMES // lanes), np.float32)
    core.frames(plan, level, x, N, 0, FRAMES, out, minimum)
    expected = [out[:, f : f + lanes].min() for f in range(0, FRAMES, lanes)]
    np.testing.assert_array_equal(minimum, np.array(expected, np.float32))


@pytest.mark.parametrize("level", select.levels().values())
def test_arguments_that_would_overrun_memory_are_refused(x, level):
    core = core_of("c")
    plan = core.Plan(mel_filters(80).astype(np.float32))
    out, minimum = np.empty((80, FRAMES), np.float32), np.empty(FRAMES, np.float32)
    for padded, shape in (
        (N - 1, out.shape),
        (200, (80, 1)),
        (N, (80, FRAMES - 1)),
        (N, (79, FRAMES)),
    ):
        with pytest.raises(ValueError, match="fit a buffer|wrong shape"):
            core.log_mel(plan, level, x, padded, np.empty(shape, np.float32))
    for first, last in ((-1, 5), (0, FRAMES + 1)):
        with pytest.raises(ValueError, match="out of bounds"):
            core.frames(plan, level, x, N, first, last, out, minimum)
        with pytest.raises(ValueError, match="out of bounds"):
            core.clamp(level, first, last, out, minimum, 0.0)
    with pytest.raises(ValueError, match="out of bounds"):
        core.frames(plan, level, x, N, 0, FRAMES, out, minimum[: FRAMES // core.lanes(level) - 1])


def test_level_that_does_not_run_here_is_refused():
    core = core_of("c")
    for level in {-1, 99} | set(range(len(select.LEVELS))) - set(select.levels().values()):
        with pytest.raises(ValueError, match="does not run here"):
            core.lanes(level)


def test_one_plan_serves_many_threads_at_once(core):
    plan = logmel.Plan(mel_filters(80).astype(np.float32))
    rng = np.random.default_rng(5)
    signals = [rng.standard_normal(rng.integers(300, 60_000)).astype(np.float32) for _ in range(24)]

    def extract(signal: np.ndarray) -> np.ndarray:
        out = np.empty((80, signal.size // 160), np.float32)
        assert logmel.log_mel(plan, signal, signal.size, out)
        return out

    alone = [extract(signal) for signal in signals]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(extract, signals), strict=True):
            np.testing.assert_array_equal(one, other)


def test_neighbouring_lanes_do_not_leak_into_each_other(core, x):
    quiet = x.copy()
    quiet[: N // 2] = 0
    # Frames whose 400 samples lie in the second half, before the clamp can tell the signals apart.
    same = slice(N // 2 // 160 + 2, None)
    np.testing.assert_array_equal(log_mel(quiet, 80)[:, same], log_mel(x, 80)[:, same])


def fitted_script():
    spec = importlib.util.spec_from_file_location("fit_log", CSRC / "fit_log.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_logarithm_has_the_fitted_coefficients_and_the_stated_error():
    from mmaupro_ext.native import twin_logmel

    script = fitted_script()
    fitted, largest = script.fit()
    assert largest < 3.7e-9  # as csrc/fit_log.py and csrc/logmel.c say
    source = (CSRC / "logmel.c").read_text()
    table = re.search(r"float p\[8\] = \{(.*?)\}", source, re.DOTALL).group(1)
    table = re.sub(r"/\*.*?\*/", "", table)
    in_c = np.array([float(c.strip().rstrip("f")) for c in table.split(",")])
    # The fit repeats to about 1e-5 of the highest coefficient; what counts is the error that the
    # coefficients in use make, which moves far less.
    np.testing.assert_allclose(in_c, fitted, rtol=1e-4)
    np.testing.assert_array_equal(np.float32(in_c), np.array(twin_logmel._LOG))
    m = np.linspace(np.sqrt(0.5), np.sqrt(2), 100_001)
    value = np.polynomial.polynomial.polyval(m - 1, np.float32(in_c).astype(float)) * (m - 1)
    assert np.abs(value - np.log10(m) / 4).max() < 5e-9
