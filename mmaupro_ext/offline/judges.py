"""Judges of open-ended replies: a local model, or any server that speaks OpenAI's chat protocol.

A judge answers prompts; what its answers are worth is read elsewhere (`verdicts`, `open_ended`).
An answer that could not be had is an error reply (`mmaupro_ext.replies`), never a score, and is
asked for again the next time. `CachedJudge` keeps every answer on disk the moment it arrives, so
an interrupted run goes on where it stopped and a finished one asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmaupro_ext.chat_server import ChatServer, RequestFailedError, ServerSettings, Wording
from mmaupro_ext.data import file_sha256
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply, parse_error
from mmaupro_ext.scoring.open_ended import JUDGE_DTYPE, JUDGE_GENERATION

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

KEY_VARIABLE = "MMAUPRO_JUDGE_KEY"
DECODINGS = ("sampled", "greedy")
SEED = 0

WORDING = Wording(
    name="the judge",
    key_fix=f"Put the right one into the environment variable {KEY_VARIABLE}, or name another with "
    "--judge-key-env",
    address_fix="The address usually ends with /v1: check --judge and --judge-model",
)

_CACHE_SCHEME = 1


@dataclass(frozen=True)
class Prompt:
    """What a judge is asked.

    Attributes
    ----------
    system : str or None
        System message; None for none.
    user : str
        User message.
    """

    system: str | None
    user: str

    def messages(self) -> list[dict[str, str]]:
        """Return the chat."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": self.user}]


Keep = Callable[[int, str], None]


class Judge(Protocol):
    """Answers prompts.

    Attributes
    ----------
    name : str
        What a result calls it.
    """

    name: str

    def identity(self) -> dict[str, Any]:
        """Return everything that its answers depend on, as plain JSON: the key of the cache."""
        ...

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer each prompt once, in any order, by calling ``keep(position, answer)``.

        The calls come one at a time. An answer that cannot be had is an error reply.
        """
        ...


# --- cache ---------------------------------------------------------------------------------------


class CachedJudge:
    """A judge whose answers are kept in a folder.

    One file an answer, named by the SHA-256 of the judge's identity and the prompt, and written
    under another name first, so that neither Ctrl-C nor a second process leaves half a file.

    Parameters
    ----------
    judge : Judge
        Asked for what is missing.
    folder : path
        Made when needed.
    progress : bool
        Whether a bar is shown on the terminal's error stream.

    Raises
    ------
    ConfigError
        By `ask`, when the folder cannot be written to.
    """

    def __init__(self, judge: Judge, folder: str | Path, progress: bool = True) -> None:
        self.judge, self.folder, self.progress = judge, Path(folder), progress
        self.name = judge.name

    def identity(self) -> dict[str, Any]:
        """Return the identity of the judge behind it."""
        return self.judge.identity()

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer from the folder where possible and ask the judge for the rest.

        Parameters
        ----------
        prompts : sequence of Prompt
            Equal prompts are asked once.
        keep : callable
            Called with position and answer.
        """
        from tqdm import tqdm

        positions: dict[Prompt, list[int]] = {}
        for position, prompt in enumerate(prompts):
            positions.setdefault(prompt, []).append(position)
        identity = self.identity()
        missing: list[Prompt] = []
        for prompt in positions:
            known = self._read(self._path(identity, prompt))
            if known is None:
                missing.append(prompt)
            else:
                for position in positions[prompt]:
                    keep(position, known)
        if not missing:
            return
        self._prepare_folder()
        hidden = None if self.progress else True  # None: only where there is a terminal
        done = len(positions) - len(missing)
        with tqdm(total=len(positions), initial=done, desc="judge", disable=hidden) as bar:

            def arrived(index: int, answer: str) -> None:
                if parse_error(answer) is None:
                    self._write(self._path(identity, missing[index]), missing[index], answer)
                for position in positions[missing[index]]:
                    keep(position, answer)
                bar.update()

            self.judge.ask(missing, arrived)

    def _path(self, identity: Mapping[str, Any], prompt: Prompt) -> Path:
        content = [_CACHE_SCHEME, identity, prompt.messages()]
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"the judge's answers cannot be kept in {self.folder} ({error}). Name another folder "
                "with --judge-cache"
            ) from error

    @staticmethod
    def _read(path: Path) -> str | None:
        try:
            answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent or damaged: asked again
        return answer if isinstance(answer, str) else None

    @staticmethod
    def _write(path: Path, prompt: Prompt, answer: str) -> None:
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"answer": answer, "prompt": prompt.messages()}, stream)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def ask_all(judge: Judge, prompts: Sequence[Prompt]) -> list[str]:
    """Return the answers of a judge in the order of the prompts.

    Parameters
    ----------
    judge : Judge
        Any.
    prompts : sequence of Prompt
        What to ask.

    Returns
    -------
    list of str
        Raw answers, or error replies.
    """
    answers: dict[int, str] = {}
    judge.ask(prompts, answers.__setitem__)
    return [
        answers.get(i) or error_reply("the judge gave no answer", fix="score again")
        for i in range(len(prompts))
    ]


# --- server --------------------------------------------------------------------------------------


class ServerJudge:
    """A model behind ``POST {url}/chat/completions``.

    How it is asked, and what becomes of failures, is said in `ChatServer`.

    Parameters
    ----------
    url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    decoding : {"sampled", "greedy"}
        Temperature 0.1, or 0 with a fixed seed.
    key : str, optional
        Sent as a bearer token to this address only; redirections are not followed.
    settings : ServerSettings
        Concurrency, rate, timeouts.

    Raises
    ------
    ConfigError
        When the address or the decoding cannot be used; by `ask`, when the server refuses
        everything.
    """

    def __init__(
        self,
        url: str,
        model: str,
        decoding: str,
        key: str | None = None,
        settings: ServerSettings | None = None,
    ) -> None:
        if not model:
            raise ConfigError(
                "a judge behind a server needs the model's name: add --judge-model NAME"
            )
        _require_decoding(decoding)
        self._server = ChatServer(url, model, key=key, settings=settings, wording=WORDING)
        self.url = self._server.url
        self.model, self.decoding = model, decoding
        self.name = model

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a request besides model and messages."""
        tokens = {"max_tokens": JUDGE_GENERATION["max_new_tokens"]}
        if self.decoding == "sampled":
            return {**tokens, "temperature": JUDGE_GENERATION["temperature"]}
        return {**tokens, "temperature": 0.0, "seed": SEED}

    def identity(self) -> dict[str, Any]:
        """Return address, model and parameters."""
        return {
            "kind": "server",
            "url": self.url,
            "model": self.model,
            "parameters": self.parameters(),
        }

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer each prompt; see `Judge`.

        Raises
        ------
        ConfigError
            When the server refuses everything.
        KeyboardInterrupt
            After the answers under way were given time to arrive.
        """
        with self._server.session() as session:

            def answer(position: int) -> str:
                body = {"messages": prompts[position].messages(), **self.parameters()}
                try:
                    return session.complete(body, _text_of)
                except RequestFailedError as failure:
                    fix = None if failure.status else "score again: what was answered is kept"
                    return error_reply(failure.problem, fix=fix)

            session.each(len(prompts), answer, keep)


def _text_of(answer: Any) -> str:
    text = answer["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise TypeError(f"no text but {text!r}")
    return text


def _require_decoding(decoding: str) -> None:
    if decoding not in DECODINGS:
        raise ConfigError(f"a judge decodes {' or '.join(DECODINGS)}, not {decoding!r}")


# --- local model ---------------------------------------------------------------------------------


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
    ) -> None:
        _require_decoding(decoding)
        if batch_size < 1:
            raise ConfigError(f"batch_size of a judge must be at least 1, not {batch_size}")
        self.model, self.decoding, self.dtype = model, decoding, dtype
        self.batch_size, self.revision = batch_size, revision
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
        import torch

        for start in range(0, len(prompts), self.batch_size):
            batch = prompts[start : start + self.batch_size]
            try:
                answers = self._generate(batch)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                answers = [
                    error_reply(
                        f"the judge {self.name} failed: {error}",
                        fix="lower --judge-batch-size or use another device",
                    )
                ] * len(batch)
            for offset, answer in enumerate(answers):
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
            raise ConfigError(f"torch has no dtype {self.dtype!r} for the judge")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.model, revision=self.revision, padding_side="left"
            )
            model = AutoModelForCausalLM.from_pretrained(
                self.model, revision=self.revision, dtype=dtype
            )
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the judge {self.model} cannot be loaded ({error}). Name a causal language model "
                "of the hub or a folder: --judge hf:NAME"
            ) from error
        if not tokenizer.chat_template:
            raise ConfigError(
                f"{self.model} has no chat template, so it cannot judge. Name another"
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
            return hashlib.sha256(text.encode()).hexdigest()
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the judge {self.model} was not found ({error}). Download it first, or name a folder"
            ) from error
        return str(getattr(config, "_commit_hash", None))


def load_judge(
    text: str,
    decoding: str,
    model: str | None = None,
    key_variable: str = KEY_VARIABLE,
    settings: ServerSettings | None = None,
    **local: Any,
) -> LocalJudge | ServerJudge:
    """Return the judge that a command line names.

    Parameters
    ----------
    text : str
        ``hf:NAME`` for a local model, ``http://…`` or ``https://…`` for a server.
    decoding : {"sampled", "greedy"}
        How it writes.
    model : str, optional
        The model's name at a server.
    key_variable : str
        Environment variable with a server's key; may be unset.
    settings : ServerSettings, optional
        For a server.
    **local
        `dtype`, `device`, `batch_size` and `revision` of a local model.

    Returns
    -------
    LocalJudge or ServerJudge

    Raises
    ------
    ConfigError
        When `text` names neither.
    """
    if text.startswith("hf:") and len(text) > 3:
        return LocalJudge(text[3:], decoding, **local)
    if text.startswith(("http://", "https://")):
        return ServerJudge(text, model or "", decoding, os.environ.get(key_variable), settings)
    raise ConfigError(
        f"{text!r} names no judge. Write hf:NAME, or the address of a server: http://…"
    )
