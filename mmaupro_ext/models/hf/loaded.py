"""A checkpoint of transformers, loaded and fitted to what it is given to hear."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
import transformers

from mmaupro_ext import heard, native
from mmaupro_ext.audio.decoding import AudioReader
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.blocks import MULTI_AUDIO, Placer
from mmaupro_ext.models.families import Family, find_family
from mmaupro_ext.models.hf import batching, checks, generic, loading, packed, ranks
from mmaupro_ext.models.hf.encoder_cache import EncoderCache
from mmaupro_ext.models.hf.fingerprint import identity_of_loaded
from mmaupro_ext.models.hf.frontend import RESAMPLERS, Frontend
from mmaupro_ext.models.hf.generation import Generator, set_end_tokens
from mmaupro_ext.models.hf.memory import Budget
from mmaupro_ext.models.hf.passes import Passes
from mmaupro_ext.models.hf.preparing import PreparedPrompt, Preparer
from mmaupro_ext.models.hf.schedule import Schedule
from mmaupro_ext.models.hf.templates import ChatTemplate
from mmaupro_ext.models.identity import Identity
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.media import STEREO_AS_TWO
from mmaupro_ext.models.prefetch import default_workers
from mmaupro_ext.models.windows import NO_LIMIT, LongAudio
from mmaupro_ext.util import require_choice, sha256_of_file

logger = logging.getLogger(__name__)

DECODINGS = ("slots", "slots-eager", "generate")


class LoadedModel(ranks.Together):
    """An audio-language model of transformers, ready to be asked.

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
        How files with two channels are heard: mixed to one, or as two labelled recordings, left and right.
        "auto" follows `mmaupro_channels` in the checkpoint's configuration, and is "mono" without it. Files
        with other numbers of channels are always mixed.
    long_audio : {"auto", "native", "windows", "uniform", "truncate"}
        What is done with audio that is longer than what the model takes at once: its own way (longer clips
        are errors), consecutive windows of equal length, as many evenly spread windows as the context
        holds, or the first `window_s` seconds. "auto" is its own way where that hears everything, else
        consecutive windows. Only "uniform" and "truncate" leave audio out, and the results say so.
    window_s : float, optional
        Longest window in seconds, if not the model's.
    max_audio_tokens : int, optional
        Bound on the audio tokens of a prompt with `long_audio=uniform`; default: what the context leaves.
    multi_audio : {"list", "concat"}
        Several clips one by one, numbered; or joined into one, with 2 s of silence between them and
        a sentence that says so.
    audio_cache_mb : float
        Bound on decoded audio kept in memory for requests that share a clip, in MiB; and, where the
        model is, on what its encoder made of clips (0: each prompt is encoded in its own pass).
    prefetch_workers : int, optional
        Threads that prepare the next items meanwhile; 0 for none. Default: a few, by the processors.
    prefetch_mb : float
        Bound on items prepared ahead, in MiB.
    decoding : {"slots", "slots-eager", "generate"}
        How greedy replies to requests with media are written: side by side, each leaving when it has ended
        and the next prompt taking its place ("eager": without CUDA graphs); or batch by batch by `generate`
        of transformers, which also serves sampling, beams and models whose cache has no slots.
    family : str, optional
        A Python file that describes the family of the checkpoint, where nobody has or to take the place
        of the description here: see "A family of your own".
    device : str, optional
        As in `HFLM`; without it CUDA where there is one, else the CPU.
    quantization_config : mapping or transformers.utils.quantization_config.QuantizationConfigMixin
        For `from_pretrained`; `load_in_8bit=True` and the like become one.
    **kwargs
        Everything that `HFLM` takes: `dtype`, `batch_size`, `max_length`, `parallelize`, `peft`,
        `attn_implementation`, `trust_remote_code`, ...

    Notes
    -----
    `batch_size=auto` fills a GPU's memory with tokens, by what earlier passes took, up to `max_batch_size`
    prompts; on a CPU it is 8. A batch that runs out of memory is halved, and later ones hold no more
    tokens than that half; what does not fit alone is errored. Batches hold prompts of similar length.
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
        decoding: str = "slots",
        family: str | None = None,
        device: str | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        require_choice("frontend", frontend, RESAMPLERS)
        require_choice("multi_audio", multi_audio, MULTI_AUDIO)
        require_choice("decoding", decoding, DECODINGS)
        self.long_audio = LongAudio.of(long_audio, window_s, max_audio_tokens)
        self.multi_audio = multi_audio
        self.decoding = decoding
        self._own_family = loading.read_family(family) if family is not None else None
        self.family: Family | None = None
        self.processor: Any = None
        self.heard = heard.Totals()
        self._quantization_config = quantization_config
        self._processor_source = processor
        self._processor_problem: str | None = None
        self.audio_problem: str | None = None
        self._notes: list[str] = []
        # nano's template writes the bare prompt, so nothing is lost without it.
        self._hinted = isinstance(pretrained, str) and pretrained == "nano"
        self._named = pretrained
        self._arguments = kwargs | {
            "quantization_config": quantization_config,
            "family": family and sha256_of_file(family),
            "decoding": decoding if decoding != DECODINGS[0] else None,
        }
        if isinstance(pretrained, str) and pretrained in loading.BUILT_IN:
            pretrained, note = loading.BUILT_IN[pretrained](int(seed))
            self._add_note(note)
        device = checks.before_loading(LoadedModel, pretrained, kwargs, device)
        self.peers = ranks.join(
            alone=not isinstance(pretrained, str) or bool(kwargs.get("tp_plan"))
        )

        super().__init__(pretrained, device=device, **kwargs)

        self._rank, self._world_size = ranks.take_part(self)
        self.channels = loading.channels_for(channels, self.config)
        self._frontend: Frontend | None = None
        self._reader: AudioReader | None = None
        self._preparer = Preparer(self.processor, None, None, self.add_bos_token)
        if self.family is None and self.processor is not None:
            try:
                self.family = generic.learn(self.config.model_type, self.processor)
            except ConfigError as error:  # it may still serve text
                self.audio_problem = str(error)
            if self.family is not None:
                self._add_note(generic.describe(self.family))
        cache_bytes = int(float(audio_cache_mb) * 2**20)
        if self.family is not None:
            self._take_audio(frontend, cache_bytes)
        chat_args = self.chat_template_args
        self._template = ChatTemplate(self.tokenizer, self.processor, self.family, chat_args)
        self.end_tokens = set_end_tokens(self.model, self.tokenizer, self._template)
        self.passes = Passes(
            self.model,
            self.device,
            self.tokenizer.pad_token_id,
            self.mixed_precision_dtype,
            self.family.loading if self.family is not None else None,
            EncoderCache.of(self.model, self.tokenizer, self.family, cache_bytes),
            Budget.of(self.device, self.batch_size == "auto"),
            captures=decoding == "slots" and not kwargs.get("tp_plan"),
        )
        self._generator = Generator(
            self.passes, self.tokenizer, self.tok_decode, self.end_tokens, self.think_end_token
        )
        workers = default_workers() if prefetch_workers is None else int(prefetch_workers)
        max_bytes = int(float(prefetch_mb) * 2**20)
        self.schedule = Schedule(self._preparer, workers, max_bytes, self._generator)

    # ---- loading ------------------------------------------------------------------------------

    def _get_config(self, pretrained: str, **options: Any) -> None:
        if self._own_family is None:
            loading.refuse_elsewhere(pretrained, options.get("revision"))
        with checks.loading_from(pretrained):
            super()._get_config(pretrained, **options)

    def _get_backend(self, config: Any, backend: Any = "default", **_: Any) -> None:
        # HFLM trusts a transformers table that lists several decoder-only audio models as
        # sequence-to-sequence. Nothing here is.
        model_type = getattr(config, "model_type", None)
        if backend == "seq2seq":
            raise ConfigError(
                "hf-audio serves decoder-only models: leave backend out, or use --model hf."
            )
        self.backend = "causal"
        self.family = self._own_family or find_family(model_type)
        if self._own_family is not None:
            loading.require_type(self._own_family, model_type)
        self.AUTO_MODEL_CLASS = loading.loader_for(model_type, self.family)

    def _create_tokenizer(self, pretrained: Any, tokenizer: Any, **kwargs: Any) -> None:
        super()._create_tokenizer(pretrained, tokenizer, **kwargs)
        if self.family is not None and self.family.loading.adapt_tokenizer is not None:
            self.family.loading.adapt_tokenizer(self.tokenizer)
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
        options = dict(self.family.loading.load_options) if self.family is not None else {}
        options |= kwargs
        if self._quantization_config is not None:  # HFLM would pass it twice
            options["quantization_config"] = self._quantization_config
        with checks.loading_from(self._named, weights=True):
            super()._create_model(*args, **loading.with_quantization(options))

    def _take_audio(self, frontend: str, cache_bytes: int) -> None:
        """Fit family, processor and model to each other, and take clips."""
        assert self.family is not None
        family = self.family = loading.fit_family(self.family, self.processor)
        if family.loading.adapt_processor is not None:
            family.loading.adapt_processor(self.processor)
        if family.loading.adapt_model is not None:
            note = family.loading.adapt_model(self.model)
            if note is not None:
                self._add_note(note)
        packed.unpack(self.model)
        described = self._own_family is None and find_family(self.config.model_type) is not None
        self._frontend = Frontend(frontend, self.processor, family.loading.extractor, described)
        if self._frontend.note is not None:
            self._add_note(self._frontend.note)
        self._reader = AudioReader(
            self._frontend.sampling_rate,
            self._frontend.resampler,
            cache_bytes,
            "apart" if self.channels == STEREO_AS_TWO else "mono",
        )
        self._preparer.loading = family.loading
        self._preparer.placer = Placer(
            self._reader, family.writing, self.long_audio, self.multi_audio, self.channels
        )

    def _add_note(self, note: str) -> None:
        """Keep what must stand below every table of this model."""
        self._notes.append(note)
        logger.warning("%s", note)

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
        written = self._template.render(chat_history, add_generation_prompt)
        if written is None:
            return super().apply_chat_template(chat_history, add_generation_prompt)
        return written

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the chat template in use; the processor's where the tokenizer has none.

        For a family that writes chats by a function of this package, its name.
        """
        own = self._template.name if chat_template else None
        return own or super().chat_template(chat_template)

    @property
    def has_chat_template(self) -> bool:
        """Whether the checkpoint was made for chats, as far as its files say."""
        return self._template.exists

    @property
    def frontend(self) -> str:
        """Who turns files into features, "native" or "stock"."""
        return self._frontend.name if self._frontend is not None else "native"

    @property
    def tokenizer_name(self) -> str:
        """What lm_eval's cache of requests is kept apart by, where it applies a chat template."""
        return f"{super().tokenizer_name}-{self._template.digest}"

    def identity(self) -> Identity:
        """Return what the answers of this model depend on besides their requests, as it is now."""
        return identity_of_loaded(self, self._named, self._arguments, self._template.digest)

    def get_model_info(self) -> dict[str, Any]:
        """Return what is written beside the results: HFLM's facts, the frontend, what was heard.

        `heard` counts what this process served: of several processes, the first.
        """
        info = super().get_model_info()
        info["identity"] = self.identity().as_dict()
        info["frontend"] = self.frontend
        info["resampler"] = RESAMPLERS[self.frontend]
        info["resamplers_used"] = sorted(self._reader.resamplers_used) if self._reader else []
        if self.frontend == "native":
            info["native"] = native.info()
        info["channels"] = self.channels
        info["long_audio"] = dataclasses.asdict(self.long_audio)
        info["multi_audio"] = self.multi_audio
        info["audio_family"] = self.family.name if self.family else None
        info["end_tokens"] = self.end_tokens
        info["decoding"] = self.decoding
        info["prefetch"] = {
            "workers": self.schedule.workers,
            "waited_s": round(self.schedule.waited_s, 3),
            "prepared_s": round(self.schedule.prepared_s, 3),
        }
        info["heard"] = {
            **self.heard.as_dict(),
            "process": self.rank,
            "processes": self.world_size,
        }
        if self._notes:
            info["note"] = "; ".join(self._notes)
        return info

    # ---- passes over prepared prompts -----------------------------------------------------------

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.passes.switch(())
        return super()._model_call(*args, **kwargs)

    def _model_generate(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.passes.switch(())
        return super()._model_generate(*args, **kwargs)

    def prepare(self, question: Question, max_tokens: int = NO_LIMIT) -> PreparedPrompt:
        """Decode the media of one prompt and turn both into the model's inputs (see `Preparer`)."""
        return self._preparer.prepare(question, max_tokens)

    def preparer(self, frontend: str) -> Preparer:
        """Return a preparer for this model with the other frontend, to compare the two.

        Parameters
        ----------
        frontend : {"native", "stock"}
            Who turns files into features.
        """
        if self._frontend is None:
            raise ConfigError("a model that takes no audio has no frontend")
        return self._frontend.of(frontend, self._preparer)

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
        with self.passes.over(prompt.kinds), batching.last_positions_only(self.model, 1):
            logits = self.model(**self.passes.to_device(prompt.tensors)).logits[0, -1]
        return logits.float().log_softmax(dim=-1).cpu()
