"""Cost against length and threads, and the share of the machine's bound; figures and tables.

Run: ``python benchmarks/plot_costs.py`` (three minutes, 5 GB of memory, 1.3 GB of disk; leave the
machine alone).
``--quick`` stops at 100 s of audio. Needs a C compiler for the bound: `peak.c` measures the clock
and the multiply-adds a second; without one the table says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import documenting
import numpy as np
import soundfile
from mmaupro_ext.native.stft_mel import Plan

from mmaupro_ext import audio
from mmaupro_ext.features import log_mel, native_extractor
from mmaupro_ext.native import resample as native
from mmaupro_ext.native import select
from mmaupro_ext.native.resample_plan import ResamplePlan, Transform, resample_plan
from mmaupro_ext.report import figures

LENGTHS = (1, 3, 10, 30, 100, 600, 1800, 7200)  # seconds of audio
RATE, TARGET, N_MELS = 44100, 16000, 128
WORKS = {
    "log-mel, 128 bands": figures.BLUE,
    "resample 44.1k → 16k, mono": figures.ORANGE,
    "44.1k stereo WAV → features": figures.GREEN,
}
FLAGS = {"sse2": (16, ["-mfma"]), "avx2": (32, ["-mavx2", "-mfma"]), "avx512": (64, ["-mavx512f"])}


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
        resampled = np.empty(plan.output_length(len(sampled)), np.float32)
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


def cost_by_threads(folder: Path, seconds: int) -> dict[str, dict[int, list[float]]]:
    """Time one clip shared by threads, and files on threads of their own, for 1, 2, 4, ... threads."""
    plan = resample_plan(RATE, TARGET)
    sampled = noise(RATE * seconds)
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
        f"resample one clip of {seconds} s": lambda n: native.resample(plan, sampled, threads=n),
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


def draw_threads(taken: dict[str, dict[int, list[float]]]) -> None:
    counts = list(next(iter(taken.values())))
    colours = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
    with figures.canvas(documenting.FIGURES / "gain_by_threads.png", 9.0, 3.6, pad=0.12) as figure:
        axis = figure.subplots()
        width = 0.8 / (len(counts) - 1)
        for place, (times, colour) in enumerate(zip(taken.values(), colours, strict=True)):
            one = documenting.median(times[1])
            for number, count in enumerate(counts[1:]):
                gain, left = one / documenting.median(times[count]), place + number * width
                axis.barh(left, gain, 0.9 * width, color=colour)
                label = f"{gain:.2f}x" if len(counts) == 2 else f"{count} threads: {gain:.2f}x"
                axis.text(
                    gain - 0.03, left, label, va="center", ha="right", color="white", fontsize=9
                )
                axis.plot(
                    [count] * 2, [left - width / 2, left + width / 2], color=figures.SOFT, lw=1
                )
        axis.set_yticks([place + 0.4 - width / 2 for place in range(len(taken))], list(taken))
        axis.invert_yaxis()
        axis.set_xlim(0, 1.15 * counts[-1])
        axis.set_title("How many times faster with two threads" if len(counts) == 2 else "Gain")
        axis.set_xlabel("times one thread, by the median (grey line: a core for each)")
        axis.grid(axis="x")


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


# --- the machine's bound -----------------------------------------------------------------------

# Additions and multiplications of the butterflies in csrc/resample.c, counted line by line.
BUTTERFLY = {2: 4, 3: 16, 4: 16, 5: 48, 7: 96, 8: 54, 9: 120}
TURN = 6  # a complex multiplication


def transform_operations(transform: Transform) -> float:
    """Return operations of one complex transform."""
    total, parts, size = 0.0, 1, transform.points
    for place, radix in enumerate(transform.radices):
        size //= radix
        twiddles = TURN * (radix - 1) if place < len(transform.radices) - 1 else 0
        # An odd prime by its definition: (radix - 1)^2 multiply-adds on each part of the numbers.
        butterfly = BUTTERFLY.get(radix, 2 * (radix - 1) ** 2 + 8 * radix)
        total += parts * size * (butterfly + twiddles)
        parts *= radix
    return total


def resample_operations(plan: ResamplePlan, seconds: float) -> float:
    """Return operations for so many seconds of one channel: one pair of blocks is one transform."""
    kept = int((plan.bin_row >= 0).sum())
    pair = transform_operations(plan.forward) + transform_operations(plan.inverse) + TURN * kept
    return pair * seconds * plan.target_sr / (2 * plan.hop_out)


def log_mel_operations(n_mels: int, seconds: float) -> float:
    """Return operations of csrc/logmel.c, counted by its stages."""
    real5, turns, complex5 = 20, 8 * TURN, 48
    dft25 = 16 * (25 + 5 * real5 + turns + real5 + 2 * complex5)  # window, inner, outer
    turns16 = 6 + 4 + 6 + 4 + 0 + 4 + 6 + 4 + 6
    dft16 = 12 * (8 * 16 + turns16 + 16 * 3) + 110  # the thirteenth has real input
    mel = 4 * 201 + n_mels
    logarithm = n_mels * 26  # degree 8, exponent, floor, minimum and maximum
    return 100 * seconds * (dft25 + dft16 + mel + logarithm)


def family_operations(plan: Plan, seconds: float) -> tuple[float, float]:
    """Return operations of csrc/stft_mel.c in double and in float, for 512 points and 16 kHz."""
    arrays = plan.arrays
    rows, bands, hop = int(arrays["rows"]), plan.n_mels, plan.hop_length
    assert (arrays["radix"], arrays["columns"], list(arrays["radices"][:1])) == (32, 16, [16])
    # A DFT-4 of real samples b, b + 8, b + 16, b + 24: 6, less where the last ones are zero.
    fours = sum({4: 6, 3: 4, 2: 2}[len(range(b, rows, 8))] for b in range(8))
    zero = 2 * 6 + TURN + 6  # outputs 0, 4, 8, ... of 32
    two = 3 * TURN + 16  # 2, 10, 18, 26: a DFT-4
    one = 7 * TURN + 60  # 1, 5, 9, ...: a DFT-8
    dft32 = 16 * (rows + fours + zero + two + one + 15 * TURN + 2)
    dft16 = 17 * (8 * 16 + 8 * TURN + 16 * 3)  # and 16 powers
    double = dft32 + dft16 + (2 * hop if plan.emphasis_kind else 0)
    root = {True: 8, False: 0}[plan.magnitude]
    mel = int(np.sum(arrays["segment_bins"])) * (4 + root) + bands
    logarithm = bands * (2 + 6 + 2 * 7 + 1 + 5 + 1)  # degree 8, exponent, floor and maximum
    float_ = 2 * hop + mel + logarithm  # the peak of the samples comes first
    frames = seconds * 16000 / hop
    return frames * double, frames * float_


def peak(level: str, folder: Path) -> tuple[float, float] | None:
    """Return clock (Hz) and vector multiply-adds a second, or None without compiler or level."""
    if level not in FLAGS:
        return None
    size, flags = FLAGS[level]
    program = folder / f"peak-{level}"
    source = Path(__file__).with_name("peak.c")
    compiler = os.environ.get("CC", "cc")
    try:
        subprocess.run(
            [compiler, "-O2", f"-DBYTES={size}", *flags, "-o", program, source], check=True
        )
        answer = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    clock, rate = map(float, answer.split())
    return clock, rate


@contextmanager
def at_level(level: str) -> Iterator[None]:
    before = os.environ.get("MMAUPRO_SIMD")
    os.environ["MMAUPRO_SIMD"] = level
    try:
        yield
    finally:
        if before is None:
            del os.environ["MMAUPRO_SIMD"]
        else:
            os.environ["MMAUPRO_SIMD"] = before


def gemma4_extractor() -> Any:
    from transformers import Gemma4AudioFeatureExtractor

    return native_extractor(Gemma4AudioFeatureExtractor())


def bound_table(folder: Path) -> str:
    seconds = 30
    plan = resample_plan(RATE, TARGET)
    heard, sampled = noise(TARGET * seconds), noise(RATE * seconds)
    gemma4 = gemma4_extractor()
    resampled = np.empty(plan.output_length(len(sampled)), np.float32)
    works = {
        "log-mel, 128 bands": (
            (0.0, log_mel_operations(N_MELS, seconds)),
            lambda: log_mel(heard, N_MELS),
        ),
        "resample 44.1k → 16k": (
            (0.0, resample_operations(plan, seconds)),
            lambda: native.resample(plan, sampled, out=resampled),
        ),
        "Gemma 4 log-mel": (
            family_operations(gemma4.native_plan, seconds),
            lambda: gemma4([heard]),
        ),
    }
    rows = []
    for level in select.levels():
        if level not in FLAGS:
            continue
        measured = peak(level, folder)
        lanes = FLAGS[level][0] // 4
        with at_level(level):
            taken = documenting.times({name: run for name, (_, run) in works.items()}, 4.0)
        for name, ((in_double, in_float), _) in works.items():
            best = min(taken[name])
            counted = f"{in_float / 1e6:.1f}" + (in_double > 0) * f" + {in_double / 1e6:.1f} double"
            row = [f"{name}, {level}", counted, f"{1e3 * best:.3f}"]
            if measured is None:
                rows.append([*row, "unavailable", "unavailable", "unavailable"])
                continue
            clock, rate = measured
            bound = (in_float + 2 * in_double) / (lanes * rate)
            row += [f"{clock / 1e9:.2f} GHz, {rate / 1e9:.1f} G/s", f"{1e3 * bound:.3f}"]
            rows.append([*row, f"{100 * bound / best:.0f}%"])
    header = ["kernel, 30 s of audio", "million operations", "fastest (ms)"]
    header += ["clock, vector operations", "bound (ms)", "share of the bound"]
    return documenting.table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="clips of up to 100 s only")
    quick = parser.parse_args().quick
    lengths = tuple(n for n in LENGTHS if n <= 100) if quick else LENGTHS
    before = documenting.load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bound = bound_table(folder)
        taken = cost_by_length(lengths, folder)
        side_by_side = cost_by_threads(folder, 60 if quick else 600)
    draw_lengths(taken, lengths)
    draw_threads(side_by_side)
    documenting.put("bound", bound)
    documenting.put("length", length_table(taken, lengths))
    threads = thread_table(side_by_side)
    documenting.put("threads", threads)
    words = f"Measured on: {documenting.machine()}. Load average {before} at the start of the run, "
    documenting.put("machine", f"{words}{documenting.load()} at its end (the run itself makes 1).")
    print(bound, length_table(taken, lengths), threads, sep="\n\n")


if __name__ == "__main__":
    main()
