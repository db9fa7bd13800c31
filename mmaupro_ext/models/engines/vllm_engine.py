"""vLLM in this process: what is asked of it, and what becomes of prompts that it refuses.

Written from the documentation and docstrings of vLLM 0.33.0: `LLM`, `LLM.chat`, `LLM.generate`,
`SamplingParams`, `RequestOutput`, and the page "Multimodal Inputs". See docs/servers.md for what was
tried on a real vLLM, and what was not.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.errors import ConfigError, ItemError, MMAUProError

logger = logging.getLogger(__name__)

# Raised by vLLM when its engine process has ended; nothing can be asked of it any more.
_DEATH = "EngineDeadError"
REFUSED = (
    "If it has too many sounds or images, raise limit_mm_per_prompt, or join clips with "
    "multi_audio=concat; if it is too long, raise max_model_len, or choose long_audio=uniform with "
    "max_audio_tokens. Nothing was cut."
)
# Arguments of vLLM that say how fast and where it computes, and the model, which is told by itself.
NOT_OF_REPLIES = frozenset(
    ("model", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "swap_space")
    + ("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend")
    + ("cpu_offload_gb", "download_dir", "disable_log_stats", "limit_mm_per_prompt")
)


class EngineDiedError(MMAUProError, RuntimeError):
    """vLLM's engine has ended."""


@dataclass(frozen=True)
class ChatPrompt:
    """A chat for `LLM.chat`.

    Parameters
    ----------
    messages : list of dict
        In OpenAI's words; sounds as `audio_url` with data: URIs.
    goes_on : bool
        Whether the last message is the beginning of the answer.
    """

    messages: list[dict[str, Any]]
    goes_on: bool = False


@dataclass(frozen=True)
class TextPrompt:
    """A prompt for `LLM.generate`, with the model's own placeholders.

    Parameters
    ----------
    text : str
        The prompt.
    media : dict
        `{"audio": [(samples, sampling rate), ...], "image": [image, ...]}`, without empty kinds.
    special_tokens : bool
        Whether the tokenizer is to add its own, such as the one that begins a text. A chat template
        has written them.
    """

    text: str
    media: dict[str, list[Any]]
    special_tokens: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Return it as vLLM's `TextPrompt`."""
        prompt: dict[str, Any] = {"prompt": self.text}
        if self.media:
            prompt["multi_modal_data"] = self.media
        return prompt


Prompt = ChatPrompt | TextPrompt


class VLLMEngine:
    """One `vllm.LLM`.

    Parameters
    ----------
    arguments : dict
        Of `vllm.LLM`, `model` among them.
    chat_template_kwargs : dict, optional
        For the model's chat template.

    Raises
    ------
    ConfigError
        When vLLM is not installed.
    """

    def __init__(
        self, arguments: dict[str, Any], chat_template_kwargs: dict[str, Any] | None = None
    ) -> None:
        try:
            self.vllm: Any = importlib.import_module("vllm")
        except ImportError as error:
            raise ConfigError(
                f"vllm-audio needs vLLM, which cannot be imported here ({error}). Install it with its "
                "audio packages (pip install 'vllm[audio]'; Linux and an accelerator), or serve the "
                "model elsewhere and use --model openai-audio."
            ) from error
        self.chat_template_kwargs = chat_template_kwargs
        self.llm = self.vllm.LLM(**arguments)
        self.tokenizer = self.llm.get_tokenizer()

    @property
    def version(self) -> str:
        """Of vLLM."""
        return str(getattr(self.vllm, "__version__", "unknown"))

    def sampling(self, **options: Any) -> Any:
        """Return vLLM's `SamplingParams`.

        Raises
        ------
        ConfigError
            When there is no such parameter, or its value cannot be.
        """
        try:
            return self.vllm.SamplingParams(**options)
        except Exception as error:  # vLLM has several kinds of its own
            raise ConfigError(
                f"vLLM's SamplingParams refuse {options}: {error}. Change --gen_kwargs."
            ) from error

    def answer(self, prompts: Sequence[Prompt], sampling: Sequence[Any]) -> list[Any | ItemError]:
        """Let the engine work on prompts, all at once.

        Parameters
        ----------
        prompts : sequence
            Of any kind.
        sampling : sequence
            A `SamplingParams` each.

        Returns
        -------
        list
            In their order, vLLM's `RequestOutput`, or the error of a prompt that vLLM refuses.

        Raises
        ------
        EngineDiedError
            When the engine has ended.
        """
        results: list[Any] = [None] * len(prompts)
        groups: dict[Any, list[int]] = {}
        for position, prompt in enumerate(prompts):
            key = (
                ("chat", prompt.goes_on)
                if isinstance(prompt, ChatPrompt)
                else ("text", prompt.special_tokens)
            )
            groups.setdefault(key, []).append(position)
        for (kind, flag), positions in groups.items():
            call = self._chat if kind == "chat" else self._generate
            found = _in_halves([(prompts[i], sampling[i]) for i in positions], call, flag)
            for position, result in zip(positions, found, strict=True):
                results[position] = result
        return results

    def _chat(self, pairs: Sequence[tuple[Any, Any]], goes_on: bool) -> list[Any]:
        return self.llm.chat(
            [prompt.messages for prompt, _ in pairs],
            sampling_params=[sampling for _, sampling in pairs],
            use_tqdm=False,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
            chat_template_kwargs=self.chat_template_kwargs,
        )

    def _generate(self, pairs: Sequence[tuple[Any, Any]], special_tokens: bool) -> list[Any]:
        return self.llm.generate(
            [prompt.as_dict() for prompt, _ in pairs],
            sampling_params=[sampling for _, sampling in pairs],
            use_tqdm=False,
            tokenization_kwargs=None if special_tokens else {"add_special_tokens": False},
        )

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text without special ones around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def _in_halves(
    pairs: list[tuple[Any, Any]],
    call: Callable[[Sequence[tuple[Any, Any]], bool], list[Any]],
    flag: bool,
) -> list[Any | ItemError]:
    """Call with all; where that is refused, with halves, down to the prompt that is the reason.

    vLLM refuses a whole call for one prompt that it cannot take, before it computes anything.
    """
    try:
        outputs = call(pairs, flag)
    except Exception as error:  # vLLM has several kinds of its own
        if type(error).__name__ == _DEATH:
            raise EngineDiedError(
                f"vLLM's engine has ended ({error}): see its log above. It may need less memory "
                "(gpu_memory_utilization, max_model_len, max_num_seqs). The same command goes on with "
                "what is missing."
            ) from error
        if len(pairs) == 1:
            logger.debug("vLLM refuses a prompt", exc_info=True)
            problem = f"vLLM refuses the prompt: {type(error).__name__}: {error}"
            return [ItemError(problem, fix=REFUSED)]
        half = len(pairs) // 2
        return _in_halves(pairs[:half], call, flag) + _in_halves(pairs[half:], call, flag)
    if len(outputs) != len(pairs):
        raise EngineDiedError(f"vLLM gave {len(outputs)} outputs for {len(pairs)} prompts")
    return list(outputs)
