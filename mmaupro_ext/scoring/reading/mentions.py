"""Where a reply names options, by letter, by text, or by both, and its skeleton with a sign for each.

Text is compared word by word in the form that `normalise` gives, longest option first, whole words
only. Articles and forms of "to be" between the words of an option do not matter ("a dog is barking"
names "A dog barking"). A letter counts only where an option can stand, since "A" and "I" are words
too.

The skeleton is the text in small letters, with one sign in the place of each option. Options that are
coordinated ("B or C") become one sign, which then stands for all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mmaupro_ext.scoring.reading import grammar
from mmaupro_ext.scoring.reading.grammar import COMMON, LETTER, SET_OFF, TEXT
from mmaupro_ext.scoring.reading.normalise import ARTICLES, CJK, SKIPPED, UNITS, Token, tokens
from mmaupro_ext.scoring.reading.options import Name, Options

# Stands for a letter that no option has: it contradicts every text beside it.
NO_OPTION = -1


@dataclass(frozen=True)
class Mention:
    """One option named at one place; several where letter and text disagree or texts are equal."""

    start: int
    end: int
    indexes: frozenset[int]
    by_letter: bool
    set_off: bool = False
    common: bool = False


# --- mentions of texts ---------------------------------------------------------------------------


def _texts(text: str, words: list[Token], options: Options) -> list[Mention]:
    found: list[Mention] = []
    position = 0
    while position < len(words):
        mention, after = _text_at(text, words, position, options)
        if mention is None:
            position += 1
            continue
        found.append(mention)
        position = after
    return found


def _text_at(
    text: str, words: list[Token], position: int, options: Options
) -> tuple[Mention | None, int]:
    form = words[position].form
    best, after = 0, position
    named: list[Name] = []
    # "hip hop" for "hiphop": two words that are one in the options.
    after_word = words[position + 1] if position + 1 < len(words) else None
    pair = form + after_word.form if after_word else ""
    pair = pair if len(pair) > 4 and pair.isalpha() else ""
    for name in (*options.names.get(form, ()), *options.names.get(pair, ())):
        if name.forms[0] == pair and len(name.forms) == 1:
            end = position + 2
        else:
            end = _follow(words, position, name.forms)
        if end < best or end == position or not _allowed(text, words, position, end, name):
            continue
        named = [*named, name] if end == best else [name]
        best = after = end
    if not named:
        return None, position
    indexes = frozenset(name.index for name in named)
    common = all(name.common for name in named)
    first, after = _extended(text, words, position, after, options.forms[named[0].index])
    end = words[after - 1].end
    if text[end : end + 1] == "?" and options.texts[named[0].index].endswith("?"):
        end += 1
    return Mention(words[first].start, end, indexes, by_letter=False, common=common), after


def _extended(
    text: str, words: list[Token], first: int, after: int, forms: tuple[str, ...]
) -> tuple[int, int]:
    """Take in the article before an option, and small words with which its text begins or ends."""
    lead = next((i for i, form in enumerate(forms) if form not in SKIPPED), 0)
    trail = next((i for i, form in enumerate(reversed(forms)) if form not in SKIPPED), 0)
    if lead and [word.form for word in words[max(0, first - lead) : first]] == list(forms[:lead]):
        first -= lead
    elif first and words[first - 1].form in ARTICLES:
        first -= text[words[first - 1].end : words[first].start] == " "
    if trail and [word.form for word in words[after : after + trail]] == list(forms[-trail:]):
        after += trail
    return first, after


def _follow(words: list[Token], position: int, forms: tuple[str, ...]) -> int:
    """Return the position after `forms`, found from `position` on, or `position`."""
    at = position
    for form in forms:
        skipped = 0
        while at < len(words) and words[at].form != form and words[at].form in SKIPPED:
            at += 1
            skipped += 1
            if skipped > 2 or at == position + 1 == skipped:
                return position
        if at == len(words) or words[at].form != form:
            return position
        at += 1
    return at


_IDEOGRAPH = re.compile(rf"[{CJK}]")
_GLUED_BEFORE = re.compile(rf"(?:[^\W_{CJK}]|[^\W_]['-])$")
_GLUED_AFTER = re.compile(rf"[^\W_{CJK}]|['-][^\W_]|[#♯♭+]|[.,/:]\d")


def _allowed(text: str, words: list[Token], position: int, end: int, name: Name) -> bool:
    first, last = words[position], words[end - 1]
    begins = _IDEOGRAPH.match(text[first.start])
    if not begins and _GLUED_BEFORE.search(text, max(0, first.start - 2), first.start):
        return False
    if not _IDEOGRAPH.match(text[last.end - 1]) and _GLUED_AFTER.match(text, last.end):
        return False
    # A letter that is an option is looked for among the letters.
    if len(name.forms) == 1 and re.fullmatch(r"[A-Za-z]", name.forms[0]):
        return False
    if name.bare and end < len(words) and words[end].form in UNITS:
        return False
    if name.article:
        before = words[position - 1] if position else None
        if before is None or before.form.lower() != name.article:
            return False
    return not name.proper or text[first.start].isupper()


# --- mentions of letters -------------------------------------------------------------------------

_BRACKETED = re.compile(r"[(\[{<]\s*(?:option\s+)?([A-Za-z])\s*[)\]}>]", re.IGNORECASE)
_LETTER = re.compile(
    rf"(?<![^\W{CJK}])(?<![^\W_]['-])(?<!\w[.&])(?<![Nn]/)([A-Za-z])"
    rf"(?![^\W{CJK}])(?!['-]\w)(?![#♯♭+]|[.&]\w)"
)
# What may follow a letter in running text; anything else means that the letter was a word.
_AFTER_LETTER = re.compile(
    r"\s*(?:$|[\n.,;:!?()\[\]}\"'/&|<>=。，、；：！？）」]|[-–—]|"
    rf"[{CJK}]|है|[A-Z](?![^\W_]|['-]\w)|[~>≻]|"
    r"i\s+(?:think|guess|believe|suppose|would|'d)\b|"
    r"(?:because|since|as|is|isn't|was|and|or|but|for|due|given|which|where|not|rather|instead|"
    r"with|in|best|makes|must|should|appears|looks|probably|please|describes|"
    r"based|here|according|seems?|fits|matches|it|over|than|would|could|can't|cannot|can|may|might|to|"
    r"though|although|while|whereas|if|und|oder|ou|et|y|o|e|ist|es|est|sondern|sino|mais)\b)"
)
# A capital other than "A" and "I" is a letter, unless it belongs to a note or the like.
_AFTER_CAPITAL = re.compile(
    r"(?!\s*[-–—]\s*$)(?![ -](?:major|minor|maj|min|flat|sharp|note|chord|string|side|scale|key)\b)"
)
_NOTHING = re.compile(r"\s*\Z")
_BLANKS = re.compile(r"[^\S\n]+")
# "This suggests a" was cut; "a" and "the answer is a" were not.
_ANSWERS = re.compile(
    r"(?:^|\b(?:option|choice|answer|letter)(?:\s+is)?|[:=>])[\s\W]*$", re.IGNORECASE
)
_ARTICLE = re.compile(r"(?<![éè] )\ban?[^\S\n]$", re.IGNORECASE)
_LABELLED = re.compile(r"\b(?:option|choice|letter)\s$", re.IGNORECASE)
_SET_OFF = re.compile(r"\s*(?:$|[\n.)\]:\"'}<,;!?])")


def _letters(text: str, options: Options, texts: list[Mention]) -> list[Mention]:
    starts = {mention.start for mention in texts}
    taken = set()
    found = []
    for match in _BRACKETED.finditer(text):
        index = ord(match.group(1).upper()) - 65
        indexes = frozenset({index} if index < min(len(options.texts), 26) else ())
        if not indexes:
            indexes = _single(match.group(1), options)
        if indexes or match.group(1).isupper():
            taken.add(match.start(1))
            found.append(Mention(match.start(), match.end(), indexes, True, set_off=True))
    for match in _LETTER.finditer(text):
        letter, end = match.group(1), match.end()
        if match.start() in taken:
            continue
        blank = _BLANKS.match(text, end)
        labels = letter not in "AI" and letter.isupper() and blank and blank.end() in starts
        after = _AFTER_LETTER if letter in "AaI" else _AFTER_CAPITAL
        if not labels and not after.match(text, end):
            continue
        if (letter.islower() or letter == "I") and not _SET_OFF.match(text, end):
            continue
        if letter.islower() and text[match.start() - 1 : match.start()] == ",":
            continue
        if (
            letter in "ai"
            and _NOTHING.match(text, end)
            and not _ANSWERS.search(text, max(0, match.start() - 20), match.start())
        ):
            continue
        index = ord(letter.upper()) - 65
        indexes = frozenset({index} if index < min(len(options.texts), 26) else ())
        labelled = indexes and _LABELLED.search(text, max(0, match.start() - 9), match.start())
        single = frozenset() if labelled else _single(letter, options)
        if not single and _ARTICLE.search(text, max(0, match.start() - 4), match.start()):
            continue
        named = bool(single) and letter.isupper() and letter not in "AI"
        found.append(Mention(match.start(), end, indexes | single, True, set_off=named))
    return found


def _single(letter: str, options: Options) -> frozenset[int]:
    """Return the options whose text is this letter."""
    return frozenset(i for i, text in enumerate(options.texts) if text.upper() == letter.upper())


# --- both together -------------------------------------------------------------------------------

_LABEL_GAP = re.compile(
    r"[^\S\n]*[).\]:,\-–—\"'/=|>]*[^\S\n]*[(\[\"']*(?:option\s+)?", re.IGNORECASE
)
_LETTER_GAP = re.compile(r"[.):\]][^\S\n]+|[^\S\n]*\(")
_TEXT_GAP = re.compile(r"[\"']?[^\S\n]*(?:[-–—,:][^\S\n]*)?")
_CLOSED = re.compile(r"[)\]\"']*[^\S\n]*(?:[.,;:!?)\]。！？]|[-–—]\s|\n|$)")
_CLOSING = re.compile(r"[)\]]")


def mentions(text: str, options: Options) -> list[Mention]:
    """Return every option that a plain text names, in order; "B. Coffee" is one mention."""
    texts = _texts(text, tokens(text), options)
    inside = {at for mention in texts for at in range(mention.start, mention.end)}
    letters = [letter for letter in _letters(text, options, texts) if letter.start not in inside]
    merged: list[Mention] = []
    for mention in sorted([*texts, *letters], key=lambda mention: mention.start):
        joined = _joined(text, merged[-1], mention, options) if merged else None
        if joined is None:
            merged.append(mention)
        else:
            merged[-1] = joined
    return merged


def _joined(text: str, first: Mention, second: Mention, options: Options) -> Mention | None:
    """Read "B. Coffee", "(B) Coffee", "B (coffee)" or "Coffee (B)" as one mention."""
    gap = text[first.end : second.start]
    if len(gap) > 12 or first.by_letter and first.end - first.start > 12:
        return None
    if first.by_letter and not second.by_letter:
        label, named = first.indexes, second.indexes
        fits = _LABEL_GAP.fullmatch(gap) is not None
    elif first.by_letter and second.by_letter and second.end - second.start == 1:
        named = _single(text[second.start : second.end], options)
        label = first.indexes
        fits = bool(named) and (
            _LETTER_GAP.fullmatch(gap) is not None or (first.set_off and not gap.strip())
        )
    elif second.set_off and (
        not first.by_letter or _single(text[first.start : first.end], options)
    ):
        named = _single(text[first.start : first.end], options) or first.indexes
        label, fits = second.indexes, bool(_TEXT_GAP.fullmatch(gap))
    else:
        return None
    if not fits:
        return None
    indexes = label & named
    if not indexes:
        new_sentence = "." in gap and not _CLOSED.match(text, second.end)
        if new_sentence or ("," in gap and not label):
            return None
        indexes = (label or frozenset({NO_OPTION})) | named
    end = second.end
    if "(" in gap or "[" in gap:
        closing = _CLOSING.match(text, end)
        end = closing.end() if closing else end
    return Mention(first.start, end, indexes, by_letter=True, set_off=True)


# --- the skeleton ---------------------------------------------------------------------------------


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
