"""`mmaupro frontend`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro frontend`."""
    from mmaupro_ext.report import frontend_command

    frontend_command.add_frontend_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro frontend` and return the exit status."""
    from mmaupro_ext.report import frontend_command

    return frontend_command.run_frontend(args)
