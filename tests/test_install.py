"""The wheel in a fresh environment: what a stranger gets from `pip install`, and types.

The fresh environment borrows only the dependencies (torch alone is hundreds of megabytes) from the
environment that runs the tests, through one path line. Its own site-packages come first, so the package,
its start-up file and its scripts are the wheel's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
TREES = ("csrc", "mmaupro_ext", "tasks", "docs", "tests", "tools", "benchmarks")
CYTHONS = "mmaupro_ext/native/core.c"
LEFT = shutil.ignore_patterns("*.so", "__pycache__", "core.c")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(command: list[str], *, cwd: Path, timeout: int = 1200, **env: str):
    """Run a command that must succeed, without what this process inherited of paths and switches."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MMAUPRO_NO_HOOK")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources, so that nothing built in place leaks into what is built from it.

    Only what took half a minute to compile comes with it, where there is any: setup.py compiles again what
    is older than the source that it was made of.
    """
    folder = tmp_path_factory.mktemp("source")
    for path in REPO.iterdir():
        if path.name in TREES:
            shutil.copytree(path, folder / path.name, ignore=LEFT)
        elif path.is_file():
            shutil.copy2(path, folder)
    for path in REPO.glob("build/temp.*"):
        shutil.copytree(path, folder / "build" / path.name)
    if (REPO / CYTHONS).exists():
        shutil.copy2(REPO / CYTHONS, folder / CYTHONS)
    return folder


def build_wheel(source: Path, folder: Path, **env: str) -> Path:
    """Build a wheel."""
    for path in (source / "build").glob("[!t]*"):  # deleted modules of an earlier one; not temp.*
        shutil.rmtree(path)
    options = ["--no-deps", "--no-build-isolation", "-w", str(folder)]
    run([*PIP, "wheel", *options, "."], cwd=source, **env)
    (wheel,) = folder.glob("*.whl")
    return wheel


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """Return the `bin` of a new environment that holds the wheel and borrows the dependencies."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], cwd=folder)
    python = folder / "env" / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = run([str(python), "-c", code], cwd=folder).stdout.strip()
    pip = [*PIP, "--python", str(python)]
    run([*pip, "install", "--no-deps", "--no-index", str(wheel)], cwd=folder)
    # Named to be read after the package's own start-up file; only the path line is taken over.
    Path(site, "zz_borrowed_dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    script = python.with_name("lm_eval")
    script.write_text(
        f"#!{python}\nimport sys\nfrom lm_eval.__main__ import cli_evaluate\nsys.exit(cli_evaluate())\n"
    )
    script.chmod(0o755)
    return python.parent


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    return build_wheel(source, tmp_path_factory.mktemp("wheel"), MMAUPRO_REQUIRE_C="1")


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory, wheel):
    return fresh_environment(tmp_path_factory.mktemp("fresh"), wheel)


def test_the_wheel_carries_tasks_sample_hook_and_core(wheel, source):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "mmaupro_ext_hook.pth",
        "mmaupro_ext_hook.py",
        "mmaupro_ext/compat/mmaupro_ext_hook.pth",  # for `mmaupro hook enable`
        "mmaupro_ext/compat/mmaupro_ext_hook.py",
        "mmaupro_ext/tasks/mmaupro/_template_yaml",
        "mmaupro_ext/tasks/mmaupro/mmaupro_sound.yaml",
        "mmaupro_ext/tasks/mmaupro/utils.py",
        "mmaupro_ext/tasks/mmaupro_sample/_mmaupro_sample.yaml",
        "mmaupro_ext/data/sample/test.parquet",
        "mmaupro_ext/data/sample/manifest.json",
        "mmaupro_ext/benchmarks/faults/mmau.json",
        "mmaupro_ext/data/samples/mmar/rows.jsonl",
        "mmaupro_ext/data/samples/mmar/data/mmar-sample-00.wav",
        "mmaupro_ext/tasks/mmsu/mmsu-sample-ll/_mmsu-sample-ll_reasoning.yaml",
        "mmaupro_ext/tasks/audio_suite/_audio-suite.yaml",
        "mmaupro_ext/models/nano/checkpoint/model.safetensors",
        "mmaupro_ext/models/nano/README.md",
        "mmaupro_ext/py.typed",
    ):
        assert wanted in names
    assert "mmaupro_ext/native/core.abi3.so" in names
    assert wheel.name.split("-")[2:4] == ["cp311", "abi3"]  # it serves later versions too
    core = zipfile.ZipFile(wheel).read("mmaupro_ext/native/core.abi3.so")
    assert b".symtab" not in core  # stripped
    assert b".debug_info" not in core
    assert str(source).encode() not in core
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]
    makers = (
        "synth",
        "nano_training",
        "tools",
        "fullsize",
        "task_configs",
        "_generate",
        "train.py",
    )
    assert not [name for name in names if any(maker in name for maker in makers)]
    sample = sum(
        item.compress_size
        for item in zipfile.ZipFile(wheel).infolist()
        if item.filename.startswith("mmaupro_ext/data/")
    )
    assert sample <= 12 * 2**20


def test_bare_lm_eval_runs_the_sample_after_a_plain_install(bin_dir, tmp_path):
    """The literal command of the README, in an empty folder, without any network."""
    command = (
        "lm_eval --model hf-audio --model_args pretrained=tiny-random --tasks 'mmaupro-sample_*' "
        "--batch_size 8 --output_path results --log_samples --limit 2"
    )
    done = run(
        ["bash", "-c", command],
        cwd=tmp_path,
        PATH=f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        HF_HUB_OFFLINE="1",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HF_HOME=str(tmp_path / "hf"),
    )
    (results,) = tmp_path.glob("results/**/results_*.json")
    scores = json.loads(results.read_text())
    leaves = [name for name in scores["results"] if name.startswith("mmaupro-sample_")]
    assert len(leaves) == 12
    assert all(scores["results"][name]["errored,none"] == 0 for name in leaves)
    assert len(list(tmp_path.glob("results/**/samples_*.jsonl"))) == 12
    assert "chance" in scores["config"]["note"]
    assert str(results.relative_to(tmp_path)) in done.stdout
    assert "chance" in done.stdout
    sound = next(tmp_path.glob("results/**/samples_mmaupro-sample_sound_*.jsonl"))
    item = json.loads(sound.read_text().splitlines()[0])
    assert item["resps"][0][0] is not None
    assert item["prompt_hash"]
    assert len(item["doc"]["audio_sha256"][0]) == 64
    # what the model was given is the installed sample, not the checkout's
    path = item["arguments"]["gen_args_0"]["arg_2"]["audio"][0]["path"]
    assert Path(path).is_relative_to(bin_dir.parent)


def test_the_source_archive_has_what_builds_and_what_tests(source, tmp_path, wheel):
    run(
        [sys.executable, "setup.py", "-q", "sdist", "--formats=tar", "-d", str(tmp_path)],
        cwd=source,
    )
    (archive,) = tmp_path.glob("*.tar")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    kept = {
        path.relative_to(source).as_posix()
        for tree in TREES
        for path in (source / tree).rglob("*")
        if path.is_file()
    }
    written = {CYTHONS}
    assert kept - written <= names
    assert not written & names
    assert {"Makefile", "CHANGELOG.md", "LICENSE", "constraints.txt"} <= names


IS_ON = "import sys; print('mmaupro_ext_hook' in sys.modules, 'mmaupro_ext' in sys.modules)"


def test_hook_leaves_with_the_package(tmp_path, wheel):
    python = str(fresh_environment(tmp_path, wheel) / "python")
    site = next(tmp_path.glob("env/lib/python*/site-packages"))
    assert run([python, "-c", IS_ON], cwd=tmp_path).stdout == "True False\n"
    run([*PIP, "--python", python, "uninstall", "-y", "mmaupro-ext"], cwd=tmp_path)
    after = run([python, "-c", IS_ON], cwd=tmp_path)
    assert (after.stdout, after.stderr) == ("False False\n", "")
    assert [path.name for path in site.rglob("*mmaupro*")] == []


def test_without_a_compiler_the_install_works_on_the_twin_and_says_so(source, tmp_path):
    shutil.rmtree(source / "build", ignore_errors=True)
    wheel = build_wheel(source, tmp_path, CC="a-compiler-that-is-not-there")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    bin_dir = fresh_environment(tmp_path, wheel)
    code = (
        "import numpy, mmaupro_ext.features as f, mmaupro_ext.native as n;"
        "print(f.log_mel(numpy.zeros(16000, 'float32')).shape, n.info()['backend']);"
        "f.log_mel(numpy.zeros(16000, 'float32'))"
    )
    done = run([str(bin_dir / "python"), "-c", code], cwd=tmp_path)
    assert done.stdout.strip() == "(128, 100) numba"
    assert done.stderr.count("Numba twin") == 1
