"""Qwen3-Omni (Xu et al. 2025, arXiv:2509.17765): the thinker, which hears, sees and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext.models.families.family import Family, Loading, Writing

HOP_LENGTH = 160  # samples at 16 kHz
CHUNK = 100  # mel frames, one second, that the encoder's convolutions see at once
CHUNK_TOKENS = 13


def audio_tokens(lengths: Sequence[int]) -> list[int]:
    """Return how many audio tokens each block of a prompt takes.

    The extractor pads to the longest block of the call. Of that one it counts whole hops, of the
    others started ones. The encoder cuts the frames into seconds, and three convolutions of stride 2
    make 13 tokens of a whole second.

    Parameters
    ----------
    lengths : sequence of int
        Samples of each block at 16 kHz.

    Returns
    -------
    list of int
        Number of `<|audio_pad|>` tokens of each.
    """
    available = max(lengths, default=0) // HOP_LENGTH
    tokens = []
    for samples in lengths:
        chunks, rest = divmod(min(-(-samples // HOP_LENGTH), available), CHUNK)
        tokens.append(CHUNK_TOKENS * chunks + -(-rest // 8))
    return tokens


def holds_a_second(inputs: Mapping[str, Any]) -> bool:
    """Tell whether a prompt may be padded: its audio fills a chunk, or is encoded already."""
    features = inputs.get("input_features")
    return features is None or features.shape[2] >= CHUNK


QWEN3_OMNI_MOE = Family(
    model_types=("qwen3_omni_moe", "qwen3_omni_moe_thinker"),
    writing=Writing(
        audio_block="<|audio_start|><|audio_pad|><|audio_end|>",
        audio_token="<|audio_pad|>",
        count_tokens=audio_tokens,
        whole_s=None,
        min_samples=2 * HOP_LENGTH,
    ),
    loading=Loading(
        loader="Qwen3OmniMoeThinkerForConditionalGeneration",
        positions="mrope",
        padded_inputs={"input_features": 2, "feature_attention_mask": 1},
        padded_if=holds_a_second,
    ),
    notes=(
        "The class of the full model wants a speaker even for text and has no forward pass; the "
        "thinker's class loads from the same checkpoint.",
        "Only valid frames reach the encoder, cut into seconds that are filled up to the longest of "
        "them; what fills them moves the last token of a shorter one. Prompts of less than a second "
        "of audio are therefore not padded to the length of others.",
        "The block is what vLLM writes for a clip (qwen3_omni_moe_thinker.py).",
    ),
)
