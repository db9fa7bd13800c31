"""Tiny checkpoints that vLLM takes on a CPU.

Those of `tests/tiny`, with what vLLM asks for beyond transformers: heads of 32 numbers, because its attention
kernel for CPUs has no narrower ones, and the names and files of the hub. And checkpoints without
weights of families that transformers has not; `give_weights` makes some in vLLM's own loader.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import common
from transformers import Gemma3nForConditionalGeneration, WhisperFeatureExtractor

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


# ---- families that transformers has not ---------------------------------------------------------

CHATS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SOUND = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fun_audio_chat(folder: Path) -> str:
    """Make a Fun-Audio-Chat: Whisper features beside a speech tokenizer that only counts frames."""
    tokens = _tokens(folder)
    common.byte_tokenizer(
        ["<|audio_pad|>"], pad="<|audio_pad|>", eos="<|audio_pad|>"
    ).save_pretrained(folder / "speech_tokenizer")
    # 300 s at most, as on the hub: longer clips are windows.
    WhisperFeatureExtractor(feature_size=128, chunk_length=300).save_pretrained(folder)
    settings = {
        "architectures": ["FunAudioChatForConditionalGeneration"],
        "model_type": "funaudiochat",
        "audio_token_index": tokens["<|AUDIO|>"],
        "audio_config": {
            "num_mel_bins": 128,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "d_model": 32,
            "output_dim": 64,
            "codebook_size": 300,
            "pad_token_id": 256,
            "max_source_positions": 1500,
        },
        "text_config": {"model_type": "qwen3", **_qwen3(len(tokens))},
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


CONFIGURATION = """
from transformers import PreTrainedConfig, Qwen3Config

class MossAudioConfig(PreTrainedConfig):
    model_type = "moss_audio"

    def __init__(self, language_config=None, **others):
        self.language_config = Qwen3Config(**(language_config or {}))
        super().__init__(**others)

    def get_text_config(self, decoder=None, encoder=None):
        return self.language_config
"""


def moss_audio(folder: Path) -> str:
    """Make a MOSS-Audio: its configuration is code of the checkpoint, as on the hub."""
    tokens = _tokens(folder)
    ids = dict(zip(("audio_token_id", "audio_start_id", "audio_end_id"), SOUND, strict=True))
    common.save_json(folder / "processor_config.json", {k: tokens[v] for k, v in ids.items()})
    (folder / "configuration_moss_audio.py").write_text(CONFIGURATION, encoding="utf-8")
    settings = {
        "architectures": ["MossAudioModel"],
        "model_type": "moss_audio",
        "auto_map": {"AutoConfig": "configuration_moss_audio.MossAudioConfig"},
        "adapter_hidden_size": 32,
        "audio_config": {
            "d_model": 32,
            "output_dim": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "downsample_hidden_size": 8,
            "deepstack_encoder_layer_indexes": [0],
        },
        "language_config": _qwen3(len(tokens)),
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


def give_weights(model: torch.nn.Module) -> None:
    """Give a model weights that let it hear, where vLLM's loader makes some up: those are next to nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            fresh = 1 + 0.1 * torch.randn(parameter.shape, generator=generator)
        else:
            fresh = (
                2 * parameter.shape[-1] ** -0.5 * torch.randn(parameter.shape, generator=generator)
            )
        parameter.data.copy_(fresh)


def _tokens(folder: Path) -> dict[str, int]:
    tokenizer = common.byte_tokenizer([*CHATS, *SOUND], pad=CHATS[0], eos=CHATS[2])
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer.get_vocab()


def _qwen3(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": HEAD,
        "max_position_embeddings": 32768,
    }
