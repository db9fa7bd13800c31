"""Qwen2.5-Omni (Xu et al. 2025, arXiv:2503.20215): the thinker, which hears, sees and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmaupro_ext.models.families.family import Family, Loading, Writing, each
from mmaupro_ext.models.families.qwen2_audio import HOP_LENGTH, audio_tokens

# Zeros behind the longest block, so that no frame of it mirrors its end: half a Whisper frame, in hops.
SILENCE = 2 * HOP_LENGTH


def encode(processor: Any, text: str, options: dict[str, Any]) -> Mapping[str, Any]:
    """Return the inputs with blocks padded a little beyond the longest, not to 300 s.

    The processor pads every audio to the extractor's 300 s, and refuses several of which one is
    longer. Only frames of the audio reach the encoder, so where the zeros end makes no difference.
    """
    if options.get("audio"):
        longest = max(len(block) for block in options["audio"])
        hops = -(-longest // HOP_LENGTH)
        options["audio_kwargs"]["max_length"] = hops * HOP_LENGTH + SILENCE
    return processor(text=[text], return_tensors="pt", **options)


QWEN2_5_OMNI = Family(
    model_types=("qwen2_5_omni", "qwen2_5_omni_thinker"),
    writing=Writing(
        audio_block="<|audio_bos|><|AUDIO|><|audio_eos|>",
        audio_token="<|AUDIO|>",
        count_tokens=each(audio_tokens),
        whole_s=None,
        min_samples=3 * HOP_LENGTH,
    ),
    loading=Loading(
        loader="Qwen2_5OmniThinkerForConditionalGeneration",
        audio_options={"truncation": False},
        positions="mrope",
        padded_inputs={"input_features": 2, "feature_attention_mask": 1},
        encode=encode,
    ),
    notes=(
        "The class of the full model ignores max_new_tokens, has no forward pass and wants a speaker "
        "even for text; the thinker's class loads from the same checkpoint.",
        "The stock processor cuts audio at 300 s (truncation defaults to True) and pads every clip to "
        "300 s; here nothing is cut, and little is padded.",
    ),
)
