"""What the tests of hf-audio share: a tiny model and clips."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hf_requests import RATE


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of this module's own, so that no test uses the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make(cache):
    from mmaupro_ext.models.hf.model import HFAudioLM

    def build(**arguments):
        return HFAudioLM(
            **{"pretrained": "tiny-random", "seed": 1, "device": "cpu", "batch_size": 4} | arguments
        )

    return build


@pytest.fixture
def lm(make):
    return make()


@pytest.fixture
def clip(tmp_path):
    """Write a noisy tone and return its path."""

    def write(name, seconds=1.0, frequency=440.0, rate=RATE):
        time = np.arange(int(seconds * rate)) / rate
        noise = np.random.default_rng(int(frequency)).normal(0, 0.05, len(time))
        path = tmp_path / name
        soundfile.write(path, 0.4 * np.sin(2 * np.pi * frequency * time) + noise, rate)
        return str(path)

    return write
