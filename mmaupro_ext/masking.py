"""Secrets: which values are some, and how none of them gets into samples, results, caches or logs.

A secret is known by its name among arguments (`hidden`), or said to be one (`keep_out`). From then on
`masked` takes it out of any text, wherever the text comes from: a server that echoes a key in an error
or in a reply is the usual way.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, quote_plus

SHOWN = "***"
# A shorter key is a placeholder (EMPTY, none, dummy), and taking it out of replies would change them.
LEAST_LETTERS = 8

# Names of settings that hold a secret. "think_end_token" and "max_tokens" do not.
SECRET_NAME = re.compile(
    r"(?i)(^|.*[_-])(api[_-]?key|key|secret|password|passwd|credentials?|authorization|bearer|cookie"
    r"|(hf|auth|access|api|bearer|refresh|session)[_-]?token)$|^(token|use_auth_token|headers)$"
)
# In addresses: what stands before the host, and the query.
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+@|(?<=[^\s?])\?[^\s#]*=[^\s#]*$")
# Arguments that are JSON objects, and one that may say a key in its words.
_OBJECTS, _COMMANDS = ("headers", "query", "extra_body"), ("api_key_command",)

_known: set[str] = set()


class Secret:
    """A value among arguments whose text is another one.

    Parameters
    ----------
    value : object
        The value.
    shown : str
        What `str` and `repr` say in its place.
    """

    def __init__(self, value: Any, shown: str = SHOWN) -> None:
        self._value, self._shown = value, shown

    def __repr__(self) -> str:
        return self._shown

    __str__ = __repr__

    def reveal(self) -> Any:
        """Return the value."""
        return self._value


def keep_out(value: Any) -> None:
    """Have a secret taken out of all texts from now on; mappings and lists: all that they hold."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            keep_out(part)
        return
    text = str(value).strip()
    # "Bearer KEY" and "Basic KEY" are echoed without their first word, too.
    for word in {text, text.rpartition(" ")[2]}:
        if len(word) >= LEAST_LETTERS:
            _known.update((word, quote(word, safe=""), quote_plus(word)))


def masked(value: Any) -> Any:
    """Return a text, or plain JSON, without the known secrets: `***` stands in their places."""
    if isinstance(value, str):
        for secret in sorted(_known, key=len, reverse=True):
            value = value.replace(secret, SHOWN)
        return value
    if isinstance(value, dict):
        return {masked(key): masked(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(masked, value))
    return value


def hidden(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments with a `Secret` in place of each that is one, at any depth.

    Parameters
    ----------
    arguments : mapping
        As a user gave them: names that say so hold secrets, and so do all headers, and addresses with
        a name, a password or a query.

    Notes
    -----
    The secrets are kept out of all texts from then on.
    """
    return {name: _hidden(name, value) for name, value in arguments.items()}


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, Secret) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and name in _OBJECTS:
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return Secret(value)
    if name == "headers" and isinstance(value, Mapping):
        parts = {name: revealed(part) for name, part in value.items()}
        keep_out(parts)
        return {header: Secret(part) for header, part in parts.items()}
    if name in _COMMANDS:
        return Secret(value)
    if SECRET_NAME.match(name):
        keep_out(value)
        return Secret(value)
    if isinstance(value, Mapping):
        return hidden(value)
    if isinstance(value, list):
        return [_hidden("", part) for part in value]
    if isinstance(value, str) and IN_ADDRESS.search(value):
        return Secret(value, IN_ADDRESS.sub(SHOWN, value))
    return value


def revealed(arguments: Any) -> Any:
    """Return what `hidden` was given."""
    return _each_secret(arguments, Secret.reveal)


def shown(arguments: Any) -> Any:
    """Return arguments as they may be shown: plain JSON with `***` for secrets."""
    return _each_secret(arguments, str)


def _each_secret(value: Any, change: Any) -> Any:
    if isinstance(value, Secret):
        return change(value)
    if isinstance(value, dict):
        return {name: _each_secret(part, change) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each_secret(part, change) for part in value)
    return value


class Masking(logging.Filter):
    """Takes the known secrets out of what is logged, tracebacks included."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record that holds a secret; let all pass."""
        text = record.getMessage()
        if masked(text) != text:
            record.msg, record.args = masked(text), ()
        if record.exc_info:
            record.exc_text = masked(logging.Formatter().formatException(record.exc_info))
        return True
