"""Audio Flamingo 3 (Goel et al. 2025, arXiv:2507.08128)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any

import numpy as np

from mmaupro_ext.audio.decoding import Samples
from mmaupro_ext.models.families.family import Family, Loading, Writing, each
from mmaupro_ext.models.families.qwen2_audio import HOP_LENGTH, audio_tokens

WINDOW = 480_000  # samples at 16 kHz: the encoder hears 30 s at a time
LEAST = 3 * HOP_LENGTH  # samples of a window that has at least one token


def heard_samples(samples: int) -> int:
    """Return the length of a block of which every window has a token."""
    rest = samples % WINDOW
    return samples + LEAST - rest if 0 < rest < LEAST else samples


def count_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes: those of all its windows, 25 a second."""
    windows, rest = divmod(heard_samples(samples), WINDOW)
    return windows * audio_tokens(WINDOW) + (audio_tokens(rest) if rest else 0)


def encode(processor: Any, text: str, options: dict[str, Any]) -> Mapping[str, Any]:
    """Return the inputs of blocks whose last window is followed by up to 30 ms of silence.

    Without it the end of a block may be a window of 10 or 20 ms that has no token: Audio Flamingo
    does not hear it, and Music Flamingo stops or counts the time of the next clip wrongly.
    """
    if options.get("audio"):
        options["audio"] = [_followed_by_silence(block) for block in options["audio"]]
    return processor(text=[text], return_tensors="pt", **options)


def _followed_by_silence(block: Samples) -> Samples:
    return np.pad(block, (0, heard_samples(len(block)) - len(block)))


def take_several_clips(processor: Any) -> None:
    """Lift the processor's check that each text has exactly one audio."""
    from transformers import ProcessorMixin

    # In place: the processor is copied for other threads, and copies of it must take several, too.
    processor.validate_inputs = MethodType(ProcessorMixin.validate_inputs, processor)


SEVERAL_CLIPS = (
    "The stock processor refuses several audios in one text (`validate_inputs` in "
    "processing_audioflamingo3.py: 'must match 1:1'); the model has no such limit, and the check is "
    "lifted.",
    "The hub's chat template writes one <sound> before all text of a message, however many audio parts "
    "there are (written out in transformers' convert_audioflamingo3_to_hf.py); the template is given "
    "text with <sound> in place, so that number and order stand.",
    "A last window of fewer than three frames (30 ms) has no token; silence follows it up to three.",
)

AUDIOFLAMINGO3 = Family(
    model_types=("audioflamingo3",),
    writing=Writing(
        audio_block="<sound>",
        audio_token="<sound>",
        count_tokens=each(count_tokens),
        whole_s=600.0,
        min_samples=LEAST,
    ),
    loading=Loading(
        loader="AudioFlamingo3ForConditionalGeneration",
        processor_limit="max_audio_len",
        template_content="text",
        adapt_processor=take_several_clips,
        encode=encode,
    ),
    notes=(
        "The model cuts a clip into 30-s windows itself, up to max_audio_len (600 s); the stock "
        "processor drops what is longer with a warning, hf-audio sends longer clips as consecutive "
        "blocks of that length.",
        *SEVERAL_CLIPS,
    ),
)
