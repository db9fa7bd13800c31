"""What a command imports: nothing heavy before it is needed. Modules are counted, not seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hub_dataset import make_dataset
from hub_standin import StandInHub

import mmaupro_ext

HEAVY = ("torch", "transformers", "lm_eval", "numba", "scipy", "pyarrow", "matplotlib", "datasets")

ENV = {
    **os.environ,
    "PYTHONPATH": str(Path(mmaupro_ext.__file__).parents[1]),
    "MMAUPRO_NO_HOOK": "1",
}

PROGRAM = """
import json, sys
from mmaupro_ext.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
names = {name.partition(".")[0] for name in sys.modules}
sys.stderr.write("\\n" + json.dumps(sorted(names)))
"""

COMMANDS = [
    "--version", "--help", "path", "hook", "info", "models", "doctor --help",
    "data --help", "data fetch --help", "data verify --help", "data info --help", "data show --help",
    "score --help", "score --explain official",
]  # fmt: skip


def imported(command: str, **env: str) -> tuple[str, list[str]]:
    """Return what a command prints, and the names of the packages that it has imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command.split()],
        env=ENV | env,
        cwd=tempfile.gettempdir(),  # not a checkout, whose package may have no core
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *said, names = done.stderr.splitlines()
    return "\n".join([done.stdout, *said]), json.loads(names)


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_heavy_is_imported(command):
    printed, names = imported(command)
    assert printed.strip()
    assert "mmaupro_ext" in names
    assert [name for name in names if name in HEAVY] == []


def test_a_dry_run_of_fetch_imports_nothing_heavy(tmp_path):
    with StandInHub(make_dataset().files()) as hub:
        printed, names = imported(
            f"data fetch --dry-run --to {tmp_path / 'data'}",
            HF_ENDPOINT=hub.endpoint,
            HF_HOME=str(tmp_path / "hf"),
            HF_HUB_OFFLINE="0",
            NO_PROXY="*",
        )
    assert "dry run: nothing was written" in printed
    # it counts the items by category, for which it reads the table of rows
    assert [name for name in names if name in HEAVY] == ["pyarrow"]


LIGHT = """
import sys
for name in ("data", "scoring", "models", "models.families", "report", "commands.cli", "compat"):
    __import__(f"mmaupro_ext.{name}")
    heavy = [module for module in HEAVY if module in sys.modules]
    assert not heavy, f"mmaupro_ext.{name} imports {heavy}"
"""


def test_packages_are_light():
    subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{LIGHT}"], env=ENV, check=True, timeout=600
    )
