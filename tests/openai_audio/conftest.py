"""What the tests of openai-audio share."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from chat_standin import without_proxy
from server_requests import RATE


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def clip(tmp_path):
    """Write noise as 16-bit WAV (or another format) and return its path and samples."""

    def write(name, seconds=1.0, rate=RATE, channels=1, **options):
        random = np.random.default_rng(sum(map(ord, name)))
        samples = random.integers(-20_000, 20_000, (round(seconds * rate), channels), np.int16)
        path = tmp_path / name
        soundfile.write(path, samples, rate, **{"subtype": "PCM_16"} | options)
        return str(path), samples[:, 0] if channels == 1 else samples

    return write
