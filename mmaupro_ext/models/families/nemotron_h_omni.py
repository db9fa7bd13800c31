"""Nemotron 3 Nano Omni (NVIDIA 2026), as in `transformers.models.nemotron_h_omni`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

HOP_LENGTH = 160  # samples at 16 kHz
FRAMES_PER_TOKEN = 8


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes.

    One mel frame more than whole hops, and three convolutions of stride 2: 12.5 tokens a second.

    Parameters
    ----------
    samples : int
        Length of the block at 16 kHz.

    Returns
    -------
    int
        Number of `<so_embedding>` tokens.
    """
    return -(-(1 + samples // HOP_LENGTH) // FRAMES_PER_TOKEN)


def has_no_masked_token(inputs: Mapping[str, Any]) -> bool:
    """Tell whether every token of a prompt's clips lies within the encoder's mask."""
    frames = inputs["input_features_mask"].sum(dim=1)
    return bool((frames % FRAMES_PER_TOKEN != 0).all())


def let_no_kernel_decide(model: Any) -> None:
    """Compute the audio encoder's attention step by step.

    The model reads a token whose row of attention is masked whole, by the lowest number of the dtype.
    Step by step, and on a CPU, such a row is the mean of all values; the fused kernels of a GPU give 0 (in
    float32 and bfloat16; half of that number is a mean there, too, so that it seems to overflow).
    """
    model.audio_tower.set_attn_implementation("eager")


NEMOTRON_H_OMNI = Family(
    model_types=("nemotron_h_omni",),
    writing=Writing(
        audio_block="<so_embedding>",
        audio_token="<so_embedding>",
        count_tokens=each(audio_tokens),
        whole_s=None,
        template_block_end="\n",
        min_samples=2 * HOP_LENGTH,
    ),
    loading=Loading(
        loader="NemotronH_Omni_Reasoning_V3",
        padded_inputs={"input_features": 1, "input_features_mask": 1},
        padded_if=has_no_masked_token,
        adapt_model=let_no_kernel_decide,
    ),
    notes=(
        "The chat template of the hub writes all images, then all clips, then all text of a message "
        "(seen in renderers written after it; TensorRT-LLM has the same placeholder); the processor "
        "puts <so_start> and <so_end> around the tokens.",
        "The model reads one token more than its encoder's mask holds where the frames fill whole "
        "tokens (clips of 2 s, 4 s, ...); what that token says depends on the padding of its call. "
        "Prompts with such a clip are therefore not padded to the length of others. It also depends on "
        "the attention kernel: with the fused ones of a GPU, 1 of 3 replies of a tiny model was that of a "
        "CPU and log-likelihoods were apart by 0.74; with eager attention in the audio encoder, 3 of 3 and "
        "7e-6 (one H100, float32). It is therefore always run so; ten minutes take 37 ms instead of 28.",
        "Continuations are scored on a copy of the prompt's state: Mamba layers cannot go back.",
    ),
)
