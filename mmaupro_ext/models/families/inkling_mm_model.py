"""Inkling (Thinking Machines 2026), as in `transformers.models.inkling`: it hears discrete mels."""

from __future__ import annotations

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

SAMPLES_PER_TOKEN = 800  # at 16 kHz: 50 ms
# A message has one kind of content: what follows another kind opens a message of its own.
NEXT_MESSAGE = "<|end_message|><|message_user|>"

INKLING_MM_MODEL = Family(
    model_types=("inkling_mm_model",),
    writing=Writing(
        audio_block="<|content_audio_input|><|unused_200053|><|audio_end|>",
        audio_token="<|unused_200053|>",
        count_tokens=each(lambda samples: -(-samples // SAMPLES_PER_TOKEN)),
        whole_s=None,
        block_label=f"<|content_text|>Audio {{number}}:{NEXT_MESSAGE}",
        block_end=NEXT_MESSAGE,
        block_sentence=f"{NEXT_MESSAGE}<|content_text|>{{sentence}}",
    ),
    loading=Loading(
        loader="InklingForConditionalGeneration",
        turn_end="<|content_model_end_sampling|>",
        padded_inputs={"audio_input_ids": 1, "audio_input_ids_mask": 1},
    ),
    notes=(
        "Mel energies are rounded to 16 levels and embedded; there is no encoder and no limit of "
        "length. Features that differ in the last bits give another level once in a million.",
        "The cache has layers without slots, so replies are written by generate().",
        "The chat template of the hub makes a message of every text, image and clip (tokenizer notes "
        "of the release, and vLLM's and TensorRT-LLM's renderers), so labels are messages, too; "
        "<|end_message|> ends each of them, also those of thoughts.",
    ),
)
