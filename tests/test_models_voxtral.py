"""Voxtral: chats and features as mistral-common and the processor make them, with either tokenizer."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global torch, Instance, tiny, needed, HFAudioLM
    import torch
    from lm_eval.api.instance import Instance
    from tiny import voxtral as tiny
    from tiny.common import needed

    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.1, 40 * RATE).astype(np.float32)
CLIPS = (NOISE[: 3 * RATE], NOISE[: 31 * RATE + 7])

TEXTS = (
    "One plus one is",
    "  Leading and trailing blanks  \n\n and\ttabs \r\n",
    "Ünïcødé: 你好, мир, مرحبا, 🎻🎺 — “quotes” 1234567 a's THE HTTPServer",
    "[INST] in the text [/INST] and <s> [AUDIO]",
    "",
)


@pytest.fixture(scope="module")
def mistral_common():
    return needed("mistral_common")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voxtral")
    tiny.build(folder)
    return str(folder)


@pytest.fixture(scope="module")
def lm(checkpoint):
    return HFAudioLM(checkpoint, device="cpu", frontend="stock")


def part(text):
    """Return a message's part for mistral-common: a clip by its number, or text."""
    if isinstance(text, int):
        return {"type": "audio", "base64": tiny.as_base64(CLIPS[text])}
    return {"type": "text", "text": text}


CHATS = {
    "text": [("user", ["Hello"])],
    "system": [("system", ["Be brief."]), ("user", ["Hello"])],
    "turns": [("user", ["Hello"]), ("assistant", ["Hi. "]), ("user", ["And now?"])],
    "audio first": [("user", [0, "\nWhich?"])],
    "audio last": [("user", ["Which? ", 1])],
    "audio alone": [("user", [1])],
    "audio between": [("user", ["First: ", 0, " second: ", 1, "\nWhich? "])],
    "audio in two turns": [("user", [0, "?"]), ("assistant", ["A dog."]), ("user", [1, "And?"])],
    "reply begun": [("user", [0, "Which?"]), ("assistant", ["The answer is"])],
}


def expected(lm, chat, begun):
    """Return what the processor makes of a chat."""
    messages = [
        # the content of other roles is plain text
        {"role": role, "content": [*map(part, parts)] if role == "user" else "".join(parts)}
        for role, parts in chat
    ]
    if not begun:
        return lm.processor.apply_chat_template(messages)
    # It passes over continue_final_message; its tokenizer does not.
    ids = lm.tokenizer.apply_chat_template(messages, continue_final_message=True)["input_ids"]
    ids = torch.tensor([ids])
    asked = lm.processor.apply_chat_template(messages[:-1])
    return {**asked, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.usefixtures("mistral_common")
@pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)
def test_chats_are_those_of_mistral_common(lm, chat):
    begun = chat[-1][0] == "assistant"
    theirs = expected(lm, chat, begun)
    ours = [
        {
            "role": role,
            "content": "".join("<audio>" if isinstance(p, int) else p for p in parts),
        }
        for role, parts in chat
    ]
    text = lm.apply_chat_template(ours, add_generation_prompt=not begun)
    clips = [
        {"array": CLIPS[p], "sampling_rate": RATE}
        for _, ps in chat
        for p in ps
        if isinstance(p, int)
    ]
    if not clips:
        assert lm.tok_encode(text) == theirs["input_ids"][0].tolist()
        return
    if len(clips) == 1:
        found = lm.prepare(Question(text, {"audio": clips})).tensors
    else:  # without the labels that hf-audio writes to several clips
        options = {
            "audio": [clip["array"] for clip in clips],
            "text_kwargs": {"add_special_tokens": False},
        }
        found = lm.family.loading.encode(lm.processor, text, options)
    assert set(found) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(found[name], tensor), name


def test_what_a_system_message_says_is_said_before_audio(lm):
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<audio>Which?"},
    ]
    assert lm.apply_chat_template(chat) == (
        "<s>[INST]Be brief.\n\n[BEGIN_AUDIO][AUDIO]Which?[/INST]"
    )


def test_texts_are_as_lm_eval_needs_them(lm):
    assert lm.tok_encode("Hi")[0] == lm.prefix_token_id == 1
    assert lm.tok_encode("<s>[INST]Hi[/INST]") == [1, 3, *lm.tok_encode("Hi")[1:], 4]
    assert lm.tok_encode("Hi", add_special_tokens=False) == lm.tok_encode("Hi")[1:]
    assert lm.eot_token_id == 2
    assert lm.tok_decode(2, skip_special_tokens=False) == "</s>"
    for text in TEXTS[:3]:
        assert lm.tok_decode(lm.tok_encode(text)) == text
    ids, mask = lm.tok_batch_encode(["Hi", "Hello"])
    assert mask.tolist() == [[0, 0, 0, 1, 1, 1], [1] * 6]
    assert ids[0].tolist() == [11, 11, 11, *lm.tok_encode("Hi")]
    assert lm.chat_template(True) == "mmaupro_ext.models.families.voxtral.render_chat"


def test_replies_end_where_they_are_to_end(lm):
    whole, *_ = lm.generate_until(
        [Instance("generate_until", {}, ("One", {"until": [], "max_gen_toks": 8}), 0)],
        disable_tqdm=True,
    )
    stop = whole[3:5]
    (short,) = lm.generate_until(
        [Instance("generate_until", {}, ("One", {"until": [stop], "max_gen_toks": 8}), 0)],
        disable_tqdm=True,
    )
    assert short == whole[: whole.index(stop)]


def test_both_tokenizers_agree(mistral_common, tmp_path):
    """With words of a true vocabulary, the one in the wheel of mistral-common."""
    from transformers import AutoTokenizer
    from transformers.integrations.mistral import convert_tekken_tokenizer

    from mmaupro_ext.models.families.voxtral import read_control_tokens

    data = os.path.join(os.path.dirname(mistral_common.__file__), "data", "tekken_240911.json")
    with open(data, encoding="utf-8") as file:
        true = json.load(file)
    content = tiny.tekken()
    content["vocab"] = true["vocab"][:20_000]
    sizes = {"num_vocab_tokens": 20_000, "default_vocab_size": 20_000 + tiny.SPECIAL}
    content["config"] |= {"pattern": true["config"]["pattern"], **sizes}
    (tmp_path / "tekken.json").write_text(json.dumps(content))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "voxtral"}))
    mistral = AutoTokenizer.from_pretrained(str(tmp_path))
    converted = convert_tekken_tokenizer(str(tmp_path / "tekken.json"))
    assert type(mistral) is not type(converted)
    for tokenizer in (mistral, converted):
        read_control_tokens(tokenizer)
    for text in TEXTS:
        assert mistral.encode(text) == converted.encode(text)
        ids = mistral.encode(text, add_special_tokens=False)
        assert ids == converted.encode(text, add_special_tokens=False)
        assert mistral.decode(ids) == converted.decode(ids)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    assert (
        [getattr(mistral, n) for n in names] == [getattr(converted, n) for n in names] == [1, 2, 11]
    )
