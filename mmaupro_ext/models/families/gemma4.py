"""Gemma 4 (Google 2026): the sizes with an audio encoder, and the one without any encoder."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

HOP_LENGTH = 160  # samples at 16 kHz
SAMPLES_PER_TOKEN = 640  # at 16 kHz, where samples are embedded without an encoder


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes that the encoder hears.

    A mel frame counts if its last sample is audio, which leaves out one hop; two convolutions of
    stride 2 make one token of four frames: 25 tokens a second.

    Parameters
    ----------
    samples : int
        Length of the block at 16 kHz; at most 30 s.

    Returns
    -------
    int
        Number of `<|audio|>` tokens.
    """
    frames = -(-samples // HOP_LENGTH) - 1
    return max(0, -(-frames // 4))


GEMMA4 = Family(
    model_types=("gemma4",),
    writing=Writing(
        audio_block="<|audio|>",
        audio_token="<|audio|>",
        count_tokens=each(audio_tokens),
        whole_s=30.0,
        window_s=30.0,
        min_samples=2 * HOP_LENGTH,
    ),
    loading=Loading(
        loader="Gemma4ForConditionalGeneration",
        padded_inputs={"input_features": 1, "input_features_mask": 1},
    ),
    notes=(
        "The stock extractor cuts every clip at 30 s without a word (max_length defaults to 480000 "
        "and truncation to True); hf-audio sends longer clips as consecutive blocks.",
        "The chat template of the hub writes the bare audio token, strips the text around it and "
        "begins with <bos> (seen in public copies of it, such as those in GGUF conversions); the "
        "processor puts the begin and end of audio around the tokens.",
        "Only the checkpoints with an audio_config hear (E2B and E4B).",
    ),
)

GEMMA4_UNIFIED = Family(
    model_types=("gemma4_unified",),
    writing=Writing(
        audio_block="<|audio|>",
        audio_token="<|audio|>",
        count_tokens=each(lambda samples: -(-samples // SAMPLES_PER_TOKEN)),
        whole_s=None,
    ),
    loading=Loading(
        loader="Gemma4UnifiedForConditionalGeneration",
        padded_inputs={"input_features": 1, "input_features_mask": 1},
    ),
    notes=("Samples are embedded without an encoder, 40 ms a token, and nothing is cut.",),
)
