"""What is special to Inkling: labels and explanations are messages, as its template makes of text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mmaupro_ext.models.items import Question


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global HFAudioLM
    from mmaupro_ext.models.hf.model import HFAudioLM


RATE = 16_000
AUDIO = re.escape("<|content_audio_input|><|unused_200053|><|audio_end|>")
MESSAGE = rf"<\|message_user\|>(?:<\|content_text\|>[^<]*|{AUDIO})<\|end_message\|>"


@pytest.mark.parametrize("seconds", [[2.0], [70.0], [2.0, 3.0], [70.0, 2.0]])
def test_a_prompt_is_whole_messages_of_one_kind_of_content(checkpoint_of, seconds):
    lm = HFAudioLM(checkpoint_of("inkling_mm_model"), device="cpu", long_audio="windows")
    clips = [
        {"array": np.zeros(round(RATE * length), np.float32), "sampling_rate": RATE}
        for length in seconds
    ]
    content = "Listen. " + "<audio>\n" * len(clips) + "Which?"
    chat = lm.apply_chat_template([{"role": "user", "content": content}])
    prompt = lm.prepare(Question(chat, {"audio": clips}))
    assert re.fullmatch(rf"(?:{MESSAGE})+<\|message_model\|>", prompt.text)
    blocks = sum(prompt.blocks)
    assert len(re.findall(r"Audio \d+:<", prompt.text)) == (blocks if blocks > 1 else 0)
    assert ("consecutive 23.3-second parts" in prompt.text) == (70.0 in seconds)
