"""The signals on which every log-mel is compared with its float64 definition."""

from __future__ import annotations

import functools

import numpy as np

RATE = 16000


@functools.cache
def hard_signals(seconds: float) -> dict[str, np.ndarray]:
    """Thirteen float32 signals of at most so many seconds at 16 kHz, each hard for another reason."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(20240607)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    noise = rng.standard_normal(n)
    # Speech-like: a pulse train with a gliding pitch through two resonances, in syllables.
    pulses = np.diff(np.floor(np.cumsum((110 + 30 * np.sin(2 * np.pi * t / 3)) / RATE)), prepend=0)
    speech = pulses + 0.02 * noise
    for centre, width in ((600, 80), (1700, 120)):
        radius = np.exp(-np.pi * width / RATE)
        speech = lfilter(
            [1], [1, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2], speech
        )
    speech *= np.clip(np.sin(2 * np.pi * 2 * t), 0, None) / np.abs(speech).max()
    beat = np.exp(-8 * (t % 0.5))
    music = sum(np.sin(2 * np.pi * f * t) / k for k, f in enumerate((220, 277.2, 329.6, 440), 1))
    signals = {
        "noise": 0.1 * noise,
        "speech-like": speech,
        "music": 0.2 * beat * music,
        "full-scale tone": np.sin(2 * np.pi * 997 * t),
        "tone on a bin": 0.5 * np.sin(2 * np.pi * 1000 * t),
        "chirp": np.sin(2 * np.pi * (50 * t + 3900 / seconds * t**2)),
        "impulses": (np.arange(n) % 7919 == 0).astype(float),
        "loud then silent": np.where(t < 0.4 * seconds, 0.3 * noise, 0.0),
        "quiet": 1e-4 * noise,
        "silence": np.zeros(n),
        "clipped square": np.sign(np.sin(2 * np.pi * 100 * t)),
        "last bit of int16": np.round(0.6 * noise) / 32768,
        "short": 0.1 * noise[:1000],
    }
    return {name: x.astype(np.float32) for name, x in signals.items()}
