"""What a model is asked that reads unparsed replies, and what its answers mean."""

from __future__ import annotations

import pytest

from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.model_reader import ModelReading, parse_reading, reader_messages

DOC = {
    "id": "1",
    "category": "sound",
    "question": "What is poured? QUESTION",
    "choices": ["Milk", "Tea", "Coffee {hot}"],
    "answer": "Tea",
    "transcription": "SPOKEN",
    "audio_path": ["data/CLIP.wav"],
}


def test_the_model_sees_options_in_their_order_and_the_reply_and_nothing_else_of_the_item():
    system, user = reader_messages(DOC, "It is what the British drink. {0}")
    assert "(A) Milk\n(B) Tea\n(C) Coffee {hot}\n" in user
    assert "<reply>\nIt is what the British drink. {0}\n</reply>" in user
    for hidden in ("QUESTION", "SPOKEN", "CLIP"):
        assert hidden not in system + user
    # Whichever option is the reference answer, the same is asked.
    for answer in DOC["choices"]:
        other = {**DOC, "answer": answer}
        assert reader_messages(other, "It is what the British drink. {0}") == (system, user)


def test_only_the_final_answer_is_shown_and_a_cut_is_mentioned():
    thought = "<think>Perhaps milk.</think>Something hot"
    _, user = reader_messages(DOC, thought, "stop")
    assert "Perhaps milk" not in user
    assert "cut off" not in user
    assert "cut off" in reader_messages(DOC, thought, "length")[1]


@pytest.mark.parametrize("reply", ["", "  ", "<think>It may be", error_reply("no clip")])
def test_nothing_is_asked_where_nothing_was_answered(reply):
    assert reader_messages(DOC, reply) is None


def test_nothing_is_asked_where_options_have_no_letters():
    assert reader_messages({"choices": ["x"] * 27}, "something") is None


@pytest.mark.parametrize(
    ("text", "index", "status"),
    [
        ("B", 1, "read"),
        (" (c). ", 2, "read"),
        ("**A**", 0, "read"),
        ("Option B", 1, "read"),
        ("The answer is C.", 2, "read"),
        ("Answer: a", 0, "read"),
        ("<think>A or B? It says B.</think>B", 1, "read"),
        ("none", None, "none"),
        ("None.", None, "none"),
        ("*NONE*", None, "none"),
        ("The answer is none.", None, "none"),
        ("D", None, "unreadable"),
        ("B or C", None, "unreadable"),
        ("Tea", None, "unreadable"),
        ("The reply states B, but C is right", None, "unreadable"),
        ("none of these", None, "unreadable"),
        ("", None, "unreadable"),
        ("<think>B", None, "unreadable"),
        ("Ä", None, "unreadable"),
        ("\N{KELVIN SIGN}", None, "unreadable"),
        (error_reply("status 500"), None, "failed"),
    ],
)
def test_an_answer_is_a_letter_or_none_and_anything_else_is_unreadable(text, index, status):
    assert parse_reading(text, 3) == ModelReading(index, status)
