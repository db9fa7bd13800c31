"""W&B and Trackio, where a user turned them on, are told of our tasks beside what lm_eval tells them.

The stand-in has what lm_eval and we call of the two packages, as they document it; the real ones, which
are heavy, log into a folder where they are installed (`pip install wandb trackio`).
"""

from __future__ import annotations

import importlib.util
import io
import json
import sqlite3
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import accelerate  # noqa: F401 - looks for trackers when it is imported: before there is a stand-in
import lm_eval_here
import pytest
from logged_runs import DOCS, good_reply

from mmaupro_ext.heard import Reply
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import tracked

TASKS = "mmaupro-sample_sound,mmaupro-sample_open,mmaupro-sample-ll_sound"
WORDS = (
    *("--model", "hf-audio", "--model_args", "pretrained=nano", "--device", "cpu"),
    *("--tasks", TASKS, "--limit", "2", "--log_samples"),
)
ITEMS = [doc["id"] for slug in ("sound", "open") for doc in DOCS[slug][:2]]


# --- numbers and items ----------------------------------------------------------------------------


def ended(replies: dict[str, list[str]]) -> tuple[dict, dict]:
    """Return results and samples as lm_eval has them when it calls its loggers."""
    samples: dict[str, list[dict]] = {}
    results: dict[str, dict] = {"results": {}, "configs": {}}
    for slug, given in replies.items():
        task = f"mmaupro-sample_{slug}"
        samples[task] = [
            {"doc_id": n, "doc": doc, "arguments": [("", {}, {"audio": []})], "resps": [[reply]]}
            | ({} if slug == "open" else {"acc": float(reply == good_reply(doc))})
            for n, (doc, reply) in enumerate(zip(DOCS[slug], given, strict=False))
        ]
        scores = [sample["acc"] for sample in samples[task] if "acc" in sample]
        results["configs"][task] = {}
        results["results"][task] = {"sample_len": len(given), "errored,none": 0.0}
        if scores:
            results["results"][task]["acc,none"] = sum(scores) / len(scores)
    return results, samples


def test_what_is_not_known_is_not_told():
    results, samples = ended({"open": ["a door"]})
    found = tracked.numbers(results, samples)
    assert found == {
        "mmaupro-sample/open/items": 1,
        "mmaupro-sample/open/unscored": 1,
        "mmaupro-sample/open/errored": 0,
    }


def test_the_overall_weighs_items_and_leaves_out_unscored_ones():
    right = [good_reply(doc) for doc in DOCS["sound"][:3]]
    results, samples = ended({"sound": right, "music": ["Z"], "open": ["a door"]})
    found = tracked.numbers(results, samples)
    assert found["mmaupro-sample/overall/acc"] == 0.75
    assert found["mmaupro-sample/overall/items"] == 5
    assert found["mmaupro-sample/overall/unscored"] == 1
    low, high = (found[f"mmaupro-sample/overall/{name}"] for name in ("low", "high"))
    assert 0 < low < 0.75 < high < 1


def test_seconds_heard_are_those_of_the_records_of_the_answers():
    record = {"seconds_heard": 1.5, "seconds_in_files": 2.0, "clips": []}
    results, samples = ended({"sound": [Reply("A", record), Reply("B", record)]})
    assert tracked.numbers(results, samples)["mmaupro-sample/sound/seconds_heard"] == 3.0


def test_items_say_which_words_decided_and_errors_are_no_answers():
    doc = DOCS["sound"][0]
    letter = good_reply(doc)
    replies = [f"I think it is ({letter}).\ud800", error_reply("no such file", item="x")]
    ((title, rows),) = tracked.items(*ended({"sound": replies}))
    found = [dict(zip(tracked.COLUMNS, row, strict=True)) for row in rows]
    assert title == "mmaupro-sample"
    assert found[0]["id"] == doc["id"]
    assert found[0]["words that decided"] == f"({letter})"
    assert found[0]["score"] == 1.0
    assert found[0]["reply"].endswith("\\ud800")  # packages write UTF-8, which has none of these
    assert (found[1]["judgement"], found[1]["score"]) == ("errored", 0.0)


def test_other_tasks_are_not_told_again():
    results = {"results": {"mmlu": {"acc,none": 0.5, "sample_len": 2}}, "configs": {"mmlu": {}}}
    samples = {"mmlu": [{"doc": {}, "resps": [["A"]], "acc": 1.0}]}
    assert tracked.numbers(results, samples) == {}
    assert list(tracked.items(results, samples)) == []


# --- a run of lm_eval's command -------------------------------------------------------------------


@dataclass
class Tracker:
    """Stands for a package and its run; keeps what it is told."""

    logged: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    fails_on: str = ""

    def log(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self.fails_on and any(self.fails_on in name for name in metrics):
            raise ConnectionError("the tracker is away")
        self.logged |= metrics


def standing_in(monkeypatch, name: str, tracker: Tracker) -> None:
    """Put a stand-in in the package's place, as far as lm_eval's loggers and ours use it."""

    def table(columns=None, data=None):
        return {"columns": columns, "data": data if data is not None else []}

    if name == "trackio":
        package = types.SimpleNamespace(
            init=lambda **_: tracker,
            log=tracker.log,
            config=tracker.config,
            Table=table,
            Trace=lambda **trace: trace,
            finish=lambda: None,
        )
        monkeypatch.setitem(sys.modules, name, package)
        return

    class Table(dict):
        def __init__(self, columns=None, data=None):
            super().__init__(table(columns, data))

        def add_data(self, *row):
            self["data"].append(row)

    class Config(dict):
        def update(self, values, allow_val_change=None):
            tracker.config.update(values)

    run = types.SimpleNamespace(
        config=Config(),
        summary={},
        log=tracker.log,
        log_artifact=lambda _: None,
        finish=lambda: None,
    )

    class Artifact:
        def __init__(self, name, type):
            pass

        def new_file(self, name, mode, encoding):
            return io.StringIO()

    package = types.SimpleNamespace(
        __version__="0.31.0",
        run=None,
        init=lambda **_: run,
        log=tracker.log,
        Table=Table,
        Artifact=Artifact,
    )
    printer = types.SimpleNamespace(new_printer=lambda: None)
    for path, module in (("wandb.sdk.lib.printer", printer), ("wandb", package)):
        monkeypatch.setitem(sys.modules, path, module)
    for path in ("wandb.sdk", "wandb.sdk.lib"):
        monkeypatch.setitem(sys.modules, path, types.ModuleType(path))


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_tells_a_tracker_numbers_and_items(name, monkeypatch, tmp_path):
    tracker = Tracker()
    standing_in(monkeypatch, name, tracker)
    lm_eval_here.run(
        monkeypatch, *WORDS, "--output_path", str(tmp_path / "out"), f"--{name}_args", "project=p"
    )
    told = tracker.logged
    assert (
        told["mmaupro-sample_sound/acc"] == told["mmaupro-sample/sound/acc"]
    )  # lm_eval's, and ours
    assert told["mmaupro-sample/overall/unscored"] == 2
    assert 0 <= told["mmaupro-sample/sound/low"] < told["mmaupro-sample/sound/high"] <= 1
    seconds = [
        told[f"mmaupro-sample/{part}/seconds_heard"] for part in ("sound", "open", "overall")
    ]
    assert seconds[0] + seconds[1] == pytest.approx(seconds[2])
    assert told["mmaupro-sample-ll/sound/items"] == 2
    assert [row[0] for row in told["mmaupro-sample/items"]["data"]] == ITEMS
    assert "mmaupro-sample-ll/items" not in told
    assert len(tracker.config["cli_configs"]["identity"]["id"]) == 12


def test_a_tracker_that_fails_on_ours_is_told_lm_eval_s_own_and_the_run_ends_well(
    monkeypatch, capsys, tmp_path
):
    tracker = Tracker(fails_on="mmaupro-sample/")
    standing_in(monkeypatch, "trackio", tracker)
    lm_eval_here.run(
        monkeypatch, *WORDS, "--output_path", str(tmp_path / "out"), "--trackio_args", "project=p"
    )
    assert "mmaupro-sample_sound/sample" in tracker.logged
    assert "overall" in capsys.readouterr().out


# --- the real packages, into a folder -------------------------------------------------------------


def needs(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")


def test_the_real_wandb_keeps_them_offline(monkeypatch, tmp_path):
    needs("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    options = f"project=p,mode=offline,dir={tmp_path}"
    lm_eval_here.run(
        monkeypatch, *WORDS, "--output_path", str(tmp_path / "out"), "--wandb_args", options
    )
    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/mmaupro-sample/items_*.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert table["columns"] == list(tracked.COLUMNS)
    assert [row[0] for row in table["data"]] == ITEMS
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"mmaupro-sample/overall/seconds_heard" in kept.read_bytes()


def test_the_real_trackio_keeps_them_on_this_machine(monkeypatch, tmp_path):
    needs("trackio")
    import trackio.utils

    if not str(trackio.utils.TRACKIO_DIR).startswith(str(tmp_path)):  # read at import
        monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path)
        import trackio.sqlite_storage

        monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", tmp_path)
    lm_eval_here.run(
        monkeypatch,
        *WORDS,
        "--output_path",
        str(tmp_path / "out"),
        "--trackio_args",
        "project=p,embed=False",
    )
    with sqlite3.connect(tmp_path / "p.db") as kept:
        told: dict[str, Any] = {}
        for (metrics,) in kept.execute("select metrics from metrics order by step"):
            told |= json.loads(metrics)
    assert told["mmaupro-sample/overall/unscored"] == 2
    assert [row["id"] for row in told["mmaupro-sample/items"]["_value"]] == ITEMS
