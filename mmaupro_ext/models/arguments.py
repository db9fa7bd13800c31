"""Checks of what stands in --model_args."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from mmaupro_ext.errors import ConfigError

N = TypeVar("N", int, float)


def require_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise ConfigError for a value that is none of the known ones."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"{name}={value!r} is unknown. Use one of: {', '.join(known)}.")


def positive(name: str, value: Any, kind: Callable[[Any], N]) -> N | None:
    """Return a number given by the user, None where there is none.

    Raises
    ------
    ConfigError
        When it is no number greater than 0.
    """
    if value is None:
        return None
    try:
        number = kind(value)
    except ValueError:
        number = kind(0)
    if number <= 0:
        raise ConfigError(f"{name}={value!r} is not a number greater than 0.")
    return number
