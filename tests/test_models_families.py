"""Every family of audio models, each on a tiny checkpoint in the layout of the hub.

A family is one module in `mmaupro_ext/models/families` and one builder in `tests/tiny`; `CASES` joins
them. All tests run on all cases, which is why they are in one file of more than 400 lines.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from dataclasses import dataclass

import numpy as np
import pytest

from mmaupro_ext.audio import resample
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.hf.batching import PER_TOKEN_INPUTS
from mmaupro_ext.models.items import Question
from mmaupro_ext.replies import parse_error


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, Instance, ending, features, batching, loading, prefill, shared, HFAudioLM
    import torch
    from lm_eval.api.instance import Instance
    from tiny.common import ending

    from mmaupro_ext import features
    from mmaupro_ext.models.hf import batching, loading, prefill, shared
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) is not None for package in packages)


@dataclass(frozen=True)
class Case:
    """One checkpoint.

    Parameters
    ----------
    builder : str
        Module in `tests/tiny`.
    packages : tuple of str
        What all of its tests need: images, the stock frontend, the model itself. It is tested where
        they are, once: `make test-media` has them all, sets MMAUPRO_TEST_ALL_FAMILIES, and runs these
        cases only; there a missing package is a failure.
    sees : bool
        Whether its processor takes images.
    tolerance : float
        Bound on differences of log-probabilities that come from float32 alone: other batches, other
        order of operations, features that differ in the last bits.
    """

    builder: str
    packages: tuple[str, ...] = ()
    sees: bool = True
    tolerance: float = 1e-3


CASES = [
    Case("qwen2_audio", sees=False),
    Case("qwen2_5_omni"),
    Case("audioflamingo3", sees=False),
    Case("musicflamingo", sees=False),
    Case("granite_speech", ("torchaudio",), sees=False),
    Case("granite_speech_plus", ("torchaudio",), sees=False),
    Case("voxtral", ("mistral_common",), sees=False),
    Case("phi4_multimodal", ("torchvision",)),
    Case("qwen3_omni_moe"),
    Case("gemma3n", ("timm", "torchvision")),
    Case("gemma4"),
    Case("gemma4_unified", ("torchvision",)),
    Case("dots3_note"),
    Case("nemotron_h_omni", ("torchvision",)),
    Case("muse_spark", ("torchvision",)),
    Case("inkling_mm_model", ("torchvision",)),
]

IN_MEDIA_ENVIRONMENT = bool(os.environ.get("MMAUPRO_TEST_ALL_FAMILIES"))
RUN_HERE = [
    case
    for case in CASES
    if (bool(case.packages) if IN_MEDIA_ENVIRONMENT else installed(*case.packages))
]


@pytest.fixture(params=RUN_HERE, ids=[case.builder for case in RUN_HERE])
def case(request):
    return request.param


@pytest.fixture
def make(case, checkpoint_of):
    def load(**arguments) -> HFAudioLM:
        return HFAudioLM(
            checkpoint_of(case.builder), **{"device": "cpu", "batch_size": 4} | arguments
        )

    return load


@pytest.fixture
def lm(make):
    return make()


@pytest.fixture(scope="module")
def loaded():
    return {}


@pytest.fixture
def preparing(case, make, loaded):
    """The model as `lm`, loaded once: for tests that write prompts, which leaves it as it is."""
    if case not in loaded:
        loaded[case] = make()
    return loaded[case]


def sound(seconds: float, seed: int = 0) -> dict:
    """Noise that changes with time, as a reference in memory."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.1, round(seconds * RATE))
    samples *= 1 + np.sin(np.arange(samples.size) / (900 + 300 * seed))
    return {"array": samples.astype(np.float32), "sampling_rate": RATE}


def picture(negative: bool = False):
    """Coloured noise, or the same in its opposite colours."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(255 - pixels if negative else pixels)


def chat(lm: HFAudioLM, content: str) -> str:
    return lm.apply_chat_template([{"role": "user", "content": content}])


def generate(context, *sounds, tokens=6):
    arguments = (context, {"until": [], "max_gen_toks": tokens})
    return Instance(
        "generate_until", {}, arguments + (({"audio": list(sounds)},) if sounds else ()), 0
    )


def score(context, continuation, *sounds):
    arguments = (context, continuation)
    return Instance(
        "loglikelihood", {}, arguments + (({"audio": list(sounds)},) if sounds else ()), 0
    )


CHOICES = ("A", "B is right", " the first one")


def scores(lm: HFAudioLM, context: str, *sounds, choices=CHOICES) -> list[float]:
    requests = [score(context, choice, *sounds) for choice in choices]
    values = [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
    assert np.isfinite(values).all()
    return values


def differ(first, second, case) -> bool:
    return np.abs(np.subtract(first, second)).max() > 10 * case.tolerance


# ---- what goes in ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "samples", [1, 159, 400, 641, 1280, 1281, 15_999, 16_000, 16_001, 77_777, 480_000, 500_001]
)
def test_the_token_count_is_the_processors(preparing, samples):
    # `prepare` itself compares what the processor wrote with the family's formula
    reference = {"array": sound(32)["array"][:samples], "sampling_rate": RATE}
    prompt = preparing.prepare(Question(chat(preparing, "<audio>\nWhat?"), {"audio": [reference]}))
    assert prompt.heard["audio_tokens"] > 0


def test_two_clips_of_different_length_have_their_tokens(preparing):
    media = {"audio": [sound(3.2), sound(1.7)]}
    prompt = preparing.prepare(Question(chat(preparing, "<audio>\n<audio>\nWhich?"), media))
    assert prompt.blocks == [1, 1]
    label = preparing.family.writing.block_label
    assert prompt.text.index(label.format(number=1)) < prompt.text.index(label.format(number=2))


def test_the_prompt_is_what_the_models_own_template_and_processor_make(case, make):
    lm = make(frontend="stock")
    clip = sound(3.3)
    prompt = lm.prepare(Question(chat(lm, "<audio>\nWhich?"), {"audio": [clip]}))
    expected = own_way(lm, [clip["array"]], "\nWhich?")
    assert torch.equal(prompt.tensors["input_ids"], expected["input_ids"])
    assert set(prompt.tensors) == {k for k, v in expected.items() if torch.is_tensor(v)}
    with torch.no_grad():
        ours = lm.model(**prompt.tensors).logits[:, -1]
        theirs = lm.model(**expected).logits[:, -1]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=case.tolerance)


def own_way(lm: HFAudioLM, waves: list[np.ndarray], question: str) -> dict:
    """Return the inputs that the model's own chat template and processor make of audio and text."""
    module = importlib.import_module(f"tiny.{lm.family.name}")
    if hasattr(module, "own_way"):
        return module.own_way(lm.processor, waves, question)
    rate = getattr(lm.processor, lm.family.loading.extractor).sampling_rate
    if rate != RATE:
        waves = [resample(wave, RATE, rate, resampler="soxr") for wave in waves]
    content = [{"type": "audio", "audio": wave} for wave in waves]
    question = question.removeprefix(lm.family.writing.template_block_end)
    return lm.processor.apply_chat_template(
        [{"role": "user", "content": [*content, {"type": "text", "text": question}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"audio_kwargs": {"sampling_rate": rate}},
    )


def test_native_and_stock_features_give_the_same_prompt_and_logits(case, make):
    native, stock = make(), make(frontend="stock")
    extractor = getattr(native.processor, native.family.loading.extractor)
    assert type(extractor) is not type(getattr(stock.processor, stock.family.loading.extractor))
    # at the rate of the model: resamplers may differ by more than features do
    rate = extractor.sampling_rate
    media = {
        "audio": [
            {**sound(3.3), "sampling_rate": rate},
            {**sound(1.1, seed=1), "sampling_rate": rate},
        ]
    }
    question = Question(chat(native, "<audio><audio>\nWhich?"), media)
    ours, theirs = native.prepare(question), stock.prepare(question)
    assert torch.equal(ours.tensors["input_ids"], theirs.tensors["input_ids"])
    assert ours.heard == theirs.heard
    with torch.no_grad():
        first = native.model(**ours.tensors).logits[:, -1].log_softmax(-1)
        second = stock.model(**theirs.tensors).logits[:, -1].log_softmax(-1)
    torch.testing.assert_close(first, second, rtol=0, atol=10 * case.tolerance)
    questions = [generate(question.context, *media["audio"])]
    assert native.generate_until(questions, disable_tqdm=True) == stock.generate_until(
        questions, disable_tqdm=True
    )


# ---- what is heard -----------------------------------------------------------------------------


def test_the_sound_moves_the_scores(case, lm):
    context = chat(lm, "<audio>\nWhich?")
    assert differ(scores(lm, context, sound(2)), scores(lm, context, sound(2, seed=1)), case)


def test_clips_are_heard_in_their_order(case, lm):
    context = chat(lm, "<audio><audio>\nWhich?")
    first, second = sound(2), sound(2.5, seed=1)
    assert differ(scores(lm, context, first, second), scores(lm, context, second, first), case)


@pytest.mark.parametrize("seconds", [35, 95])
def test_the_end_of_a_clip_beyond_the_window_is_heard(case, lm, seconds):
    context = chat(lm, "<audio>\nWhich?")
    whole = sound(seconds)
    changed = {**whole, "array": whole["array"].copy()}
    changed["array"][-RATE // 2 :] = 0.3 * np.sign(changed["array"][-RATE // 2 :])
    prompt = lm.prepare(Question(context, {"audio": [whole]}))
    assert prompt.heard["seconds_heard"] == seconds
    ends = [prompt, lm.prepare(Question(context, {"audio": [changed]}))]
    with torch.no_grad():
        first, second = (lm.model(**end.tensors).logits[:, -1] for end in ends)
    assert (first - second).abs().max() > 0
    # and the difference is not the arithmetic's: the same clip twice gives the same logits
    with torch.no_grad():
        again = lm.model(**lm.prepare(Question(context, {"audio": [whole]})).tensors).logits[:, -1]
    assert torch.equal(first, again)


def test_left_and_right_can_be_told_apart(case, make, tmp_path):
    import soundfile

    lm = make(channels="stereo-as-two")
    left, right = sound(2)["array"], 0.2 * sound(2, seed=1)["array"]
    for name, channels in (("a.wav", (left, right)), ("b.wav", (right, left))):
        soundfile.write(tmp_path / name, np.stack(channels, axis=1), RATE, subtype="FLOAT")
    context = chat(lm, "<audio>\nWhere?")
    first, second = (scores(lm, context, str(tmp_path / name)) for name in ("a.wav", "b.wav"))
    assert differ(first, second, case)


# ---- scores and replies ------------------------------------------------------------------------


def batch_of(lm):
    """Prompts of different lengths, with different numbers of continuations."""
    lengths = (0.35, 2.0, 2.0, 33.0)
    return [
        lm.prepare_choices(
            Question(
                chat(lm, f"<audio>\nWhich {'x' * 7 * number}?"),
                {"audio": [sound(seconds, seed=number)]},
                continuations=list(CHOICES[: 3 - number % 2]),
            )
        )
        for number, seconds in enumerate(lengths)
    ]


def values(rows):
    return [value for row in rows for value, _ in row]


def test_scores_on_the_shared_prompt_equal_full_passes(case, lm):
    batch = batch_of(lm)
    full = values(lm.score_choices(batch, shared=False))
    if lm.family.loading.shared_prefix:
        assert values(lm.score_choices(batch, shared=True)) == pytest.approx(
            full, abs=case.tolerance
        )
    one_by_one = [
        value for choices in batch for value in values(lm.score_choices([choices], shared=False))
    ]
    assert full == pytest.approx(one_by_one, abs=case.tolerance)


def test_a_clip_is_encoded_once_whatever_is_asked_about_it(case, make):
    clips = [sound(0.7), sound(1.1, seed=1)]
    of_text = {
        *PER_TOKEN_INPUTS,
        *("feature_attention_mask", "position_ids", "cache_position", "logits_to_keep"),
    }

    def answers_of(lm):
        """Six questions on two clips; and how many rows of passes had features in them."""
        contexts = [chat(lm, f"<audio>\nWhich {'x' * number}?") for number in range(6)]
        rows = 0

        def count(_, __, inputs):
            nonlocal rows
            # Features may be numbers of a codebook: whatever does not stand for tokens or their places.
            with_features = any(
                torch.is_tensor(value) for name, value in inputs.items() if name not in of_text
            )
            rows += len(inputs["input_ids"]) if with_features else 0

        hook = lm.model.register_forward_pre_hook(count, with_kwargs=True)
        asked = [
            generate(context, clips[number % 2], tokens=3)
            for number, context in enumerate(contexts)
        ]
        replies = lm.generate_until(asked, disable_tqdm=True) if lm._generator.has_slots else []
        assert not any(map(parse_error, replies))
        batch = [
            lm.prepare_choices(Question(context, {"audio": [clip]}, continuations=list(CHOICES)))
            for context, clip in zip(contexts, 3 * clips, strict=True)
        ]
        full = values(lm.score_choices(batch, shared=False))
        shared = values(lm.score_choices(batch))
        hook.remove()
        return replies, full, shared, rows

    replies, full, shared, rows = answers_of(make(audio_cache_mb=0))
    assert rows >= 24  # 18 choices and 6 prompts
    lm = make()
    again = answers_of(lm)
    assert again[0] == replies
    assert again[1] == pytest.approx(full, abs=case.tolerance)
    assert again[2] == pytest.approx(shared, abs=case.tolerance)
    assert again[3] == lm.passes.counts.encoded == len(clips)


# Families that encode audio otherwise beside images: there, each prompt encodes its own.
OTHERWISE_BESIDE_IMAGES = {"phi4_multimodal"}


def test_a_clip_beside_images_is_encoded_once_and_the_images_stay(case, make, caplog):
    """Six questions on three pairs of a clip and a picture, then two clips around a picture."""
    if not case.sees:
        return
    clips, pictures = [sound(0.7), sound(1.1, seed=1)], [picture(), picture(negative=True)]

    def answers_of(lm):
        pairs = [(clips[0], pictures[0]), (clips[0], pictures[1]), (clips[1], pictures[1])]
        prompts = [
            Question(
                # other words in front: no prompt begins like another one
                chat(lm, f"{'x' * number}<image><audio>\nWhich?"),
                {"visual": [pairs[number % 3][1]], "audio": [pairs[number % 3][0]]},
                continuations=list(CHOICES),
            )
            for number in range(6)
        ]
        around = Question(chat(lm, "<audio><image><audio>\nWhich?"), {"visual": pictures[:1]})
        around.media["audio"] = clips
        of_audio = {*lm.prepare(prompts[0]).audio_inputs} - {"feature_attention_mask"}
        rows = 0

        def count(_, __, inputs):
            nonlocal rows
            if of_audio & inputs.keys():
                rows += len(inputs["input_ids"])

        hook = lm.model.register_forward_pre_hook(count, with_kwargs=True)
        requests = [
            Instance(
                "generate_until", {}, (p.context, {"until": [], "max_gen_toks": 3}, p.media), 0
            )
            for p in [*prompts, around]
        ]
        replies = lm.generate_until(requests[:6], disable_tqdm=True)
        if not lm._generator.has_slots:  # `generate` encodes by itself
            rows = 0
        batch = [lm.prepare_choices(prompt) for prompt in prompts]
        full = values(lm.score_choices(batch, shared=False))
        shared = values(lm.score_choices(batch))
        hook.remove()
        replies += lm.generate_until(requests[6:], disable_tqdm=True)
        assert not any(map(parse_error, replies))
        return replies, full, shared, rows

    replies, full, shared, rows = answers_of(make(audio_cache_mb=0))
    caplog.set_level("INFO")
    lm = make()
    again = answers_of(lm)
    assert again[0] == replies
    assert again[1] == pytest.approx(full, abs=case.tolerance)
    assert again[2] == pytest.approx(shared, abs=case.tolerance)
    said = "the audio of every prompt with images is encoded in its own pass" in caplog.text
    assert said == (case.builder in OTHERWISE_BESIDE_IMAGES)
    if said:
        assert again[3] >= rows
    else:
        assert again[3] == len(clips) + 1  # one with its picture, to find out


def test_scores_equal_a_plain_forward_pass(case, lm):
    context = chat(lm, "<audio>\nWhich?") + "Answer:"
    prompt = lm.prepare(Question(context, {"audio": [sound(2)]}))
    encode = lm._preparer.encode_text
    tokens = torch.tensor([encode(context + " B is right")[len(encode(context)) :]])
    extended = dict(prompt.tensors)
    for name in batching.PER_TOKEN_INPUTS:
        if name in extended:
            more = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            added = more.get(name, torch.zeros_like(tokens))
            extended[name] = torch.cat([extended[name], added], dim=1)
    lm.passes.switch(frozenset({"audio"}))
    with torch.no_grad():
        logits = lm.model(**extended).logits[:, -tokens.shape[1] - 1 : -1].float()
    expected = logits.log_softmax(-1).gather(2, tokens[..., None]).sum().item()
    assert scores(lm, context, sound(2), choices=(" B is right",)) == pytest.approx(
        [expected], abs=case.tolerance
    )


def test_answers_do_not_depend_on_the_batch(case, make):
    alone, together = make(batch_size=1), make(batch_size=4)
    requests, choices = [generate("One plus one is")], [score("One plus one is", " two")]
    for number, seconds in enumerate((0.35, 2.0, 1.4, 33.0, 2.0)):
        context = chat(alone, f"<audio>\nQuestion {'x' * number}?")
        requests.append(generate(context, sound(seconds, seed=number)))
        choices.append(score(context, "B is right", sound(seconds, seed=number)))
    one, four = (
        (
            lm.generate_until(requests, disable_tqdm=True),
            lm.loglikelihood(choices, disable_tqdm=True),
        )
        for lm in (alone, together)
    )
    assert all(parse_error(reply) is None for reply in one[0])
    assert one[0] == four[0]
    assert [value for value, _ in one[1]] == pytest.approx(
        [value for value, _ in four[1]], abs=case.tolerance
    )


def test_replies_end_where_the_model_ends_them(case, make):
    """A row that has ended writes nothing more, though its neighbours go on."""
    alone, together = (make(batch_size=size, decoding="generate") for size in (1, 4))
    end = alone.end_tokens[-1]
    requests = [
        generate(chat(alone, f"<audio>\nQuestion {'x' * number}?"), sound(1, number), tokens=24)
        for number in range(8)
    ]
    replies = {}
    for lm in (alone, together):
        raw = []
        with ending(lm.model, end):
            ends = lm.model.generate

            def spy(raw=raw, ends=ends, **options):
                found = ends(**options)
                raw.extend(found[:, options["input_ids"].shape[1] :].tolist())
                return found

            lm.model.generate = spy
            replies[lm] = lm.generate_until(requests, disable_tqdm=True)
        assert len(raw) == len(requests)
        for row in raw:  # what follows an end is padding
            assert {*row[row.index(end) + 1 :]} <= {lm.tokenizer.pad_token_id}
        texts = [lm.tok_decode(row[: row.index(end)]) for row in raw]
        assert sorted(texts) == sorted(replies[lm])
        assert max(map(len, raw)) <= 8  # a batch stops when all its rows have ended
    assert replies[together] == replies[alone]
    for lm in replies:
        assert {reply.finish for reply in replies[lm]} == {"stop"}


# Families whose cache has layers that cannot be kept in slots: `generate` answers for them.
WITHOUT_SLOTS = {"dots3_note", "inkling_mm_model"}


def test_replies_in_slots_are_those_of_generate_alone(case, make):
    by_generate, in_slots = make(batch_size=1, decoding="generate"), make(batch_size=3)
    assert in_slots._generator.has_slots == (case.builder not in WITHOUT_SLOTS)
    requests = [
        generate(
            chat(by_generate, f"{'<audio>' * clips}\nQuestion {'x' * 5 * number}?"),
            *(sound(seconds / clips, seed=number + clip) for clip in range(clips)),
            tokens=12,
        )
        for number, (seconds, clips) in enumerate(
            [(0.4, 1), (2.5, 1), (1.0, 2), (1.7, 1), (0.9, 1), (3.0, 2), (0.6, 1)]
        )
    ]
    # One more end, which the model writes by itself at different places of different replies.
    written: list[list[int]] = []
    read = by_generate._generator.read
    by_generate._generator.read = lambda tokens, *others: (
        written.append(tokens) or read(tokens, *others)
    )
    by_generate.generate_until(requests, disable_tqdm=True)
    end = max(
        sorted({token for tokens in written for token in tokens}),
        key=lambda end: len({tokens.index(end) for tokens in written if end in tokens}),
    )
    ends = [*by_generate.end_tokens, end]
    for lm in (by_generate, in_slots):
        lm.model.generation_config.eos_token_id = ends
        lm._generator.ends = frozenset(ends)
    wanted = by_generate.generate_until(requests, disable_tqdm=True)
    replies = in_slots.generate_until(requests, disable_tqdm=True)
    assert replies == wanted
    assert [reply.finish for reply in replies] == [reply.finish for reply in wanted]
    assert {reply.finish for reply in wanted} >= {"stop"}


def test_what_prompts_begin_with_is_read_once(case, lm, monkeypatch):
    """Orders of choices and other words after one clip; another clip; two clips; the same once more."""
    first, second = sound(0.7), sound(1.1, seed=1)
    asked = [
        (f"<audio>\nWhat is it, of these things? {choices}", [first])
        for choices in ("a cat, a dog", "a dog, a cat", "a dog, a cat, or none that was named")
    ]
    asked += [("<audio>\nWhat is it, of these things? a cat, a dog", [second])]
    asked += [
        (f"<audio><audio>\nWhich of the two is {choice}, if any of them?", [first, second])
        for choice in ("louder", "longer", "louder")
    ]
    requests = [generate(chat(lm, content), *sounds, tokens=5) for content, sounds in asked]
    lm.decoding = "generate"
    wanted = [lm.generate_until([request], disable_tqdm=True)[0] for request in requests]
    counts = lm.passes.counts
    alone = read = counts.prefilled_tokens
    assert counts.shared_tokens == 0
    found, read_rows = [], prefill.read

    def spy(passes, rows, *others):
        before = counts.shared_tokens
        made = read_rows(passes, rows, *others)
        if counts.shared_tokens > before:
            found.extend(zip([row.prompt for row in rows], made.logits, strict=True))
        return made

    monkeypatch.setattr(prefill, "read", spy)
    monkeypatch.setattr(shared, "WORTH_A_PASS", 1)  # of prompts as short as these
    lm.decoding = "slots"
    encoded = counts.encoded
    assert lm.generate_until(requests, disable_tqdm=True) == wanted
    if lm._generator.has_slots:
        # Ten blocks in all prompts: four, and four to find out that they may be encoded apart.
        assert counts.encoded - encoded <= 8
    for prompt, logits in found:
        with lm.passes.over(prompt.kinds):
            whole = lm.model(**prompt.tensors).logits[0, -1]
        torch.testing.assert_close(
            logits.log_softmax(-1), whole.log_softmax(-1), rtol=0, atol=case.tolerance
        )
    read, taken = counts.prefilled_tokens - read, counts.shared_tokens
    if case.builder in WITHOUT_SLOTS:
        assert taken == 0
    else:
        assert len(found) >= 4
        # What was not taken over was read, with at most a fifth of padding.
        assert taken > alone / 3
        assert alone <= read + taken < 1.2 * alone


def test_logits_are_computed_where_they_are_wanted_only(case, lm):
    prompt = lm.prepare(Question(chat(lm, "<audio>\nWhich?"), {"audio": [sound(1)]}))
    lm.passes.switch(frozenset({"audio"}))
    with torch.no_grad():
        all_of_them = lm.model(**prompt.tensors).logits
        with batching.last_positions_only(lm.model, 2):
            last = lm.model(**prompt.tensors).logits
    assert all_of_them.shape[1] == prompt.length
    torch.testing.assert_close(last, all_of_them[:, -2:], rtol=0, atol=case.tolerance)


def test_greedy_replies_are_what_the_forward_pass_prefers(case, lm):
    context = chat(lm, "<audio>\nWhich?")
    prompt = lm.prepare(Question(context, {"audio": [sound(2)]}))
    lm.passes.switch(frozenset({"audio"}))
    with torch.no_grad():
        best = int(lm.model(**prompt.tensors).logits[0, -1].argmax())
    (reply,) = lm.generate_until([generate(context, sound(2), tokens=1)], disable_tqdm=True)
    assert reply == lm.tok_decode([best])


def test_text_alone_is_served_and_equals_a_plain_forward_pass(case, lm):
    context, continuation = "One plus one is", " two"
    tokens = lm.tok_encode(context + continuation)
    count = len(tokens) - len(lm.tok_encode(context))
    lm.passes.switch(frozenset())
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([tokens])).logits[0].float()
    logprobs = logits[-count - 1 : -1].log_softmax(-1)
    expected = sum(float(row[token]) for row, token in zip(logprobs, tokens[-count:], strict=True))
    assert scores(lm, context, choices=(continuation,)) == pytest.approx(
        [expected], abs=case.tolerance
    )
    (reply,) = lm.generate_until([generate(context)], disable_tqdm=True)
    assert parse_error(reply) is None


def test_attention_implementations_agree(case, make):
    usual, eager = make(), make(attn_implementation="eager")
    names = [lm.model.config.get_text_config()._attn_implementation for lm in (usual, eager)]
    assert names == ["sdpa", "eager"]
    context = chat(usual, "<audio>\nWhich?")
    assert scores(eager, context, sound(2)) == pytest.approx(
        scores(usual, context, sound(2)), abs=case.tolerance
    )


def test_half_precision_is_served(case, make):
    lm = make(dtype="bfloat16")
    assert lm.model.dtype == torch.bfloat16
    batch = batch_of(lm)
    full = values(lm.score_choices(batch, shared=False))
    assert np.isfinite(full).all()
    if lm.family.loading.shared_prefix:
        shared = values(lm.score_choices(batch, shared=True))
        # 8 bits of mantissa in every layer of either way
        assert shared == pytest.approx(full, rel=0.1, abs=0.5)
    context = chat(lm, "<audio>\nWhich?")
    requests = [generate(context, sound(2)), generate(context, sound(1)), generate("One and one")]
    if case.sees:
        media = {"visual": [picture()], "audio": [sound(1)]}
        arguments = (chat(lm, "<image><audio>\nWhat?"), {"until": [], "max_gen_toks": 2}, media)
        requests.append(Instance("generate_until", {}, arguments, 0))
    replies = lm.generate_until(requests, disable_tqdm=True)
    assert all(parse_error(reply) is None for reply in replies)


def test_the_context_is_that_of_the_text_model(preparing):
    assert (
        preparing.max_length
        == preparing.config.get_text_config(decoder=True).max_position_embeddings
    )


def test_audio_without_a_chat_template_is_served(case, lm):
    assert differ(
        scores(lm, "<audio>\nQ: Which?\nA:", sound(2)),
        scores(lm, "<audio>\nQ: Which?\nA:", sound(2, seed=1)),
        case,
    )


def test_images_and_sounds_are_served_together(case, lm):
    pictures = [picture(), picture(negative=True)]
    media = [{"visual": [picture], "audio": [sound(2)]} for picture in pictures]
    context = chat(lm, "<image><audio>\nWhat?")
    requests = [Instance("loglikelihood", {}, (context, "A", entry), 0) for entry in media]
    if not case.sees:
        assert getattr(lm.processor, "image_processor", None) is None
        return
    first, second = (value for value, _ in lm.loglikelihood(requests, disable_tqdm=True))
    assert np.isfinite([first, second]).all()
    assert differ([first], [second], case)
    seen = [
        Instance("loglikelihood", {}, (chat(lm, "<image>\nWhat?"), "A", {"visual": [picture]}), 0)
        for picture in pictures
    ]
    alone = [value for value, _ in lm.loglikelihood(seen, disable_tqdm=True)]
    assert differ(alone[:1], alone[1:], case)
    batch = [
        lm.prepare_choices(Question(context, entry, continuations=list(CHOICES))) for entry in media
    ]
    full = values(lm.score_choices(batch, shared=False))
    assert full[:1] == pytest.approx([first], abs=case.tolerance)
    if lm.family.loading.shared_prefix:
        assert values(lm.score_choices(batch, shared=True)) == pytest.approx(
            full, abs=case.tolerance
        )


# ---- the list ----------------------------------------------------------------------------------


def test_every_family_has_a_case():
    covered = {importlib.import_module(f"tiny.{case.builder}").__name__ for case in CASES}
    assert {f"tiny.{family.name}" for family in FAMILIES.values()} <= covered


def test_every_family_has_a_native_frontend(preparing):
    stock = getattr(preparing.processor, preparing.family.loading.extractor)
    assert features.native_extractor(stock) is stock  # what is native already stays as it is


def test_a_missing_package_is_named_before_anything_is_loaded():
    family = FAMILIES["gemma3n"]
    loads = dataclasses.replace(family.loading, requires=(("no_such_package", "it sees"),))
    with pytest.raises(ConfigError, match="pip install no_such_package"):
        loading.loader_for("gemma3n", dataclasses.replace(family, loading=loads))
