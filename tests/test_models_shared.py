"""What stands in slots: whole until it is written over, begun with where all of it is there or marked."""

from __future__ import annotations

import functools

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    NemotronHConfig,
    NemotronHForCausalLM,
)
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from mmaupro_ext.models.families.family import Loading
from mmaupro_ext.models.hf import shared
from mmaupro_ext.models.hf.decoding import Decoder
from mmaupro_ext.models.hf.marks import STATES, Mark
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.shared import Standing
from mmaupro_ext.models.hf.slots import Slots


def prompt_of(ids):
    return PreparedPrompt("", {"input_ids": torch.tensor([ids])}, [], [], {})


@pytest.mark.parametrize("window", [None, 40])
def test_what_stands_in_a_slot_without_a_row_stays_whole(window):
    """Steps go on beside it, which compute all slots: also where keys go round in a window."""
    layer = DynamicSlidingWindowLayer(sliding_window=window) if window else DynamicLayer()
    keys, values = torch.rand(2, 2, 2, 30, 4)
    layer.update(keys, values)
    cache = Cache(layers=[layer])
    slots = Slots(cache, 2, 100)
    for slot in (0, 1):
        slots.take(slot, cache, slot, torch.arange(-30, 0))
    for held in range(30, 70):
        slots.begin_step([0, held])
        slots.cache.update(torch.rand(2, 2, 1, 4), torch.rand(2, 2, 1, 4), 0)
    (left,) = slots.beginnings([0], [25], 25).layers
    assert torch.equal(left.keys[0], keys[0, :, :25])
    assert torch.equal(left.values[0], values[0, :, :25])


def test_windows_within_reach_share_and_others_do_not():
    """A prompt and its reply that pass the window leave less than a beginning."""
    layer = DynamicSlidingWindowLayer(sliding_window=40)
    layer.update(*torch.rand(2, 1, 1, 10, 2))
    slots = Slots(Cache(layers=[layer]), 2, 300)
    assert slots.reach == 39
    begin = list(range(20))
    first, second = prompt_of([*begin, *range(100, 109)]), prompt_of([*begin, *range(200, 208)])
    for limit, length in ((10, 20), (11, None)):
        standing = Standing(True, lambda row: row.prompt.kinds)
        standing.reach = slots.reach
        standing.put(0, Row(0, first, limit))
        found = standing.beginning_of(Row(1, second, 1))
        assert (found and found.length) == length


def test_the_next_row_takes_what_was_used_longest_ago():
    standing = Standing(True, lambda row: None)
    long, *others = [prompt_of([*range(30), last]) for last in (90, 91, 92)]
    for slot, prompt in enumerate((long, prompt_of([7, 8]), prompt_of([9, 8]))):
        standing.put(slot, Row(slot, prompt, 1))
    standing.keep_for([Row(3, others[0], 1), Row(4, prompt_of([1, 2]), 1)])
    assert standing.next_slot([0, 1, 2]) == 1
    assert standing.next_slot([0, 1, 2, 3]) == 3  # nothing stands there
    standing.forget(0)
    assert standing.beginning_of(Row(4, others[1], 1)) is None


# ---- layers that do not keep all keys: marked where others go on -------------------------------------

WINDOW = 16
COMMON = {
    "vocab_size": 200,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def windows(window=WINDOW):
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        **COMMON, num_hidden_layers=3, layer_types=kinds, sliding_window=window
    )
    return Gemma3ForCausalLM(config)


def states():
    config = NemotronHConfig(
        **COMMON,
        layers_block_type=["linear_attention", "mlp", "full_attention", "linear_attention"],
        ssm_state_size=8,
        mamba_num_heads=4,
        mamba_head_dim=16,
        n_groups=2,
        chunk_size=16,
    )
    return NemotronHForCausalLM(config)


def ready(make, *options):
    torch.manual_seed(0)
    made = make(*options).eval()
    with torch.no_grad():
        for weights in made.parameters():  # as they come, one token wins everywhere
            if weights.ndim > 1:
                weights *= 8
    return made


@pytest.fixture(scope="module", params=[windows, states], ids=["windows", "states"])
def model(request):
    return ready(request.param)


def text(*parts):
    """A prompt of parts, each a number and a length."""
    generator = torch.Generator()
    ids = [
        torch.randint(3, 200, (length,), generator=generator.manual_seed(seed))
        for seed, length in parts
    ]
    made = torch.cat(ids)[None]
    tensors = {"input_ids": made, "attention_mask": torch.ones_like(made)}
    return PreparedPrompt("", tensors, [], [], {})


# Two clips; of the first, two questions in three orders each, of the second one in four; one alone.
TREE = [
    *(text((1, 60), (2, 24), (10 + order, 9)) for order in range(3)),
    *(text((1, 60), (3, 24), (10 + order, 9)) for order in range(3)),
    *(text((4, 70), (5, 5), (20 + order, 7 + order % 2)) for order in range(4)),
    text((6, 80)),
]
LIMIT = 12


def alone(model, prompt, limit=LIMIT):
    with torch.inference_mode():
        written = model.generate(**prompt.tensors, max_new_tokens=limit, do_sample=False)
    return written[0, prompt.length :].tolist()


def decoder_of(model, slots):
    passes = Passes(model, torch.device("cpu"), 0, None, Loading(loader=""))
    reach = 0 if isinstance(model, NemotronHForCausalLM) else model.config.sliding_window - 1
    return Decoder(passes, slots, frozenset({2}), reach=reach)


def answered(decoder, prompts, limits=None):
    """Return what was counted, after replies that are those of `generate` alone."""
    limits = limits or [LIMIT] * len(prompts)
    asked = [Row(n, prompt, limits[n]) for n, prompt in enumerate(prompts)]
    wanted = [alone(decoder.passes.model, row.prompt, row.limit) for row in asked]
    rows = list(decoder.run(iter(asked)))
    written = {row.key: row.tokens for row in rows}
    assert len({tuple(reply) for reply in wanted}) > 1
    assert [written[n] for n in range(len(prompts))] == wanted
    assert not any(row.failed for row in rows)
    return decoder.passes.counts


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_what_prompts_begin_with_is_read_once_where_layers_forget(model, slots, monkeypatch):
    monkeypatch.setattr(shared, "WORTH_A_PASS", 20)
    counts = answered(decoder_of(model, slots), TREE)
    whole = sum(prompt.length for prompt in TREE)
    assert counts.prefilled_tokens + counts.shared_tokens == whole
    # Each part once, but for the first question: where the clip is marked, the next prompt reads it again.
    once = 60 + 24 + 24 + 6 * 9 + 70 + 5 + (7 + 8 + 7 + 8) + 80
    assert counts.prefilled_tokens == once + 24


def test_what_goes_on_from_a_whole_slot_is_marked_with_its_windows(monkeypatch):
    """A prompt that fits a window begins with a slot, and its reply then writes over what others want."""
    monkeypatch.setattr(shared, "WORTH_A_PASS", 20)
    short, long = text((1, 20), (2, 10)), [text((1, 20), (3, 20), (n, 9)) for n in range(4, 9)]
    decoder = decoder_of(ready(windows, 64), 1)
    counts = answered(decoder, [short, *long], [8] + [30] * len(long))
    assert counts.shared_tokens == 20 + (len(long) - 1) * 40


def test_a_prompt_is_marked_where_that_is_worth_a_pass(model):
    few = [text((1, 80), (10 + order, 9)) for order in range(7)]
    assert 6 * 80 < shared.WORTH_A_PASS <= 7 * 80
    assert answered(decoder_of(model, 8), few).shared_tokens == 0
    assert answered(decoder_of(model, 8), [*few, few[0]]).shared_tokens == 7 * 80


def test_marks_are_bounded_and_the_latest_stay(model):
    standing = Standing(True, lambda row: None, reach=0)
    standing.most_marks = 2
    marks = [Mark(20, ()) for _ in range(3)]
    prompts = [text((number, 20), (9, 5)) for number in range(3)]
    for slot, (prompt, mark) in enumerate(zip(prompts, marks, strict=True)):
        standing.put(slot, Row(slot, prompt, 1), (mark,))
    found = [standing.beginning_of(Row(0, text((n, 20), (8, 5)), 1)) for n in range(3)]
    assert [beginning and beginning.marks for beginning in found] == [
        None,
        *[(m,) for m in marks[1:]],
    ]


def storage_of(layer):
    """Bytes behind the tensors of a layer, views or not."""
    states = [getattr(layer, name, {}) for name in STATES]
    held = [getattr(layer, "keys", None), getattr(layer, "values", None)]
    held += [state for of_one in states for state in of_one.values()]
    return sum(tensor.untyped_storage().nbytes() for tensor in held if tensor is not None)


def test_a_mark_holds_no_more_than_a_slot_does(model):
    prompt = text((1, 90))
    with torch.inference_mode():
        cache = model(**prompt.tensors, use_cache=True).past_key_values
    slots, mark = Slots(cache, 1, 90), Mark.of(cache, 90)
    pairs = [
        (storage_of(mine), storage_of(theirs))
        for mine, theirs in zip(mark.layers, slots.cache.layers, strict=True)
        if mine is not None
    ]
    assert len(pairs) == 2
    assert all(0 < mine <= theirs for mine, theirs in pairs)


def test_marks_go_where_memory_is_short(model, monkeypatch):
    monkeypatch.setattr(shared, "WORTH_A_PASS", 20)
    decoder, stock, failed = decoder_of(model, 4), model.forward, []

    @functools.wraps(stock)  # `generate` asks what it takes
    def forward(**inputs):
        marked = any(held.marks for held in decoder._standing._held.values())
        if marked and inputs["input_ids"].shape[1] > 70:
            failed.append(len(decoder._active))
            raise torch.OutOfMemoryError("no memory")
        return stock(**inputs)

    monkeypatch.setattr(model, "forward", forward)
    assert answered(decoder, TREE).shared_tokens > 0
    assert failed
