"""Fixtures that several rooms share."""

from __future__ import annotations

import hypothesis
import pytest

from mmaupro_ext.native import select

# A busy machine is no failure: nothing in the tests goes by the clock.
hypothesis.settings.register_profile("no-clock", deadline=None)
hypothesis.settings.load_profile("no-clock")

CORES = [("c", level) for level in select.levels()] + [("numba", "auto"), ("scipy", "auto")]


@pytest.fixture(params=CORES, ids=["-".join(core) for core in CORES])
def core(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test on each core: every instruction-set level of this processor, the twin and scipy."""
    backend, level = request.param
    monkeypatch.setenv("MMAUPRO_NATIVE", backend)
    monkeypatch.setenv("MMAUPRO_SIMD", level)
    return f"{backend}-{level}"
