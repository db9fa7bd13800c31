"""What vLLM made of the sounds of a prompt, against what they need.

vLLM writes the placeholders of sounds itself, and some of its processors cut a clip with no more than a
line in the log (those of Qwen2-Audio and Gemma 4 at 30 s).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.blocks import Placer
from mmaupro_ext.models.engines.chats import Sound
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.items import Question

# Each side rounds once where it turns samples into tokens.
ROUNDING = 1


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
            fix="Without --apply_chat_template, or with another template, all may be placed.",
        )
    needed, longest_s = [1 + ROUNDING] * len(sounds), math.inf
    if family is not None and family.writing.exact_count:
        rate = family.writing.sampling_rate
        lengths = [s.samples.shape[-1] * rate // s.sampling_rate for s in sounds]
        needed = list(family.writing.count_tokens(lengths))
        longest_s = family.writing.whole_s or math.inf
    for sound, found, wanted in zip(sounds, placed, needed, strict=True):
        seconds = sound.samples.shape[-1] / sound.sampling_rate
        if seconds > longest_s:
            raise ItemError(
                f"the model hears {longest_s:g} s at once, and was given {seconds:.1f} s",
                fix="Choose long_audio=windows, or leave whole_s and long_audio out.",
            )
        if found < wanted - ROUNDING:
            raise ItemError(
                f"vLLM gave a sound of {seconds:.1f} s {found} tokens of the {wanted} that it needs: "
                "the rest was cut",
                fix="Choose long_audio=windows, or leave whole_s and long_audio out.",
            )
    return sum(placed)
