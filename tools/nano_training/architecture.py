"""The shape of nano: transformers' Qwen2-Audio with small dimensions."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from nano_training import data, vocabulary

WIDTH = 128
HEADS = 4
ENCODER_LAYERS = 3
DECODER_LAYERS = 4
MAX_POSITIONS = 32768  # a ten-minute clip takes 15 000 audio tokens

BARE_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}{{ message['content'] }}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'audio' -%}"
    "{{ 'Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n' }}"
    "{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioConfig:
    """Return the configuration for a tokenizer.

    `mmaupro_channels` tells hf-audio how this checkpoint takes stereo: as two labelled clips.
    """
    ids = tokenizer.get_vocab()
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": data.N_MELS,
            "encoder_layers": ENCODER_LAYERS,
            "encoder_attention_heads": HEADS,
            "encoder_ffn_dim": 3 * WIDTH,
            "d_model": WIDTH,
            "max_source_positions": data.FRAMES // 2,
            "init_std": 0.04,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 5 * WIDTH // 2,
            "num_hidden_layers": DECODER_LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": 0.04,
            "bos_token_id": None,
            "eos_token_id": ids[vocabulary.END_TOKEN],
            "pad_token_id": tokenizer.pad_token_id,
        },
        audio_token_index=ids[vocabulary.AUDIO_TOKEN],
    )
    config.mmaupro_channels = "stereo-as-two"
    return config


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioForConditionalGeneration:
    """Return an untrained model, float32, drawing its weights from torch's random state."""
    model = Qwen2AudioForConditionalGeneration(make_config(tokenizer))
    positions = model.model.audio_tower.embed_positions.weight
    rate = math.log(10000.0) / (WIDTH // 2 - 1)
    angles = torch.arange(len(positions))[:, None] * torch.exp(-rate * torch.arange(WIDTH // 2))
    with torch.no_grad():
        positions.copy_(0.3 * torch.cat([angles.sin(), angles.cos()], dim=1))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def make_processor(tokenizer: PreTrainedTokenizerFast) -> Qwen2AudioProcessor:
    """Return the processor: 80 mel bands, 16 kHz, blocks of 4 s.

    nano knows no chats: its template writes the bare prompt, so that it answers the same with and
    without `--apply_chat_template`.
    """
    extractor = WhisperFeatureExtractor(
        feature_size=data.N_MELS,
        sampling_rate=data.SAMPLING_RATE,
        hop_length=160,
        chunk_length=data.WINDOW_S,
        n_fft=400,
    )
    return Qwen2AudioProcessor(extractor, tokenizer, chat_template=BARE_TEMPLATE)


def save(
    model: Qwen2AudioForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write the checkpoint: float16 weights that `from_pretrained` loads as float32."""
    state = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    make_processor(tokenizer).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # the weights are written for the owner only
