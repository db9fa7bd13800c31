"""A tiny Music Flamingo, with the files of nvidia/music-flamingo-2601-hf."""

from pathlib import Path

from transformers import (
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    WhisperFeatureExtractor,
)

from tiny.audioflamingo3 import TEMPLATE, audio_config, text_config, tokenizer
from tiny.common import save_model


def build(folder: Path) -> None:
    tokens = tokenizer("<|sound_bos|>", "<|sound_eos|>")
    template = TEMPLATE.replace("You are a helpful assistant.", "You are Music Flamingo.")
    processor = MusicFlamingoProcessor(
        WhisperFeatureExtractor(feature_size=128, return_attention_mask=True),
        tokens,
        chat_template=template,
    )
    config = MusicFlamingoConfig(
        audio_config=audio_config(),
        text_config=text_config(tokens),
        audio_token_id=processor.audio_token_id,
        audio_bos_token_id=processor.audio_bos_token_id,
        audio_eos_token_id=processor.audio_eos_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 1200},
    )
    save_model(folder, MusicFlamingoForConditionalGeneration, config, scale=8.0, noise=0.1)
    processor.save_pretrained(folder)
