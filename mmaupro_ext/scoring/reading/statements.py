"""What a plain text says of the options that it names: a small grammar over their mentions.

Each mention becomes one sign (X, below) in a skeleton of the text, and mentions that are
coordinated ("B or C") become one. What a sign does is read from the words of its own sentence on
its left and right:

    statement := lead-in* X end           "So, B."   "Wait, no: C"   "B, I think"
              |  formula fill X           "The answer is B"   "I would go with (B)"
              |  X verdict                "B is correct"   "B fits best"   "B it is"
              |  so fill X | not … but X  "…, so B"   "not A but B"
              |  X reason                 "B, because …", and "B: …" at the start of a reply
    claim     := it is X                  by letter a statement, by text a mere claim
    mention   := X                        anywhere else

A sign that is negated, compared with, asked about, supposed, or only considered for a moment is
rejected. The words are in `grammar`. Contexts are cut to a fixed length, so that the time is linear
in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import IntEnum

from mmaupro_ext.scoring.reading import grammar
from mmaupro_ext.scoring.reading.grammar import COMMON, LETTER, SET_OFF, TEXT
from mmaupro_ext.scoring.reading.mentions import Group, Mention, Sentence, sentences, skeleton

_LEFT, _RIGHT = 200, 120  # characters of context that are looked at
_ITEM = ("", ":", ".", ")", "-", "–", "—")
_ANY = re.compile(grammar.X)
_ANY_BUT_COMMON = re.compile(f"[{TEXT}{LETTER}{SET_OFF}]")


class Role(IntEnum):
    """What a sign does in its sentence, from the least to the most."""

    REJECTED = 0  # negated, compared with, asked about, supposed
    ASIDE = 1  # named beside what the sentence asserts
    HEDGED = 2  # "could be X"
    NAMED = 3  # named in a sentence that asserts something
    CLAIMED = 4  # "it is X", by text
    STATED = 5  # the answer


@dataclass(frozen=True)
class Sign:
    """One option, or several that are coordinated, and what the text says of it."""

    start: int
    end: int
    indexes: frozenset[int]
    by_letter: bool
    common: bool  # "yes" and the like
    role: Role
    sentence: int
    closed: bool  # whether something after it shows that the statement was over
    in_list: bool  # alone on its line
    enumerated: bool  # begins its sentence, as the items of a list do
    hedged: bool  # "maybe X"
    plain: bool  # a statement by its place, without words that say so


@dataclass(frozen=True)
class Reading:
    """The signs of a text, and what its sentences say without any."""

    signs: tuple[Sign, ...]
    sentences: int  # without "Sure!" and the like
    words: int
    finished: bool  # whether the last sentence ends with a full stop or the like
    declines: bool
    undecided: bool  # whether it declines to judge, not just to hear
    retracts: int  # the last sentence that takes back what stood before, or -1
    thinks_aloud: bool
    listed: bool  # whether options are listed line by line
    late: bool  # whether an option is named after the first sentence
    idiomatic: bool  # whether words of an idiom were passed over


def read(text: str, found: list[Mention]) -> Reading:
    """Read what a plain text says of its mentions.

    Parameters
    ----------
    text : str
        A reply as `normalise.plain` returns it.
    found : list of Mention
        The mentions of that very text.

    Returns
    -------
    Reading
        The signs in order, and what the sentences say without them.
    """
    idioms = {at for one in grammar.IDIOM.finditer(text) for at in range(*one.span())}
    kept = [one for one in found if one.start not in idioms or one.end - 1 not in idioms]
    bones, groups = skeleton(text, kept)
    found_sentences = sentences(bones)
    polite = [grammar.POLITE.match(bones, *one.span) is not None for one in found_sentences]
    retracts = [
        i for i, one in enumerate(found_sentences) if grammar.RETRACTS.match(bones, *one.span)
    ]
    signs, listed = _without_lists(_signs(bones, groups, found_sentences))
    # "Cannot be determined" declines nothing where it is an option.
    options = [one for one in kept if " " in text[one.start : one.end]]
    inside = {at for one in options for at in range(one.start, one.end)}
    refusals = [one.group() for one in grammar.REFUSES.finditer(text) if one.start() not in inside]
    first = polite.index(False) if False in polite else 0
    return Reading(
        signs=tuple(signs),
        sentences=polite.count(False),
        words=len(bones.split()),
        finished=bool(found_sentences and found_sentences[-1].mark.strip()),
        declines=bool(refusals),
        undecided=any(not grammar.HEARS.search(one) for one in refusals),
        retracts=retracts[-1] if retracts else -1,
        thinks_aloud=grammar.THINKS_ALOUD.match(bones) is not None,
        listed=listed,
        late=any(sign.sentence > first and sign.role > Role.REJECTED for sign in signs),
        idiomatic=len(kept) < len(found),
    )


# --- places --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """The surroundings of a sign in its sentence."""

    sign: str
    word: str  # what the sign stands for, in small letters
    left: str
    right: str
    mark: str
    sentence: int
    only: bool  # the sentence is the whole reply
    last: bool  # in the last sentence
    line: bool  # the sentence is a line of its own
    trails: bool  # in a last sentence without a full stop, after one that has it on the same line

    @property
    def letter(self) -> bool:
        return self.sign in (LETTER, SET_OFF)

    @property
    def wordlike(self) -> bool:
        """Whether this is "A" or "I", which are words as well as letters."""
        return self.word in ("a", "i")

    @property
    def led_in(self) -> bool:
        """Whether nothing but a lead-in stands before the sign."""
        return grammar.ALONE.search(self.left) is not None

    @property
    def alone(self) -> bool:
        """Whether the sign is all that its sentence says."""
        return self.led_in and grammar.ENDS.match(self.right) is not None

    @property
    def clause(self) -> str:
        """What stands in the same clause before the sign."""
        return _after_last(grammar.CLAUSE_END, self.left)


def _after_last(pattern: re.Pattern[str], text: str) -> str:
    ends = [end.end() for end in pattern.finditer(text)]
    return text[ends[-1] :] if ends else text


def _signs(bones: str, groups: list[Group], within: list[Sentence]) -> list[Sign]:
    signs: list[Sign] = []
    number = 0
    for group in groups:
        while number < len(within) - 1 and within[number].end <= group.at:
            number += 1
        sentence = within[number]
        before = within[number - 1].mark if number else "\n"
        last = number == len(within) - 1
        place = _Place(
            sign=bones[group.at],
            word=group.words.lower(),
            left=bones[max(sentence.start, group.at - _LEFT) : group.at],
            right=bones[group.at + 1 : min(sentence.end, group.at + 1 + _RIGHT)],
            mark=sentence.mark,
            sentence=number,
            only=len(within) == 1,
            last=last,
            line="\n" in before and (last or "\n" in sentence.mark),
            trails=last and number > 0 and not sentence.mark.strip() and "\n" not in before,
        )
        signs.append(_signified(place, group.mention))
    return signs


def _signified(place: _Place, mention: Mention) -> Sign:
    right = place.right.lstrip()
    worded = not place.led_in and (
        place.sign == SET_OFF or (right[:1] in (",", ";") and len(right) > 1)
    )
    bare = place.alone and place.sign == LETTER
    return Sign(
        mention.start,
        mention.end,
        mention.indexes,
        mention.by_letter,
        mention.common,
        role=_role(place),
        sentence=place.sentence,
        closed=not place.last
        or (bool(place.mark.strip()) and not bare)
        or grammar.REASONS.match(place.right) is not None
        or worded,
        in_list=place.alone
        and place.line
        and not re.search(r"\w", place.left.replace("option", "")),
        enumerated=not place.left.strip(" (\"'-") and (right + place.mark)[:1] in _ITEM,
        hedged=place.alone and grammar.MAYBE.search(place.left) is not None,
        plain=place.alone or (place.led_in and not grammar.VERDICT.match(place.right)),
    )


# --- roles ---------------------------------------------------------------------------------------


def _role(place: _Place) -> Role:
    left, right = place.left, place.right
    alone = place.alone
    if alone and place.trails and not _says_more(place):
        return Role.ASIDE if place.sign == TEXT else Role.REJECTED
    asked = "?" in place.mark and not (alone and place.only)
    if asked or _rejected(place):
        return Role.REJECTED
    if grammar.CONCEDES.search(place.clause):
        return Role.ASIDE
    if grammar.HEDGED_LEFT.search(left) or grammar.HEDGED_RIGHT.match(right):
        return Role.HEDGED
    if place.sign == TEXT and grammar.THEN.match(right):
        return Role.ASIDE
    if alone or _stated(place) or _opens(place):
        return Role.STATED
    if place.sign == COMMON:
        return Role.REJECTED
    if place.led_in and grammar.OPENS.match(right) and place.letter and grammar.WOULD.search(right):
        return Role.ASIDE
    if grammar.COPULA.search(left):
        return Role.CLAIMED
    if grammar.CONTRASTS.search(left) and not grammar.TIMES.search(left + right):
        return Role.CLAIMED
    if place.sign == LETTER or (place.sign == TEXT and grammar.OBJECT.match(right)):
        return Role.REJECTED
    return Role.NAMED


def _says_more(place: _Place) -> bool:
    """Whether "… fades. B" is more than the beginning of a sentence that was cut."""
    if grammar.FORMULA.search(place.left):
        return True
    bare = not place.wordlike and not place.left.strip(" \"'(-")
    return place.letter and (bare or not grammar.UNSAID.search(place.left))


def _rejected(place: _Place) -> bool:
    left, right, clause = place.left, place.right, place.clause
    if any(one.search(left) for one in (grammar.ALL_BUT, grammar.OVER, grammar.WRONG_ANSWER)):
        return True
    if grammar.CONDITION.match(left):
        return True
    if grammar.BOUNDS.search(left) and place.word[:1].isdigit():
        return True
    if any(
        one.match(right) for one in (grammar.RULED_OUT, grammar.COUNTERFACTUAL, grammar.ONLY_IF)
    ):
        return True
    since = _after_last(grammar.TURN, left)
    spoken = grammar.SPEAKS_OF.search(since)
    if spoken and not ("would" in spoken.group() and grammar.COPULA.search(left)):
        return True
    if grammar.RULING_OUT.search(left) and not grammar.SO.search(left):
        return True
    if grammar.NOT_BUT.search(left) or grammar.CHANGES_TO.search(left):
        return False
    if grammar.NEGATES.search(clause) or grammar.SUPPOSES.search(clause):
        return True
    return grammar.AT_FIRST.search(since) is not None and not grammar.CORRECTS.search(left)


def _stated(place: _Place) -> bool:
    """Whether words of the sentence say that the sign is the answer."""
    left, right, letter = place.left, place.right, place.letter
    ends = grammar.ENDS.match(right) is not None
    closes = grammar.AFTER.match(right) is not None or (
        ends if letter else grammar.CLOSES.match(right) is not None and not place.trails
    )

    def says(*patterns: re.Pattern[str]) -> bool:
        return any(pattern.search(left) for pattern in patterns)

    if says(grammar.FORMULA):
        return place.sign != COMMON or closes
    if grammar.VERDICT.match(right):
        return not (place.sign == LETTER and says(grammar.NOUN_BEFORE))
    if place.sign == COMMON and place.led_in and grammar.BOTH.match(right):
        return place.word in ("both", "neither")
    if says(grammar.NOT_BUT, grammar.CHANGES_TO):
        return True
    if ends and not place.trails and says(grammar.EQUALS, grammar.CONTRARY):
        return True
    if ends and (says(grammar.BUT) or (says(grammar.GIVES) and not says(grammar.GOES_THROUGH))):
        return True
    if closes and says(grammar.CHOOSES, grammar.SO, grammar.CORRECTS):
        return True
    if place.sign == COMMON:
        return closes and says(grammar.TRUTH)
    if not letter:
        return False
    if place.sign == SET_OFF and len(place.word) > 4 and closes and says(grammar.IS_X):
        return True
    named_before = _ANY.search(left) is not None
    return (
        says(grammar.POINTS)
        or (closes and says(grammar.DIRECT, grammar.COPULA))
        or (ends and not named_before and says(grammar.AFTER_COMMA))
        or (named_before and grammar.IS.match(right) is not None)
    )


def _opens(place: _Place) -> bool:
    """Whether the sign begins its sentence, and what follows explains it."""
    right = place.right
    if not place.led_in:
        return False
    if place.wordlike and right.lstrip()[:1] == ",":
        return grammar.BECAUSE.match(right) is not None
    if grammar.REASONS.match(right):
        return True
    if place.sign == COMMON and place.sentence == 0 and grammar.SURELY.match(right):
        return True
    common = place.sign == COMMON
    return (
        place.sentence == 0
        and grammar.OPENS.match(right) is not None
        and not (place.letter and grammar.WOULD.search(right))
        and (
            not (_ANY_BUT_COMMON if common else _ANY).search(right)
            or grammar.OTHERS_WRONG.search(right) is not None
        )
    )


# --- lists ---------------------------------------------------------------------------------------


def _without_lists(signs: list[Sign]) -> tuple[list[Sign], bool]:
    """Take their role from options that are gone through line by line, or item by item."""
    read = list(signs)
    listed = False
    run: list[int] = []
    for position, sign in enumerate([*signs, None]):
        follows = run and sign is not None and sign.sentence == signs[run[-1]].sentence + 1
        if sign is not None and sign.in_list and (not run or follows):
            run.append(position)
            continue
        named = [signs[i].indexes for i in run]
        if len(set(named)) > 1:
            # All options line by line, and one of them again: that one is the answer.
            again = named[-1] in named[:-1] and len(set(named[:-1])) == len(named) - 1 > 1
            listed = listed or not again
            for i in run[:-1] if again else run:
                read[i] = replace(read[i], role=Role.ASIDE)
        run = [position] if sign is not None and sign.in_list else []
    items = [i for i, sign in enumerate(read) if sign.enumerated and sign.by_letter]
    in_order = [read[i].indexes for i in items] == [frozenset({n}) for n in range(len(items))]
    for i in items if len(items) > 1 else ():
        if read[i].plain and (in_order or read[i].sentence == 0):
            read[i] = replace(read[i], role=min(read[i].role, Role.NAMED))
    return read, listed
