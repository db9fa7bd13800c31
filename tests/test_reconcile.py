"""`mmaupro reconcile`: what a cell is over, what a difference is made of, files of replies from elsewhere."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from chat_standin import StandIn, answer, without_proxy
from logged_runs import DOCS, edit, good_reply, samples, write_run

import reconcile_page
from mmaupro_ext.benchmarks.faults import known_faults
from mmaupro_ext.commands import cli
from mmaupro_ext.commands import reconcile as command
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import embedders
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run, read_runs
from mmaupro_ext.offline.plain_replies import read_plain
from mmaupro_ext.offline.reconciled import DENOMINATORS, Cell, reconcile
from mmaupro_ext.offline.rescoring import nearest_choices, score_run
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import reconciliation
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.intervals import clustered_interval
from mmaupro_ext.scoring.paired import contrast, difference_of_means
from mmaupro_ext.scoring.published_rules import RULES
from mmaupro_ext.scoring.scorer import score

DRINKS = ["Tea", "Coffee", "Milk", "Water"]
# Of each way in which rules differ: read by all, by text alone, by none, cut off by MMSU, empty, not served.
REPLIES = [
    *("B", "B.", "coffee", "Coffee", "The answer is B", "The answer is B.", "**B**", "b"),
    *("A", "C", "I cannot tell", "", "Because of the hiss, milk", "A or B", "answer: because"),
]


def command_line(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def made(replies, choices=DRINKS, gold="Coffee", clips=None, **more) -> Run:
    category = "sound"
    items = [
        Item(
            {"id": f"r{n:02}", "category": category, "choices": choices, "answer": gold}
            | {"question": "?", "audio_path": []},
            reply,
            clips=() if clips is None else (clips[n],),
        )
        for n, reply in enumerate(replies)
    ]
    return Run("made", more.pop("dataset", "own"), tuple(items), (), (), **more)


@pytest.fixture(scope="module")
def found():
    return reconcile(made([*REPLIES, error_reply("no clip")]))


# --- cells ---------------------------------------------------------------------------------------


def test_an_error_that_counts_as_an_answer(found):
    for rule in found.outcomes:
        last = found.outcomes[rule][-1]
        assert (last.how, last.score, last.variance) == ("errored", None, 0.0), rule
        assert not found.counted(Cell(rule, "released"))[-1]
        assert not found.counted(Cell(rule, "served"))[-1]
        everything, served = (found.interval(Cell(rule, name)) for name in ("all", "served"))
        assert everything.items == served.items + 1
        assert everything.mean * everything.items == pytest.approx(served.mean * served.items)


def test_a_column_with_two_denominators(found):
    for denominator in ("all", "served", "parsed"):
        assert len({found.interval(Cell(rule, denominator)).items for rule in found.outcomes}) == 1
    kept = {rule: found.interval(Cell(rule, "released")).items for rule in found.outcomes}
    assert kept["strict"] == kept["lmms-mmau"] == len(REPLIES)
    assert kept["air-bench"] == kept["first-letter"] - 1 < len(REPLIES)
    shown = reconciliation.render(found, [])
    for rule in ("first-letter", "air-bench"):
        assert f"{rule} {kept[rule]}" in " ".join(shown.split())


def test_a_dropped_reply_is_right_where_it_is_counted_again(found):
    dropped = found.outcomes["first-letter"][REPLIES.index("**B**")]
    assert dropped.score is None
    released, served = (found.interval(Cell("first-letter", n)) for n in ("released", "served"))
    assert released.mean * released.items == pytest.approx(served.mean * served.items)


def test_a_guess_whose_draw_is_not_in_the_interval():
    guesses = reconcile(made(["?"] * 200))
    interval = guesses.interval(Cell("lmms-mmau", "all"))
    # All expectations are alike, so that all the spread there is comes from the draws.
    assert interval.mean == 0.25
    assert interval.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 200))
    fixed = guesses.interval(Cell("evalscope", "all"))
    assert fixed.standard_error == 0.0
    assert (interval.low, interval.high) == pytest.approx(
        (
            clustered_interval([1.0] * 50 + [0.0] * 150, range(200)).low,
            clustered_interval([1.0] * 50 + [0.0] * 150, range(200)).high,
        ),
        abs=0.01,  # a variance that was estimated against one that is known
    )


def test_items_of_one_clip_count_as_independent():
    alone = reconcile(made(["B", "C"] * 20))
    shared = reconcile(made(["B", "C"] * 20, clips=[str(n % 2) for n in range(40)]))
    narrow, wide = (f.interval(Cell("strict", "all")) for f in (alone, shared))
    assert wide.standard_error > 3 * narrow.standard_error


def test_strict_is_another_number_than_the_runs_own(tmp_path):
    run = read_runs([write_run(tmp_path / "m", reply=lambda doc: good_reply(doc)[:9])])
    of_score = [
        score(item.doc, item.reply, finish=item.finish).score
        for item in run.items
        if item.kind == "closed"
    ]
    found = reconcile(run)
    assert [outcome.score for outcome in found.outcomes["strict"]] == of_score
    assert found.elsewhere == len(run.items) - len(of_score) > 0


def test_faulty_items_are_in_the_audited_column():
    faulty = next(iter(known_faults("mmau").codes))
    run = made(["B", "C", "B"], dataset="full", name="mmau")
    docs = [{**item.doc, "benchmark": "mmau"} for item in run.items]
    docs[1]["id"] = faulty
    items = tuple(Item(doc, item.reply) for doc, item in zip(docs, run.items, strict=True))
    found = reconcile(Run("m", "full", items, (), (), name="mmau"))
    assert found.interval(Cell("strict", "audited")).items == 2
    assert found.interval(Cell("strict", "audited")).mean == 1.0
    assert "audited" in reconciliation.render(found, [])


def test_a_denominator_that_nobody_knows_is_printed_as_a_number(found):
    assert "audited" not in found.denominators
    assert "audited: not computed" in reconciliation.render(found, [])


# --- rules that need a model ---------------------------------------------------------------------


def test_a_rule_without_its_model_is_printed_as_a_number(found):
    for name in ("official", "nemo-skills", "model-read"):
        assert name not in found.outcomes
        row = next(r for r in reconciliation.render(found, []).splitlines() if r.startswith(name))
        assert re.fullmatch(rf"{name} +not computed( +-)+", row)
        assert reconciliation.as_dict(found, [])["rules"][name]["cells"] is None
        with pytest.raises(ConfigError, match="not computed: no (embedder|reader) was named"):
            found.cell(name)


class Lengths:
    name, label = "org/lengths", "not the released embedder: org/lengths"

    def encode(self, texts):
        angles = np.array([len(text) for text in texts]) / 100
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def cut_tokens(self, texts):
        return [0] * len(texts)

    def details(self):
        return {"name": self.name, "label": self.label, "official": False}


def test_official_is_another_number_than_that_of_score(tmp_path, monkeypatch, capsys):
    folder = write_run(tmp_path / "m", reply=lambda doc: good_reply(doc)[:4])
    run = read_runs([folder])
    closed = tuple(item for item in run.items if item.kind == "closed")
    for preset in ("official", "nemo-skills"):
        chosen = presets.resolve(preset)
        nearest = nearest_choices(closed, chosen, Lengths())
        wanted = [
            score(item.doc, item.reply, chosen, nearest=nearest[position]).score
            for position, item in enumerate(closed)
        ]
        outcomes = reconcile(run, embedder=Lengths()).outcomes[preset]
        assert [outcome.score for outcome in outcomes] == wanted
        assert 0 < sum(wanted) < len(wanted)
    monkeypatch.setattr(embedders, "load_embedder", lambda *names, **options: Lengths())
    assert command_line(folder, "--embedder", "org/lengths") == 0
    shown = capsys.readouterr().out
    assert "official, nemo-skills: not the released embedder: org/lengths: no number" in shown
    assert (
        "muchomusic/released" in shown.split("official/released")[-1]
        or "official/released" in shown
    )


def test_an_empty_reply_is_right_under_nemo_skills():
    found = reconcile(made(["", "coffee?"]), embedder=Lengths())
    assert found.outcomes["nemo-skills"][0].how == "none"
    assert found.outcomes["official"][0].how == "nearest"


def test_a_reader_that_fails_is_silent(tmp_path, monkeypatch, capsys):
    without_proxy(monkeypatch)
    lines = [
        {"id": str(n), "reply": reply, "choices": DRINKS, "answer": "Coffee"}
        for n, reply in enumerate(["Well, the black one", "Well, that other one", "B"])
    ]
    file = tmp_path / "replies.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def act(body):
        return answer("B") if "black" in body["messages"][-1]["content"] else (500, {"error": "x"})

    with StandIn(act) as stand_in:
        reader = ("--reader", stand_in.url, "--reader-model", "tiny", "--judge-tries", 1)
        status = command_line(file, *reader, "--judge-cache", tmp_path / "cache")
    shown = capsys.readouterr().out
    assert status == 1
    assert "WARNING: the reader gave no answer on 1 replies" in shown
    assert re.search(r"model-read +66\.7", shown)
    assert "model-read is told a choice by the reader" in " ".join(shown.split())


def test_the_official_rule_of_mmau_is_asked_for_an_embedder():
    run = made(["B", "coffee"])
    items = tuple(Item({**i.doc, "benchmark": "mmau"}, i.reply) for i in run.items)
    found = reconcile(Run("m", "full", items, (), (), name="mmau"))
    assert found.official == "token-sets"
    assert {"official", "nemo-skills"}.isdisjoint(found.rules)
    assert found.cell("official/released") == Cell("token-sets", "released")
    bases = {str(pair.first) for pair in found.usual_pairs()}
    assert bases == {"strict/all", "token-sets/released"}


def test_an_item_that_was_asked_several_times_gets_the_choice_of_another_reply():
    run = made(["tea?", "coffee!!"], choices=["Tea!", "Coffee??"], gold="Tea!")
    half = {"name": "fragments", "replaced": {}}
    items = tuple(
        Item({**item.doc, "id": "a", "condition": {**half, "variant": variant}}, item.reply)
        for variant, item in zip(("1/2", "2/2"), run.items, strict=True)
    )
    ablated = Run("m", "full", items, (), (), condition="fragments")
    found = reconcile(ablated, embedder=Lengths())
    assert [outcome.score for outcome in found.outcomes["official"]] == [1.0, 0.0]
    verdicts, _ = score_run(ablated, presets.resolve("official"), embedder=Lengths())
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0]
    shown = " ".join(reconciliation.render(found, found.usual_pairs()).split())
    assert "WARNING: under the condition fragments" in shown
    assert "a 2/2" in shown


# --- pairs ---------------------------------------------------------------------------------------


def test_a_difference_that_its_items_do_not_add_up_to(found):
    cells = [Cell(r, d) for r in found.outcomes for d in found.denominators]
    ids = [item.id for item in found.run.items]
    for first, second in itertools.product(cells, cells):
        pair = found.pair(first, second)
        one, two = (found.interval(cell).mean for cell in (first, second))
        assert pair.difference == pytest.approx(two - one, abs=1e-12)
        assert pair.reading + pair.counting == pytest.approx(pair.difference, abs=1e-12)
        assert math.fsum(g.points for g in pair.groups) == pytest.approx(pair.reading, abs=1e-12)
        told = sorted(name for g in pair.groups for name in (*g.higher, *g.lower))
        scores = [[o.score or 0.0 for o in found.outcomes[cell.rule]] for cell in (first, second)]
        here = found.counted(first)
        differing = [
            name for name, a, b, counts in zip(ids, *scores, here, strict=True) if counts and a != b
        ]
        assert told == differing
        moved = [a != b for a, b in zip(here, found.counted(second), strict=True)]
        assert sorted((*pair.left, *pair.joined)) == list(itertools.compress(ids, moved))
        assert pair.low <= pair.difference <= pair.high


def test_the_interval_of_a_difference_is_not_that_of_paired_scores():
    rng = np.random.default_rng(0)
    one, two = rng.integers(0, 2, (2, 60)).astype(float)
    clusters = (np.arange(60) // 3).tolist()
    wanted = contrast(one, two, clusters)
    found = difference_of_means(one, two, clusters)
    # The same sums in another order.
    assert found == pytest.approx((wanted.difference, wanted.low, wanted.high), abs=1e-12)
    _, low, high = difference_of_means(one, two, clusters, drawn=0.01)
    assert low < wanted.low
    assert high > wanted.high
    assert all(map(math.isnan, difference_of_means([1.0, 0.0], [1.0, None], [0, 0])[1:]))
    with pytest.raises(ScoringError, match="no item counts"):
        difference_of_means([1.0], [None], [0])


def test_a_rule_that_draws_once_is_drawn_twice_for_two_denominators():
    guesses = reconcile(made(["?"] * 50 + [error_reply("no clip")]))
    same = guesses.pair(Cell("lmms-mmau", "all"), Cell("lmms-mmau", "served"))
    other = guesses.pair(Cell("lmms-mmau", "all"), Cell("voicebench", "served"))
    assert same.difference == pytest.approx(other.difference)
    assert same.high - same.low < other.high - other.low


def test_an_interval_that_misses_what_a_run_of_the_released_code_prints():
    """Draw replies, half of them unread, and the guesses of a run: 95 of 100 hold the true difference."""
    rng = np.random.default_rng(1)
    held, held_without = 0, 0
    for _ in range(200):
        unread = rng.random(60) < 0.5
        strict = np.where(unread, 0.0, rng.random(60) < 0.7)
        expected, drawn = (
            np.where(unread, guess, strict) for guess in (0.25, rng.random(60) < 0.25)
        )
        # The truth is 0.5 x 0.25; a run prints it with the error of its draws.
        off = abs(drawn.mean() - strict.mean() - 0.125)
        variance = unread.sum() * 0.25 * 0.75 / 60**2
        _, low, high = difference_of_means(strict, expected, range(60), drawn=variance)
        _, less_low, less_high = difference_of_means(strict, expected, range(60))
        held += off <= (high - low) / 2
        held_without += off <= (less_high - less_low) / 2
    # 190 are expected; fewer than 182 come about once in a hundred times where 95 % hold.
    assert held >= 182 > held_without


def test_a_sentence_without_the_items_that_explain_it(found):
    pair = found.named_pair("strict", "first-letter/released")
    head, *parts = reconciliation.sentences(pair)
    assert head.startswith("first-letter/released gives ")
    assert "over 9 and 16 items" in head
    assert any("leaves the item out and strict takes a letter" in part for part in parts)
    assert "from what is counted: first-letter/released leaves out 7 items" in parts[-1]
    assert reconciliation.sentences(found.pair(pair.first, pair.first)) == [
        f"strict/all is strict/all on each of the 16 items: {100 * pair.means[0]:.1f}."
    ]


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("strict", "lmms"), "lmms"),
        (("strict", "lmms-mmau/rest"), "rest"),
        (("strict", "official"), "official is not computed: no embedder"),
        (("strict/audited", "strict"), "audited is not computed"),
        (("strict/parsed", "strict"), "strict/parsed is over no items"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_left_out_without_a_word(pair, message):
    with pytest.raises(ConfigError, match=message):
        reconcile(made(["?", ""])).named_pair(*pair)


def test_a_table_wider_than_a_terminal(found):
    run = made(["B"] * 7, dataset="full", name="mmau")
    items = tuple(Item({**i.doc, "benchmark": "mmau"}, i.reply) for i in run.items)
    wide = reconcile(Run("m" * 70, "full", items, (), (), name="mmau"))
    assert len(wide.denominators) == len(DENOMINATORS)
    for one in (found, wide):
        lines = reconciliation.render(one, one.usual_pairs()).splitlines()
        assert max(map(len, lines)) <= 80


def test_a_run_without_a_question_that_these_rules_read(tmp_path):
    with pytest.raises(ConfigError, match="no multiple-choice item with a known answer"):
        reconcile(read_runs([write_run(tmp_path / "m", slugs=("open",))]))


# --- files from elsewhere ------------------------------------------------------------------------

OWN = {"choices": DRINKS, "answer": "Coffee"}


def test_csv_and_json_lines_say_different_things(tmp_path):
    rows = [
        {"id": "a", "reply": 'B, "perhaps"\nnot', **OWN},
        {"id": "b", "reply": "", **OWN},
        {"id": "c", "error": "timeout", **OWN},
    ]
    lines, table = tmp_path / "replies.jsonl", tmp_path / "replies.csv"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    choices = json.dumps(DRINKS).replace('"', '""')
    table.write_text(
        "\ufeffid,reply,error,choices,answer\n"
        f'a,"B, ""perhaps""\nnot",,"{choices}",Coffee\n'
        f'b,,,"{choices}",Coffee\nc,,timeout,"{choices}",Coffee\n',
        encoding="utf-8",
    )
    one, two = read_plain(lines), read_plain(table)
    assert [(i.id, i.reply, i.doc) for i in one.items] == [
        (i.id, i.reply, i.doc) for i in two.items
    ]
    assert [o.how for o in reconcile(two).outcomes["strict"]] == ["letter", "none", "errored"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", "", "holds no replies"),
        ("r.jsonl", '{"id": "a"', "line 1: not JSON"),
        ("r.jsonl", "[1]", "line 1: not an object"),
        ("r.jsonl", '\n{"reply": "B"}', "line 2: no id"),
        (
            "r.jsonl",
            '{"id": "a", "reply": null, "choices": ["x"], "answer": "x"}',
            '"error": "timeout"',
        ),
        (
            "r.jsonl",
            '{"id": "a", "reply": "B", "error": "x", "choices": ["x"], "answer": "x"}',
            "both a reply and an error",
        ),
        (
            "r.jsonl",
            '{"id": "a", "reply": "B", "choices": "x", "answer": "x"}',
            "not a list of texts",
        ),
        ("r.jsonl", '{"id": "a", "reply": "B", "choices": ["x"]}', "the answer None"),
        (
            "r.jsonl",
            '{"id": "a", "reply": "B", "choices": ["x"], "answer": "x"}\n{"id": "b", "reply": "B"}',
            "line 2: no choices, but .*line 1 has",
        ),
        (
            "r.jsonl",
            '{"id": "a", "reply": "B", "choices": ["x"], "answer": "x"}\n'
            '{"id": "a", "reply": "C", "choices": ["x"], "answer": "x"}',
            "line 2: id a is there twice, first in .*line 1",
        ),
        ("r.jsonl", '{"id": "a", "reply": "B"}', "'a' is no id of MMAU-Pro .its sample."),
        ("r.csv", "id,reply\na,B,C\n", "line 2: not as many cells"),
        ("r.csv", "id,reply\na\n", "line 2: not as many cells"),
        ("r.csv", 'id,reply,choices,answer\na,B,"[",x\n', "choices are not JSON"),
        ("r.csv", 'id,reply\na,"B" C\n', "not CSV"),
        (
            "r.jsonl",
            '{"id": "a", "reply": "B", "choices": ["Tea", "Coffee"], "answer": "B"}',
            "the text of the right choice, not its letter",
        ),
    ],
)
def test_a_file_that_is_not_what_it_should_be_loses_a_reply(tmp_path, name, content, message):
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(ScoringError, match=message):
        read_plain(file, sample=True)


@pytest.mark.parametrize("command", ["reconcile", "score", "compare"])
def test_a_list_of_replies_in_one_json_is_told_which_form_is_read(command, tmp_path, capsys):
    file = tmp_path / "replies.json"
    file.write_text('[{"id": "a", "reply": "B"}]')
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, *[str(file)] * (1 + (command == "compare"))])
    assert (
        "for `mmaupro reconcile`, as .jsonl (an object a line) or .csv" in capsys.readouterr().err
    )


def test_an_item_that_cannot_be_right_lowers_every_cell_without_a_word():
    right, impossible = made(["Coffee"]), made(["Coffee", "Coffee"], gold="Cocoa")
    run = replace(right, items=(right.items[0], impossible.items[1]))
    lines = [
        line for line in reconciliation.notes(reconcile(run)) if "not among the choices" in line
    ]
    assert lines[0].startswith("WARNING: 1 item whose answer is not among the choices (r01)")
    assert reconciliation.as_dict(reconcile(run), [])["unanswerable"] == ["r01"]
    assert not any(
        "not among the choices" in line for line in reconciliation.notes(reconcile(right))
    )


def test_questions_without_a_reply_are_forgotten(tmp_path, capsys):
    closed = [doc for docs in DOCS.values() for doc in docs if len(doc["choices"]) > 1]
    file = tmp_path / "mine.jsonl"

    def write(docs):
        file.write_text("".join(json.dumps({"id": d["id"], "reply": "A"}) + "\n" for d in docs))

    write(closed)
    assert len(read_plain(file, sample=True).items) == len(closed)
    write(closed[1:])
    with pytest.raises(ScoringError, match=rf"1 of {len(closed)} questions have no reply \(say"):
        read_plain(file, sample=True)
    assert command_line(file, "--sample", "--accept-changed", "--format", "markdown") == 0
    assert f"Not all of it: 1 of {len(closed)} questions have no reply" in capsys.readouterr().out


def test_a_file_beside_a_run_is_mixed_into_it(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_text("{}")
    with pytest.raises(ConfigError, match="stands by itself"):
        command_line(file, tmp_path)


# --- the command ---------------------------------------------------------------------------------


def test_json_without_the_ids_behind_a_difference(tmp_path, capsys):
    folder = write_run(tmp_path / "m")
    edit(samples(folder, "sound"), lambda line: line.update(resps=[["I cannot tell"]]))
    assert command_line(folder, "--format", "json", "--pair", "strict", "lmms-mmau") == 0
    (content,) = json.loads(capsys.readouterr().out)
    (pair,) = content["pairs"]
    guessed = [group for group in pair["groups"] if group["second"] == "guess"]
    assert DOCS["sound"][0]["id"] in [name for group in guessed for name in group["higher"]]
    assert set(content["rules"]) == set(RULES)
    cell = content["rules"]["strict"]["cells"]["all"]
    assert cell["items"] == content["items"]
    assert cell["low"] < cell["mean"] < cell["high"]


@pytest.mark.parametrize(
    ("name", "message"), [("m.bmp", "png, .svg, .html"), ("no/m.png", "there is no folder")]
)
def test_a_figure_that_cannot_be_drawn_is_found_out_after_the_work(tmp_path, name, message):
    with pytest.raises(ConfigError, match=message):
        command_line(tmp_path / "nothing", "--figure", tmp_path / name)


def test_a_figure_that_needs_the_network(tmp_path, found, monkeypatch, capsys):
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps({"id": "a", "reply": "B", **OWN}))
    for name, magic in (("m.png", b"\x89PNG"), ("m.html", b"<!DOCTYPE html>")):
        assert command_line(file, "--figure", tmp_path / name) == 0
        content = (tmp_path / name).read_bytes()
        assert content.lstrip().startswith(magic)
        assert not re.search(rb'(src|href)="https?:', content)
    marks = reconciliation.chart(found).spec["data"]["values"]
    assert len(marks) == len(found.outcomes) * len(found.denominators)


# --- the page ------------------------------------------------------------------------------------


def test_the_page_shows_another_matrix_than_the_hand_made_replies_give():
    page = reconcile_page.PAGE.read_text(encoding="utf-8")
    wanted = reconcile_page.with_rules(reconcile_page.page("hand-made", reconcile_page.hand_made()))
    assert page == wanted, "run: PYTHONPATH=tools python -m reconcile_page"


def test_the_page_shows_another_matrix_than_nano_gives(nano_run):
    def cells(text: str) -> list[list[float]]:
        part = text.split("<!-- begin nano -->")[1].split("<!-- end nano -->")[0]
        rows = [row for row in part.splitlines() if row.startswith("| `") and "computed" not in row]
        # The columns over all and over served items.
        return [[float(cell.split()[0]) for cell in row.split("|")[3:5]] for row in rows]

    shown = cells(reconcile_page.PAGE.read_text(encoding="utf-8"))
    made = cells(reconcile_page.page("nano", read_runs([nano_run / "nano"])))
    # Another processor may turn two of the 79 replies: 2.5 points.
    assert np.abs(np.array(shown) - np.array(made)).max() <= 2.6
