"""The choices of a question, prepared for reading: once, however many replies to it are read.

Beside its own words an option may be named "120" where all are so many "BPM", "hiphop" for "hip
hop", "yes" for "Yes, because …", and "none of these" for "None of the above". A leading article
does not matter, unless it belongs to a name or a quantity ("The Who", "A few").
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from mmaupro_ext.scoring.reading.normalise import ARTICLES, Token, content, plain, tokens

# Words that are an option in some questions and mean nothing in the middle of a sentence.
COMMON_WORDS = frozenset({"yes", "no", "true", "false", "none", "all", "both", "neither", "other"})
_QUANTITIES = frozenset({"few", "little", "lot", "bit", "couple", "while"})
# "None of the above" is the same option as "None of these options".
_OF_THESE = ("these", "those", "them", "above", "options", "choices", "these options",
             "these choices", "given options", "listed options")  # fmt: skip
_LEADING = frozenset({"because", "from", "in", "at", "on", "it", "they", "there", "to"})
_THESE = (
    r"(?:(?:of )?(?:these|those|them|above|\w+s)|of (?:these|those|given|listed|provided|above) \w+)"
    r"(?: (?:above|listed|given|mentioned|provided|here))?"
)
_NONE, _ALL = (re.compile(rf"{word} {_THESE}") for word in ("none", "all"))


@dataclass(frozen=True)
class Name:
    """A way to write an option: the forms of its words, and whether its article belongs to it."""

    forms: tuple[str, ...]
    index: int
    article: str = ""
    proper: bool = False
    common: bool = False
    bare: bool = False  # a number without the unit that all options share


@dataclass(frozen=True)
class Options:
    """The choices, prepared for reading."""

    texts: tuple[str, ...]
    forms: tuple[tuple[str, ...], ...]
    names: dict[str, tuple[Name, ...]]
    fixed: frozenset[int]  # options whose article belongs to them


@functools.lru_cache(maxsize=512)
def prepare(choices: tuple[str, ...]) -> Options:
    """Prepare choices for reading; letters that all of them carry ("A. Tea") are taken off."""
    texts = tuple(plain(text).strip() for text in _without_own_letters(choices))
    words = [tokens(text) for text in texts]
    names: list[Name] = []
    for index, (text, found) in enumerate(zip(texts, words, strict=True)):
        names += _names(index, text, found)
    names += _short_names(words)
    by_first: dict[str, list[Name]] = {}
    for name in sorted(names, key=lambda name: -len(name.forms)):
        by_first.setdefault(name.forms[0], []).append(name)
    forms = tuple(tuple(token.form for token in found) for found in words)
    return Options(
        texts,
        forms,
        {first: tuple(group) for first, group in by_first.items()},
        frozenset(name.index for name in names if name.article),
    )


def _without_own_letters(choices: tuple[str, ...]) -> tuple[str, ...]:
    """Take "A. ", "(B) " off the choices where all of them carry their own letter."""
    bare = []
    for i, choice in enumerate(choices[:26]):
        label = re.match(rf"\s*(?:{chr(65 + i)}[.):]|\({chr(65 + i)}\))\s+(?=\S)", choice)
        if not label:
            return choices
        bare.append(choice[label.end() :])
    return (*bare, *choices[26:])


def _names(index: int, text: str, found: list[Token]) -> list[Name]:
    forms = content(found)
    if not forms:
        return []
    first = found[0].form
    after = text[found[1].start : found[1].start + 1] if len(found) > 1 else ""
    title = all(text[token.start].isupper() for token in found[1:])
    proper = first == "the" and after.isupper() and title
    quantity = first in ARTICLES and forms[0] in _QUANTITIES
    name = Name(
        forms,
        index,
        first if proper or quantity else "",
        proper,
        forms[0] in COMMON_WORDS and len(forms) == 1,
    )
    names = [name]
    joined = "".join(forms)
    if 1 < len(forms) <= 3 and joined.isalpha():
        names.append(Name((joined,), index))
    if re.fullmatch(r"[b-g]♮ minor", " ".join(forms)):
        names.append(Name((forms[0][0] + "m",), index, proper=True))
    if forms[-1] == "only" and len(forms) > 1:
        names.append(Name(("only", *forms[:-1]), index))
    if forms[0] in _LEADING and len(forms) > 2 and not name.article:
        names.append(Name(forms[1:], index))
    head = re.match(r"(?:yes|no)(?=[,;:.] )|both(?= )|neither(?= )", text, re.IGNORECASE)
    if head:
        names.append(Name((head.group().lower(),), index, common=True))
    for word, every in (("none", _NONE), ("all", _ALL)):
        if every.fullmatch(" ".join(forms)):
            names.append(Name((word,), index, common=True))
            for start in (word, "neither") if word == "none" else (word,):
                names += [Name((start, "of", *rest.split()), index) for rest in _OF_THESE]
                names += [Name((start, rest), index) for rest in ("above", "these")]
    return names


def _short_names(words: list[list[Token]]) -> list[Name]:
    """Return what tells the options apart where all share a unit: "120" of "120 BPM"."""
    forms = [content(found) for found in words]
    numbers = [form[0].rstrip("%$€") if form else "" for form in forms]
    units = {
        (*form[1:], form[0][len(number) :])
        for form, number in zip(forms, numbers, strict=True)
        if form
    }
    all_numbers = all(re.fullmatch(r"-?\d+(?:\.\d+)?", number) for number in numbers)
    if len(forms) < 2 or len(units) != 1 or not all_numbers or units == {("",)}:
        return []
    return [Name((number,), index, bare=True) for index, number in enumerate(numbers)]
