"""A tiny Voxtral, with the files of mistralai/Voxtral-Mini-3B-2507: its tokenizer is a tekken.json.

The vocabulary has the 256 bytes and no merges.
"""

import base64
import io
from pathlib import Path

import soundfile
from transformers import VoxtralConfig, VoxtralForConditionalGeneration, WhisperFeatureExtractor

from tiny.common import save_json, save_model

# In the order of their ids, 24 and 25 among them; unused ones are called <SPECIAL_i>.
CONTROL = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]"),
    *("[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    "[TOOL_CONTENT]",
)
CONTROL_AT = {24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}
SPECIAL = 40
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def tekken(version: str = "v7") -> dict:
    names = dict(enumerate(CONTROL)) | CONTROL_AT
    return {
        "config": {
            "pattern": PATTERN,
            "num_vocab_tokens": 256,
            "default_vocab_size": 256 + SPECIAL,
            "default_num_special_tokens": SPECIAL,
            "version": version,
        },
        "vocab": [
            {
                "rank": byte,
                "token_bytes": base64.b64encode(bytes([byte])).decode(),
                "token_str": chr(byte) if byte < 128 else None,
            }
            for byte in range(256)
        ],
        "special_tokens": [
            {"rank": rank, "token_str": names.get(rank, f"<SPECIAL_{rank}>"), "is_control": True}
            for rank in range(SPECIAL)
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }


def as_base64(wave) -> str:
    """Return samples as a WAV file in base64, without loss."""
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format="WAV", subtype="FLOAT")
    return base64.b64encode(file.getvalue()).decode()


def own_way(processor, waves, question) -> dict:
    content = [{"type": "audio", "base64": as_base64(wave)} for wave in waves]
    content.append({"type": "text", "text": question})
    return processor.apply_chat_template([{"role": "user", "content": content}])


def build(folder: Path) -> None:
    config = VoxtralConfig(
        audio_config={
            "model_type": "voxtral_encoder",
            "num_mel_bins": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,  # four frames of the encoder make a token
            "hidden_size": 16,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": 256 + SPECIAL,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 131072,
        },
        audio_token_id=24,
    )
    save_model(folder, VoxtralForConditionalGeneration, config, scale=8.0, noise=0.1)
    save_json(folder / "tekken.json", tekken())
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=30).to_dict()
    save_json(
        folder / "preprocessor_config.json", {**extractor, "processor_class": "VoxtralProcessor"}
    )
