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

from mmaupro_ext.chat_server import RequestFailedError, Session
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.failing import Failed
from mmaupro_ext.heard import Reply
from mmaupro_ext.models.engines import server_check
from mmaupro_ext.models.engines.chats import Chat, Message, in_template
from mmaupro_ext.models.engines.connecting import connect, key_of
from mmaupro_ext.models.engines.engine import STEREO, USUAL_WINDOW_S, EngineLM, refuse_ranks
from mmaupro_ext.models.engines.hearing import check_sum
from mmaupro_ext.models.engines.known_models import known_model
from mmaupro_ext.models.engines.protocol import FORMS, Answer, Usage, read_answer, text_of
from mmaupro_ext.models.engines.request_body import RequestBody
from mmaupro_ext.models.engines.server_fixes import fix_for
from mmaupro_ext.models.families.family import Family, Writing
from mmaupro_ext.models.items import Answers, Question, attempt, questions_of
from mmaupro_ext.progress import progress
from mmaupro_ext.server_settings import ServerSettings
from mmaupro_ext.util import arguments_of, positive, refuse_unknown, require_choice

logger = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 8
_NO_ARGUMENTS = ("name", "api_key")  # what nobody should be pointed to
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
        Address, usually ending in `/v1`, without a query.
    model : str
        Name of the model there; default: the only one that the server lists.
    api_key_env : str
        Environment variable with the key; default: `OPENAI_API_KEY`, which may be unset. A key itself is
        no argument: these are written into the results.
    api_key_file : str
        File with the key, instead. After a 401 it is read anew.
    api_key_command : str
        Command that prints the key, instead, such as `gcloud auth print-access-token`; run anew after a 401.
    api_key_header : str
        The header that takes the key as it is, such as `api-key`; default: a bearer token in `Authorization`.
    headers : dict
        More headers, as JSON. Results and logs show their names only.
    query : dict
        What follows the `?` of each request, as JSON, such as `{"api-version": "2025-01-01-preview"}`.
    audio_format : {"auto", "input_audio", "audio_url", "input_audio_uri"}
        How a clip is written: OpenAI's `input_audio`; `audio_url` with a data: URI; `input_audio` with a
        data: URI. "auto" finds out by short requests, in this order.
    send : {"wav", "flac", "original"}
        16-bit WAV or FLAC (about half as large, the same samples) at `sampling_rate`; or the bytes of the
        file, where it is given whole and by itself, with all its channels and at its own rate.
    stream : bool
        Have answers streamed, for servers that answer in no other way and for gateways that end what is
        silent for long. A stream that breaks off is asked for again.
    check : bool
        Whether a few short requests go first (see above).
    concurrency : int
        Requests under way at a time; default: `--batch_size`, if it is more than 1, else 8.
    max_retries : int
        How often a request is repeated whose failure may pass: no connection, no whole answer in time, a
        malformed one, 408, 409, 425, 429, 5xx; with exponential backoff, jitter and Retry-After.
    requests_per_minute : float
        Requests started per minute at most; default: no limit.
    timeout : float
        Seconds within which the last byte of an answer must have come.
    max_request_mb : float
        A request with more than so many 10^6 bytes is not sent, and its item errored; default: no bound.
    max_tokens_field : {"max_tokens", "max_completion_tokens"}
        What a request calls the length of a reply.
    send_temperature : bool
        Whether the temperature is sent; `false` for models that refuse it.
    seed : int
        Sent with every request.
    extra_body : dict
        More fields for every request, as JSON.
    batch_size, max_batch_size, device
        Of lm_eval's command line. The server batches by itself and has its own device.
    **audio
        `max_gen_toks`, `think_end_token`, and how audio is given: see `EngineLM`. `whole_s` is taken from
        the model's name where that is known (`known_models`).

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
        api_key_env: str | None = None,
        api_key_file: str | None = None,
        api_key_command: str | None = None,
        api_key_header: str | None = None,
        api_key: Any = None,
        headers: dict[str, Any] | str | None = None,
        query: dict[str, Any] | str | None = None,
        audio_format: str = "auto",
        send: str = "wav",
        stream: bool = False,
        check: bool = True,
        concurrency: int | None = None,
        max_retries: int = 5,
        requests_per_minute: float | None = None,
        timeout: float = 600.0,
        max_request_mb: float | None = None,
        max_tokens_field: str = "max_tokens",
        send_temperature: bool = True,
        seed: int | None = None,
        extra_body: dict[str, Any] | str | None = None,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **audio: Any,
    ) -> None:
        known = [*arguments_of(OpenAIAudioLM), *arguments_of(EngineLM)]
        refuse_unknown("openai-audio", audio, [name for name in known if name not in _NO_ARGUMENTS])
        require_choice("audio_format", audio_format, ("auto", *FORMS))
        refuse_ranks(
            "openai-audio",
            "Start it once, without accelerate launch or torchrun, and set concurrency=N in "
            "--model_args to what the server takes at a time.",
        )
        self.body = RequestBody(
            send=send,
            max_tokens_field=max_tokens_field,
            send_temperature=send_temperature,
            stream=stream,
            seed=seed,
            extra_body=extra_body,
        )
        self.audio_format, self.check = audio_format, bool(check)
        self.sends_files = send == "original"  # as they are, where they are given whole
        self.form = FORMS[0] if audio_format == "auto" else audio_format
        self.finding = server_check.Finding()
        self.usage = Usage()
        self.server = connect(
            base_url,
            model,
            key=key_of(api_key, api_key_env, api_key_file, api_key_command),
            key_header=api_key_header,
            headers=headers,
            query=query,
            settings=ServerSettings(
                concurrency=_concurrency(concurrency, batch_size),
                per_minute=positive("requests_per_minute", requests_per_minute, float),
                timeout_s=positive("timeout", timeout, float) or 0.0,
                tries=1 + int(max_retries),
                largest_mb=positive("max_request_mb", max_request_mb, float),
            ),
        )
        self.whole_source, audio = _with_whole_s(self.server.model, audio)
        super().__init__("the server", **audio)

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
            "query": self.server.query,
            "audio_format": self.audio_format,
            **self.body.as_dict(),
        }

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: the server, how it was asked, what it said."""
        info = {
            **super().get_model_info(),
            "whole_s_from": self.whole_source,
            "server": self.server.url,
            "served_model": self.server.model,
            "audio_format": self.form,
            "send": self.body.send,
            "stream": self.body.stream,
            "check": self.finding.as_dict() if self.check else None,
            "concurrency": self.server.settings.concurrency,
            "requests": self.server.requests,
            "retries": self.server.retries,
            **self.usage.as_dict(),
        }
        if self.channels == STEREO or self.sends_files:
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
            progress(len(requests), "Asking the server", disable=disable_tqdm) as bar,
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
        prepared = self.prepare(question, untouched=self.sends_files)
        options, until, max_gen_toks = self.options_of(gen_kwargs)
        stops = until if self.finding.stops is not False else []
        body = self.body.of_chat(prepared, self.form, options, stops, max_gen_toks)
        try:
            answer = session.complete(body, read_answer)
        except RequestFailedError as failure:
            words = failure.text or failure.problem
            raise ItemError(
                failure.problem, fix=fix_for(words, failure.status, self.form)
            ) from failure
        record = prepared.heard
        if record is not None:
            tokens = check_sum(self.family(), prepared.sounds, answer.usage)
            record = record | {"audio_tokens": tokens}
        reply = self.reply_of(text_of(answer), until, answer.finish, record)
        return Served(reply, answer)

    def family(self) -> Family | None:
        """Return the family of the model by its name at the server, None where that is not known."""
        known = known_model(self.server.model)
        return None if known is None else known.family

    def writing_in(self, chat: Chat) -> Writing:
        """Return how blocks are written: without what the template of a known model writes by itself."""
        return in_template(self.writing, self.family())

    # ---- check --------------------------------------------------------------------------------

    def _check(
        self, session: Session, questions: Sequence[Question], requests: Sequence[Instance]
    ) -> None:
        """Find out what the server takes, when requests first need it."""
        if not self.check or not requests:
            return
        fixes: dict[str, str] = {}
        # A temperature that is refused is found here, not in every item.
        options, _, _ = self.options_of(requests[0].args[1])

        def ask(message: Message, form: str, **parameters: Any) -> int | None:
            body = self.body.of_check(message, form, options | parameters)
            try:
                answer = session.complete(body, read_answer, tries=CHECK_TRIES)
            except RequestFailedError as failure:
                fixes[form] = fix_for(failure.text or failure.problem, failure.status, form)
                raise server_check.Refused(failure.problem) from failure
            tokens = answer.usage.get("prompt_tokens")
            return tokens if isinstance(tokens, int) and tokens > 0 else None

        kinds = {kind for question in questions for kind in question.media}
        self.finding = server_check.find_out(
            ask,
            self.finding,
            FORMS if self.audio_format == "auto" else (self.audio_format,),
            self.reader.sampling_rate,
            fixes,
            longest_s=self.longest_block_s(questions) if "audio" in kinds else None,
            beyond_s=USUAL_WINDOW_S,
            images="visual" in kinds,
            stops=any(map(_has_stops, requests)),
        )
        self.form = self.finding.form or self.form


def _with_whole_s(model: str, audio: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return where `whole_s` comes from, and how audio is given with it."""
    if audio.get("whole_s") is not None:
        return "whole_s", audio
    if audio.get("long_audio", "auto") != "auto":
        return "long_audio", audio
    known = known_model(model)
    if known is None:
        logger.info(
            "how much audio %s takes at once is not known: clips beyond %g s go as numbered windows. If it "
            "takes more, say so with whole_s=SECONDS in --model_args",
            model,
            USUAL_WINDOW_S,
        )
        return "default", audio
    logger.info(
        "%s takes %g s of audio at once (%s): clips up to that go whole. whole_s=SECONDS changes it",
        model,
        known.whole_s,
        known.source,
    )
    return known.source, {**audio, "whole_s": known.whole_s}


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
