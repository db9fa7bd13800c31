"""File to features in one pass: the bits of load, windows and log_mel, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import files
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import log_mel, log_mel_windows

RATE = 16000


def write(path: Path, seconds: float, rate: int, channels: int = 1, **options) -> Path:
    """Noise whose level swings by 80 dB, so that the clamp of each window is another one."""
    n = round(seconds * rate)
    rng = np.random.default_rng(0)
    level = 10 ** (-2.2 * (1 - np.cos(2 * np.pi * np.arange(n) / rate / 7)))
    x = 0.2 * level[:, None] * rng.standard_normal((n, channels))
    soundfile.write(path, x, rate, **options)
    return path


def expected_features(path, n_mels, length_s, hop_s=None, pad=True):
    x = audio.load(path)
    return [
        log_mel(window, n_mels, pad_to=round(length_s * RATE) if pad else None)
        for window in audio.windows(x, RATE, length_s, hop_s)
    ]


def assert_same(found, expected):
    found = list(found)
    assert [f.shape for f in found] == [e.shape for e in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize(
    ("length_s", "hop_s"),
    [
        (5.0, None),
        (5.0, 8.0),  # gaps
        (5.0, 2.5),
        (5.0, 0.5),
        (5.0, 2.49),
        (5.0, 4.99),
        (5.0, 1.2345),  # not a whole number of frames: nothing is shared
        (0.5, 0.01),
        (0.02, 0.01),  # every frame touches an end
        (4.9999, 0.13),  # length no whole number of frames
        (60.0, 1.0),  # longer than the file
    ],
)
def test_windows_equal_load_windows_log_mel(core, tmp_path, length_s, hop_s, pad):
    path = write(tmp_path / "a.wav", 12.345, 44100, 2)
    expected = expected_features(path, 80, length_s, hop_s, pad)
    assert_same(log_mel_windows(path, 80, length_s, hop_s, pad), expected)


@pytest.mark.parametrize("block_frames", [1000, 4097, 50_000, 10_000_000])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_result_does_not_depend_on_the_blocks(tmp_path, monkeypatch, block_frames, rate):
    path = write(tmp_path / "a.flac", 12.345, rate, 2)
    expected = expected_features(path, 128, 4.0), expected_features(path, 128, 4.0, 1.0)
    monkeypatch.setattr(files, "BLOCK_FRAMES", block_frames)
    assert_same(log_mel_windows(path, 128, 4.0), expected[0])
    assert_same(log_mel_windows(path, 128, 4.0, 1.0), expected[1])


@pytest.mark.parametrize("sample", [0, 50, 200, 3 * RATE + 50, 4 * RATE - 50, 8 * RATE - 1])
def test_maximum_in_a_frame_at_an_end_counts(core, tmp_path, sample):
    """A click that one frame at an end of a window sees lifts the clamp of the whole window."""
    x = 1e-4 * np.random.default_rng(0).standard_normal(8 * RATE)
    x[sample] = 300.0  # 80 dB over the noise, and the noise well over the floor
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    expected = expected_features(tmp_path / "a.wav", 80, 4.0, 1.0)
    assert any(features.min() == features.max() - np.float32(2) for features in expected)
    assert_same(log_mel_windows(tmp_path / "a.wav", 80, 4.0, 1.0), expected)


def test_frames_inside_two_windows_are_computed_once(tmp_path, monkeypatch):
    from mmaupro_ext.native import logmel

    computed = []
    frames = logmel.frames

    def counted(plan, x, padded, first, last, out):
        computed.append(last - first)
        return frames(plan, x, padded, first, last, out)

    monkeypatch.setattr(logmel, "frames", counted)
    path = write(tmp_path / "a.wav", 20, RATE)
    windows = list(log_mel_windows(path, 80, 10.0, 1.0))
    assert len(windows) == 11
    # The first window's frames, then for each window those of a second, two at its start, and the
    # one that reached past the end of the window before.
    assert sum(computed) == 1000 + 10 * (100 + 2 + 1)


def test_windows_are_not_overwritten_by_later_ones(tmp_path):
    path = write(tmp_path / "a.wav", 20, RATE)
    for hop_s in (None, 1.0):
        windows = log_mel_windows(path, 80, 5.0, hop_s)
        first = next(windows)
        copy = first.copy()
        list(windows)
        np.testing.assert_array_equal(first, copy)


def test_silence_is_the_floor_everywhere(core, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(5 * RATE + 1), RATE)
    for window in log_mel_windows(tmp_path / "a.wav", 80, 2.0, 1.0):
        assert (window == -1.5).all()


def test_soxr_can_be_asked_for(tmp_path):
    path = write(tmp_path / "a.wav", 6, 44100)
    x = audio.load(path, resampler="soxr")
    expected = [log_mel(w, 80, pad_to=4 * RATE) for w in audio.windows(x, RATE, 4.0)]
    assert_same(log_mel_windows(path, 80, 4.0, resampler="soxr"), expected)


def test_bad_arguments_are_refused_at_the_call(tmp_path):
    path = write(tmp_path / "a.wav", 1, RATE)
    with pytest.raises(AudioError, match="no such file"):
        log_mel_windows(tmp_path / "missing.wav")
    for n_mels in (0, 128.0, True, [80]):
        with pytest.raises(ConfigError, match="n_mels"):
            log_mel_windows(path, n_mels)
    with pytest.raises(ConfigError, match="length_s"):
        log_mel_windows(path, length_s=0)
    with pytest.raises(AudioError, match="too short"):
        log_mel_windows(path, length_s=0.01)


@pytest.mark.parametrize("hop_s", [None, 0.25])
def test_samples_too_large_are_named_with_file_and_window(tmp_path, hop_s):
    x = np.zeros(3 * RATE, np.float32)
    x[40_000] = 3e25
    soundfile.write(tmp_path / "loud.wav", x, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"loud\.wav: in the window from .* s on, .*too large"):
        list(log_mel_windows(tmp_path / "loud.wav", 80, 1.0, hop_s))


def test_last_window_too_short_to_mirror_is_refused_without_padding(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * RATE + 200), RATE)
    with pytest.raises(AudioError, match=r"a\.wav: .*only 200 samples.*pad=True"):
        list(log_mel_windows(tmp_path / "a.wav", 80, 2.0, pad=False))


# ---- Memory

TEN_MINUTES = 600
MOST = 10 << 20


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "a.wav"
    noise = np.random.default_rng(0).integers(-9999, 9999, (10 * 44100, 2)).astype(np.int16)
    with soundfile.SoundFile(path, "w", 44100, 2, "PCM_16") as file:
        for _ in range(TEN_MINUTES // 10):
            file.write(noise)
    return path


@pytest.mark.parametrize("hop_s", [None, 10.0])
def test_arrays_of_ten_minutes_stay_within_the_bound(ten_minutes, hop_s):
    next(log_mel_windows(ten_minutes))  # plans and imports
    tracemalloc.start()
    for window in log_mel_windows(ten_minutes, 128, 30.0, hop_s):
        size = window.nbytes
        del window
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - size <= MOST


# What the arrays do not show: the decoder's memory and the allocator's. One clip to load everything
# first; the peak of the process is then reset, so that imports do not count.
MEASURE = """
import re, sys
from mmaupro_ext.features import log_mel_windows

short, long, hop_s = sys.argv[1], sys.argv[2], float(sys.argv[3]) or None

def status(field):
    return int(re.search(field + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) << 10

def run(path):
    size = 0
    for window in log_mel_windows(path, 128, 30.0, hop_s):
        size = window.nbytes
        del window
    return size

run(short)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
size = run(long)
print(status("VmHWM") - before - size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "soxr.wav"])
@pytest.mark.parametrize("hop_s", [0, 10.0])
def test_process_stays_within_the_bound_for_ten_minutes(ten_minutes, tmp_path, name, hop_s):
    """The process before has no window's buffers: a clip of a sample loads code and plans only."""
    short, long = tmp_path / f"short{name}", ten_minutes
    rate = 44101 if name == "soxr.wav" else 44100  # co-prime to 16000
    soundfile.write(short, np.zeros((1, 2)), rate)
    if name != "a.wav":
        long = ten_minutes.with_name(name)
        if not long.exists():
            with (
                soundfile.SoundFile(ten_minutes) as source,
                soundfile.SoundFile(long, "w", rate, 2) as file,
            ):
                for block in source.blocks(1 << 16):
                    file.write(block)
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, short, long, str(hop_s)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) <= MOST
