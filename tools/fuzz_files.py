"""Open damaged audio files, guided by which lines of the readers they reach: `python tools/fuzz_files.py`.

Starts from small whole files of every kind that libsndfile writes, and keeps what reaches a new pair of lines
in `mmaupro_ext/audio`. A file gives samples or an AudioError; anything else ends the search, and the file
stays in build/fuzz/files. WAV is read here and by libsndfile: both must hear the same.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio.opening import open_clip
from mmaupro_ext.audio.whole.chunks import PcmReader
from mmaupro_ext.errors import AudioError

FOLDER = Path(__file__).parents[1] / "build" / "fuzz" / "files"
READERS = tuple(
    str(Path(audio.__file__).parent / name) for name in ("opening.py", "whole/", "decoding.py")
)
KINDS = (
    *(
        ("WAV", "PCM_16", 1),
        ("WAV", "PCM_16", 2),
        ("WAV", "PCM_24", 2),
        ("WAV", "PCM_U8", 3),
        ("WAV", "FLOAT", 1),
    ),
    *(
        ("WAVEX", "PCM_16", 2),
        ("RF64", "PCM_16", 2),
        ("W64", "PCM_16", 1),
        ("AIFF", "PCM_16", 2),
        ("AU", "PCM_16", 1),
    ),
    *(
        ("CAF", "PCM_16", 2),
        ("FLAC", "PCM_16", 1),
        ("OGG", "VORBIS", 1),
        ("OGG", "OPUS", 1),
        ("MP3", "MPEG_LAYER_III", 1),
    ),
)
# What headers are made of: sizes that wrap around, names of chunks, marks of other formats.
WORDS = (
    *(
        bytes(4),
        b"\xff" * 4,
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\x00\x80",
        b"\x01\x00\x00\x00",
    ),
    *(
        b"RIFF",
        b"RF64",
        b"ds64",
        b"fmt ",
        b"data",
        b"LIST",
        b"fact",
        b"riff",
        b"FORM",
        b"COMM",
        b"SSND",
        b"caff",
        b"desc",
    ),
    *(
        b"OggS",
        b"fLaC",
        b"ID3\x04",
        b"TAG",
        b"Xing",
        b"Info",
        b"LAME",
        b"VBRI",
        b"APETAGEX",
        b"\xff\xfb\x90\x00",
    ),
)


class Coverage:
    """The pairs of consecutive lines of the readers that a call runs through."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.new = 0

    def __enter__(self) -> Coverage:
        self.new = 0
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(READERS):
            return None
        before = frame.f_lineno

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            pair = (name, before, frame.f_lineno)
            before = frame.f_lineno
            if pair not in self.seen:
                self.seen.add(pair)
                self.new += 1
            return line

        return line


def seeds() -> list[bytes]:
    """Return small whole files."""
    noise = np.random.default_rng(0)
    files = []
    for form, subtype, channels in KINDS:
        content = io.BytesIO()
        samples = 0.1 * noise.standard_normal(
            (2400 if subtype in ("VORBIS", "OPUS", "MPEG_LAYER_III") else 40, channels)
        )
        soundfile.write(content, samples, 48000, format=form, subtype=subtype)
        files.append(content.getvalue())
    return files


def mutated(r: random.Random, files: list[bytes]) -> bytes:
    """Return one of the files with some damage, mostly at its head."""
    content = bytearray(r.choice(files))
    for _ in range(r.choice((1, 1, 1, 2, 3, 6))):
        place = r.randrange(min(len(content), r.choice((64, 64, 256, 1 << 20))) or 1)
        match r.randrange(7):
            case 0:
                content[place : place + 1] = bytes([r.randrange(256)])
            case 1:
                content[place : place + 4] = r.choice(WORDS)
            case 2:
                del content[place : place + r.choice((1, 2, 4, 8, 100))]
            case 3:
                content[place:place] = r.choice(
                    (*WORDS, r.randbytes(r.randrange(40)), bytes(r.randrange(200)))
                )
            case 4:
                other = r.choice(files)
                start = r.randrange(len(other) or 1)
                content[place:place] = other[start : start + r.choice((4, 24, 100, 1000))]
            case 5:
                del content[r.randrange(len(content) + 1) :]
            case _ if content:
                content[place % len(content)] ^= 1 << r.randrange(8)
    return bytes(content[: 1 << 16])


def hear(path: Path, content: bytes) -> str:
    """Open a file as a run would; return what came of it. Raises whatever is not an AudioError."""
    try:
        with open_clip(path) as clip:
            by_us = isinstance(clip._decoder, PcmReader)
        samples = audio.load(path, None, "keep")
    except AudioError as error:
        if str(path) not in str(error):
            raise ValueError(f"an error does not name the file: {error}") from error
        return "refused"
    if samples.size == 0:
        raise ValueError("a file without samples is taken")
    if by_us:
        try:
            theirs = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0].T
        except soundfile.LibsndfileError:
            return "heard"
        if (
            theirs.size
        ):  # a length of 0 or of all ones: libsndfile plays nothing, we play to the end
            np.testing.assert_array_equal(np.atleast_2d(samples), theirs)
    return "heard"


def fuzz(seconds: float, seed: int) -> None:
    """Search; report counts."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path, r, files = FOLDER / "input.wav", random.Random(seed), seeds()
    coverage, counts = Coverage(), {"heard": 0, "refused": 0}
    waiting, until = list(files), time.monotonic() + seconds
    while waiting or time.monotonic() < until:
        content = waiting.pop() if waiting else mutated(r, files)
        path.write_bytes(content)  # stays where the process dies
        try:
            with coverage:
                counts[hear(path, content)] += 1
        except Exception:
            print(f"not an AudioError; the file is {path}", file=sys.stderr)
            raise
        if coverage.new and content not in files:
            files.append(content)
    path.unlink()
    print(
        f"{sum(counts.values())} files ({counts['heard']} heard, {counts['refused']} refused by name), "
        f"{len(coverage.seen)} pairs of lines reached, {len(files)} files kept"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    fuzz(given.seconds, given.seed)
