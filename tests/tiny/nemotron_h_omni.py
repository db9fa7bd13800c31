"""A tiny Nemotron Omni: Mamba, attention and experts; its image and video parts need torchvision."""

from pathlib import Path

from transformers import (
    NemotronH_Omni_Reasoning_V3,
    NemotronH_Omni_Reasoning_V3_Config,
    ParakeetFeatureExtractor,
)

from tiny.common import byte_tokenizer, save_json, save_model, settings

MEDIA = ("<image>", "<video>", "<img>", "</img>", "<so_start>", "<so_embedding>", "<so_end>")
CHATS = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")

# Written anew after the behaviour of the hub's template: media first, then the text without breaks
# at its beginning.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% set ns = namespace(media='', text='') %}"
    "{% for part in m['content'] if part['type'] == 'image' %}"
    "{% set ns.media = ns.media + '<image>\n' %}{% endfor %}"
    "{% for part in m['content'] if part['type'] == 'audio' %}"
    "{% set ns.media = ns.media + '<so_embedding>\n' %}{% endfor %}"
    "{% for part in m['content'] if part['type'] == 'text' %}"
    "{% set ns.text = ns.text + part['text'] %}{% endfor %}"
    "{{ ns.media }}{{ ns.text.lstrip('\n') }}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>"
    "{% else %}<think>\n{% endif %}{% endif %}"
)


def config(tokens) -> NemotronH_Omni_Reasoning_V3_Config:
    ids = tokens.get_vocab()
    return NemotronH_Omni_Reasoning_V3_Config(
        text_config={
            "model_type": "nemotron_h",
            "vocab_size": len(tokens),
            "hidden_size": 32,
            "intermediate_size": 32,
            "layers_block_type": [
                "linear_attention",
                "moe",
                "full_attention",
                "linear_attention",
                "mlp",
            ],
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "ssm_state_size": 8,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 2,
            "chunk_size": 16,
            "n_routed_experts": 4,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
            "max_position_embeddings": 65536,
            "pad_token_id": tokens.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokens.eos_token_id,
        },
        vision_config={
            "model_type": "radio",
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_img_size": 128,
            "image_size": 128,
            "video_temporal_patch_size": 2,
        },
        audio_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_mel_bins": 128,
            "subsampling_conv_channels": 8,
            "projection_hidden_size": 32,
            "projection_bias": False,
        },
        vision_hidden_size=32,
        projector_hidden_size=32,
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
        audio_token_id=ids["<so_embedding>"],
    )


def build(folder: Path) -> None:
    tokens = byte_tokenizer([*CHATS, *MEDIA], pad="<unk>", eos="<|im_end|>")
    save_model(folder, NemotronH_Omni_Reasoning_V3, config(tokens), scale=16.0, noise=0.1)
    tokens.save_pretrained(folder)
    save_json(
        folder / "preprocessor_config.json",
        {
            **settings(ParakeetFeatureExtractor(feature_size=128)),
            "image_processor_type": "NemotronH_Omni_Reasoning_V3ImageProcessor",
            "min_num_patches": 16,
            "max_num_patches": 64,
            "feature_extractor_type": "ParakeetFeatureExtractor",
            "processor_class": "NemotronH_Omni_Reasoning_V3Processor",
        },
    )
    save_json(
        folder / "video_preprocessor_config.json",
        {"video_processor_type": "NemotronH_Omni_Reasoning_V3VideoProcessor"},
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
