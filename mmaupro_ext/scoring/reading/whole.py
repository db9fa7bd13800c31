"""Answers that are an option and nothing else: word for word, or shortened to a few words."""

from __future__ import annotations

import re
from collections import Counter

from mmaupro_ext.scoring.reading.normalise import ARTICLES, stem, tokens
from mmaupro_ext.scoring.reading.options import Options, content

_EDGE = " \t\r\n.,;:!\"'()[]{}<>–—、。"


def _stripped(text: str) -> str:
    """Take off the marks around an answer, but not the point of ".5"."""
    return text.lstrip(_EDGE.replace(".", "")).rstrip(_EDGE)


def exact(text: str, options: Options) -> int | None:
    """Return the one option whose text the whole answer is."""
    bare = " ".join(text.split()).casefold()
    if re.fullmatch(r"[\W_]*[^\W\d_][\W_]*", bare) and any(c.isalnum() for c in bare):
        return None  # a single letter may be meant as label or as text
    for same in (
        lambda option: option.casefold() == bare,
        lambda option: _stripped(option.casefold()) == _stripped(bare) != "",
    ):
        found = [i for i, option in enumerate(options.texts) if same(" ".join(option.split()))]
        if found:
            return found[0] if len(found) == 1 else None
    said = tuple(token.form for token in tokens(text))
    if not said or "?" in text:
        return None
    found = [i for i, forms in enumerate(options.forms) if _same(forms, said, i in options.fixed)]
    return found[0] if len(found) == 1 else None


def _same(forms: tuple[str, ...], said: tuple[str, ...], fixed: bool) -> bool:
    """Whether two texts are the same words; "only" may stand before or after the others."""
    if fixed and said[0] in ARTICLES and said[0] != forms[0]:
        return False
    named, spoken = content(forms), content(said)
    if "only" in named and "only" in spoken:
        named, spoken = (tuple(form for form in one if form != "only") for one in (named, spoken))
    return named == spoken


_LITTLE = frozenset(
    {"it", "this", "that", "these", "those", "they", "there", "he", "she", "i", "we", "you", "has",
     "have", "had", "do", "does", "did", "of", "in", "to", "and", "think", "hear", "can", "heard",
     "sound", "sounds", "just", "like", "so", "very", "answer", "one"}
)  # fmt: skip
# Words that add nothing to the word beside them: "constant" is "Remains constant".
_LIGHT = frozenset(
    {"remain", "stay", "becom", "get", "gett", "voic", "sound", "music", "song", "key", "styl",
     "genr", "ton", "tempo", "effect", "instrument", "speaker", "mood", "typ", "only", "occur",
     "happen"}
)  # fmt: skip
_MODES = ("major", "minor")
_DENIES = frozenset(
    {"no", "not", "non", "none", "never", "without", "neither", "nor", "cannot", "if", "whether"}
)


def abridged(text: str, options: Options) -> int | None:
    """Read a few words that are one option shortened, reordered or in another form of the verb."""
    words = tokens(text)
    if "?" in text or len(words) > 12 or _DENIES & {token.form for token in words}:
        return None
    said = [form for form in content(words) if form not in _LITTLE]
    own_said = [form for form in said if stem(form) not in _LIGHT] or said
    named = [content(forms) for forms in options.forms]
    counts = Counter(form for forms in named for form in set(forms))
    if not said or max(map(len, said)) < 2:
        return None
    stems = [stem(form) for form in said]

    def alike(index: int, forms: tuple[str, ...]) -> bool:
        if stems == [stem(form) for form in forms]:
            return True
        if len(forms) == 1:
            return len(forms[0]) > 4 and stem(forms[0]) in stems
        if len(forms) == 2 and sorted(stems) == sorted(map(stem, forms)):
            return True
        if options.texts[index].split()[-1][0].isupper():
            return False  # "New" is not "New York"
        own = [form for form in forms if counts[form] == 1 and form not in _LITTLE]
        own = [form for form in own if stem(form) not in _LIGHT and form not in _MODES]
        return len(forms) < 4 and own == own_said and not _DENIES & set(forms)

    found = [
        i for i, forms in enumerate(named) if i not in options.fixed and forms and alike(i, forms)
    ]
    return found[0] if len(found) == 1 else None
