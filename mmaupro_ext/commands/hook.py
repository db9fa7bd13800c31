"""`mmaupro hook`: the start-up file that lets the bare `lm_eval` command find us."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mmaupro_ext
from mmaupro_ext import plugin
from mmaupro_ext.errors import ConfigError

DESCRIPTION = f"""\
lm_eval 0.4.13 discovers no plug-ins. A plain pip install therefore adds a one-line start-up file to
site-packages that lets the bare `lm_eval` command find our models and tasks. `mmaupro run` never
needs it. Set {plugin.OFF_SWITCH}=1 to switch it off for one process.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro hook`."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "change", nargs="?", choices=("status", "enable", "disable"), default="status"
    )


def run(args: argparse.Namespace) -> int:
    """Change the hook if asked to, and print its state."""
    try:
        if args.change == "enable":
            source = Path(mmaupro_ext.__file__).with_name("mmaupro_ext_hook.pth")
            hook_file().write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        elif args.change == "disable":
            hook_file().unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{error}. Use an environment that you can write to (python -m venv .venv), or use "
            "`mmaupro run`, which needs no hook."
        ) from None
    print(f"hook: {status()}")
    return 0


def hook_file() -> Path:
    """Return where the start-up file of this environment is or would be."""
    import sysconfig

    return Path(sysconfig.get_paths()["purelib"]) / "mmaupro_ext_hook.pth"


def status() -> str:
    """Return whether the hook is on, and why not."""
    if os.environ.get(plugin.OFF_SWITCH):
        return f"off ({plugin.OFF_SWITCH} is set)"
    return f"on ({hook_file()})" if hook_file().exists() else "off (not installed)"
