"""`mmaupro data verify`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro data verify`."""
    from mmaupro_ext.data import verify

    verify.add_verify_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro data verify` and return the exit status."""
    from mmaupro_ext.data import verify

    return verify.run_verify(args)
