"""Cost against length, and gain by threads over files: a figure, and tables of benchmarks/RESULTS.md.

Run: ``python benchmarks/plot_costs.py`` (three minutes, 5 GB of memory, 1.3 GB of disk; leave the
machine alone). ``--quick`` stops at 100 s of audio.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import documenting
import numpy as np
import soundfile

from mmaupro_ext import audio, native
from mmaupro_ext.features import log_mel
from mmaupro_ext.native.resample_plan import resample_plan
from mmaupro_ext.report import figures

LENGTHS = (1, 3, 10, 30, 100, 600, 1800, 7200)  # seconds of audio
RATE, TARGET, N_MELS = 44100, 16000, 128
WORKS = {
    "log-mel, 128 bands": figures.BLUE,
    "resample 44.1k → 16k, mono": figures.ORANGE,
    "44.1k stereo WAV → features": figures.GREEN,
}


def noise(samples: int) -> np.ndarray:
    """Return noise; ten seconds, repeated, so that two hours are made at once."""
    tile = np.random.default_rng(0).standard_normal(min(samples, 441000)).astype(np.float32)
    return np.resize(0.1 * tile, samples)


def write_clip(path: Path, seconds: int) -> None:
    block = (32768 * np.stack([noise(RATE), -noise(RATE)], axis=1)).astype(np.int16)
    with soundfile.SoundFile(path, "w", RATE, 2, subtype="PCM_16") as file:
        for _ in range(seconds):
            file.write(block)


# --- length ------------------------------------------------------------------------------------


def cost_by_length(lengths: tuple[int, ...], folder: Path) -> dict[str, list[list[float]]]:
    """Return, for each work, the times in seconds for each length."""
    plan = resample_plan(RATE, TARGET)
    taken: dict[str, list[list[float]]] = {name: [] for name in WORKS}
    for seconds in lengths:
        heard, sampled = noise(TARGET * seconds), noise(RATE * seconds)
        resampled = np.empty(
            native.output_length(len(sampled), plan.orig_sr, plan.target_sr), np.float32
        )
        path = folder / f"{seconds}.wav"
        write_clip(path, seconds)
        functions = dict(
            zip(
                WORKS,
                (
                    lambda x=heard: log_mel(x, N_MELS),
                    lambda x=sampled, out=resampled: native.resample(plan, x, out=out),
                    lambda path=path: log_mel(audio.load(path), N_MELS),
                ),
                strict=True,
            )
        )
        for name, values in documenting.times(functions, 4.0).items():
            taken[name].append(values)
        path.unlink()
    return taken


def draw_lengths(taken: dict[str, list[list[float]]], lengths: tuple[int, ...]) -> None:
    target = documenting.FIGURES / "cost_by_length.png"
    with figures.canvas(target, 12.0, 5.4, pad=0.12) as figure:
        axis, share = figure.subplots(1, 2, width_ratios=(1.15, 1))
        for name, colour in WORKS.items():
            best = np.array([min(values) for values in taken[name]])
            middle = np.array([documenting.median(values) for values in taken[name]])
            style = {"color": colour, "marker": "o", "markersize": 4.5, "label": name}
            axis.plot(lengths, 1e3 * best, **style)
            axis.fill_between(lengths, 1e3 * best, 1e3 * middle, color=colour, alpha=0.2, lw=0)
            share.plot(lengths, 1e6 * best / lengths, **style)
            share.fill_between(
                lengths, 1e6 * best / lengths, 1e6 * middle / lengths, color=colour, alpha=0.2, lw=0
            )
        span = np.array([lengths[0], lengths[-1]], float)
        reference = 1e3 * min(taken["log-mel, 128 bands"][0]) * span * 0.3
        dashes = {"color": figures.SOFT, "linewidth": 1.0, "linestyle": (0, (4, 3))}
        axis.plot(span, reference, label="slope of a cost in proportion", **dashes)
        axis.set_title("Time for a clip")
        axis.set_ylabel("ms")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.legend(loc="upper left")
        share.set_title("Time for one second of it")
        share.set_ylabel("µs per second of audio")
        share.set_ylim(bottom=0)
        for panel in (axis, share):
            panel.set_xscale("log")
            panel.set_xticks(lengths, [name_of(seconds) for seconds in lengths])
            panel.minorticks_off()
            panel.set_xlabel("length of the clip (line: fastest; band: up to the median)")
            panel.grid()


def name_of(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def length_table(taken: dict[str, list[list[float]]], lengths: tuple[int, ...]) -> str:
    rows = []
    for place, seconds in enumerate(lengths):
        cells = []
        for name in WORKS:
            values = taken[name][place]
            cells.append(f"{1e3 * documenting.median(values):.2f} ({1e3 * min(values):.2f})")
        rows.append([name_of(seconds), *cells])
    return documenting.table(["length", *(f"{name}: ms (fastest)" for name in WORKS)], rows)


# --- threads -----------------------------------------------------------------------------------


def cost_by_threads(folder: Path) -> dict[str, dict[int, list[float]]]:
    """Time many files, each on one of 1, 2, 4, ... threads."""
    files: dict[str, list[Path]] = {"wav": [], "flac": []}
    for suffix, paths in files.items():
        for number in range(32):
            paths.append(folder / f"item{number}.{suffix}")
            write_clip(paths[-1], 5 + number % 16)

    def features_of(path: Path) -> np.ndarray:
        return log_mel(audio.load(path), N_MELS)

    def side_by_side(suffix: str) -> Callable[[int], None]:
        def run(threads: int) -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(features_of, files[suffix]))

        return run

    works: dict[str, Callable[[int], Any]] = {
        "32 FLAC of 5 to 20 s → features, side by side": side_by_side("flac"),
        "32 WAV of 5 to 20 s → features, side by side": side_by_side("wav"),
    }
    counts = [1, 2]
    while 2 * counts[-1] <= (os.cpu_count() or 1):
        counts.append(2 * counts[-1])
    taken = {}
    for name, work in works.items():
        functions = {str(n): lambda n=n, work=work: work(n) for n in counts}
        taken[name] = {int(n): v for n, v in documenting.times(functions, 6.0).items()}
    return taken


def thread_table(taken: dict[str, dict[int, list[float]]]) -> str:
    rows = []
    for name, times in taken.items():
        one, best_one = documenting.median(times[1]), min(times[1])
        for count in list(times)[1:]:
            middle, best = documenting.median(times[count]), min(times[count])
            rows.append(
                [
                    name,
                    count,
                    f"{1e3 * one:.1f} ({1e3 * best_one:.1f})",
                    f"{1e3 * middle:.1f} ({1e3 * best:.1f})",
                    f"{one / middle:.2f}x ({best_one / best:.2f}x)",
                ]
            )
    header = ["work", "threads", "one thread: ms (fastest)", "so many: ms (fastest)"]
    return documenting.table([*header, "gain (of fastest)"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="clips of up to 100 s only")
    quick = parser.parse_args().quick
    lengths = tuple(n for n in LENGTHS if n <= 100) if quick else LENGTHS
    before = documenting.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taken = cost_by_length(lengths, folder)
        side_by_side = cost_by_threads(folder)
    draw_lengths(taken, lengths)
    documenting.put("length", length_table(taken, lengths))
    threads = thread_table(side_by_side)
    documenting.put("threads", threads)
    words = f"Measured on: {documenting.machine()}. Load average {before} at the start of the run, "
    documenting.put("machine", f"{words}{documenting.load()} at its end (the run itself makes 1).")
    print(length_table(taken, lengths), threads, sep="\n\n")


if __name__ == "__main__":
    main()
