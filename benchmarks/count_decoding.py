"""Count, without a model, what MMAU-Pro's 5,305 items take: decode steps, prefills, tokens read, shapes.

    python benchmarks/count_decoding.py

Replies are drawn with a median of 15 tokens, 2 % of them of 512 (a model that reasons or runs on); prompts
with MMAU-Pro's lengths, 25 tokens a second. All is counted, not timed: the loop is the real one (`Decoder`),
its passes are not. A second table has prompts that begin alike, as those of an ablation do.
"""

from __future__ import annotations

import itertools
import math
import random
from types import SimpleNamespace
from typing import Any

import torch

from mmaupro_ext.models.families.family import Loading
from mmaupro_ext.models.hf import batching, prefill
from mmaupro_ext.models.hf.counts import Counts
from mmaupro_ext.models.hf.decoding import SLOTS_A_MARK, Decoder
from mmaupro_ext.models.hf.marks import Mark
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.slots import BUCKET

ITEMS = 5_305
LONGEST_REPLY = 512


class Counted(Decoder):
    """The loop with passes that do nothing: each reply has the length that was drawn for it."""

    def __init__(self, slots: int, shares: bool = True, reach: float = math.inf) -> None:
        model = SimpleNamespace(
            _prepare_generation_config=lambda *_, **__: (None, None),
            _prepare_special_tokens=lambda *_, **__: None,
            _get_logits_processor=lambda **_: [],
            device=None,
        )
        loading = Loading(loader="", shared_prefix=shares)
        passes = Passes(model, torch.device("cpu"), 0, None, loading)
        super().__init__(passes, slots, frozenset(), reach=reach)

    def _prefill(self, rows: Any) -> Any:
        cut = rows[0].cut
        ends = [cut or row.prompt.length for row in rows]
        found = [self._standing.beginning_of(row) for row in rows]
        known = [beginning for beginning in found if beginning is not None]
        marks = [()] * len(rows)
        if len(known) == len(rows):
            shared = [beginning.length for beginning in known]
            own = [end - before for end, before in zip(ends, shared, strict=True)]
            marks = [beginning.marks for beginning in known]
            self.counts.prefilled((len(rows), max(own)), max(shared))
            self.counts.shared_tokens += sum(shared)
        else:
            self.counts.prefilled((len(rows), max(ends)))
            self.counts.encoded += len(rows)
        if cut:
            self.counts.prefilled((1, rows[0].prompt.length - cut), cut)
            marks = [(*marks[0], Mark(cut, ()))]
        for row in rows:
            row.keys_held = row.prompt.length
        there = torch.ones(len(rows), 0, dtype=torch.bool)
        return prefill.Prefilled(torch.zeros(len(rows), 1), None, there, marks)

    def _new_slots(self, cache: Any, group: Any) -> Any:
        # Wide enough for all: the lengths that a real run would reserve are another question.
        self._slots = SimpleNamespace(
            count=self.wanted,
            columns=1 << 30,
            take=lambda *_: None,
            move=lambda *_: None,
            can_move=True,
        )  # type: ignore[assignment]
        self._rows = [None] * self.wanted
        self._steps = self._count_step  # type: ignore[assignment]
        self._standing.most_marks = max(2, self.wanted // SLOTS_A_MARK)
        return self._slots

    def _count_step(self, rows: Any) -> torch.Tensor:
        there = [row for row in rows if row is not None]
        keys = batching.round_up(max(row.keys_held for row in there) + 1, BUCKET)
        self.counts.steps += 1
        self.counts.rows_in_steps += len(there)
        self.counts.slots_in_steps += len(rows)
        self.counts.shapes.add((len(rows), keys))
        return torch.zeros(len(there), 1)


def prompt_of(clip: int, ids: torch.Tensor, media_end: int) -> PreparedPrompt:
    """Return a prompt of these tokens on a clip."""
    return PreparedPrompt("", {"input_ids": ids[None]}, [], [1], {}, None, b"%d" % clip, media_end)


def run(decoder: Counted, prompts: list[PreparedPrompt], replies: list[int]) -> Counts:
    """Answer all of them, and return what was counted."""
    rows = (
        Row(item, prompt, limit)
        for item, (prompt, limit) in enumerate(zip(prompts, replies, strict=True))
    )
    done = list(decoder.run(rows))
    assert all(len(row.tokens) == row.limit for row in done)
    return decoder.counts


def count_a_run(draw: random.Random) -> None:
    """Print the table of all items."""
    items = []  # (audio tokens, other tokens, tokens of the reply)
    for _ in range(ITEMS):
        long = draw.random() < 0.02
        usual = max(1, min(511, round(draw.lognormvariate(math.log(15), 0.6))))
        seconds = min(600, draw.lognormvariate(math.log(60), 1.2))
        items.append((round(25 * seconds), draw.randint(60, 160), LONGEST_REPLY if long else usual))
    items.sort(key=lambda item: -item[0] - item[1])
    lengths = [audio + text for audio, text, _ in items]
    replies = [reply for _, _, reply in items]
    prompts = [
        prompt_of(number, torch.full((audio + text,), number), audio)
        for number, (audio, text, _) in enumerate(items)
    ]
    print(
        "| way | decode steps | rows computed that write nothing | shapes of decoding | prefills | "
        "padding in prefills |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for size in (8, 16, 32):
        at = steps = computed = useful = batches = read = 0
        shapes = set()
        while at < ITEMS:
            count = batching.batch_length(lengths[at : at + size], size)
            part = replies[at : at + count]
            longest = max(part)
            steps += longest - 1
            computed += count * (longest - 1)
            useful += sum(part) - count
            shapes |= {(count, lengths[at] + step) for step in range(1, longest)}
            read += count * lengths[at]
            batches += 1
            at += count
        print(
            f"| `generate`, {size} | {steps:,} | {1 - useful / computed:.0%} | {len(shapes):,} | "
            f"{batches:,} | {read / sum(lengths) - 1:.1%} |"
        )
    for size in (8, 16, 32):
        counts = run(Counted(size), prompts, replies)
        idle = 1 - counts.rows_in_steps / counts.slots_in_steps
        print(
            f"| slots, {size} | {counts.steps:,} | {idle:.0%} | {len(counts.shapes):,} | "
            f"{counts.prefills:,} | {counts.prefilled_tokens / sum(lengths) - 1:.1%} |"
        )


def count_alike(draw: random.Random) -> None:
    """Print the table of prompts that begin alike: 200 clips, 32 slots.

    Once with layers that keep all keys, once with layers that do not.
    """
    print(
        "| asked about each clip | prompts | tokens of prompts | read | encoder | prefills "
        "| layers that forget: read | prefills | all whole: read | prefills |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, questions, orders in (
        ("one question", 1, 1),
        ("three questions", 3, 1),
        ("one question in 24 orders of its choices", 1, 24),
        ("three questions in 24 orders", 3, 24),
    ):
        prompts = []
        for clip in range(200):
            audio = round(25 * min(600, draw.lognormvariate(math.log(60), 1.2)))
            for question in range(questions):
                words = torch.full((40,), 1000 + question)
                for order in itertools.islice(itertools.permutations(range(4)), orders):
                    choices = torch.tensor(order).repeat_interleave(8)
                    ids = torch.cat([torch.full((audio,), -1), words, choices])
                    prompts.append(prompt_of(clip, ids, audio))
        prompts.sort(key=lambda prompt: (-prompt.length, prompt.media_digest))
        replies = [draw.randint(2, 30) for _ in prompts]
        counts, marked, apart = (
            run(decoder, prompts, replies)
            for decoder in (Counted(32), Counted(32, reach=0), Counted(32, shares=False))
        )
        whole = sum(prompt.length for prompt in prompts)
        print(
            f"| {name} | {len(prompts):,} | {whole:,} | {counts.prefilled_tokens / whole:.1%} | "
            f"{counts.encoded:,} | {counts.prefills:,} | {marked.prefilled_tokens / whole:.1%} | "
            f"{marked.prefills:,} | {apart.prefilled_tokens / whole:.1%} | {apart.prefills:,} |"
        )


def main() -> None:
    """Print both tables."""
    count_a_run(random.Random(0))
    print()
    count_alike(random.Random(0))


if __name__ == "__main__":
    main()
