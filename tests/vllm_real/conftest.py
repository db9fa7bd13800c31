"""A real vLLM, built for CPUs: `make test-vllm`. Elsewhere `tests/conftest.py` leaves these tests out."""

from __future__ import annotations

import os

import pytest

# Read when vLLM is imported. Its engine runs in this process, where a failure has a traceback.
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}

RATE = 16_000
ENGINE = {"dtype": "float32", "enforce_eager": True, "max_model_len": 8192, "max_num_seqs": 8}


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Five clips, the last one longer than every window, in windows of whole seconds; and one in stereo."""
    import numpy as np
    import soundfile

    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for number, seconds in enumerate((0.7, 3.0, 1.5, 2.0, 66.0, 2.0)):
        time = np.arange(round(seconds * RATE)) / RATE
        random = np.random.default_rng(number)
        samples = 0.3 * np.sin(2 * np.pi * 150 * 2**number * time) + random.normal(
            0, 0.05, len(time)
        )
        if number == 5:
            samples = np.stack([samples, random.normal(0, 0.2, len(time))], axis=1)
        paths.append(str(folder / f"{number}.wav"))
        soundfile.write(paths[-1], samples, RATE)
    return paths
