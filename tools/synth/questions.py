"""Questions whose answer is in the audio and nowhere else.

A `Skill` makes an item in two steps. `prepare` draws the question, the options and everything
that the sound does not owe to the answer; only then is the answer drawn, uniformly, from the
options, and `render` makes the clips for it. So for any question text and any set of options
every option is equally likely, and nothing in the text tells which one is right. `make_item`
then shuffles the options.

The same functions make the embedded sample and training material: other seeds give other items.
One long file, because it is a list: some forty skills, each read by itself, with what several share first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from synth import signals, speech
from synth.instructions import Instruction
from synth.signals import Signal

Rates = tuple[int, ...]

LENGTH_LIMITS: tuple[tuple[str, float], ...] = (
    ("short", 30.0),
    ("medium", 180.0),
    ("long", 480.0),
    ("ultra-long", 600.0),
)


@dataclass(frozen=True)
class Draft:
    """A question before its answer is drawn.

    Parameters
    ----------
    question : str
        The question text.
    options : tuple of str
        The possible answers, in an order that means nothing.
    params : dict
        What the sound needs besides the answer.
    """

    question: str
    options: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Skill:
    """One kind of question.

    Parameters
    ----------
    name : str
        Unique name; the value of the `sub-cat` column.
    category : str
        Slug of the category (a key of `schema.CATEGORIES`).
    prepare : callable
        `(rng, voices) -> Draft`.
    render : callable
        `(rng, draft, answer, rates) -> list of clips`, one clip per entry of `rates` (Hz), each
        mono (n,) or stereo (2, n).
    perceptual, reasoning : tuple of str
        Skills as in the paper's two legends.
    clips : int
        Clips per item.
    transcribe : callable, optional
        `(draft, answer) -> str`: the words of a spoken question.
    """

    name: str
    category: str
    prepare: Callable[[Generator, tuple[str, ...]], Draft]
    render: Callable[[Generator, Draft, str, Rates], list[Signal]]
    perceptual: tuple[str, ...]
    reasoning: tuple[str, ...]
    clips: int = 1
    transcribe: Callable[[Draft, str], str] | None = None


@dataclass(frozen=True)
class Item:
    """A question with its sound.

    Parameters
    ----------
    skill, category : str
        Name of the skill and slug of its category.
    question : str
        The question text.
    choices : tuple of str
        The options in the order in which they are shown.
    answer : str or None
        The right option; None on instruction items.
    clips : tuple of ndarray
        float64, (n,) or (2, n).
    sampling_rates : tuple of int
        Hz, one per clip.
    perceptual, reasoning : tuple of str
        Skills.
    transcription : str or None
        Words of a spoken question.
    instruction : Instruction, optional
        The constraint of an instruction item.
    """

    skill: str
    category: str
    question: str
    choices: tuple[str, ...]
    answer: str | None
    clips: tuple[Signal, ...]
    sampling_rates: Rates
    perceptual: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    transcription: str | None = None
    instruction: Instruction | None = None


def make_item(
    skill: Skill,
    rng: Generator,
    sampling_rates: int | Sequence[int] = 16000,
    answer: int | None = None,
    position: int | None = None,
    voices: tuple[str, ...] = speech.ALL_VOICES,
) -> Item:
    """Make one item of a skill.

    Parameters
    ----------
    skill : Skill
        Which kind of question.
    rng : numpy.random.Generator
        Source of chance; equal states give equal items.
    sampling_rates : int or sequence of int
        Hz, for all clips or for each one.
    answer : int, optional
        Index of the answer among the draft's options. Drawn uniformly when omitted.
    position : int, optional
        Place of the answer among the shown choices. Drawn uniformly when omitted.
    voices : tuple of str
        Voices that may speak (`speech.VOICES`); both a man's and a woman's are needed.

    Returns
    -------
    Item
        Clips have a peak of at most 0.9.
    """
    rates = (
        (sampling_rates,) * skill.clips
        if isinstance(sampling_rates, int)
        else tuple(sampling_rates)
    )
    if len(rates) != skill.clips:
        raise ValueError(f"{skill.name} has {skill.clips} clips, but {len(rates)} rates were given")
    draft, chosen, choices = make_text(skill, rng, answer, position, voices)
    clips = skill.render(rng, draft, chosen, rates)
    return Item(
        skill=skill.name,
        category=skill.category,
        question=draft.question,
        choices=choices,
        answer=chosen,
        clips=together(clips),
        sampling_rates=rates,
        perceptual=skill.perceptual,
        reasoning=skill.reasoning,
        transcription=skill.transcribe(draft, chosen) if skill.transcribe else None,
    )


def make_text(
    skill: Skill,
    rng: Generator,
    answer: int | None = None,
    position: int | None = None,
    voices: tuple[str, ...] = speech.ALL_VOICES,
) -> tuple[Draft, str, tuple[str, ...]]:
    """Make the text of an item without its sound (see `make_item`).

    Returns
    -------
    tuple of (Draft, str, tuple of str)
        The draft, the answer and the choices in the order in which they are shown.
    """
    draft = skill.prepare(rng, voices)
    drawn = int(rng.integers(len(draft.options)))
    chosen = draft.options[drawn if answer is None else answer]
    others = [option for option in draft.options if option != chosen]
    shuffled = [others[i] for i in rng.permutation(len(others))]
    place = int(rng.integers(len(draft.options)))
    shuffled.insert(place if position is None else position, chosen)
    return draft, chosen, tuple(shuffled)


def together(clips: Sequence[Signal], level: float = 0.9) -> tuple[Signal, ...]:
    """Return clips scaled by one common gain, so that the loudest peak is `level`.

    One gain for all keeps level differences between the clips of an item, and between channels.
    """
    largest = max(float(np.max(np.abs(clip), initial=0.0)) for clip in clips)
    gain = level / largest if largest > level else 1.0
    return tuple(clip * gain for clip in clips)


def length_type(seconds: float) -> str:
    """Return the paper's name for a duration: short, medium, long or ultra-long."""
    for name, limit in LENGTH_LIMITS:
        if seconds <= limit:
            return name
    raise ValueError(f"{seconds:.1f} s is longer than the benchmark's 10 minutes")


def _one(rng: Generator, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def _some(rng: Generator, options: Sequence[str], count: int) -> tuple[str, ...]:
    return tuple(options[int(i)] for i in rng.permutation(len(options))[:count])


def _voice(rng: Generator, voices: tuple[str, ...], sentences: bool = False) -> str:
    allowed = [v for v in voices if v in speech.SENTENCE_VOICES] if sentences else list(voices)
    return str(_one(rng, allowed or speech.SENTENCE_VOICES))


def _frame(signal: Signal, sampling_rate: int, edge: float = 0.15) -> Signal:
    """Return the signal with `edge` s of silence on both sides."""
    pad = np.zeros(round(edge * sampling_rate))
    return np.concatenate([pad, signal, pad])


# --------------------------------------------------------------------------------------- sound

_SOUNDS: dict[str, str] = {
    "a steady beep": "beep",
    "a hissing noise": "hiss",
    "a series of clicks": "clicks",
    "a wailing siren": "siren",
}


def _sound(kind: str, rng: Generator, seconds: float, sr: int) -> Signal:
    """Return one of four everyday-like sounds, shape (n,)."""
    if kind == "beep":
        return 0.7 * signals.tone(rng.uniform(700, 1500), seconds, sr)
    if kind == "hiss":
        return 0.7 * signals.noise(rng, seconds, sr)
    if kind == "clicks":
        onsets = np.arange(0.02, seconds - 0.05, rng.uniform(0.10, 0.14))
        return 0.9 * signals.place([(t, signals.click(sr)) for t in onsets], seconds, sr)
    if kind == "siren":
        low = rng.uniform(500, 700)
        return 0.7 * signals.siren(low, 2.2 * low, 0.8, seconds, sr)
    raise ValueError(f"no sound is called {kind!r}")


_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def _beep_count_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How many beeps are in the recording?",
        ("two", "three", "four", "five"),
        {"hz": rng.uniform(600, 1600), "each": rng.uniform(0.1, 0.18), "noise": 30.0},
    )


def _beeps(count: int, hz: float, each: float, rng: Generator, sr: int) -> Signal:
    gaps = rng.uniform(0.22, 0.42, count)
    onsets = np.concatenate([[0.0], np.cumsum(gaps[:-1] + each)])
    beep = 0.7 * signals.tone(hz, each, sr)
    return signals.rhythm([float(t) for t in onsets], beep, each, sr)


def _beep_count(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sr = rates[0]
    beeps = _beeps(_NUMBERS[answer], draft.params["hz"], draft.params["each"], rng, sr)
    line = signals.place([(float(rng.uniform(0.1, 0.6)), beeps)], 3.2, sr)
    return [signals.mix(line, signals.noise(rng, 3.2, sr, "pink"), draft.params["noise"])]


def _kind_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft("What kind of sound is heard?", tuple(_SOUNDS))


def _kind(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    seconds = float(rng.uniform(1.5, 2.5))
    return [_frame(_sound(_SOUNDS[answer], rng, seconds, rates[0]), rates[0])]


def _louder_half_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "In which half of the recording is the sound louder?",
        ("the first half", "the second half"),
        {"colour": _one(rng, ("white", "pink", "brown")), "db": rng.uniform(9, 15)},
    )


def _louder_half(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sr = rates[0]
    sound = 0.9 * signals.noise(rng, 2.4, sr, draft.params["colour"])
    gain = np.full(sound.size, 10.0 ** (-draft.params["db"] / 20.0))
    half = sound.size // 2
    gain[slice(0, half) if answer == "the first half" else slice(half, None)] = 1.0
    return [sound * gain]


def _sweep_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "What happens to the pitch of the sound?",
        ("it rises", "it falls", "it stays the same"),
        {"low": rng.uniform(300, 600), "ratio": rng.uniform(2.0, 4.0)},
    )


def _sweep(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    low, high = draft.params["low"], draft.params["low"] * draft.params["ratio"]
    middle = float(np.sqrt(low * high))
    start, stop = {
        "it rises": (low, high),
        "it falls": (high, low),
        "it stays the same": (middle, middle),
    }[answer]
    return [_frame(0.7 * signals.chirp(start, stop, 2.0, rates[0]), rates[0])]


def _orders(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(", ".join(order) for order in itertools.permutations(names))


def _event_order_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft("In which order are the sounds heard?", _orders(("beep", "hiss", "clicks")))


def _event_order(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    parts = [_sound(name, rng, 0.8, rates[0]) for name in answer.split(", ")]
    return [_frame(signals.join(parts, 0.25, rates[0]), rates[0])]


def _pace_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Do the clicks get faster or slower?",
        ("they get faster", "they get slower", "they keep their pace"),
        {"slow": rng.uniform(0.38, 0.48), "fast": rng.uniform(0.08, 0.12)},
    )


def _pace(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    slow, fast = draft.params["slow"], draft.params["fast"]
    steps = np.geomspace(slow, fast, 12)
    if answer == "they get slower":
        steps = steps[::-1]
    elif answer == "they keep their pace":
        steps = np.full(12, steps.mean())
    onsets = 0.1 + np.concatenate([[0.0], np.cumsum(steps)])
    click = 0.9 * signals.click(rates[0])
    return [signals.rhythm([float(t) for t in onsets], click, 0.2, rates[0])]


def _approach_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How does the source of the sound move?",
        ("it comes closer", "it moves away"),
        {"far": rng.uniform(20, 40)},
    )


def _approach(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    start, stop = draft.params["far"], 2.0
    if answer == "it moves away":
        start, stop = stop, start
    engine = signals.tremolo(signals.noise(rng, 2.6, rates[0], "pink"), 12.0, 0.8, rates[0])
    return [0.9 * signals.distance(engine, start, stop, rates[0])]


def _ending_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which sound is the very last one in the recording?",
        tuple(_SOUNDS),
        {"seconds": rng.uniform(560, 585)},
    )


def _ending(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    """Play all four sounds early on, then minutes of faint hum, then the answer at the end."""
    sr, seconds = rates[0], draft.params["seconds"]
    starts = rng.permutation([30.0, 110.0, 190.0, 270.0])
    events = [
        (float(t), _sound(kind, rng, 2.0, sr))
        for t, kind in zip(starts, _SOUNDS.values(), strict=True)
    ]
    events.append((seconds - 3.0, _sound(_SOUNDS[answer], rng, 2.0, sr)))
    line = signals.place(events, seconds, sr)
    hum = np.sin(2.0 * np.pi * 100.0 * np.arange(line.size) / sr)
    return [line + 0.004 * hum]


# --------------------------------------------------------------------------------------- music


def _pitch_pair_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Is the second note higher or lower than the first one?",
        ("higher", "lower"),
        {
            "timbre": _one(rng, signals.TIMBRES),
            "middle": float(rng.integers(60, 77)),
            "step": float(rng.integers(3, 10)),
        },
    )


def _pitch_pair(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    low = draft.params["middle"] - draft.params["step"] / 2.0
    notes = [low, low + draft.params["step"]]
    if answer == "lower":
        notes.reverse()
    parts = [0.7 * signals.note(draft.params["timbre"], m, 0.8, rates[0]) for m in notes]
    return [_frame(signals.join(parts, 0.15, rates[0]), rates[0])]


_CONTOURS: dict[str, tuple[int, ...]] = {
    "it only rises": (0, 2, 4, 7, 9),
    "it only falls": (9, 7, 4, 2, 0),
    "it rises, then falls": (0, 4, 9, 4, 0),
    "it falls, then rises": (9, 4, 0, 4, 9),
}


def _contour_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How does the melody move?",
        tuple(_CONTOURS),
        {"timbre": _one(rng, signals.TIMBRES), "root": float(rng.integers(60, 73))},
    )


def _contour(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    notes = [draft.params["root"] + step for step in _CONTOURS[answer]]
    line = 0.7 * signals.melody(draft.params["timbre"], notes, 0.45, rates[0])
    return [_frame(line, rates[0])]


def _chord_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Is the chord major or minor?",
        ("major", "minor"),
        {"timbre": _one(rng, ("pluck", "organ", "flute")), "root": float(rng.integers(55, 68))},
    )


def _chord(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    root = draft.params["root"]
    notes = [root, root + (4 if answer == "major" else 3), root + 7]
    return [_frame(0.8 * signals.chord(draft.params["timbre"], notes, 2.0, rates[0]), rates[0])]


def _tempo_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "What does the tempo of the music do?",
        ("it speeds up", "it slows down", "it stays the same"),
        {"root": float(rng.integers(60, 73)), "timbre": _one(rng, ("pluck", "bell"))},
    )


def _tempo(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    long, short, even = [0.42] * 4, [0.18] * 8, [0.27] * 11
    seconds = {
        "it speeds up": long + short,
        "it slows down": short + long,
        "it stays the same": even,
    }[answer]
    steps = rng.integers(0, 5, len(seconds))
    scale = (0, 2, 4, 7, 9)
    notes = [
        0.7 * signals.note(draft.params["timbre"], draft.params["root"] + scale[s], t, rates[0])
        for s, t in zip(steps, seconds, strict=True)
    ]
    return [_frame(np.concatenate(notes), rates[0])]


_INSTRUMENTS: dict[str, str] = {
    "a plucked string": "pluck",
    "an organ": "organ",
    "a flute": "flute",
    "a bell": "bell",
}


def _timbre_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which instrument does the sound resemble most?",
        tuple(_INSTRUMENTS),
        {"notes": [float(m) for m in rng.integers(58, 76, 2)]},
    )


def _timbre(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    parts = [
        0.7 * signals.note(_INSTRUMENTS[answer], m, 1.0, rates[0]) for m in draft.params["notes"]
    ]
    return [_frame(signals.join(parts, 0.1, rates[0]), rates[0])]


def _note_count_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How many notes are played?",
        ("two", "three", "four", "five", "six"),
        {"timbre": _one(rng, ("pluck", "bell")), "root": float(rng.integers(60, 73))},
    )


def _note_count(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    notes = draft.params["root"] + rng.integers(0, 10, _NUMBERS[answer])
    parts = [0.7 * signals.note(draft.params["timbre"], float(m), 0.4, rates[0]) for m in notes]
    return [_frame(signals.join(parts, 0.08, rates[0]), rates[0])]


def _closing_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which instrument plays the last phrase of the recording?",
        tuple(_INSTRUMENTS),
        {"root": float(rng.integers(60, 70))},
    )


def _closing(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    """Let every instrument play a phrase, in random order, and one of them once more at the end."""
    order = [*_some(rng, tuple(_INSTRUMENTS), 4), answer]
    events = []
    for number, name in enumerate(order):
        notes = [draft.params["root"] + float(s) for s in rng.permutation([0, 2, 4, 7])]
        phrase = signals.melody(_INSTRUMENTS[name], notes, 0.5, rates[0])
        events.append((0.5 + 10.0 * number, 0.7 * phrase))
    return [signals.place(events, 43.0, rates[0])]


# -------------------------------------------------------------------------------------- speech


def _digit_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which number does the speaker say?",
        _some(rng, speech.DIGITS, 4),
        {"voice": _voice(rng, voices)},
    )


def _spoken_word(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sr = rates[0]
    word = 0.8 * speech.say(answer, draft.params["voice"], sr)
    return [signals.place([(float(rng.uniform(0.1, 0.5)), word)], 1.5, sr)]


def _word_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    words = speech.COLOURS + speech.ANIMALS
    return Draft("Which word is spoken?", _some(rng, words, 4), {"voice": _voice(rng, voices)})


def _word_count_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How many words are spoken?",
        ("one", "two", "three", "four"),
        {"voice": _voice(rng, voices)},
    )


def _word_count(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    words = _some(rng, speech.COLOURS + speech.ANIMALS, _NUMBERS[answer])
    parts = [0.8 * speech.say(word, draft.params["voice"], rates[0]) for word in words]
    return [_frame(signals.join(parts, 0.25, rates[0]), rates[0])]


def _speaker_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Whose voice is heard?",
        ("a man's voice", "a woman's voice"),
        {"words": _some(rng, speech.WORDS, 3), "voices": voices},
    )


def _speaker(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    who = answer.split()[1].removesuffix("'s")
    fitting = [v for v in draft.params["voices"] if speech.VOICES[v][1] == who]
    voice = _one(rng, fitting)
    parts = [0.8 * speech.say(word, voice, rates[0]) for word in draft.params["words"]]
    return [_frame(signals.join(parts, 0.12, rates[0]), rates[0])]


def _last_word_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which of the words is spoken last?",
        _some(rng, speech.COLOURS + speech.ANIMALS, 3),
        {"voice": _voice(rng, voices)},
    )


def _last_word(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    others = [word for word in draft.options if word != answer]
    words = [others[int(i)] for i in rng.permutation(len(others))] + [answer]
    parts = [0.8 * speech.say(word, draft.params["voice"], rates[0]) for word in words]
    return [_frame(signals.join(parts, 0.2, rates[0]), rates[0])]


def _place_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Where were the keys found?",
        tuple(speech.PLACES),
        {"voice": _voice(rng, voices, sentences=True)},
    )


def _place(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sentence = 0.8 * speech.say(speech.PLACES[answer], draft.params["voice"], rates[0])
    return [_frame(sentence, rates[0])]


def _last_number_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which number is the last one that the speaker says?",
        _some(rng, speech.DIGITS, 4),
        {"voice": _voice(rng, voices)},
    )


def _last_number(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    """Say every option once in the first two minutes and the answer again at the end."""
    order = [draft.options[int(i)] for i in rng.permutation(len(draft.options))] + [answer]
    starts = [8.0, 38.0, 71.0, 104.0, 192.0]
    events = [
        (at, 0.8 * speech.say(word, draft.params["voice"], rates[0]))
        for at, word in zip(starts, order, strict=True)
    ]
    return [signals.place(events, 195.0, rates[0])]


# --------------------------------------------------------------------------------------- mixes


def _tune(rng: Generator, timbre: str, seconds: float, sr: int) -> Signal:
    steps = rng.permutation([0, 2, 4, 7, 9, 12])
    root = float(rng.integers(60, 70))
    notes = [root + float(s) for s in steps]
    return signals.melody(timbre, notes, seconds / len(notes), sr)


def _under_music_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    options = ("a hissing noise", "a series of clicks", "a wailing siren")
    return Draft(
        "Which sound is heard together with the music?",
        options,
        {"timbre": _one(rng, signals.TIMBRES)},
    )


def _under_music(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    tune = _tune(rng, draft.params["timbre"], 2.7, rates[0])
    sound = _sound(_SOUNDS[answer], rng, 1.6, rates[0])
    placed = signals.place([(0.6, sound)], 2.7, rates[0])
    return [_frame(0.5 * tune + 0.6 * placed[: tune.size], rates[0])]


def _noise_position_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "When is the noise heard?",
        ("before the music", "after the music", "during the music"),
        {"timbre": _one(rng, signals.TIMBRES)},
    )


def _relative(first: Signal, second: Signal, answer: str, sr: int) -> Signal:
    """Return `first` before, after or during `second`, whichever the answer's first word says."""
    word = answer.split()[0]
    if word == "during":
        offset = max(0.0, (second.size - first.size) / sr / 2.0)
        return signals.place([(0.0, second), (offset, first)], 0.0, sr)
    parts = [first, second] if word == "before" else [second, first]
    return signals.join(parts, 0.15, sr)


def _noise_position(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    tune = 0.5 * _tune(rng, draft.params["timbre"], 1.8, rates[0])
    hiss = 0.4 * signals.noise(rng, 0.9, rates[0])
    return [_frame(_relative(hiss, tune, answer, rates[0]), rates[0])]


def _word_in_music_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which word is spoken over the music?",
        _some(rng, speech.COLOURS + speech.ANIMALS, 4),
        {"voice": _voice(rng, voices), "timbre": _one(rng, ("pluck", "organ", "flute"))},
    )


def _word_in_music(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    word = speech.say(answer, draft.params["voice"], rates[0])
    line = signals.place([(0.8, word)], 2.4, rates[0])
    tune = _tune(rng, draft.params["timbre"], 2.4, rates[0])[: line.size]
    return [_frame(0.75 * line + 0.15 * np.resize(tune, line.size), rates[0])]


def _voice_position_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "When does the speaker talk?",
        ("before the music", "after the music", "during the music"),
        {
            "voice": _voice(rng, voices),
            "words": _some(rng, speech.WORDS, 2),
            "timbre": _one(rng, signals.TIMBRES),
        },
    )


def _voice_position(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    parts = [speech.say(word, draft.params["voice"], rates[0]) for word in draft.params["words"]]
    talk = 0.6 * signals.join(parts, 0.1, rates[0])
    tune = 0.3 * _tune(rng, draft.params["timbre"], 1.8, rates[0])
    return [_frame(_relative(talk, tune, answer, rates[0]), rates[0])]


def _beeps_then_voice_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How many beeps are heard before the speaker talks?",
        ("one", "two", "three", "four"),
        {"voice": _voice(rng, voices), "word": _one(rng, speech.COLOURS)},
    )


def _beeps_then_voice(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    beeps = _beeps(_NUMBERS[answer], float(rng.uniform(700, 1300)), 0.12, rng, rates[0])
    word = 0.8 * speech.say(draft.params["word"], draft.params["voice"], rates[0])
    return [_frame(signals.join([beeps, word], 0.3, rates[0]), rates[0])]


def _after_beep_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which number is spoken right after the beep?",
        _some(rng, speech.DIGITS, 4),
        {"voice": _voice(rng, voices)},
    )


def _after_beep(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    """Say all four options; the beep stands before the answer, which comes second or later."""
    others = [option for option in draft.options if option != answer]
    words = [others[int(i)] for i in rng.permutation(len(others))]
    words.insert(int(rng.integers(1, len(words) + 1)), answer)
    parts = []
    for word in words:
        if word == answer:
            parts.append(0.6 * signals.tone(1000.0, 0.25, rates[0]))
        parts.append(0.8 * speech.say(word, draft.params["voice"], rates[0]))
    return [_frame(signals.join(parts, 0.18, rates[0]), rates[0])]


def _scene_order_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "In which order are the three parts heard?",
        _orders(("noise", "music", "voice")),
        {
            "voice": _voice(rng, voices),
            "words": _some(rng, speech.WORDS, 2),
            "timbre": _one(rng, signals.TIMBRES),
        },
    )


def _scene_parts(rng: Generator, draft: Draft, sr: int) -> dict[str, Signal]:
    words = [speech.say(word, draft.params["voice"], sr) for word in draft.params["words"]]
    return {
        "noise": 0.5 * signals.noise(rng, 0.9, sr),
        "music": 0.5 * _tune(rng, draft.params["timbre"], 1.5, sr),
        "voice": 0.8 * signals.join(words, 0.1, sr),
    }


def _scene_order(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    parts = _scene_parts(rng, draft, rates[0])
    ordered = [parts[name] for name in answer.split(", ")]
    return [_frame(signals.join(ordered, 0.2, rates[0]), rates[0])]


def _scene_number_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Music and a noise are heard. Which number is spoken between them?",
        _some(rng, speech.DIGITS, 8),
        {"voice": _voice(rng, voices), "timbre": _one(rng, signals.TIMBRES)},
    )


def _scene_number(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sr = rates[0]
    other = _one(rng, [option for option in draft.options if option != answer])
    parts = [
        0.5 * _tune(rng, draft.params["timbre"], 1.2, sr),
        0.8 * speech.say(answer, draft.params["voice"], sr),
        0.5 * signals.noise(rng, 0.7, sr),
        0.8 * speech.say(other, draft.params["voice"], sr),
    ]
    return [_frame(signals.join(parts, 0.2, sr), sr)]


# ------------------------------------------------------------------------------------- spatial


def _side_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "From which side does the sound come?",
        ("from the left", "from the right"),
        {"kind": _one(rng, tuple(_SOUNDS.values())), "db": rng.uniform(8, 16)},
    )


def _side_level(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sound = _frame(_sound(draft.params["kind"], rng, 1.4, rates[0]), rates[0])
    sign = 1.0 if answer == "from the right" else -1.0
    return [signals.pan_level(sound, sign * draft.params["db"])]


def _side_delay_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "The two ears hear the sound at the same level. From which side does it come?",
        ("from the left", "from the right", "from the front"),
        {"colour": _one(rng, ("white", "pink")), "share": rng.uniform(0.6, 1.0)},
    )


def _side_delay(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    bursts = [0.7 * signals.noise(rng, 0.25, rates[0], draft.params["colour"]) for _ in range(4)]
    sound = _frame(signals.join(bursts, 0.12, rates[0]), rates[0])
    sign = {"from the left": -1.0, "from the right": 1.0, "from the front": 0.0}[answer]
    delay = sign * draft.params["share"] * signals.HEAD_DELAY
    return [signals.pan_delay(sound, delay, rates[0])]


def _movement_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "How does the sound move?",
        ("from left to right", "from right to left"),
        {"kind": _one(rng, ("hiss", "clicks", "siren", "beep"))},
    )


def _movement(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sound = _sound(draft.params["kind"], rng, 2.0, rates[0])
    ends = (-0.9, 0.9) if answer == "from left to right" else (0.9, -0.9)
    return [signals.pan_moving(sound, *ends)]


def _side_word_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Two speakers sit to the left and to the right. Which word comes from the left?",
        _some(rng, speech.COLOURS + speech.ANIMALS, 2),
        {"voice": _voice(rng, voices), "db": rng.uniform(12, 18), "left_first": rng.integers(2)},
    )


def _side_word(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    sr, decibels = rates[0], draft.params["db"]
    other = next(word for word in draft.options if word != answer)
    talk = {word: 0.8 * speech.say(word, draft.params["voice"], sr) for word in draft.options}
    left = signals.pan_level(_frame(talk[answer], sr), -decibels)
    right = signals.pan_level(_frame(talk[other], sr), decibels)
    order = [left, right] if draft.params["left_first"] else [right, left]
    return [np.concatenate(order, axis=1)]


# --------------------------------------------------------------------------------- spoken chat

_CHAT_QUESTION = "Answer the question in the audio."


def _chat_draft(answers: dict[str, str]) -> Callable[[Generator, tuple[str, ...]], Draft]:
    def prepare(rng: Generator, voices: tuple[str, ...]) -> Draft:
        return Draft(
            _CHAT_QUESTION,
            tuple(answers),
            {"voice": _voice(rng, voices, sentences=True), "spoken": answers},
        )

    return prepare


def _chat(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    text = draft.params["spoken"][answer]
    return [_frame(0.8 * speech.say(text, draft.params["voice"], rates[0]), rates[0])]


def _chat_words(draft: Draft, answer: str) -> str:
    """Return what the voice says, without the mark that tells the two paces apart in the bank."""
    text: str = draft.params["spoken"][answer]
    for mark in speech.PACE_KEYS.values():
        text = text.removeprefix(mark)
    return text


# --------------------------------------------------------------------------------------- multi

_WHICH = ("the first recording", "the second recording")
_WHICH_OF_THREE = (*_WHICH, "the third recording")


def _louder_clip_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which recording is louder?",
        _WHICH,
        {"kind": _one(rng, tuple(_SOUNDS.values())), "db": rng.uniform(10, 16)},
    )


def _louder_clip(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    state = rng.bit_generator.state
    clips = []
    for name, sr in zip(_WHICH, rates, strict=True):
        rng.bit_generator.state = state  # the same sound twice
        gain = 1.0 if name == answer else 10.0 ** (-draft.params["db"] / 20.0)
        clips.append(gain * _frame(_sound(draft.params["kind"], rng, 1.4, sr), sr))
    return clips


def _higher_clip_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "In which recording is the note higher?",
        _WHICH,
        {
            "timbre": _one(rng, signals.TIMBRES),
            "low": float(rng.integers(58, 70)),
            "step": float(rng.integers(4, 11)),
        },
    )


def _highest_clip_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "In which recording is the note highest?",
        _WHICH_OF_THREE,
        {
            "timbre": _one(rng, signals.TIMBRES),
            "low": float(rng.integers(58, 66)),
            "step": float(rng.integers(4, 8)),
        },
    )


def _higher_clip(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    low, step = draft.params["low"], draft.params["step"]
    lower = [low + step * float(i) for i in rng.permutation(len(draft.options) - 1)]
    top = low + step * (len(draft.options) - 1)
    clips = []
    for name, sr in zip(draft.options, rates, strict=True):
        midi = top if name == answer else lower.pop()
        clips.append(_frame(0.7 * signals.note(draft.params["timbre"], midi, 1.0, sr), sr))
    return clips


def _same_melody_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Do the two recordings have the same melody?",
        ("yes, the same melody", "no, different melodies"),
        {
            "root": float(rng.integers(60, 70)),
            "timbres": _some(rng, ("pluck", "organ", "flute"), 2),
            "steps": [int(s) for s in rng.permutation([0, 2, 4, 7, 9])],
        },
    )


def _same_melody(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    first = draft.params["steps"]
    second = list(first) if answer.startswith("yes") else [first[i] for i in (2, 0, 4, 1, 3)]
    clips = []
    for steps, timbre, sr in zip((first, second), draft.params["timbres"], rates, strict=True):
        notes = [draft.params["root"] + s for s in steps]
        clips.append(_frame(0.7 * signals.melody(timbre, notes, 0.4, sr), sr))
    return clips


def _effect_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    return Draft(
        "Which effect turns the first recording into the second one?",
        tuple(signals.EFFECTS),
        {"notes": [float(m) for m in rng.integers(60, 76, 3)]},
    )


def _effect(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    dry, wet = (
        _frame(0.6 * signals.melody("pluck", draft.params["notes"], 0.5, sr), sr) for sr in rates
    )
    return [dry, 0.8 * signals.peak(signals.EFFECTS[answer](wet, rates[1]))]


def _which_word_draft(rng: Generator, voices: tuple[str, ...]) -> Draft:
    word, other = _some(rng, speech.COLOURS + speech.ANIMALS, 2)
    return Draft(
        f"In which recording is the word {word} spoken?",
        _WHICH,
        {"word": word, "other": other, "voice": _voice(rng, voices)},
    )


def _which_word(rng: Generator, draft: Draft, answer: str, rates: Rates) -> list[Signal]:
    clips = []
    for name, sr in zip(_WHICH, rates, strict=True):
        word = draft.params["word"] if name == answer else draft.params["other"]
        clips.append(_frame(0.8 * speech.say(word, draft.params["voice"], sr), sr, 0.3))
    return clips


PACE_SPOKEN = {pace: key + speech.PACE_SENTENCE for pace, key in speech.PACE_KEYS.items()}

_SOURCE = "Acoustic Source Characterization"
_TREND = "Acoustic Trend Estimation"
_PITCH = "Pitch & Melody Perception"
_RHYTHM = "Rhythmic Pattern & Tempo Recognition"
_TIMBRE_SKILL = "Timbre Perception & Instrument Recognition"
_LEXICAL = "Lexical & Phrase-Level Recognition"
_SPATIAL = "Spatial Sound Perception"
_SEPARATION = "Auditory Source Separation"
_COUNT = "Auditory Quantity Estimation"
_SCENE = "Acoustic Scene Reasoning"
_ORDER = "Temporal & Ordering Reasoning"
_COMPARE = "Comparative Reasoning"
_EXTRACT = "Information Extraction"
_KNOWLEDGE = "World Knowledge Integration"

_ALL_SKILLS: tuple[Skill, ...] = (
    Skill("beep count", "sound", _beep_count_draft, _beep_count, (_SOURCE,), (_COUNT,)),
    Skill("kind of sound", "sound", _kind_draft, _kind, (_SOURCE,), (_SCENE,)),
    Skill(
        "louder half", "sound", _louder_half_draft, _louder_half, (_TREND,), ("Temporal Reasoning",)
    ),
    Skill("sweep", "sound", _sweep_draft, _sweep, (_TREND,), ("Temporal Reasoning",)),
    Skill("event order", "sound", _event_order_draft, _event_order, (_SOURCE,), (_ORDER,)),
    Skill("click pace", "sound", _pace_draft, _pace, (_TREND,), ("Temporal Reasoning",)),
    Skill(
        "approach", "sound", _approach_draft, _approach, (_TREND,), ("Audio Perspective Inference",)
    ),
    Skill("last sound", "sound", _ending_draft, _ending, (_SOURCE,), (_ORDER,)),
    Skill("pitch pair", "music", _pitch_pair_draft, _pitch_pair, (_PITCH,), (_COMPARE,)),
    Skill("contour", "music", _contour_draft, _contour, (_PITCH,), ("Structure & Form Analysis",)),
    Skill(
        "chord quality",
        "music",
        _chord_draft,
        _chord,
        ("Harmony Perception & Analysis",),
        ("Musicological Knowledge",),
    ),
    Skill("tempo", "music", _tempo_draft, _tempo, (_RHYTHM,), ("Structure & Form Analysis",)),
    Skill(
        "timbre", "music", _timbre_draft, _timbre, (_TIMBRE_SKILL,), ("Musicological Knowledge",)
    ),
    Skill("note count", "music", _note_count_draft, _note_count, (_RHYTHM,), (_COUNT,)),
    Skill("last instrument", "music", _closing_draft, _closing, (_TIMBRE_SKILL,), (_ORDER,)),
    Skill("digit", "speech", _digit_draft, _spoken_word, (_LEXICAL,), (_EXTRACT,)),
    Skill("word", "speech", _word_draft, _spoken_word, (_LEXICAL,), (_EXTRACT,)),
    Skill("word count", "speech", _word_count_draft, _word_count, (_LEXICAL,), (_COUNT,)),
    Skill(
        "speaker",
        "speech",
        _speaker_draft,
        _speaker,
        ("Speaker Demographics", "Speaker Characteristics"),
        (_EXTRACT,),
    ),
    Skill("last word", "speech", _last_word_draft, _last_word, (_LEXICAL,), (_ORDER,)),
    Skill("place", "speech", _place_draft, _place, (_LEXICAL,), (_EXTRACT,)),
    Skill("last number", "speech", _last_number_draft, _last_number, (_LEXICAL,), (_ORDER,)),
    Skill(
        "sound with music",
        "sound_music",
        _under_music_draft,
        _under_music,
        (_SEPARATION,),
        (_SCENE,),
    ),
    Skill(
        "noise position",
        "sound_music",
        _noise_position_draft,
        _noise_position,
        (_SEPARATION,),
        ("Temporal Event Reasoning",),
    ),
    Skill(
        "word over music",
        "music_speech",
        _word_in_music_draft,
        _word_in_music,
        (_SEPARATION, _LEXICAL),
        (_EXTRACT,),
    ),
    Skill(
        "voice position",
        "music_speech",
        _voice_position_draft,
        _voice_position,
        (_SEPARATION,),
        ("Temporal Event Reasoning",),
    ),
    Skill(
        "beeps before voice",
        "sound_speech",
        _beeps_then_voice_draft,
        _beeps_then_voice,
        (_SOURCE,),
        (_COUNT,),
    ),
    Skill(
        "number after beep", "sound_speech", _after_beep_draft, _after_beep, (_LEXICAL,), (_ORDER,)
    ),
    Skill(
        "scene order",
        "sound_music_speech",
        _scene_order_draft,
        _scene_order,
        (_SEPARATION,),
        ("Temporal Event Reasoning",),
    ),
    Skill(
        "number in scene",
        "sound_music_speech",
        _scene_number_draft,
        _scene_number,
        (_SEPARATION, _LEXICAL),
        (_EXTRACT,),
    ),
    Skill("side by level", "spatial_audio", _side_draft, _side_level, (_SPATIAL,), (_SCENE,)),
    Skill("side by delay", "spatial_audio", _side_delay_draft, _side_delay, (_SPATIAL,), (_SCENE,)),
    Skill("movement", "spatial_audio", _movement_draft, _movement, (_SPATIAL,), (_SCENE,)),
    Skill(
        "word on the left",
        "spatial_audio",
        _side_word_draft,
        _side_word,
        (_SPATIAL, _LEXICAL),
        (_EXTRACT,),
    ),
    Skill(
        "capital",
        "voice_chat",
        _chat_draft(speech.CAPITALS),
        _chat,
        (_LEXICAL,),
        (_KNOWLEDGE,),
        transcribe=_chat_words,
    ),
    Skill(
        "sum",
        "voice_chat",
        _chat_draft(speech.SUMS),
        _chat,
        (_LEXICAL,),
        ("Mathematical & Logical Reasoning",),
        transcribe=_chat_words,
    ),
    Skill(
        "riddle",
        "voice_chat",
        _chat_draft(speech.RIDDLES),
        _chat,
        (_LEXICAL,),
        (_KNOWLEDGE,),
        transcribe=_chat_words,
    ),
    Skill(
        "speech pace",
        "voice_chat",
        _chat_draft(PACE_SPOKEN),
        _chat,
        ("Prosody Detection",),
        (_EXTRACT,),
        transcribe=_chat_words,
    ),
    Skill(
        "louder clip", "multi", _louder_clip_draft, _louder_clip, (_TREND,), (_COMPARE,), clips=2
    ),
    Skill(
        "higher clip", "multi", _higher_clip_draft, _higher_clip, (_PITCH,), (_COMPARE,), clips=2
    ),
    Skill(
        "highest of three",
        "multi",
        _highest_clip_draft,
        _higher_clip,
        (_PITCH,),
        (_COMPARE,),
        clips=3,
    ),
    Skill(
        "same melody", "multi", _same_melody_draft, _same_melody, (_PITCH,), (_COMPARE,), clips=2
    ),
    Skill(
        "effect",
        "multi",
        _effect_draft,
        _effect,
        ("Texture & Dynamic Range Perception",),
        (_COMPARE,),
        clips=2,
    ),
    Skill(
        "clip with word", "multi", _which_word_draft, _which_word, (_LEXICAL,), (_COMPARE,), clips=2
    ),
)
SKILLS: dict[str, Skill] = {skill.name: skill for skill in _ALL_SKILLS}


# ---------------------------------------------------------------------- open and instruction rows


def open_items(rng: Generator, rates: Callable[[], int]) -> list[Item]:
    """Return the open-ended items: free answers, some with one choice, some with none.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    rates : callable
        Returns the sampling rate of the next clip in Hz.

    Returns
    -------
    list of Item
        Seven items; one has two clips and one has three.
    """
    items: list[Item] = []

    def add(
        name: str, question: str, answer: str, clips: list[Signal], clip_rates: Rates, one: bool
    ) -> None:
        items.append(
            Item(
                skill=name,
                category="open",
                question=question,
                choices=(answer,) if one else (),
                answer=answer,
                clips=together(clips),
                sampling_rates=clip_rates,
                perceptual=(_SOURCE,),
                reasoning=(_SCENE,),
            )
        )

    sr = rates()
    order = list(_some(rng, tuple(_SOUNDS), 3))
    parts = [_sound(_SOUNDS[name], rng, 0.8, sr) for name in order]
    add(
        "describe the order",
        "Which sounds are heard, and in which order?",
        f"First {order[0]}, then {order[1]}, and finally {order[2]}.",
        [_frame(signals.join(parts, 0.25, sr), sr)],
        (sr,),
        one=False,
    )
    for name, key in (("hour", "nine"), ("colour", "yellow")):
        sr = rates()
        voice = _voice(rng, speech.ALL_VOICES, sentences=True)
        question = {
            "hour": "When does the train to London leave?",
            "colour": "What did the speaker's sister buy?",
        }[name]
        answer = {"hour": "It leaves at nine.", "colour": "She bought a yellow bicycle."}[name]
        talk = 0.8 * speech.say(speech.NEWS[key], voice, sr)
        add(f"spoken {name}", question, answer, [_frame(talk, sr)], (sr,), one=True)
    sr = rates()
    swell = signals.noise(rng, 2.4, sr, "pink")
    swell = swell * np.geomspace(0.03, 0.9, swell.size)
    add(
        "loudness trend",
        "How does the loudness of the noise change?",
        "It grows steadily from quiet to loud.",
        [swell],
        (sr,),
        one=True,
    )
    sr = rates()
    root = float(rng.integers(60, 70))
    tune = [signals.melody("flute", [root + s for s in (0, 2, 4, 7)], 0.4, sr)]
    tune.append(signals.chord("organ", [root, root + 4, root + 7], 1.0, sr))
    add(
        "describe the music",
        "Describe the music in one sentence.",
        "A flute-like melody of four rising notes is followed by an organ chord.",
        [_frame(0.7 * signals.join(tune, 0.1, sr), sr)],
        (sr,),
        one=False,
    )
    pair = (rates(), rates())
    voices = ("us-man", "us-woman")
    words = [0.8 * speech.say("blue", v, r) for v, r in zip(voices, pair, strict=True)]
    add(
        "compare two",
        "What is the same in the two recordings, and what is different?",
        "Both say the word blue; a man speaks in the first and a woman in the second.",
        [_frame(word, r, 0.3) for word, r in zip(words, pair, strict=True)],
        pair,
        one=False,
    )
    three = (rates(), rates(), rates())
    kinds = ("siren", "siren", "hiss")
    add(
        "odd one out",
        "Which of the three recordings differs from the others, and how?",
        "The third one: it is a hissing noise, while the other two are sirens.",
        [_frame(_sound(kind, rng, 1.2, r), r) for kind, r in zip(kinds, three, strict=True)],
        three,
        one=False,
    )
    return items


def instruction_item(
    instruction: Instruction, number: int, rng: Generator, sampling_rate: int
) -> Item:
    """Return one instruction item: the spoken instruction, then a sound to describe.

    Parameters
    ----------
    instruction : Instruction
        The constraint.
    number : int
        Its place in `INSTRUCTIONS`, which fixes the voice of the bank.
    rng : numpy.random.Generator
        Source of chance.
    sampling_rate : int
        Hz.

    Returns
    -------
    Item
        Without answer and choices, as in the dataset.
    """
    voice = speech.SENTENCE_VOICES[number % len(speech.SENTENCE_VOICES)]
    talk = 0.8 * speech.say(instruction.text, voice, sampling_rate)
    kind = _one(rng, tuple(_SOUNDS.values()))
    sound = _sound(kind, rng, 1.0, sampling_rate)
    clip = _frame(signals.join([talk, sound], 0.4, sampling_rate), sampling_rate)
    return Item(
        skill=kind,
        category="instruction_following",
        question=instruction.text,
        choices=(),
        answer=None,
        clips=together([clip]),
        sampling_rates=(sampling_rate,),
        perceptual=(_LEXICAL,),
        reasoning=(_EXTRACT,),
        transcription=instruction.text,
        instruction=instruction,
    )
