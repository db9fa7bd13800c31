"""A tiny dots3-note: latent attention with an indexer, sliding windows, experts.

Its video part needs torchvision; without it, the checkpoint loads in part.
"""

from pathlib import Path

from transformers import (
    Dots3NoteConfig,
    Dots3NoteFeatureExtractor,
    Dots3NoteForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

MEDIA = (
    "<|img|>",
    "<|imgpad|>",
    "<|endofimg|>",
    "<|video_pad|>",
    "<|audio_comp_start|>",
    "<|audio_comp_pad|>",
    "<|audio_comp_end|>",
)
CHATS = ("<|endoftext|>", "<|userprompt|>", "<|endofuserprompt|>", "<|response|>", "<|im_end|>")

# Written anew after the frame of the older dots models.
TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}<|userprompt|>{% else %}<|response|>{% endif %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_comp_start|><|audio_comp_pad|><|audio_comp_end|>"
    "{% elif part['type'] == 'image' %}<|img|><|imgpad|><|endofimg|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if m['role'] == 'user' %}<|endofuserprompt|>{% else %}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|response|>{% endif %}"
)


def config(tokens) -> Dots3NoteConfig:
    ids = tokens.get_vocab()
    return Dots3NoteConfig(
        text_config={
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 32,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "shared_experts_intermediate_size": 16,
            "kv_lora_rank": 8,
            "q_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "head_dim": 16,
            "index_head_dim": 16,
            "index_n_heads": 16,  # few heads leave ties at 0, broken by where the padding stands
            "index_topk": 64,
            "sliding_window_size": 64,
            "swa_num_attention_heads": 2,
            "swa_num_key_value_heads": 2,
            "swa_q_lora_rank": 8,
            "swa_kv_lora_rank": 8,
            "swa_head_dim": 16,
            "swa_qk_nope_head_dim": 8,
            "swa_v_head_dim": 8,
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
            "moe_intermediate_size": 8,
            "num_local_experts": 2,
            "mlp_layer_types": ["dense", "sparse"],
            "adapter_in_dim": 32,
            "adapter_out_dim": 32,
        },
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "downsample_hidden_size": 8,
            "adapter_input_size": 16,
            "adapter_out_dim": 32,
        },
        audio_token_id=ids["<|audio_comp_pad|>"],
        image_token_id=ids["<|imgpad|>"],
        video_token_id=ids["<|video_pad|>"],
    )


def build(folder: Path) -> None:
    tokens = byte_tokenizer([*CHATS, *MEDIA], pad=CHATS[0], eos=CHATS[4])
    save_model(folder, Dots3NoteForConditionalGeneration, config(tokens), scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(
        temporal_patch_size=1, min_pixels=28 * 28 * 4, max_pixels=28 * 28 * 16
    )
    save_json(
        folder / "preprocessor_config.json",
        {
            **settings(images),
            **settings(Dots3NoteFeatureExtractor()),
            "image_processor_type": "Qwen2VLImageProcessor",
            "feature_extractor_type": "Dots3NoteFeatureExtractor",
            "processor_class": "Dots3NoteProcessor",
        },
    )
    save_json(
        folder / "video_preprocessor_config.json", {"video_processor_type": "Qwen2VLVideoProcessor"}
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
