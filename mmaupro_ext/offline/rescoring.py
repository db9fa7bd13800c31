"""Score a logged run: gather what models must say of it, hand each reply to `scoring.score`, and sum up.

The same function scores a reply within a run, so both give the same number. What is added here are the
two things that a run has not: embeddings of the replies, and a judge's texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.benchmarks import MMAUPRO
from mmaupro_ext.offline.judging import Judge, Prompt, ask_all
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run, clip_seconds
from mmaupro_ext.offline.reader import read_unparsed, require_strict, with_reader
from mmaupro_ext.offline.summary import LOST_LIMIT, summarise
from mmaupro_ext.scoring.open_ended import is_official_judge
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.scoring.scorer import Verdict, embedding_text, judge_messages, score

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import TokenEmbedder
    from mmaupro_ext.scoring.closed_official import OfficialMatch


def score_run(
    run: Run,
    preset: Preset,
    *,
    embedder: TokenEmbedder | None = None,
    judge: Judge | None = None,
    reader: Judge | None = None,
    data_dir: str | Path | None = None,
    lost_limit: float = LOST_LIMIT,
) -> tuple[list[Verdict], dict[str, Any]]:
    """Score the replies of a run.

    Parameters
    ----------
    run : Run
        What `logged_runs.read_runs` gave.
    preset : Preset
        What `presets.resolve` gave.
    embedder : TokenEmbedder, optional
        For presets with ``closed=embedding``; without it multiple choice is unscored there.
    judge : Judge, optional
        Without it open questions are unscored.
    reader : Judge, optional
        Reads the multiple-choice replies that are unparsed; reported apart.
    data_dir : path, optional
        Folder of the full dataset, for measured lengths.
    lost_limit : float
        Per cent of a category's items that may be lost before its score is marked.

    Returns
    -------
    verdicts : list of Verdict
        In the order of ``run.items``.
    result : dict
        Plain JSON: what `summary.summarise` gave, with its `label`.

    Raises
    ------
    MMAUProError
        When the embedder, the judge or the reader cannot be used at all.
    """
    if reader is not None:
        require_strict(preset)
    uses_embedder = preset.options.closed == "embedding"
    nearest = nearest_choices(run.items, preset, embedder if uses_embedder else None)
    texts = _judge_texts(run.items, preset, judge)
    verdicts = [
        score(
            item.doc,
            item.reply,
            preset,
            finish=item.finish,
            nearest=nearest.get(position),
            judge_text=texts.get(position),
        )
        for position, item in enumerate(run.items)
    ]
    result = summarise(
        run,
        verdicts,
        preset,
        clip_seconds(run.dataset, data_dir, run.name),
        embedder=_details(embedder) if uses_embedder and embedder is not None else None,
        judge=judge.identity() if judge is not None and texts else None,
        lost_limit=lost_limit,
    )
    if reader is not None and "closed" in result:
        verdicts = read_unparsed(run.items, verdicts, reader)
        result = with_reader(result, run.items, verdicts, reader.identity(), preset)
    result["label"] = _label(preset, result)
    return verdicts, result


def nearest_choices(
    items: Sequence[Item], preset: Preset, embedder: TokenEmbedder | None
) -> dict[int, OfficialMatch]:
    """Return the nearest choice by the position of the item, for the items that are embedded.

    Parameters
    ----------
    items : sequence of Item
        Those of other kinds than multiple choice are passed over.
    preset : Preset
        Says what of a reply is embedded.
    embedder : TokenEmbedder or None
        None finds nothing.

    Returns
    -------
    dict of int to OfficialMatch
    """
    if embedder is None:
        return {}
    from mmaupro_ext.scoring.closed_official import match_official

    # Not by id: under some conditions an item is asked several times.
    asked: dict[int, tuple[str, list[str]]] = {}
    for position, item in enumerate(items):
        if item.kind == "closed":
            text = embedding_text(item.doc, item.reply, preset, item.finish)
            if text is not None:
                asked[position] = (text, item.doc["choices"])
    matches = match_official(
        [text for text, _ in asked.values()], [choices for _, choices in asked.values()], embedder
    )
    return dict(zip(asked, matches, strict=True))


def _judge_texts(items: Sequence[Item], preset: Preset, judge: Judge | None) -> dict[int, str]:
    """Return what the judge said by the item's position, "" of items that there was nothing to ask of."""
    if judge is None:
        return {}
    messages = {
        position: judge_messages(item.doc, item.reply, preset, item.finish)
        for position, item in enumerate(items)
        if item.kind == "open"
    }
    asked = {place: Prompt(*message) for place, message in messages.items() if message is not None}
    answers = ask_all(judge, list(asked.values()))
    return {**dict.fromkeys(messages, ""), **dict(zip(asked, answers, strict=True))}


def _details(embedder: TokenEmbedder) -> dict[str, Any]:
    """Return what a result says of the embedder: a folder by its name, wherever it lies."""
    details = embedder.details()
    folder = Path(details["name"]).expanduser()
    return {**details, "name": folder.resolve().name} if folder.is_dir() else details


def own_prompt(benchmark: str) -> str:
    """Return what the authors' prompts of a benchmark ask for, as `Run.asks_for` has it."""
    return "letter" if benchmark == MMAUPRO else "own"


def _label(preset: Preset, result: dict[str, Any]) -> str:
    """Return the preset's name, with the prompt, the models and what else is not as usual."""
    own = result["asks_for"] == own_prompt(result["benchmark"])
    label = preset.name + ("" if own else f"+prompt={result['asks_for']}")
    embedder, judge = result["embedder"], result["judge"]
    if "recipe" in result:
        label += f"+recipe={result['recipe']}"
    if "condition" in result:
        label += f"+condition={result['condition']}"
    if embedder is not None and not embedder.get("official"):
        label += f"+embedder={embedder['name']}"
    if judge is not None and not is_official_judge(judge["model"]):
        label += f"+judge={judge['model']}"
    if result["reader"] is not None:
        label += f"+reader={result['reader']['model']}"
    return label
