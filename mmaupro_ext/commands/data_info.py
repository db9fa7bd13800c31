"""`mmaupro data info`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro data info`."""
    from mmaupro_ext.report import overview

    overview.add_info_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data info` and return the exit status."""
    from mmaupro_ext.report import overview

    return overview.run_info(args)
