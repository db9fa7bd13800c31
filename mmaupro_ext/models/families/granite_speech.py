"""Granite Speech and Granite Speech Plus (Saon et al. 2025, arXiv:2505.08699)."""

from __future__ import annotations

import dataclasses
from typing import Any

from mmaupro_ext.models.families import adapters
from mmaupro_ext.models.families.family import Family, Loading, Writing, each

HOP_LENGTH = 160  # samples at 16 kHz
STACKED = 2  # mel frames in one of the encoder
SHORTEST = 257  # samples: what the spectrogram mirrors at the ends of a clip, and one
# The projector makes 3 tokens of each started block of 15 encoder frames (20 ms each).
FRAMES_PER_BLOCK = 15
TOKENS_PER_BLOCK = 3

OWN = "speech"  # the name under which hf-audio loads a checkpoint's adapter

WITHOUT_ADAPTER = (
    "the LoRA of this Granite Speech checkpoint is not in use, because peft is missing or its files "
    "are: answers on audio are worse than the model's, text is not affected (pip install peft)"
)


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block of so many samples at 16 kHz takes: 10 a second."""
    frames = (samples // HOP_LENGTH + 1) // STACKED
    return TOKENS_PER_BLOCK * -(-frames // FRAMES_PER_BLOCK)


def check_adapter(model: Any) -> str | None:
    """Say what is lost without the checkpoint's adapter, if it should have one.

    Beside a user's adapter, keep `generate` from switching that one off with the checkpoint's own:
    `before_forward` switches.
    """
    base = adapters.base(model)
    if adapters.is_wrapped(model):
        base._hf_peft_config_loaded = False
    own = _own(model)
    return WITHOUT_ADAPTER if base.config.has_lora_adapter and not own else None


def switch_adapter(model: Any, kinds: frozenset[str]) -> None:
    """Let the checkpoint's adapter work for audio only, as the model card wants it."""
    own = _own(model)
    adapters.let_work(model, own if "audio" in kinds else (), own)


def _own(model: Any) -> set[str]:
    """Return the checkpoint's adapter; a model that was passed as an object may call it otherwise."""
    found = adapters.names(model)
    return found & {OWN} if adapters.is_wrapped(model) else found


GRANITE_SPEECH = Family(
    model_types=("granite_speech",),
    writing=Writing(
        audio_block="<|audio|>",
        audio_token="<|audio|>",
        count_tokens=each(audio_tokens),
        whole_s=None,
        min_samples=SHORTEST,
    ),
    loading=Loading(
        loader="GraniteSpeechForConditionalGeneration",
        extractor="audio_processor",
        template_content="text",
        load_options={"adapter_name": OWN},
        adapt_model=check_adapter,
        before_forward=switch_adapter,
    ),
    notes=(
        "The hub's chat templates join strings: a message is a text with <|audio|> in it (vLLM's "
        "tests/models/multimodal/generation/test_granite_speech.py has such a prompt).",
        "The stock extractor needs torchaudio; the native one does not.",
        "The checkpoint's LoRA needs peft; without it answers on audio are worse, and the results say so.",
        "generate() switches the adapter on for audio and off for text (modeling_granite_speech.py), "
        "forward() leaves it as it is; here both get it right.",
        "Several clips of one prompt are padded to the longest and encoded without a mask, as the "
        "model does it: a short clip beside a long one is not encoded as it is alone.",
    ),
)

GRANITE_SPEECH_PLUS = dataclasses.replace(
    GRANITE_SPEECH,
    model_types=("granite_speech_plus",),
    loading=dataclasses.replace(
        GRANITE_SPEECH.loading, loader="GraniteSpeechPlusForConditionalGeneration"
    ),
    notes=(
        "As Granite Speech; the projector hears several layers of the encoder.",
        *GRANITE_SPEECH.notes,
    ),
)
