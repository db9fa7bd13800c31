"""`mmaupro features`: the features of a corpus, as a model takes them, in files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from mmaupro_ext.commands.options import whole_number

DESCRIPTION = """\
Write the features of a whole corpus: log-mel frames as a family of models, or a checkpoint, takes
them, for encoders to train on. Clips are served one at a time, whole, and mixed to mono; what is
written whole stays, so the same command goes on where it stopped. Damaged clips are listed with
what is wrong, never left out in silence. docs/corpus.md says more, and plans 100,000 hours.
"""

EPILOG = """\
examples:
  mmaupro features speech/ -o features                     every clip below a folder
  mmaupro features data/train-*.parquet -o features        sound, or paths, in parquet files
  mmaupro features speech/ -o features --family parakeet
  mmaupro features speech/ -o features --family org/model  as its checkpoint has it
  mmaupro features speech/ -o features --workers 16        16 cores, by Ray: mmaupro-ext[ray]
  RAY_ADDRESS=auto mmaupro features ...                    on a cluster of Ray that runs

exit status:
  0  every clip is served
  1  some are damaged, see damaged.jsonl
  2  an option is wrong, or a folder cannot be used
  130  interrupted with Ctrl-C
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro features`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "source", nargs="+", metavar="PARQUET|FOLDER", help="a folder with clips, or parquet files"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder for the features"
    )
    parser.add_argument(
        "--family",
        metavar="NAME",
        default="whisper-128",
        help="whisper-128 (default), whisper-80, dots3, gemma3n, gemma4, granite, inkling, parakeet, "
        "phi4, or a checkpoint",
    )
    parser.add_argument(
        "--workers",
        type=whole_number,
        default=1,
        metavar="N",
        help="processes, each on one core (default: 1, without Ray)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the features, and say what became of the clips.

    Returns
    -------
    int
        Exit status: 0, 1 when clips are damaged, 130 when interrupted.
    """
    from mmaupro_ext.corpus.extract import DAMAGED, extract
    from mmaupro_ext.util import visible

    try:
        report = extract(
            args.source,
            args.output,
            family=args.family,
            workers=args.workers,
            progress=_progress(),
        )
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on from there.", file=sys.stderr)
        return 130
    total, manifest = report.outcome, report.manifest
    print(
        f"{total.clips:,} clips, {manifest['hours']:,.2f} hours: {total.frames:,} frames of "
        f"{manifest['bands']} ({manifest['family']}) in {report.shards:,} shards of {args.output}"
        + (f", {total.kept:,} of them from earlier" if total.kept else "")
    )
    if report.others:
        kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(report.others.items()))
        print(visible(f"Taken for no clips, by their names: {kinds}"))
    if total.damaged:
        print(f"DAMAGED: {len(total.damaged):,} clips have no features ({args.output}/{DAMAGED}):")
        for one in total.damaged[:3]:
            print(visible(f"  {one['path']}: {one['problem']}"))
    return 1 if total.damaged else 0


def _progress() -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar = tqdm(desc="writing shards", unit="shard", disable=None)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
