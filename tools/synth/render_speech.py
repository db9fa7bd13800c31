"""Render the speech bank with espeak-ng; needed only to change the bank.

Usage: `python -m synth.render_speech` on a machine with `espeak-ng` on its PATH
(Debian: `apt install espeak-ng`). It rewrites `bank/<voice>.flac` and `bank/index.json`.

espeak-ng is free software under the GPL, version 3 or later. It is not part of this package and
its licence does not extend to the sound that it makes. The bank in the repository was made with
version 1.51; another version gives slightly other waveforms, and the sample must be built again.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from synth import signals, speech
from synth.instructions import INSTRUCTIONS
from synth.signals import Signal

WORDS_PER_MINUTE = 150
BITS = 11  # 66 dB is enough for a formant synthesiser, and FLAC stores only the bits in use
GAP_SECONDS = 0.02


def texts_of(voice: str) -> dict[str, tuple[str, int]]:
    """Return what a voice says: key in the bank -> (text, words per minute)."""
    texts = {word: (word, WORDS_PER_MINUTE) for word in speech.WORDS}
    if voice in speech.SENTENCE_VOICES:
        for group in (speech.CAPITALS, speech.SUMS, speech.RIDDLES, speech.PLACES, speech.NEWS):
            texts.update({text: (text, WORDS_PER_MINUTE) for text in group.values()})
        for pace, key in speech.PACE_KEYS.items():
            texts[key + speech.PACE_SENTENCE] = (
                speech.PACE_SENTENCE,
                speech.PACE_WORDS_PER_MINUTE[pace],
            )
        turn = speech.SENTENCE_VOICES.index(voice)
        for number, instruction in enumerate(INSTRUCTIONS):
            if number % len(speech.SENTENCE_VOICES) == turn:
                texts[instruction.text] = (instruction.text, WORDS_PER_MINUTE)
    return texts


def render(text: str, espeak_voice: str, words_per_minute: int) -> Signal:
    """Return one text at the bank's rate without the silence around it, peak 0.9.

    Raises
    ------
    FileNotFoundError
        When espeak-ng is not installed.
    subprocess.CalledProcessError
        When espeak-ng fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(
            ["espeak-ng", "-v", espeak_voice, "-s", str(words_per_minute), "-w", str(path), text],
            check=True,
        )
        samples, rate = soundfile.read(path, dtype="float64")
    loud = np.flatnonzero(np.abs(samples) > 0.005 * np.max(np.abs(samples)))
    trimmed = samples[loud[0] : loud[-1] + 1]
    trimmed = trimmed * signals.envelope(trimmed.size, rate, 0.003, 0.01)
    return signals.peak(signals.resample(trimmed, rate, speech.BANK_RATE), 0.9)


def main() -> None:
    """Render every voice and write the bank."""
    speech.BANK_DIR.mkdir(exist_ok=True)
    gap = np.zeros(round(GAP_SECONDS * speech.BANK_RATE))
    index: dict[str, dict[str, list[int]]] = {}
    for voice, (espeak_voice, _) in speech.VOICES.items():
        pieces: list[Signal] = []
        position = 0
        index[voice] = {}
        for key, (text, words_per_minute) in texts_of(voice).items():
            clip = signals.quantise(render(text, espeak_voice, words_per_minute), BITS)
            index[voice][key] = [position, position + clip.size]
            pieces += [clip, gap]
            position += clip.size + gap.size
        path = speech.BANK_DIR / f"{voice}.flac"
        soundfile.write(path, np.concatenate(pieces), speech.BANK_RATE, subtype="PCM_16")
        print(f"{path.name}: {len(index[voice])} texts, {position / speech.BANK_RATE:.1f} s")
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    (speech.BANK_DIR / "index.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
