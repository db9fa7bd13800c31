"""`mmaupro hook`: the start-up files that let the bare `lm_eval` command find us."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from mmaupro_ext import compat, plugin
from mmaupro_ext.errors import ConfigError

FILES = ("mmaupro_ext_hook.py", "mmaupro_ext_hook.pth")

DESCRIPTION = f"""\
lm_eval 0.4.13 discovers no plug-ins. A plain pip install therefore adds two small start-up files to
site-packages that let the bare `lm_eval` command find our models and tasks. `mmaupro run` never needs
them. Set {plugin.OFF_SWITCH}=1 to switch them off for one process.
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
            enable(site_packages())
        elif args.change == "disable":
            disable(site_packages())
    except OSError as error:
        raise ConfigError(
            f"{error}. Use an environment that you can write to (python -m venv .venv), or use "
            "`mmaupro run`, which needs no hook."
        ) from None
    print(f"hook: {status()}")
    return 0


def site_packages() -> Path:
    """Return the folder in which Python looks for start-up files."""
    import sysconfig

    return Path(sysconfig.get_paths()["purelib"])


def enable(folder: Path) -> None:
    """Put the start-up files into a folder, and into pip's list of what an uninstall removes."""
    for name in FILES:
        shutil.copy(Path(compat.__file__).with_name(name), folder / name)
    for record in folder.glob("mmaupro_ext-*.dist-info/RECORD"):
        listed = record.read_text(encoding="utf-8")
        missing = [f"{name},,\n" for name in FILES if f"\n{name}," not in f"\n{listed}"]
        record.write_text(listed + "".join(missing), encoding="utf-8")


def disable(folder: Path) -> None:
    """Remove the start-up files from a folder, with what Python compiled of them."""
    for name in reversed(FILES):  # the one that Python reads first
        (folder / name).unlink(missing_ok=True)
    for compiled in (folder / "__pycache__").glob("mmaupro_ext_hook.*.pyc"):
        compiled.unlink(missing_ok=True)


def status() -> str:
    """Return whether the hook is on, and why not."""
    if os.environ.get(plugin.OFF_SWITCH):
        return f"off ({plugin.OFF_SWITCH} is set)"
    folder = site_packages()
    if all((folder / name).exists() for name in FILES):
        return f"on ({folder / FILES[-1]})"
    return "off (not installed)"
