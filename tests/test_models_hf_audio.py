"""hf-audio under lm_eval: what must not go wrong between a request and its answer."""

import copy
import json
import logging
import math

import numpy as np
import pytest
import soundfile

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models import media as media_room
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global \
        torch, \
        transformers, \
        simple_evaluate, \
        Instance, \
        CachingLM, \
        get_model, \
        HFLM, \
        TaskManager, \
        tiny_random, \
        batching, \
        HFAudioLM
    import torch
    import transformers
    from lm_eval import simple_evaluate
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import CachingLM
    from lm_eval.api.registry import get_model
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.hf import batching
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
GREEDY = {"until": [], "max_gen_toks": 8}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder of this module's own, so that no test uses the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make(cache):
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


def generate(context, *paths, **gen_kwargs):
    arguments = (context, GREEDY | gen_kwargs)
    if paths:
        arguments += ({"audio": [{"path": path, "sha256": None} for path in paths]},)
    return Instance("generate_until", {}, arguments, 0)


def score(context, continuation, *paths):
    arguments = (context, continuation)
    if paths:
        arguments += ({"audio": [{"path": path, "sha256": None} for path in paths]},)
    return Instance("loglikelihood", {}, arguments, 0)


def scores_of(lm, context, paths, continuations=("A", "B", "C", "D")):
    requests = [score(context, continuation, *paths) for continuation in continuations]
    return [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]


# ---- nothing is lost ---------------------------------------------------------------------------


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
    assert [entry.name for entry in prompt.clips] == [low, high]
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


# ---- routing, batches, order -------------------------------------------------------------------


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


def test_a_batch_does_not_pad_a_second_to_ten_minutes(lm, clip, monkeypatch):
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


def test_what_fits_together_goes_together_where_a_batch_does_not(lm, clip, monkeypatch):
    """Prompts of which only neighbours have equal shapes take two passes, not four."""
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
    lm = make(batch_size=2, prefetch_workers=0)
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
    reader = media_room.AudioReader(RATE, "soxr", cache_bytes=2 * one_second)
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
    reader = media_room.AudioReader(RATE, "soxr", cache_bytes=2**20)
    assert len(reader.read(clip("a.wav", seconds=1.0)).samples) == RATE
    assert len(reader.read(clip("a.wav", seconds=0.5)).samples) == RATE // 2


# ---- replies -----------------------------------------------------------------------------------


def test_stop_strings_are_cut_though_a_neighbour_goes_on(lm, clip, monkeypatch):
    texts = ["yes\nno\nmaybe", "perhaps it is"]

    def fake_generate(input_ids, **_):
        rows = [lm.tok_encode(text) for text in texts]
        width = max(len(row) for row in rows)
        pad = lm.tokenizer.pad_token_id
        rows = [row + [pad] * (width - len(row)) for row in rows]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)

    monkeypatch.setattr(lm.model, "generate", fake_generate)
    requests = [generate("<audio>\nWhat?", clip(f"{n}.wav"), until=["\n"]) for n in "ab"]
    assert sorted(lm.generate_until(requests, disable_tqdm=True)) == ["perhaps it is", "yes"]


@pytest.mark.parametrize(
    ("configured", "tokenizer_end", "template_end"),
    [
        ("<|im_end|>", "<|endoftext|>", None),
        (["<|im_end|>", "x"], "<|endoftext|>", None),
        (None, "<|im_end|>", None),
        (None, "<|endoftext|>", "<|im_end|>"),
    ],
)
def test_end_tokens_are_those_of_all_that_know_one(
    tmp_path, clip, configured, tokenizer_end, template_end
):
    model, processor = tiny_random.make(1)
    ids = processor.tokenizer.get_vocab()
    if configured is None:
        model.generation_config.eos_token_id = model.config.text_config.eos_token_id = None
    else:
        names = [configured] if isinstance(configured, str) else configured
        model.generation_config.eos_token_id = [ids[name] for name in names]
    processor.tokenizer.eos_token = tokenizer_end
    after = template_end or ""
    processor.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {% if m['content'] is string %}{{ m['content'] }}"
        "{% else %}{% for c in m['content'] %}{% if c['type'] == 'audio' %}"
        "<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        f"{{% endif %}}{after}\n{{% endfor %}}"
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    lm = HFAudioLM(str(tmp_path), device="cpu", batch_size=2)
    assert ids["<|im_end|>"] in lm.end_tokens
    assert ids[tokenizer_end] in lm.end_tokens
    assert len(lm.end_tokens) == len({*lm.end_tokens})
    # tiny-random writes a letter and then <|im_end|>
    requests = [generate("<audio>\nWhat?", clip("a.wav")), generate("And without a sound?")]
    for reply in lm.generate_until(requests, disable_tqdm=True):
        assert reply in set(tiny_random.ANSWERS)


def test_the_end_of_a_message_is_not_that_of_a_turn_where_thoughts_are_messages(make):
    lm = make()
    assert lm._template.end_of_turn() == lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    lm.tokenizer.add_special_tokens({"additional_special_tokens": ["<|channel|>"]})
    assert lm._template.end_of_turn() is None


def test_why_a_reply_ended_travels_with_it(make, clip, tmp_path):
    lm = make()
    path = clip("a.wav")
    asked = [
        generate("<audio>\nWhat?", path),
        generate("<audio>\nWhat?", path, max_gen_toks=1),
        generate("<audio>\nWhat?", path, max_gen_toks=1, until=list(tiny_random.ANSWERS)),
        generate("<audio>\nWhat?", "missing.wav"),
    ]
    replies = lm.generate_until(asked, disable_tqdm=True)
    assert [reply.finish for reply in replies] == ["stop", "length", "stop", "error"]
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    cached.generate_until(asked)
    assert [reply.finish for reply in cached.generate_until(asked[:2])] == ["stop", "length"]
    cached.dbdict.close()


def test_thoughts_are_left_out_of_the_reply(make):
    lm = make(think_end_token="</think>")
    assert lm._generator.read(lm.tok_encode("hm: B\n</think> A"), ["\n"], 99) == ("A", "stop")
    number = lm.tok_encode("|")[0]
    lm = make(think_end_token=str(number))
    assert lm._generator.read(lm.tok_encode("hm | no | A"), [], 11) == ("A", "length")


def test_generation_options_reach_the_model(lm, clip, monkeypatch):
    seen = []
    original = lm.model.generate

    def spy(**options):
        seen.append(options)
        return original(**options)

    monkeypatch.setattr(lm.model, "generate", spy)
    path = clip("a.wav")
    lm.generate_until([generate("<audio>\nWhat?", path, temperature=0.0)], disable_tqdm=True)
    lm.generate_until(
        [generate("<audio>\nWhat?", path, do_sample=True, temperature=0.7, max_gen_toks=3)],
        disable_tqdm=True,
    )
    assert (seen[0]["do_sample"], seen[0]["max_new_tokens"]) == (False, 8)
    assert "temperature" not in seen[0]
    assert (seen[1]["do_sample"], seen[1]["temperature"]) == (True, 0.7)
    assert seen[1]["max_new_tokens"] == 3


# ---- log-likelihood ----------------------------------------------------------------------------


def test_shared_prefix_scores_equal_full_passes(lm, clip):
    continuations = ["A", "B is right", " the first one", "D"]
    batch = [
        lm.prepare_choices(
            Question(
                f"<audio>\nWhich {'x' * 7 * number}?\nAnswer:",
                {"audio": [clip(f"{number}.wav", seconds=seconds, frequency=300 * (number + 1))]},
                continuations=continuations[: 4 - number],
            )
        )
        for number, seconds in enumerate((0.5, 2.0, 31.0))
    ]
    shared, full = lm.score_choices(batch, shared=True), lm.score_choices(batch, shared=False)
    assert [len(row) for row in shared] == [4, 3, 2]
    for shared_row, full_row in zip(shared, full, strict=True):
        assert [value for value, _ in shared_row] == pytest.approx(
            [value for value, _ in full_row], abs=1e-4
        )
        assert [greedy for _, greedy in shared_row] == [greedy for _, greedy in full_row]


def test_scores_equal_a_plain_forward_pass(lm, clip):
    path = clip("a.wav")
    prompt = lm.prepare(Question("<audio>\nWhat?\nAnswer:", {"audio": [path]}))
    tokens = lm.tok_encode(" C or D", add_special_tokens=False)
    ids = torch.cat([prompt.tensors["input_ids"], torch.tensor([tokens])], dim=1)
    media = {name: prompt.tensors[name] for name in ("input_features", "feature_attention_mask")}
    with torch.no_grad():
        output = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), **media)
    logprobs = output.logits[0, -len(tokens) - 1 : -1].log_softmax(dim=-1)
    expected = logprobs[range(len(tokens)), tokens].sum().item()
    assert scores_of(lm, "<audio>\nWhat?\nAnswer:", [path], [" C or D"]) == pytest.approx(
        [expected], abs=1e-4
    )


def test_only_what_greedy_decoding_writes_is_called_greedy(lm, clip):
    path = clip("a.wav")
    (reply,) = lm.generate_until([generate("<audio>\nWhat?\nAnswer:", path)], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)
    continuations = [*tiny_random.ANSWERS, reply + tiny_random.END_TOKEN, reply + "x"]
    answers = lm.loglikelihood(
        [score("<audio>\nWhat?\nAnswer:", text, path) for text in continuations],
        disable_tqdm=True,
    )
    greedy = [
        text for text, (_, is_greedy) in zip(continuations, answers, strict=True) if is_greedy
    ]
    assert greedy == [reply, reply + tiny_random.END_TOKEN]


def test_an_unconditional_score_hears_nothing(lm, clip):
    with_audio, without = lm.loglikelihood(
        [score("", "A", clip("a.wav")), score("", "A")], disable_tqdm=True
    )
    assert with_audio == without


# ---- errors ------------------------------------------------------------------------------------


def bad_files(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), RATE)
    return [str(tmp_path / name) for name in ("missing.wav", "empty.wav", "text.wav", "silent.wav")]


def test_bad_files_cost_their_items_only(lm, clip, tmp_path, caplog):
    good = [generate("<audio>\nWhat?", clip(f"{n}.wav", frequency=300 * n)) for n in (1, 2, 3)]
    expected = lm.generate_until(good, disable_tqdm=True)
    bad = bad_files(tmp_path)
    requests = [good[0], *(generate("<audio>\nWhat?", path) for path in bad), good[1], good[2]]
    with caplog.at_level(logging.ERROR):
        replies = lm.generate_until(requests, disable_tqdm=True)
    assert [replies[0], *replies[-2:]] == expected
    for path, reply in zip(bad, replies[1:-2], strict=True):
        error = parse_error(reply)
        assert path in error["file"]
        assert error["problem"]
        assert error["fix"]
        assert path in caplog.text
    assert lm.get_model_info()["heard"]["errored_items"] == len(bad)


def test_an_errored_item_is_named_by_task_and_id(lm, tmp_path, caplog):
    request = generate("<audio>\nWhat?", str(tmp_path / "missing.wav"))
    request.doc, request.task_name = {"id": "c93e3644"}, "mmaupro_sound"
    with caplog.at_level(logging.ERROR):
        (reply,) = lm.generate_until([request], disable_tqdm=True)
    assert parse_error(reply)["item"] == "mmaupro_sound c93e3644"
    assert "mmaupro_sound c93e3644, " in caplog.text


def test_choices_about_a_bad_file_have_no_score(lm, clip, tmp_path):
    missing = str(tmp_path / "missing.wav")
    answers = lm.loglikelihood(
        [score("<audio>\nWhat?", "A", missing), score("<audio>\nWhat?", "A", clip("a.wav"))],
        disable_tqdm=True,
    )
    assert math.isnan(answers[0][0])
    assert answers[0][1] is False
    assert math.isfinite(answers[1][0])


def test_a_prompt_beyond_the_context_is_an_error_not_a_cut(make, clip):
    lm = make(max_length=300)
    short, long = clip("short.wav"), clip("long.wav", seconds=20)
    replies = lm.generate_until(
        [generate("<audio>\nWhat?", long), generate("<audio>\nWhat?", short)], disable_tqdm=True
    )
    length = lm.prepare(Question("<audio>\nWhat?", {"audio": [long]})).length
    error = parse_error(replies[0])
    assert error["file"] == long
    assert f"need {length + 8} tokens" in error["problem"]
    assert "takes 300" in error["problem"]
    assert "max_length" in error["fix"]
    assert parse_error(replies[1]) is None


def test_the_context_limit_is_exact(make, clip):
    path = clip("a.wav")
    length = make().prepare(Question("<audio>\nWhat?", {"audio": [path]})).length
    fits = make(max_length=length + 8).generate_until([generate("<audio>\nWhat?", path)])
    assert parse_error(fits[0]) is None
    over = make(max_length=length + 7).generate_until([generate("<audio>\nWhat?", path)])
    assert parse_error(over[0]) is not None
    scored = make(max_length=length).loglikelihood([score("<audio>\nWhat?", "A", path)])
    assert math.isfinite(scored[0][0])
    over_by_one = make(max_length=length).loglikelihood([score("<audio>\nWhat?", "AB", path)])
    assert math.isnan(over_by_one[0][0])


@pytest.mark.parametrize("batch_size", [4, "auto"])
def test_out_of_memory_halves_the_batch_and_loses_nothing(make, clip, monkeypatch, batch_size):
    requests = [generate(f"<audio>\nQ{n}?", clip(f"{n}.wav", frequency=200 * n)) for n in (1, 2, 3)]
    expected = make().generate_until(requests, disable_tqdm=True)
    tried = []
    generate_batch = HFAudioLM._generate

    def too_small(self, batch, *arguments):
        tried.append(len(batch))
        if len(batch) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", too_small)
    lm = make(batch_size=batch_size)
    assert lm.generate_until(requests, disable_tqdm=True) == expected
    assert tried == [3, 2, 1, 1, 1]


def test_after_running_out_of_memory_shorter_items_go_together_again(make, clip, monkeypatch):
    long = [clip(f"long{n}.wav", seconds=28 + n / 8, frequency=200 * n) for n in (1, 2, 3)]
    short = [clip(f"{n}.wav", seconds=2 + n / 8, frequency=200 * n) for n in (1, 2, 3, 4)]
    tried = []
    generate_batch = HFAudioLM._generate

    def too_small(self, batch, *arguments):
        tried.append(len(batch))
        if sum(prompt.length for prompt in batch) > 1000:  # one long clip takes some 700
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", too_small)
    requests = [generate("<audio>\nWhat?", path) for path in [*short, *long]]
    replies = make(batch_size=4).generate_until(requests, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in replies)
    assert tried == [3, 2, 1, 1, 1, 4]


def test_an_item_that_never_fits_is_errored_alone(lm, clip, monkeypatch):
    big = clip("big.wav", seconds=31)
    generate_batch = HFAudioLM._generate

    def too_small(self, batch, *arguments):
        if any(prompt.blocks == [2] for prompt in batch):
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate_batch(self, batch, *arguments)

    monkeypatch.setattr(HFAudioLM, "_generate", too_small)
    requests = [generate("<audio>\nWhat?", path) for path in (clip("a.wav"), big, clip("b.wav"))]
    replies = lm.generate_until(requests, disable_tqdm=True)
    assert [parse_error(reply) is None for reply in replies] == [True, False, True]
    assert parse_error(replies[1])["file"] == big


def test_programming_errors_are_not_swallowed(lm, clip, monkeypatch):
    def broken(*_):
        raise TypeError("a bug")

    monkeypatch.setattr(HFAudioLM, "_generate", broken)
    with pytest.raises(TypeError, match="a bug"):
        lm.generate_until([generate("<audio>\nWhat?", clip("a.wav"))], disable_tqdm=True)


def test_rolling_scores_of_audio_are_refused_and_of_text_are_given(lm, clip):
    media = {"audio": [clip("a.wav")]}
    with pytest.raises(ConfigError, match="text only"):
        lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("x", media), 0)])
    (value,) = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("some text",), 0)])
    assert math.isfinite(value)


# ---- caches ------------------------------------------------------------------------------------


def test_a_second_run_takes_every_answer_from_the_cache(make, clip, tmp_path, monkeypatch):
    path = clip("a.wav")
    asked = [generate("<audio>\nWhat?", path), generate("A text question:")]
    scored = [score("<audio>\nWhat?", letter, path) for letter in "AB"] + [score("A text", " B")]
    database = str(tmp_path / "cache.db")
    first = CachingLM(make(), database)
    replies, scores = first.generate_until(asked), first.loglikelihood(scored)
    first.dbdict.close()

    def not_again(*_, **__):
        raise AssertionError("an answer was not taken from the cache")

    second = CachingLM(make(), database)
    monkeypatch.setattr(HFAudioLM, "_route", not_again)
    assert second.generate_until(asked) == replies
    assert second.loglikelihood(scored) == scores
    second.dbdict.close()


def test_answers_are_cached_as_they_come_under_the_key_that_is_looked_up(lm, clip):
    class Hook:
        def __init__(self):
            self.dbdict = {}

        def add_partial(self, attr, arguments, answer):
            self.dbdict[json.dumps([attr, *arguments])] = answer

    lm.set_cache_hook(Hook())
    good = generate("<audio>\nWhat?", clip("a.wav"))
    bad = generate("<audio>\nWhat?", "missing.wav")
    reply, _ = lm.generate_until([good, bad], disable_tqdm=True)
    assert lm.cache_hook.dbdict == {json.dumps(["generate_until", *good.args]): reply}


def test_failed_items_are_tried_again_in_the_next_run(make, clip, tmp_path):
    missing = str(tmp_path / "late.wav")
    asked = [generate("<audio>\nWhat?", missing), generate("<audio>\nWhat?", clip("a.wav"))]
    scored = [score("<audio>\nWhat?", "A", missing)]
    database = str(tmp_path / "cache.db")
    first = CachingLM(make(), database)
    replies = first.generate_until(asked)
    assert parse_error(replies[0]) is not None
    assert math.isnan(first.loglikelihood(scored)[0][0])
    first.dbdict.close()
    clip("late.wav")
    second = CachingLM(make(), database)
    again = second.generate_until(asked)
    assert parse_error(again[0]) is None
    assert again[1] == replies[1]
    assert math.isfinite(second.loglikelihood(scored)[0][0])
    second.dbdict.close()


# ---- frontends, construction, information ------------------------------------------------------


def test_stock_and_native_frontend_agree(make, tmp_path):
    # Below the transition bands of the resamplers, where both promise the same response.
    time = np.arange(3 * 44_100) / 44_100
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 68)
    tones = [np.sin(2 * np.pi * 100 * n * time + phase) for n, phase in enumerate(phases, start=1)]
    path = str(tmp_path / "harmonics.wav")
    soundfile.write(path, 0.01 * np.sum(tones, axis=0), 44_100)
    native, stock = make(), make(frontend="stock")
    assert type(stock.processor.feature_extractor) is transformers.WhisperFeatureExtractor
    assert type(native.processor.feature_extractor) is not transformers.WhisperFeatureExtractor
    question = Question("<audio>\nWhat?", {"audio": [path]})
    ours, theirs = native.prepare(question).tensors, stock.prepare(question).tensors
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert scores_of(native, "<audio>\nWhat?", [path]) == pytest.approx(
        scores_of(stock, "<audio>\nWhat?", [path]), abs=1e-3
    )


def test_native_features_are_the_stock_features(make, clip):
    path = clip("a.wav", seconds=3)
    question = Question("<audio>\nWhat?", {"audio": [path]})
    ours = make().prepare(question).tensors["input_features"]
    theirs = make(frontend="stock").prepare(question).tensors["input_features"]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_the_class_is_where_the_registration_says():
    assert get_model("hf-audio") is HFAudioLM
    assert f"{HFAudioLM.__module__}:{HFAudioLM.__name__}" == (
        "mmaupro_ext.models.hf.model:HFAudioLM"
    )


def test_unknown_options_are_refused(make):
    with pytest.raises(ConfigError, match="frontend"):
        make(frontend="fast")
    with pytest.raises(ConfigError, match="decoder-only"):
        make(backend="seq2seq")


def test_constructor_arguments_reach_transformers(make):
    lm = make(dtype="bfloat16", attn_implementation="eager", max_length=1234)
    assert lm.model.dtype == torch.bfloat16
    assert lm.model.config._attn_implementation == "eager"
    assert lm.max_length == 1234


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ({"load_in_8bit": True}, {"load_in_8bit": True}),
        (
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        ),
        ({"quantization_config": {"quant_method": "hqq"}}, {"quant_method": "hqq"}),
    ],
)
def test_quantization_reaches_transformers(make, monkeypatch, given, arrives):
    class Arrived(Exception):  # noqa: N818 - the end of the test, not an error
        pass

    def from_pretrained(*_, **options):
        raise Arrived(options)

    kind = transformers.Qwen2AudioForConditionalGeneration
    monkeypatch.setattr(kind, "from_pretrained", from_pretrained)
    with pytest.raises(Arrived) as arrived:
        make(**given, attn_implementation="eager")
    (options,) = arrived.value.args
    assert options["quantization_config"] == arrives
    assert options["attn_implementation"] == "eager"
    assert not set(options) & {"load_in_8bit", "load_in_4bit", "bnb_4bit_quant_type"}


def test_half_precision_models_take_audio(make, clip):
    lm = make(dtype="bfloat16")
    path = clip("a.wav")
    (reply,) = lm.generate_until([generate("<audio>\nWhat?", path)], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)
    assert np.isfinite(scores_of(lm, "<audio>\nWhat?", [path])).all()


def test_a_model_object_with_its_processor_is_served(clip):
    model, processor = tiny_random.make(1)
    lm = HFAudioLM(model, tokenizer=processor.tokenizer, processor=processor)
    (reply,) = lm.generate_until([generate("<audio>\nWhat?", clip("a.wav"))], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)


def test_the_results_say_what_was_heard_and_that_it_was_chance(make, clip, caplog):
    with caplog.at_level(logging.WARNING):
        lm = make()
    assert "chance level" in caplog.text
    short, long = clip("short.wav", seconds=1.5), clip("long.wav", seconds=31, rate=8_000)
    requests = [
        generate("<audio>\nWhat?", short),
        generate("<audio>\n<audio>\nWhich?", short, long),
        generate("<audio>\nWhat?", "missing.wav"),
    ]
    lm.generate_until(requests, disable_tqdm=True)
    info = lm.get_model_info()
    assert info["frontend"] == "native"
    assert info["native"]["backend"]
    assert info["resamplers_used"] == ["native", "none"]
    assert "chance level" in info["note"]
    assert info["model_num_parameters"] < 100_000
    assert info["heard"] == {
        "items": 2,
        "files": 2,
        "clips": 3,
        "windows": 4,
        "audio_tokens": 37 + 37 + 2 * 387,  # 31 s are two windows of 15.5 s
        "seconds_in_files": 34.0,
        "seconds_heard": 34.0,
        "shortened_items": 0,
        "mixed_down_clips": 0,
        "errored_items": 1,
        "process": 0,
        "processes": 1,
    }
    json.dumps(info, default=str)


def test_ranks_are_counted_over_all_nodes(lm):
    class Accelerator:
        process_index, local_process_index, num_processes = 3, 1, 4

        def unwrap_model(self, model):
            return model

    lm.accelerator = Accelerator()
    lm._take_global_rank()
    assert (lm.rank, lm.world_size) == (3, 4)


# ---- chat templates ----------------------------------------------------------------------------


def test_the_chat_template_keeps_one_place_per_clip(lm, clip):
    history = [{"role": "user", "content": "<audio>\n<audio>\nWhich is louder?"}]
    rendered = lm.apply_chat_template(history)
    block = lm.family.writing.audio_block
    assert f"Audio 1: {block}\nAudio 2: {block}\nWhich is louder?<|im_end|>" in rendered
    assert rendered.endswith("<|im_start|>assistant\n")
    paths = [clip("long.wav", seconds=31), clip("b.wav")]
    prompt = lm.prepare(Question(rendered, {"audio": paths}))
    text = lm.tok_decode(prompt.tensors["input_ids"][0])
    assert "recording 2 is Audio 3.\nWhich is louder?\nassistant\n" in text.replace("user\n", "")
    (reply,) = lm.generate_until([generate(rendered, *paths)], disable_tqdm=True)
    assert reply in set(tiny_random.ANSWERS)


def test_the_chat_template_takes_text_and_a_system_message(lm):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One plus one?"},
    ]
    expected = lm.processor.tokenizer.apply_chat_template(
        history,
        tokenize=False,
        chat_template=lm.processor.chat_template,
        add_generation_prompt=True,
    )
    assert lm.apply_chat_template(history) == expected
    assert lm.chat_template(True) == lm.processor.chat_template


def test_a_chat_template_that_is_not_in_use_is_hinted_at_once(lm, clip, caplog):
    path = clip("a.wav")
    rendered = lm.apply_chat_template([{"role": "user", "content": "<audio>\nWhat?"}])
    with caplog.at_level(logging.WARNING):
        lm.generate_until([generate(rendered, path)], disable_tqdm=True)
        assert "--apply_chat_template" not in caplog.text
        lm.generate_until([generate("<audio>\nWhat?", path)] * 2, disable_tqdm=True)
    assert caplog.text.count("--apply_chat_template") == 1


# ---- text and image models ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def text_checkpoint(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("text"))
    tokenizer = tiny_random.byte_tokenizer()
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_text_model_writes_marks_of_a_chat_as_they_are(text_checkpoint):
    lm = HFAudioLM(text_checkpoint, device="cpu")
    lm.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    history = [{"role": "user", "content": "What does <audio> do in HTML?"}]
    assert lm.apply_chat_template(history) == "What does <audio> do in HTML?"


def text_scores():
    return [score("One plus one is", text) for text in (" two", " three", " a lot")]


def text_questions():
    return [generate("One plus one is"), generate("Say something longer please:", until=["q"])]


def test_text_through_hf_audio_equals_plain_hf(text_checkpoint):
    plain = HFLM(text_checkpoint, device="cpu", batch_size=2)
    ours = HFAudioLM(text_checkpoint, device="cpu", batch_size=2)
    assert ours.loglikelihood(text_scores()) == plain.loglikelihood(text_scores())
    assert ours.generate_until(text_questions()) == plain.generate_until(text_questions())


def test_text_through_an_audio_model_equals_its_language_model_under_plain_hf(lm):
    language_model = transformers.Qwen2ForCausalLM(lm.model.config.text_config).eval()
    weights = lm.model.state_dict()
    prefix = "model.language_model."
    language_model.load_state_dict(
        {f"model.{k.removeprefix(prefix)}": v for k, v in weights.items() if k.startswith(prefix)}
        | {"lm_head.weight": weights["lm_head.weight"]}
    )
    plain = HFLM(language_model, tokenizer=lm.tokenizer, batch_size=4)
    ours = lm.loglikelihood(text_scores())
    assert [value for value, _ in ours] == pytest.approx(
        [value for value, _ in plain.loglikelihood(text_scores())], abs=1e-5
    )
    assert lm.generate_until(text_questions()) == plain.generate_until(text_questions())


@pytest.mark.parametrize("kind", ["audio", "visual"])
def test_media_for_a_text_model_are_refused_before_anything_is_answered(
    text_checkpoint, monkeypatch, kind
):
    lm = HFAudioLM(text_checkpoint, device="cpu")
    monkeypatch.setattr(HFLM, "generate_until", lambda *_, **__: pytest.fail("text was answered"))
    request = Instance("generate_until", {}, ("<audio>?", GREEDY, {kind: ["a.wav"]}), 0)
    with pytest.raises(ConfigError, match="'qwen2'"):
        lm.generate_until([generate("Text?"), request], disable_tqdm=True)


@pytest.fixture(scope="module")
def vision_checkpoint(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("vision"))
    tokenizer = tiny_random.byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    template = (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    processor = transformers.LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    size = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 16,
            "image_size": 32,
            "patch_size": 16,
            **size,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": 0.3,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            **size,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def images(tmp_path):
    from PIL import Image

    gradient = np.arange(40 * 32 * 3, dtype=np.uint32).reshape(32, 40, 3)
    made = [Image.fromarray((gradient * factor % 256).astype(np.uint8)) for factor in (1, 7)]
    made[1].save(tmp_path / "b.png")
    return [made[0], str(tmp_path / "b.png")]


def test_images_and_text_are_served_in_one_call_by_a_vision_model(vision_checkpoint, tmp_path):
    first, second = images(tmp_path)

    def ask(context, *visual):
        return Instance("generate_until", {}, (context, GREEDY, {"visual": list(visual)}), 0)

    requests = [
        ask("<image>\nWhat colour?", first),
        generate("One plus one is"),
        ask("<image> and <image>: which is brighter?", first, second),
        ask("<image>\nWhat?", second),
    ]
    alone = HFAudioLM(vision_checkpoint, device="cpu", batch_size=1)
    expected = [alone.generate_until([request], disable_tqdm=True)[0] for request in requests]
    lm = HFAudioLM(vision_checkpoint, device="cpu", batch_size=4)
    assert lm.generate_until(requests, disable_tqdm=True) == expected
    lost = lm.generate_until([ask("What colour?", first)], disable_tqdm=True)
    assert "places for 0 images" in parse_error(lost[0])["problem"]
    missing = lm.generate_until([ask("<image>?", str(tmp_path / "no.png"))], disable_tqdm=True)
    assert "no.png" in parse_error(missing[0])["file"]


def test_image_scores_depend_on_the_image_and_not_on_the_batch(vision_checkpoint, tmp_path):
    def ask(image, text):
        arguments = ("<image>\nWhat colour?", text, {"visual": [image]})
        return Instance("loglikelihood", {}, arguments, 0)

    requests = [ask(image, text) for image in images(tmp_path) for text in (" red", " greenish")]
    one = HFAudioLM(vision_checkpoint, device="cpu").loglikelihood(requests, disable_tqdm=True)
    lm = HFAudioLM(vision_checkpoint, device="cpu", batch_size=4)
    four = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
    assert four == pytest.approx([value for value, _ in one], abs=1e-4)
    assert abs(four[0] - four[2]) > 1e-4


def test_typed_parts_reach_the_template_of_a_vision_model(vision_checkpoint):
    lm = HFAudioLM(vision_checkpoint, device="cpu")
    rendered = lm.apply_chat_template([{"role": "user", "content": "See <image>: what?"}])
    assert rendered == "user: See <image>: what?\nassistant: "
    assert lm.apply_chat_template([{"role": "user", "content": "Hi"}]) == "user: Hi\nassistant: "


def test_encoder_decoder_models_are_refused_by_name(tmp_path):
    transformers.T5Config(d_model=8, num_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'t5'.*--model hf"):
        HFAudioLM(str(tmp_path), device="cpu")


# ---- one run -----------------------------------------------------------------------------------


def test_audio_and_text_tasks_share_one_run(make, clip, tmp_path):
    paths = [clip(f"{n}.wav", frequency=250 * (n + 1)) for n in range(3)] + ["missing.wav"]
    rows = [{"question": f"Which {n}?", "path": path} for n, path in enumerate(paths)]
    texts = [{"question": f"{n} plus 1 is", "choices": ["two", "blue"], "answer": 0} for n in "12"]
    for name, content in (("audio", rows), ("text", texts)):
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / f"{name}.jsonl").write_text(lines)

    def dataset(name):
        return {
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(tmp_path / f"{name}.jsonl")},
                "cache_dir": str(tmp_path / "datasets"),
            },
            "test_split": "test",
            "num_fewshot": 0,
            "metadata": {"version": 1},
        }

    audio_task = dataset("audio") | {
        "task": "audio_questions",
        "output_type": "generate_until",
        "doc_to_text": "<audio>\n{{question}}\nAnswer:",
        "doc_to_audio": lambda doc: [{"path": doc["path"]}],
        "doc_to_target": "A",
        "generation_kwargs": GREEDY | {"until": ["\n"]},
        "process_results": lambda doc, results: {
            "letter": float(results[0] in set(tiny_random.ANSWERS)),
            "errored": float(parse_error(results[0]) is not None),
        },
        "metric_list": [{"metric": "letter", "aggregation": "mean", "higher_is_better": True}]
        + [{"metric": "errored", "aggregation": "mean", "higher_is_better": False}],
    }
    text_task = dataset("text") | {
        "task": "text_choices",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
    }
    results = simple_evaluate(
        model=make(),
        tasks=[audio_task, text_task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
    )
    assert results["results"]["audio_questions"]["letter,none"] == 0.75
    assert results["results"]["audio_questions"]["errored,none"] == 0.25
    assert 0.0 <= results["results"]["text_choices"]["acc,none"] <= 1.0
    assert results["config"]["heard"]["errored_items"] == 1
