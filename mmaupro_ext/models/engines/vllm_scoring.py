"""Log-likelihoods from vLLM's `prompt_logprobs`: one pass a continuation, on the cached prefix of its prompt.

vLLM computes no log-probabilities for what it has in its prefix cache, and by itself leaves the cache out
for requests that want some. Only the last tokens of a prompt are wanted here: so the context with its
sounds is read from the cache, and where it reaches into the continuation (one is the beginning of another),
that continuation is scored again without it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from mmaupro_ext.errors import ItemError
from mmaupro_ext.models.engines.engine import PreparedChat
from mmaupro_ext.models.engines.vllm_engine import (
    Answer,
    ChatPrompt,
    Prompt,
    TextPrompt,
    VLLMEngine,
)
from mmaupro_ext.models.engines.vllm_prompts import media_of
from mmaupro_ext.models.items import Score

Item = tuple[Prompt, PreparedChat, Sequence[str]]
Scored = tuple["Answer | ItemError", list["Score | ItemError"]]


class Scorer:
    """Scores continuations with one engine."""

    def __init__(self, engine: VLLMEngine) -> None:
        self.engine = engine

    def score(self, items: Sequence[Item]) -> list[Scored]:
        """Return what vLLM made of the context of each item, and the score of each continuation.

        Parameters
        ----------
        items : sequence
            Prompt, the item that it was written from, and its continuations.

        Returns
        -------
        list of tuple
            An answer to the context, from which it is known what was heard; and for each continuation
            its score, or why there is none. A context that vLLM refuses is the error of all.
        """
        # Written into the cache by this pass, which also renders chats.
        prompts = [self._begun(prompt) for prompt, _, _ in items]
        once = self.engine.sampling(temperature=0.0, max_tokens=1)
        contexts = self.engine.answer(prompts, [once] * len(prompts))
        jobs: list[tuple[int, TextPrompt, list[int]]] = []
        places: list[tuple[int, int]] = []
        results: list[Scored] = []
        for number, (prompt, item, context) in enumerate(
            zip(prompts, items, contexts, strict=True)
        ):
            scores: list[Any] = []
            for place, continuation in enumerate(item[2]):
                try:
                    whole, tokens = self._job(prompt, item[1], context, continuation)
                    jobs.append((number, whole, tokens))
                    places.append((number, place))
                    scores.append(None)
                except ItemError as error:
                    scores.append(error)
            results.append((context, scores))
        for (number, place), score in zip(places, self._scores(jobs), strict=True):
            results[number][1][place] = score
        return results

    def _scores(self, jobs: Sequence[tuple[int, TextPrompt, list[int]]]) -> list[Any]:
        scores: list[Any] = [None] * len(jobs)
        left = list(range(len(jobs)))
        for skip in (False, True):
            # Without words for the tokens: those of cached positions are no numbers of tokens.
            one = self.engine.sampling(
                temperature=0.0,
                max_tokens=1,
                prompt_logprobs=1,
                detokenize=False,
                skip_reading_prefix_cache=skip,
            )
            answers = self.engine.answer([jobs[at][1] for at in left], [one] * len(left))
            again = []
            for at, answer in zip(left, answers, strict=True):
                if not skip and isinstance(answer, Answer) and _is_cached(answer, len(jobs[at][2])):
                    again.append(at)
                    continue
                try:
                    if isinstance(answer, ItemError):
                        raise answer
                    scores[at] = score_of(answer.output, jobs[at][2])
                except ItemError as error:
                    scores[at] = error
            left = again
            if not left:
                break
        return scores

    def _job(
        self, prompt: Prompt, prepared: PreparedChat, context: Answer | ItemError, continuation: str
    ) -> tuple[TextPrompt, list[int]]:
        """Return a context with its continuation as a text, and the tokens of the continuation."""
        if isinstance(context, ItemError):
            raise context
        if isinstance(prompt, ChatPrompt):
            if not context.output.prompt:
                raise ItemError(
                    "vLLM does not give the text of this model's chats, after which continuations "
                    "could be scored",
                    fix="Run without --apply_chat_template, or use --model hf-audio.",
                )
            media = media_of(prepared.messages)
            prompt = TextPrompt(context.output.prompt, media, special_tokens=False)
        whole = dataclasses.replace(prompt, text=prompt.text + continuation)
        return whole, self._tokens(prompt.text, continuation)

    def _begun(self, prompt: Prompt) -> Prompt:
        """Return a prompt; for an empty text, as everywhere in lm_eval, the token that begins texts."""
        if isinstance(prompt, ChatPrompt) or prompt.text:
            return prompt
        tokenizer = self.engine.tokenizer
        start = getattr(tokenizer, "bos_token", None) or tokenizer.eos_token
        return dataclasses.replace(prompt, text=start)

    def _tokens(self, context: str, continuation: str) -> list[int]:
        """Return the tokens that a context and its continuation have more than the context alone."""
        # As everywhere in lm_eval, blanks at the end of the context belong to the continuation.
        before = len(self.engine.token_ids(context.rstrip()))
        tokens = self.engine.token_ids(context + continuation)[before:]
        if not tokens:
            raise ItemError("a continuation has no token", fix="Give every choice text.")
        return tokens


def _is_cached(answer: Answer, count: int) -> bool:
    """Tell whether the cache holds what a log-probability of the last tokens would have come from."""
    output = answer.output
    return (output.num_cached_tokens or 0) > len(output.prompt_token_ids) - count - 1


def score_of(output: Any, continuation: Sequence[int]) -> tuple[float, bool]:
    """Return the log-likelihood of the last tokens of a prompt, and whether they are the likeliest.

    Parameters
    ----------
    output : RequestOutput
        With `prompt_logprobs`. Rows of tokens that were cached are missing or hold anything.
    continuation : sequence of int
        The tokens that the prompt must end with.

    Raises
    ------
    ItemError
        When the prompt ends otherwise, or vLLM gave no such numbers for it.
    """
    tokens = list(output.prompt_token_ids or ())
    table = list(output.prompt_logprobs or ())
    count = len(continuation)
    if tokens[len(tokens) - count :] != list(continuation):
        raise ItemError(
            "the prompt that vLLM scored does not end with the continuation's tokens",
            fix="Use --model hf-audio for log-likelihoods of this model.",
        )
    if len(table) not in (len(tokens), len(tokens) - (output.num_cached_tokens or 0)):
        raise ItemError(
            f"vLLM gave log-probabilities for {len(table)} of {len(tokens)} tokens of the prompt",
            fix="Use --model hf-audio for log-likelihoods, or another version of vLLM.",
        )
    total, greedy = 0.0, True
    for token, found in zip(continuation, table[len(table) - count :], strict=True):
        entry = found.get(token)
        if entry is None or math.isnan(entry.logprob):
            raise ItemError("vLLM gave a log-probability that is no number")
        total += entry.logprob
        likeliest = max(other.logprob for other in found.values())
        greedy = greedy and (entry.rank == 1 if entry.rank else entry.logprob >= likeliest)
    return total, greedy
