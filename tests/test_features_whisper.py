"""log_mel: equal to the definition, on every core, for every signal and length."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hard_signals import hard_signals
from levels import CORES
from tolerances import WHISPER

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import log_mel, log_mel_reference, mel_filters
from mmaupro_ext.features.whisper import plan_of_filters

RATE = 16000

# Against float64, for the reasons that docs/frontend.md gives.
LARGEST, MEAN = WHISPER.largest, WHISPER.mean


SECONDS = 10.0


@functools.cache
def reference(signal: str, n_mels: int) -> np.ndarray:
    return log_mel_reference(hard_signals(SECONDS)[signal], n_mels)


def noise() -> np.ndarray:
    return hard_signals(SECONDS)["noise"]


@pytest.mark.parametrize("n_mels", [80, 128])
def test_hard_signal_is_within_float32_of_the_definition(core, n_mels):
    for name, x in hard_signals(SECONDS).items():
        error = np.abs(log_mel(x, n_mels) - reference(name, n_mels))
        assert error.max() < LARGEST, name
        assert error.mean() < MEAN, name


def test_tonal_signal_is_nearer_to_the_definition_than_stock(core):
    from transformers import WhisperFeatureExtractor

    stock = WhisperFeatureExtractor(feature_size=128)
    for name in ("music", "full-scale tone", "chirp"):
        x, expected = hard_signals(SECONDS)[name], reference(name, 128)
        theirs = stock(x, sampling_rate=RATE, padding="longest", return_tensors="np")
        their_error = np.abs(theirs.input_features[0] - expected).mean()
        assert np.abs(log_mel(x, 128) - expected).mean() < their_error, name


def test_silence_gives_exactly_the_floor(core):
    assert (log_mel(np.zeros(48000), 80) == -1.5).all()
    assert (log_mel(np.zeros(0), 80, pad_to=48000) == -1.5).all()


ENDS = (0, 1, 2, 159, 160, 161, 199, 200, 201, 399, 400, 401, 5119, 5120, 5121, 79999)
LENGTHS = (201, 319, 320, 321, 399, 400, 401, 2399, 2400, 2401, 2559, 2560, 2561, 5119, 5120, 5121)


@pytest.mark.parametrize("pad_to", [80000, 80159])
def test_padding_to_a_length_equals_appended_zeros(core, pad_to):
    for n in ENDS:
        x = 0.1 * np.random.default_rng(n).standard_normal(n).astype(np.float32)
        features = log_mel(x, 80, pad_to=pad_to)
        assert features.shape == (80, pad_to // 160)
        assert np.abs(features - log_mel_reference(x, 80, pad_to=pad_to)).max() < LARGEST, n
        appended = log_mel(np.append(x, np.zeros(pad_to - n, np.float32)), 80)
        # Constant frames are filled in one case and computed in the other.
        np.testing.assert_array_equal(features, appended, err_msg=str(n))


def test_length_without_padding_is_mirrored_at_both_ends(core):
    for n in (*LENGTHS, 479999, 480000, 480001):
        x = 0.1 * np.random.default_rng(n).standard_normal(n).astype(np.float32)
        features = log_mel(x, 128)
        assert features.shape == (128, n // 160)
        assert np.abs(features - log_mel_reference(x, 128)).max() < LARGEST, n


def test_cores_agree(monkeypatch):
    features = []
    for backend, level in CORES:
        monkeypatch.setenv("MMAUPRO_NATIVE", backend)
        monkeypatch.setenv("MMAUPRO_SIMD", level)
        features.append(log_mel(noise(), 128))
    assert len(features) > 2
    # A quarter of the logarithm: 1 is 40 dB. Further down, a bin of noise may by chance be so quiet that the
    # rounding of the others shows in it (once in these 128,000).
    loud = features[0] > features[0].max(axis=0) - 1.0
    assert loud.mean() > 0.99
    for other in features[1:]:
        difference = np.abs(other - features[0])
        # Float32 rounding alone: at 40 dB down 1e-2 of the amplitude, so that 6e-8 of it is some 6e-6.
        assert difference[loud].max() < 1e-5
        assert difference.max() < WHISPER.between


def test_sample_that_is_not_finite_is_named(core):
    for where in (0, 1, 4321, 47_998, 47_999):
        for bad in (np.nan, np.inf, -np.inf):
            x = np.zeros(48_000, np.float32)
            x[where] = bad
            x[-1] = bad
            with pytest.raises(AudioError, match=f"has {bad} at sample {where}\\b"):
                log_mel(x, 80)
            with pytest.raises(AudioError, match=f"sample {where}\\b"):
                log_mel_reference(x, 80)


def test_bad_sample_that_no_frame_reaches_is_found(core):
    x = np.zeros(48_159, np.float32)  # the last frame ends at sample 48,039
    x[-1] = np.nan
    with pytest.raises(AudioError, match="sample 48158"):
        log_mel(x, 80)


def test_samples_too_large_for_float32_energies_are_refused(core):
    x = np.zeros(48_000, np.float32)
    x[1234] = -3e25
    with pytest.raises(AudioError, match="sample 1234 is -3e\\+25"):
        log_mel(x, 80)


def test_float64_beyond_float32_is_refused_without_a_warning(core):
    x = np.zeros(48_000)
    x[7] = 1e300
    with pytest.raises(AudioError, match="sample 7"):
        log_mel(x, 80)


def test_layout_and_type_of_the_input_do_not_matter(core):
    x = noise()
    features = log_mel(x, 80)
    strided = np.zeros((x.size, 2), np.float32)
    strided[:, 0] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32)
    assert not unaligned.flags.aligned
    for same in (
        strided[:, 0],
        unaligned,
        x.astype(np.float64),
        read_only,
        x.tolist(),
        x.astype(">f4"),
    ):
        np.testing.assert_array_equal(log_mel(same, 80), features)
    np.testing.assert_array_equal(log_mel(x[::-1][::-1], 80), features)


@pytest.mark.parametrize(("dtype", "full_scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integer_pcm_is_scaled_to_full_scale(core, dtype, full_scale):
    rng = np.random.default_rng(4)
    pcm = rng.integers(-full_scale, full_scale, 16_000).astype(dtype)
    expected = (pcm / full_scale).astype(np.float32)
    np.testing.assert_array_equal(log_mel(pcm, 80), log_mel(expected, 80))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 16_000), np.float32), r"shape \(2, 16000\)"),
        (np.float32(1), r"shape \(\)"),
        (np.zeros(16_000, np.complex64), "complex64"),
        (np.zeros(16_000, np.int64), "int64"),
        (np.zeros(16_000, bool), "bool"),
        (["a"] * 500, "<U1"),
        ([[1.0], [1.0, 2.0]], "cannot be read as an array"),
    ],
)
def test_input_that_is_not_one_channel_of_samples_is_refused(x, message):
    with pytest.raises(AudioError, match=message):
        log_mel(x, 80)


def test_other_sampling_rate_is_refused_with_the_way_to_convert():
    with pytest.raises(AudioError, match=r"audio\.resample\(x, 44100, 16000\)"):
        log_mel(np.zeros(44_100, np.float32), 80, sampling_rate=44_100)


@pytest.mark.parametrize("n", [0, 1, 200])
def test_buffer_too_short_to_mirror_is_refused(n):
    with pytest.raises(AudioError, match=f"{n} samples are too few.* at least 201"):
        log_mel(np.zeros(n, np.float32), 80)
    with pytest.raises(AudioError, match="200 samples are too few"):
        log_mel(np.zeros(n, np.float32), 80, pad_to=200)


def test_audio_longer_than_the_buffer_is_never_cut():
    with pytest.raises(AudioError, match="16001 samples do not fit in pad_to=16000"):
        log_mel(np.zeros(16_001, np.float32), 80, pad_to=16_000)


@pytest.mark.parametrize("n_mels", [0, -1, 257, 80.0, True, "80", None, [80]])
def test_impossible_number_of_mels_is_refused(n_mels):
    with pytest.raises(ConfigError, match="n_mels"):
        log_mel(noise(), n_mels)


@pytest.mark.parametrize("pad_to", [0.5, True, "2", -1])
def test_pad_to_that_is_no_whole_number_is_refused(pad_to):
    with pytest.raises(ConfigError, match="pad_to"):
        log_mel(noise(), 80, pad_to=pad_to)


@pytest.mark.filterwarnings("ignore:(At least one mel filter|Empty filters)")
@pytest.mark.parametrize("n_mels", [1, 2, 40, 80, 128, 200, 256])
def test_mel_filters_are_those_of_librosa_and_transformers(n_mels):
    import librosa
    from transformers.audio_utils import mel_filter_bank

    ours = mel_filters(n_mels)
    theirs = mel_filter_bank(201, n_mels, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    # Weights are below 0.1; float64 knows the corners, up to 8000 Hz, to 1e-12 Hz.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    librosas = librosa.filters.mel(sr=16000, n_fft=400, n_mels=n_mels, dtype=np.float64)
    np.testing.assert_allclose(ours.T, librosas, rtol=0, atol=1e-12)  # as above


def test_any_number_of_mels_is_computed(core):
    x = noise()[:20_000]
    for n_mels in (1, 2, 40, 200, 256):
        features = log_mel(x, n_mels)
        assert features.shape == (n_mels, 125)
        assert np.abs(features - log_mel_reference(x, n_mels)).max() < LARGEST, n_mels


def three_filters_per_bin() -> np.ndarray:
    bank = mel_filters(80)
    return bank + np.roll(bank, 2, axis=1)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (lambda: np.ones((200, 80)), "must have shape"),
        (lambda: np.ones(201), "must have shape"),
        (lambda: -mel_filters(80), "negative"),
        (lambda: mel_filters(80) * np.nan, "not finite"),
        (lambda: np.zeros((201, 0)), "must have shape"),
        (three_filters_per_bin, "triangles"),
        (lambda: mel_filters(80)[:, ::-1], "triangles"),
    ],
)
def test_filter_bank_that_the_kernel_cannot_use_is_refused(core, filters, message):
    with pytest.raises(ValueError, match=f"mel_filters .*{message}"):
        plan_of_filters(filters())
