"""The error of the scorers."""

from __future__ import annotations

from mmaupro_ext.errors import MMAUProError


class ScoringError(MMAUProError, ValueError):
    """An item, an argument or a set of scores that cannot be scored as asked.

    Whoever scores many items counts the item as errored and goes on.
    """
