"""Stereo as two recordings, and windows shorter than the family's: nothing lost, nothing mixed up."""

import dataclasses

import numpy as np
import pytest
import soundfile

from mmaupro_ext.audio import AudioReader
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models import blocks, windows
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.windows import Recording


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global WhisperFeatureExtractor, loading, HFAudioLM
    from transformers import WhisperFeatureExtractor

    from mmaupro_ext.models.hf import loading
    from mmaupro_ext.models.hf.model import HFAudioLM


QWEN = FAMILIES["qwen2_audio"].writing
LOADING = FAMILIES["qwen2_audio"].loading
BLOCK = "<|audio_bos|><|AUDIO|><|audio_eos|>"
RATE = 16_000


def placed(prompt, recordings, writing=QWEN):
    """The prompt with its blocks written."""
    return windows.write(blocks.split_at_places(prompt, writing), recordings, writing)


@pytest.fixture
def stereo_file(tmp_path):
    """A file whose left channel is a tone and whose right channel is noise."""
    left = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    right = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    return str(path)


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def build(**arguments):
        return HFAudioLM("tiny-random", device="cpu", batch_size=1, **arguments)

    return build


def recording(blocks, tracks):
    edges = [30 * RATE * block for block in range(blocks + 1)]
    return Recording(edges[-1], RATE, tracks, tuple(zip(edges[:-1], edges[1:], strict=True)))


def test_left_and_right_are_told_apart_in_the_prompt():
    written = placed("<audio>\nWhere?", [recording(1, tracks=2)])
    assert written == (
        f"Audio 1: {BLOCK}\nAudio 2: {BLOCK}\n"
        "The recording is stereo, left channel Audio 1 and right channel Audio 2.\nWhere?"
    )


def test_a_long_stereo_clip_beside_a_mono_clip_keeps_its_channels_together():
    clips = [recording(2, tracks=2), recording(1, tracks=1)]
    written = placed("<audio><audio>\nWhich?", clips)
    assert written.count(BLOCK) == 5
    assert written.endswith(
        "Recording 1 is stereo, left channel Audio 1 to Audio 2 and right channel Audio 3 to "
        "Audio 4, consecutive 30-second parts; recording 2 is Audio 5.\nWhich?"
    )


def test_channels_do_not_change_places(stereo_file):
    reader = AudioReader(RATE, "native", 2**20, channels="apart")
    left, right = reader.read(stereo_file).tracks
    wanted, _ = soundfile.read(stereo_file, dtype="float32")
    np.testing.assert_array_equal(left, wanted[:, 0])
    np.testing.assert_array_equal(right, wanted[:, 1])
    assert reader.stated_seconds([stereo_file]) == pytest.approx(4.0)


@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_channels_are_still_mixed(tmp_path, count):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (RATE, count)), RATE)
    reader = AudioReader(RATE, "native", 2**20, channels="apart")
    (track,) = reader.read(str(path)).tracks
    mixed = AudioReader(RATE, "native", 2**20).read(str(path)).samples
    np.testing.assert_array_equal(track, mixed)


def test_the_model_hears_both_channels_and_counts_the_seconds_once(make, stereo_file):
    question = Question("<audio>\nWhere?", {"audio": [stereo_file]})
    mixed, apart = make(), make(channels="stereo-as-two")
    assert mixed.prepare(question).blocks == [1]
    prompt = apart.prepare(question)
    assert prompt.blocks == [2]
    first, second = prompt.tensors["input_features"]
    assert (first - second).abs().max() > 0.1
    assert "left channel Audio 1 and right channel Audio 2" in prompt.text
    apart.heard.add(prompt.heard)
    assert apart.heard.as_dict()["seconds_heard"] == 2.0
    assert apart.heard.as_dict()["windows"] == 2
    assert apart.heard.as_dict()["mixed_down_clips"] == 0
    mixed.heard.add(mixed.prepare(question).heard)
    assert mixed.heard.as_dict()["mixed_down_clips"] == 1
    assert apart.get_model_info()["channels"] == "stereo-as-two"


def test_an_unknown_word_for_channels_is_refused(make):
    with pytest.raises(ConfigError, match="channels='left' is unknown"):
        make(channels="left")


def test_a_checkpoint_says_how_it_takes_stereo_and_the_user_overrules():
    @dataclasses.dataclass
    class Config:
        mmaupro_channels: str = "stereo-as-two"

    assert loading.channels_for("auto", Config()) == "stereo-as-two"
    assert loading.channels_for("mono", Config()) == "mono"
    assert loading.channels_for("auto", object()) == "mono"


def test_a_short_window_of_the_extractor_is_not_overrun():
    short = WhisperFeatureExtractor(chunk_length=4)
    assert loading.fit_window(QWEN, LOADING, short).window_s == 4.0
    assert (
        loading.fit_window(QWEN, LOADING, WhisperFeatureExtractor(chunk_length=60)).window_s == 30.0
    )
    assert loading.fit_window(QWEN, LOADING, object()).window_s == 30.0
