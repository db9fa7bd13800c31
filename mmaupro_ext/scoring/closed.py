r"""Which option does a multiple-choice reply state? Strict reading: nothing is ever guessed.

Final statements and short replies are read; everything else is unparsed. The steps:

1. `scoring.final_answer` gives the part that answers: no thoughts, no tokens, no run-on.
2. The value of an answer key, where the answer is JSON, is read in place of the whole.
3. An answer that is the text of exactly one option, and nothing else, states it.
4. `mentions` finds the options that are named by letter or text, `statements` what is said of them.
   The last statement decides. It must name one option: "B. Tea" where B is coffee, "A or C" and a
   bare list of options are ambiguous, and so is a statement that a later "it is …" contradicts.
5. Without any statement, a short reply that declines nothing and names one option states that.
6. A reply of a few words that names none exactly may still be one option and no other: "Both" for
   "Both speakers", "It decreases" for "Decreasing".

A reply that was cut at its limit states only what it had stated before the cut, by step 4.

Odd choices: letters that the choices already carry ("A. Tea", "B. Coffee") are taken off. The
letters are A to Z whatever the number of choices; options beyond the 26th have only their text,
and a letter beyond the last option is no letter. Options that are the same after normalisation
cannot be told apart by text (ambiguous), but can by letter. Where options are single letters,
letter and text are both tried and must not contradict each other: with the choices C, A, G, E the
reply "A" is ambiguous, "G" is not. An option is never taken by its position nor by elimination.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.final import final_answer
from mmaupro_ext.scoring.reading.mentions import mentions
from mmaupro_ext.scoring.reading.normalise import ARTICLES, content, plain, stem, tokens
from mmaupro_ext.scoring.reading.options import Options, prepare
from mmaupro_ext.scoring.reading.statements import Reading, Role, Sign, read
from mmaupro_ext.util import require_choice

MODES = ("strict",)
STATUSES = ("letter", "text", "unparsed", "ambiguous", "empty", "errored")


@dataclass(frozen=True)
class Match:
    """What a reply states.

    Attributes
    ----------
    index : int or None
        Position of the option in the choices; None unless `status` is "letter" or "text".
    status : str
        "letter" or "text" (how the option was stated; "letter" when both were), or "unparsed",
        "ambiguous", "empty", "errored".
    evidence : str
        The part of the cleaned reply that decided; empty where nothing did.
    """

    index: int | None
    status: str
    evidence: str


_UNPARSED = Match(None, "unparsed", "")


def match(
    reply: str, choices: Sequence[str], mode: str = "strict", finish: str | None = None
) -> Match:
    r"""Read the option that a reply states.

    Parameters
    ----------
    reply : str
        The model's reply, raw.
    choices : sequence of str
        The options in the order in which they were lettered (first is A).
    mode : {"strict"}
        The rules of the module's docstring.
    finish : {"stop", "length", "error"} or None
        Why the reply ended, where it is known.

    Returns
    -------
    Match
        The option, or why there is none. Never a guess.

    Raises
    ------
    ScoringError
        When `reply` or a choice is not a string.
    ConfigError
        When `mode` does not exist.

    Examples
    --------
    >>> match("The answer is (B), because of the hiss.", ["Tea", "Coffee"])
    Match(index=1, status='letter', evidence='(B)')
    >>> match("B. Tea", ["Tea", "Coffee"]).status
    'ambiguous'
    """
    if mode not in MODES:
        require_choice("mode", mode, MODES)
    if not isinstance(reply, str):
        raise ScoringError(f"a reply must be a string, not {type(reply).__name__} ({reply!r})")
    if isinstance(choices, str) or not all(isinstance(choice, str) for choice in choices):
        raise ScoringError(f"choices must be a list of strings, not {choices!r}")
    error = parse_error(reply)
    if error is not None or finish == "error":
        return Match(None, "errored", (error or {}).get("problem") or "")
    answer = final_answer(reply, finish)
    if answer is None:
        return _UNPARSED
    options = prepare(tuple(choices))
    value = _json_value(answer)
    found = _read(answer if value is None else value, options, cut=finish == "length")
    if found is _UNPARSED and not any(character.isalnum() for character in _SHELL.sub("", reply)):
        return Match(None, "empty", "")
    return found


_SHELL = re.compile(r"</?think(?:ing)?>|^\s*```\w*", re.IGNORECASE)


def _read(answer: str, options: Options, cut: bool) -> Match:
    text = plain(answer)
    index = _exact(text, options)
    if index is not None and not (cut and not re.search(r"[.!?。\n]\s*\Z", text)):
        return Match(index, "text", text.strip())
    reading = read(text, mentions(text, options))
    stated = [sign for sign in reading.signs if sign.role == Role.STATED]
    over = [sign for sign in stated if sign.closed or not cut]
    if over:
        last = over[-1]
        if stated[-1].indexes != last.indexes:
            return _UNPARSED  # another answer was on its way when the reply was cut
        if reading.retracts > last.sentence or (last.common and last.plain and reading.undecided):
            return _UNPARSED  # "No, I cannot tell."
        for sign in reading.signs:
            later_claim = sign.role == Role.CLAIMED and sign.start > last.end
            if later_claim and not sign.indexes & last.indexes:
                return Match(None, "ambiguous", text[last.start : sign.end])
        if last.hedged and any(one.hedged and one.indexes != last.indexes for one in over):
            return Match(None, "ambiguous", text[over[0].start : last.end])  # "Maybe A. Maybe B."
        return _verdict(text, last)
    if cut or reading.declines:
        return _UNPARSED
    if reading.listed:
        return Match(None, "ambiguous", text.strip())
    if reading.sentences > 2 or reading.words > 60 or reading.thinks_aloud:
        return _UNPARSED
    if reading.sentences > 1 and (not reading.finished or reading.late):
        return _UNPARSED
    mentioned = _mentioned(text, reading, options)
    if mentioned is not None or reading.signs or reading.idiomatic or reading.sentences != 1:
        return mentioned or _UNPARSED
    index = _abridged(text, options)
    return _UNPARSED if index is None else Match(index, "text", text.strip())


def _verdict(text: str, sign: Sign) -> Match:
    evidence = text[sign.start : sign.end].strip()
    if not sign.indexes:
        return Match(None, "unparsed", evidence)
    if len(sign.indexes) != 1:
        return Match(None, "ambiguous", evidence)
    return Match(next(iter(sign.indexes)), "letter" if sign.by_letter else "text", evidence)


def _refined(signs: list[Sign], options: Options) -> list[Sign]:
    """Leave out "a piano" before "a grand piano" in one sentence."""

    def narrower(sign: Sign, later: Sign) -> bool:
        if sign.sentence != later.sentence or len(sign.indexes) != 1 or len(later.indexes) != 1:
            return False
        one, other = (set(options.forms[next(iter(s.indexes))]) for s in (sign, later))
        return one < other

    return [
        sign
        for i, sign in enumerate(signs)
        if not (i + 1 < len(signs) and narrower(sign, signs[i + 1]))
    ]


_BEFORE = re.compile(r"(\w+)\s+(and|or)\s+(?:an?\s+|the\s+)?$", re.IGNORECASE)
_AFTER = re.compile(r"\s+(or|and)\s+(?:an?\s+|the\s+)?(\w+)", re.IGNORECASE)


def _coordinated(text: str, sign: Sign, options: Options) -> bool:
    """Whether something else stands beside an option: "or" anything, "and" a word of another."""
    before = _BEFORE.search(text, max(0, sign.start - 40), sign.start)
    after = _AFTER.match(text, sign.end)
    beside = [(before[2], before[1])] if before else []
    beside += [(after[1], after[2])] if after else []
    others = {
        form for i, forms in enumerate(options.forms) if i not in sign.indexes for form in forms
    }
    return any(link.lower() == "or" or word.casefold() in others for link, word in beside)


def _mentioned(text: str, reading: Reading, options: Options) -> Match | None:
    """Read the one option that a short reply names, if it is the only one."""
    signs = _refined([sign for sign in reading.signs if sign.role > Role.REJECTED], options)
    if not any(sign.role >= Role.HEDGED for sign in signs):
        return None
    if any(_coordinated(text, sign, options) for sign in signs):
        return Match(None, "ambiguous", text.strip())
    last = signs[-1]
    if last.role <= Role.HEDGED and len({sign.indexes for sign in reading.signs}) > 1:
        return None
    named = [sign for sign in signs if sign.role >= Role.NAMED]
    claims = {sign.indexes for sign in named if sign.role == Role.CLAIMED}
    if len({sign.indexes for sign in signs}) == 1 or (
        last.role == Role.CLAIMED and len(claims) == 1
    ):
        return _verdict(text, last)
    distinct = dict.fromkeys(text[sign.start : sign.end].casefold() for sign in signs)
    return Match(None, "ambiguous", " … ".join(distinct))


# --- answers that are an option and nothing else: word for word, or shortened to a few words -----

_EDGE = " \t\r\n.,;:!\"'()[]{}<>–—、。"


def _stripped(text: str) -> str:
    """Take off the marks around an answer, but not the point of ".5"."""
    return text.lstrip(_EDGE.replace(".", "")).rstrip(_EDGE)


def _exact(text: str, options: Options) -> int | None:
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
_KEYS = ("major", "minor")
_DENIES = frozenset(
    {"no", "not", "non", "none", "never", "without", "neither", "nor", "cannot", "if", "whether"}
)


def _abridged(text: str, options: Options) -> int | None:
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
        own = [form for form in own if stem(form) not in _LIGHT and form not in _KEYS]
        return len(forms) < 4 and own == own_said and not _DENIES & set(forms)

    found = [
        i for i, forms in enumerate(named) if i not in options.fixed and forms and alike(i, forms)
    ]
    return found[0] if len(found) == 1 else None


# --- JSON ----------------------------------------------------------------------------------------

_PAIR = re.compile(
    r"""["'](\w[\w ]*)["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\]]*\]|[^,{}\]\n"'\[]+)"""
)
_ANSWER_KEY = re.compile(
    r"(?:(?:final|correct|selected|chosen|predicted|my|best)[_ ]?)?"
    r"(?:answer|choice|option|selection|prediction)(?:[_ ]?(?:letter|text|key|id|option|label))?",
    re.IGNORECASE,
)


def _json_value(answer: str) -> str | None:
    """Return what stands under the answer keys of a JSON object, or None where there is none."""
    if "{" not in answer:
        return None
    values = {
        pair[1].lower(): pair[2].strip(" \"'[]").replace('"', "")
        for pair in _PAIR.finditer(answer)
        if _ANSWER_KEY.fullmatch(pair[1])
    }
    return " and ".join(values.values()) if values else None
