"""`--model openai-audio`: audio, text and image requests to any server of OpenAI's chat protocol.

vLLM, SGLang, llama-server, `transformers serve`, clouds: how to start each is in docs/servers.md.
Clips are sent as files inside the request, each in its place among the text; the server applies the
chat template of its model.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from tqdm import tqdm

from mmaupro_ext.chat_server import ChatServer, RequestFailedError, ServerSettings, Session, Wording
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.heard import Reply
from mmaupro_ext.models import failures, server_check
from mmaupro_ext.models.arguments import json_object, positive, require_choice
from mmaupro_ext.models.chats import Message
from mmaupro_ext.models.engines import (
    STEREO,
    USUAL_WINDOW_S,
    EngineLM,
    PreparedChat,
    refuse_ranks,
)
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.openai_protocol import (
    FORMS,
    Answer,
    AnswerCounts,
    read_answer,
    write_message,
    write_part,
)
from mmaupro_ext.models.server_fixes import fix_for

logger = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
SENDS = ("wav", "original")
TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
# More stop strings are refused by OpenAI; all of them are looked for in the answer as well.
MOST_STOPS = 4
DEFAULT_CONCURRENCY = 8
CHECK_TRIES = 2


@dataclass(frozen=True)
class Served:
    """The reply to one item, or its error, with the answer behind it."""

    reply: str
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
    max_gen_toks : int
        Length of a reply in tokens, where the task does not say.
    max_tokens_field : {"max_tokens", "max_completion_tokens"}
        How that is called in a request.
    seed : int, optional
        Sent with every request.
    think_end_token : str, optional
        What ends a model's thoughts; they and it are left out of the reply.
    extra_body : dict or str, optional
        More fields for every request, as JSON.
    batch_size, max_batch_size, device
        Of lm_eval's command line. The server batches by itself and has its own device.
    **audio
        `long_audio`, `whole_s`, `window_s`, `max_audio_tokens`, `audio_tokens_per_s`,
        `multi_audio`, `channels`, `sampling_rate`, `block_label`, `audio_cache_mb`,
        `frontend_cache`: see `EngineLM`.

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
        max_gen_toks: int = 256,
        max_tokens_field: str = "max_tokens",
        seed: int | None = None,
        think_end_token: str | None = None,
        extra_body: dict[str, Any] | str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **audio: Any,
    ) -> None:
        if api_key is not None:
            raise ConfigError(
                "model_args are written beside the results: put the key into the environment "
                f"variable {api_key_env}, or name another with api_key_env=NAME."
            )
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
        self.max_gen_toks = positive("max_gen_toks", max_gen_toks, int) or 0
        self.max_tokens_field, self.seed = max_tokens_field, seed
        self.think_end_token = think_end_token
        self.extra_body = json_object("extra_body", extra_body)
        self.finding = server_check.Finding()
        self.answers = AnswerCounts()
        self.server = ChatServer(
            _address(base_url),
            str(model or ""),
            key=_key(api_key_env),
            settings=ServerSettings(
                concurrency=_concurrency(concurrency, batch_size),
                per_minute=positive("requests_per_minute", requests_per_minute, float),
                timeout_s=positive("timeout", timeout, float) or 0.0,
                tries=1 + int(max_retries),
            ),
            wording=Wording(
                "the server",
                f"Put the right one into the environment variable {api_key_env}, or name another "
                "with api_key_env=NAME in --model_args.",
                "base_url usually ends with /v1: check base_url and model in --model_args.",
            ),
        )
        self.server.model = _served_model(self.server, model)

    # ---- what lm_eval asks --------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by."""
        return f"{self.server.model}@{self.server.url}"

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
            **self.answers.as_dict(),
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
        questions = [self.question_of(request, n) for n, request in enumerate(requests)]
        replies: dict[int, str] = {}
        with (
            self.server.session() as session,
            tqdm(
                total=len(requests), disable=disable_tqdm, desc="Asking the server", unit="item"
            ) as bar,
        ):
            self._check(session, questions, requests)

            def serve(number: int) -> Served:
                question, gen_kwargs = questions[number], requests[number].args[1]
                served = failures.attempt(
                    question, lambda: self._serve(session, question, gen_kwargs)
                )
                return Served(served) if isinstance(served, str) else served

            def keep(number: int, served: Served) -> None:
                replies[number] = served.reply
                self._count(served)
                if not failures.is_failure(served.reply):
                    self.cache_hook.add_partial(
                        "generate_until", requests[number].args, served.reply
                    )
                bar.update()

            session.each(len(requests), serve, keep)
        self.answers.tell()
        return [replies[number] for number in range(len(requests))]

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
        text = self._text_of(answer)
        reply = postprocess_generated_text(text, until, self.think_end_token)
        return Served(Reply(reply, prepared.heard), answer)

    def _text_of(self, answer: Answer) -> str:
        if answer.finish_reason == "content_filter":
            raise ItemError(
                "a filter of the server stopped the answer",
                fix="Its provider says what it filters.",
            )
        if answer.text is None:
            thought = answer.reasoning or answer.finish_reason == "length"
            raise ItemError(
                f"the answer holds no text (finish_reason {answer.finish_reason!r}"
                + (", only thoughts" if answer.reasoning else "")
                + ")",
                fix="Give it more room with --gen_kwargs max_gen_toks=N, or switch its thinking off."
                if thought
                else "See the log of the server.",
            )
        return answer.text

    def _parameters(self, gen_kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the fields of a request besides the chat, and all stop strings."""
        options: dict[str, Any] = dict(normalize_gen_kwargs(gen_kwargs, self.max_gen_toks))
        until = [stop for stop in options.pop("until") if stop]
        parameters: dict[str, Any] = {self.max_tokens_field: options.pop("max_gen_toks")}
        if not options.pop("do_sample"):
            options["temperature"] = 0.0
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

    def _count(self, served: Served) -> None:
        record = getattr(served.reply, "heard", None)
        if served.answer is None:
            self.heard.errored_items += 1
        else:
            self.answers.add(served.answer)
        if record is not None:
            self.heard.add(record)

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
            longest_s = max(map(self.longest_block_s, questions), default=0.0)
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


def _no_scores(names: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"{', '.join(names)}: these tasks need log-likelihoods, and a chat server gives no "
        "probabilities of a prompt. Use tasks that generate (mmaupro_* instead of mmaupro-ll_*, a "
        "generative variant of a multiple-choice task), or --model hf-audio or vllm-audio."
    )


def _has_stops(request: Instance) -> bool:
    until = request.args[1].get("until")
    return bool(until if isinstance(until, str) else any(until or ()))


def _address(base_url: str | None) -> str:
    if not base_url:
        raise ConfigError(
            "openai-audio needs the address of its server: --model_args "
            "base_url=http://localhost:8000/v1,model=NAME"
        )
    if urlsplit(base_url).username is not None:
        raise ConfigError(
            "base_url is written beside the results: take name and password out of it and put a key "
            "into the environment."
        )
    return base_url


def _key(variable: str) -> str | None:
    key = os.environ.get(variable)
    if not key and variable != KEY_VARIABLE:
        raise ConfigError(f"api_key_env={variable}: there is no such environment variable.")
    return key or None


def _concurrency(concurrency: int | None, batch_size: int | str | None) -> int:
    given = positive("concurrency", concurrency, int)
    if given is not None:
        return given
    text = str(batch_size or "")
    batch = int(text) if text.isdigit() else 1
    return batch if batch > 1 else DEFAULT_CONCURRENCY


def _served_model(server: ChatServer, model: str | None) -> str:
    listed = server.served_models()
    if model:
        if listed and model not in listed:
            logger.warning("%s lists %s, not %s", server.url, ", ".join(listed), model)
        return str(model)
    if listed and len(listed) == 1:
        return listed[0]
    known = f"It lists: {', '.join(listed)}." if listed else "It lists none."
    raise ConfigError(f"which model of {server.url}? Add model=NAME to --model_args. {known}")
