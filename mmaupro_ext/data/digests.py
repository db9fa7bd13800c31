"""SHA-256 of clips, computed once per machine."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from mmaupro_ext.data import manifest
from mmaupro_ext.util import cache_dir, sha256_of_file, write_atomically

logger = logging.getLogger(__name__)


def file_sha256(path: str | os.PathLike[str]) -> str | None:
    """Return the sha256 of a file's bytes in hex, or None when it cannot be read.

    Parameters
    ----------
    path : path
        The file. The result is remembered by path, size and modification time.

    Returns
    -------
    str or None
        64 hexadecimal digits.
    """
    path = Path(path).absolute()
    try:
        state = path.stat()
        return _sha256_of(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        logger.debug("%s cannot be hashed: %s", path, error)
        return None


@functools.lru_cache(maxsize=16384)
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file, or take the digest from the disk cache when size and time still agree."""
    name = hashlib.sha256(os.fsencode(path)).hexdigest()
    note = cache_dir() / "sha256" / name[:2] / name[2:]
    stamp = {"size": size, "mtime_ns": mtime_ns}
    known = _read_note(note)
    if known is not None and {key: known.get(key) for key in stamp} == stamp:
        digest = known.get("sha256")
        if isinstance(digest, str) and len(digest) == 64:
            return digest
    digest = sha256_of_file(path)
    try:
        write_atomically(note, json.dumps({**stamp, "sha256": digest}))
    except OSError as error:  # a full or read-only cache costs speed and nothing else
        logger.debug("the digest cache %s cannot be written: %s", note, error)
    return digest


def _read_note(note: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(note.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def measured_digest(folder: Path, relative: str) -> str | None:
    """Return the digest that `mmaupro data verify` measured, if the file is still the one that it read."""
    manifests = (
        folder / manifest.MANIFEST,
        manifest.cached_manifest_dir(folder) / manifest.MANIFEST,
    )
    entry = _known_clips(folder, tuple(modified(path) for path in manifests)).get(relative)
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
