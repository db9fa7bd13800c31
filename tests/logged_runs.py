"""Runs as lm_eval logs them, made from the embedded sample, and the command that scores them."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

from mmaupro_ext import data
from mmaupro_ext.commands import score as score_command
from mmaupro_ext.data.questions import prompt
from mmaupro_ext.offline.logged_items import document_hash

EARLY, LATE = "2026-01-01T10-00-00.000001", "2026-01-02T10-00-00.000001"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DOCS = {slug: data.load_category(slug, sample=True) for slug in data.CATEGORIES}


def good_reply(doc: dict) -> str:
    if doc["choices"] and doc["answer"] in doc["choices"]:
        return LETTERS[doc["choices"].index(doc["answer"])]
    return doc["answer"] or "no commas here"


def line_of(doc: dict, reply: str, asks_for: str = "letter") -> dict:
    heard = [
        {"path": f"/somewhere/{path}", "sha256": digest}
        for path, digest in zip(doc["audio_path"], doc["audio_sha256"], strict=True)
    ]
    return {
        "doc_id": 0,
        "doc": doc,
        "arguments": {
            "gen_args_0": {"arg_0": prompt(doc, asks_for), "arg_1": {}, "arg_2": {"audio": heard}}
        },
        "resps": [[reply]],
        "filtered_resps": [reply],
        "filter": "none",
        "doc_hash": document_hash(doc),
    }


def write_lines(file: Path, lines: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return file


def write_run(
    folder: Path,
    time: str = LATE,
    slugs=tuple(DOCS),
    reply=good_reply,
    model: str = "m",
    asks_for: str = "letter",
) -> Path:
    for slug in slugs:
        lines = [line_of(copy.deepcopy(doc), reply(doc), asks_for) for doc in DOCS[slug]]
        write_lines(samples(folder, slug, time, asks_for), lines)
    config = {"model": "hf-audio", "model_args": {"pretrained": model}}
    results = {"model_name": model, "config": config}
    (folder / f"results_{time}.json").write_text(json.dumps(results))
    return folder


def samples(folder: Path, slug: str, time: str = LATE, asks_for: str = "letter") -> Path:
    variant = "-text" if asks_for == "text" else ""
    return folder / f"samples_mmaupro-sample{variant}_{slug}_{time}.jsonl"


def score(*arguments) -> int:
    parser = argparse.ArgumentParser()
    score_command.add_arguments(parser)
    return score_command.run(parser.parse_args([str(argument) for argument in arguments]))


def scores_file(folder: Path, name: str = "strict", time: str = LATE) -> Path:
    return folder / f"scores_{name}_{time}.json"


def result_of(folder: Path, name: str = "strict", time: str = LATE) -> dict:
    """Return the newest scores: those of other replies under the same name are kept."""
    first = scores_file(folder, name, time)
    newest = max([first, *folder.glob(f"{first.stem}-*.json")], key=lambda f: f.stat().st_mtime_ns)
    return json.loads(newest.read_text(encoding="utf-8"))


def edit(file: Path, change, line: int = 0) -> None:
    """Change one line of a samples file, with its hash kept true to the document."""
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    change(lines[line])
    if isinstance(lines[line].get("doc"), dict):
        lines[line]["doc_hash"] = document_hash(lines[line]["doc"])
    write_lines(file, lines)
