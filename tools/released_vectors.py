"""Hold `scoring.published_rules` to the code that they repeat: `python -m released_vectors RULE SCRIPT ...`.

The scripts are their authors': get them from the repositories that `RULES[...].source` names, at those
commits. Of a script only functions, classes and literal constants are run, without its imports, so that it
needs nothing installed; AIR-Bench's is run whole. Where it draws a choice at random, it is run once for each
choice that it can draw, and its score is the mean.

Replies are made by seed to questions that are ours. All are compared, and with --write some of them become
the rule's vectors in tests/data/published_rules.json. Exit status 1 on any difference.
"""

from __future__ import annotations
import __future__

import argparse
import ast
import io
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from compare_released import replies_to
from mmaupro_ext.scoring.official_rules import lettered
from mmaupro_ext.scoring.published_rules import RULES
from mmaupro_ext.scoring.voicebench_phrases import phrases

TARGET = Path(__file__).parents[1] / "tests" / "data" / "published_rules.json"
QUESTIONS = (
    ["Man", "Woman", "Child", "Robot"],
    ["Yes", "No"],
    ["1", "2", "3", "4"],
    ["C major", "G major", "A minor"],
    ["A dog barks twice", "A cat", "Both of them", "None of these"],
    ["Rain", "Wind", "Rain", "Hail"],
    ["Rock", "Pop and rock", "Jazz", "Folk", "Blues"],
    ["a scorpion", "a bee", "the USA", "a cat and a dog"],
)
MORE = (
    "ANSWER: {letter}", "answer : {lower}", "Answer: {text}", "I would choose {text}", "I pick ({lower}).",
    "The correct answer is: {text}", "The correct answer is: ({letter}) {text}", "<1> {letter}", "{lower}",
    "{lower}) yes", "It is {lower}. Then {other}.", "({letter}) or (A)", "{letter} or A", "{letter}. or B.",
    "<think>{other} or {letter}?</think> {letter}.", "</think>{letter}", "<think>{letter}", "'{letter}.'",
    "I listened to it for a long time and heard {text}, not {other}", "the answer is {text}",
    "In the USA the sound of {text} is common", "Is it {other}? I'd say {lower}. Yes.", "{text}!?.",
    "<analysis>({other})</analysis>\n{letter}", "<think>{text}</think>\n{letter}\n<think>A</think>B.",
    '<think signature="x">({letter})</think> {text}', "A</think> B</think>\n{letter}", "\n{letter}\n",
    "<think>A</think><analysis>B {letter}", "<think>A</think><think>({letter})</think>",
    "</think><think>{letter} ",
    "{letter}{letter}", "{text}: {letter} ", "{letter},", "  {letter}  ", "The ANSWER is: **{letter}**",
)  # fmt: skip
SKIPPED = object()
LMMS_TAGS = [
    ["<think>", "</think>"],
    ["<analysis>", "</analysis>"],
]  # the default of its --reasoning_tags
Score = Callable[[list[str], str, str], Any]


class Draws:
    """Stands in for the module `random`: says what was drawn from, and draws the one that it is told."""

    def __init__(self) -> None:
        self.turn, self.options = 0, 0

    def choice(self, options: Sequence[Any]) -> Any:
        """Return the option whose turn it is."""
        self.options = len(options)
        return options[self.turn]


def code_of(scripts: Sequence[Path], draws: Draws) -> dict[str, Any]:
    """Return the functions, classes and literal constants of scripts, by name."""

    def made(*_: Any, **fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**fields)

    found: dict[str, Any] = {
        **{"json": json, "re": re, "np": np, "defaultdict": defaultdict, "random": draws},
        **dict.fromkeys(("Sample", "Score", "ContentText", "ContentAudio"), made),
        **dict.fromkeys(("ChatMessageUser", "ContentReasoning", "bytes_to_base64"), made),
        "print": lambda *_, **__: None,
    }
    for script in scripts:
        body: list[ast.stmt] = []
        for node in ast.parse(script.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                node.bases, node.decorator_list = [], []
            elif isinstance(node, ast.Assign):
                try:
                    ast.literal_eval(node.value)
                except ValueError:
                    continue
            elif not isinstance(node, ast.FunctionDef):
                continue
            body.append(node)
        flags = __future__.annotations.compiler_flag
        module = ast.Module(body=body, type_ignores=[])
        exec(compile(module, str(script), "exec", flags=flags, dont_inherit=True), found)
    return found


def scores(rule: str, scripts: Sequence[Path], draws: Draws) -> Score:
    """Return the score that a released script gives to one reply; None where it leaves the item out."""
    if rule == "air-bench":
        return whole_air_bench(scripts[0])
    code = code_of(scripts, draws)

    def lmms_mmau(choices: list[str], answer: str, reply: str) -> float:
        reply = code["strip_reasoning_tags"](reply, LMMS_TAGS)
        doc = {"choices": json.dumps(choices), "answer": answer, "task": ""}
        try:
            return code["mmau_process_results"](doc, [reply])["accuracy"]["overall"]
        except IndexError:  # a letter that no choice has
            return 0.0

    def lmms_mmar(choices: list[str], answer: str, reply: str) -> Any:
        gold, reply = letter_of(answer, choices), code["strip_reasoning_tags"](reply, LMMS_TAGS)
        if "mmar_process_results" in code:
            options = [f"{letter_of(i)}. {choice}" for i, choice in enumerate(choices)]
            doc = {"choices": options, "answer": gold}
            return code["mmar_process_results"](doc, [reply])["mmar_accuracy"]["score"]
        if len(choices) != 4:
            return SKIPPED  # MMSU has four always
        named = {f"choice_{'abcd'[i]}": choice for i, choice in enumerate(choices)}
        return code["mmsu_process_results"]({**named, "answer": gold}, [reply])["accuracy"]["score"]

    def evalscope(choices: list[str], answer: str, reply: str) -> float | None:
        adapter = code["MMAUAdapter"]()
        row = {"question": "", "choices": choices, "answer": answer, "audio": {"bytes": b""}}
        try:
            sample = adapter.record_to_sample(row)
        except IndexError:  # more choices than it has letters
            return None
        reply, _ = code["parse_content_with_reasoning"](reply)
        return adapter.match_score(reply, reply, sample.target, None).value["acc"]

    def voicebench(choices: list[str], answer: str, reply: str) -> float:
        item = {"reference": letter_of(answer, choices), "response": reply}
        return code["MCQEvaluator"]().evaluate([item])["acc"] / 100

    def muchomusic(choices: list[str], answer: str, reply: str) -> Any:
        if answer not in choices:
            return SKIPPED
        order = list(range(1, len(choices)))
        order.insert(choices.index(answer), 0)  # the right one is option 0 before they are shuffled
        found = code["extract_responses"]([reply], [choices])
        return code["compare_answers"](found, [order])["accuracy"]

    def letter_regex(choices: list[str], answer: str, reply: str) -> float:
        text = code["remove_thinking_process"](reply)
        text = text if text.strip() else reply
        letter = code["_quick_regex_extract"](text, choices)
        letter = letter or code["_content_match_extract"](text, choices)
        gold = code["ground_truth_to_letter"](answer, choices, False)
        return float(letter is not None and letter == gold)

    def token_sets(choices: list[str], answer: str, reply: str) -> float:
        return float(code["string_match"](answer, reply, choices))

    def lettered_token_sets(choices: list[str], answer: str, reply: str) -> float:
        texts = lettered(choices)
        gold = texts[choices.index(answer)] if answer in choices else answer
        return float(code["string_match"](gold, reply, texts))

    def first_letter(choices: list[str], answer: str, reply: str) -> Any:
        if len(choices) > 4:
            return SKIPPED
        row = {"id": "", "category": "", "sub-category": "", "answer_gt": answer, "response": reply}
        row.update({f"choice_{'abcd'[i]}": choice for i, choice in enumerate(choices)})
        *_, accuracy, count = code["calculate_accuracy_per_task_and_category"]([row])
        return accuracy if count else None

    return locals()[rule.replace("-", "_")]


def whole_air_bench(script: Path) -> Score:
    """Return AIR-Bench's score: its script run on a file of one reply."""
    code = compile(script.read_text(encoding="utf-8"), str(script), "exec")

    def stop(status: int) -> None:
        raise SystemExit(status)

    def score(choices: list[str], answer: str, reply: str) -> Any:
        if len(choices) > 4:
            return SKIPPED
        row = {f"choice_{'abcd'[i]}": choice for i, choice in enumerate(choices)}
        row |= {"task_name": "t", "dataset_name": "d", "answer_gt": answer, "response": reply}
        names: dict[str, Any] = {
            "open": lambda *_: io.StringIO(json.dumps(row)),
            "exit": stop,
            "print": lambda *_, **__: None,
        }
        try:
            exec(code, names)
        except (KeyError, SystemExit):  # nothing of the task was read; an answer that is no choice
            return None
        return names["correct_num_dict"]["t_d"] / names["total_num_dict"]["t_d"]

    return score


def letter_of(what: int | str, choices: Sequence[str] = ()) -> str:
    """Return the letter of a position, or of the first choice with a text; "" where none has it."""
    position = what if isinstance(what, int) else [*choices, what].index(what)
    return "" if position == len(choices) > 0 else chr(ord("A") + position)


def more_replies(choices: list[str], number: int, rng: random.Random) -> Iterator[str]:
    """Yield replies: those of `compare_released`, others that some of these rules read, pairs of phrases."""
    yield from replies_to(choices, number, rng)
    for _ in range(number):
        index = rng.randrange(len(choices))
        letter = letter_of(index)
        fields = {"text": choices[index], "other": rng.choice(choices), "lower": letter.lower()}
        yield rng.choice(MORE).format(letter=letter, **fields)
    for _ in range(number):
        two = rng.sample(phrases(), 2)
        said = [f"{before}{rng.choice('abcdABCD')}{after}" for before, after in two]
        yield " ".join(["so it", *said, rng.choice(("", "?", "really"))])


def released_score(score: Score, draws: Draws, case: tuple[list[str], str, str]) -> Any:
    """Return what released code scores: the mean over all that it can draw, where it draws."""
    found = []
    draws.turn, draws.options = 0, 1
    while draws.turn < draws.options:
        draws.options = 1
        found.append(score(*case))
        draws.turn += 1
    return found[0] if len(found) == 1 else sum(found) / len(found)


def main() -> int:
    """Compare, say what differs, and write vectors where asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rule", choices=[name for name, rule in RULES.items() if rule.apply])
    parser.add_argument("scripts", type=Path, nargs="+", metavar="SCRIPT")
    parser.add_argument("--replies", type=int, default=300, help="of each kind to a question (300)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=int, default=0, metavar="N", help="vectors to keep")
    arguments = parser.parse_args()
    ours = RULES[arguments.rule].apply
    assert ours is not None
    draws, rng = Draws(), random.Random(arguments.seed)
    score = scores(arguments.rule, arguments.scripts, draws)
    kept: dict[Any, list[Any]] = {}
    compared = differing = 0
    for choices in QUESTIONS:
        for reply in more_replies(choices, arguments.replies, rng):
            answer = rng.choice(choices)
            if rng.random() < 0.1:  # the reference answer is none of the choices
                answer = rng.choice(
                    (answer.lower(), f"{answer} indeed", f"the {answer}!", "Silence")
                )
            theirs = released_score(score, draws, (choices, answer, reply))
            if theirs is SKIPPED:
                continue
            found = ours(choices, answer, reply)
            compared += 1
            if found.score != theirs:
                differing += 1
                if differing <= 10:
                    print("differs:", repr(reply), choices, answer, theirs, found)
            # By what came of it, so that rare ways are among the vectors as well.
            kept.setdefault((found.how, theirs, len(choices)), []).append(
                [reply, choices, answer, theirs]
            )
    print(f"{arguments.rule}: {compared:,} replies compared, {differing} differences")
    if arguments.write and not differing:
        write(arguments.rule, few(kept, arguments.write))
    return 1 if differing else 0


def few(kept: dict[Any, list[Any]], number: int) -> list[Any]:
    """Return some of the cases, as evenly as may be over the kinds."""
    found: list[Any] = []
    rounds = max(map(len, kept.values()))
    for position in range(rounds):
        for cases in kept.values():
            if position < len(cases) and len(found) < number and cases[position] not in found:
                found.append(cases[position])
    return found


def write(rule: str, vectors: list[Any]) -> None:
    """Put a rule's vectors into the file of the tests."""
    content = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.is_file() else {}
    content[rule] = {"source": RULES[rule].source, "vectors": vectors}
    lines = []
    for name in sorted(content):
        entry = content[name]
        rows = ",\n".join(f"   {json.dumps(row, ensure_ascii=False)}" for row in entry["vectors"])
        source = json.dumps(entry["source"])
        lines.append(f' "{name}": {{\n  "source": {source},\n  "vectors": [\n{rows}\n  ]\n }}')
    TARGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
