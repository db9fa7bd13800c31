"""Train nano: `python -m nano_training.train --out DIR [--steps L A T] [--seed S] [--resume]`.

Three stages, on one CPU thread beside one process that makes sounds:

1. listen: the audio encoder names, every 40 ms, what sounds (heads that are thrown away after);
2. answer: the language model learns to answer on top of the encoder, which stands still;
3. together: both are tuned.

Answers are the text of the option. Batch number k of a stage depends on the seed and on k only, so
a run that is resumed sees what an unbroken run would have seen.
Beyond 400 lines, because stages, state and resumption are one subject.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import queue
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2AudioForConditionalGeneration

from nano_training import architecture, data, vocabulary
from nano_training.data import Example, Scene
from synth import questions

STAGES = ("listen", "answer", "together")
DEFAULT_STEPS = (1100, 1100, 1100)
LEARNING_RATES = {"listen": 2e-3, "answer": 2e-3, "together": 6e-4}
WARM_UP = 60  # steps
SCENES = 16  # per step of the first stage
SINGLES, PAIRS = 14, 6  # per step of the others: questions on one block or on several
TRANSCRIPT_SHARE = 0.2
LABEL_WEIGHTS = {"spoken": 4.0}  # the hardest label; the others count once
EASY_STEPS = 250  # of the second stage: no questions on several blocks yet
# What was still weak after the second stage is drawn three times as often in the third.
WEAK_SKILLS = frozenset(
    {
        "beep count",
        "chord quality",
        "clip with word",
        "same melody",
        "scene order",
        "side by delay",
        "tempo",
        "word on the left",
    }
)
HELD_OUT_SEED = 7919  # added to the seed

PAIR_SKILLS: tuple[str, ...] = tuple(
    name for name in data.SKILLS if questions.SKILLS[name].category in {"multi", "spatial_audio"}
)
SINGLE_SKILLS: tuple[str, ...] = tuple(name for name in data.SKILLS if name not in PAIR_SKILLS)


# ------------------------------------------------------------------------------------- batches


def make_batch(stage: str, seed: int, number: int, sizes: Sequence[int]) -> list[list[Any]]:
    """Make batch `number` of a stage.

    Parameters
    ----------
    stage : str
        One of `STAGES`.
    seed, number : int
        Equal ones give equal batches.
    sizes : sequence of int
        Scenes; questions on one block; questions on several.

    Returns
    -------
    list of list
        Groups of scenes or examples; a group goes through the model at once.
    """
    rng = data.stream(seed, stage, number)
    if stage == "listen":
        return [[data.make_scene(rng) for _ in range(sizes[0])]]
    groups = []
    easy = stage == "answer" and number < EASY_STEPS
    for size, names in ((sizes[1], SINGLE_SKILLS), (0 if easy else sizes[2], PAIR_SKILLS)):
        often = 3.0 if stage == "together" else 1.0
        weights = np.array([often if name in WEAK_SKILLS else 1.0 for name in names])
        group = []
        for _ in range(size):
            is_transcript = names is SINGLE_SKILLS and rng.uniform() < TRANSCRIPT_SHARE
            drawn = str(rng.choice(names, p=weights / weights.sum()))
            name = data.TRANSCRIPT if is_transcript else drawn
            group.append(data.make_example(name, rng))
        if group:
            groups.append(group)
    return groups


def _produce(out: Any, stage: str, seed: int, first: int, sizes: Sequence[int]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    number = first
    while True:
        try:
            out.put(make_batch(stage, seed, number, sizes))
        except Exception as error:
            out.put(error)
            return
        number += 1


@contextmanager
def supply(
    stage: str, seed: int, first: int, sizes: Sequence[int], background: bool
) -> Iterator[Iterator[list[list[Any]]]]:
    """Give batches first, first + 1, ... of a stage, made ahead by another process if wanted."""
    if not background:
        yield (make_batch(stage, seed, number, sizes) for number in itertools.count(first))
        return
    context = multiprocessing.get_context("spawn")
    line = context.Queue(maxsize=12)
    process = context.Process(
        target=_produce, args=(line, stage, seed, first, tuple(sizes)), daemon=True
    )
    process.start()

    def batches() -> Iterator[list[list[Any]]]:
        while True:
            try:
                batch = line.get(timeout=60.0)
            except queue.Empty:
                if process.is_alive():
                    continue
                raise RuntimeError("the process that makes sounds has ended") from None
            if isinstance(batch, Exception):
                raise batch
            yield batch

    try:
        yield batches()
    finally:
        process.terminate()
        process.join()


# --------------------------------------------------------------------------------------- model


@dataclass
class Learner:
    """What is trained.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer of the model.
    model : transformers.Qwen2AudioForConditionalGeneration
        The model.
    heads : torch.nn.ModuleDict
        One linear layer per label of a scene; for the first stage only.
    """

    tokenizer: PreTrainedTokenizerFast
    model: Qwen2AudioForConditionalGeneration
    heads: nn.ModuleDict

    @classmethod
    def make(cls, seed: int) -> Learner:
        """Return an untrained learner."""
        tokenizer = vocabulary.make_tokenizer()
        torch.manual_seed(seed)
        model = architecture.make_model(tokenizer)
        model.model.audio_tower.embed_positions.requires_grad_(True)
        heads = nn.ModuleDict(
            {name: nn.Linear(architecture.WIDTH, count) for name, count in data.LABELS.items()}
        )
        return cls(tokenizer, model, heads)

    def encode(self, blocks: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return what the encoder makes of blocks.

        Parameters
        ----------
        blocks : Tensor, shape (blocks, 80, 400)
            Log-mel features.
        positions : Tensor, shape (blocks,)
            Samples of each block.

        Returns
        -------
        Tensor, shape (blocks, 100, WIDTH)
            The tail beyond a block's end means nothing.
        """
        lengths = (-(-positions // 160) - 1) // 2 + 1
        seen = torch.arange(data.FRAMES // 2)[None] < lengths[:, None]
        mask = seen[:, None, None].expand(-1, 1, seen.shape[1], -1)
        encoder = self.model.model.audio_tower
        return encoder(blocks.float(), attention_mask=mask).last_hidden_state

    def listen_loss(self, scenes: Sequence[Scene]) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss on labelled scenes and the accuracy per label where there is one."""
        blocks = torch.stack([torch.from_numpy(scene.block) for scene in scenes])
        heard = self.encode(blocks, torch.tensor([scene.samples for scene in scenes]))
        labels = torch.stack([torch.from_numpy(scene.labels) for scene in scenes]).long()
        losses, accuracy = [], {}
        for row, (name, head) in enumerate(self.heads.items()):
            wanted = labels[:, row].flatten()
            scores = head(heard).flatten(0, 1)
            loss = functional.cross_entropy(scores, wanted, ignore_index=-1)
            losses.append(LABEL_WEIGHTS.get(name, 1.0) * loss)
            there = wanted > 0
            right = (scores.argmax(-1) == wanted)[there].float()
            accuracy[name] = float(right.mean()) if bool(there.any()) else math.nan
        return torch.stack(losses).sum(), accuracy

    def answer_scores(
        self, examples: Sequence[Example], encoder_learns: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the scores of every answer token, the right tokens, and whose they are.

        Returns
        -------
        tuple of Tensor
            Shapes (tokens, vocabulary), (tokens,), (tokens,): answers one after the other, each
            with its end token.
        """
        audio_id, end = self.model.config.audio_token_id, self.tokenizer.eos_token_id
        rows, targets, places = [], [], []
        for number, example in enumerate(examples):
            positions = iter(example.positions)
            prompt: list[int] = []
            for token in self.tokenizer(example.prompt())["input_ids"]:
                prompt += [token] * (next(positions) if token == audio_id else 1)
            answer = self.tokenizer(example.answer)["input_ids"]
            rows.append(torch.tensor(prompt + answer))
            targets.append(torch.tensor([*answer, end]))
            places += [(number, len(prompt) - 1 + step) for step in range(len(answer) + 1)]
        ids = nn.utils.rnn.pad_sequence(rows, True, self.tokenizer.pad_token_id)
        blocks = torch.cat([torch.from_numpy(example.blocks) for example in examples])
        samples = torch.tensor([n for example in examples for n in example.samples])
        with torch.set_grad_enabled(encoder_learns and torch.is_grad_enabled()):
            heard = self.encode(blocks, samples)
        counts = torch.tensor([n for example in examples for n in example.positions])
        heard = heard[torch.arange(heard.shape[1])[None] < counts[:, None]]
        inner = self.model.model
        embedded = inner.get_input_embeddings()(ids)
        embedded = embedded.masked_scatter(
            (ids == audio_id)[..., None], inner.multi_modal_projector(heard)
        )
        # Padding stands on the right, where causal attention does not look.
        hidden = inner.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        owner, step = torch.tensor(places).T
        return self.model.lm_head(hidden[owner, step]), torch.cat(targets), owner

    def parameters(self, stage: str) -> list[nn.Parameter]:
        """Return what a stage trains."""
        encoder = list(self.model.model.audio_tower.parameters())
        if stage == "listen":
            return encoder + list(self.heads.parameters())
        if stage == "together":
            return list(self.model.parameters())
        own = {id(parameter) for parameter in encoder}
        return [p for p in self.model.parameters() if id(p) not in own]


def held_out(seed: int, per_skill: int) -> dict[str, list[Example]]:
    """Return examples that no batch has."""
    return {
        name: [
            data.make_example(name, data.stream(seed + HELD_OUT_SEED, "held out", name, number))
            for number in range(per_skill)
        ]
        for name in (*data.SKILLS, data.TRANSCRIPT)
    }


@torch.no_grad()
def accuracy(learner: Learner, examples: dict[str, list[Example]]) -> dict[str, float]:
    """Return the share of answers per skill that greedy decoding would write to the letter."""
    shares = {}
    for name, group in examples.items():
        scores, targets, owner = learner.answer_scores(group, encoder_learns=False)
        wrong = {int(number) for number in owner[scores.argmax(-1) != targets]}
        shares[name] = 1.0 - len(wrong) / len(group)
    return shares


# -------------------------------------------------------------------------------------- stages


def learning_rate(stage: str, step: int, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine."""
    rise = min(1.0, (step + 1) / WARM_UP)
    return LEARNING_RATES[stage] * rise * (0.02 + 0.49 * (1.0 + math.cos(math.pi * step / steps)))


class Trainer:
    """Run the stages, keeping a state that a later run can go on from.

    Parameters
    ----------
    out : pathlib.Path
        Folder of the checkpoint; `train_state.pt` and `log.jsonl` stand beside it, in the parent
        of `out` with its name as prefix.
    seed : int
        Of weights and data.
    steps : sequence of int
        Of each stage.
    sizes : sequence of int
        As in `make_batch`.
    per_skill : int
        Held-out examples of each skill.
    background : bool
        Whether another process makes the batches.
    """

    def __init__(
        self,
        out: Path,
        seed: int,
        steps: Sequence[int],
        sizes: Sequence[int] = (SCENES, SINGLES, PAIRS),
        per_skill: int = 16,
        background: bool = True,
    ) -> None:
        self.out, self.seed, self.sizes, self.background = out, seed, sizes, background
        self.steps = dict(zip(STAGES, steps, strict=True))
        self.learner = Learner.make(seed)
        self.examples = held_out(seed, per_skill)
        self.done = dict.fromkeys(STAGES, 0)
        self.seconds = 0.0
        self.optimizer: torch.optim.Optimizer | None = None
        self._optimizer_state: Any = None

    @property
    def state_file(self) -> Path:
        """Where the state of an unfinished run is kept."""
        return self.out.parent / f"{self.out.name}.train_state.pt"

    def save_state(self) -> None:
        """Write the state so that a crash at any moment leaves the old or the new one whole."""
        unfinished = self.state_file.with_suffix(".part")
        torch.save(
            {
                "model": self.learner.model.state_dict(),
                "heads": self.learner.heads.state_dict(),
                "optimizer": self.optimizer.state_dict() if self.optimizer else None,
                "done": self.done,
                "seed": self.seed,
                "seconds": self.seconds,
                "random": torch.get_rng_state(),
            },
            unfinished,
        )
        unfinished.replace(self.state_file)

    def load_state(self) -> None:
        """Go on from the state in `state_file`."""
        state = torch.load(self.state_file, weights_only=True)
        if state["seed"] != self.seed:
            raise ValueError(f"{self.state_file} is of seed {state['seed']}, not {self.seed}")
        self.learner.model.load_state_dict(state["model"])
        self.learner.heads.load_state_dict(state["heads"])
        self.done, self.seconds = state["done"], state["seconds"]
        self._optimizer_state = state["optimizer"]
        torch.set_rng_state(state["random"])

    def run(self, check_every: int = 150) -> None:
        """Train what is left of every stage, then write the checkpoint."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        for stage in STAGES:
            if self.done[stage] < self.steps[stage]:
                self._run_stage(stage, check_every)
        architecture.save(self.learner.model, self.learner.tokenizer, self.out)

    def _run_stage(self, stage: str, check_every: int) -> None:
        learner, steps, first = self.learner, self.steps[stage], self.done[stage]
        parameters = learner.parameters(stage)
        self.optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
        if first and self._optimizer_state:
            self.optimizer.load_state_dict(self._optimizer_state)
        started = time.monotonic() - self.seconds
        shown = 0.0
        with (
            supply(stage, self.seed, first, self.sizes, self.background) as batches,
            tqdm(total=steps, initial=first, desc=stage, unit="step", mininterval=5.0) as bar,
        ):
            for step in range(first, steps):
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(stage, step, steps)
                loss, right = self._backward(stage, next(batches))
                nn.utils.clip_grad_norm_(parameters, 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
                shown = loss if step == first else 0.95 * shown + 0.05 * loss
                bar.set_postfix_str(f"loss {shown:.3f} {right}", refresh=False)
                bar.update()
                self.done[stage] = step + 1
                self.seconds = time.monotonic() - started
                if (step + 1) % check_every == 0 or step + 1 == steps:
                    self._check(stage, shown, right)

    def _backward(self, stage: str, groups: Sequence[Sequence[Any]]) -> tuple[float, str]:
        learner = self.learner
        if stage == "listen":
            loss, shares = learner.listen_loss(groups[0])
            loss.backward()
            return float(loss.detach()), " ".join(
                f"{name} {share:.2f}" for name, share in shares.items()
            )
        total, count, right = 0.0, sum(len(group) for group in groups), 0
        for group in groups:
            scores, targets, owner = learner.answer_scores(group, stage == "together")
            # Every answer weighs the same, however many tokens it has.
            share = 1.0 / torch.bincount(owner)[owner]
            loss = (functional.cross_entropy(scores, targets, reduction="none") * share).sum()
            loss = loss / count
            loss.backward()
            total += float(loss.detach())
            right += len(group) - len(set(owner[scores.argmax(-1) != targets].tolist()))
        return total, f"right {right / count:.2f}"

    def _check(self, stage: str, loss: float, right: str) -> None:
        self.save_state()
        line: dict[str, Any] = {
            "stage": stage,
            "step": self.done[stage],
            "seconds": round(self.seconds),
            "loss": round(loss, 4),
            "last_batch": right,
        }
        if stage != "listen":
            shares = accuracy(self.learner, self.examples)
            line["held_out"] = round(sum(shares.values()) / len(shares), 4)
            line["by_skill"] = {name: round(share, 3) for name, share in shares.items()}
        tqdm.write(json.dumps(line))
        log = self.out.parent / f"{self.out.name}.log.jsonl"
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nano_training.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--steps",
        type=int,
        nargs=3,
        default=DEFAULT_STEPS,
        metavar=tuple(stage.upper() for stage in STAGES),
        help=f"steps of each stage (default: {' '.join(map(str, DEFAULT_STEPS))})",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--resume", action="store_true", help="go on from an unfinished run")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    trainer = Trainer(options.out, options.seed, options.steps)
    if options.resume:
        trainer.load_state()
    trainer.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
