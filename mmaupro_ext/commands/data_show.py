"""`mmaupro data show`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro data show`."""
    from mmaupro_ext.report import item

    item.add_show_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data show` and return the exit status."""
    from mmaupro_ext.report import item

    return item.run_show(args)
