"""`--model openai-audio`: audio, text and image requests to any server of OpenAI's chat protocol.

vLLM, SGLang, llama-server, `transformers serve`, clouds: how to start each is in docs/servers.md.
Clips are sent as files inside the request, each in its place among the text; the server applies the
chat template of its model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from tqdm import tqdm

from mmaupro_ext.chat_server import RequestFailedError, ServerSettings, Session
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.failing import Failed
from mmaupro_ext.heard import LENGTH, STOP, Reply
from mmaupro_ext.models.engines import server_check
from mmaupro_ext.models.engines.chats import Message
from mmaupro_ext.models.engines.connecting import KEY_VARIABLE, connect
from mmaupro_ext.models.engines.engine import (
    STEREO,
    USUAL_WINDOW_S,
    EngineLM,
    PreparedChat,
    refuse_ranks,
)
from mmaupro_ext.models.engines.protocol import (
    FORMS,
    Answer,
    Usage,
    read_answer,
    write_message,
    write_part,
)
from mmaupro_ext.models.engines.server_fixes import fix_for
from mmaupro_ext.models.items import Answers, Question, attempt, questions_of
from mmaupro_ext.util import json_object, positive, require_choice

logger = logging.getLogger(__name__)

SENDS = ("wav", "original")
TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
# More stop strings are refused by OpenAI; all of them are looked for in the answer as well.
MOST_STOPS = 4
DEFAULT_CONCURRENCY = 8
CHECK_TRIES = 2


@dataclass(frozen=True)
class Served:
    """The reply to one item, or its error, with the answer behind it."""

    reply: Reply
    answer: Answer | None = None


@register_model("openai-audio")
class OpenAIAudioLM(EngineLM):
    """A model behind ``POST {base_url}/chat/completions``.

    Parameters
    ----------
    base_url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str, optional
        Name of the model there; default: the only one that the server lists.
    api_key_env : str
        Environment variable with the key; nothing else takes a key, so that none gets into results.
    audio_format : {"auto", "input_audio", "audio_url"}
        How a clip is written in a request. "auto" is found out by two short requests: OpenAI's
        `input_audio` where the server takes it, else `audio_url` with a data: URI.
    send : {"wav", "original"}
        16-bit WAV at `sampling_rate`; or the bytes of the file, where it is given whole and by
        itself, with all its channels and at its own rate.
    check : bool
        Whether a few short requests go first: in which form the server takes audio, whether it
        passes over sounds or images, whether it cuts clips beyond 30 s that are sent whole, whether
        it takes stop strings (see `server_check`).
    concurrency : int, optional
        Requests under way at a time; default: lm_eval's ``--batch_size``, if it is more than 1,
        else 8.
    max_retries : int
        How often a request is repeated whose failure may pass, with exponential backoff, jitter
        and the server's Retry-After.
    requests_per_minute : float, optional
        Requests started per minute at most.
    timeout : float
        Seconds until a request without an answer counts as failed.
    max_tokens_field : {"max_tokens", "max_completion_tokens"}
        What a request calls the length of a reply.
    seed : int, optional
        Sent with every request.
    extra_body : dict or str, optional
        More fields for every request, as JSON.
    batch_size, max_batch_size, device
        Of lm_eval's command line. The server batches by itself and has its own device.
    **audio
        `max_gen_toks`, `think_end_token`, and how audio is given: see `EngineLM`.

    Raises
    ------
    ConfigError
        When an argument cannot be honoured, the server does not answer or refuses the key, or
        several processes were started.
    """

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        *,
        api_key_env: str = KEY_VARIABLE,
        api_key: Any = None,
        audio_format: str = "auto",
        send: str = "wav",
        check: bool = True,
        concurrency: int | None = None,
        max_retries: int = 5,
        requests_per_minute: float | None = None,
        timeout: float = 600.0,
        max_tokens_field: str = "max_tokens",
        seed: int | None = None,
        extra_body: dict[str, Any] | str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **audio: Any,
    ) -> None:
        require_choice("audio_format", audio_format, ("auto", *FORMS))
        require_choice("send", send, SENDS)
        require_choice("max_tokens_field", max_tokens_field, TOKENS_FIELDS)
        super().__init__("the server", **audio)
        refuse_ranks(
            "openai-audio",
            "Start it once, without accelerate launch or torchrun, and set concurrency=N in "
            "--model_args to what the server takes at a time.",
        )
        self.audio_format, self.send, self.check = audio_format, send, bool(check)
        self.form = FORMS[0] if audio_format == "auto" else audio_format
        self.max_tokens_field, self.seed = max_tokens_field, seed
        self.extra_body = json_object("extra_body", extra_body)
        self.finding = server_check.Finding()
        self.usage = Usage()
        self.server = connect(
            base_url,
            model,
            key_variable=api_key_env,
            key=api_key,
            settings=ServerSettings(
                concurrency=_concurrency(concurrency, batch_size),
                per_minute=positive("requests_per_minute", requests_per_minute, float),
                timeout_s=positive("timeout", timeout, float) or 0.0,
                tries=1 + int(max_retries),
            ),
        )

    # ---- what lm_eval asks --------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by."""
        return f"{self.server.model}@{self.server.url}"

    def identity_fields(self) -> dict[str, Any]:
        """Return what answers depend on: the server, its model, and what every request says to them."""
        return {
            "model_class": "openai-audio",
            "model": self.server.model,
            "server": self.server.url,
            "audio_format": self.audio_format,
            "send": self.send,
            "seed": self.seed,
            "max_tokens_field": self.max_tokens_field,
            "extra_body": self.extra_body,
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: the server, how it was asked, what it said."""
        info = {
            **super().get_model_info(),
            "server": self.server.url,
            "served_model": self.server.model,
            "audio_format": self.form,
            "send": self.send,
            "check": self.finding.as_dict() if self.check else None,
            "concurrency": self.server.settings.concurrency,
            "requests": self.server.requests,
            "retries": self.server.retries,
            **self.usage.as_dict(),
        }
        if self.channels == STEREO or self.send == "original":
            info["note"] = (
                "both channels of stereo files were sent; whether the model behind the server hears "
                "them apart is not known here"
            )
        return info

    def check_tasks(self, tasks: Mapping[str, Any]) -> None:
        """Refuse tasks that need log-likelihoods, before anything runs.

        Parameters
        ----------
        tasks : mapping
            Name -> lm_eval's task object.
        """
        scored = [name for name, task in tasks.items() if task.OUTPUT_TYPE != "generate_until"]
        if scored:
            raise _no_scores(scored)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Refuse: chat completions give no log-probabilities of a prompt."""
        raise _no_scores(sorted({request.task_name or "a request" for request in requests}))

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

        Raises
        ------
        ConfigError
            When the server refuses everything, or the check says that it hears nothing.
        """
        questions = questions_of(requests)
        with (
            self.server.session() as session,
            tqdm(
                total=len(requests), disable=disable_tqdm, desc="Asking the server", unit="item"
            ) as bar,
        ):
            answers = Answers(requests, "generate_until", self.heard, self.cache_hook, bar)
            self._check(session, questions, requests)

            def serve(number: int) -> Served | Reply | Failed:
                question, gen_kwargs = questions[number], requests[number].args[1]
                return attempt(question, lambda: self._serve(session, question, gen_kwargs))

            def keep(number: int, served: Served | Reply | Failed) -> None:
                found: Served | Reply = self.unprepared.settle(questions[number], served)
                served = Served(found) if isinstance(found, Reply) else found
                if served.answer is not None:
                    self.usage.add(served.answer)
                    self.count(served.reply)
                answers.keep(questions[number], [served.reply])

            session.each(len(requests), serve, keep)
        self.log_counts()
        return answers.in_order()

    def _serve(self, session: Session, question: Question, gen_kwargs: dict[str, Any]) -> Served:
        prepared = self.prepare(question, untouched=self.send == "original")
        parameters, until = self._parameters(gen_kwargs)
        body = {**self._chat_body(prepared), **parameters}
        try:
            answer = session.complete(body, read_answer)
        except RequestFailedError as failure:
            words = failure.text or failure.problem
            raise ItemError(
                failure.problem, fix=fix_for(words, failure.status, self.form)
            ) from failure
        text = _text_of(answer)
        return Served(self.reply_of(text, until, answer.finish, prepared.heard), answer)

    def _parameters(self, gen_kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the fields of a request besides the chat, and all stop strings."""
        options, until, max_gen_toks = self.options_of(gen_kwargs)
        parameters: dict[str, Any] = {self.max_tokens_field: max_gen_toks}
        if until and self.finding.stops is not False:
            parameters["stop"] = until[:MOST_STOPS]
        if self.seed is not None:
            parameters["seed"] = int(self.seed)
        return {**parameters, **options, **self.extra_body}, until

    def _chat_body(self, prepared: PreparedChat) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": [write_message(message, self.form) for message in prepared.messages]
        }
        if prepared.chat.goes_on:
            # vLLM and SGLang go on with the last message by these fields, llama-server without
            # them; a server that knows neither refuses them, which is better than a new answer.
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body

    # ---- check --------------------------------------------------------------------------------

    def _check(
        self, session: Session, questions: Sequence[Question], requests: Sequence[Instance]
    ) -> None:
        """Find out what the server takes, when requests first need it."""
        if not self.check:
            return
        rate = self.reader.sampling_rate
        fixes: dict[str, str] = {}

        def ask(message: Message, form: str, **parameters: Any) -> int | None:
            # Typed parts also without a sound: some servers write them otherwise than plain text.
            content = [write_part(part, form) for part in message.parts]
            body = {
                "messages": [{"role": "user", "content": content}],
                self.max_tokens_field: 1,
                **parameters,
                **self.extra_body,
            }
            try:
                answer = session.complete(body, read_answer, tries=CHECK_TRIES)
            except RequestFailedError as failure:
                fixes[form] = fix_for(failure.text or failure.problem, failure.status, form)
                raise server_check.Refused(failure.problem) from failure
            tokens = answer.usage.get("prompt_tokens")
            return tokens if isinstance(tokens, int) and tokens > 0 else None

        before = found = self.finding
        kinds = {kind for question in questions for kind in question.media}
        if "audio" in kinds:
            if found.form is None:
                forms = FORMS if self.audio_format == "auto" else (self.audio_format,)
                found = server_check.find_form(ask, found, forms, rate, fixes)
            longest_s = self.longest_block_s(questions)
            if longest_s > max(USUAL_WINDOW_S, found.longest_s or 0.0):
                found = server_check.check_length(ask, found, longest_s, rate)
        if "visual" in kinds and found.images is None:
            found = server_check.check_images(ask, found)
        if found.stops is None and any(map(_has_stops, requests)):
            found = server_check.check_stops(ask, found, rate)
        if found != before:
            logger.info("what the server takes: %s", found.as_dict())
        self.finding = found
        self.form = found.form or self.form


def _text_of(answer: Answer) -> str:
    """Return the text of an answer; raise ItemError where it has none that the model meant to give."""
    if answer.finish_reason == "content_filter":
        raise ItemError(
            "a filter of the server stopped the answer", fix="Its provider says what it filters."
        )
    text = answer.text or ""
    if text.strip() or (answer.text == "" and answer.finish == STOP and not answer.reasoning):
        return text
    thought = answer.reasoning or answer.finish == LENGTH
    raise ItemError(
        f"the answer holds no text (finish_reason {answer.finish_reason!r}"
        + (", only thoughts" if answer.reasoning else "")
        + ")",
        fix="Give it more room with --gen_kwargs max_gen_toks=N, or switch its thinking off."
        if thought
        else "See the log of the server.",
    )


def _no_scores(names: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{', '.join(names)}: these tasks need log-likelihoods, and a chat server gives no "
        "probabilities of a prompt. Use tasks that generate (mmaupro_* instead of mmaupro-ll_*, a "
        "generative variant of a multiple-choice task), or --model hf-audio or vllm-audio."
    )


def _has_stops(request: Instance) -> bool:
    until = request.args[1].get("until")
    return bool(until if isinstance(until, str) else any(until or ()))


def _concurrency(concurrency: int | None, batch_size: int | str | None) -> int:
    given = positive("concurrency", concurrency, int)
    if given is not None:
        return given
    text = str(batch_size or "")
    batch = int(text) if text.isdigit() else 1
    return batch if batch > 1 else DEFAULT_CONCURRENCY
