"""Set-up of the environments (tools/environment.py), broken on purpose: the second try always works.

A project of one dependency stands for ours; pip, venv and the script are the real ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import environment

SCRIPT = Path(environment.__file__)
PROJECT = """
[build-system]
requires = []
[project]
requires-python = ">=3.11"
dependencies = ["tiny>=1.0"]
optional-dependencies.more = ["tiny>=2.0"]
"""


def wheel(folder: Path, version: str) -> None:
    """Write a package of one module."""
    about = f"tiny-{version}.dist-info"
    files = {
        "tiny/__init__.py": f"VERSION = {version!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        wheel(folder, version)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory, wheels):
    """A checkout of the stand-in project, made after a try that ended before pip came."""
    top = tmp_path_factory.mktemp("checkout")
    (top / "tools").mkdir()
    shutil.copy(SCRIPT, top / "tools")
    (top / "pyproject.toml").write_text(PROJECT)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", top / "env"], check=True)
    done = packages(top, wheels, "more")
    assert done.returncode == 0, done.stderr
    assert "env has no whole pip" in done.stdout
    assert " 1 of 2" in done.stdout
    return top


@pytest.fixture
def top(tmp_path, made):
    """The same, without an environment."""
    shutil.copytree(
        made / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(made / "pyproject.toml", tmp_path)
    return tmp_path


def packages(top: Path, wheels: Path, *words: str, **env: str):
    """Run `environment.py env packages`, with a folder for an index."""
    return subprocess.run(
        command(top, *words),
        env=surroundings(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels)) | env,
        capture_output=True,
        text=True,
        cwd=top,
        check=False,
    )


def command(top: Path, *words: str) -> list[str]:
    return [sys.executable, str(top / "tools" / "environment.py"), "env", "packages", *words]


def surroundings(**env: str) -> dict[str, str]:
    """Return the variables of this process without what leads pip elsewhere."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    return clean | {"PIP_CONFIG_FILE": os.devnull} | env


def tiny_of(top: Path) -> Path:
    (module,) = (top / "env").glob("lib/python*/site-packages/tiny/__init__.py")
    return module


def test_without_ensurepip_the_package_to_install_is_named_and_nothing_is_left(
    top, wheels, tmp_path
):
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "ensurepip.py").write_text("raise ImportError('as on Debian without python3-venv')")
    done = packages(top, wheels, PYTHONPATH=str(lacking))
    assert done.returncode == 1
    assert f"apt install python3.{sys.version_info[1]}-venv" in done.stderr
    assert not (top / "env").exists()


def test_a_dead_index_is_named_and_leaves_nothing_that_hinders(made, wheels):
    forget(made)
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        done = packages(
            made, wheels, PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=index, PIP_RETRIES="0"
        )
    assert done.returncode == 1
    assert "Without a network nothing can be installed" in done.stderr
    assert "Traceback" not in done.stderr
    done = packages(made, wheels)
    assert done.returncode == 0, done.stderr
    assert " 1 of 2" not in done.stdout  # the environment itself was whole
    assert tiny_of(made).exists()


@pytest.mark.skipif(os.name == "nt", reason="process groups end otherwise on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_ended_while_pip_waits_for_its_index_the_same_command_goes_on(made, wheels, number):
    """What a terminal, or a machine that is switched off, does: to the whole group at once."""
    forget(made)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with subprocess.Popen(
            command(made),
            env=surroundings(PIP_INDEX_URL=index),
            cwd=made,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            silent.accept()[0].close() if number == signal.SIGKILL else silent.accept()
            os.killpg(process.pid, number)
            _, said = process.communicate(timeout=120)
    assert process.returncode in (-number, 128 + number)
    if number == signal.SIGINT:
        assert "env: interrupted. The same command goes on." in said
    done = packages(made, wheels)
    assert done.returncode == 0, done.stderr
    assert tiny_of(made).exists()


def forget(top: Path) -> None:
    """Remove the package."""
    for part in tiny_site(top).glob("tiny*"):
        shutil.rmtree(part)


def tiny_site(top: Path) -> Path:
    (site,) = (top / "env").glob("lib/python*/site-packages")
    return site


def test_a_package_that_was_half_copied_is_copied_again(made, wheels):
    """pip writes the list of what it has copied last: without it, not all need be there."""
    module = tiny_of(made)
    module.unlink()
    (about,) = tiny_site(made).glob("tiny-*.dist-info")
    (about / "RECORD").unlink()
    (tiny_site(made) / "~iny-1.0.dist-info").mkdir()
    done = packages(made, wheels)
    assert done.returncode == 0, done.stderr
    assert "left half-installed" in done.stdout
    assert module.exists()
    assert not list(tiny_site(made).glob("~*"))


def test_a_folder_of_something_else_is_left_alone(top, wheels):
    (top / "env").mkdir()
    (top / "env" / "thesis.tex").write_text("years of work")
    done = packages(top, wheels)
    assert done.returncode == 1
    assert "is no virtual environment" in done.stderr
    assert (top / "env" / "thesis.tex").read_text() == "years of work"


def test_too_little_room_is_said_before_anything_is_made(top, wheels):
    done = packages(top, wheels, "--disk", "1e9")
    assert done.returncode == 1
    assert "of free space, and env takes 1e+09" in done.stderr
    assert not (top / "env").exists()


def test_the_oldest_and_the_newest_that_are_allowed_are_installed(made, wheels):
    for words, expected in (
        (["--oldest"], "1.0"),
        (["--newest"], "2.0"),
        (["more", "--oldest"], "2.0"),
    ):
        assert packages(made, wheels, *words).returncode == 0
        assert repr(expected) in tiny_of(made).read_text()
