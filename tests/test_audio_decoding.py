"""Loading and probing files: values, formats, and every kind of broken file."""

from __future__ import annotations

import dataclasses
import os
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import decoding
from mmaupro_ext.errors import AudioError, ConfigError

RATE = 44100
# Two blocks of decoding and a piece of a third.
FRAMES = 2 * decoding.BLOCK_FRAMES + 4321


def signal(frames: int = FRAMES, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.9, 0.9, (frames, channels))


def write(path: Path, x: np.ndarray | None = None, rate: int = RATE, **options) -> Path:
    soundfile.write(path, signal() if x is None else x, rate, **options)
    return path


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    short = path.with_name(f"cut{path.suffix}")
    short.write_bytes(data[: int(len(data) * share)])
    return short


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
    np.testing.assert_allclose(found, expected, atol=3e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("channels", ["mono", "keep"])
def test_loading_block_by_block_equals_resampling_the_whole(core, tmp_path, rate, channels):
    path = write(tmp_path / "a.wav", rate=rate, subtype="PCM_16")
    whole = audio.load(path, None, channels)
    expected = audio.resample(whole, rate, 16000)
    np.testing.assert_array_equal(audio.load(path, 16000, channels), expected)
    assert expected.shape[-1] == -(-FRAMES * 16000 // rate)


@pytest.mark.parametrize("frames", [1, 2, decoding.BLOCK_FRAMES - 1, decoding.BLOCK_FRAMES])
def test_lengths_around_a_block(tmp_path, frames):
    path = write(tmp_path / "a.wav", signal(frames, 1))
    whole = audio.load(path, None)
    assert len(whole) == frames
    np.testing.assert_array_equal(audio.load(path), audio.resample(whole, RATE, 16000))


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


def test_an_mp3_goes_by_what_is_decoded(tmp_path):
    """Without its Info frame an MP3 does not say how long it is."""
    path = write(tmp_path / "a.mp3", signal(RATE, 1))
    data = path.read_bytes()
    second = data.index(data[:2], 4)
    bare = tmp_path / "bare.mp3"
    bare.write_bytes(data[second:])
    decoded, _ = soundfile.read(bare)
    assert len(audio.load(bare, None)) == len(decoded) > 0


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


# ---- Broken files


def error_of(path: str | os.PathLike) -> str:
    """Return the message of the AudioError that loading raises; it names the file and a fix."""
    with pytest.raises(AudioError) as caught:
        audio.load(path)
    assert caught.value.path == os.fspath(path)
    assert caught.value.fix
    return str(caught.value)


def test_files_that_are_not_there_or_not_files(tmp_path):
    assert "no such file" in error_of(tmp_path / "missing.wav")
    assert "directory" in error_of(tmp_path)
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nothing")
    assert "not a regular file" in error_of(tmp_path / "dangling.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a regular file" in error_of(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="not a path"):
        audio.load(7)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".ogg", ".m4a", ".raw", ""])
def test_files_that_are_no_audio(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"")
    assert "empty" in error_of(path)
    path.write_text("this is a text, not a sound\n" * 400)
    assert "ffmpeg" in error_of(path)
    with pytest.raises(AudioError):
        audio.probe(path)


def test_codecs_that_are_not_supported_get_the_conversion(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(struct.pack(">I", 24) + b"ftypM4A \0\0\0\0M4A mp42" + bytes(4000))
    assert "ffmpeg -i" in error_of(path)


def test_zero_frames(tmp_path):
    path = write(tmp_path / "a.wav", np.zeros((0, 2)))
    assert "holds no samples" in error_of(path)
    with pytest.raises(AudioError, match="no samples"):
        audio.probe(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"format": "RF64"}),
        ("a.wav", {"endian": "BIG"}),
        ("a.w64", {}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.au", {"endian": "LITTLE"}),
    ],
)
@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_a_cut_body_reports_both_counts(tmp_path, name, options, share):
    path = cut(write(tmp_path / name, signal(20_000), **options), share)
    present = soundfile.info(path).frames
    assert f"holds {present} of 20000 frames" in error_of(path)


@pytest.mark.parametrize("name", ["a.wav", "a.w64", "a.aiff", "a.au"])
@pytest.mark.parametrize("frames", [1, 7, 20_000])
def test_whole_files_are_not_taken_for_cut(tmp_path, name, frames):
    for channels in (1, 3):
        path = write(tmp_path / name, signal(frames, channels), subtype="PCM_24")
        assert audio.load(path, None).shape == (frames,)


def test_chunks_before_and_after_the_samples_are_skipped(tmp_path):
    data = write(tmp_path / "a.wav", signal(100, 1)).read_bytes()
    extra = b"LIST" + struct.pack("<I", 5) + b"abcde\0"
    path = tmp_path / "b.wav"
    path.write_bytes(data[:12] + extra + data[12:] + extra)
    assert audio.load(path, None).shape == (100,)
    path.write_bytes(data[:12] + extra + data[12:-50])
    assert "holds 75 of 100 frames" in error_of(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_from_a_pipe_has_no_length_to_compare_with(tmp_path, size):
    data = write(tmp_path / "a.wav", signal(100, 1)).read_bytes()
    place = data.index(b"data") + 4
    path = tmp_path / "piped.wav"
    path.write_bytes(data[:place] + struct.pack("<I", size) + data[place + 4 :])
    assert audio.load(path, None).shape == (100,)


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "opus.ogg", "a.caf"])
@pytest.mark.parametrize("share", [0.97, 0.5, 0.01])
def test_a_cut_compressed_file_is_refused(tmp_path, name, share):
    options = {"subtype": "OPUS"} if "opus" in name else {}
    rate = 48000 if options else RATE
    path = cut(write(tmp_path / name, signal(100_000), rate, **options), share)
    message = error_of(path)
    assert any(w in message for w in ("cut short", "cannot be decoded", "not audio"))


def test_damage_inside_a_flac_is_refused(tmp_path):
    path = write(tmp_path / "a.flac")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(data)
    assert "cannot be decoded" in error_of(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("frame", [0, decoding.BLOCK_FRAMES - 1, decoding.BLOCK_FRAMES, FRAMES - 1])
def test_bad_samples_in_a_float_file_are_placed(tmp_path, value, frame):
    x = signal()
    x[frame, 1] = value
    path = write(tmp_path / "a.wav", x, subtype="FLOAT")
    assert f"{value} at sample {frame} of channel 1" in error_of(path)


def test_a_double_beyond_float32_is_refused(tmp_path):
    path = write(tmp_path / "a.wav", np.array([0.0, 1e200]), subtype="DOUBLE")
    assert "at sample 1" in error_of(path)


def test_headers_cut_at_every_byte_raise_audio_errors_only(tmp_path):
    for name in ("a.wav", "a.w64", "a.aiff", "a.au", "a.ogg", "a.flac"):
        data = write(tmp_path / name, signal(400, 1)).read_bytes()
        path = tmp_path / f"cut-{name}"
        for n in range(1, min(len(data) - 2, 200)):
            path.write_bytes(data[:n])
            with pytest.raises(AudioError):
                audio.load(path)


def test_random_damage_raises_audio_errors_only(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.wav", "a.flac", "a.ogg", "a.aiff", "a.au"):
        data = write(tmp_path / name, signal(3000, 2)).read_bytes()
        path = tmp_path / f"bad-{name}"
        for _ in range(40):
            bad = bytearray(data)
            for place in rng.integers(0, min(len(data), 120), 3):
                bad[place] = rng.integers(256)
            path.write_bytes(bad)
            try:
                y = audio.load(path)
            except AudioError:
                continue
            assert np.isfinite(y).all()


# ---- Options


def test_unknown_options_are_refused(tmp_path):
    path = write(tmp_path / "a.wav", signal(10))
    with pytest.raises(ConfigError, match="mono, keep, apart"):
        audio.load(path, channels="stereo")
    with pytest.raises(ConfigError, match="native, soxr"):
        audio.load(path, resampler="sinc")
    with pytest.raises(AudioError, match="sampling_rate"):
        audio.load(path, 0)
