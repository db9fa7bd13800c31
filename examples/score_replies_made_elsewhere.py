"""Scores replies that some other program wrote: a line of JSON each, {"id": …, "reply": …}.

$ python score_replies_made_elsewhere.py replies.jsonl

Here on the items of the sample; `load_category(slug, data_dir=DIR)` has those of the benchmark. The command
`mmaupro reconcile replies.jsonl --sample` shows the same replies under every published rule.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

from mmaupro_ext.data import CATEGORIES, load_category
from mmaupro_ext.scoring import score


def main(path):
    docs = {doc["id"]: doc for slug in CATEGORIES for doc in load_category(slug, sample=True)}
    replies = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        replies[entry["id"]] = entry["reply"]
    unknown = replies.keys() - docs.keys()
    if unknown:
        raise SystemExit(f"{path}: not in the sample: {', '.join(sorted(unknown)[:5])}")
    scores = defaultdict(list)
    for name, doc in docs.items():
        verdict = score(doc, replies.get(name, ""), "strict")  # who says nothing is wrong
        if verdict.score is not None:  # open questions wait for a judge
            scores[doc["category"]].append(verdict.score)
    for category, values in scores.items():
        print(f"{category:24} {sum(values):5.1f} of {len(values)}")
    every = [value for values in scores.values() for value in values]
    print(f"{'all':24} {sum(every):5.1f} of {len(every)} ({len(replies)} replies)")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:])
