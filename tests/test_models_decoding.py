"""Replies written side by side in slots: those of `generate` alone, whatever goes wrong beside them.

All tests take the same model, prompts and ends, which is why they are in one file of more than 400 lines.
"""

from __future__ import annotations

import dataclasses
import itertools
from types import SimpleNamespace

import pytest
import torch

from mmaupro_ext.models import tiny_random
from mmaupro_ext.models.families.family import Loading
from mmaupro_ext.models.hf import decoding, steps
from mmaupro_ext.models.hf.decoding import Decoder
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.slots import BUCKET, NoSlotsError, Slots, bytes_of_token

LIMIT = 20
NONE = frozenset()


@pytest.fixture(scope="module")
def model():
    made, _ = tiny_random.make(0)
    for weights in made.parameters():  # as they come, one token wins everywhere
        if weights.dim() > 1:
            weights.data.mul_(6)
    return made.eval()


def prompt_of(tensors, *kinds):
    return PreparedPrompt("", tensors, [], [], {kind: ["clip"] for kind in kinds})


@pytest.fixture(scope="module")
def prompts():
    """Texts of different lengths; the numbers have no meaning."""
    lengths = (40, 37, 31, 30, 22, 21, 16, 9, 8, 3)
    generator = torch.Generator().manual_seed(3)
    made = []
    for length in lengths:
        ids = torch.randint(300, 1000, (1, length), generator=generator) % 250
        tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        made.append(prompt_of(tensors))
    return made


@pytest.fixture(scope="module")
def ends(model, prompts):
    """Tokens at which replies end after very different times, as real ones do."""
    free = [alone(model, prompt, NONE) for prompt in prompts]
    written = sorted({token for reply in free for token in reply})

    def different_lengths(chosen):
        return len({next((i for i, t in enumerate(reply) if t in chosen), LIMIT) for reply in free})

    sets = (some for size in (1, 2, 3) for some in itertools.combinations(written, size))
    return frozenset(max(sets, key=different_lengths))


@pytest.fixture(scope="module")
def wanted(model, prompts, ends):
    replies = [alone(model, prompt, ends) for prompt in prompts]
    assert len({len(reply) for reply in replies}) >= 3  # else nothing is shown below
    return replies


def alone(model, prompt, ends):
    """Return what `generate` writes after one prompt."""
    with torch.inference_mode():
        written = model.generate(
            **prompt.tensors,
            max_new_tokens=LIMIT,
            do_sample=False,
            eos_token_id=sorted(ends) or None,
            pad_token_id=0,
        )
    return written[0, prompt.length :].tolist()


def decoder(model, ends, slots, loading=None, **options):
    passes = Passes(model, torch.device("cpu"), 0, None, loading)
    return Decoder(passes, slots, ends, **options)


def rows_of(prompts, limit=LIMIT):
    return [Row(number, prompt, limit) for number, prompt in enumerate(prompts)]


def replies_of(made):
    return [row.tokens for row in sorted(made, key=lambda row: row.key)]


@pytest.mark.parametrize("slots", [1, 3, 8, 32])
def test_replies_are_those_of_generate_alone(model, prompts, ends, wanted, slots):
    made = list(decoder(model, ends, slots).run(iter(rows_of(prompts))))
    assert replies_of(made) == wanted
    for row in made:
        assert row.finish == ("stop" if row.tokens[-1] in ends else "length")


def test_finished_replies_leave_and_others_take_their_places(model, prompts, ends, wanted):
    running = decoder(model, ends, 2)
    list(running.run(iter(rows_of(prompts))))
    # Two places and nobody idle: about half of all tokens but the first ones, which prefills write.
    tokens = sum(len(reply) - 1 for reply in wanted)
    assert running.counts.rows_in_steps == tokens
    assert running.counts.steps <= tokens // 2 + LIMIT


def test_prompts_are_taken_as_places_become_free(model, prompts, ends):
    taken = []

    def rows():
        for row in rows_of(prompts):
            taken.append(row.key)
            yield row

    made = decoder(model, ends, 2).run(rows())
    next(made)
    assert len(taken) <= 4


def test_slots_are_let_go_of_when_nobody_wants_them_any_more(model, prompts, ends):
    running = decoder(model, ends, 2)
    list(running.run(iter(rows_of(prompts))))
    assert running._slots is None
    assert running._steps is None
    left = running.run(iter(rows_of(prompts)))
    next(left)
    assert running._slots is not None
    left.close()
    assert running._slots is None


def test_prompts_are_read_together_up_to_what_fills_a_device(
    model, prompts, ends, wanted, monkeypatch
):
    monkeypatch.setattr(decoding, "FILLING", 45)  # the three longest alone, the shortest together
    running = decoder(model, ends, 16)
    assert replies_of(running.run(iter(rows_of(prompts)))) == wanted
    shapes = running.counts.prefill_shapes
    assert all(rows * tokens <= 45 for rows, _, tokens in shapes if rows > 1)
    assert {(1, 0, 40), (1, 0, 37), (1, 0, 31), (2, 0, 22)} <= shapes


def test_stop_strings_end_a_reply(model, prompts, wanted):
    third = wanted[0][:3]
    made = list(
        decoder(model, NONE, 4, stops=lambda tokens: tokens[-3:] == third).run(
            iter(rows_of(prompts[:1]))
        )
    )
    assert made[0].tokens == third
    assert made[0].finish == "stop"


def test_penalties_of_the_checkpoint_count_as_in_generate(model, prompts, ends, monkeypatch):
    monkeypatch.setattr(model.generation_config, "repetition_penalty", 1.4)
    penalised = [alone(model, prompt, ends) for prompt in prompts]
    made = list(decoder(model, ends, 4).run(iter(rows_of(prompts))))
    assert replies_of(made) == penalised


class Failing:
    """Let a model's forward pass fail where a condition holds, some number of times."""

    def __init__(self, model, monkeypatch, condition, error, times=1_000):
        self.forward, self.condition, self.error, self.left = model.forward, condition, error, times
        monkeypatch.setattr(model, "forward", self)

    def __call__(self, **inputs):
        if self.left and self.condition(inputs):
            self.left -= 1
            raise self.error
        return self.forward(**inputs)


def is_step(inputs):
    return inputs["input_ids"].shape[1] == 1


def test_a_step_that_fails_starts_again_with_fewer(model, prompts, ends, wanted, monkeypatch):
    Failing(
        model,
        monkeypatch,
        lambda inputs: is_step(inputs) and len(inputs["input_ids"]) > 3,
        torch.OutOfMemoryError("no memory"),
    )
    running = decoder(model, ends, 8)
    made = list(running.run(iter(rows_of(prompts))))
    assert replies_of(made) == wanted
    assert running.wanted == 2


def test_prompts_too_large_together_are_read_one_after_the_other(
    model, prompts, ends, wanted, monkeypatch
):
    Failing(
        model,
        monkeypatch,
        lambda inputs: not is_step(inputs) and len(inputs["input_ids"]) > 1,
        torch.OutOfMemoryError("no memory"),
    )
    made = list(decoder(model, ends, 4).run(iter(rows_of(prompts))))
    assert replies_of(made) == wanted


def test_a_prompt_without_memory_waits_for_the_others(model, prompts, ends, wanted, monkeypatch):
    """Three replies side by side leave no memory for a prefill; when one has ended there is some."""
    running = decoder(model, ends, 3)
    Failing(
        model,
        monkeypatch,
        lambda inputs: not is_step(inputs) and len(running._active) >= 1,
        torch.OutOfMemoryError("no memory"),
    )
    made = list(running.run(iter(rows_of(prompts))))
    assert replies_of(made) == wanted


def test_a_prompt_that_the_model_cannot_take_costs_itself_alone(
    model, prompts, ends, wanted, monkeypatch
):
    bad = prompts[4].tensors["input_ids"]
    Failing(
        model,
        monkeypatch,
        lambda inputs: any(
            torch.equal(row[-bad.shape[1] :], bad[0])
            for row in inputs["input_ids"]
            if len(row) >= bad.shape[1]
        ),
        ValueError("a shape that it does not know"),
    )
    made = sorted(decoder(model, ends, 4).run(iter(rows_of(prompts))), key=lambda row: row.key)
    assert [row.key for row in made] == list(range(len(prompts)))
    assert made[4].finish == "error"
    assert made[4].failed.problem == "ValueError: a shape that it does not know"
    del made[4]
    assert [row.tokens for row in made] == wanted[:4] + wanted[5:]


def test_a_step_that_fails_for_one_reply_alone_costs_that_reply(
    model, prompts, ends, wanted, monkeypatch
):
    Failing(model, monkeypatch, is_step, ValueError("never again"))
    made = list(decoder(model, ends, 4).run(iter(rows_of(prompts))))
    assert len(made) == len(prompts)
    for row in made:
        # A reply of one token needs no step.
        one = len(wanted[row.key]) == 1
        assert row.finish == ("stop" if one else "error")


def test_memory_bounds_the_slots_and_shorter_prompts_get_more(model, ends):
    def prompt(length):
        ids = torch.arange(length)[None] % 200
        return prompt_of({"input_ids": ids, "attention_mask": torch.ones_like(ids)})

    long, short = prompt(3 * BUCKET), prompt(20)
    with torch.inference_mode():
        cache = model(**short.tensors, use_cache=True).past_key_values
    bytes_of_long = bytes_of_token(cache) * (long.length + LIMIT + BUCKET)
    running = decoder(
        model, NONE, 8, free_memory=lambda: int(2.5 * bytes_of_long / decoding.MEMORY_SHARE)
    )
    made = list(running.run(iter(rows_of([long] * 4 + [short] * 8))))
    assert len(made) == 12
    assert not any(row.failed for row in made)
    widths = {rows for rows, keys in running.counts.shapes if keys > BUCKET}
    assert max(widths) == 2
    assert (8, BUCKET) in running.counts.shapes


def test_rows_that_may_not_share_a_pass_do_not(model, prompts, ends, wanted):
    mixed = [
        prompt_of(prompt.tensors, *(["audio"] if number % 2 else []))
        for number, prompt in enumerate(prompts)
    ]
    seen = []
    loading = Loading(loader="", before_forward=lambda _, kinds: seen.append(kinds))
    made = list(decoder(model, ends, 4, loading).run(iter(rows_of(mixed))))
    assert replies_of(made) == wanted
    # Adapters are switched for a pass as a whole: one kind of prompt in each.
    assert set(seen) == {NONE, frozenset({"audio"})}


def test_rows_beyond_the_rope_limit_share_no_pass_with_others(
    model, prompts, ends, wanted, monkeypatch
):
    limit = prompts[4].length
    loading = Loading(loader="", rope_limit=lambda config: limit)
    running = decoder(model, ends, 8, loading)
    groups = []
    step = steps.Steps.__call__

    def watched(self, rows):
        groups.append({row.prompt.length > limit for row in rows if row})
        return step(self, rows)

    monkeypatch.setattr(steps.Steps, "__call__", watched)
    made = list(running.run(iter(rows_of(prompts))))
    assert replies_of(made) == wanted
    assert {frozenset(group) for group in groups} == {frozenset({True}), frozenset({False})}


def test_cache_layers_without_slots_are_refused(model, prompts):
    class Strange(torch.nn.Module):
        keys = torch.zeros(1, 1, 1, 1)

    with pytest.raises(NoSlotsError, match="Strange"):
        Slots(SimpleNamespace(layers=[Strange()]), 2, 10)


def test_settings_that_count_from_the_end_of_the_prompt_are_left_to_generate(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "min_new_tokens", 5)
    with pytest.raises(NoSlotsError, match="MinNewTokens"):
        decoder(model, frozenset({1}), 4)


# ---- prompts that begin alike ----------------------------------------------------------------------


SHARING = Loading(loader="")


def alike(prompts, *ends, begin=20):
    """Prompts with one beginning, and ends of these lengths."""
    ids = prompts[0].tensors["input_ids"]
    made = []
    for number, end in enumerate(ends):
        more = (torch.arange(end)[None] * 7 + 31 * number) % 250
        whole = torch.cat([ids[:, :begin], more], dim=1)
        made.append(prompt_of({"input_ids": whole, "attention_mask": torch.ones_like(whole)}))
    return made


def asked(model, prompts, ends, slots, loading=SHARING):
    """The replies, and what was counted; they are those of `generate` alone."""
    running = decoder(model, ends, slots, loading)
    made = list(running.run(iter(rows_of(prompts))))
    assert replies_of(made) == [alone(model, prompt, ends) for prompt in prompts]
    return running.counts


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_what_prompts_begin_with_is_read_once(model, prompts, ends, slots):
    same = alike(prompts, 9, 9, 5, 12, 1, 7)
    counts = asked(model, same, ends, slots)
    assert counts.shared_tokens == 20 * (len(same) - 1)
    if slots == 1:
        assert counts.prefilled_tokens == 20 + 9 + 9 + 5 + 12 + 1 + 7


def test_prompts_come_in_once_enough_places_are_free(model, prompts, ends):
    """One of two free places of sixteen waits for the other: few prefills, of several prompts."""
    running = decoder(model, ends, 16)
    list(running.run(iter(rows_of(6 * prompts))))
    assert running.counts.prefills <= 30
    singles = [rows for rows, _, _ in running.counts.prefill_shapes if rows == 1]
    assert len(singles) <= 2


def test_the_same_prompt_again_reads_its_last_token(model, prompts, ends):
    counts = asked(model, [prompts[0]] * 3, ends, 2)
    assert counts.prefilled_tokens == prompts[0].length + 2
    assert counts.prefills == 2  # the two that repeat it go together


@pytest.mark.parametrize(
    "media",
    [{"media_digest": b"other"}, {"media": {"audio": ["clip"]}}, {"media_end": 22}],
    ids=["other sounds", "other adapters", "sounds after the beginning"],
)
def test_prompts_that_only_look_alike_are_read_whole(model, prompts, ends, media):
    loading = Loading(loader="", before_forward=lambda *_: None)
    first, second = alike(prompts, 9, 8)
    pair = [first, dataclasses.replace(second, **media)]
    assert asked(model, pair, ends, 1, loading).shared_tokens == 0


@pytest.mark.parametrize("loading", [None, Loading(loader="", shared_prefix=False)])
def test_models_without_a_shared_prefix_read_prompts_whole(model, prompts, ends, loading):
    assert asked(model, alike(prompts, 9, 8), ends, 1, loading).shared_tokens == 0


def test_prompts_on_both_sides_of_the_rope_limit_share_nothing(model, prompts, ends):
    pair = alike(prompts, 15, 5)
    loading = Loading(loader="", rope_limit=lambda config: 30)
    assert asked(model, pair, ends, 1, loading).shared_tokens == 0


def reads_an_end(inputs):
    return inputs.get("past_key_values") is not None and inputs["input_ids"].shape[1] > 1


def test_a_model_that_takes_no_prompt_behind_another_reads_them_whole(
    model, prompts, ends, monkeypatch
):
    Failing(model, monkeypatch, reads_an_end, ValueError("not behind these"))
    same = alike(prompts, 9, 9, 5)
    running = decoder(model, ends, 2, SHARING)
    made = list(running.run(iter(rows_of(same))))
    monkeypatch.undo()
    assert replies_of(made) == [alone(model, prompt, ends) for prompt in same]
    assert running.counts.shared_tokens == 0


def test_ends_too_large_together_are_read_one_after_the_other(model, prompts, ends, monkeypatch):
    Failing(
        model,
        monkeypatch,
        lambda inputs: reads_an_end(inputs) and len(inputs["input_ids"]) > 1,
        torch.OutOfMemoryError("no memory"),
    )
    same = alike(prompts, 9, 9, 5, 5)
    running = decoder(model, ends, 4, SHARING)
    made = list(running.run(iter(rows_of(same))))
    monkeypatch.undo()
    assert replies_of(made) == [alone(model, prompt, ends) for prompt in same]
    assert running.counts.shared_tokens == 60


class Recorded:
    """What stands for a CUDA graph here: runs the step on what its inputs hold by then."""

    def __init__(self, run, inputs, logits, changes=lambda logits: logits):
        self.run, self.inputs, self.logits, self.changes = run, inputs, logits, changes

    def replay(self):
        self.logits.copy_(self.changes(self.run(self.inputs)))


def capturing(model, ends, slots, monkeypatch, **graph):
    """Return a decoder whose steps are captured by `Recorded`."""

    def capture(self, inputs):
        still = {name: value.clone() for name, value in inputs.items()}
        logits = self._run(still)
        return steps._Graph(Recorded(self._run, still, logits, **graph), still, logits)

    monkeypatch.setattr(steps.Steps, "_capture", capture)
    running = decoder(model, ends, slots)
    running.passes.captures = True
    return running


@pytest.mark.parametrize("slots", [1, 3, 32])
def test_replayed_steps_write_the_same(model, prompts, ends, wanted, slots, monkeypatch):
    running = capturing(model, ends, slots, monkeypatch)
    assert replies_of(running.run(iter(rows_of(prompts)))) == wanted
    # All but the first three of each shape: as it is, to be captured, and both ways.
    unseen = running.counts.steps - running.counts.replayed_steps
    assert running.counts.replayed_steps > 0
    assert unseen <= 3 * len(running.counts.shapes)


def test_a_graph_that_gives_other_logits_is_not_believed(
    model, prompts, ends, wanted, monkeypatch, caplog
):
    running = capturing(model, ends, 3, monkeypatch, changes=lambda logits: logits.roll(1, -1))
    with caplog.at_level("INFO"):
        assert replies_of(running.run(iter(rows_of(prompts)))) == wanted
    assert running.counts.replayed_steps == 0
    assert "a replayed step gives other logits" in caplog.text


def test_what_cannot_be_captured_runs_as_it_is(model, prompts, ends, wanted, monkeypatch, caplog):
    running = capturing(model, ends, 3, monkeypatch)
    asked = []

    def capture(self, inputs):
        asked.append(inputs)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(steps.Steps, "_capture", capture)
    with caplog.at_level("INFO"):
        assert replies_of(running.run(iter(rows_of(prompts)))) == wanted
    assert len(asked) == 1
    assert "not permitted" in caplog.text
