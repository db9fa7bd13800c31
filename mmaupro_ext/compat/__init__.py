"""Make lm_eval 0.4.13, which discovers no plug-ins, find our models and tasks.

`install` watches for the import of a few lm_eval modules and applies `lm_eval_0_4_13.PATCHES` to each
when it has been imported. Two ways lead here: the `mmaupro` command calls `install` itself, and the
start-up file of a plain pip install (``mmaupro_ext_hook.pth`` and ``.py`` in this folder) calls it when
the bare ``lm_eval`` command is run. Editable installs have no start-up file: `mmaupro hook enable` adds it.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from mmaupro_ext import plugin, versions
from mmaupro_ext.compat.lm_eval_0_4_13 import PATCHES


def install() -> None:
    """Watch for lm_eval's modules; patch at once those already imported.

    Calling it again changes nothing. Never raises.
    """
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())  # type: ignore[arg-type]
    for name in PATCHES:
        if name in sys.modules:
            _apply(name, sys.modules[name])


class _AfterImport:
    """A finder that finds nothing itself: it adds a step after the import of the watched modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a watched module, with a loader that patches what it has loaded."""
        if name not in PATCHES:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        run_module = loader.exec_module

        def exec_module(module: Any) -> None:
            run_module(module)
            _apply(name, module)

        with contextlib.suppress(AttributeError):  # a loader that allows no change is left alone
            loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _apply(name: str, module: Any) -> None:
    """Patch one lm_eval module; a failure must never break the user's lm_eval."""
    try:
        PATCHES[name](module)
    except Exception as error:
        import warnings

        warnings.warn(
            f"mmaupro-ext could not plug into {name} ({error!r}); its models or tasks are missing. "
            f"{versions.advice() or ''} Use `mmaupro run` with lm_eval {versions.span('lm-eval')}, or set "
            f"{plugin.OFF_SWITCH}=1 to silence this.",
            stacklevel=2,
        )
