"""What each reply scores under given options: from items to verdicts, without any file or model.

An `Item` is one logged reply with the document it answers. The functions here turn items into
`Verdict`s; `summary` turns verdicts into numbers. Embedders and judges come in as arguments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring import closed, closed_official, instruction_following, open_ended
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.presets import Options, gold_indexes

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import Embedder

Doc = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One logged reply.

    Attributes
    ----------
    doc : dict
        The document that was asked.
    reply : str
        The model's reply, raw, or an error reply.
    doc_hash : str
        lm_eval's SHA-256 of the document.
    clips : tuple of str or None
        SHA-256 of each clip as it was heard, else as the dataset states it.
    where : str
        File and line.
    """

    doc: Doc
    reply: str
    doc_hash: str = ""
    clips: tuple[str | None, ...] = ()
    where: str = ""

    @property
    def id(self) -> str:
        """Id of the document."""
        return str(self.doc["id"])

    @property
    def error(self) -> str | None:
        """Why the item was not served, or None."""
        if self.doc.get("problem"):
            return str(self.doc["problem"])
        found = parse_error(self.reply)
        return None if found is None else found["problem"] or "unknown problem"


@dataclass(frozen=True)
class Verdict:
    """What one reply scores.

    Attributes
    ----------
    id, category : str
        Of the item.
    score : float or None
        0 to 1 (a judge may give more, see `open_ended`); None: unscored, for want of an embedder
        or a judge or because the judge could not be read. Errored items score 0.
    status : str
        Closed: as `closed.Match.status`, whatever finds the choice. Instruction: "scored",
        "substitute" or "errored". Open: "scored", "unscored", "errored" or "judge-errored".
    details : dict
        Plain JSON that explains the score.
    """

    id: str
    category: str
    score: float | None
    status: str
    details: dict[str, Any] = field(default_factory=dict)


# --- multiple choice -----------------------------------------------------------------------------


def closed_verdicts(
    items: Sequence[Item], options: Options, embedder: Embedder | None = None
) -> list[Verdict]:
    """Score multiple-choice replies.

    Parameters
    ----------
    items : sequence of Item
        Of closed categories.
    options : Options
        `closed`, `gold`, `empty`, `letters` and `strip` matter.
    embedder : Embedder, optional
        For ``closed=embedding``; without one everything is unscored but errored items.

    Returns
    -------
    list of Verdict
        In order. `details` has "stated" (the choice that the reply states, or None), "chosen" (the
        one that is scored), and "answerable"; with ``closed=embedding`` also "scores" (100 x cosine of
        the reply and each choice), "margin" to the next other text, "cut_tokens" where the reply was
        too long for the embedder, and "dropped" where an item has fewer than two choices.
    """
    readings = [
        closed.Match(None, "errored", "")
        if item.error is not None
        else closed.match(item.reply, item.doc["choices"], mode="strict")
        for item in items
    ]
    taken = [_Taken(reading.index) for reading in readings]
    if options.closed == "embedding":
        taken = _nearest_choices(items, readings, options, embedder)
    verdicts = []
    for item, reading, choice in zip(items, readings, taken, strict=True):
        index = choice.index
        gold = gold_indexes(item.doc["choices"], item.doc["answer"], options.gold)
        right = index is not None and index in gold
        details = {
            "stated": _choice(item, reading.index),
            "chosen": _choice(item, index),
            "answer": item.doc["answer"],
            "answerable": bool(gold),
            **choice.details,
        }
        if item.error is not None:
            details["error"] = item.error
        score = float(right) if choice.scored else None
        verdicts.append(Verdict(item.id, item.doc["category"], score, reading.status, details))
    return verdicts


def _choice(item: Item, index: int | None) -> str | None:
    return None if index is None else item.doc["choices"][index]


@dataclass(frozen=True)
class _Taken:
    """The choice that is scored for an item, whether it is scored at all, and the evidence."""

    index: int | None
    scored: bool = True
    details: dict[str, Any] = field(default_factory=dict)


def _nearest_choices(
    items: Sequence[Item],
    readings: Sequence[closed.Match],
    options: Options,
    embedder: Embedder | None,
) -> list[_Taken]:
    """Take the choice nearest to each reply; without an embedder nothing is scored."""
    taken = [_Taken(None, scored=item.error is not None) for item in items]
    asked: list[int] = []
    texts: list[str] = []
    for i, (item, reading) in enumerate(zip(items, readings, strict=True)):
        if item.error is not None:
            continue
        text = item.reply.strip() if options.strip == "on" else item.reply
        if options.empty == "wrong" and not text.strip():
            taken[i] = _Taken(None)
            continue
        if options.letters == "on" and reading.status == "letter" and reading.index is not None:
            text = item.doc["choices"][reading.index]
        asked.append(i)
        texts.append(text)
    if embedder is None:
        return taken
    matches = closed_official.match_official(
        texts, [items[i].doc["choices"] for i in asked], embedder
    )
    for i, match in zip(asked, matches, strict=True):
        if match.status == "dropped":  # fewer than two choices: no part of the official denominator
            taken[i] = _Taken(None, scored=False, details={"dropped": True})
            continue
        evidence: dict[str, Any] = {
            "scores": [round(score, 4) for score in match.scores],
            "margin": None if match.margin is None else round(match.margin, 4),
        }
        if match.cut_tokens:
            evidence["cut_tokens"] = match.cut_tokens
        taken[i] = _Taken(match.index, details=evidence)
    return taken


# --- instruction following -----------------------------------------------------------------------


def instruction_verdicts(items: Sequence[Item], options: Options) -> list[Verdict]:
    """Check replies to instruction questions in both readings and score the one asked for.

    Parameters
    ----------
    items : sequence of Item
        Of the instruction category.
    options : Options
        `instruction`, `empty`, `sentences`, `repeat_prompt` and `strip` matter.

    Returns
    -------
    list of Verdict
        In order. `details` has "official" and "strict" (whether each passed, None where it could
        not be checked), "note", and "official_is_substitute" where NLTK's data was missing.
    """
    verdicts = []
    for item in items:
        identifier = item.doc["task_identifier"]
        if item.error is not None:
            details: dict[str, Any] = {
                "identifier": identifier,
                "official": None,
                "strict": None,
                "note": item.error,
            }
            verdicts.append(Verdict(item.id, item.doc["category"], 0.0, "errored", details))
            continue
        official = _official_check(item, options)
        strict = instruction_following.evaluate(
            identifier, item.doc["kwargs"], item.reply, item.doc["question"], mode="strict"
        )
        counted = official if options.instruction == "official" else strict
        passed = counted.passed
        if options.empty == "wrong" and not item.reply.strip() and passed is not None:
            passed = False
        details = {
            "identifier": identifier,
            "official": official.passed,
            "strict": strict.passed,
            "note": counted.note,
        }
        if official.status == "substitute":
            details["official_is_substitute"] = True
        if not item.reply.strip():
            details["empty"] = True
        status = "errored" if passed is None else counted.status
        verdicts.append(
            Verdict(item.id, item.doc["category"], float(bool(passed)), status, details)
        )
    return verdicts


def _official_check(item: Item, options: Options) -> instruction_following.CheckResult:
    doc = item.doc
    kwargs = instruction_following.released_kwargs(doc)
    reply = item.reply.strip() if options.strip == "on" else item.reply
    question = {
        "question": doc["question"],
        "transcription": doc.get("transcription") or doc["question"],
        "nothing": "",
    }[options.repeat_prompt]
    identifier = doc["task_identifier"]
    if options.sentences == "regex" and str(identifier).startswith("Number Sentences ("):
        # The word checks compare their count alike, so as many words as there are sentences.
        count = sum(1 for part in re.split(r"[.!?]+", reply) if part.strip())
        identifier = identifier.replace("Sentences", "Words")
        reply = " ".join(["sentence"] * count)
    return instruction_following.evaluate(identifier, kwargs, reply, question, mode="official")


# --- open-ended ----------------------------------------------------------------------------------

_PAPER_OPENING = (
    "You are an expert evaluator for audio-question answering tasks. You will be given a question, "
    "a reference answer and a model's response. "
)
_SCRIPT_OPENING = f"You are an expert evaluator for {open_ended.JUDGE_CONTEXT} tasks. "
_NEMO_OPENING = "You are an expert evaluator for audio and speech-related questions. "


def judge_messages(item: Item, options: Options) -> tuple[str | None, str]:
    """Return the judge's system message (or None) and user message for one item.

    Parameters
    ----------
    item : Item
        An open-ended item.
    options : Options
        `judge_prompt` and `strip` matter. Of the paper's prompt only the opening is known; the
        rest is the script's.

    Returns
    -------
    tuple of (str or None, str)
    """
    reply = item.reply.strip() if options.strip == "on" else item.reply
    # Filled first with nothing, so that no replacement can reach into the question or the reply.
    frame = open_ended.judge_prompt("{question}", "{reference}", "{response}")
    system: str | None = open_ended.JUDGE_SYSTEM_PROMPT
    if options.judge_prompt == "paper":
        frame = frame.replace(_SCRIPT_OPENING, _PAPER_OPENING)
    elif options.judge_prompt == "nemo":
        frame = frame.replace(_SCRIPT_OPENING, _NEMO_OPENING)
        frame = frame.replace("as:\n\n", "as:\n").replace("[justification] \n", "[justification]\n")
        system = None
    text = frame.format(question=item.doc["question"], reference=item.doc["answer"], response=reply)
    return system, text


def read_judgement(text: str, options: Options) -> open_ended.Judgement:
    """Read a judge's text under the options `judge_parser`, `judge_failure` and `judge_rewrite`.

    Parameters
    ----------
    text : str
        The judge's answer, raw.
    options : Options
        Whose.

    Returns
    -------
    open_ended.Judgement
        As `open_ended.parse_judgement` gives; equal to its official mode with the official
        options and to its strict mode with the strict ones.
    """
    if parse_error(text) is not None:
        return open_ended.Judgement(None, None, None, None, None, "errored")
    if options.judge_parser == "strict":
        read = open_ended.parse_judgement(text, mode="strict")
        found = {name: getattr(read, name) for name in (*open_ended.CRITERIA, "overall")}
    else:
        number = r"\d+" if options.judge_parser == "official" else r"\d+(?:\.\d+)?"
        found = {name: _number_after(name, number, text) for name in open_ended.CRITERIA}
        found["overall"] = _number_after("overall", r"\d+(?:\.\d+)?", text)
    criteria = {name: found[name] for name in open_ended.CRITERIA}
    overall = found["overall"]
    if options.judge_failure == "3":
        criteria = {name: 3.0 if value is None else value for name, value in criteria.items()}
    known = [value for value in criteria.values() if value is not None]
    mean = sum(known) / len(known) if len(known) == len(criteria) else None
    replaced = {None: options.judge_failure == "3", 3.0: options.judge_rewrite == "on"}
    if mean is not None and replaced.get(overall, False):
        overall = mean
    status = "unscored" if overall is None else "scored"
    return open_ended.Judgement(**criteria, overall=overall, status=status)


def _number_after(name: str, number: str, text: str) -> float | None:
    found = re.search(rf"{name.upper()}:\s*({number})", text, re.IGNORECASE)
    return float(found.group(1)) if found else None


def judgement_score(judgement: open_ended.Judgement, options: Options) -> float | None:
    """Return the score of a verdict, 0 to 1 where the judge stays within 1 to 5.

    Parameters
    ----------
    judgement : open_ended.Judgement
        What `read_judgement` gave.
    options : Options
        `open_score` and `judge_failure` matter.

    Returns
    -------
    float or None
        None where there is no number.
    """
    value = judgement.correctness if options.open_score == "correctness" else judgement.overall
    if value is None:
        return 0.0 if options.judge_failure == "0" and judgement.status != "errored" else None
    return (value - 1.0) / 4.0 if options.open_score == "floorless" else value / 5.0


def open_verdicts(
    items: Sequence[Item], options: Options, judge_texts: Mapping[str, str] | None = None
) -> list[Verdict]:
    """Score open-ended replies by what a judge said of them.

    Parameters
    ----------
    items : sequence of Item
        Of the open category.
    options : Options
        The judge's options.
    judge_texts : mapping of str to str, optional
        Item id to the judge's raw text or an error reply. None: there is no judge.

    Returns
    -------
    list of Verdict
        In order. Without a judge every item is unscored but the errored ones.

    Raises
    ------
    ScoringError
        When a judge was asked and an item has no text.
    """
    verdicts = []
    for item in items:
        category = item.doc["category"]
        if item.error is not None:
            verdicts.append(Verdict(item.id, category, 0.0, "errored", {"error": item.error}))
            continue
        if judge_texts is None:
            verdicts.append(Verdict(item.id, category, None, "unscored"))
            continue
        if item.id not in judge_texts:
            raise ScoringError(f"the judge said nothing of item {item.id}. Ask it again")
        text = judge_texts[item.id]
        judgement = read_judgement(text, options)
        score = judgement_score(judgement, options)
        status = "unscored" if score is None else "scored"
        if judgement.status == "errored":
            status = "judge-errored"
        details = {
            "judge_text": text,
            **{name: getattr(judgement, name) for name in (*open_ended.CRITERIA, "overall")},
        }
        verdicts.append(Verdict(item.id, category, score, status, details))
    return verdicts
