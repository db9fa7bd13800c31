"""`mmaupro reconcile`: one file of replies under every published rule, and why two numbers differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.commands import score_models
from mmaupro_ext.commands.options import add_dataset_arguments
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.scoring import presets
from mmaupro_ext.scoring.published_rules import RULES
from mmaupro_ext.util import visible, visible_json

DESCRIPTION = """\
Why do two papers print two numbers? Read one file of multiple-choice replies as each harness and paper
reads it, over each set of items that one may divide by, and say which items make the difference.

RUN is a run's folder or samples, or a file made elsewhere (.jsonl or .csv) with `id` and `reply`, or
`error` in place of the reply; its questions are those of --benchmark, or come as `choices` and `answer`.
"""

EPILOG = """\
rules:
{rules}

sets of items: released (what the rule's own script divides by), all, served, parsed, audited

examples:
  mmaupro reconcile results/MODEL
  mmaupro reconcile replies.csv --benchmark mmau --data-dir DIR
  mmaupro reconcile results/MODEL --pair lmms-mmau/released token-sets/all
  mmaupro reconcile results/MODEL --embedder nvidia/NV-Embed-v2 --reader hf:NAME --format markdown
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro reconcile`."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG.format(
        rules="\n".join(f"  {rule.name:<20} {rule.about}" for rule in RULES.values())
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="see above; several form one run")
    parser.add_argument(
        "--pair",
        nargs=2,
        action="append",
        metavar=("A", "B"),
        help="say why B differs from A, each RULE or RULE/SET (default: each rule as released against "
        "strict/all, and against the official one); may be given several times",
    )
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help=f"whose replies: {', '.join(BENCHMARKS)}; mmaupro-text, where a run has several prompts",
    )
    add_dataset_arguments(parser)
    parser.add_argument("--time", help="time stamp of a folder's run, or its beginning")
    parser.add_argument(
        "--accept-changed",
        action="store_true",
        help="go on although items are missing or were asked otherwise; the result says so",
    )
    parser.add_argument(
        "--format",
        choices=("table", "markdown", "json"),
        default="table",
        help="of what is printed",
    )
    parser.add_argument("--figure", metavar="FILE", help="draw the matrix too: .png, .svg or .html")
    score_models.add_reading_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro reconcile` and return the exit status."""
    from mmaupro_ext.offline import logged_runs, plain_replies, reconciled
    from mmaupro_ext.report import reconciliation
    from mmaupro_ext.report.chart_parts import check_picture, write_picture

    if args.figure:
        check_picture(args.figure)
    if any(map(plain_replies.is_plain, args.runs)):
        if len(args.runs) > 1:
            raise ConfigError("a file of replies stands by itself: name one, or a run's samples")
        runs = [
            plain_replies.read_plain(
                args.runs[0],
                args.benchmark or MMAUPRO,
                args.data_dir,
                args.sample,
                args.accept_changed,
            )
        ]
    else:
        runs = logged_runs.read_all(
            args.runs, args.time, "resps", args.accept_changed, args.data_dir, args.benchmark
        )
    if args.figure and len(runs) > 1:
        raise ConfigError(f"--figure {args.figure}: is of one benchmark. Add --benchmark NAME")
    results = []
    for replies in runs:
        embedded = replies.name == MMAUPRO
        found = reconciled.reconcile(
            replies,
            score_models.embedder_of(args, presets.PRESETS["official"]) if embedded else None,
            score_models.reader_of(args, presets.PRESETS["strict"]) if args.reader else None,
        )
        pairs = (
            [found.named_pair(*names) for names in args.pair] if args.pair else found.usual_pairs()
        )
        results.append((found, pairs))
    if args.format == "json":
        content = [reconciliation.as_dict(*result) for result in results]
        print(visible_json(json.dumps(content, indent=1, ensure_ascii=False)))
    else:
        show = reconciliation.markdown if args.format == "markdown" else reconciliation.render
        print(visible("\n\n\n".join(show(*result) for result in results)))
    if args.figure:
        write_picture(reconciliation.chart(results[0][0]), Path(args.figure))
    return 1 if any(found.failed for found, _ in results) else 0
