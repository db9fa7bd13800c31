"""The tasks of MMAU, MMAR and MMSU in lm_eval: names, prompts in the results, and what they score."""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path

import pytest
import yaml

import task_configs
from mmaupro_ext import data, plugin, replies
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, parse_task
from mmaupro_ext.data.questions import prompt, prompt_digest

FOLDER = Path(plugin.tasks_dir())
FILES = task_configs.all_benchmark_files()
NAMES = [name for name, one in BENCHMARKS.items() if one.read_row is not None]


def load_module(folder: str):
    file = FOLDER / folder / "utils.py"
    spec = importlib.util.spec_from_file_location(f"suite_{folder}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


utils, likelihood = load_module("mmaupro"), load_module("mmaupro_ll")


@pytest.fixture(scope="module")
def manager():
    pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return TaskManager(include_path=str(FOLDER), include_defaults=False)


def load(name: str, part: str, how: str = "own") -> list[dict]:
    return utils.load(part, "sample", name, how, data_dir="not for the sample")["test"]


def test_committed_configs_are_what_the_generator_writes():
    folders = {path.parts[0] for path in FILES}
    written = {
        path.relative_to(FOLDER): path.read_text(encoding="utf-8")
        for folder in folders
        for path in (FOLDER / folder).rglob("*.yaml")
    }
    assert written == FILES


def test_every_name_of_a_task_says_what_its_file_asks(manager):
    for path, text in FILES.items():
        config = yaml.safe_load(re.sub(r"!function \S+", "null", text))
        name = config.get("task") if isinstance(config.get("task"), str) else config["group"]
        if path.parts[0] == "audio_suite":
            continue
        asked = parse_task(name)
        assert asked is not None, name
        assert name in manager.all_tasks
        assert not re.match("mmaupro_", name)
        if "dataset_kwargs" in config:
            settings = config["dataset_kwargs"]
            assert settings["mmaupro_benchmark"] == asked.benchmark
            assert settings["mmaupro_category"] == asked.part
            assert (settings["mmaupro_dataset"] == "sample") is asked.sample
            digest = prompt_digest(asked.benchmark, settings["mmaupro_prompt"])
            assert config["metadata"]["prompt_sha256"] == digest


def test_the_suite_of_samples_builds_with_one_row_a_benchmark(manager):
    loaded = manager.load(["audio-suite-sample", "mmau-sample-ll"])
    assert set(loaded["groups"]) >= {"audio-suite-sample", "mmau-sample", "mmsu-sample_reasoning"}
    assert not loaded["groups"]["audio-suite-sample"].aggregate_metric_list
    of_task = {parse_task(name).benchmark for name in loaded["tasks"]}
    assert of_task == {MMAUPRO, "mmau", "mmar", "mmsu"}
    task = loaded["tasks"]["mmau-sample_sound"]
    assert task.config.metadata["prompt"] == "own"
    assert [doc["id"] for doc in task.eval_docs] == [doc["id"] for doc in load("mmau", "sound")]


@pytest.mark.parametrize("name", [name for name in NAMES if not BENCHMARKS[name].hidden])
@pytest.mark.parametrize("how", ["own", "letter", "text"])
def test_the_answer_scores_as_text_and_a_wrong_one_does_not(name, how):
    for slug in BENCHMARKS[name].by_slug:
        for doc in load(name, slug, how):
            assert utils.doc_to_text(doc) == prompt(doc)
            wrong = next(text for text in doc["choices"] if text and text != doc["answer"])
            assert utils.process_results(doc, [doc["answer"]])["acc"] == 1.0
            assert utils.process_results(doc, [wrong])["acc"] == 0.0
            letter = utils.LETTERS[doc["choices"].index(doc["answer"])]
            assert utils.process_results(doc, [letter])["acc"] == 1.0


def test_likelihoods_are_asked_of_the_choices_that_are_there():
    docs = [doc for slug in BENCHMARKS["mmsu"].by_slug for doc in load("mmsu", slug, "letter")]
    assert {len(likelihood.doc_to_choice(doc)) for doc in docs} == {2, 3, 4}
    for doc in docs:
        assert doc["choices"][utils.LETTERS.index(likelihood.doc_to_target(doc))] == doc["answer"]


def test_an_item_that_was_not_served_is_errored():
    (doc, *_) = load("mmar", "music")
    assert utils.process_results(doc, [replies.error_reply("clip is missing")]) == {
        "acc": 0.0,
        "parsed": 0.0,
        "errored": 1.0,
    }


def test_withheld_answers_give_no_number_that_looks_like_a_score():
    (doc, *_) = load("mmau", "music")
    hidden = {**doc, "benchmark": "mmau-test", "answer": None}
    assert utils.process_results(hidden, ["A"]) == {"parsed": 1.0, "errored": 0.0}
    assert utils.doc_to_target(hidden) == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_names_every_task(name):
    readme = (FOLDER / name.replace("-", "_") / "README.md").read_text(encoding="utf-8")
    for slug in BENCHMARKS[name].by_slug:
        assert f"`{BENCHMARKS[name].task(part=slug)}`" in readme
    for variant in BENCHMARKS[name].asked_as:
        assert f"`{BENCHMARKS[name].task(variant)}`" in readme


def test_the_glue_passes_each_benchmark_its_own_folder(monkeypatch):
    seen = []
    monkeypatch.setattr(data, "load_items", lambda *given: seen.append(given) or [])
    utils.load(
        "music", mmaupro_benchmark="mmau-test", mmau_test_dir="X", mmau_dir="Y", data_dir="Z"
    )
    assert seen == [("mmau-test", "music", "X", False, "own")]
