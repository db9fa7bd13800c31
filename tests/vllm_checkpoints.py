"""Tiny checkpoints that vLLM takes on a CPU.

Those of `tests/tiny`, with what vLLM asks for beyond transformers: heads of 32 numbers, because its attention
kernel for CPUs has no narrower ones, and the names and files of the hub.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import common
from transformers import Gemma3nForConditionalGeneration
from transformers.models.whisper.modeling_whisper import sinusoids

HEAD = 32
# Transformers before 5.20 writes some language models one level deeper than the hub has them.
DEEPER, ON_THE_HUB = "language_model.model.model.", "language_model.model."


def build(name: str, folder: Path) -> str:
    """Make the checkpoint of a builder in `tests/tiny`, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        maker = importlib.import_module(f"tiny.{name}")
        # That of Qwen2-Audio has heads of 32, and another way of saving.
        patch.setattr(maker, "save_model", save_model, raising=False)
        if name == "gemma3n":  # tokens that vLLM looks for around images
            newlines = tuple("\n" * count for count in (1, 2, 3, 4))
            patch.setattr(maker, "CHATS", (*maker.CHATS, *newlines))
        maker.build(folder)
    path = folder / "model.safetensors"
    weights = {k.replace(DEEPER, ON_THE_HUB): v for k, v in load_file(path).items()}
    if name == "qwen2_5_omni":
        weights = as_part_of_the_whole_model(folder, weights)
    if name == "qwen3_omni_moe":
        whole = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        whole["thinker_config"]["text_config"]["tie_word_embeddings"] = False  # vLLM looks here
        common.save_json(folder / "config.json", whole)
    if name == "voxtral":
        weights["language_model.lm_head.weight"][:40] = 0.0  # control tokens, no words
        positions = "audio_tower.embed_positions.weight"  # as in real checkpoints
        weights[positions] = sinusoids(*weights[positions].shape)
        write_as_mistral_does(folder, weights)
    if name == "granite_speech":  # without its LoRA; and it writes no <|audio|>
        weights["language_model.model.embed_tokens.weight"][256:] = 0.0
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        common.save_json(folder / "config.json", config | {"has_lora_adapter": False})
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / file).unlink()
    if name == "gemma3n":
        embed_ends_as_vllm_does(folder, weights)
    save_file(weights, path, metadata={"format": "pt"})
    # Without it, vLLM takes the weights of a LoRA beside the model for the model's.
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, path.name)}
    common.save_json(folder / "model.safetensors.index.json", index)
    return str(folder)


def save_model(folder: Path, kind: Any, config: Any, **options: Any) -> None:
    """Save a model as `tiny.common` does, with heads that vLLM takes."""
    text = config.get_text_config()
    if text.to_dict().get("head_dim") is not None:
        text.head_dim = HEAD
    else:
        text.num_attention_heads = text.num_key_value_heads = text.hidden_size // HEAD
    whole = getattr(config, "thinker_config", config)
    for name, value in (
        ("default_output_length", 4),
        ("image_size", 64),
        ("apply_vit_abs_pos_embed", True),
    ):
        if (vision := getattr(whole, "vision_config", None)) is not None and not hasattr(
            vision, name
        ):
            setattr(vision, name, value)
    if sections := (text.rope_parameters or {}).get("mrope_section"):
        text.rope_parameters["mrope_section"] = [2 * size for size in sections]
    common.save_model(folder, kind, config, **options)


def as_part_of_the_whole_model(folder: Path, weights: dict[str, Any]) -> dict[str, Any]:
    """Let a thinker be part of a whole Qwen2.5-Omni, as on the hub; return its weights."""
    thinker = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    thinker["text_config"]["tie_word_embeddings"] = False  # vLLM looks here, transformers above
    whole = {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "enable_audio_output": False,
        "thinker_config": thinker,
    }
    common.save_json(folder / "config.json", whole)
    return {f"thinker.{name}": weight for name, weight in weights.items()}


def embed_ends_as_vllm_does(folder: Path, weights: dict[str, Any]) -> None:
    """Give the token that ends a sound, and that of images, the same embedding among those of text.

    transformers takes it from the embeddings of sounds (and images), vLLM from those of text.
    """
    model = Gemma3nForConditionalGeneration.from_pretrained(folder).model
    table = weights["model.language_model.embed_tokens.weight"]
    for embed in (model.embed_vision, model.embed_audio):
        token = torch.tensor([[embed.vocab_offset]])
        with torch.no_grad():
            table[token.item()] = embed(input_ids=token)[0, 0] / table.shape[1] ** 0.5


# The names of transformers -> those in Mistral's own files.
OF_MISTRAL = (
    (r"audio_tower\.conv(1|2)\.", r"audio_tower.conv_layers.\1."),
    (r"audio_tower\.(layers|layer_norm)", r"audio_tower.transformer.\1"),
    ("transformer.layer_norm", "transformer.norm"),
    ("self_attn_layer_norm|input_layernorm", "attention_norm"),
    ("final_layer_norm|post_attention_layernorm", "ffn_norm"),
    (r"self_attn\.(q|k|v)_proj", r"attention.w\1"),
    (r"self_attn\.(o|out)_proj", "attention.wo"),
    (r"\.fc1\.|\.mlp\.gate_proj\.", ".feed_forward.w1."),
    (r"\.fc2\.|\.mlp\.down_proj\.", ".feed_forward.w2."),
    (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
    (r"^audio_tower\.", "mm_whisper_embeddings.whisper_encoder."),
    (r"^multi_modal_projector\.linear_1", "mm_whisper_embeddings.audio_language_projection.0"),
    (r"^multi_modal_projector\.linear_2", "mm_whisper_embeddings.audio_language_projection.2"),
    (r"^language_model\.model\.embed_tokens", "mm_whisper_embeddings.tok_embeddings"),
    (r"^language_model\.model\.", ""),
    (r"^language_model\.lm_head", "output"),
)


def write_as_mistral_does(folder: Path, weights: dict[str, Any]) -> None:
    """Write params.json and consolidated.safetensors, which vLLM reads, beside a Voxtral's files."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text, sound = config["text_config"], config["audio_config"]
    written = {}
    for name, weight in weights.items():
        if name == "audio_tower.embed_positions.weight":  # sinusoids, which vLLM computes
            continue
        if name.startswith("language_model") and re.search("(q|k)_proj", name):
            # Mistral turns neighbouring numbers of a head by an angle, transformers its halves.
            halves = weight.view(-1, 2, text["head_dim"] // 2, weight.shape[1])
            weight = halves.transpose(1, 2).reshape(weight.shape).contiguous()
        for pattern, replacement in OF_MISTRAL:
            name = re.sub(pattern, replacement, name)
        written[
            re.sub(r"conv_layers\.(1|2)", lambda found: f"conv_layers.{int(found[1]) - 1}", name)
        ] = weight
    save_file(written, folder / "consolidated.safetensors")
    encoder = {
        "audio_encoding_args": {
            "sampling_rate": 16000,
            "num_mel_bins": sound["num_mel_bins"],
            "hop_length": 160,
            "window_size": 400,
        },
        "dim": sound["hidden_size"],
        "n_layers": sound["num_hidden_layers"],
        "n_heads": sound["num_attention_heads"],
        "head_dim": sound["hidden_size"] // sound["num_attention_heads"],
        "hidden_dim": sound["intermediate_size"],
        "vocab_size": sound["vocab_size"],
        "max_source_positions": sound["max_source_positions"],
    }
    common.save_json(
        folder / "params.json",
        {
            "dim": text["hidden_size"],
            "n_layers": text["num_hidden_layers"],
            "n_heads": text["num_attention_heads"],
            "n_kv_heads": text["num_key_value_heads"],
            "head_dim": text["head_dim"],
            "hidden_dim": text["intermediate_size"],
            "norm_eps": text["rms_norm_eps"],
            "rope_theta": text["rope_parameters"]["rope_theta"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["max_position_embeddings"],
            "multimodal": {
                "whisper_model_args": {
                    "encoder_args": encoder,
                    "downsample_args": {"downsample_factor": 4},
                }
            },
        },
    )
