"""The skeleton of a text: its words in small letters, with one sign in the place of each option.

Options that are coordinated ("B or C") become one sign, which then stands for all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mmaupro_ext.scoring.reading import grammar
from mmaupro_ext.scoring.reading.grammar import COMMON, LETTER, SET_OFF, TEXT
from mmaupro_ext.scoring.reading.mentions import Mention


@dataclass(frozen=True)
class Sentence:
    """A sentence of a skeleton."""

    start: int
    end: int
    mark: str  # what ends it

    @property
    def span(self) -> tuple[int, int]:
        """Return where the sentence stands."""
        return self.start, self.end


@dataclass(frozen=True)
class Group:
    """Mentions that are coordinated, at one place of the skeleton."""

    at: int
    mention: Mention
    words: str


def skeleton(text: str, found: list[Mention]) -> tuple[str, list[Group]]:
    """Return the text in small letters, with a sign for every group of mentions."""
    parts: list[str] = []
    groups: list[Group] = []
    position = length = 0
    for mention in found:
        between = text[position : mention.start]
        if groups and _linked(text, groups[-1].mention, mention, between):
            before = groups.pop().mention
            parts.pop()
            length -= 1
            mention = replace(
                before,
                end=mention.end,
                indexes=before.indexes | mention.indexes,
                common=before.common and mention.common,
            )
        else:
            parts.append(_spaced(between))
            length += len(parts[-1])
        groups.append(Group(length, mention, text[mention.start : mention.end]))
        parts.append(_sign(mention))
        length += 1
        position = mention.end
    parts.append(_spaced(text[position:]))
    return "".join(parts), groups


def _spaced(text: str) -> str:
    return re.sub(r"[^\S\n]+", " ", text).lower()


def _sign(mention: Mention) -> str:
    if mention.common:
        return COMMON
    if not mention.by_letter:
        return TEXT
    return SET_OFF if mention.set_off else LETTER


def _linked(text: str, first: Mention, second: Mention, between: str) -> bool:
    if len(between) > 40 or not grammar.LINK.fullmatch(_spaced(between)):
        return False
    if first.common != second.common:
        return False
    after = _spaced(text[second.end : second.end + 40])
    if second.common and between.strip() == "," and not grammar.ENDS.match(after.split(".")[0]):
        return False
    clause = between.strip() and "or" not in between.lower().split()
    return not (clause and grammar.NEW_CLAUSE.match(after))


def sentences(skeleton: str) -> list[Sentence]:
    """Cut a skeleton into sentences; a line break ends one too."""
    found: list[Sentence] = []
    start = 0
    for mark in grammar.SENTENCE_END.finditer(skeleton):
        before = max(start, mark.start() - 7)
        if grammar.NO_SENTENCE_END.search(skeleton, before, mark.start() + 1):
            continue
        if skeleton[start : mark.start()].strip():
            found.append(Sentence(start, mark.start(), mark.group()))
        elif found:
            found[-1] = replace(found[-1], mark=found[-1].mark + mark.group())
        start = mark.end()
    if skeleton[start:].strip():
        found.append(Sentence(start, len(skeleton), ""))
    return found
