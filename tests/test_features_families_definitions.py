"""Every log-mel family: equal to its definition in float64 on every core, and never behind stock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hard_signals import hard_signals

from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import dots3, gemma3n, gemma4, granite, inkling, kaldi, parakeet, phi4

RATE = 16000

# Transform in double, then float32: the largest error is one rounding of the feature (1e-6 between 8 and
# 16) and the rounding of filter weights and sums (a few 6e-8).
LARGEST, MEAN = 1e-4, 1e-6
# Normalised features divide by the deviation of a band. On the two signals whose bands hardly rise above
# the guard value it is 1e-4 and less, and multiplies the rounding of energies (6e-8) by as much.
ILL_CONDITIONED = {("parakeet", "quiet"), ("parakeet", "last bit of int16")}


@dataclass(frozen=True)
class Family:
    native: Callable[..., Any]
    reference: Callable[..., Any]
    stock: Callable[[np.ndarray], np.ndarray] | None
    shortest: int  # samples that make a frame


def melspectrogram_of_torchaudio(samples: np.ndarray) -> np.ndarray:
    """What GraniteSpeechFeatureExtractor computes, with torch.stft in the place of torchaudio."""
    signal = torch.from_numpy(samples)[None]
    spectrum = torch.stft(
        signal, 512, 160, 400, torch.hann_window(400), center=True, pad_mode="reflect",
        return_complex=True,
    )  # fmt: skip
    bank = torch.from_numpy(granite._filters().astype(np.float32))
    energies = spectrum.abs().pow(2.0).transpose(-1, -2) @ bank
    values = energies.clip(min=1e-10).log10()
    values = torch.maximum(values, values.amax() - 8.0).div(4).add(1)[0]
    return values[: len(values) // 2 * 2].reshape(-1, 160).numpy()


def families() -> dict[str, Family]:
    stock = {
        "gemma4": transformers.Gemma4AudioFeatureExtractor(),
        "gemma3n": transformers.Gemma3nAudioFeatureExtractor(),
        "parakeet": transformers.ParakeetFeatureExtractor(feature_size=128),
        "nemotron": transformers.NemotronAsrStreamingFeatureExtractor(feature_size=128),
        "phi4": transformers.Phi4MultimodalFeatureExtractor(),
        "inkling": transformers.InklingFeatureExtractor(),
        "dots3": transformers.Dots3NoteFeatureExtractor(),
    }

    def call(name: str, key: str = "input_features", drop: int = 0) -> Callable[..., np.ndarray]:
        def features(x: np.ndarray) -> np.ndarray:
            found = np.asarray(stock[name]([x], sampling_rate=RATE)[key][0])
            return found[: len(found) - drop]

        return features

    def first(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: function(x)[0]

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x: function(x, normalize=False)

    return {
        "gemma4": Family(
            first(gemma4.log_mel), first(gemma4.log_mel_reference), call("gemma4"), 161
        ),
        "gemma3n": Family(
            first(gemma3n.log_mel), first(gemma3n.log_mel_reference), call("gemma3n"), 513
        ),
        # The stock extractor adds one frame of zeros.
        "parakeet": Family(
            parakeet.log_mel, parakeet.log_mel_reference, call("parakeet", drop=1), 320
        ),
        "nemotron": Family(
            plain(parakeet.log_mel),
            plain(parakeet.log_mel_reference),
            call("nemotron", drop=1),
            160,
        ),
        "phi4": Family(
            phi4.log_mel, phi4.log_mel_reference, call("phi4", "audio_input_features"), 400
        ),
        "granite": Family(
            granite.log_mel, granite.log_mel_reference, melspectrogram_of_torchaudio, 257
        ),
        "kaldi": Family(kaldi.fbank, kaldi.fbank_reference, None, 400),
        "inkling": Family(inkling.log_mel, inkling.log_mel_reference, call("inkling"), 1),
        # All chunks, of which these signals have one.
        "dots3": Family(
            first(dots3.log_mel),
            first(dots3.log_mel_reference),
            lambda x: stock["dots3"](x, sampling_rate=RATE)["input_features"].numpy(),
            1,
        ),
    }


FAMILIES = families()


SIGNALS = hard_signals(seconds=4)


@pytest.fixture(scope="module")
def references() -> dict[tuple[str, str], np.ndarray]:
    return {
        (name, signal): family.reference(x)
        for name, family in FAMILIES.items()
        for signal, x in SIGNALS.items()
    }


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("name", FAMILIES)
def test_hard_signal_is_within_float32_of_the_definition(core, references, name, signal):
    family, x, reference = FAMILIES[name], SIGNALS[signal], references[name, signal]
    found = family.native(x)
    assert found.dtype == np.float32
    assert found.shape == reference.shape
    error = np.abs(found - reference)
    if (name, signal) not in ILL_CONDITIONED:
        assert error.max() < LARGEST
        assert error.mean() < MEAN
    else:
        stock_error = np.abs(family.stock(x) - reference)
        assert error.max() < stock_error.max() / 10
        assert error.mean() < stock_error.mean() / 10


@pytest.mark.parametrize("signal", ["music", "full-scale tone", "chirp"])
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.stock])
def test_tonal_signal_is_nearer_to_the_definition_than_stock(core, references, name, signal):
    family, x, reference = FAMILIES[name], SIGNALS[signal], references[name, signal]
    stock_error = np.abs(family.stock(x) - reference)
    error = np.abs(family.native(x) - reference)
    if name != "dots3":  # Whisper's kernel, whose transform is in float32: as near on average
        # Half an ulp of features up to 16 is where two correct roundings may differ.
        assert error.max() <= stock_error.max() + 5e-7
    assert error.mean() <= stock_error.mean() + 1e-7


@pytest.mark.parametrize("signal", ["noise", "loud then silent", "impulses", "short"])
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.stock])
def test_features_are_those_of_stock(name, signal):
    family, x = FAMILIES[name], SIGNALS[signal]
    # The stock side's own float32 transform: 1e-7 of a frame's amplitude, in bins 70 dB below it.
    np.testing.assert_allclose(family.native(x), family.stock(x), rtol=0, atol=1e-3)
    assert np.abs(family.native(x) - family.stock(x)).mean() < 5e-6


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("extra", [0, 1, 159, 160, 161, 1599, 1600, 1601, 2560])
def test_every_length_gives_the_frames_of_the_definition(core, name, extra):
    family = FAMILIES[name]
    x = SIGNALS["noise"][: family.shortest + extra]
    reference = family.reference(x)
    found = family.native(x)
    assert found.shape == reference.shape
    assert found.shape[0] > 0
    # Few frames have an ill-determined deviation: the normalised family divides by it.
    np.testing.assert_allclose(found, reference, rtol=0, atol=LARGEST)


@pytest.mark.parametrize("name", ["parakeet", "phi4", "granite", "kaldi", "inkling"])
def test_too_short_audio_is_an_error_that_says_what_is_needed(name):
    family = FAMILIES[name]
    with pytest.raises(AudioError, match="too few"):
        family.native(SIGNALS["noise"][: family.shortest - 1])


@pytest.mark.parametrize("name", ["gemma4", "gemma3n", "nemotron"])
def test_audio_shorter_than_a_frame_has_no_frames(core, name):
    assert len(FAMILIES[name].native(np.zeros(0, np.float32))) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 7777, -1])
@pytest.mark.parametrize("name", FAMILIES)
def test_sample_that_is_not_finite_is_named(core, name, at, bad):
    x = SIGNALS["noise"][:16123].copy()
    x[at] = bad
    with pytest.raises(AudioError, match=f"first is sample {at % x.size} "):
        FAMILIES[name].native(x)


@pytest.mark.parametrize("name", FAMILIES)
def test_energy_beyond_float32_is_an_error(core, name):
    with pytest.raises(AudioError, match="too large"):
        FAMILIES[name].native(np.full(4000, 1e30, np.float32))


@pytest.mark.parametrize("name", FAMILIES)
def test_features_do_not_depend_on_what_stands_around_the_array(core, name):
    inside = np.full(9000, np.float32(1e9))
    x = SIGNALS["noise"][:5000]
    inside[2000:7000] = x
    np.testing.assert_array_equal(
        FAMILIES[name].native(inside[2000:7000]), FAMILIES[name].native(x)
    )


@pytest.mark.parametrize("seconds", [59.99, 60, 60.0001, 61, 121.3])
def test_chunks_of_dots3_are_those_of_the_definition_and_of_stock(core, seconds):
    rng = np.random.default_rng(9)
    x = (0.1 * rng.standard_normal(round(seconds * RATE))).astype(np.float32)
    x[-300:] *= 5.0  # the chunks differ in their largest energy
    (found, lengths), (reference, expected) = dots3.log_mel(x), dots3.log_mel_reference(x)
    stock = transformers.Dots3NoteFeatureExtractor()(x, sampling_rate=RATE)
    assert found.shape == reference.shape == stock["input_features"].shape
    np.testing.assert_array_equal(lengths, expected)
    np.testing.assert_array_equal(lengths, stock["chunk_sample_lengths"])
    assert dots3.count_tokens(x.size) == int(stock["num_audio_tokens"])
    assert np.abs(found - reference).max() < LARGEST
    assert np.abs(found - reference).mean() < MEAN
    np.testing.assert_allclose(found, stock["input_features"], rtol=0, atol=1e-3)


def test_kaldi_is_that_of_kaldi_native_fbank():
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "hamming"
    options.frame_opts.samp_freq = RATE
    options.mel_opts.num_bins = 80
    for signal in ("noise", "speech-like", "impulses"):
        x = SIGNALS[signal]
        online = knf.OnlineFbank(options)
        online.accept_waveform(RATE, (x * 32768.0).tolist())
        theirs = np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])
        # It works in float32 throughout: 3e-4 from torchaudio's as well.
        np.testing.assert_allclose(kaldi.fbank(x, scale=32768.0), theirs, rtol=0, atol=1e-3)


def test_low_frame_rate_repeats_the_first_and_last_frame():
    features = np.arange(8, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        kaldi.low_frame_rate(features), [[0, 0, 0, 0, 1, 2, 3], [3, 4, 5, 6, 7, 7, 7]]
    )


def test_tokens_are_the_nearest_levels():
    from transformers.models.inkling.processing_inkling import InklingProcessor

    processor = InklingProcessor.__new__(InklingProcessor)
    processor.dmel_min_value, processor.dmel_max_value = -7.0, 2.0
    processor.bin_centers = torch.linspace(-7.0, 2.0, 16, dtype=torch.float64)
    features = np.random.default_rng(5).uniform(-11, 4, (400, 80))
    expected = processor._extract_dmel_bins(torch.from_numpy(features)).numpy()
    np.testing.assert_array_equal(inkling.tokens(features), expected)
