"""dots3-note (dots-studio 2026), as in `transformers.models.dots3_note`."""

from __future__ import annotations

from mmaupro_ext.features.dots3 import HOP_LENGTH, count_tokens
from mmaupro_ext.models.families.family import Family, each

DOTS3_NOTE = Family(
    model_types=("dots3_note",),
    loader="Dots3NoteForConditionalGeneration",
    audio_block="<|audio_comp_start|><|audio_comp_pad|><|audio_comp_end|>",
    audio_token="<|audio_comp_pad|>",
    count_tokens=each(count_tokens),
    whole_s=None,
    window_s=60.0,
    min_samples=HOP_LENGTH,
    padded_inputs={"input_features": 2},
    notes=(
        "A clip of any length is heard in chunks of 60 s behind one placeholder, each with its own "
        "largest energy; whole hops of 10 ms only reach the encoder.",
        "The block is what the servers with this model write for a clip (its vLLM plug-in).",
    ),
)
