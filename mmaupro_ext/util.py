"""What every room needs and no room owns: atomic writes, digests, counts of cores, checks of arguments.

Standard library only, so that importing it costs nothing.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import inspect
import json
import math
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mmaupro_ext.errors import ConfigError

N = TypeVar("N", int, float)

_HASH_BLOCK = 1 << 20  # bytes

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


# Control characters but the line feed, marks that turn the direction of writing, lone surrogates:
# a terminal obeys them or hides them.
_HIDDEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def cache_dir() -> Path:
    """Return the user's folder for files that can be made again (it need not exist).

    Returns
    -------
    pathlib.Path
        `$XDG_CACHE_HOME/mmaupro-ext`, or `~/.cache/mmaupro-ext` when the variable is unset.
    """
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mmaupro-ext"


def write_atomically(path: str | os.PathLike[str], content: str | bytes | Iterable[bytes]) -> None:
    """Write a file so that readers, also after a crash, find the old content or the new one.

    Parameters
    ----------
    path : path-like
        The file; its folder is made when it is missing.
    content : str, bytes or iterable of bytes
        All of it, or its pieces; text is written as UTF-8.

    Raises
    ------
    OSError
        When the folder cannot be written or the disk is full; the old file is left as it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        content = content.encode("utf-8")
    # A name has at most 255 bytes, and a character up to four of them.
    part = target.with_name(f".{target.name[:60]}.{os.urandom(4).hex()}.part")
    try:
        with open(part, "xb") as stream:
            stream.writelines([content] if isinstance(content, bytes) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write a JSON file as :func:`write_atomically` does, indented by one space.

    Parameters
    ----------
    path : path-like
        The file.
    content : object
        Anything that `json` can write.

    Raises
    ------
    OSError
        As :func:`write_atomically`.
    """
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def stat_regular(path: str | os.PathLike[str]) -> os.stat_result:
    """Return the state of a regular file.

    Parameters
    ----------
    path : path
        The file, or a link to it.

    Raises
    ------
    OSError
        When there is none, or it is something that may block whoever opens it: a pipe, a device, a
        socket, a folder.
    """
    state = os.stat(path)
    kind = stat.S_IFMT(state.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "a special file")
        raise OSError(errno.EINVAL, f"it is {what} and no regular file", os.fspath(path))
    return state


def sha256_of_file(
    path: str | os.PathLike[str], between_blocks: Callable[[], object] | None = None
) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal digits.

    Parameters
    ----------
    path : path-like
        The file; it is read block by block.
    between_blocks : callable, optional
        Called after each MiB; what it raises ends the reading.

    Raises
    ------
    OSError
        When the file cannot be read, or is none; see `stat_regular`.
    """
    stat_regular(path)
    hasher = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            hasher.update(block)
            if between_blocks is not None:
                between_blocks()
    return hasher.hexdigest()


def sha256_of_text(text: str) -> str:
    """Return the SHA-256 of a text's UTF-8 bytes in hexadecimal digits; lone surrogates are allowed."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def peak_memory() -> dict[str, int]:
    """Return the most bytes that this process held: "process", and "device" where it computed on a GPU."""
    found = {}
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["process"] = peak if sys.platform == "darwin" else 1024 * peak  # kB elsewhere
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["device"] = int(torch.cuda.max_memory_allocated())
    return found


def visible(text: str) -> str:
    r"""Return a text of somebody else's so that no terminal obeys it: escape characters are written out.

    Parameters
    ----------
    text : str
        Anything.

    Returns
    -------
    str
        The same with hidden characters as Python would write them, such as ``\x1b``.
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_json(text: str) -> str:
    """Return JSON text that says the same and has no hidden characters."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def writable(text: str) -> str:
    """Return a text that any file can hold: lone surrogates, which UTF-8 has not, are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def usable_cores() -> int:
    """Return how many cores this process may run on (containers and `taskset` count)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise ConfigError for a value that is none of the known ones."""
    known = list(known)
    if value not in known:
        raise ConfigError(f"{name}={value!r} is unknown. Use one of: {', '.join(known)}.")


def arguments_of(cls: type) -> list[str]:
    """Return the names of the arguments that a class takes by name."""
    parameters = inspect.signature(cls).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]


def refuse_unknown(
    name: str, given: Iterable[str], known: Sequence[str], alike: float = 0.0
) -> None:
    """Raise ConfigError for an argument that is none of the known ones, with those nearest to it.

    Parameters
    ----------
    name : str
        How messages call what takes them.
    given, known : iterables of str
        Names of arguments.
    alike : float
        From 0 to 1: how like a known one an argument must be to be refused, where others may be somebody
        else's. A letter left out of ten is about 0.95.
    """
    for argument in given:
        if argument not in known and difflib.get_close_matches(argument, known, 1, cutoff=alike):
            raise ConfigError(f"{name} has no argument {argument!r}.{nearest(argument, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: those that may have been meant.

    Examples
    --------
    >>> nearest("scor", ["score", "report"])
    ' The nearest: score.'
    >>> nearest("x", ["score", "report"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" The nearest: {', '.join(near)}." if near else ""


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
        # What it holds may be a key.
        raise ConfigError(f"{name} is no JSON object. Quote it for the shell: '{{...}}'.")
    return content


def retry_after(value: str | None) -> float | None:
    """Return for how many seconds a server asks to be left alone, None where it does not say.

    Parameters
    ----------
    value : str or None
        Its `Retry-After` header: seconds or a date (RFC 9110, section 10.2.3).
    """
    try:
        seconds = float(value or "")
    except ValueError:
        from email.utils import parsedate_to_datetime

        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
