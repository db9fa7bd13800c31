"""The final answer of a reply: thoughts, tokens and run-ons go, plain text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaupro_ext import scoring
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import final_answer

THOUGHTS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<THINK>", "</THINK>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|><|begin_of_solution|>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<THINK><PLANNING>", "</PLANNING><CAPTION>c</CAPTION></THINK><RESPONSE>"),
    ("<THINK>", "<RESPONSE>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ("Here is my thought process:", "\nHere is my response:"),
    ("analysis", "assistantfinal"),
]
ENDS = ["</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<eos>"]


@pytest.mark.parametrize(("opened", "closed"), THOUGHTS)
def test_thought_is_dropped_and_an_unfinished_one_states_nothing(opened, closed):
    thought = "Tea. The answer is A.\nQuestion: which one?\nUser: A"
    assert final_answer(f"{opened}{thought}{closed}\n\nB, coffee. ") == "B, coffee. "
    for length in range(len(thought)):
        assert final_answer(opened + "W" + thought[:length], finish="length") is None


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("The prompt opened it.\nUser: A</think>\n\nB", "B"),
        ("<think>a <think> b</think> c</think>B", "B"),
        ("<think>the tag </reasoning> is no end</think>B", "B"),
        ("<think>a</think>\n<answer>\nB</answer>", "\nB"),
        ("<think>a <answer>A</answer> b <answer>B</answer>", "B"),
        ("Let me listen. <think>A?</think> B", "Let me listen.\n\n B"),
        ("B <think>or perhaps", "B"),
        ("<think></think>", ""),
        ("<think>a<|im_end|>\n<|im_start|>assistant\nB", None),
        ("analysis of the clip", "analysis of the clip"),
    ],
)
def test_odd_thoughts(reply, answer):
    assert final_answer(reply) == answer


@pytest.mark.parametrize("token", ENDS)
def test_end_of_turn_ends_the_answer(token):
    assert final_answer(f"B. \n{token}") == "B. \n"
    assert final_answer(f"B{token}\nThe answer is A.") == "B"
    assert final_answer(f"{token}B") == "B"


@pytest.mark.parametrize(
    "head",
    [
        "<|assistant|>",
        "<|im_start|>assistant\n",
        "<start_of_turn>model\n",
        "<s>",
        "<|begin_of_box|>",
    ]
    + ["<|start_header_id|>assistant<|end_header_id|>\n\n"],
)
def test_header_and_box_tokens_are_no_part_of_the_answer(head):
    assert final_answer(f"{head}B<|end_of_box|>") == "B"


@pytest.mark.parametrize(
    "next_turn",
    ["\n\nQuestion: Which?\nAnswer: A", "\n###\n\nQuestion 2: Which?", "\n**Question:** Which?"]
    + ["\nNext question: Which?", "\n\nUser: and now?", "\nHuman: and now?", "\nuser\nand now?"]
    + ["\n<|im_start|>user\nand now?", "\n### Instruction:\nWhich?", "\nassistant\nA"]
    + [" Question: Which?", "\nQ: Which?\nA: A", "<|user|>Which?", "\n问题：哪个？"],
)
def test_new_question_or_turn_ends_the_answer(next_turn):
    assert final_answer(f"It is (B).{next_turn}") == "It is (B)."


@pytest.mark.parametrize(
    "reply",
    ["", " ", "B", " B\n", "\n\n* one\n* two  \n", "<answer>B</answer>", "a < b > c", "<B>"]
    + ["Question: which is it?\nAnswer: B", "User: hello", "A question: what for?", "user", "***"]
    + ["My question is: why?\nThe users: many", "I think (thinking aloud) it is B.", "**** x ****"]
    + ["<<Title>>\n\nP.S. [address] {x} ```json\n{}\n```"],
)
def test_plain_text_comes_back_unchanged(reply):
    assert final_answer(reply) == final_answer(reply, finish="length") == reply


def test_error_states_nothing():
    assert final_answer(error_reply("no clip", fix="Answer: B")) is None
    assert final_answer("B", finish="error") is None
    assert "final_answer" in scoring.__all__


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="<[◁:#：", exclude_categories=["Cs"])))
def test_text_without_marks_comes_back_unchanged(reply):
    assert final_answer(reply) == reply or "\nuser" in reply or "analysis" in reply
