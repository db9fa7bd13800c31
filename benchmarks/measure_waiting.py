"""Measure how long a model waits for its audio: stock frontend against native, by worker threads.

Run: ``python benchmarks/measure_waiting.py`` (some minutes; leave the machine alone). Writes the table
of docs/models.md, section "Throughput".

The model is a stand-in for an accelerator: it sleeps, which leaves the processors free as a GPU does,
for as long as a model of 7 billion weights takes to read the audio on one large GPU and to write a
few tokens. Everything else is the adapter's own way: files of 10 to 60 s in four formats, decoded,
mixed, resampled, made into features and tokens, in batches.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import documenting
import numpy as np
import soundfile
import torch
from lm_eval.api.instance import Instance

from mmaupro_ext.models.hf.model import HFAudioLM

ITEMS = 64
BATCH_SIZE = 4
# What an accelerator would take: reading a second of audio, and writing a reply, in seconds.
READ_S, REPLY_S = 1.2e-3, 0.04
ROUNDS = 3
FORMATS = (".wav", ".flac", ".mp3", ".ogg")


def write_clips(folder: Path) -> list[str]:
    """Write clips of 10 to 60 s at 44.1 kHz, stereo, in four formats."""
    rng = np.random.default_rng(0)
    rate = 44_100
    t = np.arange(60 * rate) / rate
    chord = sum(np.sin(2 * np.pi * f * t + 5 * np.sin(0.3 * t)) for f in (220, 330, 550, 1900))
    noise = rng.standard_normal(t.size) * (0.02 + 0.1 * np.sin(0.7 * t) ** 2)
    whole = (0.05 * chord + noise)[:, None] * [1.0, 0.8]
    paths = []
    for number in range(ITEMS):
        seconds = 10 + 50 * number / (ITEMS - 1)
        path = folder / f"{number}{FORMATS[number % len(FORMATS)]}"
        frames = whole[: int(seconds * rate)]
        with soundfile.SoundFile(path, "w", rate, 2) as file:
            for first in range(0, len(frames), rate):  # libsndfile's Vorbis fails on large pieces
                file.write(frames[first : first + rate])
        paths.append(str(path))
    return paths


def run(paths: list[str], frontend: str, workers: int) -> tuple[float, float, float]:
    """Return seconds in all, seconds waited and seconds of preparing of one run over all clips."""
    lm = HFAudioLM(
        "tiny-random",
        device="cpu",
        batch_size=BATCH_SIZE,
        frontend=frontend,
        prefetch_workers=workers,
    )

    def sleep(input_ids: torch.Tensor, feature_attention_mask: torch.Tensor, **_: Any) -> Any:
        time.sleep(READ_S * float(feature_attention_mask.sum()) / 100 + REPLY_S)
        return torch.cat([input_ids, input_ids[:, :1]], dim=1)

    lm.model.generate = sleep
    requests = [
        Instance(
            "generate_until",
            {},
            ("<audio>\nWhat?", {"until": [], "max_gen_toks": 4}, {"audio": [{"path": path}]}),
            0,
        )
        for path in paths
    ]
    begin = time.perf_counter()
    lm.generate_until(requests, disable_tqdm=True)
    return time.perf_counter() - begin, lm.schedule.waited_s, lm.schedule.prepared_s


def main() -> None:
    logging.disable(logging.WARNING)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = []
    ways = [(frontend, workers) for workers in (0, 1, 2) for frontend in ("stock", "native")]
    taken: dict[tuple[str, int], list[tuple[float, float, float]]] = {way: [] for way in ways}
    load = documenting.load()
    with tempfile.TemporaryDirectory() as directory, contextlib.redirect_stderr(io.StringIO()):
        paths = write_clips(Path(directory))
        for number in range(ROUNDS + 1):
            for way in ways:
                result = run(paths, *way)
                if number:  # the first round reads the files from disk
                    taken[way].append(result)
    for (frontend, workers), results in taken.items():
        total, waited, prepared = (
            statistics.median(column) for column in zip(*results, strict=True)
        )
        rows.append(
            [
                f"{frontend}, {workers or 'no'} worker{'' if workers == 1 else 's'}",
                f"{total:.2f}",
                f"{waited:.2f}",
                f"{waited / total:.0%}",
                f"{1e3 * prepared / ITEMS:.0f}",
            ]
        )
    header = [
        f"{ITEMS} clips, 44.1 kHz stereo",
        "whole run, s",
        "waited for input, s",
        "share",
        "preparing, ms an item",
    ]
    body = documenting.table(header, rows)
    about = (
        f"{documenting.machine()}; {usable} usable; load average {load} at the start. Medians of "
        f"{ROUNDS} runs; the model is a stand-in that sleeps {1e3 * READ_S:g} ms for each second of audio "
        f"and {1e3 * REPLY_S:g} ms a batch."
    )
    print(body, about, sep="\n\n", file=sys.stdout)
    if "--print" not in sys.argv:
        documenting.put("waiting", f"{body}\n\n{about}", documenting.DOCS / "models.md")


if __name__ == "__main__":
    main()
