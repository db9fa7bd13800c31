"""What the frontend is to reach, and what it reaches: tables of benchmarks/RESULTS.md.

Run: ``pytest benchmarks --benchmark-json=FILE`` once for each SIMD level (``MMAUPRO_SIMD``), all on one
machine, then ``python benchmarks/write_targets.py FILE…``. Every figure is a ratio of medians of one run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import documenting

OURS, TWIN = "mmaupro_ext", "mmaupro_ext, Numba twin"
OTHERS = ("openai-whisper", "faster-whisper", "torchaudio", "librosa", "scipy.fft in blocks")
FAMILIES = (
    "Gemma 3n",
    "Gemma 4",
    "Parakeet (128, normalised)",
    "Phi-4",
    "Inkling",
)
FAMILIES += ("dots3-note",)

Medians = dict[str, dict[str, float]]  # work -> candidate -> seconds


class Target(NamedTuple):
    """One ratio: the time of the fastest of `rivals` by that of `candidate`."""

    label: str
    work: str
    rivals: tuple[str, ...]
    least: float
    stretch: float
    candidate: str = OURS
    at_most: bool = False  # the time of `candidate` by that of the rival, which may not be larger

    def ratio(self, medians: Medians) -> float | None:
        times = medians.get(self.work, {})
        theirs = [times[rival] for rival in self.rivals if rival in times]
        if not theirs or self.candidate not in times:
            return None
        ratio = min(theirs) / times[self.candidate]
        return 1 / ratio if self.at_most else ratio

    def is_missed(self, ratio: float) -> bool:
        return ratio > self.least if self.at_most else ratio < self.least


def targets() -> Iterator[Target]:
    for n_mels in (80, 128):
        for length, transformers, asrfront, others in (
            ("30 s", (12, 18), (2.2, 3), (7, 10)),
            ("600 s", (25, 36), (2.2, 3), None),
            ("5 s padded to 30 s", (40, 64), (1.6, 2), None),
        ):
            work = f"log-mel, {n_mels} mels, {length}"
            yield Target(work, work, ("transformers",), *transformers)
            yield Target(work, work, ("asrfront",), *asrfront)
            if others:
                yield Target(work, work, OTHERS, *others)
    yield Target("Gemma 4 log-mel, 30 s", "Gemma 4 features, 30 s", ("asrfront",), 1.5, 2.5)
    for kind, least, stretch in (("WAV16", 4, 6), ("FLAC", 1, 1.1), ("MP3", 1, 1.1)):
        work = f"load 44.1k stereo {kind}, 600 s -> 16k mono"
        yield Target(f"load 44.1k stereo {kind}, 10 min", work, ("asrfront.load",), least, stretch)
    for rate, layout, least in (
        ("44.1", "mono", 2.6),
        ("44.1", "stereo", 2.6),
        ("48", "mono", 2.6),
        ("22.05", "mono", 2.6),
    ):
        work = f"resample {rate}k -> 16k {layout}, 30 s"
        yield Target(f"resample {rate}k → 16k, {layout}, 30 s", work, ("soxr HQ",), least, 3.5)
    librosa = ("librosa.load + WhisperFeatureExtractor",)
    for label, kind, least, stretch in (
        ("44.1k stereo WAV16 → features, 10 min", "44.1k x 2", 14, 20),
        ("16k mono WAV16 → features, 10 min", "16k x 1", 17, 25),
    ):
        yield Target(label, f"{kind} WAV16 -> features, 10 min", librosa, least, stretch)
    for kind in ("FLAC", "MP3", "OGG"):
        work, label = (
            f"44.1k x 2 {kind} -> features, 10 min",
            f"44.1k stereo {kind} → features, 10 min",
        )
        decoding = ("soundfile, decoding alone",)
        yield Target(label, work, decoding, 1.12, 1.05, at_most=True)
    work = "200 files (mixed) -> features, two threads"
    yield Target("200 mixed files → features, two threads", work, ("one thread",), 1.85, 1.95)
    for family in FAMILIES:
        work = f"{family} extractor, 30 s"
        yield Target(work, work, ("transformers",), 6, 10)
    work, theirs = "Granite features, 30 s", "torch.stft as torchaudio calls it"
    yield Target("Granite extractor, 30 s", work, (theirs,), 6, 10)
    for n_mels in (80, 128):
        work = f"log-mel, {n_mels} mels, 30 s"
        yield Target(f"Numba twin: {work}", work, ("transformers",), 4, 6, TWIN)
    for family in FAMILIES:
        work = f"{family} extractor, 30 s"
        twin = "mmaupro_ext (Numba)"
        yield Target(f"Numba twin: {work}", work, ("transformers",), 4, 6, twin)


def medians_of(files: list[Path]) -> dict[str, Medians]:
    """Return the medians of each level."""
    levels: dict[str, Medians] = {}
    for file in files:
        for benchmark in json.loads(file.read_text(encoding="utf-8"))["benchmarks"]:
            info = benchmark["extra_info"]
            times = levels.setdefault(info["simd"], {}).setdefault(benchmark["group"], {})
            times[info["candidate"]] = benchmark["stats"]["median"]
    return levels


def against(target: Target, levels: dict[str, Medians]) -> str:
    if len(target.rivals) == 1:
        return target.rivals[0]
    fastest = []
    for medians in levels.values():
        times = medians.get(target.work, {})
        found = min((r for r in target.rivals if r in times), key=times.__getitem__, default="none")
        if found not in fastest:
            fastest.append(found)
    return f"fastest of the others: {' / '.join(fastest)}"


def target_table(levels: dict[str, Medians]) -> str:
    rows = []
    for target in targets():
        cells = []
        for medians in levels.values():
            ratio = target.ratio(medians)
            digits = 3 if target.at_most else 1 if ratio and ratio >= 10 else 2
            cell = "not measured" if ratio is None else f"{ratio:.{digits}f}x"
            missed = ratio is not None and target.is_missed(ratio)
            cells.append(f"**{cell}, missed**" if missed else cell)
        word = "at most " if target.at_most else ""
        bound = f"{word}{target.least:g}x"
        rows.append([target.label, against(target, levels), bound, f"{target.stretch:g}x", *cells])
    return documenting.table(["work", "against", "target", "stretch", *levels], rows)


def others_table(levels: dict[str, Medians]) -> str:
    """Return how many times longer each candidate takes for Whisper's features."""
    rivals = ("transformers", "asrfront", *OTHERS, TWIN)
    rows = []
    for level, medians in levels.items():
        for length in ("30 s", "600 s", "5 s padded to 30 s"):
            for n_mels in (80, 128):
                times = medians.get(f"log-mel, {n_mels} mels, {length}", {})
                if OURS not in times:
                    continue
                ratios = [
                    f"{times[rival] / times[OURS]:.1f}x" if rival in times else "–"
                    for rival in rivals
                ]
                rows.append([level, length, n_mels, f"{1e3 * times[OURS]:.3f}", *ratios])
    return documenting.table(["level", "clip", "bands", "ours (ms)", *rivals], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="of pytest --benchmark-json")
    levels = medians_of(parser.parse_args().files)
    levels = dict(sorted(levels.items(), key=lambda item: item[0] != "avx512"))
    for name, table in (("targets", target_table(levels)), ("others", others_table(levels))):
        documenting.put(name, table)
        print(table, end="\n\n")


if __name__ == "__main__":
    main()
