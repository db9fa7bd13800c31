"""`mmaupro score`."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro score`."""
    from mmaupro_ext.report import score_command

    score_command.add_score_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro score` and return the exit status."""
    from mmaupro_ext.report import score_command

    return score_command.run_score(args)
