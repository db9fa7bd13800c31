"""Embeddings kept on disk, so that scoring again needs no model."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmaupro_ext.errors import ConfigError

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import TokenEmbedder

logger = logging.getLogger(__name__)

DEFAULT_MAX_BYTES = 2 * 1024**3
"""Bytes; about 130,000 embeddings of NV-Embed-v2. All of MMAU-Pro needs a tenth of that."""

_DIGEST_BYTES = 32
_SUFFIX = ".emb"
# Entries, and what a run that was killed while writing one has left.
_OWN_FILE = re.compile(r"[0-9a-f]{32}/[0-9a-f]{2}/[0-9a-f]{64}\.(?:emb|\w+\.part)")


class CachedEmbedder:
    """An embedder that keeps what it computed in a folder.

    An entry belongs to one model, as `TokenEmbedder.identity` says, and one text, by the SHA-256 of
    its UTF-8 bytes. It is written under another name and then renamed, so a run that is cut off
    leaves no half entry, and several runs may share the folder. An entry that cannot be read whole
    is computed again. What comes out of the cache has the bytes that went in.

    Parameters
    ----------
    embedder : TokenEmbedder
        Computes what is missing; its weights are loaded only then.
    folder : str or path
        Made if need be.
    max_bytes : int
        When the entries, of all models together, grow past this size, those unused for longest are
        deleted until a tenth is free. Entries of the call under way may be among them; it has its
        results already.

    Raises
    ------
    ConfigError
        When the folder cannot be written to, or `max_bytes` is not positive.
    """

    def __init__(
        self,
        embedder: TokenEmbedder,
        folder: str | os.PathLike[str],
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        if max_bytes <= 0:
            raise ConfigError(f"the embedding cache needs max_bytes above 0, not {max_bytes}")
        self.embedder = embedder
        self.name = embedder.name
        self.label = embedder.label
        self.official = embedder.official
        self.identity = embedder.identity
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        own = hashlib.sha256(self.identity.encode()).hexdigest()[:32]
        self._entries = self.folder / own
        try:
            self._entries.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._entries).close()
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: the embedding cache cannot be written ({error.strerror}). Name "
                "another folder, or none"
            ) from error

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see."""
        return self.embedder.cut_tokens(texts)

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model; the cache does not change it."""
        return self.embedder.details()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, from disk where possible.

        Parameters
        ----------
        texts : sequence of str
            Any; the same text may come several times.

        Returns
        -------
        numpy.ndarray, float32, (texts, dimensions)
            Rows of length 1.

        Raises
        ------
        ScoringError
            As the embedder does.
        """
        rows: dict[str, np.ndarray] = {}
        missing = []
        for text in dict.fromkeys(texts):
            row = self._read(text)
            if row is None:
                missing.append(text)
            else:
                rows[text] = row
        self.hits += len(rows)
        self.misses += len(missing)
        if missing:
            for text, row in zip(missing, self.embedder.encode(missing), strict=True):
                rows[text] = row
                self._write(text, row)
            self._evict()
        if not rows:
            return self.embedder.encode([])
        return np.stack([rows[text] for text in texts])

    def _path(self, text: str) -> Path:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return self._entries / digest[:2] / f"{digest}{_SUFFIX}"

    def _read(self, text: str) -> np.ndarray | None:
        path = self._path(text)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s: cannot be read (%s); computed again", path, error.strerror)
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if not payload or len(payload) % 4 or hashlib.sha256(payload).digest() != digest:
            logger.warning("%s: damaged; computed again", path)
            return None
        try:
            os.utime(path)  # what was used last is deleted last
        except OSError:
            logger.debug("%s: its time of use cannot be set", path)
        return np.frombuffer(payload, dtype="<f4").astype(np.float32)

    def _write(self, text: str, row: np.ndarray) -> None:
        path = self._path(text)
        payload = np.ascontiguousarray(row, dtype="<f4").tobytes()
        temporary = None
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=f"{path.stem}.", suffix=".part", delete=False
            ) as file:
                temporary = file.name
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError as error:
            # A full disk costs time in the next run, not the results of this one.
            logger.warning("%s: not kept (%s)", path, error.strerror)
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

    def _evict(self) -> None:
        entries = []
        for path in self.folder.glob("*/*/*"):
            # The folder may hold files of the user's: only what this class named is deleted.
            if not _OWN_FILE.fullmatch(path.relative_to(self.folder).as_posix()):
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # another run deleted it
                continue
            entries.append((status.st_mtime_ns, path, status.st_size))
        total = sum(size for _, _, size in entries)
        if total <= self.max_bytes:
            return
        room = self.max_bytes - self.max_bytes // 10
        for _, path, size in sorted(entries):
            path.unlink(missing_ok=True)
            total -= size
            if total <= room:
                break
        logger.info("%s: reduced to %d bytes of embeddings", self.folder, total)
