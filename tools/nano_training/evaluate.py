"""Measure nano on the embedded sample, from file to score, and write the table of its model card.

`python -m nano_training.evaluate [--checkpoint DIR] [--write README.md] [--details]`

Every run goes through lm_eval, the tasks of the sample and hf-audio. Beside the run that hears,
three runs must be near chance: noise or silence instead of every clip, and no audio at all.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmaupro_ext import plugin
from mmaupro_ext.audio import AudioReader, Decoded
from mmaupro_ext.data import CATEGORY_BY_VALUE
from mmaupro_ext.models import nano
from mmaupro_ext.models.blocks import AUDIO_MARK
from mmaupro_ext.models.hf.model import HFAudioLM
from nano_training import data, train

GROUP = "mmaupro-sample"
HELD_OUT_SEED = 104729
CONDITIONS = ("heard", "noise", "silence", "no audio")
MARK_START, MARK_END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Answered:
    """One closed question and the reply to it.

    Parameters
    ----------
    category, skill : str
        Slug of the category and name of the skill.
    options : int
        Number of options.
    reply : str
        What the model wrote.
    answer : str
        The right option.
    correct : bool
        By the strict scorer.
    """

    category: str
    skill: str
    options: int
    reply: str
    answer: str
    correct: bool


class DeafReader:
    """An `AudioReader` whose clips have the right length and nothing of what was recorded.

    Parameters
    ----------
    reader : AudioReader
        Reads the clips.
    level : float
        Root mean square of the white noise that stands in for them; 0.0 is silence.
    """

    def __init__(self, reader: AudioReader, level: float) -> None:
        self._reader, self._level = reader, level

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, reference: Any) -> Decoded:
        """Return noise of the shape of the clip; the same clip gives the same noise."""
        clip = self._reader.read(reference)
        rng = np.random.default_rng(clip.samples.size)
        noise = self._level * rng.standard_normal(clip.samples.shape)
        return replace(clip, samples=noise.astype(np.float32))


class NoAudioLM(HFAudioLM):
    """hf-audio that throws the clips of a request away, with their places in the prompt."""

    def _generate_media(self, requests: Sequence[Any], disable_tqdm: bool) -> list[str]:
        without = []
        for request in requests:
            context, options = request.args[:2]
            without.append(copy.copy(request))
            without[-1].arguments = (context.replace(AUDIO_MARK, "").lstrip(), options)
        return super()._generate_media(without, disable_tqdm)


def load(checkpoint: str, condition: str = "heard", **options: Any) -> HFAudioLM:
    """Return the model under one of `CONDITIONS`.

    Parameters
    ----------
    checkpoint : str
        Folder.
    condition : str
        What the model is given to hear.
    **options
        For `HFAudioLM`, for example `frontend="stock"`.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"condition={condition!r}: use one of {', '.join(CONDITIONS)}")
    kind = NoAudioLM if condition == "no audio" else HFAudioLM
    settings: dict[str, Any] = {"device": "cpu", "batch_size": 8} | options
    lm = kind(checkpoint, **settings)
    if condition in {"noise", "silence"}:
        placer: Any = lm._preparer.placer
        placer.reader = DeafReader(placer.reader, 0.1 if condition == "noise" else 0.0)
    return lm


def answer_sample(lm: HFAudioLM, categories: Iterable[str] | None = None) -> list[Answered]:
    """Run the closed questions of the sample through lm_eval.

    Parameters
    ----------
    lm : HFAudioLM
        The model.
    categories : iterable of str, optional
        Slugs; all closed ones when omitted.

    Returns
    -------
    list of Answered
        In the order of the sample.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    closed = [c.slug for c in CATEGORY_BY_VALUE.values() if c.kind == "closed"]
    tasks = [f"{GROUP}_{slug}" for slug in (closed if categories is None else categories)]
    manager = TaskManager(include_path=plugin.tasks_dir(), include_defaults=False)
    results = simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0)
    return [read_sample(task, sample) for task in tasks for sample in results["samples"][task]]


def read_sample(task: str, sample: dict[str, Any]) -> Answered:
    """Return what one of lm_eval's samples says, as it is in memory and in the file."""
    return Answered(
        category=task.removeprefix(f"{GROUP}_"),
        skill=sample["doc"]["sub-cat"],
        options=len(sample["doc"]["choices"]),
        reply=sample["filtered_resps"][0],
        answer=sample["doc"]["answer"],
        correct=sample["acc"] == 1.0,
    )


def chance(answered: Sequence[Answered]) -> float:
    """Return the accuracy that guessing among the options has on average."""
    return float(np.mean([1.0 / one.options for one in answered]))


def p_value(answered: Sequence[Answered]) -> float:
    """Return how likely guessing is to get at least as many right.

    The number of right guesses has the Poisson binomial distribution, because the questions have
    different numbers of options; it is computed exactly.
    """
    distribution = np.ones(1)
    for one in answered:
        distribution = np.convolve(distribution, [1.0 - 1.0 / one.options, 1.0 / one.options])
    return float(distribution[sum(one.correct for one in answered) :].sum())


def table(runs: dict[str, list[Answered]]) -> str:
    """Return the results as Markdown: one row per category, one column per condition."""
    lines = [
        "| category | items | chance | " + " | ".join(runs) + " | p (heard) |",
        "|---|---|---|" + "---|" * (len(runs) + 1),
    ]
    heard = runs["heard"]
    categories = list(dict.fromkeys(one.category for one in heard))
    for name in [*categories, "all"]:
        rows = {
            condition: [one for one in answered if name in {one.category, "all"}]
            for condition, answered in runs.items()
        }
        cells = [f"{np.mean([one.correct for one in part]):.0%}" for part in rows.values()]
        part = rows["heard"]
        lines.append(
            f"| {name} | {len(part)} | {chance(part):.0%} | "
            + " | ".join(cells)
            + f" | {p_value(part):.1g} |"
        )
    overall = [f"{name} {p_value(answered):.1g}" for name, answered in runs.items()]
    lines += ["", "p of all items: " + ", ".join(overall) + "."]
    return "\n".join(lines)


def held_out_shares(lm: HFAudioLM, per_skill: int = 25) -> str:
    """Return a sentence with the accuracy per skill on questions that are in no batch.

    These are waveforms straight from the generator, without files; the reply must be the option to
    the letter.
    """
    learner = train.Learner(lm.tokenizer, lm.model, torch.nn.ModuleDict())
    shares = train.accuracy(learner, train.held_out(HELD_OUT_SEED, per_skill))
    del shares[data.TRANSCRIPT]
    whole = [name for name, share in shares.items() if share == 1.0]
    rest = sorted((share, name) for name, share in shares.items() if share < 1.0)
    return (
        f"On {per_skill} further questions of each trained skill, straight from the generator: "
        f"{np.mean(list(shares.values())):.1%} right on average; all right in {len(whole)} of "
        f"{len(shares)} skills; " + ", ".join(f"{name} {share:.0%}" for share, name in rest) + "."
    )


def write_table(card: Path, text: str) -> None:
    """Put the table between the two marks of a model card."""
    content = card.read_text(encoding="utf-8")
    before, rest = content.split(MARK_START)
    after = rest.split(MARK_END)[1]
    card.write_text(f"{before}{MARK_START}\n{text}\n{MARK_END}{after}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nano_training.evaluate", description=__doc__)
    parser.add_argument("--checkpoint", default=None, help="folder (default: the shipped one)")
    parser.add_argument("--write", type=Path, help="model card to write the table to")
    parser.add_argument("--details", action="store_true", help="print every question's reply")
    options = parser.parse_args(arguments)
    checkpoint = options.checkpoint or nano.path()
    runs = {name: answer_sample(load(checkpoint, name)) for name in CONDITIONS}
    if options.details:
        for one in runs["heard"]:
            print(json.dumps(one.__dict__))
    stock = answer_sample(load(checkpoint, frontend="stock"))
    same = sum(a.reply == b.reply for a, b in zip(runs["heard"], stock, strict=True))
    text = table(runs) + f"\n\nStock and native frontend: {same} of {len(stock)} replies are equal."
    text += "\n\n" + held_out_shares(load(checkpoint))
    print(text)
    if options.write:
        write_table(options.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
