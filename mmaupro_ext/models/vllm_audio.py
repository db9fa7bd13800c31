"""`--model vllm-audio`: audio, text and image requests to vLLM in this process.

vLLM schedules, batches and spreads over accelerators by itself (`tensor_parallel_size`,
`distributed_executor_backend=mp|ray`), so it is given as many items at a time as memory holds. With
--apply_chat_template it gets chats and applies the model's template; without, plain prompts with the
model's placeholders. The API is that of vLLM 0.33.0 (see `vllm_engine`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from mmaupro_ext import heard
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.heard import LogProb, Reply
from mmaupro_ext.models import chats, failures, inputs, server_check
from mmaupro_ext.models.arguments import json_object, positive
from mmaupro_ext.models.chats import Chat, Message
from mmaupro_ext.models.engines import (
    STEREO,
    USUAL_WINDOW_S,
    EngineLM,
    PreparedChat,
    refuse_ranks,
)
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.likelihood import Score
from mmaupro_ext.models.prefetch import Prefetcher, default_workers
from mmaupro_ext.models.vllm_engine import ChatPrompt, Prompt, TextPrompt, VLLMEngine, score_of
from mmaupro_ext.models.vllm_prompts import FORM, PromptWriter, media_of

logger = logging.getLogger(__name__)

NAME = "vLLM"
AUTO_BATCH_SIZE = 256
# Of a second of sound while it is handed over: samples, WAV, and base64 of it, at 16 kHz.
BYTES_PER_S = 16000 * 4 * 4
NO_SCORE: Score = (float("nan"), False)

# Arguments of EngineLM; all others that this class does not name are vLLM's.
AUDIO_ARGUMENTS = (
    "long_audio",
    "whole_s",
    "window_s",
    "max_audio_tokens",
    "audio_tokens_per_s",
    "multi_audio",
    "channels",
    "sampling_rate",
    "block_label",
    "audio_cache_mb",
    "frontend_cache",
)


@dataclass(frozen=True)
class Ready:
    """One item that can be put to vLLM."""

    question: Question
    prepared: PreparedChat
    prompt: Prompt


@register_model("vllm-audio")
class VLLMAudioLM(EngineLM):
    """An audio-language model under vLLM's own engine.

    Parameters
    ----------
    pretrained : str
        Name on the hub, or folder.
    max_gen_toks : int
        Length of a reply in tokens, where the task does not say.
    limit_mm_per_prompt : dict or str, optional
        How many sounds and images a prompt may have, for example ``{"audio": 8}`` (as JSON). vLLM's
        own default is 999 of each; a smaller number takes less memory at the start. It is not taken
        from the requests: the engine is loaded before them.
    audio_placeholder, image_placeholder : str, optional
        What stands for a sound or an image in a plain prompt, where the family of the model is not
        described here. Chats need none.
    chat_template_kwargs : dict or str, optional
        For the model's chat template, as JSON.
    think_end_token : str, optional
        What ends a model's thoughts; they and it are left out of the reply.
    check : bool
        Whether two short prompts go first where clips beyond 30 s are given whole: whether the
        model cuts them (see `server_check`).
    batch_size : int or "auto"
        How many items vLLM is given at a time; "auto": up to 256, within `prefetch_mb`.
    prefetch_mb : float
        Bound on the items given at a time, and on those prepared meanwhile, in MiB each.
    prefetch_workers : int, optional
        Threads that prepare the next items while vLLM works. Default: a few.
    max_length, max_model_len : int, optional
        Context in tokens; the same thing.
    max_batch_size, device
        Of lm_eval's command line; vLLM chooses by itself (``CUDA_VISIBLE_DEVICES``).
    **others
        The audio arguments of `EngineLM`; all else goes to `vllm.LLM` as it is: `dtype`,
        `tensor_parallel_size`, `pipeline_parallel_size`, `distributed_executor_backend`,
        `gpu_memory_utilization`, `seed`, `trust_remote_code`, `revision`, `quantization`,
        `enforce_eager`, `default_mm_loras`, ...

    Raises
    ------
    ConfigError
        When vLLM is not installed, an argument cannot be honoured, or several processes were
        started.

    Notes
    -----
    `seed` is 0 by vLLM's own default. Log-likelihoods are read from `prompt_logprobs`, one whole
    pass a continuation; the template of a chat is rendered by vLLM in a first pass.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        max_gen_toks: int = 256,
        limit_mm_per_prompt: dict[str, Any] | str | None = None,
        audio_placeholder: str | None = None,
        image_placeholder: str | None = None,
        chat_template_kwargs: dict[str, Any] | str | None = None,
        think_end_token: str | None = None,
        check: bool = True,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        prefetch_mb: float = 1024,
        prefetch_workers: int | None = None,
        max_length: int | None = None,
        max_model_len: int | None = None,
        device: str | None = None,
        **others: Any,
    ) -> None:
        audio = {name: others.pop(name) for name in AUDIO_ARGUMENTS if name in others}
        super().__init__(NAME, **audio)
        refuse_ranks(
            "vllm-audio",
            "Start it once, without accelerate launch or torchrun: vLLM spreads over accelerators "
            "and nodes by itself, with tensor_parallel_size=N and distributed_executor_backend=mp or "
            "ray in --model_args.",
        )
        self.pretrained = pretrained
        self.max_gen_toks = positive("max_gen_toks", max_gen_toks, int) or 0
        self.limits = json_object("limit_mm_per_prompt", limit_mm_per_prompt)
        self.think_end_token = think_end_token
        self.check = bool(check)
        self.finding = server_check.Finding()
        self.cut_by_length = 0
        self._batch_size = AUTO_BATCH_SIZE if "auto" in str(batch_size) else int(batch_size)
        self._batch_bytes = int(float(prefetch_mb) * 2**20)
        self._workers = default_workers() if prefetch_workers is None else int(prefetch_workers)
        arguments: dict[str, Any] = {"model": pretrained}
        for name, value in others.items():
            is_json = isinstance(value, str) and value.startswith("{")
            arguments[name] = json_object(name, value) if is_json else value
        if (context := max_model_len or max_length) is not None:
            arguments["max_model_len"] = int(context)
        if self.limits:
            arguments["limit_mm_per_prompt"] = self.limits
        # Templates that take plain strings get each placeholder where its sound stands.
        arguments.setdefault("interleave_mm_strings", True)
        self.engine_arguments = arguments
        self.engine = VLLMEngine(
            arguments, json_object("chat_template_kwargs", chat_template_kwargs) or None
        )
        self.writer = PromptWriter(
            pretrained, arguments, {"audio": audio_placeholder, "image": image_placeholder}
        )

    # ---- what lm_eval asks --------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by."""
        return self.pretrained.replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: vLLM, how it was asked, what was given."""
        info = {
            **super().get_model_info(),
            "vllm_version": self.engine.version,
            "vllm_arguments": {
                name: value if isinstance(value, (str, int, float, bool, dict)) else str(value)
                for name, value in self.engine_arguments.items()
                if name != "hf_token"
            },
            "check": self.finding.as_dict() if self.check else None,
            "answers_cut_by_length": self.cut_by_length,
        }
        if self.channels == STEREO:
            info["note"] = (
                "both channels of stereo files were given to vLLM; most of its models mix them"
            )
        return info

    def check_tasks(self, tasks: Mapping[str, Any]) -> None:
        """Refuse tasks that need rolling log-likelihoods, before anything runs."""
        rolling = [n for n, task in tasks.items() if task.OUTPUT_TYPE == "loglikelihood_rolling"]
        if rolling:
            raise ConfigError(
                f"{', '.join(rolling)}: vllm-audio gives no rolling log-likelihood. Use --model hf-audio "
                "or lm_eval's --model vllm for these tasks."
            )

    # ---- generation ---------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer requests of any kind, in their order.

        Parameters
        ----------
        requests : list of Instance
            `args` is `(context, gen_kwargs)` or `(context, gen_kwargs, media)`.
        disable_tqdm : bool
            Whether to hide the progress bar.

        Returns
        -------
        list of str
            For an item that cannot be served, `mmaupro_ext.replies.error_reply(...)`.
        """
        questions = [self.question_of(request, n) for n, request in enumerate(requests)]
        options = [self._sampling(request.args[1]) for request in requests]
        self._check_length(questions)
        replies: dict[int, str] = {}
        with tqdm(total=len(requests), disable=disable_tqdm, desc=NAME, unit="item") as bar:
            for ready, failed in self._batches(questions):
                answered = list(failed)
                outputs = self.engine.run(
                    [entry.prompt for entry in ready],
                    [options[entry.question.members[0]][0] for entry in ready],
                )
                for entry, output in zip(ready, outputs, strict=True):
                    until = options[entry.question.members[0]][1]
                    answered.append((entry.question, self._reply(entry, output, until)))
                for question, reply in answered:
                    (position,) = question.members
                    replies[position] = reply
                    self._count(failures.is_failure(reply), getattr(reply, "heard", None))
                    if not failures.is_failure(reply):
                        self.cache_hook.add_partial(
                            "generate_until", requests[position].args, reply
                        )
                bar.update(len(answered))
        if self.cut_by_length:
            logger.warning(
                "%d answers ended at max_gen_toks and are kept as they are", self.cut_by_length
            )
        return [replies[position] for position in range(len(requests))]

    def _sampling(self, gen_kwargs: dict[str, Any]) -> tuple[Any, list[str]]:
        """Return vLLM's parameters of a request, and its stop strings."""
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        until = [stop for stop in options.pop("until") if stop]
        if not options.pop("do_sample"):
            options["temperature"] = 0.0
        options["max_tokens"] = options.pop("max_gen_toks")
        if until:
            options["stop"] = until
        return self.engine.sampling(**options), until

    def _reply(self, entry: Ready, output: Any, until: list[str]) -> str:
        if isinstance(output, ItemError):
            return self._refused(entry.question, output)
        (answer,) = output.outputs
        self.cut_by_length += answer.finish_reason == "length"
        text = postprocess_generated_text(answer.text, until, self.think_end_token)
        return Reply(text, entry.prepared.heard)

    def _refused(self, question: Question, error: ItemError) -> str:
        fix = error.fix or (
            "If it has too many sounds or images, raise limit_mm_per_prompt, or join clips with "
            "multi_audio=concat; if it is too long, raise max_model_len, or choose "
            "long_audio=uniform with max_audio_tokens. Nothing was cut."
        )
        return failures.failure(question, error.problem, fix)

    def _count(self, failed: bool, record: heard.Record | None) -> None:
        if failed:
            self.heard.errored_items += 1
        elif record is not None:
            self.heard.add(record)

    # ---- log-likelihood -----------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Score]:
        """Score continuations after contexts of any kind, in their order.

        Parameters
        ----------
        requests : list of Instance
            `args` is `(context, continuation)` or `(context, continuation, media)`.
        disable_tqdm : bool
            Whether to hide the progress bar.

        Returns
        -------
        list of tuple
            Log-probability (natural logarithm) and whether greedy decoding would write the
            continuation; `(nan, False)` for an item that cannot be served.
        """
        questions: dict[tuple[str, str], Question] = {}
        for position, request in enumerate(requests):
            context, continuation = request.args[:2]
            # An empty context asks for the unconditional probability: nothing is to be heard.
            media = inputs.media_of(request.args) if context else {}
            question = questions.setdefault(
                (context, inputs.media_key(media)),
                Question(context, media, item=failures.item_name(request)),
            )
            question.members.append(position)
            question.continuations.append(continuation)
        self._check_length(list(questions.values()))
        scores: dict[int, Score] = {}
        with tqdm(total=len(requests), disable=disable_tqdm, desc=NAME, unit="request") as bar:
            for ready, failed in self._batches(list(questions.values())):
                scored = [(question, [NO_SCORE] * len(question.members)) for question, _ in failed]
                scored += zip((entry.question for entry in ready), self._score(ready), strict=True)
                for question, found in scored:
                    self._count(any(map(failures.is_failure, found)), heard.record_of(found))
                    for position, score in zip(question.members, found, strict=True):
                        scores[position] = score
                        if not failures.is_failure(score):
                            self.cache_hook.add_partial(
                                "loglikelihood", requests[position].args, score
                            )
                    bar.update(len(question.members))
        return [scores[position] for position in range(len(requests))]

    def _score(self, ready: Sequence[Ready]) -> list[list[Score]]:
        """Return the scores of all continuations of each item."""
        jobs: list[tuple[int, str, TextPrompt]] = []
        scores: list[list[Score]] = [[] for _ in ready]
        for number, (entry, context) in enumerate(zip(ready, self._contexts(ready), strict=True)):
            if isinstance(context, ItemError):
                self._refused(entry.question, context)
                scores[number] = [NO_SCORE] * len(entry.question.members)
            else:
                jobs += [(number, text, context) for text in entry.question.continuations]
        one = self.engine.sampling(temperature=0.0, max_tokens=1, prompt_logprobs=1)
        prompts = [
            dataclasses.replace(context, text=context.text + text) for _, text, context in jobs
        ]
        outputs = self.engine.run(prompts, [one] * len(jobs))
        for (number, text, context), output in zip(jobs, outputs, strict=True):
            entry = ready[number]
            try:
                if isinstance(output, ItemError):
                    raise output
                tokens = self._tokens(context.text, text)
                value, greedy = score_of(output, tokens)
                scores[number].append((LogProb(value, entry.prepared.heard), greedy))
            except ItemError as error:
                self._refused(entry.question, error)
                scores[number].append(NO_SCORE)
        return scores

    def _contexts(self, ready: Sequence[Ready]) -> list[TextPrompt | ItemError]:
        """Return each context as a text with the model's placeholders, or why there is none.

        vLLM renders chats: their text comes back with a first pass.
        """
        chats_of = [entry for entry in ready if isinstance(entry.prompt, ChatPrompt)]
        one = self.engine.sampling(temperature=0.0, max_tokens=1)
        outputs = iter(self.engine.run([entry.prompt for entry in chats_of], [one] * len(chats_of)))
        contexts: list[TextPrompt | ItemError] = []
        for entry in ready:
            if isinstance(entry.prompt, TextPrompt):
                # An empty context is the token that begins texts, as everywhere in lm_eval.
                start = entry.prompt.text or self._first_token()
                contexts.append(dataclasses.replace(entry.prompt, text=start))
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
                media = media_of(entry.prepared.messages)
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

    # ---- prompts ------------------------------------------------------------------------------

    def describe(self, chat: Chat) -> Family:
        """Return how blocks are written: in a plain prompt, with the labels of the model's family."""
        return self.description if chat.rendered else self.writer.describe(self.description)

    def _batches(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[list[Ready], list[tuple[Question, str]]]]:
        """Yield prepared items and failed ones, as many as `batch_size` and memory allow."""
        with Prefetcher(
            questions,
            lambda: None,
            lambda _, question: failures.attempt(question, lambda: self._ready(question)),
            _bytes_of,
            self._workers,
            self._batch_bytes,
        ) as prefetcher:
            ready: list[Ready] = []
            failed: list[tuple[Question, str]] = []
            size = 0
            for question, prepared in prefetcher.take(len(questions)):
                more = _bytes_of(question)
                if ready and (len(ready) == self._batch_size or size + more > self._batch_bytes):
                    yield ready, failed
                    ready, failed, size = [], [], 0
                if isinstance(prepared, str):
                    failed.append((question, prepared))
                else:
                    ready.append(prepared)
                    size += more
            yield ready, failed

    def _ready(self, question: Question) -> Ready:
        prepared = self.prepare(question)
        media = media_of(prepared.messages)
        for kind, limit in self.limits.items():
            most = int(limit.get("count", 999) if isinstance(limit, dict) else limit)
            if (found := len(media.get(kind, ()))) > most:
                raise ItemError(
                    f"the item has {found} blocks of {kind}, and limit_mm_per_prompt allows {most}",
                    fix="Raise it in --model_args, or join clips with multi_audio=concat.",
                )
        return Ready(question, prepared, self.writer.write(prepared))

    # ---- check --------------------------------------------------------------------------------

    def _check_length(self, questions: Sequence[Question]) -> None:
        """Find out whether long clips that are given whole are cut, before the first of them."""
        longest_s = max(map(self.longest_block_s, questions), default=0.0)
        if not self.check or longest_s <= max(USUAL_WINDOW_S, self.finding.longest_s or 0.0):
            return
        rendered = any(map(chats.is_chat, (question.context for question in questions)))
        one = self.engine.sampling(temperature=0.0, max_tokens=1)

        def ask(message: Message, form: str, **_: Any) -> int:
            chat = Chat(("user",), ("",), rendered=rendered)
            prompt = self.writer.write(PreparedChat(chat, [message], None))
            (output,) = self.engine.run([prompt], [one])
            if isinstance(output, ItemError):
                raise server_check.Refused(output.problem)
            return len(output.prompt_token_ids)

        rate = self.reader.sampling_rate
        found = self.finding
        if found.form is None:
            found = server_check.find_form(ask, found, (FORM,), rate, {})
        self.finding = server_check.check_length(ask, found, longest_s, rate)


def _bytes_of(question: Question) -> int:
    seconds = sum(map(inputs.stated_seconds, question.media.get("audio", [])))
    return (1 << 16) + int(seconds * BYTES_PER_S)
