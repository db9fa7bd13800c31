"""`mmaupro report`: a page to look at, with figures and every item; rows for papers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import visible

if TYPE_CHECKING:
    from mmaupro_ext.report.frames import Frames

DESCRIPTION = """\
Make a report of one or several runs: one HTML page that needs no network (scores with intervals beside
published ones, where a model is good, what happened, every item with its clips), and the same as
Markdown, CSV, JSON and figures. Runs are folders of lm_eval's results with --log_samples; of one that
`mmaupro ablate` wrote, the page also says what listening adds and what the answers rest on.

Scores under other presets than `strict` are shown when `mmaupro score` left them beside the run.
"""

EPILOG = """\
examples:
  mmaupro report results/MODEL
  mmaupro report results/MODEL-A results/MODEL-B -o comparison
  mmaupro report results/MODEL --serve        # where the browser plays no clips from files
  mmaupro report results/MODEL --row latex    # the row for a paper's table, and nothing else
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro report`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of results, of which the newest run is meant, or the results file of another",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        help="folder to write to (default: report, beside the first run)",
    )
    parser.add_argument(
        "--preset", default="strict", help="how replies are scored (default: strict)"
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the full dataset: for lengths, and for clips that are not where the run read them",
    )
    parser.add_argument(
        "--benchmark",
        metavar="NAME",
        help="which one, where the runs have replies to several; mmaupro-text, where to several prompts",
    )
    parser.add_argument(
        "--accept-different",
        action="store_true",
        help="compare what the runs share, although items or prompts differ; the page says so",
    )
    parser.add_argument(
        "--waves",
        action=argparse.BooleanOptionalAction,
        help="read the clips for their waveforms (default: if they are at most 500)",
    )
    parser.add_argument(
        "--row",
        nargs="?",
        const="markdown",
        metavar="NOTATION",
        help="print the row of the paper's table and stop: markdown, latex, csv or model-index",
    )
    parser.add_argument(
        "--serve", action="store_true", help="serve the page and its clips on loopback until Ctrl-C"
    )
    parser.add_argument("--port", type=int, default=0, help="of --serve (default: any free one)")


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro report` and return the exit status."""
    from mmaupro_ext import extras

    if args.output and args.output.endswith(".html"):
        raise ConfigError(f"-o {args.output}: name a folder; the page in it is report.html")
    if args.row:
        extras.require("--row", "pandas")
    else:
        extras.require("a report", *extras.PAGE)
    from mmaupro_ext.report import frames, page, rows

    found = frames.load(
        *args.runs, preset=args.preset, data_dir=args.data_dir, benchmark=args.benchmark
    )
    if args.row:
        print(visible(rows.rows(found, args.row)))
        return 0
    folder = Path(args.output) if args.output else Path(found.runs.folder.iloc[0]) / "report"
    written = page.write(
        found,
        folder,
        data_dir=args.data_dir,
        waves=args.waves,
        accept_different=args.accept_different,
    )
    print(f"Page:    {written['html']} ({written['html'].stat().st_size / 1e6:.1f} MB)")
    print(f"Figures: {written['figures']}; tables: {folder}/*.csv, report.md, report.json")
    return _serve(found, folder, args) if args.serve else 0


def _serve(found: Frames, folder: Path, args: argparse.Namespace) -> int:
    from mmaupro_ext.report import page, serve

    clips = page.clip_files(found, folder, args.data_dir)
    with serve.server(folder.resolve(), clips, args.port) as server:
        print(f"Serving on http://127.0.0.1:{server.server_address[1]}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
