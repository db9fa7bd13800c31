"""NV-Embed-v2, the embedder of the released evaluator; its parts are in `nv_embed`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import nv_embed
from mmaupro_ext.offline.checkpoints import combined_sha256, read_json
from mmaupro_ext.offline.token_embedder import TransformersEmbedder
from mmaupro_ext.util import require_choice

if TYPE_CHECKING:
    from torch import Tensor

PRECISIONS = ("official", "float32", "bfloat16", "float16")


class NVEmbedEmbedder(TransformersEmbedder):
    """NV-Embed-v2 as the released evaluator runs it, on today's transformers.

    Each text is followed by the end-of-sequence token, tokenised with a beginning-of-sequence
    token, cut after `max_length` tokens (with its end token, where it is longer), and padded on the
    right. No instruction. The checkpoint's own code is not run.

    Parameters
    ----------
    source : str or path
        Folder of the checkpoint, or its name on the hub.
    revision : str, optional
        Commit or branch on the hub.
    device : str
        "auto" (CUDA if there is one, as in the released evaluator), or a torch device.
    precision : {"official", "float32", "bfloat16", "float16"}
        "official" is float32 with, on CUDA, automatic casting of matrix products to float16. Their
        weights are then kept in float16: the same numbers in half the memory, 16 GB. The others
        hold and compute everything in that type.
    batch_size : int
        Texts a batch, at most; the evaluator embeds replies one at a time.
    max_length : int
        Tokens; the evaluator has 4096.

    Raises
    ------
    ConfigError
        When the checkpoint is missing, incomplete, or not NV-Embed; on a wrong option.

    Notes
    -----
    NV-Embed-v2 is licensed CC BY-NC 4.0 by its makers. Lee et al., arXiv 2405.17428.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] = nv_embed.RELEASED_NAME,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "official",
        batch_size: int = 16,
        max_length: int = nv_embed.OFFICIAL_MAX_LENGTH,
    ) -> None:
        require_choice("precision", precision, PRECISIONS)
        super().__init__(
            source,
            revision=revision,
            device=device,
            batch_size=batch_size,
            max_length=max_length,
            # What AutoTokenizer would pick goes by the model's type, which transformers does not
            # know; tokenizer.json says all there is to say.
            tokenizer_class="PreTrainedTokenizerFast",
        )
        self.settings = nv_embed.read_settings(read_json(self.folder / "config.json"), self.name)
        if self._weight_files[0].suffix != ".safetensors":
            raise ConfigError(
                f"{self.folder}: NV-Embed weights are read from *.safetensors, and there are none. "
                f"Fetch {nv_embed.RELEASED_NAME} again, whole"
            )
        self.precision = precision
        if self.tokenizer.eos_token is None:
            raise ConfigError(f"{self.folder}: the tokenizer names no end-of-sequence token")
        deviations = self._deviations()
        self.official = not deviations
        self.label = (
            "NV-Embed-v2, set up as in the released evaluator"
            if self.official
            else f"NV-Embed, not the released evaluator's: {'; '.join(deviations)}"
        )
        self.identity = self._identify(precision=precision)

    def _deviations(self) -> list[str]:
        found = []
        if not self.settings.released_sizes:
            found.append("sizes other than NV-Embed-v2's")
        elif self.weights_sha256 != combined_sha256(nv_embed.RELEASED_WEIGHTS):
            found.append("weights other than those published as NV-Embed-v2")
        if self.precision != "official":
            found.append(f"precision {self.precision}")
        if self.max_length != nv_embed.OFFICIAL_MAX_LENGTH:
            found.append(f"max_length {self.max_length}")
        return found

    def _default_max_length(self) -> int:
        return nv_embed.OFFICIAL_MAX_LENGTH

    def _own_details(self) -> dict[str, Any]:
        return {
            "instruction": "",
            "pooling": "latent attention, mean over tokens",
            "precision": self.precision,
            "computed_in": "float16 autocast" if self._autocasts else self._weight_type(""),
        }

    @property
    def _autocasts(self) -> bool:
        return self.precision == "official" and self.device.type == "cuda"

    def _prepare(self, text: str) -> str:
        return text + self.tokenizer.eos_token

    def _weight_type(self, name: str) -> str:
        if self.precision != "official":
            return self.precision
        return "float16" if self._autocasts and nv_embed.is_matrix_product(name) else "float32"

    def _load(self) -> None:
        import accelerate
        import torch
        import transformers
        from safetensors import safe_open

        settings = self.settings
        config = transformers.MistralConfig(
            **settings.decoder,
            rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
            sliding_window=None,  # never in force below its 4,096 tokens
        )
        with accelerate.init_empty_weights():
            decoder = transformers.MistralModel(config)
        decoder.set_attn_implementation("sdpa")
        found: dict[str, Path] = {}
        for file in self._weight_files:
            with safe_open(file, framework="pt") as stored:
                found.update(dict.fromkeys(stored.keys(), file))
        parameters = [name for name, _ in decoder.named_parameters()]
        nv_embed.check_names(found, parameters, settings, self.name)
        weights: dict[str, Tensor] = {}
        for file in self._weight_files:
            with safe_open(file, framework="pt", device=str(self.device)) as stored:
                for name in stored.keys():  # noqa: SIM118 - this is no dict
                    weights[name] = stored.get_tensor(name).to(
                        getattr(torch, self._weight_type(name))
                    )
        try:
            decoder.load_state_dict(
                {name: weights[nv_embed.DECODER_PREFIX + name] for name in parameters}, assign=True
            )
        except RuntimeError as error:
            raise ConfigError(
                f"{self.name}: the weights do not fit config.json ({error}). The two do not belong "
                "together"
            ) from error
        self._decoder = decoder.to(self.device).eval()
        cut = len(nv_embed.POOLING_PREFIX)
        self._pooling = nv_embed.LatentPooling(
            {name[cut:]: w for name, w in weights.items() if name.startswith("latent")},
            settings,
            self.name,
        )

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        import torch

        casting: AbstractContextManager[Any] = nullcontext()
        if self._autocasts:
            casting = torch.autocast("cuda", dtype=torch.float16)
        with casting:
            hidden = self._decoder(
                input_ids=ids, attention_mask=nv_embed.attend_to_all(mask), use_cache=False
            ).last_hidden_state
            return self._pooling(hidden, mask)
