"""Words and sentences that were rendered once and travel with the package.

The bank is one FLAC file per voice (16 kHz mono, 11 significant bits) and an index of where each
text begins and ends. It was made by `render_speech.py` with espeak-ng; reading it needs soundfile
only. FLAC is lossless, so every machine reads the same samples.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import soundfile

from mmaupro_ext.errors import DataError
from synth import signals
from synth.signals import Signal

BANK_DIR = Path(__file__).resolve().parent / "bank"
BANK_RATE = 16000  # Hz

# Voice of the bank -> espeak-ng voice name, and who a listener takes it for.
VOICES: dict[str, tuple[str, str]] = {
    "us-man": ("en-us", "man"),
    "us-woman": ("en-us+f2", "woman"),
    "gb-man": ("en-gb", "man"),
    "us-woman-2": ("en-us+f3", "woman"),
    "us-man-2": ("en-us+m3", "man"),
    "scot-woman": ("en-gb-scotland+f1", "woman"),
}
ALL_VOICES: tuple[str, ...] = tuple(VOICES)
SENTENCE_VOICES: tuple[str, ...] = ALL_VOICES[:2]

DIGITS: tuple[str, ...] = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
)
COLOURS: tuple[str, ...] = ("red", "green", "blue", "yellow", "black", "white")
ANIMALS: tuple[str, ...] = ("dog", "cat", "horse", "cow", "sheep", "goose")
WORDS: tuple[str, ...] = DIGITS + COLOURS + ANIMALS

CAPITALS: dict[str, str] = {
    "Paris": "Which city is the capital of France?",
    "Rome": "Which city is the capital of Italy?",
    "Tokyo": "Which city is the capital of Japan?",
    "Cairo": "Which city is the capital of Egypt?",
}
SUMS: dict[str, str] = {
    "five": "What is two plus three?",
    "six": "What is two plus four?",
    "seven": "What is three plus four?",
    "eight": "What is three plus five?",
}
RIDDLES: dict[str, str] = {
    "the sheep": "Which animal gives us wool?",
    "the dog": "Which animal barks at the postman?",
    "the hen": "Which animal lays eggs?",
    "the bee": "Which animal makes honey?",
}
PLACES: dict[str, str] = {
    place: f"We found the keys {place}."
    for place in ("under the sofa", "in the kitchen", "behind the door", "near the window")
}
NEWS: dict[str, str] = {
    "nine": "The train to London leaves at nine.",
    "yellow": "My sister bought a yellow bicycle.",
}
PACE_SENTENCE = "Listen to the way I speak. Am I talking fast, or slowly?"
PACE_KEYS: dict[str, str] = {"fast": "[fast] ", "slowly": "[slowly] "}
PACE_WORDS_PER_MINUTE: dict[str, int] = {"fast": 260, "slowly": 90}


def say(text: str, voice: str, sampling_rate: int = BANK_RATE) -> Signal:
    """Return a word or sentence of the bank, peak 1.

    Parameters
    ----------
    text : str
        One of `WORDS` (every voice) or a sentence of the bank (`SENTENCE_VOICES`).
    voice : str
        A key of `VOICES`.
    sampling_rate : int
        Hz; the bank is resampled when it differs from `BANK_RATE`.

    Returns
    -------
    ndarray, shape (n,), float64
        The caller owns it.

    Raises
    ------
    DataError
        When the bank has no such text in this voice.
    """
    return _say(text, voice, sampling_rate).copy()


@functools.lru_cache(maxsize=1024)
def _say(text: str, voice: str, sampling_rate: int) -> Signal:
    index = _index()
    try:
        start, stop = index[voice][text]
    except KeyError:
        raise DataError(
            f"the speech bank has no {text!r} in voice {voice!r}. Add it to render_speech.py and "
            "render the bank again."
        ) from None
    return signals.peak(signals.resample(_voice(voice)[start:stop], BANK_RATE, sampling_rate))


@functools.lru_cache(maxsize=1)
def _index() -> dict[str, dict[str, list[int]]]:
    content: dict[str, dict[str, list[int]]] = json.loads(
        (BANK_DIR / "index.json").read_text(encoding="utf-8")
    )
    return content


@functools.lru_cache(maxsize=len(VOICES))
def _voice(voice: str) -> Signal:
    samples, rate = soundfile.read(BANK_DIR / f"{voice}.flac", dtype="float64")
    if rate != BANK_RATE or samples.ndim != 1:
        raise DataError(f"{BANK_DIR / voice}.flac: mono at {BANK_RATE} Hz expected. Reinstall.")
    mono: Signal = samples
    return mono
