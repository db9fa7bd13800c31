"""A stand-in for the module `vllm`, with the interface of its version 0.32.0 and a tiny real model.

It takes what `vllm.LLM`, its `enqueue`, `enqueue_chat` and `wait_for_completion`, and `vllm.SamplingParams`
document, refuses what they do not, and computes with transformers: prompts whole, one at a time. Of what
vLLM does inside it imitates the prefix cache: what is cached gets no log-probabilities. The real one is
tested in `tests/vllm_real`.
"""

from __future__ import annotations

import base64
import io
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

__version__ = "0.32.0-stand-in"

RATE = 16_000
BLOCK = 16  # tokens of a block of the prefix cache
# Fields of `EngineArgs` that a user of an audio model may set, beside those that `LLM` names.
ENGINE_ARGUMENTS = {
    "distributed_executor_backend", "enable_lora", "default_mm_loras", "interleave_mm_strings",
    "limit_mm_per_prompt", "max_model_len", "max_num_seqs", "pipeline_parallel_size",
}  # fmt: skip


class VLLMValidationError(Exception):
    """As `vllm.exceptions` has it: no ValueError."""


class MultiModalCacheMissError(Exception):
    """As vLLM's, which its engine raises of a prompt that is half added."""


class EngineDeadError(Exception):
    """As `vllm.v1.engine.exceptions` has it."""


@dataclass
class SamplingParams:
    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    prompt_logprobs: int | None = None
    skip_special_tokens: bool = True
    detokenize: bool = True
    skip_reading_prefix_cache: bool | None = None

    def __post_init__(self):
        if self.temperature < 0:
            raise VLLMValidationError("temperature must be non-negative")


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    text: str
    token_ids: list[int]
    finish_reason: str | None


@dataclass
class RequestOutput:
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput] = field(default_factory=list)
    num_cached_tokens: int = 0


@dataclass
class PlaceholderRange:
    offset: int
    length: int

    def get_num_embeds(self) -> int:
        return self.length


class Renderer:
    """Makes engine inputs of prompts, as `LLM.renderer` does."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm

    def clear_mm_cache(self):
        self.llm.sent.clear()

    def render_cmpl(self, prompts, options):
        return [self.llm.ready(p["prompt"], p["multi_modal_data"], options) for p in prompts]

    def render_chat(self, conversations, options):
        rendered = []
        for conversation in conversations:
            typed, sounds = _read(conversation)
            text = self.llm.processor.apply_chat_template(typed, tokenize=False, **options)
            rendered.append(self.llm.ready(text, {"audio": sounds}, {"add_special_tokens": False}))
        return conversations, rendered


class LLM:
    """See the module; `calls` is what was asked of it, `made` are all of them.

    `audio_tokens_at_most` cuts sounds, as some of vLLM's processors do.
    """

    made: list[LLM] = []
    dies = False

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        quantization: str | None = None,
        revision: str | None = None,
        chat_template: str | None = None,
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        enforce_eager: bool = False,
        mm_processor_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = set(kwargs) - ENGINE_ARGUMENTS
        if unknown:
            raise TypeError(f"EngineArgs got unexpected keyword arguments {unknown}")
        self.arguments = {**kwargs, "tensor_parallel_size": tensor_parallel_size, "dtype": dtype}
        self.limits = kwargs.get("limit_mm_per_prompt") or {}
        self.max_model_len = kwargs.get("max_model_len") or 65536
        self.processor = AutoProcessor.from_pretrained(model)
        self.model = Qwen2AudioForConditionalGeneration.from_pretrained(model).eval()
        self.calls: list[tuple[str, int]] = []
        self.conversations: list[Any] = []
        self.hidden_text = False
        self.audio_tokens_at_most = 1 << 20
        self.renderer, self.llm_engine = Renderer(self), self
        self.engine_core = self.output_processor = self
        # Sounds that were processed, and those of them that have reached the engine.
        self.sent: set[bytes] = set()
        self.received: set[bytes] = set()
        self.request_states: dict[str, None] = {}
        self._kind = ""
        self._queue: list[tuple[str, Any, SamplingParams]] = []
        self._numbers = itertools.count()
        self._cached: list[tuple[bytes, list[int]]] = []
        self.stopped = False
        LLM.made.append(self)

    def shutdown(self):
        self.stopped = True

    def get_tokenizer(self):
        return self.processor.tokenizer

    def enqueue(
        self,
        prompts,
        sampling_params=None,
        lora_request=None,
        priority=None,
        use_tqdm=True,
        tokenization_kwargs=None,
        mm_processor_kwargs=None,
    ):
        assert isinstance(prompts, list)
        self._kind = "text"
        options = {"add_special_tokens": True} | (tokenization_kwargs or {})
        assert set(options) == {"add_special_tokens"}
        for prompt in prompts:
            assert set(prompt) <= {"prompt", "multi_modal_data"}
            assert isinstance(prompt["prompt"], str)
            media = prompt.get("multi_modal_data", {})
            assert set(media) <= {"audio", "image"}
            for samples, rate in media.get("audio", []):
                assert isinstance(samples, np.ndarray)
                assert samples.dtype == np.float32
                assert samples.ndim in (1, 2)
                assert isinstance(rate, int)
        whole = [{"multi_modal_data": {}} | prompt for prompt in prompts]
        return self._add(self.renderer.render_cmpl(whole, options), sampling_params)

    def enqueue_chat(
        self,
        messages,
        sampling_params=None,
        use_tqdm=True,
        lora_request=None,
        priority=None,
        chat_template=None,
        chat_template_content_format="auto",
        add_generation_prompt=True,
        continue_final_message=False,
        tools=None,
        chat_template_kwargs=None,
        tokenization_kwargs=None,
        mm_processor_kwargs=None,
    ):
        assert isinstance(messages, list)
        assert not (add_generation_prompt and continue_final_message)
        self._kind = "chat"
        self.conversations += messages
        options = {
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            **(chat_template_kwargs or {}),
        }
        _, rendered = self.renderer.render_chat(messages, options)
        return self._add(rendered, sampling_params)

    def wait_for_completion(self, output_type=None, *, use_tqdm=True):
        if LLM.dies:
            raise EngineDeadError("EngineCore encountered an issue.")
        assert not self.stopped
        assert not set(self.request_states) - {name for name, *_ in self._queue}, "waits for ever"
        queue, self._queue = self._queue, []
        self.request_states.clear()
        self.calls.append((self._kind, len(queue)))
        return [self._output(ready, params) for _, ready, params in queue]

    def abort_request(self, names, internal=False):
        assert internal
        for name in names:
            del self.request_states[name]

    def _add(self, rendered, sampling_params):
        if LLM.dies:
            raise EngineDeadError("EngineCore encountered an issue.")
        assert isinstance(sampling_params, list)
        assert len(sampling_params) == len(rendered)
        names = []
        for ready, params in zip(rendered, sampling_params, strict=True):
            names.append(str(next(self._numbers)))
            self.request_states[names[-1]] = None
            if missing := ready["without data"] - self.received:
                raise MultiModalCacheMissError(
                    f"{len(missing)} items are not in the receiver cache"
                )
            self.received |= ready["sounds"]
            self._queue.append((names[-1], ready, params))
        return names

    def ready(self, text, media, options):
        """Refuse what vLLM refuses, and return the input of the engine."""
        sounds = media.get("audio", [])
        limit = self.limits.get("audio", 999)
        limit = limit["count"] if isinstance(limit, dict) else limit
        if len(sounds) > limit:
            raise VLLMValidationError(f"At most {limit} audio(s) may be provided in one prompt.")
        if sounds:
            assert all(rate == RATE for _, rate in sounds), "the stand-in does not resample"
            mono = [s if s.ndim == 1 else s.mean(axis=0) for s, _ in sounds]
            inputs = self.processor(
                text=[text], audio=mono, sampling_rate=RATE, return_tensors="pt",
                text_kwargs=options,
            )  # fmt: skip
        else:
            inputs = self.processor.tokenizer(text, return_tensors="pt", **options)
        each = {samples.tobytes() for samples, _ in sounds}
        known = each & self.sent
        self.sent |= each
        length = inputs["input_ids"].shape[1]
        if length == 0:
            raise VLLMValidationError("The decoder prompt cannot be empty")
        if length > self.max_model_len:
            raise VLLMValidationError(
                f"This model's maximum context length is {self.max_model_len} tokens, the prompt has "
                f"{length}"
            )
        token = self.processor.tokenizer.convert_tokens_to_ids(self.processor.audio_token)
        counts, tokens = [], inputs["input_ids"][0].tolist()
        for before, now in zip([None, *tokens], tokens, strict=False):
            if now == token and before != token:
                counts.append(0)
            if now == token:
                counts[-1] += 1
        ranges = [PlaceholderRange(0, min(c, self.audio_tokens_at_most)) for c in counts]
        return {
            "mm_placeholders": {"audio": ranges},
            "prompt": text,
            "inputs": dict(inputs),
            "sounds": each,
            "without data": known,
            "hash": b"".join(samples.tobytes() for samples, _ in sounds),
        }

    def _cached_tokens(self, tokens, sounds, params):
        """Return how many tokens of a prompt are cached, and cache it."""
        skip = params.skip_reading_prefix_cache
        if skip is None:
            skip = params.prompt_logprobs is not None
        longest = 0
        for heard, other in self._cached:
            same = 0
            while same < min(len(tokens), len(other)) and tokens[same] == other[same]:
                same += 1
            longest = max(longest, same if heard == sounds else 0)
        self._cached.append((sounds, tokens))
        return 0 if skip else min(longest, len(tokens) - 1) // BLOCK * BLOCK

    @torch.inference_mode()
    def _output(self, ready, params):
        text, inputs = ready["prompt"], ready["inputs"]
        tokens = inputs["input_ids"][0].tolist()
        cached = self._cached_tokens(tokens, ready["hash"], params)
        table = None
        if params.prompt_logprobs is not None:
            logits = self.model(**inputs).logits[0].log_softmax(-1)
            table = [None]
            for row, token in zip(logits, tokens[1:], strict=False):
                best = int(row.argmax())
                rank = int((row > row[token]).sum()) + 1
                table.append(
                    {token: Logprob(float(row[token]), rank), best: Logprob(float(row[best]), 1)}
                )
            for position in range(1, cached + 1):
                table[position] = {-1: Logprob(0.0, 1)}
            assert not (cached and params.detokenize), "no token can be written for -1"
        assert params.temperature == 0.0, "the stand-in does not sample"
        written = self.model.generate(
            **inputs, max_new_tokens=params.max_tokens, do_sample=False,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )[0, len(tokens):].tolist()  # fmt: skip
        ended = written and written[-1] == self.processor.tokenizer.eos_token_id
        said = self.processor.tokenizer.decode(
            written, skip_special_tokens=params.skip_special_tokens
        )
        for stop in params.stop or ():
            said = said.split(stop)[0]
        answer = CompletionOutput(said, written, "stop" if ended else "length")
        said = None if self.hidden_text else text
        return RequestOutput(said, tokens, table, [answer], cached)


def _read(conversation):
    """Return a chat in typed parts, and its sounds."""
    typed, sounds = [], []
    for message in conversation:
        assert set(message) == {"role", "content"}
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        parts = []
        for part in content:
            if part["type"] == "text":
                parts.append({"type": "text", "text": part["text"]})
                continue
            assert part["type"] == "audio_url", "the stand-in sees nothing"
            head, data = part["audio_url"]["url"].split(",", 1)
            assert head == "data:audio/wav;base64"
            samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
            sounds.append((samples if samples.ndim == 1 else samples.T, rate))
            parts.append({"type": "audio"})
        typed.append({"role": message["role"], "content": parts})
    return typed, sounds
