"""What was measured of the clips, remembered in `manifest.json` beside test.parquet.

A manifest is `{"files": {relative path: entry}}`. An entry has `sha256`, `bytes` and, where the clip
was decoded, what `clips.measure` lists. The loader takes its digests from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mmaupro_ext.util import cache_dir, stat_regular

Entry = dict[str, Any]

MANIFEST = "manifest.json"
PARTIAL = "manifest.partial.json"


def unchanged(path: Path, entry: Entry) -> bool:
    """Return whether a file still has the size and modification time that an entry states.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    entry : dict
        Its entry; what the entry does not state is not compared.

    Returns
    -------
    bool
        False when the file is missing, or the entry states neither.
    """
    try:
        status = path.stat()
    except OSError:
        return False
    now = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    stated = [key for key in now if key in entry]
    return bool(stated) and all(entry[key] == now[key] for key in stated)


def cached_manifest_dir(root: Path) -> Path:
    """Return the folder for the manifest of a dataset whose own folder cannot be written.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the dataset.

    Returns
    -------
    pathlib.Path
        A folder of its own in the user's cache; it need not exist.
    """
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_dir() / "manifests" / name


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a manifest's content.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict or None
        None when there is no such file or it is not a manifest.
    """
    try:
        stat_regular(path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        return None
    if not all(isinstance(entry, dict) for entry in content["files"].values()):
        return None
    return content


def known_clips(root: Path) -> dict[str, Entry]:
    """Return what is known of a dataset's clips without opening one.

    Parameters
    ----------
    root : pathlib.Path
        Folder of the dataset.

    Returns
    -------
    dict
        Relative path to entry: from the manifest beside the parquet, completed by the one that
        `mmaupro data verify` keeps in the user's cache. Empty when there is neither.
    """
    beside = read_manifest(root / MANIFEST) or {"files": {}}
    cached = read_manifest(cached_manifest_dir(root) / MANIFEST) or {"files": {}}
    known: dict[str, Entry] = dict(cached["files"])
    for clip, entry in beside["files"].items():
        measured = known.get(clip, {})
        same_bytes = measured.get("sha256") == entry.get("sha256")
        known[clip] = {**measured, **entry} if same_bytes else entry
    return known
