"""`mmaupro models`: which audio models hf-audio knows, and what it knows of them."""

from __future__ import annotations

import argparse

DESCRIPTION = """\
List the families of audio models that --model hf-audio knows: how long a clip each hears its own
way, how many tokens half a minute takes, what it needs beside torch and transformers. With NAME,
everything that is known of one.
"""

EPILOG = """\
examples:
  mmaupro models
  mmaupro models qwen2_5_omni
  mmaupro models Qwen/Qwen2.5-Omni-7B         by a name on the hub that says the type
  mmaupro models FOLDER                       of a checkpoint

A model type that is not listed is served the generic way where its processor takes audio beside
text; the results then carry a note. `mmaupro doctor` checks a checkpoint.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro models`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a model type, or a checkpoint, to see all of it",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the list as a table for a page"
    )


def run(args: argparse.Namespace) -> int:
    """Print the list, or one family."""
    from mmaupro_ext.report import model_list

    if args.name:
        print(model_list.describe(model_list.find(args.name)))
    else:
        print(model_list.listing(args.markdown))
    return 0
