"""Fixtures that several rooms share."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import hypothesis
import pytest
from levels import CORES

import mmaupro_ext

# A busy machine is no failure: nothing in the tests goes by the clock.
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")

# A shell starts its background jobs with Ctrl-C ignored, which they and all that they start inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test-vllm` has vLLM in an environment of its own.
collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm_real"]


_frozen_modules = 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Take what a module has imported out of the rounds of garbage collection, which looked through it often.

    After torch, transformers and lm_eval these are more than a million objects, that stay until the end.
    """
    global _frozen_modules
    if len(sys.modules) > _frozen_modules + 200:
        gc.collect()
        gc.freeze()
        _frozen_modules = len(sys.modules)


@pytest.fixture(params=CORES, ids=["-".join(core) for core in CORES])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on each of the cores that tests/levels.py lists."""
    backend, level = request.param
    monkeypatch.setenv("MMAUPRO_NATIVE", backend)
    monkeypatch.setenv("MMAUPRO_SIMD", level)
    return f"{backend}-{level}"


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return the folder of a tiny checkpoint by the name of its builder in `tests/tiny`."""
    built: dict[str, str] = {}

    def build(name: str) -> str:
        if name not in built:
            folder = tmp_path_factory.mktemp(name)
            importlib.import_module(f"tiny.{name}").build(folder)
            built[name] = str(folder)
        return built[name]

    return build


@pytest.fixture(scope="session")
def nano_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run nano on the whole embedded sample, by the command in a process of its own.

    Returns the folder with `nano/results_*.json`, `nano/samples_*.jsonl` and the kept replies, `answers`.
    It is made once for all workers: copy what you write to.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, unfinished = shared / "nano-run", shared / "nano-run-unfinished"
    with filelock.FileLock(shared / "nano-run.lock"):
        if not folder.exists():
            words = (
                "-m mmaupro_ext run --model hf-audio --model_args pretrained=nano --batch_size 8 "
                f"--tasks mmaupro-sample --output_path {unfinished} --log_samples "
                f"--use_cache {unfinished / 'answers'}"
            )
            package = str(Path(mmaupro_ext.__file__).parents[1])
            environment = (
                os.environ
                | {
                    "PYTHONPATH": package,
                    "HF_HUB_OFFLINE": "1",
                    "MMAUPRO_NO_HOOK": "1",  # it is for the bare lm_eval: `mmaupro run` asks for us by name
                }
            )
            # Not in a checkout, whose package would be found before the installed one.
            subprocess.run(
                [sys.executable, *words.split()], check=True, env=environment, cwd=shared
            )
            unfinished.rename(folder)
    return folder
