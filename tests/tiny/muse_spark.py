"""A tiny Muse Spark; its image and video parts need torchvision, sound at 24 kHz does not."""

from pathlib import Path

from transformers import (
    MuseSparkConfig,
    MuseSparkFeatureExtractor,
    MuseSparkForConditionalGeneration,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

MEDIA = (
    "<|patch|>",
    "<|image_start|>",
    "<|image_end|>",
    "<|video|>",
    "<|vid_frame_separator|>",
    "<|vid_start|>",
    "<|vid_end|>",
    "<|audio|>",
    "<|soft_audio_start|>",
    "<|soft_audio_end|>",
)
CHATS = ("<|pad|>", "<|eot|>", "<|header_start|>", "<|header_end|>")

# The hub's own template was not to be seen: a frame of the kind that earlier models of Meta have.
TEMPLATE = (
    "{% for m in messages %}<|header_start|>{{ m['role'] }}<|header_end|>\n\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio|>"
    "{% elif part['type'] == 'image' %}<|patch|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)


def config(tokens) -> MuseSparkConfig:
    ids = tokens.get_vocab()
    return MuseSparkConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "moe_hidden_size": 16,
            "moe_intermediate_size": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": 64,
            "max_position_embeddings": 65536,
            "pad_token_id": tokens.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokens.eos_token_id,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
        },
        audio_config={
            "hidden_sizes": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "out_hidden_size": 32,
        },
        out_hidden_size=128,
        projector_hidden_size=32,
        image_token_id=ids["<|patch|>"],
        video_token_id=ids["<|video|>"],
        audio_token_id=ids["<|audio|>"],
    )


def build(folder: Path) -> None:
    tokens = byte_tokenizer([*CHATS, *MEDIA], pad="<|pad|>", eos="<|eot|>")
    save_model(folder, MuseSparkForConditionalGeneration, config(tokens), scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    save_json(
        folder / "processor_config.json",
        {
            "processor_class": "MuseSparkProcessor",
            "feature_extractor": settings(MuseSparkFeatureExtractor()),
            "image_processor": {
                "image_processor_type": "MuseGlimmerImageProcessor",
                "max_image_tokens": 16,
            },
            "video_processor": {"video_processor_type": "MuseGlimmerVideoProcessor"},
        },
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
