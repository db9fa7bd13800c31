"""What an engine made of the sounds of a prompt, against what they need.

vLLM writes the placeholders of sounds itself, and some of its processors cut a clip with no more than a
line in the log (those of Qwen2-Audio and Gemma 4 at 30 s). `vllm-audio` sees each sound's tokens,
`openai-audio` their sum, where a server counts them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.blocks import Placer
from mmaupro_ext.models.engines.chats import Sound
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.items import Question

# Each side rounds once where it turns samples into tokens.
ROUNDING = 1
_WINDOWS = "Choose long_audio=windows, or leave whole_s and long_audio out."


def most_media(placer: Placer, questions: Sequence[Question]) -> dict[str, int]:
    """Return how many sounds and images the prompts of some questions have at most.

    By the stated lengths of clips: nothing is decoded.
    """
    return {
        "audio": max((len(placer.planned_blocks(question)) for question in questions), default=0),
        "image": max((len(q.media.get("visual", ())) for q in questions), default=0),
    }


def check_heard(
    family: Family | None, sounds: Sequence[Sound], placed: Sequence[int]
) -> int | None:
    """Return the number of audio tokens of a prompt, once it is known to be enough.

    Parameters
    ----------
    family : Family or None
        Of the model; None where it is not described here, so that what a sound needs is not known.
    sounds : sequence of Sound
        What vLLM was given, in order.
    placed : sequence of int
        How many tokens vLLM set apart for each.

    Returns
    -------
    int or None
        None for a prompt without sounds.

    Raises
    ------
    ItemError
        When a sound has no tokens, or fewer than it needs.
    """
    if not sounds:
        return None
    if len(placed) != len(sounds):
        raise ItemError(
            f"vLLM placed {len(placed)} sounds of {len(sounds)}",
            fix="Leave --apply_chat_template out, or add it where it is missing: Voxtral's sounds are placed "
            "in chats alone.",
        )
    needed = _needed(family, sounds)
    for sound, found, wanted in zip(sounds, placed, needed, strict=True):
        seconds = sound.samples.shape[-1] / sound.sampling_rate
        if found < wanted - ROUNDING:
            raise ItemError(
                f"vLLM gave a sound of {seconds:.1f} s {found} tokens of the {wanted} that it needs: "
                "the rest was cut",
                fix=_WINDOWS,
            )
    return sum(placed)


def check_sum(
    family: Family | None, sounds: Sequence[Sound], usage: Mapping[str, Any]
) -> int | None:
    """Return how many audio tokens a server counted in a prompt, once they are known to be enough.

    Parameters
    ----------
    family : Family or None
        Of the model behind the server; None where that is not known by its name.
    sounds : sequence of Sound
        What was sent.
    usage : mapping
        Of the answer. `vllm serve --enable-prompt-tokens-details` counts each modality, OpenAI's servers
        `audio_tokens`; others give neither, or fill in 0.

    Returns
    -------
    int or None
        None for a prompt without sounds, and where the server does not say.

    Raises
    ------
    ItemError
        When there are fewer than the sounds need, or one is longer than the model hears.
    """
    details = usage.get("prompt_tokens_details")
    if not sounds or not isinstance(details, Mapping):
        return None
    by_kind = details.get("multimodal_tokens")
    found = (by_kind if isinstance(by_kind, Mapping) else {}).get("audio")
    found = found or details.get("audio_tokens")
    if not isinstance(found, int) or found < 1:
        return None
    needed = _needed(family, sounds)
    if found < sum(needed) - ROUNDING * len(sounds):
        seconds = sum(sound.samples.shape[-1] / sound.sampling_rate for sound in sounds)
        raise ItemError(
            f"the server gave {len(sounds)} sounds of {seconds:.1f} s in all {found} tokens of the "
            f"{sum(needed)} that they need: the rest was cut",
            fix=_WINDOWS,
        )
    return found


def _needed(family: Family | None, sounds: Sequence[Sound]) -> list[int]:
    """Return how many tokens each sound needs, or raise of one that is longer than the model hears."""
    if family is None or not family.writing.exact_count:
        return [1 + ROUNDING] * len(sounds)
    longest_s, rate = family.writing.whole_s or math.inf, family.writing.sampling_rate
    for sound in sounds:
        if (seconds := sound.samples.shape[-1] / sound.sampling_rate) > longest_s:
            raise ItemError(
                f"the model hears {longest_s:g} s at once, and was given {seconds:.1f} s",
                fix=_WINDOWS,
            )
    lengths = [sound.samples.shape[-1] * rate // sound.sampling_rate for sound in sounds]
    return list(family.writing.count_tokens(lengths))
