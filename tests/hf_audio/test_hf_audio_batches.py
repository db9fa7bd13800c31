"""hf-audio: nothing is lost, and neither order nor batch decides an answer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import soundfile
from hf_requests import RATE, generate, score, scores_of

from mmaupro_ext.audio import AudioReader
from mmaupro_ext.models import media as media_room
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, batching, HFAudioLM
    import torch

    from mmaupro_ext.models.hf import batching
    from mmaupro_ext.models.hf.model import HFAudioLM


# ---- nothing is lost -----------------------------------------------------------------------------
def test_no_second_of_a_long_clip_is_cut(lm, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, 66 * RATE).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, RATE)
    noise[-RATE:] = 0.0  # only the last second differs
    soundfile.write(tmp_path / "b.wav", noise, RATE)
    prompt = lm.prepare(Question("<audio>\nWhat?", {"audio": [str(tmp_path / "a.wav")]}))
    assert prompt.blocks == [3]
    assert prompt.tensors["input_features"].shape[0] == 3
    assert (prompt.tensors["input_ids"] == lm.processor.audio_token_id).sum() == 3 * 550
    text = lm.tok_decode(prompt.tensors["input_ids"][0], skip_special_tokens=True)
    assert "The recording is Audio 1 to Audio 3, consecutive 22-second parts.\nWhat?" in text
    first = scores_of(lm, "<audio>\nWhat?", [str(tmp_path / "a.wav")])
    second = scores_of(lm, "<audio>\nWhat?", [str(tmp_path / "b.wav")])
    assert np.abs(np.subtract(first, second)).max() > 1e-4


def test_a_tail_of_a_few_samples_makes_two_equal_windows(lm, clip):
    path = clip("tail.wav", seconds=30 + 10 / RATE)
    prompt = lm.prepare(Question("<audio>\nWhat?", {"audio": [path]}))
    assert prompt.blocks == [2]
    assert (prompt.tensors["input_ids"] == lm.processor.audio_token_id).sum() == 375 + 375
    assert "consecutive 15-second parts" in prompt.text


def test_clips_are_not_reordered(lm, clip):
    low, high = clip("low.wav", frequency=200), clip("high.wav", seconds=2, frequency=3000)
    context = "<audio>\n<audio>\nWhich is higher?"
    assert scores_of(lm, context, [low, high]) != pytest.approx(
        scores_of(lm, context, [high, low]), abs=1e-5
    )
    prompt = lm.prepare(Question(context, {"audio": [low, high]}))
    assert [entry.info.path for entry in prompt.clips] == [low, high]
    frames = prompt.tensors["feature_attention_mask"].sum(dim=1).tolist()
    assert frames == [100, 200]


def test_a_clip_without_a_mark_is_an_errored_item_not_a_dropped_clip(lm, clip):
    a, b = clip("a.wav"), clip("b.wav")
    replies = lm.generate_until([generate("<audio>\nWhich?", a, b)], disable_tqdm=True)
    error = parse_error(replies[0])
    assert "places for 1 clips, the item has 2" in error["problem"]
    assert a in error["file"]
    assert b in error["file"]
    assert "<audio>" in error["fix"]


def test_a_file_at_another_rate_is_resampled(lm, clip):
    path = clip("high.wav", seconds=1.0, rate=48_000)
    prompt = lm.prepare(Question("<audio>\nWhat?", {"audio": [path]}))
    assert prompt.tensors["feature_attention_mask"].sum() == 100


@pytest.mark.parametrize("form", ["path", "dict", "array", "nested"])
def test_every_form_of_reference_is_heard_alike(lm, clip, form):
    path = clip("a.wav")
    samples, rate = soundfile.read(path, dtype="float32")
    reference = {
        "path": path,
        "dict": {"path": path},
        "array": {"array": samples, "sampling_rate": rate},
        "nested": [{"path": path}],
    }[form]
    media = media_room.media_of(("<audio>\nWhat?", {}, {"audio": [reference]}))
    prompt = lm.prepare(Question("<audio>\nWhat?", media))
    expected = lm.prepare(Question("<audio>\nWhat?", {"audio": [path]}))
    assert torch.equal(prompt.tensors["input_ids"], expected.tensors["input_ids"])
    assert torch.equal(prompt.tensors["input_features"], expected.tensors["input_features"])


# ---- routing, batches, order ---------------------------------------------------------------------
def test_mixed_requests_come_back_in_order_and_batch_size_does_not_matter(make, clip):
    requests = [generate("The capital of France is")]
    for number, seconds in enumerate((0.4, 33.0, 2.0, 1.0, 0.7, 31.0)):
        path = clip(f"{number}.wav", seconds=seconds, frequency=150.0 * 2**number)
        requests.append(generate(f"<audio>\nQuestion {'x' * number}?", path))
        requests.append(generate(f"Text question number {number}:", max_gen_toks=4 + number % 2))
    alone = make(batch_size=1)
    expected = [alone.generate_until([request], disable_tqdm=True)[0] for request in requests]
    assert len(set(expected)) > 1
    assert make(batch_size=4).generate_until(requests, disable_tqdm=True) == expected
    assert make(batch_size="auto").generate_until(requests, disable_tqdm=True) == expected


def test_scores_do_not_depend_on_the_batch(make, clip):
    requests = []
    for number in range(4):
        path = clip(f"{number}.wav", seconds=0.5 + number / 3, frequency=150.0 * 2**number)
        for choice in ("A", "B is right", " C"):
            requests.append(score(f"<audio>\nQuestion {'x' * number}?\nAnswer:", choice, path))
    requests.insert(3, score("One plus one is", " two"))
    one = make(batch_size=1).loglikelihood(requests, disable_tqdm=True)
    four = make(batch_size=4).loglikelihood(requests, disable_tqdm=True)
    assert [value for value, _ in four] == pytest.approx([value for value, _ in one], abs=1e-4)
    assert [greedy for _, greedy in four] == [greedy for _, greedy in one]
    alone = make().loglikelihood([requests[5]], disable_tqdm=True)
    assert one[5][0] == pytest.approx(alone[0][0], abs=1e-4)


def test_a_batch_does_not_pad_a_second_to_ten_minutes(make, clip, monkeypatch):
    lm = make(decoding="generate")
    widths = []
    generate_batch = HFAudioLM._generate

    def spy(self, batch, *arguments):
        widths.append([prompt.length for prompt in batch])
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", spy)
    requests = [generate("<audio>\nWhat?", clip(f"{n}.wav", seconds=1)) for n in range(3)]
    requests.append(generate("<audio>\nWhat?", clip("long.wav", seconds=70)))
    lm.generate_until(requests, disable_tqdm=True)
    assert sorted(len(batch) for batch in widths) == [1, 3]


def test_what_fits_together_goes_together_where_a_batch_does_not(make, clip, monkeypatch):
    """Prompts of which only neighbours have equal shapes take two passes, not four."""
    lm = make(decoding="generate")
    passes = []
    generate_batch = lm.model.generate

    def spy(input_ids, **options):
        passes.append(len(input_ids))
        return generate_batch(input_ids=input_ids, **options)

    def only_equal(prompts, *arguments, **options):
        if len({prompt["input_ids"].shape for prompt in prompts}) > 1:
            raise batching.UnbatchableError("lengths differ")
        return collate(prompts, *arguments, **options)

    collate = batching.collate
    monkeypatch.setattr(lm.model, "generate", spy)
    requests = [
        generate("<audio>\nWhat?", clip(f"{n}.wav", seconds=1 + n // 2 / 2)) for n in range(4)
    ]
    together = lm.generate_until(requests, disable_tqdm=True)
    monkeypatch.setattr(batching, "collate", only_equal)
    assert lm.generate_until(requests, disable_tqdm=True) == together
    assert passes == [4, 2, 2]


def test_without_workers_nothing_is_decoded_before_its_batch(make, clip, monkeypatch):
    lm = make(batch_size=2, prefetch_workers=0, decoding="generate")
    decoded = []
    generate_batch = HFAudioLM._generate

    def spy(self, batch, *arguments):
        decoded.append(self._reader.decoded)
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", spy)
    requests = [generate("<audio>\nWhat?", clip(f"{number}.wav")) for number in range(6)]
    before = copy.deepcopy([request.args for request in requests])
    lm.generate_until(requests, disable_tqdm=True)
    assert decoded == [2, 4, 6]
    assert [request.args for request in requests] == before


def test_in_slots_nothing_is_decoded_before_there_is_a_place_for_it(make, clip, monkeypatch):
    lm = make(batch_size=2, prefetch_workers=0)
    ahead, answered = [], 0
    read = lm._generator.read

    def spy(*arguments):
        nonlocal answered
        ahead.append(lm._reader.decoded - answered)
        answered += 1
        return read(*arguments)

    monkeypatch.setattr(lm._generator, "read", spy)
    requests = [generate("<audio>\nWhat?", clip(f"{number}.wav")) for number in range(6)]
    lm.generate_until(requests, disable_tqdm=True)
    assert len(ahead) == 6
    assert max(ahead) <= 3  # what is written, and the next one


def test_a_shared_clip_is_decoded_once_and_encoded_once_for_all_choices(lm, clip):
    encoded = []
    lm.model.model.audio_tower.register_forward_hook(lambda *_: encoded.append(1))
    path = clip("a.wav")
    choices = [score("<audio>\nWhat?", f"{letter} it is", path) for letter in "ABCD"]
    lm.loglikelihood(choices, disable_tqdm=True)
    assert len(encoded) == 1
    lm.loglikelihood([score("<audio>\nAnother?", "A", path)], disable_tqdm=True)
    assert lm._reader.decoded == 1


def test_kept_clips_stay_within_their_bound(clip):
    one_second = RATE * 4
    reader = AudioReader(RATE, "soxr", cache_bytes=2 * one_second)
    paths = [clip(f"{number}.wav") for number in range(3)]
    for path in paths:
        reader.read(path)
    reader.read(paths[2])
    reader.read(paths[1])
    assert reader.decoded == 3
    reader.read(paths[0])
    assert reader.decoded == 4
    assert sum(entry.samples.nbytes for entry in reader._kept.values()) <= 2 * one_second


def test_a_file_that_changes_is_read_again(clip):
    reader = AudioReader(RATE, "soxr", cache_bytes=2**20)
    assert len(reader.read(clip("a.wav", seconds=1.0)).samples) == RATE
    assert len(reader.read(clip("a.wav", seconds=0.5)).samples) == RATE // 2
