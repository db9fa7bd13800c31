"""The rules by which the released scorers of MMAU, MMAR and MMSU find right replies, quirks included.

Pure functions on one reply. They say what the rule does and why, so that a number which rests on a quirk can
be looked into. `tools/compare_released.py` holds them to the released scripts.

* MMAU (evaluation.py of 2026-02-09) and MMAR (code/evaluation.py of 2026-02-26): the same function, on sets
  of words.
* MMSU (mmsu_evaluation.py of 2026-02-12): the first character, else the second-last, else no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORDS = re.compile(r"\b\w+\b")
_LETTERS = "ABCD"


@dataclass(frozen=True)
class Ruling:
    """What a released rule makes of a reply.

    Attributes
    ----------
    right : bool or None
        None: the released scorer leaves the item out of its denominator.
    why : str
        In a clause.
    index : int or None
        Position of the choice that the rule takes the reply to name, where it takes one.
    """

    right: bool | None
    why: str
    index: int | None = None


def words(text: str) -> frozenset[str]:
    """Return the different words of a text in lower case, as runs of letters, digits and underscores."""
    return frozenset(_WORDS.findall(text.lower()))


def token_sets(answer: str, reply: str, choices: Sequence[str]) -> Ruling:
    """Judge a reply as MMAU and MMAR do: by the words that it has and has not.

    Parameters
    ----------
    answer : str
        The reference answer, as the scorer is given it.
    reply : str
        Raw.
    choices : sequence of str
        As the scorer is given them: with "(A) " before each or without.

    Returns
    -------
    Ruling
        Right where every word of the answer is in the reply, and no word that only choices with other words
        have.

    Examples
    --------
    >>> token_sets("Woman", "It is a woman, not a man", ["Man", "Woman"]).why
    'has words of wrong choices: man'
    """
    said, wanted = words(reply), words(answer)
    if not said:
        return Ruling(False, "has no words")
    others = frozenset().union(*map(words, choices)) - wanted
    faults = [
        f"{name}: {', '.join(sorted(found))}"
        for name, found in (
            ("lacks words of the answer", wanted - said),
            ("has words of wrong choices", said & others),
        )
        if found
    ]
    if faults:
        return Ruling(False, "; ".join(faults))
    return Ruling(True, "has every word of the answer, and none that only wrong choices have")


def lettered(choices: Sequence[str]) -> list[str]:
    """Return choices as the parquet of MMAU writes them: "(A) tea"."""
    return [f"({chr(ord('A') + i)}) {choice}" for i, choice in enumerate(choices)]


def lettered_token_sets(answer: str, reply: str, choices: Sequence[str]) -> Ruling:
    """Judge a reply as `token_sets` does where it is given the texts of MMAU's parquet, letters and all.

    Parameters
    ----------
    answer, reply, choices
        As for `token_sets`, without letters.

    Returns
    -------
    Ruling
    """
    texts = lettered(choices)
    gold = texts[list(choices).index(answer)] if answer in choices else answer
    return token_sets(gold, reply, texts)


def first_letter(answer: str, reply: str, choices: Sequence[str]) -> Ruling:
    """Judge a reply as MMSU does: by its first character, else by its second-last.

    Parameters
    ----------
    answer : str
        Text of the reference answer.
    reply : str
        Raw.
    choices : sequence of str
        In the order of their letters; "" where a letter has no choice.

    Returns
    -------
    Ruling
        `right` is None where neither character is a capital letter from A to D, unless the reply is empty or
        "None": these are wrong.
    """
    text = reply.strip().replace("\n", "")
    if text in ("", "None"):
        return Ruling(False, "is empty" if not text else 'is "None"')
    for position, name in ((0, "first"), (-2, "second-last")):
        if len(text) >= max(1, -position) and text[position] in _LETTERS:
            index = _LETTERS.index(text[position])
            chosen = choices[index] if index < len(choices) else ""
            why = f"its {name} character is {text[position]}"
            return Ruling(chosen == answer, why, index if chosen else None)
    return Ruling(None, "neither its first nor its second-last character is A, B, C or D: dropped")


RULES = {
    "token-sets": token_sets,
    "lettered-token-sets": lettered_token_sets,
    "first-letter": first_letter,
}
"""Value of the option `closed` -> (answer, reply, choices) -> `Ruling`."""
