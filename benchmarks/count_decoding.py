"""Count, without a model, the decode steps of MMAU-Pro's 5,305 items: static batches against slots.

    python benchmarks/count_decoding.py

Replies are drawn with a median of 15 tokens, 2 % of them of 512 (a model that reasons or runs on); prompts
with MMAU-Pro's lengths, 25 tokens a second. Steps and shapes are counted, not timed: the loop is the real
one (`Decoder`), its passes are not.
"""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import torch

from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.decoding import Decoder
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.prefill import Prefilled
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.slots import BUCKET

ITEMS = 5_305
LONGEST_REPLY = 512


class Counted(Decoder):
    """The loop with passes that do nothing: each reply has the length that was drawn for it."""

    def __init__(self, slots: int) -> None:
        model = SimpleNamespace(
            _prepare_generation_config=lambda *_, **__: (None, None),
            _prepare_special_tokens=lambda *_, **__: None,
            _get_logits_processor=lambda **_: [],
            device=None,
        )
        super().__init__(Passes(model, torch.device("cpu"), 0, None, None), slots, frozenset())

    def _prefill(self, rows: Any) -> Any:
        longest = max(row.prompt.length for row in rows)
        for row in rows:
            row.keys_held = row.prompt.length
        self.counts.prefilled((len(rows), longest))
        return Prefilled(torch.zeros(len(rows), 1), None, [torch.empty(0)] * len(rows))

    def _new_slots(self, cache: Any, group: Any) -> Any:
        # Wide enough for all: the lengths that a real run would reserve are another question.
        self._slots = SimpleNamespace(
            count=self.wanted,
            columns=1 << 30,
            reach=0,
            take=lambda *_: None,
            move=lambda *_: None,
            can_move=True,
        )  # type: ignore[assignment]
        self._rows = [None] * self.wanted
        return self._slots

    def _forward(self, rows: Any) -> torch.Tensor:
        there = [row for row in rows if row is not None]
        keys = -(-(max(row.keys_held for row in there) + 1) // BUCKET) * BUCKET
        self.counts.steps += 1
        self.counts.rows_in_steps += len(there)
        self.counts.slots_in_steps += len(rows)
        self.counts.shapes.add((len(rows), keys))
        return torch.zeros(len(there), 1)


def main() -> None:
    """Print a table."""
    draw = random.Random(0)
    replies, prompts = [], []
    for _ in range(ITEMS):
        long = draw.random() < 0.02
        usual = max(1, min(511, round(draw.lognormvariate(math.log(15), 0.6))))
        replies.append(LONGEST_REPLY if long else usual)
        seconds = min(600, draw.lognormvariate(math.log(60), 1.2))
        prompts.append(round(25 * seconds) + draw.randint(60, 160))
    order = sorted(range(ITEMS), key=lambda item: -prompts[item])
    lengths = [prompts[item] for item in order]
    print("| way | decode steps | rows computed that write nothing | shapes of decoding |")
    print("| --- | ---: | ---: | ---: |")
    for size in (8, 16, 32):
        at = steps = computed = useful = 0
        shapes = set()
        while at < ITEMS:
            count = batching.batch_length(lengths[at : at + size], size)
            part = order[at : at + count]
            longest = max(replies[item] for item in part)
            steps += longest - 1
            computed += count * (longest - 1)
            useful += sum(replies[item] - 1 for item in part)
            shapes |= {(count, lengths[at] + step) for step in range(1, longest)}
            at += count
        print(f"| `generate`, {size} | {steps:,} | {1 - useful / computed:.0%} | {len(shapes):,} |")
    for size in (8, 16, 32):
        decoder = Counted(size)
        rows = (
            Row(
                item,
                PreparedPrompt("", {"input_ids": torch.empty(1, prompts[item])}, [], [], {}),
                replies[item],
            )
            for item in order
        )
        done = list(decoder.run(rows))
        assert all(len(row.tokens) == row.limit for row in done)
        counts = decoder.counts
        idle = 1 - counts.rows_in_steps / counts.slots_in_steps
        print(f"| slots, {size} | {counts.steps:,} | {idle:.0%} | {len(counts.shapes):,} |")


if __name__ == "__main__":
    main()
