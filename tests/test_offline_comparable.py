"""What an official number rests on: shares of replies beside it, and when it compares with the paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from logged_runs import DOCS, edit, result_of, samples, score, write_run

from mmaupro_ext.offline import comparable, embedders
from mmaupro_ext.offline.logged_runs import read_runs
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.scorer import score as score_reply


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "m")


class Official:
    """Passes for the released evaluator's embedder; a text is near to itself alone."""

    name, label, official = "nvidia/NV-Embed-v2", "official: NV-Embed-v2", True

    def encode(self, texts):
        angles = np.array([int.from_bytes(text.encode()[:3].ljust(3), "big") for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def cut_tokens(self, texts):
        return [0] * len(texts)

    def details(self):
        return {"name": self.name, "label": self.label, "official": self.official}


@pytest.fixture
def _embedder(monkeypatch):
    monkeypatch.setattr(embedders, "load_embedder", lambda *names, **options: Official())


def shares(docs, replies, finishes):
    class Asked:
        def __init__(self, doc, reply, finish):
            self.doc, self.reply, self.finish = doc, reply, finish

    items = [Asked(*three) for three in zip(docs, replies, finishes, strict=True)]
    verdicts = [score_reply(item.doc, item.reply, finish=item.finish) for item in items]
    return comparable.reply_shares(list(zip(items, verdicts, strict=True)))


DOC = {"id": "1", "category": "sound", "choices": ["Tea", "Hot coffee"], "answer": "Tea"}


def test_a_letter_counts_as_bare_where_the_text_of_its_option_is_nowhere_in_the_reply():
    replies = [
        "B",
        "(B)",
        "The answer is B.",
        "B. hot  COFFEE",
        "Hot coffee",
        "no idea",
        "B\n",
        "Tea",
    ]
    found = shares([DOC] * 8, replies, [None] * 8)
    assert found == {"letter_only": 50.0, "unparsed": 12.5, "truncated": None}
    yes_or_no = {**DOC, "choices": ["Yes", "No"], "answer": "No"}
    replies = ["The answer is B, as we know.", "B. No", "B: no!", "(B)"]
    assert shares([yes_or_no] * 4, replies, [None] * 4)["letter_only"] == 50.0


def test_truncated_is_a_share_of_all_items_where_any_end_is_known():
    found = shares([DOC] * 4, ["Tea.", "Well, I", "B", "B"], ["stop", "length", None, "stop"])
    assert found == {"letter_only": 50.0, "unparsed": 25.0, "truncated": 25.0}
    assert comparable.reply_shares([]) == dict.fromkeys(comparable.SHARES)


@pytest.mark.usefixtures("_embedder")
def test_the_shares_stand_beside_each_official_number_and_a_letter_prompt_does_not_compare(
    folder, capsys
):
    file = samples(folder, "sound")
    edit(file, lambda line: line.update(resps=[["I am thinking"]], finish="length"))
    edit(file, lambda line: line.update(resps=[[line["doc"]["answer"]]], finish="stop"), line=1)
    assert score(folder, "--preset", "official") == 0
    result = result_of(folder, "official")
    sound = len(DOCS["sound"])
    assert result["categories"]["sound"]["shares"] == {
        "letter_only": pytest.approx(100 * (sound - 2) / sound, abs=1e-4),
        "unparsed": pytest.approx(100 / sound, abs=1e-4),
        "truncated": pytest.approx(100 / sound, abs=1e-4),
    }
    closed = result["closed"]
    assert closed["shares"]["letter_only"] == pytest.approx(
        100 * (closed["items"] - 2) / closed["items"], abs=1e-4
    )
    assert result["asks_for"] == "letter"
    assert result["comparable"] is False
    assert any("asked for a letter" in why for why in result["why"])
    shown = capsys.readouterr().out
    assert "NOT comparable with the paper's scores" in shown
    row = next(line for line in shown.splitlines() if line.startswith("sound "))
    assert f"{100 * (sound - 2) / sound:.1f} %" in row
    assert f"{100 / sound:.1f} %" in row
    overall = next(line for line in shown.splitlines() if line.startswith("overall"))
    assert f"{closed['shares']['letter_only']:.1f} %" in overall


@pytest.mark.usefixtures("_embedder")
def test_letters_put_in_their_place_are_named_as_a_deviation(folder, capsys):
    assert score(folder, "--preset", "official", "--set", "letters=on") == 0
    result = result_of(folder, "official+letters=on")
    assert result["label"] == "official+letters=on"
    assert result["comparable"] is False
    assert any(why.startswith("letters=on deviates") for why in result["why"])
    assert "letters=on deviates" in capsys.readouterr().out


def test_a_strict_result_is_no_comparison_either_and_does_not_talk_of_it(folder, capsys):
    assert score(folder) == 0
    assert result_of(folder)["comparable"] is False
    assert "letter only" not in capsys.readouterr().out


def test_only_the_released_setup_on_the_released_items_has_no_difference(folder):
    run = replace(read_runs([folder]), dataset="full", asks_for="text")
    official, embedder = presets.resolve("official"), Official().details()
    assert list(comparable.differences(run, official, embedder)) == []
    for change in ({"asks_for": "letter"}, {"dataset": "sample"}, {"deviations": ("a",)}):
        assert len(list(comparable.differences(replace(run, **change), official, embedder))) == 1
    for name, number in (("official+gold=casefold+letters=on", 2), ("nemo-skills", 1)):
        assert len(list(comparable.differences(run, presets.resolve(name), embedder))) == number
    (unscored,) = comparable.differences(run, official)
    assert "unscored" in unscored
    other = {**embedder, "official": False}
    assert len(list(comparable.differences(run, official, other, judge_is_official=False))) == 2


def test_a_letter_prompt_without_closed_items_is_no_difference(folder):
    run = read_runs([samples(folder, "open")], accept_changed=True)
    run = replace(run, dataset="full", deviations=())
    assert list(comparable.differences(run, presets.resolve("official"))) == []
