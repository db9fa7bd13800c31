"""The frontend as a library: in the workers of a DataLoader, pickled, copied, with every kind of array."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import soundfile
from clips_dataset import RATE, Clips

from mmaupro_ext.features import is_native, log_mel, native_extractor


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, transformers
    import torch
    import transformers


@pytest.fixture(scope="module")
def extractor():
    return native_extractor(transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=2))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i in range(6):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, 22050 + 1000 * i)
        soundfile.write(folder / f"{i}.flac", noise, 22050)
    return [str(folder / f"{i}.flac") for i in range(6)]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_data_loader_give_what_this_process_gives(
    clips, extractor, start, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    dataset = Clips(clips, extractor)
    expected = torch.stack(
        [dataset[i] for i in range(len(clips))]
    )  # plans and threads are in use before
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=3, num_workers=1, multiprocessing_context=start
    )
    assert torch.equal(torch.cat(list(loader)), expected)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_compute_the_same(clips, extractor, copied):
    dataset = copied(Clips(clips, extractor))
    assert is_native(dataset.extractor)
    assert torch.equal(dataset[0], Clips(clips, extractor)[0])


@pytest.mark.parametrize("return_tensors", [None, "np", "pt"])
def test_every_kind_of_samples_gives_the_same_features(extractor, return_tensors):
    x = np.random.default_rng(0).integers(-20000, 20000, RATE) / 32768
    call = {"sampling_rate": RATE, "return_tensors": return_tensors}
    expected = np.asarray(extractor(x, **call)["input_features"])
    for form in (
        x.astype(np.float32),
        x.tolist(),
        torch.from_numpy(x),
        torch.from_numpy(x).float(),
    ):
        np.testing.assert_array_equal(
            np.asarray(extractor(form, **call)["input_features"]), expected
        )


def test_int16_is_pcm_for_log_mel_and_a_number_for_a_drop_in_as_both_say(extractor):
    pcm = np.random.default_rng(0).integers(-20000, 20000, RATE).astype(np.int16)
    scaled = pcm.astype(np.float32) / 32768
    np.testing.assert_array_equal(log_mel(pcm, 80), log_mel(scaled, 80))
    np.testing.assert_array_equal(log_mel(torch.from_numpy(pcm), 80), log_mel(scaled, 80))
    call = {"sampling_rate": RATE, "return_tensors": "np"}
    by_value = extractor(pcm, **call)["input_features"]
    np.testing.assert_array_equal(
        by_value, extractor(pcm.astype(np.float32), **call)["input_features"]
    )
    assert not np.array_equal(by_value, extractor(scaled, **call)["input_features"])
    for function in (log_mel, native_extractor):
        assert "integers" in function.__doc__
