"""`--model hf-audio`: audio, text and image requests to one transformers model, in one run.

lm_eval pools the requests of all tasks, so every request is routed by what it carries: text goes
through `HFLM` unchanged, requests with media go through the code here. Media are references until
their batch is prepared. What differs between model families is data (`families/`).
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import dataclasses
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jinja2
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.models.utils_hf import stop_sequences_criteria
from tqdm import tqdm

from mmaupro_ext import features, heard, native
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.heard import LogProb, Reply
from mmaupro_ext.models import batching, failures, generic, inputs, likelihood, loading, prompts
from mmaupro_ext.models.arguments import positive, require_choice
from mmaupro_ext.models.families import FAMILIES, Family, find_family
from mmaupro_ext.models.items import Choices, PreparedPrompt, Question
from mmaupro_ext.models.likelihood import Score
from mmaupro_ext.models.long_audio import NO_LIMIT, POLICIES, LongAudio
from mmaupro_ext.models.placing import MULTI_AUDIO
from mmaupro_ext.models.prefetch import default_workers
from mmaupro_ext.models.preparing import Preparer, check_context
from mmaupro_ext.models.running import Runner
from mmaupro_ext.replies import parse_error

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

FRONTENDS = {"native": "native", "stock": "soxr"}  # frontend -> resampler
AUTO_BATCH_SIZE = 8
NO_SCORE: Score = (math.nan, False)


def _leave_process_group() -> None:
    # After an error that nobody caught, the other processes may never come to this point, and leaving
    # may wait for them.
    failed = getattr(sys, "last_value", None) is not None
    if not failed and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _tiny_random(seed: int) -> tuple[str, str]:
    from mmaupro_ext.models import tiny_random

    return str(tiny_random.build(seed)), tiny_random.NOTE


def _nano(seed: int) -> tuple[str, str]:
    from mmaupro_ext.models import nano

    return nano.path(), nano.NOTE


# Names for `pretrained` that need no download: each gives a folder, and what must stand by its scores.
BUILT_IN: dict[str, Callable[[int], tuple[str, str]]] = {
    "tiny-random": _tiny_random,
    "nano": _nano,
}


@register_model("hf-audio")
class HFAudioLM(HFLM):
    """An audio-language model of transformers under lm_eval.

    Parameters
    ----------
    pretrained : str or transformers.PreTrainedModel
        As in `HFLM`; "nano" is the small model that ships with this package, "tiny-random" makes a
        tiny random Qwen2-Audio on this machine.
    frontend : {"native", "stock"}
        Who turns files into features: this package, or soxr and the model's own extractor.
    seed : int
        Of the weights of "tiny-random".
    processor : str or transformers.ProcessorMixin, optional
        Where the processor is, if not with the model.
    channels : {"auto", "mono", "stereo-as-two"}
        How files with two channels are heard: mixed to one, or as two labelled recordings, left
        and right. "auto" follows `mmaupro_channels` in the checkpoint's configuration, and is
        "mono" without it. Files with other numbers of channels are always mixed.
    long_audio : {"auto", "native", "windows", "uniform", "truncate"}
        What is done with audio that is longer than what the model takes at once: its own way
        (longer clips are errors), consecutive windows, as many evenly spread windows as the context
        holds, or the first window alone. "auto" is its own way where that hears everything, else
        consecutive blocks. Only "uniform" and "truncate" leave audio out, and the results say so.
    window_s : float, optional
        Length of a window in seconds, if not the model's.
    max_audio_tokens : int, optional
        Bound on the audio tokens of a prompt with `long_audio=uniform`; default: what the context
        leaves.
    multi_audio : {"list", "concat"}
        Several clips one by one, numbered; or joined into one, with 2 s of silence between them and
        a sentence that says so.
    audio_cache_mb : float
        Bound on decoded audio kept in memory for requests that share a clip, in MiB.
    prefetch_workers : int, optional
        Threads that prepare the next items while the model works; 0 for none. Default: a few, by
        the number of processors.
    prefetch_mb : float
        Bound on items prepared ahead, in MiB.
    frontend_cache : str, optional
        Folder in which decoded audio outlives the run; pays for compressed files that are read by
        several runs.
    device : str, optional
        As in `HFLM`; without it CUDA where there is one, else the CPU.
    quantization_config : mapping or transformers.utils.quantization_config.QuantizationConfigMixin
        For `from_pretrained`; `load_in_8bit=True` and the like become one.
    **kwargs
        Everything that `HFLM` takes: `dtype`, `batch_size`, `max_length`, `parallelize`, `peft`,
        `attn_implementation`, `trust_remote_code`, ...

    Notes
    -----
    `batch_size=auto` starts at 8 for requests with media (or `max_batch_size`, if less). Whatever
    the batch size, a batch that runs out of memory is halved, and later batches of the same call
    are no larger than the half that was tried; an item that does not fit alone is reported as
    errored. Batches hold prompts of similar audio length.
    """

    MULTIMODAL = True

    def __init__(
        self,
        pretrained: str | transformers.PreTrainedModel,
        *,
        frontend: str = "native",
        seed: int = 0,
        processor: str | transformers.ProcessorMixin | None = None,
        channels: str = "auto",
        long_audio: str = "auto",
        window_s: float | None = None,
        max_audio_tokens: int | None = None,
        multi_audio: str = "list",
        audio_cache_mb: float = 512,
        prefetch_workers: int | None = None,
        prefetch_mb: float = 512,
        frontend_cache: str | None = None,
        device: str | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        require_choice("frontend", frontend, FRONTENDS)
        require_choice("long_audio", long_audio, POLICIES)
        require_choice("multi_audio", multi_audio, MULTI_AUDIO)
        self.frontend = frontend
        self.long_audio = LongAudio(
            long_audio,
            positive("window_s", window_s, float),
            positive("max_audio_tokens", max_audio_tokens, int),
        )
        self.multi_audio = multi_audio
        self._stock_extractor: Any = None
        self.family: Family | None = None
        self.processor: Any = None
        self.heard = heard.Totals()
        self._quantization_config = quantization_config
        self._processor_source = processor
        self._processor_problem: str | None = None
        self._notes: list[str] = []
        # nano's template writes the bare prompt, so nothing is lost without it.
        self._hinted = isinstance(pretrained, str) and pretrained == "nano"
        if isinstance(pretrained, str) and pretrained in BUILT_IN:
            pretrained, note = BUILT_IN[pretrained](int(seed))
            self._add_note(note)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"

        super().__init__(pretrained, device=device, **kwargs)

        self._take_global_rank()
        self._reader: inputs.AudioReader | None = None
        if self.family is None and self.processor is not None:
            self.family = generic.learn(self.config.model_type, self.processor)
            if self.family is not None:
                self._add_note(generic.describe(self.family))
        self.channels = loading.channels_for(channels, self.config)
        if self.family is not None:
            self.family = loading.fit_family(self.family, self.processor)
            if self.family.adapt_processor is not None:
                self.family.adapt_processor(self.processor)
            if self.family.adapt_model is not None:
                note = self.family.adapt_model(self.model)
                if note is not None:
                    self._add_note(note)
            sampling_rate = self._use_frontend(self.family)
            self._reader = inputs.AudioReader(
                sampling_rate,
                resampler=FRONTENDS[self.frontend],
                cache_bytes=int(float(audio_cache_mb) * 2**20),
                channels=self.channels,
                cache=frontend_cache,
            )
        self._preparer = Preparer(
            self.processor,
            self.family,
            self._reader,
            self.add_bos_token,
            self.long_audio,
            self.multi_audio,
        )
        workers = default_workers() if prefetch_workers is None else int(prefetch_workers)
        self.runner = Runner(self._preparer, workers, int(float(prefetch_mb) * 2**20), self.heard)

    # ---- loading ------------------------------------------------------------------------------

    def _get_backend(self, config: Any, backend: Any = "default", **_: Any) -> None:
        # HFLM trusts a transformers table that lists several decoder-only audio models as
        # sequence-to-sequence. Nothing here is.
        model_type = getattr(config, "model_type", None)
        if backend == "seq2seq":
            raise ConfigError(
                "hf-audio serves decoder-only models: leave backend out, or use --model hf."
            )
        self.backend = "causal"
        self.family = find_family(model_type)
        self.AUTO_MODEL_CLASS = loading.loader_for(model_type, self.family)

    def _create_tokenizer(self, pretrained: Any, tokenizer: Any, **kwargs: Any) -> None:
        super()._create_tokenizer(pretrained, tokenizer, **kwargs)
        if self.family is not None and self.family.adapt_tokenizer is not None:
            self.family.adapt_tokenizer(self.tokenizer)
        source = self._processor_source
        if source is None:
            source = pretrained if isinstance(pretrained, str) else self.model.name_or_path
        if isinstance(source, str):
            chosen = {name: kwargs.get(name) for name in ("revision", "subfolder")}
            trust = kwargs.get("trust_remote_code")
            model_types = self.family.model_types if self.family else (self.config.model_type,)
            self.processor, self._processor_problem = loading.load_processor(
                source, model_types, trust_remote_code=trust, **chosen
            )
        else:
            self.processor = source
        if self.processor is not None:
            self.processor.tokenizer = self.tokenizer
        elif self.family is not None:
            raise ConfigError(
                f"the model of type {self.family.name!r} needs its processor, and none can "
                f"be loaded from {source} ({self._processor_problem}). Give processor=NAME_OR_PATH "
                "in --model_args."
            )

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        options = dict(self.family.load_options) if self.family is not None else {}
        options |= kwargs
        if self._quantization_config is not None:  # HFLM would pass it twice
            options["quantization_config"] = self._quantization_config
        super()._create_model(*args, **loading.with_quantization(options))

    def _add_note(self, note: str) -> None:
        """Keep what must stand below every table of this model."""
        self._notes.append(note)
        logger.warning("%s", note)

    def _use_frontend(self, family: Family) -> int:
        """Put the chosen extractor into the processor and return its sampling rate in Hz."""
        stock = self._stock_extractor = getattr(self.processor, family.extractor)
        if self.frontend == "stock":
            _require_stock(stock)
        else:
            try:
                native_extractor = features.native_extractor(stock)
            except ConfigError as error:
                if find_family(self.config.model_type) is not None:
                    raise
                self.frontend = "stock"
                self._add_note(f"frontend=stock: {error}")
            else:
                setattr(self.processor, family.extractor, native_extractor)
        return int(stock.sampling_rate)

    def _take_global_rank(self) -> None:
        """Take part as process i of all processes of all nodes.

        HFLM counts ranks per node and only where a node has several GPUs, so that two nodes, or
        two CPU processes, would each answer everything.
        """
        # A process that ends while threads of its group still run may abort, and the launcher then
        # kills the process that is writing the results.
        atexit.register(_leave_process_group)
        accelerator = getattr(self, "accelerator", None)
        if accelerator is not None:
            self._rank = accelerator.process_index
            self._world_size = accelerator.num_processes

    # ---- what lm_eval asks about the model ----------------------------------------------------

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return the chat as the model's template writes it, `<audio>` and `<image>` as media.

        Parameters
        ----------
        chat_history : list of dict
            Messages with `role` and `content` (str).
        add_generation_prompt : bool
            Whether the answer is to start, or the last message to go on.

        Returns
        -------
        str
            One place per clip. Which of them take several blocks is known, and written, when the
            clips are decoded.
        """
        with_media = any(prompts.has_marks(message["content"]) for message in chat_history)
        if self._own_rendering is None and (
            self.processor is None or not (with_media or self._template_takes_parts())
        ):
            return super().apply_chat_template(chat_history, add_generation_prompt)
        messages = [
            {**message, "content": prompts.chat_content(message["content"], self.family)}
            for message in chat_history
        ]
        try:
            return self._render(messages, add_generation_prompt)
        except jinja2.exceptions.TemplateError:
            logger.warning("the chat template refuses a system message: it is left out")
            without = [message for message in messages if message["role"] != "system"]
            return self._render(without, add_generation_prompt)

    @property
    def _own_rendering(self) -> Callable[[Any, list[dict[str, Any]], bool], str] | None:
        """The function with which the family writes chats, if not by a template."""
        return self.family.render_chat if self.family is not None else None

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint was made for chats, as far as its files tell."""
        if self._own_rendering is not None:
            return True
        holders = (self.tokenizer, self.processor)
        return any(getattr(holder, "chat_template", None) for holder in holders)

    def _template_takes_parts(self) -> bool:
        """Tell whether text tasks, too, use the processor's template.

        Such templates may pass over content that is a plain string: they get typed parts.
        """
        if self.processor is None:
            return False
        own = getattr(self.tokenizer, "chat_template", None)
        return own is None or own == getattr(self.processor, "chat_template", None)

    def _render(self, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        if self._own_rendering is not None:
            return self._own_rendering(self.processor, messages, add_generation_prompt)
        # Checkpoints may have their template with the tokenizer alone.
        with_template = getattr(self.processor, "chat_template", None) is not None
        return (self.processor if with_template else self.tokenizer).apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
            **self.chat_template_args,
        )

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the chat template in use; the processor's where the tokenizer has none.

        For a family that writes chats by a function of this package, its name.
        """
        render = self._own_rendering
        if chat_template and render is not None:
            return f"{render.__module__}.{getattr(render, '__qualname__', '')}"
        own = getattr(self.tokenizer, "chat_template", None)
        if chat_template and own is None and self.processor is not None:
            return getattr(self.processor, "chat_template", None)
        return super().chat_template(chat_template)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Take lm_eval's response cache, and forget the failures in it so that they are retried."""
        super().set_cache_hook(cache_hook)
        failures.forget_failures(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: HFLM's facts, the frontend, what was heard.

        `heard` counts what this process served: of several processes, the first.
        """
        info = super().get_model_info()
        info["frontend"] = self.frontend
        info["resampler"] = FRONTENDS[self.frontend]
        info["resamplers_used"] = sorted(self._reader.resamplers_used) if self._reader else []
        if self.frontend == "native":
            info["native"] = native.info()
        info["channels"] = self.channels
        info["long_audio"] = dataclasses.asdict(self.long_audio)
        info["multi_audio"] = self.multi_audio
        info["audio_family"] = self.family.name if self.family else None
        info["prefetch"] = {
            "workers": self.runner.workers,
            "waited_s": round(self.runner.waited_s, 3),
            "prepared_s": round(self.runner.prepared_s, 3),
        }
        info["heard"] = {
            **self.heard.as_dict(),
            "process": self.rank,
            "processes": self.world_size,
        }
        if self._notes:
            info["note"] = "; ".join(self._notes)
        return info

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
        return self._route(requests, super().generate_until, self._generate_media, disable_tqdm)

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
        return self._route(requests, super().loglikelihood, self._score_media, disable_tqdm)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Score whole texts as HFLM does; there is no such thing for media."""
        for request in requests:
            if any(isinstance(argument, dict) and argument for argument in request.args[1:]):
                raise ConfigError(
                    f"task {request.task_name}: rolling log-likelihood takes text only; use "
                    "generate_until, multiple_choice or loglikelihood with audio or images."
                )
        texts = [_with_arguments(request, request.args[:1]) for request in requests]
        return super().loglikelihood_rolling(texts, disable_tqdm=disable_tqdm)

    def _route(
        self,
        requests: list[Instance],
        answer_text: Callable[..., list[R]],
        answer_media: Callable[..., list[R]],
        disable_tqdm: bool,
    ) -> list[R]:
        """Send each request where it belongs and put the answers back into order."""
        by_kind: dict[bool, list[int]] = {True: [], False: []}
        for position, request in enumerate(requests):
            # An empty context asks for the unconditional probability: nothing is to be heard.
            has_media = bool(inputs.media_of(request.args)) and request.args[0] != ""
            by_kind[has_media].append(position)
        # A model that cannot take the media says so before hours of text are spent.
        media_requests = [requests[position] for position in by_kind[True]]
        self._check_media_support(media_requests)
        self._hint_at_chat_template(media_requests)
        answers: dict[int, R] = {}
        text_requests = [
            _with_arguments(requests[position], requests[position].args[:2])
            for position in by_kind[False]
        ]
        if text_requests:
            texts = answer_text(text_requests, disable_tqdm=disable_tqdm)
            answers.update(zip(by_kind[False], texts, strict=True))
        if media_requests:
            answered = answer_media(media_requests, disable_tqdm)
            answers.update(zip(by_kind[True], answered, strict=True))
        return [answers[position] for position in range(len(requests))]

    def _check_media_support(self, requests: Sequence[Instance]) -> None:
        for request in requests:
            media = inputs.media_of(request.args)
            task = f"task {request.task_name}" if request.task_name else "a request"
            if "audio" in media and self.family is None:
                raise ConfigError(
                    f"{task} has audio, and hf-audio knows no way to put audio into a model of "
                    f"type {self.config.model_type!r}. Families with audio: "
                    f"{', '.join(sorted(FAMILIES))}."
                )
            if "visual" in media and getattr(self.processor, "image_processor", None) is None:
                reason = f" ({self._processor_problem})" if self._processor_problem else ""
                raise ConfigError(
                    f"{task} has images, and the model of type {self.config.model_type!r} has no "
                    f"image processor here{reason}. Use a vision model; if it is one, install "
                    "mmaupro-ext[vision] and what its processor asks for."
                )

    # ---- preparing ----------------------------------------------------------------------------

    def prepare(self, question: Question, room: int = NO_LIMIT) -> PreparedPrompt:
        """Decode the media of one prompt and turn both into the model's inputs.

        Parameters
        ----------
        question : Question
            The prompt and its references.
        room : int
            How many tokens the prompt may have; looked at where audio is to fill the context.

        Returns
        -------
        PreparedPrompt
            For this prompt alone; its tensors are on the CPU.

        Raises
        ------
        ItemError, OSError
            When this item cannot be served.
        """
        return self._preparer.prepare(question, room)

    def preparer(self, frontend: str) -> Preparer:
        """Return a preparer for this model with the other frontend, to compare the two.

        Parameters
        ----------
        frontend : {"native", "stock"}
            Who turns files into features.
        """
        if self.family is None or self._reader is None:
            raise ConfigError("a model that takes no audio has no frontend")
        other = self._preparer.clone()
        extractor = self._stock_extractor
        if frontend == "native":
            extractor = features.native_extractor(extractor)
        else:
            _require_stock(extractor)
        setattr(other.processor, self.family.extractor, extractor)
        other.reader = inputs.AudioReader(
            self._reader.sampling_rate, FRONTENDS[frontend], 0, self.channels
        )
        return other

    def next_token_logprobs(self, prompt: PreparedPrompt) -> torch.Tensor:
        """Return what the model expects after a prompt.

        Parameters
        ----------
        prompt : PreparedPrompt
            From `prepare`.

        Returns
        -------
        torch.Tensor
            Log-probabilities (natural logarithm), float32, shape `(vocabulary,)`, on the CPU.
        """
        self._before_forward(prompt.kinds)
        with (
            torch.inference_mode(),
            self._precision(),
            batching.last_positions_only(self.model, 1),
        ):
            logits = self.model(**self._to_device(prompt.tensors)).logits[0, -1]
        return logits.float().log_softmax(dim=-1).cpu()

    def _hint_at_chat_template(self, requests: Sequence[Instance]) -> None:
        if self._hinted or self.rank != 0:
            return
        in_use = not any(prompts.has_marks(request.args[0]) for request in requests)
        if not in_use and self.has_chat_template:
            self._hinted = True
            logger.warning(
                "this checkpoint has a chat template that is not in use; if it was tuned for "
                "chats, add --apply_chat_template"
            )

    # ---- batches ------------------------------------------------------------------------------

    @property
    def media_batch_size(self) -> int:
        """How many questions with media go together at most."""
        if self.batch_size == "auto":
            return min(AUTO_BATCH_SIZE, int(self.max_batch_size or AUTO_BATCH_SIZE))
        return int(self.batch_size)

    def _detect_batch_size(self, requests: Any = None, pos: int = 0) -> int:
        # HFLM probes with batches of the full context, which takes minutes on a CPU.
        if self.device.type == "cpu":
            return min(AUTO_BATCH_SIZE, int(self.max_batch_size or AUTO_BATCH_SIZE))
        return super()._detect_batch_size(requests, pos)

    def _to_device(self, tensors: batching.Inputs) -> batching.Inputs:
        dtype = self.model.dtype
        return {
            name: value.to(self.device, dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }

    def _before_forward(self, kinds: frozenset[str]) -> None:
        if self.family is not None and self.family.before_forward is not None:
            self.family.before_forward(self.model, kinds)

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._before_forward(frozenset())
        return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._before_forward(frozenset())
        return super()._model_generate(*args, **kwargs)

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(
            device_type=self.device.type,
            dtype=self.mixed_precision_dtype,
            enabled=self.mixed_precision_dtype is not None,
        )

    def _progress(self, total: int, what: str, disable: bool) -> tqdm:
        return tqdm(total=total, disable=disable or self.rank != 0, desc=what, unit="item")

    # ---- generation ---------------------------------------------------------------------------

    def _generate_media(self, requests: Sequence[Instance], disable_tqdm: bool) -> list[str]:
        replies: dict[int, str] = {}
        groups: dict[str, list[int]] = {}
        for position, request in enumerate(requests):
            key = json.dumps(request.args[1], sort_keys=True, default=str)
            groups.setdefault(key, []).append(position)
        with self._progress(len(requests), "Answering items with media", disable_tqdm) as bar:
            for positions in groups.values():
                gen_kwargs = requests[positions[0]].args[1]
                questions = [
                    Question(
                        requests[position].args[0],
                        inputs.media_of(requests[position].args),
                        members=[position],
                        item=failures.item_name(requests[position]),
                    )
                    for position in positions
                ]
                for question, reply in self._generate_batches(questions, gen_kwargs, bar):
                    position = question.members[0]
                    replies[position] = reply
                    if parse_error(reply) is None:
                        self.cache_hook.add_partial(
                            "generate_until", requests[position].args, reply
                        )
        return [replies[position] for position in range(len(requests))]

    def _generate_batches(
        self, questions: Sequence[Question], gen_kwargs: dict[str, Any], bar: tqdm
    ) -> Iterator[tuple[Question, str]]:
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

        def forward(batch: list[PreparedPrompt]) -> list[str]:
            return self._generate(batch, until, max_gen_toks, options)

        yield from self.runner.run(
            questions,
            prepare,
            forward,
            str,
            bar,
            batch_size=self.media_batch_size,
            max_length=max_length,
        )

    def reply_to(self, batch: Sequence[PreparedPrompt], max_gen_toks: int) -> list[str]:
        """Return greedy replies of at most so many tokens to prepared prompts."""
        return self._generate(batch, [], max_gen_toks, {"do_sample": False})

    def _generate(
        self,
        batch: Sequence[PreparedPrompt],
        until: list[str],
        max_gen_toks: int,
        options: dict[str, Any],
    ) -> list[str]:
        try:
            batching.refuse_to_cross(
                self.model, self.family, [prompt.length for prompt in batch], max_gen_toks
            )
            tensors = batching.collate(
                [prompt.tensors for prompt in batch],
                self.tokenizer.pad_token_id,
                family=self.family,
            )
        except batching.UnbatchableError:
            return [
                reply
                for part in batching.halves(batch)
                for reply in self._generate(part, until, max_gen_toks, options)
            ]
        width = tensors["input_ids"].shape[1]
        criteria = stop_sequences_criteria(
            self.tokenizer, [stop for stop in until if stop], width, len(batch)
        )
        self._before_forward(frozenset().union(*(prompt.kinds for prompt in batch)))
        with (
            torch.inference_mode(),
            self._precision(),
            batching.last_positions_only(self.model, 1),
        ):
            generated = self.model.generate(
                **self._to_device(tensors),
                max_new_tokens=max_gen_toks,
                stopping_criteria=criteria,
                pad_token_id=self.tokenizer.pad_token_id,
                use_cache=True,
                **options,
            )
        self._count_heard(batch)
        return [
            Reply(self._reply(tokens, until), prompt.heard)
            for prompt, tokens in zip(batch, generated[:, width:].tolist(), strict=True)
        ]

    def _reply(self, tokens: list[int], until: list[str]) -> str:
        """Decode a reply without its thoughts and without stop strings and what follows them."""
        think_end = self.think_end_token
        if isinstance(think_end, int):
            if think_end in tokens:
                last = len(tokens) - 1 - tokens[::-1].index(think_end)
                tokens = tokens[last + 1 :]
            text = self.tok_decode(tokens).lstrip()
            return postprocess_generated_text(text, until, None)
        return postprocess_generated_text(self.tok_decode(tokens), until, think_end)

    def _count_heard(self, batch: Sequence[PreparedPrompt]) -> None:
        for prompt in batch:
            if prompt.heard is not None:
                self.heard.add(prompt.heard)

    # ---- log-likelihood -----------------------------------------------------------------------

    def _score_media(self, requests: Sequence[Instance], disable_tqdm: bool) -> list[Score]:
        if self.enable_thinking:
            raise ConfigError("enable_thinking=True and log-likelihood tasks exclude each other.")
        scores: dict[int, Score] = {}
        questions: dict[tuple[str, str], Question] = {}
        for position, request in enumerate(requests):
            context, continuation = request.args[:2]
            media = inputs.media_of(request.args)
            question = questions.setdefault(
                (context, inputs.media_key(media)),
                Question(context, media, item=failures.item_name(request)),
            )
            question.members.append(position)
            question.continuations.append(continuation)

        max_length = self.max_length

        def prepare(preparer: Preparer, question: Question) -> Choices:
            return preparer.prepare_choices(question, max_length)

        def no_scores(_: str) -> list[Score]:
            return []

        with self._progress(len(requests), "Scoring items with media", disable_tqdm) as bar:
            for question, answers in self.runner.run(
                list(questions.values()),
                prepare,
                self.score_choices,
                no_scores,
                bar,
                batch_size=self.media_batch_size,
                max_length=max_length,
            ):
                if not answers:
                    answers = [NO_SCORE] * len(question.members)
                for position, score in zip(question.members, answers, strict=True):
                    scores[position] = score
                    if not failures.is_failure(score):
                        self.cache_hook.add_partial("loglikelihood", requests[position].args, score)
        return [scores[position] for position in range(len(requests))]

    def prepare_choices(self, question: Question) -> Choices:
        """Prepare one prompt and the token ids of its continuations (see `Preparer`)."""
        return self._preparer.prepare_choices(question, self.max_length)

    def score_choices(self, batch: Sequence[Choices]) -> list[list[Score]]:
        """Score continuations in the cheaper way that is right for this family."""
        if self.family is not None and self.family.shared_prefix:
            return self.score_shared(batch)
        return self.score_full(batch)

    def score_shared(self, batch: Sequence[Choices]) -> list[list[Score]]:
        """Score continuations on the key-value cache of their prompts."""
        return self._score(likelihood.score_shared, batch)

    def score_full(self, batch: Sequence[Choices]) -> list[list[Score]]:
        """Score continuations by one whole pass each."""
        return self._score(likelihood.score_full, batch)

    def _score(
        self, score: Callable[..., list[list[Score]]], batch: Sequence[Choices]
    ) -> list[list[Score]]:
        try:
            return self._score_together(score, batch)
        except batching.UnbatchableError:
            return [row for part in batching.halves(batch) for row in self._score(score, part)]

    def _score_together(
        self, score: Callable[..., list[list[Score]]], batch: Sequence[Choices]
    ) -> list[list[Score]]:
        kinds = {choices.prompt.kinds for choices in batch}
        if len(kinds) > 1:  # the model may have other adapters for each
            raise batching.UnbatchableError("prompts with different kinds of media")
        self._before_forward(*kinds)
        with torch.inference_mode(), self._precision():
            scores = score(
                self.model, batch, self.tokenizer.pad_token_id, self._to_device, self.family
            )
        self._count_heard([choices.prompt for choices in batch])
        return [
            [(LogProb(value, choices.prompt.heard), greedy) for value, greedy in row]
            for choices, row in zip(batch, scores, strict=True)
        ]


def _require_stock(extractor: Any) -> None:
    if features.is_native(extractor):
        raise ConfigError(
            f"frontend=stock: {type(extractor).__name__} of transformers cannot be made here. "
            "Install what it asks for (torchaudio), or leave frontend out for the native one."
        )


def _with_arguments(request: Instance, arguments: tuple[Any, ...]) -> Instance:
    """Return a request with other arguments, or the same one where they are its own."""
    if request.args == arguments:
        return request
    changed = copy.copy(request)
    changed.arguments = arguments
    return changed
