"""The lm_eval tasks: what they ask, what they log, and what a bad item does."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import task_configs
from mmaupro_ext import data, plugin, replies
from mmaupro_ext.scoring import kind_of

FOLDER = Path(plugin.tasks_dir())


def load_utils():
    spec = importlib.util.spec_from_file_location(
        "mmaupro_task_utils", FOLDER / "mmaupro" / "utils.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


utils = load_utils()


def sample_docs(category: str) -> list[dict]:
    return utils.load(category, "sample", data_dir="ignored for the sample", pretrained="x")["test"]


ALL_DOCS = [doc for category in data.CATEGORIES for doc in sample_docs(category)]


def by_kind(kind: str) -> dict:
    return next(doc for doc in ALL_DOCS if kind_of(doc) == kind)


def test_every_prompt_has_one_placeholder_per_clip_and_every_choice():
    for doc in ALL_DOCS:
        text = utils.doc_to_text(doc)
        assert text.count("<audio>") == len(doc["audio_path"])
        assert doc["question"].strip() in text
        for choice in doc["choices"] if kind_of(doc) == "closed" else []:
            assert f") {choice}\n" in text
        assert text == text.rstrip()


def test_open_prompts_do_not_show_the_reference_answer():
    for doc in ALL_DOCS:
        if kind_of(doc) == "open" and doc["choices"]:
            assert "(A)" not in utils.doc_to_text(doc)


def test_documents_are_plain_json_without_absolute_paths():
    for doc in ALL_DOCS:
        assert json.loads(json.dumps(doc)) == doc
        assert not any(Path(path).is_absolute() for path in doc["audio_path"])
        assert len(doc["audio_sha256"]) == len(doc["audio_path"])


def test_audio_references_carry_digests_in_clip_order():
    for doc in ALL_DOCS:
        references = utils.doc_to_audio(doc)
        assert [Path(r["path"]).name for r in references] == [
            Path(p).name for p in doc["audio_path"]
        ]
        assert [r["sha256"] for r in references] == doc["audio_sha256"]


def test_the_right_letter_and_the_right_text_score_and_a_wrong_one_does_not():
    doc = by_kind("closed")
    right = doc["choices"].index(doc["answer"])
    wrong = (right + 1) % len(doc["choices"])
    expected = {"acc": 1.0, "parsed": 1.0, "errored": 0.0}
    assert utils.process_results(doc, [f"({utils.LETTERS[right]})"]) == expected
    assert utils.process_results(doc, [doc["answer"]]) == expected
    assert utils.process_results(doc, [utils.LETTERS[wrong]]) == {**expected, "acc": 0.0}


@pytest.mark.parametrize("reply", ["", "I cannot tell.", "zzz"])
def test_a_reply_without_an_answer_is_wrong_and_unparsed_never_guessed(reply):
    doc = by_kind("closed")
    assert utils.process_results(doc, [reply]) == {"acc": 0.0, "parsed": 0.0, "errored": 0.0}


@pytest.mark.parametrize("kind", ["closed", "instruction", "open"])
def test_an_errored_item_is_counted_as_errored(kind):
    metrics = utils.process_results(by_kind(kind), [replies.error_reply("clip is missing")])
    assert metrics.pop("errored") == 1.0
    assert not any(metrics.values())


def test_a_row_that_breaks_the_schema_is_errored_whatever_the_model_says():
    doc = {**by_kind("closed"), "audio_path": [], "choices": ["only one"], "problem": "row 3: ..."}
    assert utils.doc_to_text(doc)
    assert utils.doc_to_audio({**doc, "audio_sha256": []}) == []
    expected = {"acc": 0.0, "parsed": 0.0, "errored": 1.0}
    assert utils.process_results(doc, ["(A)"]) == expected


def test_open_items_get_no_number_that_looks_like_a_score():
    doc = by_kind("open")
    assert utils.process_results(doc, [doc["answer"]]) == {"errored": 0.0}


def test_instruction_items_are_checked_by_their_rule():
    doc = next(d for d in ALL_DOCS if d["task_identifier"] == "No Commas")
    assert utils.process_results(doc, ["no commas here"])["acc"] == 1.0
    assert utils.process_results(doc, ["one, two"])["acc"] == 0.0


def test_committed_configs_are_what_the_generator_writes():
    for folder, (group, dataset) in task_configs.FAMILIES.items():
        written = {path.name for path in (FOLDER / folder).glob("*.yaml")}
        assert written == {
            f"_{folder}.yaml",
            *(f"{folder}_{name}.yaml" for name in data.CATEGORIES),
        }
        text = (FOLDER / folder / f"_{folder}.yaml").read_text(encoding="utf-8")
        assert text == task_configs.group_file(group)
        for category in data.CATEGORIES.values():
            file = FOLDER / folder / f"{folder}_{category.slug}.yaml"
            assert file.read_text(encoding="utf-8") == task_configs.leaf(group, dataset, category)


def test_the_readme_shows_the_prompts_word_for_word():
    readme = (FOLDER / "mmaupro" / "README.md").read_text(encoding="utf-8")
    closing = utils.CLOSED_PROMPT.rsplit("\n", 1)[1]
    assert f"\n{closing}\n```" in readme
    assert utils.OPEN_PROMPT == utils.INSTRUCTION_PROMPT == "{audio}\n{question}"
    assert "```text\n<audio>\n{question}\n```" in readme


def test_an_instruction_item_whose_rule_lacks_its_argument_is_errored_not_failed():
    doc = {**by_kind("instruction"), "task_identifier": "Number Placeholder"}
    complete = {**doc, "kwargs": {"N": 1}, "kwargs_null": []}
    lacking = {**doc, "kwargs": {}, "kwargs_null": ["N"]}  # where the official script crashes
    reply = "[name] and more"
    assert utils.process_results(complete, [reply]) == {"acc": 1.0, "parsed": 1.0, "errored": 0.0}
    assert utils.process_results(lacking, [reply]) == {"acc": 0.0, "parsed": 0.0, "errored": 1.0}
