"""What people look at: reports, comparisons, figures, item views. `load` gives a run as pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmaupro_ext.report.frames import Frames, load

__all__ = ["Frames", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mmaupro_ext.report import frames

        return getattr(frames, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
