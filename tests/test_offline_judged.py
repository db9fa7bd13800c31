"""`mmaupro score` with a judge: all scales, what is lost and how it is marked, and how it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from logged_runs import (
    edit,
    result_of,
    samples,
    score,
    scores_file,
    write_run,
)

from mmaupro_ext.offline import judges
from mmaupro_ext.replies import error_reply


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "m")


# --- judged --------------------------------------------------------------------------------------


class Judge:
    """Answers from a list, item after item."""

    name = "org/judge"

    def __init__(self, answers):
        self.answers, self.asked = list(answers), []

    def identity(self):
        return {"kind": "test", "model": self.name}

    def ask(self, prompts, keep):
        for position, prompt in enumerate(prompts):
            self.asked.append(prompt)
            keep(position, self.answers[position % len(self.answers)])


def verdict_text(value) -> str:
    names = ("CORRECTNESS", "RELEVANCE", "COMPLETENESS", "CLARITY", "OVERALL")
    return "\n".join(f"{name}: {value} - because" for name in names)


def with_judge(monkeypatch, answers) -> Judge:
    judge = Judge(answers)
    monkeypatch.setattr(judges, "load_judge", lambda *names, **options: judge)
    return judge


def test_a_judge_completes_the_overall_row_and_gives_all_scales(folder, monkeypatch, tmp_path):
    judge = with_judge(monkeypatch, [verdict_text(4), verdict_text(2), "I cannot judge this."])
    arguments = (folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "cache")
    assert score(*arguments) == 0
    result = result_of(folder, "strict+judge=org_judge")
    entry = result["open"]
    values = [4, 2, None, 4, 2, None, 4]
    read = [value for value in values if value]
    official = [value or 3 for value in values]
    assert entry["judged"] == 7
    assert entry["unreadable"] == 2
    assert entry["official"] == pytest.approx(100 * sum(official) / 7 / 5, abs=1e-4)
    assert entry["strict"] == pytest.approx(100 * sum(read) / 7 / 5, abs=1e-4)
    assert entry["strict_served"] == pytest.approx(100 * sum(read) / 5 / 5, abs=1e-4)
    floorless = 100 * sum((value - 1) / 4 for value in read) / 7
    assert entry["floorless"] == pytest.approx(floorless, abs=1e-4)
    category = result["categories"]["open"]
    assert category["score"] == pytest.approx(floorless, abs=1e-4)
    assert category["served_score"] == pytest.approx(floorless * 7 / 5, abs=1e-4)
    assert (category["counts"]["unreadable"], category["served"], category["marked"]) == (
        2,
        5,
        True,
    )
    assert result["overall"]["complete"] is True
    assert result["judge"]["model"] == "org/judge"
    asked = len(judge.asked)
    first = scores_file(folder, "strict+judge=org_judge").read_bytes()
    assert score(*arguments) == 0
    assert len(judge.asked) == asked
    assert scores_file(folder, "strict+judge=org_judge").read_bytes() == first


def test_a_run_in_which_everything_is_scored_is_complete(folder, monkeypatch, tmp_path):
    with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    overall = result_of(folder, "strict+judge=org_judge")["overall"]
    assert (overall["complete"], overall["label"]) == (True, "overall")
    assert (overall["categories"], overall["items"]) == (12, 100)


def test_a_failed_call_is_counted_marked_and_the_status_says_so(
    folder, monkeypatch, tmp_path, capsys
):
    with_judge(monkeypatch, [verdict_text(5), error_reply("status 500")])
    judge = ("--judge", "hf:org/judge", "--judge-cache")
    assert score(folder, *judge, tmp_path / "first") == 1
    result = result_of(folder, "strict+judge=org_judge")
    assert result["open"]["judge_errors"] == 3
    entry = result["categories"]["open"]
    assert entry["score"] == pytest.approx(100 * 4 / 7, abs=1e-4)
    assert entry["served_score"] == 100.0
    assert entry["counts"]["judge-errored"] == 3
    shown = capsys.readouterr().out
    assert "57.1 (42.9 % errored)" in shown
    assert shown.splitlines()[-1].startswith(
        "WARNING: open: 3 of 7 items have no answer or no verdict"
    )
    assert score(folder, *judge, tmp_path / "second", "--strict-exit") == 3
    limit = ("--errored-limit", 43)
    assert score(folder, *judge, tmp_path / "third", "--strict-exit", *limit) == 1


def test_a_judge_that_answers_nothing_leaves_the_category_unscored(folder, monkeypatch, tmp_path):
    with_judge(monkeypatch, [error_reply("status 500")])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 1
    result = result_of(folder, "strict+judge=org_judge")
    assert result["categories"]["open"]["score"] is None
    assert "unscored: open (7)" in result["overall"]["label"]


def test_an_errored_open_item_without_a_judge_makes_no_score_of_the_category(folder):
    assert score(folder) == 0
    before = result_of(folder)["overall"]
    edit(samples(folder, "open"), lambda line: line.update(resps=[[error_reply("no clip")]]))
    assert score(folder) == 0
    result = result_of(folder)
    assert result["categories"]["open"]["score"] is None
    assert result["overall"]["weighted"] == before["weighted"]
    assert "unscored: open (7)" in result["overall"]["label"]


def test_a_reply_without_an_answer_is_not_judged_and_scores_nothing(folder, monkeypatch, tmp_path):
    unfinished = "<think>It may be a dog. Or"
    edit(samples(folder, "open"), lambda line: line.update(resps=[[unfinished]]))
    judge = with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    assert len(judge.asked) == 6
    result = result_of(folder, "strict+judge=org_judge")
    assert result["open"]["unanswered"] == 1
    assert result["open"]["floorless"] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert result["categories"]["open"]["served_score"] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert not result["categories"]["open"]["marked"]


def test_errored_items_are_never_shown_to_the_judge_and_count_as_zero(
    folder, monkeypatch, tmp_path
):
    edit(samples(folder, "open"), lambda line: line.update(resps=[[error_reply("no clip")]]))
    judge = with_judge(monkeypatch, [verdict_text(5)])
    assert score(folder, "--judge", "hf:org/judge", "--judge-cache", tmp_path / "c") == 0
    assert len(judge.asked) == 6
    result = result_of(folder, "strict+judge=org_judge")
    for scale in ("official", "strict", "floorless"):
        assert result["open"][scale] == pytest.approx(100 * 6 / 7, abs=1e-4)
    assert result["categories"]["open"]["score"] == pytest.approx(100 * 6 / 7, abs=1e-4)


def test_ctrl_c_says_that_nothing_is_lost(folder, monkeypatch, capsys, tmp_path):
    judge = with_judge(monkeypatch, ["x"])

    def interrupted(prompts, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "ask", interrupted)
    assert score(folder, "--judge", "hf:x", "--judge-cache", tmp_path / "c") == 130
    assert "goes on from there" in capsys.readouterr().err
