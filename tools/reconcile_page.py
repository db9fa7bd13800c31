"""Write the two examples into docs/reconcile.md: `python -m reconcile_page [RUN]`.

RUN is a run of nano on the embedded sample; without it that example stays. The other is made of replies that
are hand-made in the manner of models. What each states is its answer; one by seed where it states none.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

from mmaupro_ext.offline.logged_runs import Run, read_runs
from mmaupro_ext.offline.plain_replies import read_plain
from mmaupro_ext.offline.reconciled import Reconciled, reconcile
from mmaupro_ext.report import reconciliation

REPO = Path(__file__).parents[1]
PAGE = REPO / "docs" / "reconcile.md"
REPLIES = REPO / "tests" / "data" / "closed_replies_models.jsonl"
PAIRS = {
    "nano": (("strict/all", "lmms-mmau/released"), ("token-sets/released", "muchomusic/released")),
    "hand-made": (
        ("strict/all", "first-letter/released"),
        ("strict/all", "lmms-mmau/released"),
        ("first-letter/all", "first-letter/released"),
        ("lmms-mmau/released", "evalscope/released"),
    ),
}


def hand_made(seed: int = 0) -> Run:
    """Return the labelled replies as a run."""
    rng = random.Random(seed)
    lines = []
    for number, line in enumerate(REPLIES.read_text(encoding="utf-8").splitlines()):
        reply = json.loads(line)
        choices, label = reply["choices"], reply["label"]
        answer = rng.choice(choices) if label is None else choices[label]
        row = {"id": f"r{number:03}", "reply": reply["reply"], "choices": choices, "answer": answer}
        lines.append(json.dumps(row) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hand-made.jsonl"
        file.write_text("".join(lines), encoding="utf-8")
        return read_plain(file)


def example(name: str, run: Run) -> str:
    """Return an example as Markdown."""
    found: Reconciled = reconcile(run)
    return reconciliation.markdown(found, [found.named_pair(*pair) for pair in PAIRS[name]], False)


def page(name: str, run: Run) -> str:
    """Return the page with one of its examples made anew."""
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    return f"{before}{begin}\n{example(name, run)}\n\n{end}{rest.split(end)[1]}"


def with_rules(text: str) -> str:
    """Return a text of the page with the table of rules made anew."""
    begin, end = "<!-- begin rules -->\n", "<!-- end rules -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{reconciliation.rules_table()}\n\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write what there is."""
    PAGE.write_text(with_rules(page("hand-made", hand_made())), encoding="utf-8")
    for folder in sys.argv[1:]:
        PAGE.write_text(page("nano", read_runs([folder])), encoding="utf-8")


if __name__ == "__main__":
    main()
