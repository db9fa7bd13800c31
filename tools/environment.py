"""Makes and mends the environments of the Makefile, and says what it does.

``python tools/environment.py FOLDER packages …`` makes a virtual environment, unless it is there and whole,
and installs what pyproject.toml names; ``… package`` builds this checkout into it. Whatever ends one of
them early (no ensurepip, no network, a full disk, Ctrl-C, kill), the same command goes on: an environment
without Python or pip is made again; what was half-copied, and pip might take for whole, it copies again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

REPO = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
BUILD_TOOLS = PROJECT["build-system"]["requires"]
LOWEST_PYTHON = PROJECT["project"]["requires-python"].removeprefix(">=")
# Seconds after which pip, which is silent for minutes, is said to be at work.
HEARTBEAT_S = 30


class SetUpError(Exception):
    """What stops the set-up, with the way out."""


# ---- what pyproject.toml asks for ----------------------------------------------------------------

# As pip calls what is imported under another name.
PIP_NAMES = {"huggingface_hub": "huggingface-hub", "yaml": "pyyaml"}


def requirements(extras: Sequence[str] = ()) -> list[str]:
    """Return the dependencies of the package and of some of its extras."""
    project = PROJECT["project"]
    return [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]


def oldest(lines: Sequence[str]) -> list[str]:
    """Return constraints that hold each requirement at its lower bound, the last one that is stated.

    Examples
    --------
    >>> oldest(["numpy>=1.26", "lm-eval>=0.4.13,<0.5", "torchvision", "numpy>=2.0"])
    ['numpy==2.0', 'lm-eval==0.4.13']
    """
    bounds = (re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in lines)
    return [f"{name}=={low}" for name, low in {b[1]: b[2] for b in bounds if b}.items()]


# ---- the environment -----------------------------------------------------------------------------


def python_of(folder: Path) -> Path:
    """Return where the interpreter of an environment is."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def sites(folder: Path) -> list[Path]:
    """Return where packages are in an environment."""
    return [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]


def why_not(folder: Path) -> str | None:
    """Return what is wrong with an environment, None where nothing is."""
    if not folder.exists():
        return "is not there yet"
    oldest_allowed = tuple(map(int, LOWEST_PYTHON.split(".")))
    code = f"import pip, sys; sys.exit(sys.version_info < {oldest_allowed})"
    try:
        done = subprocess.run([python_of(folder), "-c", code], capture_output=True, check=False)
    except OSError:
        return "has no Python that starts"
    whole = [one for site in sites(folder) for one in site.glob("pip-*.dist-info/RECORD")]
    if not done.returncode and whole:
        return None
    return f"has no whole pip, or a Python older than {LOWEST_PYTHON}"


def mend(folder: Path) -> None:
    """Let pip forget packages that it was copying, or replacing, when it was ended.

    It writes the list of what it has copied last, and moves what it replaces to names with a tilde. What it
    has forgotten it installs again, over what lies there.
    """
    for site in sites(folder):
        copied = {one for one in site.glob("*.dist-info") if not (one / "RECORD").exists()}
        for left in copied | set(site.glob("~*")):
            say(f"{folder}: {left.name} was left half-installed, and is installed again.")
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def make_environment(folder: Path) -> None:
    """Make a virtual environment in place of whatever half of one is there."""
    for module in ("venv", "ensurepip"):
        if subprocess.run(
            [sys.executable, "-c", f"import {module}"], capture_output=True
        ).returncode:
            version = ".".join(map(str, sys.version_info[:2]))
            raise SetUpError(
                f"{sys.executable} cannot make virtual environments: it has no module {module}. "
                f"Install it (Debian, Ubuntu: apt install python{version}-venv), or name another: "
                "make PYTHON=/path/to/python3"
            )
    if folder.exists():
        files = [path for path in folder.rglob("*") if not path.is_dir()]
        if files and not (folder / "pyvenv.cfg").exists():
            raise SetUpError(f"{folder} is no virtual environment, and not empty: move it away.")
        shutil.rmtree(folder)
    call([sys.executable, "-m", "venv", str(folder)], "a virtual environment could not be made")


def install(folder: Path, arguments: Sequence[str], failure: str) -> None:
    """Install with pip.

    Of what is installed a small part is ever imported: Python compiles that when it is, and keeps it.
    """
    pip = [str(python_of(folder)), "-m", "pip", "--disable-pip-version-check", "install"]
    call([*pip, "-q", "--no-compile", *arguments], failure)


def call(command: Sequence[str], failure: str) -> None:
    """Run a command, and say now and then that it still does."""
    seconds = 0
    with subprocess.Popen(command, cwd=REPO) as process:
        while True:
            try:
                status = process.wait(HEARTBEAT_S)
                break
            except subprocess.TimeoutExpired:
                seconds += HEARTBEAT_S
                say(f"  still at work, {seconds} s")
            except BaseException:
                process.terminate()
                raise
    if status:
        raise SetUpError(f"{failure}: see above.")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


# ---- the two commands ----------------------------------------------------------------------------


def packages(args: argparse.Namespace) -> None:
    """Make the environment, and install what the package needs."""
    folder = args.folder
    wanted = [*([] if args.alone else requirements(args.extra)), *args.tool]
    constraints = [word for file in args.constraints for word in ("-c", file)]
    wrong = why_not(folder)
    first = wrong is not None
    if first:
        say(
            f"{folder} {wrong}. What is needed, 1 of 2: a virtual environment of Python {version()}."
        )
        check_room(folder, args.disk)
        make_environment(folder)
    else:
        mend(folder)
    size = f": {args.download} to download, {args.disk:g} GB on disk" if first else ""
    names = [re.split(r"[^\w.-]", line)[0] for line in wanted]
    say(f"{folder}, 2 of 2: {', '.join(names[:3])} and {len(names) - 3} more packages{size} …")
    if args.oldest:
        lowest = folder / "oldest.txt"
        lowest.write_text("\n".join(oldest(requirements(args.extra))) + "\n", encoding="utf-8")
        constraints += ["-c", str(lowest)]
    upgrade = ["--upgrade", "--upgrade-strategy", "eager"] if args.newest else []
    try:
        install(
            folder,
            [*upgrade, *constraints, *wanted, *BUILD_TOOLS],
            "pip could not install the packages",
        )
    except SetUpError as error:
        raise SetUpError(
            f"{error} Without a network nothing can be installed; what was downloaded whole is kept by pip. "
            "The same command goes on."
        ) from None


def package(args: argparse.Namespace) -> None:
    """Build this checkout into the environment."""
    say(f"{args.folder}: mmaupro-ext from this checkout, its C core compiled (half a minute) …")
    # build/lib of an earlier build would carry deleted modules into the wheel; its objects are worth keeping.
    for leftover in [*REPO.glob("build/lib*"), *REPO.glob("build/bdist*")]:
        shutil.rmtree(leftover)
    # Dependencies are there, and their tools: a reinstall after a change needs no network.
    install(
        args.folder,
        ["--no-deps", "--force-reinstall", "--no-build-isolation", "."],
        "mmaupro-ext could not be built",
    )
    code = "from mmaupro_ext import native; i = native.info(); print(i['version'], i['backend'], i['simd'])"
    command = [str(python_of(args.folder).absolute()), "-c", code]
    core = subprocess.run(command, cwd=args.folder, capture_output=True, text=True, check=True)
    if core.stdout.split()[1] != "c":
        say(
            "  The C core was NOT built: that takes a C11 compiler and the headers of Python (Debian: apt "
            "install gcc python3-dev). Features are computed by Numba, several times slower. Once they are "
            "there: touch setup.py, and the same command."
        )
    say(f"{args.folder} is ready: mmaupro-ext {core.stdout.strip()}.")


def python(args: argparse.Namespace) -> None:
    """Print the oldest or the newest Python here that the package can have."""
    found = []
    for minor in range(int(LOWEST_PYTHON.split(".")[1]), 30):
        name, code = f"python3.{minor}", "import ensurepip, sys; print(sys.executable)"
        environment = os.environ | {
            "PYENV_VERSION": f"3.{minor}"
        }  # pyenv hides those not asked for
        with contextlib.suppress(OSError):
            done = subprocess.run(
                [name, "-c", code], env=environment, capture_output=True, text=True, check=False
            )
            found += done.stdout.split()
    say((found or [sys.executable])[0 if args.which == "oldest" else -1])


def check_room(folder: Path, gigabytes: float) -> None:
    """Raise SetUpError where an environment would not fit."""
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    free = shutil.disk_usage(there).free / 1e9
    if free < gigabytes:
        raise SetUpError(
            f"{there} has {free:.1f} GB of free space, and {folder} takes {gigabytes:g}. Make room, or name "
            "another place: make ENVIRONMENTS=FOLDER …"
        )


def version() -> str:
    """Return the version of this Python."""
    return ".".join(map(str, sys.version_info[:3]))


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("packages", help=packages.__doc__)
    first.set_defaults(run=packages)
    first.add_argument("extra", nargs="*", help="extras of pyproject.toml")
    first.add_argument("--constraints", action="append", default=[], metavar="FILE")
    first.add_argument(
        "--tool", action="append", default=[], metavar="PACKAGE", help="no extra has it"
    )
    first.add_argument("--alone", action="store_true", help="without what the package needs")
    first.add_argument("--oldest", action="store_true", help="each dependency at its lower bound")
    first.add_argument(
        "--newest", action="store_true", help="each at its newest, anew at each call"
    )
    first.add_argument("--download", default="little", metavar="SIZE", help="in words")
    first.add_argument("--disk", type=float, default=0, metavar="GB", help="needed at least")
    third = commands.add_parser("python", help=python.__doc__)
    third.set_defaults(run=python)
    third.add_argument("which", choices=("oldest", "newest"))
    commands.add_parser("package", help=package.__doc__).set_defaults(run=package)
    return parser.parse_args()


def main() -> int:
    """Run a command; a person gets sentences, not tracebacks."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        args.run(args)
    except SetUpError as error:
        print(f"{args.folder}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{args.folder}: interrupted. The same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
