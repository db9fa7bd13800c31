"""`mmaupro runs`: which runs there are, how far each got, and how it goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmaupro_ext.commands.options import add_json_argument, put_json
from mmaupro_ext.errors import ConfigError

DESCRIPTION = """\
List the runs whose answers are kept in or below DIR: what is done, what is left, what errored, and
the command that goes on. docs/runs.md says more of journals.
"""

EPILOG = """\
examples:
  mmaupro runs results
  mmaupro runs --json runs.json

Without DIR, runs below this folder, and those that were started without --output_path.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro runs`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("folder", nargs="?", metavar="DIR", help="where to look")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the list.

    Returns
    -------
    int
        Exit status: 0, or 1 when there is no run.
    """
    from mmaupro_ext.models.journal import FOLDER
    from mmaupro_ext.report import runs
    from mmaupro_ext.util import cache_dir

    places = [Path(args.folder)] if args.folder else [Path(), cache_dir() / FOLDER]
    if args.folder and not places[0].is_dir():
        raise ConfigError(f"{args.folder}: there is no such folder.")
    try:
        found = runs.below(*places)
    except OSError as error:
        raise ConfigError(f"a journal cannot be read: {error}. Make it readable.") from error
    if args.json != "-":
        where = " and ".join(str(place.absolute()) for place in places)
        print(runs.listing(found) if found else f"no runs in or below {where}")
    put_json({"runs": [one.as_dict() for one in found]}, args.json)
    return 0 if found else 1
