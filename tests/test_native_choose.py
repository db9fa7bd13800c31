"""The choice of the core: honest about what runs, clear about what cannot."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

import mmaupro_ext
from mmaupro_ext import native
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.native import choose, kernels


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    monkeypatch.delenv("MMAUPRO_NATIVE", raising=False)
    monkeypatch.delenv("MMAUPRO_SIMD", raising=False)


@pytest.fixture
def without_core(monkeypatch):
    """Behave as an install without a compiler."""
    monkeypatch.setattr(choose, "levels", dict)
    choose.core.cache_clear()
    choose._best_without_the_core.cache_clear()


def test_tests_run_with_the_compiled_core():
    # All the other tests take the levels from here: without the core they would test the twin only.
    assert "scalar" in choose.levels(), "build it: python setup.py build_ext --inplace"


def test_compiled_core_at_its_best_level_is_the_default():
    assert choose.backend() == "c"
    assert choose.level() == list(choose.levels())[-1]
    running = kernels.running()
    assert running.level == choose.levels()[choose.level()]
    assert running.stft.__name__.endswith("native.core")


@pytest.mark.parametrize("value", ["", "auto", " AUTO "])
def test_empty_and_auto_mean_the_default(monkeypatch, value):
    default = choose.backend(), choose.level()
    monkeypatch.setenv("MMAUPRO_NATIVE", value)
    monkeypatch.setenv("MMAUPRO_SIMD", value)
    assert (choose.backend(), choose.level()) == default


def test_variables_are_read_at_every_call(monkeypatch):
    for level in choose.levels():
        monkeypatch.setenv("MMAUPRO_SIMD", level)
        assert native.info()["simd"] == level
    for name in ("numba", "scipy"):
        monkeypatch.setenv("MMAUPRO_NATIVE", name)
        assert native.info()["backend"] == name
        assert native.info()["simd"] == name


def test_unknown_backend_is_refused_with_those_available(monkeypatch):
    monkeypatch.setenv("MMAUPRO_NATIVE", "rust")
    with pytest.raises(
        ConfigError, match="'rust' is unknown; available here: auto, c, numba, scipy"
    ):
        choose.backend()


def test_unknown_level_is_refused_with_those_available(monkeypatch):
    monkeypatch.setenv("MMAUPRO_SIMD", "avx9")
    with pytest.raises(ConfigError, match="'avx9' is unknown; available here: auto, scalar"):
        choose.level()


def test_level_of_another_processor_is_refused(monkeypatch):
    (other,) = {"neon", "sse2"} - set(choose.levels())
    monkeypatch.setenv("MMAUPRO_SIMD", other)
    with pytest.raises(ConfigError, match=f"'{other}' does not run here; available here: auto"):
        native.info()


def test_without_the_core_the_twin_runs_and_says_so_once(without_core, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose.backend() == "numba"
        assert choose.backend() == "numba"
    assert caplog.text.count("without its compiled core") == 1


@pytest.fixture
def without_numba(monkeypatch):
    """Behave as on a Python that has no Numba yet."""
    monkeypatch.setattr(choose, "numba_works", lambda: False)


def test_without_core_and_numba_scipy_runs_and_says_so_once(without_core, without_numba, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose.backend() == "scipy"
        assert choose.backend() == "scipy"
    assert caplog.text.count("Numba cannot be imported: scipy") == 1
    assert native.info()["backend"] == native.info()["simd"] == "scipy"
    assert choose.backends() == ["scipy"]


def test_asking_for_numba_where_it_cannot_be_imported_is_refused(without_numba, monkeypatch):
    monkeypatch.setenv("MMAUPRO_NATIVE", "numba")
    with pytest.raises(ConfigError, match="Numba cannot be imported; available here: auto, c, sc"):
        choose.backend()


def test_missing_core_and_broken_numba_are_found_out_by_importing_them():
    """No file to decode and no model: features of samples, at two rates, in a fresh process."""
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['numba', 'mmaupro_ext.native.core']));"
        "import numpy, mmaupro_ext.audio as a, mmaupro_ext.features as f, mmaupro_ext.native as n;"
        "x = a.resample(numpy.ones(44100, 'float32'), 44100, 16000);"
        "print(f.log_mel(x).shape, n.info()['backend'], 'numba.core' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(128, 100) scipy False"
    assert done.stderr.count("Numba cannot be imported") == 1


@pytest.mark.parametrize("name", ["numba", "scipy"])
def test_a_core_on_request_does_not_warn(without_core, caplog, monkeypatch, name):
    monkeypatch.setenv("MMAUPRO_NATIVE", name)
    assert choose.backend() == name
    assert not caplog.records


def test_asking_for_a_core_that_is_not_there_is_refused(without_core, monkeypatch):
    monkeypatch.setenv("MMAUPRO_NATIVE", "c")
    with pytest.raises(ConfigError, match="not installed; available here: auto, numba, scipy"):
        choose.backend()
    monkeypatch.setenv("MMAUPRO_NATIVE", "rust")
    with pytest.raises(ConfigError, match="available here: auto, numba, scipy$"):
        choose.backend()
    with pytest.raises(ConfigError, match="no compiled core"):
        choose.level()


def test_where_nothing_can_be_written_the_twin_compiles_without_its_cache_and_says_so_once():
    """As in a container without a home: none of the places that Numba tries can be written."""
    program = (
        "import os, numba.core.caching as caching\n"
        "for kind in caching.CacheImpl._locator_classes:\n"
        "    kind.from_function = classmethod(lambda *_: None)\n"
        "os.environ['MMAUPRO_NATIVE'] = 'numba'\n"
        "import numpy, mmaupro_ext.native as n\n"
        "print(n.peak(numpy.float32([1, -3, 2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=120, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "3.0"
    assert done.stderr.count("no folder to keep what it compiles in") == 1
    assert len(done.stderr.splitlines()) == 1


def test_info_says_what_runs():
    assert native.info() == {
        "backend": "c",
        "simd": choose.level(),
        "simd_available": list(choose.levels()),
        "threads": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "version": mmaupro_ext.__version__,
    }


def test_compiled_core_runs_without_importing_numba(tmp_path):
    program = (
        "import sys, numpy; from mmaupro_ext.features import log_mel; "
        "log_mel(numpy.zeros(16000)); sys.exit('numba' in sys.modules or 'torch' in sys.modules)"
    )
    # Elsewhere than in a checkout, whose package may have no core.
    done = subprocess.run([sys.executable, "-c", program], timeout=60, cwd=tmp_path)
    assert done.returncode == 0
