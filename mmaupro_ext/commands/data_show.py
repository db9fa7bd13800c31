"""`mmaupro data show`: one item as a person would look at it, and what a model hears of it."""

from __future__ import annotations

import argparse
import sys

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.commands.options import add_dataset_arguments, add_json_argument, put_json
from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.util import visible

DESCRIPTION = """\
One item as a person would look at it: question, choices with the answer marked, metadata, its
clips, and what a model hears of them: rate, channels, windows. With --figure a picture of the
waveforms and of the mel spectrogram that the model gets. Nothing is played.
"""

EPILOG = """\
examples:
  mmaupro data show 025f --sample                      a unique beginning of the id is enough
  mmaupro data show mmar ID                            an item of another benchmark
  mmaupro data show ID --data-dir DIR --figure item.png
  mmaupro data show ID --model qwen2_5_omni            what another model hears

ID may also be the path or name of a clip. Pictures need matplotlib:
pip install 'mmaupro-ext[plot]'.

exit status: 0; 1 when a clip is missing or broken (the rest is shown); 2 for a wrong id or option.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro data show`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[BENCHMARK] ID",
        help=f"{', '.join(BENCHMARKS)} (default: {MMAUPRO}), and the id of an item or a unique "
        "beginning of it",
    )
    add_dataset_arguments(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        default="qwen2_audio",
        help="whose hearing to show: a model type of `mmaupro models` (default: %(default)s)",
    )
    parser.add_argument(
        "--window",
        type=_seconds,
        metavar="SECONDS",
        help="windows of at most so many seconds, as long_audio=windows gives them, where the model "
        "would take more or less",
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="draw the item (.png, .pdf or .svg; needs matplotlib)"
    )
    add_json_argument(parser)


def _seconds(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0.1 <= number <= 3600.0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of seconds from 0.1 to 3600")
    return number


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data show`.

    Parameters
    ----------
    args : argparse.Namespace
        What `add_arguments` describes.

    Returns
    -------
    int
        Exit status: 0; 1 when a clip cannot be used; 2 for a wrong id, dataset or option.
    """
    from mmaupro_ext.report import figures, item_figure, item_text
    from mmaupro_ext.report.item import show

    try:
        target = figures.check_target(args.figure) if args.figure else None
        *named, wanted = args.words
        name = named[0] if named else MMAUPRO
        if len(named) > 1 or name not in BENCHMARKS:
            known = ", ".join(BENCHMARKS)
            raise ConfigError(f"give [BENCHMARK] ID, not {args.words}. The benchmarks: {known}.")
        hearing = {"model": args.model, "window_s": args.window}
        item = show(wanted, args.data_dir, args.sample, name=name, **hearing)
        if args.json != "-":
            print(item_text.render(item))
        put_json(item.to_json(), args.json)
        if target is not None:
            item_figure.draw(item, target)
            print(f"\nPicture: {target}", file=sys.stderr)
    except MMAUProError as error:
        print(visible(f"mmaupro data show: {error}"), file=sys.stderr)
        return 2
    return 0 if item.usable else 1
