"""Replies, each of them ended where the model ended it: in slots, or batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lm_eval.models.utils import postprocess_generated_text
from lm_eval.models.utils_hf import stop_sequences_criteria

from mmaupro_ext.failing import in_parts
from mmaupro_ext.heard import LENGTH, STOP, Reply
from mmaupro_ext.models.hf import batching, prefill
from mmaupro_ext.models.hf.decoding import Decoder
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt
from mmaupro_ext.models.hf.row import Row
from mmaupro_ext.models.hf.templates import ChatTemplate
from mmaupro_ext.models.items import Failures, Question


def set_end_tokens(model: Any, tokenizer: Any, template: ChatTemplate) -> list[int]:
    """Let `generate` end a row at each token with which the model ends a reply; return these tokens.

    They are those of the checkpoint's generation_config, the tokenizer's, and what the chat template
    writes after an answer: some checkpoints have no generation_config, or one without the last of them
    (the thinker of Qwen2.5-Omni, loaded by itself), and their rows would write on until the longest of
    the batch has ended.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Its generation_config is changed.
    tokenizer : transformers.PreTrainedTokenizerBase
        Of the model.
    template : ChatTemplate
        Of the checkpoint.
    """
    configured = model.generation_config.eos_token_id
    found = configured if isinstance(configured, (list, tuple)) else [configured]
    found = [*found, tokenizer.eos_token_id, template.end_of_turn()]
    ends = list(dict.fromkeys(int(token) for token in found if token is not None))
    model.generation_config.eos_token_id = ends or None
    return ends


class Generator:
    """Generates replies to prepared prompts.

    Parameters
    ----------
    passes : Passes
        Of the model.
    tokenizer : transformers.PreTrainedTokenizerBase
        Looks for stop strings.
    decode : callable
        Tokens -> text, without control tokens.
    ends : sequence of int
        The tokens that end a reply.
    think_end : int or str or None
        What ends a model's thoughts.

    Attributes
    ----------
    failures : Failures
        Of the model's passes.
    """

    def __init__(
        self,
        passes: Passes,
        tokenizer: Any,
        decode: Callable[[list[int]], str],
        ends: Sequence[int],
        think_end: int | str | None,
    ) -> None:
        self.passes, self.tokenizer, self.decode = passes, tokenizer, decode
        self.ends, self.think_end = frozenset(ends), think_end
        self.failures = Failures(
            "the model",
            "`mmaupro doctor` with the same --model_args tries the checkpoint on clips of its own; "
            "decoding=generate leaves the loop to transformers.",
        )

    @functools.cached_property
    def _reach(self) -> float | None:
        return prefill.reach_of(self.passes)

    @property
    def has_slots(self) -> bool:
        """Whether replies to this model's prompts can be written in slots."""
        return self._reach is not None

    def stream(
        self,
        prepared: Iterator[tuple[Question, PreparedPrompt]],
        until: list[str],
        max_gen_toks: int,
        slots: int,
    ) -> Iterator[tuple[Question, Reply]]:
        """Yield greedy replies as they are finished; the next prompt takes the place of each.

        Parameters
        ----------
        prepared : iterator
            Questions with their prompts, longest first.
        until : list of str
            Stop strings.
        max_gen_toks : int
            How many tokens a reply may have.
        slots : int
            How many replies are written side by side at most.
        """
        aside: list[tuple[Question, Reply]] = []

        def rows() -> Iterator[Row[Question]]:
            for question, prompt in prepared:
                if batching.refuse_to_cross(
                    self.passes.model, self.passes.loading, [prompt.length], max_gen_toks
                ):  # `generate` turns all positions anew where the reply passes the limit
                    aside.append((question, self._generated(question, prompt, until, max_gen_toks)))
                else:
                    yield Row(question, prompt, max_gen_toks)

        assert self._reach is not None
        decoder = Decoder(self.passes, slots, self.ends, self._stops(until), reach=self._reach)
        for row in decoder.run(rows()):
            yield row.key, self._reply(row, until)
            yield from aside
            aside.clear()
        yield from aside

    def _reply(self, row: Row[Question], until: list[str]) -> Reply:
        if row.failed is not None:
            return self.failures.reply(row.key, row.failed)
        self.failures.end()
        text, finish = self.read(row.tokens, until, row.limit)
        return Reply(text, row.prompt.heard, finish)

    def _generated(
        self, question: Question, prompt: PreparedPrompt, until: list[str], max_gen_toks: int
    ) -> Reply:
        """Return the reply of `generate` to one prompt, or its error."""
        options = {"do_sample": False}
        (reply,), _ = in_parts([prompt], lambda p: self.generate(p, until, max_gen_toks, options))
        return self.failures.settle(question, reply)

    def _stops(self, until: list[str]) -> Callable[[list[int]], bool] | None:
        """Return what looks for stop strings in a reply; the model's own end is a token."""
        ends = {self.tokenizer.decode([token]) for token in self.ends}
        stops = [stop for stop in until if stop and stop not in ends]
        if not stops:
            return None
        # A token is at least a byte, so that this many hold the longest stop string.
        longest = max(len(stop.encode()) for stop in stops) + 1
        return lambda tokens: any(stop in self.decode(tokens[-longest:]) for stop in stops)

    def generate(
        self,
        batch: Sequence[PreparedPrompt],
        until: list[str],
        max_gen_toks: int,
        options: dict[str, Any],
    ) -> list[Reply]:
        """Return the replies to a batch, in parts where its prompts do not go together.

        Parameters
        ----------
        batch : sequence of PreparedPrompt
            Prompts.
        until : list of str
            Stop strings.
        max_gen_toks : int
            How many tokens a reply may have.
        options : dict
            Further arguments of `generate`.

        Returns
        -------
        list of Reply
            Each with its record and why it ended.
        """
        passes = self.passes
        try:
            batching.refuse_to_cross(
                passes.model, passes.loading, [prompt.length for prompt in batch], max_gen_toks
            )
            tensors = passes.collate([prompt.tensors for prompt in batch])
        except batching.UnbatchableError:
            return [
                reply
                for part in batching.halves(batch)
                for reply in self.generate(part, until, max_gen_toks, options)
            ]
        width = tensors["input_ids"].shape[1]
        criteria = stop_sequences_criteria(
            self.tokenizer, [stop for stop in until if stop], width, len(batch)
        )
        with (
            passes.over(frozenset().union(*(prompt.kinds for prompt in batch))),
            batching.last_positions_only(passes.model, 1),
            passes.budget.measured() as took,
        ):
            took(tensors["input_ids"].numel())
            generated = passes.model.generate(
                **tensors,
                max_new_tokens=max_gen_toks,
                stopping_criteria=criteria,
                pad_token_id=passes.pad_token_id,
                use_cache=True,
                **options,
            )
        replies = []
        for prompt, tokens in zip(batch, generated[:, width:].tolist(), strict=True):
            text, finish = self.read(tokens, until, max_gen_toks)
            replies.append(Reply(text, prompt.heard, finish))
        passes.counts.encoded += sum(sum(prompt.blocks) for prompt in batch)
        passes.counts.prefilled((len(batch), width))
        passes.counts.steps += generated.shape[1] - width - 1
        return replies

    def read(self, tokens: list[int], until: list[str], max_gen_toks: int) -> tuple[str, str]:
        """Return the text of a reply and why it ended.

        What follows the model's end of the reply, a stop string and what follows it, and thoughts are
        left out.
        """
        end = next((place for place, token in enumerate(tokens) if token in self.ends), None)
        finish = LENGTH if end is None and len(tokens) >= max_gen_toks else STOP
        tokens = tokens[:end]
        whole = self.decode(tokens)
        if any(stop in whole for stop in until if stop):
            finish = STOP
        if not isinstance(self.think_end, int):
            return postprocess_generated_text(whole, until, self.think_end), finish
        if self.think_end in tokens:
            last = len(tokens) - 1 - tokens[::-1].index(self.think_end)
            whole = self.decode(tokens[last + 1 :])
        return postprocess_generated_text(whole.lstrip(), until, None), finish
