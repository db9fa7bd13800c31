"""Answers kept as they come: nothing that was answered is lost, invented or given to another request."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import resource
import struct

import numpy as np
import pytest
from PIL import Image

from mmaupro_ext.commands import cli
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.heard import LogProb, Reply
from mmaupro_ext.models import journal
from mmaupro_ext.models.identity import identity_of
from mmaupro_ext.models.journal import Journal, NotKeptError
from mmaupro_ext.models.journal_lines import (
    Address,
    decode,
    digest_of_request,
    encode,
    files_of,
    read,
)
from mmaupro_ext.models.resuming import Resumed, Settings, TooManyErrorsError
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import runs

GREEDY = {"until": [], "max_gen_toks": 8}
SAMPLED = GREEDY | {"do_sample": True, "temperature": 1.0}
RECORD = {"seconds_heard": 0.1 + 0.2, "clips": [{"file": "ä.wav"}]}
ERROR = error_reply("the clip is gone", file="a.wav", fix="Bring it back.")


class Model:
    """Answers with numbers that are counted up, so that no answer is given twice."""

    __module__ = "mmaupro_ext.models.stub"
    rank, world_size = 0, 1

    def __init__(self, name="a", stops_after=None, broken=()):
        self.name, self.asked, self.stops_after, self.broken = name, [], stops_after, broken

    def identity(self):
        return identity_of(model=self.name)

    def set_cache_hook(self, hook):
        self.hook = hook

    def _each(self, kind, requests, answer):
        answers = []
        for one in requests:
            if self.stops_after is not None and len(self.asked) >= self.stops_after:
                raise KeyboardInterrupt
            self.asked.append(one)
            reply = ERROR if one.doc_id in self.broken else answer(len(self.asked))
            self.hook.add_partial(kind, one.args, reply)
            answers.append(reply)
        return answers

    def generate_until(self, requests):
        return self._each(
            "generate_until", requests, lambda n: Reply(f"{self.name}{n}", RECORD, "stop")
        )

    def loglikelihood(self, requests):
        return self._each("loglikelihood", requests, lambda n: (LogProb(-n / 7, RECORD), n % 2 > 0))


def request(context, options=GREEDY, doc=0, task="t", kind="generate_until", repeats=1, media=None):
    from lm_eval.api.instance import Instance

    arguments = (context, options) if media is None else (context, options, media)
    return Instance(kind, {}, arguments, 0, (task, doc, repeats))


def questions(count=6):
    return [request(f"What is {n}?", doc=n) for n in range(count)]


@pytest.fixture
def place(tmp_path):
    return tmp_path / "out" / "journal"


def files(place):
    return [file for folder in sorted(place.iterdir()) for file in files_of(folder)]


def newest(place):
    return max(files(place), key=lambda file: file.name)


# ---- answers and requests as text ----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Reply("B", RECORD, "length"),
        Reply("\ud800 \x00 \u2028\r\n 数", None, None),
        (LogProb(0.1 + 0.2, RECORD), True),
        (LogProb(-math.inf, None), False),
        LogProb(5e-324, None),
    ],
)
def test_an_answer_comes_back_bit_for_bit(answer):
    again = decode(json.loads(json.dumps(encode(answer))))
    assert again == answer
    number, same = (x[0] if isinstance(x, tuple) else x for x in (answer, again))
    assert same.heard == number.heard
    assert getattr(same, "finish", None) == getattr(number, "finish", None)
    if isinstance(number, float):
        assert struct.pack("d", same) == struct.pack("d", number)


def test_a_score_that_is_no_number_comes_back_as_none():
    value, greedy = decode(json.loads(json.dumps(encode((math.nan, False)))))
    assert math.isnan(value)
    assert greedy is False


def test_requests_are_told_apart_by_everything_that_is_asked(tmp_path):
    clip = tmp_path / "a.wav"
    clip.write_bytes(b"one")
    by_path = ("q", GREEDY, {"audio": [str(clip)]})
    red, blue = (Image.new("RGB", (3, 2), colour) for colour in ("red", "blue"))
    palette = red.convert("P")
    asked = [
        ("generate_until", ("q", GREEDY)),
        ("generate_until", ("q ", GREEDY)),
        ("generate_until", ("q", GREEDY | {"max_gen_toks": 9})),
        ("loglikelihood", ("q", "A")),
        ("loglikelihood", ("q", "B")),
        ("loglikelihood_rolling", ("q",)),
        ("generate_until", by_path),
        ("generate_until", ("q", GREEDY, {"audio": [{"path": "a.wav", "sha256": "1"}]})),
        ("generate_until", ("q", GREEDY, {"audio": [{"path": "a.wav", "sha256": "2"}]})),
        ("generate_until", ("q", GREEDY, {"visual": [red]})),
        ("generate_until", ("q", GREEDY, {"visual": [blue]})),
        ("generate_until", ("q", GREEDY, {"visual": [palette]})),
        ("generate_until", ("q", GREEDY, {"visual": [red.resize((2, 3))]})),
        ("generate_until", ("q", GREEDY, {"audio": [{"array": np.zeros(2)}]})),
        ("generate_until", ("q", GREEDY, {"audio": [{"array": np.zeros(2, np.float32)}]})),
        ("generate_until", ("q", GREEDY, {"audio": [{"bytes": b"1"}]})),
    ]
    digests = [digest_of_request(*one) for one in asked]
    assert len(set(digests)) == len(asked)
    assert [digest_of_request(*one) for one in asked] == digests
    clip.write_bytes(b"other")
    assert digest_of_request("generate_until", by_path) not in digests


def test_a_request_without_media_is_one_of_text():
    text = digest_of_request("generate_until", ("q", GREEDY))
    assert digest_of_request("generate_until", ("q", GREEDY, {"audio": []})) == text
    assert digest_of_request("generate_until", ("q", dict(reversed(GREEDY.items())))) == text
    heard = {"audio": ["a.wav"]}
    assert digest_of_request("loglikelihood", ("", "A", heard)) == digest_of_request(
        "loglikelihood", ("", "A")
    )
    assert digest_of_request("generate_until", ("", GREEDY, heard)) != digest_of_request(
        "generate_until", ("", GREEDY)
    )


def test_media_that_cannot_be_told_are_asked_each_time_with_a_word(place, caplog):
    asked = [request("q", media={"audio": [object()]}), request("other")]
    first, second = Model(), Model()
    assert Resumed(first, place).generate_until(asked) == ["a1", "a2"]
    assert "1 requests hold media that cannot be told from others" in caplog.text
    assert Resumed(second, place).generate_until(asked) == ["a1", "a2"]
    assert second.asked == asked[:1]


# ---- going on ------------------------------------------------------------------------------------


def test_what_was_answered_is_not_asked_again_in_whatever_order(place):
    asked = questions()
    expected = Resumed(Model(), place).generate_until(asked)
    again = Model()
    assert Resumed(again, place).generate_until(asked[::-1]) == expected[::-1]
    assert again.asked == []
    more = [*asked, request("new", doc=9)]
    assert Resumed(again, place).generate_until(more) == [*expected, "a1"]
    assert again.asked == more[-1:]


def test_an_interrupted_run_goes_on_and_loses_nothing(place, caplog):
    asked = questions()
    broken = Resumed(Model(stops_after=4), place)
    with pytest.raises(KeyboardInterrupt):
        broken.generate_until(asked)
    assert (broken.progress.answered, broken.progress.requests) == (4, 6)
    rest = Model()
    with caplog.at_level(logging.INFO):
        resumed = Resumed(rest, place)
        answers = resumed.generate_until(asked)
    assert answers == ["a1", "a2", "a3", "a4", "a1", "a2"]
    assert rest.asked == asked[4:]
    assert "4 of 6 answers come from the journal of 2" in caplog.text
    assert f"delete {resumed.journal.folder} to begin anew" in caplog.text
    assert all(answer.heard == RECORD and answer.finish == "stop" for answer in answers)


def test_answers_without_a_word_of_each_are_kept_when_the_call_returns(place):
    model = Model()
    model.hook = None
    model.generate_until = lambda requests: [str(n) for n, _ in enumerate(requests)]
    expected = Resumed(model, place).generate_until(questions(3))
    again = Model()
    assert Resumed(again, place).generate_until(questions(3)) == expected == ["0", "1", "2"]
    assert again.asked == []


def test_repeats_stay_different_answers_and_find_their_places_again(place):
    asked = [request("q", SAMPLED, repeats=3)] * 3 + [request("q", SAMPLED, doc=1, repeats=3)] * 3
    expected = Resumed(Model(), place).generate_until(asked)
    assert len(set(expected)) == 6
    again = Model()
    assert Resumed(again, place).generate_until(asked[3:]) == expected[3:]
    assert Resumed(again, place).generate_until(asked) == expected
    assert again.asked == []


def test_a_sampled_reply_is_found_under_its_own_seed_only(place):
    asked = [request("q", SAMPLED)]
    first = Resumed(Model(), place, Settings(seed=[0, 1])).generate_until(asked)
    other = Model(name="a")
    assert Resumed(other, place, Settings(seed=[0, 2])).generate_until(asked) == ["a1"]
    assert len(other.asked) == 1
    again = Model()
    assert Resumed(again, place, Settings(seed=[0, 1])).generate_until(asked) == first
    assert again.asked == []


def test_a_second_reply_is_not_drawn_with_the_numbers_of_the_first(place):
    torch = pytest.importorskip("torch")

    class Sampler(Model):
        def generate_until(self, requests):
            return self._each("generate_until", requests, lambda n: str(torch.rand(()).item()))

    asked = [request("q", SAMPLED)] * 4
    for stops_after in (2, None):
        torch.manual_seed(1234)  # as lm_eval does at the start of each command
        resumed = Resumed(Sampler(stops_after=stops_after), place, Settings(seed=1234))
        if stops_after:
            with pytest.raises(KeyboardInterrupt):
                resumed.generate_until(asked)
        else:
            assert len(set(resumed.generate_until(asked))) == 4


def test_the_same_greedy_question_of_another_task_takes_the_answer_that_is_there(place):
    Resumed(Model(), place).generate_until([request("q")])
    again = Model()
    other = request("q", task="other", doc=7)
    assert Resumed(again, place).generate_until([other]) == ["a1"]
    assert again.asked == []


def test_several_processes_read_what_all_of_them_wrote(place):
    asked = questions()
    models = [Model("a"), Model("a")]
    for rank, model in enumerate(models):
        model.rank, model.world_size = rank, 2
    parts = [
        Resumed(model, place).generate_until(asked[rank::2]) for rank, model in enumerate(models)
    ]
    alone = Model()
    answers = Resumed(alone, place).generate_until(asked)
    assert answers[0::2] == parts[0]
    assert answers[1::2] == parts[1]
    assert alone.asked == []


def test_scores_and_replies_are_counted_together_before_the_first_is_asked(place, caplog):
    class Task:
        instances = [*questions(2), request("q", "A", kind="loglikelihood", doc=3)]

    def run(model):
        resumed = Resumed(model, place)
        resumed.tasks = {"t": Task}
        replies = resumed.generate_until(Task.instances[:2])
        assert resumed.progress.requests == 3
        return replies, resumed.loglikelihood(Task.instances[2:])

    first = run(Model())
    caplog.clear()
    again = Model()
    assert run(again) == first
    assert "3 of 3 answers come from the journal" in caplog.text
    assert again.asked == []


# ---- whose ---------------------------------------------------------------------------------------


def test_another_identity_begins_anew_and_says_what_differs(place, caplog):
    asked = questions(2)
    Resumed(Model("a"), place).generate_until(asked)
    other = Model("b")
    assert Resumed(other, place).generate_until(asked) == ["b1", "b2"]
    assert "holds 2 answers of another identity" in caplog.text
    assert 'What differs: model: "b" and "a"' in caplog.text
    caplog.clear()
    assert Resumed(Model("a"), place).generate_until(asked) == ["a1", "a2"]
    assert "left alone" not in caplog.text


# ---- errors --------------------------------------------------------------------------------------


def test_an_error_is_kept_and_asked_again_only_when_that_is_asked_for(place, caplog):
    asked = questions(3)
    first = Resumed(Model(broken={1}), place).generate_until(asked)
    assert first[1] == ERROR
    same = Model()
    resumed = Resumed(same, place)
    assert resumed.generate_until(asked) == first
    assert resumed.progress.errored == 1
    assert "1 of them are errors; --retry-errors asks them again" in caplog.text
    retried = Model()
    again = Resumed(retried, place, Settings(retry_errors=True))
    assert again.generate_until(asked) == ["a1", "a1", "a3"]
    assert (again.progress.answered, again.progress.errored) == (3, 0)
    assert retried.asked == asked[1:2]
    assert Resumed(Model(broken={1}), place).generate_until(asked) == ["a1", "a1", "a3"]


def test_an_answer_is_not_replaced_by_a_failure_whatever_the_clocks_say(place):
    asked = questions(1)
    Resumed(Model(broken={0}), place).generate_until(asked)
    Resumed(Model(), place, Settings(retry_errors=True)).generate_until(asked)
    failed, served = files(place)
    os.rename(failed, failed.with_name("2" + "9" * 7 + failed.name[8:]))
    assert Resumed(Model(), place).generate_until(asked) == ["a1"]
    assert served.exists()


def test_so_many_errors_end_the_run_and_what_was_answered_is_kept(place):
    asked = questions()
    model = Model(broken={1, 3, 4})
    with pytest.raises(TooManyErrorsError, match="2 items errored") as stop:
        Resumed(model, place, Settings(max_errors=2)).generate_until(asked)
    assert "4 of 6 answers are kept" in str(stop.value)
    assert "--retry-errors" in str(stop.value)
    assert model.asked == asked[:4]
    with pytest.raises(TooManyErrorsError):  # those of the journal count
        Resumed(Model(), place, Settings(max_errors=2)).generate_until(asked)
    settings = Settings(max_errors=2, retry_errors=True)
    assert len(Resumed(Model(), place, settings).generate_until(asked)) == 6


def test_the_choices_of_one_item_are_one_error(place):
    class Deaf(Model):
        def loglikelihood(self, requests):
            return self._each("loglikelihood", requests, lambda n: (math.nan, False))

    asked = [request("q", letter, kind="loglikelihood") for letter in "ABCD"]
    resumed = Resumed(Deaf(), place, Settings(max_errors=2))
    resumed.loglikelihood(asked)
    assert resumed.progress.errored == 1


# ---- mmaupro runs --------------------------------------------------------------------------------


def facts(**more):
    return {"command": "mmaupro run -x", "model": "hf-audio", "tasks": ["t"], "asked": "1"} | more


def test_runs_are_listed_with_what_is_done_left_and_errored(place, tmp_path, capsys):
    asked = questions()
    with pytest.raises(KeyboardInterrupt):
        Resumed(Model(stops_after=4, broken={1}), place, Settings(facts=facts())).generate_until(
            asked
        )
    other = Settings(facts=facts(asked="2", tasks=["a", "b", "c"]))
    Resumed(Model(), place, other).generate_until(asked[:2])
    assert main_status("runs", str(tmp_path), "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert (first["requests"], first["done"], first["left"], first["errored"]) == (6, 4, 2, 1)
    assert (second["requests"], second["done"], second["left"], second["errored"]) == (2, 2, 0, 1)
    assert first["identity"] == Model().identity().id
    assert first["journal"] == str(place / Model().identity().id)
    assert main_status("runs", str(tmp_path)) == 0
    text = capsys.readouterr().out
    assert "hf-audio a" in text
    assert "a, b +1" in text
    assert text.count("goes on with:\n  mmaupro run -x") == 1


def test_the_processes_and_starts_of_a_run_are_one_line(place, tmp_path):
    asked = questions()

    def start(rank, processes, some, **how):
        model = Model(**how)
        model.rank, model.world_size = rank, processes
        with contextlib.suppress(KeyboardInterrupt):
            Resumed(model, place, Settings(facts=facts())).generate_until(some)

    def counts():
        (run,) = runs.below(tmp_path)
        return run.requests, run.done, run.left, run.errored

    start(0, 2, asked[0::2], stops_after=1)
    assert counts() == (3, 1, 2, 0)
    start(1, 2, asked[1::2], broken={3})
    assert counts() == (6, 4, 2, 1)
    start(0, 1, asked, stops_after=1)
    assert counts() == (6, 5, 1, 1)
    start(0, 1, asked)
    assert counts() == (6, 6, 0, 1)


def test_no_run_is_no_error_of_the_program(tmp_path, capsys):
    assert main_status("runs", str(tmp_path)) == 1
    assert "no runs in or below" in capsys.readouterr().out
    assert main_status("runs", str(tmp_path / "gone")) == 2
    assert "there is no such folder" in capsys.readouterr().err


def main_status(*words):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    return stop.value.code


# ---- damage --------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_costs_the_last_answer_at_most(place):
    asked = questions(3)
    Resumed(Model(), place).generate_until(asked)
    (file,) = files(place)
    whole = file.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        kept = read(file)
        written = sum(end <= size for end in ends)
        assert len(kept.answers) == max(0, written - 1)  # the first line says who began
        assert kept.torn == (size not in (0, *ends))


def test_a_changed_byte_costs_its_own_line_and_is_said(place, caplog):
    asked = questions(3)
    expected = Resumed(Model(), place).generate_until(asked)
    (file,) = files(place)
    lines = file.read_bytes().splitlines(keepends=True)
    random = np.random.default_rng(0)
    for spot in random.choice(len(lines[2]) - 1, 40, replace=False):
        changed = bytearray(lines[2])
        changed[spot] ^= 1 << int(random.integers(8))
        if b"\n" in changed[:-1] or b"\r" in changed:
            continue  # two damaged lines
        file.write_bytes(b"".join([*lines[:2], changed, *lines[3:]]))
        assert [address.doc for address, _ in read(file).answers] == [0, 2]
    caplog.clear()
    again = Model()
    answers = Resumed(again, place).generate_until(asked)
    assert again.asked == asked[1:2]
    assert [answers[0], answers[2]] == [expected[0], expected[2]]
    assert f"{file}: not whole and left out: line 3." in caplog.text


def test_a_torn_line_is_never_added_to(place, caplog):
    asked = questions(3)
    Resumed(Model(), place).generate_until(asked)
    (file,) = files(place)
    file.write_bytes(file.read_bytes()[:-20])
    for model, times in ((Model(), 1), (Model(), 0)):
        Resumed(model, place).generate_until(asked)
        assert len(model.asked) == times
    assert "left out: its last line." in caplog.text


def test_a_file_that_cannot_be_read_is_named(place):
    Resumed(Model(), place).generate_until(questions(1))
    (file,) = files(place)
    file.unlink()
    file.mkdir()
    with pytest.raises(ConfigError, match=rf"{file}: .* cannot be read .*Make it readable"):
        Resumed(Model(), place)


def test_a_place_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/journal/.*: answers .* cannot be read"):
        Resumed(Model(), tmp_path / "file" / "journal")


def test_a_place_that_cannot_be_written_is_named(place):
    begun = Journal(place, identity_of(model="a"))
    place.parent.mkdir()
    place.write_text("")
    with pytest.raises(ConfigError, match="--output_path"):
        begun.start({})


def test_a_full_disk_ends_the_run_with_whole_lines_and_the_name_of_the_folder(place, monkeypatch):
    asked = questions()
    real = journal.Journal._write

    class Full:
        """Takes part of a line, as a disk does whose last block is in use."""

        def __init__(self, file):
            self.file = file

        def fileno(self):
            return self.file.fileno()

        def write(self, line):
            return self.file.write(line[:17])

    def write(self, entry):
        if len(self) == 4:
            self._file = Full(self._file)
        real(self, entry)

    monkeypatch.setattr(journal.Journal, "_write", write)
    with pytest.raises(NotKeptError) as stop:
        Resumed(Model(), place).generate_until(asked)
    folder = newest(place).parent
    assert str(stop.value).startswith(f"{folder}: an answer could not be written")
    assert os.strerror(errno.ENOSPC) in str(stop.value)
    assert "4 answers are kept there. Make room, and the same command goes on." in str(stop.value)
    assert not read(newest(place)).damaged
    monkeypatch.undo()
    rest = Model()
    Resumed(rest, place).generate_until(asked)
    assert rest.asked == asked[4:]


def test_a_line_that_the_system_takes_in_part_is_taken_back(place):
    asked = questions(3)
    Resumed(Model(), place).generate_until(asked)
    (file,) = files(place)
    lines = file.read_bytes().splitlines(keepends=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The first line and one answer find room, the second answer half of it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(lines[0]) + len(lines[1]) + 40, hard))
    try:
        with pytest.raises(NotKeptError, match="1 answers are kept there"):
            Resumed(Model("b"), place).generate_until(asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = read(newest(place))
    assert len(kept.answers) == 1
    assert not kept.damaged


def test_each_answer_is_on_disk_when_the_model_hears_that_it_is_kept(place):
    seen = []

    class Looking(Model):
        def generate_until(self, requests):
            for one in requests:
                self.hook.add_partial("generate_until", one.args, one.args[0])
                seen.append(len(read(newest(place)).answers))
            return [one.args[0] for one in requests]

    Resumed(Looking(), place).generate_until(questions(3))
    assert seen == [1, 2, 3]


def test_a_line_is_json_that_other_tools_read(place):
    Resumed(Model(), place, Settings(facts={"command": "mmaupro run"})).generate_until(questions(1))
    (file,) = files(place)
    first, answer = map(json.loads, file.read_text(encoding="ascii").splitlines())
    assert first["start"]["command"] == "mmaupro run"
    assert first["start"]["identity"]["id"] == file.parent.name
    assert answer["text"] == "a1"
    assert Address(*(answer[name] for name in Address._fields)).task == "t"


def test_a_clip_with_a_digest_is_the_same_wherever_it_lies(tmp_path):
    def digest(path, sha256="a" * 64):
        media = {"audio": [{"path": str(path), "sha256": sha256}]}
        return digest_of_request("generate_until", ("What?", {"until": []}, media))

    assert digest("/here/a.wav") == digest(tmp_path / "b.wav")
    assert digest("/here/a.wav") != digest("/here/a.wav", "b" * 64)
