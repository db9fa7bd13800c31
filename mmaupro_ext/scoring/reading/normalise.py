r"""The form in which replies and options are compared.

`plain` takes markup off a reply; `tokens` cuts text into words whose `form` is the same however
the word is written: case and accents go, "three" is "3", "second" is "2nd", "B flat", "B-flat" and
"B♭" are one note, "1,000" is "1000", "$5" is "5 dollars", "120bpm" is "120 bpm".

Two words need care. "A" is a note in "A minor" and an article in "a minor key". "One" is a number,
but not in "the second one".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
SKIPPED = frozenset({"a", "an", "the", "is", "are", "was", "were", "be", "being", "been"})
ARTICLES = frozenset({"a", "an", "the"})

# --- markup --------------------------------------------------------------------------------------

_PLAIN = str.maketrans({"‘": "'", "’": "'", "−": "-", **dict.fromkeys("“”„«»", '"')})
_ANSWER_TAG = r"(?:final[_ ]?)?(?:answer|choice|option)"
_MARKUP = tuple(
    (re.compile(pattern, re.MULTILINE | re.IGNORECASE), put)
    for pattern, put in (
        (r"^[ \t]*```[^\n`]*$", ""),
        (r"\\(?:text\w*|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1"),
        (r"\\boxed\s*\{([^{}]*)\}", r" answer: \1. "),
        (rf"<{_ANSWER_TAG}>\s*([^<>]*?)\s*(?:</{_ANSWER_TAG}>|$)", r" answer: \1. "),
        (r"<([biups])>([^<>]*)</\1>", r"\2"),
        (r"~~[^~\n]*~~", ""),
        (r"</?[a-z]\w+>|\[/?(?:answer|end)\]", " "),
        (r"\b((?-i:[Oo]ption|[Cc]hoice|[Aa]nswer|[Oo]pt))[-_]?(?=(?-i:[A-Z])\b)", r"\1 "),
        (r"\$([^$\s]+)\$", r"\1"),
        (r"\\[()\[\]]", ""),
        (r"[*`]", ""),
        (r"(?<![^\W_])_+|_+(?![^\W_])", ""),
        (r"^[ \t]*(?:#{1,6}|[-+•>])[ \t]+", ""),
        (r"^[ \t]*\d{1,2}[.)][ \t]+(?=[(\[]?[A-Z][)\].:]?[ \t]*$)", ""),
    )
)
_NUMBERED = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+(?=[^\W\d_]{2})", re.MULTILINE)


def plain(text: str) -> str:
    """Return a reply without markdown, LaTeX, tags and emoji; boxes become "answer: …."."""
    text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    for pattern, put in _MARKUP:
        text = pattern.sub(put, text)
    if len(_NUMBERED.findall(text)) > 1:
        text = _NUMBERED.sub("", text)
    return "".join(" " if _is_picture(character) else character for character in text)


def _is_picture(character: str) -> bool:
    return (
        character > "\u00ff"
        and character not in "♭♮"
        and (
            unicodedata.category(character) in ("So", "Sk", "Cf", "Co", "Cs")
            or character in "\ufe0e\ufe0f\u20e3"  # the presentation of emoji and keycaps
        )
    )


# --- words ---------------------------------------------------------------------------------------

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth",
             "tenth")  # fmt: skip
_SAME = {
    **{word: str(value) for value, word in enumerate(_UNITS)},
    **{word: str(10 * value) for value, word in enumerate(_TENS, start=2)},
    **{word: f"{value}th" for value, word in enumerate(_ORDINALS, start=1)},
    **{"first": "1st", "second": "2nd", "third": "3rd", "&": "and"},
    **{"centre": "center", "colour": "color", "grey": "gray", "theatre": "theater"},
}
_AFTER_NUMBER = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "2nd"), "seconds"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "minutes"),
    **dict.fromkeys(("percent", "%"), "%"),
    **dict.fromkeys(("dollar", "dollars", "usd"), "$"),
    **dict.fromkeys(("euro", "euros", "eur"), "€"),
    **{"hertz": "hz", "decibel": "db", "decibels": "db", "times": "times"},
}
UNITS = frozenset({*_AFTER_NUMBER.values(), "hour", "hours", "ms", "khz", "bpm", "db"})
_NEGATIONS = {
    **{f"{verb}nt": verb for verb in ("is", "are", "was", "were", "do", "does", "did", "has", "have",
                                      "had", "could", "would", "should")},
    **{"cant": "can", "cannot": "can", "wont": "will"},
}  # fmt: skip
_TWENTIES = frozenset(str(10 * value) for value in range(2, 10))
_MODES = {"maj": "major", "min": "minor"}
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u065f\u0900-\u0903\u093a-\u0963\u0981-\u0dff\u0e31-\u0e4e"
)
_TOKEN = re.compile(
    rf"""
    (?<![^\W_])(?P<note>[A-Ga-g])
      (?P<sign>\ ?[#♯♭]|(?<=[A-G])b|(?<=[B-Gb-g])[-\ ](?:sharp|flat)
        |[-\ ](?:sharp|flat)(?=[-\ ](?:major|minor|maj|min)\b|[^\S\n]*(?:$|[.,;:!?)\n])))
      (?P<minor>m)?(?![\w#♯♭])
  | (?P<money>[$€£])?(?P<number>(?<!\w)-?\d+(?:[.,:/]\d+|[-–]\d+)*|(?<!\w)-?\.\d+)
      (?P<ordinal>(?:st|nd|rd|th)\b)?(?P<percent>\s?%)?
  | (?P<cjk>[{CJK}])
  | (?P<word>[^\W\d_{CJK}{_MARKS}][^\W_{CJK}]*(?:[{_MARKS}]+[^\W_{CJK}]*)*
      (?:'[^\W\d_]+)*(?:(?:\+{{1,2}}|°|[#♯♭])(?!\w))?)
  | (?P<other>&)
    """,
    re.VERBOSE,
)
_MODE = re.compile(r"[ -](?:major|minor|maj|min)\b", re.IGNORECASE)
_MODE_KEY = re.compile(
    r"[ -](?:major|minor)[ -]+(?!(?:is|was|because|since|and|or|not|would|fits|seems|it)\b)[^\W\d_]",
    re.IGNORECASE,
)
_LABEL_FOLLOWS = re.compile(r"-|\s*(?:$|[^\w\s'-]|(?:and|or|only|is|was|&)\b)", re.IGNORECASE)
_NOT_A_NUMBER = re.compile(
    r"\b(?:the(?:\s+[^\W\d_]+)?|this|that|which|no|any|some|every|each|other|1st|first|second|third|last|"
    r"right|wrong|correct|\w+est)\s+$",
    re.IGNORECASE,
)
_ONE_OF = re.compile(r"\s+(?:of|can|could|may|might|would|should|hears?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Token:
    """A word of a text: where it stands, and the form in which it is compared."""

    start: int
    end: int
    form: str


def tokens(text: str) -> list[Token]:
    """Cut text into words, numbers, notes and single CJK characters."""
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        form = _form(text, match)
        if form in _NEGATIONS:
            found.append(Token(match.start(), match.end(), _NEGATIONS[form]))
            form = "not"
        before = found[-1] if found else None
        if before is not None and text[before.end : match.start()] in ("", " ", "-"):
            joined = None
            if before.form[-1].isdigit() and form in _AFTER_NUMBER:
                form = _AFTER_NUMBER[form]
                joined = before.form + form if form in "%$€" else None
            elif before.form in _TWENTIES and form in "123456789":
                joined = str(int(before.form) + int(form))
            elif before.form[-1] in "#♭♮" and form in _MODES:
                form = _MODES[form]
            if joined is not None:
                found[-1] = Token(before.start, match.end(), joined)
                continue
        found.append(Token(match.start(), match.end(), form))
        if match["minor"]:
            found.append(Token(match.end() - 1, match.end(), "minor"))
    return found


def content(found: list[Token] | tuple[str, ...]) -> tuple[str, ...]:
    """Return the forms of words that carry meaning; all of them where none does."""
    forms = tuple(token.form if isinstance(token, Token) else token for token in found)
    return tuple(form for form in forms if form not in SKIPPED) or forms


def _form(text: str, match: re.Match[str]) -> str:
    if match["note"]:
        sharp = match["sign"].strip(" -").lower() in ("#", "♯", "sharp")
        return match["note"].lower() + ("#" if sharp else "♭")
    if match["number"]:
        return _number(match)
    raw = match.group()
    if len(raw) == 1 and raw in "ABCDEFGabcdefg" and _is_note(text, match.start(), match.end()):
        return raw.lower() + "♮"
    if raw in ("A", "a") and _is_label(text, match.start(), match.end()):
        return "A"
    folded = _without_accents(raw.casefold())
    if folded == "one" and (
        _NOT_A_NUMBER.search(text, max(0, match.start() - 20), match.start())
        or _ONE_OF.match(text, match.end())
    ):
        return folded
    folded = folded.removesuffix("'s").replace("♯", "#").replace("♭", "b").replace("'", "")
    return _SAME.get(folded, folded)


def _number(match: re.Match[str]) -> str:
    number = match["number"]
    if re.fullmatch(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        number = number.replace(",", "")
    if re.fullmatch(r"-?\d*\.\d+", number):
        whole, part = number.split(".")
        number = f"{whole or '0'}.{part}".replace("-.", "-0.")
    return number + (match["ordinal"] or "") + ("%" if match["percent"] else match["money"] or "")


def _is_note(text: str, start: int, end: int) -> bool:
    """Whether a lone letter names a note: "A minor" does, "a minor key" does not."""
    if not _MODE.match(text, end):
        return False
    if text[start] not in "Aa":
        return True
    opens = text[max(0, start - 3) : start].rstrip(" ")[-1:] in ("", ".", "!", "?", "\n")
    named = text[start] == "A" and (not opens or text[end + 1 : end + 2].isupper())
    return named or not _MODE_KEY.match(text, end)


def _is_label(text: str, start: int, end: int) -> bool:
    """Whether "A" is a label, as in "Speaker A": no word follows that an article could have."""
    if _LABEL_FOLLOWS.match(text, end):
        return True
    inside = text[max(0, start - 2) : start - 1].isalnum() and text[start - 1 : start] == " "
    return text[start] == "A" and inside and not text[end + 1 : end + 2].isupper()


def _without_accents(word: str) -> str:
    if word.isascii():
        return word
    apart = unicodedata.normalize("NFKD", word)
    return "".join(c for c in apart if not "\u0300" <= c <= "\u036f")


def stem(form: str) -> str:
    """Return a word without the endings of English verbs and plurals."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if form.endswith(ending) and len(form) - len(ending) >= 3 and form[-2:] != "ss":
            return form[: -len(ending)]
    return form
