"""Models that turn texts into vectors, for the official matching of replies to choices.

`NVEmbedEmbedder` is the released evaluator's: NV-Embed-v2, empty instruction, at most 4,096 tokens.
`SentenceEmbedder` is any other sentence-embedding model; its results are labelled as such.
`CachedEmbedder` keeps what either of them computed. `load_embedder` picks the class by what the
checkpoint is.
"""

from __future__ import annotations

import os
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import nv_embed
from mmaupro_ext.offline.checkpoints import local_folder, read_json
from mmaupro_ext.offline.embedding_cache import DEFAULT_MAX_BYTES, CachedEmbedder
from mmaupro_ext.offline.nv_embedder import NVEmbedEmbedder
from mmaupro_ext.offline.sentence_embedder import SentenceEmbedder
from mmaupro_ext.offline.token_embedder import TokenEmbedder

__all__ = [
    "CachedEmbedder",
    "NVEmbedEmbedder",
    "SentenceEmbedder",
    "TokenEmbedder",
    "load_embedder",
]


def load_embedder(
    source: str | os.PathLike[str] = nv_embed.RELEASED_NAME,
    *,
    store: str | os.PathLike[str] | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    **options: Any,
) -> TokenEmbedder:
    """Return the embedder for a checkpoint.

    Parameters
    ----------
    source : str or path
        Folder of a checkpoint, or its name on the hub. NV-Embed checkpoints are told by their
        `config.json`; everything else is a `SentenceEmbedder`.
    store : str or path, optional
        File of the store in which embeddings are kept; nowhere when left out.
    max_bytes : int
        Bytes that they may take.
    **options
        For the class: `revision`, `device`, `batch_size`, `max_length`, and `precision` (NV-Embed)
        or `pooling` (others).

    Returns
    -------
    TokenEmbedder

    Raises
    ------
    ConfigError
        When the checkpoint cannot be used, or an option does not exist for it.
    """
    folder = local_folder(str(source), options.get("revision"))
    kind = read_json(folder / "config.json").get("model_type")
    chosen = NVEmbedEmbedder if kind == nv_embed.MODEL_TYPE else SentenceEmbedder
    try:
        embedder: TokenEmbedder = chosen(source, **options)
    except TypeError as error:
        raise ConfigError(f"{chosen.__name__} of {source}: {error}") from error
    return embedder if store is None else CachedEmbedder(embedder, store, max_bytes)
