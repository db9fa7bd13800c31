"""Training material for nano: questions of the sample's generator, and labelled scenes.

Questions come from `synth.questions` with other seeds than the sample's, are
written as hf-audio writes them (the prompt of `tasks/mmaupro`, one numbered block per window), and
are heard through the native frontend. Scenes are random sequences of events whose every moment has
a label; they teach the audio encoder before it meets a question.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from mmaupro_ext import audio, features, plugin
from mmaupro_ext.models import windows
from mmaupro_ext.models.blocks import cut, split_at_places
from mmaupro_ext.models.families.qwen2_audio import QWEN2_AUDIO
from mmaupro_ext.models.windows import NO_LIMIT, LongAudio, Recording
from synth import build, questions, signals, speech
from synth.questions import Item, Skill
from synth.signals import Signal

SAMPLING_RATE = 16000
WINDOW_S = 4
N_MELS = 80
FRAMES = WINDOW_S * 100
POSITIONS = WINDOW_S * 25  # what the encoder gives per whole block
WRITING = replace(QWEN2_AUDIO.writing, whole_s=float(WINDOW_S), window_s=float(WINDOW_S))

# Clips of three and nine minutes and of 43 s take up to 146 blocks: not trained.
LONG_SKILLS = tuple(build.LONG_STORAGES)
SKILLS: tuple[str, ...] = tuple(name for name in questions.SKILLS if name not in LONG_SKILLS)
RATES: tuple[int, ...] = (8000, 11025, 16000, 16000, 22050, 24000, 32000, 44100, 48000)

TRANSCRIPT = "transcript"
TRANSCRIPT_QUESTION = "Which events are heard, in order?"

Features = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Example:
    """One question as nano hears it.

    Parameters
    ----------
    skill : str
        Name of the skill.
    blocks : ndarray, shape (blocks, 80, 400), float16
        Log-mel features of each block, padded to the window.
    samples : tuple of int
        Samples of each block before padding.
    recordings : tuple of Recording
        How each clip is cut into blocks; a stereo clip is given as its left and its right channel.
    question : str
        The question text.
    choices : tuple of str
        The options; empty where the answer is free text.
    answer : str
        What nano should reply.
    """

    skill: str
    blocks: Features
    samples: tuple[int, ...]
    recordings: tuple[Recording, ...]
    question: str
    choices: tuple[str, ...]
    answer: str

    def prompt(self, choices: Sequence[str] | None = None) -> str:
        """Return the prompt with the model's own block marks, as hf-audio writes it.

        Parameters
        ----------
        choices : sequence of str, optional
            The options in another order.
        """
        shown = list(self.choices if choices is None else choices)
        doc = {
            "category": "sound" if shown else "open",
            "question": self.question,
            "choices": shown,
            "audio_path": [""] * len(self.recordings),
        }
        text: str = task_functions().doc_to_text(doc)
        return windows.write(split_at_places(text, WRITING), self.recordings, WRITING)

    @property
    def positions(self) -> list[int]:
        """Audio tokens of each block."""
        return list(WRITING.count_tokens(self.samples))


@lru_cache(maxsize=1)
def task_functions() -> Any:
    """Return the module of the tasks, which owns the wording of the prompts."""
    path = Path(plugin.tasks_dir()) / "mmaupro" / "utils.py"
    spec = importlib.util.spec_from_file_location("mmaupro_ext_nano_task_functions", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} cannot be imported; reinstall mmaupro-ext")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stream(seed: int, *names: str | int) -> Generator:
    """Return the random stream of one named thing; never one of the sample's."""
    digest = hashlib.sha256(repr(("nano", *names)).encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "little")]))


def hear(
    clips: Sequence[Signal], rates: Sequence[int]
) -> tuple[Features, list[int], list[Recording]]:
    """Return the features of clips as the native frontend gives them.

    Parameters
    ----------
    clips : sequence of ndarray
        Mono (n,) or stereo (2, n). A stereo clip is heard as its left, then its right channel.
    rates : sequence of int
        Hz, one per clip.

    Returns
    -------
    blocks : ndarray, shape (blocks, 80, 400), float16
        Padded to the window with silence.
    samples : list of int
        Samples of each block before padding.
    recordings : list of Recording
        One per clip, with its spans.
    """
    blocks: list[npt.NDArray[np.float32]] = []
    samples: list[int] = []
    recordings: list[Recording] = []
    for clip, rate in zip(clips, rates, strict=True):
        tracks = [
            audio.resample(channel.astype(np.float32), rate, SAMPLING_RATE)
            for channel in np.atleast_2d(clip)
        ]
        signal = np.stack(tracks) if len(tracks) == 2 else tracks[0]
        whole = Recording(len(tracks[0]), SAMPLING_RATE, len(tracks))
        recordings += LongAudio().plan([whole], WRITING, NO_LIMIT)
        for block in cut([signal], recordings[-1:], WRITING):
            samples.append(len(block))
            blocks.append(features.log_mel(block, N_MELS, pad_to=WINDOW_S * SAMPLING_RATE))
    return np.stack(blocks).astype(np.float16), samples, recordings


def example_of(item: Item, gain: float = 1.0) -> Example:
    """Return an item of the generator as an example; `gain` scales all its clips."""
    clips = [gain * clip for clip in item.clips]
    blocks, samples, recordings = hear(clips, item.sampling_rates)
    if item.answer is None:
        raise ValueError(f"an item of {item.skill!r} has no answer")
    return Example(
        skill=item.skill,
        blocks=blocks,
        samples=tuple(samples),
        recordings=tuple(recordings),
        question=item.question,
        choices=item.choices,
        answer=item.answer,
    )


def make_example(name: str, rng: Generator) -> Example:
    """Make one example of a skill, or of the transcript task, at random rates and level."""
    if name == TRANSCRIPT:
        return transcript(rng)
    skill: Skill = questions.SKILLS[name]
    rates = [int(rng.choice(RATES)) for _ in range(skill.clips)]
    item = questions.make_item(skill, rng, rates)
    return example_of(item, gain=10.0 ** (-rng.uniform(0.0, 4.0) / 20.0))


# ------------------------------------------------------------------------------------- scenes

KINDS = ("nothing", "man", "woman", "beep", "hiss", "clicks", "siren", "note", "chord")
SENTENCES: tuple[str, ...] = (
    *speech.CAPITALS.values(),
    *speech.SUMS.values(),
    *speech.RIDDLES.values(),
    *speech.PLACES.values(),
    *(key + speech.PACE_SENTENCE for key in speech.PACE_KEYS.values()),
)
SPOKEN: tuple[str, ...] = (*speech.WORDS, *SENTENCES)
LOWEST_NOTE, HIGHEST_NOTE = 54, 90  # MIDI
# Classes per label; class 0 says that there is none.
LABELS: dict[str, int] = {
    "kind": len(KINDS),
    "spoken": 1 + len(SPOKEN),
    "note": 2 + HIGHEST_NOTE - LOWEST_NOTE,
    "timbre": 1 + len(signals.TIMBRES),
    "chord": 3,
    "bed": 3,
    "level": 6,
}


@dataclass(frozen=True)
class Scene:
    """Four seconds of events with a label for every 40 ms.

    Parameters
    ----------
    block : ndarray, shape (80, 400), float16
        Features.
    samples : int
        Length at 16 kHz.
    recording : Recording
        The same, as the prompt is written from it.
    labels : ndarray, shape (len(LABELS), 100), int16
        Class of each position, in the order of `LABELS`; -1 beyond the end.
    names : tuple of str
        The events in order.
    """

    block: Features
    samples: int
    recording: Recording
    labels: npt.NDArray[np.int16]
    names: tuple[str, ...]


@dataclass(frozen=True)
class _Event:
    name: str
    sound: Signal
    labels: dict[str, int]


def _speech_event(rng: Generator, sentences: bool) -> _Event:
    if sentences:
        voice, text = str(rng.choice(speech.SENTENCE_VOICES)), str(rng.choice(SENTENCES))
    else:
        voice, text = str(rng.choice(speech.ALL_VOICES)), str(rng.choice(speech.WORDS))
    labels = {
        "kind": KINDS.index(speech.VOICES[voice][1]),
        "spoken": 1 + SPOKEN.index(text),
    }
    return _Event(text, speech.say(text, voice), labels)


def _note_event(rng: Generator, seconds: float, timbre: str | None = None) -> _Event:
    name = timbre or str(rng.choice(signals.TIMBRES))
    midi = int(rng.integers(LOWEST_NOTE, HIGHEST_NOTE))
    labels = {
        "kind": KINDS.index("note"),
        "note": 1 + midi - LOWEST_NOTE,
        "timbre": 1 + signals.TIMBRES.index(name),
    }
    return _Event("note", signals.note(name, midi, seconds, SAMPLING_RATE), labels)


def _chord_event(rng: Generator) -> _Event:
    name = str(rng.choice(signals.TIMBRES[:3]))
    root, minor = int(rng.integers(LOWEST_NOTE, 70)), int(rng.integers(2))
    notes = [root, root + 4 - minor, root + 7]
    labels = {
        "kind": KINDS.index("chord"),
        "note": 1 + root - LOWEST_NOTE,
        "timbre": 1 + signals.TIMBRES.index(name),
        "chord": 1 + minor,
    }
    seconds = float(rng.uniform(0.6, 1.8))
    return _Event("chord", signals.chord(name, notes, seconds, SAMPLING_RATE), labels)


def _sound_event(rng: Generator) -> _Event:
    kind = str(rng.choice(["beep", "beep", "hiss", "clicks", "siren"]))
    sr = SAMPLING_RATE
    labels = {"kind": KINDS.index(kind)}
    if kind == "beep":
        midi = float(rng.uniform(74, HIGHEST_NOTE))
        sound = signals.tone(signals.midi_to_hz(midi), float(rng.uniform(0.1, 0.3)), sr)
        labels["note"] = 1 + round(midi) - LOWEST_NOTE
    elif kind == "hiss":
        colour = str(rng.choice(["white", "white", "pink", "brown"]))
        sound = signals.noise(rng, float(rng.uniform(0.2, 0.9)), sr, colour)
    elif kind == "clicks":
        step, count = float(rng.uniform(0.08, 0.3)), int(rng.integers(3, 7))
        sound = signals.rhythm([step * k for k in range(count)], signals.click(sr), 0.05, sr)
    else:
        low = float(rng.uniform(500, 700))
        sound = signals.siren(low, 2.2 * low, 0.8, float(rng.uniform(0.6, 1.2)), sr)
    return _Event(kind, sound, labels)


def _event(rng: Generator, room: float) -> _Event:
    share = rng.uniform()
    if share < 0.55:
        return _speech_event(rng, sentences=room > 3.0 and rng.uniform() < 0.4)
    if share < 0.75:
        return _note_event(rng, float(rng.uniform(0.18, 0.8)))
    if share < 0.8:
        return _chord_event(rng)
    return _sound_event(rng)


def make_scene(rng: Generator) -> Scene:
    """Make a scene: events one after the other, often over faint music or noise."""
    sr, gap = SAMPLING_RATE, float(rng.uniform(0.03, 0.35))
    labels = np.zeros((len(LABELS), POSITIONS), np.int16)
    rows = {name: row for row, name in enumerate(LABELS)}
    line = np.zeros(WINDOW_S * sr)
    at = float(rng.uniform(0.05, 0.5))
    names: list[str] = []
    most = int(rng.integers(1, 8))
    while len(names) < most:
        event = _event(rng, WINDOW_S - at)
        start, stop = round(at * sr), round(at * sr) + event.sound.size
        if stop > line.size:
            break
        level = int(rng.integers(0, 5)) if rng.uniform() < 0.5 else 0
        line[start:stop] += event.sound * 10.0 ** (-4.0 * level / 20.0)
        where = slice(round(start / 640), max(round(stop / 640), round(start / 640) + 1))
        for name, value in (event.labels | {"level": 1 + level}).items():
            labels[rows[name], where] = value
        names.append(event.name)
        at = stop / sr + gap
    total = min(line.size, round((at - gap + float(rng.uniform(0.05, 0.3))) * sr))
    line = line[: max(total, sr // 2)]
    bed = int(rng.integers(3)) if rng.uniform() < 0.5 else 0
    if bed == 1:
        timbre = str(rng.choice(signals.TIMBRES))
        notes = [float(m) for m in rng.integers(60, 80, 9)]
        music = signals.melody(timbre, notes, float(rng.uniform(0.28, 0.45)), sr)
        line = line + 10.0 ** (-rng.uniform(4, 16) / 20.0) * np.resize(music, line.size)
    elif bed == 2:
        noise = signals.noise(rng, line.size / sr, sr, "pink")[: line.size]
        line = line + 10.0 ** (-rng.uniform(10, 35) / 20.0) * np.resize(noise, line.size)
    if rng.uniform() < 0.2:  # what low sampling rates leave
        line = signals.low_pass(line, float(rng.choice([2700.0, 3700.0])), sr)
    line = signals.peak(line, 0.9 * 10.0 ** (-rng.uniform(0, 6) / 20.0))
    labels[rows["bed"]] = bed
    blocks, samples, recordings = hear([line], [sr])
    labels[:, sum(WRITING.count_tokens(samples)) :] = -1
    return Scene(blocks[0], samples[0], recordings[0], labels, tuple(names))


def transcript(rng: Generator) -> Example:
    """Return a scene with its events, in order, as the answer."""
    while True:
        scene = make_scene(rng)
        if 1 <= len(scene.names) <= 6 and not set(scene.names) & set(SENTENCES):
            break
    return Example(
        skill=TRANSCRIPT,
        blocks=scene.block[None],
        samples=(scene.samples,),
        recordings=(scene.recording,),
        question=TRANSCRIPT_QUESTION,
        choices=(),
        answer=", ".join(scene.names),
    )
