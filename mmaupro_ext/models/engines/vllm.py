"""`--model vllm-audio`: audio, text and image requests to vLLM in this process.

vLLM schedules, batches and spreads over accelerators by itself (`tensor_parallel_size`,
`distributed_executor_backend=mp|ray`), so it is given as many items at a time as memory holds. With
--apply_chat_template it gets chats and applies the model's template; without, plain prompts with the
model's placeholders. For vLLM 0.32 and newer (see `vllm_engine`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model

from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.failing import Failed, Streak
from mmaupro_ext.heard import LENGTH, STOP, LogProb, Record, Reply
from mmaupro_ext.models.engines import chats, server_check
from mmaupro_ext.models.engines.chats import Chat, Message
from mmaupro_ext.models.engines.engine import (
    STEREO,
    USUAL_WINDOW_S,
    EngineLM,
    PreparedChat,
    refuse_ranks,
)
from mmaupro_ext.models.engines.hearing import check_heard, most_media
from mmaupro_ext.models.engines.vllm_engine import NOT_OF_REPLIES, Answer, VLLMEngine
from mmaupro_ext.models.engines.vllm_frontend import wanted as wanted_frontend
from mmaupro_ext.models.engines.vllm_prompts import FORM, PromptWriter, Ready
from mmaupro_ext.models.engines.vllm_scoring import Scorer
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.models.identity import fingerprint_of_files, fingerprints_within
from mmaupro_ext.models.items import (
    NO_SCORE,
    Answers,
    Question,
    Score,
    attempt,
    choices_of,
    failure,
    questions_of,
)
from mmaupro_ext.models.prefetch import Prefetcher, default_workers
from mmaupro_ext.progress import progress
from mmaupro_ext.util import arguments_of, json_object, refuse_unknown

logger = logging.getLogger(__name__)

NAME = "vLLM"
AUTO_BATCH_SIZE = 256
# Of a second of sound while it is handed over: samples, WAV, and base64 of it, at 16 kHz.
BYTES_PER_S = 16000 * 4 * 4

# Arguments of EngineLM; all others that this class does not name are vLLM's.
AUDIO_ARGUMENTS = tuple(inspect.signature(EngineLM.__init__).parameters)[2:]


@register_model("vllm-audio")
class VLLMAudioLM(EngineLM):
    """An audio-language model under vLLM's own engine.

    Parameters
    ----------
    pretrained : str
        Name on the hub, or folder.
    limit_mm_per_prompt : dict or str, optional
        How many sounds and images a prompt may have, for example ``{"audio": 8}`` (as JSON).
        Default: as many as the requests have, for which vLLM is started when they are known.
    audio_placeholder, image_placeholder : str, optional
        What stands for a sound or an image in a plain prompt, where the family of the model is not
        described here. Chats need none.
    chat_template_kwargs : dict or str, optional
        For the model's chat template, as JSON.
    chat_template_content_format : {"auto", "string", "openai"}
        Whether the template gets messages as plain strings or as typed parts. vLLM finds out by itself
        from the usual loop over parts; templates that pick them in another way need "openai".
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
        Those of `EngineLM`: `max_gen_toks`, `think_end_token`, and how audio is given; all else goes
        to `vllm.LLM` as it is: `dtype`, `tensor_parallel_size`, `gpu_memory_utilization`, `seed`,
        `distributed_executor_backend`, `trust_remote_code`, `revision`, `default_mm_loras`, ...

    Raises
    ------
    ConfigError
        When vLLM is not installed, an argument cannot be honoured, or there are several processes.

    Notes
    -----
    `seed` is 0 by vLLM's own default. Log-likelihoods are read from `prompt_logprobs`, one whole
    pass a continuation; the template of a chat is rendered by vLLM in a first pass.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        limit_mm_per_prompt: dict[str, Any] | str | None = None,
        audio_placeholder: str | None = None,
        image_placeholder: str | None = None,
        chat_template_kwargs: dict[str, Any] | str | None = None,
        chat_template_content_format: str = "auto",
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
        ours = [*arguments_of(VLLMAudioLM), *AUDIO_ARGUMENTS]
        refuse_unknown("vllm-audio", others, ours, alike=0.85)  # vLLM refuses what is nobody's
        super().__init__(NAME, **audio)
        refuse_ranks(
            "vllm-audio",
            "Start it once, without accelerate launch or torchrun: vLLM spreads over accelerators "
            "and nodes by itself, with tensor_parallel_size=N and distributed_executor_backend=mp or "
            "ray in --model_args.",
        )
        self.pretrained = pretrained
        self.check = bool(check)
        self.finding = server_check.Finding()
        self._batch_size = AUTO_BATCH_SIZE if "auto" in str(batch_size) else int(batch_size)
        self._batch_bytes = int(float(prefetch_mb) * 2**20)
        self._workers = default_workers() if prefetch_workers is None else int(prefetch_workers)
        arguments: dict[str, Any] = {"model": pretrained}
        for name, value in others.items():
            arguments[name] = json_object(name, value) if str(value).startswith("{") else value
        if (context := max_model_len or max_length) is not None:
            arguments["max_model_len"] = int(context)
        if limits := json_object("limit_mm_per_prompt", limit_mm_per_prompt):
            arguments["limit_mm_per_prompt"] = limits
        # Templates that take plain strings get each placeholder where its sound stands.
        arguments.setdefault("interleave_mm_strings", True)
        self.engine_arguments = arguments
        kwargs = json_object("chat_template_kwargs", chat_template_kwargs)
        self.engine = VLLMEngine(arguments, kwargs or None, chat_template_content_format)
        self.scorer = Scorer(self.engine)
        self.refusals = Streak(NAME, "Its log says more.")
        self.writer = PromptWriter(
            pretrained, arguments, {"audio": audio_placeholder, "image": image_placeholder}
        )

    # ---- what lm_eval asks --------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by."""
        return self.pretrained.replace("/", "__")

    def identity_fields(self) -> dict[str, Any]:
        """Return what answers depend on: the model's files, vLLM, and all of its arguments."""
        others = {k: v for k, v in self.engine_arguments.items() if k not in NOT_OF_REPLIES}
        return {
            "model_class": "vllm-audio",
            "model": self.pretrained,
            "weights": fingerprint_of_files(self.pretrained, others.get("revision")),
            "files": fingerprints_within(others),
            "arguments": others,
            "chat_template": self.engine.chat_options,
            "placeholders": self.writer.placeholders,
            "frontend": wanted_frontend(),
            "vllm": self.engine.version,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: vLLM, how it was asked, what was given."""
        info = {
            **super().get_model_info(),
            "vllm_version": self.engine.version,
            "frontend": self.engine.frontend,
            "vllm_arguments": self.engine.written_arguments(),
            "check": self.finding.as_dict() if self.check else None,
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
        questions = questions_of(requests)
        options = [self._sampling(request.args[1]) for request in requests]
        self._start(questions)
        with progress(len(requests), NAME, disable=disable_tqdm) as bar:
            answers = Answers(requests, "generate_until", self.heard, self.cache_hook, bar)
            for ready, failed in self._batches(questions):
                for question, error in failed:
                    answers.keep(question, [error])
                outputs = self.engine.answer(
                    [entry.prompt for entry in ready],
                    [options[entry.question.members[0]][0] for entry in ready],
                )
                for entry, output in zip(ready, outputs, strict=True):
                    until = options[entry.question.members[0]][1]
                    answers.keep(entry.question, [self._reply(entry, output, until)])
        self.log_counts()
        return answers.in_order()

    def _sampling(self, gen_kwargs: dict[str, Any]) -> tuple[Any, list[str]]:
        """Return vLLM's parameters of a request, and its stop strings."""
        options, until, max_gen_toks = self.options_of(gen_kwargs)
        options["max_tokens"] = max_gen_toks
        if until:
            options["stop"] = until
        return self.engine.sampling(**options), until

    def _reply(self, entry: Ready, output: Answer | ItemError, until: list[str]) -> Reply:
        try:
            output, record = self._heard(entry, output)
        except ItemError as error:
            return self._refused(entry.question, error)
        self.refusals.end()
        (answer,) = output.output.outputs
        if answer.finish_reason not in (STOP, LENGTH, None):
            return failure(
                entry.question,
                f"vLLM ended the answer with finish_reason {answer.finish_reason!r}",
                "See its log. The same command with --retry-errors asks again.",
            )
        reply = self.reply_of(answer.text, until, answer.finish_reason, record)
        self.count(reply)
        return reply

    def _heard(self, entry: Ready, answer: Answer | ItemError) -> tuple[Answer, Record | None]:
        """Return an answer and the record of what was heard, or raise why it was not."""
        if isinstance(answer, ItemError):
            raise answer
        record = entry.prepared.heard
        if record is not None:
            family, sounds = self.writer.family(), entry.prepared.sounds
            record = record | {"audio_tokens": check_heard(family, sounds, answer.audio_tokens)}
        return answer, record

    def _refused(self, question: Question, error: ItemError) -> Reply:
        self.refusals.add(Failed(str(error), alike=error.problem))
        return failure(question, error.problem, error.fix)

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
        questions = choices_of(requests)
        self._start(questions)
        with progress(len(requests), NAME, "request", disable_tqdm) as bar:
            answers = Answers(requests, "loglikelihood", self.heard, self.cache_hook, bar)
            for ready, failed in self._batches(questions):
                for question, _ in failed:
                    answers.keep(question, [NO_SCORE] * len(question.members))
                for entry, scores in zip(ready, self._score(ready), strict=True):
                    answers.keep(entry.question, scores)
            return answers.in_order()

    def _score(self, ready: Sequence[Ready]) -> list[list[Score]]:
        """Return the scores of all continuations of each item."""
        found = self.scorer.score(
            [(entry.prompt, entry.prepared, entry.question.continuations) for entry in ready]
        )
        scores: list[list[Score]] = []
        for entry, (context, values) in zip(ready, found, strict=True):
            try:
                _, record = self._heard(entry, context)
            except ItemError as error:
                record, values = None, [error] * len(values)
            scores.append(
                [
                    NO_SCORE if isinstance(v, ItemError) else (LogProb(v[0], record), v[1])
                    for v in values
                ]
            )
            refused = next((value for value in values if isinstance(value, ItemError)), None)
            if refused is not None:
                self._refused(entry.question, refused)
            else:
                self.refusals.end()
        return scores

    # ---- prompts ------------------------------------------------------------------------------

    def writing_in(self, chat: Chat) -> Writing:
        """Return how blocks are written: in a plain prompt, with the labels of the model's family."""
        return self.writer.writing(self.writing, rendered=chat.rendered)

    def _batches(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[list[Ready], list[tuple[Question, Reply]]]]:
        """Yield prepared items and failed ones, as many as `batch_size` and memory allow."""
        with Prefetcher(
            questions,
            lambda: None,
            lambda _, question: attempt(question, lambda: self._ready(question)),
            self._bytes_of,
            self._workers,
            self._batch_bytes,
        ) as prefetcher:
            ready, size = list[Ready](), 0
            failed: list[tuple[Question, Reply]] = []
            for question, prepared in prefetcher.take(len(questions)):
                more = self._bytes_of(question)
                if ready and (len(ready) == self._batch_size or size + more > self._batch_bytes):
                    yield ready, failed
                    ready, failed, size = [], [], 0
                item: Ready | Reply = self.unprepared.settle(question, prepared)
                if isinstance(item, Reply):
                    failed.append((question, item))
                    continue
                ready.append(item)
                size += more
            yield ready, failed

    def _ready(self, question: Question) -> Ready:
        prepared = self.prepare(question)
        return Ready(question, prepared, self.writer.write(prepared))

    def _bytes_of(self, question: Question) -> int:
        seconds = self.reader.stated_seconds(question.media.get("audio", []))
        return (1 << 16) + int(seconds * BYTES_PER_S)

    # ---- check --------------------------------------------------------------------------------

    def _start(self, questions: Sequence[Question]) -> None:
        """Start vLLM for these questions, and find out whether clips that are given whole are cut."""
        self.engine.start(most_media(self.placer, questions))
        longest_s = self.longest_block_s(questions)
        if not self.check or longest_s <= max(USUAL_WINDOW_S, self.finding.longest_s or 0.0):
            return
        rendered = any(map(chats.is_chat, (question.context for question in questions)))
        one = self.engine.sampling(temperature=0.0, max_tokens=1)

        def ask(message: Message, form: str, **_: Any) -> int:
            chat = Chat(("user",), ("",), rendered=rendered)
            prompt = self.writer.write(PreparedChat(chat, [message], None))
            (output,) = self.engine.answer([prompt], [one])
            if isinstance(output, ItemError):
                raise server_check.Refused(output.problem)
            return len(output.output.prompt_token_ids)

        found, rate = self.finding, self.reader.sampling_rate
        if found.form is None:
            found = server_check.find_form(ask, found, (FORM,), rate, {})
        self.finding = server_check.check_length(ask, found, longest_s, rate)
