"""`mmaupro info`: the versions, the native frontend, and where the tasks and the data are."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mmaupro_ext import __version__, plugin, versions
from mmaupro_ext.commands import hook

DESCRIPTION = """\
Print the versions, the native frontend's backend and SIMD level, and where the tasks and the data
are.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro info`."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of lines"
    )


def run(args: argparse.Namespace) -> int:
    """Print the facts."""
    found = facts()
    if args.json:
        print(json.dumps(found, indent=2, default=str))
        return 0
    for key, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" for name, text in value.items())
        print(f"{key + ':':10}{value}")
    return 0


def facts() -> dict[str, Any]:
    """Return what this installation computes with, and where its tasks and data are."""
    from mmaupro_ext import data, native
    from mmaupro_ext.errors import DataError

    untested = versions.untested()
    found = {"mmaupro-ext": __version__}
    for name in versions.TESTED:
        found[name] = versions.installed(name) or "not installed"
        if name in untested:
            found[name] += f" (not tested; {versions.span(name)} is)"
    try:
        where = str(data.locate())
    except DataError:
        where = "not found (the embedded sample always works)"
    return {
        "versions": found,
        "native": native.info(),
        "tasks": plugin.tasks_dir(),
        "hook": hook.status(),
        "data": where,
    }
