"""`mmaupro completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import argparse
from typing import Any

from mmaupro_ext import extras

DESCRIPTION = """\
Print the completion of commands, options and fixed values for a shell. Load it where the shell starts.
"""

EPILOG = """\
examples:
  mmaupro completion bash >> ~/.bash_completion
  mmaupro completion zsh > ~/.zfunc/_mmaupro               (a folder of $fpath)
  mmaupro completion fish > ~/.config/fish/completions/mmaupro.fish

It does not change by itself: print it anew after an update.
"""

SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro completion`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Print the completion."""
    extras.require("completion", "shtab")
    import shtab

    from mmaupro_ext.commands import cli

    parser = cli.build_parser()
    fill(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def fill(parser: Any) -> None:
    """Give all commands their options, which they otherwise get when they are used."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                if hasattr(child, "load"):
                    child.load()
                if name == "run" and parser.prog == "mmaupro":
                    _take_options_of_lm_eval(child)
                fill(child)


def _take_options_of_lm_eval(child: argparse.ArgumentParser) -> None:
    try:
        from lm_eval._cli.harness import HarnessCLI
    except ModuleNotFoundError as error:
        if not extras.advice(error):
            raise
        return  # a small install: there is no `mmaupro run` to complete

    theirs = HarnessCLI()._subparsers.choices["run"]
    for action in theirs._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            child._add_action(action)
