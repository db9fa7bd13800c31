"""`mmaupro data fetch`: fetch a benchmark; MMAU-Pro also in part."""

from __future__ import annotations

import argparse
import sys
import textwrap

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.commands.options import add_benchmark_argument
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.locate import named_folder
from mmaupro_ext.data.schema import CATEGORIES, LENGTH_TYPES
from mmaupro_ext.data.selection import Criteria, parse_categories, parse_length_types, read_ids
from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.util import visible

EXAMPLES = """
examples:
  mmaupro data fetch --limit 120 --seed 1
                        a first real result: a stratified sample of 120 items, about 1 GB
  mmaupro data fetch --category spatial_audio voice_chat
                        two of the twelve categories
  mmaupro data fetch --ids my-items.txt --to /data/MMAU-Pro
                        the items whose ids are in a file, one per line
  mmaupro data fetch --to /data/MMAU-Pro
                        everything: 47.5 GB to download, 53 GB on disk (the zip itself is not kept)
  mmaupro data fetch --category music --dry-run
                        what would be fetched, how much it is and whether it fits; writes nothing
  mmaupro data fetch mmau
                        another benchmark, always whole: 1.2 GB, as mmar 3.0 GB and mmsu 1.5 GB
  HF_ENDPOINT=https://mirror.example mmaupro data fetch --limit 120
                        the same from a mirror (HF_TOKEN and HTTPS_PROXY work as everywhere)

Interrupt it whenever you like: the same command goes on where it was. A later fetch with other
options adds to what is there; a fetch without a selection completes it. Then:

  mmaupro run --tasks mmaupro --metadata data_dir=/data/MMAU-Pro --model hf-audio ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro data fetch`, its description and its examples."""
    parser.description = textwrap.dedent(
        f"""\
        Fetch a benchmark from the host that its description names: {", ".join(BENCHMARKS)}.

        Of MMAU-Pro only the clips that are asked for are read out of the remote data.zip, several
        at a time, and each is checked against the size and the CRC-32 that the archive states. The
        others come in whole files, which are checked against their sha256 and unpacked. Free space
        is checked before the first clip. What is fetched is never fetched again."""
    )
    parser.epilog = EXAMPLES
    add_benchmark_argument(parser)
    parser.add_argument(
        "--to",
        metavar="DIR",
        help="the folder (default: $MMAUPRO_DATA, $MMAU_DATA and so on, else the benchmark's name "
        "in the user's cache)",
    )
    what = parser.add_argument_group(
        "what of MMAU-Pro to fetch (combined with 'and'; default: everything)"
    )
    what.add_argument(
        "--category",
        nargs="+",
        action="extend",
        default=[],
        metavar="C",
        help="categories: " + ", ".join(CATEGORIES),
    )
    what.add_argument(
        "--length-type",
        nargs="+",
        action="extend",
        default=[],
        metavar="T",
        help="values of length_type: " + ", ".join(LENGTH_TYPES),
    )
    what.add_argument("--ids", metavar="FILE", help="a file of item ids, one per line")
    what.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="a random sample of N items, stratified by category (proportional; at least one item "
        "of each category when N allows)",
    )
    what.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of the sample (default: 0)"
    )
    how = parser.add_argument_group("from where and how")
    how.add_argument(
        "--revision", help="commit, branch or tag of MMAU-Pro (default: the pinned commit)"
    )
    how.add_argument("--repo", help="dataset repository of MMAU-Pro, such as a copy of it")
    how.add_argument(
        "--jobs",
        type=int,
        default=4,
        metavar="N",
        help="connections at once, for MMAU-Pro (default: %(default)s)",
    )
    how.add_argument(
        "--retries",
        type=int,
        default=8,
        metavar="N",
        help="attempts without headway before giving up (default: %(default)s)",
    )
    how.add_argument("--dry-run", action="store_true", help="say what would be done and do nothing")


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data fetch`.

    Returns
    -------
    int
        Exit status: 0 when everything that was asked for is there, 1 when not, 2 for options that
        cannot be honoured, 130 after Ctrl-C.
    """
    # Libraries that take a second to import, which the help of a command need not cost.
    from mmaupro_ext.data.fetch import fetch

    try:
        request = _request(args)
        return 0 if fetch(request) else 1
    except ConfigError as error:
        print(visible(f"mmaupro data fetch: {error}"), file=sys.stderr)
        return 2
    except MMAUProError as error:
        print(visible(f"mmaupro data fetch: {error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmaupro data fetch: interrupted", file=sys.stderr)
        return 130


def _request(args: argparse.Namespace) -> Request:
    if not 1 <= args.jobs <= 32:
        raise ConfigError(f"--jobs {args.jobs}: between 1 and 32 connections are possible")
    if args.retries < 1:
        raise ConfigError(f"--retries {args.retries}: at least one attempt is needed")
    criteria = Criteria(
        categories=parse_categories(args.category),
        length_types=parse_length_types(args.length_type),
        ids=read_ids(args.ids) if args.ids else None,
        limit=args.limit,
        seed=args.seed,
    )
    return Request(
        root=named_folder(args.to, args.benchmark)[0],
        benchmark=BENCHMARKS[args.benchmark],
        criteria=criteria,
        repo=args.repo,
        revision=args.revision,
        jobs=args.jobs,
        dry_run=args.dry_run,
        retries=args.retries,
    )
