"""Checks of what stands in --model_args."""

from __future__ import annotations

import json
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


def json_object(name: str, value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Return an argument that is a JSON object, or text of one; {} where there is none.

    Raises
    ------
    ConfigError
        When it is neither.
    """
    if not value:
        return {}
    try:
        content = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{name}={value!r} is no JSON object.")
    return content
