"""Resampling: against the float64 reference, analytic signals and soxr; edges and options."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soxr
from plan_response import resampler_response
from tolerances import RESAMPLED

from mmaupro_ext import audio
from mmaupro_ext.audio import resampling
from mmaupro_ext.audio.reference import resample_reference
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.native.resample_plan import PASS_EDGE, resample_plan

TARGET = 16000
RATES = (8000, 11025, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000)
USUAL = (8000, 11025, 12000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 176400, 192000)
PAIRS = [(rate, TARGET) for rate in RATES] + [(11024, TARGET), (47952, TARGET), (16000, 44100)]

# For the reasons that docs/frontend.md gives.
ROUNDING = RESAMPLED.largest


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, n).astype(np.float32)


def multitone(n: int, rate: int, highest: float) -> np.ndarray:
    """Return 40 cosines up to `highest` Hz with a total amplitude of 1, in float64."""
    rng = np.random.default_rng(1)
    hz, phase, amplitude = rng.uniform((40, 0, 0.2), (highest, 6.28, 1), (40, 3)).T
    t = np.arange(n) / rate
    return np.cos(2 * np.pi * np.outer(t, hz) + phase) @ (amplitude / amplitude.sum())


# ---- Accuracy


@pytest.mark.parametrize(("orig_sr", "target_sr"), PAIRS)
def test_equals_the_float64_reference(core, orig_sr, target_sr):
    x = noise(orig_sr // 8)
    y = audio.resample(x, orig_sr, target_sr)
    reference = resample_reference(x, orig_sr, target_sr)
    assert y.dtype == np.float32
    assert np.abs(y - reference).max() <= ROUNDING
    assert np.abs(y - reference).mean() <= RESAMPLED.mean


@pytest.mark.parametrize(("orig_sr", "target_sr"), PAIRS)
def test_band_limited_signals_come_out_as_computed_at_the_new_rate(orig_sr, target_sr):
    """No delay, no gain, no distortion: the ideal is known analytically."""
    seconds = 0.5
    highest = 0.9 * min(orig_sr, target_sr) / 2
    x = multitone(int(seconds * orig_sr), orig_sr, highest).astype(np.float32)
    y = audio.resample(x, orig_sr, target_sr)
    ideal = multitone(len(y), target_sr, highest)
    inner = slice(target_sr // 8, -target_sr // 8)  # the ends lie next to silence
    # The signal's RMS is a tenth of full scale, and so is its rounding: a third of `ROUNDING`.
    assert np.abs(y - ideal)[inner].max() <= 3e-7


@pytest.mark.parametrize(("orig_sr", "soxr_error"), [(48000, 3e-7), (32000, 3e-7), (44100, 2e-4)])
def test_is_near_to_soxr_hq_on_band_limited_signals(orig_sr, soxr_error):
    """Soxr HQ itself is off by 8e-5 at 44.1 kHz, where it interpolates its filter, not at 48 kHz."""
    x = multitone(orig_sr, orig_sr, 7200).astype(np.float32)
    difference = audio.resample(x, orig_sr, TARGET) - soxr.resample(x, orig_sr, TARGET)
    assert np.abs(difference)[2000:-2000].max() <= soxr_error


def response_db(orig_sr: int, hz: np.ndarray, resampler: str = "native") -> np.ndarray:
    """Return the level of the output for a cosine of each frequency, in dB of the input's."""
    amplitude = 0.5
    n = np.arange(orig_sr // 2)
    levels = []
    for f in hz:
        x = (amplitude * np.cos(2 * np.pi * f / orig_sr * n)).astype(np.float32)
        y = audio.resample(x, orig_sr, TARGET, resampler=resampler)
        y = y.astype(np.float64)[1600:-1600]
        t = 2 * np.pi * f / TARGET * np.arange(1600, 1600 + len(y))
        if f < TARGET / 2:  # the amplitude of the tone itself
            basis = np.stack([np.cos(t), np.sin(t)], axis=1)
            level = np.hypot(*np.linalg.lstsq(basis, y, rcond=None)[0])
        else:  # whatever is left
            level = np.sqrt(2 * np.mean(y**2))
        levels.append(20 * np.log10(level / amplitude))
    return np.array(levels)


# On every core a rate for each set of radices; that of every usual rate is computed from its plan below.
SOME = (22050, 44100, 48000, 96000)


@pytest.mark.parametrize("orig_sr", SOME)
def test_pass_band_is_flat_within_1e4_db(core, orig_sr):
    hz = np.linspace(20, PASS_EDGE * TARGET / 2, 16)
    # 1e-4 dB is a factor of 1.2e-5: what the filter's design promises, far above rounding.
    assert np.abs(response_db(orig_sr, hz)).max() <= 1e-4


@pytest.mark.parametrize(
    ("orig_sr", "target_sr"),
    [(orig, target) for orig in USUAL for target in (16000, 24000) if orig != target],
)
def test_response_of_every_usual_rate_by_its_plan(orig_sr, target_sr):
    """Without rounding; 1 dB is left for that of float32, which is at -138 dB."""
    response = resampler_response(orig_sr, target_sr)
    assert response.ripple_db <= 1e-5
    assert response.alias_db <= -131


@pytest.mark.parametrize("orig_sr", SOME)
def test_alias_is_below_130_db(core, orig_sr):
    """The filter stops at -135 dB; float32 leaves noise at -138 dB of the tone."""
    response = resampler_response(orig_sr, TARGET)
    stopped = response.hz >= TARGET / 2 + 1
    worst = response.hz[stopped][response.gain_db[stopped].argmax()]
    hz = np.concatenate(
        [[worst], np.linspace(8001, 8800, 8), np.linspace(8800, orig_sr / 2 - 1, 8)]
    )
    assert response_db(orig_sr, hz).max() <= -130


def test_transition_band_follows_soxr_hq():
    """Two windows of nearly one shape: 0.2 dB apart down to -4 dB, 0.5 dB down to -50 dB."""
    hz = np.array([0.9259, 0.9345, 0.9432, 0.9518, 0.9605, 0.9777, 0.9864]) * TARGET / 2
    ours, soxr_hq = (response_db(44100, hz, resampler=name) for name in ("native", "soxr"))
    np.testing.assert_allclose(ours[:4], soxr_hq[:4], atol=0.2)
    np.testing.assert_allclose(ours, soxr_hq, atol=0.5)


@pytest.mark.parametrize("orig_sr", [8000, 12000])
def test_images_of_up_sampling_are_below_130_db(core, orig_sr):
    """As for aliases: the filter stops at -135 dB, and float32 leaves noise at -138 dB of the tone."""
    for part in (0.2, 0.75, 0.91):
        hz = part * orig_sr / 2
        x = (0.5 * np.cos(2 * np.pi * hz / orig_sr * np.arange(orig_sr))).astype(np.float32)
        y = audio.resample(x, orig_sr, TARGET).astype(np.float64)[1600:-1600]
        t = 2 * np.pi * hz / TARGET * np.arange(1600, 1600 + len(y))
        residue = y - 0.5 * np.cos(t)
        assert 20 * np.log10(np.sqrt(2 * np.mean(residue**2)) / 0.5) <= -130


# ---- Lengths and edges


@pytest.mark.parametrize(("orig_sr", "target_sr"), PAIRS)
def test_lengths_around_every_boundary(orig_sr, target_sr):
    plan = resample_plan(orig_sr, target_sr)
    hop, block = plan.hop_in, plan.forward.points
    lengths = {1, 2, 3, hop - 1, hop, hop + 1, block - 1, block, block + 1, 2 * hop, 2 * hop + 1}
    x = noise(max(lengths))
    for n in lengths:
        y = audio.resample(x[:n], orig_sr, target_sr)
        assert len(y) == -(-n * target_sr // orig_sr)
        reach = plan.half_length * target_sr // orig_sr + 2
        # Up to the filter's reach from the end, a longer signal gives the same samples.
        longer = audio.resample(x, orig_sr, target_sr)
        common = max(0, len(y) - reach)
        np.testing.assert_allclose(y[:common], longer[:common], atol=ROUNDING)


def test_the_shortest_signals_equal_the_reference(core):
    rates = [(44100, 16000), (48000, 16000), (8000, 16000)]
    for n, (orig_sr, target_sr) in itertools.product((1, 2, 5), rates):
        x = noise(n)
        reference = resample_reference(x, orig_sr, target_sr)
        assert np.abs(audio.resample(x, orig_sr, target_sr) - reference).max() <= ROUNDING


@pytest.mark.parametrize("orig_sr", [44100, 48000, 8000])
def test_an_impulse_at_one_end_does_not_appear_at_the_other(core, orig_sr):
    for n in (1000, 20_000):
        for place in (0, n - 1):
            x = np.zeros(n, np.float32)
            x[place] = 1
            y = audio.resample(x, orig_sr, TARGET)
            reference = resample_reference(x, orig_sr, TARGET)
            # One sample of 1 rounds by 6e-8 in each of three passes: weight, forward, inverse.
            assert np.abs(y - reference).max() <= 2e-7
            far = y[len(y) // 2 :] if place == 0 else y[: len(y) // 2]
            if n == 20_000:
                assert np.abs(far).max() <= 2e-7


def test_silence_stays_exact_silence(core):
    assert not audio.resample(np.zeros(100_000, np.float32), 44100, TARGET).any()


@pytest.mark.parametrize("resampler", ["native", "soxr"])
def test_stereo_equals_two_monos_bit_for_bit(core, resampler):
    x = np.stack([noise(50_000, 1), noise(50_000, 2)])
    y = audio.resample(x, 44100, TARGET, resampler=resampler)
    for channel in range(2):
        alone = audio.resample(x[channel], 44100, TARGET, resampler=resampler)
        np.testing.assert_array_equal(y[channel], alone)


def test_the_other_axis_gives_the_same_samples():
    x = np.stack([noise(5000, 1), noise(5000, 2)])
    y = audio.resample(x.T, 44100, TARGET, axis=0)
    np.testing.assert_array_equal(y, audio.resample(x, 44100, TARGET).T)
    assert y.shape == (1815, 2)


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_integers_are_scaled_to_full_scale_one(dtype):
    limits = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(limits.min, limits.max, 5000, dtype)
    scaled = (x / -float(limits.min)).astype(np.float32)
    np.testing.assert_array_equal(
        audio.resample(x, 44100, TARGET), audio.resample(scaled, 44100, TARGET)
    )


def test_memory_order_and_precision_of_the_input_do_not_matter():
    x = noise(9000)
    y = audio.resample(x, 44100, TARGET)
    for same in (x.astype(np.float64), np.repeat(x, 2)[::2], list(map(float, x))):
        np.testing.assert_array_equal(audio.resample(same, 44100, TARGET), y)


def test_equal_rates_change_nothing():
    x = noise(100)
    np.testing.assert_array_equal(audio.resample(x, 16000, 16000.0), x)


def test_calls_from_many_threads_share_a_plan(core):
    signals = [noise(30_000, seed) for seed in range(8)]
    alone = [audio.resample(x, 44100, TARGET) for x in signals]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: audio.resample(x, 44100, TARGET), signals))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


# ---- The choice of resampler


@pytest.mark.parametrize("orig_sr", [8000, 22050, 44100, 48000])
def test_soxr_is_soxr_hq_at_the_exact_length(orig_sr):
    for n in (10_000, 10_001, 10_003):
        equals_soxr_hq(noise(n), orig_sr)


def equals_soxr_hq(x: np.ndarray, orig_sr: int) -> None:
    n = len(x)
    y = audio.resample(x, orig_sr, TARGET, resampler="soxr")
    expected = soxr.resample(x, orig_sr, TARGET, quality="HQ")
    assert len(y) == -(-n * TARGET // orig_sr)
    assert abs(len(y) - len(expected)) <= 1
    both = min(len(y), len(expected))
    np.testing.assert_array_equal(y[:both], expected[:both])
    assert not y[both:].any()


def test_the_resampler_used_is_told():
    assert audio.resampler_used(44100, 16000) == "native"
    assert audio.resampler_used(44100, 16000, "soxr") == "soxr"
    assert audio.resampler_used(16000, 16000) == "none"
    assert audio.resampler_used(11024, 16000) == "native"
    assert audio.resampler_used(44101, 16000) == "soxr"


def test_rates_without_a_plan_use_soxr_and_the_log_says_so_once(caplog):
    resampling.plan_for.cache_clear()
    x = noise(1000)
    with caplog.at_level(logging.INFO, logger="mmaupro_ext"):
        for _ in range(3):
            y = audio.resample(x, 44101, TARGET)
    np.testing.assert_array_equal(y, audio.resample(x, 44101, TARGET, resampler="soxr"))
    told = [r.getMessage() for r in caplog.records if "soxr" in r.getMessage()]
    assert len(told) == 1
    assert "44101" in told[0]


# ---- Bad input


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.array([], np.float32), "no samples"),
        (np.zeros((2, 0), np.float32), "no samples"),
        (np.zeros((2, 3, 4), np.float32), "shape"),
        (np.float32(1), "shape"),
        (np.zeros((44100, 2), np.float32), "transpose"),
        (np.array([True, False]), "bool"),
        (np.array(["a"]), "dtype"),
        (np.array([1j]), "complex"),
        (np.array([1, 2], np.int64), "int64"),
        (np.array([1, 2], np.uint8), "uint8"),
        ([[1.0, 2.0], [3.0]], "dtype"),
        (None, "dtype"),
        (np.array([0, 0, np.nan]), "nan at sample 2"),
        (np.array([0, -np.inf, np.nan]), "-inf at sample 1"),
        (np.array([[0, 0.5, 0], [0, 0, np.inf]]), "inf at sample 2 of channel 1"),
        (np.array([0, 1e300]), "inf at sample 1"),
    ],
)
def test_signals_that_cannot_be_used_are_refused(x, match):
    with pytest.raises(AudioError, match=match):
        audio.resample(x, 44100, TARGET)
    with pytest.raises(AudioError, match=match):
        audio.windows(x, TARGET)
    with pytest.raises(AudioError, match=match):
        audio.to_mono(x)


def test_finite_samples_whose_sum_overflows_are_no_error():
    huge = np.full(10, 3e38, np.float32)
    np.testing.assert_array_equal(audio.to_mono(huge), huge)


@pytest.mark.parametrize(
    "rate", [0, -1, 16000.5, 768001, float("nan"), float("inf"), "16000", None, True]
)
def test_rates_that_are_none_are_refused(rate):
    x = noise(10)
    with pytest.raises(AudioError, match="orig_sr"):
        audio.resample(x, rate, TARGET)
    with pytest.raises(AudioError, match="target_sr"):
        audio.resample(x, TARGET, rate)
    with pytest.raises(AudioError, match="sampling_rate"):
        audio.windows(x, rate)


def test_a_change_by_an_absurd_factor_is_refused():
    with pytest.raises(AudioError, match="factor"):
        audio.resample(noise(10), 1, 768000)


def test_unknown_options_are_refused():
    with pytest.raises(ConfigError, match="native, soxr"):
        audio.resample(noise(10), 44100, TARGET, resampler="sinc")
    with pytest.raises(AudioError, match="axis"):
        audio.resample(noise(10), 44100, TARGET, axis=1)


def test_the_mean_of_the_channels():
    x = np.array([[1.0, 0.5, -1.0], [0.0, 0.5, 1.0]])
    np.testing.assert_array_equal(audio.to_mono(x), np.float32([0.5, 0.5, 0]))
    np.testing.assert_array_equal(audio.to_mono(np.int16([[-32768, 1], [-32768, 0]])), [-1, 2**-16])
