r"""The 27 format checks of MMAU-Pro's instruction-following questions, in two modes.

``official`` repeats the released evaluator bug for bug. ``strict`` checks what the instruction
asks for; an empty reply then never passes, numbers may arrive as strings or whole floats, kwargs
as a JSON string, and a needed argument that is missing is an error instead of a default.

What the two modes do differently, check by check:

=================================  =========================================================
identifier                         repaired in strict mode
=================================  =========================================================
Include Keywords                   whole words ("art" is not in "start"); split at any comma
Keyword Frequency                  keywords that begin or end with a sign ("C++") are found
Forbidden Words                    whole words ("ass" is not in "class"); split at any comma
Number Paragraphs                  a divider is ``***`` or ``* * *`` standing free, not part
                                   of ``***bold***``
Number Words (three)               a word has a letter or digit; "-" and "***" are not words
Number Sentences (three)           own splitter (`split_sentences`), no NLTK data needed
Postscript                         the marker as a word of its own ("tips" has no "P.S.")
Number Placeholder                 markdown links and blank brackets are not placeholders
Number Bullets                     ``-``, ``+`` and ``•`` are bullets too, ``* * *`` is not
Title                              ``<< >>`` is not a title, nor is one over several lines
Minimum Number Highlighted Section ``**bold**`` is one section, bullets are none
Multiple Sections                  text before the first heading is no section; the splitter
                                   is a whole word
Repeat Prompt                      white space and surrounding quotes do not matter
Two Responses                      exactly six asterisks; both parts have text
All Uppercase / All Lowercase      only that an empty or missing reply is no pass
All-capital Words (three)          at least two letters, so "I", "A" are not capital words;
                                   punctuation does not matter
Start Checker / End Checker        whole words in any script; surrounding white space,
                                   punctuation and quotes do not matter
Quotation                          typographic quotes count; something stands between them
No Commas                          other scripts' commas ("，", "、", "،") count as commas
=================================  =========================================================

In official mode the evaluator's own crashes (a needed kwarg that is None, kwargs that are NaN or
a JSON string, a number given as text where it is compared by size) become `ScoringError`; count
such an item as errored. A missing reply is scored as the text "nan" or "None", as there.
Identifiers that the evaluator does not know fail, as there. An error reply (`mmaupro_ext.replies`)
is never scored in either mode.

One file, although it is long: both readings of a check stand under the same name and are read side by side.

Source: ``evaluate_mmau_pro_comprehensive.py`` of the MMAU-Pro authors (2025-09-25), behaviour only.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import require_choice

MODES = ("official", "strict")

IDENTIFIERS = (
    "Include Keywords",
    "Keyword Frequency",
    "Forbidden Words",
    "Number Paragraphs",
    "Number Words (at least)",
    "Number Words (at most)",
    "Number Words (range)",
    "Number Sentences (at least)",
    "Number Sentences (at most)",
    "Number Sentences (range)",
    "Postscript",
    "Number Placeholder",
    "Number Bullets",
    "Title",
    "Minimum Number Highlighted Section",
    "Multiple Sections",
    "Repeat Prompt",
    "Two Responses",
    "All Uppercase",
    "All Lowercase",
    "All-capital Words (at least)",
    "All-capital Words (at most)",
    "All-capital Words (range)",
    "Start Checker",
    "End Checker",
    "Quotation",
    "No Commas",
)
"""The `task_identifier` values that the official evaluator handles."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Keywords": ("Include Keywords", "Keyword Frequency", "Forbidden Words"),
    "Length Constraints": (
        "Number Paragraphs",
        "Number Words (at least)",
        "Number Words (at most)",
        "Number Words (range)",
        "Number Sentences (at least)",
        "Number Sentences (at most)",
        "Number Sentences (range)",
    ),
    "Detectable Content": ("Postscript", "Number Placeholder"),
    "Detectable Format": (
        "Number Bullets",
        "Title",
        "Minimum Number Highlighted Section",
        "Multiple Sections",
    ),
    "Multi-Part Response": ("Repeat Prompt", "Two Responses"),
    "Change Cases": (
        "All Uppercase",
        "All Lowercase",
        "All-capital Words (at least)",
        "All-capital Words (at most)",
        "All-capital Words (range)",
    ),
}
"""The paper's six groups, filled by analogy with IFEval, from which the checks descend.

Start Checker, End Checker, Quotation and No Commas have no group of that name in the paper and are
left out. Where a row has `task_classification`, that column decides.
"""

NLTK_COMMAND = "python -m nltk.downloader punkt_tab"

_Verdict = Callable[[str, Any, Any], bool]


@dataclass(frozen=True)
class CheckResult:
    """The verdict on one reply.

    Attributes
    ----------
    passed : bool or None
        None when the item could not be checked.
    status : {"scored", "substitute", "errored"}
        "scored": checked in the mode asked for. "substitute": official mode was asked for but
        NLTK's sentence data is not installed, and the sentences were counted with
        `split_sentences`; such a verdict is not the official one and must be reported as such.
        "errored": not checked.
    note : str
        Why the status is not "scored", with the fix; "" otherwise.
    """

    passed: bool | None
    status: str
    note: str = ""


class SentenceDataError(ScoringError):
    """NLTK's sentence data, which the official sentence checks need, is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "the official sentence checks need NLTK's punkt_tab data, which is not installed. "
            f"Get it with: {NLTK_COMMAND} (or use mode='strict', which needs none)"
        )


# --- sentences -----------------------------------------------------------------------------------


def sentences(text: str) -> list[str]:
    """Split text into sentences as the official evaluator does, with NLTK.

    Parameters
    ----------
    text : str
        English text.

    Returns
    -------
    list of str
        The sentences.

    Raises
    ------
    SentenceDataError
        When NLTK's punkt_tab data is not installed; nothing is ever downloaded here.
    """
    from nltk.tokenize import sent_tokenize

    try:
        return list(sent_tokenize(text))
    except LookupError as error:
        raise SentenceDataError from error


_ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "eg", "ie", "cf", "al", "fig", "no")
    + ("vol", "dept", "approx", "est", "inc", "ltd", "co", "corp", "gen", "col", "sgt", "capt")
    + ("rev", "hon", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov")
    + ("dec",)
)
_SENTENCE_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+[”’」』）]*|\n\s*\n)")


def split_sentences(text: str) -> list[str]:
    """Split text into sentences without any data files (strict mode).

    A sentence ends at ``.``, ``!``, ``?`` or ``…`` before white space, at ``。``, ``！`` or ``？``,
    and at a blank line. No sentence ends after common abbreviations ("Dr."), single initials
    ("J."), dotted letters ("e.g."), list numbers ("1.") at the start of a line, or before a lower
    case letter after a single full stop. Stretches without letters or digits are no sentences.

    Parameters
    ----------
    text : str
        The text.

    Returns
    -------
    list of str
        The sentences, stripped.
    """
    parts, start = [], 0
    for end in _SENTENCE_END.finditer(text):
        if end.group() == "." and not _full_stop_ends(text, start, end.start(), end.end()):
            continue
        parts.append(text[start : end.end()])
        start = end.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if any(character.isalnum() for character in part)]


def _full_stop_ends(text: str, start: int, stop: int, after: int) -> bool:
    before = re.search(r"(\S*)$", text[start:stop])
    word = before.group(1).lstrip("\"'([“‘") if before else ""
    # Initials and dotted abbreviations; "I." does end a sentence.
    if re.fullmatch(r"[^\W\d_](?:\.[^\W\d_])*", word) and word != "I":
        return False
    if word.casefold() in _ABBREVIATIONS:
        return False
    line_so_far = text[text.rfind("\n", 0, stop) + 1 : stop]
    if re.fullmatch(r"\s*\d+", line_so_far):
        return False
    following = text[after:].lstrip(" \t")
    return not following[:1].islower()


# --- official ------------------------------------------------------------------------------------


def _at_least(count: Callable[[str], int]) -> _Verdict:
    def verdict(text: str, kwargs: Any, question: Any) -> bool:
        target = kwargs.get("N", 0)
        return count(text) >= target

    return verdict


def _at_most(count: Callable[[str], int]) -> _Verdict:
    def verdict(text: str, kwargs: Any, question: Any) -> bool:
        target = kwargs.get("N", 0)
        return count(text) <= target

    return verdict


def _within(count: Callable[[str], int]) -> _Verdict:
    def verdict(text: str, kwargs: Any, question: Any) -> bool:
        lowest, highest = kwargs.get("N1", 0), kwargs.get("N2", 999)
        return lowest <= count(text) <= highest

    return verdict


def _exactly(count: Callable[[str], int]) -> _Verdict:
    def verdict(text: str, kwargs: Any, question: Any) -> bool:
        return count(text) == kwargs.get("N", 0)

    return verdict


def _official_words(text: str) -> int:
    return len(text.split())


def _official_sentences(text: str) -> int:
    return len(sentences(text))


def _official_paragraphs(text: str) -> int:
    return sum(1 for part in text.split("***") if part.strip())


def _official_bullets(text: str) -> int:
    return len(re.findall(r"(?:^|\n)\s*\*\s+", text))


def _official_highlights(text: str) -> int:
    return len(re.findall(r"\*[^*]+\*", text))


def _official_placeholders(text: str) -> int:
    return len(re.findall(r"\[[^\]]+\]", text))


def _official_capitals(text: str) -> int:
    return sum(1 for word in text.split() if word.isupper())


def _official_include_keywords(text: str, kwargs: Any, question: Any) -> bool:
    keywords = kwargs.get("keywords", "").split(", ")
    return all(keyword.lower() in text.lower() for keyword in keywords)


def _official_forbidden_words(text: str, kwargs: Any, question: Any) -> bool:
    words = kwargs.get("forbidden_words", "").split(", ")
    return not any(word.lower() in text.lower() for word in words)


def _official_keyword_frequency(text: str, kwargs: Any, question: Any) -> bool:
    keyword, target = kwargs.get("keyword", ""), kwargs.get("N", 0)
    found = re.findall(rf"\b{re.escape(keyword.lower())}\b", text.lower())
    return len(found) == target


def _latin_letters(text: str, also: str = "") -> str:
    return re.sub(rf"[^a-zA-Z{also}]", "", text).lower()


def _official_postscript(text: str, kwargs: Any, question: Any) -> bool:
    return _latin_letters(kwargs.get("postscript_marker", "")) in _latin_letters(text)


def _official_start(text: str, kwargs: Any, question: Any) -> bool:
    phrase = _latin_letters(kwargs.get("start_phrase", ""), also=" ")
    return _latin_letters(text, also=" ").startswith(phrase)


def _official_end(text: str, kwargs: Any, question: Any) -> bool:
    phrase = _latin_letters(kwargs.get("end_phrase", ""), also=" ")
    return _latin_letters(text, also=" ").endswith(phrase)


def _official_title(text: str, kwargs: Any, question: Any) -> bool:
    return re.search(r"<<[^>]+>>", text) is not None


def _official_sections(text: str, kwargs: Any, question: Any) -> bool:
    target, splitter = kwargs.get("N", 0), kwargs.get("section_splitter", "")
    parts = re.split(rf"\s*{re.escape(splitter)}\s*", text.strip())
    return sum(1 for part in parts if part.strip()) == target


def _official_repeat_prompt(text: str, kwargs: Any, question: Any) -> bool:
    return text.strip().lower().startswith(question.strip().lower())


def _official_two_responses(text: str, kwargs: Any, question: Any) -> bool:
    parts = text.split("******")
    return len(parts) == 2 and parts[0].lower().strip() != parts[1].lower().strip()


def _all_uppercase(text: str, kwargs: Any, question: Any) -> bool:
    return text.isupper()


def _all_lowercase(text: str, kwargs: Any, question: Any) -> bool:
    return text.islower()


def _official_quotation(text: str, kwargs: Any, question: Any) -> bool:
    stripped = text.strip()
    return stripped.startswith('"') and stripped.endswith('"')


def _official_no_commas(text: str, kwargs: Any, question: Any) -> bool:
    return "," not in text


_OFFICIAL: dict[str, _Verdict] = {
    "Include Keywords": _official_include_keywords,
    "Keyword Frequency": _official_keyword_frequency,
    "Forbidden Words": _official_forbidden_words,
    "Number Paragraphs": _exactly(_official_paragraphs),
    "Number Words (at least)": _at_least(_official_words),
    "Number Words (at most)": _at_most(_official_words),
    "Number Words (range)": _within(_official_words),
    "Number Sentences (at least)": _at_least(_official_sentences),
    "Number Sentences (at most)": _at_most(_official_sentences),
    "Number Sentences (range)": _within(_official_sentences),
    "Postscript": _official_postscript,
    "Number Placeholder": _at_least(_official_placeholders),
    "Number Bullets": _exactly(_official_bullets),
    "Title": _official_title,
    "Minimum Number Highlighted Section": _at_least(_official_highlights),
    "Multiple Sections": _official_sections,
    "Repeat Prompt": _official_repeat_prompt,
    "Two Responses": _official_two_responses,
    "All Uppercase": _all_uppercase,
    "All Lowercase": _all_lowercase,
    "All-capital Words (at least)": _at_least(_official_capitals),
    "All-capital Words (at most)": _at_most(_official_capitals),
    "All-capital Words (range)": _within(_official_capitals),
    "Start Checker": _official_start,
    "End Checker": _official_end,
    "Quotation": _official_quotation,
    "No Commas": _official_no_commas,
}

# The same counts with the splitter that needs no data, for users without NLTK's.
_SUBSTITUTE: dict[str, _Verdict] = {
    "Number Sentences (at least)": _at_least(lambda text: len(split_sentences(text))),
    "Number Sentences (at most)": _at_most(lambda text: len(split_sentences(text))),
    "Number Sentences (range)": _within(lambda text: len(split_sentences(text))),
}


def _official(
    table: Mapping[str, _Verdict], identifier: Any, kwargs: Any, response: Any, question: Any
) -> bool:
    verdict = table.get(identifier)
    if verdict is None:
        return False
    try:
        # An empty dict and None are the same there; anything else is used as it is.
        return bool(verdict(str(response), kwargs or {}, question))
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, ScoringError):
            raise
        raise ScoringError(
            f"{identifier}: the official evaluator stops at kwargs {kwargs!r} "
            f"({type(error).__name__}: {error}). Correct the row or use mode='strict'"
        ) from error


# --- strict --------------------------------------------------------------------------------------


class _Arguments:
    """The kwargs of one item, with absent values told apart from given ones."""

    def __init__(self, identifier: str, kwargs: Any) -> None:
        if isinstance(kwargs, str):
            try:
                kwargs = json.loads(kwargs)
            except json.JSONDecodeError as error:
                raise ScoringError(f"{identifier}: kwargs is not valid JSON: {kwargs!r}") from error
        if kwargs is None or _is_nan(kwargs):
            kwargs = {}
        if not isinstance(kwargs, Mapping):
            raise ScoringError(f"{identifier}: kwargs must be a mapping, not {kwargs!r}")
        self.identifier = identifier
        self.values = {key: kwargs[key] for key in kwargs if not _absent(kwargs[key])}

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ScoringError(
                f"{self.identifier}: needs the text kwarg {name!r}, got {value!r}. Correct the row"
            )
        return value

    def words(self, name: str) -> list[str]:
        value = self.values.get(name)
        items = value if isinstance(value, (list, tuple)) else self.text(name).split(",")
        words = [str(item).strip() for item in items if str(item).strip()]
        if not words:
            raise ScoringError(f"{self.identifier}: kwarg {name!r} names no word. Correct the row")
        return words

    def number(self, name: str) -> int:
        value = self.values.get(name)
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or number != int(number) or isinstance(value, bool):
            raise ScoringError(
                f"{self.identifier}: needs the whole number {name!r}, got {value!r}. "
                "Correct the row"
            )
        return int(number)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _absent(value: Any) -> bool:
    return value is None or _is_nan(value)


_StrictVerdict = Callable[[str, _Arguments, Any], bool]


def _strict_at_least(count: Callable[[str], int]) -> _StrictVerdict:
    return lambda text, arguments, question: count(text) >= arguments.number("N")


def _strict_at_most(count: Callable[[str], int]) -> _StrictVerdict:
    return lambda text, arguments, question: count(text) <= arguments.number("N")


def _strict_exactly(count: Callable[[str], int]) -> _StrictVerdict:
    return lambda text, arguments, question: count(text) == arguments.number("N")


def _strict_within(count: Callable[[str], int]) -> _StrictVerdict:
    def verdict(text: str, arguments: _Arguments, question: Any) -> bool:
        lowest, highest = arguments.number("N1"), arguments.number("N2")
        return lowest <= count(text) <= highest

    return verdict


_DIVIDER = re.compile(r"(?<!\S)\*(?:[ \t]*\*){2,}(?!\S)")
_BULLET = re.compile(r"^[ \t]*[*+•-][ \t]+(?=\S)", re.MULTILINE)


def _occurrences(phrase: str, text: str) -> int:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return len(re.findall(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE))


def _words(text: str) -> int:
    return sum(1 for word in text.split() if any(character.isalnum() for character in word))


def _paragraphs(text: str) -> int:
    return sum(1 for part in _DIVIDER.split(text) if part.strip())


def _bullets(text: str) -> int:
    return len(_BULLET.findall(_DIVIDER.sub("", text)))


def _highlights(text: str) -> int:
    prose = _BULLET.sub("", _DIVIDER.sub("", text))
    return len(re.findall(r"(?<!\*)(\*{1,3})(?=[^\s*])[^*\n]*(?<=[^\s*])\1(?!\*)", prose))


def _placeholders(text: str) -> int:
    return len(re.findall(r"\[[^\[\]]*[^\[\]\s][^\[\]]*\](?!\()", text))


def _capitals(text: str) -> int:
    letters_of_words = ("".join(c for c in word if c.isalpha()) for word in text.split())
    return sum(1 for letters in letters_of_words if len(letters) >= 2 and letters.isupper())


def _strict_include_keywords(text: str, arguments: _Arguments, question: Any) -> bool:
    return all(_occurrences(word, text) > 0 for word in arguments.words("keywords"))


def _strict_forbidden_words(text: str, arguments: _Arguments, question: Any) -> bool:
    return not any(_occurrences(word, text) for word in arguments.words("forbidden_words"))


def _strict_keyword_frequency(text: str, arguments: _Arguments, question: Any) -> bool:
    return _occurrences(arguments.text("keyword"), text) == arguments.number("N")


def _strict_postscript(text: str, arguments: _Arguments, question: Any) -> bool:
    marker = [c for c in arguments.text("postscript_marker") if c.isalnum()]
    if not marker:
        raise ScoringError("Postscript: the marker has no letters. Correct the row")
    letters = r"[.\s]*".join(re.escape(c) for c in marker)
    # Not inside a word, and not the tail of a longer marker ("P.S." in "P.P.S.").
    whole = rf"(?<![^\W_])(?<![^\W_]\.){letters}(?![^\W_])"
    return re.search(whole, text, re.IGNORECASE) is not None


def _strict_title(text: str, arguments: _Arguments, question: Any) -> bool:
    return re.search(r"<<[^<>\n]*[^<>\s][^<>\n]*>>", text) is not None


def _strict_sections(text: str, arguments: _Arguments, question: Any) -> bool:
    splitter = arguments.text("section_splitter").strip()
    if any(character.isalnum() for character in splitter):
        parts = re.split(rf"(?<!\w){re.escape(splitter)}(?!\w)", text, flags=re.IGNORECASE)[1:]
    else:
        sign = re.escape(splitter[-1])
        parts = re.split(rf"(?<!{sign}){re.escape(splitter)}(?!{sign})", text)
    filled = sum(1 for part in parts if any(character.isalnum() for character in part))
    return filled == arguments.number("N")


def _squeezed(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).translate(_PLAIN_QUOTES).casefold()
    return " ".join(folded.split())


_PLAIN_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "„": '"'})


def _strict_repeat_prompt(text: str, arguments: _Arguments, question: Any) -> bool:
    if not isinstance(question, str) or not question.strip():
        raise ScoringError("Repeat Prompt: the item has no question. Correct the row")
    prompt = _squeezed(question).strip("\"' ")
    return _squeezed(text).lstrip("\"'* ").startswith(prompt)


def _strict_two_responses(text: str, arguments: _Arguments, question: Any) -> bool:
    parts = [_squeezed(part) for part in re.split(r"(?<!\*)\*{6}(?!\*)", text)]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _word_list(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN_QUOTES).casefold()
    return re.findall(r"\w+(?:'\w+)*", plain)


def _phrase_words(arguments: _Arguments, name: str) -> list[str]:
    words = _word_list(arguments.text(name))
    if not words:
        raise ScoringError(f"{arguments.identifier}: the phrase has no words. Correct the row")
    return words


def _strict_start(text: str, arguments: _Arguments, question: Any) -> bool:
    phrase = _phrase_words(arguments, "start_phrase")
    return _word_list(text)[: len(phrase)] == phrase


def _strict_end(text: str, arguments: _Arguments, question: Any) -> bool:
    phrase = _phrase_words(arguments, "end_phrase")
    return _word_list(text)[-len(phrase) :] == phrase


def _strict_quotation(text: str, arguments: _Arguments, question: Any) -> bool:
    pairs = {'"': '"', "“": "”", "„": "“”", "«": "»", "”": "”", "「": "」"}
    stripped = text.strip()
    closing = pairs.get(stripped[:1])
    return closing is not None and stripped[-1] in closing and bool(stripped[1:-1].strip())


def _strict_no_commas(text: str, arguments: _Arguments, question: Any) -> bool:
    return not any(comma in text for comma in ",，、،﹐")


_STRICT: dict[str, _StrictVerdict] = {
    "Include Keywords": _strict_include_keywords,
    "Keyword Frequency": _strict_keyword_frequency,
    "Forbidden Words": _strict_forbidden_words,
    "Number Paragraphs": _strict_exactly(_paragraphs),
    "Number Words (at least)": _strict_at_least(_words),
    "Number Words (at most)": _strict_at_most(_words),
    "Number Words (range)": _strict_within(_words),
    "Number Sentences (at least)": _strict_at_least(lambda text: len(split_sentences(text))),
    "Number Sentences (at most)": _strict_at_most(lambda text: len(split_sentences(text))),
    "Number Sentences (range)": _strict_within(lambda text: len(split_sentences(text))),
    "Postscript": _strict_postscript,
    "Number Placeholder": _strict_at_least(_placeholders),
    "Number Bullets": _strict_exactly(_bullets),
    "Title": _strict_title,
    "Minimum Number Highlighted Section": _strict_at_least(_highlights),
    "Multiple Sections": _strict_sections,
    "Repeat Prompt": _strict_repeat_prompt,
    "Two Responses": _strict_two_responses,
    "All Uppercase": lambda text, arguments, question: text.isupper(),
    "All Lowercase": lambda text, arguments, question: text.islower(),
    "All-capital Words (at least)": _strict_at_least(_capitals),
    "All-capital Words (at most)": _strict_at_most(_capitals),
    "All-capital Words (range)": _strict_within(_capitals),
    "Start Checker": _strict_start,
    "End Checker": _strict_end,
    "Quotation": _strict_quotation,
    "No Commas": _strict_no_commas,
}


def _strict(identifier: Any, kwargs: Any, response: Any, question: Any) -> bool:
    verdict = _STRICT.get(identifier)
    if verdict is None:
        raise ScoringError(
            f"no check is called {identifier!r}. The known ones are in "
            "mmaupro_ext.scoring.instruction_following.IDENTIFIERS"
        )
    if not isinstance(response, str):
        raise ScoringError(f"{identifier}: a reply must be a string, got {response!r}")
    # Even an empty reply goes through the check, so that a faulty row is errored, not failed.
    passed = verdict(response, _Arguments(identifier, kwargs), question)
    return passed and bool(response.strip())


# --- public --------------------------------------------------------------------------------------


def check(
    task_identifier: str, kwargs: Any, response: Any, question: Any, mode: str = "official"
) -> bool:
    r"""Tell whether a reply follows its instruction.

    Parameters
    ----------
    task_identifier : str
        One of `IDENTIFIERS`.
    kwargs : mapping or None
        The row's `kwargs`: N, N1, N2, keyword, keywords, forbidden_words, postscript_marker,
        section_splitter, start_phrase, end_phrase, as the check needs them.
    response : str
        The model's reply, raw.
    question : str
        The row's `question`; Repeat Prompt compares with it.
    mode : {"official", "strict"}
        See the module's docstring.

    Returns
    -------
    bool
        The verdict.

    Raises
    ------
    ScoringError
        When the item cannot be checked: count it as errored. Its subclass `SentenceDataError`
        when official mode needs NLTK data that is not installed.
    ConfigError
        When `mode` does not exist.

    Examples
    --------
    >>> check("Number Paragraphs", {"N": 2}, "one\n\n***\n\ntwo", "", mode="strict")
    True
    """
    error = parse_error(response)
    if error is not None:
        raise ScoringError(f"the item was not served: {error['problem']}")
    if mode == "strict":
        return _strict(task_identifier, kwargs, response, question)
    require_choice("mode", mode, MODES)
    return _official(_OFFICIAL, task_identifier, kwargs, response, question)


def released_kwargs(doc: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the kwargs of a document as the released script gets them.

    The released file stores them as one struct, so the script sees None where a document, which
    keeps the names of null keys in `kwargs_null`, has no key; and None where the whole cell was null.

    Parameters
    ----------
    doc : mapping
        With `kwargs` (dict) and `kwargs_null` (list of str, or None).

    Returns
    -------
    dict or None
        For `check` and `evaluate` in official mode.
    """
    nulls = doc.get("kwargs_null")
    if nulls is None and not doc["kwargs"]:
        return None
    return {**dict.fromkeys(nulls or ()), **doc["kwargs"]}


def evaluate(
    task_identifier: str, kwargs: Any, response: Any, question: Any, mode: str = "official"
) -> CheckResult:
    """Check a reply like `check`, but return what happened instead of raising.

    Parameters
    ----------
    task_identifier, kwargs, response, question, mode
        As for `check`.

    Returns
    -------
    CheckResult
        With `passed` None and status "errored" where `check` raises; in official mode without
        NLTK's data, sentence checks come back with status "substitute".

    Raises
    ------
    ConfigError
        When `mode` does not exist.
    """
    try:
        passed = check(task_identifier, kwargs, response, question, mode)
    except SentenceDataError as missing:
        try:
            passed = _official(_SUBSTITUTE, task_identifier, kwargs, response, question)
        except ScoringError as error:
            return CheckResult(None, "errored", str(error))
        note = f"counted with the built-in sentence splitter: {missing}"
        return CheckResult(passed, "substitute", note)
    except ScoringError as error:
        return CheckResult(None, "errored", str(error))
    return CheckResult(passed, "scored")
