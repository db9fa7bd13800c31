"""A stand-in for the module `vllm`, with the interface of its version 0.33.0 and a tiny real model.

It takes what `vllm.LLM`, `LLM.chat`, `LLM.generate` and `vllm.SamplingParams` document, refuses what
they do not, and computes with transformers: prompts whole, one at a time. What vLLM does inside is not
imitated.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
import torch
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

__version__ = "0.33.0-stand-in"

RATE = 16_000
# Fields of `EngineArgs` that a user of an audio model may set, beside those that `LLM` names.
ENGINE_ARGUMENTS = {
    "distributed_executor_backend", "enable_lora", "default_mm_loras", "interleave_mm_strings",
    "limit_mm_per_prompt", "max_model_len", "max_num_seqs", "pipeline_parallel_size",
}  # fmt: skip


class VLLMValidationError(Exception):
    """As `vllm.exceptions` has it: no ValueError."""


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


class LLM:
    """See the module; `calls` is what was asked of it, `made` are all of them."""

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
        LLM.made.append(self)

    def get_tokenizer(self):
        return self.processor.tokenizer

    def generate(
        self,
        prompts,
        sampling_params=None,
        *,
        use_tqdm=True,
        lora_request=None,
        priority=None,
        tokenization_kwargs=None,
        mm_processor_kwargs=None,
    ):
        assert isinstance(prompts, list)
        self.calls.append(("generate", len(prompts)))
        options = {"add_special_tokens": True} | (tokenization_kwargs or {})
        assert set(options) == {"add_special_tokens"}
        ready = []
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
            ready.append(self._ready(prompt["prompt"], media.get("audio", []), options))
        return self._outputs(ready, sampling_params)

    def chat(
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
        self.calls.append(("chat", len(messages)))
        self.conversations += messages
        ready = []
        for conversation in messages:
            typed, sounds = _read(conversation)
            text = self.processor.apply_chat_template(
                typed,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **(chat_template_kwargs or {}),
            )
            ready.append(self._ready(text, sounds, {"add_special_tokens": False}))
        outputs = self._outputs(ready, sampling_params)
        if self.hidden_text:
            for output in outputs:
                output.prompt = None
        return outputs

    def _ready(self, text, sounds, options):
        """Refuse what vLLM refuses, and return the model's inputs."""
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
        length = inputs["input_ids"].shape[1]
        if length == 0:
            raise VLLMValidationError("The decoder prompt cannot be empty")
        if length > self.max_model_len:
            raise VLLMValidationError(
                f"This model's maximum context length is {self.max_model_len} tokens, the prompt has "
                f"{length}"
            )
        return text, dict(inputs)

    def _outputs(self, ready, sampling_params):
        if LLM.dies:
            raise EngineDeadError("EngineCore encountered an issue.")
        assert isinstance(sampling_params, list)
        assert len(sampling_params) == len(ready)
        return [
            self._output(text, inputs, params)
            for (text, inputs), params in zip(ready, sampling_params, strict=True)
        ]

    @torch.inference_mode()
    def _output(self, text, inputs, params):
        tokens = inputs["input_ids"][0].tolist()
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
        return RequestOutput(text, tokens, table, [answer])


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
