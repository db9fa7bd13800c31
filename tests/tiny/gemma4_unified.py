"""A tiny Gemma 4 without encoders; images and videos need torchvision, sound does not."""

from pathlib import Path

from transformers import (
    Gemma4UnifiedAudioFeatureExtractor,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
)

from tiny import gemma4
from tiny.common import save_json, save_model, settings


def build(folder: Path) -> None:
    tokens = gemma4.tokenizer()
    config = Gemma4UnifiedConfig(
        text_config=gemma4.text_config(tokens),
        vision_config={"mm_embed_dim": 32, "mm_posemb_size": 64, "output_proj_dims": 32},
        audio_config={},
        **gemma4.token_ids(tokens),
    )
    save_model(folder, Gemma4UnifiedForConditionalGeneration, config, scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    save_json(
        folder / "processor_config.json",
        {
            "processor_class": "Gemma4UnifiedProcessor",
            "image_seq_length": 70,
            "audio_seq_length": 750,
            "audio_ms_per_token": 40,
            "feature_extractor": settings(Gemma4UnifiedAudioFeatureExtractor()),
            "image_processor": {
                "image_processor_type": "Gemma4UnifiedImageProcessor",
                "max_soft_tokens": 70,
            },
            "video_processor": {"video_processor_type": "Gemma4UnifiedVideoProcessor"},
        },
    )
    (folder / "chat_template.jinja").write_text(gemma4.TEMPLATE, encoding="utf-8")
