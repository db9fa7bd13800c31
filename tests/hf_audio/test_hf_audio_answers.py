"""hf-audio: replies and scores."""

from __future__ import annotations

import pytest
from hf_requests import generate, score, scores_of

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, Resumed, tiny_random, HFAudioLM
    import torch

    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.hf.model import HFAudioLM
    from mmaupro_ext.models.resuming import Resumed


# ---- replies -------------------------------------------------------------------------------------
def test_stop_strings_are_cut_though_a_neighbour_goes_on(make, clip, monkeypatch):
    lm = make(decoding="generate")
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
    cached = Resumed(lm, str(tmp_path / "kept"))
    cached.generate_until(asked)
    assert [reply.finish for reply in cached.generate_until(asked[:2])] == ["stop", "length"]


def test_thoughts_are_left_out_of_the_reply(make):
    lm = make(think_end_token="</think>")
    assert lm._generator.read(lm.tok_encode("hm: B\n</think> A"), ["\n"], 99) == ("A", "stop")
    number = lm.tok_encode("|")[0]
    lm = make(think_end_token=str(number))
    assert lm._generator.read(lm.tok_encode("hm | no | A"), [], 11) == ("A", "length")


def test_generation_options_reach_the_model(make, clip, monkeypatch):
    lm = make(decoding="generate")
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


# ---- log-likelihood ------------------------------------------------------------------------------
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
