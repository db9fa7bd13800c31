"""`mmaupro data show`: the right item, what is heard of it, and a picture that tells the truth."""

from __future__ import annotations

import argparse
import json
import os
import re

import numpy as np
import pytest
import soundfile

import fullsize
from mmaupro_ext import data
from mmaupro_ext.commands import cli, data_show
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.report import item, item_figure, item_text

RATE = 16_000
HEARING = item.hearing_of("qwen2_audio")


def row(name, **changes):
    return {
        "id": name,
        "audio_path": [f"data/{name}.wav"],
        "question": "Which one costs $5 and $6?",
        "answer": "this",
        "choices": ["that", "this"],
        "length_type": "short",
        "category": "sound",
        **changes,
    }


def tone(seconds, hertz=1000.0, channels=1):
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return np.repeat(wave[:, None], channels, axis=1)


@pytest.fixture
def folder(tmp_path):
    """Items with a long clip, three clips (one missing), two channels, no matching answer."""
    rows = [
        row("aaaa-long"),
        row(
            "aabb-three", audio_path=["data/x.wav", "data/gone.wav", "data/z.wav"], category="multi"
        ),
        row("abbb-stereo", category="spatial_audio"),
        row("abcc-wrong", answer="neither"),
        row(
            "bbbb-rule",
            answer=None,
            choices=[],
            category="instruction following",
            task_identifier="Number Words (range)",
            kwargs={"N1": 3, "N2": 9},
        ),
        row("cccc-broken", choices=["this"]),
    ]
    fullsize.write(tmp_path, rows)
    for name, wave in {
        "aaaa-long": tone(65.0),
        "x": tone(1.0),
        "z": tone(2.0),
        "abbb-stereo": tone(1.0, channels=2),
        "abcc-wrong": tone(1.0),
        "bbbb-rule": tone(1.0),
    }.items():
        soundfile.write(tmp_path / "data" / f"{name}.wav", wave, RATE)
    return tmp_path


def run(*arguments):
    parser = argparse.ArgumentParser(prog="mmaupro data show")
    data_show.add_arguments(parser)
    return data_show.run(parser.parse_args(list(map(str, arguments))))


# --- finding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["aabb-three", "aabb", "AABB", "data/gone.wav", "z.wav", "gone"])
def test_an_item_is_found_by_id_beginning_or_clip(folder, wanted):
    assert item.find_item(wanted, folder)["id"] == "aabb-three"


def test_an_id_that_begins_another_id_is_not_ambiguous(tmp_path):
    fullsize.write(tmp_path, [row("ab"), row("abc"), row("x")])
    assert item.find_item("ab", tmp_path)["id"] == "ab"


def test_a_beginning_of_several_ids_lists_them(folder):
    with pytest.raises(ConfigError, match="fits 2 items") as error:
        item.find_item("aa", folder)
    assert "aaaa-long" in str(error.value)
    assert "aabb-three" in str(error.value)


def test_a_mistyped_id_gets_suggestions(folder):
    with pytest.raises(ConfigError, match="Did you mean\n  abbb-stereo"):
        item.find_item("abbx-stereo", folder)


@pytest.mark.parametrize("wanted", ["zzzz-unlike-anything", "", "  ", "../../etc"])
def test_an_id_like_no_other_shows_what_ids_look_like(folder, wanted):
    with pytest.raises(ConfigError, match="Ids look like\n  aaaa-long"):
        item.find_item(wanted, folder)


def test_an_id_of_the_sample_names_the_option_that_was_forgotten(folder):
    identifier = data.load_category("sound", sample=True)[0]["id"]
    with pytest.raises(ConfigError, match="add --sample"):
        item.find_item(identifier, folder)


# --- what is heard -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (None, [[0.0, 21.6667], [21.6667, 43.3333], [43.3333, 65.0]]),
        (65.0, [[0.0, 65.0]]),
        (64.9, [[0.0, 32.5], [32.5, 65.0]]),
        (30.0, [[0.0, 21.6667], [21.6667, 43.3333], [43.3333, 65.0]]),
    ],
)
def test_windows_are_equal_and_cover_the_clip(folder, longest, expected):
    hearing = item.hearing_of("qwen2_audio", longest)
    (clip,) = item.describe_clips(item.find_item("aaaa", folder), hearing)
    assert clip["windows"] == expected


@pytest.mark.parametrize("model", sorted(FAMILIES))
def test_every_family_is_shown_as_it_hears(folder, model):
    shown = item.show("aaaa", folder, model=model)
    writing = FAMILIES[model].writing
    assert shown.hearing.writing is writing
    windows = shown.clips[0]["windows"]
    whole = writing.whole_s is None or writing.whole_s >= 65
    assert len(windows) == 1 if whole else max(end - start for start, end in windows) <= 30


def test_an_unknown_model_is_refused_with_near_names(folder, capsys):
    assert run("aaaa", "--data-dir", folder, "--model", "qwen2_5_omi") == 2
    error = capsys.readouterr().err
    assert "qwen2_5_omni" in error
    assert "mmaupro models" in error


def test_text_says_what_is_heard_and_what_would_be_lost_without_windows(folder, capsys):
    assert run("aaaa", "--data-dir", folder) == 0
    text = capsys.readouterr().out
    assert "all 65.00 s in 3 windows of 21.67 s" in text
    assert "takes 30 s: without windows 35.00 s (54%) would be lost" in text
    assert "  * (B) this" in text
    assert "    (A) that" in text


def test_the_window_option_changes_the_windows(folder, capsys):
    run("aaaa", "--data-dir", folder, "--window", 60, "--json")
    clip = json.loads(capsys.readouterr().out)["clips"][0]
    assert clip["windows"] == [[0.0, 32.5], [32.5, 65.0]]


def test_a_clip_that_the_run_would_refuse_is_refused_here(folder, capsys):
    whole = (folder / "data" / "aaaa-long.wav").read_bytes()
    (folder / "data" / "aaaa-long.wav").write_bytes(whole[: len(whole) // 2])
    assert run("aaaa", "--data-dir", folder) == 1
    assert "the item is counted as errored" in capsys.readouterr().out


def test_a_pipe_is_not_opened(folder, capsys):
    (folder / "data" / "aaaa-long.wav").unlink()
    os.mkfifo(folder / "data" / "aaaa-long.wav")
    assert run("aaaa", "--data-dir", folder) == 1
    assert "a named pipe" in capsys.readouterr().out


def test_escapes_of_the_terminal_are_written_out(tmp_path, capsys):
    evil = "\x1b]0;title\x07 \x9b2J \u202eabc\r gone"
    fullsize.write(tmp_path, [row("evil", question=evil, choices=[evil, "this"])])
    soundfile.write(tmp_path / "data" / "evil.wav", tone(1.0), RATE)
    for options in ([], ["--json"]):
        run("evil", "--data-dir", tmp_path, *options)
        shown = capsys.readouterr().out
        assert not set(shown) & set("\x1b\x07\x9b\u202e\r")
    assert json.loads(shown)["item"]["question"] == evil
    run("evil", "--data-dir", tmp_path)
    assert r"\x1b]0;title\x07 \x9b2J \u202eabc" in capsys.readouterr().out


def test_lost_channels_are_said(folder, capsys):
    run("abbb", "--data-dir", folder)
    assert "its 2 channels become one" in capsys.readouterr().out


def test_a_missing_clip_is_named_and_the_others_are_shown(folder, capsys):
    assert run("aabb", "--data-dir", folder) == 1
    text = capsys.readouterr().out
    assert re.search(r"clip 2: .*gone\.wav", text)
    assert "clip 1: all 1.00 s" in text
    assert "clip 2: nothing; the item is counted as errored" in text
    assert "clip 3: all 2.00 s" in text


def test_an_answer_that_is_no_choice_is_said(folder, capsys):
    run("abcc", "--data-dir", folder)
    text = capsys.readouterr().out
    assert "NOT among the choices" in text
    assert "* (" not in text


def test_a_rule_is_shown_with_its_arguments(folder, capsys):
    run("bbbb", "--data-dir", folder)
    text = capsys.readouterr().out
    assert "Number Words (range)" in text
    assert "N1 = 3, N2 = 9" in text


def test_a_row_that_breaks_the_schema_is_shown_with_the_reason(folder, capsys):
    assert run("cccc", "--data-dir", folder) == 1
    assert "at least 2 choices" in capsys.readouterr().out
    assert run("cccc", "--data-dir", folder, "--figure", folder / "x.svg") == 2
    assert "no clip to draw" in capsys.readouterr().err


@pytest.mark.parametrize("window", ["0", "-3", "nan", "inf", "soon"])
def test_a_wrong_window_is_refused(window, capsys):
    with pytest.raises(SystemExit) as stop:
        run("x", "--sample", f"--window={window}")
    assert stop.value.code == 2
    assert "number of seconds" in capsys.readouterr().err


def test_every_item_of_the_sample_can_be_shown():
    for slug in data.CATEGORIES:
        for doc in data.load_category(slug, sample=True):
            shown = item.Item(doc, HEARING, item.describe_clips(doc, HEARING))
            text = item_text.render(shown)
            assert "cannot be used" not in text
            assert text.count("* (") == (doc["answer"] in doc["choices"])


# --- picture -----------------------------------------------------------------------------------


def drawn_texts(path):
    return re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text(encoding="utf-8"))


def test_the_picture_shows_question_answer_windows_and_axes(folder):
    target = folder / "long.svg"
    assert run("aaaa", "--data-dir", folder, "--figure", target) == 0
    texts = drawn_texts(target)
    assert "Which one costs $5 and $6?" in texts
    assert any("✓ (B) this" in text for text in texts)
    assert [text for text in texts if text.startswith("window ")] == [
        "window 1",
        "window 2",
        "window 3",
    ]
    assert "kHz (mel scale)" in texts
    assert any(text.startswith("clip 1: 65.00 s, 16 kHz, mono") for text in texts)


def test_a_clip_that_cannot_be_used_has_its_place_in_the_picture(folder):
    target = folder / "three.svg"
    assert run("aabb", "--data-dir", folder, "--figure", target) == 1
    texts = drawn_texts(target)
    assert "cannot be used" in texts
    assert [text for text in texts if text.startswith("clip ")][0].startswith("clip 1: 1.00 s")
    assert "clip 2" in texts


def test_every_channel_has_a_track_of_its_own(folder):
    target = folder / "stereo.svg"
    run("abbb", "--data-dir", folder, "--figure", target)
    texts = drawn_texts(target)
    assert {"(left)", "(right)"} <= set(texts)


def mel_image(wave, bounds):
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    item_figure._draw_mel(axis, wave.astype(np.float32), 0.0, bounds)
    item_figure._name_frequencies(axis)
    ticks = dict(
        zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True)
    )
    return [np.asarray(image.get_array()) for image in axis.images], ticks


@pytest.mark.parametrize(("hertz", "label"), [(500, "0.5"), (1000, "1"), (4000, "4")])
def test_a_tone_lies_at_its_frequency_on_the_axis(hertz, label):
    (level,), ticks = mel_image(tone(1.0, hertz)[:, 0], [[0.0, 1.0]])
    loudest = level[:, 20:-20].mean(axis=1).argmax() + 0.5
    assert abs(loudest - ticks[label]) <= 1.0
    assert level.max() == 0.0


def test_a_silent_window_is_dark_and_not_the_loudest_of_all():
    wave = np.concatenate([tone(30.0)[:, 0], np.zeros(30 * RATE)])
    (loud, silent), _ = mel_image(wave, [[0.0, 30.0], [30.0, 60.0]])
    assert loud.max() == 0.0
    assert (silent == item_figure.MEL_FLOOR_DB).all()


def test_a_short_window_shows_its_sound_and_not_the_silence_behind_it():
    (level,), _ = mel_image(tone(1.0)[:, 0], [[0.0, 1.0]])
    assert level.shape == (128, 100)


def test_the_envelope_keeps_a_single_click():
    channel = np.zeros(600 * RATE, np.float32)
    channel[123_456] = 0.9
    low, high = item_figure._envelope(channel)
    assert len(low) == len(high) == item_figure.WAVE_COLUMNS
    assert high.max() == np.float32(0.9)
    assert low.min() == 0.0
    assert high.argmax() == 123_456 * item_figure.WAVE_COLUMNS // len(channel)


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "show", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in ("mmaupro data show", "--figure", "--window", "exit status", "Nothing is played"):
        assert part in text
