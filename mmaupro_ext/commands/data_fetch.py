"""`mmaupro data fetch`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro data fetch`."""
    from mmaupro_ext.data import fetch

    fetch.add_fetch_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data fetch` and return the exit status."""
    from mmaupro_ext.data import fetch

    return fetch.run_fetch(args)
