"""A dataset as a training has it; a module of its own, since a worker that is spawned imports it by name."""

from __future__ import annotations

from mmaupro_ext import audio

RATE = 16000


class Clips:
    """A dataset of training: a clip becomes features in the worker that loads it."""

    def __init__(self, paths, extractor):
        self.paths, self.extractor = paths, extractor

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        samples = audio.load(self.paths[index], duration=1.0)
        found = self.extractor(samples, sampling_rate=RATE, return_tensors="pt")
        return found["input_features"][0]
