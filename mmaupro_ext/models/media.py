"""Media of one request: their references, as lm_eval hands them over, and its images."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmaupro_ext.audio.decoding import condition_of, name_of
from mmaupro_ext.errors import ItemError
from mmaupro_ext.util import stat_regular

if TYPE_CHECKING:
    from PIL.Image import Image

STEREO_AS_TWO = "stereo-as-two"
CHANNELS = ("mono", STEREO_AS_TWO)


def media_of(arguments: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the media references of a request by kind, without empty kinds.

    Parameters
    ----------
    arguments : sequence
        `Instance.args`: lm_eval puts a mapping such as `{"audio": [...], "visual": [...]}` third.

    Returns
    -------
    dict
        Kind ("audio", "visual") to its flat, non-empty list of references.
    """
    if len(arguments) < 3 or not isinstance(arguments[2], Mapping):
        return {}
    media = {kind: _flatten(value) for kind, value in arguments[2].items()}
    return {kind: references for kind, references in media.items() if references}


def _flatten(value: Any) -> list[Any]:
    """Make a list of one reference, a list of them, or (a list of columns) a list of lists."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)):
        return [as_stored(value)]
    return [reference for entry in value for reference in _flatten(entry)]


def as_stored(value: Any) -> Any:
    """Return what `datasets` would decode lazily as it is stored: a reference with its path or its bytes."""
    return dict(value._hf_encoded) if hasattr(value, "_hf_encoded") else value


def media_key(media: Mapping[str, Sequence[Any]]) -> str:
    """Return a key that is equal for requests with the same media."""
    return json.dumps(media, sort_keys=True, default=lambda thing: f"object at {id(thing)}")


def sounds_key(media: Mapping[str, Sequence[Any]]) -> str:
    """Return a key that is equal for requests with media that sound and look the same.

    That is `media_key`, but for items that are asked once more (`data.conditions`): they are other requests
    with the same media.
    """

    def as_heard(reference: Any) -> Any:
        if condition_of(reference) != {"name": "repeat"}:
            return reference
        return {name: value for name, value in reference.items() if name != "condition"}

    return media_key({kind: list(map(as_heard, entries)) for kind, entries in media.items()})


def names_of(media: Mapping[str, Sequence[Any]]) -> str:
    """Return the names of all media of a request, for messages."""
    return ", ".join(name_of(entry) for references in media.values() for entry in references)


def read_image(reference: Any) -> Image:
    """Return an image in RGB.

    Parameters
    ----------
    reference : PIL.Image.Image, str, path or mapping
        An image, a path, `{"path": ...}` or `{"bytes": ...}`.

    Raises
    ------
    ItemError
        When the reference has none of these forms.
    OSError
        When the file cannot be read as an image.
    """
    from PIL import Image

    if isinstance(reference, Image.Image):
        return reference.convert("RGB")
    if isinstance(reference, Mapping) and reference.get("bytes"):
        source: Any = io.BytesIO(reference["bytes"])
    else:
        source = reference.get("path") if isinstance(reference, Mapping) else reference
    if not isinstance(source, (str, os.PathLike, io.BytesIO)):
        raise ItemError(
            f"a reference to an image of type {type(reference).__name__} cannot be read",
            fix="Let doc_to_image return PIL images or paths.",
        )
    if not isinstance(source, io.BytesIO):
        stat_regular(source)
    with Image.open(source) as image:
        return image.convert("RGB")
