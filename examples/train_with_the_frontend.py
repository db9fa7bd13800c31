"""A training loop whose workers decode, resample and compute features with the native frontend.

$ python train_with_the_frontend.py FOLDER      # of audio files, which need not have one rate or format
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset
from transformers import WhisperFeatureExtractor

from mmaupro_ext import audio
from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import native_extractor

SECONDS = 4


class Clips(Dataset):
    """Four seconds of each clip as log-mel, and whether the clip is longer than that."""

    def __init__(self, folder):
        self.extractor = native_extractor(
            WhisperFeatureExtractor(feature_size=80, chunk_length=SECONDS)
        )
        self.paths, self.longer = [], []
        for path in sorted(Path(folder).iterdir()):
            try:
                seconds = audio.probe(path).seconds
            except AudioError as error:  # says which file, why, and what to do
                print(error)
                continue
            self.paths.append(path)
            self.longer.append(float(seconds > SECONDS))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        samples = audio.load(self.paths[index], duration=SECONDS)
        made = self.extractor(samples, sampling_rate=16000, return_tensors="pt")
        return made["input_features"][0], torch.tensor(self.longer[index])


def main(folder, epochs=3, workers=2):
    clips = Clips(folder)
    loader = DataLoader(clips, batch_size=8, shuffle=True, num_workers=workers)
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv1d(80, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(1)
    )
    model(clips[0][0][None])  # gives the lazy layer its size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for epoch in range(epochs):
        for features, longer in loader:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                model(features)[:, 0], longer
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
