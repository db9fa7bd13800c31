"""The one scorer, of lm_eval's table and of `mmaupro score`: a document and a reply in, a `Verdict` out.

A reply passes `replies.parse_error` (was the item served?), `final.final_answer` (what of it counts?),
and one of `closed`, `instruction_following` and `open_ended`. What needs a model comes in as an argument:
the choice that an embedder found nearest, or the text that a judge wrote. `embedding_text` and
`judge_messages` say what to ask these models for. Over 400 lines, so that all of it is in one place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmaupro_ext import benchmarks
from mmaupro_ext.categories import Kind
from mmaupro_ext.replies import parse_error
from mmaupro_ext.scoring import closed, instruction_following, open_ended
from mmaupro_ext.scoring.final import final_answer
from mmaupro_ext.scoring.official_rules import RULES
from mmaupro_ext.scoring.presets import Options, Preset, of_benchmark

if TYPE_CHECKING:
    from mmaupro_ext.scoring.closed_official import OfficialMatch

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What one reply scores.

    Attributes
    ----------
    score : float or None
        0 to 1 (a judge of the official kind may go beyond, see `open_ended`). An item that could not be
        served scores 0. None: it is not scored yet, for want of an embedder, a judge or an answer, or its
        released scorer leaves it out (`dropped`).
    status : str
        "errored": the item was not served. "unparsed": the reply states no answer. "empty": it has no
        text. Otherwise, closed: "letter", "text" or "ambiguous", which is how the reply states a choice,
        whatever finds the choice that is scored. Instruction: "scored" or "substitute" (see
        `instruction_following`). Open: "scored", "unscored" (no judge was asked), "unreadable" (its
        verdict) or "judge-errored" (no verdict was to be had); the last two score 0.
    parsed : bool
        Whether the reply states an answer: exactly one choice; for the other kinds, any text.
    details : dict
        Plain JSON that explains the score.
    """

    score: float | None
    status: str
    parsed: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def errored(self) -> bool:
        """Whether the model was never heard on this item."""
        return self.status == "errored"

    @property
    def dropped(self) -> bool:
        """Whether the released rule leaves the item out of its denominator."""
        return bool(self.details.get("dropped"))

    @property
    def lost(self) -> bool:
        """Whether something other than the model's reply decided on the 0: no answer, or no verdict on it."""
        return self.status in ("errored", "unreadable", "judge-errored")


def score(
    doc: Doc,
    reply: str,
    preset: Preset | str = "strict",
    *,
    finish: str | None = None,
    nearest: OfficialMatch | None = None,
    judge_text: str | None = None,
) -> Verdict:
    """Score one reply.

    Parameters
    ----------
    doc : mapping
        The document that was asked, as `data.load_category` or `data.load_items` gives it.
    reply : str
        The model's reply, raw, or the mark of an item that could not be served.
    preset : Preset or str
        What `presets.resolve` gave, or a name as it takes: "strict", "official", "strict+gold=exact".
    finish : {"stop", "length", "error"} or None
        Why the reply ended, where it is known.
    nearest : OfficialMatch, optional
        For presets with ``closed=embedding``: what `closed_official.match_official` gave for
        `embedding_text`. Without it the item is unscored.
    judge_text : str, optional
        For open items: what a judge answered to `judge_messages`, raw, or the mark of a failed call;
        "" where there was nothing to ask. Without it the item is unscored, whatever the reply.

    Returns
    -------
    Verdict

    Raises
    ------
    ConfigError
        When there is no such preset.

    Examples
    --------
    >>> doc = {"id": "1", "category": "sound", "question": "?", "choices": ["Tea", "Milk"], "answer": "Tea"}
    >>> score(doc, "The answer is A.", "strict").score
    1.0
    """
    options = _options(preset, doc)
    kind = kind_of(doc)
    problem = error_of(doc, reply, finish)
    nothing = None if kind == "open" and judge_text is None else 0.0
    if problem is not None:
        return Verdict(nothing, "errored", details={"error": problem})
    if kind in ("closed", "hidden"):
        return _closed(doc, reply, options, nearest, finish)
    text = _scored_text(reply, options, finish)
    if text is None:
        return Verdict(nothing, "unparsed")
    if kind == "instruction":
        return _instruction(doc, text, options)
    return _open(text, options, judge_text)


def kind_of(doc: Doc) -> Kind:
    """Return how a document is answered and scored: "closed", "open", "instruction" or "hidden"."""
    return benchmarks.kind_of(doc.get("benchmark", benchmarks.MMAUPRO), doc["category"])


def error_of(doc: Doc, reply: str, finish: str | None = None) -> str | None:
    """Return why the item was not served, or None when it was.

    Parameters
    ----------
    doc, reply, finish
        As for `score`.

    Returns
    -------
    str or None
    """
    if doc.get("problem"):
        return str(doc["problem"])
    found = parse_error(reply)
    if found is not None:
        return found["problem"] or "unknown problem"
    return "the model broke off with an error" if finish == "error" else None


def _options(preset: Preset | str, doc: Doc) -> Options:
    """Return the options of a preset; by its name, they are those of the document's benchmark."""
    if isinstance(preset, str):
        preset = of_benchmark(preset, doc.get("benchmark", benchmarks.MMAUPRO))
    return preset.options


def _scored_text(reply: str, options: Options, finish: str | None) -> str | None:
    """Return what of a reply is scored, None where it ended before it answered."""
    if options.reply == "final":
        return final_answer(reply, finish)
    return reply.strip() if options.reply == "stripped" else reply


def _is_nothing(text: str | None, options: Options) -> bool:
    return text is None or (options.reply != "raw" and not text.strip())


# --- multiple choice -----------------------------------------------------------------------------


def _closed(
    doc: Doc, reply: str, options: Options, nearest: OfficialMatch | None, finish: str | None
) -> Verdict:
    # The reader takes the final answer itself; what it reads is reported under every preset.
    reading = closed.match(reply, doc["choices"], mode="strict", finish=finish)
    index, unscored = reading.index, doc["answer"] is None
    evidence: dict[str, Any] = {}
    if options.closed in RULES and not unscored:
        return _ruled(doc, reading, compared_text(doc, reply, options, finish), options)
    if options.closed == "embedding":
        index, evidence = _nearest(nearest)
        nothing = _is_nothing(_scored_text(reply, options, finish), options)
        unscored = unscored or (nearest is None and not nothing)
        if nearest is not None and nearest.status == "dropped":
            return Verdict(0.0, "errored", details={"error": "fewer than two choices"})
    details = {
        "stated": choice_at(doc, reading.index),
        "chosen": choice_at(doc, index),
        "answer": doc["answer"],
        "evidence": reading.evidence,
        **evidence,
    }
    points = None if unscored else float(is_right(doc, index, options.gold))
    return Verdict(points, reading.status, reading.index is not None, details)


def _ruled(doc: Doc, reading: closed.Match, text: str | None, options: Options) -> Verdict:
    """Score by a released rule, which sees the text alone; how the reply states a choice is reported."""
    ruling = RULES[options.closed](doc["answer"], text or "", doc["choices"])
    details: dict[str, Any] = {
        "stated": choice_at(doc, reading.index),
        "chosen": choice_at(doc, ruling.index),
        "answer": doc["answer"],
        "rule": options.closed,
        "why": ruling.why,
    }
    if ruling.right is None:
        details["dropped"] = True
    points = None if ruling.right is None else float(ruling.right)
    return Verdict(points, reading.status, reading.index is not None, details)


def _nearest(match: OfficialMatch | None) -> tuple[int | None, dict[str, Any]]:
    if match is None or match.index is None:
        return None, {}
    evidence: dict[str, Any] = {
        "scores": [round(value, 4) for value in match.scores],
        "margin": None if match.margin is None else round(match.margin, 4),
    }
    if match.cut_tokens:
        evidence["cut_tokens"] = match.cut_tokens
    return match.index, evidence


def embedding_text(
    doc: Doc, reply: str, preset: Preset | str = "official", finish: str | None = None
) -> str | None:
    """Return the text that is compared with the choices' texts under ``closed=embedding``.

    Parameters
    ----------
    doc, reply, preset, finish
        As for `score`.

    Returns
    -------
    str or None
        None where the item needs no embedding: it was not served, or its reply is empty and that is wrong.
    """
    options = _options(preset, doc)
    if error_of(doc, reply, finish) is not None:
        return None
    text = compared_text(doc, reply, options, finish)
    return None if _is_nothing(text, options) else text


def compared_text(doc: Doc, reply: str, options: Options, finish: str | None = None) -> str | None:
    """Return what a released rule is shown of a reply to a multiple-choice item.

    Parameters
    ----------
    doc, reply, finish
        As for `score`.
    options : Options
        What of the reply counts, and whether the text of its choice is put in place of a stated letter.

    Returns
    -------
    str or None
        None where only a final answer counts and there is none.
    """
    text = _scored_text(reply, options, finish)
    if options.letters == "on" and not _is_nothing(text, options):
        reading = closed.match(reply, doc["choices"], mode="strict", finish=finish)
        if reading.status == "letter":
            return choice_at(doc, reading.index)
    return text


def choice_at(doc: Doc, index: int | None) -> str | None:
    """Return the text of a choice, None for None."""
    return None if index is None else str(doc["choices"][index])


def is_right(doc: Doc, index: int | None, gold: str = "normalised") -> bool:
    """Tell whether a choice is the reference answer.

    Parameters
    ----------
    doc : mapping
        With `choices` and `answer`.
    index : int or None
        Position of the choice; None is never right.
    gold : str
        As for `gold_indexes`.

    Returns
    -------
    bool
    """
    return index is not None and index in gold_indexes(doc["choices"], doc["answer"], gold)


def gold_indexes(
    choices: Sequence[str], answer: str | None, gold: str = "normalised"
) -> frozenset[int]:
    """Return which choices are the reference answer.

    Parameters
    ----------
    choices : sequence of str
        The item's choices.
    answer : str or None
        The item's reference answer.
    gold : {"normalised", "exact", "casefold"}
        Value of the option of that name. With "normalised", a choice that is equal as it stands
        takes precedence, so that choices which differ by case alone stay apart.

    Returns
    -------
    frozenset of int
        Positions; empty when the item cannot be answered.
    """
    if answer is None:
        return frozenset()
    if gold == "casefold":
        wanted = answer.strip().lower()
        return frozenset(i for i, text in enumerate(choices) if text.strip().lower() == wanted)
    exact = frozenset(i for i, text in enumerate(choices) if text == answer)
    if gold == "exact" or exact:
        return exact
    wanted = _normalised(answer)
    return frozenset(i for i, text in enumerate(choices) if wanted and _normalised(text) == wanted)


def _normalised(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(r"[\s.,;:!?]+$", "", folded) or folded


# --- instruction following -----------------------------------------------------------------------


def _instruction(doc: Doc, text: str, options: Options) -> Verdict:
    identifier, question = doc["task_identifier"], doc["question"]
    kwargs = doc["kwargs"]
    checked = text
    if options.instruction != "strict":
        kwargs = instruction_following.released_kwargs(doc)
    if options.instruction == "nemo":
        question = ""  # its data has no prompt to repeat, so that nothing is asked for
        if str(identifier).startswith("Number Sentences ("):
            # The word checks compare their count alike, so as many words as there are sentences.
            count = sum(1 for part in re.split(r"[.!?]+", text) if part.strip())
            identifier = identifier.replace("Sentences", "Words")
            checked = " ".join(["sentence"] * count)
    mode = "strict" if options.instruction == "strict" else "official"
    found = instruction_following.evaluate(identifier, kwargs, checked, question, mode=mode)
    details = {"identifier": doc["task_identifier"], "note": found.note}
    if found.passed is None:
        return Verdict(0.0, "errored", details={**details, "error": found.note})
    empty = not text.strip()
    passed = found.passed and not _is_nothing(text, options)
    status = "empty" if empty and options.reply != "raw" else found.status
    return Verdict(float(passed), status, not empty, details)


# --- open-ended ----------------------------------------------------------------------------------


def judge_messages(
    doc: Doc, reply: str, preset: Preset | str = "strict", finish: str | None = None
) -> tuple[str | None, str] | None:
    """Return what a judge is asked about an open item.

    Parameters
    ----------
    doc, reply, preset, finish
        As for `score`.

    Returns
    -------
    tuple of (str or None, str), or None
        System message (None for none) and user message. None where there is nothing to judge: the
        item was not served, or its reply has no final answer where only that counts.
    """
    options = _options(preset, doc)
    if error_of(doc, reply, finish) is not None:
        return None
    text = _scored_text(reply, options, finish)
    if text is None or (options.reply == "final" and not text.strip()):
        return None
    return open_ended.judge_messages(doc["question"], doc["answer"], text, options.judge)


def judge_decoding(preset: Preset | str) -> str:
    """Return how the judge of a preset writes: "sampled" or "greedy"."""
    options = _options(preset, {})
    return "sampled" if options.judge == "official" else "greedy"


def _open(text: str, options: Options, judge_text: str | None) -> Verdict:
    answered = bool(text.strip())
    if options.reply == "final" and not answered:
        return Verdict(None if judge_text is None else 0.0, "empty")
    if judge_text is None:
        return Verdict(None, "unscored", answered)
    judgement = open_ended.parse_judgement(judge_text, options.judge)
    points = open_ended.judgement_score(judgement, options.judge)
    status = "scored" if points is not None else "unreadable"
    if judgement.status == "errored":
        status = "judge-errored"
    names = (*open_ended.CRITERIA, "overall")
    details = {"judge_text": judge_text, **{name: getattr(judgement, name) for name in names}}
    return Verdict(points or 0.0, status, answered, details)
