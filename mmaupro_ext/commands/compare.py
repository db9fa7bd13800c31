"""`mmaupro compare`: whether the difference between two runs is more than chance."""

from __future__ import annotations

import argparse
import json

from mmaupro_ext.util import visible, visible_json

DESCRIPTION = """\
Compare runs on the same items, each with the first: the difference with its interval, paired and
clustered by clip, p by the same rule with Holm's correction over categories, items won and lost, and the
smallest difference that this many items can show.

Runs that were asked different items or in different words are refused, unless told otherwise.
"""

EPILOG = """\
examples:
  mmaupro compare results/MODEL-A results/MODEL-B
  mmaupro compare results/BASE results/TUNED-1 results/TUNED-2 --json > differences.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro compare`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of results, or results files, as for `mmaupro report`; the first is compared with",
    )
    parser.add_argument(
        "--preset", default="strict", help="how replies are scored (default: strict)"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="the full dataset, as for `mmaupro score`"
    )
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help="which one, where the runs have replies to several; mmaupro-text, where to several prompts",
    )
    parser.add_argument(
        "--accept-different",
        action="store_true",
        help="compare what both runs have, although items or prompts differ; the result says so",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the ids won and lost")


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro compare` and return the exit status."""
    from mmaupro_ext import extras

    extras.require("a comparison", "pandas")
    from mmaupro_ext.report import comparison, frames

    found = comparison.compare(
        frames.load(
            *args.runs, preset=args.preset, data_dir=args.data_dir, benchmark=args.benchmark
        ),
        accept_different=args.accept_different,
    )
    if args.json:
        print(visible_json(json.dumps(comparison.as_dict(found), indent=2, ensure_ascii=False)))
    else:
        print(visible(comparison.render(found)))
    return 0
