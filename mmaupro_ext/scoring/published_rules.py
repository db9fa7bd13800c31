"""How others find the choice in a multiple-choice reply, so that one file of replies can be read under all.

Each rule is a pure function of choices, answer and reply. It repeats what the released code does, faults
included; `tools/released_vectors.py` runs that code and wrote the vectors that the tests hold the rules to.
The rules of MMAU, MMAR and MMSU are in `official_rules`, ours in `closed`, the embedding in
`closed_official`, what a model is asked in `model_reader`: here they only have their row.

Where released code draws a choice at random, the score here is the share of draws that are right: its
expected value. `Outcome.variance` is what a single draw adds to it. Over 400 lines: all rules in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from mmaupro_ext.categories import CHOICE_LETTERS
from mmaupro_ext.scoring.official_rules import (
    Ruling,
    first_letter,
    lettered_token_sets,
    token_sets,
    words,
)
from mmaupro_ext.scoring.voicebench_phrases import phrases

HOW: Mapping[str, str] = MappingProxyType(
    {
        "letter": "takes a letter",
        "text": "takes a choice by its text",
        "words": "goes by words",
        "nearest": "takes the nearest text",
        "model": "is told a choice by the reader",
        "guess": "draws a choice at random",
        "default": "takes A for want of a choice",
        "none": "reads no choice",
        "dropped": "leaves the item out",
        "errored": "has no reply",
    }
)
"""How a rule comes to its score -> the same as a predicate."""


@dataclass(frozen=True)
class Outcome:
    """What a rule makes of one reply.

    Attributes
    ----------
    score : float or None
        0 or 1; between them where a choice is drawn at random. None: left out of the denominator.
    how : str
        Key of `HOW`.
    index : int or None
        Position of the choice that the rule takes, where it takes one.
    """

    score: float | None
    how: str
    index: int | None = None

    @property
    def variance(self) -> float:
        """What the draw of a single run adds to the variance of this score; 0 where nothing is drawn."""
        return self.score * (1.0 - self.score) if self.how == "guess" and self.score else 0.0


Apply = Callable[[Sequence[str], str, str], Outcome]


@dataclass(frozen=True)
class Rule:
    """A published rule.

    Attributes
    ----------
    name : str
        Key of `RULES`.
    about : str
        Where its numbers come from, and what it does where it reads no choice.
    source : str
        Repository, commit, file and function.
    apply : callable or None
        (choices, answer, reply) -> `Outcome`, the reply raw. None where it takes more than that.
    """

    name: str
    about: str
    source: str
    apply: Apply | None


# --- lmms-eval and evalscope ---------------------------------------------------------------------

_FOUR = CHOICE_LETTERS[:4]


_LMMS_TAGS = (("<think>", "</think>"), ("<analysis>", "</analysis>"))


def _without_reasoning(reply: str) -> str:
    """Return what lmms-eval hands to a task unless told otherwise: no closed thoughts, none before an end."""
    for start, end in _LMMS_TAGS:
        while end in reply.partition(start)[2]:
            before, _, rest = reply.partition(start)
            reply = before + rest.partition(end)[2]
        if start not in reply:
            reply = reply.rpartition(end)[2]
    return reply.strip()


def _without_marks(reply: str) -> str:
    """Return a reply between two spaces, without marks at its ends; one kind after the other, so not all."""
    for mark in ",.!?;:'":
        reply = reply.strip(mark)
    return f" {reply} "


def _named(text: str, letters: str, forms: Sequence[str]) -> tuple[str, list[str]]:
    """Return the first of the forms in which any letter is there, and the letters that are."""
    for form in forms:
        found = [letter for letter in letters if form.format(letter) in text]
        if found:
            return form, found
    return "", []


def _latest(places: Mapping[str, int]) -> str:
    """Return the letter that stands last; the first of those that are nowhere (-1) where all are."""
    return max(places, key=lambda letter: places[letter])


def _letter_of_four(reply: str) -> str | None:
    """Return the letter that MMAU's adapters in lmms-eval and evalscope take."""
    text = _without_marks(reply)
    _, found = _named(text, _FOUR, ("({})", " {} ", "{}."))
    # "(A) or (B)" stand nowhere as " A " or " B ", so that the first counts, not the last.
    return _latest({letter: text.rfind(f" {letter} ") for letter in found}) if found else None


def lmms_mmau(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as lmms-eval's task of MMAU does: A to D whatever the choices, else a random one of them.

    A letter that no choice has ends a run of lmms-eval; here it is wrong.
    """
    wanted = answer.strip().lower()
    right = [
        position < len(choices) and choices[position].strip().lower() == wanted
        for position in range(len(_FOUR))
    ]
    letter = _letter_of_four(_without_reasoning(reply))
    if letter is None:
        return Outcome(sum(right) / len(right), "guess")
    return _taken(_FOUR.index(letter), choices, right[_FOUR.index(letter)])


def lmms_mmar(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as lmms-eval's tasks of MMAR and MMSU do, after MMMU: by letter, by text, at random.

    "A " is sought without a space before it, so that the end of a word will do. An empty text is no choice.
    """
    letters = CHOICE_LETTERS[: len(choices)]
    texts = {letter: text.strip().lower() for letter, text in zip(letters, choices, strict=False)}
    gold = _position(answer, choices)
    text = _without_marks(_without_reasoning(reply))
    form, found = _named(text, letters, ("({})", "{} ", "{}."))
    how = "letter"
    if not found and len(text.split()) > 5:
        how = "text"
        found = [letter for letter in letters if texts[letter] and texts[letter] in text.lower()]
    if not found:
        return Outcome(1.0 / len(letters) if gold is not None else 0.0, "guess")
    if how == "text":
        places = {letter: text.lower().rfind(texts[letter]) for letter in found}
    else:
        sought = form if form == "({})" else " {} "
        places = {letter: text.rfind(sought.format(letter)) for letter in found}
    index = letters.index(_latest(places))
    return Outcome(float(index == gold), how, index)


_THOUGHT = re.compile(
    r'<think(?:\s+signature="[^"]*")?(?:\s+redacted="true")?\s*>.*?</think>', re.DOTALL
)
_ANSWER_LINE = re.compile(r"answer\s*:\s*([a-d])", re.IGNORECASE)


def evalscope(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as evalscope's task of MMAU does: "ANSWER: B", else as lmms-eval; A where it reads none.

    The first closed thought of a reply is taken out before. Its adapter cannot ask questions with more than
    four choices.
    """
    if _THOUGHT.search(reply):
        reply = _THOUGHT.sub("", reply, count=1).strip()
    if len(choices) > len(_FOUR):
        return Outcome(None, "dropped")
    texts = [choice.strip().lower() for choice in choices]
    wanted = answer.strip().lower()
    gold = texts.index(wanted) if wanted in texts else 0
    line = _ANSWER_LINE.search(reply)
    letter = line[1].upper() if line else _letter_of_four(reply)
    if letter is None:
        return Outcome(float(gold == 0), "default", 0)
    return _taken(_FOUR.index(letter), choices, _FOUR.index(letter) == gold)


# --- by the first and second-last character ------------------------------------------------------


def mmsu(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as MMSU's own script does (`official_rules.first_letter`)."""
    return _ruled(first_letter(answer, reply, choices), "none" if _is_nothing(reply) else "letter")


def air_bench(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as AIR-Bench's script does: as MMSU's, but empty replies are left out too.

    Letters are compared, not texts: of two equal choices only the first is right. A reply that is read to a
    question whose answer is none of the first four choices ends the script; here the item is left out.
    """
    ruling = first_letter(answer, reply, choices)
    gold = _position(answer, choices[: len(_FOUR)])
    if _is_nothing(reply) or ruling.right is None or gold is None:
        return Outcome(None, "dropped")
    return Outcome(float(ruling.index == gold), "letter", ruling.index)


def _is_nothing(reply: str) -> bool:
    return reply.strip().replace("\n", "") in ("", "None")


# --- VoiceBench, MuChoMusic ----------------------------------------------------------------------


def voicebench(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as VoiceBench does: a to d in the first of its phrases in it, else a random one."""
    text = reply.lower()
    if text.startswith(("<1>", "<2>", "<3>")):
        text = text[3:].strip()
    letter = next(
        (one for before, after in phrases() for one in "abcd" if f"{before}{one}{after}" in text),
        None,
    )
    if letter is None and text[:1] in tuple("abcd") and (len(text) == 1 or text[1] in ".,:)"):
        letter = text[0]
    gold = _position(answer, choices[: len(_FOUR)])
    if letter is None:
        return Outcome(0.0 if gold is None else 1.0 / len(_FOUR), "guess")
    index = "abcd".index(letter)
    return _taken(index, choices, index == gold)


def muchomusic(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as MuChoMusic does: the only one of the characters A to D, else the first text in it.

    An empty text is no choice.
    """
    text = reply.split("The correct answer is:")[-1].strip()
    gold = _position(answer, choices)
    letters = [letter for letter in _FOUR if letter in text]
    if len(letters) == 1:
        index = _FOUR.index(letters[0])
        return _taken(index, choices, index == gold)
    lower = text.lower()
    for index, choice in enumerate(choices):
        if choice.strip() and choice.lower().strip() in lower:
            return Outcome(float(index == gold), "text", index)
    return Outcome(0.0, "none")


# --- letters by regular expression ---------------------------------------------------------------

_THOUGHTS = (r"<think>.*?</think>", r"<think>.*", r"^.*?</think>")
_ALONE = re.compile(r"([A-Z])\)?\.?\s*", re.IGNORECASE)
_STATED = re.compile(
    r"(?:the answer is|answer:|I (?:would )?(?:choose|select|pick))\s*\(?([A-Z])", re.IGNORECASE
)
_PREFIX = re.compile(r"^\(?[A-Za-z]\)?\s*")
_ALIKE = 0.6  # of the words of two texts


def letter_regex(choices: Sequence[str], answer: str, reply: str) -> Outcome:
    """Read a reply as Foo et al. do before they ask a model: two expressions for letters, then texts.

    The one for "the answer is …" takes the first letter of whatever follows. What they then show to Claude
    Haiku is wrong here. They take "(B) " off choices before they look for the answer among them, and with it
    the first letter of any text: of C major and G major the first is always the answer.
    """
    text = reply
    for pattern in _THOUGHTS:
        text = re.sub(pattern, "", text, flags=re.DOTALL | re.IGNORECASE)
    text = text.strip() or reply.strip()
    if not text:
        return Outcome(0.0, "none")
    gold = _unprefixed_position(answer, choices)
    letters = CHOICE_LETTERS[: len(choices)]
    for found in (_ALONE.fullmatch(text), _STATED.search(text)):
        if found and found[1].upper() in letters:
            index = letters.index(found[1].upper())
            return Outcome(float(index == gold), "letter", index)
    lower, texts = text.lower(), [choice.strip().lower() for choice in choices]
    if lower in texts:
        index = texts.index(lower)
        return Outcome(float(index == gold), "text", index)
    for index, choice in enumerate(texts):
        if choice and (lower.startswith(choice) or choice.startswith(lower)):
            return Outcome(float(index == gold), "text", index)
    return Outcome(0.0, "none")


def _unprefixed_position(answer: str, choices: Sequence[str]) -> int | None:
    """Return where the answer is among choices without their beginning: equal, contained, else alike."""
    wanted, *texts = (_PREFIX.sub("", text.strip()).strip().lower() for text in (answer, *choices))
    for index, text in enumerate(texts):
        if text == wanted:
            return index
    for index, text in enumerate(texts):
        if text in wanted or wanted in text:
            return index
    shares = [_shared(words(wanted), words(text)) for text in texts]
    best = max(shares, default=0.0)
    return shares.index(best) if best >= _ALIKE else None


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


# --- what they share -----------------------------------------------------------------------------


def _position(answer: str, choices: Sequence[str]) -> int | None:
    """Return the place of the first choice that is the answer, letter for letter."""
    return list(choices).index(answer) if answer in choices else None


def _taken(index: int, choices: Sequence[str], right: bool) -> Outcome:
    return Outcome(float(right), "letter", index if index < len(choices) else None)


def _ruled(ruling: Ruling, how: str) -> Outcome:
    if ruling.right is None:
        return Outcome(None, "dropped")
    return Outcome(float(ruling.right), how, ruling.index)


def _by_words(rule: Callable[[str, str, Sequence[str]], Ruling]) -> Apply:
    return lambda choices, answer, reply: _ruled(
        rule(answer, reply, choices), "words" if words(reply) else "none"
    )


# --- the list ------------------------------------------------------------------------------------

_LMMS = "EvolvingLMMs-Lab/lmms-eval@75571cf, lmms_eval/api/reasoning.py and lmms_eval/tasks"
_FOO = "leonardofhy/all-that-glitters-is-not-audio@e42b3d1, scripts"

STRICT, OFFICIAL, NEMO, MODEL_READ = "strict", "official", "nemo-skills", "model-read"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule(
                STRICT, "ours: a choice that is stated, nothing guessed", "scoring/closed.py", None
            ),
            Rule(
                OFFICIAL,
                "MMAU-Pro's evaluator: the choice whose text is nearest to the reply",
                "sonalkum/MMAUPro@960e93a, evaluate_mmau_pro_comprehensive.py",
                None,
            ),
            Rule(
                NEMO,
                "NeMo-Skills: the same, but an empty reply is wrong and case does not count",
                "NVIDIA-NeMo/Skills, nemo_skills/evaluation/evaluator/nvembed_judge.py (a fork of 2026)",
                None,
            ),
            Rule(
                "token-sets",
                "MMAU and MMAR: every word of the answer, none that only wrong choices have",
                "Sakshi113/MMAU@110127f, evaluation.py and ddlBoJack/MMAR@3bce090, code/evaluation.py: "
                "string_match",
                _by_words(token_sets),
            ),
            Rule(
                "lettered-token-sets",
                "the same on the texts of MMAU's parquet, where '(A) ' stands before each choice",
                "Sakshi113/MMAU@110127f, evaluation.py: string_match",
                _by_words(lettered_token_sets),
            ),
            Rule(
                "lmms-mmau",
                "lmms-eval's MMAU: letters A to D, else one of them at random",
                f"{_LMMS}/mmau/utils.py: mmau_process_results",
                lmms_mmau,
            ),
            Rule(
                "lmms-mmar",
                "lmms-eval's MMAR and MMSU: letters, texts in long replies, else a choice at random",
                f"{_LMMS}/mmar/utils.py: mmar_process_results (mmsu/utils.py: mmsu_process_results)",
                lmms_mmar,
            ),
            Rule(
                "evalscope",
                "evalscope's MMAU: 'ANSWER: B', letters A to D, else A; asks no more than four choices",
                "modelscope/evalscope@fde259d, evalscope/api/messages/utils.py and "
                "evalscope/benchmarks/mmau/mmau_adapter.py: MMAUAdapter",
                evalscope,
            ),
            Rule(
                "first-letter",
                "MMSU: the first character, else the second-last, else the item is left out",
                "dingdongwang/MMSU@217d1d3, mmsu_evaluation.py: "
                "calculate_accuracy_per_task_and_category",
                mmsu,
            ),
            Rule(
                "air-bench",
                "AIR-Bench Foundation: the same, and empty replies are left out too",
                "OFA-Sys/AIR-Bench@9832476, score_foundation.py",
                air_bench,
            ),
            Rule(
                "voicebench",
                "VoiceBench: a to d in the first of 163 phrases that is there, else one at random",
                "MatthewCYM/VoiceBench@5338154, src/evaluator/mcq.py: MCQEvaluator",
                voicebench,
            ),
            Rule(
                "muchomusic",
                "MuChoMusic: the only character from A to D, else the first text in it, else wrong",
                "mulab-mir/muchomusic@d3c9a42, muchomusic_eval/scoring.py: extract_responses",
                muchomusic,
            ),
            Rule(
                "letter-regex",
                "Foo et al. without their model: two expressions for letters, then texts, else wrong",
                f"{_FOO}/eval_utils_claude.py: _quick_regex_extract and "
                f"{_FOO}/analysis/llm_mcq_judge.py: _content_match_extract",
                letter_regex,
            ),
            Rule(
                MODEL_READ,
                "strict, and a model says what the replies state that it does not read",
                "scoring/model_reader.py",
                None,
            ),
        )
    }
)
"""Name -> rule, in the order of tables."""
