"""Measure when the cache of decoded audio pays: time of a clip decoded, found, and put in.

Run: ``python benchmarks/measure_cache.py [SECONDS]`` (some minutes; leave the machine alone). Prints
the table of docs/frontend.md, section "Cache": milliseconds of one thread for a clip of 60 s,
median of rounds in which all ways take turns. Files and entries are in the system's page cache.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import cache as cache_module
from mmaupro_ext.audio import decoding

CLIP_S = 60
ROUNDS = 15
KINDS: dict[
    str, tuple[int, int, str, dict[str, Any]]
] = {  # name: rate in Hz, channels, suffix, options
    "WAV16, 16 kHz mono": (16000, 1, ".wav", {}),
    "FLAC, 16 kHz mono": (16000, 1, ".flac", {}),
    "WAV16, 44.1 kHz stereo": (44100, 2, ".wav", {}),
    "FLAC, 44.1 kHz stereo": (44100, 2, ".flac", {}),
    "MP3, 44.1 kHz stereo": (44100, 2, ".mp3", {}),
    "OGG Vorbis, 44.1 kHz stereo": (44100, 2, ".ogg", {}),
    "OGG Opus, 48 kHz stereo": (48000, 2, ".ogg", {"subtype": "OPUS"}),
}


def clip(path: Path, rate: int, channels: int, options: dict[str, Any]) -> Path:
    """Write a chord with a beat over pink-like noise, a little different in each channel."""
    rng = np.random.default_rng(0)
    t = np.arange(CLIP_S * rate) / rate
    chord = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate((220, 277.2, 329.6, 440), 1))
    columns = []
    for channel in range(channels):
        noise = np.convolve(rng.standard_normal(len(t)), np.exp(-np.arange(40) / 8), "same")
        columns.append(0.15 * np.exp(-6 * (t % 0.5)) * chord * (1 - 0.2 * channel) + 0.01 * noise)
    frames = np.stack(columns, axis=1)
    with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
        for first in range(0, len(frames), rate):  # libsndfile's Vorbis fails on large pieces
            file.write(frames[first : first + rate])
    return path


def through(cache: audio.AudioCache, path: Path) -> np.ndarray:
    """Go through the cache even for files that load keeps out of it."""
    spec = cache_module.Spec(16000, "mono", "native")
    return cache.samples(
        str(path), spec, lambda: decoding._load(str(path), 16000, "mono", "native")
    )


def milliseconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - begin)


def main(folder: Path) -> None:
    print("| file | size, MB | decoded | hit | of it hashing | first run (miss) | decoded ÷ hit |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    full = audio.AudioCache(folder / "full")
    for i, (name, (rate, channels, suffix, options)) in enumerate(KINDS.items()):
        path = clip(folder / f"{i}{suffix}", rate, channels, options)
        assert np.array_equal(audio.load(path), through(full, path))
        times: dict[str, list[float]] = {"decoded": [], "hit": [], "hashing": [], "miss": []}
        for k in range(ROUNDS):
            fresh = audio.AudioCache(folder / f"fresh{k}")
            ways: dict[str, Callable[[], object]] = {
                "decoded": lambda path=path: audio.load(path),
                "hit": lambda path=path: through(full, path),
                "hashing": lambda path=path: cache_module._file_sha256(str(path)),
                "miss": lambda path=path, fresh=fresh: through(fresh, path),
            }
            for way, function in ways.items():
                times[way].append(milliseconds(function))
            shutil.rmtree(fresh.directory)
        median = {way: statistics.median(taken) for way, taken in times.items()}
        print(
            f"| {name} | {path.stat().st_size / 1e6:.1f} | {median['decoded']:.1f} "
            f"| {median['hit']:.1f} | {median['hashing']:.1f} | {median['miss']:.1f} "
            f"| {median['decoded'] / median['hit']:.1f} |"
        )
    entry = next(Path(full.directory).iterdir()).stat().st_size
    print(f"\nAn entry of {CLIP_S} s has {entry / 1e6:.2f} MB.")


if __name__ == "__main__":
    CLIP_S = int(sys.argv[1]) if len(sys.argv) > 1 else CLIP_S
    with tempfile.TemporaryDirectory() as directory:
        main(Path(directory))
