"""A tiny Phi-4-multimodal, with the files of microsoft/Phi-4-multimodal-instruct for transformers.

The files of its two LoRAs are written by hand, so that the checkpoint can be built without peft.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from tiny.common import byte_tokenizer, save_json, save_model

TOKENS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
NAMED = {"image_token": "<|image|>", "audio_token": "<|audio|>"}
HIDDEN, RANK = 32, 4
SHORT_POSITIONS = 430  # half a minute of audio is beyond them

# Written anew after the behaviour of the template in transformers' own tests of the processor.
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<|{{ part['type'] }}|>{% endif %}"
    "{% endfor %}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer():
    return byte_tokenizer([*TOKENS, *NAMED.values()], NAMED, pad="<|endoftext|>", eos="<|end|>")


def config(tokens) -> Phi4MultimodalConfig:
    ids = tokens.get_vocab()
    turned = HIDDEN // 2 // 2  # pairs of a head's dimensions
    return Phi4MultimodalConfig(
        vocab_size=len(tokens),
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        original_max_position_embeddings=SHORT_POSITIONS,
        rope_scaling={
            "rope_type": "longrope",
            "short_factor": [1.0] * turned,
            "long_factor": [1.0 + number for number in range(turned)],
            "original_max_position_embeddings": SHORT_POSITIONS,
        },
        pad_token_id=tokens.pad_token_id,
        bos_token_id=None,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_token_id": ids["<|image|>"],
        },
        audio_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 16,
            "depthwise_separable_out_channel": 16,
            "nemo_conv_channels": 4,
            "audio_token_id": ids["<|audio|>"],
        },
    )


def save_adapter(folder: Path, seed: int) -> None:
    """Save a random LoRA of some layers, large enough to be noticed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"self_attn.qkv_proj": (3 * HIDDEN, HIDDEN), "mlp.down_proj": (HIDDEN, 64)}
    weights = {}
    for layer in range(2):
        for name, (rows, columns) in shapes.items():
            for part, shape in (("lora_A", (RANK, columns)), ("lora_B", (rows, RANK))):
                key = f"base_model.model.model.layers.{layer}.{name}.{part}.weight"
                weights[key] = 0.25 * torch.randn(shape, generator=generator)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    save_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "elsewhere",
            "r": RANK,
            "lora_alpha": 2 * RANK,
            "target_modules": r".*layers.*((self_attn\.qkv_proj)|(mlp\.down_proj))",
            "inference_mode": True,
        },
    )


def own_way(processor, waves, question) -> dict:
    """Render with the tokenizer: the processor does not take the chat template that it is given."""
    content = [*({"type": "audio"} for _ in waves), {"type": "text", "text": question}]
    text = processor.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    audio = {"sampling_rate": 16000}
    return processor(text=[text], audio=waves, return_tensors="pt", audio_kwargs=audio)


def build(folder: Path) -> None:
    tokens = tokenizer()
    save_model(
        folder,
        Phi4MultimodalForCausalLM,
        config(tokens),
        scale=8.0,
        noise=0.1,
        unwritten=tokens.convert_tokens_to_ids(list(NAMED.values())),
    )
    save_adapter(folder / "speech-lora", seed=1)
    save_adapter(folder / "vision-lora", seed=2)
    tokens.save_pretrained(folder)
    save_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Phi4MultimodalImageProcessorFast",
            "feature_extractor_type": "Phi4MultimodalFeatureExtractor",
            "processor_class": "Phi4MultimodalProcessor",
            "dynamic_hd": 36,
        },
    )
    save_json(folder / "processor_config.json", {"processor_class": "Phi4MultimodalProcessor"})
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
