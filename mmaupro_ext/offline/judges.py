"""Judges of open-ended replies: a local model, or any server that speaks OpenAI's chat protocol.

A judge answers prompts; what its answers are worth is read elsewhere (`scoring.open_ended`).
An answer that could not be had is an error reply (`mmaupro_ext.replies`), never a score, and is
asked for again the next time. `CachedJudge` keeps every answer on disk the moment it arrives, so
an interrupted run goes on where it stopped and a finished one asks nothing twice. `local_judge` has
the models that run on this machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mmaupro_ext.chat_server import ChatServer, RequestFailedError, ServerSettings, Wording
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.replies import error_reply, parse_error
from mmaupro_ext.scoring.open_ended import JUDGE_GENERATION
from mmaupro_ext.store import Store
from mmaupro_ext.util import require_choice, sha256_of_text

if TYPE_CHECKING:
    from mmaupro_ext.offline.local_judge import LocalJudge

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
_KIND = "verdict"


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


# --- store ---------------------------------------------------------------------------------------


class CachedJudge:
    """A judge whose answers are kept in a store, each the moment it arrives.

    The key of an answer is the SHA-256 of the judge's identity and the prompt.

    Parameters
    ----------
    judge : Judge
        Asked for what is missing.
    path : path
        File of the store, or a folder for one.
    progress : bool
        Whether a bar is shown on the terminal's error stream.

    Raises
    ------
    ConfigError
        By `ask`, when nothing can be kept there.
    """

    def __init__(self, judge: Judge, path: str | Path, progress: bool = True) -> None:
        path = Path(path)
        self.store = Store(path / "store.sqlite" if path.is_dir() else path)
        self.judge, self.progress = judge, progress
        self.name = judge.name

    def identity(self) -> dict[str, Any]:
        """Return the identity of the judge behind it."""
        return self.judge.identity()

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer from the store where possible and ask the judge for the rest.

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
            known = self.store.get(_KIND, _key(identity, prompt))
            if known is None:
                missing.append(prompt)
            else:
                for position in positions[prompt]:
                    keep(position, known.decode("utf-8", "surrogatepass"))
        if not missing:
            return
        problem = self.store.problem()
        if problem is not None:
            raise ConfigError(
                f"the judge's answers cannot be kept in {self.store.path} ({problem}). Name another "
                "file with --judge-cache"
            )
        hidden = None if self.progress else True  # None: only where there is a terminal
        done = len(positions) - len(missing)
        with tqdm(total=len(positions), initial=done, desc="judge", disable=hidden) as bar:

            def arrived(index: int, answer: str) -> None:
                if parse_error(answer) is None:
                    key = _key(identity, missing[index])
                    self.store.put(_KIND, key, answer.encode("utf-8", "surrogatepass"))
                for position in positions[missing[index]]:
                    keep(position, answer)
                bar.update()

            self.judge.ask(missing, arrived)


def _key(identity: Mapping[str, Any], prompt: Prompt) -> str:
    content = [_CACHE_SCHEME, identity, prompt.messages()]
    return sha256_of_text(json.dumps(content, sort_keys=True, ensure_ascii=False))


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
        require_choice("decoding", decoding, DECODINGS)
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


# --- naming one ----------------------------------------------------------------------------------


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
        from mmaupro_ext.offline.local_judge import LocalJudge

        return LocalJudge(text[3:], decoding, **local)
    if text.startswith(("http://", "https://")):
        return ServerJudge(text, model or "", decoding, os.environ.get(key_variable), settings)
    raise ConfigError(
        f"{text!r} names no judge. Write hf:NAME, or the address of a server: http://…"
    )
