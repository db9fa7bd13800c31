"""What a run's metadata says of how items are asked: under which condition, and how many.

Here alone headers of clips are read for that; `ablating` itself is pure.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext import recipes
from mmaupro_ext.audio.loading import probe
from mmaupro_ext.data.ablating import ask, read_rephrasings
from mmaupro_ext.data.load import audio_references
from mmaupro_ext.data.schema import Doc
from mmaupro_ext.errors import AudioError, DataError

CONDITION, REPHRASINGS, ITEMS = "condition", "rephrasings", "items"
"""Keys of lm_eval's --metadata: a condition, its file of rephrasings, how many items of a category."""


class NothingToAskError(DataError):
    """No item of a category can be asked under a condition.

    Parameters
    ----------
    not_asked : mapping of str to int
        Why -> how many items.
    """

    def __init__(self, message: str, not_asked: Mapping[str, int]) -> None:
        super().__init__(message)
        self.not_asked = dict(not_asked)


def asked(docs: Sequence[Doc], metadata: Mapping[str, Any]) -> tuple[list[Doc], dict[str, int]]:
    """Return the documents of a category as a run asks them.

    Parameters
    ----------
    docs : sequence of dict
        All of the category, as they were loaded.
    metadata : mapping
        Of the run. `recipe`: a card of `recipes`; `condition`: key of `conditions.CONDITIONS`; `rephrasings`:
        file for "rephrase"; `items`: how many items, from the first (lm_eval's --limit counts documents, and
        an item may have several).

    Returns
    -------
    docs : list of dict
        The same where nothing is said.
    not_asked : dict of str to int
        Why items cannot be asked under the condition -> how many.

    Raises
    ------
    ConfigError
        For an unknown condition, or one without what it needs.
    NothingToAskError
        When no item can be asked.
    """
    if metadata.get(recipes.RECIPE):
        recipe = recipes.known(str(metadata[recipes.RECIPE]))
        docs = [{**doc, recipes.RECIPE: recipe.name} for doc in docs]
    items = metadata.get(ITEMS)
    most = None if items is None else int(items)
    name = metadata.get(CONDITION)
    if not name:
        return list(docs[:most]), {}
    file = metadata.get(REPHRASINGS)
    rephrasings = None if file is None else read_rephrasings(file)
    found = ask(docs, str(name), _sounds, rephrasings, most)
    if not found.docs:
        category = docs[0]["category"] if docs else "the category"
        why = "; ".join(f"{reason} ({count})" for reason, count in found.not_asked.items())
        raise NothingToAskError(
            f"no item of {category!r} can be asked under the condition {name}: {why}. Leave its task out, or "
            "use `mmaupro ablate`, which does so itself",
            found.not_asked,
        )
    return found.docs, dict(found.not_asked)


def _sounds(doc: Doc) -> list[tuple[float, int]]:
    """Return seconds and channels of the clips of a document; of one that cannot be read, none."""
    return [_stated(clip["path"], clip["sha256"]) for clip in audio_references(doc)]


@functools.lru_cache(maxsize=1 << 14)
def _stated(path: str, digest: str | None) -> tuple[float, int]:
    try:
        info = probe(path)
    except (AudioError, OSError):  # asking it in full says what is wrong
        return 0.0, 0
    return info.seconds, info.channels
