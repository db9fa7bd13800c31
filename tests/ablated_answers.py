"""Answers under ablations, as few as a profile of three categories needs."""

from __future__ import annotations

from collections.abc import Iterator

from mmaupro_ext.scoring.answers import Answer

# Right among four: in full, without audio, by the text backbone.
SCORES = {"sound": (4, 1, 2), "speech": (1, 3, 1), "instruction following": (2, 2, 2)}


def answers(
    conditions: tuple[str, ...] = ("full", "none", "text-backbone"),
    errored: frozenset = frozenset(),
) -> Iterator[Answer]:
    """Yield them; `errored` are pairs of item and condition."""
    for category, right in SCORES.items():
        for number in range(4):
            for condition, count in zip(conditions, right, strict=False):
                item = f"{category} {number}"
                served = (item, condition) not in errored
                picked = 0 if number < count else 1
                yield Answer(
                    item=item,
                    category=category,
                    clips=(f"{item}.wav",),
                    condition=condition,
                    correct=picked == 0 if served else None,
                    served=served,
                    picked=picked if served else None,
                    gold=0,
                    order=(0, 1, 2, 3),
                    lengths=(4, 4, 4, 9),
                )
