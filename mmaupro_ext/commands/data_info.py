"""`mmaupro data info`: what is in a dataset, as tables and one picture."""

from __future__ import annotations

import argparse
import sys

from mmaupro_ext.commands.options import (
    add_benchmark_argument,
    add_dataset_arguments,
    add_json_argument,
    put_json,
)
from mmaupro_ext.errors import MMAUProError
from mmaupro_ext.util import visible

DESCRIPTION = """\
What is in the dataset, as tables and (with --figure) one picture: items by category, choices,
length, skills, sub-category, format; and what a system gets that never listens: guessing, always
the same letter, always the longest choice. Read it before you read a score.
"""

EPILOG = """\
examples:
  mmaupro data info --sample
  mmaupro data info --data-dir DIR --figure mmaupro.png
  mmaupro data info mmau                               another benchmark
  mmaupro data info --all --json info.json

Durations, rates and channels come from the manifest that `mmaupro data verify` writes; without it
the labels of the dataset are shown and the tables say so. Pictures need matplotlib:
pip install 'mmaupro-ext[plot]'.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro data info`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_benchmark_argument(parser)
    add_dataset_arguments(parser)
    parser.add_argument(
        "--figure", metavar="FILE", help="draw the picture (.png, .pdf or .svg; needs matplotlib)"
    )
    parser.add_argument(
        "--all", action="store_true", help="every skill, sub-category and format, not the top ten"
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data info`.

    Parameters
    ----------
    args : argparse.Namespace
        What `add_arguments` describes.

    Returns
    -------
    int
        Exit status: 0, or 2 when there is no dataset or an option is wrong.
    """
    from mmaupro_ext.data import info
    from mmaupro_ext.report import figures, overview

    try:
        target = figures.check_target(args.figure) if args.figure else None
        facts = info.overview(args.data_dir, args.sample, args.benchmark)
        if args.json != "-":
            print(visible(info.render(facts, None if args.all else 10)))
        put_json(facts, args.json)
        if target is not None:
            overview.draw(facts, target)
            print(f"\nPicture: {target}", file=sys.stderr)
    except MMAUProError as error:
        print(visible(f"mmaupro data info: {error}"), file=sys.stderr)
        return 2
    return 0
