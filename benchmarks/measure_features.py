"""Measure `mmaupro features`: core seconds an hour of sound, and one process of Ray against two.

    python benchmarks/measure_features.py [--minutes 20] [--folder DIR]

The first figure is processor time, which other work on the machine changes little. The second is a ratio of
times by the clock: it holds on a machine that is left alone, and the load is printed with it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from mmaupro_ext import native
from mmaupro_ext.corpus import on_ray, sources
from mmaupro_ext.corpus.extract import extract
from mmaupro_ext.corpus.families import DEFAULT, family_of
from mmaupro_ext.corpus.shards import Outcome

CLIP_S = 15
# Kind of corpus -> (suffix, rate, channels).
KINDS = {
    "FLAC, 16 kHz, mono": (".flac", 16_000, 1),
    "WAV, 44.1 kHz, stereo": (".wav", 44_100, 2),
    "MP3, 44.1 kHz, stereo": (".mp3", 44_100, 2),
}


def make(folder: Path, minutes: float, suffix: str, rate: int, channels: int) -> None:
    """Write clips of chirps in noise, which compress about as well as speech."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    clock = np.arange(CLIP_S * rate) / rate
    for number in range(round(60 * minutes / CLIP_S)):
        noise = 0.01 * rng.standard_normal((len(clock), channels))
        chirp = 0.3 * np.sin(2 * np.pi * (100 + number + 40 * clock) * clock)
        soundfile.write(folder / f"{number:05}{suffix}", chirp[:, None] + noise, rate)


def core_seconds(folder: Path, out: Path) -> tuple[float, float, int]:
    """Return seconds of processor time in this process, hours of sound, and bytes of the clips."""
    family_of(DEFAULT)
    began = time.process_time()
    report = extract([folder], out)
    took = time.process_time() - began
    size = sum(path.stat().st_size for path in folder.iterdir())
    return took, report.outcome.seconds / 3600, size


def seconds_on_ray(folder: Path, out: Path, workers: int) -> float:
    """Return seconds by the clock, without what Ray and its processes take to start."""
    import ray

    def work(blocks: list[sources.Block], to: Path) -> float:
        total, began = Outcome(), time.monotonic()
        for outcome in on_ray.outcomes(blocks, to, DEFAULT, workers):
            total.add(outcome)
        assert not total.damaged
        return time.monotonic() - began

    blocks = sources.read_corpus([folder]).blocks
    on_ray.start(ray, workers)
    try:
        work(blocks[: 2 * workers], out / "warm")
        return work(blocks, out / "timed")
    finally:
        ray.shutdown()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--folder", help="where to work (default: a temporary folder)")
    args = parser.parse_args()
    sources.CLIPS = 16  # enough blocks for two
    print(f"{native.info()['simd']}, {os.cpu_count()} processors, load {os.getloadavg()}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        place = Path(name)
        for kind, form in KINDS.items():
            corpus = place / form[0][1:]
            make(corpus, args.minutes, *form)
            took, hours, size = core_seconds(corpus, place / f"{corpus.name}-1")
            print(
                f"{kind}: {took / hours:.1f} core seconds an hour of sound "
                f"({hours * 3600 / took:,.0f} times as fast as it plays), {size / hours / 1e6:,.0f} MB"
            )
        one, two = (seconds_on_ray(corpus, place / f"ray-{n}", n) for n in (1, 2))
        print(
            f"Ray, {kind}: 1 process {one:.1f} s, 2 processes {two:.1f} s: {one / two:.2f} times as "
            f"fast; load {os.getloadavg()}"
        )


if __name__ == "__main__":
    main()
