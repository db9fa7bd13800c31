"""Several audios in one call: on threads, with the bits of one thread; tensors where they are wanted."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from feature_cases import RATE, VARIANTS, call, noise, stock_of

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import extractor, native_extractor, placing

CLIPS = [noise(5 * RATE + 400 * n, n) for n in range(4)]


@pytest.fixture(autouse=True)
def granite_asks_for_nothing(monkeypatch):
    """Let the stock class be made without torchaudio."""
    from transformers.models.granite_speech import feature_extraction_granite_speech as module

    monkeypatch.setattr(module, "requires_backends", lambda *_: None)


@pytest.fixture
def four_threads(monkeypatch):
    """Let a call have four threads, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(extractor, "_cores", lambda: 4)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whisper():
    from transformers import WhisperFeatureExtractor

    return native_extractor(WhisperFeatureExtractor(chunk_length=6))


@pytest.fixture
def threads_seen(monkeypatch):
    seen = set()
    write = extractor.NativeExtractor.native_features

    def spy(self, *arguments):
        seen.add(threading.get_ident())
        barrier.wait(timeout=30)  # each waits until four are at work
        return write(self, *arguments)

    barrier = threading.Barrier(4)
    monkeypatch.setattr(extractor.NativeExtractor, "native_features", spy)
    return seen


def test_the_audios_of_a_call_are_computed_side_by_side(whisper, four_threads, threads_seen):
    whisper(CLIPS, sampling_rate=RATE)
    assert len(threads_seen) == 4


@pytest.mark.parametrize("name", ["whisper", *VARIANTS])
def test_threads_give_the_bits_of_one_thread(whisper, name, four_threads, monkeypatch):
    native = whisper if name == "whisper" else native_extractor(stock_of(name))
    clips = [noise(5 * RATE, n) for n in range(4)]
    together = call(native, clips)
    monkeypatch.setattr(extractor, "_cores", lambda: 1)
    alone = call(native, clips)
    assert set(together) == set(alone)
    for key, value in alone.items():
        np.testing.assert_array_equal(np.asarray(together[key]), np.asarray(value))


def test_the_first_bad_audio_is_named(whisper, four_threads):
    bad = [clip.copy() for clip in CLIPS]
    bad[1][7] = bad[3][7] = np.nan
    with pytest.raises(AudioError, match="audio 2 of 4"):
        whisper(bad, sampling_rate=RATE)


@pytest.mark.parametrize(("cores", "torch_threads", "expected"), [(8, 3, 3), (2, 16, 2), (8, 1, 1)])
def test_threads_follow_torch_and_the_cores(monkeypatch, cores, torch_threads, expected):
    monkeypatch.setattr(extractor, "_cores", lambda: cores)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads)
    assert extractor.compute_threads(10**6) == expected


@pytest.mark.parametrize(("told", "expected"), [("2", 2), ("16", 8), ("", 8), ("two", 8), ("0", 1)])
def test_without_torch_they_follow_omp_num_threads(monkeypatch, told, expected):
    monkeypatch.setattr(extractor, "_cores", lambda: 8)
    monkeypatch.delitem(extractor.sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert extractor.compute_threads(10**6) == expected


def test_little_work_and_other_threads_start_none(four_threads):
    assert extractor.compute_threads(1000) == 1
    found = []
    worker = threading.Thread(target=lambda: found.append(extractor.compute_threads(10**6)))
    worker.start()
    worker.join()
    assert found == [1]


# ---- tensors -----------------------------------------------------------------------------------


def test_tensors_go_to_the_device(whisper):
    found = whisper(
        CLIPS, sampling_rate=RATE, return_tensors="pt", device="meta", return_attention_mask=True
    )
    assert {value.device.type for value in found.values()} == {"meta"}


def test_floats_get_the_type_of_the_model_and_masks_keep_theirs(whisper):
    options = {"sampling_rate": RATE, "return_tensors": "pt", "return_attention_mask": True}
    plain, half = whisper(CLIPS, **options), whisper(CLIPS, dtype=torch.bfloat16, **options)
    assert torch.equal(half["input_features"], plain["input_features"].to(torch.bfloat16))
    assert half["attention_mask"].dtype == plain["attention_mask"].dtype


def test_a_type_without_tensors_is_refused(whisper):
    with pytest.raises(ConfigError, match="return_tensors"):
        whisper(CLIPS, sampling_rate=RATE, dtype=torch.bfloat16)


def test_a_gpu_gets_tensors_from_pinned_memory_without_waiting(monkeypatch):
    told = []
    tensor = torch.zeros(2)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: told.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: told.append((a, k)) or self)
    placing.moved(tensor, "cuda:0", torch.float16)
    device = torch.device("cuda:0")
    assert told == [((torch.float16,), {}), "pinned", ((device,), {"non_blocking": True})]
