"""Any sentence-embedding model that transformers can load; its results are labelled as not official."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import nv_embed
from mmaupro_ext.offline.checkpoints import read_json
from mmaupro_ext.offline.token_embedder import LONGEST, TransformersEmbedder
from mmaupro_ext.util import require_choice

if TYPE_CHECKING:
    from torch import Tensor

POOLING_MODES = ("mean", "cls", "max", "lasttoken")


class SentenceEmbedder(TransformersEmbedder):
    """Any sentence-embedding model that transformers can load. Not the official embedder.

    A folder in the layout of sentence-transformers says itself how its tokens are pooled
    (`modules.json`), how many it takes, and whether it lower-cases; a folder without gets mean
    pooling. Prompts and instructions are not used. Vectors are brought to length 1.

    Parameters
    ----------
    source : str or path
        Folder of the checkpoint, or its name on the hub.
    revision : str, optional
        Commit or branch on the hub.
    device : str
        "auto" (CUDA if there is one) or a torch device.
    batch_size : int
        Texts a batch, at most.
    max_length : int, optional
        Tokens; what the model takes when left out.
    pooling : {"mean", "cls", "max", "lasttoken"}, optional
        Instead of what the folder says.

    Raises
    ------
    ConfigError
        When the checkpoint is missing or incomplete, or has a step after the pooling that is not
        built here, such as a dense layer; on a wrong option.
    """

    official = False

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        batch_size: int = 32,
        max_length: int | None = None,
        pooling: str | None = None,
    ) -> None:
        super().__init__(
            source,
            revision=revision,
            device=device,
            batch_size=batch_size,
            max_length=max_length,
            tokenizer_class="AutoTokenizer",
        )
        if read_json(self.folder / "config.json").get("model_type") == nv_embed.MODEL_TYPE:
            raise ConfigError(f"{self.name} is NV-Embed: use NVEmbedEmbedder, or load_embedder")
        if pooling is not None:
            require_choice("pooling", pooling, POOLING_MODES)
        self.pooling = pooling or _stated_pooling(self.folder)
        self.lower_case = bool(self._sentence_settings().get("do_lower_case"))
        short = Path(self.name).name if Path(self.name).is_dir() else self.name
        self.label = f"sentence embeddings of {short} ({self.pooling} pooling), not official"
        self.identity = self._identify(pooling=self.pooling, lower_case=self.lower_case)

    def _sentence_settings(self) -> dict[str, Any]:
        file = self.folder / "sentence_bert_config.json"
        return read_json(file) if file.is_file() else {}

    def _default_max_length(self) -> int:
        stated = self._sentence_settings().get("max_seq_length")
        positions = read_json(self.folder / "config.json").get("max_position_embeddings")
        limits = [self.tokenizer.model_max_length, stated, positions]
        # A tokenizer without a limit says 10^30.
        return min(int(limit) for limit in (*limits, LONGEST) if limit)

    def _own_details(self) -> dict[str, Any]:
        return {"pooling": self.pooling, "lower_case": self.lower_case, "precision": "float32"}

    def _prepare(self, text: str) -> str:
        return text.lower() if self.lower_case else text

    def _load(self) -> None:
        import torch
        import transformers

        try:
            model = transformers.AutoModel.from_pretrained(self.folder, dtype=torch.float32)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(f"{self.name} cannot be loaded by transformers ({error})") from error
        self._model = model.to(self.device).eval()

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        import torch

        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        real = mask.unsqueeze(-1).bool()
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "lasttoken":
            last = mask.sum(dim=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        if self.pooling == "max":
            return hidden.masked_fill(~real, -torch.inf).amax(dim=1)
        return hidden.masked_fill(~real, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def _stated_pooling(folder: Path) -> str:
    """Return how a folder in the layout of sentence-transformers pools its tokens."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean"
    try:
        steps = json.loads(modules.read_text(encoding="utf-8"))
        kinds = [(step["type"].rsplit(".", 1)[-1], step["path"]) for step in steps]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{modules}: cannot be read ({error}). Fetch it again") from error
    pooling = None
    for kind, path in kinds:
        if kind == "Pooling":
            pooling = _pooling_mode(folder / path / "config.json")
        elif kind not in ("Transformer", "Normalize"):
            raise ConfigError(
                f"{folder}: the model has a {kind} step, which is not built here. Name a model "
                "that consists of a transformer and a pooling"
            )
    return pooling or "mean"


def _pooling_mode(file: Path) -> str:
    settings = read_json(file)
    stated = settings.get("pooling_mode")
    if stated is None:
        prefix = "pooling_mode_"
        names = {f"{prefix}{mode}_tokens": mode for mode in ("mean", "max", "cls")}
        names |= {f"{prefix}cls_token": "cls", f"{prefix}lasttoken": "lasttoken"}
        chosen = [key for key, value in settings.items() if key.startswith(prefix) and value]
        stated = names.get(chosen[0], chosen[0]) if len(chosen) == 1 else chosen
    if stated not in POOLING_MODES:
        raise ConfigError(
            f"{file}: the pooling {stated!r} is not built here. Choose one of {POOLING_MODES} "
            "with the option pooling"
        )
    return stated
