"""Families other than Whisper: equal to their definition on every core, never behind stock, and drop-ins."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest
from feature_cases import CASES, RATE, VARIANTS, assert_same, call, features_of, noise, stock_of
from hard_signals import hard_signals
from tolerances import FAMILIES

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import dots3, native_extractor

# Against float64, for the reasons that docs/frontend.md gives.
LARGEST, MEAN = FAMILIES.largest, FAMILIES.mean
# Normalised features divide by the deviation of a band. On the two signals whose bands hardly rise above
# the guard value it is 1e-4 and less, and multiplies the rounding of energies (6e-8) by as much.
ILL_CONDITIONED = {("parakeet", "quiet"), ("parakeet", "last bit of int16")}
# Against stock. Its own float32 transform: 1e-7 of a frame's amplitude, in bins 70 dB below it.
FROM_STOCK = {"largest": 1e-3, "mean": 5e-6}

SECONDS = 4.0
NOISE = noise(3 * RATE, 11)


@pytest.fixture(autouse=True)
def granite_asks_for_nothing(monkeypatch):
    """Let the stock class compute without torchaudio: it is asked for by name only."""
    from transformers.models.granite_speech import feature_extraction_granite_speech as module

    monkeypatch.setattr(module, "requires_backends", lambda *_: None)


@functools.cache
def stock(name: str) -> Any:
    return stock_of(name)


@functools.cache
def native(name: str) -> Any:
    return native_extractor(stock(name))


@functools.cache
def reference(name: str, signal: str) -> np.ndarray:
    return CASES[name].reference(hard_signals(SECONDS)[signal])


@pytest.fixture(params=VARIANTS)
def pair(request) -> tuple[Any, Any]:
    """A stock extractor and its drop-in."""
    return stock(request.param), native(request.param)


# ---- The definition.


@pytest.mark.parametrize("name", CASES)
def test_hard_signal_is_within_float32_of_the_definition(core, name):
    for signal, x in hard_signals(SECONDS).items():
        expected = reference(name, signal)
        found = features_of(name, native(name), x)
        assert found.dtype == np.float32
        assert found.shape == expected.shape, signal
        error = np.abs(found - expected)
        if (name, signal) not in ILL_CONDITIONED:
            assert error.max() < LARGEST, signal
            assert error.mean() < MEAN, signal
        else:
            stock_error = np.abs(features_of(name, stock(name), x) - expected)
            assert error.max() < stock_error.max() / 10, signal
            assert error.mean() < stock_error.mean() / 10, signal


@pytest.mark.parametrize("name", CASES)
def test_tonal_signal_is_nearer_to_the_definition_than_stock(core, name):
    for signal in ("music", "full-scale tone", "chirp"):
        x, expected = hard_signals(SECONDS)[signal], reference(name, signal)
        stock_error = np.abs(features_of(name, stock(name), x) - expected)
        error = np.abs(features_of(name, native(name), x) - expected)
        if name != "dots3":  # Whisper's kernel, whose transform is in float32: as near on average
            # Half an ulp of features up to 16 is where two correct roundings may differ.
            assert error.max() <= stock_error.max() + 5e-7, signal
        # Two correct roundings of features near 1 differ by up to 6e-8 on average.
        assert error.mean() <= stock_error.mean() + 1e-7, signal


@pytest.mark.parametrize("name", CASES)
def test_every_length_gives_the_frames_of_the_definition(core, name):
    case = CASES[name]
    for extra in (0, 1, 159, 160, 161, 1599, 1600, 1601, 2560):
        x = NOISE[: case.shortest + extra]
        expected = case.reference(x)
        found = features_of(name, native(name), x)
        assert found.shape == expected.shape, extra
        assert found.shape[0] > 0
        # Few frames have an ill-determined deviation: the normalised family divides by it.
        np.testing.assert_allclose(found, expected, rtol=0, atol=LARGEST, err_msg=str(extra))


@pytest.mark.parametrize("name", ["parakeet", "phi4", "granite", "inkling"])
def test_too_short_audio_is_an_error_that_says_what_is_needed(name):
    least = CASES[name].shortest
    with pytest.raises(AudioError, match=f"too few.* at least {least}"):
        call(native(name), [NOISE[: least - 1]])
    with pytest.raises(AudioError, match="too few"):
        CASES[name].reference(NOISE[: least - 1])


@pytest.mark.parametrize("name", ["gemma4", "gemma3n", "dots3"])
def test_audio_shorter_than_a_frame_has_no_frames(core, name):
    assert len(features_of(name, native(name), np.zeros(0, np.float32))) == 0


@pytest.mark.parametrize("name", CASES)
def test_sample_that_is_not_finite_is_named(core, name):
    for at in (0, 7777, -1):
        for bad in (np.nan, np.inf, -np.inf):
            x = NOISE[:16123].copy()
            x[at] = bad
            with pytest.raises(AudioError, match=f"has {bad} at sample {at % x.size}\\b"):
                call(native(name), [x])
            with pytest.raises(AudioError, match=f"sample {at % x.size}\\b"):
                CASES[name].reference(x)


@pytest.mark.parametrize("name", CASES)
def test_energy_beyond_float32_is_an_error(core, name):
    with pytest.raises(AudioError, match="too large"):
        call(native(name), [np.full(4000, 1e30, np.float32)])


@pytest.mark.parametrize("name", CASES)
def test_features_do_not_depend_on_what_stands_around_the_array(core, name):
    inside = np.full(9000, np.float32(1e9))
    inside[2000:7000] = NOISE[:5000]
    np.testing.assert_array_equal(
        features_of(name, native(name), inside[2000:7000]),
        features_of(name, native(name), NOISE[:5000]),
    )


@pytest.mark.parametrize("seconds", [59.99, 60, 60.0001, 61, 121.3])
def test_chunks_of_dots3_are_those_of_the_definition_and_of_stock(core, seconds):
    x = noise(round(seconds * RATE), 9).copy()
    x[-300:] *= 5.0  # the chunks differ in their largest energy
    expected, lengths = dots3.log_mel_reference(x)
    found = native("dots3")(x, sampling_rate=RATE)
    np.testing.assert_array_equal(found["chunk_sample_lengths"], lengths)
    assert dots3.count_tokens(x.size) == int(found["num_audio_tokens"])
    error = np.abs(found["input_features"].numpy() - expected)
    assert error.max() < LARGEST
    assert error.mean() < MEAN
    if core.startswith("c"):
        assert_same(found, stock("dots3")(x, sampling_rate=RATE), **FROM_STOCK)


def test_bad_sample_of_a_later_chunk_of_dots3_is_counted_from_the_beginning():
    x = noise(61 * RATE, 9).copy()
    x[60 * RATE + 17] = np.nan
    with pytest.raises(AudioError, match=f"sample {60 * RATE + 17}\\b"):
        native("dots3")(x, sampling_rate=RATE)


# ---- The drop-in.


def test_one_audio_in_a_list(pair):
    ours, theirs = pair[1], pair[0]
    for size in (3 * RATE, 3 * RATE - 1, 16129, 8000):
        assert_same(call(ours, [NOISE[:size]]), call(theirs, [NOISE[:size]]), **FROM_STOCK)
    for signal in ("loud then silent", "impulses", "short"):
        x = hard_signals(SECONDS)[signal]
        assert_same(call(ours, [x]), call(theirs, [x]), **FROM_STOCK)


@pytest.mark.parametrize("others", [[20000], [44444, 31313], [1700, 8001, 47999]])
def test_batch_of_unequal_lengths(pair, others):
    batch = [NOISE, *(NOISE[:size] for size in others)]
    assert_same(call(pair[1], batch), call(pair[0], batch), **FROM_STOCK)


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "granite"])
def test_wanted_type_of_tensors(name, tensors):
    batch, options = [NOISE, NOISE[:20000]], {"return_tensors": tensors}
    assert_same(
        call(native(name), batch, **options), call(stock(name), batch, **options), **FROM_STOCK
    )


def test_one_bare_array(pair):
    theirs, ours = pair
    # Gemma 4's stock class takes one bare array for many audios of one sample.
    as_stock = [NOISE] if type(theirs).__name__ == "Gemma4AudioFeatureExtractor" else NOISE
    assert_same(call(ours, NOISE), call(theirs, as_stock), **FROM_STOCK)


@pytest.mark.parametrize("name", ["gemma4", "gemma3n", "parakeet", "phi4", "inkling"])
def test_padding_and_truncation(name):
    for options in (
        {"padding": "max_length", "max_length": 50001},
        {"padding": "longest", "pad_to_multiple_of": 4096},
        {"truncation": True, "max_length": 60000},
        {"truncation": True, "max_length": 30000},
    ):
        if options.get("max_length") == 30000 and name in ("parakeet", "phi4"):
            continue  # see the next test
        batch = [NOISE, NOISE[:20000]]
        ours, theirs = call(native(name), batch, **options), call(stock(name), batch, **options)
        assert_same(ours, theirs, **FROM_STOCK)


@pytest.mark.parametrize("name", ["parakeet", "phi4"])
def test_cut_that_stock_gets_wrong_is_refused(name):
    cut = {"truncation": True, "max_length": 32000}
    whole, right = call(stock(name), [NOISE], **cut), call(stock(name), [NOISE[:32000]])
    assert any(not np.array_equal(whole[key], right[key]) for key in right), "stock is mended"
    with pytest.raises(AudioError, match="truncation to 32000"):
        call(native(name), [NOISE], **cut)


@pytest.mark.parametrize("name", ["gemma4", "gemma3n"])
def test_audios_that_are_not_padded_stay_a_list(name):
    batch, options = [NOISE, NOISE[:20000]], {"padding": False}
    ours = call(native(name), batch, **options)
    assert [len(row) for row in ours["input_features"]] == [
        len(row) for row in ours["input_features_mask"]
    ]
    assert len({len(row) for row in ours["input_features"]}) == 2
    assert_same(ours, call(stock(name), batch, **options), **FROM_STOCK)


@pytest.mark.parametrize("name", ["parakeet", "phi4", "inkling"])
def test_audios_of_different_lengths_without_padding_are_refused(name):
    with pytest.raises(AudioError, match="2 different lengths .* padding='longest'"):
        call(native(name), [NOISE, NOISE[:20000]], padding=False)


def test_inkling_takes_an_array_for_one_audio():
    with pytest.raises(AudioError, match=r"shape \(2, 16000\)"):
        call(native("inkling"), np.zeros((2, RATE), np.float32))


def test_drop_in_is_the_stock_class_with_its_settings(pair):
    theirs, ours = pair
    assert isinstance(ours, type(theirs))
    assert type(ours).__name__ == type(theirs).__name__
    assert native_extractor(ours) is ours
    for name, value in theirs.__dict__.items():
        assert ours.__dict__[name] is value


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "granite"])
def test_drop_in_survives_pickling_and_saving(name, tmp_path):
    ours = native(name)
    copy = pickle.loads(pickle.dumps(ours))
    assert native_extractor(copy) is copy
    assert_same(call(copy, [NOISE]), call(ours, [NOISE]), largest=0)
    ours.save_pretrained(tmp_path)
    again = type(stock(name)).from_pretrained(tmp_path)
    assert type(again) is type(stock(name))
    assert_same(call(ours, [NOISE]), call(again, [NOISE]), **FROM_STOCK)


def test_bad_audio_of_a_batch_is_named(pair):
    bad = NOISE.copy()
    bad[4321] = np.nan
    with pytest.raises(AudioError, match="audio 2 of 2 in this call: .* at sample 4321"):
        call(pair[1], [NOISE, bad])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Gemma4AudioFeatureExtractor", {"dither": 1e-4}),
        ("Gemma3nAudioFeatureExtractor", {"preemphasis_htk_flavor": False}),
        ("ParakeetFeatureExtractor", {"padding_value": -1.0}),
        ("ParakeetFeatureExtractor", {"win_length": 600}),
        ("Phi4MultimodalFeatureExtractor", {"padding_side": "left"}),
        ("InklingFeatureExtractor", {"window_size_multiplier": 1.5, "n_fft": 1600}),
        ("Dots3NoteFeatureExtractor", {"dither": 1e-4}),
        ("Dots3NoteFeatureExtractor", {"n_fft": 512}),
        ("NemotronAsrStreamingFeatureExtractor", {}),  # of models that only transcribe
    ],
)
def test_what_the_kernel_does_not_compute_is_refused(kind, options):
    import transformers

    with pytest.raises(ConfigError, match=f"{kind}.*frontend=stock"):
        native_extractor(getattr(transformers, kind)(**options))


@pytest.mark.parametrize("name", ["parakeet", "phi4", "gemma4", "gemma3n", "inkling", "dots3"])
def test_audio_at_another_rate_is_refused(name):
    with pytest.raises(AudioError, match=r"audio\.resample\(x, 44100, 16000\)"):
        native(name)([NOISE], sampling_rate=44100)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Gemma3nAudioFeatureExtractor", {"fft_overdrive": False, "mel_floor": 1e-3}),
        ("Gemma4AudioFeatureExtractor", {"preemphasis": 0.9, "input_scale_factor": 0.5}),
        (
            "Gemma4AudioFeatureExtractor",
            {"per_bin_mean": np.linspace(-4, 4, 128), "per_bin_stddev": np.linspace(1, 2, 128)},
        ),
        ("ParakeetFeatureExtractor", {"preemphasis": None, "hop_length": 200}),
        ("Phi4MultimodalFeatureExtractor", {"preemphasis": 0.9, "hop_length": 200}),
        ("InklingFeatureExtractor", {"audio_token_duration_s": 0.04, "feature_size": 64}),
    ],
)
def test_settings_of_a_checkpoint_are_used(kind, settings):
    import transformers

    theirs = getattr(transformers, kind)(**settings)
    assert_same(call(native_extractor(theirs), [NOISE]), call(theirs, [NOISE]), **FROM_STOCK)


# ---- Extractors that only pad samples.

RAW = ["Gemma4UnifiedAudioFeatureExtractor", "MuseSparkFeatureExtractor"]


@pytest.mark.parametrize("kind", RAW)
def test_extractor_of_samples_returns_what_stock_returns(kind):
    import transformers

    theirs = getattr(transformers, kind)()
    ours = pickle.loads(pickle.dumps(native_extractor(theirs)))
    call = {"sampling_rate": theirs.sampling_rate, "return_tensors": "pt"}
    for batch in ([NOISE], [NOISE, NOISE[:20000]]):
        assert_same(ours(batch, **call), theirs(batch, **call), largest=0)
    assert_same(ours(raw_speech=NOISE, **call), theirs(NOISE, **call), largest=0)


@pytest.mark.parametrize("kind", RAW)
def test_extractor_of_samples_names_one_that_is_not_finite(kind):
    import transformers

    bad = NOISE.copy()
    bad[123] = np.inf
    ours = native_extractor(getattr(transformers, kind)())
    call = {"sampling_rate": ours.sampling_rate, "return_tensors": "pt"}
    with pytest.raises(AudioError, match="audio 2 of 2.*has inf at sample 123"):
        ours([NOISE, bad], **call)
    with pytest.raises(AudioError, match="has inf at sample 123"):
        ours(raw_speech=bad, **call)
