"""Audio Flamingo 3 and Music Flamingo: windows within a clip, several clips."""

from __future__ import annotations

import importlib
import json
import shutil

import numpy as np
import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, HFAudioLM
    import torch

    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
WINDOW = 30 * RATE
NAMES = ("audioflamingo3", "musicflamingo")
NOISE = np.random.default_rng(0).normal(0, 0.1, 2 * WINDOW).astype(np.float32)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in NAMES}
    for name, folder in folders.items():
        importlib.import_module(f"tiny.{name}").build(folder)
    return folders


@pytest.fixture(params=NAMES)
def lm(request, checkpoints):
    return HFAudioLM(str(checkpoints[request.param]), device="cpu")


def prepare(lm, *waves):
    text = lm.apply_chat_template(
        [{"role": "user", "content": "<audio>" * len(waves) + "\nWhich?"}]
    )
    media = {"audio": [{"array": wave, "sampling_rate": RATE} for wave in waves]}
    return lm.prepare(Question(text, media))


def audio_embeddings(lm, prompt):
    names = ["input_features", "input_features_mask"]
    if lm.family.name == "musicflamingo":
        names.append("input_ids")
    inputs = {name: prompt.tensors[name] for name in names}
    with torch.no_grad():
        return lm.model.get_audio_features(**inputs).pooler_output


@pytest.mark.parametrize("rest", [1, 160, 161, 320, 321, 480])
def test_the_end_of_a_clip_is_heard_even_if_its_last_window_is_tiny(lm, rest):
    wave = NOISE[: WINDOW + rest]
    changed = np.where(np.arange(wave.size) < WINDOW, wave, 0.5).astype(np.float32)
    first, second = prepare(lm, wave), prepare(lm, changed)
    assert first.heard["audio_tokens"] == 751
    before, after = audio_embeddings(lm, first), audio_embeddings(lm, second)
    assert torch.equal(before[:750], after[:750])
    assert not torch.equal(before[750:], after[750:])


def test_a_clip_sounds_the_same_beside_another_one(lm):
    alone = audio_embeddings(lm, prepare(lm, NOISE[:RATE]))
    both = audio_embeddings(lm, prepare(lm, NOISE[: WINDOW + 1], NOISE[:RATE]))
    # float32 in another batch
    torch.testing.assert_close(both[751:], alone, rtol=1e-5, atol=1e-5)


def test_each_of_several_clips_has_its_place(lm):
    text = lm.apply_chat_template(
        [{"role": "user", "content": "First: <audio> then <audio>, which?"}]
    )
    assert "First: <sound> then <sound>, which?" in text
    # what the hub's template does with them
    parts = [{"type": "audio"}, {"type": "text", "text": " then "}, {"type": "audio"}]
    own = lm.processor.apply_chat_template([{"role": "user", "content": parts}])
    assert own.count("<sound>") == 1


def test_the_limit_of_a_checkpoint_is_kept(checkpoints, tmp_path):
    folder = tmp_path / "short"
    shutil.copytree(checkpoints["audioflamingo3"], folder)
    path = folder / "processor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_audio_len": 30}))
    lm = HFAudioLM(str(folder), device="cpu")
    assert lm.family.writing.whole_s == 30.0
    prompt = prepare(lm, NOISE[: 45 * RATE])
    assert prompt.blocks == [2]
    assert prompt.heard["seconds_heard"] == 45.0
