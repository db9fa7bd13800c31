"""Native drop-ins of the families: the stock keys, shapes, types and masks, and features as near."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.models.fun_asr_nano.feature_extraction_fun_asr_nano import (
    FunAsrNanoFeatureExtractor,
)
from transformers.models.granite_speech import feature_extraction_granite_speech as granite_module

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import families, granite, kaldi, native_extractor

RATE = 16000
NOISE = (0.1 * np.random.default_rng(11).standard_normal(3 * RATE)).astype(np.float32)

# The stock side's own float32 transform: 1e-7 of a frame's amplitude, in bins 70 dB below it.
CLOSE = {"rtol": 0, "atol": 1e-3}


class StandInMelSpectrogram(torch.nn.Module):
    """torchaudio.transforms.MelSpectrogram with its defaults, on torch.stft."""

    def __init__(self) -> None:
        super().__init__()
        self.mel_scale = torch.nn.Module()
        self.mel_scale.fb = torch.from_numpy(granite._filters().astype(np.float32))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        window = torch.hann_window(400)
        spectrum = torch.stft(audio, 512, 160, 400, window, return_complex=True)
        return (spectrum.abs().pow(2.0).transpose(-1, -2) @ self.mel_scale.fb).transpose(-1, -2)


def granite_stock() -> Any:
    stock = transformers.GraniteSpeechFeatureExtractor.__new__(
        transformers.GraniteSpeechFeatureExtractor
    )
    SequenceFeatureExtractor.__init__(stock, feature_size=80, sampling_rate=RATE, padding_value=0.0)
    stock.melspec_kwargs = {
        "sample_rate": RATE, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80,
    }  # fmt: skip
    stock.mel_filters = StandInMelSpectrogram()
    stock.projector_window_size, stock.projector_downsample_rate = 15, 5
    return stock


def fun_asr_stock() -> Any:
    kind = FunAsrNanoFeatureExtractor  # at top level there is a dummy where torchaudio is missing
    stock = kind.__new__(kind)
    SequenceFeatureExtractor.__init__(
        stock, feature_size=80, sampling_rate=RATE, padding_value=0.0, return_attention_mask=True
    )
    stock.frame_length, stock.frame_shift, stock.window = 25, 10, "hamming"
    stock.num_frames_lfr, stock.stride_lfr = 7, 6
    # In the place of torchaudio.compliance.kaldi.fbank: the definition.
    stock._extract_fbank_features = lambda waveform: torch.from_numpy(
        kaldi.fbank_reference(waveform.numpy()).astype(np.float32)
    )
    return stock


STOCK: dict[str, Callable[[], Any]] = {
    "gemma4": transformers.Gemma4AudioFeatureExtractor,
    "gemma3n": transformers.Gemma3nAudioFeatureExtractor,
    "parakeet": lambda: transformers.ParakeetFeatureExtractor(feature_size=128),
    "parakeet-80": transformers.ParakeetFeatureExtractor,
    "nemotron": transformers.NemotronAsrStreamingFeatureExtractor,
    "nemotron-bf16": lambda: transformers.NemotronAsrStreamingFeatureExtractor(
        mel_filters_dtype="bfloat16"
    ),
    "phi4": transformers.Phi4MultimodalFeatureExtractor,
    "inkling": transformers.InklingFeatureExtractor,
    "dots3": transformers.Dots3NoteFeatureExtractor,
    "dots3-1s": lambda: transformers.Dots3NoteFeatureExtractor(chunk_length=1),
    "granite": granite_stock,
    "fun-asr": fun_asr_stock,
}


@pytest.fixture(params=STOCK)
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A stock extractor and its drop-in."""
    monkeypatch.setattr(granite_module, "requires_backends", lambda *_: None)
    stock = STOCK[request.param]()
    native = families.drop_in(stock)
    # An attribute of the instance would hide the drop-in's method.
    native.__dict__.pop("_extract_fbank_features", None)
    return stock, native


def call(extractor: Any, audio: Any, **options: Any) -> Any:
    if isinstance(extractor, transformers.GraniteSpeechFeatureExtractor):
        return extractor(audio, **options)
    return extractor(audio, sampling_rate=RATE, **options)


def assert_same(native: Any, stock: Any) -> None:
    assert list(native) == list(stock)
    for key, expected in stock.items():
        found = native[key]
        assert type(found) is type(expected), key
        if isinstance(expected, list):
            assert [type(v) for v in found] == [type(v) for v in expected], key
        for one, other in zip(
            *([v] if not isinstance(v, list) else v for v in (found, expected)), strict=True
        ):
            one, other = np.asarray(one), np.asarray(other)
            assert one.dtype == other.dtype, key
            assert one.shape == other.shape, key
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, other, **CLOSE, err_msg=key)
                assert np.abs(one - other).mean() < 5e-6, key
            else:
                np.testing.assert_array_equal(one, other, err_msg=key)


@pytest.mark.parametrize("size", [3 * RATE, 3 * RATE - 1, 16129, 8000])
def test_one_audio_in_a_list(pair, size):
    stock, native = pair
    assert_same(call(native, [NOISE[:size]]), call(stock, [NOISE[:size]]))


@pytest.mark.parametrize("others", [[20000], [44444, 31313], [1700, 8001, 47999]])
def test_batch_of_unequal_lengths(pair, others):
    stock, native = pair
    batch = [NOISE, *(NOISE[:size] for size in others)]
    assert_same(call(native, batch), call(stock, batch))


@pytest.mark.parametrize("tensors", ["pt", "np"])
def test_wanted_type_of_tensors(pair, tensors):
    stock, native = pair
    if isinstance(stock, transformers.GraniteSpeechFeatureExtractor):
        options = {}  # it takes no such argument
    else:
        options = {"return_tensors": tensors}
    batch = [NOISE, NOISE[:20000]]
    assert_same(call(native, batch, **options), call(stock, batch, **options))


def test_one_bare_array(pair):
    stock, native = pair
    if isinstance(stock, transformers.Gemma4AudioFeatureExtractor):
        # The stock class takes one bare array for many audios of one sample.
        assert_same(call(native, NOISE), call(stock, [NOISE]))
    else:
        assert_same(call(native, NOISE), call(stock, NOISE))


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "max_length", "max_length": 50001},
        {"padding": "longest", "pad_to_multiple_of": 4096},
        {"truncation": True, "max_length": 60000},
    ],
)
@pytest.mark.parametrize("name", ["gemma4", "gemma3n", "parakeet", "nemotron", "phi4", "inkling"])
def test_padding_and_truncation(name, options):
    stock = STOCK[name]()
    native = families.drop_in(stock)
    batch = [NOISE, NOISE[:20000]]
    assert_same(call(native, batch, **options), call(stock, batch, **options))


@pytest.mark.parametrize("name", ["gemma4", "gemma3n", "inkling"])
def test_audio_cut_by_truncation(name):
    stock = STOCK[name]()
    batch, options = [NOISE, NOISE[:20000]], {"truncation": True, "max_length": 30000}
    assert_same(call(families.drop_in(stock), batch, **options), call(stock, batch, **options))


@pytest.mark.parametrize("name", ["parakeet", "nemotron", "phi4"])
def test_cut_that_stock_gets_wrong_is_refused(name):
    stock = STOCK[name]()
    cut = {"truncation": True, "max_length": 32000}
    whole, right = call(stock, [NOISE], **cut), call(stock, [NOISE[:32000]])
    assert any(not np.array_equal(whole[key], right[key]) for key in right), "stock is mended"
    with pytest.raises(AudioError, match="truncation to 32000"):
        call(families.drop_in(stock), [NOISE], **cut)


def test_drop_in_is_the_stock_class_with_its_settings(pair):
    stock, native = pair
    assert isinstance(native, type(stock))
    assert type(native).__name__ == type(stock).__name__
    assert native_extractor(native) is native
    assert type(native_extractor(stock)).__mro__[1:] == type(native).__mro__[1:]
    for name, value in stock.__dict__.items():
        if name != "_extract_fbank_features":
            assert native.__dict__[name] is value


@pytest.mark.parametrize(
    "name", ["gemma4", "gemma3n", "parakeet", "nemotron", "phi4", "inkling", "dots3-1s"]
)
def test_drop_in_survives_pickling_and_saving(name, tmp_path):
    stock = STOCK[name]()
    native = families.drop_in(stock)
    copy = pickle.loads(pickle.dumps(native))
    assert_same(call(copy, [NOISE]), call(native, [NOISE]))
    native.save_pretrained(tmp_path)
    again = type(stock).from_pretrained(tmp_path)
    assert_same(call(native, [NOISE]), call(again, [NOISE]))


def test_bad_audio_of_a_batch_is_named(pair):
    _, native = pair
    bad = NOISE.copy()
    bad[4321] = np.nan
    name = type(native).__name__
    match = "sample 4321" if name == "FunAsrNanoFeatureExtractor" else "audio 2 of 2.*sample 4321"
    with pytest.raises(AudioError, match=match):
        call(native, [NOISE, bad])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Gemma4AudioFeatureExtractor", {"dither": 1e-4}),
        ("Gemma3nAudioFeatureExtractor", {"preemphasis_htk_flavor": False}),
        ("ParakeetFeatureExtractor", {"padding_value": -1.0}),
        ("Phi4MultimodalFeatureExtractor", {"padding_side": "left"}),
        ("Dots3NoteFeatureExtractor", {"dither": 1e-4}),
        ("Dots3NoteFeatureExtractor", {"n_fft": 512}),
        ("WhisperFeatureExtractor", {}),
    ],
)
def test_what_the_kernel_does_not_compute_is_refused(name, options):
    with pytest.raises(ConfigError, match="frontend=stock"):
        families.drop_in(getattr(transformers, name)(**options))


@pytest.mark.parametrize("name", ["parakeet", "phi4", "gemma4", "inkling", "dots3"])
def test_audio_at_another_rate_is_refused(name):
    with pytest.raises(ValueError, match="44100"):
        families.drop_in(STOCK[name]())([NOISE], sampling_rate=44100)


def test_settings_of_a_checkpoint_are_used():
    mean, deviation = np.linspace(-4, 4, 128), np.linspace(1, 2, 128)
    for kind, settings in (
        (transformers.Gemma3nAudioFeatureExtractor, {"fft_overdrive": False, "mel_floor": 1e-3}),
        (transformers.Gemma4AudioFeatureExtractor, {"preemphasis": 0.9, "input_scale_factor": 0.5}),
        (
            transformers.Gemma4AudioFeatureExtractor,
            {"per_bin_mean": mean, "per_bin_stddev": deviation},
        ),
    ):
        stock = kind(**settings)
        assert_same(families.drop_in(stock)([NOISE]), stock([NOISE]))
