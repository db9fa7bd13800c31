"""Muse Spark (Meta 2026), as in `transformers.models.muse_spark`: it hears 24 kHz samples."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

SAMPLES_PER_TOKEN = 1920  # at 24 kHz: 80 ms

MUSE_SPARK = Family(
    model_types=("muse_spark",),
    writing=Writing(
        audio_block="<|audio|>",
        audio_token="<|audio|>",
        count_tokens=each(lambda samples: -(-samples // SAMPLES_PER_TOKEN)),
        whole_s=None,
        sampling_rate=24_000,
    ),
    loading=Loading(
        loader="MuseSparkForConditionalGeneration",
        padded_inputs={"input_values": 1, "input_values_mask": 1},
    ),
    notes=(
        "The encoder works on samples, looks only back, and has no limit of length.",
        "The block is the processor's own placeholder; what the chat template of the hub writes "
        "around it was not to be seen.",
    ),
)
