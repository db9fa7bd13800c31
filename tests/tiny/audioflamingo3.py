"""A tiny Audio Flamingo 3, with the files of nvidia/audio-flamingo-3-hf."""

from pathlib import Path

from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    WhisperFeatureExtractor,
)

from tiny.common import byte_tokenizer, save_json, save_model

CHATS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# Written anew after the behaviour of the hub's template: the sound once, before all text.
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% if m['content'] | selectattr('type', 'equalto', 'audio') | list %}<sound>{% endif %}"
    "{{ m['content'] | selectattr('type', 'equalto', 'text') | map(attribute='text') | join }}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(*more: str):
    return byte_tokenizer([*CHATS, "<sound>", *more], pad="<|endoftext|>", eos="<|im_end|>")


def audio_config() -> dict:
    return {
        "model_type": "audioflamingo3_encoder",
        "num_mel_bins": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_size": 16,
    }


def text_config(tokens) -> dict:
    return {
        "model_type": "qwen2",
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "pad_token_id": tokens.pad_token_id,
        "use_cache": False,  # as on the hub
    }


def build(folder: Path) -> None:
    tokens = tokenizer()
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    processor = AudioFlamingo3Processor(extractor, tokens, chat_template=TEMPLATE)
    config = AudioFlamingo3Config(
        audio_config=audio_config(),
        text_config=text_config(tokens),
        audio_token_id=processor.audio_token_id,
    )
    save_model(folder, AudioFlamingo3ForConditionalGeneration, config, scale=8.0, noise=0.1)
    tokens.save_pretrained(folder)
    # The hub's files are from before processors were saved in one.
    save_json(
        folder / "preprocessor_config.json",
        {**extractor.to_dict(), "processor_class": "AudioFlamingo3Processor"},
    )
    save_json(
        folder / "processor_config.json",
        {"processor_class": "AudioFlamingo3Processor", "max_audio_len": 600},
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
