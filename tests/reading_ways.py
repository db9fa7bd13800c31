"""State every option of real choices in many ways, and read each statement back.

By hand, over files of questions (JSON or JSON lines, with a list under "choices"):

    python tests/reading_ways.py FILE…
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mmaupro_ext.scoring import closed

# {L} and {T} are the letter and the text of the option that is stated, {M} and {O} of another.
STATED = (
    "{L}", "({L})", "{L}.", "**{L}**", "Answer: {L}", "The answer is {L}.", "Option {L}",
    "The correct answer is ({L}).", "\\boxed{{{L}}}", "I would choose {L}.",
    "{T}", "{T}.", "**{T}**", "The answer is {T}.", "Answer: {T}", "<answer>{T}</answer>",
    'The correct answer is "{T}".', "\\boxed{{{T}}}", '{{"answer": "{T}"}}', "{lower}", "{upper}",
    "I think the answer is {T}.", "The answer is not {O}; it is {T}.",
    "{L}. {T}", "({L}) {T}", "{L}: {T}", "{T} ({L})", "The correct option is ({L}) {T}",
    "**Answer:** {L}) {T}", "Option {L}: {T}", "{L}) {T}\n\nThis follows from what can be heard.",
    "<think>Perhaps {O}? No.</think>\nThe answer is {L}) {T}.", "Not {M}. The answer is {L}.",
    "At first I thought {M}, but the answer is {L}.",
)  # fmt: skip
# "The answer is not intense" states "Not intense".
_DENYING = re.compile(r"\b(?:not|no|neither|never|none|or|and)\b|n't")
# Nothing is stated here.
UNSTATED = (
    "Not {L}.", "The answer is not {L}.", "{L} is wrong.", "{L} or {M}", "The answer is {L} or {M}.",
    "({L}) and ({M})", "Is it {L}?", "{M}. {T}", "The answer is ({M}) {T}.", "I'd rule out {L}.",
    "The answer is not {T}.", "{T} or {O}", "It is either {T} or {O}.", "<think>The answer is {L}.",
    "I cannot tell whether it is {L} or {M}.", "Neither {L} nor {M}.", "Everything except {L}.",
)  # fmt: skip


def readings(
    questions: Iterable[Sequence[str]],
) -> Iterator[tuple[str, Sequence[str], int | None, int | None]]:
    """Yield reply, choices, the option that it states and the one that is read.

    Options that are the same as another or beyond Z are left out, and questions with an option of
    one character, which may be a label as well.
    """
    for choices in questions:
        folded = [choice.strip().casefold() for choice in choices]
        if len(choices) < 2 or any(len(text) < 2 for text in folded):
            continue
        for k, text in enumerate(choices[:26]):
            if folded.count(folded[k]) > 1:
                continue
            other = (k + 1) % len(choices)
            words = {"L": chr(65 + k), "T": text, "lower": text.lower(), "upper": text.upper()}
            words |= {"M": chr(65 + other), "O": choices[other]}
            for way in STATED:
                reply = way.format(**words)
                yield reply, choices, k, closed.match(reply, choices).index
            if folded.count(folded[other]) > 1 or _DENYING.search(" ".join(folded)):
                continue
            words |= {"T": text.strip().rstrip("."), "O": choices[other].strip().rstrip(".")}
            for way in UNSTATED:
                reply = way.format(**words)
                yield reply, choices, None, closed.match(reply, choices).index


def questions(paths: Iterable[str]) -> Iterator[list[str]]:
    """Yield the choices of the questions in JSON and JSON-lines files."""
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        yield from (row["choices"] for row in rows)


def main(paths: list[str]) -> None:
    counts: Counter[str] = Counter()
    for reply, choices, stated, read in readings(questions(paths)):
        right, missed = read == stated, read is None
        counts["right" if right else "missed" if missed else "wrong"] += 1
        if not right:
            print("missed" if missed else "WRONG", repr(reply), choices, stated, read)
    print(dict(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
