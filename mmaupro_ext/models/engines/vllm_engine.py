"""vLLM in this process: what is asked of it, what becomes of prompts that it refuses, and what it placed.

For vLLM 0.32 and newer; docs/vllm.md says what was tried on a real one.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext.errors import ConfigError, ItemError, MMAUProError
from mmaupro_ext.features import is_native

logger = logging.getLogger(__name__)

# Raised by vLLM when its engine process has ended; nothing can be asked of it any more.
_DEATH = "EngineDeadError"
# Arguments of vLLM that say how fast and where it computes, and the model, which is told by itself.
NOT_OF_REPLIES = frozenset(
    ("model", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "swap_space")
    + ("tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend")
    + ("cpu_offload_gb", "download_dir", "disable_log_stats", "limit_mm_per_prompt")
    + ("enable_prefix_caching",)
)


class EngineDiedError(MMAUProError, RuntimeError):
    """vLLM's engine has ended."""


@dataclass(frozen=True)
class ChatPrompt:
    """A chat for `LLM.enqueue_chat`.

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
    """A prompt for `LLM.enqueue`, with the model's own placeholders.

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


@dataclass(frozen=True)
class Answer:
    """What came back for one prompt.

    Parameters
    ----------
    output : RequestOutput
        Of vLLM.
    audio_tokens : tuple of int
        How many tokens of the prompt vLLM set apart for each sound, in order.
    """

    output: Any
    audio_tokens: tuple[int, ...]


class VLLMEngine:
    """One `vllm.LLM`, started when it is first needed.

    Parameters
    ----------
    arguments : dict
        Of `vllm.LLM`, `model` among them.
    chat_template_kwargs : dict, optional
        For the model's chat template.
    content_format : {"auto", "string", "openai"}
        How the chat template gets messages.

    Raises
    ------
    ConfigError
        When vLLM is not installed, or older than what is asked of it here.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        chat_template_kwargs: dict[str, Any] | None = None,
        content_format: str = "auto",
    ) -> None:
        try:
            self.vllm: Any = importlib.import_module("vllm")
        except ImportError as error:
            raise ConfigError(
                f"vllm-audio needs vLLM, which cannot be imported here ({error}). Install it with its "
                "audio packages (pip install 'vllm[audio]'; Linux and an accelerator), or serve the "
                "model elsewhere and use --model openai-audio."
            ) from error
        if not hasattr(self.vllm.LLM, "enqueue_chat"):
            raise ConfigError(
                f"vLLM {self.version} is too old for vllm-audio, which is written for 0.32 and newer. "
                "Install a newer one, or serve the model (vllm serve) and use --model openai-audio."
            )
        self.arguments = arguments
        self.chat_options = {
            "chat_template_kwargs": chat_template_kwargs,
            "chat_template_content_format": content_format,
        }
        self._llm: Any = None
        self._limits: dict[str, int] = {}
        self._placed: list[tuple[int, ...]] = []

    @property
    def version(self) -> str:
        """Of vLLM."""
        return str(getattr(self.vllm, "__version__", "unknown"))

    def written_arguments(self) -> dict[str, Any]:
        """Return the arguments as plain JSON, without what is secret."""
        return {
            name: value if isinstance(value, (str, int, float, bool, dict)) else str(value)
            for name, value in self.arguments.items()
            if name != "hf_token"
        }

    # ---- start --------------------------------------------------------------------------------

    @property
    def llm(self) -> Any:
        """The `LLM` of vLLM; started for one sound a prompt where `start` has not been called."""
        if self._llm is None:
            self.start({})
        return self._llm

    def start(self, most: Mapping[str, int]) -> None:
        """Start vLLM for prompts with so many sounds and images, or anew where it was started for fewer.

        vLLM sets memory apart for as many as `limit_mm_per_prompt` allows, and loads no encoder of a
        kind that has none. Limits of the user's stay.

        Parameters
        ----------
        most : mapping
            "audio" and "image" to the number of them in one prompt.
        """
        limits = {"audio": max(1, most.get("audio", 0)), "image": most.get("image", 0), "video": 0}
        if self._llm is not None:
            if all(self._limits[kind] >= count for kind, count in limits.items()):
                return
            if "limit_mm_per_prompt" in self.arguments:
                return
            logger.warning("vLLM is started anew: prompts have more sounds or images than before")
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            limits = {kind: max(count, self._limits[kind]) for kind, count in limits.items()}
        self._llm = self.vllm.LLM(**{"limit_mm_per_prompt": limits} | self.arguments)
        self._limits = limits
        renderer = self._llm.renderer
        for name in ("render_cmpl", "render_chat"):
            setattr(renderer, name, self._noting(getattr(renderer, name)))

    def _noting(self, render: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of vLLM's renderer that leaves what it placed in `_placed`."""

        @functools.wraps(render)
        def rendered(*arguments: Any, **options: Any) -> Any:
            result = render(*arguments, **options)
            inputs = result[1] if isinstance(result, tuple) else result
            self._placed += [_audio_tokens(entry) for entry in inputs]
            return result

        return rendered

    @property
    def tokenizer(self) -> Any:
        """Of the model."""
        return self.llm.get_tokenizer()

    @property
    def frontend(self) -> str | None:
        """Who computes features: "native" or "stock"; None before the start, or without audio."""
        if self._llm is None:
            return None
        try:
            info = self._llm.renderer.get_mm_processor().info
            extractor = (
                info.get_feature_extractor()
                if hasattr(info, "get_feature_extractor")
                else info.get_hf_processor().audio_processor  # Granite Speech
            )
        except Exception:  # a model without audio, or one that has no such extractor
            return None
        return "native" if is_native(extractor) else "stock"

    # ---- answers ------------------------------------------------------------------------------

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

    def answer(
        self, prompts: Sequence[Prompt], sampling: Sequence[Any]
    ) -> list[Answer | ItemError]:
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
            In their order: an answer, or the error of a prompt that vLLM refuses.

        Raises
        ------
        EngineDiedError
            When the engine has ended.
        """
        results: list[Any] = [None] * len(prompts)
        placed: list[tuple[int, tuple[int, ...]]] = []
        waiting: list[str] = []
        for position, (prompt, params) in enumerate(zip(prompts, sampling, strict=True)):
            self._placed.clear()
            try:
                waiting += self._enqueue(prompt, params)
            except Exception as error:  # vLLM has several kinds of its own
                if type(error).__name__ == _DEATH:
                    raise _death(error) from error
                logger.debug("vLLM refuses a prompt", exc_info=True)
                results[position] = _refusal(error)
                self._forget_refused(waiting)
            else:
                placed.append((position, self._placed[-1]))
                if len(self._placed[-1]) < _sounds(prompt):  # those that are left out are not sent
                    self._forget_refused(waiting)
        if not placed:
            return results
        try:
            # In the order in which they were enqueued.
            outputs = self.llm.wait_for_completion(use_tqdm=False)
        except Exception as error:  # an engine in this process has no state left to go on from
            raise _death(error) from error
        if len(outputs) != len(placed):
            raise EngineDiedError(f"vLLM gave {len(outputs)} outputs for {len(placed)} prompts")
        for (position, audio_tokens), output in zip(placed, outputs, strict=True):
            results[position] = Answer(output, audio_tokens)
        return results

    def _enqueue(self, prompt: Prompt, sampling: Any) -> list[str]:
        """Hand a prompt over; return the names of its requests."""
        if isinstance(prompt, ChatPrompt):
            return self.llm.enqueue_chat(
                [prompt.messages],
                sampling_params=[sampling],
                use_tqdm=False,
                add_generation_prompt=not prompt.goes_on,
                continue_final_message=prompt.goes_on,
                **self.chat_options,
            )
        return self.llm.enqueue(
            [prompt.as_dict()],
            sampling_params=[sampling],
            use_tqdm=False,
            tokenization_kwargs=None if prompt.special_tokens else {"add_special_tokens": False},
        )

    def _forget_refused(self, waiting: Sequence[str]) -> None:
        """Undo what a prompt has left behind whose sounds did not arrive: those after it would pay.

        vLLM keeps processed sounds on both sides of its engine, and sends those that the other side has
        without data. Those of a refused prompt never got there: the next prompt with the same clip would
        fail, and its request, which is half added, would be waited for without end.
        """
        # A cache in shared memory holds what waiting prompts need, and has one side only.
        if self.arguments.get("mm_processor_cache_type") != "shm":
            self.llm.renderer.clear_mm_cache()
        engine = self.llm.llm_engine
        known = set(waiting)
        left = [name for name in engine.output_processor.request_states if name not in known]
        if left:
            engine.abort_request(left, internal=True)

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a text without special ones around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def _audio_tokens(engine_input: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how many embeddings of each sound vLLM puts into a prompt."""
    ranges = (engine_input.get("mm_placeholders") or {}).get("audio", ())
    return tuple(int(placeholder.get_num_embeds()) for placeholder in ranges)


def _sounds(prompt: Prompt) -> int:
    """Return how many sounds a prompt has."""
    if isinstance(prompt, TextPrompt):
        return len(prompt.media.get("audio", ()))
    parts = [m["content"] for m in prompt.messages if not isinstance(m["content"], str)]
    return sum(part["type"] == "audio_url" for content in parts for part in content)


def _death(error: Exception) -> EngineDiedError:
    return EngineDiedError(
        f"vLLM's engine has ended ({type(error).__name__}: {error}): see its log above. It may need less "
        "memory (gpu_memory_utilization, max_model_len, max_num_seqs). The same command "
        "goes on with what is missing."
    )


# What vLLM says of a prompt that it refuses -> what helps.
_FIXES = (
    (
        "may be provided in one prompt",
        "Join clips with multi_audio=concat, windows of long ones with a larger window_s, or raise "
        "limit_mm_per_prompt, if vLLM says that this helps. Nothing was left out.",
    ),
    (
        "Failed to apply prompt replacement",
        "The chat template leaves the sound out where vLLM gives it plain strings: add "
        "chat_template_content_format=openai, or run without --apply_chat_template.",
    ),
    (
        "prompt placeholders corresponding to",
        "vLLM does not find the sound again in what it has written (Gemma 3n: where a line break "
        "follows one): add --apply_chat_template.",
    ),
    (
        "context length",
        "Raise max_model_len, or choose long_audio=uniform with max_audio_tokens. Nothing was cut.",
    ),
    (
        "too short",
        "The clip has less than a token's worth of sound for this model.",
    ),
)


def _refusal(error: Exception) -> ItemError:
    """Return the error of a prompt with its true cause: the end of the chain of exceptions."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split())
        if text and text not in said:
            said.append(text if len(text) <= 400 else f"{text[:200]} ... {text[-200:]}")
        cause = cause.__cause__
    problem = f"vLLM refuses the prompt: {type(error).__name__}: {', because: '.join(said)}"
    fix = next((fix for words, fix in _FIXES if words in problem), None)
    return ItemError(
        problem,
        fix=fix
        or "--model hf-audio may take it; with VLLM_LOGGING_LEVEL=DEBUG vLLM's log says more.",
    )
