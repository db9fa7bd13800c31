"""Log-likelihoods from vLLM's `prompt_logprobs`: one pass a continuation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.engines.engine import PreparedChat
from mmaupro_ext.models.engines.vllm_engine import ChatPrompt, Prompt, TextPrompt, VLLMEngine
from mmaupro_ext.models.engines.vllm_prompts import media_of
from mmaupro_ext.models.items import Score

Item = tuple[Prompt, PreparedChat, Sequence[str]]


class Scorer:
    """Scores continuations with one engine."""

    def __init__(self, engine: VLLMEngine) -> None:
        self.engine = engine

    def score(self, items: Sequence[Item]) -> list[list[Score | ItemError]]:
        """Return the score of each continuation of each item, or why there is none.

        Parameters
        ----------
        items : sequence
            Prompt, the item that it was written from, and its continuations.
        """
        jobs: list[tuple[int, str, TextPrompt]] = []
        scores: list[list[Score | ItemError]] = [[] for _ in items]
        for number, context in enumerate(self._contexts(items)):
            continuations = items[number][2]
            if isinstance(context, ItemError):
                scores[number] = [context] * len(continuations)
            else:
                jobs += [(number, text, context) for text in continuations]
        one = self.engine.sampling(temperature=0.0, max_tokens=1, prompt_logprobs=1)
        prompts = [
            dataclasses.replace(context, text=context.text + text) for _, text, context in jobs
        ]
        outputs = self.engine.answer(prompts, [one] * len(jobs))
        for (number, text, context), output in zip(jobs, outputs, strict=True):
            try:
                if isinstance(output, ItemError):
                    raise output
                scores[number].append(score_of(output, self._tokens(context.text, text)))
            except ItemError as error:
                scores[number].append(error)
        return scores

    def _contexts(self, items: Sequence[Item]) -> list[TextPrompt | ItemError]:
        """Return each context as a text with the model's placeholders, or why there is none.

        vLLM renders chats: their text comes back with a first pass.
        """
        chats = [prompt for prompt, _, _ in items if isinstance(prompt, ChatPrompt)]
        one = self.engine.sampling(temperature=0.0, max_tokens=1)
        outputs = iter(self.engine.answer(chats, [one] * len(chats)))
        contexts: list[TextPrompt | ItemError] = []
        for prompt, prepared, _ in items:
            if isinstance(prompt, TextPrompt):
                # An empty context is the token that begins texts, as everywhere in lm_eval.
                start = prompt.text or self._first_token()
                contexts.append(dataclasses.replace(prompt, text=start))
                continue
            output = next(outputs)
            if isinstance(output, ItemError):
                contexts.append(output)
            elif not output.prompt:
                contexts.append(
                    ItemError(
                        "vLLM does not give the text of this model's chats, after which "
                        "continuations could be scored",
                        fix="Run without --apply_chat_template, or use --model hf-audio.",
                    )
                )
            else:
                media = media_of(prepared.messages)
                contexts.append(TextPrompt(output.prompt, media, special_tokens=False))
        return contexts

    def _first_token(self) -> str:
        tokenizer = self.engine.tokenizer
        return getattr(tokenizer, "bos_token", None) or tokenizer.eos_token

    def _tokens(self, context: str, continuation: str) -> list[int]:
        """Return the tokens that a context and its continuation have more than the context alone."""
        # As everywhere in lm_eval, blanks at the end of the context belong to the continuation.
        before = len(self.engine.token_ids(context.rstrip()))
        tokens = self.engine.token_ids(context + continuation)[before:]
        if not tokens:
            raise ItemError("a continuation has no token", fix="Give every choice text.")
        return tokens


def score_of(output: Any, continuation: Sequence[int]) -> tuple[float, bool]:
    """Return the log-likelihood of the last tokens of a prompt, and whether they are the likeliest.

    Parameters
    ----------
    output : RequestOutput
        With `prompt_logprobs`.
    continuation : sequence of int
        The tokens that the prompt must end with.

    Raises
    ------
    ItemError
        When the prompt ends otherwise, or vLLM gave no such numbers for it.
    """
    tokens = list(output.prompt_token_ids or ())
    table = output.prompt_logprobs
    count = len(continuation)
    if tokens[len(tokens) - count :] != list(continuation):
        raise ItemError(
            "the prompt that vLLM scored does not end with the continuation's tokens",
            fix="Use --model hf-audio for log-likelihoods of this model.",
        )
    if table is None or len(table) != len(tokens):
        raise ItemError(
            f"vLLM gave log-probabilities for {0 if table is None else len(table)} of "
            f"{len(tokens)} tokens of the prompt",
            fix="Use --model hf-audio for log-likelihoods, or another version of vLLM.",
        )
    total, greedy = 0.0, True
    for position in range(len(tokens) - count, len(tokens)):
        found = table[position]
        entry = found[tokens[position]]
        total += entry.logprob
        likeliest = max(other.logprob for other in found.values())
        greedy = greedy and (entry.rank == 1 if entry.rank else entry.logprob >= likeliest)
    if math.isnan(total):
        raise ItemError("vLLM gave a log-probability that is no number")
    return total, greedy
