"""Streaming: the same bits as whole-array processing, whatever the blocks; bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import opening
from mmaupro_ext.errors import AudioError, ConfigError

RATE = 44100
FRAMES = 2 * opening.BLOCK_FRAMES + 4321


def write(path: Path, rate: int = RATE, frames: int = FRAMES, channels: int = 2, **options) -> Path:
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (frames, channels))
    soundfile.write(path, x, rate, **options)
    return path


# ---- Blocks of a file


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 44101, 48000])
@pytest.mark.parametrize("channels", ["mono", "keep"])
def test_joined_blocks_are_what_load_gives(core, tmp_path, rate, channels):
    path = write(tmp_path / "a.wav", rate)
    expected = audio.load(path, channels=channels)
    for block_s in (None, 0.1, 7.0, 1000.0):
        blocks = list(audio.stream(path, channels=channels, block_s=block_s))
        np.testing.assert_array_equal(np.concatenate(blocks, axis=-1), expected)
        if block_s is not None:
            samples = [block.shape[-1] for block in blocks]
            assert set(samples[:-1]) <= {round(16000 * block_s)}
            assert 1 <= samples[-1] <= round(16000 * block_s)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "float.wav"])
@pytest.mark.parametrize("resampler", ["native", "soxr"])
def test_every_decoder_and_resampler_streams_what_load_gives(tmp_path, name, resampler):
    path = write(tmp_path / name, **({"subtype": "FLOAT"} if name == "float.wav" else {}))
    blocks = list(audio.stream(path, block_s=1.0, resampler=resampler))
    expected = audio.load(path, resampler=resampler)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize("rate", [44100, 44101])
@pytest.mark.parametrize("resampler", ["native", "soxr"])
def test_load_equals_resampling_the_whole_with_either_resampler(tmp_path, rate, resampler):
    path = write(tmp_path / "a.wav", rate)
    whole = audio.load(path, None, "keep")
    expected = audio.resample(whole, rate, 16000, resampler=resampler)
    np.testing.assert_array_equal(audio.load(path, 16000, "keep", resampler=resampler), expected)


@pytest.mark.parametrize("frames", [1, 2, 160, opening.BLOCK_FRAMES, opening.BLOCK_FRAMES + 1])
def test_lengths_around_a_block(tmp_path, frames):
    path = write(tmp_path / "a.wav", frames=frames)
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(path))), audio.load(path))


def test_blocks_are_not_overwritten_by_later_ones(tmp_path):
    path = write(tmp_path / "a.wav", 16000)
    for block_s in (None, 1.0):
        stream = audio.stream(path, block_s=block_s)
        first = next(stream)
        copy = first.copy()
        for _ in stream:
            pass
        np.testing.assert_array_equal(first, copy)


def test_the_files_own_rate_is_kept(tmp_path):
    path = write(tmp_path / "a.wav")
    blocks = list(audio.stream(path, None, block_s=0.5))
    assert len(blocks[0]) == 22050
    np.testing.assert_array_equal(np.concatenate(blocks), audio.load(path, None))


def test_errors_come_as_early_as_they_can(tmp_path):
    with pytest.raises(AudioError, match="no such file"):
        audio.stream(tmp_path / "missing.wav")
    path = write(tmp_path / "a.wav")
    with pytest.raises(ConfigError, match="block_s"):
        audio.stream(path, block_s=0)
    with pytest.raises(ConfigError, match="channels"):
        audio.stream(path, channels="left")
    damaged = tmp_path / "cut.wav"
    damaged.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(AudioError, match=r"cut\.wav: is cut short"):
        next(audio.stream(damaged))


def test_damage_found_by_decoding_is_reported_after_the_blocks_before_it(tmp_path):
    path = write(tmp_path / "a.flac")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) * 9 // 10] ^= 0xFF
    path.write_bytes(damaged)
    stream = audio.stream(path)
    assert len(next(stream)) > 0
    with pytest.raises(AudioError, match=r"a\.flac: "):
        for _ in stream:
            pass


@pytest.mark.parametrize(
    ("rate", "channels", "resampler"),
    [(16000, 2, "native"), (44100, 2, "native"), (44100, 2, "soxr"), (48000, 8, "native")],
)
def test_memory_does_not_grow_with_the_file(tmp_path, rate, channels, resampler):
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.wav"
        if not path.exists():
            write(path, rate, seconds * rate, channels, subtype="PCM_16")
        tracemalloc.start()
        for _ in audio.stream(path, block_s=1.0, resampler=resampler):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # plans and imports
    short, long = peak(20), peak(60)
    # Blocks differ in length, by a batch of the resampler; 40 s more are 2.5 MB at 16 kHz alone.
    assert long - short < 1 << 18
    assert long < 6 << 20
