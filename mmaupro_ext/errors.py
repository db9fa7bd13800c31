"""The errors that this package raises on purpose.

Every message says what is wrong, names the file or item, and gives the fix.
"""

from __future__ import annotations


class MMAUProError(Exception):
    """Base class of every error that mmaupro_ext raises on purpose."""


class ItemError(MMAUProError, ValueError):
    """One item that cannot be served: the others go on.

    Parameters
    ----------
    problem : str
        What is wrong, in one clause.
    path : str, optional
        The file or files concerned.
    fix : str, optional
        What the user can do about it.
    """

    def __init__(self, problem: str, *, path: str | None = None, fix: str | None = None) -> None:
        self.problem, self.path, self.fix = problem, path, fix
        text = f"{path}: {problem}" if path else problem
        super().__init__(f"{text}. {fix}" if fix else text)

    def __reduce__(self):  # keyword-only arguments do not survive the default pickling
        return (_rebuild_item_error, (type(self), self.problem, self.path, self.fix))


def _rebuild_item_error(
    cls: type[ItemError], problem: str, path: str | None, fix: str | None
) -> ItemError:
    return cls(problem, path=path, fix=fix)


class AudioError(ItemError):
    """An audio file or array that cannot be used as it is."""


class DataError(MMAUProError, ValueError):
    """The dataset is missing, incomplete, or not shaped as the schema says."""


class ConfigError(MMAUProError, ValueError):
    """An option or model argument that cannot be honoured."""
