"""What is the same in every run: replies, whatever goes together; scores, up to the rounding of sums."""

from __future__ import annotations

import pytest
from hf_requests import generate, score

from mmaupro_ext import data
from nano_training.data import task_functions


@pytest.fixture(scope="module")
def asked():
    """Questions of the sample with their clips, of several lengths, so that batches are padded."""
    docs = [*data.load_category("sound", sample=True)][:4]
    docs += [*data.load_category("multi", sample=True)][:2]
    docs += [*data.load_category("instruction_following", sample=True)][:2]
    return [
        (task_functions().doc_to_text(doc), [one["path"] for one in data.audio_references(doc)])
        for doc in docs
    ]


@pytest.fixture(scope="module")
def make():
    import torch

    from mmaupro_ext.models.hf.model import HFAudioLM

    threads = torch.get_num_threads()

    def build(**arguments):
        return HFAudioLM("nano", device="cpu", **arguments)

    yield build
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def questions(asked):
    return [generate(text, *clips, max_gen_toks=24) for text, clips in asked]


@pytest.fixture(scope="module")
def alone(make, questions):
    """The replies that each question gets by itself."""
    return make(batch_size=1, prefetch_workers=0).generate_until(questions, disable_tqdm=True)


@pytest.mark.parametrize(
    "how",
    [
        {"batch_size": 3},
        {"batch_size": 8, "prefetch_workers": 3},
        {"batch_size": 8, "decoding": "generate"},
    ],
    ids=str,
)
def test_replies_do_not_depend_on_what_goes_together(make, questions, alone, how):
    assert len(set(alone)) > 3
    assert make(**how).generate_until(questions, disable_tqdm=True) == alone


def test_replies_do_not_depend_on_threads_order_or_the_share_of_a_process(make, questions, alone):
    import torch

    lm = make(batch_size=4)
    torch.set_num_threads(2)
    assert lm.generate_until(questions[::-1], disable_tqdm=True) == alone[::-1]
    # A process answers every n-th question, by the same code.
    shares = [lm.generate_until(questions[rank::2], disable_tqdm=True) for rank in range(2)]
    assert shares == [alone[0::2], alone[1::2]]


def scores_of(lm, asked):
    choices = [score(text, f" {letter}", *clips) for text, clips in asked[:5] for letter in "ABCD"]
    return [value for value, _ in lm.loglikelihood(choices, disable_tqdm=True)]


def largest_difference(one, other):
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_scores_differ_by_the_rounding_of_their_sums_and_never_the_same_command(make, asked):
    first = scores_of(make(batch_size=1), asked)
    assert scores_of(make(batch_size=1), asked) == first
    # Float32 has 2**-24 of a value; a sum over some hundred states of values below 32 in another order
    # moves it by some 1e-5.
    assert largest_difference(scores_of(make(batch_size=8), asked), first) < 1e-4


def test_scores_in_bfloat16_differ_by_less_than_two_logits_are_apart(make, asked):
    first = scores_of(make(batch_size=1, dtype="bfloat16"), asked)
    other = scores_of(make(batch_size=8, dtype="bfloat16"), asked)
    # Bfloat16 has 8 bits of a value: two logits between 16 and 32 are 0.125 apart, or equal.
    assert largest_difference(first, other) < 0.125
