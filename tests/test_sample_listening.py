"""The answers are in the audio: each is found again by listening to the shipped files.

A listener below gets the decoded clips and the choices, never the answer. It uses plain signal
processing: levels, spectra, onsets, cross-correlation, and a matched filter for spoken words.
One long file, because it is a list: one listener a skill.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import soundfile

from mmaupro_ext import data
from synth import questions, signals, speech

BANK = speech.BANK_RATE


def decode(doc, tail=None):
    """Return (samples (channels, n), rate) of every clip; `tail` keeps the last seconds only."""
    clips = []
    for path in doc["audio_path"]:
        samples, rate = soundfile.read(data.SAMPLE_DIR / path, always_2d=True)
        clips.append((samples.T[:, -round(tail * rate) :] if tail else samples.T, rate))
    return clips


def level(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


def loudness(samples, rate, frame=0.01):
    """Return the RMS of consecutive frames, shape (frames,)."""
    size = round(frame * rate)
    count = len(samples) // size
    return np.sqrt(np.mean(samples[: count * size].reshape(count, size) ** 2, axis=1))


def segments(samples, rate, threshold=0.12, gap=0.05):
    """Return (start, stop) seconds of the stretches that are louder than a share of the peak."""
    loud = np.flatnonzero(loudness(samples, rate) > threshold * loudness(samples, rate).max())
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > gap / 0.01) + 1)
    return [(group[0] * 0.01, (group[-1] + 1) * 0.01) for group in groups]


def cut(samples, rate, start, stop):
    return samples[round(start * rate) : round(stop * rate)]


def strongest(samples, rate):
    """Return the frequency in Hz with most energy."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(np.argmax(spectrum)) * rate / (8 * len(samples))


def flatness(samples, rate):
    """Return geometric over arithmetic mean of the power spectrum up to 3.5 kHz."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2 + 1e-12
    frequency = np.fft.rfftfreq(len(samples), 1 / rate)
    power = power[(frequency > 200) & (frequency < 3500)]
    return float(np.exp(np.mean(np.log(power))) / np.mean(power))


def kind_of(samples, rate):
    """Tell beep, hiss, clicks and siren apart."""
    frames = loudness(samples, rate)
    middle = frames[3:-3]
    if np.quantile(middle, 0.25) < 0.05 * middle.max():
        return "clicks"
    if flatness(samples, rate) > 0.2:
        return "hiss"
    size = round(0.1 * rate)
    track = [strongest(samples[i : i + size], rate) for i in range(0, len(samples) - size, size)]
    return "siren" if np.ptp(track) > 200 else "beep"


def words_heard(samples, rate, texts, voices=speech.ALL_VOICES):
    """Return (text, score, seconds, length) per text: best matched-filter fit over the voices."""
    sound = signals.resample(np.concatenate([samples, np.zeros(8 * rate)]), rate, BANK)
    limit = 0.45 * min(rate, BANK)
    count = 1 << (len(sound) + 6 * BANK).bit_length()
    transformed = np.fft.rfft(sound, count)
    energy = np.concatenate([[0.0], np.cumsum(sound**2)])
    found = []
    for text in texts:
        best = (0.0, 0.0, 0.0)
        for voice in voices:
            template = speech.say(text, voice)
            template = signals.low_pass(template, limit, BANK)
            fit = np.fft.irfft(transformed * np.conj(np.fft.rfft(template, count)), count)
            fit = fit[: len(sound) - len(template) + 1]
            local = energy[len(template) :] - energy[: -len(template)]
            score = fit / np.sqrt(np.maximum(local, 1e-3 * local.max()) * np.sum(template**2))
            at = int(np.argmax(score))
            best = max(best, (float(score[at]), at / BANK, len(template) / BANK))
        found.append((text, *best))
    return found


def best_word(samples, rate, texts, voices=speech.ALL_VOICES):
    return max(words_heard(samples, rate, texts, voices), key=lambda found: found[1])[0]


def semitones(high, low):
    return 12.0 * np.log2(high / low)


# ------------------------------------------------------------------------------------ listeners
# Each takes the clips [(samples (channels, n), rate), ...] and the choices, and returns a choice.


NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
SOUND_NAMES = {
    "beep": "a steady beep",
    "hiss": "a hissing noise",
    "clicks": "a series of clicks",
    "siren": "a wailing siren",
}


def mono(clips):
    samples, rate = clips[0]
    return samples.mean(axis=0), rate


def hear_beep_count(clips, choices):
    return NUMBERS[len(segments(*mono(clips), threshold=0.3))]


def hear_kind(clips, choices):
    samples, rate = mono(clips)
    start, stop = segments(samples, rate, gap=0.4)[0]
    return SOUND_NAMES[kind_of(cut(samples, rate, start, stop), rate)]


def hear_louder_half(clips, choices):
    samples, _ = mono(clips)
    half = len(samples) // 2
    return f"the {'first' if level(samples[:half]) > level(samples[half:]) else 'second'} half"


def hear_sweep(clips, choices):
    samples, rate = mono(clips)
    start, stop = segments(samples, rate)[0]
    change = semitones(
        strongest(cut(samples, rate, stop - 0.3, stop - 0.1), rate),
        strongest(cut(samples, rate, start + 0.1, start + 0.3), rate),
    )
    return "it rises" if change > 2 else "it falls" if change < -2 else "it stays the same"


def hear_event_order(clips, choices):
    samples, rate = mono(clips)
    parts = segments(samples, rate, gap=0.2)
    return ", ".join(kind_of(cut(samples, rate, *part), rate) for part in parts)


def hear_pace(clips, choices):
    starts = [start for start, _ in segments(*mono(clips), threshold=0.3, gap=0.02)]
    steps = np.diff(starts)
    ratio = steps[-3:].mean() / steps[:3].mean()
    if ratio < 0.7:
        return "they get faster"
    return "they get slower" if ratio > 1.4 else "they keep their pace"


def hear_approach(clips, choices):
    samples, _ = mono(clips)
    half = len(samples) // 2
    return "it comes closer" if level(samples[half:]) > level(samples[:half]) else "it moves away"


def hear_last_sound(clips, choices):
    samples, rate = mono(clips)
    start, stop = segments(samples, rate, gap=0.4)[-1]
    return SOUND_NAMES[kind_of(cut(samples, rate, start, stop), rate)]


def hear_pitch_pair(clips, choices):
    samples, rate = mono(clips)
    middle = len(samples) // 2
    rising = strongest(samples[middle:], rate) > strongest(samples[:middle], rate)
    return "higher" if rising else "lower"


def hear_contour(clips, choices):
    samples, rate = mono(clips)
    start = segments(samples, rate, threshold=0.05)[0][0]
    pitches = [
        strongest(cut(samples, rate, start + 0.45 * i + 0.08, start + 0.45 * i + 0.40), rate)
        for i in range(5)
    ]
    steps = np.sign(np.diff(pitches))
    return {
        (1, 1, 1, 1): "it only rises",
        (-1, -1, -1, -1): "it only falls",
        (1, 1, -1, -1): "it rises, then falls",
        (-1, -1, 1, 1): "it falls, then rises",
    }[tuple(int(step) for step in steps)]


def hear_chord(clips, choices):
    samples, rate = mono(clips)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * len(samples)))

    def energy(midi):
        middle = signals.midi_to_hz(midi) * 4 * len(samples) / rate
        return float(spectrum[round(middle * 0.99) : round(middle * 1.01) + 1].max())

    roots = {root: energy(root) * energy(root + 7) for root in range(55, 68)}
    strength = {
        (root, third): energy(root) * energy(root + third) * energy(root + 7)
        for root, third in itertools.product(roots, (3, 4))
    }
    _, third = max(strength, key=strength.__getitem__)
    return "major" if third == 4 else "minor"


def onsets(samples, rate):
    """Return the times in seconds at which the level jumps up by more than half."""
    frames = loudness(samples, rate)
    earlier = np.maximum(frames[:-2], 0.02 * frames.max())
    jumps = np.flatnonzero((frames[2:] / earlier > 1.5) & (frames[2:] > 0.2 * frames.max()))
    groups = np.split(jumps, np.flatnonzero(np.diff(jumps) > 6) + 1)
    return np.array([group[0] * 0.01 for group in groups])


def hear_tempo(clips, choices):
    steps = np.diff(onsets(*mono(clips)))
    ratio = np.median(steps[-3:]) / np.median(steps[:3])
    if ratio < 0.75:
        return "it speeds up"
    return "it slows down" if ratio > 1.33 else "it stays the same"


def hear_note_count(clips, choices):
    return NUMBERS[len(segments(*mono(clips), threshold=0.02, gap=0.03))]


def hear_timbre_of(samples, rate):
    """Tell four timbres apart by decay and by the partials above the fundamental."""
    size, last = round(0.1 * rate), len(samples) - round(0.2 * rate)
    fall = level(samples[size : 2 * size]) / level(samples[last : last + size])
    decay = np.log(fall) / ((last - size) / rate)  # 1/s
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    pitch = strongest(samples, rate)

    def partial(multiple):
        middle = multiple * pitch * len(samples) / rate
        return spectrum[round(middle * 0.97) : round(middle * 1.03) + 1].max() / spectrum.max()

    if decay < 1.0:
        return "an organ" if partial(2) > 0.3 else "a flute"
    return "a bell" if partial(2.76) > partial(2) else "a plucked string"


def hear_timbre(clips, choices):
    samples, rate = mono(clips)
    return hear_timbre_of(cut(samples, rate, 0.15, 1.15), rate)


def hear_last_instrument(clips, choices):
    samples, rate = mono(clips)
    start = [a for a, _ in segments(samples, rate, threshold=0.05, gap=3.0)][-1]
    return hear_timbre_of(cut(samples, rate, start, start + 0.5), rate)


def hear_word(clips, choices):
    return best_word(*mono(clips), choices)


def hear_last_word(clips, choices):
    samples, rate = mono(clips)
    start = segments(samples, rate, threshold=0.02, gap=0.15)[-1][0]
    return best_word(samples[round((start - 0.05) * rate) :], rate, choices)


def hear_last_number(clips, choices):
    samples, rate = mono(clips)
    return best_word(samples[-10 * rate :], rate, choices)


def hear_word_count(clips, choices):
    return NUMBERS[len(segments(*mono(clips), threshold=0.02, gap=0.18))]


def hear_speaker(clips, choices):
    samples, rate = mono(clips)
    size, pitches = round(0.04 * rate), []
    for i in range(0, len(samples) - size, size // 2):
        frame = samples[i : i + size]
        if level(frame) > 0.3 * loudness(samples, rate, 0.04).max():
            fit = np.correlate(frame, frame, "full")[size - 1 :]
            low, high = round(rate / 300), round(rate / 75)
            pitches.append(rate / (low + int(np.argmax(fit[low:high]))))
    return "a woman's voice" if np.median(pitches) > 145 else "a man's voice"


def by_sentence(sentences):
    """Return a listener that finds which of the sentences is spoken."""

    def hear(clips, choices):
        spoken = {sentences[choice]: choice for choice in choices}
        return spoken[best_word(*mono(clips), list(spoken), speech.SENTENCE_VOICES)]

    return hear


def hear_number_after_beep(clips, choices):
    samples, rate = mono(clips)
    carrier = np.exp(-2j * np.pi * 1000.0 * np.arange(len(samples)) / rate)
    size = round(0.25 * rate)
    tone = np.abs(np.convolve(samples * carrier, np.ones(size), "valid"))
    stop = (int(np.argmax(tone)) + size) / rate
    parts = [part for part in segments(samples, rate, 0.02, 0.12) if part[0] >= stop - 0.05]
    return best_word(cut(samples, rate, parts[0][0] - 0.05, parts[0][1] + 0.05), rate, choices)


def hear_beeps_before_voice(clips, choices):
    """Count the short steady tones of one frequency that open the recording."""
    samples, rate = mono(clips)
    count, first = 0, None
    for start, stop in segments(samples, rate, 0.05, 0.05):
        pitch = strongest(cut(samples, rate, start, stop), rate)
        first = first or pitch
        if abs(pitch / first - 1.0) > 0.02 or not 0.09 < stop - start < 0.16:
            break
        count += 1
    return NUMBERS[count]


def hear_noise_position(clips, choices):
    return position_of(clips, lambda part, rate: flatness(part, rate) > 0.1)


def position_of(clips, is_it):
    samples, rate = mono(clips)
    start, stop = segments(samples, rate, 0.05, 0.3)[0][0], segments(samples, rate, 0.05)[-1][1]
    edge = 0.4
    if is_it(cut(samples, rate, start, start + edge), rate):
        return "before the music"
    if is_it(cut(samples, rate, stop - edge, stop), rate):
        return "after the music"
    return "during the music"


def hear_side_level(clips, choices):
    left, right = clips[0][0]
    return "from the left" if level(left) > level(right) else "from the right"


def hear_side_delay(clips, choices):
    (left, right), rate = clips[0]
    count = 2 * len(left)
    fit = np.fft.irfft(np.fft.rfft(left, count) * np.conj(np.fft.rfft(right, count)), count)
    reach = round(0.001 * rate)
    lags = np.arange(-reach, reach + 1)
    lag = lags[int(np.argmax(fit[lags]))] / rate  # positive: the left ear hears later
    assert abs(level(left) / level(right) - 1.0) < 1e-3
    if abs(lag) < 0.0001:
        return "from the front"
    return "from the right" if lag > 0 else "from the left"


def hear_movement(clips, choices):
    left, right = clips[0][0]
    third = len(left) // 3
    starts_left = level(left[:third]) > level(right[:third])
    ends_left = level(left[-third:]) > level(right[-third:])
    assert starts_left != ends_left
    return "from left to right" if starts_left else "from right to left"


def hear_word_on_the_left(clips, choices):
    (left, right), rate = clips[0]
    half = next(
        part
        for part in np.array_split(np.arange(len(left)), 2)
        if level(left[part]) > level(right[part])
    )
    return best_word(left[half], rate, choices)


ORDINALS = ["first", "second", "third"]


def hear_louder_clip(clips, choices):
    levels = [level(samples) for samples, _ in clips]
    return f"the {ORDINALS[int(np.argmax(levels))]} recording"


def hear_higher_clip(clips, choices):
    pitches = [strongest(samples.mean(axis=0), rate) for samples, rate in clips]
    return f"the {ORDINALS[int(np.argmax(pitches))]} recording"


def hear_same_melody(clips, choices):
    tunes = []
    for samples, rate in clips:
        line = samples.mean(axis=0)
        tunes.append(
            [strongest(cut(line, rate, 0.23 + 0.4 * i, 0.50 + 0.4 * i), rate) for i in range(5)]
        )
    off = max(abs(semitones(a, b)) for a, b in zip(*tunes, strict=True))
    return "yes, the same melody" if off < 0.5 else "no, different melodies"


def hear_effect(clips, choices):
    (dry, dry_rate), (wet, wet_rate) = [(s.mean(axis=0), r) for s, r in clips]
    if len(wet) / wet_rate > len(dry) / dry_rate + 0.3:
        return "echo"

    def swing(samples, rate):
        frames = loudness(cut(samples, rate, 0.15, 1.65), rate)
        return np.abs(np.fft.rfft(frames))[round(8.0 * 1.5)] / frames.sum()

    if swing(wet, wet_rate) > 2.0 * swing(dry, dry_rate):
        return "tremolo"

    def brightness(samples, rate):
        power = np.abs(np.fft.rfft(samples)) ** 2
        high = np.fft.rfftfreq(len(samples), 1 / rate) > 1200
        return power[high].sum() / power.sum()

    dull = brightness(wet, wet_rate) < 0.1 * brightness(dry, dry_rate)
    return "low-pass filter" if dull else "distortion"


def hear_clip_with_word(clips, choices, question):
    word = question.split("word ")[1].split()[0]
    scores = [words_heard(s.mean(axis=0), rate, [word])[0][1] for s, rate in clips]
    return f"the {ORDINALS[int(np.argmax(scores))]} recording"


LISTENERS = {
    "beep count": hear_beep_count,
    "kind of sound": hear_kind,
    "louder half": hear_louder_half,
    "sweep": hear_sweep,
    "event order": hear_event_order,
    "click pace": hear_pace,
    "approach": hear_approach,
    "last sound": hear_last_sound,
    "pitch pair": hear_pitch_pair,
    "contour": hear_contour,
    "chord quality": hear_chord,
    "tempo": hear_tempo,
    "note count": hear_note_count,
    "timbre": hear_timbre,
    "last instrument": hear_last_instrument,
    "digit": hear_word,
    "word": hear_word,
    "last word": hear_last_word,
    "last number": hear_last_number,
    "word count": hear_word_count,
    "speaker": hear_speaker,
    "place": by_sentence(speech.PLACES),
    "capital": by_sentence(speech.CAPITALS),
    "sum": by_sentence(speech.SUMS),
    "riddle": by_sentence(speech.RIDDLES),
    "speech pace": by_sentence(questions.PACE_SPOKEN),
    "number after beep": hear_number_after_beep,
    "beeps before voice": hear_beeps_before_voice,
    "noise position": hear_noise_position,
    "word over music": hear_word,
    "side by level": hear_side_level,
    "side by delay": hear_side_delay,
    "movement": hear_movement,
    "word on the left": hear_word_on_the_left,
    "louder clip": hear_louder_clip,
    "higher clip": hear_higher_clip,
    "highest of three": hear_higher_clip,
    "same melody": hear_same_melody,
    "effect": hear_effect,
    "clip with word": hear_clip_with_word,
}


@functools.cache
def closed_docs():
    closed = [slug for slug, category in data.CATEGORIES.items() if category.kind == "closed"]
    return [doc for slug in closed for doc in data.load_category(slug, sample=True)]


@pytest.mark.parametrize(
    "doc",
    [doc for doc in closed_docs() if doc["sub-cat"] in LISTENERS],
    ids=lambda doc: f"{doc['sub-cat']}-{doc['id'][:8]}".replace(" ", "_"),
)
def test_answer_is_heard_in_the_shipped_file(doc):
    listen = LISTENERS[doc["sub-cat"]]
    if listen is hear_clip_with_word:
        listen = functools.partial(listen, question=doc["question"])
    assert listen(decode(doc), list(doc["choices"])) == doc["answer"]


@pytest.mark.parametrize("name", [name for name in LISTENERS if not name.startswith("last ")])
def test_answer_is_heard_in_fresh_items_as_well(name):
    for seed, rate in ((1, 16000), (2, 22050)):
        item = questions.make_item(questions.SKILLS[name], np.random.default_rng(seed), rate)
        clips = [(np.atleast_2d(clip), rate) for clip in item.clips]
        listen = LISTENERS[name]
        if listen is hear_clip_with_word:
            listen = functools.partial(listen, question=item.question)
        assert listen(clips, list(item.choices)) == item.answer


def test_most_skills_of_the_sample_have_a_listener():
    used = {doc["sub-cat"] for doc in closed_docs()}
    assert set(LISTENERS) <= used
    assert len(LISTENERS) >= 0.8 * len(used)


def test_the_end_of_the_longest_clip_cannot_be_told_from_its_first_minutes():
    doc = next(doc for doc in closed_docs() if doc["sub-cat"] == "last sound")
    samples, rate = decode(doc)[0]
    line = samples[0]
    parts = segments(line, rate, gap=0.4)
    assert parts[-1][0] > 540
    early = [kind_of(cut(line, rate, *part), rate) for part in parts[:-1]]
    assert sorted(SOUND_NAMES[kind] for kind in early) == sorted(doc["choices"])
    assert parts[-2][1] < 300
