"""`mmaupro data info`: the numbers against hand counts, and a picture that shows them."""

from __future__ import annotations

import argparse
import json
import re
import sys

import numpy as np
import pytest
import soundfile

import fullsize
from mmaupro_ext import data
from mmaupro_ext.commands import cli, data_info
from mmaupro_ext.data import info, verify


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("MMAUPRO_DATA", raising=False)


def row(name, answer="b", choices=("a", "b", "c"), **changes):
    return {
        "id": name,
        "audio_path": [f"data/{name}.wav"],
        "question": "Which?",
        "answer": answer,
        "choices": list(choices),
        "length_type": "short",
        "perceptual_skills": ["Prosody Detection"],
        "reasoning_skills": [],
        "category": "sound",
        "sub-cat": "birds",
        **changes,
    }


def run(*arguments):
    parser = argparse.ArgumentParser(prog="mmaupro data info")
    data_info.add_arguments(parser)
    return data_info.run(parser.parse_args(list(map(str, arguments))))


def as_docs(rows):
    return [data.normalise_row(raw, number) for number, raw in enumerate(rows)]


# --- what systems get that never listen --------------------------------------------------------


def test_blind_scores_are_those_counted_by_hand():
    docs = as_docs(
        [
            row("1", "a", ("a", "bbb")),  # A right, longest wrong, chance 1/2
            row("2", "bb", ("a", "bb", "c", "d")),  # B right, longest right, chance 1/4
            row("3", "bbbb", ("a", "bbbb", "c", "d")),  # B right, longest right, chance 1/4
            row("4", "nowhere", ("a", "b", "c", "d")),  # unanswerable, chance 1/4
        ]
    )
    sound, everything = info.answer_rows(docs)
    assert sound == {
        "category": "sound",
        "items": 4,
        "unanswerable": 1,
        "chance": pytest.approx((1 / 2 + 3 / 4) / 4),
        "always_first": 1 / 4,
        "best_letter": 2 / 4,
        "letter": "B",
        "longest_choice": 2 / 4,
        "positions": [1, 2, 0, 0],
    }
    assert everything == {**sound, "category": "all closed"}


def test_open_and_instruction_items_are_not_in_the_blind_scores():
    docs = as_docs([row("1"), row("2", category="open"), row("3", "x", ("x",), category="open")])
    assert [(r["category"], r["items"]) for r in info.answer_rows(docs)] == [
        ("sound", 1),
        ("all closed", 1),
    ]


def test_equally_good_letters_name_the_first_whatever_the_order():
    docs = as_docs([row("1", "c"), row("2", "b")])
    assert {info.answer_rows(order)[0]["letter"] for order in (docs, docs[::-1])} == {"B"}


def test_all_closed_is_over_items_and_not_over_categories():
    docs = as_docs([row(str(n), "a") for n in range(3)] + [row("x", "b", category="music")])
    assert info.answer_rows(docs)[-1]["always_first"] == 3 / 4


def test_a_row_that_breaks_the_schema_counts_as_wrong(tmp_path):
    fullsize.write(tmp_path, [row("good", "a"), row("also-good", "a"), row("broken", "a", ("a",))])
    (facts, _) = info.overview(tmp_path)["answers"]
    assert facts["items"] == 3
    assert facts["unanswerable"] == 1
    assert facts["always_first"] == pytest.approx(2 / 3)
    assert facts["chance"] == pytest.approx(2 / 3 / 3)


# --- counts ------------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path):
    """Five items, one of them with two clips; one clip is longer than its label says."""
    rows = [
        row("one"),
        row("two", audio_path=["data/two.wav", "data/two-b.wav"], category="multi"),
        row("long", length_type="short"),
        row("three", answer="x", choices=(), category="open", perceptual_skills=[]),
        row("four", perceptual_skills=["Prosody Detection", "Harmony Perception"]),
    ]
    fullsize.write(tmp_path, rows)
    for name, seconds, channels in (
        ("one", 1.0, 1),
        ("two", 2.0, 1),
        ("two-b", 3.0, 2),
        ("long", 31.0, 1),
        ("three", 1.5, 1),
        ("four", 0.5, 2),
    ):
        wave = np.random.default_rng(0).uniform(-0.1, 0.1, (round(8000 * seconds), channels))
        soundfile.write(tmp_path / "data" / f"{name}.wav", wave, 8000)
    return tmp_path


def test_counts_are_those_of_the_rows_and_of_the_manifest(measured):
    verify.verify(measured)
    facts = info.overview(measured)
    assert (facts["items"], facts["clips"], facts["measured_clips"]) == (5, 6, 6)
    assert facts["seconds"] == 39.0
    by_category = {r["category"]: r for r in facts["categories"]}
    assert by_category["multi"] == {
        "category": "multi",
        "kind": "closed",
        "items": 1,
        "clips": 2,
        "several_clips": 1,
        "measured_clips": 2,
        "seconds": 5.0,
    }
    assert facts["choices"] == [
        {"choices": 0, "closed": 0, "open": 1, "instruction": 0},
        {"choices": 3, "closed": 4, "open": 0, "instruction": 0},
    ]
    short = facts["lengths"][0]
    assert (short["length_type"], short["items"]) == ("short", 5)
    assert short["measured"] == {"short": 4, "medium": 1, "long": 0, "ultra-long": 0}
    assert facts["skills"] == [
        {"kind": "perceptual", "skill": "Prosody Detection", "items": 4},
        {"kind": "perceptual", "skill": "Harmony Perception", "items": 1},
    ]
    assert [(r["channels"], r["clips"]) for r in facts["formats"]] == [(1, 4), (2, 2)]
    assert facts["clip_seconds"]["multi"] == [2.0, 3.0]


def test_without_a_manifest_the_labels_stand_and_the_way_to_measure_is_named(measured):
    facts = info.overview(measured)
    assert facts["lengths"][0]["not_measured"] == 5
    text = info.render(facts)
    assert "6 clips were never measured: run `mmaupro data verify`" in text
    assert "unknown until `mmaupro data verify` has run once" in text


def test_the_stand_in_at_full_size_is_counted_as_stated(tmp_path):
    facts = info.overview(fullsize.write(tmp_path))
    assert {r["category"]: r["items"] for r in facts["categories"]} == {
        c.value: c.expected_count for c in data.CATEGORIES.values()
    }
    assert facts["answers"][-1]["items"] == 4593
    assert sum(r["several_clips"] for r in facts["categories"]) == 456


def test_the_sample_is_measured_without_a_verify_run():
    facts = info.overview(sample=True)
    assert facts["measured_clips"] == facts["clips"]
    assert sum(r["items"] for r in facts["categories"]) == facts["items"]


def test_long_lists_are_cut_and_say_so():
    facts = info.overview(sample=True)
    cut, whole = info.render(facts, 2), info.render(facts, None)
    assert re.search(r"\.\.\. and \d+ more \(--all shows them\)", cut)
    assert "more (--all" not in whole
    for skill in facts["skills"]:
        assert skill["skill"] in whole


def test_a_partial_download_says_so_in_table_and_picture(measured):
    from mmaupro_ext.data.selection import Selection, write_selection

    part = {"description": "category sound"}
    selection = Selection(frozenset({"one"}), 5, {"sound": 1}, "0" * 40, (part,), True)
    write_selection(measured, selection)
    assert "partial download: 1 of 5 items (category sound)" in info.render(info.overview(measured))
    target = measured / "part.svg"
    assert run("--data-dir", measured, "--figure", target) == 0
    assert "1 of 5 items (category sound)" in "\n".join(drawn_texts(target))


# --- the command and the picture ---------------------------------------------------------------


def test_json_is_the_overview(capsys):
    assert run("--sample", "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(info.overview(sample=True)))


def drawn_texts(path):
    """Return the texts of an SVG picture."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text(encoding="utf-8"))


def test_the_picture_shows_source_counts_categories_and_units(tmp_path):
    target = tmp_path / "sample.svg"
    assert run("--sample", "--figure", target) == 0
    texts = drawn_texts(target)
    joined = "\n".join(texts)
    facts = info.overview(sample=True)
    assert f"MMAU-Pro, embedded sample: {facts['items']} items, {facts['clips']} clips" in joined
    assert "Source: test.parquet and manifest.json of the embedded sample" in joined
    for category in facts["categories"]:
        assert category["category"] in texts
        assert any(text.startswith(f"{category['items']}  (") for text in texts)
    assert "sampling rate of the files (kHz)" in texts
    assert any("measured seconds per clip" in text for text in texts)
    assert any(text.startswith("accuracy (%)") for text in texts)


def test_the_picture_without_a_manifest_shows_labels(tmp_path):
    folder = fullsize.write(tmp_path / "full")
    target = tmp_path / "full.svg"
    assert run("--data-dir", folder, "--figure", target) == 0
    joined = "\n".join(drawn_texts(target))
    assert "MMAU-Pro: 5,305 items, 5,787 clips" in joined
    assert "by the label length_type" in joined


def test_a_png_is_a_picture_with_something_on_it(tmp_path):
    from matplotlib.image import imread

    target = tmp_path / "sample.png"
    assert run("--sample", "--figure", target) == 0
    pixels = imread(target)[..., :3]
    assert 0.02 < (pixels.min(axis=2) < 0.9).mean() < 0.6


def test_without_matplotlib_the_message_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run("--sample") == 0
    assert run("--sample", "--figure", tmp_path / "a.png") == 2
    assert "pip install 'mmaupro-ext[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"), [("a.bmp", ".png, .pdf, .svg"), ("no/where/a.png", "there is no folder")]
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    tmp_path, monkeypatch, capsys, name, message
):
    monkeypatch.setattr(info, "overview", lambda *_: pytest.fail("work was done"))
    assert run("--sample", "--figure", tmp_path / name) == 2
    assert message in capsys.readouterr().err


def test_no_dataset_is_an_error_with_the_way_to_it(tmp_path, capsys):
    assert run("--data-dir", tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "info", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in ("mmaupro data info --sample", "--figure", "mmaupro-ext[plot]", "never listens"):
        assert part in text
