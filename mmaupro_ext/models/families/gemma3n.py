"""Gemma 3n (Google 2025), as in `transformers.models.gemma3n`."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

TOKENS = 188  # of every block, whatever its length
SHORTEST = 640  # samples at 16 kHz: padded to a multiple of 128, they hold a frame of 513


GEMMA3N = Family(
    model_types=("gemma3n",),
    writing=Writing(
        audio_block="<audio_soft_token>",
        audio_token="<audio_soft_token>",
        count_tokens=each(lambda samples: TOKENS),
        whole_s=30.0,
        window_s=30.0,
        min_samples=SHORTEST,
    ),
    loading=Loading(
        loader="Gemma3nForConditionalGeneration",
        requires=(
            ("timm", "its vision tower is built even where nothing is seen"),
            ("torchvision", "timm needs it"),
        ),
    ),
    notes=(
        "The stock extractor cuts every clip at 30 s without a word (max_length defaults to 480000 "
        "and truncation to True); hf-audio sends longer clips as consecutive blocks.",
        "Every block takes 188 tokens; what is shorter than 30 s is filled up in the model.",
        "The encoder looks ahead into the padding of a block, so blocks of different length are not "
        "padded into one batch: those of 30 s share batches, shorter ones go alone.",
        "Of the steps of 40 ms that the encoder makes it keeps every fourth, and none of them looks "
        "far ahead: depending on its length, up to the last tenth of a second of a block reaches no "
        "token.",
        "The chat template of the hub writes the bare audio token, strips the text around it and "
        "begins with <bos> (seen in public copies of it); the processor "
        "puts the begin and end of audio around the tokens.",
    ),
)
