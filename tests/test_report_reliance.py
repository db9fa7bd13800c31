"""The audio-reliance profile as text, JSON and figure, published ones beside it. Its page: test_report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from ablated_answers import SCORES, answers

from mmaupro_ext.report import published
from mmaupro_ext.report.reliance import as_dict, points, render
from mmaupro_ext.report.reliance_chart import reliance_chart
from mmaupro_ext.scoring.answers import Answer
from mmaupro_ext.scoring.reliance import profile


@pytest.fixture(scope="module")
def found():
    return profile(answers())


def test_a_profile_fits_a_terminal_and_says_its_numbers(found):
    text = render(found)
    assert max(map(len, text.splitlines())) <= 80
    # 7 and 6 of twelve.
    assert re.search(r"none +12 +50\.0 +-8\.3 ", text)
    assert re.search(r"speech +4 +25\.0 +75\.0 +-50\.0 ", text)
    assert "No noise floor" in text


def test_a_name_too_long_for_the_terminal_is_cut(found):
    assert "instruction foll" in render(found)
    assert "instruction following" not in render(found)


def test_what_is_left_out_is_said():
    text = render(profile(answers(errored={("sound 0", "none")})))
    assert "none, not compared with full: 1 errored." in text
    gone = {("sound 0", "none"), ("sound 0", "text-backbone")}
    text = render(profile(answers(errored=gone)))
    assert "none, text-backbone, not compared with full: 1 errored." in text


def test_a_model_that_states_no_choice_has_that_said_and_no_number_that_is_none():
    orders = [(0, 1), (1, 0)]
    silent = [
        Answer("q", "sound", ("a",), name, variant, False, gold=order.index(0), order=order, lengths=(3, 4))
        for name, variant, order in (
            ("full", "", orders[0]), ("permute", "01", orders[0]), ("permute", "10", orders[1])
        )
    ]  # fmt: skip
    text = " ".join(render(profile(silent)).split())
    assert "full 100.0, permute 100.0" in text
    assert "nan" not in text
    assert "state no choice" not in render(profile(answers()))


def test_no_change_has_no_sign_of_a_loss():
    assert points(-0.0) == points(0.0) == points(-0.0001) == "+0.0"
    assert points(float("nan")) == "-"


def test_a_profile_is_plain_json(found):
    content = json.loads(json.dumps(as_dict(found), allow_nan=False))
    assert content["rows"][0]["name"] == "full"
    assert content["classes"]["by_chance"] is None


def test_the_figure_colours_what_listening_adds_and_takes(found):
    chart = reliance_chart("nano", found, list(SCORES))
    bars, marks, _, gains = (layer["data"]["values"] for layer in chart.spec["layer"])
    spans = {(bar["name"], bar["part"]): (bar["from"], bar["to"]) for bar in bars}
    assert spans["sound", "right without audio"] == (0.0, 25.0)
    assert spans["sound", "listening adds"] == (25.0, 100.0)
    assert spans["speech", "right without audio"] == (0.0, 25.0)
    assert spans["speech", "listening takes away"] == (25.0, 75.0)
    assert {(m["mark"], m["score"]) for m in marks if m["name"] == "sound"} == {
        ("text backbone", 50.0),
        ("chance", 25.0),
    }
    assert [row["name"] for row in gains] == [*SCORES, "overall"]
    # Twelve items that lose one in all: no interval of theirs is bold.
    assert not gains[-1]["sure"]


def test_no_figure_without_the_condition_none():
    assert reliance_chart("nano", profile(answers(["full"])), list(SCORES)) is None


# --- published beside it ------------------------------------------------------------------------------


def test_copied_counts_add_up_to_the_printed_totals_and_to_the_paper():
    counts = published.foo()
    by_condition = counts.overall.unstack()
    # The averages of the authors' table: 50.0, 36.0 and 29.5, of numbers rounded before.
    assert by_condition.mean().to_list() == pytest.approx([50.0, 36.05, 29.45], abs=0.05)
    assert by_condition.loc["Qwen2-Audio-7B"].round(1).to_list() == [44.8, 31.4, 28.2]
    table = pd.read_csv(Path(published.__file__).with_name("foo.csv"))
    categories = [name for name in published.COLUMNS.values() if name in table]
    assert (table[categories].sum(axis=1) == table.right).all()


def test_published_item_classes_are_whole():
    classes = published.foo_classes()
    parts = ["text_solves", "fragment_suffices", "several_segments", "audio_hurts", "unsolved"]
    # Each of the five was rounded to a tenth.
    assert classes[parts].sum(axis=1).to_list() == pytest.approx([100.0] * 3, abs=0.25)


def test_published_figures_stand_in_the_text_where_asked(found):
    text = render(found, beside_published=True)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"Audio Flamingo 3 +52\.7 +44\.1 +31\.2 +- +83\.7 +Foo et al\.", text)
    assert re.search(r"Qwen2\.5-Omni-7B +52\.2 +- +- +30\.6 +- +table 4", text)
    assert re.search(r"Gemma-3-4b-it +- +- +28\.9 +- +- +table 5", text)
