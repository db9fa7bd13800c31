"""Options that several commands share."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import visible_json, write_json


def add_benchmark_argument(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument that names a benchmark; MMAU-Pro by default."""
    parser.add_argument(
        "benchmark",
        nargs="?",
        choices=list(BENCHMARKS),
        default=MMAUPRO,
        metavar="BENCHMARK",
        help=f"{', '.join(BENCHMARKS)} (default: %(default)s)",
    )


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two options that say which dataset: --data-dir and --sample.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Receives them, as alternatives.
    """
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the folder (default: $MMAUPRO_DATA, $MMAU_DATA and so on, else the benchmark's name in "
        "the user's cache folder)",
    )
    which.add_argument(
        "--sample", action="store_true", help="the embedded sample instead of the real dataset"
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add --json [FILE].

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Receives it.
    """
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write one JSON object to FILE; without FILE, print it instead of the tables",
    )


def whole_number(value: str) -> int:
    """Return a whole number of 1 or more, for argparse."""
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a whole number of 1 or more")
    return number


def put_json(content: dict[str, Any], target: str | None) -> None:
    """Write or print JSON as --json asks.

    Parameters
    ----------
    content : dict
        What to write.
    target : str or None
        A path; "-" prints; None does nothing.

    Raises
    ------
    ConfigError
        When the file cannot be written.
    """
    if target is None:
        return
    if target == "-":
        print(visible_json(json.dumps(content, indent=1, ensure_ascii=False)))
        return
    try:
        write_json(target, content)
    except OSError as error:
        raise ConfigError(
            f"--json {target}: cannot be written ({error.strerror or error}). Name another file."
        ) from error
