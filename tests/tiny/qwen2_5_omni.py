"""A tiny Qwen2.5-Omni thinker, with the files of the hub's checkpoints.

The hub's processor has a video part that needs torchvision; without it, the checkpoint loads in part.
"""

from pathlib import Path

from transformers import (
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    WhisperFeatureExtractor,
)

from tiny.common import byte_tokenizer, save_json, save_model

NAMED = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
CHATS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Written anew after the behaviour of the hub's template.
TEMPLATE = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif part['type'] == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer():
    return byte_tokenizer([*CHATS, *NAMED.values()], NAMED, pad="<|endoftext|>", eos="<|im_end|>")


def config(tokens) -> Qwen2_5OmniThinkerConfig:
    ids = tokens.get_vocab()
    return Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 128,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "output_dim": 32,
            "n_window": 100,
            "max_source_positions": 1500,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [0],
        },
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
            },
            "pad_token_id": tokens.pad_token_id,
        },
        audio_token_index=ids["<|AUDIO|>"],
        image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        audio_start_token_id=ids["<|audio_bos|>"],
        audio_end_token_id=ids["<|audio_eos|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
        user_token_id=ids["<|im_start|>"],
    )


def save_processor(folder: Path, tokens) -> None:
    tokens.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300)
    images = Qwen2VLImageProcessorPil(min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16)
    save_json(
        folder / "preprocessor_config.json",
        {
            **images.to_dict(),
            **extractor.to_dict(),
            "image_processor_type": "Qwen2VLImageProcessor",
            "feature_extractor_type": "WhisperFeatureExtractor",
            "processor_class": "Qwen2_5OmniProcessor",
        },
    )
    save_json(
        folder / "video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"}
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def build(folder: Path) -> None:
    tokens = tokenizer()
    save_model(folder, Qwen2_5OmniThinkerForConditionalGeneration, config(tokens), scale=8.0)
    save_processor(folder, tokens)
