"""Compare the strict matcher and two peers with hand labels, as docs/scoring_closed.md shows.

Run from the top of the repository:

    python tests/scoring_confusion.py > docs/scoring_closed.md
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from mmaupro_ext.scoring import closed

DATA = Path(__file__).parent / "data"
SETS = {
    "closed_replies.jsonl": "Set 1, used while the matcher was written",
    "closed_replies_heldout.jsonl": "Set 2, written before the matcher, looked at after it worked",
    "closed_replies_adversarial.jsonl": "Set 3, written against the first matcher",
    "closed_replies_kinds.jsonl": "Set 4, written before the grammar ran for the first time",
    "closed_replies_models.jsonl": "Set 5, written against the grammar",
    "closed_replies_long.jsonl": "Set 6, longer replies, written against the grammar after set 5",
}

Reader = Callable[[dict], "int | None"]


def load(name: str) -> list[dict]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def strict(row: dict) -> int | None:
    return closed.match(row["reply"], row["choices"], finish=row.get("finish")).index


def _status(row: dict) -> str:
    return closed.match(row["reply"], row["choices"], finish=row.get("finish")).status


def token_set(reply: str, choices: Sequence[str]) -> int | None:
    """Read a reply as MMAU's and MMAR's string matcher does.

    A choice is accepted when all its words are in the reply and no word that only other choices
    have. That matcher is asked about the right answer alone; to see what it reads, it is asked
    about every choice here, and has read an option when it accepts exactly one.
    """

    def words(text: str) -> set[str]:
        return set(re.findall(r"\b\w+\b", text.lower()))

    said = words(reply)
    accepted = []
    for i, choice in enumerate(choices):
        own = words(choice)
        foreign = {word for other in choices if words(other) != own for word in words(other) - own}
        if said and own <= said and not said & foreign:
            accepted.append(i)
    return accepted[0] if len(accepted) == 1 else None


def letter_regex(reply: str, choices: Sequence[str]) -> int | None:
    """Read a reply as peers do that look for a letter: boxed, then "answer: X", then the last.

    Their random choice for replies without any letter is left out, in their favour.
    """
    patterns = (
        r"\\boxed\{\s*\(?([A-Z])\)?",
        r"(?i:answer)\s*(?i:is)?\s*:?\s*\(?([A-Z])\b",
        r"\b([A-Z])\b",
    )
    for pattern in patterns:
        letters = [
            letter for letter in re.findall(pattern, reply) if ord(letter) - 65 < len(choices)
        ]
        if letters:
            return ord(letters[-1]) - 65
    return None


READERS: dict[str, Reader] = {
    "strict (this package)": strict,
    "token set (MMAU, MMAR)": lambda row: token_set(row["reply"], row["choices"]),
    "letter regex (several peers)": lambda row: letter_regex(row["reply"], row["choices"]),
}


def outcome(label: int | None, read: int | None) -> str:
    if label is None:
        return "none, read as none" if read is None else "none, read as an option"
    if read is None:
        return "option, read as none"
    return "option, read right" if read == label else "option, read as another"


OUTCOMES = (
    "option, read right",
    "option, read as another",
    "option, read as none",
    "none, read as none",
    "none, read as an option",
)
AGREE = ("option, read right", "none, read as none")
WRONG = ("option, read as another", "none, read as an option")


def confusion(rows: list[dict], reader: Reader) -> Counter[str]:
    return Counter(outcome(row["label"], reader(row)) for row in rows)


FIRST_RUNS = """\
| set | replies | read right | missed | none stated, one read | another read |
| --- | ---: | ---: | ---: | ---: | ---: |
| 2, by the lists of patterns | 119 | 116 | 2 | 1 | 0 |
| 3, by the lists of patterns | 112 | 103 | 3 | 6 | 0 |
| 4, by the lists of patterns | 532 | 359 | 120 | 35 | 18 |
| 4, by the grammar | 532 | 493 | 30 | 9 | 0 |
| 5, by the lists of patterns | 583 | 466 | 81 | 26 | 10 |
| 5, by the grammar | 583 | 544 | 28 | 11 | 0 |
| 6, by the grammar | 41 | 36 | 2 | 1 | 2 |"""


def table(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])


def report() -> str:
    parts = [
        "# How well closed replies are read",
        "",
        "<!-- made by: python tests/scoring_confusion.py > docs/scoring_closed.md -->",
        "",
        "Replies were written for the purpose and labelled by hand before any matcher read them",
        "(`tests/data/closed_replies*.jsonl`). The label is the option that a reply states as its",
        "answer, or none: refusals, several options, a letter that contradicts the text beside it,",
        "an option that is only left over after others are excluded. Some rows of sets 4 and 5 say",
        "that the reply was cut at its limit. The rules are in `mmaupro_ext/scoring/closed.py`.",
        "",
        "The sets and the reader come from the same hands, and the faults that a set showed at its",
        "first run were mended, so the tables below say what the reader does with these kinds of",
        "reply now. They do not estimate its error on a model's replies; the first runs come nearer:",
        "",
        FIRST_RUNS,
        "",
        "Sets 1 to 3 were first read by the lists of patterns that the grammar replaced.",
    ]
    for name, title in SETS.items():
        rows = load(name)
        parts += ["", f"## {title}", "", f"{len(rows)} replies.", ""]
        counts = {reader: confusion(rows, read) for reader, read in READERS.items()}
        lines = [[key, *(str(counts[reader][key]) for reader in READERS)] for key in OUTCOMES]
        agree = {reader: sum(counts[reader][key] for key in AGREE) for reader in READERS}
        wrong = {reader: sum(counts[reader][key] for key in WRONG) for reader in READERS}
        lines.append(["**agreement**", *(f"{agree[r] / len(rows):.1%}" for r in READERS)])
        lines.append(["**wrong guesses**", *(f"{wrong[r] / len(rows):.1%}" for r in READERS)])
        parts.append(table(["label, reading", *READERS], lines))
        kinds = sorted({row["kind"] for row in rows})
        by_kind = []
        for kind in kinds:
            of_kind = [row for row in rows if row["kind"] == kind]
            cells = []
            for reader in READERS.values():
                found = confusion(of_kind, reader)
                cells.append(str(sum(found[key] for key in AGREE)))
            by_kind.append([kind, str(len(of_kind)), *cells])
        parts += ["", "Agreement by kind of reply:", ""]
        parts.append(table(["kind", "replies", *READERS], by_kind))
        statuses = Counter(_status(row) for row in rows)
        parts += ["", "Status of the strict reading:", ""]
        parts.append(
            table(
                ["status", "replies"],
                [[status, str(statuses[status])] for status in closed.STATUSES],
            )
        )
        known = [row for row in rows if row.get("known")]
        if known:
            parts += ["", "Known disagreements, all of them misses:", ""]
            parts += [f"* `{row['reply']}`: {row['reason']}." for row in known]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(report(), end="")
