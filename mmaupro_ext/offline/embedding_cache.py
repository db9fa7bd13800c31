"""Embeddings kept in the store, so that scoring again needs no model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.store import Store
from mmaupro_ext.util import sha256_of_text

if TYPE_CHECKING:
    from mmaupro_ext.offline.token_embedder import TokenEmbedder

DEFAULT_MAX_BYTES = 2 * 1024**3
"""Bytes; about 130,000 embeddings of NV-Embed-v2. All of MMAU-Pro needs a tenth of that."""

_KIND = "embedding"


class CachedEmbedder:
    """An embedder that keeps what it computed in a store.

    An entry belongs to one model, as `TokenEmbedder.identity` says, and one text. What comes out of the
    store has the bytes that went in.

    Parameters
    ----------
    embedder : TokenEmbedder
        Computes what is missing; its weights are loaded only then.
    path : path-like
        File of the store.
    max_bytes : int
        What the embeddings of all models may take together.

    Raises
    ------
    ConfigError
        When nothing can be kept there, or `max_bytes` is not positive.
    """

    def __init__(
        self,
        embedder: TokenEmbedder,
        path: str | os.PathLike[str],
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self.embedder = embedder
        self.name = embedder.name
        self.label = embedder.label
        self.official = embedder.official
        self.identity = embedder.identity
        self.store = Store(path, max_bytes)
        self.hits = 0
        self.misses = 0
        problem = self.store.problem()
        if problem is not None:
            raise ConfigError(
                f"{path}: embeddings cannot be kept there ({problem}). Name another file, or none"
            )

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see."""
        return self.embedder.cut_tokens(texts)

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model; the store does not change it."""
        return self.embedder.details()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts, from the store where possible.

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
            value = self.store.get(_KIND, self._key(text))
            if value:
                rows[text] = np.frombuffer(value, dtype="<f4").astype(np.float32)
            else:
                missing.append(text)
        self.hits += len(rows)
        self.misses += len(missing)
        if missing:
            computed = dict(zip(missing, self.embedder.encode(missing), strict=True))
            self.store.put_many(
                _KIND,
                [
                    (self._key(text), np.ascontiguousarray(row, dtype="<f4").tobytes())
                    for text, row in computed.items()
                ],
            )
            rows.update(computed)
        if not rows:
            return self.embedder.encode([])
        return np.stack([rows[text] for text in texts])

    def _key(self, text: str) -> str:
        return f"{sha256_of_text(self.identity)} {sha256_of_text(text)}"
