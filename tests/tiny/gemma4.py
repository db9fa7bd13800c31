"""A tiny Gemma 4 in the shape of E2B: shared keys and values, embeddings per layer, both encoders.

The processor of the hub has a video part that needs torchvision; without it, the checkpoint loads in
part.
"""

from pathlib import Path

from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

NAMED = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}
FIRST = ("<pad>", "<eos>", "<bos>")
CHATS = ("<|turn>", "<turn|>", "<|video|>")

# Written anew after the behaviour of the hub's template, which strips the text parts.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio|>"
    "{% elif part['type'] == 'image' %}<|image|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}<turn|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)


def tokenizer():
    return byte_tokenizer(
        [*CHATS, *NAMED.values()], NAMED, pad="<pad>", eos="<eos>", bos="<bos>", first=FIRST
    )


def text_config(tokens) -> dict:
    return {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 6,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "global_head_dim": 32,
        "sliding_window": 64,
        "max_position_embeddings": 65536,
        "final_logit_softcapping": 30.0,
    }


def token_ids(tokens) -> dict[str, int]:
    ids = tokens.get_vocab()
    return {
        "image_token_id": ids["<|image|>"],
        "boi_token_id": ids["<|image>"],
        "eoi_token_id": ids["<image|>"],
        "audio_token_id": ids["<|audio|>"],
        "boa_token_id": ids["<|audio>"],
        "eoa_token_index": ids["<audio|>"],
        "video_token_id": ids["<|video|>"],
    }


def build(folder: Path) -> None:
    tokens = tokenizer()
    config = Gemma4Config(
        text_config={
            **text_config(tokens),
            "vocab_size_per_layer_input": len(tokens),
            "hidden_size_per_layer_input": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "num_kv_shared_layers": 2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "position_embedding_size": 64,
        },
        audio_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "subsampling_conv_channels": (128, 4),
            "output_proj_dims": 32,
        },
        **token_ids(tokens),
    )
    save_model(folder, Gemma4ForConditionalGeneration, config, scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    images = Gemma4ImageProcessorPil(max_soft_tokens=70)
    save_json(
        folder / "processor_config.json",
        {
            "processor_class": "Gemma4Processor",
            "image_seq_length": 70,
            "audio_seq_length": 750,
            "audio_ms_per_token": 40,
            "feature_extractor": settings(Gemma4AudioFeatureExtractor()),
            "image_processor": {
                **settings(images),
                "image_processor_type": "Gemma4ImageProcessor",
            },
            "video_processor": {"video_processor_type": "Gemma4VideoProcessor"},
        },
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
