"""What a small install leaves out: what brings a package, and the sentence that says so.

`pip install mmaupro-ext` brings all that runs need. Without its dependencies (`--no-deps`) scores, data and
the frontend work beside `PLAIN` alone, without torch (docs/install.md).
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

from mmaupro_ext.errors import ConfigError

EXTRA_OF = MappingProxyType(
    dict.fromkeys(
        ("lm_eval", "torch", "transformers", "accelerate", "datasets", "numba", "scipy"), ""
    )
    | dict.fromkeys(("pandas", "jinja2", "vl_convert"), "report")
    | {"matplotlib": "plot", "ray": "ray", "PIL": "vision", "av": "media"}
)
"""Package as it is imported -> the extra that brings it; "": the package itself, with its dependencies."""

# What scores, data and the frontend need, as it is imported.
PLAIN = (
    "filelock",
    "huggingface_hub",
    "nltk",
    "numpy",
    "pyarrow",
    "shtab",
    "soundfile",
    "soxr",
    "tqdm",
    "yaml",
)

PAGE = ("pandas", "jinja2", "vl_convert")


def advice(error: BaseException) -> str | None:
    """Return which package is missing and how to get it.

    Parameters
    ----------
    error : BaseException
        Of an import.

    Returns
    -------
    str or None
        None where the error says nothing of the kind, or the package is there and lacks a part.

    Examples
    --------
    >>> advice(ModuleNotFoundError("No module named 'numpy.gone'", name="numpy.gone")) is None
    True
    """
    package = ((isinstance(error, ImportError) and error.name) or "").partition(".")[0]
    if not (package in EXTRA_OF or package in PLAIN) or _is_there(package):
        return None
    extra = EXTRA_OF.get(package)
    wanted = {None: package, "": "mmaupro-ext"}.get(extra, f"'mmaupro-ext[{extra}]'")
    return f"{package}, which is not installed. Get it with `pip install {wanted}`"


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def require(what: str, *names: str) -> None:
    """Stop where a package is missing, before any work is done.

    Parameters
    ----------
    what : str
        What needs them.
    *names : str
        As they are imported.

    Raises
    ------
    ConfigError
        With the first that is missing, and how to get it.
    """
    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            said = advice(error)
            if said is None:
                raise
            raise ConfigError(f"{what} needs {said}") from error
