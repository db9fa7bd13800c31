"""A small random checkpoint in the layout of NV-Embed-v2, and the same model by hand in float64."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = [
    "Coffee",
    "",
    "b",
    "A dog barks, then a car passes.",
    "The answer is (B) green tea, because the waiter says so in the second half of the clip.",
    "  Coffee\n",
    "coffee",
]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,()\n"
SPECIAL = ["<unk>", "<s>", "</s>"]

WIDTH, LAYERS, HEADS, KV_HEADS, INNER, LATENTS, CROSS_HEADS = 32, 2, 4, 2, 48, 6, 2
ROPE_THETA, RMS_EPS = 10000.0, 1e-5


# --- the checkpoint ------------------------------------------------------------------------------


def nv_config() -> dict[str, Any]:
    return {
        "model_type": "nvembed",
        "architectures": ["NVEmbedModel"],
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
        "add_eos": True,
        "add_pad_token": True,
        "is_mask_instruction": True,
        "mask_type": "b",
        "padding_side": "right",
        "text_config": {
            "_name_or_path": "nvidia/NV-Embed-v2",
            "model_type": "bidir_mistral",
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": HEADS,
            "num_hidden_layers": LAYERS,
            "num_key_value_heads": KV_HEADS,
            "rms_norm_eps": RMS_EPS,
            "sliding_window": 4,
            "torch_dtype": "float32",
            "vocab_size": len(SPECIAL) + len(LETTERS),
        },
        "latent_attention_config": {
            "model_type": "latent_attention",
            "num_latents_value": LATENTS,
            "num_cross_heads": CROSS_HEADS,
            "cross_dim_head": WIDTH,
            "hidden_dim": WIDTH,
            "latent_dim": WIDTH,
            "output_normalize": True,
        },
    }


def nv_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names of the release, written down apart from the package."""
    head = WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "embedding_model.embed_tokens.weight": (len(SPECIAL) + len(LETTERS), WIDTH),
        "embedding_model.norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        prefix = f"embedding_model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (WIDTH,),
            f"{prefix}.post_attention_layernorm.weight": (WIDTH,),
            f"{prefix}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{prefix}.self_attn.k_proj.weight": (KV_HEADS * head, WIDTH),
            f"{prefix}.self_attn.v_proj.weight": (KV_HEADS * head, WIDTH),
            f"{prefix}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{prefix}.mlp.gate_proj.weight": (INNER, WIDTH),
            f"{prefix}.mlp.up_proj.weight": (INNER, WIDTH),
            f"{prefix}.mlp.down_proj.weight": (WIDTH, INNER),
        }
    prefix = "latent_attention_model"
    cross = CROSS_HEADS * WIDTH
    return shapes | {
        f"{prefix}.latents": (LATENTS, WIDTH),
        f"{prefix}.cross_attend_blocks.0.norm.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm_context.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.norm_context.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.0.fn.to_q.weight": (cross, WIDTH),
        f"{prefix}.cross_attend_blocks.0.fn.to_kv.weight": (2 * cross, WIDTH),
        f"{prefix}.cross_attend_blocks.0.fn.to_out.weight": (WIDTH, cross),
        f"{prefix}.cross_attend_blocks.1.norm.weight": (WIDTH,),
        f"{prefix}.cross_attend_blocks.1.norm.bias": (WIDTH,),
        f"{prefix}.cross_attend_blocks.1.fn.net.0.weight": (8 * WIDTH, WIDTH),
        f"{prefix}.cross_attend_blocks.1.fn.net.0.bias": (8 * WIDTH,),
        f"{prefix}.cross_attend_blocks.1.fn.net.2.weight": (WIDTH, 4 * WIDTH),
        f"{prefix}.cross_attend_blocks.1.fn.net.2.bias": (WIDTH,),
    }


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "model_max_length": 10**30,
        "tokenizer_class": "LlamaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def random_weights() -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(7)
    weights = {}
    for name, shape in nv_shapes().items():
        values = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            # Norms near 1, biases away from 0, so that leaving one out shows.
            values = values * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        elif not name.endswith(("embed_tokens.weight", "latents")):
            values = values * 1.5 / math.sqrt(shape[1])
        weights[name] = values.to(torch.float16)  # the release stores half precision
    return weights


def write_checkpoint(folder: Path) -> Path:
    """Write the whole checkpoint into a folder of its own."""
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(nv_config()))
    write_tokenizer(folder)
    weights = random_weights()
    names = sorted(weights)
    half = len(names) // 2
    save_file({n: weights[n] for n in names[:half]}, folder / "model-00001-of-00002.safetensors")
    save_file({n: weights[n] for n in names[half:]}, folder / "model-00002-of-00002.safetensors")
    return folder


def damage_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    from safetensors.torch import load_file, save_file

    for file in sorted(folder.glob("*.safetensors")):
        weights = load_file(file)
        change(weights)
        file.unlink()
        save_file(weights, file)


def shorten(weights: dict[str, Any], name: str) -> None:
    if name in weights:
        weights[name] = weights[name][:-1].clone()


# --- the same model by hand, float64, one text at a time -----------------------------------------


def token_ids(text: str) -> list[int]:
    return [1, *(len(SPECIAL) + LETTERS.index(letter) for letter in text), 2]


def softmax(values: np.ndarray) -> np.ndarray:
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def rms_norm(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return values / np.sqrt((values**2).mean(axis=-1, keepdims=True) + RMS_EPS) * weight


def layer_norm(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


def rotate(vectors: np.ndarray) -> np.ndarray:
    """Turn pair (i, i + half) of the vector at position p by p / theta^(i / half)."""
    half = vectors.shape[1] // 2
    turned = vectors.copy()
    for position in range(len(vectors)):
        for i in range(half):
            angle = position / ROPE_THETA ** (i / half)
            x, y = vectors[position, i], vectors[position, i + half]
            turned[position, i] = x * math.cos(angle) - y * math.sin(angle)
            turned[position, i + half] = y * math.cos(angle) + x * math.sin(angle)
    return turned


def self_attention(x: np.ndarray, w: Callable[[str], np.ndarray], causal: bool) -> np.ndarray:
    head = WIDTH // HEADS
    heads = []
    for h in range(HEADS):
        shared = h // (HEADS // KV_HEADS)
        q = rotate(x @ w("q_proj.weight")[h * head : (h + 1) * head].T)
        k = rotate(x @ w("k_proj.weight")[shared * head : (shared + 1) * head].T)
        v = x @ w("v_proj.weight")[shared * head : (shared + 1) * head].T
        weights = q @ k.T / math.sqrt(head)
        if causal:
            weights = np.where(np.tril(np.ones_like(weights)) > 0, weights, -np.inf)
        heads.append(softmax(weights) @ v)
    return np.concatenate(heads, axis=1) @ w("o_proj.weight").T


def embed_by_hand(
    weights: dict[str, np.ndarray], ids: Sequence[int], causal: bool = False
) -> np.ndarray:
    x = weights["embedding_model.embed_tokens.weight"][list(ids)]
    for layer in range(LAYERS):
        prefix = f"embedding_model.layers.{layer}."
        normed = rms_norm(x, weights[f"{prefix}input_layernorm.weight"])
        x = x + self_attention(
            normed, lambda name, at=prefix: weights[f"{at}self_attn.{name}"], causal
        )
        normed = rms_norm(x, weights[f"{prefix}post_attention_layernorm.weight"])
        gate = normed @ weights[f"{prefix}mlp.gate_proj.weight"].T
        up = normed @ weights[f"{prefix}mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weights[f"{prefix}mlp.down_proj.weight"].T
    x = rms_norm(x, weights["embedding_model.norm.weight"])

    def w(name: str) -> np.ndarray:
        return weights[f"latent_attention_model.{name}"]

    block = "cross_attend_blocks.0"
    q = layer_norm(x, w(f"{block}.norm.weight"), w(f"{block}.norm.bias"))
    q = q @ w(f"{block}.fn.to_q.weight").T
    context = layer_norm(
        w("latents"), w(f"{block}.norm_context.weight"), w(f"{block}.norm_context.bias")
    )
    k, v = np.split(context @ w(f"{block}.fn.to_kv.weight").T, 2, axis=1)
    heads = []
    for h in range(CROSS_HEADS):
        part = slice(h * WIDTH, (h + 1) * WIDTH)
        heads.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(WIDTH)) @ v[:, part])
    x = x + np.concatenate(heads, axis=1) @ w(f"{block}.fn.to_out.weight").T
    block = "cross_attend_blocks.1"
    y = layer_norm(x, w(f"{block}.norm.weight"), w(f"{block}.norm.bias"))
    y = y @ w(f"{block}.fn.net.0.weight").T + w(f"{block}.fn.net.0.bias")
    value, gate = np.split(y, 2, axis=1)
    gelu = np.vectorize(lambda t: t * 0.5 * (1 + math.erf(t / math.sqrt(2))))
    x = x + (value * gelu(gate)) @ w(f"{block}.fn.net.2.weight").T + w(f"{block}.fn.net.2.bias")
    pooled = x.mean(axis=0)
    return pooled / np.linalg.norm(pooled)


def weights_in_float64(folder: Path) -> dict[str, np.ndarray]:
    """Return all weights of a checkpoint."""
    from safetensors.torch import load_file

    weights = {}
    for file in folder.glob("*.safetensors"):
        weights |= load_file(file)
    return {name: tensor.double().numpy() for name, tensor in weights.items()}
