"""The deterministic generator of the embedded sample.

`signals` makes waveforms, `speech` plays a small bank of rendered words and sentences,
`questions` turns both into questions whose answer is only in the audio, and `build` writes the
sample in the layout of MMAU-Pro. The same functions make training material for small models.
"""
