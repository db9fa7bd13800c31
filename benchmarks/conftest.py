"""The race: every candidate on one thread, and a table of ratios at the end of the run.

A benchmark asks for the fixture ``race`` and calls it with the name of the work, the name of the
candidate and the function to time. :data:`OURS` is the candidate that the others are divided by.
Nothing is written but to the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

# Before any library that starts a pool of threads is imported.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

from mmaupro_ext import native  # noqa: E402

OURS = "mmaupro_ext"
_SIMD = native.info()["simd"]  # of the run; a benchmark of the twin says otherwise for itself
_RESULTS = pytest.StashKey[dict[str, dict[str, Any]]]()


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def race(
    benchmark: Any, request: pytest.FixtureRequest
) -> Callable[[str, str, Callable[[], Callable[[], Any]]], Any]:
    """Return ``race(work, candidate, prepare)``.

    ``prepare()`` imports what the candidate needs and returns the function to time; where that
    import fails, the table says so and the benchmark is skipped. The value of the last timed call
    is returned, to be compared.
    """

    def run(work: str, candidate: str, prepare: Callable[[], Callable[[], Any]]) -> Any:
        results = request.config.stash.setdefault(_RESULTS, {}).setdefault(work, {})
        benchmark.group = work
        benchmark.extra_info.update(candidate=candidate, simd=_SIMD)
        try:
            function = prepare()
        except ImportError as error:
            results[candidate] = "not installed"
            pytest.skip(f"{candidate} is not installed ({error})")
        value = benchmark(function)
        if benchmark.stats is not None:  # None with --benchmark-disable
            results[candidate] = benchmark.stats.stats
        return value

    return run


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Return ``note(work, candidate, text)``, which puts text in the place of times into the table."""

    def put(work: str, candidate: str, text: str) -> None:
        results = request.config.stash.setdefault(_RESULTS, {}).setdefault(work, {})
        results[candidate] = text

    return put


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print, for each work, the time of each candidate and how many times ours it is."""
    works = config.stash.get(_RESULTS, {})
    if not works:
        return
    terminalreporter.section("ratios: time of the candidate / time of ours (one thread)")
    for work, results in works.items():
        ours = results.get(OURS)
        terminalreporter.write_line(
            f"{work:44}{'median ms':>12}{'ratio':>8}{'fastest ms':>14}{'ratio':>8}"
        )
        for candidate, stats in results.items():
            if isinstance(stats, str):
                terminalreporter.write_line(f"  {candidate:42}{stats:>20}")
                continue
            cells = ""
            for value, width, base in (
                (stats.median, 12, ours and ours.median),
                (stats.min, 14, ours and ours.min),
            ):
                ratio = f"{value / base:.2f}" if base else "-"
                cells += f"{value * 1e3:>{width}.3f}{ratio:>8}"
            terminalreporter.write_line(f"  {candidate:42}{cells}")
