"""Keys of servers: read from where they are kept, and read anew when they have expired."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from mmaupro_ext import masking
from mmaupro_ext.errors import ConfigError

logger = logging.getLogger(__name__)

COMMAND_TIMEOUT_S = 60.0


class ApiKey:
    """A key that can be read anew.

    Parameters
    ----------
    place : str
        Where it is kept, for messages.
    read : callable
        Reads it; None or "" where there is none.

    Attributes
    ----------
    value : str or None
        The key without white space around it. It is kept out of texts (`masking`).

    Raises
    ------
    ConfigError
        When no header can carry it, or `read` says so. No message shows a key.
    """

    def __init__(self, place: str, read: Callable[[], str | None]) -> None:
        self._place, self._read = place, read
        self._lock = threading.Lock()
        self.value = self._clean()

    @classmethod
    def fixed(cls, value: str | None) -> ApiKey:
        """Return a key that is what it is."""
        return cls("the arguments", lambda: value)

    @classmethod
    def of_variable(cls, variable: str, *, required: bool) -> ApiKey:
        """Return the key in an environment variable."""
        found = cls(f"the environment variable {variable}", lambda: os.environ.get(variable))
        if required and not found.value:
            raise ConfigError(f"api_key_env={variable}: there is no such environment variable.")
        return found

    @classmethod
    def of_file(cls, path: str) -> ApiKey:
        """Return the key that is all of a text file."""

        def read() -> str:
            try:
                text = Path(path).expanduser().read_text(encoding="utf-8-sig").strip()
            except (OSError, UnicodeDecodeError) as error:
                # Of a wrong decoding the bytes are in the error.
                why = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
                raise ConfigError(f"api_key_file={path} cannot be read: {why}.") from None
            if not text:
                raise ConfigError(f"api_key_file={path} is empty.")
            return text

        return cls(f"api_key_file={path}", read)

    @classmethod
    def of_command(cls, command: str) -> ApiKey:
        """Return the key that a command prints; it runs without a shell, for a minute at most."""

        def read() -> str:
            try:
                done = subprocess.run(
                    shlex.split(command),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=COMMAND_TIMEOUT_S,
                )
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                raise ConfigError(
                    f"api_key_command cannot be run ({type(error).__name__}). It is split as a shell "
                    "does, but no shell runs it."
                ) from None
            if done.returncode or not done.stdout.strip():
                said = done.stderr.strip().splitlines()[-1:]
                raise ConfigError(
                    f"api_key_command printed no key (exit status {done.returncode})"
                    + (f": {masking.masked(said[0])}" if said else ".")
                )
            return done.stdout

        return cls("what api_key_command prints", read)

    def _clean(self) -> str | None:
        key = (self._read() or "").strip()
        if not key:
            return None
        masking.keep_out(key)
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"the key in {self._place} is not one word of printable ASCII: a line break or a second "
                "line, perhaps. It is not shown here."
            )
        return key

    def renew(self, stale: str | None) -> bool:
        """Read the key anew, unless that was done since; return whether it is another one.

        Parameters
        ----------
        stale : str or None
            The key that was refused.
        """
        with self._lock:
            if self.value == stale:
                try:
                    self.value = self._clean()
                except ConfigError as error:
                    logger.warning("the key could not be read anew: %s", error)
                else:
                    if self.value != stale:
                        logger.info(
                            "the key was refused and has been read anew from %s", self._place
                        )
            return self.value != stale
