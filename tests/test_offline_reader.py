"""`mmaupro score --reader`: unparsed replies are read by a model, and reported apart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType

import pytest
import tiny_chat
from chat_standin import StandIn, answer, without_proxy
from logged_runs import DOCS, LETTERS, edit, result_of, samples, score, scores_file, write_run

from mmaupro_ext import data
from mmaupro_ext.offline.logged_runs import read_runs
from mmaupro_ext.offline.rescoring import score_run
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring import presets

CLOSED = [doc for slug in DOCS for doc in DOCS[slug] if data.CATEGORIES[slug].kind == "closed"]
SOUND = DOCS["sound"]
VAGUE = "Well, that one, as one can hear"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    without_proxy(monkeypatch)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A run with all closed replies right but for the first five of sound, which are unparsed."""
    folder = write_run(tmp_path / "m")
    for number in range(5):
        vague = f"{VAGUE} {number}"
        edit(samples(folder, "sound"), lambda line, v=vague: line.update(resps=[[v]]), number)
    return folder


def gold(doc) -> str:
    return LETTERS[doc["choices"].index(doc["answer"])]


def other(doc) -> str:
    return LETTERS[(doc["choices"].index(doc["answer"]) + 1) % len(doc["choices"])]


def scripted(replies):
    """Answer by the number that a vague reply ends in."""

    def act(body):
        number = int(re.search(rf"{VAGUE} (\d)", body["messages"][-1]["content"])[1])
        found = replies[number]
        return found if isinstance(found, tuple) else answer(found)

    return act


GOOD = [gold(SOUND[0]), other(SOUND[1]), "none", "I believe that it is B or C", gold(SOUND[4])]


def arguments(folder, stand_in, cache):
    reader = ("--reader", stand_in.url, "--reader-model", "tiny", "--judge-cache", cache)
    return (folder, *reader, "--judge-tries", 1)


def test_strict_and_read_numbers_stand_side_by_side_with_the_share_read(folder, tmp_path, capsys):
    assert score(folder) == 0
    strict = result_of(folder)
    assert strict["reader"] is None
    items = tmp_path / "items.jsonl"
    with StandIn(scripted(GOOD)) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c"), "--items", items) == 0
        asked = [body for _, body in stand_in.requests]
    result = result_of(folder, "strict+reader=tiny")
    # The strict numbers are those of a run without a reader.
    for name, entry in strict["categories"].items():
        again = {k: v for k, v in result["categories"][name].items() if k != "read"}
        assert again == entry
    assert result["overall"]["weighted"] == strict["overall"]["weighted"]
    count = len(SOUND)
    read = result["categories"]["sound"]["read"]
    assert read == {
        "items": count, "unparsed": 5, "asked": 5,
        "read": 3, "none": 1, "unreadable": 1, "failed": 0,
        "share_read": pytest.approx(100 * 3 / count, abs=1e-4),
        "strict_score": pytest.approx(100 * (count - 5) / count, abs=1e-4),
        "score": pytest.approx(100 * (count - 3) / count, abs=1e-4),
    }  # fmt: skip
    assert result["categories"]["music"]["read"]["score"] == 100.0
    every = result["reader"]["read"]
    assert every["items"] == len(CLOSED)
    assert every["score"] == pytest.approx(100 * (len(CLOSED) - 3) / len(CLOSED), abs=1e-4)
    taking_part = result["overall"]["items"]
    gained = 100 * 2 / taking_part
    assert result["overall"]["read_score"] == pytest.approx(
        result["overall"]["weighted"] + gained, abs=1e-3
    )
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines()[-40:] if line.startswith("sound "))
    assert f"{100 * (count - 3) / count:.1f}" in row
    assert f"{100 * 3 / count:.1f} %" in row
    assert "3 read, 1 state no option, 1 answer(s) unreadable" in " ".join(shown.split())
    # What was asked: greedily, about the options and the reply, never about the answer.
    assert len(asked) == 5
    for body in asked:
        assert (body["temperature"], body["seed"]) == (0.0, 0)
        text = body["messages"][-1]["content"]
        doc = SOUND[int(re.search(rf"{VAGUE} (\d)", text)[1])]
        assert doc["question"] not in text
        options = "\n".join(f"({a}) {b}" for a, b in zip(LETTERS, doc["choices"], strict=False))
        assert options in text
    lines = {line["id"]: line for line in map(json.loads, items.read_text().splitlines())}
    first = lines[SOUND[0]["id"]]
    assert (first["score"], first["status"]) == (0.0, "unparsed")
    assert first["details"]["reader"]["stated"] == SOUND[0]["answer"]
    assert "reader" not in lines[SOUND[6]["id"]]["details"]


def test_a_second_run_asks_nothing_and_gives_the_same_bytes(folder, tmp_path):
    file = scores_file(folder, "strict+reader=tiny")
    with StandIn(scripted(GOOD)) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 0
        first = file.read_bytes()
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 0
        assert len(stand_in.requests) == 5
    assert file.read_bytes() == first


def test_a_failed_call_is_no_answer_and_is_asked_again(folder, tmp_path, capsys):
    script = [*GOOD[:4], (500, {}, b"oops")]
    with StandIn(scripted(script)) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 1
        read = result_of(folder, "strict+reader=tiny")["reader"]["read"]
        assert (read["read"], read["none"], read["failed"]) == (2, 1, 1)
        assert "1 call(s) failed" in " ".join(capsys.readouterr().out.split())
        before = len(stand_in.requests)
        script[4] = GOOD[4]
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 0
        assert len(stand_in.requests) == before + 1
    assert result_of(folder, "strict+reader=tiny")["reader"]["read"]["failed"] == 0


def test_only_unparsed_closed_replies_with_an_answer_are_shown(folder, tmp_path):
    file = samples(folder, "sound")
    for number, text in enumerate(["", "A and B", error_reply("no clip"), "<think>Perhaps"]):
        edit(file, lambda line, text=text: line.update(resps=[[text]]), number)
    with StandIn(scripted(GOOD)) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 0
        assert len(stand_in.requests) == 1
    read = result_of(folder, "strict+reader=tiny")["categories"]["sound"]["read"]
    assert (read["unparsed"], read["asked"], read["read"]) == (2, 1, 1)


def test_the_readers_key_goes_to_the_reader(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MMAUPRO_READER_KEY", "secret")
    monkeypatch.setenv("MMAUPRO_JUDGE_KEY", "other")
    with StandIn(scripted(GOOD)) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 0
        assert {h["Authorization"] for h in stand_in.headers} == {"Bearer secret"}


def test_messages_are_about_the_reader(folder, tmp_path, capsys):
    assert score(folder, "--reader", "tiny") == 2
    assert score(folder, "--reader", "http://localhost:9/v1") == 2
    with StandIn((401, {}, b"")) as stand_in:
        assert score(*arguments(folder, stand_in, tmp_path / "c")) == 2
    shown = capsys.readouterr().err
    assert "'tiny' names no reader" in shown
    assert "--reader-model NAME" in shown
    assert "MMAUPRO_READER_KEY" in shown
    assert "judge" not in shown


def test_presets_that_give_every_reply_a_choice_refuse_a_reader(folder, tmp_path, capsys):
    official = ("--preset", "official", "--embedder", "none")
    assert score(folder, *official, "--reader", "hf:x") == 2
    assert "--reader reads what strict reading leaves unparsed" in capsys.readouterr().err


def test_a_local_model_reads_too(folder, tmp_path, monkeypatch):
    model = tiny_chat.save(tmp_path / "model")
    from mmaupro_ext.offline import local_judge

    short = MappingProxyType({**local_judge.JUDGE_GENERATION, "max_new_tokens": 4})
    monkeypatch.setattr(local_judge, "JUDGE_GENERATION", short)
    device = ("--judge-device", "cpu", "--judge-dtype", "float32")
    reader = ("--reader", f"hf:{model}", "--judge-cache", tmp_path / "c")
    assert score(folder, *reader, *device) == 0
    name = f"strict+reader={model.name}"
    result = result_of(folder, name)
    read = result["reader"]["read"]
    assert result["reader"]["kind"] == "transformers"
    # Random weights write no letter; what matters is that none of it becomes an answer.
    assert (read["asked"], read["failed"]) == (5, 0)
    assert read["read"] + read["none"] + read["unreadable"] == 5
    first = scores_file(folder, name).read_bytes()

    def loaded(self):
        raise AssertionError("asked again")

    monkeypatch.setattr(local_judge.LocalJudge, "_load", loaded)
    assert score(folder, *reader, *device) == 0
    assert scores_file(folder, name).read_bytes() == first


def test_a_run_without_multiple_choice_needs_no_reader(folder):
    class Reader:
        name = "x"

        def identity(self):
            return {"model": self.name}

        def ask(self, prompts, keep):
            raise AssertionError("nothing to ask")

    run = read_runs([samples(folder, "open")])
    _, result = score_run(run, presets.resolve("strict"), reader=Reader())
    assert result["reader"] is None
