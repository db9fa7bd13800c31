"""From the file to model-ready features: against librosa and transformers, against decoding alone, on two
threads, and in how much memory.

Run: ``pytest benchmarks/test_pipeline.py`` (two minutes). "Features" are Whisper's, 128 bands, in windows of
30 s. The ratio of "soundfile, decoding alone" is at most 1: 0.9 means that all the rest adds a ninth to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.features import log_mel

OURS = "mmaupro_ext"
TARGET, N_MELS, WINDOW_S = 16000, 128, 30
MINUTES = 10
SUFFIXES = {"WAV16": ".wav", "FLAC": ".flac", "MP3": ".mp3", "OGG": ".ogg"}


def write(path: Path, rate: int, channels: int, seconds: float, seed: int = 0) -> Path:
    """Write ten seconds of gliding chords in low-passed noise, again and again."""
    rng = np.random.default_rng(seed)
    t = np.arange(min(round(seconds * rate), 10 * rate)) / rate
    chord = sum(np.sin(2 * np.pi * f * t + 5 * np.sin(0.3 * t)) for f in (220, 330, 550))
    noise = rng.standard_normal((len(t), channels))
    noise = noise + np.roll(noise, 1, axis=0) + np.roll(noise, 2, axis=0)
    clip = (0.1 * chord[:, None] + 0.02 * noise).astype(np.float32)
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for first in range(0, round(seconds * rate), rate):
            # A second at a time: libvorbis overflows the stack when it is given minutes.
            file.write(clip[first % len(clip) :][: min(rate, round(seconds * rate) - first)])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def long_file(folder: Path) -> Callable[[str, int, int], Path]:
    def made(kind: str, rate: int, channels: int) -> Path:
        path = folder / f"{rate}-{channels}{SUFFIXES[kind]}"
        return path if path.exists() else write(path, rate, channels, 60 * MINUTES)

    return made


# ---- Ten minutes, file to features


Windows = Callable[[], Iterator[np.ndarray]]


def of_ours(path: Path) -> Windows:
    def windows() -> Iterator[np.ndarray]:
        for window in audio.windows(audio.load(path), TARGET, WINDOW_S):
            yield log_mel(window, N_MELS, pad_to=WINDOW_S * TARGET)

    return windows


def of_librosa_and_transformers(path: Path) -> Windows:
    import librosa
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=N_MELS)
    length = WINDOW_S * TARGET

    def windows() -> Iterator[np.ndarray]:
        x = librosa.load(path, sr=TARGET)[0]
        for first in range(0, len(x), length):
            window = x[first : first + length]
            yield extractor(window, sampling_rate=TARGET, return_tensors="np").input_features[0]

    return windows


@pytest.mark.parametrize("candidate", [OURS, "librosa.load + WhisperFeatureExtractor"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (TARGET, 1)], ids=["44.1k-2", "16k-1"])
def test_file_to_features(race, long_file, rate, channels, candidate):
    """Each window is let go when the next one comes, as a model that has heard it does."""
    path = long_file("WAV16", rate, channels)
    work = f"{rate / 1000:g}k x {channels} WAV16 -> features, {MINUTES} min"

    ours = of_ours(path)
    windows = ours if candidate == OURS else of_librosa_and_transformers(path)
    race(work, candidate, lambda: lambda: deque(windows(), maxlen=0))
    # Two resamplers with one pass band differ in the transition band: in the highest mel bands.
    bound = 2e-4 if rate == TARGET else 0.1
    for theirs, expected in zip(windows(), ours(), strict=True):
        assert np.abs(theirs - expected).max() < bound


@pytest.mark.parametrize("candidate", [OURS, "soundfile, decoding alone"])
@pytest.mark.parametrize("kind", ["FLAC", "MP3", "OGG"])
def test_against_decoding_alone(race, long_file, kind, candidate):
    path = long_file(kind, 44100, 2)
    dtype = "int16" if kind == "FLAC" else "float32"  # the faster one

    def decoded() -> int:
        with soundfile.SoundFile(path) as file:
            block = np.empty((1 << 17, 2), dtype)
            return sum(iter(lambda: len(file.read(out=block)), 0))

    def features() -> int:
        return len(deque(of_ours(path)(), maxlen=1)) and 1

    function = features if candidate == OURS else decoded
    value = race(f"44.1k x 2 {kind} -> features, {MINUTES} min", candidate, lambda: function)
    assert value == 1 if candidate == OURS else abs(value - 60 * MINUTES * 44100) < 3000


# ---- Two threads

KINDS = [("WAV16", 44100, 2), ("FLAC", 44100, 2), ("MP3", 44100, 2), ("OGG", 44100, 2)]
KINDS += [("WAV16", TARGET, 1), ("FLAC", TARGET, 1), ("WAV16", 48000, 1), ("MP3", 48000, 2)]
FILES = 200


@pytest.fixture(scope="module")
def many_files(folder: Path) -> list[Path]:
    """Two hundred files of 3 to 15 s, of eight kinds in turn."""
    seconds = np.random.default_rng(1).uniform(3, 15, FILES)
    paths = []
    for number, length in enumerate(seconds):
        kind, rate, channels = KINDS[number % len(KINDS)]
        path = folder / f"item{number}{SUFFIXES[kind]}"
        paths.append(write(path, rate, channels, length, seed=number))
    return paths


def features_of(path: Path) -> tuple[int, ...]:
    return log_mel(audio.load(path), N_MELS).shape


@pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: (0, 1))(0)) < 2,
    reason="this process may use one processor only",
)
@pytest.mark.parametrize("candidate", [OURS, "one thread"])
@pytest.mark.parametrize("kinds", ["mixed", "WAV only"])
def test_many_files_on_two_threads(race, many_files, kinds, candidate):
    """The ratio is what the second thread gains. The pool is made beforehand, as in a long run."""
    paths = [path for path in many_files if kinds == "mixed" or path.suffix == ".wav"]
    with ThreadPoolExecutor(2 if candidate == OURS else 1) as pool:
        shapes = race(
            f"{len(paths)} files ({kinds}) -> features, two threads",
            candidate,
            lambda: lambda: list(pool.map(features_of, paths)),
        )
    assert len(shapes) == len(paths)


# ---- Memory

IN_A_NEW_PROCESS = """
import sys
from collections import deque
from pathlib import Path
import numpy as np
import soundfile
from mmaupro_ext import audio
from mmaupro_ext.features import log_mel

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return 1024 * int(line.split()[1])

how, path, warm = sys.argv[1:]
run = {
    "stream": lambda p: sum(deque((block.nbytes for block in audio.stream(p)), maxlen=1)),
    "load": lambda p: audio.load(p).nbytes,
    "load + log_mel": lambda p: (lambda x: x.nbytes + log_mel(x).nbytes)(audio.load(p)),
}[how]
run(warm)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # VmHWM starts again
before = status("VmRSS")
kept = run(path)
print(status("VmHWM") - before - kept)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.parametrize("minutes", [1, 10, 60], ids="{} min".format)
@pytest.mark.parametrize(
    ("kind", "rate", "channels"), [("WAV16", 44100, 2), ("FLAC", 44100, 2), ("WAV16", TARGET, 1)]
)
@pytest.mark.parametrize("how", ["stream", "load", "load + log_mel"])
def test_peak_memory_beyond_the_result(note, folder, how, kind, rate, channels, minutes):
    """Growth of the process beyond what the caller gets: one block, the samples, samples and features."""
    path, warm = (folder / f"{n}-{rate}-{channels}{SUFFIXES[kind]}" for n in (minutes, "warm"))
    for name, seconds in ((path, 60 * minutes), (warm, 0.1)):
        if not name.exists():
            write(name, rate, channels, seconds)
    arguments = [sys.executable, "-c", IN_A_NEW_PROCESS, how, str(path), str(warm)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    grown = int(done.stdout) / 2**20
    note(
        f"peak memory beyond the result, {how}",
        f"{rate / 1000:g}k x {channels} {kind}, {minutes} min",
        f"{grown:.1f} MiB",
    )
    assert grown > 0
