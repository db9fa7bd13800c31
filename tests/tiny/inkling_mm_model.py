"""A tiny Inkling: relative positions, short convolutions, experts; images need torchvision."""

from pathlib import Path

from transformers import (
    InklingConfig,
    InklingFeatureExtractor,
    InklingForConditionalGeneration,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

MEDIA = (
    "<|content_text|>",
    "<|content_image|>",
    "<|unused_200054|>",
    "<|content_audio_input|>",
    "<|unused_200053|>",
    "<|audio_end|>",
)
CHATS = (
    "<|endoftext|>",
    "<|message_user|>",
    "<|message_model|>",
    "<|message_system|>",
    "<|end_message|>",
    "<|content_model_end_sampling|>",
)

# Written anew after the behaviour of the hub's template: a message for every part.
TEMPLATE = (
    "{% for m in messages %}"
    "{% set role = '<|message_' ~ ('model' if m['role'] == 'assistant' else m['role']) ~ '|>' %}"
    "{% set parts = [{'type': 'text', 'text': m['content']}] if m['content'] is string "
    "else m['content'] %}"
    "{% for part in parts %}{{ role }}"
    "{% if part['type'] == 'audio' %}<|content_audio_input|><|unused_200053|><|audio_end|>"
    "{% elif part['type'] == 'image' %}<|content_image|><|unused_200054|>"
    "{% else %}<|content_text|>{{ part['text'] }}{% endif %}<|end_message|>{% endfor %}"
    "{% if m['role'] == 'assistant' %}<|content_model_end_sampling|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|message_model|>{% endif %}"
)


def config(tokens) -> InklingConfig:
    ids = tokens.get_vocab()
    return InklingConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "layer_types": ["hybrid_sliding", "hybrid"] * 2,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "swa_num_attention_heads": 2,
            "swa_num_key_value_heads": 1,
            "swa_head_dim": 16,
            "sliding_window_size": 64,
            "d_rel": 4,
            "rel_extent": 128,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "logits_mup_width_multiplier": 1.0,
            "max_position_embeddings": 65536,
            "pad_token_id": tokens.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokens.eos_token_id,
        },
        vision_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        audio_config={"mel_vocab_size": 16},
        image_token_id=ids["<|unused_200054|>"],
        audio_token_id=ids["<|unused_200053|>"],
        image_bos_token_id=ids["<|content_image|>"],
        audio_bos_token_id=ids["<|content_audio_input|>"],
    )


def build(folder: Path) -> None:
    tokens = byte_tokenizer(
        [*CHATS, *MEDIA], pad="<|endoftext|>", eos="<|content_model_end_sampling|>"
    )
    save_model(folder, InklingForConditionalGeneration, config(tokens), scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    save_json(
        folder / "processor_config.json",
        {
            "processor_class": "InklingProcessor",
            "feature_extractor": settings(InklingFeatureExtractor()),
            "image_processor": {"image_processor_type": "InklingImageProcessor"},
        },
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
