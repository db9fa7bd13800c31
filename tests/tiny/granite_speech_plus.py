"""A tiny Granite Speech Plus, with the files of ibm-granite/granite-speech-4.1-2b-plus; no LoRA."""

from pathlib import Path

from transformers import GraniteSpeechPlusConfig, GraniteSpeechPlusForConditionalGeneration

from tiny.common import save_json, save_model
from tiny.granite_speech import EXTRACTOR, TEMPLATE, own_way, settings, tokenizer

__all__ = ["build", "own_way"]


def build(folder: Path) -> None:
    tokens = tokenizer()
    parts = settings(tokens, "granite_speech_plus_encoder", layers_heard=2)
    parts["encoder_config"]["cat_hidden_layers"] = [1]
    config = GraniteSpeechPlusConfig(**parts, has_lora_adapter=False)
    save_model(folder, GraniteSpeechPlusForConditionalGeneration, config, scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    parts = {"processor_class": "GraniteSpeechProcessor", "audio_processor": EXTRACTOR}
    save_json(folder / "processor_config.json", parts)
