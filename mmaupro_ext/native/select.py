"""Which core runs: the compiled one, its Numba twin or scipy, and at which instruction-set level.

Two environment variables decide, read at every call so that a test (or a user who compares) can
change them in a running process:

``MMAUPRO_NATIVE``
    ``auto`` (the default: the compiled core where it was built, else the twin, else, where Numba
    cannot be imported, scipy), ``c``, ``numba`` or ``scipy``.
``MMAUPRO_SIMD``
    ``auto`` (the default: the best level of this processor) or one of ``scalar``, ``sse2``,
    ``avx2``, ``avx512``, ``neon``. The twin is compiled for the processor at hand by Numba and does
    not look at it.

A kernel's own module (``native/logmel.py``, ``native/resample.py``) asks :func:`backend` and hands
:func:`level_number` to the compiled functions.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from types import ModuleType
from typing import Literal

from mmaupro_ext.errors import ConfigError

BACKENDS = ("auto", "c", "numba", "scipy")
LEVELS = ("scalar", "sse2", "neon", "avx2", "avx512")  # as in csrc/cpu.h: later is better

_log = logging.getLogger(__name__)


@functools.cache
def levels() -> dict[str, int]:
    """Return the levels that this build holds and this processor runs, worst first.

    Returns
    -------
    dict of str to int
        Name and number (as in ``csrc/cpu.h``) of each level; empty without a compiled core.
    """
    try:
        from mmaupro_ext.native import _logmel
    except ImportError:
        return {}
    return {name: number for number, name in enumerate(LEVELS) if _logmel.level_runs(number)}


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


def backend() -> Literal["c", "numba", "scipy"]:
    """Return the core that runs now.

    Returns
    -------
    str
        ``"c"``, ``"numba"`` or ``"scipy"``.

    Raises
    ------
    ConfigError
        If ``MMAUPRO_NATIVE`` has an unknown value, or asks for a core that is not there.
    """
    wanted = os.environ.get("MMAUPRO_NATIVE", "auto").strip().lower() or "auto"
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


def level() -> str:
    """Return the name of the instruction-set level that the compiled core uses now.

    Returns
    -------
    str
        One of ``scalar``, ``sse2``, ``neon``, ``avx2``, ``avx512``.

    Raises
    ------
    ConfigError
        If ``MMAUPRO_SIMD`` names a level that is unknown, not in this build, or not runnable here;
        or if there is no compiled core.
    """
    available = levels()
    if not available:
        raise ConfigError("there is no compiled core here, so no instruction-set level to choose")
    wanted = os.environ.get("MMAUPRO_SIMD", "auto").strip().lower() or "auto"
    if wanted == "auto":
        return list(available)[-1]
    if wanted not in available:
        why = "does not run here" if wanted in LEVELS else "is unknown"
        raise ConfigError(
            f"MMAUPRO_SIMD={wanted!r} {why}; available here: auto, {', '.join(available)}"
        )
    return wanted


def level_number() -> int:
    """Return :func:`level` as the number that the compiled functions take."""
    return levels()[level()]


# Each core has a module for each kernel, with the same functions, and its own form of a plan.
_FORMS = {"c": "compiled", "numba": "twin", "scipy": "fallback"}


def core(kernel: str) -> tuple[ModuleType, str, int]:
    """Return the module that runs a kernel now, the name of its form of a plan, and its level.

    Parameters
    ----------
    kernel : {"logmel", "stft_mel"}
        Which kernel.

    Returns
    -------
    tuple of module, str and int
        The form is "compiled", "twin" or "fallback"; the level is 0 without the compiled core.
    """
    name = backend()
    return module(_FORMS[name], kernel), _FORMS[name], level_number() if name == "c" else 0


@functools.cache
def module(form: str, kernel: str) -> ModuleType:
    """Return the module of a kernel whose plans have this form; that of a twin takes a second to import."""
    name = "_" + kernel.replace("_", "") if form == "compiled" else f"{form}_{kernel}"
    return importlib.import_module(f"mmaupro_ext.native.{name}")


@functools.cache
def _best_without_the_core() -> Literal["numba", "scipy"]:
    """Return what stands in for the compiled core, and warn, once."""
    if numba_works():
        _log.warning(
            "mmaupro-ext runs without its compiled core: the Numba twin gives the same results "
            "several times slower. Install a C11 compiler and reinstall mmaupro-ext to get the core."
        )
        return "numba"
    _log.warning(
        "mmaupro-ext runs without its compiled core, and Numba cannot be imported: scipy gives the "
        "same results, some ten times slower. Install a C11 compiler and reinstall mmaupro-ext to get "
        "the core, or mend Numba (python -c 'import numba' says what is wrong with it)."
    )
    return "scipy"
