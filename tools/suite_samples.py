"""Write the samples of MMAU, MMAR and MMSU: `python -m suite_samples --out mmaupro_ext/data/samples`.

A few rows a category in the schema of each release, with its odd cases, on tiny clips that are computed here:
beeps, glides, swells and noises. They show that everything works, and say nothing about the benchmarks.
The same bytes on every machine.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import json
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.util import write_atomically, write_json

RATE = 8000  # Hz
NOISE_SEED = 15


def tone(seconds: float, start: float = 440.0, end: float | None = None) -> np.ndarray:
    """Return a sine from one frequency to another (Hz), 1.0 at its peaks."""
    t = np.arange(int(seconds * RATE)) / RATE
    slope = ((end or start) - start) / seconds
    return np.sin(2 * np.pi * (start + slope * t / 2) * t)


def beeps(count: int) -> np.ndarray:
    """Return so many short tones with gaps between them."""
    beep, gap = tone(0.08, 880.0), np.zeros(int(0.06 * RATE))
    return np.concatenate([part for _ in range(count) for part in (beep, gap)])


def noise(seconds: float) -> np.ndarray:
    """Return the same white noise each time."""
    values = np.random.default_rng(NOISE_SEED).integers(-127, 128, int(seconds * RATE))
    return values / 127.0


def swell(seconds: float, rising: bool) -> np.ndarray:
    """Return a tone that gets louder or softer."""
    envelope = np.linspace(0.05, 1.0, int(seconds * RATE))
    return tone(seconds) * (envelope if rising else envelope[::-1])


# Question -> its choices, and how the sound of each is made.
QUESTIONS: dict[str, dict[str, Callable[[], np.ndarray]]] = {
    "How many beeps are there?": {
        word: functools.partial(beeps, count)
        for count, word in enumerate(("One", "Two", "Three", "Four"), start=1)
    },
    "What does the pitch of the tone do?": {
        "It rises": lambda: tone(0.5, 300.0, 900.0),
        "It falls": lambda: tone(0.5, 900.0, 300.0),
        "It stays the same": lambda: tone(0.5, 600.0),
    },
    "How does the loudness change?": {
        "It gets louder": lambda: swell(0.5, True),
        "It gets softer": lambda: swell(0.5, False),
    },
    "Which of these is heard?": {
        "Noise": lambda: noise(0.4),
        "A steady tone": lambda: tone(0.4, 500.0),
        "None": lambda: np.zeros(int(0.4 * RATE)),  # a real choice of that name, as MMSU has
        "A few beeps": lambda: beeps(3),
    },
}


def wav(samples: np.ndarray, channels: int = 1) -> bytes:
    """Return a WAV file of 8 bits; further channels repeat the first, ever more softly."""
    scaled = [np.round(128.0 + 100.0 * samples / (c + 1)).astype(np.uint8) for c in range(channels)]
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((channels, 1, RATE, 0, "NONE", ""))
        file.writeframes(np.stack(scaled, axis=1).tobytes())
    return content.getvalue()


def items(name: str, per_category: int) -> Iterator[tuple[str, int, str, list[str], str, bytes]]:
    """Yield (category, number, question, choices, answer, clip), every question and position in turn."""
    questions = list(QUESTIONS)
    number = 0
    for category in BENCHMARKS[name].categories:
        for _ in range(per_category):
            question = questions[number % len(questions)]
            sounds = QUESTIONS[question]
            choices = list(sounds)
            answer = choices[(number // len(questions)) % len(choices)]
            turned = (number * 3) % len(choices)
            choices = choices[turned:] + choices[:turned]
            clip = wav(sounds[answer](), channels=6 if (name, number) == ("mmau", 4) else 1)
            yield category.value, number, question, choices, answer, clip
            number += 1


def mmau(
    clip: str, category: str, number: int, question: str, choices: list[str], answer: str
) -> Any:
    """Return a row of MMAU's parquet."""
    lettered = [f"({chr(65 + i)}) {choice}" for i, choice in enumerate(choices)]
    others = {
        "id": Path(clip).stem,
        "task": category,
        "dataset": "generated",
        "category": ["Reasoning"] if number == 1 else "Reasoning",  # lists where text is expected
        "sub-category": "Generated sounds",
        "difficulty": ("easy", "medium", "hard")[number % 3],
        "split": "test-mini",
    }
    return {
        "context": clip,
        "instruction": question,
        "choices": lettered,
        "answer": lettered[choices.index(answer)],
        "other_attributes": json.dumps(others),
    }


def mmar(
    clip: str, category: str, number: int, question: str, choices: list[str], answer: str
) -> Any:
    """Return a row of MMAR's metadata; its id is not the name of its clip everywhere."""
    layers = ("Signal Layer", "Perception Layer", "Semantic Layer", "Cultural Layer")
    return {
        "id": f"{Path(clip).stem}{'_0' if number == 1 else ''}",
        "audio_path": clip,
        "question": question,
        "choices": choices,
        "answer": answer,
        "modality": category,
        "category": layers[number % 4],
        "sub-category": "Generated sounds",
        "language": None,
        "source": "generated",
        "url": "",
        "timestamp": "",
        "thinking": "",
        "cue": [],
        "rubric": [],
    }


def mmsu(
    clip: str, category: str, number: int, question: str, choices: list[str], answer: str
) -> Any:
    """Return a row of MMSU; choices that it lacks are null, in any position."""
    ability, field = category.split(": ")
    padded: list[str | None] = [*choices]
    while len(padded) < 4:
        padded.insert((number + len(padded)) % 3, None)
    return {
        "id": Path(clip).stem,
        "audio": clip,
        "task_name": "generated_sounds",
        "question": question,
        **dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), padded, strict=True)),
        "answer_gt": answer,
        "category": ability,
        "sub-category": "Paralinguistics" if field == "Paralinguistics" else "Linguistics",
        "sub-sub-category": "Speaking Style" if field == "Paralinguistics" else field,
        "linguistics_sub_discipline": None,
    }


SAMPLES: dict[str, tuple[Callable[..., Any], int]] = {
    "mmau": (mmau, 5),
    "mmar": (mmar, 2),
    "mmsu": (mmsu, 3),
}
"""Benchmark -> how a row is written, and how many a category has."""


def build(name: str) -> tuple[list[Any], dict[str, bytes]]:
    """Return the rows of a sample, and its clips by path."""
    row_of, per_category = SAMPLES[name]
    rows, clips = [], {}
    for category, number, question, choices, answer, clip in items(name, per_category):
        path = f"data/{name}-sample-{number:02d}.wav"
        clips[path] = clip
        rows.append(row_of(path, category, number, question, choices, answer))
    return rows, clips


def write(folder: Path, name: str) -> None:
    """Write a sample's rows, clips and manifest."""
    rows, clips = build(name)
    write_atomically(folder / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    files = {}
    for path, content in clips.items():
        write_atomically(folder / path, content)
        files[path] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(folder / "manifest.json", {"items": len(rows), "files": files})


def main() -> None:
    """Write all samples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    folder = parser.parse_args().out
    for name in SAMPLES:
        write(folder / name, name)


if __name__ == "__main__":
    main()
