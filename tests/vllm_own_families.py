"""Tiny checkpoints, without weights, of families that vLLM has and transformers has not.

`give_weights` makes some in vLLM's own loader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import common
from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from vllm_checkpoints import HEAD

CHATS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SOUND = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fun_audio_chat(folder: Path) -> str:
    """Make a Fun-Audio-Chat: Whisper features beside a speech tokenizer that only counts frames."""
    tokens = _tokens(folder)
    common.byte_tokenizer(
        ["<|audio_pad|>"], pad="<|audio_pad|>", eos="<|audio_pad|>"
    ).save_pretrained(folder / "speech_tokenizer")
    # 300 s at most, as on the hub: longer clips are windows.
    WhisperFeatureExtractor(feature_size=128, chunk_length=300).save_pretrained(folder)
    settings = {
        "architectures": ["FunAudioChatForConditionalGeneration"],
        "model_type": "funaudiochat",
        "audio_token_index": tokens["<|AUDIO|>"],
        "audio_config": {
            "num_mel_bins": 128,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "d_model": 32,
            "output_dim": 64,
            "codebook_size": 300,
            "pad_token_id": 256,
            "max_source_positions": 1500,
        },
        "text_config": {"model_type": "qwen3", **_qwen3(len(tokens))},
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


CONFIGURATION = """
from transformers import PreTrainedConfig, Qwen3Config

class MossAudioConfig(PreTrainedConfig):
    model_type = "moss_audio"

    def __init__(self, language_config=None, **others):
        self.language_config = Qwen3Config(**(language_config or {}))
        super().__init__(**others)

    def get_text_config(self, decoder=None, encoder=None):
        return self.language_config
"""


def moss_audio(folder: Path) -> str:
    """Make a MOSS-Audio: its configuration is code of the checkpoint, as on the hub."""
    tokens = _tokens(folder)
    ids = dict(zip(("audio_token_id", "audio_start_id", "audio_end_id"), SOUND, strict=True))
    common.save_json(folder / "processor_config.json", {k: tokens[v] for k, v in ids.items()})
    (folder / "configuration_moss_audio.py").write_text(CONFIGURATION, encoding="utf-8")
    settings = {
        "architectures": ["MossAudioModel"],
        "model_type": "moss_audio",
        "auto_map": {"AutoConfig": "configuration_moss_audio.MossAudioConfig"},
        "adapter_hidden_size": 32,
        "audio_config": {
            "d_model": 32,
            "output_dim": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "downsample_hidden_size": 8,
            "deepstack_encoder_layer_indexes": [0],
        },
        "language_config": _qwen3(len(tokens)),
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


# As the hub's checkpoints of both families, these bring their processor as code; it is written anew here,
# after what vLLM's models ask of it. Of the sounds of a call it makes what the model takes.
PROCESSOR = """
import torch
from transformers import BatchFeature, ProcessorMixin

class TinyProcessor(ProcessorMixin):
    attributes = ["feature_extractor", "tokenizer"]
    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"
    audio_token, audio_bos_token, audio_eos_token = "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"

    def __init__(self, feature_extractor=None, tokenizer=None, **others):
        super().__init__(feature_extractor, tokenizer)

    @property
    def audio_processor(self):
        return self.feature_extractor

    def __call__(self, text=None, audio=None, audios=None, return_tensors="pt", **others):
        made = dict(self.tokenizer(text, return_tensors=return_tensors))
        sounds = audio if audio is not None else audios
        return BatchFeature(made | (self.hear(list(sounds)) if sounds is not None else {}))
"""

OF_MIDASHENGLM = """
    def hear(self, sounds):
        lengths = torch.tensor([len(sound) for sound in sounds])
        waves = [torch.as_tensor(sound) for sound in sounds]
        padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        return {"input_values": padded, "audio_length": lengths}
"""

# Chunks of 30 s of Whisper's features; 16 frames make a token.
OF_ULTRAVOX = """
    def hear(self, sounds):
        chunks = [[sound[at : at + 480000] for at in range(0, len(sound), 480000)] for sound in sounds]
        flat = [chunk for found in chunks for chunk in found]
        lengths = torch.tensor([-(-len(chunk) // 160) for chunk in flat])
        features = self.feature_extractor(flat, sampling_rate=16000, return_tensors="pt")
        return {
            "audio_values": features["input_features"][:, :, : int(lengths.max())],
            "audio_lens": lengths,
            "audio_token_len": (lengths + 15) // 16,
            "audio_num_chunks": torch.tensor([len(found) for found in chunks]),
        }
"""


def midashenglm(folder: Path) -> str:
    """Make a MiDashengLM: five tokens a second of patches of a mel spectrogram that the model computes."""
    tokens = _with_processor(folder, OF_MIDASHENGLM, Wav2Vec2FeatureExtractor())
    settings = {
        "architectures": ["MiDashengLMModel"],
        "model_type": "midashenglm",
        "audio_token_id": tokens["<|AUDIO|>"],
        "audio_encoder_config": {
            "embed_dim": 32,
            "depth": 1,
            "num_heads": 1,
            "patch_size": [64, 4],
            "patch_stride": [64, 4],
            "target_length": 1008,
        },
        "text_config": {"model_type": "qwen2_5_omni_text", **_qwen3(len(tokens))},
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


def ultravox(folder: Path) -> str:
    """Make an Ultravox: Whisper's encoder and a projector that joins eight frames, before a Llama."""
    tokens = _with_processor(
        folder, OF_ULTRAVOX, WhisperFeatureExtractor(feature_size=80), sound=("<|audio|>",)
    )
    settings = {
        "architectures": ["UltravoxModel"],
        "model_type": "ultravox",
        "vocab_size": len(tokens),
        "hidden_size": 64,
        "stack_factor": 8,
        "projector_ln_mid": True,
        "audio_token_index": tokens["<|audio|>"],
        "audio_config": {
            "model_type": "whisper",
            "num_mel_bins": 80,
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "max_source_positions": 1500,
        },
        "text_config": {"model_type": "llama", **_qwen3(len(tokens))},
    }
    common.save_json(folder / "config.json", settings)
    return str(folder)


def _with_processor(
    folder: Path, hear: str, extractor: Any, sound: tuple[str, ...] = SOUND
) -> dict[str, int]:
    """Save a tokenizer, an extractor, and a processor as code; return the vocabulary."""
    tokens = _tokens(folder, sound)
    extractor.save_pretrained(folder)
    (folder / "processing_tiny.py").write_text(PROCESSOR + hear, encoding="utf-8")
    known = {"AutoProcessor": "processing_tiny.TinyProcessor"}
    common.save_json(
        folder / "processor_config.json", {"processor_class": "TinyProcessor", "auto_map": known}
    )
    return tokens


def give_weights(model: torch.nn.Module) -> None:
    """Give a model weights that let it hear, where vLLM's loader makes some up: those are next to nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            fresh = 1 + 0.1 * torch.randn(parameter.shape, generator=generator)
        else:
            fresh = (
                2 * parameter.shape[-1] ** -0.5 * torch.randn(parameter.shape, generator=generator)
            )
        parameter.data.copy_(fresh)


def _tokens(folder: Path, sound: tuple[str, ...] = SOUND) -> dict[str, int]:
    tokenizer = common.byte_tokenizer([*CHATS, *sound], pad=CHATS[0], eos=CHATS[2])
    block = "<|audio_bos|><|AUDIO|><|audio_eos|>"
    tokenizer.chat_template = TEMPLATE.replace(block, block if sound == SOUND else sound[0])
    tokenizer.save_pretrained(folder)
    return tokenizer.get_vocab()


def _qwen3(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": HEAD,
        "max_position_embeddings": 32768,
    }
