"""A tiny Qwen3-Omni with the files of the hub's checkpoints that only write.

The weights lie under `thinker.`, as in the full model. The hub's processor has a video part that
needs torchvision; without it, the checkpoint loads in part.
"""

from pathlib import Path

from transformers import (
    Qwen2VLImageProcessorPil,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeForConditionalGeneration,
    WhisperFeatureExtractor,
)

from tiny.common import byte_tokenizer, save_json, save_model

NAMED = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
CHATS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Written anew after the behaviour of the hub's template.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_start|><|audio_pad|><|audio_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def config(tokens) -> Qwen3OmniMoeConfig:
    ids = tokens.get_vocab()
    thinker = {
        "audio_config": {
            "num_mel_bins": 128,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 16,
            "output_dim": 32,
            "downsample_hidden_size": 8,
        },
        "vision_config": {
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        "text_config": {
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 65536,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e6,
                "mrope_section": [2, 3, 3],
            },
            "pad_token_id": tokens.pad_token_id,
        },
        "audio_token_id": ids["<|audio_pad|>"],
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "user_token_id": ids["<|im_start|>"],
    }
    return Qwen3OmniMoeConfig(thinker_config=thinker, enable_audio_output=False)


def build(folder: Path) -> None:
    tokens = byte_tokenizer([*CHATS, *NAMED.values()], NAMED, pad=CHATS[0], eos=CHATS[2])
    save_model(folder, Qwen3OmniMoeForConditionalGeneration, config(tokens), scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=30)
    images = Qwen2VLImageProcessorPil(
        patch_size=16, min_pixels=32 * 32 * 4, max_pixels=32 * 32 * 16
    )
    save_json(
        folder / "preprocessor_config.json",
        {
            **images.to_dict(),
            **extractor.to_dict(),
            "image_processor_type": "Qwen2VLImageProcessor",
            "feature_extractor_type": "WhisperFeatureExtractor",
            "processor_class": "Qwen3OmniMoeProcessor",
        },
    )
    save_json(
        folder / "video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"}
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
