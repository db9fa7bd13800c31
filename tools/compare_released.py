"""Hold our official rules to the released scorers: `python -m compare_released mmau SCRIPT ROWS`.

The scripts are their authors': get them from the repositories in mmaupro_ext/benchmarks/known, at those
commits. MMAU: evaluation.py; MMAR: code/evaluation.py; MMSU: mmsu_evaluation.py. ROWS is the benchmark's
metadata (JSON or JSON lines). For MMSU, whose rows come with its audio, those of another benchmark do as
well: they are put into its columns.

For each row replies are generated: choices as they are, in parts and in sentences, letters in many forms,
odd cases. Each is judged by the script's own function and by ours; then the whole script is run on all of
them, and its total compared. Exit status 1 on any difference.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mmaupro_ext.scoring.official_rules import (
    first_letter,
    lettered,
    lettered_token_sets,
    token_sets,
)

COLUMNS = ("choice_a", "choice_b", "choice_c", "choice_d")
FORMS = (
    "{text}", "{text}.", "'{text}'", "['{text}']", "{text} {text}", "{text} and {other}",
    "{letter}", "{letter}.", "({letter})", "({letter}) {text}", "{letter}. {text}", "{letter}) {text}",
    "The answer is {letter}", "The answer is {letter}.", "**{letter}**", "It is a {text} ({letter})",
    "I hear {text}, so the answer is {letter}.", "<think>{other}?</think>{text}", "Not {other} but {text}",
    "Based on the audio, {letter}", "Certainly! {letter}", "{letter}\n", "\n{letter}.\n{text}",
    "Option {letter}: {other}",
)  # fmt: skip
ODD = (
    "",
    " ",
    "\n",
    "None",
    "none",
    "I cannot tell.",
    "?",
    "D",
    "ABCD",
    "A or B",
    "é",
    "A\u2028B.",
    "0",
    "_",
    "½ B.",
)


def replies_to(choices: list[str], number: int, rng: random.Random) -> Iterator[str]:
    """Yield replies to a question."""
    for _ in range(number):
        index, other = rng.randrange(len(choices)), rng.choice(choices)
        kind = rng.random()
        if kind < 0.06:
            yield rng.choice(ODD)
            continue
        text = choices[index]
        if kind < 0.25:
            words = text.split()
            rng.shuffle(words)
            text = " ".join(words[: rng.randint(1, len(words))]) if words else text
        elif kind < 0.35:
            text = rng.choice((text.upper(), text.lower(), text.title(), text.replace(" ", "  ")))
        letter = chr(ord("A") + index)
        yield rng.choice(FORMS).format(text=text, other=other, letter=letter)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON or JSON lines."""
    content = path.read_text(encoding="utf-8")
    if content.lstrip().startswith("["):
        return json.loads(content)
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def as_mmsu(row: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a row in MMSU's columns; two choices are padded with nulls, in any position."""
    if "choice_a" in row:
        return row
    answer = row["answer"]
    others = [choice for choice in dict.fromkeys(row["choices"]) if choice != answer][:3]
    if rng.random() < 0.1:
        others = others[:1]
    choices: list[str | None] = [answer, *others]
    choices += [None] * (4 - len(choices))
    rng.shuffle(choices)
    named = {"category": "Perception", "sub-category": "Semantics", "answer_gt": answer}
    return {"id": row["id"], **named, **dict(zip(COLUMNS, choices, strict=True))}


def load(script: Path) -> ModuleType:
    """Import a released script, without running its `main`."""
    spec = importlib.util.spec_from_file_location("released", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


Case = tuple[dict[str, Any], str, "bool | None"]


def match_cases(
    module: ModuleType,
    rows: list[dict[str, Any]],
    number: int,
    rng: random.Random,
    report: Callable,
) -> list[Case]:
    """Compare MMAU's or MMAR's function with ours on texts with and without letters; return the cases."""
    cases: list[Case] = []
    for row in rows:
        choices, answer = row["choices"], row["answer"]
        gold = f"({chr(ord('A') + choices.index(answer))}) {answer}"
        for reply in replies_to(choices, number, rng):
            ours = token_sets(answer, reply, choices).right
            report(module.string_match(answer, reply, choices) is ours, (answer, reply, choices))
            theirs = module.string_match(gold, reply, lettered(choices))
            report(theirs is lettered_token_sets(answer, reply, choices).right, (gold, reply))
            cases.append((row, reply, ours))
    return cases


def letter_cases(
    module: ModuleType,
    rows: list[dict[str, Any]],
    number: int,
    rng: random.Random,
    report: Callable,
) -> list[Case]:
    """Compare MMSU's function with ours; return the cases."""
    cases: list[Case] = []
    for plain in rows:
        row = as_mmsu(plain, rng)
        choices = [row[column] or "" for column in COLUMNS]
        for reply in replies_to(choices, number, rng):
            ours = first_letter(row["answer_gt"], reply, choices).right
            with contextlib.redirect_stdout(io.StringIO()):
                *_, accuracy, count = module.calculate_accuracy_per_task_and_category(
                    [{**row, "response": reply}]
                )
            theirs = None if count == 0 else accuracy == 1
            report(theirs is ours, (row["answer_gt"], reply, choices))
            cases.append((row, reply, ours))
    return cases


def whole_script(script: Path, benchmark: str, cases: list[Case]) -> tuple[str, str]:
    """Run a script on all replies; return its total, and ours in the same words."""
    key = {"mmau": "model_output", "mmar": "answer_prediction", "mmsu": "response"}[benchmark]
    rows = [{**row, key: reply} for row, reply, _ in cases]
    kept = [right for _, _, right in cases if right is not None]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ("replies.jsonl" if benchmark == "mmsu" else "replies.json")
        lines = [json.dumps(row) for row in rows]
        file.write_text("\n".join(lines) if benchmark == "mmsu" else f"[{', '.join(lines)}]")
        arguments = [str(file)] if benchmark == "mmsu" else ["--input", str(file)]
        command = [sys.executable, str(script), *arguments]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    share = sum(kept) / len(kept)
    if benchmark == "mmsu":
        found = re.search(r"Overall Accuracy: \S+\nTotal count: \d+", printed)
        return found[
            0
        ] if found else printed, f"Overall Accuracy: {share:.4f}\nTotal count: {len(kept)}"
    found = re.search(r"Total Accuracy: .*", printed)
    return found[
        0
    ] if found else printed, f"Total Accuracy: {100 * share:.2f}% over {len(kept)} samples"


def main() -> int:
    """Compare, and say what differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("benchmark", choices=["mmau", "mmar", "mmsu"])
    parser.add_argument("script", type=Path, metavar="SCRIPT")
    parser.add_argument("rows", type=Path, metavar="ROWS")
    parser.add_argument("--replies", type=int, default=20, help="for each row (20)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    differences: list[Any] = []
    compared = 0

    def report(equal: bool, case: Any) -> None:
        nonlocal compared
        compared += 1
        if not equal:
            differences.append(case)

    compare = letter_cases if arguments.benchmark == "mmsu" else match_cases
    cases = compare(
        load(arguments.script),
        read_rows(arguments.rows),
        arguments.replies,
        random.Random(arguments.seed),
        report,
    )
    theirs, ours = whole_script(arguments.script, arguments.benchmark, cases)
    counts = {right: sum(one is right for _, _, one in cases) for right in (True, False, None)}
    print(
        f"{len(cases):,} replies ({counts[True]:,} right, {counts[False]:,} wrong, {counts[None]:,} "
        f"dropped), {compared:,} comparisons: {len(differences)} differences"
    )
    print(f"whole script: {theirs!r}; ours: {ours!r}")
    for case in differences[:10]:
        print("differs:", case)
    return 1 if differences or theirs != ours else 0


if __name__ == "__main__":
    sys.exit(main())
