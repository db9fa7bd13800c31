"""native_extractor returns what the stock WhisperFeatureExtractor returns."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from feature_cases import RATE, assert_same, noise

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import native_extractor

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

# Both sides round in float32: each is within 5e-5 of the exact value on the worst of the signals
# here (docs/frontend.md derives the figure), and noise within 1e-5.
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def one_torch_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def speech_like(n: int) -> np.ndarray:
    t = np.arange(n) / RATE
    voice = sum(np.sin(2 * np.pi * k * (120 * t + 3 * np.sin(2 * t))) / k for k in range(1, 30))
    loudness = np.clip(np.sin(2 * np.pi * 1.7 * t), 0, 1)
    return (0.1 * voice * loudness + noise(n, scale=1e-3)).astype(np.float32)


SMALL = {"chunk_length": 2}  # seconds; the stock extractor is slow at 30


def whisper(**settings) -> WhisperFeatureExtractor:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(**{**SMALL, **settings})


@pytest.fixture(scope="module")
def stock() -> WhisperFeatureExtractor:
    return whisper(feature_size=128)


@functools.cache
def stock_of_thirty_seconds(n_mels: int) -> WhisperFeatureExtractor:
    return whisper(feature_size=n_mels, chunk_length=30)


@functools.cache
def stock_features(n_mels: int, name: str):
    return stock_of_thirty_seconds(n_mels)(thirty_seconds()[name], **CALL)


@functools.cache
def thirty_seconds() -> dict[str, np.ndarray]:
    return {
        "noise": noise(480_000),
        "speech-like": speech_like(480_000),
        "silence": np.zeros(480_000, np.float32),
        "quiet": noise(480_000, scale=1e-4),
        "short": noise(3_000),
        "empty": np.zeros(0, np.float32),
    }


CALL = {"sampling_rate": RATE, "return_attention_mask": True, "return_tensors": "np"}


@pytest.mark.parametrize("n_mels", [80, 128])
def test_thirty_second_features_equal_stock(core, n_mels):
    native = native_extractor(stock_of_thirty_seconds(n_mels))
    for name, x in thirty_seconds().items():
        ours = native(x, **CALL)
        assert ours["input_features"].shape == (1, n_mels, 3000)
        assert_same(ours, stock_features(n_mels, name), TOLERANCE)


BATCH = [noise(20_000, 1), noise(31_999, 2, 1e-3), noise(5_000, 3), noise(40_001, 4)]
SHORT_BATCH = [x[:9_000] for x in BATCH]
EQUAL_BATCH = [x[:4_567] for x in BATCH]


@pytest.mark.parametrize(
    ("batch", "options"),
    [
        (BATCH, {}),
        (BATCH, {"padding": "max_length", "max_length": 25_000}),
        (BATCH, {"padding": True, "truncation": False}),
        (BATCH, {"padding": "longest"}),
        (BATCH, {"padding": "longest", "max_length": 10_001}),
        (SHORT_BATCH, {"padding": "max_length", "truncation": False}),
        (EQUAL_BATCH, {"padding": False}),
        (EQUAL_BATCH, {"padding": "do_not_pad", "truncation": False, "max_length": 100}),
        (BATCH[0], {}),
        (BATCH[3], {"padding": "longest", "truncation": False}),
        (BATCH[2], {"padding": False, "max_length": 1_000}),
    ],
)
def test_padding_truncation_and_masks_equal_stock(stock, batch, options):
    native = native_extractor(stock)
    for return_tensors in (None, "np", "pt"):
        for return_attention_mask in (None, False, True):
            for pad_to_multiple_of in (None, 1_000, 3_333):
                call = {
                    "sampling_rate": RATE,
                    "return_tensors": return_tensors,
                    "return_attention_mask": return_attention_mask,
                    "pad_to_multiple_of": pad_to_multiple_of,
                    **options,
                }
                assert_same(native(batch, **call), stock(batch, **call), TOLERANCE)


def test_arguments_may_be_given_in_their_order(stock):
    call = (BATCH, False, 1_000, "np", True, "longest", None, RATE)
    assert_same(native_extractor(stock)(*call), stock(*call), TOLERANCE)
    with pytest.raises(TypeError, match="raw_speech"):
        native_extractor(stock)()


@pytest.mark.parametrize("argument", [None, False, True])
@pytest.mark.parametrize("do_normalize", [None, False])
def test_configured_mask_follows_the_stock_rule(argument, do_normalize):
    stock = whisper(feature_size=80, return_attention_mask=True)
    call = {
        "sampling_rate": RATE,
        "return_attention_mask": argument,
        "do_normalize": do_normalize,
        "padding": "longest",
    }
    assert_same(native_extractor(stock)(BATCH, **call), stock(BATCH, **call), TOLERANCE)


def test_normalising_the_samples_is_refused_with_the_way_out(stock):
    with pytest.raises(ConfigError, match="do_normalize=True .*frontend=stock"):
        native_extractor(stock)(BATCH, sampling_rate=RATE, do_normalize=True)


@pytest.mark.parametrize(
    "form",
    [
        lambda: BATCH[2].tolist(),
        lambda: tuple(BATCH[2].tolist()),
        lambda: [x.tolist() for x in EQUAL_BATCH],
        lambda: tuple(EQUAL_BATCH),
        lambda: np.stack(EQUAL_BATCH),
        lambda: np.stack(EQUAL_BATCH).astype(np.float64),
        lambda: np.asfortranarray(np.stack(EQUAL_BATCH)),
        lambda: BATCH[2].astype(np.float64),
        lambda: BATCH[2][::3],
        lambda: (BATCH[2] * 32768).astype(np.int16),
        lambda: [(x * 32768).astype(np.int16) for x in EQUAL_BATCH],
        lambda: [0, 1, 0, -1] * 300,
        lambda: __import__("torch").from_numpy(BATCH[2]),
    ],
    ids=[
        "list", "tuple", "lists", "tuple of arrays", "2-D", "2-D float64", "2-D Fortran", "float64",
        "strided", "int16", "int16 batch", "list of ints", "tensor",
    ],
)  # fmt: skip
def test_every_form_of_input_equals_stock(stock, form):
    call = {"sampling_rate": RATE, "return_tensors": "np"}
    assert_same(native_extractor(stock)(form(), **call), stock(form(), **call), TOLERANCE)


def test_each_audio_of_a_batch_is_limited_by_its_own_maximum(stock):
    loud, quiet = noise(8_000, 1, 0.5), noise(8_000, 2, 1e-5)
    native = native_extractor(stock)
    together = native([loud, quiet], sampling_rate=RATE).input_features
    np.testing.assert_array_equal(together[1], native(quiet, sampling_rate=RATE).input_features[0])
    # The quiet one lies 94 dB lower, which is 2.3 in a feature.
    assert together[1].max() < together[0].max() - 2


def test_device_and_unknown_arguments_are_ignored_as_in_stock(stock):
    native = native_extractor(stock)
    plain = native(BATCH[0], sampling_rate=RATE).input_features
    told = native(BATCH[0], sampling_rate=RATE, device="cpu", text="x").input_features
    np.testing.assert_array_equal(told, plain)


def test_changed_filter_bank_is_used(stock):
    stock = copy.deepcopy(stock)
    stock.mel_filters = stock.mel_filters * 2
    call = {"sampling_rate": RATE, "return_tensors": "np"}
    assert_same(native_extractor(stock)(BATCH, **call), stock(BATCH, **call), TOLERANCE)


def test_drop_in_is_an_instance_with_the_same_attributes(stock):
    from transformers import WhisperFeatureExtractor

    native = native_extractor(stock)
    assert isinstance(native, WhisperFeatureExtractor)
    assert type(native).__name__ == "WhisperFeatureExtractor"
    assert native.to_dict() == stock.to_dict()
    assert repr(native) == repr(stock)
    assert native.model_input_names == stock.model_input_names
    assert native_extractor(native) is native


def test_names_and_defaults_of_arguments_are_the_stock_ones(stock):
    """They are read by code that serves the stock class, such as vLLM's for Gemma 3n."""
    native = native_extractor(stock)
    assert inspect.signature(type(native).__call__) == inspect.signature(type(stock).__call__)


def test_stock_object_is_left_alone(stock):
    kind = type(stock)
    before = dict(stock.__dict__)
    native = native_extractor(stock)
    native.chunk_length = 99
    assert type(stock) is kind
    assert stock.__dict__ == before


def test_saving_and_loading_gives_the_stock_class_back(stock, tmp_path):
    from transformers import AutoFeatureExtractor

    native_extractor(stock).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is type(stock)
    assert loaded.to_dict() == stock.to_dict()


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_and_pickles_stay_native(stock, duplicate):
    native = native_extractor(stock)
    again = duplicate(native)
    assert again.to_dict() == native.to_dict()
    np.testing.assert_array_equal(
        again(BATCH, sampling_rate=RATE).input_features,
        native(BATCH, sampling_rate=RATE).input_features,
    )
    assert native_extractor(again) is again


@pytest.mark.parametrize(
    "config",
    [
        {"n_fft": 512},
        {"hop_length": 320},
        {"sampling_rate": 8000},
        {"dither": 1e-4},
        {"padding_value": 0.25},
        {"padding_side": "left"},
    ],
)
def test_setting_that_the_kernel_lacks_is_refused_with_the_way_out(config):
    stock = whisper(**config)
    (name,) = config
    with pytest.raises(ConfigError, match=f"{name}=.*frontend=stock"):
        native_extractor(stock)


def test_setting_changed_after_the_exchange_is_refused(stock):
    native = native_extractor(stock)
    native.dither = 1e-3
    with pytest.raises(ConfigError, match="dither=0.001.*frontend=stock"):
        native(BATCH[0], sampling_rate=RATE)


def test_bank_that_the_kernel_lacks_is_refused_with_the_way_out(stock):
    stock = copy.deepcopy(stock)
    stock.mel_filters = np.ones_like(stock.mel_filters)
    with pytest.raises(ConfigError, match="mel_filters.*triangles.*frontend=stock"):
        native_extractor(stock)


def louder():
    from transformers import WhisperFeatureExtractor

    class Louder(WhisperFeatureExtractor):
        def _torch_extract_fbank_features(self, waveform, device="cpu"):
            return super()._torch_extract_fbank_features(waveform * 2, device)

    return Louder()


def class_itself():
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor


@pytest.mark.parametrize("make", [louder, object, lambda: None, class_itself])
def test_other_class_is_refused_by_name_with_the_way_out(make):
    stock = make()
    with pytest.raises(ConfigError, match=rf"{type(stock).__name__}.*frontend=stock"):
        native_extractor(stock)


def test_subclass_that_changes_no_method_is_accepted(stock):
    class Renamed(type(stock)):
        def __init__(self, **settings):
            super().__init__(**settings)

    native = native_extractor(Renamed(feature_size=80, **SMALL))
    assert isinstance(native, Renamed)
    assert native(BATCH, sampling_rate=RATE).input_features.shape == (4, 80, 200)


def test_other_sampling_rate_is_refused_with_the_way_to_convert(stock):
    with pytest.raises(AudioError, match=r"audio\.resample\(x, 44100, 16000\)"):
        native_extractor(stock)(BATCH[0], sampling_rate=44_100)


def test_missing_sampling_rate_warns(stock, caplog):
    native_extractor(stock)(BATCH[0])
    assert "without sampling_rate" in caplog.text


def test_bad_sample_is_named_with_its_audio(stock):
    bad = BATCH[1].copy()
    bad[777] = np.nan
    native = native_extractor(stock)
    with pytest.raises(AudioError, match="audio 2 of 3 in this call: .* at sample 777\\b"):
        native([BATCH[0], bad, BATCH[2]], sampling_rate=RATE)
    with pytest.raises(AudioError, match="at sample 777\\b"):
        native(bad, sampling_rate=RATE)


@pytest.mark.parametrize(
    ("raw_speech", "message"),
    [
        ([], "no audio"),
        ([np.zeros((2, 16_000))], r"shape \(2, 16000\)"),
        ([noise(500), np.zeros((500, 2))], r"audio 2 of 2 .* shape \(500, 2\)"),
        (np.zeros((1, 2, 500)), r"shape \(2, 500\)"),
        (np.zeros(500, complex), "complex128"),
        (0.5, "shape"),
    ],
)
def test_input_that_is_not_mono_audio_is_refused(stock, raw_speech, message):
    with pytest.raises(AudioError, match=message):
        native_extractor(stock)(raw_speech, sampling_rate=RATE)


def test_audios_of_different_lengths_without_padding_are_refused(stock):
    with pytest.raises(AudioError, match="different lengths .* padding='longest'"):
        native_extractor(stock)(BATCH, sampling_rate=RATE, padding=False, truncation=False)


def test_audio_too_short_to_mirror_is_refused(stock):
    with pytest.raises(AudioError, match="200 samples are too few"):
        native_extractor(stock)(np.zeros(200), sampling_rate=RATE, padding=False)


def test_importing_the_room_imports_no_framework():
    code = "import sys, mmaupro_ext.features; print([n for n in HEAVY if n in sys.modules])"
    heavy = ("torch", "transformers", "numba", "scipy", "librosa")
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {heavy}; {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]"
