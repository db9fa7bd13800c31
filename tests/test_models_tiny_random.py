"""The model that is made on the spot: small, reproducible, and made without a network."""

import socket

import numpy as np
import pytest

from mmaupro_ext.models.families import FAMILIES


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, tiny_random
    import torch

    from mmaupro_ext.models import tiny_random


def answer(model, processor, samples, question="Which animal?"):
    prompt = f"Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n{question}\nAnswer:"
    encoded = processor(
        text=[prompt], audio=[samples], return_tensors="pt", audio_kwargs={"sampling_rate": 16000}
    )
    ids = model.generate(**encoded, max_new_tokens=16, do_sample=False)
    return processor.tokenizer.decode(ids[0, encoded["input_ids"].shape[1] :])


def noise(samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_it_is_tiny_and_long_enough_for_ten_minutes():
    model, _ = tiny_random.make(0)
    assert sum(weights.numel() for weights in model.parameters()) < 100_000
    assert model.config.text_config.max_position_embeddings > 20 * 750 + 10_000


def test_equal_seeds_make_equal_models_and_the_global_random_state_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, _ = tiny_random.make(5)
    assert torch.equal(torch.rand(3), expected)
    second, _ = tiny_random.make(5)
    other, _ = tiny_random.make(6)
    weights = [model.state_dict()["lm_head.weight"] for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_replies_are_one_letter_and_end(seed):
    model, processor = tiny_random.make(seed)
    for length in (2_000, 16_000, 100_000):
        reply = answer(model, processor, noise(length, seed=length))
        assert reply.removesuffix(tiny_random.END_TOKEN) in set(tiny_random.ANSWERS)
        assert reply.endswith(tiny_random.END_TOKEN)


def test_replies_depend_on_the_sound():
    model, processor = tiny_random.make(1)
    tones = [
        (0.5 * np.sin(2 * np.pi * frequency * np.arange(32_000) / 16_000)).astype(np.float32)
        for frequency in np.geomspace(100, 6000, 24)
    ]
    assert len({answer(model, processor, tone) for tone in tones}) > 1


def test_any_text_survives_the_tokenizer():
    tokenizer = tiny_random.byte_tokenizer()
    text = "Größe: 3 µm — «声» \n\t 🎻"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_building_and_loading_never_reach_for_the_network(tmp_path, monkeypatch):
    asked = []

    def refuse(*arguments, **_kwargs):
        asked.append(arguments)  # libraries may swallow the exception
        raise OSError("no network here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    from mmaupro_ext.models.hf.model import HFAudioLM

    model = HFAudioLM("tiny-random", device="cpu", seed=3)
    assert model.get_model_info()["note"] == tiny_random.NOTE
    assert asked == []


def test_a_kept_model_is_used_again_and_no_half_model_is_left(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tiny_random.build(4)
    written = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert tiny_random.build(4) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_process_that_comes_second_does_not_fail(tmp_path):
    first = tiny_random._save(0, _new_folder(tmp_path / "a"), tmp_path / "model")
    second = tiny_random._save(0, _new_folder(tmp_path / "b"), tmp_path / "model")
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def _new_folder(path):
    path.mkdir()
    return path


def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tiny_random.tempfile, "gettempdir", lambda: str(tmp_path / "other"))
    monkeypatch.setattr(tiny_random.tempfile, "tempdir", None)
    folder = tiny_random.build(0)
    assert (tmp_path / "other") in folder.parents


@pytest.mark.parametrize(
    "samples", [480, 481, 640, 641, 800, 1000, 15_999, 16_000, 16_001, 77_777, 479_999, 480_000]
)
def test_the_token_count_of_a_block_is_the_processors(samples):
    _, processor = tiny_random.make(0)
    encoded = processor(
        text=["<|AUDIO|>"],
        audio=[noise(samples)],
        return_tensors="pt",
        audio_kwargs={"sampling_rate": 16000},
    )
    audio_tokens = int((encoded["input_ids"] == processor.audio_token_id).sum())
    assert [*FAMILIES["qwen2_audio"].writing.count_tokens([samples])] == [audio_tokens]


def test_no_block_is_so_short_that_it_vanishes():
    family = FAMILIES["qwen2_audio"]
    # A pass without two audio tokens side by side would take the stock model's legacy path.
    assert [*family.writing.count_tokens([family.writing.min_samples])] == [2]
    assert [*family.writing.count_tokens([family.writing.min_samples - 1])] == [1]
