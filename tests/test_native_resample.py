"""The resampling and mixing kernels themselves: cuts, streams, plans, scratch bounds."""

from __future__ import annotations

import numpy as np
import pytest

from mmaupro_ext import native
from mmaupro_ext.native import choose, kernels
from mmaupro_ext.native import resample_plan as plans
from mmaupro_ext.native.kernels import pair_span, pairs_of, resample_pairs

RATES = (44100, 48000, 8000, 11024)


def plan_of(orig_sr: int, target_sr: int = 16000) -> plans.ResamplePlan:
    plan = plans.resample_plan(orig_sr, target_sr)
    assert plan is not None
    return plan


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


# ---- Plans


@pytest.mark.parametrize("radices", [(2,), (8, 3), (7, 9, 4), (5, 5, 2), (13, 53, 8), (61,)])
def test_digit_reversal_is_where_decimation_in_frequency_leaves_the_bins(radices):
    """Run the plan's own stages, in float64 and by definition, against numpy's FFT."""
    transform = plans.make_transform(radices)
    n = points = transform.points
    x = np.random.default_rng(0).standard_normal((points, 2)) @ [1, 1j]
    rows = x.copy()
    for radix, table in zip(radices, transform.twiddles, strict=True):
        m = n // radix
        dft = np.exp(-2j * np.pi * np.outer(np.arange(radix), np.arange(radix)) / radix)
        twiddles = table[len(table) - m * (radix - 1) :].astype(float) @ [1, 1j]
        parts = np.einsum("kr,prm->pkm", dft, rows.reshape(-1, radix, m))
        parts[:, 1:] *= twiddles.reshape(m, radix - 1).T
        rows = parts.reshape(points)
        n = m
    np.testing.assert_allclose(rows[plans.digit_reversed(radices)], np.fft.fft(x), atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 97, 360, 44101, 65536])
def test_prime_factors_multiply_to_the_number(n):
    factors = plans.prime_factors(n)
    assert np.prod(factors, dtype=np.int64) == n
    assert all(all(p % d for d in range(2, p)) for p in factors)


@pytest.mark.parametrize("orig_sr", [*RATES, 22050, 24000, 32000, 96000, 192000])
def test_a_plan_drops_every_sample_that_the_filter_wraps_around(orig_sr):
    plan = plan_of(orig_sr)
    reach = plan.half_length
    # The first kept output lies `context` samples (less a fraction) into the block, and the last
    # one leaves as much after it.
    assert plan.context >= reach
    last = plan.context + (plan.hop_out - 1) * plan.down / plan.up
    assert last + reach <= plan.forward.points
    assert plan.hop_out * plan.down == plan.hop_in * plan.up


def test_plans_are_read_only_and_made_once():
    plan = plan_of(44100)
    assert plans.resample_plan(44100, 16000) is plan
    arrays = [plan.bin_row, plan.response, plan.zero_row, plan.out_row]
    arrays += [*plan.forward.twiddles, *plan.inverse.twiddles]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("rates", [(44101, 16000), (16000, 44101), (768000, 767999), (16000, 8009)])
def test_rates_with_a_large_prime_have_no_plan(rates):
    assert plans.resample_plan(*rates) is None


@pytest.mark.parametrize(
    "orig_sr", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 96000, 192000]
)
@pytest.mark.parametrize("target_sr", [16000, 24000, 48000])
def test_usual_rates_have_a_plan(orig_sr, target_sr):
    if orig_sr != target_sr:
        plan = plan_of(orig_sr, target_sr)
        points = plan.forward.points, plan.inverse.points
        assert min(points) >= plans.LEAST_POINTS  # enough bins in the transition band
        # The second-level cache, for quotients up to 4; others need longer transforms for the above.
        if max(orig_sr, target_sr) <= 4 * min(orig_sr, target_sr):
            assert max(points) <= plans.USUAL_POINTS


# ---- Kernels


@pytest.mark.parametrize("orig_sr", RATES)
def test_every_cut_into_pairs_gives_the_same_bits(core, orig_sr):
    plan = plan_of(orig_sr)
    x = noise(40 * plan.hop_in + 77)
    whole = native.resample(plan, x)
    n_out = len(whole)
    for step in (1, 3, 16, 17):
        pieces = np.full_like(whole, np.nan)
        for first in range(0, pairs_of(plan, n_out), step):
            last = min(first + step, pairs_of(plan, n_out))
            resample_pairs(plan, x, 0, pieces[2 * first * plan.hop_out :], n_out, first, last)
        np.testing.assert_array_equal(pieces, whole, err_msg=str(step))


def test_a_pair_needs_no_more_input_than_its_span(core):
    plan = plan_of(44100)
    x = noise(30 * plan.hop_in)
    n_out = native.output_length(len(x), plan.orig_sr, plan.target_sr)
    wanted, found = (np.empty(2 * plan.hop_out, np.float32) for _ in range(2))
    for first in (0, 1, 5):
        resample_pairs(plan, x, 0, wanted, n_out, first, first + 1)
        low, high = pair_span(plan, first)
        low = max(low, 0)
        resample_pairs(plan, x[low:high].copy(), low, found, n_out, first, first + 1)
        np.testing.assert_array_equal(found, wanted, err_msg=str(first))


def given(source):
    out = np.empty(source.ready, np.float32)
    source.give(out)
    return out


@pytest.mark.parametrize("orig_sr", RATES)
def test_a_stream_gives_the_bits_of_the_whole(core, orig_sr):
    plan = plan_of(orig_sr)
    x = noise(300_000 + 13)
    whole = native.resample(plan, x)
    for chunk in (1000, 16384, 131072):
        source = native.Stream(plan)
        pieces = []
        for i in range(0, len(x), chunk):
            source.take(x[i : i + chunk])
            pieces.append(given(source))
        source.end()
        pieces.append(given(source))
        np.testing.assert_array_equal(np.concatenate(pieces), whole, err_msg=str(chunk))


def test_a_stream_keeps_a_bounded_part_of_the_input():
    plan = plan_of(44100)
    source = native.Stream(plan)
    chunk = noise(131072)
    bound = 2 * kernels.PAIRS_PER_BATCH * plan.hop_in + plan.forward.points + kernels.PADDING
    for _ in range(20):
        source.take(chunk)
        given(source)
        assert source._held <= bound
        assert len(source._buffer) <= bound + len(chunk)


def test_cores_agree_within_rounding(monkeypatch):
    """Both transforms of every core round to float32; they may differ by some units of 2^-24."""
    plan = plan_of(44100)
    x = noise(60_000)
    results = {}
    for backend, level in [("c", name) for name in choose.levels()] + [
        ("numba", "auto"),
        ("scipy", "auto"),
    ]:
        monkeypatch.setenv("MMAUPRO_NATIVE", backend)
        monkeypatch.setenv("MMAUPRO_SIMD", level)
        results[backend, level] = native.resample(plan, x)
    for y in results.values():
        assert np.abs(y - results["numba", "auto"]).max() <= 6e-7


def test_nothing_outside_the_result_is_written(core):
    plan = plan_of(48000)
    for n in (1, 2, plan.hop_in + 1, 2 * plan.hop_in - 1, 33 * plan.hop_in):
        n_out = native.output_length(n, plan.orig_sr, plan.target_sr)
        guarded = np.full(n_out + 64, np.float32(7))
        native.resample(plan, noise(n), out=guarded[32:-32])
        assert (guarded[:32] == 7).all()
        assert (guarded[-32:] == 7).all()


def test_a_result_of_the_wrong_length_is_refused():
    plan = plan_of(48000)
    with pytest.raises(ValueError, match="shape"):
        native.resample(plan, noise(300), out=np.empty(99, np.float32))


@pytest.mark.skipif(not choose.levels(), reason="there is no compiled core here")
@pytest.mark.parametrize(
    ("y_length", "first", "last"), [(10, 0, 1), (10_000, -1, 1), (10_000, 1, 1), (10_000, 0, 9)]
)
def test_the_compiled_core_refuses_what_would_write_out_of_bounds(y_length, first, last):
    from mmaupro_ext.native import core

    plan = core.resample_plan(plan_of(48000))
    y = np.empty(y_length, np.float32)
    scratch = np.empty(core.scratch_floats(plan, 0), np.float32)
    with pytest.raises(ValueError, match="out of bounds|y is too short"):
        core.blocks(plan, 0, noise(9000), 0, y, 3000, first, last, scratch)
    with pytest.raises(ValueError, match="scratch is too short"):
        core.blocks(plan, 0, noise(9000), 0, np.empty(3000, np.float32), 3000, 0, 1, scratch[1:])


@pytest.mark.skipif(not choose.levels(), reason="there is no compiled core here")
def test_plans_keep_to_the_limits_of_the_compiled_core():
    from mmaupro_ext.native import core

    assert plans.MAX_RADIX == core.MAX_RADIX


# ---- Mixing


# Frames fill no register, some, and many with a rest; 3 and 6 channels take the general loop.
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_mean_and_split_are_rounded_once(core, dtype):
    for channels in (1, 2, 3, 6, 8):
        for frames in (1, 15, 1000):
            rng = np.random.default_rng(channels)
            if dtype == "float32":
                x = rng.standard_normal((frames, channels)).astype(np.float32)
            else:
                limits = np.iinfo(dtype)
                x = rng.integers(limits.min, limits.max, (frames, channels), dtype, endpoint=True)
                x[0] = limits.min
            # float64 holds sums of 8 such samples exactly (float32: but for bits far below the result's).
            exact = x.astype(np.float64) / plans.FULL_SCALE[dtype]
            mean = (exact.sum(axis=1) / channels).astype(np.float32)
            # The order of two divisions may move the last bit of a float64, and so that of a float32.
            last_bit = 2**-23 if channels & (channels - 1) else 0
            case = f"{channels} channels, {frames} frames"
            np.testing.assert_allclose(native.mean(x), mean, rtol=last_bit, atol=0, err_msg=case)
            np.testing.assert_array_equal(native.split(x), exact.T.astype(np.float32), err_msg=case)


def test_the_mean_of_two_huge_samples_does_not_overflow(core):
    huge = np.full((4, 2), 3e38, np.float32)
    np.testing.assert_array_equal(native.mean(huge), huge[:, 0])


def test_peak_sees_every_sample(core):
    for n in (1, 7, 16, 100, 9001):
        x = np.full(n, np.float32(-3.4028235e38)) * np.float32(0.1)
        assert native.finite(x)
        assert native.peak(x) == -x[0]
        for place in {0, n // 2, n - 1}:
            for value in (np.nan, -np.nan, np.inf, -np.inf, -3.4028235e38):
                y = x.copy()
                y[place] = value
                np.testing.assert_equal(native.peak(y), np.float32(abs(value)))
                assert native.finite(y) == np.isfinite(value)
    assert native.finite(np.empty(0, np.float32))
    assert native.peak(np.float32([1e-45, -1e-45, 0, -0.0])) == np.float32(1e-45)
