"""The released evaluator's matching: raw text, nearest choice, first of equals, nothing unsaid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext.offline.embedders import SentenceEmbedder
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.closed_official import OfficialMatch, match_official
from mmaupro_ext.scoring.errors import ScoringError


class Table:
    """Embeds each text as the angle that the table gives it, and counts what it is asked."""

    name = "table"
    label = "a table, not official"

    def __init__(self, degrees: dict[str, float]) -> None:
        self.degrees = degrees
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        angles = np.radians([self.degrees[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


DEGREES = {"tea": 0.0, "coffee": 90.0, "milk": 45.0, "": 80.0, "I cannot tell": 20.0, "B": 30.0}


def one(reply: str | None, choices: Sequence[str]) -> OfficialMatch:
    (match,) = match_official([reply], [choices], Table(DEGREES))
    return match


def test_nearest_choice_is_taken_with_its_scores() -> None:
    match = one("tea", ["milk", "coffee", "tea"])
    assert (match.index, match.choice, match.status) == (2, "tea", "matched")
    assert match.scores == pytest.approx((100 * math.cos(math.pi / 4), 0.0, 100.0), abs=1e-5)
    assert match.margin == pytest.approx(100 - 100 * math.cos(math.pi / 4), abs=1e-4)


@pytest.mark.parametrize(
    ("reply", "choice"), [("", "coffee"), ("I cannot tell", "tea"), (None, "coffee")]
)
def test_empty_reply_and_refusal_get_a_choice_as_in_the_release(reply, choice: str) -> None:
    assert one(reply, ["tea", "coffee"]).choice == choice


def test_nan_reply_counts_as_empty() -> None:
    assert one(float("nan"), ["tea", "coffee"]) == one("", ["tea", "coffee"])  # type: ignore[arg-type]


def test_letter_is_compared_with_the_texts_not_read() -> None:
    assert one("B", ["tea", "coffee"]).index == 0


def test_first_of_equals_wins() -> None:
    assert one("milk", ["coffee", "tea"]).index == 0
    assert one("milk", ["tea", "coffee"]).index == 0
    repeated = one("tea", ["coffee", "tea", "tea"])
    assert repeated.index == 1
    assert repeated.margin == pytest.approx(100, abs=1e-4)
    assert one("tea", ["tea", "tea"]).margin is None


def test_reply_reaches_the_embedder_raw() -> None:
    table = Table({" <think>x</think> **B**\n": 3, "tea ": 0, "Tea": 90})
    match_official([" <think>x</think> **B**\n"], [["tea ", "Tea"]], table)
    assert table.asked == [" <think>x</think> **B**\n", "tea ", "Tea"]


def test_each_text_is_embedded_once() -> None:
    table = Table(DEGREES)
    match_official(["tea", "", "tea"], [["tea", "milk"], ["milk", "coffee"], ["tea", ""]], table)
    assert sorted(table.asked) == ["", "coffee", "milk", "tea"]


def test_items_with_fewer_than_two_choices_are_dropped_by_name() -> None:
    table = Table(DEGREES)
    matches = match_official(["tea"] * 4, [["tea"], ["tea", "milk"], [], None], table)  # type: ignore[list-item]
    assert [match.status for match in matches] == ["dropped", "matched", "dropped", "dropped"]
    assert [match.choice for match in matches] == [None, "tea", None, None]


def test_item_that_could_not_be_served_gets_no_choice() -> None:
    table = Table(DEGREES)
    reply = error_reply("clip missing", file="x.wav")
    matches = match_official([reply, "tea"], [["tea", "milk"]] * 2, table)
    assert matches[0] == OfficialMatch(None, "errored")
    assert reply not in table.asked


def test_nothing_to_match_asks_for_nothing() -> None:
    table = Table({})
    assert match_official([], [], table) == []
    assert match_official(["x"], [["only"]], table) == [OfficialMatch(None, "dropped")]
    assert table.asked == []


@pytest.mark.parametrize(
    ("replies", "choices", "message"),
    [
        (["tea"], [], "1 replies but choices of 0 items"),
        ([3], [["tea", "milk"]], "reply 0 is int"),
        (["tea"], ["tea"], "choices of item 0"),
        (["tea", "tea"], [["tea", "milk"], ["tea", 3]], "choices of item 1"),
    ],
)
def test_bad_input_is_named(replies, choices, message: str) -> None:
    with pytest.raises(ScoringError, match=message):
        match_official(replies, choices, Table(DEGREES))


def test_the_margin_is_to_the_next_other_text() -> None:
    table = Table({"r": 45.0, "x": 0.0, "y": 90.004, "z": 60.0})
    near, far, alone = match_official(["r"] * 3, [["x", "y"], ["x", "z"], ["x", "x"]], table)
    assert near.margin is not None
    assert far.margin is not None
    # 100 x (cos 45.000 - cos 45.004 degrees) is 0.0049; 45 against 15 degrees is 25.9.
    assert near.margin == pytest.approx(0.0049, abs=2e-4)
    assert far.margin > 25
    assert alone.margin is None


# --- against the recipe, item by item, with a real (tiny, random) model --------------------------

WORDS = ["tea", "coffee", "milk", "dog", "cat", "rain", "the", "answer", "is", "a", "b", "twice"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder: Path = tmp_path_factory.mktemp("model")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(11)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        initializer_range=0.6,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return SentenceEmbedder(folder, device="cpu")


texts = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
items = st.lists(st.tuples(texts, st.lists(texts, min_size=2, max_size=6)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(drawn=items)
def test_choice_is_that_of_one_item_at_a_time(embedder: SentenceEmbedder, drawn) -> None:
    replies = [reply for reply, _ in drawn]
    choices = [own for _, own in drawn]
    matches = match_official(replies, choices, embedder)
    assert matches == match_official(replies, choices, embedder)
    for reply, own, match in zip(replies, choices, matches, strict=True):
        alone = np.concatenate([embedder.encode([text]) for text in (reply, *own)])
        scores = 100 * (alone[:1] @ alone[1:].T)[0]
        assert match.scores == pytest.approx(scores.tolist(), abs=1e-3)
        # Choices that are equal up to rounding may be decided either way.
        assert scores[match.index] >= scores.max() - 1e-4


def test_cut_replies_are_counted_and_named(embedder: SentenceEmbedder) -> None:
    replies = ["tea " * 100, "tea"]
    matches = match_official(replies, [["tea", "milk"]] * 2, embedder)
    assert [match.cut_tokens for match in matches] == [37, 0]
