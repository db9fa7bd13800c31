"""NV-Embed-v2 on today's transformers: its settings, its weight names, and its latent attention.

NV-Embed-v2 is a Mistral decoder whose tokens all see each other, followed by a block in which every
token looks at 512 trained latent vectors, and the mean over the tokens. The release brings this as
code of its own, written for transformers 4.42, which current releases cannot run. Here the decoder
is transformers' own `MistralModel`; what is left of the release is in this file, and needs torch
only. `embedders.NVEmbedEmbedder` puts the two together.

Sources: Lee et al., "NV-Embed: Improved Techniques for Training LLMs as Generalist Embedding
Models", arXiv 2405.17428, section 3.2, and the files ``configuration_nvembed.py`` and
``modeling_nvembed.py`` of the release, for the names of settings and weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPE = "nvembed"
RELEASED_NAME = "nvidia/NV-Embed-v2"
OFFICIAL_MAX_LENGTH = 4096
"""Tokens; what the released evaluator passes."""

RELEASED_WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "model-00001-of-00004.safetensors": (
            "0ce5651268058d961eaeabd4f65a5cb5d003ac7e0e34b7095658b5d5a4802f6a"
        ),
        "model-00002-of-00004.safetensors": (
            "bbd7e85b57afbc74fab67e50a572590ce57dde8b5fa76fe7527c42189074d57d"
        ),
        "model-00003-of-00004.safetensors": (
            "87c90f033107075c9531ed8163d4b087ce77e63596c8510821da15a4d892a85c"
        ),
        "model-00004-of-00004.safetensors": (
            "44ff251c6b33ed89101915eb82a92575fd7d7daf9db953205f3bb4b982c4c3f5"
        ),
    }
)
"""SHA-256 of the published weight files (September 2024), from the Git LFS pointers of the release:
15,702,032,384 bytes of weights in float16."""

DECODER_PREFIX = "embedding_model."
POOLING_PREFIX = "latent_attention_model."

# What a setting is when the checkpoint does not say: the defaults that the release was built on.
_TEXT_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    }
)
_POOLING_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "num_latents_value": 512,
        "num_cross_heads": 8,
        "cross_dim_head": 4096,
        "latent_dim": 4096,
        "hidden_dim": 4096,
        "output_normalize": True,
    }
)
# The sizes of the published model; a checkpoint with others is something else.
_RELEASED_TEXT = MappingProxyType(
    {
        name: _TEXT_DEFAULTS[name]
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
        )
    }
)


@dataclass(frozen=True)
class NVEmbedSettings:
    """What `config.json` of a checkpoint says.

    Attributes
    ----------
    decoder : dict
        Arguments of `transformers.MistralConfig`, less the rotary base.
    rope_theta : float
        Base of the rotary position encoding.
    num_latents, num_heads, head_dim, hidden_size : int
        Latent vectors, and heads of the attention to them, with the width of each; width of the
        model.
    output_normalize : bool
        Whether the model itself brings its output to length 1.
    """

    decoder: dict[str, Any]
    rope_theta: float
    num_latents: int
    num_heads: int
    head_dim: int
    hidden_size: int
    output_normalize: bool

    @property
    def released_sizes(self) -> bool:
        """Whether every size is that of the published NV-Embed-v2."""
        decoder = {name: self.decoder[name] for name in _RELEASED_TEXT}
        pooling = (self.num_latents, self.num_heads, self.head_dim)
        return decoder == dict(_RELEASED_TEXT) and pooling == (512, 8, 4096)


def read_settings(config: Mapping[str, Any], source: str) -> NVEmbedSettings:
    """Read the settings of an NV-Embed checkpoint.

    Parameters
    ----------
    config : mapping
        Content of `config.json`.
    source : str
        Name or folder, for messages.

    Returns
    -------
    NVEmbedSettings

    Raises
    ------
    ConfigError
        When this is no NV-Embed checkpoint, or one with a setting that is not built here.
    """
    if config.get("model_type") != MODEL_TYPE:
        raise ConfigError(
            f"{source}: config.json says model_type {config.get('model_type')!r}, not "
            f"{MODEL_TYPE!r}. Give the folder of {RELEASED_NAME}, or use SentenceEmbedder"
        )
    text = config.get("text_config") or {}
    pooling = {**_POOLING_DEFAULTS, **(config.get("latent_attention_config") or {})}
    decoder = {name: text.get(name, value) for name, value in _TEXT_DEFAULTS.items()}
    decoder["head_dim"] = text.get("head_dim") or (
        decoder["hidden_size"] // decoder["num_attention_heads"]
    )
    rope = text.get("rope_parameters") or {}
    rope_theta = float(rope.get("rope_theta", decoder.pop("rope_theta")))
    width = decoder["hidden_size"]
    surprises = {
        "padding_side": (config.get("padding_side", "right"), "right"),
        "mask_type": (config.get("mask_type", "b"), "b"),
        "latent_attention_config.hidden_dim": (pooling["hidden_dim"], width),
        "latent_attention_config.latent_dim": (pooling["latent_dim"], width),
        "text_config.rope_scaling": (text.get("rope_scaling"), None),
        "text_config.rope_parameters.rope_type": (rope.get("rope_type", "default"), "default"),
    }
    for name, (found, expected) in surprises.items():
        if found != expected:
            raise ConfigError(
                f"{source}: config.json has {name} = {found!r}, where NV-Embed-v2 has "
                f"{expected!r}. This checkpoint cannot be run here"
            )
    return NVEmbedSettings(
        decoder=decoder,
        rope_theta=rope_theta,
        num_latents=pooling["num_latents_value"],
        num_heads=pooling["num_cross_heads"],
        head_dim=pooling["cross_dim_head"],
        hidden_size=width,
        output_normalize=bool(pooling["output_normalize"]),
    )


def pooling_shapes(settings: NVEmbedSettings) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the latent attention's weights, less `POOLING_PREFIX`."""
    width, inner = settings.hidden_size, settings.num_heads * settings.head_dim
    attention, feed_forward = "cross_attend_blocks.0", "cross_attend_blocks.1"
    return {
        "latents": (settings.num_latents, width),
        f"{attention}.norm.weight": (width,),
        f"{attention}.norm.bias": (width,),
        f"{attention}.norm_context.weight": (width,),
        f"{attention}.norm_context.bias": (width,),
        f"{attention}.fn.to_q.weight": (inner, width),
        f"{attention}.fn.to_kv.weight": (2 * inner, width),
        f"{attention}.fn.to_out.weight": (width, inner),
        f"{feed_forward}.norm.weight": (width,),
        f"{feed_forward}.norm.bias": (width,),
        f"{feed_forward}.fn.net.0.weight": (8 * width, width),
        f"{feed_forward}.fn.net.0.bias": (8 * width,),
        f"{feed_forward}.fn.net.2.weight": (width, 4 * width),
        f"{feed_forward}.fn.net.2.bias": (width,),
    }


def is_matrix_product(name: str) -> bool:
    """Whether a weight belongs to a linear layer, which autocast computes in half precision."""
    return "_proj." in name or ".fn." in name


def check_names(
    found: Iterable[str], decoder: Iterable[str], settings: NVEmbedSettings, source: str
) -> None:
    """Refuse a checkpoint in which a weight is missing or has no place.

    Parameters
    ----------
    found : iterable of str
        Names in the checkpoint.
    decoder : iterable of str
        Names that the decoder needs, less `DECODER_PREFIX`.
    settings : NVEmbedSettings
        Of this checkpoint.
    source : str
        Name or folder, for the message.

    Raises
    ------
    ConfigError
        Naming up to five of the weights concerned.
    """
    names = set(found)
    needed = {DECODER_PREFIX + name for name in decoder}
    needed |= {POOLING_PREFIX + name for name in pooling_shapes(settings)}
    # Older transformers stored this table of constants with the weights.
    strangers = {name for name in names - needed if not name.endswith("rotary_emb.inv_freq")}
    if needed - names:
        raise ConfigError(
            f"{source}: the checkpoint lacks {_some(needed - names)}. Fetch {RELEASED_NAME} "
            "again, whole"
        )
    if strangers:
        raise ConfigError(
            f"{source}: NV-Embed-v2 has no {_some(strangers)}. Give the folder of {RELEASED_NAME}"
        )


def _some(names: set[str]) -> str:
    first = sorted(names)[:5]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(first) + more


def attend_to_all(attention_mask: Tensor) -> Tensor:
    """Return the attention mask with which each token sees every token that is not padding.

    Parameters
    ----------
    attention_mask : torch.Tensor, integer or bool, (batch, tokens)
        1 for tokens, 0 for padding.

    Returns
    -------
    torch.Tensor, bool, (batch, 1, tokens, tokens)
        True where the query (third axis) may see the key (last axis). transformers hands a mask
        with four axes to the attention as it is, instead of a causal one.
    """
    batch, tokens = attention_mask.shape
    return attention_mask.bool()[:, None, None, :].expand(batch, 1, tokens, tokens)


class LatentPooling:
    """The latent attention of NV-Embed and the mean over the tokens.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        Named as in the checkpoint, less `POOLING_PREFIX`; on the device of the decoder.
    settings : NVEmbedSettings
        Of the same checkpoint.
    source : str
        Name or folder, for messages.

    Raises
    ------
    ConfigError
        When a weight does not have the shape that the settings ask for.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], settings: NVEmbedSettings, source: str
    ) -> None:
        for name, shape in pooling_shapes(settings).items():
            if tuple(weights[name].shape) != shape:
                raise ConfigError(
                    f"{source}: {POOLING_PREFIX}{name} has shape {tuple(weights[name].shape)}, "
                    f"but config.json asks for {shape}. The two do not belong together"
                )
        self._weights = dict(weights)
        self._settings = settings
        self._keys_values: tuple[Tensor, Tensor] | None = None

    def __call__(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Turn the decoder's output into one vector a text.

        Parameters
        ----------
        hidden : torch.Tensor, floating, (batch, tokens, hidden_size)
            Output of the decoder.
        attention_mask : torch.Tensor, integer or bool, (batch, tokens)
            1 for tokens, 0 for padding; at least one token a text.

        Returns
        -------
        torch.Tensor, float32 or wider, (batch, hidden_size)
            Of length 1 where the settings say `output_normalize`.
        """
        import torch
        from torch.nn import functional

        hidden = hidden + self._cross_attention(hidden)
        hidden = hidden + self._feed_forward(hidden)
        # Sums over thousands of tokens need more than half precision.
        mask = attention_mask.to(torch.promote_types(hidden.dtype, torch.float32))
        pooled = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        if self._settings.output_normalize:
            pooled = functional.normalize(pooled, p=2, dim=-1)
        return pooled

    def _cross_attention(self, hidden: Tensor) -> Tensor:
        from torch.nn import functional

        prefix = "cross_attend_blocks.0"
        normed = self._layer_norm(hidden, f"{prefix}.norm")
        query = self._heads(functional.linear(normed, self._weights[f"{prefix}.fn.to_q.weight"]))
        if self._keys_values is None:
            # The latents are the same for every text, so their keys and values are as well.
            context = self._layer_norm(self._weights["latents"], f"{prefix}.norm_context")
            both = functional.linear(context, self._weights[f"{prefix}.fn.to_kv.weight"])
            keys, values = both.unsqueeze(0).chunk(2, dim=-1)
            self._keys_values = self._heads(keys), self._heads(values)
        keys, values = (part.expand(len(hidden), -1, -1, -1) for part in self._keys_values)
        mixed = functional.scaled_dot_product_attention(query, keys, values)
        joined = mixed.transpose(1, 2).flatten(2)
        return functional.linear(joined, self._weights[f"{prefix}.fn.to_out.weight"])

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        from torch.nn import functional

        prefix, weights = "cross_attend_blocks.1", self._weights
        normed = self._layer_norm(hidden, f"{prefix}.norm")
        widened = functional.linear(
            normed, weights[f"{prefix}.fn.net.0.weight"], weights[f"{prefix}.fn.net.0.bias"]
        )
        value, gate = widened.chunk(2, dim=-1)
        return functional.linear(
            value * functional.gelu(gate),
            weights[f"{prefix}.fn.net.2.weight"],
            weights[f"{prefix}.fn.net.2.bias"],
        )

    def _layer_norm(self, values: Tensor, name: str) -> Tensor:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(values, weight.shape, weight, bias)

    def _heads(self, values: Tensor) -> Tensor:
        """Split (batch, tokens, heads * head_dim) into (batch, heads, tokens, head_dim)."""
        split = values.unflatten(-1, (self._settings.num_heads, self._settings.head_dim))
        return split.transpose(1, 2)
