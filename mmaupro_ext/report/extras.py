"""The packages of the extra `report`, asked for before any work is done."""

from __future__ import annotations

from importlib import import_module

from mmaupro_ext.errors import ConfigError

PAGE = ("pandas", "jinja2", "statsmodels", "vl_convert")


def require(what: str, *names: str) -> None:
    """Stop where a package is missing.

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
            raise ConfigError(
                f"{what} needs {error.name}, which is not installed. Get it with "
                "`pip install 'mmaupro-ext[report]'`"
            ) from error
