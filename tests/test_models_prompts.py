"""Prompts of audio models: every clip in its place, and the reader told what belongs together."""

import dataclasses
import subprocess
import sys

import pytest

from mmaupro_ext.models import blocks, windows
from mmaupro_ext.models.families import FAMILIES, find_family
from mmaupro_ext.models.windows import Recording


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    """Import what takes seconds when the first test runs, not when tests are collected."""
    global templates
    from mmaupro_ext.models.hf import templates


QWEN = FAMILIES["qwen2_audio"].writing
RATE = 16_000
BLOCK = "<|audio_bos|><|AUDIO|><|audio_eos|>"


def placed(prompt, recordings, writing=QWEN):
    """The prompt with its blocks written."""
    return windows.write(blocks.split_at_places(prompt, writing), recordings, writing)


def recordings(*counts, tracks=1):
    """Recordings of this many whole 30-second blocks."""
    return [
        Recording(
            n * 30 * RATE,
            RATE,
            tracks,
            tuple((i * 30 * RATE, (i + 1) * 30 * RATE) for i in range(n)),
        )
        for n in counts
    ]


def spread(seconds, *starts, tracks=1):
    spans = tuple((start * RATE, (start + 30) * RATE) for start in starts)
    return Recording(seconds * RATE, RATE, tracks, spans)


def test_a_short_clip_gets_its_numbered_block_and_not_a_word_more():
    written = placed("<audio>\nWhich animal?", recordings(1))
    assert written == f"Audio 1: {BLOCK}\nWhich animal?"


@pytest.mark.parametrize("between", ["", "\n"])
def test_marks_side_by_side_do_not_run_into_each_other(between):
    written = placed(f"<audio>{between}<audio>\nWhich?", recordings(1, 1))
    assert written == f"Audio 1: {BLOCK}\nAudio 2: {BLOCK}\nWhich?"


def test_a_mark_at_the_very_end_adds_no_line():
    assert placed("Listen: <audio>", recordings(1)) == f"Listen: Audio 1: {BLOCK}"


def test_a_long_clip_is_not_left_unexplained():
    written = placed("<audio>\nWhich animal?", recordings(3))
    assert written == (
        f"Audio 1: {BLOCK}\nAudio 2: {BLOCK}\nAudio 3: {BLOCK}\n"
        "The recording is Audio 1 to Audio 3, consecutive 30-second parts.\n"
        "Which animal?"
    )


def test_blocks_of_several_clips_are_not_mixed_up():
    written = placed("<audio>\n<audio>\nWhich is louder?", recordings(3, 1), QWEN)
    assert written.count(BLOCK) == 4
    assert written.endswith(
        f"\nAudio 4: {BLOCK}\nRecording 1 is Audio 1 to Audio 3, consecutive 30-second parts; "
        "recording 2 is Audio 4.\nWhich is louder?"
    )


def test_blocks_from_a_chat_template_are_renumbered_not_labelled_twice():
    rendered = f"<|im_start|>user\nAudio 1: {BLOCK}\nAudio 2: {BLOCK}\nWhich?<|im_end|>\n"
    written = placed(rendered, recordings(2, 1))
    assert written == (
        f"<|im_start|>user\nAudio 1: {BLOCK}\nAudio 2: {BLOCK}\nAudio 3: {BLOCK}\n"
        "Recording 1 is Audio 1 to Audio 2, consecutive 30-second parts; recording 2 is Audio 3.\n"
        "Which?<|im_end|>\n"
    )


def test_a_prompt_that_numbers_its_marks_itself_is_not_labelled_twice():
    written = placed("Audio 1: <audio>\nWhich?", recordings(1))
    assert written == f"Audio 1: {BLOCK}\nWhich?"


@pytest.mark.parametrize("counts", [[], [1, 1]])
def test_a_clip_without_a_place_is_refused_not_dropped(counts):
    with pytest.raises(ValueError, match="shorter than|longer than"):
        placed("<audio>\nWhich?", recordings(*counts))


def test_the_only_block_has_no_label_where_the_template_writes_none():
    quiet = dataclasses.replace(QWEN, label_alone=False)
    written = placed("<audio>\nWhich?", recordings(1), quiet)
    assert written == f"{BLOCK}\nWhich?"
    written = placed("<audio><audio>\nWhich?", recordings(1, 1), quiet)
    assert written == f"Audio 1: {BLOCK}\nAudio 2: {BLOCK}\nWhich?"


def test_what_is_left_out_is_said_with_its_times():
    written = placed("<audio>\nWhich?", [spread(600, 0, 285, 570)])
    assert written.endswith(
        "The recording is 10:00 long and given in part, Audio 1 from 0:00 to 0:30, Audio 2 from "
        "4:45 to 5:15, Audio 3 from 9:30 to 10:00.\nWhich?"
    )
    stereo = windows.block_sentence([spread(600, 0, 570, tracks=2)])
    assert stereo == (
        "The recording is stereo, 10:00 long and given in part, left channel Audio 1 from 0:00 to "
        "0:30, Audio 2 from 9:30 to 10:00 and right channel Audio 3 from 0:00 to 0:30, Audio 4 from "
        "9:30 to 10:00."
    )


def test_joined_clips_are_announced_and_keep_one_place():
    pieces = blocks.split_at_places("<audio><audio>\n<audio>\nWhich is louder?", QWEN)
    pieces = blocks.keep_first_place(pieces)
    assert pieces == ["", "\nWhich is louder?"]
    short = Recording(20 * RATE, RATE, 1, ((0, 20 * RATE),), joined=3)
    assert windows.write(pieces, [short], QWEN) == (
        f"Audio 1: {BLOCK}\n3 recordings are joined in their order, with 2 seconds of silence between "
        "them.\nWhich is louder?"
    )
    (cut,) = recordings(2)
    sentence = windows.block_sentence([dataclasses.replace(cut, joined=2)])
    assert sentence.endswith("; the whole is Audio 1 to Audio 2, consecutive 30-second parts.")


def test_text_between_joined_clips_is_kept():
    pieces = blocks.split_at_places("A: <audio> B: <audio>\nWhich?", QWEN)
    assert blocks.keep_first_place(pieces) == ["A: ", " B: \nWhich?"]


def test_typed_parts_keep_the_order_of_text_and_media():
    parts = templates.content_parts("Look <image> and hear\n<audio>\nWhich?", audio_end="\n")
    assert parts == [
        {"type": "text", "text": "Look "},
        {"type": "image"},
        {"type": "text", "text": " and hear\n"},
        {"type": "audio"},
        {"type": "text", "text": "Which?"},
    ]


def test_an_unknown_model_type_has_no_family():
    assert find_family("qwen2") is None
    assert find_family(None) is None


def test_what_is_known_of_families_and_windows_needs_no_framework():
    code = (
        "import sys, mmaupro_ext.models.families, mmaupro_ext.models.windows\n"
        "print([name for name in ('torch', 'transformers', 'lm_eval') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
