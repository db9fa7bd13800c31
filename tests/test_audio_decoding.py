"""Loading and probing files: values and formats. What becomes of broken files is in test_audio_whole."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import opening
from mmaupro_ext.errors import AudioError, ConfigError

RATE = 44100
# Two blocks of decoding and a piece of a third.
FRAMES = 2 * opening.BLOCK_FRAMES + 4321


def signal(frames: int = FRAMES, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (frames, channels))


def write(path: Path, x: np.ndarray | None = None, rate: int = RATE, **options) -> Path:
    soundfile.write(path, signal() if x is None else x, rate, **options)
    return path


# ---- Values


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_samples_of_a_wav_are_exact(core, tmp_path, subtype, channels):
    path = write(tmp_path / "a.wav", signal(1000, channels), subtype=subtype)
    exact, _ = soundfile.read(path, dtype="float64", always_2d=True)
    kept = audio.load(path, None, "keep")
    assert kept.shape == (channels, 1000)
    np.testing.assert_array_equal(kept, exact.T.astype(np.float32))
    mono = audio.load(path, None)
    if subtype == "DOUBLE":  # rounded to float32 before the mean
        exact = exact.astype(np.float32).astype(np.float64)
    # Rounded once: half a unit in the last place, of the sum before it is divided where it is small.
    np.testing.assert_allclose(mono, exact.mean(axis=1), rtol=2**-23, atol=2**-26)
    assert mono.dtype == np.float32


def test_the_mean_of_int16_stereo_loses_no_bit(core, tmp_path):
    frames = np.array([[-32768, -32768], [32767, 32766], [1, 0], [-1, 1]], np.int16)
    path = write(tmp_path / "a.wav", frames)
    np.testing.assert_array_equal(audio.load(path, None) * 65536, frames.sum(axis=1, dtype=int))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.flac", {}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.mp3", {}),
        ("a.ogg", {}),
        ("opus.ogg", {"subtype": "OPUS"}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.w64", {}),
        ("a.caf", {}),
        ("a.wav", {"format": "RF64"}),
        ("ulaw.wav", {"subtype": "ULAW"}),
    ],
)
@pytest.mark.parametrize("channels", ["mono", "keep"])
def test_every_format_equals_librosa_with_the_same_resampler(tmp_path, name, options, channels):
    """Soxr resamples either way; what is left is rounding of the mean before and after."""
    rate = 48000 if "opus" in name else RATE
    path = write(tmp_path / name, signal(70_000), rate, **options)
    expected, _ = librosa.load(path, sr=16000, mono=channels == "mono", res_type="soxr_hq")
    found = audio.load(path, channels=channels, resampler="soxr")
    assert found.shape == expected.shape
    # Two roundings of half a unit in the last place of 1 (6e-8) on each side, through a filter of gain 1.
    np.testing.assert_allclose(found, expected, atol=3e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", ["mono", "keep"])
def test_loading_block_by_block_equals_resampling_the_whole(core, tmp_path, rate, channels):
    path = write(tmp_path / "a.wav", rate=rate, subtype="PCM_16")
    whole = audio.load(path, None, channels)
    expected = audio.resample(whole, rate, 16000)
    np.testing.assert_array_equal(audio.load(path, 16000, channels), expected)
    assert expected.shape[-1] == -(-FRAMES * 16000 // rate)


@pytest.mark.parametrize("frames", [1, 2, opening.BLOCK_FRAMES - 1, opening.BLOCK_FRAMES])
def test_lengths_around_a_block(tmp_path, frames):
    path = write(tmp_path / "a.wav", signal(frames, 1))
    whole = audio.load(path, None)
    assert len(whole) == frames
    np.testing.assert_array_equal(audio.load(path), audio.resample(whole, RATE, 16000))


def test_files_are_read_where_the_system_has_no_pread_and_no_memfd(tmp_path, monkeypatch):
    names = [
        write(tmp_path / f"a.{end}") for end in ("wav", "flac", "ogg")
    ]  # MP3: both under glibc alone
    read = [audio.load(name) for name in names]
    monkeypatch.delattr(opening.os, "pread")
    monkeypatch.delattr(opening.os, "memfd_create", raising=False)
    for name, samples in zip(names, read, strict=True):
        np.testing.assert_array_equal(audio.load(name), samples)
        np.testing.assert_array_equal(audio.load(name.read_bytes()), samples)


def test_files_load_in_threads(core, tmp_path):
    paths = [write(tmp_path / f"{i}.flac", signal(20_000 + i)) for i in range(6)]
    alone = [audio.load(path) for path in paths]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(audio.load, paths))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_beyond_the_result_does_not_grow_with_the_file(tmp_path):
    """80 s of mono at 44.1 kHz are 14 MB; blocks and what the resampler holds are under 3 MiB."""
    path = write(tmp_path / "a.wav", signal(80 * RATE))
    audio.load(path)  # plans and imports
    tracemalloc.start()
    y = audio.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - y.nbytes <= 3 << 20


# ---- Probe


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_probe_tells_what_load_returns(tmp_path, name):
    path = write(tmp_path / name, signal(30_000))
    info = audio.probe(path)
    assert (info.path, info.sampling_rate, info.channels) == (str(path), RATE, 2)
    assert info.frames == audio.load(path, None).size == 30_000
    assert info.seconds == 30_000 / RATE
    assert info.format == Path(name).suffix[1:].upper()
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.frames = 1


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_decode_says_what_the_samples_came_from(tmp_path, name):
    path = write(tmp_path / name, signal(30_000))
    found = audio.decode(path)
    np.testing.assert_array_equal(found.samples, audio.load(path))
    assert found.info == audio.probe(path)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_apart_are_both_of_two_and_the_mean_of_others(tmp_path, channels):
    path = write(tmp_path / "a.wav", signal(1000, channels))
    expected = audio.load(path, channels="keep" if channels == 2 else "mono")
    np.testing.assert_array_equal(audio.load(path, channels="apart"), expected)
    joined = np.concatenate(list(audio.stream(path, channels="apart", block_s=0.01)), axis=-1)
    np.testing.assert_array_equal(joined, expected)


def test_a_file_is_opened_once(tmp_path, monkeypatch):
    paths = [write(tmp_path / name, signal(3000)) for name in ("a.wav", "a.flac", "a.mp3", "a.ogg")]
    opened = []

    def counted(name: str, *rest: object, **options: object) -> io.IOBase:
        opened.append(name)
        return io.FileIO(name)

    monkeypatch.setattr("builtins.open", counted)
    for path in paths:
        audio.decode(path)
    assert opened == [str(path) for path in paths]


# ---- Options


def test_unknown_options_are_refused(tmp_path):
    path = write(tmp_path / "a.wav", signal(10))
    with pytest.raises(ConfigError, match="mono, keep, apart"):
        audio.load(path, channels="stereo")
    with pytest.raises(ConfigError, match="native, soxr"):
        audio.load(path, resampler="sinc")
    with pytest.raises(AudioError, match="sampling_rate"):
        audio.load(path, 0)
