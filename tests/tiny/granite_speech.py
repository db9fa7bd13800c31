"""A tiny Granite Speech, with the files of ibm-granite/granite-speech-3.3-2b, its LoRA among them.

The files of the LoRA are written by hand, so that the checkpoint can be built without peft, and the
settings of the extractor, so that it can be built without torchaudio.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GraniteSpeechConfig, GraniteSpeechForConditionalGeneration

from tiny.common import byte_tokenizer, save_json, save_model

TOKENS = ("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>", "<|audio|>")
HIDDEN, RANK = 32, 4

# Written anew after the behaviour of the hub's template: strings only, and a default system message.
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|start_of_role|>system<|end_of_role|>You are Granite.<|end_of_text|>\n{% endif %}"
    "{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content']"
    " + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)

EXTRACTOR = {
    "feature_extractor_type": "GraniteSpeechFeatureExtractor",
    "processor_class": "GraniteSpeechProcessor",
    "melspec_kwargs": {
        "hop_length": 160,
        "n_fft": 512,
        "n_mels": 80,
        "sample_rate": 16000,
        "win_length": 400,
    },
    "projector_downsample_rate": 5,
    "projector_window_size": 15,
    "sampling_rate": 16000,
}


def tokenizer():
    return byte_tokenizer(TOKENS, pad="<|end_of_text|>", eos="<|end_of_text|>")


def settings(tokens, encoder: str, layers_heard: int = 1) -> dict:
    return {
        "text_config": {
            "model_type": "granite",
            "vocab_size": len(tokens),
            "hidden_size": HIDDEN,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 131072,
            "pad_token_id": tokens.pad_token_id,
        },
        "encoder_config": {
            "model_type": encoder,
            "num_layers": 2,
            "hidden_dim": HIDDEN,
            "num_heads": 2,
            "dim_head": 16,
            "feedforward_mult": 2,
        },
        "projector_config": {
            "model_type": "blip_2_qformer",
            "hidden_size": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": HIDDEN,
            "encoder_hidden_size": HIDDEN * layers_heard,
            "cross_attention_frequency": 1,
            "max_position_embeddings": 64,
            "use_qformer_text_input": False,
        },
        "audio_token_index": tokens.get_vocab()["<|audio|>"],
    }


def save_adapter(folder: Path, prefix: str, seed: int = 1) -> None:
    """Save a random LoRA of the queries and values, large enough to be noticed."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            for part, shape in (("lora_A", (RANK, HIDDEN)), ("lora_B", (HIDDEN, RANK))):
                key = f"base_model.model.{prefix}.{layer}.self_attn.{name}.{part}.weight"
                weights[key] = torch.randn(shape, generator=generator)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    save_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "elsewhere",
            "r": RANK,
            "lora_alpha": 2 * RANK,
            "target_modules": ["q_proj", "v_proj"],
            "inference_mode": True,
        },
    )


def save_tokenizer(folder: Path, tokens) -> None:
    """Save the tokenizer with the chat template in its own file, where checkpoints of 2025 have it."""
    tokens.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    save_json(path, json.loads(path.read_text()) | {"chat_template": TEMPLATE})


def own_way(processor, waves, question) -> dict:
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": "<|audio|>" * len(waves) + question}],
        tokenize=False,
        add_generation_prompt=True,
    )
    return processor(text=[text], audio=waves, return_tensors="pt")


def build(folder: Path) -> None:
    tokens = tokenizer()
    config = GraniteSpeechConfig(**settings(tokens, "granite_speech_encoder"))
    save_model(folder, GraniteSpeechForConditionalGeneration, config, scale=8.0, noise=0.1)
    save_adapter(folder, "language_model.model.layers")
    save_tokenizer(folder, tokens)
    save_json(folder / "preprocessor_config.json", EXTRACTOR)
    save_json(folder / "processor_config.json", {"processor_class": "GraniteSpeechProcessor"})
