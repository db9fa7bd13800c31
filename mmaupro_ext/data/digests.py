"""SHA-256 of clips, computed once per machine."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

from mmaupro_ext import store
from mmaupro_ext.data import manifest
from mmaupro_ext.util import sha256_of_file, stat_regular

logger = logging.getLogger(__name__)


def file_sha256(path: str | os.PathLike[str]) -> str | None:
    """Return the sha256 of a file's bytes in hex, or None when it cannot be read.

    Parameters
    ----------
    path : path
        The file; a pipe, a device or a socket is not opened. The result is remembered by path,
        size and modification time, in memory and in the user's store.

    Returns
    -------
    str or None
        64 hexadecimal digits.
    """
    path = Path(path).absolute()
    try:
        state = stat_regular(path)
        return _sha256_of(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        logger.debug("%s cannot be hashed: %s", path, error)
        return None


@functools.lru_cache(maxsize=16384)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file, or take the digest from the store when size and time still agree."""
    notes, key = _notes(store.default_path()), os.fsdecode(path)
    state = f"{size} {mtime_ns} "
    known = (notes.get("sha256", key) or b"").decode("ascii", "replace")
    if known.startswith(state):
        return known[len(state) :]
    digest = sha256_of_file(path)
    notes.put("sha256", key, (state + digest).encode())
    return digest


@functools.lru_cache(maxsize=2)
def _notes(path: Path) -> store.Store:
    return store.Store(path)


def measured_digest(folder: Path, relative: str) -> str | None:
    """Return the digest that `mmaupro data verify` measured, if the file is still the one it read."""
    folders = (folder, manifest.cached_manifest_dir(folder))
    stamps = tuple(modified(place / manifest.MANIFEST) for place in folders)
    entry = _known_clips(folder, stamps).get(relative)
    if entry is None or "mtime_ns" not in entry or not manifest.unchanged(folder / relative, entry):
        return None
    digest = entry.get("sha256")
    return digest if isinstance(digest, str) and len(digest) == 64 else None


@functools.lru_cache(maxsize=4)
def _known_clips(folder: Path, stamps: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Read the manifests once; `stamps` makes a changed one a new cache entry."""
    return manifest.known_clips(folder)


def modified(path: Path) -> int:
    """Return a file's modification time in ns, -1 when there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return -1
