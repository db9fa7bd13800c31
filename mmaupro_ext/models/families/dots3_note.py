"""dots3-note (dots-studio 2026), as in `transformers.models.dots3_note`."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

HOP_LENGTH = 160  # samples at 16 kHz
SAMPLES_PER_TOKEN = 8 * HOP_LENGTH
CHUNK = 960_000  # samples: the encoder hears 60 s at a time


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes: those of all its chunks, 12.5 a second."""
    chunks, rest = divmod(samples, CHUNK)
    return chunks * CHUNK // SAMPLES_PER_TOKEN + -(-rest // SAMPLES_PER_TOKEN)


DOTS3_NOTE = Family(
    model_types=("dots3_note",),
    writing=Writing(
        audio_block="<|audio_comp_start|><|audio_comp_pad|><|audio_comp_end|>",
        audio_token="<|audio_comp_pad|>",
        count_tokens=each(audio_tokens),
        whole_s=None,
        window_s=60.0,
        min_samples=HOP_LENGTH,
    ),
    loading=Loading(
        loader="Dots3NoteForConditionalGeneration",
        padded_inputs={"input_features": 2},
    ),
    notes=(
        "A clip of any length is heard in chunks of 60 s behind one placeholder, each with its own "
        "largest energy; whole hops of 10 ms only reach the encoder.",
        "The cache has layers without slots, so replies are written by generate(), which encodes the clip of "
        "every question; log-likelihoods share it.",
        "The block is what the servers with this model write for a clip (its vLLM plug-in).",
    ),
)
