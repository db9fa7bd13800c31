"""Resampling to 16 kHz against soxr, librosa and scipy, and whole files against librosa.load.

Seconds of audio per work are in its name. All candidates get what they like best: float32,
contiguous, soxr interleaved and librosa channels first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TARGET = 16000
OURS = "mmaupro_ext"

WORKS = [
    pytest.param(44100, 1, 30, id="44.1k-mono-30s"),
    pytest.param(44100, 2, 30, id="44.1k-stereo-30s"),
    pytest.param(48000, 1, 30, id="48k-mono-30s"),
    pytest.param(48000, 2, 30, id="48k-stereo-30s"),
    pytest.param(22050, 1, 30, id="22.05k-mono-30s"),
    pytest.param(44100, 1, 600, id="44.1k-mono-600s"),
    pytest.param(44100, 2, 600, id="44.1k-stereo-600s"),
]


def noise(rate: int, channels: int, seconds: int) -> np.ndarray:
    """Return low-passed noise of shape (channels, n)."""
    x = np.random.default_rng(0).standard_normal((channels, rate * seconds)).astype(np.float32)
    return 0.1 * (x + np.roll(x, 1, axis=1))


def ours(x: np.ndarray, rate: int) -> Callable[[], Any]:
    from mmaupro_ext import audio

    return lambda: audio.resample(x, rate, TARGET)


def numba_twin(x: np.ndarray, rate: int) -> Callable[[], Any]:
    from mmaupro_ext import native
    from mmaupro_ext.native import kernels, twin_resample
    from mmaupro_ext.native.resample_plan import resample_plan

    plan = resample_plan(rate, TARGET)
    twin = twin_resample.resample_plan(plan)
    n_out = native.output_length(x.shape[1], rate, TARGET)
    pairs = kernels.pairs_of(plan, n_out)

    def run() -> np.ndarray:
        y = np.empty((len(x), n_out), np.float32)
        for channel, out in zip(x, y, strict=True):
            twin_resample.blocks(twin, 0, channel, 0, out, n_out, 0, pairs, None)
        return y

    run()  # compile
    return run


def soxr_hq(x: np.ndarray, rate: int) -> Callable[[], Any]:
    import soxr

    frames = np.ascontiguousarray(x.T) if len(x) > 1 else x[0]
    return lambda: soxr.resample(frames, rate, TARGET, quality="HQ")


def librosa_soxr_hq(x: np.ndarray, rate: int) -> Callable[[], Any]:
    import librosa

    return lambda: librosa.resample(x, orig_sr=rate, target_sr=TARGET)


def scipy_resample_poly(x: np.ndarray, rate: int) -> Callable[[], Any]:
    """Take scipy's short default filter: -6 dB of alias at the edge against our -135."""
    from scipy import signal

    common = np.gcd(rate, TARGET)
    return lambda: signal.resample_poly(x, TARGET // common, rate // common, axis=-1)


CANDIDATES = {
    OURS: ours,
    f"{OURS} (Numba twin)": numba_twin,
    "soxr HQ": soxr_hq,
    "librosa soxr_hq": librosa_soxr_hq,
    "scipy resample_poly (short filter)": scipy_resample_poly,
}


@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize(("rate", "channels", "seconds"), WORKS)
def test_resample(race, rate, channels, seconds, candidate):
    x = noise(rate, channels, seconds)
    layout = "stereo" if channels == 2 else "mono"
    work = f"resample {rate / 1000:g}k -> 16k {layout}, {seconds} s"
    y = np.asarray(race(work, candidate, lambda: CANDIDATES[candidate](x, rate)))
    assert max(y.shape) == -(-rate * seconds * TARGET // rate)


FILES = [
    ("44.1k stereo WAV16", "a.wav", 44100, 2, {}),
    ("44.1k stereo FLAC", "a.flac", 44100, 2, {}),
    ("44.1k stereo MP3", "a.mp3", 44100, 2, {}),
    ("44.1k stereo OGG", "a.ogg", 44100, 2, {}),
    ("48k mono WAV16", "m.wav", 48000, 1, {}),
    ("16k mono WAV16", "k.wav", 16000, 1, {}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def written(folder: Path, name: str, rate: int, channels: int, seconds: int, options: dict) -> Path:
    import soundfile

    path = folder / f"{seconds}-{name}"
    if not path.exists():
        x = noise(rate, channels, seconds).T
        with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
            # libvorbis overflows the stack when it is given minutes at once
            for start in range(0, len(x), 1 << 16):
                file.write(x[start : start + (1 << 16)])
    return path


def load_ours(path: Path) -> Callable[[], Any]:
    from mmaupro_ext import audio

    return lambda: audio.load(path)


def load_librosa(path: Path) -> Callable[[], Any]:
    import librosa

    return lambda: librosa.load(path, sr=TARGET)[0]


def load_asrfront(path: Path) -> Callable[[], Any]:
    import asrfront

    return lambda: asrfront.load(str(path))


def decode_only(path: Path) -> Callable[[], Any]:
    """Return the time that no frontend on libsndfile can beat."""
    import soundfile

    dtype = "int16" if path.suffix in (".wav", ".flac") else "float32"
    return lambda: soundfile.read(path, dtype=dtype)[0]


LOADERS = {
    OURS: load_ours,
    "librosa.load": load_librosa,
    "asrfront.load": load_asrfront,
    "soundfile.read alone": decode_only,
}


# What a loader does not decode.
CANNOT_LOAD = {("asrfront.load", ".ogg")}


@pytest.mark.parametrize("candidate", LOADERS)
@pytest.mark.parametrize("seconds", [30, 600])
@pytest.mark.parametrize(
    ("label", "name", "rate", "channels", "options"),
    FILES,
    ids=[f[0].replace(" ", "-") for f in FILES],
)
def test_load(race, folder, label, name, rate, channels, options, seconds, candidate):
    if (candidate, Path(name).suffix) in CANNOT_LOAD:
        pytest.skip(f"{candidate} does not decode {Path(name).suffix}")
    path = written(folder, name, rate, channels, seconds, options)
    work = f"load {label}, {seconds} s -> 16k mono"
    y = np.asarray(race(work, candidate, lambda: LOADERS[candidate](path)))
    if candidate != "soundfile.read alone":
        assert abs(y.shape[-1] - seconds * TARGET) <= 2000  # rivals may cut or keep MP3 padding
