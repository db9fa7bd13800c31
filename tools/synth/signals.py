"""Waveforms from formulas: tones, notes, noises, rhythms, mixes, stereo images and effects.

Everything is a pure function of its arguments and, where chance is needed, of a numpy Generator.
Signals are float64 in [-1, 1], mono `(n,)` or stereo `(2, n)`; times are seconds, frequencies Hz.
Only numpy is used, so that the sample does not depend on the rest of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Signal = NDArray[np.float64]

MIDDLE_A_HZ = 440.0
MIDDLE_A_MIDI = 69
SPEED_OF_SOUND = 343.0  # m/s
HEAD_DELAY = 0.00065  # s, the largest interaural delay of an adult head


def length(seconds: float, sampling_rate: int) -> int:
    """Return the number of samples of a duration, at least 1."""
    return max(1, round(seconds * sampling_rate))


def times(seconds: float, sampling_rate: int) -> Signal:
    """Return the sample times of a signal in seconds, shape (n,)."""
    return np.arange(length(seconds, sampling_rate)) / sampling_rate


def midi_to_hz(note: float) -> float:
    """Return the frequency in Hz of a MIDI note number, equal temperament, A4 = 440 Hz."""
    return float(MIDDLE_A_HZ * 2.0 ** ((note - MIDDLE_A_MIDI) / 12.0))


def silence(seconds: float, sampling_rate: int) -> Signal:
    """Return zeros, shape (n,)."""
    return np.zeros(length(seconds, sampling_rate))


def envelope(n: int, sampling_rate: int, attack: float = 0.01, release: float = 0.02) -> Signal:
    """Return a gain curve with raised-cosine ends, shape (n,).

    Parameters
    ----------
    n : int
        Samples.
    sampling_rate : int
        Hz.
    attack, release : float
        Seconds of the rise and the fall; both are shortened to half of a short signal.
    """
    curve = np.ones(n)
    for seconds, at_end in ((attack, False), (release, True)):
        edge = min(length(seconds, sampling_rate), n // 2)
        if edge < 1:
            continue
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
        if at_end:
            curve[n - edge :] *= ramp[::-1]
        else:
            curve[:edge] *= ramp
    return curve


def tone(frequency: float, seconds: float, sampling_rate: int) -> Signal:
    """Return a sine with soft ends, peak 1, shape (n,)."""
    wave = np.sin(2.0 * np.pi * frequency * times(seconds, sampling_rate))
    return wave * envelope(wave.size, sampling_rate)


def chirp(start: float, stop: float, seconds: float, sampling_rate: int) -> Signal:
    """Return an exponential sweep from `start` to `stop` Hz with soft ends, shape (n,)."""
    moments = times(seconds, sampling_rate)
    if abs(stop / start - 1.0) < 1e-9:
        return tone(start, seconds, sampling_rate)
    growth = np.log(stop / start) / seconds
    phase = 2.0 * np.pi * start * np.expm1(growth * moments) / growth
    return np.sin(phase) * envelope(moments.size, sampling_rate)


def siren(low: float, high: float, period: float, seconds: float, sampling_rate: int) -> Signal:
    """Return a tone that wails between `low` and `high` Hz once per `period` s, shape (n,)."""
    moments = times(seconds, sampling_rate)
    middle, swing = (low + high) / 2.0, (high - low) / 2.0
    phase = middle * moments - swing * period / (2.0 * np.pi) * np.sin(
        2.0 * np.pi * moments / period
    )
    return np.sin(2.0 * np.pi * phase) * envelope(moments.size, sampling_rate)


def noise(rng: Generator, seconds: float, sampling_rate: int, colour: str = "white") -> Signal:
    """Return Gaussian noise with soft ends, peak 1, shape (n,).

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    seconds : float
        Duration.
    sampling_rate : int
        Hz.
    colour : {"white", "pink", "brown"}
        Power falls with frequency by 0, 3 or 6 dB per octave above 20 Hz.
    """
    exponent = {"white": 0.0, "pink": 0.5, "brown": 1.0}[colour]
    n = length(seconds, sampling_rate)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.maximum(np.fft.rfftfreq(n, 1.0 / sampling_rate), 20.0)
    shaped = np.fft.irfft(spectrum * frequency**-exponent, n)
    return peak(shaped) * envelope(n, sampling_rate)


def click(sampling_rate: int, frequency: float = 1800.0) -> Signal:
    """Return a short dry knock of 30 ms, peak about 1, shape (n,)."""
    moments = times(0.03, sampling_rate)
    return np.sin(2.0 * np.pi * frequency * moments) * np.exp(-moments / 0.005)


# Partials as (multiple of the fundamental, amplitude, decay in 1/s at the fundamental).
_PARTIALS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "pluck": tuple((k, 1.0 / k, 3.0 + 2.0 * k) for k in range(1, 9)),
    "organ": ((1, 1.0, 0), (2, 0.7, 0), (3, 0.5, 0), (4, 0.5, 0), (6, 0.3, 0), (8, 0.3, 0)),
    "flute": ((1, 1.0, 0), (2, 0.08, 0)),
    "bell": ((1, 1.0, 2.5), (2.76, 0.7, 4.0), (5.4, 0.5, 6.0), (8.93, 0.25, 8.0)),
}
TIMBRES: tuple[str, ...] = tuple(_PARTIALS)


def note(timbre: str, midi: float, seconds: float, sampling_rate: int) -> Signal:
    """Return one note of an instrument-like timbre, peak 1, shape (n,).

    Parameters
    ----------
    timbre : {"pluck", "organ", "flute", "bell"}
        Decaying harmonic, steady harmonic, almost pure with vibrato, or decaying inharmonic.
    midi : float
        MIDI note number of the fundamental.
    seconds : float
        Duration.
    sampling_rate : int
        Hz. Partials above 0.45 of it are left out.
    """
    moments = times(seconds, sampling_rate)
    fundamental = midi_to_hz(midi)
    sway = 0.15 * np.sin(2.0 * np.pi * 5.5 * moments) if timbre == "flute" else 0.0
    wave = np.zeros(moments.size)
    for multiple, amplitude, decay in _PARTIALS[timbre]:
        if multiple * fundamental < 0.45 * sampling_rate:
            phase = 2.0 * np.pi * multiple * fundamental * moments + multiple * sway
            wave += amplitude * np.exp(-decay * moments) * np.sin(phase)
    attack = 0.06 if timbre == "flute" else 0.005
    return peak(wave * envelope(wave.size, sampling_rate, attack, 0.03))


def chord(timbre: str, notes: Sequence[float], seconds: float, sampling_rate: int) -> Signal:
    """Return several notes at once, peak 1, shape (n,)."""
    parts = [note(timbre, midi, seconds, sampling_rate) for midi in notes]
    return peak(np.sum(parts, axis=0))


def melody(
    timbre: str, notes: Sequence[float], seconds_per_note: float, sampling_rate: int
) -> Signal:
    """Return notes one after the other, shape (n,)."""
    return np.concatenate([note(timbre, m, seconds_per_note, sampling_rate) for m in notes])


def rhythm(onsets: Sequence[float], hit: Signal, tail: float, sampling_rate: int) -> Signal:
    """Return `hit` placed at each onset (s), ending `tail` s after the last one, shape (n,)."""
    return place([(at, hit) for at in onsets], max(onsets) + tail, sampling_rate)


def place(events: Sequence[tuple[float, Signal]], seconds: float, sampling_rate: int) -> Signal:
    """Return events added up on a time line.

    Parameters
    ----------
    events : sequence of (float, ndarray)
        Start in seconds and a mono signal.
    seconds : float
        Duration of the result, which is longer when an event ends later.
    sampling_rate : int
        Hz.
    """
    starts = [round(at * sampling_rate) for at, _ in events]
    ends = [start + part.size for start, (_, part) in zip(starts, events, strict=True)]
    line = np.zeros(max([length(seconds, sampling_rate), *ends]))
    for start, (_, part) in zip(starts, events, strict=True):
        line[start : start + part.size] += part
    return line


def join(parts: Sequence[Signal], gap: float, sampling_rate: int) -> Signal:
    """Return signals in sequence with `gap` s of silence between them, shape (n,)."""
    pieces: list[Signal] = []
    for index, part in enumerate(parts):
        if index:
            pieces.append(np.zeros(round(gap * sampling_rate)))
        pieces.append(part)
    return np.concatenate(pieces)


def peak(signal: Signal, level: float = 1.0) -> Signal:
    """Return the signal scaled so that its largest magnitude is `level` (silence stays)."""
    largest = float(np.max(np.abs(signal), initial=0.0))
    return signal * (level / largest) if largest > 0.0 else signal


def rms(signal: Signal) -> float:
    """Return the root mean square of all samples."""
    return float(np.sqrt(np.mean(np.square(signal))))


def mix(foreground: Signal, background: Signal, snr_db: float) -> Signal:
    """Return both, the background cut or repeated to length and set `snr_db` below in RMS.

    Parameters
    ----------
    foreground, background : ndarray, shape (n,), (m,)
        Mono signals.
    snr_db : float
        Level difference in decibels.
    """
    bed = np.resize(background, foreground.size)
    loudness = rms(bed)
    if loudness == 0.0:
        return foreground.copy()
    return foreground + bed * (rms(foreground) / loudness * 10.0 ** (-snr_db / 20.0))


def pan_level(signal: Signal, decibels: float) -> Signal:
    """Return stereo (2, n) with the right channel `decibels` louder than the left (or softer)."""
    gain = 10.0 ** (-abs(decibels) / 20.0)
    left, right = (gain, 1.0) if decibels > 0 else (1.0, gain)
    return np.stack([left * signal, right * signal])


def pan_delay(signal: Signal, seconds: float, sampling_rate: int) -> Signal:
    """Return stereo (2, n) with equal levels and the left ear `seconds` later (or the right).

    A positive delay moves the image to the right, as the nearer ear hears a source first. The
    delay is rounded to whole samples.
    """
    shift = round(abs(seconds) * sampling_rate)
    early = np.concatenate([signal, np.zeros(shift)])
    late = np.concatenate([np.zeros(shift), signal])
    return np.stack([late, early] if seconds > 0 else [early, late])


def pan_moving(signal: Signal, start: float, stop: float) -> Signal:
    """Return stereo (2, n) that moves at constant power; -1 is left, 1 is right."""
    position = np.linspace(start, stop, signal.size)
    angle = (position + 1.0) * np.pi / 4.0
    return np.stack([np.cos(angle) * signal, np.sin(angle) * signal])


def distance(signal: Signal, start: float, stop: float, sampling_rate: int) -> Signal:
    """Return a source that goes from `start` to `stop` metres away: 1/r level and travel time."""
    moments = np.arange(signal.size) / sampling_rate
    metres = np.linspace(start, stop, signal.size)
    delay = (metres - metres.min()) / SPEED_OF_SOUND
    heard = np.interp(moments - delay, moments, signal, left=0.0)
    return heard * (metres.min() / metres)


def low_pass(signal: Signal, cutoff: float, sampling_rate: int) -> Signal:
    """Return the signal without what lies above `cutoff` Hz (slope an octave wide), shape (n,)."""
    frequency = np.fft.rfftfreq(signal.size, 1.0 / sampling_rate)
    slope = np.clip(2.0 - frequency / cutoff, 0.0, 1.0)
    return np.fft.irfft(np.fft.rfft(signal) * slope, signal.size)


def echo(signal: Signal, delay: float, gain: float, repeats: int, sampling_rate: int) -> Signal:
    """Return the signal with `repeats` echoes, each `delay` s later and weaker by `gain`."""
    events = [(k * delay, signal * gain**k) for k in range(repeats + 1)]
    return place(events, 0.0, sampling_rate)


def distort(signal: Signal, drive: float) -> Signal:
    """Return the signal through a soft clipper; a larger `drive` adds more harmonics."""
    return np.tanh(drive * signal) / np.tanh(drive)


def tremolo(signal: Signal, rate: float, depth: float, sampling_rate: int) -> Signal:
    """Return the signal with its level swinging `rate` times a second, `depth` in [0, 1]."""
    moments = np.arange(signal.size) / sampling_rate
    return signal * (1.0 - depth * (0.5 - 0.5 * np.cos(2.0 * np.pi * rate * moments)))


def resample(signal: Signal, orig_sr: int, target_sr: int) -> Signal:
    """Return a short mono signal at another rate, by cutting or padding its spectrum.

    Parameters
    ----------
    signal : ndarray, shape (n,)
        Band-limited signal that begins and ends near zero (rendered speech does).
    orig_sr, target_sr : int
        Rates in Hz.

    Returns
    -------
    ndarray, shape (ceil(n * target_sr / orig_sr),)
        Used for the speech bank only; the package's own resampler is in `mmaupro_ext.audio`, and
        the sample must not change when that one does.
    """
    if orig_sr == target_sr:
        return signal.copy()
    wanted = -(-signal.size * target_sr // orig_sr)
    block = orig_sr // int(np.gcd(orig_sr, target_sr))  # whole periods of both rates
    padded = -(-(signal.size + orig_sr // 20) // block) * block
    count = padded * target_sr // orig_sr
    spectrum = np.fft.rfft(signal, padded)
    resized = np.zeros(count // 2 + 1, dtype=complex)
    shared = min(spectrum.size, resized.size) - 1  # the bin at half the lower rate is dropped
    resized[:shared] = spectrum[:shared]
    return np.fft.irfft(resized, count)[:wanted] * (count / padded)


def quantise(signal: Signal, bits: int) -> Signal:
    """Return the signal rounded to the grid of `bits`-bit integers and held inside it."""
    scale = 2.0 ** (bits - 1)
    # Adding zero turns -0.0 into 0.0, whose bytes differ in float files.
    return np.clip(np.round(signal * scale), -scale, scale - 1.0) / scale + 0.0


EFFECTS: dict[str, Callable[[Signal, int], Signal]] = {
    "echo": lambda signal, sr: echo(signal, 0.18, 0.6, 3, sr),
    "distortion": lambda signal, sr: distort(signal, 12.0),
    "tremolo": lambda signal, sr: tremolo(signal, 8.0, 0.95, sr),
    "low-pass filter": lambda signal, sr: low_pass(signal, 600.0, sr),
}
