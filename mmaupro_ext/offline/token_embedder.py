"""What all embedders on transformers share: tokens, batches, device, and weights on demand.

Texts are embedded in batches. Padding is masked everywhere, so that a row does not depend on its
company but for the last digits; to hold these still as well, batches have one of few fixed shapes
(`_BUCKETS`, topped up with copies of a row).
"""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.checkpoints import digest_of, local_folder, weights_digest
from mmaupro_ext.scoring.closed_official import Embedder
from mmaupro_ext.scoring.errors import ScoringError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

# Raised whenever the same model would give other numbers; part of the key of a stored vector.
_SCHEME = 1
# Lengths, in tokens, that batches are padded to.
_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
LONGEST = _BUCKETS[-1]
_TOKENS_PER_BATCH = 8192


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder that can account for itself.

    Attributes
    ----------
    official : bool
        Whether this is the released evaluator's embedder, set up as there.
    identity : str
        Names everything that the vectors depend on: content of the model files, settings, device
        type. Equal identities give equal vectors up to rounding.
    """

    official: bool
    identity: str

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see."""
        ...

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model, as plain JSON."""
        ...


class TransformersEmbedder(ABC):
    """What all embedders on transformers share: tokens, batches, device, and weights on demand."""

    label: str
    official: bool
    identity: str

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None,
        device: str,
        batch_size: int,
        max_length: int | None,
        tokenizer_class: str,
    ) -> None:
        import transformers

        self.name = str(source)
        self.folder = local_folder(self.name, revision)
        if batch_size < 1:
            raise ConfigError(f"batch_size of an embedder must be at least 1, not {batch_size}")
        if max_length is not None and max_length < 2:
            raise ConfigError(f"max_length of an embedder must be at least 2, not {max_length}")
        self.batch_size = batch_size
        self.device = _device(device)
        try:
            self.tokenizer = getattr(transformers, tokenizer_class).from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.folder}: its tokenizer cannot be loaded ({error}). The folder needs "
                "tokenizer.json and tokenizer_config.json"
            ) from error
        self.max_length = self._default_max_length() if max_length is None else max_length
        self.weights_sha256, self._weight_files = weights_digest(self.folder)
        self._ready = False

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; the weights are loaded when this is first called.

        Parameters
        ----------
        texts : sequence of str
            Any; the same text may come several times. What lies beyond `max_length` tokens is not
            seen, which is logged; see `cut_tokens`.

        Returns
        -------
        numpy.ndarray, float32, (texts, dimensions)
            Rows of length 1; (0, 0) for no texts.

        Raises
        ------
        ScoringError
            When a text is no string, or a vector is not finite or has no length.
        """
        import torch

        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        tokens, cut = self._tokens(texts)
        if any(cut):
            logger.warning(
                "%s sees %d tokens a text at most: %d of %d texts are longer and lose their end",
                self.name,
                self.max_length,
                sum(map(bool, cut)),
                len(texts),
            )
        # Texts that become the same tokens get the very same row, so that ties stay ties.
        unique = dict(zip(reversed(tokens), reversed(texts), strict=True))
        self._load_once()
        rows: dict[tuple[int, ...], np.ndarray] = {}
        with torch.inference_mode():
            for batch, length in batches(list(unique), self.batch_size, self.max_length):
                ids = torch.full((len(batch), length), self._padding_id(), dtype=torch.long)
                mask = torch.zeros((len(batch), length), dtype=torch.long)
                for i, sequence in enumerate(batch):
                    ids[i, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
                    mask[i, : len(sequence)] = 1
                pooled = self._embed(ids.to(self.device), mask.to(self.device)).float()
                vectors = torch.nn.functional.normalize(pooled, p=2, dim=1).cpu().numpy()
                for sequence, row in zip(batch, vectors, strict=True):
                    if not np.isfinite(row).all() or not row.any():
                        raise ScoringError(
                            f"{self.name} gives no usable vector for the text "
                            f"{unique[sequence][:80]!r}. Use another precision than "
                            f"{self.details().get('precision')!r}"
                        )
                    rows[sequence] = row
        return np.stack([rows[ids] for ids in tokens])

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see.

        Parameters
        ----------
        texts : sequence of str
            Any.

        Returns
        -------
        list of int
            0 for a text that is seen whole.
        """
        return self._tokens(texts)[1] if texts else []

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model.

        Returns
        -------
        dict
            Plain JSON, the same for the same model, settings and library versions.
        """
        import torch
        import transformers

        return {
            "name": self.name,
            "label": self.label,
            "official": self.official,
            "weights_sha256": self.weights_sha256,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "device": self.device.type,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **self._own_details(),
        }

    def _tokens(self, texts: Sequence[str]) -> tuple[list[tuple[int, ...]], list[int]]:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ScoringError(
                    f"text {i} to embed is {type(text).__name__}, not a string. Give the replies "
                    "and choices as strings"
                )
        prepared = [self._prepare(text) for text in texts]
        whole = self.tokenizer(prepared, verbose=False)["input_ids"]
        cut_down = self.tokenizer(prepared, truncation=True, max_length=self.max_length)
        cut = [len(a) - len(b) for a, b in zip(whole, cut_down["input_ids"], strict=True)]
        # A model needs at least one token, which "" does not give with every tokenizer.
        return [tuple(ids) or (self._padding_id(),) for ids in cut_down["input_ids"]], cut

    def _load_once(self) -> None:
        if not self._ready:
            logger.info("loading %s on %s", self.name, self.device)
            self._load()
            self._ready = True

    def _padding_id(self) -> int:
        # Masked everywhere, so any token will do where the tokenizer has none for padding.
        return self.tokenizer.pad_token_id or 0

    def _identify(self, **settings: Any) -> str:
        """Return the identity: everything that the vectors depend on, in one line."""
        tokenizer = digest_of(
            self.folder / name
            for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
        )
        parts = {
            "scheme": _SCHEME,
            "class": type(self).__name__,
            "config": digest_of([self.folder / "config.json"]),
            "weights": self.weights_sha256,
            "tokenizer": tokenizer,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "device": self.device.type,
            **settings,
        }
        return json.dumps(parts, sort_keys=True)

    def _prepare(self, text: str) -> str:
        return text

    @abstractmethod
    def _default_max_length(self) -> int: ...

    @abstractmethod
    def _own_details(self) -> dict[str, Any]: ...

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor: ...


def batches(
    sequences: Sequence[tuple[int, ...]], batch_size: int, max_length: int
) -> Iterator[tuple[list[tuple[int, ...]], int]]:
    """Yield batches of token sequences, each with the length that it is padded to.

    The shape of a batch follows from the length of its sequences alone, whatever else is asked
    for: short batches are topped up with copies, since another shape may round otherwise.
    """
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for sequence in sequences:
        longest = len(sequence)
        length = next((bucket for bucket in _BUCKETS if bucket >= longest), longest)
        # A model with a table of positions has none past its own maximum.
        length = min(length, max(max_length, longest))
        by_length.setdefault(length, []).append(sequence)
    for length in sorted(by_length):
        rows = max(1, min(batch_size, _TOKENS_PER_BATCH // length))
        members = by_length[length]
        for start in range(0, len(members), rows):
            batch = members[start : start + rows]
            yield batch + batch[:1] * (rows - len(batch)), length


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} does not exist for torch ({error})") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: torch finds no CUDA device here. Use device=cpu")
    return device
