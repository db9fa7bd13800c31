"""What stands in slots: whole until it is written over, and begun with only where all of it is there."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

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
    for limit, shared in ((10, 20), (11, None)):
        standing = Standing(True, lambda row: row.prompt.kinds)
        standing.reach = slots.reach
        standing.put(0, Row(0, first, limit))
        found = standing.beginning_of(Row(1, second, 1))
        assert (found and found.length) == shared


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
