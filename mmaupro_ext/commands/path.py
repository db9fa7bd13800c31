"""`mmaupro path`: where the task folder is."""

from __future__ import annotations

import argparse

from mmaupro_ext import plugin

DESCRIPTION = """\
Print the folder of the task YAML files. `lm_eval --include_path $(mmaupro path)` finds the tasks
without the start-up hook.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe `mmaupro path`, which has no options."""
    parser.description = DESCRIPTION


def run(args: argparse.Namespace) -> int:
    """Print the folder."""
    print(plugin.tasks_dir())
    return 0
