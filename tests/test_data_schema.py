"""Rows of test.parquet become plain documents, or a message that says what to correct."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from mmaupro_ext.data import schema, table
from mmaupro_ext.data.rows import normalise_row
from mmaupro_ext.data.schema import LoadReport
from mmaupro_ext.errors import DataError

NULL_KWARGS = dict.fromkeys(schema.KWARGS_KEYS)


def closed_row(**changes):
    row = {
        "id": "c93e3644-5227-4710-b27b-5c46750afbff",
        "audio_path": ["data/c93e3644-5227-4710-b27b-5c46750afbff.wav"],
        "question": "What is being prepared?",
        "answer": "Boba tea",
        "choices": ["Boba tea", "Milk", "Coffee"],
        "length_type": "medium",
        "perceptual_skills": ["Acoustic Source Characterization"],
        "reasoning_skills": ["Procedural Reasoning"],
        "category": "sound",
        "transcription": None,
        "task_classification": None,
        "task_identifier": None,
        "kwargs": None,
        "sub-cat": None,
    }
    return {**row, **changes}


def instruction_row(**changes):
    row = closed_row(
        answer=None,
        choices=[],
        category="instruction following",
        task_identifier="Number Bullets",
        task_classification="Detectable Format",
        kwargs={**NULL_KWARGS, "N": 3},
    )
    return {**row, **changes}


def findings_of(row):
    report = LoadReport()
    doc = normalise_row(row, 7, report)
    return doc, [finding.fact for finding in report.findings]


def test_counts_are_those_of_the_released_split():
    assert sum(c.expected_count for c in schema.CATEGORIES.values()) == 5305
    closed = sum(c.expected_count for c in schema.CATEGORIES.values() if c.kind == "closed")
    assert closed == 4593
    assert len(schema.CATEGORIES) == 12
    assert len(schema.TASK_IDENTIFIERS) == 27


def test_only_the_instruction_slug_differs_from_its_dataset_value():
    differing = [slug for slug, c in schema.CATEGORIES.items() if slug != c.value]
    assert differing == ["instruction_following"]


def test_good_rows_give_no_findings_and_plain_json():
    for row in (closed_row(), instruction_row()):
        doc, facts = findings_of(row)
        assert facts == []
        assert json.loads(json.dumps(doc)) == doc
        assert set(doc) == set(schema.COLUMNS) | {"kwargs_null"}


def test_numpy_and_pyarrow_values_become_python_values():
    row = closed_row(
        choices=np.array(["Boba tea", "Milk"], dtype=object),
        audio_path=pa.array([["data/a.wav", "data/b.mp3"]])[0],
        perceptual_skills=np.array([], dtype=object),
        transcription=float("nan"),
        kwargs={"N": np.float64("nan"), "N1": np.int64(2)},
    )
    doc, facts = findings_of(row)
    assert facts == []
    assert doc["choices"] == ["Boba tea", "Milk"]
    assert doc["audio_path"] == ["data/a.wav", "data/b.mp3"]
    assert doc["perceptual_skills"] == []
    assert doc["transcription"] is None
    assert doc["kwargs"] == {"N1": 2}
    assert json.loads(json.dumps(doc)) == doc


def test_null_kwargs_are_dropped_but_stay_known():
    doc, _ = findings_of(instruction_row())
    assert doc["kwargs"] == {"N": 3}
    assert doc["kwargs_null"] == sorted(set(schema.KWARGS_KEYS) - {"N"})
    doc, _ = findings_of(closed_row())
    assert doc["kwargs"] == {}
    assert doc["kwargs_null"] is None


def test_whole_float_kwargs_become_integers():
    doc, _ = findings_of(instruction_row(kwargs={"N": 3.0}))
    assert doc["kwargs"] == {"N": 3}
    assert isinstance(doc["kwargs"]["N"], int)


def test_missing_optional_cells_count_as_null():
    row = {key: closed_row()[key] for key in schema.REQUIRED_COLUMNS}
    doc, facts = findings_of(row)
    assert doc["sub-cat"] is None
    assert doc["reasoning_skills"] == []
    assert facts == ["length-type"]


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (closed_row(id=None), "id", "None", "non-empty text id"),
        (closed_row(id=12), "id", "12", "non-empty text id"),
        (closed_row(category="sounds"), "category", "'sounds'", "unknown category"),
        (closed_row(question=" "), "question", "' '", "needs a question"),
        (closed_row(audio_path=[]), "audio_path", "[]", "at least one path"),
        (closed_row(audio_path=None), "audio_path", "None", "at least one path"),
        (closed_row(audio_path=[""]), "audio_path", "''", "an empty path"),
        (closed_row(audio_path=["/etc/a.wav"]), "audio_path", "'/etc/a.wav'", "absolute"),
        (closed_row(audio_path=["C:\\a.wav"]), "audio_path", "'C:", "absolute"),
        (closed_row(audio_path=["\\\\host\\a.wav"]), "audio_path", "host", "absolute"),
        (closed_row(audio_path=["data/../../a.wav"]), "audio_path", "..", "leaves the dataset"),
        (closed_row(audio_path=["data\\..\\..\\a.wav"]), "audio_path", "..", "leaves the dataset"),
        (closed_row(audio_path=["data/a\0.wav"]), "audio_path", "a", "hidden characters"),
        (closed_row(audio_path=["data/\x1b[2J.wav"]), "audio_path", "x1b", "hidden characters"),
        (closed_row(choices=["Boba tea"]), "choices", "['Boba tea']", "at least 2 choices"),
        (closed_row(choices=None), "choices", "[]", "at least 2 choices"),
        (closed_row(choices=[str(n) for n in range(27)]), "choices", "'0'", "no letters left"),
        (closed_row(choices=[1, 2]), "choices", "[1, 2]", "a list of text"),
        (closed_row(answer=None), "answer", "None", "only instruction rows"),
        (closed_row(category="open", answer=None), "answer", "None", "only instruction rows"),
        (closed_row(answer=3), "answer", "3", "text or null"),
        (instruction_row(task_identifier="Rhyme"), "task_identifier", "'Rhyme'", "unknown constr"),
        (instruction_row(task_identifier=None), "task_identifier", "None", "unknown constr"),
        (instruction_row(kwargs={"N": "3"}), "kwargs.N", "'3'", "whole number"),
        (instruction_row(kwargs={"N": 2.5}), "kwargs.N", "2.5", "whole number"),
        (instruction_row(kwargs={"N": True}), "kwargs.N", "True", "whole number"),
        (instruction_row(kwargs={"keyword": 3}), "kwargs.keyword", "3", "text expected"),
        (instruction_row(kwargs="{N: 3}"), "kwargs", "{N: 3}", "not JSON"),
        (instruction_row(kwargs=[3]), "kwargs", "[3]", "a struct expected"),
    ],
)
def test_bad_row_is_named_with_id_column_value_and_fix(row, column, value, words):
    with pytest.raises(DataError) as caught:
        normalise_row(row, 41, None)
    message = str(caught.value)
    assert message.startswith("row 41")
    if isinstance(row["id"], str):
        assert row["id"] in message
    assert f"column '{column}'" in message
    assert value in message.partition("found ")[2]
    assert words in message
    assert any(fix in message for fix in ("Correct this row", "download it again"))


@pytest.mark.parametrize(
    ("row", "fact"),
    [
        (closed_row(answer="Tea"), "gold-in-choices"),
        (closed_row(choices=["Boba tea", "Milk", "Milk"]), "choices-distinct"),
        (closed_row(choices=["Boba tea", " "]), "choices-filled"),
        (closed_row(perceptual_skills="Prosody"), "skills"),
        (closed_row(reasoning_skills=["Counting", 3]), "skills"),
        (closed_row(transcription=["a"]), "text-columns"),
        (instruction_row(kwargs={"N": 3, "M": "x"}), "kwargs-keys"),
        (closed_row(length_type="huge"), "length-type"),
        (closed_row(length_type=None), "length-type"),
        (closed_row(audio_path="data/a.wav"), "audio-path-list"),
        (closed_row(audio_path=[f"data/{i}.wav" for i in range(4)]), "clip-count"),
        (instruction_row(answer="x"), "instruction-answer"),
        (instruction_row(kwargs=NULL_KWARGS), "kwargs-complete"),
        (instruction_row(kwargs='{"N": 3}'), "kwargs-json"),
    ],
)
def test_doubtful_row_is_kept_and_reported(row, fact):
    report = LoadReport()
    doc = normalise_row(row, 41, report)
    assert [finding.fact for finding in report.findings] == [fact]
    assert not schema.FACTS[fact].stops
    line = str(report.findings[0])
    assert "row 41" in line
    assert row["id"] in line
    assert schema.FACTS[fact].confidence in line
    assert isinstance(doc["audio_path"], list)


def test_values_of_unexpected_type_in_descriptive_columns_are_kept():
    doc, _ = findings_of(closed_row(**{"sub-cat": ["x", "y"], "perceptual_skills": "Prosody"}))
    assert doc["sub-cat"] == '["x", "y"]'
    assert doc["perceptual_skills"] == ["Prosody"]
    doc, _ = findings_of(instruction_row(kwargs={"N": 3, "M": "x"}))
    assert doc["kwargs"] == {"N": 3, "M": "x"}


def test_json_kwargs_are_parsed():
    doc, _ = findings_of(instruction_row(kwargs='{"N": 3, "keyword": null}'))
    assert doc["kwargs"] == {"N": 3}
    assert doc["kwargs_null"] == ["keyword"]


def test_open_rows_may_have_no_choice_or_one():
    for choices in ([], ["Boba tea"]):
        doc, facts = findings_of(closed_row(category="open", choices=choices))
        assert doc["choices"] == choices
        assert facts == []


def test_duplicate_ids_stop_the_load_and_name_both_rows():
    doc, _ = findings_of(closed_row())
    other = {**doc, "id": "another"}
    with pytest.raises(DataError, match=r"row 2 .*duplicate id.*row 0"):
        table.check_docs([doc, other, doc], LoadReport(), expect_counts=False)


def test_counts_that_differ_are_reported_per_category():
    doc, _ = findings_of(closed_row())
    report = LoadReport()
    table.check_docs([doc], report, expect_counts=True)
    assert len(report.findings) == 12
    assert "1 rows of category 'sound', expected 1048" in report.summary()
    assert "11 more like it" in report.summary()


def test_missing_needed_column_stops_and_missing_optional_column_is_reported():
    report = LoadReport()
    names = [name for name in schema.COLUMNS if name != "sub-cat"]
    table.check_columns(names, "f.parquet", report)
    assert [finding.column for finding in report.findings] == ["sub-cat"]
    with pytest.raises(DataError, match=r"f.parquet.*\['choices'\].*missing"):
        table.check_columns([n for n in names if n != "choices"], "f.parquet", LoadReport())


def test_a_finding_about_an_unknown_fact_is_a_programming_error():
    with pytest.raises(KeyError, match="not the name of a fact"):
        LoadReport().add("no-such-fact", "message")
