"""Families of audio models as data: one small module each, listed here."""

from __future__ import annotations

from mmaupro_ext.models.families.audioflamingo3 import AUDIOFLAMINGO3
from mmaupro_ext.models.families.dots3_note import DOTS3_NOTE
from mmaupro_ext.models.families.family import Family
from mmaupro_ext.models.families.gemma3n import GEMMA3N
from mmaupro_ext.models.families.gemma4 import GEMMA4, GEMMA4_UNIFIED
from mmaupro_ext.models.families.granite_speech import GRANITE_SPEECH, GRANITE_SPEECH_PLUS
from mmaupro_ext.models.families.inkling_mm_model import INKLING_MM_MODEL
from mmaupro_ext.models.families.muse_spark import MUSE_SPARK
from mmaupro_ext.models.families.musicflamingo import MUSICFLAMINGO
from mmaupro_ext.models.families.nemotron_h_omni import NEMOTRON_H_OMNI
from mmaupro_ext.models.families.phi4_multimodal import PHI4_MULTIMODAL
from mmaupro_ext.models.families.qwen2_5_omni import QWEN2_5_OMNI
from mmaupro_ext.models.families.qwen2_audio import QWEN2_AUDIO
from mmaupro_ext.models.families.qwen3_omni_moe import QWEN3_OMNI_MOE
from mmaupro_ext.models.families.voxtral import VOXTRAL

__all__ = ["ELSEWHERE", "FAMILIES", "REFUSED", "Family", "find_family"]

FAMILIES: dict[str, Family] = {
    model_type: family
    for family in (
        AUDIOFLAMINGO3,
        DOTS3_NOTE,
        GEMMA3N,
        GEMMA4,
        GEMMA4_UNIFIED,
        GRANITE_SPEECH,
        GRANITE_SPEECH_PLUS,
        INKLING_MM_MODEL,
        MUSE_SPARK,
        MUSICFLAMINGO,
        NEMOTRON_H_OMNI,
        PHI4_MULTIMODAL,
        QWEN2_5_OMNI,
        QWEN2_AUDIO,
        QWEN3_OMNI_MOE,
        VOXTRAL,
    )
    for model_type in family.model_types
}

# Types of models that take audio and text and cannot serve here, with the reason. What transformers
# itself lists as speech recognition is refused without being named here.
REFUSED: dict[str, str] = dict.fromkeys(
    (
        "fun_asr_nano",
        "glmasr",
        "kyutai_speech_to_text",
        "moss_transcribe_diarize",
        "nemo_speechlm",
        "qwen3_asr",
        "vibevoice_asr",
        "voxtral_realtime",
    ),
    "it transcribes speech and answers no questions",
)


# Types of models that answer questions about audio and whose code came with their checkpoints, for
# transformers 4: what hf-audio says of them.
ELSEWHERE: dict[str, str] = dict.fromkeys(
    ("minicpmo", "ultravox"),
    "transformers 5 has no class for it, and the code that comes with its checkpoints is for transformers 4",
)


def find_family(model_type: str | None) -> Family | None:
    """Return the family of a `config.model_type`, or None when it is not described."""
    return FAMILIES.get(model_type or "")
