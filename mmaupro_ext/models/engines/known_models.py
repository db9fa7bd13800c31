"""How many seconds of audio the models behind servers take at once, by name, and where that is said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmaupro_ext.models.families.audioflamingo3 import AUDIOFLAMINGO3
from mmaupro_ext.models.families.family import Family
from mmaupro_ext.models.families.gemma3n import GEMMA3N
from mmaupro_ext.models.families.musicflamingo import MUSICFLAMINGO
from mmaupro_ext.models.families.qwen2_5_omni import QWEN2_5_OMNI
from mmaupro_ext.models.families.qwen2_audio import QWEN2_AUDIO
from mmaupro_ext.models.families.qwen3_omni_moe import QWEN3_OMNI_MOE
from mmaupro_ext.models.families.voxtral import VOXTRAL


@dataclass(frozen=True)
class KnownModel:
    """What is public of models with a certain name.

    Parameters
    ----------
    pattern : str
        Regular expression for the name, in lower case, anywhere in it.
    whole_s : float
        The longest clip that they take whole, in seconds.
    source : str
        Where their makers say so.
    family : Family, optional
        What is described here of them.
    """

    pattern: str
    whole_s: float
    source: str
    family: Family | None = None


def _of(family: Family) -> float:
    return family.writing.whole_s or 0.0


# The first that matches counts.
KNOWN_MODELS = (
    KnownModel("gemini", 9.5 * 3600, "https://ai.google.dev/gemini-api/docs/audio"),
    KnownModel(
        "gpt-(4o-)?(mini-)?audio",
        600.0,  # files of 20 MB at most: 625 s of 16-bit WAV at 16 kHz
        "https://learn.microsoft.com/azure/ai-services/openai/audio-completions-quickstart",
    ),
    KnownModel(r"qwen3\.5-omni", 36000.0, "arXiv:2604.15804, abstract"),
    KnownModel("qwen3-omni", 2400.0, "arXiv:2509.17765, section 1", QWEN3_OMNI_MOE),
    KnownModel(
        r"qwen2\.5-omni",
        300.0,
        "https://huggingface.co/Qwen/Qwen2.5-Omni-7B/blob/main/preprocessor_config.json",
        QWEN2_5_OMNI,
    ),
    KnownModel(
        "voxtral-(mini-3b|small)",
        2400.0,
        "https://huggingface.co/docs/transformers/model_doc/voxtral",
        VOXTRAL,
    ),
    KnownModel(
        "qwen2-audio",
        _of(QWEN2_AUDIO),
        "https://huggingface.co/Qwen/Qwen2-Audio-7B-Instruct",
        QWEN2_AUDIO,
    ),
    KnownModel(
        "audio-flamingo-3",
        _of(AUDIOFLAMINGO3),
        "https://huggingface.co/docs/transformers/model_doc/audioflamingo3",
        AUDIOFLAMINGO3,
    ),
    KnownModel(
        "music-flamingo",
        _of(MUSICFLAMINGO),
        "https://huggingface.co/docs/transformers/model_doc/musicflamingo",
        MUSICFLAMINGO,
    ),
    KnownModel(
        "gemma-?3n", _of(GEMMA3N), "https://ai.google.dev/gemma/docs/capabilities/audio", GEMMA3N
    ),
)


def known_model(name: str) -> KnownModel | None:
    """Return what is public of a model, None where its name is none of those known."""
    low = name.lower()
    return next((entry for entry in KNOWN_MODELS if re.search(entry.pattern, low)), None)
