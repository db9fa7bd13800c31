"""A judge on this machine: a chat model, through transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaupro_ext.data import file_sha256
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.failing import Failed, Streak, in_parts
from mmaupro_ext.offline.judging import DECODINGS, JUDGE, SEED, Keep, Prompt, Role
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.open_ended import JUDGE_DTYPE, JUDGE_GENERATION
from mmaupro_ext.util import require_choice, sha256_of_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalJudge:
    """A chat model on this machine, through transformers; loaded when first asked.

    Sampling is seeded by each prompt, so that an answer depends neither on the order of the
    prompts nor on where an interrupted run went on. The released evaluator sets no seed.

    Parameters
    ----------
    model : str
        Name on the hub, or folder.
    decoding : {"sampled", "greedy"}
        Temperature 0.1 with the model's other defaults, or the likeliest token without any
        penalty.
    dtype : str
        Of the weights; the released evaluator has bfloat16.
    device : str
        "auto": CUDA where there is one.
    batch_size : int
        Prompts at a time. With more than 1 the padding changes the last digits, and with them now
        and then a sampled token.
    revision : str, optional
        Commit or branch on the hub.
    role : Role
        For messages.

    Raises
    ------
    ConfigError
        By `identity` or `ask`, when the model cannot be loaded or has no chat template.
    """

    def __init__(
        self,
        model: str,
        decoding: str,
        dtype: str = JUDGE_DTYPE,
        device: str = "auto",
        batch_size: int = 1,
        revision: str | None = None,
        role: Role = JUDGE,
    ) -> None:
        require_choice("decoding", decoding, DECODINGS)
        if batch_size < 1:
            raise ConfigError(f"batch_size of a {role.name} must be at least 1, not {batch_size}")
        self.model, self.decoding, self.dtype = model, decoding, dtype
        self.batch_size, self.revision, self.role = batch_size, revision, role
        # A folder's place says nothing and differs between machines; its content is in `identity`.
        folder = Path(model).expanduser()
        self.name = folder.resolve().name if folder.is_dir() else model
        self._device_wanted = device
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
        self._content: str | None = None

    def identity(self) -> dict[str, Any]:
        """Return the model's content, dtype, device type and parameters."""
        if self._content is None:
            self._content = self._content_id()
        return {
            "kind": "transformers",
            "model": self.name,
            "content": self._content,
            "dtype": self.dtype,
            "device": self._device().type,
            "batch_size": self.batch_size,
            "decoding": self.decoding,
            "parameters": dict(JUDGE_GENERATION) if self.decoding == "sampled" else {"seed": SEED},
        }

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer each prompt; see `Judge`."""
        named = f"the {self.role.name} {self.name}"
        fix = "lower --judge-batch-size or use another device"
        streak = Streak(named, f"To go on, {fix}.")
        for start in range(0, len(prompts), self.batch_size):
            answers, _ = in_parts(prompts[start : start + self.batch_size], self._generate)
            for offset, answer in enumerate(answers):
                if isinstance(answer, Failed):
                    streak.add(answer)
                    answer = error_reply(f"{named} failed: {answer.problem}", fix=fix)
                else:
                    streak.end()
                keep(start + offset, answer)

    def _generate(self, prompts: Sequence[Prompt]) -> list[str]:
        import torch

        model, tokenizer = self._load()
        texts = [
            str(
                tokenizer.apply_chat_template(
                    prompt.messages(), tokenize=False, add_generation_prompt=True
                )
            )
            for prompt in prompts
        ]
        inputs = tokenizer(
            texts, return_tensors="pt", padding=len(texts) > 1, add_special_tokens=False
        ).to(model.device)
        first = hashlib.sha256(texts[0].encode("utf-8", "surrogatepass")).digest()
        torch.manual_seed(SEED + int.from_bytes(first[:4], "big"))
        with torch.inference_mode():
            output: Any = model.generate(**inputs, **self._generation(tokenizer))  # type: ignore[operator]
        length = inputs["input_ids"].shape[1]
        return [
            str(text)
            for text in tokenizer.batch_decode(output[:, length:], skip_special_tokens=True)
        ]

    def _generation(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        common = {
            "max_new_tokens": JUDGE_GENERATION["max_new_tokens"],
            "pad_token_id": tokenizer.eos_token_id,
        }
        if self.decoding == "sampled":
            temperature = JUDGE_GENERATION["temperature"]
            return {**common, "do_sample": True, "temperature": temperature}
        plain = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0}
        return {**common, "do_sample": False, **plain}

    def _device(self) -> torch.device:
        import torch

        wanted = self._device_wanted
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(wanted)

    def _load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        if self._loaded is not None:
            return self._loaded
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigError(f"torch has no dtype {self.dtype!r} for the {self.role.name}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, revision=self.revision, padding_side="left"
            )
            model = AutoModelForCausalLM.from_pretrained(
                self.model, revision=self.revision, dtype=dtype
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the {self.role.name} {self.model} cannot be loaded ({error}). Name a causal language model "
                f"of the hub or a folder: --{self.role.name} hf:NAME"
            ) from error
        if not tokenizer.chat_template:
            raise ConfigError(
                f"{self.model} has no chat template, so it cannot be a {self.role.name}. Name another"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.to(device=self._device())  # type: ignore[call-arg]
        self._loaded = (model.eval(), tokenizer)
        return self._loaded

    def _content_id(self) -> str:
        """Return what the weights and the tokenizer are: a commit, or digests of a folder's files."""
        folder = Path(self.model).expanduser()
        if folder.is_dir():
            files = sorted(
                file
                for file in folder.iterdir()
                if file.suffix in (".json", ".safetensors", ".bin", ".model", ".txt", ".jinja")
            )
            text = json.dumps([[file.name, file_sha256(file)] for file in files])
            return sha256_of_text(text)
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the {self.role.name} {self.model} was not found ({error}). Download it first, or "
                "name a folder"
            ) from error
        return str(getattr(config, "_commit_hash", None))
