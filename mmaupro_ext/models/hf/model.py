"""`--model hf-audio`: audio, text and image requests to one transformers model, in one run.

lm_eval pools the requests of all tasks, so every request is routed by what it carries: text goes
through `HFLM` unchanged, requests with media go through the code here. Media are references until
their batch is prepared. What differs between model families is data (`models.families`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from tqdm import tqdm

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.heard import Reply
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.hf import likelihood, texts
from mmaupro_ext.models.hf.loaded import LoadedModel
from mmaupro_ext.models.hf.preparing import Choices, PreparedPrompt, Preparer, check_context
from mmaupro_ext.models.hf.templates import has_marks
from mmaupro_ext.models.items import (
    NO_SCORE,
    Answers,
    Question,
    Score,
    choices_of,
    questions_of,
    tasks_of,
    with_arguments,
)
from mmaupro_ext.models.media import media_of
from mmaupro_ext.progress import progress

logger = logging.getLogger(__name__)

R = TypeVar("R")

AUTO_BATCH_SIZE = 8  # where memory cannot be measured
MOST_AT_ONCE = 64


@register_model("hf-audio")
class HFAudioLM(LoadedModel):
    """An audio-language model of transformers under lm_eval; its arguments are those of `LoadedModel`."""

    # ---- requests -----------------------------------------------------------------------------

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

        Raises
        ------
        ConfigError
            Before any answer, when the model cannot take the media of some request at all.
        """
        return self._route(
            requests,
            super().generate_until,
            self._generate_media,
            lambda error: error,
            disable_tqdm,
        )

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

        Raises
        ------
        ConfigError
            Before any score, when the model cannot take the media of some request at all.
        """
        return self._route(
            requests, super().loglikelihood, self._score_media, lambda _: NO_SCORE, disable_tqdm
        )

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts as HFLM does; there is no such thing for media."""
        with_media = [
            request
            for request in requests
            if any(isinstance(argument, dict) and argument for argument in request.args[1:])
        ]
        if with_media:
            raise ConfigError(
                f"{tasks_of(with_media)}: rolling log-likelihood takes text only; use "
                "generate_until, multiple_choice or loglikelihood with audio or images."
            )
        bare = [with_arguments(request, request.args[:1]) for request in requests]
        return super().loglikelihood_rolling(bare, disable_tqdm=disable_tqdm)

    def _route(
        self,
        requests: list[Instance],
        answer_text: Callable[..., list[R]],
        answer_media: Callable[..., list[R]],
        on_failure: Callable[[Reply], R],
        disable_tqdm: bool,
    ) -> list[R]:
        """Send each request where it belongs and put the answers back into order."""
        by_kind: dict[bool, list[int]] = {True: [], False: []}
        for position, request in enumerate(requests):
            # An empty context asks for the unconditional probability: nothing is to be heard.
            has_media = bool(media_of(request.args)) and request.args[0] != ""
            by_kind[has_media].append(position)
        # A model that cannot take the media says so before hours of text are spent.
        with_media = [requests[position] for position in by_kind[True]]
        self._check_media_support(with_media)
        self._hint_at_chat_template(with_media)
        answers: dict[int, R] = {}
        without = [
            with_arguments(requests[position], requests[position].args[:2])
            for position in by_kind[False]
        ]
        if without:

            def errored(error: Reply) -> R:
                self.heard.errored_items += 1
                return on_failure(error)

            answered = texts.answer(
                self,
                without,
                lambda part: answer_text(part, disable_tqdm=disable_tqdm),
                self._generator.failures,
                errored,
            )
            answers.update(zip(by_kind[False], answered, strict=True))
        if with_media:
            answered = answer_media(with_media, disable_tqdm)
            answers.update(zip(by_kind[True], answered, strict=True))
        return [answers[position] for position in range(len(requests))]

    def _check_media_support(self, requests: Sequence[Instance]) -> None:
        for request in requests:
            media = media_of(request.args)
            if "audio" in media and self.family is None:
                if self.audio_problem is not None:
                    raise ConfigError(f"{tasks_of([request])} has audio. {self.audio_problem}")
                raise ConfigError(
                    f"{tasks_of([request])} has audio, and hf-audio knows no way to put audio into a "
                    f"model of type {self.config.model_type!r}. Families with audio: "
                    f"{', '.join(sorted(FAMILIES))}."
                )
            if "visual" in media and getattr(self.processor, "image_processor", None) is None:
                reason = f" ({self._processor_problem})" if self._processor_problem else ""
                raise ConfigError(
                    f"{tasks_of([request])} has images, and the model of type "
                    f"{self.config.model_type!r} has no image processor here{reason}. Use a vision "
                    "model; if it is one, install mmaupro-ext[vision] and what its processor asks for."
                )

    def _hint_at_chat_template(self, requests: Sequence[Instance]) -> None:
        if self._hinted or self.rank != 0:
            return
        if self.has_chat_template and any(has_marks(request.args[0]) for request in requests):
            self._hinted = True
            logger.warning(
                "this checkpoint has a chat template that is not in use; if it was tuned for "
                "chats, add --apply_chat_template"
            )

    @property
    def media_batch_size(self) -> int:
        """How many questions with media go together at most."""
        if self.batch_size == "auto":
            if self.passes.budget.memory is not None:  # its tokens are the bound
                return int(self.max_batch_size or MOST_AT_ONCE)
            return min(AUTO_BATCH_SIZE, int(self.max_batch_size or AUTO_BATCH_SIZE))
        return int(self.batch_size)

    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        # HFLM probes with batches of the full context, which takes minutes on a CPU.
        if self.device.type == "cpu":
            return min(AUTO_BATCH_SIZE, int(self.max_batch_size or AUTO_BATCH_SIZE))
        return super()._detect_batch_size(requests, pos)

    def _progress(self, total: int, what: str, disable: bool) -> tqdm:
        return progress(total, what, disable=disable or self.rank != 0)

    # ---- generation ---------------------------------------------------------------------------

    def _generate_media(self, requests: Sequence[Instance], disable_tqdm: bool) -> list[str]:
        groups: dict[str, list[Question]] = {}
        for question in questions_of(requests):
            gen_kwargs = requests[question.members[0]].args[1]
            key = json.dumps(gen_kwargs, sort_keys=True, default=str)
            groups.setdefault(key, []).append(question)
        with self._progress(len(requests), "Answering items with media", disable_tqdm) as bar:
            answers = Answers(requests, "generate_until", self.heard, self.cache_hook, bar)
            for questions in groups.values():
                gen_kwargs = requests[questions[0].members[0]].args[1]
                for question, reply in self._replies(questions, gen_kwargs):
                    answers.keep(question, [reply])
            return answers.in_order()

    def _replies(
        self, questions: Sequence[Question], gen_kwargs: dict[str, Any]
    ) -> Iterator[tuple[Question, Reply]]:
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        end = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(options.pop("until"), eos=end)
        max_gen_toks = options.pop("max_gen_toks")
        options.pop("max_length", None)  # max_gen_toks says how long the reply may be
        if not options["do_sample"]:
            options.pop("temperature", None)
        max_length = self.max_length

        def prepare(preparer: Preparer, question: Question) -> PreparedPrompt:
            prompt = preparer.prepare(question, max_length - max_gen_toks)
            check_context(prompt, max_gen_toks, "reply", max_length)
            return prompt

        if (
            options == {"do_sample": False}
            and self.decoding != "generate"
            and self._generator.has_slots
        ):
            slots = self.media_batch_size

            def stream(
                prepared: Iterator[tuple[Question, PreparedPrompt]],
            ) -> Iterator[tuple[Question, Reply]]:
                return self._generator.stream(prepared, until, max_gen_toks, slots)

            return self.schedule.stream(questions, prepare, stream)

        def forward(batch: Sequence[PreparedPrompt]) -> list[Reply]:
            return self._generate(batch, until, max_gen_toks, options)

        return self.schedule.answer(
            questions, prepare, forward, lambda error: error, batch_size=self.media_batch_size
        )

    def _generate(
        self,
        batch: Sequence[PreparedPrompt],
        until: list[str],
        max_gen_toks: int,
        options: dict[str, Any],
    ) -> list[Reply]:
        return self._generator.generate(batch, until, max_gen_toks, options)

    def reply_to(self, batch: Sequence[PreparedPrompt], max_gen_toks: int) -> list[Reply]:
        """Return greedy replies of at most so many tokens to prepared prompts."""
        return self._generate(batch, [], max_gen_toks, {"do_sample": False})

    # ---- log-likelihood -----------------------------------------------------------------------

    def _score_media(self, requests: Sequence[Instance], disable_tqdm: bool) -> list[Score]:
        if self.enable_thinking:
            raise ConfigError("enable_thinking=True and log-likelihood tasks exclude each other.")
        max_length = self.max_length

        def prepare(preparer: Preparer, question: Question) -> Choices:
            return preparer.prepare_choices(question, max_length)

        with self._progress(len(requests), "Scoring items with media", disable_tqdm) as bar:
            answers = Answers(requests, "loglikelihood", self.heard, self.cache_hook, bar)
            for question, scores in self.schedule.answer(
                choices_of(requests),
                prepare,
                self.score_choices,
                lambda _: [],
                batch_size=self.media_batch_size,
            ):
                answers.keep(question, scores or [NO_SCORE] * len(question.members))
            return answers.in_order()

    def prepare_choices(self, question: Question) -> Choices:
        """Prepare one prompt and the token ids of its continuations (see `Preparer`)."""
        return self._preparer.prepare_choices(question, self.max_length)

    def score_choices(
        self, batch: Sequence[Choices], shared: bool | None = None
    ) -> list[list[Score]]:
        """Score continuations; by default in the cheaper way that is right for this family."""
        if shared is None:
            shared = self.family is not None and self.family.loading.shared_prefix
        return likelihood.score(self.passes, batch, shared=shared)
