"""batch_size=auto: batches as large as memory, and not larger again after it ran out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hf_requests import RATE, generate, scores_of

from mmaupro_ext.models import tiny_random
from mmaupro_ext.models.hf import batching, memory
from mmaupro_ext.models.hf.decoding import Decoder
from mmaupro_ext.models.hf.memory import FILLED, FIRST_TOKENS, Budget
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.schedule import Schedule
from mmaupro_ext.models.items import Failures, Question


class Card:
    """Memory of `size` bytes in which a pass takes `bytes_a_token`; `read` says how many there are."""

    highest = 0

    def __init__(self, size, bytes_a_token=100):
        self.size, self.bytes_a_token, self.tokens = size, bytes_a_token, 0

    def begin(self):
        self.tokens = 0

    def taken(self):
        return self.tokens * self.bytes_a_token

    def free(self):
        return self.size

    def read(self, tokens):
        self.tokens = tokens
        if tokens * self.bytes_a_token > self.size:
            raise torch.OutOfMemoryError("out of memory")


def pass_over(budget, card, tokens):
    with budget.measured() as took:
        took(tokens)
        card.read(tokens)


def test_the_bound_doubles_until_memory_is_filled():
    card = Card(100 * 40_000)
    budget = Budget(card)
    bounds = []
    for _ in range(6):
        bounds.append(budget.tokens)
        pass_over(budget, card, budget.tokens)
    assert bounds[:3] == [FIRST_TOKENS, 2 * FIRST_TOKENS, 4 * FIRST_TOKENS]
    # float rounding of the quotient may cost the last token
    assert bounds[-1] == pytest.approx(FILLED * 40_000, abs=1)


def test_small_passes_neither_grow_the_bound_nor_say_what_a_token_takes():
    card = Card(10**9, bytes_a_token=1e6)
    budget = Budget(card)
    pass_over(budget, card, 10)
    assert budget.tokens == FIRST_TOKENS
    assert budget.bytes_a_token == 0


def test_the_most_demanding_pass_counts():
    card = Card(10**6, bytes_a_token=1)
    budget = Budget(card)
    pass_over(budget, card, FIRST_TOKENS)
    card.bytes_a_token = 100
    pass_over(budget, card, 2 * FIRST_TOKENS)
    card.bytes_a_token = 1
    pass_over(budget, card, 2 * FIRST_TOKENS)
    assert budget.tokens == FILLED * 10**6 / 100


def test_memory_that_others_take_lowers_the_bound():
    card = Card(10**6)
    budget = Budget(card)
    pass_over(budget, card, FIRST_TOKENS)
    card.size = 10_000
    assert budget.tokens == FILLED * 100


def test_a_pass_that_fails_is_no_measurement():
    card = Card(10)
    budget = Budget(card)
    with pytest.raises(torch.OutOfMemoryError):
        pass_over(budget, card, FIRST_TOKENS)
    assert budget.tokens == FIRST_TOKENS


def test_after_a_fall_it_never_grows_again():
    card = Card(10**9)
    budget = Budget(card)
    budget.fall(3000)
    for _ in range(4):
        pass_over(budget, card, 3000)
    assert budget.tokens == 3000
    budget.fall(5000)
    assert budget.tokens == 3000


def test_without_a_measure_only_a_fall_is_a_bound():
    budget = Budget(None)
    with budget.measured() as took:
        took(10**6)
    assert budget.tokens is None
    budget.fall(7)
    assert budget.tokens == 7


def test_a_fixed_number_is_not_measured():
    cuda = torch.device("cuda")
    assert Budget.of(cuda, grows=False).memory is None
    assert isinstance(Budget.of(cuda, grows=True).memory, memory.CudaMemory)
    assert Budget.of(torch.device("cpu"), grows=True).memory is None


# ---- in batches and in slots -------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    made, _ = tiny_random.make(0)
    return made.eval()


def rows_of(count, length):
    for key in range(count):
        ids = torch.full((1, length), key + 1)
        tensors = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        yield Row(key, PreparedPrompt("", tensors, [], [], {}), 2)


def prefills_of(model, budget, card, monkeypatch, count=24, length=300):
    """Return how many prompts were read in each prefill that went through."""
    forward, read = model.forward, []

    def too_much(**inputs):
        if inputs["input_ids"].shape[1] > 1:
            card.read(inputs["input_ids"].numel())
            read.append(len(inputs["input_ids"]))
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", too_much)
    passes = Passes(model, torch.device("cpu"), 0, None, None, budget=budget)
    done = list(Decoder(passes, 8, frozenset()).run(rows_of(count, length)))
    assert len(done) == count
    assert not any(row.failed for row in done)
    return read


def test_prefills_hold_no_more_than_the_budget(model, monkeypatch):
    card = Card(100 * 1500)
    budget = Budget(card)
    budget._grown, budget.bytes_a_token = 10**6, 100.0
    assert max(prefills_of(model, budget, card, monkeypatch)) == FILLED * 1500 // 300


def test_prefills_run_out_of_memory_once(model, monkeypatch):
    card = Card(100 * 1500)
    budget = Budget(None)
    failures = []
    stock = budget.fall
    monkeypatch.setattr(budget, "fall", lambda tokens: (failures.append(tokens), stock(tokens)))
    read = prefills_of(model, budget, card, monkeypatch)
    assert failures == [4 * 300]
    assert max(read) == 4


def test_slots_that_found_no_memory_are_not_reserved_again(model, monkeypatch):
    forward = model.forward

    def too_much(**inputs):
        if len(inputs["input_ids"]) > 3 and inputs["input_ids"].shape[1] == 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", too_much)
    passes = Passes(model, torch.device("cpu"), 0, None, None)
    for most in (8, 2):
        passes.counts.shapes.clear()
        decoder = Decoder(passes, 8, frozenset())
        assert len(list(decoder.run(rows_of(9, 20)))) == 9
        assert max(rows for rows, _ in passes.counts.shapes) <= most
    assert {rows for rows, _ in passes.counts.shapes} == {1, 2}


def test_batches_run_out_of_memory_once_in_all_calls():
    def prepare(_, question):
        return question.context

    tried = []

    def forward(batch):
        tried.append(len(batch))
        if len(batch) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return list(batch)

    preparer = SimpleNamespace(placer=None)
    generator = SimpleNamespace(
        failures=Failures("it", ""), passes=SimpleNamespace(budget=Budget(None))
    )
    schedule = Schedule(preparer, 0, 1 << 20, generator)
    for _ in range(2):
        questions = [Question(f"{number:03}" + 397 * "x", {}) for number in range(8)]
        answered = schedule.answer(questions, prepare, forward, lambda error: error, batch_size=8)
        assert len(list(answered)) == 8
    assert tried[:3] == [8, 4, 2]
    assert max(tried[3:]) == 2


def test_auto_fills_the_memory_of_a_card_and_answers_as_one_by_one_does(tmp_path, monkeypatch):
    import numpy as np
    import soundfile

    from mmaupro_ext.models.hf.model import HFAudioLM

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rng = np.random.default_rng(0)
    paths = []
    for number in range(10):
        paths.append(str(tmp_path / f"{number}.wav"))
        soundfile.write(paths[-1], rng.normal(0, 0.1, RATE), RATE)
    requests = [generate(f"<audio>\nQuestion {n}?", path) for n, path in enumerate(paths)]

    def load(batch_size):
        return HFAudioLM("tiny-random", seed=1, device="cpu", batch_size=batch_size)

    one, auto = load(1), load("auto")
    card = Card(100 * 500)
    auto.passes.budget.memory = card
    auto.passes.budget._grown = 100
    read = []
    forward = auto.model.forward

    def too_much(**inputs):
        if inputs["input_ids"].shape[1] > 1 and "past_key_values" not in inputs:
            read.append(inputs["input_ids"].shape)
            card.read(inputs["input_ids"].numel())
        return forward(**inputs)

    monkeypatch.setattr(auto.model, "forward", too_much)
    assert auto.media_batch_size == 64
    expected = one.generate_until(requests, disable_tqdm=True)
    assert auto.generate_until(requests, disable_tqdm=True) == expected
    rows = [shape[0] for shape in read]
    assert max(rows) > rows[0]
    assert max(rows) * read[0][1] <= 500
    # log-likelihoods hold to the same budget
    assert scores_of(auto, "<audio>\nWhat?", paths[:1]) == pytest.approx(
        scores_of(one, "<audio>\nWhat?", paths[:1]),
        abs=1e-4,  # float32, another batch
    )


def test_questions_on_the_same_clip_stand_side_by_side_as_far_as_they_are_alike():
    clips = {"a": {"audio": ["a.wav"]}, "b": {"audio": ["b.wav"]}}
    asked = [("a", 400), ("b", 396), ("a", 392), ("b", 388), ("a", 200), ("b", 396), ("b", 384)]
    questions = [
        Question(f"{number:03}" + (length - 3) * "x", clips[clip])
        for number, (clip, length) in enumerate(asked)
    ]
    generator = SimpleNamespace(
        failures=Failures("it", ""), passes=SimpleNamespace(budget=Budget(None))
    )
    schedule = Schedule(SimpleNamespace(placer=None), 0, 1 << 20, generator)
    taken = []
    answered = schedule.stream(
        questions,
        lambda _, question: question.context,
        lambda prepared: ((question, taken.append(context)) for question, context in prepared),
    )
    list(answered)
    # a's two long ones, b's four, and the short one on a: beside the long ones it would be padding
    assert [int(context[:3]) for context in taken] == [0, 2, 1, 5, 3, 6, 4]


def test_a_batch_holds_no_more_than_its_budget_whichever_is_the_longest():
    assert batching.batch_length([50, 60, 60], 8, 120) == 2
    assert batching.batch_length([50, 70, 60], 8, 120) == 1
    assert batching.batch_length([50, 60, 30, 29], 8) == 3
