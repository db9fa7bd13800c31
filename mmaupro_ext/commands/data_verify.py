"""`mmaupro data verify`: whether a copy is complete, readable and what it is said to be."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmaupro_ext.benchmarks import BENCHMARKS
from mmaupro_ext.commands.options import (
    add_benchmark_argument,
    add_dataset_arguments,
    add_json_argument,
    put_json,
    whole_number,
)
from mmaupro_ext.data import text
from mmaupro_ext.errors import MMAUProError

if TYPE_CHECKING:
    from mmaupro_ext.data.findings import Difference
    from mmaupro_ext.data.verify import VerifyReport

DESCRIPTION = """\
Check a copy of a benchmark before you spend GPU hours on it: the counts that the paper and others
state, every row against the schema, and every clip decoded to its last sample and hashed.

What is measured is kept in manifest.json beside the rows (in your cache folder when the
dataset's folder cannot be written): sha256, seconds, rate, channels, level of every clip.
"""

EPILOG = """\
examples:
  mmaupro data verify --data-dir DIR          read everything once (53 GB; uses all cores)
  mmaupro data verify --data-dir DIR --quick  a second later: sizes and times against the manifest
  mmaupro data verify mmar                    another benchmark
  mmaupro data verify --sample                the sample inside this package (seconds)
  mmaupro data verify --json report.json      every case of every finding, for programs

Ctrl-C keeps what was read; the same command goes on from there.

exit status:
  0  everything is as stated (notes about the data may be listed: they are properties of the
     released data, such as answers that are not among the choices)
  1  differences: a count, a missing, broken or changed clip, a row that breaks the schema
  2  there is no dataset, or an option is wrong
  130  interrupted with Ctrl-C
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro data verify`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    add_benchmark_argument(parser)
    add_dataset_arguments(parser)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="read no clip: compare size and modification time with the manifest",
    )
    parser.add_argument(
        "--jobs",
        type=whole_number,
        metavar="N",
        help="clips read at the same time (default: the cores that this process may use)",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="take the present bytes of clips that differ from the manifest as right",
    )
    parser.add_argument(
        "--examples",
        type=whole_number,
        default=3,
        metavar="N",
        help="cases shown per finding (default: %(default)s; --json has all of them)",
    )
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data verify`.

    Parameters
    ----------
    args : argparse.Namespace
        What `add_arguments` describes.

    Returns
    -------
    int
        Exit status: 0 as stated, 1 differences, 2 no dataset or a wrong option, 130 interrupted.
    """
    from mmaupro_ext.data import clips
    from mmaupro_ext.data.verify import verify

    try:
        report = verify(
            args.data_dir,
            args.sample,
            jobs=args.jobs,
            quick=args.quick,
            accept_changes=args.accept_changes,
            progress=True,
            name=args.benchmark,
        )
        if args.json != "-":
            print(text.visible(render(report, args.examples)))
        put_json(report.to_json(), args.json)
    except clips.ScanInterruptedError as stopped:
        print(f"\n{stopped}. The same command goes on from there.", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except MMAUProError as error:
        print(text.visible(f"mmaupro data verify: {error}"), file=sys.stderr)
        return 2
    return 0 if report.ok else 1


def render(report: VerifyReport, examples: int = 3) -> str:
    """Return the report for people.

    Parameters
    ----------
    report : VerifyReport
        What `verify` returned.
    examples : int
        Cases shown per finding.

    Returns
    -------
    str
        Several lines without a final newline.
    """
    totals = report.clips
    head = (
        f"{report.dataset} in {report.folder}\n"
        f"{totals['present']:,} of {totals['referenced']:,} clips present, "
        f"{text.size(totals['bytes'])}"
    )
    if totals["seconds"]:
        head += f", {text.duration(totals['seconds'])} of sound"
    way = "sizes and times only" if report.quick else f"{totals['read']:,} clips read to their end"
    head += f"; {way} in {text.duration(report.elapsed_s)}"
    facts = text.table(
        ("fact", "stated", "found", "verdict", "how sure"),
        [
            (
                fact.statement,
                fact.expected,
                fact.found,
                fact.verdict,
                "-" if fact.expected is None else fact.confidence,
            )
            for fact in report.facts
        ],
    )
    parts = [head, facts]
    for title, found in (
        ("Problems", report.problems),
        ("Notes on the data (they change no verdict)", report.notes),
    ):
        lines = [f"{title}: {'none' if not found else ''}".rstrip()]
        for number, difference in enumerate(found, 1):
            lines += _render_difference(number, difference, examples)
        parts.append("\n".join(lines))
    parts.append(_verdict(report))
    return "\n\n".join(parts)


def _render_difference(number: int, found: Difference, examples: int) -> list[str]:
    count = len(found.examples)
    unit = found.unit[:-1] if count == 1 else found.unit
    lines = [f"{number:3}. {found.title}: {count:,} {unit}"]
    for example in found.examples[:examples]:
        shown = example if len(example) <= 240 else f"{example[:237]}..."
        lines.append(text.paragraph(f"- {shown}", indent=" " * 7))
    if count > examples:
        lines.append(f"{' ' * 7}... and {count - examples:,} more (all with --json FILE)")
    lines.append(text.paragraph(f"-> {found.fix}", indent=" " * 5))
    return lines


def _verdict(report: VerifyReport) -> str:
    off = sum(fact.verdict == "DIFFERS" for fact in report.facts)
    lines = []
    if report.manifest:
        lines.append(f"Manifest: {report.manifest} (later: mmaupro data verify --quick)")
        titles = {benchmark.title for benchmark in BENCHMARKS.values()}
        if Path(report.manifest).parent != Path(report.folder) and report.dataset in titles:
            lines.append(
                f"It is in your cache folder because {report.folder} cannot be written; "
                "`mmaupro data` commands find it there."
            )
    if report.ok:
        lines.append("Verdict: everything is as stated.")
    else:
        lines.append(
            f"Verdict: {off} of the stated numbers differ, {len(report.problems)} problem(s). "
            f"A result on this copy is not a result on {report.dataset} as released."
        )
    return "\n".join(lines)
