"""Categories: their names, sizes, and how their replies are answered and scored; the twelve of MMAU-Pro.

At the bottom of the package, since rows (`data`), scores (`scoring`) and `benchmarks` share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["closed", "open", "instruction", "hidden"]

# The prompts letter the choices, so a closed row can have no more than there are letters.
CHOICE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Category:
    """One category of a benchmark: a leaf of its tasks.

    Parameters
    ----------
    slug : str
        The name used in task names.
    value : str
        The value that its documents carry.
    expected_count : int
        Rows of this category in the release (those of MMAU-Pro sum to 5,305); 0 where nobody states it.
    kind : {"closed", "open", "instruction", "hidden"}
        How replies are scored: by choice, by a judge, by rule; or by choice, but nobody knows the answer.
    """

    slug: str
    value: str
    expected_count: int
    kind: Kind


# Counts: NeMo's documented run per subset; the paper's average column is reproduced by them.
CATEGORIES: dict[str, Category] = {
    category.slug: category
    for category in (
        Category("sound", "sound", 1048, "closed"),
        Category("music", "music", 1418, "closed"),
        Category("speech", "speech", 891, "closed"),
        Category("sound_music", "sound_music", 50, "closed"),
        Category("music_speech", "music_speech", 46, "closed"),
        Category("sound_speech", "sound_speech", 88, "closed"),
        Category("sound_music_speech", "sound_music_speech", 7, "closed"),
        Category("spatial_audio", "spatial_audio", 325, "closed"),
        Category("voice_chat", "voice_chat", 290, "closed"),
        Category("multi", "multi", 430, "closed"),
        Category("open", "open", 625, "open"),
        Category("instruction_following", "instruction following", 87, "instruction"),
    )
}
CATEGORY_BY_VALUE: dict[str, Category] = {c.value: c for c in CATEGORIES.values()}
