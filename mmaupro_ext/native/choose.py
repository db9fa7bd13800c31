"""The one place that picks what runs: the compiled core, its Numba twin or scipy, and the SIMD level.

Two environment variables decide. They are looked at in every call, which costs a microsecond, so that a
test (or a user who compares) can change them in a running process:

``MMAUPRO_NATIVE``
    ``auto`` (the default: the compiled core where it was built, else the twin, else, where Numba
    cannot be imported, scipy), ``c``, ``numba`` or ``scipy``.
``MMAUPRO_SIMD``
    ``auto`` (the default: the best level of this processor) or one of ``scalar``, ``sse2``,
    ``avx2``, ``avx512``, ``neon``. The twin is compiled for the processor at hand by Numba and does
    not look at it.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from types import ModuleType
from typing import NamedTuple

from mmaupro_ext import extras
from mmaupro_ext.errors import ConfigError

BACKENDS = ("auto", "c", "numba", "scipy")

_log = logging.getLogger(__name__)


class Core(NamedTuple):
    """What runs: its modules have the same functions, which take `level`, and forms of plans of their own."""

    backend: str
    level: int  # a number of csrc/cpu.h; 0 without the compiled core
    stft: ModuleType
    resample: ModuleType


@functools.lru_cache(maxsize=32)
def core(native: str, simd: str) -> Core:
    """Return the core that runs with these values of ``MMAUPRO_NATIVE`` and ``MMAUPRO_SIMD``.

    Raises
    ------
    ConfigError
        If one is unknown, or asks for what is not there.
    """
    name = backend(native)
    stft, resample = {
        "c": ("core", "core"),
        "numba": ("twin_stft_mel", "twin_resample"),
        "scipy": ("fallback", "fallback"),
    }[name]
    number = levels()[level(simd)] if name == "c" else 0
    return Core(name, number, _module(stft), _module(resample))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"mmaupro_ext.native.{name}")


def backend(wanted: str | None = None) -> str:
    """Return the name of the core that runs now, or would with this value of ``MMAUPRO_NATIVE``.

    Returns
    -------
    str
        ``"c"``, ``"numba"`` or ``"scipy"``.

    Raises
    ------
    ConfigError
        If the value is unknown, or asks for a core that is not there.
    """
    wanted = _wish("MMAUPRO_NATIVE", wanted)
    if wanted == "scipy":
        return "scipy"
    if wanted == "numba" and numba_works():
        return "numba"
    if wanted in ("auto", "c") and levels():
        return "c"
    if wanted == "auto":
        return _best_without_the_core()
    available = ", ".join(["auto", *backends()])
    if wanted == "c":
        raise ConfigError(
            f"MMAUPRO_NATIVE=c, but the compiled core is not installed; available here: {available}. "
            "Install a C11 compiler and reinstall mmaupro-ext to get it."
        )
    if wanted == "numba":
        raise ConfigError(
            f"MMAUPRO_NATIVE=numba, but Numba cannot be imported; available here: {available}"
        )
    raise ConfigError(f"MMAUPRO_NATIVE={wanted!r} is unknown; available here: {available}")


def level(wanted: str | None = None) -> str:
    """Return the instruction-set level that the compiled core uses now, or would with this ``MMAUPRO_SIMD``.

    Raises
    ------
    ConfigError
        If the level is unknown, not in this build, or not runnable here; or if there is no compiled
        core.
    """
    available = levels()
    if not available:
        raise ConfigError("there is no compiled core here, so no instruction-set level to choose")
    wanted = _wish("MMAUPRO_SIMD", wanted)
    if wanted == "auto":
        return list(available)[-1]
    if wanted not in available:
        why = "does not run here" if wanted in _module("core").LEVELS else "is unknown"
        raise ConfigError(
            f"MMAUPRO_SIMD={wanted!r} {why}; available here: auto, {', '.join(available)}"
        )
    return wanted


def _wish(variable: str, value: str | None) -> str:
    value = os.environ.get(variable, "") if value is None else value
    return value.strip().lower() or "auto"


@functools.cache
def levels() -> dict[str, int]:
    """Return the levels that this build holds and this processor runs, worst first.

    Returns
    -------
    dict of str to int
        Name and number of each level; empty without a compiled core.
    """
    try:
        core = _module("core")
    except ImportError:
        return {}
    return {name: number for number, name in enumerate(core.LEVELS) if core.level_runs(number)}


@functools.cache
def numba_works() -> bool:
    """Return whether Numba can be imported (it cannot, for some weeks, with each new Python)."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def backends() -> list[str]:
    """Return the cores that can run here, best first."""
    return [
        name
        for name in BACKENDS[1:]
        if {"c": bool(levels()), "numba": numba_works()}.get(name, True)
    ]


@functools.cache
def _best_without_the_core() -> str:
    """Return what stands in for the compiled core, and warn, once; an error where nothing does."""
    if numba_works():
        _log.warning(
            "mmaupro-ext runs without its compiled core: the Numba twin gives the same results "
            "several times slower. Install a C11 compiler and reinstall mmaupro-ext to get the core."
        )
        return "numba"
    extras.require(
        "the frontend without its compiled core, which this installation lacks,", "scipy"
    )
    _log.warning(
        "mmaupro-ext runs without its compiled core, and Numba cannot be imported: scipy gives the "
        "same results, some ten times slower. Install a C11 compiler and reinstall mmaupro-ext to get "
        "the core, or mend Numba (python -c 'import numba' says what is wrong with it)."
    )
    return "scipy"
